"""The page of a sweep: the question and its answer, the effects, the curves, the members.

It lies in the sweep's folder as `comparison.html`, beside `answer.json` with the same answer for
programs (tables of results, for one).
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from espalier.files import atomic_write_text
from espalier.progress import say
from espalier.reports.answer_packing import pack_answers
from espalier.reports.answer_table import AnswerTable
from espalier.reports.config import ReportConfig
from espalier.reports.manifests import shown_path
from espalier.reports.page import EXAMPLES
from espalier.reports.run_options import options_of
from espalier.reports.runs_answers import MOST_COLUMNS, Column, core_summary, merged_answers
from espalier.reports.runs_page import STYLES as RUNS_STYLES
from espalier.reports.runs_page import target_json
from espalier.reports.runs_settings import level_text
from espalier.reports.shell import content, document, spoken, write_document
from espalier.reports.strings import Language, speaking, t, words
from espalier.reports.sweep_data import SweepData, gather_sweep
from espalier.reports.sweep_json import answer_json, outcome_json
from espalier.reports.sweep_members import (
    failures,
    member_rows,
    reseeded,
    sharing_rows,
    variant_rows,
)
from espalier.reports.sweep_question import setting_words
from espalier.reports.sweep_sentences import Said, sentences
from espalier.sweep_file import PAGE

ANSWER = "answer.json"
# Later files use what earlier ones define.
SCRIPTS = (
    "dom.js", "format.js", "state.js", "theme.js", "language.js", "tip.js", "help.js",
    "copy.js", "curve_math.js", "grid.js", "linked.js", "bars.js", "runs_points.js",
    "runs_lines.js", "runs_changes.js", "runs_sweep.js", "runs_curves.js", "sweep_chart.js",
    "sweep_answer.js", "overview.js", "search.js", "unpack.js", "answer_data.js", "rows.js",
    *EXAMPLES, "nav.js", "late.js", "start.js", "sweep_main.js",
)  # fmt: skip
STYLES = (*RUNS_STYLES[:-1], "sweep.css", RUNS_STYLES[-1])


def build_sweep_page(
    folder: Path, options: ReportConfig | None = None, output: Path | None = None
) -> Path:
    """Write the page about a sweep's finished members, and `answer.json` beside `sweep.json`.

    `options` default to the section `report` of the sweep's recipe, `output` to `comparison.html`
    in the folder. The answer is told on the terminal as well. Returns the page's path; raises
    InputError where there is no sweep, or its files are broken.
    """
    options = options or options_of(folder)
    page = output or folder / PAGE
    told: dict[Language, SweepData] = {}
    said: dict[Language, Said] = {}
    before = None
    for language in spoken(options.language):
        with speaking(language):
            before = told[language] = gather_sweep(folder, options, before)
            said[language] = answer_sentences(before)
    text = json.dumps(answer_json(told, said), ensure_ascii=False, indent=1, allow_nan=False)
    atomic_write_text(folder / ANSWER, text + "\n")
    write_document(page, pieces(told, said, options, page))
    tell(told["en"], said["en"])
    return page


def answer_sentences(data: SweepData) -> Said:
    """The answer in words, (mark, sentence); the first one answers the question."""
    if not data.members:
        return [("tie", t("sweep.none_done"))]
    names = {place: factor.label for place, factor in enumerate(data.data.sweep.factors)}
    said: Said = []
    for outcome, problem in ((data.outcome, data.problem), *data.also):
        if outcome is not None:
            said += sentences(outcome, names)
        elif problem:
            said.append(("tie", problem))
    return said


def tell(data: SweepData, said: Said) -> None:
    """Print the question and the answer, and how many members it comes from."""
    if data.question:
        say(f"  {data.question}")
    for _, sentence in said[: 3 + len(data.also)]:
        say(f"  {sentence}")
    done, total = len(data.members), len(data.file.members)
    if done < total:
        say(f"  {t('sweep.finished', done=done, total=total)}")


def pieces(
    told: Mapping[Language, SweepData],
    said: Mapping[Language, Said],
    options: ReportConfig,
    page: Path,
) -> Iterator[str]:
    """The HTML document in pieces, encodable as UTF-8."""
    data = next(iter(told.values()))
    answers = side_by_side(data, options)
    return document(
        title=title_of(data, options),
        contents={
            language: body(one, said[language], options, language, page, answers is not None)
            for language, one in told.items()
        },
        cores={language: core(one, language, answers) for language, one in told.items()},
        packed=pack_answers(answers, options.answer_megabytes) if answers else (),
        scripts=SCRIPTS,
        styles=STYLES,
        fixed=options.language is not None,
    )


def title_of(data: SweepData, options: ReportConfig) -> str:
    """The title of the page: the report's own, or the name of the folder."""
    return options.title or data.folder.resolve().name


