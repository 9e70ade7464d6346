"""`kill -9` at random moments of a generation run: the same bytes, and nothing is paid for twice.

The teacher is a server whose answer is a pure function of the request. A run without a kill is the
reference. Others are killed at moments drawn from a printed seed, several times each, and run to
their end; every file is compared, and the requests are counted at the server.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer, Reply

from espalier.engines.base import Request, Sampling
from espalier.engines.offline import OfflineEngine
from espalier.engines.wire import request_seed
from espalier.records import Message

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
SEED = int(os.environ.get("ESPALIER_KILL_SEED", "1"))
AT_ONCE = 8
SECRET = "sk-secret-0123456789"
RECIPE = """
name: killed
seed: 3
teacher: {{engine: openai, model: served, base_url: "{url}", api_key_env: KILL_KEY, concurrency: 8}}
judge: {{engine: openai, model: served, base_url: "{url}", api_key_env: KILL_KEY, concurrency: 8}}
curate:
  sources:
    - {{kind: procedural, name: tasks, count: 8, use: preferences}}
  self_instruct: {{seeds: [en, zh], target: 12, requests_per_round: 12}}
  evolve: {{limit: 8, rounds: 2}}
  self_chat: {{prompts: 4, turns: 2}}
  quality: {{judge: {{min_mean: 1, safe: false}}}}
  preferences: {{samples: 3, ranking: {{}}}}
  holdout: {{count: 0}}
"""
# Runs that are killed are forks of a process that has imported everything: half a second saved is
# half of their time.
FORKER = """
import importlib, os, sys
from espalier import cli
for name in ("openai", "espalier.curate.stage", "espalier.engines.api", "espalier.journal"):
    importlib.import_module(name)
for line in sys.stdin:
    log, *words = line.rstrip("\\n").split("\\t")
    process = os.fork()
    if not process:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        code = cli.main(words)
        sys.stdout.flush()
        os._exit(code)
    print(process, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""
# What tells times, or which process did what.
UNLIKE = ("manifest.json", "state.json")
Asked = tuple[str, int, int]


class Teacher:
    """Answers with the embedded teacher; late by chance, so that answers overtake each other."""

    def __init__(self) -> None:
        self.engine = OfflineEngine(seed=5)
        self.lock = threading.Lock()
        self.random = random.Random(0)

    def answer(self, body: dict[str, Any]) -> str:
        messages = tuple(Message(m["role"], m["content"]) for m in body["messages"])
        request = Request(messages, sample=body["seed"])
        sampling = Sampling(
            temperature=body["temperature"],
            max_tokens=body["max_tokens"],
            stop=tuple(body.get("stop", ())),
        )
        with self.lock:
            [completion] = self.engine.generate([request], sampling)
        return completion.text

    def plan(self, number: int, body: dict[str, Any]) -> Reply:
        return Reply(delay=0.08 * self.random.random())


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    teacher = Teacher()
    with FakeServer(teacher.plan, teacher.answer) as running:
        yield running


def words_for(folder: Path, server: FakeServer) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(url=server.url), encoding="utf-8")
    return ["curate", "--recipe", str(recipe), "--runs-dir", str(folder / "runs")]


