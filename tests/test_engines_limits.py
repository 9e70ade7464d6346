"""Concurrency that finds its level, and rates a minute that hold in every minute."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import itertools
import random
import selectors
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest
from fake_server import FakeServer, Reply, error_body, script

from espalier.engines.api import OpenAIEngine
from espalier.engines.base import EngineSpec, Request, Sampling
from espalier.engines.limits import Gate, RateLimiter, duration, refill, shared_limiter


class _NoWait(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Instead of waiting, moves the loop's clock."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout:
            self.loop.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is what its timers say: seconds cost nothing."""

    def __init__(self) -> None:
        self.now = 0.0
        selector = _NoWait()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def run(work: Coroutine[Any, Any, Any]) -> Any:
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


class Simulated:
    """A server with `places`: more requests wait in its queue, or are refused."""

    def __init__(self, places: int, *, refuses: bool = False, spread: float = 0.0) -> None:
        self.places = asyncio.Semaphore(places)
        self.refuses = refuses
        self.spread = spread
        self.random = random.Random(1)
        self.answered = self.refused = 0

    async def ask(self) -> bool:
        if self.refuses and self.places.locked():
            await asyncio.sleep(0.05)
            self.refused += 1
            return False
        async with self.places:
            await asyncio.sleep(1 + self.spread * (self.random.random() - 0.5))
        self.answered += 1
        return True


async def load(gate: Gate, server: Simulated, seconds: float, workers: int = 512) -> list[int]:
    """Keep asking for so long; returns the level after each answer."""
    loop = asyncio.get_running_loop()
    levels: list[int] = []
    # What comes after a 429: every request waits, as the limiter makes it.
    resume = [0.0]

    async def work() -> None:
        while loop.time() < seconds:
            ticket = await gate.enter()
            start = loop.time()
            if await server.ask():
                gate.answered(ticket, loop.time() - start)
            else:
                gate.refused(ticket)
                resume[0] = loop.time() + 0.5
            gate.leave()
            levels.append(gate.level)
            await asyncio.sleep(max(0.0, resume[0] - loop.time()))

    await asyncio.gather(*(work() for _ in range(workers)))
    return levels


def simulate(places: int, seconds: float, **options: Any) -> tuple[list[int], Simulated]:
    async def main() -> tuple[list[int], Simulated]:
        server = Simulated(places, **options)
        return await load(Gate(), server, seconds), server

    levels: tuple[list[int], Simulated] = run(main())
    return levels


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_while_latency_is_flat_the_level_doubles_up_to_the_ceiling(spread: float) -> None:
    # Six doublings from 8 to 512, each seen after about one answer's time.
    levels, _ = simulate(10_000, 12, spread=spread)
    assert levels[0] == 8
    assert max(levels) == levels[-1] == 512


@pytest.mark.parametrize("places", [4, 32, 150])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_a_server_that_queues_is_kept_busy_and_its_queue_short(places: int, spread: float) -> None:
    levels, server = simulate(places, 120, spread=spread)
    # All places are used but for the start, and not many times as many requests wait.
    assert server.answered >= 0.9 * places * 120
    late = levels[len(levels) // 2 :]
    assert places <= sum(late) / len(late) <= 4 * places + 8


def test_a_server_that_refuses_is_asked_for_about_what_it_takes() -> None:
    levels, server = simulate(40, 200, refuses=True)
    late = levels[len(levels) // 2 :]
    assert 20 <= sum(late) / len(late) <= 48
    assert server.answered >= 0.6 * 40 * 200
    assert server.refused <= 0.1 * server.answered


def test_single_failures_are_no_sign_of_load_and_many_are() -> None:
    async def main() -> None:
        gate = Gate()
        gate.level = 40
        for _ in range(4):
            gate.refused(0, overload=True)
        assert gate.level == 40
        gate.refused(0, overload=True)
        assert gate.level == 28
        # Those sent before it shrank say nothing new.
        for _ in range(9):
            gate.refused(0, overload=True)
        gate.refused(0)
        assert gate.level == 28
        gate.refused(1)
        assert gate.level == 19

    run(main())


def test_a_fixed_level_stays() -> None:
    async def main() -> list[int]:
        return await load(Gate(5), Simulated(2, refuses=True), 20, workers=20)

    assert set(run(main())) == {5}


def test_a_waiter_that_is_cancelled_passes_its_place_on() -> None:
    async def main() -> None:
        gate = Gate(1)
        await gate.enter()
        first, second = (asyncio.create_task(gate.enter()) for _ in range(2))
        await asyncio.sleep(0)
        gate.leave()
        first.cancel()
        await asyncio.wait_for(second, 1)
        assert gate.in_flight == 1

    run(main())


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def drive(limiter: RateLimiter, clock: Clock, seconds: float, draw: random.Random) -> list[Any]:
    """Ask as fast as allowed, with a break; (time, tokens) of what was sent."""
    sent = []
    while clock.now < seconds:
        prompt, completion = draw.randrange(1, 400), draw.randrange(1, 200)
        wait, taken = limiter.take(prompt, completion)
        if wait:
            clock.now += wait
            continue
        sent.append((clock.now, prompt + completion))
        limiter.correct(taken, prompt, completion)
        if draw.random() < 0.001:
            clock.now += 90
    return sent


@pytest.mark.parametrize("limit", [1, 7, 60, 500, 1_500])
def test_no_minute_holds_more_requests_than_allowed(limit: int) -> None:
    clock, draw = Clock(), random.Random(limit)
    limiter = RateLimiter(clock)
    limiter.limit(limit, None)
    times = [at for at, _ in drive(limiter, clock, 200, draw)]
    for number, start in enumerate(times):
        within = [at for at in times[number : number + limit + 2] if at < start + 60 - 1e-6]
        assert len(within) <= limit


def test_no_minute_holds_many_more_tokens_than_allowed_and_few_are_wasted() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    limiter.limit(None, 60_000)
    draw = random.Random(3)
    sent = []
    while clock.now < 900:
        prompt, completion = draw.randrange(1, 400), draw.randrange(1, 200)
        wait, taken = limiter.take(prompt, 1000)
        if wait:
            clock.now += wait
            continue
        sent.append((clock.now, prompt + completion))
        limiter.correct(taken, prompt, completion)
    times = [at for at, _ in sent]
    sums = [0, *itertools.accumulate(tokens for _, tokens in sent)]
    for number, start in enumerate(times):
        within = sums[bisect.bisect_left(times, start + 60)] - sums[number]
        # One request may be longer than expected.
        assert within <= 60_000 + 1_400
    assert sum(tokens for _, tokens in sent) >= 0.95 * 60_000 * 15


def test_a_request_beyond_the_rate_of_a_second_still_goes() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    limiter.limit(None, 600)
    assert limiter.take(5000, 100) == (0.0, 5100)
    wait, taken = limiter.take(10, 10)
    # Its debt is 5,100 tokens at about ten a second.
    assert taken == 0
    assert wait == pytest.approx(510, rel=0.05)


def test_the_lowest_of_the_stated_limits_holds() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    for limit in (600, 60, None, 300):
        limiter.limit(limit, None)
    assert limiter.take(1, 1)[0] == 0
    assert limiter.take(1, 1)[0] == pytest.approx(1.0)


def test_a_pause_holds_everything() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    limiter.hold(3)
    limiter.hold(1)
    assert limiter.take(1, 1) == (3.0, 0.0)
    clock.now = 3.0
    assert limiter.take(1, 1) == (0.0, 2)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("20ms", 0.02),
        ("1h2m3.5s", 3723.5),
        ("1d", 86400),
        ("7", 7),
        ("", None),
        ("soon", None),
        ("1s!", None),
        ("-1", None),
    ],
)
def test_durations_of_rate_limit_headers(text: str, seconds: float | None) -> None:
    assert duration(text) == (None if seconds is None else pytest.approx(seconds))


