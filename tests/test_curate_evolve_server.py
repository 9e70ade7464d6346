"""Evol-Instruct and self-chat through the API engine, against a server that fails, over sockets."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fake_server import OK, FakeServer, Reply, error_body

from espalier.curate.config_dialogues import SelfChatConfig
from espalier.curate.config_evolve import EvolveConfig
from espalier.curate.evolve import evolve
from espalier.curate.pipeline import Ledger
from espalier.curate.self_chat import self_chat
from espalier.engines import open_engine
from espalier.engines.base import Engine, EngineSpec
from espalier.errors import StageError
from espalier.records import Example, content_id

pytestmark = pytest.mark.slow
SECRET = "sk-secret-9876543210"
Outcome = tuple[list[dict[str, Any]], str]
Job = Callable[[Engine], Outcome]
TROUBLE = (
    Reply(429, error_body("slow down"), {"Retry-After": "0.02"}),
    Reply(429, error_body("slow down"), {"Retry-After": "0.05"}),
    Reply(500, error_body("broken")),
    Reply(503, error_body("busy")),
    Reply(cut=40),
    Reply(cut=0),
    Reply(body=b"<html>bad gateway</html>"),
    Reply(body=b'{"choices": [], "usage": null}'),
)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_KEY", SECRET)


def answer(body: dict[str, Any]) -> str:
    """A pure function of the conversation and the seed, with all that eliminations look for."""
    text = str(body["messages"][-1]["content"])
    name = content_id(*(m["content"] for m in body["messages"]), str(body.get("seed")))
    chance = int(name, 16) / 16**16
    if "#Given Prompt#" in text:
        if chance < 0.1:
            return "Do the rewritten prompt"
        return f"#Rewritten Prompt#:\nSay what {name[:8]} is"
    if text.startswith("Are the two prompts"):
        return "Equal" if chance < 0.1 else "Not equal"
    if text.startswith("Play the user"):
        return "[END]" if chance < 0.2 else f"And what is {name[:8]}?"
    return "Sorry." if chance < 0.1 else f"It is {name[8:]}."


def reason(body: dict[str, Any]) -> Reply:
    """Some answers are always cut off by their length."""
    name = content_id(str(body["messages"][-1]["content"]))
    return Reply(finish_reason="length") if int(name, 16) % 19 == 0 else OK


def first_trouble(seed: int) -> Callable[[int, dict[str, Any]], Reply]:
    """Each conversation meets some trouble before it is answered."""
    arrived: Counter[str] = Counter()

    def plan(number: int, body: dict[str, Any]) -> Reply:
        name = content_id(str(body["messages"]), str(body.get("seed")))
        rng = Random(f"{seed}:{name}")
        troubles = [rng.choice(TROUBLE) for _ in range(rng.choice((0, 0, 1, 2)))]
        arrived[name] += 1
        return troubles[arrived[name] - 1] if arrived[name] <= len(troubles) else reason(body)

    return plan


def evolving(engine: Engine) -> Outcome:
    handle = io.StringIO()
    rows = [Example.single(f"Tell me about matter {n}.") for n in range(12)]
    made = evolve(rows, engine, engine, EvolveConfig(rounds=3), 1, Ledger("evolve", handle))
    return [row.to_json() for row in made], handle.getvalue()


def chatting(engine: Engine) -> Outcome:
    handle = io.StringIO()
    rows = [Example.single(f"What is matter {n}?") for n in range(12)]
    made = self_chat(rows, engine, SelfChatConfig(turns=3), 1, Ledger("chat", handle))
    return [row.to_json() for row in made], handle.getvalue()


def run(job: Job, server: FakeServer, journal: Path) -> Outcome:
    spec = EngineSpec(
        engine="openai",
        model="some-model",
        base_url=server.url,
        api_key_env="FAKE_KEY",
        timeout=5.0,
        options={"backoff_seconds": 0.01},
    )
    with contextlib.closing(open_engine(spec, seed=1, journal=journal)) as engine:
        return job(engine)


@pytest.mark.parametrize("job", [evolving, chatting])
def test_trouble_changes_nothing_and_nothing_is_asked_again(job: Job, tmp_path: Path) -> None:
    with FakeServer(lambda number, body: reason(body), answer) as calm:
        whole = run(job, calm, tmp_path / "calm.jsonl")
    assert len(whole[0]) > 5
    journal = tmp_path / "journal.jsonl"
    with FakeServer(first_trouble(7), answer) as server:
        assert run(job, server, journal) == whole
        assert len(server.requests) > len(calm.requests)
        # Each conversation was answered as often as without trouble.
        assert server.answered == calm.answered
        before = len(server.requests)
        assert run(job, server, journal) == whole
        assert len(server.requests) == before
    assert SECRET not in journal.read_text(encoding="utf-8")


@pytest.mark.parametrize("job", [evolving, chatting])
def test_a_run_that_broke_off_goes_on_where_it_was(job: Job, tmp_path: Path) -> None:
    with FakeServer(lambda number, body: reason(body), answer) as calm:
        whole = run(job, calm, tmp_path / "calm.jsonl")
    journal = tmp_path / "journal.jsonl"
    for dead_after in (3, 7, 9):

        def plan(number: int, body: dict[str, Any], last: int = dead_after) -> Reply:
            return Reply(401, error_body("no")) if number >= last else reason(body)

        with FakeServer(plan, answer) as server, pytest.raises(StageError) as caught:
            run(job, server, journal)
        assert SECRET not in str(caught.value)
    kept = journal.read_text(encoding="utf-8").count("\n")
    with FakeServer(lambda number, body: reason(body), answer) as server:
        assert run(job, server, journal) == whole
        assert len(server.requests) == len(calm.requests) - kept
