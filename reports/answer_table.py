"""All answers of an evaluation while a page is built: numbers in memory, texts in a file.

Texts arrive in whatever order the result files have, and leave by prompt; memory holds where they
lie, about 50 bytes an answer and 8 a score.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from array import array
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from espalier.reports.packing import json_bytes
from espalier.reports.runfiles import rounded
from espalier.text import length

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
LABELS = ("category", "language", "source")
NUMBERS = ("tokens", "seconds")
REASON = "finish_reason"


class Spill:
    """JSON values in a temporary file without a name; it goes with the last reference to it."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with this object)
        weakref.finalize(self, self._file.close)
        self.size = 0

    def put(self, value: Any) -> tuple[int, int]:
        """Write a value; returns its place and its length in bytes, for `get`."""
        data = json_bytes(value)
        self._file.write(data)
        place, self.size = self.size, self.size + len(data)
        return place, len(data)

    def get(self, place: int, length: int) -> bytes:
        """The JSON text of a value."""
        self._file.flush()
        return os.pread(self._file.fileno(), length, place)


class Places:
    """Where one text a row lies in the spill; a row without one has length 0."""

    def __init__(self, spill: Spill) -> None:
        self._spill = spill
        self._starts, self._lengths = array("q"), array("q")

    def put(self, row: int, value: Any) -> None:
        """Keep the value of a row, in place of an earlier one."""
        missing = row + 1 - len(self._starts)
        if missing > 0:
            self._starts.extend([0] * missing)
            self._lengths.extend([0] * missing)
        self._starts[row], self._lengths[row] = self._spill.put(value)

    def has(self, row: int) -> bool:
        """Whether the row has a value."""
        return row < len(self._lengths) and self._lengths[row] > 0

    def get(self, row: int) -> bytes:
        """The JSON text of the row's value, `null` where there is none."""
        return self._spill.get(self._starts[row], self._lengths[row]) if self.has(row) else b"null"

    def lengths(self, count: int) -> Integers:
        """Bytes of JSON a row."""
        found = np.zeros(count, np.int64)
        found[: len(self._lengths)] = np.frombuffer(self._lengths, np.int64)
        return found


class AnswerTable:
    """Rows are prompts, in the order in which they first appeared; `limit` keeps the first only.

    `metrics` describes the scores (name, label, format, higher_is_better, tested), whose
    values are `values[name]`, an array [models, rows] with NaN where there is none.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.rows: dict[str, int] = {}
        self.models: list[str] = []
        self.labels: dict[str, list[str | None]] = {name: [] for name in LABELS}
        # Words of each prompt, characters in scripts without spaces; as slices by length count.
        self.lengths = array("i")
        self.metrics: list[dict[str, Any]] = []
        self.values: dict[str, Floats] = {}
        self.facts: dict[str, dict[str, list[Any]]] = {}
        self._limit = limit
        self._spill = Spill()
        self.prompts, self.references = Places(self._spill), Places(self._spill)
        self.answers: dict[str, Places] = {}
        self._notes: dict[int, dict[str, list[Any]]] = {}

    @property
    def count(self) -> int:
        """Rows."""
        return len(self.rows)

    def row(self, identity: str) -> int | None:
        """The row of this id, a new one where it is new; None above the limit."""
        found = self.rows.get(identity)
        if found is None and (self._limit is None or self.count < self._limit):
            found = self.rows[identity] = self.count
            self.lengths.append(0)
            for column in self.labels.values():
                column.append(None)
        return found

    def add_prompt(self, row: int, prompt: Any, reference: Any, labels: Mapping[str, Any]) -> None:
        """What belongs to the prompt; what a row has already stays."""
        if prompt is not None and not self.prompts.has(row):
            self.lengths[row] = length(str(prompt))
        for places, value in ((self.prompts, prompt), (self.references, reference)):
            if value is not None and not places.has(row):
                places.put(row, str(value))
        for name, column in self.labels.items():
            if column[row] is None and labels.get(name) is not None:
                column[row] = str(labels[name])

    def add_groups(self, row: int, groups: Mapping[str, Any]) -> None:
        """Further labels of a prompt, by field; to be called when all rows are there."""
        for name, value in groups.items():
            if name in LABELS or value is None:
                continue
            if name not in self.labels:
                self.labels[name] = [None] * self.count
            self.labels[name][row] = str(value)

    def add_answer(self, row: int, model: str, answer: Any) -> None:
        """An answer; None only makes the model known."""
        if model not in self.answers:
            self.models.append(model)
            self.answers[model] = Places(self._spill)
        if answer is not None:
            self.answers[model].put(row, str(answer))

    def add_facts(self, row: int, model: str, facts: Mapping[str, Any]) -> None:
        """Tokens, seconds and the finish reason of an answer."""
        columns = self.facts.setdefault(model, {})
        for name in (*NUMBERS, REASON):
            value = facts.get(name)
            shown = value if isinstance(value, str) else rounded(value, 3)
            if shown is None or isinstance(shown, str) != (name == REASON):
                continue
            if name not in columns:
                columns[name] = [None] * self.count
            columns[name][row] = shown

    def add_note(self, row: int, kind: str, note: Mapping[str, Any]) -> None:
        """A record of the judge: `kind` is marks (of an answer) or verdicts (of a pair)."""
        place = self._spill.put({k: v for k, v in note.items() if k != "id"})
        self._notes.setdefault(row, {}).setdefault(kind, []).append(place)

    def sizes(self) -> Integers:
        """Bytes of text a row, as JSON."""
        places = [self.prompts, self.references, *self.answers.values()]
        sizes = np.sum([one.lengths(self.count) for one in places], axis=0)
        for row, kinds in self._notes.items():
            sizes[row] += sum(length for notes in kinds.values() for _, length in notes)
        return np.asarray(sizes, np.int64)

    def texts(self, row: int) -> bytes:
        """JSON: [prompt, reference, an answer of each model …, notes of the judge if there are]."""
        fields = [self.prompts.get(row), self.references.get(row)]
        fields += [self.answers[model].get(row) for model in self.models]
        if row in self._notes:
            fields.append(b"{" + b",".join(self._noted(row)) + b"}")
        return b"[" + b",".join(fields) + b"]"

    def _noted(self, row: int) -> Iterator[bytes]:
        for kind, notes in self._notes[row].items():
            yield json_bytes(kind) + b":[" + b",".join(self._spill.get(*n) for n in notes) + b"]"
