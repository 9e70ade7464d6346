"""The table of scores without the prompts that share text with the training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from espalier.reports.strings import spaced, t
from espalier.reports.verdicts import plain_number

KINDS = ("same_prompt", "same_turn", "ngram", "near_prompt")
# How the evaluation begins the sentence that `changed_verdicts` tells with labels.
CHANGED = "Without the contaminated prompts other verdicts: "


@dataclass(frozen=True)
class CleanCell:
    """A model's score on the clean prompts; `changed` tells of another verdict than with all."""

    value: str
    interval: str
    all: str
    changed: str


@dataclass(frozen=True)
class Contamination:
    """What the page says of contamination; `rows` are the models, a cell for each of `metrics`."""

    sentence: str
    files: str
    metrics: list[str]
    rows: list[tuple[str, list[CleanCell]]]


def contamination_of(summary: Mapping[str, Any] | None) -> Contamination | None:
    """From `summary.json`; None where the evaluation looked for no contamination."""
    said = (summary or {}).get("contamination")
    if not summary or not isinstance(said, Mapping):
        return None
    total = summary["set"]["rows"]
    # Without a clean prompt the table would be dashes.
    left = (said.get("rows") or 0) < total
    sentence = t("contamination.none", total=f"{total:,}")
    if said.get("rows"):
        share = f"{100 * said['rows'] / max(1, total):.1f} %"
        counts = {"rows": f"{said['rows']:,}", "total": f"{total:,}", "share": share}
        sentence = t("contamination.found", **counts, kinds=t("list.comma").join(_kinds(said)))
        if said.get("whole_reference"):
            sentence += " " + t("contamination.whole", rows=f"{said['whole_reference']:,}")
        sentence += " " + t(f"contamination.{'below' if left else 'none_left'}")
    listed = ", ".join(str(item["file"]) for item in said.get("against") or [])
    scored = said.get("scores") or [] if left else []
    scores = {(s["model"], s["metric"]): s for s in scored}
    changes = {
        (c["model"], c["metric"]): c for c in said.get("comparisons") or [] if c.get("changed")
    }
    metrics = [m for m in summary["metrics"] if any(key[1] == m["name"] for key in scores)]
    rows = [
        (
            str(model["label"]),
            [_cell(metric, scores, changes, str(model["name"])) for metric in metrics],
        )
        for model in summary["models"]
        if any(key[0] == model["name"] for key in scores)
    ]
    return Contamination(spaced(sentence), listed, [str(m["label"]) for m in metrics], rows)


def _kinds(said: Mapping[str, Any]) -> list[str]:
    counts = {kind: said.get(kind) or 0 for kind in KINDS}
    return [t(f"contamination.{kind}", rows=f"{n:,}") for kind, n in counts.items() if n]


def changed_verdicts(summary: Mapping[str, Any] | None) -> str:
    """Which comparisons end otherwise without the contaminated prompts; empty where none does."""
    said = (summary or {}).get("contamination")
    if not summary or not isinstance(said, Mapping):
        return ""
    models = {model["name"]: str(model["label"]) for model in summary["models"]}
    metrics = {metric["name"]: str(metric["label"]) for metric in summary["metrics"]}
    listed = [
        t(
            "contamination.change",
            metric=metrics.get(change["metric"], change["metric"]),
            model=models.get(change["model"], change["model"]),
            baseline=models.get(change.get("baseline"), "?"),
            change=_change(change),
        )
        for change in said.get("comparisons") or []
        if change.get("changed")
    ]
    return t("contamination.changes", changes=t("list.comma").join(listed)) if listed else ""


def _change(change: Mapping[str, Any]) -> str:
    before, after = (t(f"contamination.{change[k]}") for k in ("verdict_all", "verdict"))
    return t("contamination.changed", before=before, after=after)


def _cell(
    metric: Mapping[str, Any],
    scores: Mapping[tuple[str, str], Mapping[str, Any]],
    changes: Mapping[tuple[str, str], Mapping[str, Any]],
    model: str,
) -> CleanCell:
    score = scores.get((model, metric["name"]), {})
    values = [score.get(key) for key in ("clean", "low", "high", "all")]
    everywhere = [
        abs(other["clean"])
        for (_, name), other in scores.items()
        if name == metric["name"] and other.get("clean") is not None
    ]
    value, low, high, everything = _shown(values, metric, max(everywhere, default=0.0))
    interval = f"[{low}, {high}]" if low and high else ""
    change = changes.get((model, metric["name"]))
    changed = _change(change) if change is not None else ""
    before_text = t("contamination.all", value=everything) if everything else ""
    return CleanCell(value or "–", interval, before_text, changed)


def _shown(values: Sequence[Any], metric: Mapping[str, Any], scale: float) -> list[str]:
    """Numbers of one metric, with the decimals that `scale` asks for; "" where there is none."""
    unit = " %" if metric["format"] == "percent" else ""
    texts = ["" if v is None else plain_number(float(v), metric["format"], scale) for v in values]
    # Ends of intervals stand without the unit, as in the other tables.
    return [text + unit if text and at in (0, 3) else text for at, text in enumerate(texts)]
