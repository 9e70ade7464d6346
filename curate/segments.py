"""A long way of steps and barriers, cut into parts that are each done once.

Rows flow through steps one by one. A barrier reads all rows, more than once, before it lets the
first one go; so the rows before it go to a file, which also is where a killed run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from espalier.curate.parts import MARKERS, Work, read_rows_of
from espalier.curate.pipeline import Barrier, Ledger, Step
from espalier.records import Example


@dataclass(frozen=True, slots=True)
class Stop:
    """One step or barrier on the way; it is made when its part runs.

    What it opens (an engine) goes on the stack, which is closed when the part has ended.
    """

    name: str
    make_step: Callable[[Work, ExitStack], Step] | None = None
    make_barrier: Callable[[Work, ExitStack], Barrier] | None = None

    @classmethod
    def of(cls, name: str, step: Step) -> Stop:
        """A step that opens nothing and writes nothing but rejects."""
        return cls(name, lambda work, stack: step)


Segment = Sequence[Stop]


def cut(stops: Iterable[Stop]) -> list[list[Stop]]:
    """The stops in segments; each barrier begins one."""
    segments: list[list[Stop]] = [[]]
    for stop in stops:
        if stop.make_barrier is not None:
            segments.append([])
        segments[-1].append(stop)
    return segments


def segment_file(number: int) -> str:
    """Where the rows of a segment go that is not the last."""
    return f"{MARKERS}/rows-{number}.jsonl"


def travel(
    segment: Segment,
    rows: Callable[[], Iterable[Example]],
    ledger: Ledger,
    work: Work,
    stack: ExitStack,
) -> Iterator[Example]:
    """The rows of a source after one segment, lazily."""
    first = segment[0] if segment else None
    if first is not None and first.make_barrier is not None:
        stream = ledger.behind(rows, first.name, first.make_barrier(work, stack))
    else:
        stream = iter(rows())
    steps = [(s.name, s.make_step(work, stack)) for s in segment if s.make_step is not None]
    return ledger.through(stream, steps)


def rows_of(folder: Path, number: int) -> Callable[[], Iterator[Example]]:
    """The rows that segment `number` wrote, as often as they are asked for."""
    return partial(read_rows_of, folder / segment_file(number))
