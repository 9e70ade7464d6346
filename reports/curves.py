"""Training curves: the numbers of metrics.jsonl as thinned series, grouped into charts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from espalier.reports import reward_facts
from espalier.reports.retold import retell
from espalier.reports.runfiles import number, read_lines, read_object, rounded
from espalier.reports.strings import known, pretty, t

STAGES = ("base", "sft", "reward", "reward_eval", "ppo")
# Charts in their order; the keys of one tuple share a chart.
CHARTS = (
    ("score",), ("gain", "gain_low", "gain_high", "training_gain"), ("reward",), ("term",),
    ("loss",), ("accuracy",), ("margin",), ("kl", "kl_k3"),
    ("clip_fraction", "value_clip_fraction"), ("entropy",), ("length",), ("no_end_rate",),
    ("value_loss",), ("policy_loss",), ("explained_variance",), ("learning_rate",),
    ("grad_norm", "critic_grad_norm"), ("tokens_per_second", "trained_tokens_per_second"),
    ("episodes_per_second",),
    ("seconds_sampling", "seconds_scoring", "seconds_judging", "seconds_updating"),
    ("ratio_gap", "first_ratio_gap", "rollout_gap"),
)  # fmt: skip
# Charts of the running of things; they and those of unknown keys stand behind the others.
MINOR = frozenset({"seconds_sampling", "ratio_gap"})
# Counters that only repeat the step.
SKIPPED = frozenset(
    {"step", "epoch", "episodes", "tokens", "examples", "seconds", "time", "iteration"}
)

# The chart on whose curve an alarm of this kind is drawn; others go to the first chart.
ALARM_CHARTS = {
    "length": "length", "short": "length", "no end": "no_end_rate", "entropy": "entropy",
    "kl": "kl", "negative kl": "kl", "rollout gap": "ratio_gap", "over-optimisation": "gain",
}  # fmt: skip
# The interval of a curve, drawn around it.
BANDS = {"gain": ("gain_low", "gain_high")}
# More spells of one alarm than this are not drawn one by one.
MOST_MARKS = 60

Point = tuple[float, float]


def read_curves(run: Path, points: int, prompts: int) -> list[dict[str, Any]]:
    """For each training stage with any of its files: charts, accuracy, samples and alarms."""
    found = []
    for stage in STAGES:
        folder = run / stage
        measured = read_object(folder / "accuracy.json")
        drawn = charts(read_lines(folder / "metrics.jsonl"), points)
        fired = alarms(read_lines(folder / "alarms.jsonl"))
        mark_alarms(drawn, fired)
        entry = {
            "stage": stage,
            "label": known(f"stage.{stage}", pretty(stage)),
            "charts": drawn,
            "accuracy": accuracy_bars(measured),
            "calibration": reward_facts.calibration(measured),
            "facts": reward_facts.facts(measured),
            "statement": reward_facts.statement(measured),
            "samples": samples(read_lines(folder / "samples.jsonl"), prompts),
            "alarms": fired,
        }
        if any(entry[key] for key in ("charts", "accuracy", "samples", "alarms")):
            found.append(entry)
    return found


def charts(rows: Iterable[Mapping[str, Any]], points: int) -> list[dict[str, Any]]:
    """Charts in reading order, each `{key, title, minor, series: [{label, split, x, y}]}`.

    Keys like `accuracy/length` join the chart of the part before the stroke. A series needs two
    different points at least, or one beside a series that has them.
    """
    lines = collect(rows)
    around = bands(lines, points)
    groups: dict[str, list[tuple[str, str]]] = {}
    for key, split in lines:
        groups.setdefault(_chart_of(key), []).append((key, split))
    order = [names[0] for names in CHARTS]
    result = []
    for chart in [c for c in order if c in groups] + [c for c in groups if c not in order]:
        keys = {key for key, _ in groups[chart]}
        series = [
            {
                **_series(key, split, lines[key, split], points, alone=len(keys) == 1),
                **around.get((key, split), {}),
            }
            for key, split in groups[chart]
        ]
        if any(len(item["x"]) > 1 for item in series):
            result.append(
                {
                    "key": chart,
                    "title": known(f"chart.{chart}", known(f"curve.{chart}", pretty(chart))),
                    "minor": chart not in order or chart in MINOR or _flat(series),
                    "series": series,
                    "marks": [],
                }
            )
    return result


def _flat(series: Sequence[Mapping[str, Any]]) -> bool:
    return all(min(item["y"]) == max(item["y"]) for item in series)


def collect(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], list[Point]]:
    """(key, split) -> points in the order of the file, for every numeric key."""
    lines: dict[tuple[str, str], list[Point]] = {}
    for row in rows:
        step = number(row.get("step"))
        if step is None:
            continue
        split = str(row.get("split", "train"))
        for key, raw in row.items():
            value = number(raw)
            if value is not None and key not in SKIPPED:
                lines.setdefault((str(key), split), []).append((step, value))
    return lines


def _chart_of(key: str) -> str:
    head = key.split("/", 1)[0]
    return next((names[0] for names in CHARTS if head in names), head)


def _series(
    key: str, split: str, line: Sequence[Point], points: int, *, alone: bool
) -> dict[str, Any]:
    kept = thin(line, points)
    name = known(f"split.{split}", split) if alone else known(f"curve.{key}", pretty(key))
    return {
        "label": name,
        "split": split,
        "x": [rounded(x) for x, _ in kept],
        "y": [rounded(y, 5) for _, y in kept],
    }


def thin(line: Sequence[Point], points: int) -> list[Point]:
    """At most `points` of the line: the lowest and the highest of each equal part, and the ends."""
    if len(line) <= points:
        return list(line)
    parts = max(1, (points - 2) // 2)
    inner = line[1:-1]
    kept: list[Point] = [line[0]]
    for part in range(parts):
        chunk = range(part * len(inner) // parts, (part + 1) * len(inner) // parts)
        if chunk:
            low = min(chunk, key=lambda i: inner[i][1])
            high = max(chunk, key=lambda i: inner[i][1])
            kept.extend(inner[i] for i in sorted({low, high}))
    return [*kept, line[-1]]


def accuracy_bars(value: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Bars of a reward model's accuracy: all pairs first, then by kind, language and source.

    Sources are shown where there are several.
    """
    if value is None:
        return []
    total = {"label": t("accuracy.all"), "n": value.get("pairs"), **_interval(value)}
    bars = [total] if total["value"] is not None else []
    for group in ("by_kind", "by_language", "by_source"):
        parts = value.get(group) or {}
        for name, facts in parts.items() if group != "by_source" or len(parts) > 1 else ():
            if isinstance(facts, Mapping) and number(facts.get("accuracy")) is not None:
                label = t(f"accuracy.{group}", name=_part_name(group, str(name)))
                bars.append({"label": label, "n": facts.get("n"), **_interval(facts)})
    return bars


