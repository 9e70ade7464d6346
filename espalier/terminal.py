"""Text of models and data sets on a terminal: nothing in it may steer the terminal, what is
learnt and what is a token of its own shows, with colours or, on a pipe, with marks.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

# Printable for us: line ends, and the wide space of Chinese text.
_KEPT = "\n\u3000"
_MARKS = re.compile(r"\[\[|\]\]|\{\{|\}\}")
_RESET = "\x1b[0m"
_CODES = {"learnt": "32", "masked": "2", "special": "36", "learnt special": "1;32", "note": "33"}


def visible(text: str) -> str:
    r"""The text with every control, format or other unprintable character written as an escape.

    ESC is `\x1b`, a right-to-left override `\u202e`, a lone surrogate `\ud800`.
    """
    return "".join(c if c.isprintable() or c in _KEPT else _escape(c) for c in text)


def _escape(character: str) -> str:
    short = {"\t": r"\t", "\r": r"\r"}
    code = ord(character)
    form = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    return short.get(character, form if code < 0x10000 else f"\\U{code:08x}")


def width(text: str) -> int:
    """Columns that a text takes: two for a wide character, none for a mark on another one."""
    return sum(
        0
        if unicodedata.category(character) in ("Mn", "Me")
        else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows in columns of equal width on a terminal."""
    widths = [max(width(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(
            cell + " " * (size - width(cell)) for cell, size in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def wants_colour(stream: TextIO) -> bool:
    """Whether to write colours: a terminal that is not dumb, and no NO_COLOR (no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


@dataclass(frozen=True, slots=True)
class Brush:
    """Writes pieces of a row: with `colour` in colours, else learnt text in `[[…]]` and special
    tokens in `{{…}}` (the same signs in the data get a backslash)."""

    colour: bool

    def legend(self, learnt: str = "learnt", masked: str = "masked") -> str:
        """How to read what the brush paints."""
        if not self.colour:
            return f"[[{learnt}]] {masked} {{{{special token}}}}"
        names = (("learnt", learnt), ("masked", masked), ("special", "special token"))
        return " ".join(self._paint(name, text) for name, text in names)

    def note(self, text: str) -> str:
        """A remark of ours between the pieces."""
        return self._paint("note", f"<<{text}>>")

    def text(self, text: str, *, learnt: bool) -> str:
        """Text of the data."""
        shown = visible(text)
        if self.colour:
            return self._paint("learnt" if learnt else "masked", shown)
        return _MARKS.sub(lambda found: "\\" + found[0], shown)

    def special(self, text: str, *, learnt: bool) -> str:
        """A special token."""
        if self.colour:
            return self._paint("learnt special" if learnt else "special", visible(text))
        return "{{" + visible(text) + "}}"

    def span(self, parts: list[str], *, learnt: bool) -> str:
        """Painted pieces in a row that are all learnt, or all masked."""
        joined = "".join(parts)
        return f"[[{joined}]]" if learnt and not self.colour else joined

    def _paint(self, name: str, text: str) -> str:
        if not self.colour:
            return text
        # Each line for itself, so that pagers and cut output keep their colours.
        start = f"\x1b[{_CODES[name]}m"
        return "\n".join(start + line + _RESET if line else "" for line in text.split("\n"))
