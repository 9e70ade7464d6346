"""The API engine against a server that misbehaves over real sockets."""

from __future__ import annotations

import contextlib
import email.utils
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_server import OK, FakeServer, Plan, Reply, error_body, script

from espalier.engines import open_engine
from espalier.engines.api import OpenAIEngine
from espalier.engines.base import Completion, Engine, EngineSpec, Request, Sampling
from espalier.engines.wire import retry_after
from espalier.errors import EspalierError, StageError, UsageError
from espalier.journal import JournaledEngine
from espalier.records import Message

SECRET = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_KEY", SECRET)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def spec(url: str, **more: Any) -> EngineSpec:
    options = {"backoff_seconds": 0.01, **more.pop("options", {})}
    return EngineSpec(
        engine="openai",
        model="some-model",
        base_url=url,
        api_key_env="FAKE_KEY",
        options=options,
        **{"timeout": 5.0, **more},
    )


def ask(plan: Plan, count: int = 1, **more: Any) -> tuple[list[Completion], FakeServer]:
    with FakeServer(plan) as server:
        engine = OpenAIEngine(spec(server.url, **more))
        with contextlib.closing(engine):
            answers = list(engine.generate(requests(count), Sampling()))
    return answers, server


def requests(count: int) -> list[Request]:
    return [Request.of(f"question {i}") for i in range(count)]


def failure(plan: Plan, count: int = 1, **more: Any) -> tuple[EspalierError, FakeServer]:
    with FakeServer(plan) as server:
        engine = OpenAIEngine(spec(server.url, **more))
        with contextlib.closing(engine), pytest.raises(StageError) as caught:
            list(engine.generate(requests(count), Sampling()))
    assert SECRET not in str(caught.value) + repr(caught.value) + repr(engine)
    return caught.value, server


def test_answers_in_request_order_though_they_arrive_out_of_order() -> None:
    def plan(number: int, body: dict[str, Any]) -> Reply:
        return Reply(delay=0.2 if body["messages"][-1]["content"] == "question 0" else 0.0)

    answers, server = ask(plan, 12, concurrency=4)
    assert [a.text.split("«")[1].split("»")[0] for a in answers] == [
        f"question {i}" for i in range(12)
    ]
    assert answers[0].usage.prompt_tokens == 7
    assert answers[0].finish_reason == "stop"
    assert server.most_at_once <= 4
    # The other workers did not wait for the slow first request.
    assert server.most_at_once > 1
    assert len(server.requests) == 12


def test_what_is_sent() -> None:
    with FakeServer() as server:
        engine = OpenAIEngine(spec(server.url, options={"extra_body": {"min_p": 0.1}}), seed=3)
        sampling = Sampling(0.7, 0.5, 99, ("a", "b", "c", "d", "e"), 2.0, seed=5)
        chat = Request((Message("system", "be brief"), Message("user", "你好")))
        list(engine.generate([chat, Request(chat.messages, sample=1)], sampling))
        engine.close()
    first, second = sorted(server.requests, key=lambda body: str(body["seed"]))
    assert first.pop("seed") != second.pop("seed")
    assert (
        first
        == second
        == {
            "model": "some-model",
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "你好"},
            ],
            "temperature": 0.7,
            "top_p": 0.5,
            "max_tokens": 99,
            "presence_penalty": 2.0,
            "stop": ["a", "b", "c", "d"],
            "min_p": 0.1,
        }
    )
    assert server.headers[0]["authorization"] == f"Bearer {SECRET}"


def test_completions_continue_a_text() -> None:
    with FakeServer() as server:
        engine = OpenAIEngine(spec(server.url, options={"endpoint": "completions"}))
        talk = (Message("system", "be brief"), Message("user", "a"), Message("assistant", "b"))
        asked = [
            Request.of("Once upon a time"),
            Request((*talk, Message("user", "c"))),
            Request(token_ids=(5, 6, 7)),
        ]
        answers = list(engine.generate(asked, Sampling(stop=("x",))))
        engine.close()
    bodies = {str(body["prompt"]): body for body in server.requests}
    assert set(bodies) == {
        "Once upon a time",
        "be brief\n\nUser: a\n\nAssistant: b\n\nUser: c\n\nAssistant:",
        "[5, 6, 7]",
    }
    assert all("messages" not in body for body in server.requests)
    assert bodies["Once upon a time"]["stop"] == ["x"]
    # A model that goes on by itself is stopped where the user's next turn would begin.
    assert next(b for p, b in bodies.items() if "Assistant:" in p)["stop"] == ["x", "\nUser:"]
    assert answers[0].text.startswith("answer to «Once upon a time»")
    assert answers[0].usage.completion_tokens == 5


