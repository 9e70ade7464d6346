"""Running a sweep: members in any order, equal stages once, failures told, the rest goes on.

The command plans and keeps the books (`sweep.json`); worker processes do the stages, one at a
time each. A stage that another worker has under way is waited for, and then found done.
"""

from __future__ import annotations

import signal
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from espalier import launch
from espalier.errors import InputError
from espalier.files import atomic_write_text, read_json
from espalier.progress import say
from espalier.run import MANIFEST
from espalier.stages import NAMES
from espalier.sweep_file import (
    JOURNALS,
    MEMBERS,
    RECIPE,
    SHARED,
    Member,
    SweepFile,
    is_sweep,
    read_sweep,
    write_sweep,
)
from espalier.sweep_folder import alone, refuse_other_runs, tell_changes
from espalier.sweep_members import Plan, Planned
from espalier.sweep_plan import ALL, Step, steps_of
from espalier.sweep_pool import Pool, Reply, Workers
from espalier.sweep_progress import Board
from espalier.sweep_stage import link
from espalier.sweep_worker import LOG

# A second death on the same stage is no accident; the other members that need it fail with it.
DEATHS = 2
_POLL_SECONDS = 0.2
_BUSY_SECONDS = 0.5
# So much of the time that was worked is not counted, at most, where the command itself is killed.
_UNCOUNTED_SECONDS = 20.0


@dataclass(frozen=True)
class Ended:
    """How a sweep ended: its members, how often stages ran, and how often they were shared."""

    sweep: SweepFile
    ran: int
    shared: int

    @property
    def failed(self) -> list[Member]:
        return [member for member in self.sweep.members if member.status == "failed"]


def run_sweep(plan: Plan, folder: Path, *, processes: int = 1, hours: float | None = None) -> Ended:
    """Run all members of a sweep, or go on with them; see `docs/sweeps.md`.

    `hours`: after so many hours of work (over all workers and earlier calls) no further member is
    begun. Raises StageError where another process is at this sweep, UsageError where the folder
    holds something else. Members that fail are in the result.
    """
    launch.refuse_other_launchers()
    refuse_other_runs(folder)
    with alone(folder) as lock:
        board = Board(len(plan.members))
        pool = Pool(processes, lock)
        return Sweeping(plan, folder, pool, board, hours).run()


@dataclass
class _Track:
    """A member on its way: `at` is its next step, `slot` the worker that has it since `since`;
    `before` are the member's seconds up to then."""

    planned: Planned
    member: Member
    steps: Sequence[Step]
    recipe: str
    at: int = 0
    slot: int | None = None
    begun: bool = False
    not_before: float = 0.0
    since: float = 0.0
    before: float = 0.0
    folder: str = ""
    seconds: float = 0.0
    ran: list[str] = field(default_factory=list)
    took: list[str] = field(default_factory=list)

    @cached_property
    def resolved(self) -> str:
        return self.planned.recipe.resolved_yaml()

    @property
    def step(self) -> Step:
        return self.steps[self.at]

    @property
    def over(self) -> bool:
        return self.at >= len(self.steps) or self.member.status in ("failed", "skipped")


