"""A real OpenAI-compatible server with a tiny model: our engine for it, and the generators."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vllm_models import VLLM, all_gone, environment, group_of, save_tiny

from espalier.cli import main
from espalier.curate.config_evolve import EvolveConfig
from espalier.curate.config_instruct import SelfInstructConfig
from espalier.curate.config_preferences import PreferencesConfig
from espalier.curate.evolve import evolve
from espalier.curate.judged import judged_answers
from espalier.curate.pipeline import Ledger
from espalier.curate.seed_tasks import read_seeds, seed_path
from espalier.curate.self_instruct import generator
from espalier.engines import open_engine
from espalier.engines.base import Engine, EngineSpec, Request, Sampling
from espalier.engines.hf import TransformersEngine
from espalier.engines.vllm_server import ServerEngine
from espalier.errors import InputError, StageError
from espalier.judging import Judge
from espalier.records import Example

pytestmark = VLLM
CONTEXT = 4096
GREEDY = Sampling(temperature=0, max_tokens=24, stop=("zq",))
TEXTS = ("hello", "count the words: one two", "你好，世界", "the cat")
Job = Callable[[Engine], tuple[int, list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("server") / "model", context=CONTEXT)


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerEngine]:
    log = tmp_path_factory.mktemp("log") / "server.log"
    spec = EngineSpec(engine="vllm-server", model=str(folder), options={"log": str(log)})
    with closing(ServerEngine(spec, seed=1)) as engine:
        list(engine.generate([Request.of("hello")], Sampling(max_tokens=1)))
        yield engine
        assert str(engine.key) not in log.read_text(encoding="utf-8", errors="replace")


@pytest.fixture
def client(server: ServerEngine, monkeypatch: pytest.MonkeyPatch) -> EngineSpec:
    """The server as any other API: its chat endpoint, with a key from the environment."""
    monkeypatch.setenv("SERVER_KEY", str(server.key))
    return EngineSpec(
        engine="openai",
        model=server.model,
        base_url=server.url,
        api_key_env="SERVER_KEY",
        options={"extra_body": {"stop_token_ids": [4]}},
    )


def answered(server: ServerEngine) -> int:
    """Requests that the server itself says it has finished."""
    address = str(server.url).removesuffix("/v1") + "/metrics"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    text = opener.open(address, timeout=10).read().decode()
    counts = re.findall(r"^vllm:request_success_total\{.*\} ([0-9.e+]+)$", text, re.MULTILINE)
    return round(sum(map(float, counts)))


def shown(text: str) -> str:
    """Without the halves of characters at the end, which a server keeps back."""
    return text.rstrip("\ufffd").strip()


def test_greedy_answers_are_those_of_transformers(
    server: ServerEngine, client: EngineSpec, folder: Path
) -> None:
    asked = [Request.of(text) for text in TEXTS]
    expected = list(TransformersEngine(str(folder), device="cpu").generate(asked, GREEDY))
    found = list(server.generate(asked, GREEDY))
    with closing(open_engine(client)) as chat:
        through_chat = list(chat.generate(asked, GREEDY))
    for ours, other, theirs in zip(found, through_chat, expected, strict=True):
        assert shown(ours.text) == shown(other.text.strip()) == shown(theirs.text)
        assert ours.finish_reason == theirs.finish_reason
        assert ours.usage == other.usage == theirs.usage


def test_scores_of_given_tokens_are_those_of_transformers(
    server: ServerEngine, folder: Path
) -> None:
    assert server.longest() == CONTEXT
    sequences = [tuple(5 + i * 7 % 200 for i in range(n)) for n in (1, 2, 90, CONTEXT)]
    found = list(server.score(sequences))
    other = TransformersEngine(str(folder), device="cpu")
    for ours, theirs in zip(found, other.score(sequences), strict=True):
        assert ours.best == theirs.best
        np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=2e-4)
        np.testing.assert_allclose(ours.best_logprobs, theirs.best_logprobs, atol=2e-4)
    with pytest.raises(InputError, match="to score"):
        list(server.score([(5,) * (CONTEXT + 1)]))


def test_samples_differ_and_come_again(server: ServerEngine) -> None:
    asked = [Request.of("hello", sample=number) for number in range(12)]
    sampling = Sampling(temperature=1, max_tokens=16)
    first = [c.text for c in server.generate(asked, sampling)]
    assert len(set(first)) == 12
    assert [c.text for c in server.generate(asked[::-1], sampling)] == first[::-1]


def test_prompts_that_are_too_long_end_alone(server: ServerEngine, client: EngineSpec) -> None:
    long = Request.of("hello world, " * 2000)
    nearly = Request(token_ids=(7,) * (CONTEXT - 3))
    found = list(server.generate([Request.of("hello"), long, nearly], GREEDY))
    assert [c.finish_reason == "length" for c in found[1:]] == [True, True]
    assert found[1].text == ""
    assert [c.usage.completion_tokens for c in found[1:]] == [0, 3]
    with closing(open_engine(client)) as chat:
        reasons = [c.finish_reason for c in chat.generate([Request.of("hello"), long], GREEDY)]
    assert reasons[0] != "error"
    assert reasons[1] == "error"


def self_instruct(engine: Engine) -> tuple[int, list[dict[str, Any]]]:
    handle = io.StringIO()
    ledger = Ledger("self-instruct", handle)
    config = SelfInstructConfig(
        target=4, requests_per_round=3, max_rounds=2, max_tokens=48, instance_max_tokens=32
    )
    rows = 0
    for language in ("en", "zh"):
        seeds = read_seeds(seed_path(language))
        rows += len(list(generator(engine, config, language, seeds, 1, ledger).rows()))  # type: ignore[arg-type]
    return rows, read(handle)


def evolving(engine: Engine) -> tuple[int, list[dict[str, Any]]]:
    handle = io.StringIO()
    prompts = ["Tell me about rivers.", "Name three birds.", "说说春天。", "列出三种水果。"]
    rows = [Example.single(prompt) for prompt in prompts]
    config = EvolveConfig(rounds=2, max_tokens=48)
    made = evolve(rows, engine, engine, config, 1, Ledger("evolve", handle))
    return len(list(made)), read(handle)


def preferring(engine: Engine) -> tuple[int, list[dict[str, Any]]]:
    handle = io.StringIO()
    rows = [Example.single(f"What is matter {number}?") for number in range(6)]
    config = PreferencesConfig(samples=3, max_tokens=40)
    ledger = Ledger("preferences", handle)
    found = judged_answers(rows, engine, Judge(engine), config, [], ledger, 1)
    return len(list(found)), read(handle)


def read(handle: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in handle.getvalue().split("\n") if line]


def attempt(job: Job, spec: EngineSpec, journal: Path) -> tuple[Any, list[dict[str, Any]]]:
    """What a job made, or the message that it kept nothing."""
    with closing(open_engine(spec, seed=1, journal=journal)) as engine:
        try:
            return job(engine)
        except StageError as error:
            assert "kept 0 of" in str(error)
            assert error.hint
            return str(error), []


@pytest.mark.parametrize("job", [self_instruct, evolving, preferring])
def test_generators_lose_nothing_and_ask_nothing_twice(
    job: Job, server: ServerEngine, client: EngineSpec, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.jsonl"
    before = answered(server)
    first = attempt(job, client, journal)
    asked = answered(server) - before
    kept = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    assert asked > 1
    assert len(kept) == asked
    assert all(record["messages"] and isinstance(record["text"], str) for record in kept)
    assert str(server.key) not in journal.read_text(encoding="utf-8")
    # A random model writes rubbish: what is not kept is told, with its rule and the text.
    for reject in first[1]:
        assert reject["rule"]
        assert isinstance(reject["evidence"], str)
    assert first[0] or first[1]
    assert attempt(job, client, journal) == first
    assert answered(server) - before == asked


def test_a_run_that_keeps_nothing_says_so(
    server: ServerEngine,
    client: EngineSpec,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    recipe = {
        "name": "real",
        "teacher": client.model_dump(mode="json", exclude_none=True),
        "curate": {
            "sources": [],
            "self_instruct": {
                "target": 3,
                "requests_per_round": 2,
                "max_rounds": 1,
                "max_tokens": 32,
                "instance_max_tokens": 32,
            },
        },
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    words = ["run", str(path), "--stage", "curate", "--runs-dir", str(tmp_path / "runs")]
    code = main(words)
    said = capfd.readouterr()
    folder = tmp_path / "runs" / "real" / "curate"
    asked = answered(server)
    assert asked > 0
    assert "Traceback" not in said.out + said.err
    assert str(server.key) not in said.out + said.err
    if code == 0:  # a rubbish answer may pass by chance
        assert (folder / "train.jsonl").read_text(encoding="utf-8").strip()
    else:
        assert code == 1
        assert "kept 0 of" in said.err
        assert "what to do" in said.err
    assert main(words) == code
    assert answered(server) == asked


SCRIPT = """
import os, signal, sys
from espalier.engines.base import EngineSpec, Request, Sampling
from espalier.engines.vllm_server import ServerEngine
engine = ServerEngine(EngineSpec(engine="vllm-server", model=sys.argv[1]))
list(engine.generate([Request.of("hello")], Sampling(max_tokens=4)))
print(engine._server.process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_of_espalier_ends_the_server_and_its_processes(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=280,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stderr == ""
    assert all_gone(int(done.stdout))


def test_a_server_that_dies_is_reported_with_the_end_of_its_log(server: ServerEngine) -> None:
    assert server._server is not None
    leader = server._server.process.pid
    assert len(group_of(leader)) > 1  # the server and the engine behind it
    server.spec = server.spec.model_copy(update={"retries": 0})
    os.kill(leader, signal.SIGKILL)
    with pytest.raises(StageError, match="server ended"):
        list(server.generate([Request.of("hello")], GREEDY))
    assert server.url is None
    assert all_gone(leader)
