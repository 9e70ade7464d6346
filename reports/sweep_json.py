"""The answer of a sweep for programs: `answer.json`, and what the script of the page draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from espalier.reports.runs_effects import as_json
from espalier.reports.runs_settings import Factor
from espalier.reports.strings import Language
from espalier.reports.sweep_data import SweepData, words_of
from espalier.reports.sweep_effects import Effect
from espalier.reports.sweep_outcome import Group, Outcome
from espalier.reports.sweep_sentences import SURE, Said, is_told, word

VERSION = 1
# Verdicts over prompts of single runs are about these models, not about the setting; over settings
# at one seed there are none.
FIRM = ("seeds", "draws")


def answer_json(
    told: Mapping[Language, SweepData], said: Mapping[Language, Said]
) -> dict[str, Any]:
    """What `answer.json` holds.

    `sentence` is the first sentence by language, `sentences` are all; `effect`, `interval`, `p`,
    `n`, `basis` and `detectable` are those of what it is about: a level (`level` against
    `reference`) or a trend (`per`). `verdict` is better, worse, higher, lower, mixed, tie, or none
    where nothing can be said (one run each, no pairs). `also` holds the same of the metrics that
    the question names beside. Shares are in 0..1.
    """
    data = told["en"]
    outcome = data.outcome
    found = {
        "version": VERSION,
        "sweep": data.folder.resolve().name,
        "recipe": data.file.recipe,
        "question": {language: words_of(data.file.question, language) for language in told},
        "sentence": {language: one[0][1] if one else "" for language, one in said.items()},
        "sentences": {language: [text for _, text in one] for language, one in said.items()},
        "members": {
            "total": len(data.file.members),
            "done": len(data.members),
            "failed": sum(member.status in ("failed", "skipped") for member in data.left),
        },
        "confidence": data.data.confidence,
        "verdict": "none",
        **_EMPTY,
    }
    if outcome is not None:
        found.update(_numbers(outcome, data.data.sweep.factors))
    names = data.answer.also if data.answer else []
    found["also"] = [
        {**_EMPTY, "verdict": "none"}
        | (_numbers(one, data.data.sweep.factors) if one is not None else {})
        | {"metric": name}
        for name, (one, _) in zip(names, data.also, strict=False)
    ]
    return found


def _numbers(outcome: Outcome, factors: Sequence[Factor]) -> dict[str, Any]:
    """Verdict, effect, levels and trends of one metric."""
    return {
        "metric": outcome.metric["name"],
        "model": outcome.model,
        "format": outcome.metric["format"],
        "higher_is_better": (
            outcome.metric["higher_is_better"] if outcome.metric["tested"] else None
        ),
        "factor": outcome.factor_label or None,
        "verdict": overall(outcome),
        "levels": [_level(outcome, place) for place in range(len(outcome.groups))],
        "trends": [
            {"factor": factors[place].label, "per": trend.unit, **_effect(outcome, trend.effect)}
            for place, trend in outcome.trends.items()
        ],
        **primary(outcome),
    }


_EMPTY: Mapping[str, Any] = {
    "metric": None, "model": None, "factor": None, "effect": None, "interval": None, "p": None,
    "n": 0, "basis": "none", "detectable": None, "reference": None, "level": None, "per": None,
    "levels": [], "trends": [],
}  # fmt: skip


def primary(outcome: Outcome) -> dict[str, Any]:
    """The effect that the first sentence is about: the sure trend; else the level with the largest
    sure difference; else a trend that is none; else the level with the largest difference."""
    trends = [pair for pair in outcome.trends.items() if is_told(pair[1].effect)]
    trends.sort(key=lambda pair: pair[1].effect.verdict not in SURE)
    levels = [(i, e) for i, e in enumerate(outcome.effects) if e is not None and e.mean]
    levels.sort(
        key=lambda pair: (pair[1].verdict not in SURE, pair[1].p is None, -abs(_value(pair[1])))
    )
    sure_level = bool(levels) and levels[0][1].verdict in SURE
    if trends and (trends[0][1].effect.verdict in SURE or not sure_level):
        trend = trends[0][1]
        return {**_told(trend.effect), "per": trend.unit, "level": None}
    if not levels:
        return {}
    place, effect = levels[0]
    return {
        **_told(effect),
        "level": outcome.groups[place].label,
        "reference": outcome.groups[outcome.reference].label,
    }


def overall(outcome: Outcome) -> str:
    """One word for all of it."""
    effects = [trend.effect for trend in outcome.trends.values()]
    sure_trends = [e for e in effects if e.verdict in SURE and e.how in FIRM]
    levels = [e for e in outcome.effects if e is not None and e.how in FIRM]
    if sure_trends and outcome.kind != "draws":
        return word(outcome.metric, sure_trends[0])
    kinds = {word(outcome.metric, e) for e in (*levels, *sure_trends)} - {"tie"}
    if kinds:
        return kinds.pop() if len(kinds) == 1 else "mixed"
    equal = any(e and e.how == "same" and _value(e) == 0 for e in outcome.effects)
    return "tie" if levels or equal or (effects and outcome.kind == "draws") else "none"


def _value(effect: Effect) -> float:
    return effect.mean.value if effect.mean else 0.0


def _told(effect: Effect) -> dict[str, Any]:
    mean = effect.mean
    ends = None if mean is None or mean.low is None else [mean.low, mean.high]
    return {
        "effect": mean.value if mean else None,
        "interval": ends,
        "p": effect.p,
        "n": mean.n if mean else 0,
        "basis": effect.how,
        "detectable": effect.detectable,
    }


def _effect(outcome: Outcome, effect: Effect) -> dict[str, Any]:
    sure = effect.how in (*FIRM, "prompts")
    return {**_told(effect), "verdict": word(outcome.metric, effect) if sure else "none"}


def _level(outcome: Outcome, place: int) -> dict[str, Any]:
    group, effect = outcome.groups[place], None
    if place < len(outcome.effects):
        effect = outcome.effects[place]
    return {
        "level": group.label,
        "mean": as_json(group.mean),
        "difference": _effect(outcome, effect) if effect else None,
    }


def outcome_json(outcome: Outcome, factors: Sequence[Factor]) -> dict[str, Any]:
    """What the script draws of the answer."""
    return {
        "kind": outcome.kind,
        "metric": outcome.metric,
        "model": outcome.model,
        "factor": outcome.factor_label,
        "reference": outcome.reference,
        "how": outcome.how,
        "groups": [_group(outcome, place, group) for place, group in enumerate(outcome.groups)],
        "trends": [
            {
                "factor": factors[place].label,
                "unit": trend.unit,
                "low": outcome.ends[place][0],
                "high": outcome.ends[place][1],
                "effect": _drawn(outcome, trend.effect),
            }
            for place, trend in outcome.trends.items()
        ],
    }


def _group(outcome: Outcome, place: int, group: Group) -> dict[str, Any]:
    effect = outcome.effects[place] if place < len(outcome.effects) else None
    return {
        "label": group.label,
        "number": group.number,
        "mean": as_json(group.mean),
        "runs": [
            {"run": cell.run, "value": cell.value, "seed": seed}
            for (_, seed), cell in group.cells.items()
        ],
        "effect": _drawn(outcome, effect) if effect else None,
    }


def _drawn(outcome: Outcome, effect: Effect) -> dict[str, Any]:
    return {
        "how": effect.how,
        "mean": as_json(effect.mean),
        "p": effect.p,
        "detectable": effect.detectable,
        "verdict": _effect(outcome, effect)["verdict"],
    }
