"""A still picture as SVG: text, lines and shapes on white, with the colours of the page.

All text goes through one function that makes it safe in XML and free of control and
direction-changing characters; nothing else of a model or a file reaches the picture.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Literal
from xml.sax.saxutils import escape

from espalier.reports.strings import ASSETS

Anchor = Literal["start", "middle", "end"]
FONT = (
    "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', 'Noto Sans', 'PingFang SC', "
    "'Microsoft YaHei', 'Noto Sans CJK SC', 'Noto Serif CJK SC', sans-serif"
)
SIZE = 12.0
# Not allowed in XML 1.0, or able to reorder the text around them.
_UNFIT = re.compile(
    "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    "|[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
)
_NARROW = frozenset("iljtfrI.,:;'|!()[]{} -/\\\"`")
_BROAD = frozenset("mwMW%@—")


def plain(text: str) -> str:
    """The text on one line, without characters that XML forbids or that change its direction."""
    return " ".join(_UNFIT.sub("", text).split())


def text_width(text: str, size: float = SIZE) -> float:
    """About how wide a line of text is, in pixels."""
    total = 0.0
    for sign in text:
        if unicodedata.east_asian_width(sign) in "WF":
            total += 1.0
        elif unicodedata.combining(sign):
            continue
        elif sign in _NARROW:
            total += 0.33
        elif sign in _BROAD:
            total += 0.88
        else:
            total += 0.70 if sign.isupper() else 0.56
    return total * size


def fitted(text: str, width: float, size: float = SIZE) -> str:
    """The text on one line, cut with an ellipsis where it is wider than `width`."""
    text = plain(text)
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"


@cache
def colours() -> dict[str, str]:
    """The light colours of page.css by name: ink, quiet, line, better, worse, s0 … s9."""
    css = (ASSETS / "page.css").read_text(encoding="utf-8")
    return dict(re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}),", css))


def series_colour(place: int) -> str:
    """The colour of the model or line at this place."""
    return colours()[f"s{place % 10}"]


class Picture:
    """Shapes in the order in which they are drawn; `title` is what a screen reader says."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self._parts: list[str] = []

    def line(
        self, x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1.0,
        dash: str = "",
    ) -> None:  # fmt: skip
        """A straight line; `dash` as in SVG."""
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(
            f'<line x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}" '
            f'stroke="{colour}" stroke-width="{width:g}"{dashed}/>'
        )

    def rect(
        self, x: float, y: float, width: float, height: float, colour: str, opacity: float = 1.0,
        radius: float = 0.0,
    ) -> None:  # fmt: skip
        """A filled rectangle."""
        self._parts.append(
            f'<rect x="{x:.2f}" y="{y:.2f}" width="{max(0.0, width):.2f}" '
            f'height="{max(0.0, height):.2f}" rx="{radius:g}" fill="{colour}" '
            f'fill-opacity="{opacity:g}"/>'
        )

    def circle(self, x: float, y: float, radius: float, colour: str, opacity: float = 1.0) -> None:
        """A filled circle."""
        self._parts.append(
            f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{radius:g}" fill="{colour}" '
            f'fill-opacity="{opacity:g}"/>'
        )

    def path(self, d: str, colour: str, width: float = 1.6, opacity: float = 1.0) -> None:
        """A line through points."""
        self._parts.append(
            f'<path d="{d}" fill="none" stroke="{colour}" stroke-width="{width:g}" '
            f'stroke-opacity="{opacity:g}" stroke-linejoin="round"/>'
        )

    def area(self, d: str, colour: str, opacity: float, x: float = 0.0, y: float = 0.0) -> None:
        """A filled shape, moved by (x, y); one that was moved has a white edge."""
        moved = f' transform="translate({x:.2f} {y:.2f})" stroke="#ffffff"' if x or y else ""
        self._parts.append(f'<path d="{d}" fill="{colour}" fill-opacity="{opacity:g}"{moved}/>')

    def text(
        self, x: float, y: float, text: str, *, anchor: Anchor = "start", size: float = SIZE,
        colour: str | None = None, bold: bool = False, turn: float = 0.0, middle: bool = False,
    ) -> None:  # fmt: skip
        """A line of text whose baseline (or `middle`) is at `y`, turned by so many degrees around
        its anchor."""
        turned = f' transform="rotate({turn:g} {x:.2f} {y:.2f})"' if turn else ""
        weight = ' font-weight="600"' if bold else ""
        weight += ' dy="0.35em"' if middle else ""
        self._parts.append(
            f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}" font-size="{size:g}" '
            f'fill="{colour or colours()["ink"]}"{weight}{turned}>{escape(plain(text))}</text>'
        )

    def svg(self) -> str:
        """The whole document."""
        label = escape(plain(self.title))
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width:g}" '
            f'height="{self.height:g}" viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'font-family="{FONT}">\n<title>{label}</title>\n'
            f'<rect width="{self.width:g}" height="{self.height:g}" fill="#ffffff"/>\n'
            + "\n".join(self._parts)
            + "\n</svg>\n"
        )
