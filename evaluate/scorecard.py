"""From scored answers to `summary.json` and `scores.parquet`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from espalier.errors import require
from espalier.evaluate.answers import Answered
from espalier.evaluate.config import EvaluateConfig
from espalier.evaluate.evalset import EvalSet
from espalier.evaluate.metric import Metric, Scored
from espalier.evaluate.significance import Analysis, Column, Comparison, holm, verdict
from espalier.evaluate.subjects import Subject
from espalier.files import atomic_path

if TYPE_CHECKING:
    import pandas

SCHEMA = 1
SMALL_SET = 100
# A slice of a very wide set has too few rows to say anything; only the largest are listed.
MAX_SLICES = 60


@dataclass(frozen=True)
class Results:
    """Everything that the summary and the table are made from."""

    run: str
    evalset: EvalSet
    subjects: Sequence[Subject]
    answered: Mapping[str, Answered]
    scored: Sequence[Scored]
    options: EvaluateConfig
    seed: int
    synthetic: bool
    warnings: Sequence[str] = ()

    @property
    def baseline(self) -> str:
        return self.options.baseline or self.subjects[0].name


def summarise(results: Results) -> dict[str, Any]:
    """The content of `summary.json`.

    `verdict` is better or worse where the paired interval excludes 0 and the p-value, corrected
    over the table of one baseline (all other models, all metrics), is at most 1 - confidence.
    """
    options = results.options
    analysis = Analysis(
        resamples=options.resamples,
        permutations=options.permutations,
        confidence=options.confidence,
        seed=results.seed,
    )
    return {
        "schema": SCHEMA,
        "run": results.run,
        "set": {
            "name": results.evalset.name,
            "rows": len(results.evalset),
            "path": results.evalset.path,
            "sha256": results.evalset.sha256,
        },
        "baseline": results.baseline,
        "synthetic": results.synthetic,
        "confidence": options.confidence,
        "resamples": options.resamples,
        "permutations": options.permutations,
        "seed": results.seed,
        "method": "Intervals: percentile bootstrap over prompts, paired for differences (Wilson's "
        "for shares). p-values: two-sided, by exchanging the two models' answers to a prompt at "
        "random, corrected after Holm over all models and metrics compared with one baseline.",
        "models": [_model(subject, results) for subject in results.subjects],
        "metrics": [scored.metric.to_json() for scored in results.scored],
        "scores": _scores(results, analysis),
        "comparisons": _comparisons(results, analysis),
        "slices": _slices(results),
        "warnings": [*_general_warnings(results), *results.warnings],
    }


def _model(subject: Subject, results: Results) -> dict[str, Any]:
    answered = results.answered[subject.name]
    return {
        "name": subject.name,
        "label": subject.config.label or subject.name,
        "kind": subject.kind,
        "source": subject.source,
        "template": answered.template,
        "few_shot": subject.config.few_shot,
        "notes": list(subject.config.notes),
        **answered.facts,
    }


def _scores(results: Results, analysis: Analysis) -> list[dict[str, Any]]:
    entries = [
        (scored.metric.name, subject.name, scored.columns[subject.name])
        for scored in results.scored
        for subject in results.subjects
        if subject.name in scored.columns
    ]
    intervals = analysis.intervals([column for _, _, column in entries])
    return [
        {
            "model": model,
            "metric": metric,
            "value": interval.value,
            "low": interval.low,
            "high": interval.high,
            "n": interval.n,
        }
        for (metric, model, _), interval in zip(entries, intervals, strict=True)
    ]


def _comparisons(results: Results, analysis: Analysis) -> list[dict[str, Any]]:
    """Both directions of every pair that shares rows, ordered by metric, baseline and model."""
    names = [subject.name for subject in results.subjects]
    entries: list[tuple[Scored, str, str]] = []
    pairs: list[tuple[Column, Column]] = []
    for scored in results.scored:
        for one, other in combinations([n for n in names if n in scored.columns], 2):
            entries.append((scored, one, other))
            pairs.append((scored.columns[one], scored.columns[other]))
    found: dict[tuple[str, str, str], Comparison] = {}
    for (scored, one, other), comparison in zip(entries, analysis.compare(pairs), strict=True):
        if comparison.difference is not None:
            found[scored.metric.name, one, other] = comparison
            found[scored.metric.name, other, one] = _reversed(comparison)
    corrected = _corrected(found)
    alpha = 1 - results.options.confidence
    return [
        _compared(scored.metric, baseline, model, found[key], corrected[key], alpha)
        for scored in results.scored
        for baseline in names
        for model in names
        if (key := (scored.metric.name, baseline, model)) in found
    ]


def _compared(
    metric: Metric, baseline: str, model: str, one: Comparison, corrected: float, alpha: float
) -> dict[str, Any]:
    return {
        "metric": metric.name,
        "baseline": baseline,
        "model": model,
        "difference": one.difference,
        "low": one.low,
        "high": one.high,
        "p_value": corrected,
        "p_uncorrected": one.p_value,
        "verdict": verdict(one, corrected, metric.higher_is_better, alpha),
        "n": one.n,
    }


def _reversed(one: Comparison) -> Comparison:
    def minus(value: float | None) -> float | None:
        return None if value is None else -value + 0.0

    return Comparison(minus(one.difference), minus(one.high), minus(one.low), one.p_value, one.n)


def _corrected(
    found: Mapping[tuple[str, str, str], Comparison],
) -> dict[tuple[str, str, str], float]:
    """p-values corrected within the table that each baseline's comparisons make."""
    result: dict[tuple[str, str, str], float] = {}
    for baseline in {key[1] for key in found}:
        family = [key for key in found if key[1] == baseline]
        values = [found[key].p_value for key in family]
        corrected = holm([1.0 if value is None else value for value in values])
        result.update(zip(family, corrected, strict=True))
    return result


