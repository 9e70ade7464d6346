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
from espalier.reports.data_gather import DataPage, Sources, gather_data, money, retold, totals
from espalier.reports.data_sunburst import sunburst
from espalier.reports.packing import pack
from espalier.reports.shell import content, document, spoken, write_document
from espalier.reports.strings import Language, pretty, speaking, t, words

# The components, for every page that shows data; search.js and unpack.js stand before them.
COMPONENTS = (
    "data_browser.js", "data_removed.js", "lineage.js", "lineage_view.js", "data_rows.js",
    "data_section.js",
)  # fmt: skip
SCRIPTS = (
    "dom.js", "format.js", "state.js", "theme.js", "language.js", "tip.js",
    "help.js", "search.js", "unpack.js", "nav.js", *COMPONENTS, "late.js", "start.js",
    "data_main.js",
)  # fmt: skip
STYLES = ("page.css", "frame.css", "parts.css", "data_page.css", "print.css")


def build_data_page(curate_folder: Path, output: Path) -> None:
    """Write the page about a curate folder's data to `output`, atomically.

    Needs no other stage and no model. Raises InputError when the folder holds no curated data,
    or a broken file.
    """
    sources = Sources(curate_folder)
    read = gather_data(sources)
    told: dict[Language, DataPage] = {}
    for language in spoken(None):
        with speaking(language):
            told[language] = retold(read, sources)
    write_document(output, pieces(told))


def pieces(told: Mapping[Language, DataPage]) -> Iterator[str]:
    """The HTML document in pieces, encodable as UTF-8."""
    data = next(iter(told.values()))
    return document(
        title=t("dp.title", name=data.name),
        contents={language: body(one, language) for language, one in told.items()},
        cores={language: core(one, language) for language, one in told.items()},
        packed=packed(data),
        scripts=SCRIPTS,
        styles=STYLES,
    )


def body(data: DataPage, language: Language) -> str:
    """The whole content of the page in one language."""
    return content("data.html.j2", language, **shown(data))


def section(data: DataPage, language: Language) -> str:
    """What stands in the section about the data of a run's page."""
    return content("run_data.html.j2", language, shown=places(data), **shown(data))


def places(data: DataPage) -> list[str]:
    """The ids of the blocks that have something to show, but for what is always there."""
    found = data.statistics
    present = {
        "funnel": data.funnel,
        "lengths": any(file["lengths"] for file in found["files"].values()),
        "openings": any(item.get("verbs") for item in found["openings"]["languages"].values()),
        "quality": found["quality"]["rows"],
        "duplicates": found["duplicates"]["methods"] or data.pairs,
        "shared-texts": data.contamination,
    }
    return ["rejects", "rows", "cost", *(name for name, there in present.items() if there)]


def shown(data: DataPage) -> dict[str, Any]:
    """What the templates of the data need."""
    return {
        "data": data,
        "statistics": data.statistics,
        "histogram": histogram,
        "lengths": lengths,
        "money": money,
        "ordered": ordered,
        "sizes": sizes,
        "sunburst": sunburst,
        "totals": totals,
    }


def packed(data: DataPage) -> list[tuple[str, list[str]]]:
    """What the page holds packed: samples of what was taken out, and the rows."""
    return [
        ("packed-data", [pack(finite(browsers(data)))]),
        ("packed-rows", [pack(finite(data.lineage))]),
    ]


def core(data: DataPage, language: Language) -> dict[str, Any]:
    """What the script needs at once: the words."""
    with speaking(language):
        title = t("dp.title", name=data.name)
    return {"strings": words(language), "run": data.name, "title": title}


def browsers(data: DataPage) -> dict[str, Any]:
    """What the browsers of the page page through and search, but for the rows."""
    return {
        "rejects": data.rejects,
        "clusters": data.clusters,
        "pairs": data.pairs,
        "contamination": data.contamination,
        "streams": [
            {
                "stream": stream["stream"],
                "steps": [
                    {"step": step["step"], "label": pretty(step["step"])}
                    for step in stream["steps"]
                ],
            }
            for stream in data.funnel
        ],
    }
