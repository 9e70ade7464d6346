"""HTML that a chat page left in a dialogue, as Markdown; code in fences is not touched."""

from __future__ import annotations

import re
from html.parser import HTMLParser

FENCED = re.compile(
    r"(^(?P<fence>`{3,}|~{3,})[^\n]*\n.*?^(?P=fence)[`~]*[ \t]*$)", re.DOTALL | re.M
)
_BLOCK = "p|div|ol|ul|pre|table|h[1-6]|blockquote|section|article"
_PAGE = re.compile(
    rf"^\s*(?:<!--.*?-->\s*)?<(?P<tag>{_BLOCK})\b[^<>]*>.*</(?:{_BLOCK})>\s*$",
    re.DOTALL | re.IGNORECASE,
)
_DROPPED = frozenset(("script", "style", "button", "svg", "head", "title"))
_PARAGRAPHS = frozenset(("p", "div", "section", "article", "blockquote", "table", "ul", "ol"))
_MARKS = {"strong": "**", "b": "**", "em": "*", "i": "*"}
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+\n")
_LANGUAGE = re.compile(r"(?:language|lang)-([\w+#.-]+)")


def is_page(text: str) -> bool:
    """Whether a text is HTML throughout: it begins with a block element and ends with one.

    A text that merely speaks of tags, or shows some, is not.
    """
    return _PAGE.match(FENCED.sub("", text)) is not None


def markdown(text: str) -> str:
    """The text of HTML, with its paragraphs, lists, emphasis, links and code as Markdown."""
    pieces = FENCED.split(text)
    # split gives: outside, fenced block, fence marks, outside, ...
    done = []
    for place in range(0, len(pieces), 3):
        done.append(_converted(pieces[place]))
        done += pieces[place + 1 : place + 2]
    return _BLANK_LINES.sub("\n\n", "\n".join(piece for piece in done if piece)).strip()


def _converted(html: str) -> str:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.text()


class _Reader(HTMLParser):
    """Collects Markdown; tags that it does not know vanish, their text stays."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._lists: list[int | None] = []
        self._links: list[str] = []
        self._dropped = 0
        self._code = False
        self._row_started = False

    def text(self) -> str:
        """What was collected, with single blank lines between paragraphs."""
        return _BLANK_LINES.sub("\n\n", "".join(self._parts)).strip()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in _DROPPED:
            self._dropped += 1
        elif tag == "br":
            self._parts.append("\n")
        elif tag in ("ul", "ol"):
            self._lists.append(1 if tag == "ol" else None)
            self._parts.append("\n" if len(self._lists) > 1 else "\n\n")
        elif tag == "li":
            self._item()
        elif tag == "pre":
            self._code = True
            self._parts.append("\n\n```\n")
        elif tag == "code":
            self._open_code(values.get("class") or "")
        elif tag == "a":
            self._links.append(values.get("href") or "")
            self._parts.append("[")
        elif tag == "tr":
            self._parts.append("\n")
            self._row_started = False
        elif tag in ("td", "th"):
            self._parts.append(" | " if self._row_started else "")
            self._row_started = True
        elif tag in _HEADINGS:
            self._parts.append("\n\n" + _HEADINGS[tag])
        elif tag in _PARAGRAPHS:
            self._parts.append("" if self._lists else "\n\n")
        else:
            self._parts.append(_MARKS.get(tag, ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in _DROPPED:
            self._dropped = max(0, self._dropped - 1)
        elif tag in ("ul", "ol"):
            if self._lists:
                self._lists.pop()
            self._parts.append("" if self._lists else "\n\n")
        elif tag == "pre":
            self._code = False
            self._parts.append("\n```\n\n")
        elif tag == "code":
            self._parts.append("" if self._code else "`")
        elif tag == "a" and self._links:
            target = self._links.pop()
            self._parts.append(f"]({target})" if target else "]")
        elif tag in _HEADINGS or tag in _PARAGRAPHS:
            self._parts.append("" if self._lists else "\n\n")
        else:
            self._parts.append(_MARKS.get(tag, ""))

    def handle_data(self, data: str) -> None:
        if self._dropped:
            return
        if self._code:
            self._parts.append(data)
        elif data.strip() or (self._parts and not self._parts[-1].endswith("\n")):
            self._parts.append(re.sub(r"\s*\n\s*", "\n" if "\n\n" in data else " ", data))

    def _item(self) -> None:
        depth = max(0, len(self._lists) - 1)
        number = self._lists[-1] if self._lists else None
        if number is not None:
            self._lists[-1] = number + 1
        self._parts.append("\n" + "  " * depth + ("- " if number is None else f"{number}. "))

    def _open_code(self, names: str) -> None:
        if not self._code:
            self._parts.append("`")
            return
        found = _LANGUAGE.search(names)
        if found and self._parts and self._parts[-1] == "\n\n```\n":
            self._parts[-1] = f"\n\n```{found[1]}\n"
