"""Two evaluations compared from their stored statistics, and held against the rules of a gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from espalier.errors import UsageError
from espalier.evaluate.compare_sides import Pair
from espalier.evaluate.gate import Rule, judge_rule
from espalier.evaluate.metric import Metric, Scored
from espalier.evaluate.scorecard import row_counts
from espalier.evaluate.significance import (
    Analysis,
    Comparison,
    Test,
    detectable,
    holm,
    verdict,
)
from espalier.evaluate.slice_scores import within
from espalier.evaluate.slices import masks_of, slice_named

SCHEMA = 1


@dataclass(frozen=True)
class Settings:
    """How to compare; `by` names the fields whose slices are compared as well."""

    resamples: int
    permutations: int
    confidence: float
    power: float
    seed: int
    test: Test
    by: tuple[str, ...] = ()

    def analysis(self, confidence: float | None = None, test: Test | None = None) -> Analysis:
        return Analysis(
            resamples=self.resamples,
            permutations=self.permutations,
            confidence=confidence or self.confidence,
            seed=self.seed,
            test=test or self.test,
        )


# --- the comparison --------------------------------------------------------------------------


def compared(
    pairs: Sequence[Pair], settings: Settings, rules: Sequence[Rule] = ()
) -> dict[str, Any]:
    """All pairs with their metrics, slices and rules; the content of the JSON output."""
    entries: list[dict[str, Any]] = []
    tests: list[tuple[dict[str, Any], Metric, Comparison]] = []
    for pair in pairs:
        metrics = []
        for name, one in zip(pair.scored, _comparisons(pair, settings.analysis()), strict=True):
            entry = _entry(pair.scored[name], one)
            metrics.append(entry)
            if one is not None and one.difference is not None:
                tests.append((entry, pair.scored[name].metric, one))
        entries.append(_pair_facts(pair) | {"metrics": metrics, "slices": [], "notes": []})
    _decide(tests, settings)
    coarse = _coarse(settings.analysis(), len(tests))
    for pair, entry in zip(pairs, entries, strict=True):
        entry["notes"] += coarse
        for by in settings.by:
            sliced = _sliced(pair, by, settings)
            entry["slices"] += sliced
            if not sliced:
                entry["notes"].append(f"{by} has no two slices among these rows.")
            entry["notes"] += _coarse(settings.analysis().finer(len(sliced)), len(sliced), by)
    outcomes = [_outcome(rule, pair, settings) for rule in rules for pair in pairs]
    return {
        "schema": SCHEMA,
        "confidence": settings.confidence,
        "test": settings.test,
        "resamples": settings.resamples,
        "permutations": settings.permutations,
        "power": settings.power,
        "seed": settings.seed,
        "pairs": entries,
        "rules": outcomes,
        "passed": all(one["outcome"] == "passed" for one in outcomes),
    }


def _coarse(analysis: Analysis, family: int, by: str = "") -> list[str]:
    """Said where so many comparisons leave no room for a verdict."""
    needed = analysis.draws_needed(family)
    if needed is None:
        return []
    option = "permutations" if analysis.test == "permutation" else "resamples"
    where = f" in the slices of {by}" if by else ""
    return [
        f"{family:,} comparisons{where} need --{option} {needed} at least: with fewer, "
        "corrected p-values can't be small enough for a verdict."
    ]


def _pair_facts(pair: Pair) -> dict[str, Any]:
    sides = {
        key: {
            "name": side.name,
            "run": side.stored.run,
            "model": side.model,
            "label": side.stored.models[side.model],
            "set": side.stored.set_name,
            "statistics": str(side.stored.path),
        }
        for key, side in (("a", pair.a), ("b", pair.b))
    }
    left_out = [{"metric": name, "reason": why} for name, why in pair.left_out.items()]
    return {**sides, "rows": pair.rows, "left_out": left_out}


def _comparisons(pair: Pair, analysis: Analysis) -> list[Comparison | None]:
    tested = [name for name, one in pair.scored.items() if one.metric.tested]
    found = analysis.compare([pair.columns(name) for name in tested])
    by_name = dict(zip(tested, found, strict=True))
    return [by_name.get(name) for name in pair.scored]


def _entry(scored: Scored, one: Comparison | None) -> dict[str, Any]:
    metric = scored.metric
    first, second = scored.columns["a"], scored.columns["b"]
    both = first.valid & second.valid
    entry: dict[str, Any] = {
        "metric": metric.name,
        "label": metric.label,
        "format": metric.format,
        "higher_is_better": metric.higher_is_better,
        "signature": metric.signature,
        "a": first.value(both),
        "b": second.value(both),
        "n": int(both.sum()),
        "n_a": first.n,
        "n_b": second.n,
    }
    if one is None:
        return {**entry, "verdict": None}
    numbers = {
        "difference": _difference(scored, one),
        "low": one.low,
        "high": one.high,
        "p_value": one.p_value,
        "p_uncorrected": one.p_value,
        "verdict": "tie",
        "effect": one.effect,
        "detectable": None,
        "detectable_corrected": None,
    }
    return {**entry, **numbers, **row_counts(scored, "a", "b")}


def _difference(scored: Scored, one: Comparison) -> float | None:
    """B - A on shared rows, also where they are too few for an interval."""
    if one.difference is not None:
        return one.difference
    first, second = scored.columns["a"], scored.columns["b"]
    both = first.valid & second.valid
    before, after = first.value(both), second.value(both)
    return None if before is None or after is None else after - before


def _decide(tests: Sequence[tuple[dict[str, Any], Metric, Comparison]], settings: Settings) -> None:
    """Verdicts from the p-values corrected over all these comparisons."""
    alpha = 1 - settings.confidence
    corrected = holm([one.p_value if one.p_value is not None else 1.0 for *_, one in tests])
    for (entry, metric, one), p_value in zip(tests, corrected, strict=True):
        entry["p_value"] = p_value
        entry["verdict"] = verdict(one, p_value, metric.higher_is_better, alpha)
        entry["detectable"] = detectable(one.error, alpha, settings.power)
        entry["detectable_corrected"] = detectable(one.error, alpha / len(tests), settings.power)


def _labels(pair: Pair, by: str) -> list[str]:
    if by not in pair.labels:
        raise UsageError(
            f"The evaluation has no slices by '{by}'.",
            where=str(pair.a.stored.path),
            expected=", ".join(pair.labels) or "no field was named when it was evaluated",
            hint="name the field in `evaluate.compare.slices`, and evaluate again",
        )
    return pair.labels[by]


def _restricted(pair: Pair, mask: Any) -> Pair:
    scored = {
        name: Scored(
            one.metric,
            {key: within(column, mask) for key, column in one.columns.items()},
            {
                key: [v if ok else None for v, ok in zip(values, mask, strict=True)]
                for key, values in one.rows.items()
            },
        )
        for name, one in pair.scored.items()
        if one.rows and one.metric.slices
    }
    return replace(pair, scored=scored)


def _sliced(pair: Pair, by: str, settings: Settings) -> list[dict[str, Any]]:
    """The tested metrics in each slice of a field, corrected over all of its slices."""
    entries: list[dict[str, Any]] = []
    tests: list[tuple[dict[str, Any], Metric, Comparison]] = []
    masks = masks_of(_labels(pair, by))
    family = len(masks) * sum(one.metric.tested for one in pair.scored.values())
    for value, mask in masks.items():
        part = _restricted(pair, mask)
        analysis = settings.analysis().finer(family)
        for name, one in zip(part.scored, _comparisons(part, analysis), strict=True):
            if one is None or one.difference is None:
                continue
            entry = {"by": by, "value": value} | _entry(part.scored[name], one)
            entries.append(entry)
            tests.append((entry, part.scored[name].metric, one))
    _decide(tests, settings)
    return entries


# --- rules -----------------------------------------------------------------------------------


def _outcome(rule: Rule, pair: Pair, settings: Settings) -> dict[str, Any]:
    """What became of a rule on a pair: the value, its interval at the rule's level, and why.

    Raises UsageError where the rule names a metric or a slice that there is not.
    """
    part = pair
    if rule.by is not None:
        masks = masks_of(_labels(pair, rule.by))
        label = slice_named(rule.value or "", masks)
        if label is None:
            raise UsageError(
                f"The rule '{rule.text}' names no slice of '{rule.by}'.",
                expected=", ".join(masks) or "there is only one, so it has no slices",
            )
        part = _restricted(pair, masks[label])
    if rule.metric not in part.scored:
        reason = pair.left_out.get(rule.metric, "it was not taken, or not on the set's rows")
        raise UsageError(
            f"The rule '{rule.text}' is about a metric that can't be compared: {reason}.",
            where=f"{pair.a.name} and {pair.b.name}",
            expected=", ".join(part.scored) or "there is none",
            hint="where only some models have it, name two that do: RUN:MODEL RUN:MODEL",
        )
    metric = part.scored[rule.metric].metric
    value, low, high, n = _measured(rule, part, settings)
    scale = 100.0 if metric.format == "percent" else 1.0
    value, low, high = (None if x is None else scale * x for x in (value, low, high))
    return {
        "rule": rule.text,
        "kind": "fail-unless" if rule.unless else "fail-if",
        "a": pair.a.name,
        "b": pair.b.name,
        "metric": metric.name,
        "of": "score" if rule.absolute else "difference",
        "unit": "" if metric.format != "percent" else "%" if rule.absolute else "points",
        "outcome": judge_rule(rule, value, low, high),
        "value": value,
        "low": low,
        "high": high,
        "level": rule.level or settings.confidence,
        "n": n,
    }


def _measured(
    rule: Rule, pair: Pair, settings: Settings
) -> tuple[float | None, float | None, float | None, int]:
    # The p-value is not asked for: the bootstrap's costs no further resampling.
    analysis = settings.analysis(rule.level, "bootstrap")
    first, second = pair.columns(rule.metric)
    if rule.absolute:
        [interval] = analysis.intervals([second])
        return interval.value, interval.low, interval.high, interval.n
    [one] = analysis.compare([(first, second)])
    return _difference(pair.scored[rule.metric], one), one.low, one.high, one.n
