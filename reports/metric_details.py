"""What a metric tells beyond its score, as tables of the page: by label, type, check; rewards;
lengths; texts that were left out.

`details` of the summary holds, by metric and model, whatever the metric writes there. Shapes that
are known become tables that put the models side by side; what is not known is listed as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from espalier.reports.judged import percent
from espalier.reports.runfiles import number
from espalier.reports.strings import known, pretty, t
from espalier.reports.verdicts import plain_number

Cell = str
Details = Mapping[str, Mapping[str, Any]]
# Shades of a confusion table.
SHADES = 10
# A table with more rows than this is cut; the summary has them all.
MOST_ROWS = 60
QUANTILES = ("0.05", "0.25", "0.5", "0.75", "0.95")


def metric_details(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each metric with details: `name`, `label`, and `tables`: `title`, `head`, `rows` of
    cells, `groups` (rows of several models belong together), or a `confusion`."""
    labels = {str(m["name"]): str(m.get("label") or m["name"]) for m in summary["models"]}
    details = summary.get("details") or {}
    metrics = {str(m["name"]): str(m.get("label") or m["name"]) for m in summary["metrics"]}
    found = []
    for metric in summary["metrics"]:
        given = details.get(metric["name"])
        if not isinstance(given, Mapping):
            continue
        by_model = {
            label: given[name]
            for name, label in labels.items()
            if isinstance(given.get(name), Mapping)
        }
        tables = [table for make in TABLES for table in make(by_model, metrics) if table["rows"]]
        if tables:
            found.append({"name": metric["name"], "label": metric["label"], "tables": tables})
    return found


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> dict[str, Any]:
    return {
        "title": title,
        "head": list(head),
        "rows": [list(row) for row in rows[:MOST_ROWS]],
        "left_out": max(0, len(rows) - MOST_ROWS),
    }


# --- by label, type, check ---------------------------------------------------------------------


def _parts(by_model: Details, _: Mapping[str, str]) -> list[dict[str, Any]]:
    """F1 with precision and recall by label or type of entity; the share passed by check."""
    tables = []
    for key, count in (("labels", "rows"), ("types", "spans")):
        rates = {model: _by_name(one.get(key)) for model, one in by_model.items()}
        tables.append(_side_by_side(t(f"details.{key}"), rates, _f1, count))
    checks = {model: _by_name(one.get("checks")) for model, one in by_model.items()}
    tables.append(_side_by_side(t("details.checks"), checks, _passed, "checks"))
    return tables


def _by_name(value: Any) -> dict[str, Mapping[str, Any]]:
    if isinstance(value, Mapping):
        return {str(key): one for key, one in value.items() if isinstance(one, Mapping)}
    if isinstance(value, list):
        return {str(one["label"]): one for one in value if isinstance(one, Mapping)}
    return {}


def _f1(one: Mapping[str, Any]) -> Cell:
    rates = t(
        "details.rates",
        precision=percent(one.get("precision"), 0),
        recall=percent(one.get("recall"), 0),
    )
    return f"{percent(one.get('f1'))}\n{rates}"


def _passed(one: Mapping[str, Any]) -> Cell:
    return percent(one.get("passed"))


def _side_by_side(
    title: str,
    rates: Mapping[str, Mapping[str, Mapping[str, Any]]],
    show: Callable[[Mapping[str, Any]], Cell],
    count: str,
) -> dict[str, Any]:
    names = list(dict.fromkeys(name for one in rates.values() for name in one))
    rows = []
    for name in names:
        counts = [one[name].get(count) for one in rates.values() if name in one]
        cells = [show(one[name]) if name in one else "–" for one in rates.values()]
        rows.append([name, f"{max(whole(c) for c in counts):,}", *cells])
    return _table(title, [t("details.name"), "n", *rates], rows)


def _confusions(by_model: Details, _: Mapping[str, str]) -> list[dict[str, Any]]:
    """A table of right and told labels for each model."""
    tables = []
    for model, one in by_model.items():
        counts = one.get("confusion")
        names = list(_by_name(one.get("labels")))
        if not isinstance(counts, list) or len(counts) != len(names) or len(names) > MOST_ROWS:
            continue
        if not all(isinstance(row, list) and len(row) == len(names) for row in counts):
            continue
        rows = [
            [name, *(f"{whole(n):,}" for n in row)] for name, row in zip(names, counts, strict=True)
        ]
        table = _table(t("details.confusion", model=model), [t("details.right"), *names], rows)
        table["shades"] = [
            [round(SHADES * whole(n) / max(1, sum(map(whole, row)))) for n in row] for row in counts
        ]
        without = whole(one.get("without_label"))
        table["note"] = t("details.no_label", count=f"{without:,}") if without else ""
        tables.append(table)
    return tables


