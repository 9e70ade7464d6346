"""Checkpoints that survive a kill at any moment: complete or not there.

A checkpoint is written into a folder with a temporary name; `complete.json` comes last, then the
folder is renamed. What a kill leaves half-written never has the final name and is removed by the
next run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espalier.disk import room

MARKER = "complete.json"
KEPT = 2
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint: where, after which step, and what its writer noted."""

    path: Path
    step: int
    info: dict[str, Any]


def complete(folder: Path) -> list[Checkpoint]:
    """All complete checkpoints below `folder`, oldest first."""
    found = []
    for path in folder.glob("checkpoint-*"):
        match = _NAME.fullmatch(path.name)
        marker = path / MARKER
        if match and marker.is_file():
            found.append(Checkpoint(path, int(match[1]), json.loads(marker.read_text("utf-8"))))
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def latest(folder: Path) -> Checkpoint | None:
    """The newest complete checkpoint; unfinished ones are removed."""
    if not folder.is_dir():
        return None
    for path in folder.iterdir():
        unfinished = path.name.startswith(".tmp-")
        if unfinished or (_NAME.fullmatch(path.name) and not (path / MARKER).is_file()):
            # Every process of a training comes here; another one may be quicker.
            shutil.rmtree(path, ignore_errors=True)
    found = complete(folder)
    return found[-1] if found else None


def unfinished(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is written before it is complete."""
    return folder / f".tmp-{step}"


@contextmanager
def writing(folder: Path, step: int, info: Mapping[str, Any]) -> Iterator[Path]:
    """Yield an empty folder to write a checkpoint into; it gets its name when the block ends.

    Afterwards the newest `KEPT` checkpoints stay. `info` must be JSON; `latest` gives it back.
    Raises StageError where the disk is full; the checkpoints before this one stay as they are.
    """
    with room(folder, f"The checkpoint after step {step:,}", unfinished(folder, step)):
        temporary = unfinished(folder, step)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        _complete(folder, step, info)


def _complete(folder: Path, step: int, info: Mapping[str, Any]) -> None:
    """Make the unfinished checkpoint durable, give it its name, and remove the oldest."""
    temporary = unfinished(folder, step)
    for path in temporary.rglob("*"):
        if path.is_file():
            _fsync(path)
    marker = temporary / MARKER
    marker.write_text(json.dumps(dict(info)), encoding="utf-8")
    _fsync(marker)
    final = folder / f"checkpoint-{step}"
    if final.exists():
        final.rename(folder / f".tmp-old-{step}")
        shutil.rmtree(folder / f".tmp-old-{step}")
    temporary.rename(final)
    _fsync(folder)
    for checkpoint in complete(folder)[:-KEPT]:
        # The marker goes first, so that a kill in the middle leaves nothing that looks complete.
        (checkpoint.path / MARKER).unlink()
        shutil.rmtree(checkpoint.path)


def cut_back(folder: Path, step: int) -> None:
    """Remove what was written after `step`: a run that goes on from there writes it again."""
    for path in folder.glob("checkpoint-*") if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match and int(match[1]) > step:
            (path / MARKER).unlink(missing_ok=True)
            shutil.rmtree(path)


def clear(folder: Path) -> None:
    """Remove all checkpoints: the stage is finished."""
    shutil.rmtree(folder, ignore_errors=True)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
