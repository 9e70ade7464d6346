"""The table of formats, from the most telling field names to the least."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from espalier.errors import InputError, did_you_mean
from espalier.formats.alpaca import ALPACA
from espalier.formats.base import Format, Kind
from espalier.formats.dolly import DOLLY
from espalier.formats.messages import MESSAGES
from espalier.formats.mt_bench import MT_BENCH
from espalier.formats.native import NATIVE, NATIVE_PAIRS
from espalier.formats.open_orca import OPEN_ORCA
from espalier.formats.preference import PREFERENCE
from espalier.formats.prompt_completion import PROMPT_COMPLETION
from espalier.formats.ranking import RANKING
from espalier.formats.seeds import SEEDS
from espalier.formats.sharegpt import SHAREGPT
from espalier.records import Example, PreferencePair

AnyFormat = Format[Example] | Format[PreferencePair]

EXAMPLE_FORMATS: dict[str, Format[Example]] = {
    item.name: item
    for item in (
        NATIVE,
        MESSAGES,
        SHAREGPT,
        SEEDS,
        ALPACA,
        DOLLY,
        OPEN_ORCA,
        PROMPT_COMPLETION,
        MT_BENCH,
    )
}
PAIR_FORMATS: dict[str, Format[PreferencePair]] = {
    item.name: item for item in (NATIVE_PAIRS, PREFERENCE, RANKING)
}
FORMATS: dict[str, AnyFormat] = {**PAIR_FORMATS, **EXAMPLE_FORMATS}


def format_named(name: str) -> AnyFormat:
    """The format of this name; InputError with the nearest name for an unknown one."""
    if name in FORMATS:
        return FORMATS[name]
    raise InputError(
        f"There is no dataset format '{name}'.",
        expected=f"auto, {', '.join(FORMATS)}",
        hint=did_you_mean(name, FORMATS),
    )


def kind_of(name: str) -> Kind:
    """Whether a format holds examples or preference pairs."""
    return format_named(name).kind


def format_of_row(row: Mapping[str, Any]) -> AnyFormat | None:
    """The format whose fields a row has, or None."""
    return next((item for item in FORMATS.values() if item.fits(row)), None)


def format_like_row(row: Mapping[str, Any]) -> AnyFormat | None:
    """The format that a row with a missing field most looks like, or None."""
    return next((item for item in FORMATS.values() if item.resembles(row)), None)


def unpack(row: dict[str, Any], item: AnyFormat) -> dict[str, Any]:
    """The row with the format's list and object fields read from JSON text where they are text.

    CSV and Parquet files keep such fields as text. Text that is no JSON stays, so that the
    format names it as what it is.
    """
    changed = dict(row)
    for name in item.nested:
        value = changed.get(name)
        if not isinstance(value, str):
            continue
        try:
            changed[name] = json.loads(value) if value.strip() else None
        except (ValueError, RecursionError):
            continue
    return changed
