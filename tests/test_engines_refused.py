"""Requests that end without an answer: why is told, and what was billed is not asked again."""

from __future__ import annotations

import contextlib
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from fake_server import OK, FakeServer, Plan, Reply, error_body, script

from espalier.curate.config import AnswerConfig
from espalier.curate.pipeline import Ledger
from espalier.curate.respond import fault, respond
from espalier.engines import open_engine
from espalier.engines.api import OpenAIEngine
from espalier.engines.base import Completion, EngineSpec, Request, Sampling, Usage
from espalier.engines.limits import refill
from espalier.engines.wire import LONGEST_SERVER_WAIT, host_of, retry_after
from espalier.errors import UsageError
from espalier.journal import Journal, completion_key
from espalier.judging import Judge, parse_pairwise, parse_rubric
from espalier.records import Example, Message
from espalier.spending import Meter

SECRET = "sk-secret-0123456789"
REFUSAL = Reply(400, error_body(f"A is better; key {SECRET}", "context_length_exceeded"))
FILTERED = Reply(finish_reason="content_filter")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_KEY", SECRET)


def spec(url: str, **options: Any) -> EngineSpec:
    options = {"backoff_seconds": 0.01, **options}
    return EngineSpec(
        engine="openai", model="m", base_url=url, api_key_env="FAKE_KEY", concurrency=1,
        options=options,
    )  # fmt: skip


def ask(server: FakeServer, journal: Path, count: int, **options: Any) -> list[Completion]:
    meter = Meter()
    engine = open_engine(spec(server.url, **options), journal=journal, meter=meter, step="s")
    with contextlib.closing(engine):
        requests = [Request.of(f"question {i}") for i in range(count)]
        return list(engine.generate(requests, Sampling()))


def refuse_first(number: int, body: dict[str, Any]) -> Reply:
    return REFUSAL if body["messages"][-1]["content"] == "question 0" else OK


def test_a_refusal_says_what_the_server_said(tmp_path: Path) -> None:
    with FakeServer(refuse_first) as server:
        first, second = ask(server, tmp_path / "j.jsonl", 2)
    assert fault(first) == ("engine_error", "HTTP 400: A is better; key ***")
    assert fault(second) is None
    assert SECRET not in (tmp_path / "j.jsonl").read_text(encoding="utf-8")


def test_a_batch_says_so_too(tmp_path: Path) -> None:
    with FakeServer(refuse_first) as server:
        first, _ = ask(server, tmp_path / "j.jsonl", 2, endpoint="batch", batch_poll_seconds=0.01)
    assert fault(first) == ("engine_error", "HTTP 400: A is better; key ***")


def test_no_verdict_is_read_from_a_failure(tmp_path: Path) -> None:
    with FakeServer(lambda number, body: REFUSAL) as server:
        engine = OpenAIEngine(spec(server.url))
        with contextlib.closing(engine):
            judge = Judge(engine, Sampling())
            (comparison,) = judge.compare_fully([("q", "a", "b")])
            ((rubric, text),) = judge.rate_fully([("q", "a")])
    assert parse_pairwise("A is better") == "A"
    assert comparison.verdict is None
    assert "HTTP 400" in comparison.forward_text
    assert rubric is None
    assert "HTTP 400" in text
    assert parse_rubric(text) is None


def test_what_was_billed_is_not_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "journal" / "teacher.jsonl"
    with FakeServer(script([FILTERED])) as server:
        before = ask(server, path, 2)
        again = ask(server, path, 2)
    assert [a.finish_reason for a in before] == ["error", "stop"]
    assert "content filter" in before[0].text
    assert before == again
    assert sum(server.asked.values()) == 2
    # It stands there once, so that its tokens count once.
    meter = Meter()
    meter.read(path)
    assert (meter.spent.requests, meter.spent.tokens) == (2, 2 * 12)


def test_a_refusal_that_cost_nothing_is_asked_again(tmp_path: Path) -> None:
    with FakeServer(script([REFUSAL])) as server:
        first = ask(server, tmp_path / "j.jsonl", 1)
        second = ask(server, tmp_path / "j.jsonl", 1)
    assert [first[0].finish_reason, second[0].finish_reason] == ["error", "stop"]


def key_of(plan: Plan, path: Path, **options: Any) -> str:
    with FakeServer(plan) as server:
        ask(server, path, 1, **options)
    return str(json.loads(path.read_text(encoding="utf-8").splitlines()[0])["key"])


def test_options_that_change_an_answer_are_part_of_its_key(tmp_path: Path) -> None:
    def key(**options: Any) -> str:
        place = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        return key_of(lambda number, body: OK, place, **options)

    plain = key()
    # What journals were written with before options counted.
    assert plain == completion_key("m", Request.of("question 0"), Sampling())
    decisive: list[dict[str, Any]] = [
        {"extra_body": {"top_k": 5}},
        {"extra_body": {"top_k": 6}},
        {"omit": ["seed"]},
        {"max_tokens_field": "max_completion_tokens"},
        {"endpoint": "completions"},
        {"endpoint": "completions", "template": "vicuna"},
        {"endpoint": "completions", "extra_body": {"top_k": 5}},
    ]
    keys = [key(**options) for options in decisive]
    assert len({plain, *keys}) == len(keys) + 1
    for options in ({"rate_limit_seconds": 5}, {"batch_requests": 7}, {"omit": []}):
        assert key(**options) == plain
    assert key(omit=["seed", "stop"]) == key(omit=["stop", "seed"])


@pytest.mark.parametrize("url", ["http://[::1/v1", "http://host:port/v1", "http://host:99999/v1"])
def test_malformed_addresses(url: str) -> None:
    with pytest.raises(UsageError, match="no address of an API"):
        host_of(url)
    with pytest.raises(UsageError, match="no address of an API"):
        OpenAIEngine(spec(url))


def test_waits_that_can_not_be_meant() -> None:
    for said in ("nan", "inf", "-inf", "-5"):
        assert retry_after({"retry-after": said}) is None
        assert retry_after({"retry-after-ms": said}) is None
    assert retry_after({"retry-after": "1e300"}) == LONGEST_SERVER_WAIT
    assert retry_after({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}) == LONGEST_SERVER_WAIT
    assert retry_after({"retry-after": "0"}) == 0
    assert math.isfinite(LONGEST_SERVER_WAIT)
    left = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1767225600"}
    assert refill(left, "requests", 1) == 0


def test_a_storm_with_senseless_waits_passes(tmp_path: Path) -> None:
    storm = [Reply(429, error_body("slow"), {"Retry-After": said}) for said in ("nan", "-1", "inf")]
    with FakeServer(script(storm)) as server:
        (answer,) = ask(server, tmp_path / "j.jsonl", 1)
    assert answer.finish_reason == "stop"


def test_journals_give_errors_back(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.put("k", Completion("why", "error", Usage(3, 0)))
    with Journal(tmp_path / "j.jsonl") as journal:
        assert journal.get("k") == Completion("why", "error", Usage(3, 0))


def test_rejects_show_it() -> None:
    handle = io.StringIO()
    row = Example.make([Message("user", "question 0")], {"to_answer": True})
    with FakeServer(refuse_first) as server:
        engine = OpenAIEngine(spec(server.url))
        with contextlib.closing(engine):
            step = respond(engine, AnswerConfig(), 0)
            assert not list(Ledger("sft", handle).through([row], [("answers", step)]))
    (line,) = handle.getvalue().splitlines()
    assert json.loads(line)["evidence"] == "HTTP 400: A is better; key ***"
