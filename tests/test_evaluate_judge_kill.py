"""`kill -9` while a judge is asked: the same scores, and no verdict is paid for twice.

The judge is a server whose reply is a function of the request. Runs are killed at moments drawn
from a seed and run to their end; the requests are counted at the server.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer, Reply

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
AT_ONCE = 4
PROMPTS = 30
# Marks, and pairs in both orders: the first answers are equal, so marked once and not compared.
REQUESTS = (2 * PROMPTS - 1) + 2 * (PROMPTS - 1)
SECRET = "sk-secret-judge-0123456789"
RECIPE = """
name: judged
judge: {{engine: openai, model: served, base_url: "{url}", api_key_env: JUDGE_KEY, concurrency: 4,
         prices: {{prompt: 1, completion: 1}}}}
evaluate:
  set: {folder}/set.jsonl
  metrics: [length]
  models:
    - {{name: old, predictions: {folder}/old.jsonl}}
    - {{name: new, predictions: {folder}/new.jsonl}}
  resamples: 100
  permutations: 200
  judge: {{}}
"""


def reply(body: dict[str, Any]) -> str:
    """Marks or a verdict drawn from the prompt; one in eight can't be read."""
    prompt = body["messages"][-1]["content"]
    draw = int(hashlib.sha256(prompt.encode()).hexdigest(), 16)
    if draw % 8 == 0:
        return "I would rather not say."
    if prompt.startswith("Compare"):
        return f"Because.\nVerdict: {('A', 'B', 'tie')[draw % 3]}"
    names = ("relevance", "accuracy", "completeness", "fluency")
    marks = {name: 1 + draw // 10**i % 5 for i, name in enumerate(names)}
    return json.dumps({"reason": "r", **marks, "safety": "pass"})


@pytest.fixture
def server() -> Iterator[FakeServer]:
    late = random.Random(3)
    with FakeServer(lambda number, body: Reply(delay=0.06 * late.random()), reply) as running:
        yield running


def words_for(folder: Path, server: FakeServer) -> list[str]:
    folder.mkdir(exist_ok=True)
    prompts = [f"Name {n} colours." for n in range(PROMPTS)]
    rows: dict[str, list[dict[str, str]]] = {
        "set": [{"id": f"q{i}", "prompt": p, "completion": "red"} for i, p in enumerate(prompts)],
        "old": [{"prompt": p, "response": f"red {i}"} for i, p in enumerate(prompts)],
        "new": [{"prompt": p, "response": f"blue {i}" if i else "red 0"}
                for i, p in enumerate(prompts)],
    }  # fmt: skip
    for name, lines in rows.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, "utf-8")
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(url=server.url, folder=folder), "utf-8")
    return ["evaluate", "--recipe", str(recipe), "--runs-dir", str(folder / "runs")]


def started(folder: Path, server: FakeServer) -> subprocess.Popen[bytes]:
    words = words_for(folder, server)
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "espalier.cli", *words],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "JUDGE_KEY": SECRET, "OMP_NUM_THREADS": "1"},
        )


def finished(folder: Path, server: FakeServer) -> dict[str, Any]:
    code = started(folder, server).wait(timeout=240)
    assert code == 0, (folder / "log").read_text("utf-8")
    text = (folder / "runs/judged/evaluate/summary.json").read_text("utf-8")
    value: dict[str, Any] = json.loads(text)
    return value


def killed(folder: Path, server: FakeServer, draw: random.Random) -> int:
    """Kill after some more requests have arrived; how many were answered by then."""
    process = started(folder, server)
    goal = len(server.requests) + draw.randint(1, 35)
    while len(server.requests) < goal and process.poll() is None:
        time.sleep(0.002)
    time.sleep(0.03 * draw.random())
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    return sum(server.answered.values())


@pytest.mark.ci_slice
def test_verdicts_survive_kill_9(tmp_path: Path, server: FakeServer) -> None:
    expected = finished(tmp_path / "whole", server)
    assert sum(server.asked.values()) == REQUESTS and set(server.asked.values()) == {1}
    server.asked.clear()
    server.answered.clear()
    draw = random.Random(7)
    folder = tmp_path / "killed"
    for _ in range(2):
        killed(folder, server, draw)
    # A line torn in the middle of its write is asked for again, and harms no other.
    journal = folder / "runs/judged/evaluate/journal/judge.jsonl"
    content = journal.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    journal.write_bytes(whole + whole.splitlines()[0][:50])
    kept = {line["messages"][-1]["content"] for line in map(json.loads, whole.splitlines())}
    before = Counter(server.asked)
    found = finished(folder, server)
    again = server.asked - before
    # What the journal held was not asked for again, and nothing was asked twice in one go.
    assert kept and not kept & set(again) and set(again.values()) == {1}
    assert len(kept) + len(again) == REQUESTS
    # Each kill cost at most what was under way.
    assert sum(server.asked.values()) - REQUESTS <= 2 * AT_ONCE
    for name in ("judge", "scores", "comparisons", "warnings"):
        assert found[name] == expected[name], name
    files = ("judge_marks.jsonl", "judge_pairs.jsonl")
    for name in files:
        one, other = (tmp_path / f / "runs/judged/evaluate" / name for f in ("whole", "killed"))
        assert one.read_bytes() == other.read_bytes()
    assert found["judge"]["replies"] == REQUESTS + 1
    for path in folder.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    (spent,) = json.loads((folder / "runs/judged/evaluate/manifest.json").read_text())["spending"]
    assert (spent["step"], spent["requests"]) == ("judge", REQUESTS)
    assert spent["from_journal"] == len(kept)