def test_completions_with_a_template() -> None:
    with FakeServer() as server:
        options = {"endpoint": "completions", "template": "alpaca"}
        engine = OpenAIEngine(spec(server.url, options=options))
        list(engine.generate(requests(1), Sampling()))
        engine.close()
    prompt = server.requests[0]["prompt"]
    assert "### Instruction:\nquestion 0" in prompt
    assert prompt.rstrip().endswith("### Response:")
    assert server.requests[0]["stop"] == ["### Instruction:"]
    with pytest.raises(UsageError, match="no template 'alpacca'"):
        OpenAIEngine(spec(server.url, options={**options, "template": "alpacca"}))


def test_a_continued_text_is_no_chat_answer_in_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with FakeServer() as server:
        for options in ({}, {"endpoint": "completions"}, {}, {"endpoint": "completions"}):
            engine = journaled(server, path, options=options)
            list(engine.generate(requests(1), Sampling()))
            engine.close()
        assert len(server.requests) == 2


def test_stop_strings_beyond_the_four_of_a_request_are_applied_here() -> None:
    with FakeServer() as server:
        engine = OpenAIEngine(spec(server.url))
        stops = ("1", "2", "3", "4", " with")
        [answer] = engine.generate([Request.of("hello")], Sampling(stop=stops))
        engine.close()
    assert answer.text == "answer to «hello»"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500, error_body("boom")),
        Reply(503, b"<html>Service unavailable</html>"),
        Reply(body=b'{"choices": [{"mess'),
        Reply(body=b'{"choices": []}'),
        Reply(body=b'{"error": {"message": "overloaded"}}'),
        Reply(body=b'{"choices": [{"index": 0}]}'),
        Reply(body=b"[1, 2]"),
        Reply(cut=40),
        Reply(cut=0),
        Reply(408, error_body("slow")),
    ],
    ids=["500", "503", "json", "empty", "error", "no-message", "list", "cut", "cut-0", "408"],
)
def test_a_passing_failure_is_tried_again(reply: Reply) -> None:
    answers, server = ask(script([reply, reply]), 1)
    assert answers[0].text.startswith("answer to «question 0»")
    assert len(server.requests) == 3


def test_a_timeout_is_tried_again() -> None:
    answers, server = ask(script([Reply(delay=6.0)]), timeout=2.0)
    assert answers[0].text.startswith("answer to")
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (Reply(500, error_body("boom")), "HTTP 500: boom"),
        (Reply(body=b"not json at all"), "not valid JSON (it begins with 'not json at all')"),
        (Reply(body=b'{"choices": []}'), "holds no choices"),
        (Reply(cut=10), "connection failed"),
        (Reply(delay=0.5), "no answer within 0.1 s"),
    ],
    ids=["500", "json", "empty", "cut", "timeout"],
)
def test_a_lasting_failure_names_model_url_and_problem(reply: Reply, problem: str) -> None:
    error, server = failure(
        lambda number, body: reply, retries=2, timeout=0.1 if reply.delay else 30
    )
    assert len(server.requests) == 3
    assert problem in str(error)
    assert "after 3 attempts" in str(error)
    assert "some-model" in str(error)
    assert error.where == server.url


