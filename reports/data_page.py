"""From the files of a curate folder to one HTML page about the data, self-contained.

Text of rows reaches the page as in `page.py`: through Jinja with autoescape, and as packed JSON
that the script puts into text nodes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

import espalier
from espalier.files import atomic_write_text
from espalier.reports.answers import finite, pack
from espalier.reports.data_charts import histogram, lengths, ordered, sizes
from espalier.reports.data_gather import DataPage, gather_data, money, totals
from espalier.reports.data_sunburst import sunburst
from espalier.reports.page import embedded, environment, policy, script_text, style_text
from espalier.reports.strings import known, pretty, words

SCRIPTS = (
    "dom.js", "format.js", "state.js", "theme.js", "tip.js", "search.js", "rows.js", "nav.js",
    "data_browser.js", "data_removed.js", "data_rows.js", "data_main.js",
)  # fmt: skip
STYLES = ("page.css", "parts.css", "answers.css", "data_page.css", "print.css")


def build_data_page(curate_folder: Path, output: Path) -> None:
    """Write the page about a curate folder's data to `output`, atomically.

    Needs no other stage and no model. Raises InputError when the folder holds no curated data,
    or a broken file.
    """
    atomic_write_text(output, render_data(gather_data(curate_folder)))


def render_data(data: DataPage) -> str:
    """The whole HTML document, encodable as UTF-8."""
    script, style = script_text(SCRIPTS), style_text(STYLES)
    html = (
        _environment()
        .get_template("data.html.j2")
        .render(
            data=data,
            statistics=data.statistics,
            version=espalier.__version__,
            csp=policy(script, style),
            script=Markup(script),
            style=Markup(style),
            core=Markup(embedded({"strings": words(), "run": data.name})),
            packed=pack(finite(browsers(data))),
        )
    )
    # A lone surrogate in some row can't be encoded; it becomes a question mark.
    return html.encode("utf-8", "replace").decode("utf-8")


def browsers(data: DataPage) -> dict[str, Any]:
    """What the browsers of the page page through and search."""
    return {
        "rows": data.rows,
        "rejects": data.rejects,
        "clusters": data.clusters,
        "pairs": data.pairs,
        "contamination": data.contamination,
    }


@cache
def _environment() -> Environment:
    """The shared templates, with what this page calls as well."""
    made = environment().overlay()
    made.globals = {
        **environment().globals,
        "histogram": histogram,
        "known": known,
        "lengths": lengths,
        "money": money,
        "ordered": ordered,
        "pretty": pretty,
        "sizes": sizes,
        "sunburst": sunburst,
        "totals": totals,
    }
    return made
