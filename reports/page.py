"""From a run folder to one HTML file that asks nothing of any network.

Safety: text of models, data and file names reaches the page in two ways only, both closed
against it: through Jinja with autoescape, and as JSON that the script puts into text nodes.
The Content-Security-Policy allows the one inline script and style by their hashes, and nothing
else; Trusted Types forbid turning text into markup altogether.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import espalier
from espalier.files import atomic_write_text
from espalier.progress import duration
from espalier.reports.answers import finite, pack
from espalier.reports.config import ReportConfig
from espalier.reports.data import RunData, gather
from espalier.reports.manifests import again, common, machine
from espalier.reports.strings import ASSETS, t, words

TEMPLATES = Path(__file__).parent / "templates"
# Later files use what earlier ones define.
SCRIPTS = (
    "dom.js", "format.js", "state.js", "theme.js", "tip.js", "bars.js", "lines.js",
    "overview.js", "slices.js", "calibration.js", "training.js", "search.js", "rows.js",
    "answers.js", "nav.js", "main.js",
)  # fmt: skip
STYLES = ("page.css", "parts.css", "answers.css", "print.css")


def build_report(run: Path, options: ReportConfig, output: Path) -> RunData:
    """Write the page of `run` to `output`, atomically; returns what it shows.

    Raises InputError when the folder holds no result, or a result file is broken.
    """
    data = gather(run, options)
    atomic_write_text(output, render(data))
    return data


def render(data: RunData) -> str:
    """The whole HTML document, encodable as UTF-8."""
    script, style = script_text(), style_text()
    html = (
        environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            summary=data.summary or {},
            version=espalier.__version__,
            command=again(data.name, data.stages),
            csp=policy(script, style),
            script=Markup(script),
            style=Markup(style),
            core=Markup(embedded(core(data))),
            answers=Markup(pack(data.answers)) if data.answers else "",
        )
    )
    # A lone surrogate in some answer can't be encoded; it becomes a question mark.
    return html.encode("utf-8", "replace").decode("utf-8")


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
    made.globals.update(t=t, common=common, duration=duration, share=share, machine=machine)
    return made


def core(data: RunData) -> dict[str, Any]:
    """What the script needs at once: the words, the scores and the curves."""
    return {
        "strings": words(),
        "run": data.name,
        "summary": data.summary,
        "curves": data.curves,
    }


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


def script_text(names: Sequence[str] = SCRIPTS) -> str:
    """The scripts as one, in a scope of its own."""
    parts = [(ASSETS / name).read_text(encoding="utf-8") for name in names]
    return '(() => {\n"use strict";\n' + "\n".join(parts) + "\n})();\n"


def style_text(names: Sequence[str] = STYLES) -> str:
    """The style sheets as one."""
    return "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in names)


def policy(script: str, style: str) -> str:
    """The Content-Security-Policy that lets this script and this style in, and nothing else."""
    return "; ".join(
        (
            "default-src 'none'",
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
