"""Parts of a stage: each is done once, and found done again after a kill.

A part writes its files under temporary names, renames them, and last writes a marker that holds
their sizes, its funnel rows and its notes. A part whose marker and files are there is skipped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from espalier.curate.pipeline import Ledger
from espalier.errors import place
from espalier.files import atomic_path, atomic_write_json, read_json
from espalier.records import Example, dump_line

MARKERS = ".steps"
REJECTS = "rejects"


class Sides:
    """What a part writes beside its outputs: rejects, clusters, …; a JSONL file each."""

    def __init__(self, folder: Path, part: str, stack: ExitStack) -> None:
        self._folder = folder
        self._part = part
        self._stack = stack
        self._open: dict[str, IO[str]] = {}

    def file(self, name: str) -> IO[str]:
        """The file for one kind of line, opened when first asked for."""
        if name not in self._open:
            path = self._stack.enter_context(atomic_path(side_path(self._folder, self._part, name)))
            self._open[name] = self._stack.enter_context(path.open("w", encoding="utf-8"))
        return self._open[name]


def side_path(folder: Path, part: str, name: str) -> Path:
    """Where a part keeps its lines of one kind."""
    return folder / MARKERS / f"{part}.{name}.jsonl"


@dataclass(slots=True)
class Work:
    """What the function of a part is given: where to write, count and note."""

    folder: Path
    sides: Sides
    ledgers: list[Ledger] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def ledger(self, stream: str) -> Ledger:
        """The funnel of one stream of rows."""
        ledger = Ledger(stream, self.sides.file(REJECTS))
        self.ledgers.append(ledger)
        return ledger

    def writer(self, side: str) -> Callable[[dict[str, Any]], None]:
        """Writes lines of one kind (clusters, contamination) that `Parts.join` puts together."""
        file = self.sides.file(side)

        def write(value: dict[str, Any]) -> None:
            file.write(dump_line(value) + "\n")

        return write


@dataclass(frozen=True, slots=True)
class Done:
    """What a finished part reports."""

    funnel: list[dict[str, Any]]
    counts: dict[str, int]
    notes: list[str]


class Parts:
    """The parts of one stage folder, in the order in which they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: dict[str, Done] = {}
        folder.mkdir(parents=True, exist_ok=True)
        # The stage holds a lock, so temporary files here are those of a killed process.
        for here in (folder, folder / MARKERS):
            for stale in here.glob(".tmp-*") if here.is_dir() else ():
                if stale.is_dir():
                    shutil.rmtree(stale)
                else:
                    stale.unlink()

    def run(self, name: str, outputs: Sequence[str], work: Callable[[Work], None]) -> Done:
        """Do the part `name` unless it is done; `work` has to write each of `outputs`."""
        marker = self.folder / MARKERS / f"{name}.json"
        done = self._finished(marker, outputs)
        if done is None:
            marker.unlink(missing_ok=True)
            for old in marker.parent.glob(f"{name}.*.jsonl"):
                old.unlink()
            with ExitStack() as stack:
                state = Work(self.folder, Sides(self.folder, name, stack))
                work(state)
            done = Done(
                [tally.to_json() for ledger in state.ledgers for tally in ledger.tallies],
                state.counts,
                state.notes,
            )
            atomic_write_json(
                marker,
                {
                    "outputs": {item: (self.folder / item).stat().st_size for item in outputs},
                    "funnel": done.funnel,
                    "counts": done.counts,
                    "notes": done.notes,
                },
            )
        self.done[name] = done
        return done

    def _finished(self, marker: Path, outputs: Sequence[str]) -> Done | None:
        if not marker.is_file():
            return None
        value = read_json(marker)
        sizes = value["outputs"]
        for item in outputs:
            path = self.folder / item
            if not path.is_file() or path.stat().st_size != sizes.get(item):
                return None
        return Done(value["funnel"], value["counts"], value["notes"])

    def join(self, side: str, path: Path) -> int:
        """Write all parts' lines of one kind into one file; returns how many there are."""
        count = 0
        with atomic_path(path) as temporary, temporary.open("wb") as out:
            for name in self.done:
                part = side_path(self.folder, name, side)
                if part.is_file():
                    with part.open("rb") as handle:
                        for line in handle:
                            out.write(line)
                            count += 1
        return count

    def has(self, side: str) -> bool:
        """Whether any part wrote lines of this kind."""
        paths = (side_path(self.folder, name, side) for name in self.done)
        return any(path.is_file() and path.stat().st_size for path in paths)

    @property
    def funnel(self) -> list[dict[str, Any]]:
        """The funnel rows of all parts."""
        return [row for done in self.done.values() for row in done.funnel]

    @property
    def notes(self) -> list[str]:
        """The notes of all parts."""
        return [note for done in self.done.values() for note in done.notes]


@contextmanager
def writers(folder: Path, names: Sequence[str]) -> Iterator[list[Callable[[Any], None]]]:
    """One JSONL writer a name (for records with `to_json`); all files are renamed at the end."""
    with ExitStack() as stack:
        write: list[Callable[[Any], None]] = []
        for name in names:
            temporary = stack.enter_context(atomic_path(folder / name))
            handle = stack.enter_context(temporary.open("w", encoding="utf-8"))
            write.append(_line_writer(handle))
        yield write


def read_rows_of(path: Path) -> Iterator[Example]:
    """The examples that a part wrote; none for an absent file."""
    if path.is_file():
        with path.open(encoding="utf-8") as handle:
            for number, line in enumerate(handle, 1):
                yield Example.from_json(json.loads(line), place(path, number))


def count_lines(path: Path) -> int:
    """Rows of a file that a part wrote."""
    with path.open("rb") as handle:
        return sum(1 for _ in handle)


def _line_writer(handle: IO[str]) -> Callable[[Any], None]:
    def write(record: Any) -> None:
        handle.write(dump_line(record.to_json()) + "\n")

    return write


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The funnel as a small table for a terminal."""
    cells = [("stream", "step", "in", "out", "rejected")]
    for row in rows:
        rejected = sorted(row["rejected"].items(), key=lambda pair: (-pair[1], pair[0]))
        shown = ", ".join(f"{rule} {count:,}" for rule, count in rejected)
        cells.append((row["stream"], row["step"], f"{row['in']:,}", f"{row['out']:,}", shown))
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    return "\n".join(
        f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}  {e}".rstrip()
        for a, b, c, d, e in cells
    )
