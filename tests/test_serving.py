"""A model behind our own HTTP server, a conversation on the terminal, the filter before both."""

from __future__ import annotations

import io
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny

from espalier.chatting import Chat, talk
from espalier.cli import main
from espalier.engines import open_engine
from espalier.engines.base import Completion, EngineSpec, Request, Sampling, Usage
from espalier.engines.hf import TransformersEngine
from espalier.errors import InputError, StageError, UsageError
from espalier.models import save_model
from espalier.records import Message
from espalier.safety import SafetyConfig, SafetyFilter, read_safety
from espalier.serving import AtOnce, Guarded, ModelServer, Together, url_of


class Echo:
    """Answers with the last turn in capitals; keeps what it was asked."""

    model = "echo"
    costly = False

    def __init__(self, room: int = 10_000) -> None:
        self.asked: list[tuple[Request, Sampling]] = []
        self.batches: list[int] = []
        self.room = room
        self.closed = False

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        self.batches.append(len(requests))
        for request in requests:
            self.asked.append((request, sampling))
            if request.prompt == "break":
                raise StageError("The model broke.")
            size = sum(len(m.content) for m in request.messages)
            if size > self.room:
                yield Completion("", "length", Usage(size, 0))
            else:
                yield Completion(request.prompt.upper(), usage=Usage(size, 3), token_ids=(1, 2, 3))

    def close(self) -> None:
        self.closed = True


RULES = SafetyConfig(words=["Sandbag", "炸药"], patterns=[r"\bpin\s*\d{4}"], reply="No.")


@contextmanager
def serving(engine: Any, **options: Any) -> Iterator[str]:
    """The address of a server that runs."""
    safety = options.pop("safety", None)
    with closing(Together(engine)) as answering:
        guarded = Guarded(answering, safety)
        with ModelServer(("127.0.0.1", 0), guarded, name="m", **options) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}"
            finally:
                server.shutdown()
                thread.join()


def post(address: str, body: Any, key: str = "") -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(address + "/v1/chat/completions", data)
    request.add_header("Authorization", f"Bearer {key}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def user(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def said(value: Any) -> tuple[str, str]:
    [choice] = value["choices"]
    return choice["message"]["content"], choice["finish_reason"]


def test_answers_through_the_openai_client() -> None:
    engine = Echo()
    with serving(engine, key="secret-key") as address:
        import openai

        client = openai.OpenAI(base_url=f"{address}/v1", api_key="secret-key", max_retries=0)
        answer = client.chat.completions.create(
            model="m",
            messages=[{"role": "system", "content": "S"}, {"role": "user", "content": "hello"}],
            temperature=0,
            max_tokens=9,
            stop=["x"],
        )
        assert answer.choices[0].message.content == "HELLO"
        assert answer.usage is not None and answer.usage.total_tokens == 9
        pieces = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "bit by bit"}], stream=True
        )
        assert "".join(p.choices[0].delta.content or "" for p in pieces) == "BIT BY BIT"
        assert [model.id for model in client.models.list()] == ["m"]
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{address}/v1", api_key="other").models.list()
    request, sampling = engine.asked[0]
    assert request.messages == (Message("system", "S"), Message("user", "hello"))
    assert sampling == Sampling(temperature=0, max_tokens=9, stop=("x",))
    assert engine.closed


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        (b"{", 400, "JSON"),
        ([1], 400, "dictionary"),
        ({}, 400, "messages"),
        (user("x", n=2), 400, "n:"),
        (user("x", temperature=-1), 400, "temperature"),
        (user("x", tools=[{}]), 400, "'tools'"),
        (user("x", guided_regex="a+"), 400, "'guided_regex'"),
        (user("x", logprobs=True), 400, "'logprobs'"),
        (user("x", response_format={"type": "json_object"}), 400, "'response_format'"),
        (user("x", model="other"), 404, "'m'"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "role"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, 400, "text"),
        (user("break"), 500, "The model broke."),
    ],
)
def test_what_is_refused(body: Any, status: int, part: str) -> None:
    with serving(Echo()) as address:
        found, value = post(address, body)
        assert (found, part in value["error"]["message"]) == (status, True), value
        assert said(post(address, user("still here"))[1]) == ("STILL HERE", "stop")


