"""A generation job against a server with every fault at once: nothing lost, nothing paid twice."""

from __future__ import annotations

import contextlib
import json
import logging
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_server import OK, FakeServer, Reply, error_body

from espalier.engines import open_engine
from espalier.engines.base import Completion, EngineSpec, Request, Sampling
from espalier.engines.wire import request_seed
from espalier.errors import StageError

SECRET = "sk-secret-0123456789"
COUNT = 90
# Only the fault of that name may run into it: client and server share one process, and on a
# busy machine a good answer can be a second late, which would be asked (and paid) twice.
TIMEOUT = 5.0
FAULTS: dict[str, Reply] = {
    "429": Reply(429, error_body("slow down"), {"Retry-After": "0.05"}),
    "429 bare": Reply(429, error_body("slow down")),
    "500": Reply(500, error_body(f"no good key {SECRET}")),
    "503 html": Reply(503, b"<html>busy</html>", {"Retry-After": "0.02"}),
    "timeout": Reply(delay=2 * TIMEOUT, body=b"too late"),
    "cut": Reply(cut=60),
    "cut at once": Reply(cut=0),
    "json": Reply(body=b'{"choices": [{"message": {"content": "ha'),
    "empty": Reply(body=b'{"choices": []}'),
    "null": Reply(body=b"null"),
    "no message": Reply(body=b'{"choices": [{"finish_reason": "stop"}]}'),
    "odd usage": Reply(body=b'{"choices": [], "usage": {"prompt_tokens": "many"}}'),
}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_KEY", SECRET)


def spec(url: str, **more: Any) -> EngineSpec:
    return EngineSpec(
        engine="openai",
        model="m",
        base_url=url,
        api_key_env="FAKE_KEY",
        options={"backoff_seconds": 0.01},
        **{"timeout": TIMEOUT, "retries": 6, **more},
    )


def requests() -> list[Request]:
    return [Request.of(f"question {i // 3}", sample=i % 3) for i in range(COUNT)]


def name_of(body: dict[str, Any]) -> tuple[str, int]:
    return body["messages"][-1]["content"], body["seed"]


def fragile(rate: float, seed: int, faults: list[str]) -> Callable[[int, dict[str, Any]], Reply]:
    """A server where so many answers fail; the fault is a function of request and attempt.

    A request fails four times at most, so that six tries are enough.
    """
    tries: Counter[tuple[str, int]] = Counter()

    def plan(number: int, body: dict[str, Any]) -> Reply:
        name = name_of(body)
        tries[name] += 1
        draw = random.Random(f"{seed}:{name}:{tries[name]}")
        if tries[name] <= 4 and draw.random() < rate:
            return FAULTS[draw.choice(faults)]
        reason = "length" if draw.random() < 0.1 else "stop"
        return Reply(finish_reason=reason, delay=0.01 * draw.random())

    return plan


def run(server: FakeServer, path: Path, **more: Any) -> list[Completion]:
    with contextlib.closing(open_engine(spec(server.url, **more), journal=path)) as engine:
        return list(engine.generate(requests(), Sampling(temperature=0.7)))


def texts(answers: list[Completion]) -> list[str]:
    return [answer.text for answer in answers]


def expected() -> list[str]:
    return [f"answer to «{r.prompt}» with seed {request_seed(0, 0, r.sample)}" for r in requests()]


@pytest.mark.slow
@pytest.mark.ci_slice
@pytest.mark.parametrize("concurrency", [16, "auto"])
def test_every_fault_at_once(
    tmp_path: Path, concurrency: Any, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    path = tmp_path / "journal.jsonl"
    level = logging.DEBUG if concurrency == "auto" else logging.INFO
    with caplog.at_level(level), FakeServer(fragile(0.35, 1, list(FAULTS))) as server:
        answers = run(server, path, concurrency=concurrency)
        assert texts(answers) == expected()
        # Whatever had a whole answer was asked exactly until then.
        assert set(server.answered.values()) == {3}
        sent = Counter(name_of(body) for body in server.requests)
        assert len(sent) == COUNT
        before = len(server.requests)
        assert run(server, path) == answers
        assert len(server.requests) == before
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    kept = [record for record in records if "key" in record]
    assert len(kept) == len({record["key"] for record in kept}) == COUNT
    reasons = Counter(record["finish_reason"] for record in kept)
    assert reasons == Counter(answer.finish_reason for answer in answers)
    assert reasons["length"] > 0
    for text in (path.read_text("utf-8"), caplog.text, *capfd.readouterr()):
        assert SECRET not in text


@pytest.mark.slow
@pytest.mark.ci_slice
@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_runs_that_fail_and_are_started_again(tmp_path: Path, fault: str) -> None:
    """No retries: each run ends at a fault; the next ones go on with what is missing."""
    path = tmp_path / "journal.jsonl"
    known: set[tuple[str, int]] = set()
    with FakeServer(fragile(0.02, 7, [fault])) as server:
        for _ in range(40):
            first = len(server.requests)
            try:
                answers = run(server, path, retries=0, concurrency=8)
            except StageError as error:
                assert SECRET not in str(error)
                answers = []
            assert known.isdisjoint(name_of(body) for body in server.requests[first:])
            for line in path.read_text("utf-8").splitlines():
                record = json.loads(line)
                seed = request_seed(0, 0, record["sample"])
                known.add((record["messages"][-1]["content"], seed))
            if answers:
                break
        assert texts(answers) == expected()
        assert set(server.answered.values()) == {3}


def test_a_long_storm_ends_without_a_single_lost_attempt(tmp_path: Path) -> None:
    storm = iter([FAULTS["429"]] * 120)
    with FakeServer(lambda number, body: next(storm, OK)) as server:
        # Patient: on a busy machine 32 answers at once take their time.
        answers = run(server, tmp_path / "j.jsonl", retries=0, concurrency=32, timeout=60.0)
        assert texts(answers) == expected()
        assert len(server.requests) == COUNT + 120
