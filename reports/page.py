"""From a run folder to one HTML file that asks nothing of any network; `shell.py` says how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from espalier.reports.answer_packing import pack_answers
from espalier.reports.config import ReportConfig
from espalier.reports.data import RunData, gather
from espalier.reports.manifests import again
from espalier.reports.rating_page import DESK, rubrics
from espalier.reports.shell import content, document, spoken, write_document
from espalier.reports.strings import Language, speaking, words

# Later files use what earlier ones define.
EXAMPLES = (
    "diff.js", "markdown.js", "virtual_list.js", "examples_where.js", "examples_query.js",
    "examples_text.js", "examples_detail.js", "examples_card.js", "examples_export.js",
    "examples_controls.js", "examples_chips.js", "examples_frame.js", "examples.js",
)  # fmt: skip
SCRIPTS = (
    "dom.js", "format.js", "state.js", "theme.js", "language.js", "tip.js", "bars.js", "lines.js",
    "overview.js", "slices.js", "calibration.js", "training.js", "search.js", "unpack.js",
    "answer_data.js", "rows.js", *EXAMPLES, *DESK,
    "rating_rows.js", "rating_local.js", "rating_section.js", "nav.js", "main.js",
)  # fmt: skip
STYLES = ("page.css", "parts.css", "answers.css", "examples.css", "rating.css", "print.css")


def build_report(run: Path, options: ReportConfig, output: Path) -> RunData:
    """Write the page of `run` to `output`, atomically; returns what it shows, in English.

    Raises InputError when the folder holds no result, or a result file is broken.
    """
    told = told_in_all(run, options)
    write_document(output, pieces(told, options))
    return told["en"]


def told_in_all(run: Path, options: ReportConfig) -> dict[Language, RunData]:
    """The run in each language, the one that the page opens in first; answers are read once."""
    told: dict[Language, RunData] = {}
    answers = None
    for language in spoken(options.language):
        with speaking(language):
            data = gather(run, options, answers=not told)
        answers = answers or data.answers
        told[language] = replace(data, answers=answers)
    return told


def pieces(told: Mapping[Language, RunData], options: ReportConfig) -> Iterator[str]:
    """The HTML document in pieces, encodable as UTF-8."""
    data = next(iter(told.values()))
    return document(
        title=data.title,
        contents={language: body(one, language) for language, one in told.items()},
        cores={language: core(one, language) for language, one in told.items()},
        packed=pack_answers(data.answers, options.answer_megabytes) if data.answers else (),
        scripts=SCRIPTS,
        styles=STYLES,
        fixed=options.language is not None,
    )


def body(data: RunData, language: Language) -> str:
    """What stands between the bar and the footer, and these, in one language."""
    return content(
        "report.html.j2",
        language,
        data=data,
        summary=data.summary or {},
        again=again,
        answers=bool(data.answers),
    )


def core(data: RunData, language: Language) -> dict[str, Any]:
    """What the script needs at once: the words, the scores and the curves."""
    return {
        "strings": words(language),
        "run": data.name,
        "summary": data.summary,
        "curves": data.curves,
        "rubrics": rubrics(),
    }