def _slices(results: Results) -> list[dict[str, Any]]:
    rows = []
    for by in ("language", "category"):
        labels = [getattr(row, by) for row in results.evalset.rows]
        counts = Counter(label for label in labels if label)
        if len(counts) < 2:
            continue
        values = sorted(label for label, _ in counts.most_common(MAX_SLICES))
        masks = {value: np.array([label == value for label in labels]) for value in values}
        for scored in results.scored:
            if not scored.metric.slices:
                continue
            for model, column in scored.columns.items():
                for value, mask in masks.items():
                    n = int((column.valid & mask).sum())
                    if n:
                        rows.append(
                            {
                                "by": by,
                                "value": value,
                                "model": model,
                                "metric": scored.metric.name,
                                "score": column.value(mask),
                                "n": n,
                            }
                        )
    return rows


def _general_warnings(results: Results) -> list[str]:
    found = []
    rows = len(results.evalset)
    if rows < SMALL_SET:
        found.append(
            f"The set has only {rows:,} prompts: intervals are wide, and a tie says little."
        )
    without = sum(row.reference is None for row in results.evalset.rows)
    if without:
        found.append(
            f"{without:,} of {rows:,} prompts have no reference answer; scores against "
            "references leave them out."
        )
    counts = {
        subject.name: results.answered[subject.name].facts["answers"]
        for subject in results.subjects
    }
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        found.append(
            f"The models answered different numbers of prompts ({listed}): compare them by the "
            "differences, which use shared prompts only."
        )
    shots = {subject.config.few_shot for subject in results.subjects}
    if len(shots) > 1:
        found.append(
            "Some models saw solved examples in the prompt (few-shot) and others did not: "
            + ", ".join(
                f"{subject.name} {subject.config.few_shot}"
                for subject in results.subjects
                if subject.config.few_shot
            )
            + "."
        )
    for subject in results.subjects:
        found.extend(results.answered[subject.name].warnings)
    return found + _unscored(results, rows - without)


def _unscored(results: Results, expected: int) -> list[str]:
    """Models whose context is too short for some texts that perplexity is taken of."""
    return [
        f"{model}: {expected - column.n:,} texts do not fit into the model's context and have no "
        "perplexity."
        for scored in results.scored
        if scored.metric.name == "ppl_response"
        for model, column in scored.columns.items()
        if column.n < expected
    ]


def score_table(results: Results) -> pandas.DataFrame:
    """One row a (prompt, model) that has an answer: texts, labels, and a column a metric."""
    library = require("pandas", extra="evaluate", feature="The table of scores")
    rows: list[dict[str, Any]] = []
    for index, row in enumerate(results.evalset.rows):
        for subject in results.subjects:
            answer = results.answered[subject.name].answers[index]
            if answer is None:
                continue
            record: dict[str, Any] = {
                "id": row.id,
                "model": subject.name,
                "prompt": row.prompt,
                "reference": row.reference,
                "answer": answer,
                "category": row.category,
                "language": row.language,
                "source": str(row.meta.get("source") or ""),
            }
            for scored in results.scored:
                if scored.rows:
                    values = scored.rows.get(subject.name)
                    record[scored.metric.name] = values[index] if values else None
            rows.append(record)
    frame: pandas.DataFrame = library.DataFrame(rows)
    for scored in results.scored:
        if scored.rows:
            frame[scored.metric.name] = frame[scored.metric.name].astype("float64")
    return frame


def write_table(frame: pandas.DataFrame, path: Path) -> None:
    """Write the score table as Parquet, whole or not at all."""
    with atomic_path(path) as temporary:
        frame.to_parquet(temporary, index=False)
