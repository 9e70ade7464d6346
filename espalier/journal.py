"""The append-only store of paid-for answers: kill a run anywhere, and none is asked for again.

One JSON object a line, one line a completion, readable with any text tool:
`{"key", "time", "engine", "step"?, "model", "messages"?, "sampling", "sample", "text",
"finish_reason", "usage", …}`. A line `{"spent": true, …}` holds the tokens of a request that was
billed and gave no usable answer.
A line is handed to the operating system before `put` returns, so it outlives the process;
`fsync`, which makes it outlive the machine, is done for groups of lines.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, cast

from espalier.engines.base import Completion, Engine, FinishReason, Request, Sampling, Usage
from espalier.errors import InputError, StageError, place
from espalier.records import dump_line

GROUP_SECONDS = 0.05
_HEAD = b'{"key":"'
_END = object()


def completion_key(engine_model: str, request: Request, sampling: Sampling) -> str:
    """SHA-256 over what decides a completion: model, prompt, sampling and sample number.

    Sampling fields at their defaults are left out, so that a field added later keeps old keys.
    The server's address is no part of it: an answer stays valid when a server moves.
    """
    parts = {
        "model": engine_model,
        "messages": [[m.role, m.content] for m in request.messages],
        "token_ids": list(request.token_ids),
        "sampling": _sampling_json(sampling),
        "sample": request.sample,
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _sampling_json(sampling: Sampling) -> dict[str, Any]:
    return {
        f.name: value for f in fields(Sampling) if (value := getattr(sampling, f.name)) != f.default
    }


class Journal:
    """Completions by key, in one append-only JSONL file that a single process holds.

    A line torn by a crash is skipped, and the next append starts on a fresh line. `damaged`
    counts the lines that could not be used. Thread-safe.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises StageError when another process holds it, InputError when it is no journal.
        """
        self.path = Path(path)
        self.damaged = 0
        self._index: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._failure: OSError | None = None
        self._syncer: threading.Thread | None = None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._hold()
            self._size, self._fresh_line = self._load()
        except BaseException:
            os.close(self._file)
            self._file = -1
            raise

    def _hold(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise StageError(
                    f"The journal of paid-for answers can't be locked ({error.strerror}).",
                    where=str(self.path),
                    hint="put the run folder on a file system that supports file locks",
                ) from error
            raise StageError(
                "The journal of paid-for answers is in use by another process.",
                where=str(self.path),
                hint="wait until the other run has ended, or stop it; the lock goes with it",
            ) from error

    def _load(self) -> tuple[int, bool]:
        """Index the file; returns its size and whether its end is the end of a line."""
        offset, ended = 0, True
        foreign: int | None = None
        with open(os.dup(self._file), "rb") as lines:
            for number, line in enumerate(lines, 1):
                ended = line.endswith(b"\n")
                key = _key_of(line)
                if key is not None:
                    self._index.setdefault(key, (offset, len(line)))
                elif line.strip(b"\0\r\n ") and not _is_spent(line):
                    self.damaged += 1
                    if ended and foreign is None and not line.lstrip(b"\0").startswith(_HEAD[:8]):
                        foreign = number
                offset += len(line)
        if foreign is not None and not self._index:
            raise InputError(
                "This file is no journal of answers; it is left as it is.",
                where=place(self.path, foreign),
                expected='lines that begin with {"key":"…',
                hint="choose another path for the journal, or move the file away",
            )
        return offset, ended

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, key: str) -> bool:
        return key in self._index

    def get(self, key: str) -> Completion | None:
        """The stored completion, or None."""
        with self._lock:
            place_in_file = self._index.get(key)
            if place_in_file is None:
                return None
            offset, length = place_in_file
            line = os.pread(self._file, length, offset)
        return _completion(json.loads(line))

    def put(self, key: str, completion: Completion, **info: Any) -> None:
        """Append a completion; `info` is written along for human readers.

        A key that is there already keeps its first completion. Raises StageError when the line
        can't be written (disk full), and then nothing of it counts.
        """
        record: dict[str, Any] = {
            "key": key,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            **info,
            "text": completion.text,
            "finish_reason": completion.finish_reason,
            "usage": asdict(completion.usage),
        }
        if completion.token_ids:
            record["token_ids"] = list(completion.token_ids)
        if completion.logprobs:
            record["logprobs"] = list(completion.logprobs)
        line = dump_line(record).encode() + b"\n"
        with self._lock:
            self._raise_failure()
            if key not in self._index:
                self._index[key] = (self._append(line), len(line))
        self._dirty.set()

    def put_spent(self, usage: Usage, **info: Any) -> None:
        """Append the tokens of a request that was billed and is not kept.

        Raises StageError when the line can't be written.
        """
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = dump_line({"spent": True, "time": time, **info, "usage": asdict(usage)})
        with self._lock:
            self._raise_failure()
            self._append(line.encode() + b"\n")
        self._dirty.set()

    def _append(self, line: bytes) -> int:
        """Write a line; returns where it begins."""
        if self._file < 0:
            raise StageError("The journal is closed.", where=str(self.path))
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
            self._syncer = threading.Thread(target=self._sync, name="journal", daemon=True)
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
            f"The journal of paid-for answers can't be written: {error.strerror}.",
            where=str(self.path),
            hint="free some disk space (espalier doctor shows it) and run again; "
            "the answers up to here are kept",
        )

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

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _key_of(line: bytes) -> str | None:
    """The key of a usable record, None for anything else (a torn line, padding)."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        return None
    key = value.get("key")
    return key if isinstance(key, str) else None


