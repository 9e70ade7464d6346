"""HTML that a chat page left in a dialogue, as Markdown; code in fences is not touched."""

from __future__ import annotations

import re
from html.parser import HTMLParser

FENCED = re.compile(
    r"(^(?P<fence>`{3,}+|~{3,}+)[^\n]*\n.*?^(?P=fence)[`~]*[ \t]*$)", re.DOTALL | re.M
)
_BLOCK = "p|div|ol|ul|pre|table|h[1-6]|blockquote|section|article"
_PAGE = re.compile(
    rf"^\s*(?:<!--.*?-->\s*)?<(?P<tag>{_BLOCK})\b[^<>]*>.*</(?:{_BLOCK})>\s*$",
    re.DOTALL | re.IGNORECASE,
)
_TAG = re.compile(r"<([a-z][a-z0-9-]*)\b([^<>]*)>", re.IGNORECASE)
_TEXT_TAGS = (
    "p div span br hr ol ul li pre code table thead tbody tr td th h1 h2 h3 h4 h5 h6 blockquote "
    "section article a b i strong em u s del sup sub button svg path polyline rect line circle "
    "img math"
)
_OF_TEXT = frozenset(_TEXT_TAGS.split())
# A page that somebody writes has these; the text of a chat page has not.
_OF_CODE = re.compile(r"\s(?:id|on[a-z]+|name|data-toggle)\s*=", re.IGNORECASE)
_DECLARATION = re.compile(r"<(?=[!?])")
_DROPPED = frozenset(("script", "style", "button", "svg", "head", "title"))
_PARAGRAPHS = frozenset(("p", "div", "section", "article", "blockquote", "table", "ul", "ol"))
_MARKS = {"strong": "**", "b": "**", "em": "*", "i": "*", "code": "`"}
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_LANGUAGE = re.compile(r"(?:language|lang)-([\w+#.-]+)")


def is_page(text: str) -> bool:
    """Whether a text is that of a chat page: HTML throughout, and only of running text.

    It begins and ends with a block element. A text that speaks of tags or shows some is none, nor
    is HTML that is itself the matter (with forms, scripts, ids and such).
    """
    outside = FENCED.sub("", text)
    if _PAGE.match(outside) is None:
        return False
    tags = _TAG.findall(outside)
    return all(name.lower() in _OF_TEXT and not _OF_CODE.search(rest) for name, rest in tags)


def markdown(text: str) -> str:
    """The text of HTML, with its paragraphs, lists, emphasis, links and code as Markdown.

    Line breaks of the text and of code stay; those between elements are the elements' own.
    """
    pieces = FENCED.split(text)
    # split gives: outside, fenced block, its marks, outside, ...
    done = []
    for place in range(0, len(pieces), 3):
        done.append(_converted(pieces[place]))
        done += pieces[place + 1 : place + 2]
    return "\n\n".join(piece for piece in done if piece)


def _converted(html: str) -> str:
    reader = _Reader()
    # Declarations have no text, and the parser stumbles over broken ones.
    reader.feed(_DECLARATION.sub("&lt;", _without_comments(html)))
    reader.close()
    return reader.text()


def _without_comments(html: str) -> str:
    head, *rest = html.split("<!--")
    kept = [head]
    for piece in rest:
        _, closed, after = piece.partition("-->")
        kept.append(after if closed else "&lt;!--" + piece)
    return "".join(kept)


class _Reader(HTMLParser):
    """Collects Markdown; tags that it does not know vanish, their text stays."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._break = 0
        self._lists: list[int | None] = []
        self._links: list[str] = []
        self._dropped = 0
        self._code: list[str] | None = None
        self._language = ""
        self._cells = 0

    def text(self) -> str:
        """What was collected."""
        return "".join(self._parts).strip()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag in _DROPPED:
            self._dropped += 1
        elif tag in ("br", "tr"):
            self._end_line(1)
            self._cells = 0
        elif tag in ("ul", "ol"):
            self._end_line(1 if self._lists else 2)
            self._lists.append(1 if tag == "ol" else None)
        elif tag == "li":
            self._item()
        elif tag == "pre":
            self._code, self._language = [], ""
        elif tag == "code" and self._code is not None:
            found = _LANGUAGE.search(values.get("class", ""))
            self._language = found[1] if found else ""
            # What stands above the code in its box is a label, or a button.
            self._code = []
        elif tag == "a":
            self._links.append(values.get("href", ""))
            self._write("[")
        elif tag in ("td", "th"):
            self._cell()
        elif tag in _HEADINGS:
            self._end_line(2)
            self._write(_HEADINGS[tag])
        elif tag in _PARAGRAPHS:
            self._paragraph()
        elif tag in _MARKS:
            self._write(_MARKS[tag])

    def handle_endtag(self, tag: str) -> None:
        if tag in _DROPPED:
            self._dropped = max(0, self._dropped - 1)
        elif tag in ("ul", "ol"):
            if self._lists:
                self._lists.pop()
            self._paragraph()
        elif tag == "pre" and self._code is not None:
            code, self._code = "".join(self._code).strip("\n"), None
            self._end_line(2)
            self._write(f"```{self._language}\n{code}\n```")
            self._end_line(2)
        elif tag == "a" and self._links:
            target = self._links.pop()
            self._parts.append(f"]({target})" if target else "]")
        elif tag in _HEADINGS or tag in _PARAGRAPHS:
            self._paragraph()
        elif tag in _MARKS and self._code is None:
            self._parts.append(_MARKS[tag])

    def handle_data(self, data: str) -> None:
        if self._dropped:
            return
        if self._code is not None:
            self._code.append(data)
        elif not data.strip() and "\n" in data:
            self._end_line(min(2, data.count("\n")))
        elif data.strip() or not self._break:
            self._write(data.lstrip() if self._break else data)

    def _write(self, text: str) -> None:
        if self._code is not None:
            return
        if self._break and self._parts:
            self._parts[-1] = self._parts[-1].rstrip(" \t")
            self._parts.append("\n" * self._break)
        self._break = 0
        self._parts.append(text)

    def _end_line(self, count: int) -> None:
        """Ask for so many line ends before what comes next."""
        self._break = max(self._break, count)

    def _paragraph(self) -> None:
        self._end_line(1 if self._lists else 2)

    def _cell(self) -> None:
        if self._cells:
            self._break = 0
            self._write(" | ")
        self._cells += 1

    def _item(self) -> None:
        self._end_line(1)
        number = self._lists[-1] if self._lists else None
        if number is not None:
            self._lists[-1] = number + 1
        depth = "  " * max(0, len(self._lists) - 1)
        self._write(depth + ("- " if number is None else f"{number}. "))
