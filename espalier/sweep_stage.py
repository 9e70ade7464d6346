"""One stage of one member: in a folder that all members share whose result it is as well.

    members/<member>/sft -> ../../shared/sft-<16 hex of its fingerprint>

The fingerprint (options, inputs by content, code) decides the result, so a member that comes to the
same fingerprint finds it done. Stores of answers lie in `journals/`, for all members.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from espalier.engines.base import EngineSpec
from espalier.errors import StageError
from espalier.files import exclusive
from espalier.recipe import Recipe
from espalier.run import Found, StageContext, execute, find
from espalier.running import context_of, runner_of
from espalier.stages import Stage
from espalier.sweep_file import JOURNALS, SHARED

# "busy": another process works on the same result; "failed": it failed for another member.
Result = Literal["done", "up to date", "busy", "failed"]


@dataclass(frozen=True)
class Brought:
    """What became of a stage: its folder below the sweep's ("" for one that is not shared)."""

    result: Result
    folder: str
    seconds: float


def bring(
    sweep: Path,
    member: Path,
    stage: Stage,
    recipe: Recipe,
    *,
    store: str = "",
    failed: Collection[str] = (),
    source: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = lambda folder: None,
) -> Brought:
    """Bring a member's stage up to date, or take the result that another member has made.

    `store` names what is kept apart from other workers' stores, `failed` the shared folders that
    are not tried again, `source` the hashes of the runner's source files; `tell` is called with
    the shared folder before anything is done there. Raises what the stage raises; it then stays
    unfinished in its shared folder, and the next call goes on.
    """
    context, runner = context_of(stage, recipe, member), runner_of(stage)
    started = time.monotonic()
    if stage.disposable:
        outcome = execute(context, runner)
        return Brought(outcome, "", time.monotonic() - started)
    with context.own_code():
        found = find(context, runner, source)
    name = shared_name(stage, found)
    shared = f"{SHARED}/{name}"
    if shared in failed:
        return Brought("failed", shared, 0.0)
    tell(shared)
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(sweep / ".locks" / f"{name}.lock", name))
        except StageError:
            return Brought("busy", shared, 0.0)
        folder = sweep / shared
        folder.mkdir(parents=True, exist_ok=True)
        for place in stage.stores:
            _link_store(sweep / JOURNALS / stage.name, folder / place, store)
        link(context.folder, folder)
        outcome = execute(context, runner, found=found)
    return Brought(outcome, shared, time.monotonic() - started)


def shared_name(stage: Stage, found: Found) -> str:
    """`sft-0123456789abcdef`: the stage and the start of its fingerprint's SHA-256."""
    text = json.dumps(found.fingerprint, sort_keys=True, separators=(",", ":"))
    return f"{stage.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def link(place: Path, target: Path) -> None:
    """Make `place` a relative link to `target`; an earlier link is replaced at once.

    Raises StageError where something else is in that place.
    """
    text = os.path.relpath(target, place.parent)
    if place.is_symlink() and os.readlink(place) == text:
        return
    if place.exists() and not place.is_symlink():
        raise StageError(
            "This folder is in the place of a sweep's link.",
            where=str(place),
            expected=f"nothing, or a link to {text}",
            hint="move it away; a sweep keeps the results of its stages in `shared/`",
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_name(f".tmp-{os.getpid()}-{place.name}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(text)
    fresh.replace(place)


def _link_store(journals: Path, place: Path, store: str) -> None:
    name = place.name.lstrip(".")
    target = journals / (f"{name}-{store}" if store else name)
    target.mkdir(parents=True, exist_ok=True)
    if place.is_symlink() or not place.exists():
        link(place, target)


# --- what is asked of engines ----------------------------------------------------------------


def asks_engines(context: StageContext, stage: Stage) -> bool:
    """Whether the stage may ask an engine whose answers are journaled."""
    shared = [getattr(context.shared, name) for name in stage.uses]
    return any(spec.engine != "offline" for spec in _specs([context.options, *shared]))


def _specs(value: Any) -> list[EngineSpec]:
    """The engines named in options, at any depth."""
    if isinstance(value, EngineSpec):
        return [value]
    if isinstance(value, BaseModel):
        return _specs([getattr(value, name) for name in type(value).model_fields])
    if isinstance(value, Mapping):
        return _specs(list(value.values()))
    if isinstance(value, list | tuple):
        return [spec for item in value for spec in _specs(item)]
    return []