def test_a_server_that_is_not_there() -> None:
    with FakeServer() as server:
        pass
    engine = OpenAIEngine(spec(server.url, retries=1))
    with pytest.raises(StageError, match="connection failed"):
        list(engine.generate(requests(1), Sampling()))
    engine.close()


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "FAKE_KEY"), (403, "FAKE_KEY"), (404, "base_url")]
)
def test_a_refusal_stops_at_once_with_a_hint(status: int, hint: str) -> None:
    echo = error_body(f"Incorrect API key provided: {SECRET}")
    error, server = failure(lambda number, body: Reply(status, echo), 50, concurrency=2)
    assert len(server.requests) <= 2
    assert f"HTTP {status}" in str(error)
    assert error.hint is not None
    assert hint in error.hint
    assert "***" in str(error)


def test_one_refused_prompt_does_not_end_the_job() -> None:
    refusal = Reply(400, error_body("too long", "context_length_exceeded"))

    def plan(number: int, body: dict[str, Any]) -> Reply:
        return refusal if body["messages"][-1]["content"] == "question 1" else OK

    answers, server = ask(plan, 3)
    assert [a.finish_reason for a in answers] == ["stop", "error", "stop"]
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("sent", "expected"), [("length", "length"), ("content_filter", "error"), ("tool", "stop")]
)
def test_finish_reasons(sent: str, expected: str) -> None:
    answers, _ = ask(lambda number, body: Reply(finish_reason=sent))
    assert answers[0].finish_reason == expected


def test_a_storm_of_429_costs_no_attempt_and_is_waited_out_together() -> None:
    storm = Reply(429, error_body("slow down"), {"Retry-After": "0.3"})
    answers, server = ask(script([storm] * 8), 16, concurrency=4, retries=0)
    assert len(answers) == 16
    assert len(server.requests) == 24
    # Eight refusals at four requests at a time are two rounds of waiting 0.3 s.
    assert server.times[-1] - server.times[0] >= 0.6


def test_a_rate_limit_that_never_ends_is_given_up_with_the_figures() -> None:
    storm = Reply(429, error_body("slow down"), {"Retry-After": "0.1"})
    options = {"rate_limit_seconds": 0.5}
    error, server = failure(lambda number, body: storm, 4, options=options)
    assert "HTTP 429: slow down" in str(error)
    assert "next try in 0 s" in str(error)
    assert error.hint is not None
    assert "rate_limit_seconds" in error.hint
    assert 4 < len(server.requests) < 60


def test_an_exhausted_quota_is_no_rate_limit() -> None:
    broke = Reply(429, error_body("You exceeded your current quota", "insufficient_quota"))
    error, server = failure(lambda number, body: broke, concurrency=1)
    assert len(server.requests) == 1
    assert "quota" in str(error)


def test_retry_after_is_read_in_all_three_forms() -> None:
    assert retry_after({"retry-after": "3"}) == 3
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert retry_after({"retry-after": date}) == pytest.approx(30, abs=2)
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None


def test_a_missing_key_is_an_error_except_for_a_server_nearby(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FAKE_KEY")
    with pytest.raises(UsageError, match="FAKE_KEY"):
        OpenAIEngine(spec("https://api.example.com/v1"))
    for url in ("http://localhost:1/v1", "http://192.168.1.5:8000/v1", "http://[::1]:1/v1"):
        OpenAIEngine(spec(url)).close()
    with FakeServer() as server:
        engine = OpenAIEngine(spec(server.url))
        assert list(engine.generate(requests(1), Sampling()))
        engine.close()


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://example.com", "http://"])
def test_a_base_url_without_a_scheme_or_host_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="no address of an API"):
        OpenAIEngine(spec(url))


def test_a_password_in_the_address_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:hunter2@localhost:1/v1")
    engine = OpenAIEngine(EngineSpec(engine="openai", model="m", api_key_env="FAKE_KEY"))
    assert "hunter2" not in engine.url + repr(engine)


def test_an_unknown_option_and_token_ids_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="'temprature'"):
        OpenAIEngine(spec("http://localhost:1", options={"temprature": 1}))
    engine = OpenAIEngine(spec("http://localhost:1"))
    with pytest.raises(UsageError, match="token ids"):
        list(engine.generate([Request(token_ids=(1, 2))], Sampling()))