def _part_name(group: str, name: str) -> str:
    """Kinds of pairs and languages by their words, sources by their names."""
    if group == "by_kind":
        return known(f"kind.{name}", pretty(name))
    return known(f"dp.language.{name}", name) if group == "by_language" else name


def _interval(facts: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        "value": number(facts.get("accuracy")),
        "low": number(facts.get("low")),
        "high": number(facts.get("high")),
    }


def samples(rows: Iterable[Mapping[str, Any]], prompts: int) -> list[dict[str, Any]]:
    """Sample generations, gathered by prompt: `{prompt, reference, answers: [{step, text}]}`."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        prompt = str(row.get("prompt") or row.get("id") or "")
        text = next((row[k] for k in ("answer", "response", "text", "output") if k in row), None)
        if text is None or (prompt not in found and len(found) >= prompts):
            continue
        entry = found.setdefault(prompt, {"prompt": prompt, "reference": None, "answers": []})
        if isinstance(row.get("reference"), str):
            entry["reference"] = row["reference"]
        score = next((rounded(row[k], 3) for k in ("score", "reward") if k in row), None)
        entry["answers"].append({"step": row.get("step"), "text": str(text), "score": score})
    return list(found.values())


def bands(
    lines: dict[tuple[str, str], list[Point]], points: int
) -> dict[tuple[str, str], dict[str, Any]]:
    """(key, split) -> `{low, high}` of the curves with an interval, whose ends leave `lines`.

    Both ends have to stand at the steps of their curve, and the curve must not be thinned.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for key, split in list(lines):
        ends = [(name, split) for name in BANDS.get(key, ())]
        line = lines[key, split] if ends else []
        steps = [x for x, _ in line]
        whole = ends and len(line) <= points
        if whole and all([x for x, _ in lines.get(end, [])] == steps for end in ends):
            drawn = [[rounded(y, 5) for _, y in lines.pop(end)] for end in ends]
            found[key, split] = dict(zip(("low", "high"), drawn, strict=True))
    return found


def alarms(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Alarms by kind: the first message, how often, the first and last step, and all steps."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        kind = str(row.get("alarm", "alarm"))
        step = number(row.get("step"))
        entry = found.setdefault(
            kind,
            {"kind": kind, "message": retell(str(row.get("message", ""))), "count": 0, "steps": []},
        )
        entry["count"] += 1
        if step is not None:
            entry["steps"].append(rounded(step))
    for entry in found.values():
        steps = sorted(entry["steps"])
        entry.update(steps=steps, first=steps[0] if steps else None, chart=None)
        entry["last"] = steps[-1] if steps else None
    return list(found.values())


def mark_alarms(charts: Sequence[dict[str, Any]], fired: Sequence[dict[str, Any]]) -> None:
    """Put each alarm on the chart of what it is about: `marks: [{from, to, message}]`.

    Neighbouring steps of the chart are one mark. The alarm learns which `chart` it stands on.
    """
    by_key = {chart["key"]: chart for chart in charts}
    for alarm in fired:
        steps = alarm.pop("steps")
        chart = by_key.get(ALARM_CHARTS.get(alarm["kind"], ""), next(iter(charts), None))
        if chart is None or not steps:
            continue
        alarm["chart"] = chart["key"]
        places = sorted({x for series in chart["series"] for x in series["x"]})
        chart["marks"] += [
            {"from": low, "to": high, "message": alarm["message"]}
            for low, high in spells(steps, places)[:MOST_MARKS]
        ]


def spells(steps: Sequence[float], places: Sequence[float]) -> list[tuple[float, float]]:
    """Runs of steps between which `places` (ascending) has no other step, as (first, last)."""
    found: list[tuple[float, float]] = []
    for step in steps:
        after = bisect_right(places, found[-1][1]) if found else len(places)
        if found and (after == len(places) or places[after] >= step):
            found[-1] = (found[-1][0], step)
        else:
            found.append((step, step))
    return found
