"""A full disk, said clearly: where, how much is free, and that the same command goes on."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from espalier.errors import StageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# How libraries that write files themselves (torch, safetensors, tokenizers) say that they failed.
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
_FAILED_WRITE = re.compile(r"inline_container|PytorchStreamWriter|iostream error|No space left")


@contextmanager
def room(folder: Path, what: str, unfinished: Path | None = None) -> Iterator[None]:
    """Turn the errors of a full disk inside the block into a StageError with the place.

    `what` names what is written; its `unfinished` folder is removed, so that it takes no space.
    """
    try:
        yield
    except Exception as error:
        code = full_disk(error)
        if code is None:
            raise
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)
        there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
        free = shutil.disk_usage(there).free / 2**20
        raise StageError(
            f"{what} can't be written: {os.strerror(code).lower()}.",
            where=f"{folder} ({free:,.1f} MiB free)",
            hint="make room there; the same command then goes on from what is done",
        ) from error


def full_disk(error: BaseException) -> int | None:
    """The system's error number where an error says that the disk (or a quota) is full."""
    if isinstance(error, OSError):
        return error.errno if error.errno in _FULL else None
    text = str(error)
    found = _SYSTEM_ERROR.search(text)
    if found and int(found[1]) in _FULL:
        return int(found[1])
    return errno.ENOSPC if _FAILED_WRITE.search(text) else None
