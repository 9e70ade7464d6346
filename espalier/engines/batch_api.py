"""The batch endpoint of an OpenAI-compatible API: upload, wait, download; paid for once.

What is under way is written to a file beside the journal before anything is waited for, one JSON
object a line, appended and fsynced: `uploaded` (the input file and its requests' keys), `created`
(the batch). A run that was killed picks up every batch that holds a request it still needs. A kill
between the server's making a batch and our writing it down is covered too: an `uploaded` file
without a `created` line is looked for among the server's batches before a new one is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from espalier.engines.api import OpenAIEngine
from espalier.engines.base import Completion, Request, Sampling, Usage, in_order
from espalier.engines.jobs import Arrived, LoopThread
from espalier.engines.wire import Problem, read_value
from espalier.errors import StageError
from espalier.files import fsync_folder
from espalier.journal import completion_key
from espalier.progress import say
from espalier.spending import most_tokens

PATH = "/v1/chat/completions"
_ENDED = ("completed", "expired", "cancelled", "failed")
# A server takes files up to 200 MB.
_MOST_BYTES = 150_000_000
_CALL_TRIES = 8
_LONGEST_WAIT = 60.0
T = TypeVar("T")


@dataclass(slots=True)
class _Batch:
    """One batch as the state file knows it."""

    file: str
    keys: list[str]
    id: str = ""


class _State:
    """The append-only file of batches; without a path only this process knows them."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.batches: dict[str, _Batch] = {}
        self._fresh_line = True
        if path is not None and path.is_file():
            data = path.read_bytes()
            self._fresh_line = not data or data.endswith(b"\n")
            for line in data.splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    self._apply(json.loads(line))

    def _apply(self, event: dict[str, Any]) -> None:
        name, file = event["event"], event["file"]
        if name == "uploaded":
            self.batches[file] = _Batch(file, list(event["keys"]))
        elif name == "created":
            self.batches[file].id = str(event["batch"])

    def write(self, event: str, file: str, **more: Any) -> None:
        """Append an event; it is on the disk when this returns."""
        value = {"event": event, "file": file, **more}
        self._apply(value)
        if self.path is None:
            return
        start = b"" if self._fresh_line else b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists()
        with self.path.open("ab") as handle:
            handle.write(start + json.dumps(value).encode() + b"\n")
            handle.flush()
            os.fsync(handle.fileno())
        self._fresh_line = True
        if new:
            fsync_folder(self.path.parent)

    def open_with(self, keys: set[str]) -> list[_Batch]:
        """Batches that hold one of these requests, the oldest first."""
        return [batch for batch in self.batches.values() if not keys.isdisjoint(batch.keys)]


@dataclass(slots=True)
class _Asked:
    """One request of this call, its places in it, and how often it was sent."""

    indexes: list[int]
    request: Request
    attempts: int = 0
    reserved: tuple[int, int] | None = None


@dataclass(slots=True)
class _Round:
    """What one call has to do."""

    sampling: Sampling
    arrived: Arrived | None
    pending: dict[str, _Asked]
    results: queue.SimpleQueue[tuple[int, Completion] | None] = field(
        default_factory=queue.SimpleQueue
    )
    error: BaseException | None = None
    last_problem: str = ""


