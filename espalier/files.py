"""Files that are whole or absent: atomic writes, hashes, locks."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from espalier.errors import InputError, StageError, place

# Larger files are identified by size, time and both ends instead of their whole content.
WHOLE_HASH_BYTES = 1 << 30
_CHUNK = 1 << 20


def fsync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it is fsynced and renamed to `path`.

    The temporary name keeps the suffixes of `path`, since writers choose a container by them.
    On an error the temporary file is removed and `path` stays as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".tmp-{os.getpid()}-{target.name}")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(target)
        fsync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text so that a reader sees the old content or the new, never a part."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def atomic_write_json(path: Path | str, value: Any) -> None:
    """Write indented JSON atomically (keys in their own order)."""
    atomic_write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def read_json(path: Path | str) -> Any:
    """Parse a JSON file; raises InputError naming the file and the line."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(
            f"A JSON file can't be read: {error.msg}.",
            where=place(path, error.lineno),
            expected="a complete JSON document",
        ) from error


def hash_file(path: Path) -> str:
    """SHA-256 of a file; above 1 GiB of its size, modification time and both ends."""
    digest = hashlib.sha256()
    info = path.stat()
    with path.open("rb") as handle:
        if info.st_size > WHOLE_HASH_BYTES:
            digest.update(f"{info.st_size}:{info.st_mtime_ns}".encode())
            digest.update(handle.read(_CHUNK))
            handle.seek(-_CHUNK, os.SEEK_END)
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def hash_path(path: Path) -> str:
    """Hash of a file, or of all files below a folder with their relative names.

    Hidden files are left out. Raises InputError when the path does not exist.
    """
    if path.is_file():
        return hash_file(path)
    if not path.is_dir():
        raise InputError(
            "An input of this stage does not exist.",
            where=str(path),
            expected="a file or a folder",
            hint="check the path in the recipe, or run the stage that writes it",
        )
    digest = hashlib.sha256()
    for item in sorted(path.rglob("*")):
        relative = item.relative_to(path)
        if item.is_file() and not any(part.startswith(".") for part in relative.parts):
            digest.update(f"{relative.as_posix()}\0{hash_file(item)}\n".encode())
    return digest.hexdigest()


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[int]:
    """Hold a lock file; raises StageError at once when another process holds it.

    The kernel frees the lock when its holder dies, however it dies. Yields the descriptor: a
    child that is given it holds the lock too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            raise StageError(
                f"Another process (pid {holder}) is working on {what}.",
                where=str(path),
                hint="wait until it has ended, or stop it; the lock goes with it",
            ) from error
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield handle.fileno()