def test_leaving_early_cancels_what_is_still_asked() -> None:
    with FakeServer(lambda number, body: Reply(delay=0.05)) as server:
        engine = OpenAIEngine(spec(server.url, concurrency=2))
        answers = engine.generate(requests(200), Sampling())
        next(answers)
        answers.close()
        asked = len(server.requests)
        time.sleep(0.3)
        assert len(server.requests) <= asked + 2
        # The engine is still usable.
        assert len(list(engine.generate(requests(2), Sampling()))) == 2
        engine.close()


def journaled(server: FakeServer, path: Path, **more: Any) -> Engine:
    return open_engine(spec(server.url, **more), journal=path)


def test_nothing_that_arrived_is_asked_again_after_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    fatal = Reply(401, error_body(f"bad key {SECRET}"))

    def plan(number: int, body: dict[str, Any]) -> Reply:
        # The failing request comes first in order; the others answer while it is in flight.
        if body["messages"][-1]["content"] == "question 0":
            return Reply(401, fatal.body, delay=0.3)
        return OK

    with FakeServer(plan) as server:
        engine = journaled(server, path, concurrency=4)
        with pytest.raises(StageError):
            list(engine.generate(requests(10), Sampling()))
        engine.close()
        answered = dict(server.answered)
        assert len(answered) == 9
        server.plan = lambda number, body: OK
        engine = journaled(server, path)
        assert len(list(engine.generate(requests(10), Sampling()))) == 10
        engine.close()
        assert server.asked == Counter({f"question {i}": 1 for i in range(1, 10)}) + Counter(
            {"question 0": 2}
        )
    assert SECRET not in path.read_text(encoding="utf-8")


def test_in_flight_answers_are_awaited_and_kept_when_another_fails(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"

    def plan(number: int, body: dict[str, Any]) -> Reply:
        if body["messages"][-1]["content"] == "question 0":
            return Reply(401, error_body("no"))
        return Reply(delay=0.2)

    with FakeServer(plan) as server:
        engine = journaled(server, path, concurrency=4)
        with pytest.raises(StageError):
            list(engine.generate(requests(10), Sampling()))
        assert isinstance(engine, JournaledEngine)
        assert len(engine.journal) == 3 == sum(server.answered.values())
        engine.close()


CLIENT = """
import sys
from pathlib import Path
from espalier.engines import open_engine
from espalier.engines.base import EngineSpec, Request, Sampling
url, journal, count = sys.argv[1:]
spec = EngineSpec(engine="openai", model="m", base_url=url, api_key_env="FAKE_KEY", concurrency=4)
engine = open_engine(spec, journal=Path(journal))
asked = [Request.of(f"question {i}") for i in range(int(count))]
try:
    for answer in engine.generate(asked, Sampling()):
        print(answer.text, flush=True)
except KeyboardInterrupt:
    engine.close()
    sys.exit(130)
engine.close()
"""


def start_client(server: FakeServer, path: Path, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CLIENT, server.url, str(path), str(count)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=dict(os.environ))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def keys_in(path: Path) -> list[str]:
    keys = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            keys.append(json.loads(line)["messages"][-1]["content"])
    return keys


@pytest.mark.slow
@pytest.mark.ci_slice
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill-9", "ctrl-c"])
def test_killed_in_the_middle_and_run_again(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "journal.jsonl"
    count = 60
    with FakeServer(lambda n, body: Reply(delay=0.02)) as server:
        client = start_client(server, path, count)
        wait_until(lambda: sum(server.answered.values()) >= 20)
        client.send_signal(number)
        _, stderr = client.communicate(timeout=30)
        assert client.returncode == (-9 if number == signal.SIGKILL else 130), stderr
        journaled_keys = keys_in(path)
        assert len(journaled_keys) >= 15
        asked_before = Counter(server.asked)
        client = start_client(server, path, count)
        out, stderr = client.communicate(timeout=30)
        assert client.returncode == 0, stderr
    lines = out.splitlines()
    assert [line.split("«")[1].split("»")[0] for line in lines] == [
        f"question {i}" for i in range(count)
    ]
    asked_again = Counter(server.asked) - asked_before
    assert not set(journaled_keys) & set(asked_again)
    assert sorted(keys_in(path)) == sorted(f"question {i}" for i in range(count))
    assert SECRET not in out + stderr + path.read_text(encoding="utf-8")
