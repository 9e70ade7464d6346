"""The charts and tables of a comparison of runs."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.reports import figure_lines
from espalier.reports.figure_lines import Line, Point, Points
from espalier.reports.figure_svg import series_colour
from espalier.reports.figure_tables import Cell, Table, cells
from espalier.reports.figure_text import Figure, interval_text, p_text, points
from espalier.reports.runs_data import RunsData
from espalier.reports.runs_effects import as_json, verdict
from espalier.reports.runs_sentences import name_of
from espalier.reports.runs_settings import Sweep, level_text
from espalier.reports.runs_targets import Target
from espalier.reports.strings import t


def run_figures(data: RunsData) -> Iterator[Figure]:
    """Scores over runs, each quantity by each option, learning curves."""
    level = round(100 * data.confidence)
    yield from _over_runs(data, level)
    for target in data.targets if data.sweep.is_one else ():
        for factor in range(len(data.sweep.factors)):
            yield from _by_factor(data, target, factor, level)
    for stage in data.curves:
        for chart in stage["charts"]:
            part = f" · {chart['part']}" if chart["part"] else ""
            title = f"{stage['label']} · {chart['title']}{part}"
            name = f"{stage['stage']}-{chart['key']}"
            own = [
                Line(data.labels[line["run"]], line["x"], line["y"], _colour(line["run"]))
                for line in chart["lines"]
            ]
            svg = figure_lines.lines(title, "", own, (), t("figures.training_step"))
            yield Figure(f"curve-{name}", svg)
            if chart["bands"]:
                means = [
                    Line(name_of(data.labels, data.sweep, band["setting"]), band["x"], band["y"],
                         _colour(band["setting"]), band["low"], band["high"])
                    for band in chart["bands"]
                ]  # fmt: skip
                note = t("runs.band_note")
                svg = figure_lines.lines(title, note, means, (), t("figures.training_step"))
                yield Figure(f"mean-{name}", svg)


def _colour(place: int) -> str:
    return series_colour(place + 2)


def _style(target: Target) -> str:
    return "percent" if target.metric["format"] == "percent" else "number"


def _over_runs(data: RunsData, level: int) -> Iterator[Figure]:
    scores = [target for target in data.targets if target.kind == "score"]
    for name in dict.fromkeys(target.metric["name"] for target in scores):
        own = [target for target in scores if target.metric["name"] == name]
        series = [
            Points(
                target.model_label,
                [
                    Point(run, value["value"], value["low"], value["high"])
                    for run, value in enumerate(target.values)
                    if value is not None
                ],
                _colour(place),
                len(data.labels) > 2,
            )
            for place, target in enumerate(own)
        ]
        note = t("figures.interval", level=level)
        label = own[0].metric["label"]
        svg = figure_lines.points(label, note, data.labels, series, _style(own[0]))
        yield Figure(f"runs-{name}", svg)


def _by_factor(data: RunsData, target: Target, place: int, level: int) -> Iterator[Figure]:
    factor = data.sweep.factors[place]
    lines: dict[tuple[int, ...], list[Point]] = {}
    for setting, mean in zip(data.sweep.settings, data.means[target.name], strict=True):
        if mean is None:
            continue
        rest = tuple(value for other, value in enumerate(setting.levels) if other != place)
        points = lines.setdefault(rest, [])
        values = [(run, target.values[run]) for run in setting.runs]
        alone = next((value for _, value in values if value), None) if mean.n == 1 else None
        low, high = (alone["low"], alone["high"]) if alone else (mean.low, mean.high)
        points.append(Point(setting.levels[place], mean.value, low, high))
        if mean.n > 1:
            small = [v["value"] for _, v in values if v is not None]
            points.extend(Point(setting.levels[place], v, None, None, True) for v in small)
    if not lines:
        return
    series = [
        Points(_rest_text(data.sweep, place, rest), sorted(own, key=lambda p: p.level),
               _colour(i), factor.numbers is not None)
        for i, (rest, own) in enumerate(lines.items())
    ]  # fmt: skip
    title = t(
        "runs.by_level", target=f"{target.model_label} · {target.metric['label']}",
        factor=factor.label,
    )  # fmt: skip
    repeated = any(len(setting.runs) > 1 for setting in data.sweep.settings)
    note = t("runs.points_note", level=level) if repeated else ""
    svg = figure_lines.points(
        title, note, [level_text(level) for level in factor.levels], series, _style(target),
        factor.numbers, factor.label,
    )  # fmt: skip
    yield Figure(f"sweep-{target.name}-by-{factor.label}", svg)


def _rest_text(sweep: Sweep, place: int, rest: tuple[int, ...]) -> str:
    others = [factor for other, factor in enumerate(sweep.factors) if other != place]
    return t("list.comma").join(
        f"{factor.label} = {level_text(factor.levels[level])}"
        for factor, level in zip(others, rest, strict=True)
    )


def run_tables(data: RunsData) -> Iterator[Table]:
    """What differs, scores of all runs, settings in order, effects."""
    if data.changes:
        yield _changes(data)
    scores = [target for target in data.targets if target.kind == "score"]
    if scores:
        yield _score_table(data, scores)
    if data.sweep.is_one and data.targets:
        yield _ranking(data)
        yield _effects(data)


def _changes(data: RunsData) -> Table:
    """Options down and runs across, or the other way round where there are more runs."""
    keys = [change.key for change in data.changes]
    values = [["\u2013" if v is None else v for v in change.values] for change in data.changes]
    if len(data.labels) > len(keys):
        rows = [cells(label, *own) for label, *own in zip(data.labels, *values, strict=True)]
        head = [t("runs.run"), *keys]
    else:
        rows = [cells(key, *own) for key, own in zip(keys, values, strict=True)]
        head = [t("runs.changes_key"), *data.labels]
    return Table("changes", t("section.changes"), head, rows, "l" * len(head))


def _score_table(data: RunsData, scores: list[Target]) -> Table:
    metrics = list(dict.fromkeys(target.metric["name"] for target in scores))
    by = {(target.model, target.metric["name"]): target for target in scores}
    labels = {target.metric["name"]: target.metric["label"] for target in scores}
    rows = []
    for model, name in dict.fromkeys((target.model, target.model_label) for target in scores):
        for run, label in enumerate(data.labels):
            texts = [_value_text(by.get((model, metric)), run) for metric in metrics]
            rows.append(cells(name, label, *texts))
    head = [t("runs.model"), t("runs.run"), *(labels[metric] for metric in metrics)]
    return Table("runs", t("section.runs_scores"), head, rows, "ll" + "r" * len(metrics))


def _value_text(target: Target | None, run: int) -> str:
    value = target.values[run] if target else None
    if target is None or value is None:
        return "\u2013"
    return interval_text(target.metric, value, abs(value["value"]))


def _ranking(data: RunsData) -> Table:
    """Settings down, quantities across; the best mean of each is in bold."""
    columns = []
    for target in data.targets:
        means = data.means[target.name]
        known = [mean.value for mean in means if mean is not None]
        pick = max if target.metric["higher_is_better"] else min
        best = pick(known) if known and target.metric["tested"] else None
        columns.append([
            Cell("\u2013") if mean is None
            else Cell(interval_text(target.metric, as_json(mean) or {}, abs(mean.value)),
                      mean.value == best)
            for mean in means
        ])  # fmt: skip
    rows = [
        [
            *cells(*(
                level_text(factor.levels[level])
                for factor, level in zip(data.sweep.factors, setting.levels, strict=True)
            )),
            Cell(str(len(setting.runs))),
            *(column[place] for column in columns),
        ]
        for place, setting in enumerate(data.sweep.settings)
    ]  # fmt: skip
    align = "l" * len(data.sweep.factors) + "r" * (1 + len(data.targets))
    head = [
        *(factor.label for factor in data.sweep.factors), t("runs.repeats"),
        *(f"{target.model_label} · {target.metric['label']}" for target in data.targets),
    ]  # fmt: skip
    return Table("settings", t("section.sweep"), head, rows, align)


def _unit(target: Target) -> str:
    return t("figures.in_points") if _style(target) == "percent" else ""


def _effects(data: RunsData) -> Table:
    rows = []
    for target in data.targets:
        for effect in data.effects[target.name]:
            factor = data.sweep.factors[effect.factor]
            mean = as_json(effect.mean) or {}
            higher = bool(target.metric["higher_is_better"])
            said = verdict(effect.mean, effect.p_value, higher, data.confidence)
            tested = bool(target.metric["tested"]) and effect.mean is not None
            rows.append(cells(
                f"{target.model_label} · {target.metric['label']}{_unit(target)}", factor.label,
                level_text(factor.levels[effect.reference]),
                level_text(factor.levels[effect.level]),
                interval_text(points(target.metric), mean, abs(mean.get("value") or 0.0)),
                p_text(effect.p_value),
                t(f"runs.verdict_{said or 'none'}") if tested else "",
            ))  # fmt: skip
    head = [t("runs.target"), t("runs.factor"), t("runs.effect_from"), t("runs.effect_to"),
            t("runs.effect_difference"), "p", t("runs.effect_verdict")]  # fmt: skip
    return Table("effects", t("runs.effects"), head, rows, "llllrrl")
