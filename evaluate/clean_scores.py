"""Scores and verdicts with the contaminated rows and without them, over the same models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from espalier.evaluate.contamination import Contamination, file_facts
from espalier.evaluate.metric import Scored
from espalier.evaluate.references import BLEU, BLEU_ORDER
from espalier.evaluate.scorecard import Results
from espalier.evaluate.significance import Analysis, Column, holm, verdict
from espalier.evaluate.slice_scores import can_be_sliced

Mask = NDArray[np.bool_]


def contamination_summary(
    found: Contamination,
    files: Mapping[str, Path],
    results: Results,
    verdicts: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """What `summary.json` says of contamination; `verdicts` are its comparisons."""
    options = results.options.contamination
    contaminated = np.array([bool(label) for label in found.labels()], dtype=bool)
    return {
        "against": file_facts(found, files),
        "options": {} if options is None else options.model_dump(exclude={"against"}),
        "unread": dict(found.unread),
        **found.counts(),
        "share": len(found.found) / found.size,
        **(clean_scores(results, contaminated, verdicts) if contaminated.any() else {}),
    }


def contamination_warnings(summary: Mapping[str, Any], rows: int) -> list[str]:
    """What a reader of the scores has to know, as sentences."""
    unread = [
        f"Contamination: {name} was compared in part only: {reason}"
        for name, reason in summary["unread"].items()
    ]
    if not summary["rows"]:
        return unread
    files = ", ".join(item["file"] for item in summary["against"])
    whole = summary["whole_reference"]
    warnings = [
        *unread,
        f"Contamination: {summary['rows']:,} of {rows:,} prompts ({summary['share']:.1%}) share "
        f"text with the training data ({files}): {summary['same_prompt']:,} a whole prompt, "
        f"{summary['same_turn']:,} the last question with its answer, {summary['ngram']:,} a run "
        f"of words, {summary['near_prompt']:,} most of the prompt"
        + (f"; of {whole:,} the whole reference is there. " if whole else ". ")
        + (
            "summary.json has the scores without them."
            if summary["rows"] < rows
            else "No prompt is left that says how the models do on new ones."
        ),
    ]
    changed = [
        f"{item['metric']} of {item['model']} ({item['verdict_all']} → {item['verdict']})"
        for item in summary["comparisons"]
        if item["changed"]
    ]
    if changed:
        warnings.append("Without the contaminated prompts other verdicts: " + "; ".join(changed))
    return warnings


def clean_scores(
    results: Results, contaminated: Mask, verdicts: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """`scores` and `comparisons` for the summary's `contamination`.

    `contaminated` (rows of the set) says which rows are left out, `verdicts` are the comparisons
    of the whole set. Of each score: its value with all rows, on the contaminated rows alone, and
    without them, with an interval. Comparisons are with the baseline, on the clean rows that both
    models have, their p-values corrected after Holm over this table; `changed` says that the
    verdict is another than with all rows, where the clean rows can give one.
    """
    analysis = results.analysis
    # Others are over other texts, or mean something for all answers together only.
    over_set = [scored for scored in results.scored if can_be_sliced(scored)]
    return {
        "scores": _scores(over_set, results, contaminated, analysis),
        "comparisons": _comparisons(over_set, results, ~contaminated, analysis, verdicts),
    }


def _scores(
    scored: Sequence[Scored], results: Results, contaminated: Mask, analysis: Analysis
) -> list[dict[str, Any]]:
    entries = [
        (one.metric.name, subject.name, one.columns[subject.name])
        for one in scored
        for subject in results.subjects
        if subject.name in one.columns
    ]
    intervals = analysis.intervals([_only(column, ~contaminated) for _, _, column in entries])
    return [
        {
            "model": model,
            "metric": metric,
            "all": column.value(),
            "contaminated": column.value(contaminated),
            "n_contaminated": int((column.valid & contaminated).sum()),
            "clean": interval.value,
            "low": interval.low,
            "high": interval.high,
            "n": interval.n,
        }
        for (metric, model, column), interval in zip(entries, intervals, strict=True)
    ]


def _comparisons(
    scored: Sequence[Scored],
    results: Results,
    clean: Mask,
    analysis: Analysis,
    verdicts: Sequence[dict[str, Any]],
) -> list[dict[str, Any]]:
    entries = [
        (one, subject.name)
        for one in scored
        for subject in results.subjects
        if one.metric.tested
        and subject.name != results.baseline
        and subject.name in one.columns
        and results.baseline in one.columns
    ]
    pairs = [
        (_only(one.columns[results.baseline], clean), _only(one.columns[model], clean))
        for one, model in entries
    ]
    found = [
        (one, model, comparison)
        for (one, model), comparison in zip(entries, analysis.compare(pairs), strict=True)
        if comparison.difference is not None
    ]
    corrected = holm([1.0 if c.p_value is None else c.p_value for _, _, c in found])
    whole = {(v["metric"], v["baseline"], v["model"]): v["verdict"] for v in verdicts}
    rows = []
    for (one, model, comparison), p_value in zip(found, corrected, strict=True):
        alpha = 1 - results.options.confidence
        said = verdict(comparison, p_value, one.metric.higher_is_better, alpha)
        before = whole.get((one.metric.name, results.baseline, model))
        rows.append(
            {
                "metric": one.metric.name,
                "baseline": results.baseline,
                "model": model,
                "difference": comparison.difference,
                "low": comparison.low,
                "high": comparison.high,
                "p_value": p_value,
                "verdict": said,
                "n": comparison.n,
                "verdict_all": before,
                "changed": before not in (None, said) and not _blind(one, model, clean),
            }
        )
    return rows


def _blind(one: Scored, model: str, rows: Mask) -> bool:
    """Whether no model could score on these rows: BLEU is 0 for right and wrong alike where no
    reference has four words."""
    column = one.columns[model]
    if column.combine is not BLEU:
        return False
    lengths = column.statistics[column.valid & rows, 1]
    return not (lengths >= BLEU_ORDER).any()


def _only(column: Column, rows: Mask) -> Column:
    return replace(column, valid=column.valid & rows)
