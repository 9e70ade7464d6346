"""An engine that answers by a function, for tests of what is asked and what is read."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from espalier.curate.pipeline import Ledger
from espalier.engines.base import Completion, Engine, Request, Sampling
from espalier.journal import Journal, JournaledEngine

Reply = Callable[[Request, Sampling], str | Completion]


class Scripted:
    """Remembers what it was asked."""

    model = "scripted"
    costly = False

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.asked: list[tuple[Request, Sampling]] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        for request in requests:
            self.asked.append((request, sampling))
            answer = self.reply(request, sampling)
            yield answer if isinstance(answer, Completion) else Completion(answer)

    def close(self) -> None:
        pass


class Killed(BaseException):
    """Stands for the end of the process."""


class Mortal:
    """Passes requests on and dies at the request of this number; counts those it was asked."""

    costly = True

    def __init__(self, engine: Engine, last: int | None = None) -> None:
        self.engine = engine
        self.model = engine.model
        self.last = last
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        for request in requests:
            if self.last is not None and len(self.asked) >= self.last:
                raise Killed
            self.asked.append(request)
            yield next(self.engine.generate([request], sampling))

    def close(self) -> None:
        pass


Run = Callable[[Any, Ledger], Iterator[Any]]


def rows_and_rejects(run: Run, engine: Any) -> tuple[list[Any], list[dict[str, Any]], Ledger]:
    """What a generator yields with this engine, what it rejects, and its funnel."""
    handle = io.StringIO()
    ledger = Ledger("test", handle)
    rows = list(run(engine, ledger))
    return rows, [json.loads(line) for line in handle.getvalue().splitlines()], ledger


def resumed(run: Run, engine: Engine, path: Path, cuts: Sequence[int]) -> tuple[Any, int]:
    """The result of a run that was killed after so many requests each time, and its requests."""
    total = 0
    for cut in cuts:
        mortal = Mortal(engine, cut)
        with Journal(path) as journal, contextlib.suppress(Killed):
            rows_and_rejects(run, JournaledEngine(mortal, journal))
        total += len(mortal.asked)
    mortal = Mortal(engine)
    with Journal(path) as journal:
        result = rows_and_rejects(run, JournaledEngine(mortal, journal))
    return result[:2], total + len(mortal.asked)
