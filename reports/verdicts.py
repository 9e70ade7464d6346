"""One sentence for each pair of models, and who is first, from the comparisons of summary.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from espalier.reports.strings import t

# Metrics that a reader asks for first, by a part of their name.
FIRST = ("win_rate", "reward", "exact_match", "judge", "human")
# Differences that a clause spells out; the rest are named without figures, or counted.
SPELLED = 3
NAMED = 3
MINUS = "\u2212"


@dataclass(frozen=True)
class Verdict:
    """What the comparisons say about one pair: `mark` is better, worse, mixed or tie.

    `names` are the two models, the subject of the sentence first; `metric` is the first metric
    that the sentence is about and that has a score of every answer, None where there is none;
    `balance` is on how many more metrics the subject is surely better than worse.
    """

    model: str
    baseline: str
    mark: str
    lead: str
    rest: str
    names: tuple[str, str]
    metric: str | None
    balance: int

    @property
    def sentence(self) -> str:
        """The whole sentence; `lead` is its first words, who beats whom."""
        return self.lead + self.rest


def verdicts(summary: Mapping[str, Any], headline: Sequence[str] = ()) -> list[Verdict]:
    """A verdict of every pair: first those with the baseline, the last model of the list first.

    The winner on more metrics (or else on the first decisive one) is the subject of the sentence.
    """
    metrics = ordered_metrics(summary, headline)
    labels = {m["name"]: str(m.get("label") or m["name"]) for m in summary.get("models", [])}
    table = _table(summary)
    found = []
    for model, baseline in _pairs(list(labels), summary.get("baseline")):
        subject, other = _orientation(model, baseline, metrics, table)
        rows = [(m, table[key]) for m in metrics if (key := (subject, other, m["name"])) in table]
        if rows:
            found.append(_verdict((subject, other), (labels[subject], labels[other]), rows))
    return found


def best_model(summary: Mapping[str, Any], found: Sequence[Verdict]) -> str:
    """Which of three or more models no other one is ahead of, as a sentence.

    `found` are the verdicts of all pairs: a model is ahead of another where it is surely better on
    more metrics than it is surely worse. Empty where every model has one ahead of it, or no
    model is ahead of any.
    """
    labels = {m["name"]: str(m.get("label") or m["name"]) for m in summary.get("models", [])}
    behind = {one.names[one.balance > 0] for one in found if one.balance}
    ahead = {one.names[one.balance < 0] for one in found if one.balance}
    unbeaten = [name for name in reversed(labels) if name not in behind]
    if len(labels) < 3 or not ahead.intersection(unbeaten):
        return ""
    rivals = [one for one in found if unbeaten[0] in one.names]
    if len(unbeaten) == 1 and len(rivals) == len(labels) - 1:
        return t("verdict.best", model=labels[unbeaten[0]])
    return t("verdict.unbeaten", models=_and([labels[name] for name in unbeaten]))


Table = Mapping[tuple[str, str, str], Mapping[str, Any]]


def _table(summary: Mapping[str, Any]) -> Table:
    return {
        (c["model"], c["baseline"], c["metric"]): c
        for c in summary.get("comparisons", [])
        if c.get("difference") is not None
    }


def _pairs(models: Sequence[str], baseline: Any) -> list[tuple[str, str]]:
    """(model, baseline): those of the run's baseline, then the rest, later models first."""
    late = list(reversed(models))
    own = [(model, str(baseline)) for model in late if model != baseline and baseline in models]
    return own + [
        (model, other)
        for place, model in enumerate(late)
        for other in late[place + 1 :]
        if baseline not in (model, other)
    ]


def ordered_metrics(summary: Mapping[str, Any], headline: Sequence[str]) -> list[dict[str, Any]]:
    """The metrics, those of `headline` (or `FIRST`) before the rest."""
    metrics = list(summary.get("metrics", []))

    def rank(metric: dict[str, Any]) -> int:
        name = str(metric["name"])
        if name in headline:
            return list(headline).index(name)
        places = [i for i, part in enumerate(FIRST) if part in name.lower()]
        return len(headline) + (places[0] if places else len(FIRST))

    return sorted(metrics, key=rank)


def _orientation(
    model: str,
    baseline: str,
    metrics: Sequence[Mapping[str, Any]],
    table: Table,
) -> tuple[str, str]:
    found = [table.get((model, baseline, m["name"]), {}).get("verdict") for m in metrics]
    decisive = [verdict for verdict in found if verdict in ("better", "worse")]
    lead = decisive.count("better") - decisive.count("worse")
    loses = lead < 0 or (lead == 0 and decisive[:1] == ["worse"])
    turned = any((baseline, model, m["name"]) in table for m in metrics)
    return (baseline, model) if loses and turned else (model, baseline)


