"""JSON lines by key in a file that only grows: what was written once outlives whatever happens.

A line is handed to the operating system before `append` returns, so that it outlives the process
(`kill -9`); `fsync`, which makes it outlive the machine, is done for groups of lines. A line torn
by a crash is skipped, and the next one starts afresh. One process holds the file at a time, by a
lock that ends with it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from espalier.errors import InputError, StageError, place

GROUP_SECONDS = 0.05
_HEAD = b'{"key":"'

KeyOf = Callable[[dict[str, Any]], str | None]


class AppendFile:
    """Lines by key; the first one of a key stays. `damaged` counts lines of no use. Thread-safe.

    Close it, or use it in `with`.
    """

    def __init__(self, path: Path, noun: str, key_of: KeyOf) -> None:
        """Open or create the file; `noun` is what messages call it.

        `key_of` gives the key of a record read back, "" for one that is in its place but has no
        key, None for one of no use. Raises StageError when the file can't be opened or another
        process holds it, InputError when it holds something else.
        """
        self.path = Path(path)
        self.damaged = 0
        self._noun = noun
        self._index: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._failure: OSError | None = None
        self._syncer: threading.Thread | None = None
        self._file = self._open()
        try:
            self._hold()
            self._size, self._fresh_line = self._load(key_of)
        except BaseException:
            os.close(self._file)
            self._file = -1
            raise

    # --- opening -----------------------------------------------------------------------------

    def _open(self) -> int:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StageError(
                f"The {self._noun} can't be opened: {error.strerror}.",
                where=str(self.path),
                expected="a place where this user may write",
            ) from error

    def _hold(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise StageError(
                    f"The {self._noun} can't be locked ({error.strerror}).",
                    where=str(self.path),
                    hint="put the run folder on a file system that supports file locks",
                ) from error
            raise StageError(
                f"The {self._noun} is in use by another process.",
                where=str(self.path),
                hint="wait until the other run has ended, or stop it; the lock goes with it",
            ) from error

    def _load(self, key_of: KeyOf) -> tuple[int, bool]:
        """Index the file; returns its size and whether its end is the end of a line."""
        offset, ended = 0, True
        foreign: int | None = None
        with open(os.dup(self._file), "rb") as lines:
            for number, line in enumerate(lines, 1):
                ended = line.endswith(b"\n")
                record = _record(line)
                key = None if record is None else key_of(record)
                if key:
                    self._index.setdefault(key, (offset, len(line)))
                elif key is None and line.strip(b"\0\r\n "):
                    self.damaged += 1
                    if ended and foreign is None and not line.lstrip(b"\0").startswith(_HEAD):
                        foreign = number
                offset += len(line)
        if foreign is not None and not self._index:
            raise InputError(
                f"This file is no {self._noun}; it is left as it is.",
                where=place(self.path, foreign),
                expected='lines that begin with {"key":"…',
                hint="move the file away, or choose another path",
            )
        return offset, ended

    # --- reading and writing -----------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, key: str) -> bool:
        return key in self._index

    def __iter__(self) -> Iterator[str]:
        """All keys, in the order in which they were written."""
        return iter(list(self._index))

    def read(self, key: str) -> dict[str, Any]:
        """The record of a key that is in the file; KeyError for another."""
        with self._lock:
            offset, length = self._index[key]
            line = os.pread(self._file, length, offset)
        return json.loads(line.lstrip(b"\0"))  # type: ignore[no-any-return]

    def append(self, line: str, key: str | None = None) -> None:
        """Write a line (without its end), under `key` unless there is one of that key.

        Raises StageError when the file is closed or can't be written (disk full), and then
        nothing of the line counts.
        """
        data = line.encode() + b"\n"
        with self._lock:
            self._raise_failure()
            if key is None:
                self._write(data)
            elif key not in self._index:
                self._index[key] = (self._write(data), len(data))
        self._dirty.set()

    def _write(self, line: bytes) -> int:
        """Write a line; returns where it begins."""
        if self._file < 0:
            raise StageError(f"The {self._noun} is closed.", where=str(self.path))
        data = line if self._fresh_line else b"\n" + line
        start = self._size + len(data) - len(line)
        # Until the whole line is out, whatever comes next has to begin on a line of its own.
        self._fresh_line = False
        while data:
            try:
                written = os.write(self._file, data)
            except OSError as error:
                raise self._unwritable(error) from error
            self._size += written
            data = data[written:]
        self._fresh_line = True
        if self._syncer is None:
            self._syncer = threading.Thread(target=self._sync, name="append", daemon=True)
            self._syncer.start()
        return start

    def _sync(self) -> None:
        """Make appended lines durable, at most once every GROUP_SECONDS."""
        while not self._closing.is_set():
            self._dirty.wait()
            self._closing.wait(GROUP_SECONDS)
            self._dirty.clear()
            try:
                os.fsync(self._file)
            except OSError as error:
                self._failure = error
                return

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise self._unwritable(failure) from failure

    def _unwritable(self, error: OSError) -> StageError:
        return StageError(
            f"The {self._noun} can't be written: {error.strerror}.",
            where=str(self.path),
            hint="free some disk space (espalier doctor shows it) and run again; "
            "what is in it is kept",
        )

    # --- closing -----------------------------------------------------------------------------

    def close(self) -> None:
        """Make everything durable and free the lock; a second call does nothing."""
        if self._file < 0:
            return
        self._closing.set()
        self._dirty.set()
        if self._syncer is not None:
            self._syncer.join()
        with self._lock:
            try:
                self._raise_failure()
                os.fsync(self._file)
            except OSError as error:
                raise self._unwritable(error) from error
            finally:
                os.close(self._file)
                self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _record(line: bytes) -> dict[str, Any] | None:
    """The object of a whole line, None for anything else (a torn line, padding)."""
    try:
        value = json.loads(line.lstrip(b"\0"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
