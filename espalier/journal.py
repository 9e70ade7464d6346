"""The append-only store of paid-for answers: kill a run anywhere, and none is asked for again.

One JSON object a line, one line a completion, readable with any text tool:
`{"key", "time", "engine", "step"?, "model", "messages"?, "sampling", "sample", "text",
"finish_reason", "usage", …}`. A line `{"spent": true, …}` holds the tokens of a request that was
billed and gave no usable answer.
What an append-only file does and doesn't lose is said in `espalier.append_file`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, cast

from espalier.append_file import AppendFile
from espalier.engines.base import Completion, Engine, FinishReason, Request, Sampling, Usage
from espalier.errors import StageError
from espalier.records import dump_line

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


class Journal(AppendFile):
    """Completions by key, in one append-only file that a single process holds. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Open or create the file; see `AppendFile` for what is raised."""
        super().__init__(path, "journal of paid-for answers", _key_of)

    def get(self, key: str) -> Completion | None:
        """The stored completion, or None."""
        return _completion(self.read(key)) if key in self else None

    def put(self, key: str, completion: Completion, **info: Any) -> None:
        """Append a completion; `info` is written along for human readers.

        A key that is there already keeps its first completion. Raises StageError when the line
        can't be written (disk full), and then nothing of it counts.
        """
        record: dict[str, Any] = {
            "key": key,
            "time": _now(),
            **info,
            "text": completion.text,
            "finish_reason": completion.finish_reason,
            "usage": asdict(completion.usage),
        }
        if completion.token_ids:
            record["token_ids"] = list(completion.token_ids)
        if completion.logprobs:
            record["logprobs"] = list(completion.logprobs)
        self.append(dump_line(record), key)

    def put_spent(self, usage: Usage, **info: Any) -> None:
        """Append the tokens of a request that was billed and is not kept.

        Raises StageError when the line can't be written.
        """
        self.append(dump_line({"spent": True, "time": _now(), **info, "usage": asdict(usage)}))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _key_of(record: dict[str, Any]) -> str | None:
    if record.get("spent") is True:
        return ""
    key = record.get("key")
    return key if isinstance(key, str) and isinstance(record.get("text"), str) else None


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