class Sweeping:
    """One call of a sweep."""

    def __init__(
        self, plan: Plan, folder: Path, workers: Workers, board: Board, hours: float | None = None
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.workers = workers
        self.board = board
        self.hours = hours
        self.tracks: list[_Track] = []
        self.sweep = SweepFile(plan.base.shared.name)
        # What failed, by shared folder: the member and the message.
        self.broken: dict[str, tuple[str, str]] = {}
        self.deaths: Counter[str] = Counter()
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self.made: set[str] = set()
        # Stages that ask an engine with a journal in one member at least.
        self.asking: set[str] = set()
        self.written = 0.0

    def run(self) -> Ended:
        """Until no member can go on; the workers are ended then, also by an interruption."""
        self._begin()
        try:
            while True:
                self._hand_out()
                if all(track.slot is None and track.over for track in self.tracks):
                    break
                for reply in self.workers.wait(_POLL_SECONDS):
                    self._take(reply)
                self.board.draw(self._state())
                if time.monotonic() - self.written >= _UNCOUNTED_SECONDS:
                    self._write()
        finally:
            self.board.clear()
            self.workers.stop()
            for track in self.tracks:
                if track.member.status == "running":
                    track.member.status = "waiting"
            self._write()
        ran = sum(len(track.ran) for track in self.tracks)
        return Ended(self.sweep, ran, sum(len(track.took) for track in self.tracks))

    # --- the beginning -----------------------------------------------------------------------

    def _begin(self) -> None:
        """Write the sweep's own files, and say what changed since the last call."""
        before = self._before()
        known = {member.name: member for member in before.members}
        tell_changes(self.folder, self.plan, known)
        for planned in self.plan.members:
            old = known.pop(planned.name, None)
            member = Member(planned.name, planned.settings, planned.seed)
            if old is not None:
                member.seconds = old.seconds
                member.stages = dict(old.stages)
            track = self._track(planned, member)
            if old is not None and old.status == "done" and self._as_before(track):
                member.status = "done"
            self.tracks.append(track)
            self.asking |= {step.stage for step in track.steps if step.store is not None}
        config = self.plan.config
        asked = config.question
        question = asked if isinstance(asked, str) else {str(k): text for k, text in asked.items()}
        self.sweep = SweepFile(
            recipe=self.plan.base.shared.name,
            question=question,
            answer=self.plan.answer,
            factors=self.plan.factors,
            members=[track.member for track in self.tracks],
            former_seconds=before.former_seconds + sum(old.seconds for old in known.values()),
        )
        (self.folder / SHARED).mkdir(parents=True, exist_ok=True)
        (self.folder / JOURNALS).mkdir(exist_ok=True)
        self._write()
        atomic_write_text(self.folder / RECIPE, self.plan.base.resolved_yaml())

    def _before(self) -> SweepFile:
        """What earlier calls left. A file that can't be read costs only the hours so far."""
        try:
            if is_sweep(self.folder):
                return read_sweep(self.folder)
        except InputError as error:
            say(f"{error.render()}\n  it is written anew; results are found by their fingerprints")
        return SweepFile(self.plan.base.shared.name)

    def _write(self) -> None:
        """Write `sweep.json`. What is under way counts up to now, since nobody may come to end it:
        the next call finds the hours right, whether this one is interrupted or killed."""
        self.written = time.monotonic()
        for track in self.tracks:
            if track.slot is not None:
                track.member.seconds = round(track.before + self.written - track.since, 2)
        write_sweep(self.folder, self.sweep)

    def _track(self, planned: Planned, member: Member) -> _Track:
        run = self.folder / MEMBERS / planned.name
        steps = steps_of(planned, run)
        names = {step.stage for step in steps}
        member.stages = {name: at for name, at in member.stages.items() if name in names}
        recipe = yaml.safe_dump(planned.draft.data, sort_keys=False, allow_unicode=True)
        return _Track(planned, member, steps, recipe)

    def _prepare(self, track: _Track) -> None:
        """The member's folder: its recipe, its journals, and no link that it has no use for."""
        run = self.folder / MEMBERS / track.member.name
        run.mkdir(parents=True, exist_ok=True)
        link(run / JOURNALS, self.folder / JOURNALS)
        names = {step.stage for step in track.steps}
        for name in NAMES:
            if name not in names and (run / name).is_symlink():
                (run / name).unlink()
        if not self._as_before(track):
            atomic_write_text(run / RECIPE, track.resolved)

    def _as_before(self, track: _Track) -> bool:
        """Whether the member's folder has the same recipe."""
        path = self.folder / MEMBERS / track.member.name / RECIPE
        return path.is_file() and path.read_text(encoding="utf-8") == track.resolved

    # --- handing out -------------------------------------------------------------------------

    def _hand_out(self) -> None:
        taken = {track.slot for track in self.tracks if track.slot is not None}
        for slot in range(self.workers.count):
            if slot in taken:
                continue
            track = self._next()
            if track is None:
                return
            self._send(track, slot)

    def _next(self) -> _Track | None:
        """The first member that can go on; members that are under way come first."""
        flying = [track.step for track in self.tracks if track.slot is not None]
        ids = {step.id for step in flying}
        stores = {step.store for step in flying}
        now = time.monotonic()
        for track in sorted(self.tracks, key=lambda one: not one.begun):
            if track.slot is not None or track.over or track.not_before > now:
                continue
            if track.step.id in ids or _held(track.step.store, stores):
                continue
            if not track.begun and track.member.status != "done" and self._used_up():
                track.member.status = "skipped"
                track.member.error = f"the {self.hours:g} hours of work are used up"
                continue
            return track
        return None

    def _used_up(self) -> bool:
        if self.hours is None:
            return False
        now = time.monotonic()
        spent = self.sweep.former_seconds + sum(
            track.member.seconds if track.slot is None else track.before + now - track.since
            for track in self.tracks
        )
        return spent >= self.hours * 3600

    def _send(self, track: _Track, slot: int) -> None:
        if not track.begun:
            self._prepare(track)
        track.begun, track.slot, track.since, track.folder = True, slot, time.monotonic(), ""
        track.before = track.member.seconds
        track.member.stage = track.step.stage
        if track.member.status != "done":
            track.member.status = "running"
        self._write()
        # What no budget and no price stands in the way of is kept by each worker for itself.
        shared = track.step.store is not None or (slot == 0 and track.step.stage not in self.asking)
        self.workers.send(
            slot,
            {
                "sweep": str(self.folder),
                "member": track.member.name,
                "stage": track.step.stage,
                "recipe": track.recipe,
                "store": "" if shared else str(slot),
                "failed": list(self.broken),
            },
        )

    # --- what came of it ---------------------------------------------------------------------

    def _take(self, reply: Reply) -> None:
        track = next((one for one in self.tracks if one.slot == reply.slot), None)
        if track is None:
            return
        said = reply.said
        if "at" in said:
            track.folder = str(said["at"])
            return
        track.slot, track.member.seconds = None, track.before
        if reply.died is not None:
            self.deaths[track.folder] += 1
            self._fail(track, _death(reply.died), lasting=self.deaths[track.folder] >= DEATHS)
        elif "error" in said:
            self._fail(track, str(said["error"]), lasting=True)
        elif said["result"] == "busy":
            track.not_before = time.monotonic() + _BUSY_SECONDS
        elif said["result"] == "failed":
            member, message = self.broken[said["folder"]]
            self._fail(track, f"failed for {member} already: {message}")
        else:
            self._go_on(track, said)
        if track.over:
            self._write()

    def _go_on(self, track: _Track, said: Mapping[str, Any]) -> None:
        step, member = track.step, track.member
        if said["result"] == "done":
            track.ran.append(step.stage)
            member.seconds = round(member.seconds + said["seconds"], 2)
            track.seconds += said["seconds"]
            member.status = "running"
            self.seconds[step.stage].append(said["seconds"])
        elif not step.disposable:
            track.took.append(step.stage)
            if step.stage not in self.seconds:
                self.seconds[step.stage].append(self._took_once(str(said["folder"])))
        self.made.add(step.id)
        if said["folder"]:
            member.stages[step.stage] = said["folder"]
        track.at += 1
        if track.over:
            member.status, member.stage = "done", None
            self.board.finished(member, track.seconds, track.ran, track.took)

    def _took_once(self, folder: str) -> float:
        """The seconds that a stage took when it was made."""
        manifest = self.folder / folder / MANIFEST
        return float(read_json(manifest)["wall_seconds"]) if manifest.is_file() else 0.0

    def _fail(self, track: _Track, message: str, *, lasting: bool = False) -> None:
        member = track.member
        member.seconds = round(member.seconds + time.monotonic() - track.since, 2)
        member.status, member.error = "failed", message
        if lasting and track.folder:
            self.broken.setdefault(track.folder, (member.name, message))
        log = self.folder / MEMBERS / member.name / LOG
        self.board.failed(member, log)

    # --- telling -----------------------------------------------------------------------------

    def _state(self) -> tuple[list[str], float | None]:
        """What is under way, and the seconds that the rest may take (None: not known yet)."""
        now = time.monotonic()
        under_way = [track for track in self.tracks if track.slot is not None]
        told = [f"{t.member.name}: {t.step.stage} {now - t.since:.0f} s" for t in under_way]
        left: dict[str, str] = {}
        for track in self.tracks:
            if not track.over and track.member.status != "done":
                left |= {s.id: s.stage for s in track.steps[track.at :] if s.id not in self.made}
        if any(stage not in self.seconds for stage in left.values()):
            return told, None
        means = {stage: sum(all_) / len(all_) for stage, all_ in self.seconds.items()}
        rest = sum(means[stage] for stage in left.values())
        rest -= sum(min(now - t.since, means.get(t.step.stage, 0.0)) for t in under_way)
        return told, max(0.0, rest) / self.workers.count


def _held(store: str | None, others: set[str | None]) -> bool:
    """Whether a store is among those in use; that of a budget (`ALL`) is every store."""
    used = others - {None}
    return store is not None and (store in used or ALL in used or (store == ALL and bool(used)))


def _death(code: int) -> str:
    if code < 0:
        known = {one.value for one in signal.Signals}
        name = signal.Signals(-code).name if -code in known else f"signal {-code}"
        return f"The worker process was killed ({name}); look for a lack of memory."
    return f"The worker process ended by itself (exit code {code})."
