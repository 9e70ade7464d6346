"""Which of several duplicates stays, and the way of all others to rejects and cluster file.

Every kind of duplicate search ends here: it says which rows are near which, the policy says who
is preferred, and the rest is the same.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from espalier.curate.config_dedup import Compared, DedupConfig
from espalier.curate.pipeline import Rows, Tally, clip
from espalier.errors import UsageError
from espalier.records import Example
from espalier.spans import shared_span

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]
    Similarities = NDArray[np.float64]

# Writes one line of `clusters.jsonl`.
WriteLine = Callable[[dict[str, Any]], None]
EXCERPT_CHARACTERS = 600
_SHOWN = 100


def compared_text(row: Example, on: Compared) -> str:
    """The text of a row by which it is compared; empty for a missing answer."""
    answer = row.response or ""
    if on == "answer":
        return answer
    turns = [m.content for m in row.prompt_messages if m.role == "user"]
    return "\n".join([*turns, answer] if on == "prompt+answer" and answer else turns)


class Policy:
    """Collects what the order of preference needs, row by row."""

    def __init__(self, config: DedupConfig) -> None:
        self._config = config
        self._values = array("d")
        self._places = {name: place for place, name in enumerate(config.source_order)}
        self._known = 0

    def add(self, row: Example) -> None:
        """Take note of the next row."""
        self._values.append(self._value(row))

    def _value(self, row: Example) -> float:
        """The lower, the better."""
        match self._config.keep:
            case "longest":
                return -len(row.prompt if row.response is None else row.response)
            case "score":
                return self._score(row)
            case "source":
                return self._places.get(str(row.meta.get("source")), len(self._places))
            case _:
                return 0.0

    def _score(self, row: Example) -> float:
        value: Any = row.meta
        for key in self._config.score_field.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, dict):
            value = value.get("score")
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            return math.inf
        self._known += 1
        return -float(value)

    def ranks(self) -> Numbers:
        """For each row its place in the order of preference, 0 the best; a permutation.

        Raises UsageError when rows are to be kept by score and none has one.
        """
        import numpy as np

        if self._config.keep == "score" and len(self._values) and not self._known:
            raise UsageError(
                f"No row has a number in meta.{self._config.score_field}.",
                where="curate.dedup.score_field",
                expected="a score in the metadata of the rows",
                hint="name the field that holds the score, or choose another `keep`",
            )
        order = np.argsort(np.frombuffer(self._values, dtype=np.float64), kind="stable")
        ranks = np.empty(len(order), dtype=np.int64)
        ranks[order] = np.arange(len(order))
        return ranks


@dataclass(frozen=True, slots=True)
class Removals:
    """For each row its keeper (−1: the row stays) and how similar that is (0..1)."""

    keeper: Numbers
    similarity: Similarities

    @property
    def count(self) -> int:
        return int((self.keeper >= 0).sum())


def keep_preferred(first: Any, second: Any, similarity: Any, ranks: Numbers) -> Removals:
    """Greedy choice: the preferred first, a row goes if a pair joins it to a kept one.

    Its keeper is the most similar kept row, of equals the preferred one. first[k] and second[k]
    are the rows of pair k in any order, each pair once. Time linear in the pairs.
    """
    import numpy as np

    from espalier.banding import keep_greedily

    count = len(ranks)
    left = np.concatenate([first, second]).astype(np.int64)
    right = np.concatenate([second, first]).astype(np.int64)
    value = np.concatenate([similarity, similarity]).astype(np.float64)
    order = np.argsort(left, kind="stable")
    starts = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(left, minlength=count), out=starts[1:])
    busy = np.flatnonzero(starts[1:] > starts[:-1])
    busy = busy[np.argsort(ranks[busy])]
    keeper, best = keep_greedily(busy, starts, right[order], value[order], ranks)
    return Removals(keeper, best)


def remove(
    rows: Rows,
    tally: Tally,
    removals: Removals,
    *,
    rule: str,
    method: str,
    text: Callable[[Example], str],
    evidence: Callable[[str, float, str], str],
    write: WriteLine | None,
) -> Iterator[Example]:
    """The rows that stay; each other goes to the rejects and, with its keeper, to `write`.

    `text` is what was compared; `evidence(keeper id, similarity, shared text)` is the reason
    given. Reads the rows twice where any go; keepers' texts wait in a temporary file.
    """
    import numpy as np

    if not removals.count:
        yield from rows()
        return
    wanted = np.zeros(len(removals.keeper), dtype=np.bool_)
    wanted[removals.keeper[removals.keeper >= 0]] = True
    offsets = np.zeros(len(wanted), dtype=np.int64)
    with Spool() as spool:
        for place, row in enumerate(rows()):
            if wanted[place]:
                offsets[place] = spool.put([row.id, text(row)])
        for place, row in enumerate(rows()):
            keeper = int(removals.keeper[place])
            if keeper < 0:
                yield row
                continue
            similarity = float(removals.similarity[place])
            keeper_id, kept = spool.get(int(offsets[keeper]))
            line = cluster_line(method, keeper_id, row.id, similarity, kept, text(row))
            tally.reject(row, rule, evidence(keeper_id, similarity, line["shared"]))
            if write is not None:
                write(line)


def cluster_line(
    method: str, keeper: str, removed: str, similarity: float, kept: str, gone: str
) -> dict[str, Any]:
    """A line of the cluster file, with the longest text that both have and excerpts of both."""
    return {
        "method": method,
        "keeper": keeper,
        "removed": removed,
        "similarity": round(similarity, 6),
        "shared": clip(shared_span(kept, gone), EXCERPT_CHARACTERS),
        "keeper_text": clip(kept, EXCERPT_CHARACTERS),
        "removed_text": clip(gone, EXCERPT_CHARACTERS),
    }


def shown(shared: str) -> str:
    """The shared text for one line of evidence, or nothing."""
    short = " ".join(shared.split())
    return f": “{clip(short, _SHOWN)}”" if short else ""


class Spool:
    """JSON values in a temporary file, read again by the offset at which they were put."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._end = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def put(self, value: Any) -> int:
        """Store a value; returns its offset."""
        data = json.dumps(value).encode()
        offset = self._end
        self._file.write(len(data).to_bytes(8, "little") + data)
        self._end += 8 + len(data)
        return offset

    def get(self, offset: int) -> Any:
        """The value at an offset."""
        self._file.flush()
        handle = self._file.fileno()
        size = int.from_bytes(os.pread(handle, 8, offset), "little")
        return json.loads(os.pread(handle, size, offset + 8))