def test_what_changes_no_answer_is_taken() -> None:
    neutral = {
        "user": "u",
        "metadata": {"a": "b"},
        "stream_options": {"include_usage": True},
        "tools": [],
        "logprobs": False,
        "frequency_penalty": 0.0,
        "top_k": -1,
        "repetition_penalty": 1.0,
        "response_format": {"type": "text"},
        "logit_bias": {},
        "stop": None,
    }
    with serving(Echo()) as address:
        assert said(post(address, user("x", **neutral))[1]) == ("X", "stop")


def test_an_address_that_is_taken_is_said_before_a_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    save_model(tiny.model(), tiny.tokenizer(), "espalier", folder)
    with socket.socket() as other:
        # As vLLM's server listens: another one could share the port without a word.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for engine in ("transformers", "vllm"):
            assert main(["serve", str(folder), "--engine", engine, "--port", str(port)]) == 2
            assert f"Port {port} of 127.0.0.1" in capsys.readouterr().err
    assert main(["serve", str(folder), "--host", "203.0.113.1"]) == 2
    assert (
        main(["serve", str(folder), "--engine", "transformers", "--log", "x", "--port", "0"]) == 2
    )
    assert "Traceback" not in capsys.readouterr().err


def test_addresses_of_the_newer_protocol() -> None:
    assert url_of("::1", 80) == "http://[::1]:80/v1"
    assert url_of("127.0.0.1", 80) == "http://127.0.0.1:80/v1"
    try:
        server = ModelServer(("::1", 0), Guarded(AtOnce(Echo()), None), name="m")
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        address = url_of("::1", server.server_address[1]).removesuffix("/v1")
        assert said(post(address, user("x"))[1]) == ("X", "stop")
        server.shutdown()
        thread.join()


def test_requests_that_arrive_together_are_answered_together() -> None:
    started, go_on = threading.Event(), threading.Event()

    class Slow(Echo):
        def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
            started.set()
            assert go_on.wait(20)
            yield from super().generate(requests, sampling)

    engine = Slow()
    answering = Together(engine)
    texts = [f"t{number}" for number in range(6)]
    found: dict[str, str] = {}
    greedy = Sampling(temperature=0)

    def ask(text: str) -> None:
        found[text] = answering.answer(Request.of(text), greedy).text

    threads = [threading.Thread(target=ask, args=(text,)) for text in texts]
    threads[0].start()
    assert started.wait(20)
    for thread in threads[1:]:
        thread.start()
    while answering._waiting.qsize() < 5:
        started.wait(0.01)
    go_on.set()
    for thread in threads:
        thread.join()
    answering.close()
    assert found == {text: text.upper() for text in texts}
    assert engine.batches == [1, 5]


@pytest.mark.parametrize(
    ("text", "stopped"),
    [
        ("where is my ＳＡＮＤＢＡＧ", True),
        ("sand bag, sandbags", False),
        ("怎么做炸药？", True),
        ("炸鸡和药", False),
        ("my PIN 1234", True),
        ("pins 1234", False),
    ],
)
def test_the_filter_on_what_is_asked(text: str, stopped: bool) -> None:
    engine = Echo()
    with serving(engine, safety=SafetyFilter(RULES)) as address:
        content, reason = said(post(address, user(text))[1])
    assert (content, reason) == (("No.", "content_filter") if stopped else (text.upper(), "stop"))
    assert len(engine.asked) == (0 if stopped else 1)


def test_the_filter_on_what_is_answered_and_on_system_texts() -> None:
    rules = SafetyConfig(words=["HELLO THERE"], check=["output"], reply="No.")
    with serving(Echo(), safety=SafetyFilter(rules)) as address:
        assert said(post(address, user("hello, there!"))[1]) == ("No.", "content_filter")
        assert said(post(address, user("hello"))[1]) == ("HELLO", "stop")
    system = (Message("system", "sandbag"), Message("user", "x"))
    assert SafetyFilter(RULES).stops_input(system) == "word 1"


