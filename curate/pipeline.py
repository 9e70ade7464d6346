"""Steps that rows flow through: iterate in, yield out, count every reject by reason.

A step is a function `(rows, tally) -> rows`. It calls `tally.reject(row, rule, evidence)` for
each row that it does not yield; rows in and out are counted around it. Nothing is held in memory
but what a step needs itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from espalier.curate.hints import HINTS
from espalier.errors import StageError
from espalier.records import Example, PreferencePair, dump_line

EVIDENCE_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that a step did not keep: which rule took it, and what it saw."""

    id: str
    text: str
    step: str
    rule: str
    evidence: str
    source: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def row_text(row: Example | PreferencePair) -> str:
    """A row as one readable text: its turns, or prompt, chosen and rejected."""
    if isinstance(row, Example):
        return "\n".join(f"{m.role}: {m.content}" for m in row.messages)
    turns = [f"{m.role}: {m.content}" for m in row.prompt]
    return "\n".join([*turns, f"chosen: {row.chosen}", f"rejected: {row.rejected}"])


def clip(text: str, characters: int = EVIDENCE_CHARACTERS) -> str:
    """The text, cut with an ellipsis when it is longer."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


class Tally:
    """One row of the funnel: what came into a step, what left it, what each rule took."""

    def __init__(self, name: str, stream: str, write: Callable[[Reject], None]) -> None:
        self.name = name
        self.stream = stream
        self.seen = 0
        self.kept = 0
        self.rejected: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()
        self.samples: dict[str, Reject] = {}
        self._write = write

    def reject(self, row: Example | PreferencePair, rule: str, evidence: str) -> None:
        """Count and store a row that this step does not yield."""
        meta = dict(row.meta)
        source = meta.pop("source", None)
        self.reject_text(row_text(row), rule, evidence, id=row.id, source=source, meta=meta)

    def reject_text(
        self,
        text: str,
        rule: str,
        evidence: str,
        *,
        id: str = "",
        source: str | None = None,
        meta: dict[str, Any] | None = None,
    ) -> None:
        """The same for something that is no row yet (an unreadable line, a raw completion)."""
        reject = Reject(id, text, self.name, rule, clip(evidence), source, meta or {})
        self.rejected[rule] += 1
        self.samples.setdefault(rule, reject)
        self._write(reject)

    def all(self, rows: Iterable[Example]) -> Iterator[Example]:
        """Count rows that come in and go on as they are."""
        for row in rows:
            self.seen += 1
            self.kept += 1
            yield row

    def change(self, rule: str, count: int = 1) -> None:
        """Count rows that a rule altered or flagged and that go on."""
        self.changed[rule] += count

    def set_apart(self, rule: str, count: int = 1) -> None:
        """Count rows that leave the stream and are no rejects (held-out rows, those over a
        count)."""
        self.rejected[rule] += count

    def to_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "step": self.name,
            "stream": self.stream,
            "in": self.seen,
            "out": self.kept,
            "rejected": dict(sorted(self.rejected.items())),
        }
        if self.changed:
            row["changed"] = dict(sorted(self.changed.items()))
        return row


Step = Callable[[Iterable[Example], Tally], Iterator[Example]]
# Rows that can be read more than once (from a file); each call starts at the first row.
Rows = Callable[[], Iterable[Example]]
# A step that has to see all rows before it can let the first one go: it reads them again instead
# of holding them.
Barrier = Callable[[Rows, Tally], Iterator[Example]]


class Ledger:
    """The tallies of one stream of rows; rejects are written to `handle` as they happen."""

    def __init__(self, stream: str, handle: IO[str] | None) -> None:
        """`handle` None: nothing is stored (the same rows come again elsewhere)."""
        self.stream = stream
        self.tallies: list[Tally] = []
        self._handle = handle

    def tally(self, name: str) -> Tally:
        """A new row of the funnel."""
        tally = Tally(name, self.stream, self._write)
        self.tallies.append(tally)
        return tally

    def _write(self, reject: Reject) -> None:
        if self._handle is not None:
            self._handle.write(dump_line(reject.to_json()) + "\n")

    def through(
        self, rows: Iterable[Example], steps: Sequence[tuple[str, Step]]
    ) -> Iterator[Example]:
        """Rows after all steps, lazily."""
        stream = iter(rows)
        for name, step in steps:
            tally = self.tally(name)
            stream = _count_out(step(_count_in(stream, tally), tally), tally)
        return stream

    def behind(self, rows: Rows, name: str, barrier: Barrier) -> Iterator[Example]:
        """Rows after a barrier, which counts its rejects in a funnel row of its own."""
        tally = self.tally(name)
        first = True

        def counted() -> Iterable[Example]:
            nonlocal first
            again, first = not first, False
            return rows() if again else _count_in(rows(), tally)

        return _count_out(barrier(counted, tally), tally)

    def require_rows(self, what: str) -> None:
        """Raise StageError when a step took every row, with its rules, an example and a hint.

        Call it once the stream has been read to its end.
        """
        for tally in self.tallies:
            if tally.seen and not tally.kept:
                raise _nothing_left(tally, what)


def _count_in(rows: Iterable[Example], tally: Tally) -> Iterator[Example]:
    for row in rows:
        tally.seen += 1
        yield row


def _count_out(rows: Iterable[Example], tally: Tally) -> Iterator[Example]:
    for row in rows:
        tally.kept += 1
        yield row


def _nothing_left(tally: Tally, what: str) -> StageError:
    counts = ", ".join(f"{rule} {count:,}" for rule, count in tally.rejected.most_common())
    rule = tally.rejected.most_common(1)[0][0] if tally.rejected else None
    sample = tally.samples.get(rule) if rule else None
    shown = ""
    if sample is not None:
        shown = f" For example, {clip(sample.text, 160)!r} ({clip(sample.evidence, 120)})."
    return StageError(
        f"The step '{tally.name}' kept 0 of {tally.seen:,} {what}: {counts or 'no rule'}.{shown}",
        where=f"curate, stream '{tally.stream}', step '{tally.name}'",
        expected="at least one row that passes",
        hint=f"{HINTS[rule]}; or look at the data" if rule in HINTS else "look at the data",
    )
