"""The answer of a sweep in words: what it says first is the answer to the question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from espalier.reports.runs_sentences import mean_text
from espalier.reports.strings import language, spaced, t
from espalier.reports.student import Mean
from espalier.reports.sweep_effects import Effect, Trend
from espalier.reports.sweep_outcome import Outcome
from espalier.reports.verdicts import label_of, plain_number

# Levels that a sentence spells out; the table has them all.
SPELLED = 4
# Levels that are named without their figures.
NAMED = 6
SURE = ("better", "worse")
# What tells nothing of chance: no seed was repeated.
UNSURE = ("settings", "prompts", "once")

Said = list[tuple[str, str]]


def sentences(outcome: Outcome, labels: Mapping[int, str]) -> Said:
    """(mark, sentence), the answer first: mark is better, worse, mixed or tie.

    `labels` are the names of the factors by place. A sure trend comes before the levels, and the
    levels before a trend that is none, unless neither is sure; all of them are one family of tests.
    """
    return [(sign, spaced(text)) for sign, text in _sentences(outcome, labels)]


def _sentences(outcome: Outcome, labels: Mapping[int, str]) -> Said:
    measured = [group for group in outcome.groups if group.mean is not None]
    if not measured:
        return [("tie", t("sweep.no_result", subject=subject(outcome)))]
    if outcome.kind == "draws":
        return _of_draws(outcome, labels)
    if len(measured) == 1 or outcome.kind == "seeds":
        return [("tie", _alone(outcome))]
    levels = _of_levels(outcome)
    trends = [
        sentence
        for place, trend in outcome.trends.items()
        if (sentence := _of_trend(outcome, trend, labels[place], place))
    ]
    first = any(mark in SURE for mark, _ in trends) or levels[0][0] == "tie"
    return [*trends, *levels] if first else [*levels, *trends]


def subject(outcome: Outcome, *, start: bool = False) -> str:
    """What was measured: `exact match of SFT`; `start`: as the first words of a sentence."""
    label = str(outcome.metric.get("label") or outcome.metric["name"])
    metric = label if start or language() != "en" else label_of(outcome.metric)
    return t("sweep.subject", metric=metric, model=outcome.model) if outcome.model else metric


def short_name(outcome: Outcome, place: int) -> str:
    """The level alone, in quotes where a name has commas of its own."""
    label = outcome.groups[place].label
    commas = any(mark in group.label for group in outcome.groups for mark in ",;、，")
    return t("sweep.quoted", name=label) if commas else label


def level_name(outcome: Outcome, place: int) -> str:
    """`rows = 800`; of models and variants the name alone."""
    label = short_name(outcome, place)
    factor = outcome.factor_label
    plain = outcome.kind == "models" or not factor or factor == t("sweep.variant")
    return label if plain else t("sweep.level", factor=factor, level=label)


def _alone(outcome: Outcome) -> str:
    (group,) = [group for group in outcome.groups if group.mean is not None][:1]
    mean = group.mean or Mean(0.0, None, None, 0)
    value = mean_text(outcome.metric, mean)
    about = {"subject": subject(outcome, start=outcome.kind != "seeds"), "value": value}
    if len(outcome.groups) > 1:
        name = level_name(outcome, outcome.groups.index(group))
        return t("sweep.only_level", level=name, n=len(group.cells), **about)
    about["subject"] = subject(outcome)
    if mean.n == 1:
        return t("sweep.alone_once", **about)
    return t("sweep.alone", n=len(group.cells), **about)


def _of_levels(outcome: Outcome) -> Said:
    reference = level_name(outcome, outcome.reference)
    if not outcome.groups[outcome.reference].cells:
        return [("tie", t("sweep.no_reference", reference=reference))]
    found = [
        (place, effect) for place, effect in enumerate(outcome.effects) if effect and effect.mean
    ]
    if not found:
        mixed = any(effect and effect.how == "mixed" for effect in outcome.effects)
        key = "sweep.not_same" if mixed else "sweep.not_paired"
        return [("tie", t(key, subject=subject(outcome), reference=reference))]
    if len(found) == 1:
        return [_one(outcome, *found[0], reference)]
    return [_many(outcome, found, reference)]


def _one(outcome: Outcome, place: int, effect: Effect, reference: str) -> tuple[str, str]:
    about = {
        "level": level_name(outcome, place),
        "reference": reference,
        "subject": subject(outcome),
        "difference": difference(outcome.metric, effect.mean),
        "p": p_text(effect.p),
        "basis": basis(effect),
        "n": effect.mean.n if effect.mean else 0,
    }
    if effect.how in UNSURE:
        return "tie", t(f"sweep.{effect.how}", **about)
    if effect.how == "same":
        equal = effect.mean is not None and effect.mean.value == 0
        about["subject"] = subject(outcome, start=not equal)
        return "tie", t("sweep.equal" if equal else "sweep.same", **about)
    said = t(f"sweep.one_{word(outcome.metric, effect)}", **about)
    if effect.verdict not in SURE and effect.detectable:
        said += t("sweep.detect", size=size(outcome.metric, effect.detectable))
    return mark(outcome.metric, effect), said


def _many(outcome: Outcome, found: Sequence[tuple[int, Effect]], reference: str) -> tuple[str, str]:
    about: dict[str, Any] = {"reference": reference, "subject": subject(outcome)}
    how = outcome.how
    if how in UNSURE:
        items = [_item(outcome, place, effect) for place, effect in _largest(found)]
        counts = [effect.mean.n for _, effect in found if effect.mean]
        told = _list(items, len(found))
        return "tie", t(f"sweep.{how}_many", items=told, n=max(counts), **about)
    sure = [(place, effect) for place, effect in found if effect.verdict in SURE]
    names = {place: short_name(outcome, place) for place, _ in found}
    if not sure:
        place, effect = _largest(found)[0]
        said = t(
            "sweep.many_tie",
            levels=_names(list(names.values())),
            level=names[place],
            difference=difference(outcome.metric, effect.mean),
            p=p_text(effect.p),
            basis=basis(effect),
            **about,
        )
        if effect.detectable:
            said += t("sweep.many_detect", size=size(outcome.metric, effect.detectable))
        return "tie", said
    items = [_item(outcome, place, effect) for place, effect in _largest(sure)]
    over = basis(*(effect for _, effect in sure))
    said = t("sweep.many", items=_list(items, len(sure)), basis=over, **about)
    tied = [names[place] for place, effect in found if effect.verdict not in SURE]
    if tied:
        said += t("sweep.many_tied", levels=_names(tied))
    marks = {mark(outcome.metric, effect) for _, effect in sure}
    return (marks.pop() if len(marks) == 1 else "mixed"), said


def _largest(found: Sequence[tuple[int, Effect]]) -> list[tuple[int, Effect]]:
    """The largest effects, those that could be tested before single pairs of runs."""

    def rank(pair: tuple[int, Effect]) -> tuple[bool, float]:
        return pair[1].p is None, -abs(pair[1].mean.value) if pair[1].mean else 0.0

    return sorted(found, key=rank)[:SPELLED]


def _item(outcome: Outcome, place: int, effect: Effect) -> str:
    about = {
        "level": short_name(outcome, place),
        "difference": difference(outcome.metric, effect.mean),
    }
    kind = word(outcome.metric, effect)
    if kind == "tie" or effect.how in ("once", "settings"):
        return t("sweep.item_none", **about)
    return t(f"sweep.item_{kind}", p=p_text(effect.p), **about)


def _names(names: Sequence[str]) -> str:
    """All names, or the first ones and how many more."""
    if len(names) <= NAMED:
        return t("list.comma").join(names)
    first = t("list.comma").join(names[: NAMED - 1])
    return t("runs.and_more", names=first, count=len(names) - NAMED + 1)


def _list(items: Sequence[str], total: int) -> str:
    rest = total - len(items)
    more = [t("sweep.item_more", count=rest)] if rest else []
    return t("list.clause").join([*items, *more])


def is_told(trend: Effect) -> bool:
    """Whether a slope has a sentence: it has an interval, and that is over chance."""
    interval = trend.mean is not None and trend.mean.low is not None
    return interval and trend.how not in ("same", "settings")


def _of_trend(outcome: Outcome, trend: Trend, factor: str, place: int) -> tuple[str, str] | None:
    """The sentence about a slope; None where there is nothing to tell."""
    effect = trend.effect
    if effect.mean is None or not is_told(effect):
        return None
    low, high = outcome.ends[place]
    about = {
        "factor": factor,
        "low": low,
        "high": high,
        "p": p_text(effect.p),
        "basis": basis(effect),
    }
    if effect.verdict not in SURE:
        said = t(
            f"sweep.flat_{trend.unit}",
            subject=subject(outcome),
            difference=difference(outcome.metric, effect.mean),
            **about,
        )
        if effect.detectable:
            said += t("sweep.trend_detect", size=size(outcome.metric, effect.detectable))
        return "tie", said
    up = "up" if effect.mean.value > 0 else "down"
    said = t(
        f"sweep.{up}_{trend.unit}",
        subject=subject(outcome, start=True),
        size=difference(outcome.metric, effect.mean, signed=False),
        **about,
    )
    return mark(outcome.metric, effect), said


def _of_draws(outcome: Outcome, labels: Mapping[int, str]) -> Said:
    trends = [
        sentence
        for place, trend in outcome.trends.items()
        if (sentence := _of_trend(outcome, trend, labels[place], place))
    ]
    trends.sort(key=lambda said: said[0] not in SURE)
    best = outcome.groups[0]
    value = mean_text(outcome.metric, best.mean or Mean(0.0, None, None, 0))
    said = t(
        "sweep.best_draw",
        n=len(outcome.groups),
        setting=best.label,
        subject=subject(outcome),
        value=value,
    )
    few = [] if trends else [("tie", t("sweep.few_draws"))]
    return [*trends, ("tie", said), *few]


def word(metric: Mapping[str, Any], effect: Effect) -> str:
    """better, worse or tie; higher or lower for a metric that has no better side."""
    if effect.verdict not in SURE:
        return "tie"
    if metric.get("tested", True):
        return effect.verdict
    return "higher" if effect.mean is not None and effect.mean.value > 0 else "lower"


def mark(metric: Mapping[str, Any], effect: Effect) -> str:
    """The sign of a sentence: better, worse, tie, or mixed where no side is the better one."""
    found = word(metric, effect)
    return found if found in ("better", "worse", "tie") else "mixed"


def basis(*effects: Effect) -> str:
    """What the intervals are over: `over 3 seeds`, or `over 2–3 seeds` where they differ."""
    counts = sorted({effect.mean.n if effect.mean else 0 for effect in effects})
    n = str(counts[0]) if len(counts) == 1 else f"{counts[0]}\u2013{counts[-1]}"
    first = effects[0].how
    how = first if first in ("seeds", "draws", "prompts") else "seeds"
    return t(f"sweep.over_{how}", n=n)


def p_text(p: float | None) -> str:
    """`p = 0.012` or `p < 0.001`; without one `p = –`."""
    if p is None:
        return t("sweep.p", p="\u2013")
    return t("sweep.p_small") if p < 0.001 else t("sweep.p", p=f"{p:.3f}")


def difference(metric: Mapping[str, Any], mean: Mean | None, *, signed: bool = True) -> str:
    """`+5.2 points [3.1, 7.3]`; unsigned, the size and its interval turned with it."""
    if mean is None:
        return "\u2013"
    turn = -1.0 if not signed and mean.value < 0 else 1.0
    ends = sorted(turn * x for x in (mean.low, mean.high) if x is not None)
    style, scale = metric.get("format"), max(abs(x) for x in (mean.value, *ends))
    text = plain_number(turn * mean.value, style, scale)
    if signed and mean.value > 0 and float(text.replace(",", "")):
        text = "+" + text
    text = t("sweep.points", value=text) if style == "percent" else text
    if len(ends) == 2:
        text += f" [{', '.join(plain_number(x, style, scale) for x in ends)}]"
    return text


def size(metric: Mapping[str, Any], value: float) -> str:
    """A size without sign: `4.1 points`."""
    text = plain_number(value, metric.get("format"), value)
    return t("sweep.points", value=text) if metric.get("format") == "percent" else text