class Forker:
    """Starts runs, one at a time."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", FORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "KILL_KEY": SECRET},
        )

    def start(self, folder: Path, server: FakeServer) -> int:
        """The process number of a new run; its output goes to `log`."""
        words = words_for(folder, server)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        (folder / "log").unlink(missing_ok=True)
        self.process.stdin.write("\t".join([str(folder / "log"), *words]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def wait(self) -> int:
        """The exit code of the run."""
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    running = Forker()
    yield running
    running.close()


def said(folder: Path) -> str:
    log = folder / "log"
    return log.read_text("utf-8") if log.is_file() else ""


def kill_after(
    forker: Forker, folder: Path, server: FakeServer, seconds: float, *, asked: bool
) -> bool:
    """Kill so long after the stage began, or after its first request (`asked`).

    False when it was done before.
    """
    before = len(server.requests)
    process = forker.start(folder, server)
    end = time.monotonic() + 120
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < end:
            text = said(folder)
            if len(server.requests) > before or (
                not asked and ("running" in text or "resuming" in text)
            ):
                break
            os.kill(process, 0)
            time.sleep(0.002)
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
    return forker.wait() == -signal.SIGKILL


def files(folder: Path) -> dict[str, bytes]:
    """What has to be equal byte by byte."""
    stage = folder / "runs" / "killed" / "curate"
    return {
        path.relative_to(stage).as_posix(): path.read_bytes()
        for path in sorted(stage.rglob("*"))
        if path.is_file() and path.name not in UNLIKE and "journal" not in path.parts
    }


def asked(requests: list[dict[str, Any]]) -> list[Asked]:
    return [(json.dumps(b["messages"]), b["seed"], b["max_tokens"]) for b in requests]


def journaled(folder: Path) -> list[Asked]:
    """The requests whose complete answers the journal holds."""
    found: list[Asked] = []
    journals = sorted((folder / "runs" / "killed" / "curate" / "journal").glob("*.jsonl"))
    for line in (line for path in journals for line in path.read_bytes().splitlines()):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        sampling = record["sampling"]
        seed = request_seed(3, sampling.get("seed", 0), record["sample"])
        limit = sampling.get("max_tokens", Sampling().max_tokens)
        found.append((json.dumps(record["messages"]), seed, limit))
    return found


@pytest.fixture(scope="module")
def reference(
    server: FakeServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, bytes], float, int]:
    """The files of an uninterrupted run, the seconds in which it asked, and its requests."""
    folder = tmp_path_factory.mktemp("reference")
    done = subprocess.run(
        [sys.executable, "-m", "espalier.cli", *words_for(folder, server)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "KILL_KEY": SECRET},
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seconds = server.times[-1] - server.times[0]
    expected = files(folder)
    made = {"self_instruct.jsonl", "evolved.jsonl", "dialogues.jsonl", "preferences.jsonl"}
    assert {"train.jsonl", "rejects.jsonl", "rankings.jsonl", *made} <= set(expected)
    assert expected["train.jsonl"].count(b"\n") >= 20
    requests = asked(server.requests)
    # Not one request was asked twice, and the journal holds every answer once.
    assert len(set(requests)) == len(requests)
    assert sorted(journaled(folder)) == sorted(requests)
    return expected, seconds, len(requests)


def killed_and_resumed(
    forker: Forker,
    folder: Path,
    server: FakeServer,
    reference: tuple[dict[str, bytes], float, int],
    kills: int,
    draw: random.Random,
) -> int:
    expected, seconds, count = reference
    before = len(server.requests)
    done = 0
    for _ in range(kills):
        moment, generating = draw.uniform(0.0, seconds / 2), draw.random() < 0.8
        print(f"kill {moment:.3f} s after the {'first request' if generating else 'start'}")
        known = set(journaled(folder))
        first = len(server.requests)
        if not kill_after(forker, folder, server, moment, asked=generating):
            break
        done += 1
        # A request of the killed process may still be on its way to the server.
        time.sleep(0.02)
        assert known.isdisjoint(asked(server.requests[first:]))
    known, first = set(journaled(folder)), len(server.requests)
    forker.start(folder, server)
    assert forker.wait() == 0, said(folder)
    assert known.isdisjoint(asked(server.requests[first:]))
    assert files(folder) == expected
    everything = asked(server.requests[before:])
    assert len(set(everything)) == count
    assert len(everything) - count <= done * AT_ONCE
    for path in folder.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()
    return done


@pytest.mark.ci_slice
def test_a_few_kills(
    tmp_path: Path,
    forker: Forker,
    server: FakeServer,
    reference: tuple[dict[str, bytes], float, int],
) -> None:
    print(f"seed {SEED}")
    assert killed_and_resumed(forker, tmp_path, server, reference, 4, random.Random(SEED)) >= 1


@pytest.mark.timeout(1200)
def test_fifty_kills(
    tmp_path: Path,
    forker: Forker,
    server: FakeServer,
    reference: tuple[dict[str, bytes], float, int],
) -> None:
    seed = SEED + 1
    print(f"seed {seed}")
    draw = random.Random(seed)
    done = number = 0
    while done < 50:
        folder = tmp_path / str(number)
        done += killed_and_resumed(forker, folder, server, reference, min(6, 50 - done), draw)
        number += 1
        assert number < 60
