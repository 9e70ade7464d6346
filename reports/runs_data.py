"""Everything that the page about several runs shows, gathered from their folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espalier.errors import InputError
from espalier.reports.answers import reading_summary
from espalier.reports.config import ReportConfig
from espalier.reports.curves import read_curves
from espalier.reports.manifests import read_stages, unfinished
from espalier.reports.notice import Notice
from espalier.reports.retold import retell
from espalier.reports.runfiles import number
from espalier.reports.runs_curves import curves_of
from espalier.reports.runs_effects import Effect, effects, setting_means
from espalier.reports.runs_paired import MOST_RUNS, compare_runs
from espalier.reports.runs_recipes import Change, changes, read_options
from espalier.reports.runs_rows import read_rows
from espalier.reports.runs_sentences import sentences
from espalier.reports.runs_settings import Sweep, sweep_of
from espalier.reports.runs_targets import Target, targets_of
from espalier.reports.strings import t
from espalier.reports.student import Mean
from espalier.reports.verdicts import Verdict, ordered_metrics

CONFIDENCE = 0.95
# So many points a curve are as good as all: they are thinned when they are drawn together.
ALL_POINTS = 1_000_000


@dataclass(frozen=True)
class RunFacts:
    """What one run has of its own: curves are whole, not thinned."""

    folder: Path
    summary: dict[str, Any] | None
    stages: list[dict[str, Any]]
    curves: list[dict[str, Any]]
    unfinished: list[str]
    has_recipe: bool


@dataclass(frozen=True)
class RunsData:
    """Several runs, in the order in which they were named; `labels` are their short names."""

    labels: tuple[str, ...]
    runs: tuple[RunFacts, ...]
    changes: list[Change]
    sweep: Sweep
    targets: list[Target]
    means: dict[str, list[Mean | None]]
    effects: dict[str, list[Effect]]
    comparisons: list[dict[str, Any]]
    curves: list[dict[str, Any]]
    verdicts: list[tuple[str, Verdict]]
    best: list[tuple[str, str]]
    notices: list[Notice]
    confidence: float

    @property
    def title(self) -> str:
        """`a, b` or `a, b and 3 more`."""
        if len(self.labels) <= 3:
            return t("list.comma").join(self.labels)
        names = t("list.comma").join(self.labels[:2])
        return t("runs.and_more", names=names, count=len(self.labels) - 2)

    @property
    def told(self) -> list[str]:
        """The sentences at the top of the page."""
        pairs = [
            t("runs.of_model", model=model) + verdict.sentence for model, verdict in self.verdicts
        ]
        return [*(sentence for _, sentence in self.best), *pairs]


def gather_runs(
    folders: Sequence[Path], options: ReportConfig, before: RunsData | None = None
) -> RunsData:
    """Read the run folders; raises InputError where one holds no result of any stage.

    Labels and sentences are in the language that speaks. `before` are the same runs in another
    language: what is compared over rows is taken from it.
    """
    runs = [read_run(folder, options) for folder in folders]
    labels = run_labels(folders)
    found = changes([read_options(folder) for folder in folders], folders)
    sweep = sweep_of(found, len(folders))
    curves = [run.curves for run in runs]
    targets = targets_of([run.summary for run in runs], curves)
    confidence = _confidence(runs)
    means = {target.name: setting_means(sweep, target.plain(), confidence) for target in targets}
    changed = {target.name: effects(sweep, target.plain(), confidence) for target in targets}
    if before is None:
        rows = [read_rows(folder) for folder in folders]
        compared = compare_runs(targets, rows, confidence, folders)
    else:
        compared = before.comparisons
    pairs, best = sentences(labels, sweep, targets, means, compared, options.headline)
    return RunsData(
        tuple(labels),
        tuple(runs),
        found,
        sweep,
        targets,
        means,
        changed,
        compared,
        curves_of(curves, sweep, options.curve_points),
        pairs,
        best,
        [*notices(runs, labels, sweep, found), *unpaired(runs, labels, compared)],
        confidence,
    )


def read_run(folder: Path, options: ReportConfig) -> RunFacts:
    """The results of one run; raises InputError where it has none."""
    summary = reading_summary(folder / "evaluate")
    if summary is not None:
        summary["metrics"] = [
            {**metric, **{key: retell(str(metric[key])) for key in ("label", "description")}}
            for metric in ordered_metrics(summary, options.headline)
        ]
    facts = RunFacts(
        folder,
        summary,
        read_stages(folder),
        read_curves(folder, ALL_POINTS, 0),
        unfinished(folder),
        (folder / "recipe.resolved.yaml").is_file(),
    )
    if not (facts.summary or facts.stages or facts.curves):
        raise InputError(
            "There is nothing to compare: no stage has left a result in this folder.",
            where=str(folder),
            expected="run folders with sft/, ppo/, evaluate/ …, or some of them",
            hint="leave this folder out, or run its stages first",
        )
    return facts


def _confidence(runs: Sequence[RunFacts]) -> float:
    levels = [run.summary["confidence"] for run in runs if run.summary]
    return float(levels[0]) if levels else CONFIDENCE


def run_labels(folders: Sequence[Path]) -> list[str]:
    """The name of each folder, with as many of its parents as tell it from the others."""
    parts = [folder.resolve().parts for folder in folders]
    found = []
    for place, own in enumerate(parts):
        others = [other for i, other in enumerate(parts) if i != place]
        count = next(
            (n for n in range(1, len(own) + 1) if all(o[-n:] != own[-n:] for o in others)),
            len(own),
        )
        found.append("/".join(own[-count:]).replace("//", "/"))
    return found


def notices(
    runs: Sequence[RunFacts], labels: Sequence[str], sweep: Sweep, found: Sequence[Change]
) -> list[Notice]:
    """What makes runs hard to compare, each once."""
    result = []
    summaries = [run.summary for run in runs if run.summary]
    if any(summary.get("synthetic") for summary in summaries):
        result.append(Notice("synthetic", t("notice.synthetic")))
    if not all(run.has_recipe for run in runs):
        names = [label for label, run in zip(labels, runs, strict=True) if not run.has_recipe]
        result.append(Notice("warning", t("runs.no_recipe", runs=t("list.comma").join(names))))
    if len({_set(summary) for summary in summaries}) > 1:
        result.append(Notice("warning", t("runs.other_set")))
    for label in _mixed(summaries):
        result.append(Notice("warning", t("runs.mixed", metric=label)))
    if not found:
        result.append(Notice("note", t("runs.same_recipe")))
    elif len(_versions(runs)) > 1:
        versions = t("list.comma").join(_versions(runs))
        result.append(Notice("warning", t("runs.versions", versions=versions)))
    twins = [
        setting
        for setting in sweep.settings
        if len({sweep.seeds[run] for run in setting.runs}) < len(setting.runs)
    ]
    if found and twins:
        result.append(Notice("warning", t("runs.twins")))
    if len(sweep.settings) > 1 and all(len(setting.runs) == 1 for setting in sweep.settings):
        result.append(Notice("note", t("runs.one_each")))
    if any(run.unfinished for run in runs):
        names = [label for label, run in zip(labels, runs, strict=True) if run.unfinished]
        result.append(Notice("warning", t("runs.unfinished", runs=t("list.comma").join(names))))
    return result


def unpaired(
    runs: Sequence[RunFacts], labels: Sequence[str], compared: Sequence[Mapping[str, Any]]
) -> list[Notice]:
    """Pairs of runs that have scores of the same models, and no prompts to compare them on."""
    known = {(one["reference"], one["run"]) for one in compared}
    found = []
    for reference in range(len(runs)) if len(runs) <= MOST_RUNS else (0,):
        for run in range(reference + 1, len(runs)):
            mutual = _tested(runs[reference].summary) & _tested(runs[run].summary)
            if mutual and (reference, run) not in known:
                text = t("runs.no_common", first=labels[reference], second=labels[run])
                found.append(Notice("warning", text))
    return found


def _tested(summary: Mapping[str, Any] | None) -> set[tuple[str, str, str]]:
    """Model, metric and signature of every score that has a better and a worse."""
    if summary is None:
        return set()
    signatures = {m["name"]: m["signature"] for m in summary["metrics"] if m["tested"]}
    return {
        (score["model"], score["metric"], signatures[score["metric"]])
        for score in summary["scores"]
        if score["metric"] in signatures and number(score.get("value")) is not None
    }


def _set(summary: Mapping[str, Any]) -> tuple[Any, ...]:
    about = summary["set"]
    return (about.get("sha256") or about.get("name"), about.get("rows"))


def _mixed(summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Labels of the metrics that were measured in different ways."""
    found: dict[str, set[str]] = {}
    labels: dict[str, str] = {}
    for summary in summaries:
        for metric in summary["metrics"]:
            found.setdefault(metric["name"], set()).add(metric["signature"])
            labels.setdefault(metric["name"], metric["label"])
    return [labels[name] for name, signatures in found.items() if len(signatures) > 1]


def _versions(runs: Sequence[RunFacts]) -> list[str]:
    """The source revisions (or versions) that the runs were made with."""
    found = [
        str(stage["git"] or stage["version"])[:12]
        for run in runs
        for stage in run.stages
        if stage["git"] or stage["version"]
    ]
    return list(dict.fromkeys(found))
