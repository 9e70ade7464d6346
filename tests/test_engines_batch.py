"""The batch endpoint: paid for once, whatever is killed or fails, over real sockets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fake_server import OK, FakeServer, Plan, Reply, error_body

from espalier.engines import open_engine
from espalier.engines.base import Completion, EngineSpec, Request, Sampling
from espalier.errors import StageError
from espalier.prices import Budget, Prices
from espalier.spending import BudgetReached, Meter

SECRET = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_KEY", SECRET)


def spec(url: str, **options: Any) -> EngineSpec:
    return EngineSpec(
        engine="openai",
        model="some-model",
        base_url=url,
        api_key_env="FAKE_KEY",
        retries=options.pop("retries", 2),
        prices=options.pop("prices", None),
        options={
            "endpoint": "batch",
            "batch_poll_seconds": 0.01,
            "backoff_seconds": 0.01,
            **options,
        },
    )


def ask(
    server: FakeServer, path: Path, count: int = 10, meter: Meter | None = None, **options: Any
) -> list[Completion]:
    engine = open_engine(spec(server.url, **options), journal=path, meter=meter, step="s")
    with closing(engine):
        asked = [Request.of(f"question {i}") for i in range(count)]
        return list(engine.generate(asked, Sampling()))


def questions(answers: list[Completion]) -> list[str]:
    return [answer.text.split("«")[1].split("»")[0] for answer in answers]


EXPECTED = [f"question {i}" for i in range(10)]


def test_one_batch_answers_all_in_request_order(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with FakeServer() as server:
        assert questions(ask(server, path)) == EXPECTED
        assert len(server.batches.made) == 1
        assert server.batches.made["batch-0"]["endpoint"] == "/v1/chat/completions"
        # A second run asks for nothing.
        assert questions(ask(server, path)) == EXPECTED
        assert len(server.batches.made) == 1
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert all(record["batch"] and record["step"] == "s" for record in records)
    for file in tmp_path.iterdir():
        assert SECRET not in file.read_text("utf-8")


def test_the_chat_endpoint_goes_on_with_what_a_batch_answered(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with FakeServer() as server:
        batch = ask(server, path)
        engine = open_engine(spec(server.url, endpoint="chat"), journal=path)
        with closing(engine):
            asked = [Request.of(question) for question in EXPECTED]
            assert list(engine.generate(asked, Sampling())) == batch
        assert server.asked == Counter(EXPECTED)


def test_equal_requests_without_a_journal(tmp_path: Path) -> None:
    with FakeServer() as server:
        engine = open_engine(spec(server.url))
        with closing(engine):
            asked = [Request.of("a"), Request.of("b"), Request.of("a")]
            texts = [answer.text for answer in engine.generate(asked, Sampling())]
    assert texts[0] == texts[2] != texts[1]
    assert server.asked == Counter("ab")


def test_large_work_becomes_several_batches(tmp_path: Path) -> None:
    with FakeServer() as server:
        answers = ask(server, tmp_path / "j.jsonl", batch_requests=4)
        assert questions(answers) == EXPECTED
        assert len(server.batches.made) == 3


def test_failed_rows_are_asked_again_and_refused_prompts_are_not(tmp_path: Path) -> None:
    failed: set[str] = set()

    def plan(number: int, body: dict[str, Any]) -> Reply:
        prompt = body["messages"][-1]["content"]
        if prompt == "question 2":
            return Reply(400, error_body("too long", "context_length_exceeded"))
        if prompt in ("question 3", "question 4") and prompt not in failed:
            failed.add(prompt)
            return Reply(500 if prompt[-1] == "3" else 429, error_body("busy"))
        return OK

    with FakeServer(plan) as server:
        answers = ask(server, tmp_path / "j.jsonl")
        assert [a.finish_reason for a in answers].count("error") == 1
        assert answers[2].finish_reason == "error"
        assert questions(answers[3:]) == EXPECTED[3:]
        again = {"question 3": 2, "question 4": 2}
        assert server.asked == Counter({**dict.fromkeys(EXPECTED, 1), **again})


def test_an_expired_batch_keeps_what_it_answered(tmp_path: Path) -> None:
    with FakeServer() as server:
        server.batches.ended, server.batches.part = "expired", 0.5
        answers = ask(server, tmp_path / "j.jsonl", retries=9)
        assert questions(answers) == EXPECTED
        assert max(server.asked.values()) == 1
        assert len(server.batches.made) > 1


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        (lambda number, body: Reply(500, error_body("boom")), "HTTP 500: boom"),
        (lambda number, body: Reply(401, error_body(f"bad {SECRET}")), "HTTP 401: bad \\*\\*\\*"),
    ],
    ids=["500", "401"],
)
def test_what_never_works_is_an_error(tmp_path: Path, plan: Plan, problem: str) -> None:
    with FakeServer(plan) as server, pytest.raises(StageError, match=problem):
        ask(server, tmp_path / "j.jsonl", retries=1)


def test_a_batch_that_the_server_refuses_is_an_error(tmp_path: Path) -> None:
    with FakeServer() as server:
        server.batches.ended, server.batches.part = "failed", 0.0
        with pytest.raises(StageError, match="batch-0 failed"):
            ask(server, tmp_path / "j.jsonl")


def test_a_batch_made_though_the_answer_was_lost_is_found(tmp_path: Path) -> None:
    with FakeServer() as server:
        server.batches.lost = 1
        assert questions(ask(server, tmp_path / "j.jsonl")) == EXPECTED
        assert len(server.batches.made) == 1
        assert server.asked == Counter(EXPECTED)


def test_a_kill_between_upload_and_batch_is_made_good(tmp_path: Path) -> None:
    with FakeServer() as server:
        ask(server, tmp_path / "j.jsonl")
        state = (tmp_path / "j.batches").read_text().splitlines()
        # As after a kill before `created` was written, and before any answer.
        (tmp_path / "j.batches").write_text(state[0] + '\n{"event": "crea')
        (tmp_path / "j.jsonl").unlink()
        assert questions(ask(server, tmp_path / "j.jsonl")) == EXPECTED
        assert len(server.batches.made) == 1
        # The torn line did not swallow what was written after it.
        assert '"created"' in (tmp_path / "j.batches").read_text().splitlines()[-1]


def test_a_batch_that_is_gone_at_the_server_is_made_again(tmp_path: Path) -> None:
    with FakeServer() as server:
        ask(server, tmp_path / "j.jsonl")
        (tmp_path / "j.jsonl").unlink()
        server.batches.made.clear()
        assert questions(ask(server, tmp_path / "j.jsonl")) == EXPECTED


def test_only_what_the_budget_allows_is_sent_and_paid_at_the_batch_price(tmp_path: Path) -> None:
    # Worst case of one request: 10 bytes and 16 for the turn at 1, 256 tokens at 2, half price.
    prices = Prices(prompt=1, completion=2)
    worst = prices.money(26, 256, batch=True)
    meter = Meter(Budget(money=worst * 3.5))
    with FakeServer() as server:
        server.usage = {"prompt_tokens": 20, "completion_tokens": 200}
        with pytest.raises(BudgetReached, match="budget is reached"):
            ask(server, tmp_path / "j.jsonl", meter=meter, prices=prices)
        asked = sum(server.asked.values())
        assert len(server.batches.made) == 2
    assert meter.spent.requests == asked == 4
    one = (20 + 2 * 200) / 1e6 / 2
    assert meter.spent.money == pytest.approx(4 * one)
    # Three fitted at their worst; when their cost was known, one more did, and then none.
    assert 3 * one + worst <= worst * 3.5 < 4 * one + worst


CLIENT = """
import sys
from pathlib import Path
from test_engines_batch import ask, FakeServer
class Server: url = sys.argv[1]
print(len(ask(Server, Path(sys.argv[2]))))
"""


def test_killed_while_waiting_and_run_again_pays_once(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with FakeServer() as server:
        server.batches.polls = 10**9
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, server.url, str(path)], env=environment
        )
        deadline = time.monotonic() + 60
        while not server.batches.made.get("batch-0", {}).get("looked"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        client.send_signal(signal.SIGKILL)
        client.wait()
        server.batches.polls = 0
        assert questions(ask(server, path)) == EXPECTED
        assert len(server.batches.made) == 1
        assert server.asked == Counter(EXPECTED)
