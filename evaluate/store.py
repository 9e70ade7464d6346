"""Results that took a model to make, kept by key in an append-only file of JSON lines.

`{"key": …, "value": …, …}`, one line a result, readable with any text tool. Keys are hashes of all
that decides a result, so that a changed model, prompt or setting finds nothing here, and everything
else is found again. What a crash does and doesn't cost is said in `espalier.append_file`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from espalier import provenance
from espalier.append_file import AppendFile
from espalier.records import content_id, dump_line

# Results that are made, and kept, at a time where nothing else says how many.
BATCH = 256


class Store(AppendFile):
    """Values by key in one file that a single process holds; what is there is never changed."""

    def __init__(self, path: Path) -> None:
        """Open or create the file; see `AppendFile` for what is raised."""
        super().__init__(path, "store of the evaluation", _key_of)

    def get(self, key: str) -> Any:
        """The value of a key that is in the store; KeyError for another."""
        return self.read(key)["value"]

    def put(self, key: str, value: Any, **info: Any) -> None:
        """Append a value; `info` is written along for human readers.

        A key that is there keeps its first value. Raises StageError when the line can't be
        written (disk full), and then nothing of it counts.
        """
        if key not in self:
            self.append(dump_line({"key": key, **info, "value": value}), key)


def _key_of(record: dict[str, Any]) -> str | None:
    key = record.get("key")
    return key if isinstance(key, str) and "value" in record else None


def kept(
    store: Store,
    keys: Sequence[str],
    make: Callable[[list[int]], Iterable[Any]],
    *,
    size: int = BATCH,
    **info: Any,
) -> list[Any]:
    """The values of `keys`, in their order: stored ones read, all others made and stored.

    `make` gets the places (in `keys`) of at most `size` values that are missing, and gives one
    JSON value for each, in that order; equal keys are made once. A kill loses one such batch.
    """
    missing = list({key: at for at, key in enumerate(keys) if key not in store}.values())
    for start in range(0, len(missing), size):
        batch = missing[start : start + size]
        for at, value in zip(batch, make(batch), strict=True):
            store.put(keys[at], value, **info)
    return [store.get(key) for key in keys]


def key_of(kind: str, code: Sequence[str], *parts: str) -> str:
    """A key: the kind of result, what the modules `code` do, and all else that decides it.

    Comments and docstrings of the modules do not count.
    """
    files = [provenance.module_file(name) for name in code]
    hashes = [provenance.code_hash(path) for path in files if path is not None]
    return content_id(kind, *hashes, *parts)
