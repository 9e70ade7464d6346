"""JSON out of untrusted bytes: each way in which it can be broken gets its own sentence."""

from __future__ import annotations

import json
import math
from typing import Any

from espalier.formats.base import RowFault, describe, shorten

BOM = b"\xef\xbb\xbf"
MAX_DEPTH = 100
_EXPECTED = "one whole JSON object on the line"


def parse_object(data: bytes, *, last: bool = False) -> dict[str, Any]:
    """The object on one line; RowFault says what is wrong. `last`: no newline follows."""
    value = parse(data, last=last)
    if not isinstance(value, dict):
        raise RowFault("The line is not a JSON object.", found=describe(value), expected=_EXPECTED)
    return value


def parse(data: bytes, *, lines: bool = False, last: bool = False) -> Any:
    """A JSON value; RowFault for bytes that are no UTF-8, no JSON, or no sensible JSON.

    `lines` says that the value goes over many lines, so that the fault names one.
    """
    text = _decode(data, lines)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise _invalid(text, error, lines, last) from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise RowFault(
            "A number is outside of what JSON can hold.",
            found=str(error).split(";", maxsplit=1)[0],
            expected="a finite number of usual length",
        ) from error
    if "\\u" in text and _has_surrogate(text, value):
        raise RowFault(
            "A text holds half of a character (a lone surrogate).",
            found="an escape \\ud800 to \\udfff without its other half",
            expected="whole characters",
        )
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise _too_deep()
    return value


def _decode(data: bytes, lines: bool) -> str:
    if b"\x00" in data:
        at = data.index(b"\x00")
        raise RowFault(
            "The text holds NUL bytes" + (f" (line {_line(data, at)})." if lines else "."),
            found=f"a NUL byte at position {at + 1}",
            expected="UTF-8 text",
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RowFault(
            "The text is not UTF-8" + (f" (line {_line(data, error.start)})." if lines else "."),
            found=f"the byte 0x{data[error.start]:02x} at position {error.start + 1}",
            expected="UTF-8 text",
        ) from error


def _line(data: bytes, position: int) -> int:
    return data.count(b"\n", 0, position) + 1


def _invalid(text: str, error: json.JSONDecodeError, lines: bool, last: bool) -> RowFault:
    rest = text[error.pos : error.pos + 40].strip()
    place = f"line {error.lineno} column {error.colno}" if lines else f"column {error.colno}"
    # A string that is never closed is reported where it begins.
    ended = not rest or error.msg.startswith("Unterminated")
    if (last or lines) and ended:
        reason = "The JSON ends in the middle: the last line is cut off."
    else:
        reason = f"The text is not valid JSON ({error.msg} at {place})."
    return RowFault(
        reason,
        found=f"{shorten(rest)} at {place}" if rest else f"the end of the text at {place}",
        expected="one whole JSON array" if lines else _EXPECTED,
    )


def _too_deep() -> RowFault:
    return RowFault(
        "The JSON is nested too deep.",
        found=f"more than {MAX_DEPTH} lists or objects within each other",
        expected=f"at most {MAX_DEPTH}",
    )


def _depth(value: Any) -> int:
    """Levels of lists and objects, counted without recursion."""
    depth = 0
    level = [value]
    while level and depth <= MAX_DEPTH:
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        depth += any(isinstance(item, dict | list) for item in level)
        level = [item for item in below if isinstance(item, dict | list)]
    return depth


def _has_surrogate(text: str, value: Any) -> bool:
    if "\\ud" not in text and "\\uD" not in text:
        return False
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    except RecursionError as error:
        raise _too_deep() from error
    return False


def _constant(name: str) -> float:
    raise ValueError(f"the number {name}")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]}")
    return number


_DECODER = json.JSONDecoder(parse_constant=_constant, parse_float=_float)
