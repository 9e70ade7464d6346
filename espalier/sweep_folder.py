"""A sweep's folder: whose it is, what changed in its definition, and what in it is not used."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from espalier import plain_yaml
from espalier.errors import StageError, UsageError
from espalier.files import exclusive
from espalier.progress import say
from espalier.run import changes
from espalier.stages import NAMES
from espalier.sweep_file import RECIPE, SHARED, Member, SweepFile, is_sweep, member_folder
from espalier.sweep_members import Plan

_POLL_SECONDS = 0.2
# How long the workers of a command that was killed may take to follow it.
_FOLLOW_SECONDS = 15.0


def refuse_other_runs(folder: Path) -> None:
    """Raise UsageError for the folder of a run that is no sweep."""
    held = [name for name in (RECIPE, *NAMES) if (folder / name).exists()]
    if held and not is_sweep(folder):
        raise UsageError(
            "This folder holds a run that is no sweep.",
            where=f"{folder} ({held[0]})",
            hint="--run NAME puts the sweep into another folder",
        )


@contextmanager
def alone(folder: Path) -> Iterator[int]:
    """Hold the sweep's lock. The workers of a command that was killed are waited for."""
    path = folder / ".locks" / "sweep.lock"
    deadline = time.monotonic() + _FOLLOW_SECONDS
    with ExitStack() as held:
        while True:
            try:
                descriptor = held.enter_context(exclusive(path, f"the sweep in {folder}"))
                break
            except StageError:
                if _alive(path) or time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)
        yield descriptor


def _alive(lock: Path) -> bool:
    """Whether the process that wrote its number into the lock file runs."""
    try:
        os.kill(int(lock.read_text(encoding="utf-8")), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def tell_changes(folder: Path, plan: Plan, known: Mapping[str, Member]) -> None:
    """Say in what the definition differs from that of the last call (`known`: its members)."""
    if not known:
        return
    recipe = folder / RECIPE
    if recipe.is_file():
        old = plain_yaml.load(recipe.read_text(encoding="utf-8"))
        new = plain_yaml.load(plan.base.resolved_yaml())
        for line in changes(old, new):
            say(f"changed: {line}")
    names = {member.name for member in plan.members}
    gone = [name for name in known if name not in names]
    fresh = len(names) - (len(known) - len(gone))
    if gone or fresh:
        say(
            f"{len(names)} members: {fresh} new, {len(names) - fresh} as before"
            + (f"; {len(gone)} no longer belong to it (their folders stay)" if gone else "")
        )


def unused(folder: Path, sweep: SweepFile) -> list[str]:
    """Shared folders that no member has a link to (of an earlier definition, or of changed code).

    A stage that failed is not among them: the next call goes on from what is there.
    """
    runs = [member_folder(folder, member) for member in sweep.members]
    links = [path for run in runs if run.is_dir() for path in run.iterdir() if path.is_symlink()]
    used = {os.readlink(path) for path in links}
    shared = folder / SHARED
    made = sorted(path.name for path in shared.iterdir()) if shared.is_dir() else []
    return [f"{SHARED}/{name}" for name in made if f"../../{SHARED}/{name}" not in used]