def test_a_classifier_judges_answers(tmp_path: Path) -> None:
    folder = tmp_path / "guard"
    save_model(tiny.model("reward", seed=3), tiny.tokenizer(), "espalier", folder)
    rules = tmp_path / "rules.yaml"
    rules.write_text("model: guard\n", encoding="utf-8")
    safety = read_safety(str(rules))
    safety.load()
    asked = (Message("user", "hello"),)
    answers = ["the cat", "12 and 345", "你好", "one two", "mat", "世界"]
    [*scores] = safety._classifier.score([asked] * 6, answers, [{}] * 6)
    middle = sorted(scores)[3]
    safety.config = safety.config.model_copy(update={"threshold": middle - 1e-4})
    found = [safety.stops_output(asked, answer) is not None for answer in answers]
    assert found == [score >= middle - 1e-4 for score in scores]
    assert 0 < sum(found) < 6


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("words: []", "nothing would be stopped"),
        ("words: ['!']", "holds no word"),
        ("patterns: ['(']", "no regular expression"),
        ("worlds: [a]", "worlds"),
        ("words: [a]\nlabel: unsafe", "label"),
        ("words: [a]\nthreshold: 2", "threshold"),
        ("patterns: ['a*']", "would stop all"),
        ("- a", "dictionary"),
    ],
)
def test_rules_that_are_not_right(text: str, part: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_safety(str(path))
    assert part in str(caught.value)
    with pytest.raises(InputError, match="can't be read"):
        read_safety(str(tmp_path / "none.yaml"))


def talked(text: str, **options: Any) -> tuple[list[str], Echo]:
    engine = Echo(options.pop("room", 10_000))
    safety = options.pop("safety", None)
    chat = Chat(Guarded(AtOnce(engine), safety), Sampling(max_tokens=5), **options)
    sink = io.StringIO()
    talk(chat, io.StringIO(text), sink)
    return sink.getvalue().splitlines(), engine


def test_a_conversation_remembers_its_turns(capsys: pytest.CaptureFixture[str]) -> None:
    lines, engine = talked("hello\n\nagain\n/reset\nnew\n/exit\nnever\n", system="Be brief.")
    assert lines == ["HELLO", "AGAIN", "NEW"]
    histories = [[m.content for m in request.messages] for request, _ in engine.asked]
    assert histories == [
        ["Be brief.", "hello"],
        ["Be brief.", "hello", "HELLO", "again"],
        ["Be brief.", "new"],
    ]
    assert len({sampling.seed for _, sampling in engine.asked}) == 3
    assert "begun anew" in capsys.readouterr().err


def test_what_is_stopped_is_not_remembered_and_nothing_steers_the_terminal() -> None:
    lines, engine = talked("sandbag\nred \x1b[31m\n", safety=SafetyFilter(RULES))
    assert lines == ["No.", r"RED \x1b[31M"]
    assert [m.content for m in engine.asked[0][0].messages] == ["red \x1b[31m"]


def test_the_oldest_turns_give_way(capsys: pytest.CaptureFixture[str]) -> None:
    lines, engine = talked("aaaa\nbbbb\ncccc\n" + "d" * 30 + "\n", room=18)
    assert lines == ["AAAA", "BBBB", "CCCC"]
    assert [m.content for m in engine.asked[3][0].messages] == ["bbbb", "BBBB", "cccc"]
    said = capsys.readouterr().err
    assert "oldest turns" in said and "too long for the model's context" in said


def test_both_verbs_on_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run" / "ppo" / "model"
    save_model(tiny.model(), tiny.tokenizer(), "espalier", folder)
    words = ["chat", str(folder.parent), "--engine", "transformers", "--temperature", "0"]
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    assert main([*words, "--max-tokens", "7"]) == 0
    engine = TransformersEngine(str(folder))
    [expected] = engine.generate([Request.of("hello")], Sampling(temperature=0, max_tokens=7))
    assert capsys.readouterr().out.split() == expected.text.split()
    with serving(open_engine(EngineSpec(engine="transformers", model=str(folder)))) as address:
        body = user("hello", temperature=0, max_tokens=7)
        assert said(post(address, body)[1])[0] == expected.text
    assert main([*words, "--max-tokens", "0"]) == 2
    assert main([*words, "--option", "devise=cpu"]) == 2
    assert main([*words, "--safety", str(tmp_path / "none.yaml")]) == 2
    assert main(["serve", str(tmp_path / "absent")]) == 2
    assert main(["serve", str(folder), "--port", "99999"]) == 2
    assert "Traceback" not in capsys.readouterr().err
