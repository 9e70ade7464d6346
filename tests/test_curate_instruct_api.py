"""Self-Instruct and Alpaca mode through the API engine, over real sockets that fail."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fake_server import OK, FakeServer, Reply
from scripted import rows_and_rejects

from espalier.curate.config_instruct import AlpacaConfig, SelfInstructConfig
from espalier.curate.options import Language
from espalier.curate.pipeline import Ledger
from espalier.curate.seed_tasks import read_seeds, seed_path
from espalier.curate.self_instruct import generator
from espalier.engines.api import OpenAIEngine
from espalier.engines.base import Completion, EngineSpec, Request, Sampling
from espalier.engines.offline import OfflineEngine
from espalier.journal import Journal, JournaledEngine
from espalier.records import Example, parse_messages

TEACHER = OfflineEngine(seed=1, options={"list_truncation_rate": 0.5})
FAULTS = (
    Reply(status=429, body=b"{}", headers={"Retry-After": "0.02"}),
    Reply(status=500, body=b"oops"),
    Reply(cut=40),
    Reply(body=b'{"choices": [{'),
    Reply(body=b'{"choices": []}'),
)


def completion(body: dict[str, Any]) -> Completion:
    """What the embedded teacher says: a function of the request alone."""
    request = Request(parse_messages(body["messages"], "a request"), sample=body["seed"])
    sampling = Sampling(temperature=body["temperature"], max_tokens=body["max_tokens"])
    return next(TEACHER.generate([request], sampling))


def run(
    config: SelfInstructConfig | AlpacaConfig, language: Language, journal: Path, seed: int | None
) -> tuple[Any, FakeServer]:
    """Rows and rejects; with a seed, every other request fails in one of the ways above."""
    rng = Random(seed)

    def plan(number: int, body: dict[str, Any]) -> Reply:
        if seed is not None and rng.random() < 0.5:
            return rng.choice(FAULTS)
        return OK if completion(body).finish_reason == "stop" else Reply(finish_reason="length")

    def start(engine: Any, ledger: Ledger) -> Iterator[Example]:
        return generator(
            engine, config, language, read_seeds(seed_path(language)), 5, ledger
        ).rows()

    with FakeServer(plan, lambda body: completion(body).text) as server:
        spec = EngineSpec(
            engine="openai", model="m", base_url=server.url, retries=30, concurrency=8,
            options={"backoff_seconds": 0.005},
        )  # fmt: skip
        engine = OpenAIEngine(spec)
        with contextlib.closing(engine), Journal(journal) as answers:
            rows, rejects, _ = rows_and_rejects(start, JournaledEngine(engine, answers))
    return (rows, rejects), server


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    "config",
    [SelfInstructConfig(target=30), AlpacaConfig(mode="alpaca", target=80, requests_per_round=4)],
    ids=["self-instruct", "alpaca"],
)
def test_faults_of_a_server_change_nothing_and_cost_no_answer_twice(
    config: SelfInstructConfig | AlpacaConfig, language: Language, tmp_path: Path
) -> None:
    calm, served = run(config, language, tmp_path / "calm.jsonl", None)
    assert len(calm[0]) >= config.target
    assert any(reject["rule"] == "truncated" for reject in calm[1])
    stormy, server = run(config, language, tmp_path / "stormy.jsonl", 11)
    assert stormy == calm
    assert len(server.requests) > len(served.requests)
    assert set(server.answered.values()) == {1}
    assert server.answered == served.answered
    again, idle = run(config, language, tmp_path / "stormy.jsonl", None)
    assert again == calm and not idle.requests
