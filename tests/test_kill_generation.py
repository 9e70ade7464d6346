"""`kill -9` at random moments of a generation run: the same bytes, and nothing is paid for twice.

The teacher is a server whose answer is a pure function of the request. A run without a kill is the
reference. Others are killed at moments drawn from a printed seed, several times each, and run to
their end; every file is compared, and the requests are counted at the server.
"""

from __future__ import annotations

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
curate:
  self_instruct: {{seeds: [en, zh], target: 12, requests_per_round: 12}}
  holdout: {{count: 0}}
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


def start(folder: Path, server: FakeServer) -> subprocess.Popen[str]:
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(url=server.url), encoding="utf-8")
    words = ["curate", "--recipe", str(recipe), "--runs-dir", str(folder / "runs")]
    return subprocess.Popen(
        [sys.executable, "-m", "espalier.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "KILL_KEY": SECRET},
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    return out


def kill_after(folder: Path, server: FakeServer, seconds: float, *, asked: bool) -> bool:
    """Kill so long after the stage began, or after its first request (`asked`).

    False when it was done before.
    """
    before = len(server.requests)
    process = start(folder, server)
    assert process.stdout is not None
    for line in process.stdout:
        if "running" in line or "resuming" in line:
            break
    while asked and len(server.requests) == before and process.poll() is None:
        time.sleep(0.002)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return True
    process.communicate()
    return False


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
    path = folder / "runs" / "killed" / "curate" / "journal" / "teacher.jsonl"
    for line in path.read_bytes().splitlines() if path.is_file() else ():
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
    finish(start(folder, server))
    seconds = server.times[-1] - server.times[0]
    expected = files(folder)
    assert {"train.jsonl", "rejects.jsonl", "self_instruct.jsonl"} <= set(expected)
    assert expected["train.jsonl"].count(b"\n") >= 20
    requests = asked(server.requests)
    # Not one request was asked twice, and the journal holds every answer once.
    assert len(set(requests)) == len(requests)
    assert sorted(journaled(folder)) == sorted(requests)
    return expected, seconds, len(requests)


def killed_and_resumed(
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
        if not kill_after(folder, server, moment, asked=generating):
            break
        done += 1
        # A request of the killed process may still be on its way to the server.
        time.sleep(0.02)
        assert known.isdisjoint(asked(server.requests[first:]))
    known, first = set(journaled(folder)), len(server.requests)
    finish(start(folder, server))
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
    tmp_path: Path, server: FakeServer, reference: tuple[dict[str, bytes], float, int]
) -> None:
    print(f"seed {SEED}")
    assert killed_and_resumed(tmp_path, server, reference, 4, random.Random(SEED)) >= 1


@pytest.mark.timeout(1200)
def test_fifty_kills(
    tmp_path: Path, server: FakeServer, reference: tuple[dict[str, bytes], float, int]
) -> None:
    seed = SEED + 1
    print(f"seed {seed}")
    draw = random.Random(seed)
    done = number = 0
    while done < 50:
        folder = tmp_path / str(number)
        done += killed_and_resumed(folder, server, reference, min(6, 50 - done), draw)
        number += 1
        assert number < 60
