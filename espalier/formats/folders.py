"""Hugging Face datasets: folders written by `save_to_disk`, and names of the hub."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from espalier.errors import InputError, require
from espalier.formats.rows import SUFFIXES, BadRow, Row
from espalier.formats.tables import plain, table_rows

_STATE = "state.json"
_SPLITS = "dataset_dict.json"
# What lies beside the `config.json` of a model: its tokenizer or its weights.
_OF_A_MODEL = ("tokenizer", ".safetensors", "pytorch_model")


def check_folder(path: Path) -> str:
    """How we know that a folder is a dataset, and which split is read; InputError if it is none."""
    if (path / _STATE).is_file():
        return f"the folder has a {_STATE}"
    if (path / _SPLITS).is_file():
        split, others = _split(path)
        note = f", not {', '.join(others)}" if others else ""
        return f"the folder has a {_SPLITS}; read is the split {split}{note}"
    inside = sorted(item.name for item in path.iterdir())
    if _is_model(inside):
        raise InputError(
            "The folder is a model, not a dataset.",
            where=str(path),
            expected="a dataset file, or a folder written by save_to_disk",
            hint=f"it goes beside the data: espalier new FILE --model {shlex.quote(str(path))}",
        )
    files = [name for name in inside if any(suffix in name for suffix in SUFFIXES)]
    raise InputError(
        "The folder is no dataset.",
        where=str(path),
        expected=f"a folder written by save_to_disk, with {_STATE} or {_SPLITS}",
        hint=f"give one of its files: {', '.join(files[:5])}"
        if files
        else f"it holds {', '.join(inside[:5]) or 'nothing'}; give a file or another folder",
    )


def _is_model(inside: list[str]) -> bool:
    return "adapter_config.json" in inside or (
        "config.json" in inside and any(part in name for name in inside for part in _OF_A_MODEL)
    )


def _split(path: Path) -> tuple[str, list[str]]:
    """The split to read (`train`, or the only one) and the others."""
    splits = _state(path / _SPLITS).get("splits")
    if not isinstance(splits, list) or not splits:
        raise _broken(path, f"{_SPLITS} names no splits")
    if "train" not in splits and len(splits) > 1:
        raise InputError(
            f"The dataset has several splits: {', '.join(splits)}.",
            where=str(path),
            expected="one split",
            hint=f"give the folder of one, e.g. {path / splits[0]}",
        )
    chosen = "train" if "train" in splits else str(splits[0])
    return chosen, [str(name) for name in splits if name != chosen]


def _state(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _broken(path.parent, f"{path.name} can't be read") from error
    if not isinstance(value, dict):
        raise _broken(path.parent, f"{path.name} is no object")
    return value


def _broken(path: Path, reason: str) -> InputError:
    return InputError(
        f"The dataset folder is damaged: {reason}.",
        where=str(path),
        expected="a whole folder as save_to_disk wrote it",
        hint="copy or write it again",
    )


def folder_rows(path: Path) -> Iterator[Row | BadRow]:
    """Rows of a `save_to_disk` folder, read from its Arrow files in batches."""
    import pyarrow

    if not (path / _STATE).is_file():
        path = path / _split(path)[0]
    listed = _state(path / _STATE).get("_data_files")
    if not isinstance(listed, list):
        raise _broken(path, f"{_STATE} names no data files")
    number = 0
    for item in listed:
        name = item.get("filename") if isinstance(item, dict) else None
        # A name with a path in it could lead out of the folder.
        if not isinstance(name, str) or Path(name).name != name:
            raise _broken(path, f"{_STATE} names a data file that is none")
        try:
            with pyarrow.OSFile(str(path / name)) as file, pyarrow.ipc.open_stream(file) as batches:
                for batch in batches:
                    yield from table_rows(batch, str(path), number)
                    number += batch.num_rows
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = f"{name} can't be read ({str(error).splitlines()[0].rstrip('.')})"
            raise _broken(path, reason) from error


def hub_rows(name: str) -> Iterator[Row | BadRow]:
    """Rows of a dataset of the hub, streamed; `owner/name[:configuration][@split]`.

    Code that comes with a dataset is never run. Raises MissingExtra without the package
    `datasets`, InputError when there is no such dataset or no way to it.
    """
    datasets = require("datasets", extra="datasets", feature="Reading a dataset of the hub")
    bare = name.removeprefix("hf:").removeprefix("//")
    bare, _, split = bare.partition("@")
    bare, _, configuration = bare.partition(":")
    try:
        rows = datasets.load_dataset(
            bare, configuration or None, split=split or "train", streaming=True
        )
        for number, value in enumerate(rows, 1):
            yield Row({key: plain(item) for key, item in value.items()}, name, number)
    except _hub_errors() as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise InputError(
            f"The dataset '{bare}' can't be read from the hub: {reason}.",
            where=name,
            expected="a file that exists, or a dataset of the hub: owner/name[:configuration]"
            "[@split]",
            hint="check the name and the connection; a file needs a suffix like .jsonl",
        ) from error


def _hub_errors() -> tuple[type[Exception], ...]:
    """What reading from the hub raises: its HTTP client has errors that are no OSError."""
    client = getattr(sys.modules.get("httpx"), "HTTPError", None)
    known: tuple[type[Exception], ...] = (OSError, ValueError, RuntimeError)
    return (*known, client) if isinstance(client, type) else known
