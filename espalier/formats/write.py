"""Examples and preference pairs into a dataset file of any format and container."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from espalier.errors import InputError
from espalier.formats.base import Format, RowFault
from espalier.formats.registry import EXAMPLE_FORMATS, PAIR_FORMATS, format_named
from espalier.formats.writers import write_rows
from espalier.records import Example, PreferencePair

RecordT = TypeVar("RecordT", Example, PreferencePair)


def write_examples(
    path: Path | str, examples: Iterable[Example], *, format: str = "espalier"
) -> int:
    """Write examples atomically; the suffix of `path` names the container. Returns their number.

    Raises InputError for an unknown suffix or format, and for an example that the format can't
    hold (several turns in alpaca, for one).
    """
    item = EXAMPLE_FORMATS.get(format)
    if item is None:
        raise _wrong_kind(format, "examples", EXAMPLE_FORMATS)
    return write_rows(path, item.join(_dumped(path, examples, item)))


def write_pairs(
    path: Path | str, pairs: Iterable[PreferencePair], *, format: str = "espalier"
) -> int:
    """Write preference pairs atomically, like `write_examples`."""
    item = PAIR_FORMATS.get("espalier-pairs" if format == "espalier" else format)
    if item is None:
        raise _wrong_kind(format, "preference pairs", PAIR_FORMATS)
    return write_rows(path, item.join(_dumped(path, pairs, item)))


def _wrong_kind(name: str, what: str, formats: Mapping[str, object]) -> InputError:
    format_named(name)
    return InputError(f"The format '{name}' does not hold {what}.", expected=", ".join(formats))


def _dumped(
    path: Path | str, records: Iterable[RecordT], item: Format[RecordT]
) -> Iterator[dict[str, Any]]:
    for record in records:
        try:
            yield item.dump(record)
        except RowFault as fault:
            raise InputError(
                f"{fault.reason} Found: {fault.found}.",
                where=str(path),
                expected=fault.expected,
                hint="choose another format for this file",
            ) from fault
