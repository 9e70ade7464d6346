"""From a run folder to one HTML file that asks nothing of any network; `shell.py` says how."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from espalier.reports import data_page
from espalier.reports.answer_packing import known_labels, pack_answers
from espalier.reports.cautions import engine_of
from espalier.reports.config import ReportConfig
from espalier.reports.data import RunData, gather
from espalier.reports.manifests import again
from espalier.reports.overview import overview_of
from espalier.reports.overview_data import overview_core
from espalier.reports.rating_page import DESK, rubrics
from espalier.reports.retold import retell
from espalier.reports.shell import content, document, spoken, write_document
from espalier.reports.strings import Language, speaking, words

# Later files use what earlier ones define.
EXAMPLES = (
    "diff.js", "markdown.js", "virtual_list.js", "examples_where.js", "examples_query.js",
    "examples_text.js", "examples_detail.js", "examples_card.js", "examples_export.js",
    "examples_controls.js", "examples_chips.js", "examples_frame.js", "examples.js",
)  # fmt: skip
OVERVIEW = (
    "grid.js", "linked.js", "bars.js", "overview.js", "score_table.js", "score_bars.js",
    "slice_wins.js", "slices.js", "distributions.js", "rubric.js",
)  # fmt: skip
SCRIPTS = (
    "dom.js", "format.js", "state.js", "theme.js", "language.js", "tip.js", "help.js",
    "copy.js", "curve_math.js", "lines.js", *OVERVIEW, "calibration.js", "training.js",
    "search.js", "unpack.js", "answer_data.js", "rows.js", *EXAMPLES, *DESK,
    *data_page.COMPONENTS,
    "rating_rows.js", "rating_local.js", "rating_rubrics.js", "rating_section.js", "nav.js",
    "late.js", "start.js",
    "main.js",
)  # fmt: skip
STYLES = (
    "page.css", "frame.css", "parts.css", "overview.css", "answers.css", "examples.css",
    "rating.css", "training.css", "data_page.css", "print.css",
)  # fmt: skip


def build_report(run: Path, options: ReportConfig, output: Path) -> RunData:
    """Write the page of `run` to `output`, atomically; returns what it shows, in English.

    Raises InputError when the folder holds no result, or a result file is broken.
    """
    told = told_in_all(run, options)
    write_document(output, pieces(told, options))
    return told["en"]


def told_in_all(run: Path, options: ReportConfig) -> dict[Language, RunData]:
    """The run in each language, the one that the page opens in first; rows are read once."""
    told: dict[Language, RunData] = {}
    before = None
    for language in spoken(options.language):
        with speaking(language):
            before = told[language] = gather(run, options, before=before)
    return told


def pieces(told: Mapping[Language, RunData], options: ReportConfig) -> Iterator[str]:
    """The HTML document in pieces, encodable as UTF-8."""
    data = next(iter(told.values()))
    return document(
        title=data.title,
        contents={language: body(one, language) for language, one in told.items()},
        cores={language: core(one, language) for language, one in told.items()},
        packed=packed(data, options),
        scripts=SCRIPTS,
        styles=STYLES,
        fixed=options.language is not None,
    )


def packed(data: RunData, options: ReportConfig) -> Iterator[tuple[str, Iterable[str]]]:
    """What the page holds packed: the answers, and the rows of the data."""
    if data.answers:
        yield from pack_answers(data.answers, options.answer_megabytes)
    if data.dataset:
        yield from data_page.packed(data.dataset)


def body(data: RunData, language: Language) -> str:
    """What stands between the bar and the footer, and these, in one language."""
    with speaking(language):
        overview = overview_of(data.summary, data.verdicts)
    return content(
        "report.html.j2",
        language,
        data=data,
        overview=overview,
        summary=data.summary or {},
        again=again,
        engine_of=engine_of,
        retell=retell,
        answers=bool(data.answers),
        dataset=Markup(data_page.section(data.dataset, language)) if data.dataset else "",
    )


def core(data: RunData, language: Language) -> dict[str, Any]:
    """What the script needs at once: the words, the scores and the curves."""
    with_rows = {metric["name"] for metric in data.answers.metrics} if data.answers else set()
    columns = known_labels(data.answers) if data.answers else ()
    return {
        "strings": words(language),
        "run": data.name,
        "summary": overview_core(data.summary, with_rows, columns) if data.summary else None,
        "curves": data.curves,
        "rubrics": rubrics(data.summary),
        "lineage": from_data(data),
    }


def from_data(data: RunData) -> bool:
    """Whether prompts of the evaluation are among the rows of the data, so can be walked back."""
    rows = data.dataset.lineage["rows"] if data.dataset else []
    return data.answers is not None and any(row["id"] in data.answers.rows for row in rows)
