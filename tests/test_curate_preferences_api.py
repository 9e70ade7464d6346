"""Preferences and constitutional revision through the API engine, over real sockets that fail."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fake_server import OK, FakeServer, Reply

from espalier.curate.config_constitution import ConstitutionConfig
from espalier.curate.config_filters import FilterConfig
from espalier.curate.config_preferences import PreferencesConfig
from espalier.curate.constitution import revise
from espalier.curate.filters import answer_rules
from espalier.curate.judged import judged_answers
from espalier.curate.pipeline import Ledger
from espalier.curate.preferences import Answers, make_pairs, ranking_pairs
from espalier.curate.principles import constitution_path, read_principles
from espalier.curate.safety import safety_rows
from espalier.curate.verdicts import confirmed
from espalier.curate.weak import with_weak_answers
from espalier.engines.api import OpenAIEngine
from espalier.engines.base import Completion, Engine, EngineSpec, Request, Sampling
from espalier.engines.offline import OfflineEngine
from espalier.journal import Journal, JournaledEngine
from espalier.judging import Judge
from espalier.offline.source import draw_prompts
from espalier.records import parse_messages

MODELS = {
    "strong": OfflineEngine(seed=1, options={"naive_rate": 0.7, "truncation_rate": 0.1}),
    "weak": OfflineEngine(seed=2, options={"error_rate": 0.5}),
    "judge": OfflineEngine(seed=3),
}
FAULTS = (
    Reply(status=429, body=b"{}", headers={"Retry-After": "0.02"}),
    Reply(status=500, body=b"oops"),
    Reply(cut=40),
    Reply(body=b'{"choices": [{'),
    Reply(body=b'{"choices": []}'),
)
Engines = dict[str, Engine]


def completion(body: dict[str, Any]) -> Completion:
    """What the embedded models say: a function of the request alone."""
    request = Request(parse_messages(body["messages"], "a request"), sample=body["seed"])
    sampling = Sampling(temperature=body["temperature"], max_tokens=body["max_tokens"])
    return next(MODELS[body["model"]].generate([request], sampling))


def preferences(engines: Engines, ledger: Ledger) -> Iterator[Any]:
    """All ways to make pairs: rankings, a weak teacher checked, corruptions checked."""
    config = PreferencesConfig.model_validate(
        {"samples": 3, "ranking": {"extra": 2}, "weak": {}, "verify_weak": "flip", "min_rating": 3}
    )
    rows = draw_prompts(40, seed=6)
    judge = Judge(engines["judge"])
    rules = answer_rules(FilterConfig())
    found = judged_answers(
        rows, engines["strong"], judge, config, rules, ledger, 1, ledger.tally("comparisons")
    )
    tally = ledger.tally("weak")
    items = list(with_weak_answers(found, engines["weak"], judge, config, tally, 1))
    yield from ranking_pairs(items, "all", rules, ledger.tally("pairs of rankings"))
    tally = ledger.tally("judge on corruptions")
    yield from make_pairs(
        items, Answers(items), config, None, "s", lambda pairs: confirmed(pairs, judge, tally)
    )


def constitution(engines: Engines, ledger: Ledger) -> Iterator[Any]:
    principles = read_principles([constitution_path("en"), constitution_path("zh")])
    rows = [*list(safety_rows(["en", "zh"], ["harmful"]))[:150:5], *draw_prompts(20, seed=7)]
    config = ConstitutionConfig(judge=True)
    for item in revise(rows, engines["strong"], engines["judge"], principles, config, 1, ledger):
        yield item.example()
        yield item.pair()


def run(method: Any, folder: Path, seed: int | None) -> tuple[Any, FakeServer]:
    """Results and rejects; with a seed, every other request fails in one of the ways above."""
    rng = Random(seed)
    handle = io.StringIO()

    def plan(number: int, body: dict[str, Any]) -> Reply:
        if seed is not None and rng.random() < 0.5:
            return rng.choice(FAULTS)
        return OK if completion(body).finish_reason == "stop" else Reply(finish_reason="length")

    with (
        FakeServer(plan, lambda body: completion(body).text) as server,
        contextlib.ExitStack() as stack,
    ):
        engines: Engines = {}
        for name in MODELS:
            spec = EngineSpec(
                engine="openai", model=name, base_url=server.url, retries=30, concurrency=8,
                options={"backoff_seconds": 0.005},
            )  # fmt: skip
            journal = stack.enter_context(Journal(folder / f"{name}.jsonl"))
            engine = stack.enter_context(contextlib.closing(OpenAIEngine(spec)))
            engines[name] = JournaledEngine(engine, journal)
        made = [json.dumps(item.to_json()) for item in method(engines, Ledger("m", handle))]
    return (made, handle.getvalue()), server


@pytest.mark.slow
@pytest.mark.parametrize("method", [preferences, constitution])
def test_faults_of_a_server_change_nothing_and_cost_no_answer_twice(
    method: Any, tmp_path: Path
) -> None:
    calm, served = run(method, tmp_path / "calm", None)
    assert len(calm[0]) > 20
    assert '"rule":"t' in calm[1]
    stormy, server = run(method, tmp_path / "stormy", 11)
    assert stormy == calm
    assert len(server.requests) > 1.5 * len(served.requests)
    assert server.answered == served.answered
    again, idle = run(method, tmp_path / "stormy", None)
    assert again == calm
    assert not idle.requests
