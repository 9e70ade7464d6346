"""Everything that the page of a sweep shows, gathered from its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from espalier import sweep_file
from espalier.errors import EspalierError, InputError
from espalier.reports.config import ReportConfig
from espalier.reports.notice import Notice
from espalier.reports.runfiles import number, read_object
from espalier.reports.runs_curves import curves_of
from espalier.reports.runs_data import CONFIDENCE, RunFacts, RunsData, read_run
from espalier.reports.runs_effects import setting_means
from espalier.reports.runs_settings import Factor, Setting, Sweep
from espalier.reports.runs_targets import targets_of
from espalier.reports.strings import Language, language, t
from espalier.reports.sweep_effects import as_share
from espalier.reports.sweep_outcome import Measured, Outcome
from espalier.reports.sweep_question import (
    also_asked,
    explored,
    level_key,
    other_metrics,
    outcome_of,
    shown_level,
)
from espalier.reports.sweep_sentences import subject
from espalier.stages import NAMES as STAGES
from espalier.sweep_config import Answer
from espalier.sweep_file import VARIANT, Member, SweepFile


@dataclass(frozen=True)
class Sharing:
    """A stage, in how many members it is, how many times it was run, and seconds of both."""

    stage: str
    members: int
    ran: int
    seconds: float
    saved: float


@dataclass(frozen=True)
class SweepData:
    """A sweep; `members` are the finished ones, in the order of the runs of `data`.

    `left` are the others, `data` what the page of several runs shows of the finished ones, and
    `outcome` the answer in numbers, None where none was asked for or it can't be had; `problem`
    then says why. `also` are outcome and problem of the metrics that were asked for beside it.
    """

    folder: Path
    file: SweepFile
    members: tuple[Member, ...]
    left: tuple[Member, ...]
    data: RunsData
    answer: Answer | None
    outcome: Outcome | None
    problem: str
    also: tuple[tuple[Outcome | None, str], ...]
    others: tuple[Outcome, ...]
    sharing: tuple[Sharing, ...]
    notices: tuple[Notice, ...]

    @property
    def question(self) -> str:
        """The question in the language that speaks; empty where the sweep asks none."""
        return words_of(self.file.question, language())


def words_of(words: str | Mapping[str, str], spoken: Language) -> str:
    """A text of the recipe in this language, or else in the one that it has."""
    if isinstance(words, str):
        return words
    return words.get(spoken) or next(iter(words.values()), "")


def gather_sweep(folder: Path, options: ReportConfig, before: SweepData | None = None) -> SweepData:
    """Read a sweep's folder; `before` is the same in another language.

    A member that says it is done and left nothing that can be read is among those left. Raises
    InputError where `sweep.json` is missing or broken.
    """
    file = before.file if before else sweep_file.read_sweep(folder)
    members, runs, left = _finished(folder, file, options)
    sweep = sweep_of(file, members)
    curves = [run.curves for run in runs]
    targets = targets_of([run.summary for run in runs], curves)
    confidence = next((float(r.summary["confidence"]) for r in runs if r.summary), CONFIDENCE)
    measured = Measured(
        [run.folder for run in runs],
        [run.summary for run in runs],
        [member.seed for member in members],
        sweep,
        [factor.draw for factor in file.factors],
        confidence,
    )
    answer = _answer(file, folder)
    outcome, problem = None, ""
    also: list[tuple[Outcome | None, str]] = []
    others: list[Outcome] = []
    if answer is not None and members:
        told = before.outcome if before else None
        outcome, problem = outcome_of(answer, file, targets, curves, measured, told)
        earlier = before.also if before else ()
        also = also_asked(answer, file, targets, curves, measured, earlier)
        others = other_metrics(answer, targets, measured)
    data = RunsData(
        tuple(member.name for member in members),
        tuple(runs),
        [],
        sweep,
        targets,
        {
            target.name: [
                as_share(mean, target.metric)
                for mean in setting_means(sweep, target.plain(), confidence)
            ]
            for target in targets
        },
        {target.name: explored(target, answer, measured) for target in targets},
        [],
        curves_of(curves, sweep, options.curve_points),
        [],
        [],
        [],
        confidence,
    )
    return SweepData(
        folder,
        file,
        tuple(members),
        tuple(left),
        data,
        answer,
        outcome,
        problem,
        tuple(also),
        tuple(others),
        tuple(sharing(folder, file)),
        tuple(notices(runs, measured, outcome, left, [one for one, _ in also])),
    )


def _finished(
    folder: Path, file: SweepFile, options: ReportConfig
) -> tuple[list[Member], list[RunFacts], list[Member]]:
    members, runs, left = [], [], []
    for member in file.members:
        if member.status != "done":
            left.append(member)
            continue
        try:
            runs.append(read_run(sweep_file.member_folder(folder, member), options))
            members.append(member)
        except EspalierError as error:
            left.append(replace(member, status="failed", error=str(error)))
    return members, runs, left


def _answer(file: SweepFile, folder: Path) -> Answer | None:
    try:
        return None if file.answer is None else Answer.model_validate(file.answer)
    except ValidationError as error:
        raise InputError(
            "The sweep's section 'answer' can't be read.",
            where=str(folder / sweep_file.NAME),
            hint="the same `espalier sweep` command writes it anew",
        ) from error


def sweep_of(file: SweepFile, members: Sequence[Member]) -> Sweep:
    """The factors as the sweep named them, levels in its order; members of equal levels are one
    setting."""
    factors = tuple(_factor(factor, members) for factor in file.factors)
    settings: dict[tuple[int, ...], list[int]] = {}
    for run in range(len(members)):
        settings.setdefault(tuple(factor.place[run] for factor in factors), []).append(run)
    return Sweep(
        factors,
        tuple(Setting(tuple(runs), levels) for levels, runs in settings.items()),
        tuple((str(member.seed),) for member in members),
    )


def _factor(factor: sweep_file.Factor, members: Sequence[Member]) -> Factor:
    found = [level_key(member.settings.get(factor.key)) for member in members]
    levels = {level_key(level): level for level in factor.levels}
    for key, member in zip(found, members, strict=True):
        levels.setdefault(key, member.settings.get(factor.key))
    order = list(levels)
    values = list(levels.values())
    numbers = None
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        numbers = tuple(float(v) for v in values)
    label = t("sweep.variant") if factor.key == VARIANT else factor.label
    texts = tuple((shown_level(factor.key, value, drawn=factor.draw),) for value in values)
    return Factor((factor.key,), label, texts, tuple(order.index(key) for key in found), numbers)


def sharing(folder: Path, file: SweepFile) -> list[Sharing]:
    """Of each stage, in the order of the stages: members that have it, and folders that hold it.

    The seconds are those of the manifests; `saved` is what the same stages would have taken again.
    """
    found = []
    for stage in STAGES:
        places = [member.stages[stage] for member in file.members if stage in member.stages]
        shared = [place for place in places if place.startswith(sweep_file.SHARED + "/")]
        if not shared:
            continue
        seconds = {place: _seconds(folder / place) for place in dict.fromkeys(shared)}
        total = math.fsum(seconds.values())
        asked = math.fsum(seconds[place] for place in shared)
        found.append(Sharing(stage, len(shared), len(seconds), total, asked - total))
    return found


def _seconds(stage: Path) -> float:
    try:
        manifest = read_object(stage / "manifest.json") or {}
    except InputError:
        return 0.0
    return number(manifest.get("wall_seconds")) or 0.0


def notices(
    runs: Sequence[RunFacts],
    measured: Measured,
    outcome: Outcome | None,
    left: Sequence[Member],
    also: Sequence[Outcome | None] = (),
) -> list[Notice]:
    """What a reader has to know before any number, each once."""
    found = []
    if any(run.summary and run.summary.get("synthetic") for run in runs):
        found.append(Notice("synthetic", t("notice.synthetic")))
    failed = [member for member in left if member.status in ("failed", "skipped")]
    total = len(runs) + len(left)
    if failed:
        found.append(Notice("warning", t("sweep.failed", count=len(failed), total=total)))
    if len(left) > len(failed):
        found.append(Notice("note", t("sweep.waiting", count=len(left) - len(failed), total=total)))
    if outcome is not None and outcome.missing:
        names = _named(outcome.missing, runs)
        found.append(Notice("warning", t("sweep.missing", runs=names)))
    for one in also:
        if one is not None and one.missing:
            about = {"subject": subject(one), "runs": _named(one.missing, runs)}
            found.append(Notice("warning", t("sweep.missing_also", **about)))
    if outcome is not None and outcome.how == "mixed":
        found.append(Notice("warning", t("sweep.mixed")))
    if _other_sets(runs, measured):
        found.append(Notice("warning", t("sweep.other_set")))
    once = all(len(setting.runs) == 1 for setting in measured.sweep.settings)
    if outcome is not None and outcome.how in ("once", "prompts") and once:
        found.append(Notice("note", t("sweep.one_each")))
    return found


def _named(missing: Sequence[int], runs: Sequence[RunFacts]) -> str:
    names = t("list.comma").join(runs[run].folder.name for run in missing[:6])
    more = len(missing) - 6
    return names if more <= 0 else t("runs.and_more", names=names, count=more)


def _other_sets(runs: Sequence[RunFacts], measured: Measured) -> bool:
    """Whether runs of one seed were evaluated on different prompts."""
    found: dict[int, set[str]] = {}
    for run, seed in zip(runs, measured.seeds, strict=True):
        if run.summary:
            about = run.summary["set"]
            name = f"{about.get('sha256') or about.get('name')}/{about.get('rows')}"
            found.setdefault(seed, set()).add(name)
    return any(len(sets) > 1 for sets in found.values())