# --- distributions -----------------------------------------------------------------------------


def _spreads(by_model: Details, _: Mapping[str, str]) -> list[dict[str, Any]]:
    """Mean, deviation and quantiles of scores, and of margins over the baseline's answers."""
    tables = []
    for key in ("distribution", "margin"):
        given = {
            model: one.get(key) if key in one or key == "margin" else one
            for model, one in by_model.items()
        }
        spreads = {
            model: one
            for model, one in given.items()
            if isinstance(one, Mapping) and isinstance(one.get("quantiles"), Mapping)
        }
        shares = key == "margin"
        head = [t("overview.model"), "n", t("details.mean"), t("details.deviation")]
        head += [_quantile(name) for name in QUANTILES]
        head += [t("details.above"), t("details.below")] if shares else []
        rows = [[model, *_spread(one, shares)] for model, one in spreads.items()]
        tables.append(_table(t(f"details.{key}"), head, rows))
    return tables


def _quantile(name: str) -> str:
    return t("details.median") if name == "0.5" else f"{100 * float(name):.0f} %"


def _spread(one: Mapping[str, Any], shares: bool) -> list[Cell]:
    numbers = [one.get("mean"), one.get("deviation"), *(one["quantiles"].get(q) for q in QUANTILES)]
    scale = max((abs(x) for x in map(number, numbers) if x is not None), default=0.0)
    cells = [f"{whole(one.get('n')):,}", *(short(x, scale) for x in numbers)]
    return cells + ([percent(one.get(key), 0) for key in ("above", "below")] if shares else [])


def _correlations(by_model: Details, metrics: Mapping[str, str]) -> list[dict[str, Any]]:
    """How rewards go with length and with other reward models: Pearson's r, Spearman's rank."""
    rows = []
    for model, one in by_model.items():
        others = one.get("other_models")
        beside = {t("details.length"): one.get("length")}
        if isinstance(others, Mapping):
            beside |= {metrics.get(name, name): value for name, value in others.items()}
        for name, value in beside.items():
            if isinstance(value, Mapping) and ("pearson" in value or "spearman" in value):
                both = [short(value.get(key), 1.0) for key in ("pearson", "spearman")]
                rows.append([model, name, *both, f"{whole(value.get('n')):,}"])
    head = [t("overview.model"), t("details.with"), "Pearson r", "Spearman ρ", "n"]
    return [_table(t("details.correlation"), head, rows)]


# --- the rest ----------------------------------------------------------------------------------

_SPREAD = frozenset({"n", "mean", "deviation", "quantiles"})


def _plain(by_model: Details, _: Mapping[str, str]) -> list[dict[str, Any]]:
    """Single values, a column each; what all models have as 0 is left out."""
    values = {
        model: {
            key: value
            for key, value in one.items()
            if isinstance(value, int | float | str | bool)
            and not (key in _SPREAD and "quantiles" in one)
        }
        for model, one in by_model.items()
    }
    keys = list(dict.fromkeys(key for one in values.values() for key in one))
    keys = [key for key in keys if any(one.get(key) not in (None, 0) for one in values.values())]
    head = [t("overview.model"), *(known(f"details.{key}", pretty(key)) for key in keys)]
    rows = [[model, *(_value(key, one.get(key)) for key in keys)] for model, one in values.items()]
    return [_table(t("details.values"), head, rows if keys else [])]


def _value(key: str, value: Any) -> Cell:
    if isinstance(value, bool):
        return t("answers.yes") if value else t("answers.no")
    if isinstance(value, str):
        return value
    if key in ("precision", "recall", "f1"):
        return percent(value)
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else short(value)


def whole(value: Any) -> int:
    """A count; 0 where there is none."""
    return int(number(value) or 0)


def short(value: Any, scale: float | None = None) -> str:
    """A number of two or three digits of the largest one beside it; a dash where there is none."""
    found = number(value)
    return (
        "–" if found is None else plain_number(found, None, abs(found) if scale is None else scale)
    )


TABLES = (_parts, _confusions, _spreads, _correlations, _plain)