def _verdict(
    names: tuple[str, str],
    labels: tuple[str, str],
    rows: Sequence[tuple[dict[str, Any], Mapping[str, Any]]],
) -> Verdict:
    model, baseline = labels
    by_kind: dict[str, list[tuple[dict[str, Any], Mapping[str, Any]]]] = {
        kind: [row for row in rows if row[1].get("verdict") == kind]
        for kind in ("better", "worse", "tie")
    }
    lead_kind = next((kind for kind in ("better", "worse") if by_kind[kind]), "all_tie")
    what = _named(rows) if lead_kind == "all_tie" else _spelled(by_kind[lead_kind])
    clauses = [t("verdict.on", what=what)]
    if by_kind["better"] and by_kind["worse"]:
        clauses.append(t("verdict.worse_then", what=_spelled(by_kind["worse"])))
    if by_kind["tie"] and len(by_kind["tie"]) < len(rows):
        clauses.append(t("verdict.tie", what=_named(by_kind["tie"])))
    mixed = by_kind["better"] and by_kind["worse"]
    mark = "mixed" if mixed else lead_kind.removeprefix("all_")
    lead = t(f"verdict.{lead_kind}", model=model, baseline=baseline)
    # Only where the rows were counted does every answer have a score.
    told = by_kind["better"] + by_kind["worse"] + by_kind["tie"]
    metric = next((str(m["name"]) for m, one in told if one.get("wins") is not None), None)
    rest = t("verdict.clause").join(clauses) + t("verdict.end")
    balance = len(by_kind["better"]) - len(by_kind["worse"])
    return Verdict(model, baseline, mark, lead, rest, names, metric, balance)


def _spelled(rows: Sequence[tuple[dict[str, Any], Mapping[str, Any]]]) -> str:
    items = [difference_text(metric, comparison) for metric, comparison in rows[:SPELLED]]
    rest = rows[SPELLED:]
    if rest:
        return t("list.comma").join(items) + t("verdict.also", what=_named(rest))
    return _and(items)


def _named(rows: Sequence[tuple[dict[str, Any], Mapping[str, Any]]]) -> str:
    names = [label_of(metric) for metric, _ in rows]
    if len(names) <= NAMED + 1:
        return t("list.comma").join(names)
    return t("verdict.more", names=t("list.comma").join(names[:NAMED]), count=len(names) - NAMED)


def _and(items: Sequence[str]) -> str:
    if len(items) < 2:
        return "".join(items)
    return t("list.and", first=t("list.comma").join(items[:-1]), last=items[-1])


def label_of(metric: Mapping[str, Any]) -> str:
    """The label of a metric as it stands in a sentence: `Exact match` becomes `exact match`.

    Names written with capitals inside (ROUGE-L, chrF) stay as they are.
    """
    label = str(metric.get("label") or metric["name"])
    first = label.split(" ", maxsplit=1)[0].split("-", maxsplit=1)[0]
    return label[0].lower() + label[1:] if first[1:].islower() else label


def difference_text(metric: Mapping[str, Any], comparison: Mapping[str, Any]) -> str:
    """`Exact match by 12.5 points [6.0, 19.0]`: the size of the difference, whoever is ahead."""
    value = float(comparison["difference"])
    sign = -1.0 if value < 0 else 1.0
    limits = [float(x) for x in (comparison.get("low"), comparison.get("high")) if x is not None]
    scale = max(abs(x) for x in (value, *limits))
    text = plain_number(sign * value, metric.get("format"), scale)
    if metric.get("format") == "percent":
        text = t("verdict.points", value=text)
    if len(limits) == 2:
        ends = sorted(sign * x for x in limits)
        places = [plain_number(x, metric.get("format"), scale) for x in ends]
        text += f" [{', '.join(places)}]"
    return t("verdict.by", metric=label_of(metric), difference=text)


def plain_number(value: float, style: Any, scale: float) -> str:
    """A number without its unit; `scale` is the largest one beside it and sets the decimals.

    `style` "percent" stands for a share, shown times 100.
    """
    if style == "percent":
        text = f"{100 * value:,.1f}"
    else:
        size = math.floor(math.log10(scale)) if scale > 0 else 0
        decimals = min(5, 1 - size) if size < 0 else max(0, 2 - size)
        text = f"{value:,.{decimals}f}"
    text = text if float(text.replace(",", "")) else text.replace("-", "")
    return text.replace("-", MINUS)
