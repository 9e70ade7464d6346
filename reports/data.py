"""Everything that the page shows of one run, gathered from the files of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from espalier.errors import InputError
from espalier.reports.answer_table import AnswerTable
from espalier.reports.answers import read_answers, reading_summary
from espalier.reports.cautions import Caution, cautions
from espalier.reports.config import ReportConfig
from espalier.reports.contamination import Contamination, contamination_of
from espalier.reports.curves import STAGES, read_curves
from espalier.reports.data_gather import (
    DataPage,
    Sources,
    data_files,
    gather_data,
    has_data,
    retold,
)
from espalier.reports.data_rows import file_readers
from espalier.reports.manifests import read_recipe, read_stages, unfinished
from espalier.reports.notice import Notice, own_code_notice
from espalier.reports.retold import retell
from espalier.reports.runfiles import read_object
from espalier.reports.strings import known, t
from espalier.reports.told_warnings import told_warning
from espalier.reports.verdicts import Verdict, ordered_metrics, verdicts
from espalier.stages import NAMES

# The files that the page reads, by stage folder.
READ_FILES = {
    "curate": ("manifest.json",),
    "pairs": ("manifest.json",),
    "evaluate": ("manifest.json", "summary.json", "scores.parquet", "groups.jsonl"),
    **dict.fromkeys(
        STAGES, ("manifest.json", "metrics.jsonl", "samples.jsonl", "alarms.jsonl", "accuracy.json")
    ),
}


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
    dataset: DataPage | None
    stages: list[dict[str, Any]]
    recipe: str | None
    unfinished: list[str] = field(default_factory=list)
    cautions: list[Caution] = field(default_factory=list)


def source_files(run: Path) -> dict[str, Path]:
    """The files of the run that the page is made from and that exist, by `stage/file`."""
    found = {
        f"{stage}/{name}": run / stage / name
        for stage, names in READ_FILES.items()
        for name in names
        if (run / stage / name).is_file()
    }
    found |= data_files(data_sources(run))
    for path in sorted((run / "evaluate" / "answers").glob("*.jsonl")):
        found[f"evaluate/answers/{path.name}"] = path
    return found


def data_sources(run: Path) -> Sources:
    """Where the curated data of a run are."""
    return Sources(run / "curate", run / "pairs")


def gather(run: Path, options: ReportConfig, *, before: RunData | None = None) -> RunData:
    """Read a run folder; raises InputError when it holds no result of any stage.

    Labels and sentences are in the language that speaks. `before` is the same run in another
    language: its answers and rows, which are large and the same in both, are taken from it.
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
        ordered = ordered_metrics(summary, options.headline)
        summary["metrics"] = [told_metric(metric) for metric in ordered]
    stages = read_stages(run)
    missing = unfinished(run)
    name = str((summary or {}).get("run") or run.resolve().name)
    told = notices(run, summary, options, missing)
    return RunData(
        name=name,
        title=options.title or name,
        summary=summary,
        verdicts=verdicts(summary, options.headline) if summary else [],
        contamination=contamination_of(summary),
        notices=told,
        answers=before.answers
        if before
        else read_answers(run / "evaluate", summary or {}, options.answer_rows),
        curves=read_curves(run, options.curve_points, options.sample_prompts),
        dataset=dataset_of(run, options, before, told),
        stages=stages,
        recipe=read_recipe(run),
        unfinished=missing,
        cautions=cautions(summary, stages),
    )


def told_metric(metric: dict[str, Any]) -> dict[str, Any]:
    """The metric with its label and description in the language that speaks."""
    told = {key: retell(str(metric[key])) for key in ("label", "description")}
    return {**metric, **told}


def dataset_of(
    run: Path, options: ReportConfig, before: RunData | None, told: list[Notice]
) -> DataPage | None:
    """The curated data of the run, without the notices that stand at the top already (`told`)."""
    sources = data_sources(run)
    if not has_data(sources):
        return None
    if before is not None and before.dataset is not None:
        data = retold(before.dataset, sources)
    else:
        data = gather_data(
            sources,
            rejects_per_rule=options.rejects_per_rule,
            megabytes=options.data_megabytes,
            readers=file_readers(run, (*STAGES, "pairs", "evaluate")),
        )
    return replace(data, notices=[notice for notice in data.notices if notice not in told])


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
    found.extend(Notice("warning", told_warning(text, summary)) for text in warnings)
    codes = [_texts(read_object(run / stage / "manifest.json"), "own_code") for stage in NAMES]
    found.extend(own_code_notice([model for models in codes for model in models], run))
    if missing:
        names = t("list.comma").join(known(f"stage.{name}", name) for name in missing)
        found.append(Notice("warning", t("notice.unfinished", stages=names)))
    return list(dict.fromkeys(found))


def _texts(holder: Any, key: str) -> list[str]:
    value = holder.get(key) if isinstance(holder, Mapping) else None
    if isinstance(value, str):
        return [value]
    return [str(item) for item in value] if isinstance(value, list) else []
