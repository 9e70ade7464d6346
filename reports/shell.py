"""The document around a page's content: policy, script, style, and the content in each language.

Safety: text of models, data and file names reaches the page in two ways only, both closed
against it: through Jinja with autoescape, and as JSON that the script puts into text nodes.
The Content-Security-Policy allows the one inline script and style by their hashes, and nothing
else; Trusted Types forbid turning text into markup altogether.

Languages: the content stands in the document once a language, the second one inert inside a
`template` element; the script swaps them. What the script needs (`core`) is there in one
language, and for the other as the places in which it differs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import espalier
from espalier.files import atomic_path
from espalier.reports.answers import finite
from espalier.reports.manifests import common, duration, machine
from espalier.reports.strings import ASSETS, LANGUAGES, Language, known, pretty, speaking, t

TEMPLATES = Path(__file__).parent / "templates"


def document(
    title: str,
    contents: Mapping[Language, str],
    cores: Mapping[Language, Mapping[str, Any]],
    packed: Iterable[tuple[str, Iterable[str]]],
    scripts: Sequence[str],
    styles: Sequence[str],
    fixed: bool = False,
    connects: bool = False,
) -> Iterator[str]:
    """The pieces of the HTML document, in order; joined, they can be encoded as UTF-8.

    `contents` and `cores` by language, the first of them as the document opens; `packed` are
    texts in pieces for script elements that don't run, by id, free of `<`. `fixed`: the reader's
    browser has no say in the language. `connects`: the page may talk to the server that it is from.
    """
    script, style = script_text(scripts), style_text(styles)
    first = next(iter(contents))
    html = (
        environment()
        .get_template("shell.html.j2")
        .render(
            title=title,
            version=espalier.__version__,
            csp=policy(script, style, connects=connects),
            script=Markup(script),
            style=Markup(style),
            language=first,
            fixed=fixed,
            contents={name: Markup(text) for name, text in contents.items()},
            core=Markup(embedded(cores[first])),
            others={
                name: Markup(embedded({"difference": difference(cores[first], core)}))
                for name, core in cores.items()
                if name != first
            },
        )
    )
    yield encodable(html)
    for name, parts in packed:
        yield f'<script type="text/plain" id="{name}">'
        yield from parts
        yield "</script>\n"
    yield "</body>\n</html>\n"


def write_document(output: Path, pieces: Iterable[str]) -> None:
    """Write the pieces to a file one after the other; the file is whole or stays as it was."""
    with atomic_path(output) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(pieces)


def content(template: str, language: Language, **values: Any) -> str:
    """A template of a page's content, rendered in this language."""
    with speaking(language):
        made = environment().get_template(template)
        return made.render(version=espalier.__version__, language=language, **values)


def spoken(first: Language | None) -> tuple[Language, ...]:
    """All languages, the one that the document opens in first."""
    start = first or "en"
    return (start, *(language for language in LANGUAGES if language != start))


def encodable(text: str) -> str:
    """The text; a lone surrogate, which can't be encoded as UTF-8, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def difference(one: Any, other: Any) -> Any:
    """What turns `one` into `other`; None where they are equal.

    `{"to": value}` replaces, `{"at": {key or index: difference}}` goes into an object or list.
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping) and one.keys() == other.keys():
        inner = {key: difference(one[key], other[key]) for key in one}
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = zip(one, other, strict=True)
        inner = {str(i): difference(a, b) for i, (a, b) in enumerate(pairs)}
    else:
        return None if type(one) is type(other) and one == other else {"to": other}
    changed = {key: value for key, value in inner.items() if value is not None}
    return {"at": changed} if changed else None


@cache
def environment() -> Environment:
    """The templates, with autoescape and what they call; compiled once a process."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["nobreak"] = nobreak
    made.globals.update(
        t=t,
        known=known,
        pretty=pretty,
        common=common,
        duration=duration,
        share=share,
        machine=machine,
    )
    return made


def embedded(value: Mapping[str, Any]) -> str:
    """JSON that can stand inside a script element: no `<` is left in it."""
    text = json.dumps(finite(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def nobreak(text: str) -> str:
    """The text with its intervals (`[1.9, 2.7]`) kept on one line."""
    return re.sub(r"\[[^\]]*\]", lambda match: match.group().replace(" ", "\u00a0"), text)


def share(part: float, whole: float) -> str:
    """A width in per cent; whatever is there at all stays visible."""
    return f"{max(0.4 if part else 0.0, 100 * part / whole):.2f}"


def script_text(names: Sequence[str]) -> str:
    """The scripts as one, in a scope of its own."""
    parts = [(ASSETS / name).read_text(encoding="utf-8") for name in names]
    return '(() => {\n"use strict";\n' + "\n".join(parts) + "\n})();\n"


def style_text(names: Sequence[str]) -> str:
    """The style sheets as one."""
    return "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in names)


def policy(script: str, style: str, *, connects: bool = False) -> str:
    """The Content-Security-Policy that lets this script and this style in, and nothing else.

    `connects`: the script may also ask the server that the page came from.
    """
    return "; ".join(
        (
            "default-src 'none'",
            *(("connect-src 'self'",) if connects else ()),
            f"script-src '{source_hash(script)}'",
            f"style-src '{source_hash(style)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def source_hash(text: str) -> str:
    """The CSP source expression of an inline script or style."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")