def side_by_side(data: SweepData, options: ReportConfig) -> AnswerTable | None:
    """The answers of one run of each setting, where they are few enough to stand side by side."""
    columns = answer_columns(data)
    folders = [run.folder for run in data.data.runs]
    summaries = [run.summary for run in data.data.runs]
    return merged_answers(folders, summaries, columns, options.answer_rows) if columns else None


def answer_columns(data: SweepData) -> list[Column]:
    """The models that the answer is about, in the first run of every setting; none where there
    are too many."""
    sweep = data.data.sweep
    runs = [setting.runs[0] for setting in sweep.settings]
    labels = {run: setting_words(sweep, s) for run, s in zip(runs, sweep.settings, strict=True)}
    asked = (data.answer.models or [data.answer.model or ""]) if data.answer else []
    found = [
        (run, str(model["name"]), " · ".join(filter(None, (str(model["label"]), labels[run]))))
        for run in runs
        for model in (data.data.runs[run].summary or {}).get("models", ())
        if model["name"] in asked or not any(asked)
    ]
    order = list(dict.fromkeys(name for _, name, _ in found))
    found.sort(key=lambda column: order.index(column[1]))
    return found if len(found) <= MOST_COLUMNS else []


def body(
    data: SweepData,
    said: Said,
    options: ReportConfig,
    language: Language,
    page: Path,
    answers: bool,
) -> str:
    """What stands between the bar and the footer, and these, in one language."""
    beside = os.path.relpath(data.folder.resolve(), page.resolve().parent)
    with speaking(language):
        return content(
            "sweep.html.j2",
            language,
            data=data,
            title=title_of(data, options),
            said=said,
            sections=sections(data, answers),
            answers=answers,
            rows=member_rows(data, Path(beside)),
            failed=failures(data),
            sharing=sharing_rows(data),
            variants=variant_rows(data),
            reseeded=reseeded(data),
            command=f"espalier report {shlex.quote(shown_path(str(data.folder), Path.cwd()))}",
            level=round(100 * data.data.confidence),
        )


def sections(data: SweepData, answers: bool) -> tuple[str, ...]:
    """The sections that the page has."""
    found = ["answer"]
    if data.data.sweep.is_one and data.data.targets:
        found.append("explore")
    if data.data.curves:
        found.append("curves")
    return (*found, *(("answers",) if answers else ()), "members")


def core(data: SweepData, language: Language, answers: AnswerTable | None) -> dict[str, Any]:
    """What the script needs: the words, the answer, the targets, the settings, the curves."""
    runs = data.data
    with speaking(language):
        return {
            "run": "sweep",
            "strings": words(language),
            "confidence": runs.confidence,
            "usual": _usual(data),
            "effectsIntro": t("sweep.effects_intro"),
            "answer": outcome_json(data.outcome, runs.sweep.factors) if data.outcome else None,
            "others": [outcome_json(one, runs.sweep.factors) for one in data.others],
            "runs": [{"label": label, "finished": ""} for label in runs.labels],
            "targets": [target_json(runs, place) for place in range(len(runs.targets))],
            "factors": [
                {
                    "label": factor.label,
                    "keys": factor.keys,
                    "levels": [level_text(level) for level in factor.levels],
                    "numbers": factor.numbers,
                    "place": factor.place,
                    "drawn": data.file.factors[place].draw,
                }
                for place, factor in enumerate(runs.sweep.factors)
            ],
            "settings": [
                {
                    "runs": setting.runs,
                    "levels": setting.levels,
                    "label": setting_words(runs.sweep, setting) or t("sweep.all_runs"),
                }
                for setting in runs.sweep.settings
            ],
            "curves": runs.curves,
            "summary": _answers_core(data, answers) if answers else None,
        }


def _usual(data: SweepData) -> str:
    """The number that is explored first: the one that the question is about."""
    answer = data.answer
    if answer is None:
        return ""
    model = answer.model or (answer.models[-1] if answer.models else "")
    return f"{model}/{answer.metric}" if model else answer.metric


def _answers_core(data: SweepData, answers: AnswerTable) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for target in data.data.targets:
        metrics.setdefault(target.metric["name"], target.metric)
    return core_summary(answers, answer_columns(data), list(metrics.values()))
