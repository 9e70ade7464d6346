"""Runs to rate, and a server of `espalier rate` to talk to, in this process or one of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from report_fixture import make_run

from espalier.blind import mark_items, pair_items, read_answers
from espalier.rating_store import FILE, FOLDER, RatingStore
from espalier.reports.rating_server import RatingServer, token_of
from espalier.reports.rating_session import Plan, Session, drawn
from espalier.rubrics import QUALITY

MODELS = (("base", "Base", "stage", 0, 0.1), ("ppo", "PPO", "stage", 0, 0.6))
ROWS = 24


def rated_run(folder: Path, **options: Any) -> Path:
    return make_run(folder, stages=("evaluate",), **{"rows": ROWS, "models": MODELS, **options})


def plan_of(run: Path, **options: Any) -> Plan:
    answers = read_answers(run)
    pairs, marks = drawn(pair_items(answers), 1, None), drawn(mark_items(answers), 1, None)
    return Plan(**{"pairs": pairs, "marks": marks, "scales": [QUALITY], **options})


@contextlib.contextmanager
def serving(run: Path, page: str = "<!doctype html><title>x</title>") -> Iterator[RatingServer]:
    """A server in a thread of this process, on a free port."""
    store = RatingStore(run / FOLDER / FILE)
    session = Session(plan_of(run), store)
    token = token_of(run / FOLDER)
    server = RatingServer(("127.0.0.1", 0), session, token, page, "default-src 'none'")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        store.close()


class Rater:
    """A client that asks as a program does, with the token in a header."""

    def __init__(self, port: int, token: str, name: str) -> None:
        self.port, self.token, self.name = port, token, name

    def call(self, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            connection.request("POST", path, json.dumps({"rater": self.name, **body}), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def next(self, part: str = "pairs") -> dict[str, Any] | None:
        status, answer = self.call("/api/next", part=part)
        assert status == 200, answer
        found: dict[str, Any] | None = answer["item"]
        return found

    def rate(self, item: str, verdict: str, uid: str) -> int:
        status, _ = self.call("/api/rate", part="pairs", item=item, verdict=verdict, uid=uid)
        return status


class Command:
    """`espalier rate` in a process of its own."""

    def __init__(self, run: Path, port: int = 0, *more: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "espalier.cli", "rate", str(run), "--port", str(port),
             *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self.lines: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            found = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", line)
            if found:
                self.url, self.port, self.token = found[0], int(found[1]), found[2]
                break
        else:
            raise AssertionError("".join(self.lines))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def end(self) -> None:
        """Kill it if it still runs: what a test that failed leaves behind."""
        if self.process.poll() is None:
            self.kill()

    def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGINT)
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, "".join(self.lines) + out


class Commands:
    """Starts commands; all of them have ended when the block has."""

    def __init__(self) -> None:
        self.started: list[Command] = []

    def __enter__(self) -> Commands:
        return self

    def __exit__(self, *error: object) -> None:
        for command in self.started:
            command.end()

    def start(self, run: Path, port: int = 0, *more: str) -> Command:
        self.started.append(Command(run, port, *more))
        return self.started[-1]


def wait_for(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def stored(run: Path) -> list[Mapping[str, Any]]:
    from espalier.rating_store import stored_rows

    return list(stored_rows(run / FOLDER / FILE))
