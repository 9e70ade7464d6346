"""Text of data on a terminal: nothing steers it, and what is learnt shows with or without
colours."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espalier.terminal import Brush, visible, wants_colour, width

HOSTILE = "a\x1b[31mred\x1b]0;title\x07\r\x00\x9b2J\u202egnp.exe\u2028\ud800\t\x7f"


def test_nothing_unprintable_is_left() -> None:
    shown = visible(HOSTILE)
    assert shown == (r"a\x1b[31mred\x1b]0;title\x07\r\x00\x9b2J\u202egnp.exe\u2028\ud800\t\x7f")
    assert visible("两行\n字\u3000é 🙂") == "两行\n字\u3000é 🙂"
    assert visible("\U000e0001") == r"\U000e0001"


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("plain", 5),
        ("全部权重", 8),
        ("（ＡＢ）", 8),
        ("ｱｲ", 2),
        ("e\u0301", 1),
        ("ที่", 1),
        ("🙂", 2),
    ],
)
def test_columns_of_a_text(text: str, columns: int) -> None:
    assert width(text) == columns


@given(st.text())
def test_any_text_is_safe_and_can_be_written(text: str) -> None:
    for colour in (False, True):
        brush = Brush(colour)
        painted = brush.span([brush.text(text, learnt=True)], learnt=True)
        painted += brush.special(text, learnt=False) + brush.note("cut")
        bare = re.sub(r"\x1b\[[0-9;]*m", "", painted)
        assert all(c.isprintable() or c in "\n\u3000" for c in bare)
        assert not colour or painted.count("\x1b") == 2 * len(re.findall(r"\x1b\[0m", painted))
        painted.encode("utf-8")


def test_marks_on_a_pipe_are_told_from_the_data() -> None:
    brush = Brush(colour=False)
    parts = [brush.text("a[[b]] {{c}}", learnt=True), brush.special("<|end|>", learnt=True)]
    assert brush.span(parts, learnt=True) == r"[[a\[[b\]] \{{c\}}{{<|end|>}}]]"
    assert brush.text("masked", learnt=False) == "masked"
    assert brush.legend() == "[[learnt]] masked {{special token}}"


def test_colours_only_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert wants_colour(Terminal())
    assert not wants_colour(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_colour(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())
