"""What could mislead a reader of the page, as a list that is always the same and always whole.

Each point is told whether it holds or not, so that a missing warning is a checked one: synthetic
teacher, contamination, size of the set, one seed, mixed engines and prompts, cut and empty
answers, uneven coverage, different versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from espalier.reports.manifests import common
from espalier.reports.strings import t

# A set or group below it has intervals too wide to say much.
SMALL_SET = 100
SMALL_GROUP = 30
# Share of cut or empty answers above which scores speak of the limit rather than of the model.
MANY = 0.05


@dataclass(frozen=True)
class Caution:
    """One point: `state` is caution, fine or unknown (not looked for)."""

    name: str
    state: str
    text: str


def cautions(
    summary: Mapping[str, Any] | None, stages: Sequence[Mapping[str, Any]]
) -> list[Caution]:
    """All points that the files of the run can speak to, in the language that speaks."""
    found = [*_of_stages(stages)]
    if summary is None:
        return found
    return [
        _synthetic(summary),
        _contamination(summary),
        _size(summary),
        _setup(summary),
        _share(summary, "cut"),
        _share(summary, "empty"),
        _coverage(summary),
        *found,
    ]


def _made(name: str, state: str, sentence: str | None = None, **values: Any) -> Caution:
    return Caution(name, state, t(f"caution.{name}.{sentence or state}", **values))


def _synthetic(summary: Mapping[str, Any]) -> Caution:
    judged = (summary.get("judge") or {}).get("synthetic")
    return _made("synthetic", "caution" if summary.get("synthetic") or judged else "fine")


def _contamination(summary: Mapping[str, Any]) -> Caution:
    said = summary.get("contamination")
    total = int(summary["set"]["rows"] or 0)
    if not isinstance(said, Mapping):
        return _made("contamination", "unknown")
    rows = int(said.get("rows") or 0)
    values = {"rows": f"{rows:,}", "total": f"{total:,}"}
    return _made("contamination", "caution" if rows else "fine", **values)


def _size(summary: Mapping[str, Any]) -> Caution:
    rows = int(summary["set"]["rows"] or 0)
    groups = {(item["by"], item["group"]): int(item.get("n") or 0) for item in summary["slices"]}
    # The same group has a number for each model and metric.
    small = sum(n < SMALL_GROUP for n in groups.values())
    state, sentence = "caution" if rows < SMALL_SET or small else "fine", None
    if small and rows >= SMALL_SET:
        sentence = "groups"
    return _made(
        "size", state, sentence, rows=f"{rows:,}", small=small, groups=len(groups), few=SMALL_GROUP
    )


def _setup(summary: Mapping[str, Any]) -> Caution:
    """Whether all models were asked in the same way: engine, precision, examples in the prompt."""
    ways: dict[tuple[str, int], list[str]] = {}
    for model in summary["models"]:
        way = (engine_of(model), int(model.get("few_shot") or 0))
        ways.setdefault(way, []).append(str(model["label"]))
    if len(ways) < 2:
        return _made("setup", "fine")
    listed = t("list.clause").join(
        t("caution.setup.way", models=t("list.comma").join(models), engine=engine, shots=shots)
        for (engine, shots), models in ways.items()
    )
    return _made("setup", "caution", ways=listed)


def engine_of(model: Mapping[str, Any]) -> str:
    """The engine that gave a model's answers, with its version and number format."""
    engine = model.get("engine")
    if not isinstance(engine, Mapping):
        return t("caution.setup.file")
    parts = [str(engine[key]) for key in ("name", "version", "dtype") if engine.get(key)]
    return " ".join(parts)


def _share(summary: Mapping[str, Any], kind: str) -> Caution:
    """Models whose answers were cut off, or are empty."""
    counts = [
        (str(model["label"]), int(model[kind]), int(model.get("answers") or 0))
        for model in summary["models"]
        if isinstance(model.get(kind), int)
    ]
    if not counts:
        return _made(kind, "unknown")
    listed = t("list.comma").join(
        t("caution.of", model=label, count=f"{count:,}", total=f"{total:,}")
        for label, count, total in counts
        if count
    )
    if not listed:
        return _made(kind, "fine")
    many = any(count > MANY * total for _, count, total in counts)
    return _made(kind, "caution" if many else "fine", "some", listed=listed)


def _coverage(summary: Mapping[str, Any]) -> Caution:
    uneven = [str(item["metric"]) for item in summary.get("coverage") or []]
    labels = {str(metric["name"]): str(metric["label"]) for metric in summary["metrics"]}
    if uneven:
        listed = t("list.comma").join(labels.get(name, name) for name in uneven)
        return _made("coverage", "caution", metrics=listed)
    return _made("coverage", "fine")


def _of_stages(stages: Sequence[Mapping[str, Any]]) -> Iterator[Caution]:
    if not stages:
        return
    listed = [dict(stage) for stage in stages]
    seeds = list(dict.fromkeys(str(stage["seed"]) for stage in listed if stage["seed"] is not None))
    if seeds:
        yield _made("seed", "caution", seeds=t("list.comma").join(seeds))
    changed = [str(stage["label"]) for stage in listed if "+changes" in str(stage["git"] or "")]
    if common(listed, "packages") is None or common(listed, "git") is None:
        yield _made("versions", "caution")
    elif changed:
        yield _made("versions", "caution", "changes", stages=t("list.comma").join(changed))
    else:
        yield _made("versions", "fine")