def _is_spent(line: bytes) -> bool:
    try:
        value = json.loads(line.lstrip(b"\0"))
    except ValueError:
        return False
    return isinstance(value, dict) and value.get("spent") is True


def _completion(record: dict[str, Any]) -> Completion:
    usage = record.get("usage") or {}
    return Completion(
        text=record["text"],
        finish_reason=cast(FinishReason, record.get("finish_reason", "stop")),
        usage=Usage(usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)),
        token_ids=tuple(record.get("token_ids", ())),
        logprobs=tuple(record.get("logprobs", ())),
    )


Arrived = Callable[[int, Completion], None]


class UnorderedEngine(Protocol):
    """An engine that tells of each completion as it arrives, in any order."""

    def generate_unordered(
        self, requests: Sequence[Request], sampling: Sampling, arrived: Arrived
    ) -> Iterator[tuple[int, Completion]]:
        """Call `arrived(index, completion)` at once (from any thread), then yield the same."""
        ...


class JournaledEngine:
    """An engine whose answers are kept: known ones come from the journal, the rest are asked.

    Each answer is journaled when it arrives, also when an earlier one is still awaited or a
    later one fails. Within a call, equal requests (prompt and sample number) are asked once.
    Completions that end in "error" are handed on; those that were billed are kept like answers,
    the others are asked again by the next run.

    An engine may have an `identity` (default: its `model`) that names what answers more exactly,
    for example a folder together with the hash of its weights, and a `seed` that shifts the
    sampling seed; both enter the key.
    """

    def __init__(
        self, engine: Engine, journal: Journal, *, known: Mapping[str, Any] | None = None
    ) -> None:
        """`known` is written into each line, for human readers and for the account."""
        self.engine = engine
        self.journal = journal
        self._known = dict(known or {})
        self.model = engine.model
        self.costly = engine.costly

    def __getattr__(self, name: str) -> Any:
        # Whatever else the engine offers (a label, `score`) is offered unchanged.
        if name.startswith("__") or name == "engine":
            raise AttributeError(name)
        return getattr(self.engine, name)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """Yield one completion a request, in request order."""
        keys = [self._key(request, sampling) for request in requests]
        pending: dict[str, Request] = {}
        for key, request in zip(keys, requests, strict=True):
            if key not in self.journal:
                pending.setdefault(key, request)
        failed: dict[str, Completion] = {}
        answers = self._ask(pending, sampling, failed)
        try:
            for key in keys:
                while (completion := failed.get(key) or self.journal.get(key)) is None:
                    if next(answers, _END) is _END:
                        raise StageError(f"{self.model} gave fewer answers than it was asked for.")
                yield completion
            for _ in answers:
                pass
        finally:
            answers.close()

    def _key(self, request: Request, sampling: Sampling) -> str:
        identity = getattr(self.engine, "identity", self.engine.model)
        seed = getattr(self.engine, "seed", 0)
        if sampling.temperature == 0:
            sampling = replace(sampling, seed=0)
        elif seed:
            identity = f"{identity} seed {seed}"
        return completion_key(identity, request, sampling)

    def _ask(
        self, pending: dict[str, Request], sampling: Sampling, failed: dict[str, Completion]
    ) -> Generator[None, None, None]:
        """Ask for what is missing; yields after every arrival."""
        if not pending:
            return
        keys, requests = list(pending), list(pending.values())

        def arrived(index: int, completion: Completion) -> None:
            if not completion.billed:
                failed[keys[index]] = completion
                return
            request = requests[index]
            info: dict[str, Any] = {**self._known, "model": self.engine.model}
            if request.messages:
                info["messages"] = [message.to_json() for message in request.messages]
            info |= {"sampling": _sampling_json(sampling), "sample": request.sample}
            self.journal.put(keys[index], completion, **info)

        if hasattr(self.engine, "generate_unordered"):
            streaming = cast(UnorderedEngine, self.engine)
            for _ in streaming.generate_unordered(requests, sampling, arrived):
                yield
            return
        for index, completion in enumerate(self.engine.generate(requests, sampling)):
            arrived(index, completion)
            yield

    def close(self) -> None:
        """Close the engine, then the journal."""
        try:
            self.engine.close()
        finally:
            self.journal.close()
