"""Any OpenAI-compatible API: bounded concurrency, patient retries, and no secret in any message.

The `openai` client only carries the requests; retrying is done here, because a rate limit and
a broken answer have to be treated differently: waiting for a rate limit costs no attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from typing import Any

from espalier.engines.base import (
    Completion,
    EngineSpec,
    Request,
    Sampling,
    in_order,
)
from espalier.engines.wire import (
    MAX_STOPS,
    OFFICIAL_HOST,
    Problem,
    host_of,
    is_local,
    parse_options,
    public_url,
    read_answer,
    read_key,
    request_seed,
    retry_after,
    server_message,
)
from espalier.errors import StageError, UsageError

MAX_BACKOFF_SECONDS = 30.0
MAX_SERVER_WAIT_SECONDS = 60.0
# Refusals of one prompt rather than of the whole job: the others go on.
_PROMPT_CODES = {
    "context_length_exceeded",
    "content_filter",
    "content_policy_violation",
    "string_above_max_length",
}
_HINTS = {
    401: "check the key in the environment variable {env}",
    403: "check that the key in {env} may use this model",
    404: "check the model's name, and that base_url ends as the server wants it (often /v1)",
}


class OpenAIEngine:
    """Chat completions over HTTP.

    `model` is the name sent to the server. Each (sampling seed, sample number) is sent as its
    own `seed`, so that repeated draws differ where the server honours it.
    """

    costly = True

    def __init__(self, spec: EngineSpec, seed: int = 0) -> None:
        """Raises UsageError for unknown options or when the key is missing."""
        import openai

        self.model = spec.model
        self.seed = seed
        self._openai = openai
        self.concurrency = spec.concurrency
        self.retries = spec.retries
        self._timeout = spec.timeout
        self._key_variable = spec.api_key_env
        self.options = parse_options(spec.options)
        self._loop: _LoopThread | None = None
        base_url = (
            spec.base_url or os.environ.get("OPENAI_BASE_URL") or f"https://{OFFICIAL_HOST}/v1"
        )
        host = host_of(base_url)
        self.url = public_url(base_url)
        self._key = read_key(spec.api_key_env)
        if not self._key and not is_local(host):
            raise UsageError(
                f"The environment variable {spec.api_key_env} with the key of the API is not set.",
                where=self.url,
                hint=f"export {spec.api_key_env}=…, or name another variable in api_key_env "
                "(a server on this machine or network needs no key)",
            )
        self._limit_field = self.options.max_tokens_field or (
            "max_completion_tokens" if host == OFFICIAL_HOST else "max_tokens"
        )
        self._client = openai.AsyncOpenAI(
            api_key=self._key or "none", base_url=base_url, timeout=spec.timeout, max_retries=0
        )

    def __repr__(self) -> str:
        return f"OpenAIEngine(model={self.model!r}, url={self.url!r})"

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """Yield one completion a request, in request order.

        Raises StageError naming model, address and the last problem.
        """
        with contextlib.closing(self.generate_unordered(requests, sampling)) as answers:
            yield from in_order(answers)

    def generate_unordered(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        arrived: Callable[[int, Completion], None] | None = None,
    ) -> Generator[tuple[int, Completion], None, None]:
        """Yield (index, completion) as they arrive; `arrived` is called first, at once.

        When a request fails for good, no new one is started, those in flight are awaited (they
        are paid for), and then StageError is raised. Closing the generator cancels all.
        """
        if any(request.token_ids for request in requests):
            raise UsageError(
                "An API model is asked with messages, not with token ids.",
                where=repr(self),
                hint="use engine: transformers for a prompt that is already templated",
            )
        if not requests:
            return
        if self._loop is None:
            self._loop = _LoopThread()
        job = _Job(self, list(requests), sampling, arrived)
        cancel = self._loop.submit(job.run(), job.ended)
        running = True
        try:
            while (item := job.results.get()) is not None:
                yield item
            running = False
        finally:
            if running:
                # The consumer left early, or Ctrl-C: no task may outlive this call.
                cancel()
                while job.results.get() is not None:
                    pass
        if job.error is not None:
            raise job.error

    def close(self) -> None:
        """Close the connections; a second call does nothing."""
        if self._loop is not None:
            self._loop.finish(self._client.close())
            self._loop = None

    def _body(self, request: Request, sampling: Sampling) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [message.to_json() for message in request.messages],
            "temperature": sampling.temperature,
            self._limit_field: sampling.max_tokens,
            "seed": request_seed(self.seed, sampling.seed, request.sample),
        }
        if sampling.top_p < 1:
            body["top_p"] = sampling.top_p
        if sampling.presence_penalty:
            body["presence_penalty"] = sampling.presence_penalty
        if sampling.stop:
            body["stop"] = list(sampling.stop[:MAX_STOPS])
        for name in self.options.omit:
            body.pop(name, None)
        return body

    async def attempt(self, request: Request, sampling: Sampling) -> Completion | Problem:
        """Ask once."""
        try:
            async with asyncio.timeout(self._timeout):
                raw = await self._client.chat.completions.with_raw_response.create(
                    **self._body(request, sampling),
                    extra_body=self.options.extra_body or None,
                )
            return read_answer(raw.http_response.content, sampling, self._clean)
        except (TimeoutError, self._openai.APITimeoutError):
            return Problem(f"no answer within {self._timeout:g} s", "retry")
        except self._openai.APIStatusError as error:
            return self._status_problem(error)
        except self._openai.APIConnectionError as error:
            cause = error.__cause__
            detail = f"{type(cause).__name__}: {cause}" if cause else str(error)
            return Problem(self._clean(f"the connection failed ({detail})"), "retry")
        except self._openai.OpenAIError as error:
            return Problem(self._clean(f"{type(error).__name__}: {error}"), "retry")

    def _status_problem(self, error: Any) -> Problem:
        status = int(error.status_code)
        text = self._clean(f"HTTP {status}: {server_message(error)}")
        code = str(getattr(error, "code", None) or "")
        if status == 429 and code != "insufficient_quota":
            return Problem(text, "rate", wait=retry_after(error.response.headers))
        if status >= 500 or status in (408, 409, 425):
            return Problem(text, "retry", wait=retry_after(error.response.headers))
        if code in _PROMPT_CODES:
            return Problem(text, "prompt")
        hint = _HINTS.get(status, "the server refuses such a request; see its message")
        return Problem(text, "fatal", hint=hint.format(env=self._key_variable))

    def _clean(self, text: str) -> str:
        """The text without the key, should the server have echoed it; one line, not too long."""
        if self._key:
            text = text.replace(self._key, "***")
        line = " ".join(text.split())
        return line if len(line) <= 500 else line[:500] + " …"

    def failure(self, problem: Problem, attempts: int = 1) -> StageError:
        """The error that ends a request for good."""
        tried = f" after {attempts} attempts" if attempts > 1 else ""
        return StageError(
            f"The model {self.model} gave no answer{tried}: {problem.text}.",
            where=self.url,
            hint=problem.hint or "run again to go on; answers that arrived are kept",
        )


class _Job:
    """One call of `generate`: workers that share the requests, a pause and a clock."""

    def __init__(
        self,
        engine: OpenAIEngine,
        requests: list[Request],
        sampling: Sampling,
        arrived: Callable[[int, Completion], None] | None,
    ) -> None:
        self.engine = engine
        self.requests = requests
        self.sampling = sampling
        self.arrived = arrived
        # (index, completion) as they arrive, then None.
        self.results: queue.SimpleQueue[tuple[int, Completion] | None] = queue.SimpleQueue()
        self.error: BaseException | None = None
        self._waiting = iter(range(len(requests)))
        self._failed = asyncio.Event()
        self._resume_at = 0.0
        self._last_success = time.monotonic()
        # Only spreads waiting times; no result depends on it.
        self._jitter = random.Random()

    async def run(self) -> None:
        """Answer all requests, or raise the first error once those in flight have ended."""
        count = min(self.engine.concurrency, len(self.requests))
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
                raise
            self.results.put((index, completion))

    async def _answer(self, request: Request) -> Completion | None:
        """The answer after as many attempts as it takes; None when another request failed."""
        attempts = limits = 0
        limited_since: float | None = None
        while True:
            await self._pause()
            if self._failed.is_set():
                return None
            outcome = await self.engine.attempt(request, self.sampling)
            if isinstance(outcome, Completion):
                self._last_success = time.monotonic()
                return outcome
            if outcome.kind == "prompt":
                return Completion("", "error")
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

    def _limit(self, problem: Problem, limits: int, since: float) -> None:
        """Hold all requests back after a 429, or raise when that has lasted too long."""
        now = time.monotonic()
        silent = now - max(since, self._last_success)
        wait = problem.wait or self._backoff(limits)
        if silent + wait > self.engine.options.rate_limit_seconds:
            text = f"{problem.text} (no answer for {silent:.0f} s, next try in {wait:.0f} s)"
            hint = (
                "wait for the limit to pass, lower concurrency, or raise "
                "options.rate_limit_seconds; answers that arrived are kept"
            )
            raise self.engine.failure(Problem(text, "rate", hint=hint))
        # A limit concerns every request: all wait, instead of each finding out.
        self._resume_at = max(self._resume_at, now + wait)

    def _backoff(self, attempt: int) -> float:
        """Exponential, with the upper half of each wait drawn at random."""
        first = self.engine.options.backoff_seconds
        longest = min(first * 2.0 ** min(attempt, 30), MAX_BACKOFF_SECONDS)
        return longest * (0.5 + 0.5 * self._jitter.random())

    async def _pause(self) -> None:
        while (wait := self._resume_at - time.monotonic()) > 0 and not self._failed.is_set():
            await self._sleep(wait)
            # Spread the restart, so that the limit is not hit by all at once.
            await self._sleep(self.engine.options.backoff_seconds * self._jitter.random() / 4)

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but no longer than until the job has failed."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._failed.wait(), seconds)


class _LoopThread:
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
