"""One call of an API engine: many requests at once, patient retries, a budget that holds.

A rate limit and a broken answer are treated differently: waiting for a rate limit costs no
attempt. When a request fails for good, no new one is started and those in flight are awaited,
since they are paid for.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from espalier.engines.base import Completion, Request, Sampling, Usage
from espalier.engines.limits import Gate, RateLimiter
from espalier.engines.wire import ApiOptions, Problem
from espalier.errors import StageError
from espalier.spending import Account, likely_tokens, most_tokens

MAX_BACKOFF_SECONDS = 30.0
MAX_SERVER_WAIT_SECONDS = 60.0
# While a budget has to wait for what is under way: how often to look again.
_BUDGET_SECONDS = 0.2
Arrived = Callable[[int, Completion], None]


class Asking(Protocol):
    """What a job needs of the engine that it works for."""

    account: Account
    gate: Gate
    limiter: RateLimiter
    options: ApiOptions
    retries: int

    async def attempt(self, request: Request, sampling: Sampling) -> Completion | Problem:
        """Ask once."""
        ...

    def failure(self, problem: Problem, attempts: int = 1) -> StageError:
        """The error that ends a request for good."""
        ...


@dataclass(frozen=True, slots=True)
class _Passage:
    """What an attempt holds while it is in flight."""

    ticket: int
    reserved: tuple[int, int]
    taken: float
    sent: float


class Job:
    """Workers that share the requests and the engine's limits."""

    def __init__(
        self,
        engine: Asking,
        requests: list[Request],
        sampling: Sampling,
        arrived: Arrived | None,
    ) -> None:
        self.engine = engine
        self.requests = requests
        self.sampling = sampling
        self.arrived = arrived
        # (index, completion) as they arrive, then None.
        self.results: queue.SimpleQueue[tuple[int, Completion] | None] = queue.SimpleQueue()
        self.error: BaseException | None = None
        self._left = len(requests)
        self._waiting = iter(range(len(requests)))
        self._failed = asyncio.Event()
        # Of those at the gate one waits for its turn in the rates, the others behind it.
        self._turn = asyncio.Lock()
        self._last_success = time.monotonic()
        # Only spreads waiting times; no result depends on it.
        self._jitter = random.Random()

    async def run(self) -> None:
        """Answer all requests, or raise the first error once those in flight have ended."""
        count = min(self.engine.gate.ceiling, len(self.requests))
        workers = [asyncio.create_task(self._work()) for _ in range(count)]
        try:
            await asyncio.gather(*workers, return_exceptions=True)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    def ended(self, task: asyncio.Task[None]) -> None:
        """Tell the consumer that nothing more comes."""
        if not task.cancelled() and self.error is None:
            self.error = task.exception()
        self.results.put(None)

    async def _work(self) -> None:
        for index in self._waiting:
            if self._failed.is_set():
                return
            try:
                completion = await self._answer(self.requests[index])
                if completion is None:
                    return
                if self.arrived is not None:
                    self.arrived(index, completion)
            except BaseException as error:
                self.error = self.error or error
                self._failed.set()
                self.engine.gate.wake_all()
                raise
            self._left -= 1
            self.results.put((index, completion))

    async def _answer(self, request: Request) -> Completion | None:
        """The answer after as many attempts as it takes; None when another request failed."""
        attempts = limits = 0
        limited_since: float | None = None
        while True:
            outcome = await self._attempt(request)
            if outcome is None or isinstance(outcome, Completion):
                return outcome
            if outcome.kind == "prompt":
                return Completion(outcome.text, "error")
            if outcome.kind == "fatal":
                raise self.engine.failure(outcome)
            if outcome.kind == "rate":
                limited_since = limited_since or time.monotonic()
                self._limit(outcome, limits, limited_since)
                limits += 1
                continue
            attempts += 1
            if attempts > self.engine.retries:
                raise self.engine.failure(outcome, attempts)
            wait = min(outcome.wait or 0.0, MAX_SERVER_WAIT_SECONDS)
            await self._sleep(wait or self._backoff(attempts - 1))

    async def _attempt(self, request: Request) -> Completion | Problem | None:
        """Ask once, within all limits; None when another request failed meanwhile."""
        gate = self.engine.gate
        ticket = await gate.enter()
        try:
            passage = await self._pass(request, ticket)
            if passage is None:
                return None
            outcome: Completion | Problem | None = None
            try:
                outcome = await self.engine.attempt(request, self.sampling)
            finally:
                self._book(request, passage, outcome)
            return outcome
        finally:
            gate.leave()

    async def _pass(self, request: Request, ticket: int) -> _Passage | None:
        """Reserve the money, then wait for a turn in the rates a minute."""
        prompt = most_tokens(request.messages) + len(request.token_ids)
        reserved = prompt, self.sampling.max_tokens
        account = self.engine.account
        while not self._failed.is_set() and not account.reserve(*reserved):
            if not account.meter.waiting:
                raise account.meter.reached(self._left, len(self.requests))
            # What is under way will cost less than was set aside for it.
            await self._sleep(_BUDGET_SECONDS)
        if self._failed.is_set():
            return None
        try:
            taken = await self._take(request)
        except BaseException:
            account.release(*reserved)
            raise
        if taken is None:
            account.release(*reserved)
            return None
        return _Passage(ticket, reserved, taken, time.monotonic())

    async def _take(self, request: Request) -> float | None:
        limiter = self.engine.limiter
        prompt = likely_tokens("".join(m.content for m in request.messages))
        prompt += len(request.token_ids)
        async with self._turn:
            while not self._failed.is_set():
                paused = limiter.held > 0
                wait, taken = limiter.take(prompt, self.sampling.max_tokens)
                if not wait:
                    return taken
                await self._sleep(wait)
                if paused:
                    # Spread the restart, so that a server's limit is not hit by all at once.
                    first = self.engine.options.backoff_seconds
                    await self._sleep(first * self._jitter.random() / 4)
        return None

    def _book(
        self, request: Request, passage: _Passage, outcome: Completion | Problem | None
    ) -> None:
        """Enter what an attempt cost and how long it took; `outcome` None: it was cancelled."""
        engine, now = self.engine, time.monotonic()
        usage = None if outcome is None else outcome.usage
        if isinstance(outcome, Completion):
            self._last_success = now
            engine.gate.answered(passage.ticket, now - passage.sent, self.sampling.max_tokens)
            if usage == Usage():
                usage = _likely_usage(request, outcome)
        elif outcome is not None and (outcome.kind == "rate" or outcome.overload):
            engine.gate.refused(passage.ticket, overload=outcome.overload)
        if usage is None:
            engine.account.release(*passage.reserved)
            return
        kept = isinstance(outcome, Completion) and outcome.billed
        engine.account.settle(*passage.reserved, usage, kept=kept)
        engine.limiter.correct(passage.taken, usage.prompt_tokens, usage.completion_tokens)

    def _limit(self, problem: Problem, limits: int, since: float) -> None:
        """Hold all requests back after a 429, or raise when that has lasted too long."""
        silent = time.monotonic() - max(since, self._last_success)
        wait = problem.wait or self._backoff(limits)
        if silent + wait > self.engine.options.rate_limit_seconds:
            text = f"{problem.text} (no answer for {silent:.0f} s, next try in {wait:.0f} s)"
            hint = (
                "wait for the limit to pass, lower concurrency, or raise "
                "options.rate_limit_seconds; answers that arrived are kept"
            )
            raise self.engine.failure(Problem(text, "rate", hint=hint))
        # A limit concerns every request: all wait, instead of each finding out.
        self.engine.limiter.hold(wait)

    def _backoff(self, attempt: int) -> float:
        """Exponential, with the upper half of each wait drawn at random."""
        first = self.engine.options.backoff_seconds
        longest = min(first * 2.0 ** min(attempt, 30), MAX_BACKOFF_SECONDS)
        return longest * (0.5 + 0.5 * self._jitter.random())

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but no longer than until the job has failed."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._failed.wait(), seconds)


def _likely_usage(request: Request, completion: Completion) -> Usage:
    """For a server that tells no usage."""
    prompt = likely_tokens("".join(m.content for m in request.messages)) + len(request.token_ids)
    return Usage(prompt, likely_tokens(completion.text))


class LoopThread:
    """An event loop in a thread of its own, so that callers stay synchronous."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api", daemon=True)
        self._thread.start()

    def submit(
        self, work: Coroutine[Any, Any, None], ended: Callable[[asyncio.Task[None]], None]
    ) -> Callable[[], None]:
        """Start `work`; `ended` is called whichever way it ends. Returns what cancels it."""
        tasks: list[asyncio.Task[None]] = []

        def start() -> None:
            task = self._loop.create_task(work)
            tasks.append(task)
            task.add_done_callback(ended)

        def cancel() -> None:
            # `start` has run by then: the loop keeps the order of what it is handed.
            self._loop.call_soon_threadsafe(stop)

        def stop() -> None:
            tasks[0].cancel()

        self._loop.call_soon_threadsafe(start)
        return cancel

    def finish(self, last: Coroutine[Any, Any, None]) -> None:
        """Run a last coroutine, then end the thread."""
        asyncio.run_coroutine_threadsafe(last, self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