class BatchEngine:
    """Chat completions through the batch endpoint of the server of an `OpenAIEngine`.

    Answers have the same keys as those of the chat endpoint: a journal serves both.
    """

    costly = True

    def __init__(self, engine: OpenAIEngine, state: Path | None) -> None:
        """`state` is the file that remembers batches under way."""
        self.engine = engine
        self.model = engine.model
        self.seed = engine.seed
        self.identity = engine.identity
        self._state = _State(state)
        self._loop: LoopThread | None = None

    def __repr__(self) -> str:
        return f"BatchEngine({self.engine!r})"

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """Yield one completion a request, in request order. Raises StageError."""
        with contextlib.closing(self.generate_unordered(requests, sampling)) as answers:
            yield from in_order(answers)

    def generate_unordered(
        self, requests: Sequence[Request], sampling: Sampling, arrived: Arrived | None = None
    ) -> Generator[tuple[int, Completion], None, None]:
        """Yield (index, completion) batch by batch; `arrived` is called first.

        Raises StageError when a batch fails or a request fails too often, BudgetReached when the
        next request may not be sent; what arrived before counts.
        """
        if not requests:
            return
        if self._loop is None:
            self._loop = LoopThread()
        pending: dict[str, _Asked] = {}
        for index, request in enumerate(requests):
            pending.setdefault(self._key(request, sampling), _Asked([], request)).indexes.append(
                index
            )
        work = _Round(sampling, arrived, pending)

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled():
                work.error = task.exception()
            work.results.put(None)

        cancel = self._loop.submit(self._run(work), ended)
        running = True
        try:
            while (item := work.results.get()) is not None:
                yield item
            running = False
        finally:
            if running:
                cancel()
                while work.results.get() is not None:
                    pass
        if work.error is not None:
            raise work.error

    def close(self) -> None:
        """Close the connections; batches under way go on at the server."""
        if self._loop is not None:
            self._loop.finish(self.engine.close_connections())
            self._loop = None

    def _key(self, request: Request, sampling: Sampling) -> str:
        """The request's name at the server: the same in every process."""
        identity = f"{self.identity} seed {self.seed}"
        return completion_key(identity, request, sampling)

    # --- one call ----------------------------------------------------------------------------

    async def _run(self, work: _Round) -> None:
        try:
            for batch in self._state.open_with(set(work.pending)):
                await self._adopt(batch, work)
            while work.pending:
                await self._next(work)
        finally:
            for asked in work.pending.values():
                self._release(asked)

    async def _adopt(self, batch: _Batch, work: _Round) -> None:
        """Go on with a batch of an earlier process; what it did not answer stays to be asked."""
        if not batch.id:
            batch.id = await self._find(batch.file)
            if not batch.id:
                return
            self._state.write("created", batch.file, batch=batch.id)
        say(f"batch {batch.id}: picked up again")
        try:
            await self._collect(batch, work)
        except StageError as error:
            # It is gone at the server, or was refused for a reason that may be mended by now.
            say(f"batch {batch.id}: {error.what}")

    async def _find(self, file: str) -> str:
        """The batch that was made of an input file, "" where there is none."""

        async def look() -> str:
            async for known in await self._client.batches.list(limit=100):
                if known.input_file_id == file:
                    return str(known.id)
            return ""

        return await self._call(look)

    async def _next(self, work: _Round) -> None:
        """Make one batch of what fits, wait for it, take its results."""
        lines, keys = self._lines(work)
        if not keys:
            raise self.engine.account.meter.reached(len(work.pending), len(work.pending))
        content = b"".join(lines)
        uploaded = await self._call(
            lambda: self._client.files.create(file=("requests.jsonl", content), purpose="batch")
        )
        self._state.write("uploaded", uploaded.id, keys=keys)
        created = await self._create(uploaded.id)
        self._state.write("created", uploaded.id, batch=created)
        say(f"batch {created}: {len(keys):,} requests of {self.model}")
        await self._collect(self._state.batches[uploaded.id], work)
        worn = [asked for asked in work.pending.values() if asked.attempts > self.engine.retries]
        if worn:
            text = work.last_problem or f"{len(worn):,} requests got no answer in any batch"
            raise self.engine.failure(Problem(text, "retry"), worn[0].attempts)

    async def _create(self, file: str) -> str:
        """Make a batch of an uploaded file; after a broken answer, look before making another."""

        async def make() -> str:
            made = await self._client.batches.create(
                completion_window="24h", endpoint=PATH, input_file_id=file
            )
            return str(made.id)

        return await self._call(make, before_retry=lambda: self._find(file))

    def _lines(self, work: _Round) -> tuple[list[bytes], list[str]]:
        lines: list[bytes] = []
        keys: list[str] = []
        size = 0
        for key, asked in work.pending.items():
            body = self.engine.body(asked.request, work.sampling)
            value = {"custom_id": key, "method": "POST", "url": PATH, "body": body}
            line = json.dumps(value).encode() + b"\n"
            size += len(line)
            if len(keys) == self.engine.options.batch_requests or (keys and size > _MOST_BYTES):
                break
            reserved = most_tokens(asked.request.messages), work.sampling.max_tokens
            if not self.engine.account.reserve(*reserved):
                break
            asked.reserved = reserved
            lines.append(line)
            keys.append(key)
        return lines, keys

    async def _collect(self, batch: _Batch, work: _Round) -> None:
        """Wait for the end of a batch and hand its results on."""
        while True:
            state = await self._call(lambda: self._client.batches.retrieve(batch.id))
            if state.status in _ENDED:
                break
            await asyncio.sleep(self.engine.options.batch_poll_seconds)
        refused = None
        for file in (state.output_file_id, state.error_file_id):
            if file:
                for line in (await self._download(file)).splitlines():
                    refused = self._take(line, work) or refused
        for key in batch.keys:
            if (asked := work.pending.get(key)) is not None:
                self._release(asked)
                asked.attempts += 1
        if refused is not None:
            raise self.engine.failure(refused)
        if state.status == "failed":
            raise self.engine.failure(Problem(self._why(state), "fatal"))

    async def _download(self, file: str) -> bytes:
        async def load() -> bytes:
            return bytes((await self._client.files.content(file)).content)

        return await self._call(load)

    def _take(self, line: bytes, work: _Round) -> Problem | None:
        """One line of a result file; returns a refusal that concerns every request."""
        try:
            value = json.loads(line)
        except ValueError:
            return None
        key = value.get("custom_id") if isinstance(value, dict) else None
        asked = work.pending.get(key) if isinstance(key, str) else None
        if asked is None:
            return None
        response = value.get("response")
        status = response.get("status_code") if isinstance(response, dict) else None
        body = response.get("body") if isinstance(response, dict) else None
        if status == 200:
            outcome = read_value(body, work.sampling, self.engine.clean)
        else:
            outcome = self.engine.batch_problem(status, body or value.get("error"))
        if isinstance(outcome, Completion):
            self._answered(str(key), asked, outcome, work)
        elif outcome.kind == "prompt":
            self._answered(str(key), asked, Completion(outcome.text, "error"), work)
        else:
            if outcome.usage is not None:
                self._book(asked, outcome.usage, kept=False)
            work.last_problem = outcome.text
            if outcome.kind == "fatal":
                return outcome
        return None

    def _answered(self, key: str, asked: _Asked, completion: Completion, work: _Round) -> None:
        if completion.billed:
            self._book(asked, completion.usage, kept=True)
        else:
            self._release(asked)
        del work.pending[key]
        for index in asked.indexes:
            if work.arrived is not None:
                work.arrived(index, completion)
            work.results.put((index, completion))

    def _book(self, asked: _Asked, usage: Usage, *, kept: bool) -> None:
        self._release(asked)
        self.engine.account.charge(usage, kept=kept)

    def _release(self, asked: _Asked) -> None:
        if asked.reserved is not None:
            self.engine.account.release(*asked.reserved)
            asked.reserved = None

    def _why(self, state: Any) -> str:
        data = getattr(state.errors, "data", None) or []
        said = "; ".join(str(getattr(item, "message", "")) for item in data[:3])
        return self.engine.clean(f"the batch {state.id} failed ({said or 'no reason given'})")

    # --- the server --------------------------------------------------------------------------

    @property
    def _client(self) -> Any:
        return self.engine.client

    async def _call(
        self,
        action: Callable[[], Awaitable[T]],
        before_retry: Callable[[], Awaitable[T]] | None = None,
    ) -> T:
        """A call that is no completion, tried again while its failure may pass.

        `before_retry` may find that the failed attempt did succeed.
        """
        for attempt in range(1, _CALL_TRIES + 1):
            try:
                return await action()
            except self.engine.api_error as error:
                problem = self.engine.problem(error)
                if problem.kind not in ("retry", "rate") or attempt == _CALL_TRIES:
                    raise self.engine.failure(problem, attempt) from error
            first = self.engine.options.backoff_seconds
            await asyncio.sleep(problem.wait or min(first * 2.0**attempt, _LONGEST_WAIT))
            if before_retry is not None and (found := await before_retry()):
                return found
        raise StageError("The server could not be reached.", where=self.engine.url)
