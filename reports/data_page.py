"""From the files of a curate folder to one HTML page about the data, self-contained.

Text of rows reaches the page as `shell.py` says: through Jinja with autoescape, and as packed
JSON that the script puts into text nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from espalier.reports.answers import finite
from espalier.reports.data_charts import histogram, lengths, ordered, sizes
from espalier.reports.data_gather import DataPage, gather_data, money, retold, totals
from espalier.reports.data_sunburst import sunburst
from espalier.reports.packing import pack
from espalier.reports.shell import content, document, spoken, write_document
from espalier.reports.strings import Language, speaking, t, words

SCRIPTS = (
    "dom.js", "format.js", "state.js", "theme.js", "language.js", "tip.js",
    "search.js", "unpack.js", "rows.js", "nav.js", "data_browser.js", "data_removed.js",
    "data_rows.js", "data_main.js",
)  # fmt: skip
STYLES = ("page.css", "parts.css", "answers.css", "data_page.css", "print.css")


def build_data_page(curate_folder: Path, output: Path) -> None:
    """Write the page about a curate folder's data to `output`, atomically.

    Needs no other stage and no model. Raises InputError when the folder holds no curated data,
    or a broken file.
    """
    read = gather_data(curate_folder)
    told: dict[Language, DataPage] = {}
    for language in spoken(None):
        with speaking(language):
            told[language] = retold(read, curate_folder)
    write_document(output, pieces(told))


def pieces(told: Mapping[Language, DataPage]) -> Iterator[str]:
    """The HTML document in pieces, encodable as UTF-8."""
    data = next(iter(told.values()))
    return document(
        title=t("dp.title", name=data.name),
        contents={language: body(one, language) for language, one in told.items()},
        cores={language: core(one, language) for language, one in told.items()},
        packed=[("packed-data", [pack(finite(browsers(data)))])],
        scripts=SCRIPTS,
        styles=STYLES,
    )


def body(data: DataPage, language: Language) -> str:
    """The whole content of the page in one language."""
    return content(
        "data.html.j2",
        language,
        data=data,
        statistics=data.statistics,
        histogram=histogram,
        lengths=lengths,
        money=money,
        ordered=ordered,
        sizes=sizes,
        sunburst=sunburst,
        totals=totals,
    )


def core(data: DataPage, language: Language) -> dict[str, Any]:
    """What the script needs at once: the words."""
    with speaking(language):
        title = t("dp.title", name=data.name)
    return {"strings": words(language), "run": data.name, "title": title}


def browsers(data: DataPage) -> dict[str, Any]:
    """What the browsers of the page page through and search."""
    return {
        "rows": data.rows,
        "rejects": data.rejects,
        "clusters": data.clusters,
        "pairs": data.pairs,
        "contamination": data.contamination,
    }
