"""A run folder and its stages: fingerprint, lock, resume, manifest written last.

`execute` is the one way a stage is run: it skips a stage whose fingerprint is unchanged, sets
aside what a changed one left, resumes an unfinished one, and writes `manifest.json` last.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

import espalier
from espalier import launch, own_code, provenance
from espalier.disk import room
from espalier.engines.base import EngineSpec
from espalier.files import (
    atomic_path,
    atomic_write_json,
    atomic_write_text,
    exclusive,
    hash_path,
    read_json,
)
from espalier.prices import Budget
from espalier.progress import duration, say
from espalier.stages import NAMES as STAGE_NAMES

__all__ = [
    "Shared",
    "StageContext",
    "StageRunner",
    "atomic_path",
    "atomic_write_json",
    "atomic_write_text",
    "execute",
    "planned_outcome",
    "read_json",
]

MANIFEST = "manifest.json"
STATE = "state.json"
# Stores keyed by content: they serve a changed stage as well, so they are carried over.
KEPT_STORES = ("journal", "answers")


class Shared(BaseModel):
    """What all stages of a recipe know."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field("run", description="Name of the run; its folder below `runs/`.")
    seed: int = Field(1, description="Seed of everything random, unless a stage sets its own.")
    data: str | None = Field(
        None, description="Root of local data; `${data}` in a path stands for it."
    )
    teacher: EngineSpec = Field(
        default_factory=EngineSpec, description="The engine that writes data."
    )
    judge: EngineSpec = Field(
        default_factory=EngineSpec, description="The engine that compares answers."
    )
    budget: Budget | None = Field(
        None, description="Limit of what the run may spend on generation; null: none."
    )
    trust_remote_code: list[str] = Field(
        default_factory=list,
        description="Models whose own code may be run when they are loaded, each by its name: a "
        "hub name, a folder or a stage, as it is written where the model is used.",
    )

    @field_validator("trust_remote_code", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if isinstance(value, bool | str):
            raise ValueError(
                "name the models whose own code may be run, as a list such as [owner/name]; it "
                "can't be switched on for all"
            )
        for name in value if isinstance(value, list) else ():
            if not isinstance(name, str) or not name.strip() or "*" in name:
                raise ValueError(f"{name!r} names no model; each is named by itself, in full")
        return value


@dataclass(frozen=True)
class StageContext:
    """What a stage's runner is given.

    `run` is the run folder, `folder` this stage's own folder below it, `options` the validated
    section of the recipe, `shared` what all stages know.
    """

    stage: str
    run: Path
    folder: Path
    options: Any
    shared: Shared

    def stage_folder(self, name: str) -> Path:
        """The folder of another stage of this run."""
        return self.run / name

    def path(self, text: str) -> Path:
        """A path as written in a recipe: `${data}/…`, `<stage>/…` of this run, or any other."""
        if "${data}" in text:
            text = text.replace("${data}", self.shared.data or ".")
        path = Path(text).expanduser()
        if not path.is_absolute() and path.parts and path.parts[0] in STAGE_NAMES:
            return self.run / path
        return path

    def own_code(self) -> AbstractContextManager[own_code.Allowed]:
        """While active, the models that the recipe names may run code that comes with them."""
        return own_code.allowing(self.shared.trust_remote_code, self.path)


@dataclass(frozen=True)
class StageRunner:
    """A stage's two functions (see `espalier.stages`) and the module they come from.

    `uses` names the fields of `Shared` that its result depends on, `ignores` the fields of its
    options that are another stage's section. A `disposable` result is cheap to make again and is
    overwritten when the stage changed, not set aside. A `parallel` stage can run on several
    processes.
    """

    module: str
    uses: tuple[str, ...]
    inputs: Callable[[StageContext], Mapping[str, Path]]
    run: Callable[[StageContext], Mapping[str, Any]]
    ignores: tuple[str, ...] = ()
    disposable: bool = False
    parallel: bool = False


Outcome = Literal["done", "up to date"]


@dataclass(frozen=True)
class Found:
    """What a stage's result depends on, as it is now: its input files, and its fingerprint."""

    inputs: dict[str, Path]
    fingerprint: dict[str, Any]


def find(
    context: StageContext, runner: StageRunner, source: Mapping[str, str] | None = None
) -> Found:
    """The stage's inputs and fingerprint; raises InputError for an input that does not exist.

    `source` are the hashes of the runner's source files, where the caller has them already.
    """
    inputs = dict(runner.inputs(context))
    return Found(inputs, _fingerprint(context, runner, inputs, source))


def execute(
    context: StageContext, runner: StageRunner, *, processes: int = 1, found: Found | None = None
) -> Outcome:
    """Bring one stage up to date; prints one line about what was done.

    The number of processes is no part of the fingerprint: it changes a result by rounding only.
    `found` is what `find` has just given, where the caller asked before.
    Raises what the runner raises; the stage then stays unfinished and the next call goes on.
    """
    lock = context.run / ".locks" / f"{context.folder.name}.lock"
    held_by = f"the stage '{context.stage}' of {context.run}"
    with exclusive(lock, held_by) as held, context.own_code() as allowed:
        found = found or find(context, runner)
        inputs, fingerprint = found.inputs, found.fingerprint
        manifest = _read(context.folder / MANIFEST)
        if manifest is not None and _unchanged(context.folder, manifest, fingerprint):
            say(f"{context.stage}: up to date")
            return "up to date"
        resumed = _prepare(context, manifest, fingerprint, runner.disposable)
        started = time.monotonic()
        say(f"{context.stage}: {'resuming' if resumed else 'running'} …")
        if processes > 1 and runner.parallel:
            counts = launch.run(runner.module, context, processes, lock=held)
        else:
            with room(context.folder, f"A file of the stage '{context.stage}'"):
                counts = dict(runner.run(context))
        allowed.used.update(counts.pop("own_code", ()))
        _write_manifest(context, runner, inputs, fingerprint, counts, started)
        say(f"{context.stage}: done in {duration(time.monotonic() - started)}")
        return "done"


def planned_outcome(context: StageContext, runner: StageRunner) -> str:
    """What `execute` would do, in words, without doing it."""
    fingerprint = find(context, runner).fingerprint
    manifest = _read(context.folder / MANIFEST)
    if manifest is not None and _unchanged(context.folder, manifest, fingerprint):
        return "up to date"
    before = _read(context.folder / STATE) or manifest
    if before is None:
        return "to run"
    differences = changes(before.get("fingerprint", {}), fingerprint)
    if not differences:
        if manifest is None:
            return "to resume"
        if manifest.get("failed"):
            return f"to run again ({manifest['failed']:,} requests failed)"
        return "to run again (outputs are missing)"
    return "to run again, changed: " + "; ".join(differences)


def decisive(context: StageContext, runner: StageRunner) -> dict[str, Any]:
    """The part of a stage's fingerprint that the recipe says, as JSON values."""
    return {
        "options": _decisive(
            context.options, set(type(context.options).model_fields) - set(runner.ignores)
        ),
        "shared": _decisive(context.shared, set(runner.uses)),
    }


def _fingerprint(
    context: StageContext,
    runner: StageRunner,
    inputs: Mapping[str, Path],
    source: Mapping[str, str] | None,
) -> dict[str, Any]:
    value = {
        **decisive(context, runner),
        "inputs": {name: hash_path(path) for name, path in sorted(inputs.items())},
        "source": source or provenance.source_hashes(runner.module),
    }
    result: dict[str, Any] = json.loads(json.dumps(value))
    return result


def _decisive(value: Any, names: set[str] | None = None) -> Any:
    """Options as JSON, without what can't change a result (an engine's address, its rate)."""
    if isinstance(value, EngineSpec):
        return value.model_dump(mode="json", exclude=set(EngineSpec.OPERATIONAL))
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {n: _decisive(getattr(value, n)) for n in fields if names is None or n in names}
    if isinstance(value, Mapping):
        return {str(key): _decisive(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_decisive(item) for item in value]
    return value


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    value = read_json(path)
    return value if isinstance(value, dict) else None


def _unchanged(folder: Path, manifest: dict[str, Any], fingerprint: dict[str, Any]) -> bool:
    if manifest.get("fingerprint") != fingerprint or manifest.get("failed"):
        return False
    outputs = manifest.get("outputs", {})
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == size
        for name, size in outputs.items()
    )


def _prepare(
    context: StageContext,
    manifest: dict[str, Any] | None,
    fingerprint: dict[str, Any],
    disposable: bool,
) -> bool:
    """Make the folder ready; returns whether unfinished work of the same stage goes on."""
    folder = context.folder
    before = _read(folder / STATE) or manifest
    if before is not None:
        old = before.get("fingerprint", {})
        if old == fingerprint:
            if manifest is not None:
                failed = manifest.get("failed")
                why = "outputs are missing or were altered; done again"
                if failed:
                    why = f"{failed:,} requests failed; they are asked for once more"
                say(f"{context.stage}: {why}")
                (folder / MANIFEST).unlink()
            else:
                return True
        else:
            for line in changes(old, fingerprint):
                say(f"{context.stage}: changed: {line}")
            if not disposable and _holds_results(folder):
                _set_aside(context)
            elif disposable:
                shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_json(folder / STATE, {"stage": context.stage, "fingerprint": fingerprint})
    return False


def changes(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line a difference between two fingerprints, at most ten; changed code is one line."""
    lines: list[str] = []
    for key in sorted({*old, *new}):
        before, now = old.get(key), new.get(key)
        if before == now:
            continue
        if key == "source" and not prefix:
            lines.append(_code_change(before or {}, now or {}))
        elif isinstance(before, Mapping) and isinstance(now, Mapping):
            lines.extend(changes(before, now, f"{prefix}{key}."))
        elif prefix == "inputs.":
            state = "has other content"
            if before is None or now is None:
                state = "is new" if before is None else "is gone"
            lines.append(f"{prefix}{key} {state}")
        else:
            lines.append(f"{prefix}{key}: {_short(before)} → {_short(now)}")
    return lines[:10]


def _code_change(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    names = sorted(n for n in {*before, *now} if before.get(n) != now.get(n))
    shown = ", ".join(name.removeprefix("espalier.") for name in names[:3])
    return f"code: {shown}" + (f" and {len(names) - 3} more modules" if len(names) > 3 else "")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def _holds_results(folder: Path) -> bool:
    """Whether a stage got as far as to leave more than its state and its stores."""
    return any(item.name not in (STATE, *KEPT_STORES) for item in folder.iterdir())


def _set_aside(context: StageContext) -> None:
    """Move a changed stage's files to `superseded/`; content-keyed stores stay in use."""
    stem = f"{context.folder.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    target = context.run / "superseded" / stem
    number = 1
    while target.exists():
        number += 1
        target = target.with_name(f"{stem}-{number}")
    target.parent.mkdir(parents=True, exist_ok=True)
    context.folder.rename(target)
    context.folder.mkdir(parents=True)
    for name in KEPT_STORES:
        if (target / name).exists():
            (target / name).rename(context.folder / name)
    say(f"{context.stage}: the earlier result is kept in {target}")


def _write_manifest(
    context: StageContext,
    runner: StageRunner,
    inputs: Mapping[str, Path],
    fingerprint: dict[str, Any],
    counts: dict[str, Any],
    started: float,
) -> None:
    folder = context.folder
    outputs = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (MANIFEST, STATE) and not _transient(path, folder)
    }
    # A result outside the stage's folder (the report's page) is named by the runner.
    for path in counts.pop("outputs", ()):
        outputs[os.path.relpath(path, folder)] = Path(path).stat().st_size
    spending = counts.pop("spending", [])
    failed = counts.pop("failed", 0)
    # That of worker processes knows of their GPUs and threads.
    hardware = counts.pop("hardware", None) or provenance.hardware()
    manifest = {
        "stage": context.stage,
        "status": "done",
        "espalier": espalier.__version__,
        "finished": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "wall_seconds": round(time.monotonic() - started, 2),
        "counts": counts,
        # Requests that the next call asks for once more; it is then not up to date.
        "failed": failed,
        "spending": spending,
        "seed": context.shared.seed,
        "inputs": {
            name: {"path": str(path), "sha256": fingerprint["inputs"][name]}
            for name, path in sorted(inputs.items())
        },
        "outputs": outputs,
        "fingerprint": fingerprint,
        "runner": runner.module,
        "packages": provenance.package_versions(),
        "git": provenance.git_revision(),
        "hardware": hardware,
        "own_code": own_code.used(),
    }
    atomic_write_json(folder / MANIFEST, manifest)
    (folder / STATE).unlink(missing_ok=True)


def _transient(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    return parts[0] in (*KEPT_STORES, "checkpoints", "tensorboard") or any(
        part.startswith(".") for part in parts
    )
