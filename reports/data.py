"""Everything that the page shows of one run, gathered from the files of its stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espalier.errors import InputError
from espalier.reports.answer_table import AnswerTable
from espalier.reports.answers import read_answers, reading_summary
from espalier.reports.config import ReportConfig
from espalier.reports.contamination import Contamination, contamination_of
from espalier.reports.curves import STAGES, read_curves
from espalier.reports.funnel import composition, count_tables, read_funnel
from espalier.reports.manifests import read_recipe, read_stages, shown_path, unfinished
from espalier.reports.runfiles import read_object
from espalier.reports.strings import known, t
from espalier.reports.verdicts import Verdict, ordered_metrics, verdicts
from espalier.stages import NAMES

TRAINING_FILES = (
    "manifest.json", "metrics.jsonl", "samples.jsonl", "alarms.jsonl", "accuracy.json",
)  # fmt: skip
# The files that the page reads, by stage folder.
READ_FILES = {
    "curate": ("manifest.json", "funnel.json", "rejects.jsonl", "train.jsonl"),
    "pairs": ("manifest.json",),
    "evaluate": ("manifest.json", "summary.json", "scores.parquet"),
    **dict.fromkeys(
        STAGES, ("manifest.json", "metrics.jsonl", "samples.jsonl", "alarms.jsonl", "accuracy.json")
    ),
}


@dataclass(frozen=True)
class Notice:
    """A sentence that a reader has to see: `kind` is synthetic, note or warning."""

    kind: str
    text: str


@dataclass(frozen=True)
class RunData:
    """One run as the page shows it; a part whose stage has not run is None or empty."""

    name: str
    title: str
    summary: dict[str, Any] | None
    verdicts: list[Verdict]
    contamination: Contamination | None
    notices: list[Notice]
    answers: AnswerTable | None
    curves: list[dict[str, Any]]
    funnel: list[dict[str, Any]]
    counts: list[dict[str, Any]]
    stages: list[dict[str, Any]]
    recipe: str | None
    unfinished: list[str] = field(default_factory=list)


def source_files(run: Path) -> dict[str, Path]:
    """The files of the run that the page is made from and that exist, by `stage/file`."""
    found = {
        f"{stage}/{name}": run / stage / name
        for stage, names in READ_FILES.items()
        for name in names
        if (run / stage / name).is_file()
    }
    for path in sorted((run / "evaluate" / "answers").glob("*.jsonl")):
        found[f"evaluate/answers/{path.name}"] = path
    return found


def gather(run: Path, options: ReportConfig, *, answers: bool = True) -> RunData:
    """Read a run folder; raises InputError when it holds no result of any stage.

    Labels and sentences are in the language that speaks; `answers`, which are the same in
    every language and large, can be left out.
    """
    if not source_files(run):
        raise InputError(
            "There is nothing to report: no stage has left a result in this folder.",
            where=str(run),
            expected="a run folder with curate/, sft/, ppo/, evaluate/ …, or some of them",
            hint="run a stage first, e.g. espalier run recipes/demo.yaml",
        )
    summary = reading_summary(run / "evaluate")
    if summary is not None:
        summary["metrics"] = ordered_metrics(summary, options.headline)
    stages = read_stages(run)
    missing = unfinished(run)
    name = str((summary or {}).get("run") or run.resolve().name)
    manifest = read_object(run / "curate" / "manifest.json")
    return RunData(
        name=name,
        title=options.title or name,
        summary=summary,
        verdicts=verdicts(summary, options.headline) if summary else [],
        contamination=contamination_of(summary),
        notices=notices(run, summary, options, missing),
        answers=read_answers(run / "evaluate", summary or {}, options.answer_rows)
        if answers
        else None,
        curves=read_curves(run, options.curve_points, options.sample_prompts),
        funnel=read_funnel(run / "curate", options.rejects_per_rule),
        counts=count_tables(manifest) or composition(run / "curate" / "train.jsonl"),
        stages=stages,
        recipe=read_recipe(run),
        unfinished=missing,
    )


def notices(
    run: Path, summary: Mapping[str, Any] | None, options: ReportConfig, missing: list[str]
) -> list[Notice]:
    """Synthetic label, the notes of recipe, summary and manifests, then warnings; no repeats."""
    found: list[Notice] = []
    if summary is not None and summary.get("synthetic"):
        found.append(Notice("synthetic", t("notice.synthetic")))
    notes = [*options.notes, *_texts(summary, "notes")]
    warnings = _texts(summary, "warnings")
    for stage in READ_FILES:
        manifest = read_object(run / stage / "manifest.json")
        for holder in (manifest, (manifest or {}).get("counts")):
            notes.extend(_texts(holder, "notes"))
            warnings.extend(_texts(holder, "warnings"))
    found.extend(Notice("note", text) for text in notes)
    found.extend(Notice("warning", text) for text in warnings)
    codes = [_texts(read_object(run / stage / "manifest.json"), "own_code") for stage in NAMES]
    found.extend(own_code_notice([model for models in codes for model in models], run))
    if missing:
        names = t("list.comma").join(known(f"stage.{name}", name) for name in missing)
        found.append(Notice("warning", t("notice.unfinished", stages=names)))
    return list(dict.fromkeys(found))


def own_code_notice(models: Sequence[str], run: Path) -> list[Notice]:
    """What a reader has to know where models ran code of their own; nothing where none did."""
    if not models:
        return []
    shown = t("list.comma").join(dict.fromkeys(shown_path(model, run) for model in models))
    return [Notice("warning", t("notice.own_code", models=shown))]


def _texts(holder: Any, key: str) -> list[str]:
    value = holder.get(key) if isinstance(holder, Mapping) else None
    if isinstance(value, str):
        return [value]
    return [str(item) for item in value] if isinstance(value, list) else []