def test_nothing_left_means_waiting_for_the_refill() -> None:
    head = "x-ratelimit-"
    some = {f"{head}limit-requests": "60", f"{head}reset-requests": "60s"}
    assert refill({**some, f"{head}remaining-requests": "1"}, "requests", 1) == 0
    # Sixty come back in sixty seconds, so the first after one.
    assert refill({**some, f"{head}remaining-requests": "0"}, "requests", 1) == pytest.approx(1)
    tokens = {f"{head}remaining-tokens": "50", f"{head}reset-tokens": "6s"}
    assert refill(tokens, "tokens", 100) == 6
    limited = {**tokens, f"{head}limit-tokens": "1050"}
    assert refill(limited, "tokens", 100) == pytest.approx(6 * 50 / 1000)
    assert refill({f"{head}remaining-tokens": "?"}, "tokens", 1) == 0
    assert refill({}, "tokens", 1) == 0


# --- over sockets ----------------------------------------------------------------------------


def engine_for(server: FakeServer, model: str, **more: Any) -> OpenAIEngine:
    return OpenAIEngine(
        EngineSpec(engine="openai", model=model, base_url=server.url, api_key_env="NO_KEY", **more)
    )


def ask(engine: OpenAIEngine, count: int) -> None:
    list(engine.generate([Request.of(f"question {i}") for i in range(count)], Sampling()))


def test_teacher_and_judge_of_one_server_share_the_rate() -> None:
    with FakeServer() as server:
        start = time.monotonic()
        engines = [engine_for(server, "m", requests_per_minute=600) for _ in range(2)]
        assert engines[0].limiter is engines[1].limiter
        threads = [threading.Thread(target=ask, args=(engine, 10)) for engine in engines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for engine in engines:
            engine.close()
        # Ten may go at once, the other ten at 9.85 a second.
        assert time.monotonic() - start >= 10 / 9.85


def test_models_and_keys_have_limiters_of_their_own() -> None:
    known = {shared_limiter(h, k, m) for h in "ab" for k in "cd" for m in "ef"}
    assert len(known) == 8
    assert shared_limiter("a", "c", "e") in known


def test_headers_that_say_nothing_is_left_are_heeded() -> None:
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "500ms"}
    with (
        FakeServer(script([Reply(headers=headers)])) as server,
        contextlib.closing(engine_for(server, "m", concurrency=1)) as engine,
    ):
        ask(engine, 2)
    assert server.times[1] - server.times[0] >= 0.5


def test_auto_asks_few_at_first_and_a_429_makes_fewer() -> None:
    with (
        FakeServer(lambda number, body: Reply(delay=0.05)) as server,
        contextlib.closing(engine_for(server, "m")) as engine,
    ):
        ask(engine, 100)
        assert server.most_at_once > 8
        level = engine.gate.level
        server.plan = script([Reply(429, error_body("slow"), {"Retry-After": "0.1"})])
        ask(engine, 1)
        assert engine.gate.level < level


def test_auto_stays_below_its_upper_bound() -> None:
    with (
        FakeServer(lambda number, body: Reply(delay=0.02)) as server,
        contextlib.closing(engine_for(server, "m", max_concurrency=3)) as engine,
    ):
        ask(engine, 40)
    assert server.most_at_once <= 3
