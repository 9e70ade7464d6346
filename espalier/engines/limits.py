"""How fast an API may be asked: concurrency that finds its level, and shared rates a minute.

`Gate` bounds the requests in flight. Its level follows the latency, as in the Gradient2 limit of
Netflix's concurrency-limits (level · gradient + √level, the gradient being the tolerated over the
measured latency, within ½ … 1), with a start that doubles while latency stays flat, and a
multiplicative decrease on 429, 5xx and timeouts. `RateLimiter` is a token bucket for requests and
one for tokens, corrected by what the server reports.

Nothing here decides what is asked or in which order answers are handed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

FIRST_LEVEL = 8
# Latency may rise to this multiple of the lowest seen: batching servers gain throughput by it.
TOLERANCE = 2.0
DECREASE = 0.7
# Single failures happen to any server; so large a part of the requests in flight is a sign of load.
FAILING = 0.1
# The lowest latency is forgotten slowly, since prompts and server change over a long run.
FORGET = 1.01
MINUTE = 60.0
_LONGEST_RESET = 86_400.0
_DURATION = re.compile(r"([0-9.]+)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Gate:
    """At most `level` requests in flight; for use within one event loop.

    `fixed` keeps the level. Otherwise it starts at 8 and moves between 1 and `ceiling`.
    """

    def __init__(self, fixed: int | None = None, ceiling: int = 512) -> None:
        self.ceiling = fixed or ceiling
        self.level = fixed or min(FIRST_LEVEL, ceiling)
        self.in_flight = 0
        self._adapts = fixed is None
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._starting = True
        # A change of level begins an epoch; latencies count for the epoch they were sent in.
        self._epoch = 0
        self._sum = 0.0
        self._count = 0
        self._failures = 0
        self._full = False
        self._lowest: dict[object, float] = {}

    async def enter(self) -> int:
        """Wait for a place; returns a ticket for `leave`."""
        while self.in_flight >= self.level:
            self._full = True
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            try:
                await future
            except asyncio.CancelledError:
                if future.done() and not future.cancelled():
                    self._wake(1)
                raise
        self.in_flight += 1
        return self._epoch

    def leave(self) -> None:
        """Give the place back."""
        self.in_flight -= 1
        self._wake(self.level - self.in_flight)

    def wake_all(self) -> None:
        """Let every waiter look again whether its job goes on."""
        self._wake(len(self._waiting))

    def _wake(self, count: int) -> None:
        while count > 0 and self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                count -= 1

    def answered(self, ticket: int, seconds: float, kind: object = None) -> None:
        """Learn from an answer's latency; `kind` keeps requests of other lengths apart."""
        if not self._adapts or ticket != self._epoch:
            return
        self._sum += seconds
        self._count += 1
        if self._count < max(4, self.level // 2):
            return
        mean = self._sum / self._count
        lowest = min(self._lowest.get(kind, mean) * FORGET, mean)
        self._lowest[kind] = lowest
        if self._full:
            self._grow(max(0.5, min(1.0, TOLERANCE * lowest / mean)))
        else:
            # Too little work to fill the places says nothing about more of them.
            self._begin(self.level)

    def refused(self, ticket: int, *, overload: bool = False) -> None:
        """Shrink after a 429, or (`overload`) after too many 5xx and timeouts; once a level."""
        if not self._adapts or ticket != self._epoch:
            return
        self._failures += overload
        if overload and self._failures <= FAILING * self.level:
            return
        self._starting = False
        self._begin(int(self.level * DECREASE))

    def _grow(self, gradient: float) -> None:
        if gradient < 1:
            self._starting = False
        level = self.level
        if self._starting:
            self._begin(2 * level)
        else:
            self._begin(int(level * gradient + max(1.0, math.sqrt(level))))

    def _begin(self, level: int) -> None:
        self.level = max(1, min(level, self.ceiling))
        self._epoch += 1
        self._sum, self._count, self._failures = 0.0, 0, 0
        self._full = bool(self._waiting)
        self._wake(self.level - self.in_flight)


class _Bucket:
    """A token bucket whose use in any minute stays within `per_minute`.

    A second's worth may go at once; what refills in the rest of a minute is the remainder.
    """

    def __init__(self, per_minute: float, now: float) -> None:
        self.per_minute = per_minute
        self.capacity = max(1.0, per_minute / MINUTE)
        self.rate = (per_minute - self.capacity + 1) / MINUTE
        self.level = self.capacity
        self._at = now

    def wait(self, cost: float, now: float) -> float:
        """Seconds until `cost` may be taken. A cost beyond the capacity makes a debt."""
        self.level = min(self.capacity, self.level + (now - self._at) * self.rate)
        self._at = now
        missing = min(cost, self.capacity) - self.level
        # What rounding leaves missing is nothing to wait for.
        return missing / self.rate if missing > 1e-6 else 0.0


class RateLimiter:
    """Requests and tokens a minute, and pauses that a server asks for. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._requests: _Bucket | None = None
        self._tokens: _Bucket | None = None
        self._resume_at = 0.0
        self._mean_completion: float | None = None

    def limit(self, requests_per_minute: int | None, tokens_per_minute: int | None) -> None:
        """State limits; of several stated ones the lowest holds."""
        with self._lock:
            self._requests = self._tighter(self._requests, requests_per_minute)
            self._tokens = self._tighter(self._tokens, tokens_per_minute)

    def _tighter(self, bucket: _Bucket | None, per_minute: int | None) -> _Bucket | None:
        if per_minute is None or (bucket is not None and bucket.per_minute <= per_minute):
            return bucket
        return _Bucket(per_minute, self._clock())

    def take(self, prompt_tokens: int, max_tokens: int) -> tuple[float, float]:
        """(seconds to wait, tokens taken): ask again after the wait; 0 means go.

        A completion is expected to be as long as the mean so far, at first as long as allowed.
        """
        with self._lock:
            now = self._clock()
            held = self._resume_at - now
            mean = self._mean_completion
            cost = prompt_tokens + (max_tokens if mean is None else min(mean, max_tokens))
            waits = [held if held > 0 else 0.0]
            if self._requests is not None:
                waits.append(self._requests.wait(1, now))
            if self._tokens is not None:
                waits.append(self._tokens.wait(cost, now))
            if (wait := max(waits)) > 0:
                return wait, 0.0
            if self._requests is not None:
                self._requests.level -= 1
            if self._tokens is not None:
                self._tokens.level -= cost
            return 0.0, cost

    def correct(self, taken: float, prompt_tokens: int, completion_tokens: int) -> None:
        """Put the tokens that a request really used in the place of the estimate."""
        with self._lock:
            mean = self._mean_completion
            self._mean_completion = (
                completion_tokens if mean is None else 0.95 * mean + 0.05 * completion_tokens
            )
            if self._tokens is not None:
                self._tokens.level += taken - prompt_tokens - completion_tokens

    @property
    def held(self) -> float:
        """Seconds until a pause ends, 0 when there is none."""
        return max(0.0, self._resume_at - self._clock())

    def hold(self, seconds: float) -> None:
        """Nothing is to be sent for so long: a limit concerns every request."""
        with self._lock:
            self._resume_at = max(self._resume_at, self._clock() + seconds)

    def heed(self, headers: Mapping[str, str]) -> None:
        """Wait for the refill when a server's `x-ratelimit-*` headers say that nothing is left."""
        mean = self._mean_completion or 1.0
        for name, need in (("requests", 1.0), ("tokens", mean)):
            wait = refill(headers, name, need)
            if wait > 0:
                self.hold(wait)


def refill(headers: Mapping[str, str], name: str, need: float) -> float:
    """Seconds until `need` requests or tokens are there again, 0 when they are there now.

    `x-ratelimit-reset-…` says when the full limit is back, and the refill is even until then.
    """
    remaining = _number(headers.get(f"x-ratelimit-remaining-{name}"))
    reset = duration(headers.get(f"x-ratelimit-reset-{name}", ""))
    # A time of day where a duration belongs is no reason to wait for years.
    if remaining is None or reset is None or remaining >= need or reset > _LONGEST_RESET:
        return 0.0
    limit = _number(headers.get(f"x-ratelimit-limit-{name}"))
    if limit is None or limit <= remaining:
        return reset
    return reset * min(1.0, (need - remaining) / (limit - remaining))


def duration(text: str) -> float | None:
    """Seconds in `1s`, `6m0s`, `20ms` or a bare number; None for anything else."""
    number = _number(text)
    if number is not None:
        return number
    parts = _DURATION.findall(text)
    if not parts or "".join(a + b for a, b in parts) != text:
        return None
    with contextlib.suppress(ValueError):
        return sum(float(value) * _SECONDS[unit] for value, unit in parts)
    return None


def _number(text: str | None) -> float | None:
    with contextlib.suppress(TypeError, ValueError):
        number = float(text or "")
        return number if math.isfinite(number) and number >= 0 else None
    return None


@functools.cache
def shared_limiter(host: str, key_digest: str, model: str) -> RateLimiter:
    """The one limiter of this process for a server, a key and a model.

    A server counts by these three, and goes on counting when an engine is closed and opened again,
    so that the limiter lives as long as the process.
    """
    return RateLimiter()
