"""From scored answers to `summary.json` and `scores.parquet`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalier.errors import require
from espalier.evaluate.answers import Answered
from espalier.evaluate.clusters import cluster_ids
from espalier.evaluate.config import EvaluateConfig
from espalier.evaluate.engines import engine_facts
from espalier.evaluate.evalset import EvalSet
from espalier.evaluate.metric import Metric, Scored
from espalier.evaluate.significance import (
    Analysis,
    Column,
    Comparison,
    detectable,
    holm,
    verdict,
)
from espalier.evaluate.slice_scores import Parts, slice_comparisons, slice_scores
from espalier.evaluate.slices import cluster_keys, labels_of, masks_of
from espalier.evaluate.subjects import Subject
from espalier.files import atomic_path

if TYPE_CHECKING:
    import pandas

SCHEMA = 1
SMALL_SET = 100


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

    @property
    def analysis(self) -> Analysis:
        """How sure to be of scores and differences."""
        return Analysis(
            resamples=self.options.resamples,
            permutations=self.options.permutations,
            confidence=self.options.confidence,
            seed=self.seed,
            test=self.options.compare.test,
        )


def summarise(results: Results) -> dict[str, Any]:
    """The content of `summary.json`; of results as `clustered` gives them.

    `verdict` is better or worse where the paired interval excludes 0 and the p-value, corrected
    over the table of one baseline (all other models, all metrics), is at most 1 - confidence.
    """
    options, analysis = results.options, results.analysis
    parts = parts_of(results)
    comparisons = _comparisons(results, analysis)
    tested: list[dict[str, Any]] = []
    if options.compare.slice_tests:
        tested = slice_comparisons(parts, results.scored, results.baseline, analysis)
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
        "power": options.compare.power,
        "clusters": _cluster_facts(results),
        "method": _method(results),
        "models": [_model(subject, results) for subject in results.subjects],
        "metrics": [scored.metric.to_json() for scored in results.scored],
        "scores": _scores(results, analysis),
        "details": {one.metric.name: one.details for one in results.scored if one.details},
        "comparisons": comparisons,
        "slices": slice_scores(parts, results.scored),
        "slice_comparisons": tested,
        "warnings": [
            *_general_warnings(results),
            *_coarse(analysis, comparisons, tested),
            *results.warnings,
        ],
    }


def clustered(results: Results) -> Results:
    """The same results with the clusters of the set's rows told to every column over them."""
    groups = cluster_ids(cluster_keys(results.evalset, results.options.compare.cluster))
    if groups is None:
        return results
    scored = [
        replace(
            one,
            columns={name: replace(c, groups=groups) for name, c in one.columns.items()},
        )
        if one.rows
        else one
        for one in results.scored
    ]
    return replace(results, scored=scored)


def parts_of(results: Results) -> Parts:
    """The slices of the set, by each field that the options name."""
    fields = results.options.compare.slices
    return {by: masks_of(labels_of(results.evalset, by)) for by in fields}


def _cluster_facts(results: Results) -> dict[str, Any]:
    by = results.options.compare.cluster
    count = len(set(cluster_keys(results.evalset, by)))
    return {"by": by, "rows": len(results.evalset), "clusters": count}


def _method(results: Results) -> str:
    compare = results.options.compare
    test = (
        "two-sided, by exchanging the two models' answers to a prompt at random"
        if compare.test == "permutation"
        else "by paired bootstrap (Koehn 2004), as sacrebleu gives it"
    )
    facts = _cluster_facts(results)
    together = ""
    if facts["clusters"] < facts["rows"]:
        what = "prompt" if compare.cluster == "prompt" else f"'{compare.cluster}'"
        together = f" Rows with the same {what} are drawn together."
    return (
        "Intervals: percentile bootstrap over prompts, paired for differences (Wilson's for "
        f"shares). p-values: {test}, corrected after Holm over all models and metrics compared "
        f"with one baseline.{together}"
    )


def _model(subject: Subject, results: Results) -> dict[str, Any]:
    answered = results.answered[subject.name]
    return {
        "name": subject.name,
        "label": subject.config.label or subject.name,
        "kind": subject.kind,
        "source": subject.source,
        "template": answered.template,
        "few_shot": subject.config.few_shot,
        "engine": engine_facts(subject),
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
    for scored in (scored for scored in results.scored if scored.metric.tested):
        for one, other in combinations([n for n in names if n in scored.columns], 2):
            entries.append((scored, one, other))
            pairs.append((scored.columns[one], scored.columns[other]))
    found: dict[tuple[str, str, str], Comparison] = {}
    for (scored, one, other), comparison in zip(entries, analysis.compare(pairs), strict=True):
        if comparison.difference is not None:
            found[scored.metric.name, one, other] = comparison
            found[scored.metric.name, other, one] = comparison.reversed()
    corrected = _corrected(found)
    families = {baseline: sum(key[1] == baseline for key in found) for baseline in names}
    return [
        {
            "metric": scored.metric.name,
            "baseline": baseline,
            "model": model,
            **_compared(scored.metric, found[key], corrected[key], results, families[baseline]),
            **row_counts(scored, baseline, model),
        }
        for scored in results.scored
        for baseline in names
        for model in names
        if (key := (scored.metric.name, baseline, model)) in found
    ]


def _compared(
    metric: Metric, one: Comparison, corrected: float, results: Results, family: int
) -> dict[str, Any]:
    alpha = 1 - results.options.confidence
    power = results.options.compare.power
    return {
        "difference": one.difference,
        "low": one.low,
        "high": one.high,
        "p_value": corrected,
        "p_uncorrected": one.p_value,
        "verdict": verdict(one, corrected, metric.higher_is_better, alpha),
        "n": one.n,
        "effect": one.effect,
        "detectable": detectable(one.error, alpha, power),
        "detectable_corrected": detectable(one.error, alpha / family, power),
    }


def row_counts(scored: Scored, baseline: str, model: str) -> dict[str, Any]:
    """How many rows the model wins, loses and ties against the baseline; empty without rows."""
    if baseline not in scored.rows or model not in scored.rows:
        return {}
    sign = 1 if scored.metric.higher_is_better else -1
    differences = [
        sign * (value - base)
        for base, value in zip(scored.rows[baseline], scored.rows[model], strict=True)
        if base is not None and value is not None
    ]
    return {
        "wins": sum(one > 0 for one in differences),
        "losses": sum(one < 0 for one in differences),
        "ties": sum(one == 0 for one in differences),
    }


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


def _general_warnings(results: Results) -> list[str]:
    found = []
    rows = len(results.evalset)
    if rows < SMALL_SET:
        found.append(
            f"The set has only {rows:,} prompt{'s' * (rows != 1)}: intervals are wide, and a tie "
            "says little."
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


def _coarse(
    analysis: Analysis,
    comparisons: Sequence[Mapping[str, Any]],
    sliced: Sequence[Mapping[str, Any]],
) -> list[str]:
    """Tables of so many comparisons that none of their verdicts could be other than a tie."""
    option = "permutations" if analysis.test == "permutation" else "resamples"
    largest = Counter(f"with {item['baseline']}" for item in comparisons).most_common(1)
    found = [(count, where, analysis.draws_needed(count)) for where, count in largest]
    for by, count in Counter(item["by"] for item in sliced).items():
        needed = analysis.finer(count).draws_needed(count)
        found.append((count, f"in the slices of {by}", needed))
    return [
        f"{count:,} comparisons {where} need `{option}: {needed}` at least: with fewer, corrected "
        "p-values can't be small enough for a verdict other than a tie."
        for count, where, needed in found
        if needed is not None
    ]


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
