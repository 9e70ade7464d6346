"""The page about several runs: what differs, scores beside each other, sweeps, learning curves."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from espalier.errors import UsageError
from espalier.reports.answer_packing import pack_answers
from espalier.reports.answer_table import AnswerTable
from espalier.reports.config import ReportConfig
from espalier.reports.manifests import shown_path
from espalier.reports.page import EXAMPLES
from espalier.reports.runs_answers import Column, columns_of, core_summary, merged_answers
from espalier.reports.runs_data import RunsData, gather_runs
from espalier.reports.runs_effects import as_json, verdict
from espalier.reports.runs_settings import level_text, setting_text
from espalier.reports.shell import content, document, spoken, write_document
from espalier.reports.strings import Language, speaking, t, words

PAGE = "comparison.html"
# Later files use what earlier ones define.
SCRIPTS = (
    "dom.js", "format.js", "state.js", "theme.js", "language.js", "tip.js", "help.js",
    "copy.js", "curve_math.js", "runs_points.js", "runs_lines.js", "runs_changes.js",
    "runs_scores.js", "runs_sweep.js", "runs_curves.js", "overview.js", "search.js", "unpack.js",
    "answer_data.js", "rows.js", *EXAMPLES, "nav.js", "late.js", "start.js", "runs_main.js",
)  # fmt: skip
STYLES = (
    "page.css", "frame.css", "parts.css", "answers.css", "examples.css", "runs.css", "print.css",
)  # fmt: skip


def build_comparison(runs: Sequence[Path], options: ReportConfig, output: Path) -> RunsData:
    """Write the page about these runs to `output`, atomically; returns what it shows, in English.

    Raises UsageError where a run is named twice, InputError where one holds no result.
    """
    check_runs(runs)
    told: dict[Language, RunsData] = {}
    before = None
    for language in spoken(options.language):
        with speaking(language):
            before = told[language] = gather_runs(runs, options, before)
    data = next(iter(told.values()))
    summaries = [run.summary for run in data.runs]
    answers = merged_answers(runs, summaries, answer_columns(data), options.answer_rows)
    write_document(output, pieces(told, options, answers))
    return told["en"]


def check_runs(runs: Sequence[Path]) -> None:
    """Raises UsageError where two of the folders are the same."""
    places: dict[Path, Path] = {}
    for run in runs:
        first = places.setdefault(run.resolve(), run)
        if first is not run:
            raise UsageError(
                "A run is named twice.", where=str(run), expected="different run folders"
            )


def default_page(runs: Sequence[Path]) -> Path:
    """`comparison.html` in the folder that holds all the runs."""
    common = os.path.commonpath([run.resolve().parent for run in runs])
    return Path(common) / PAGE


def pieces(
    told: Mapping[Language, RunsData], options: ReportConfig, answers: AnswerTable | None
) -> Iterator[str]:
    """The HTML document in pieces, encodable as UTF-8."""
    data = next(iter(told.values()))
    return document(
        title=options.title or data.title,
        contents={
            language: body(one, options, language, answers is not None)
            for language, one in told.items()
        },
        cores={language: core(one, language, answers) for language, one in told.items()},
        packed=pack_answers(answers, options.answer_megabytes) if answers else (),
        scripts=SCRIPTS,
        styles=STYLES,
        fixed=options.language is not None,
    )


def body(data: RunsData, options: ReportConfig, language: Language, answers: bool) -> str:
    """What stands between the bar and the footer, and these, in one language."""
    with speaking(language):
        return content(
            "runs.html.j2",
            language,
            data=data,
            title=options.title or data.title,
            sections=sections(data, answers),
            answers=answers,
            rows=run_rows(data),
            command=command(data),
            level=round(100 * data.confidence),
        )


def sections(data: RunsData, answers: bool) -> tuple[str, ...]:
    """The sections that the page has."""
    found = ["runs", "changes", "runs_scores"]
    if data.sweep.is_one:
        found.append("sweep")
    found += ["curves", "answers"] if answers else ["curves"]
    return (*found, "runs_provenance")


def command(data: RunsData) -> str:
    """The shell line that makes this page again."""
    here = Path.cwd()
    return "espalier report " + " ".join(
        shlex.quote(shown_path(str(run.folder), here)) for run in data.runs
    )


def run_rows(data: RunsData) -> list[dict[str, Any]]:
    """A row a run of the table at the top."""
    rows = []
    settings = {run: s for s in data.sweep.settings for run in s.runs}
    for place, run in enumerate(data.runs):
        stages = run.stages
        summary = run.summary
        seeds = list(dict.fromkeys(stage["seed"] for stage in stages if stage["seed"] is not None))
        revisions = list(dict.fromkeys(str(s["git"])[:12] for s in stages if s["git"]))
        rows.append(
            {
                "label": data.labels[place],
                "setting": setting_text(data.sweep, settings[place]),
                "seed": t("list.comma").join(map(str, seeds)),
                "set": f"{summary['set']['name']} ({summary['set']['rows']:,})" if summary else "",
                "models": t("list.comma").join(m["label"] for m in summary["models"])
                if summary
                else "",
                "finished": max((stage["finished"] for stage in stages), default=""),
                "seconds": sum(stage["seconds"] for stage in stages),
                "revision": t("list.comma").join(revisions),
                "folder": shown_path(str(run.folder), Path.cwd()),
            }
        )
    return rows


def core(data: RunsData, language: Language, answers: AnswerTable | None) -> dict[str, Any]:
    """What the script needs: the words, what differs, the targets, the sweep, the curves."""
    with speaking(language):
        return {
            "run": "runs",
            "summary": answers_core(data, answers) if answers else None,
            "strings": words(language),
            "confidence": data.confidence,
            "runs": [
                {"label": label, "finished": row["finished"]}
                for label, row in zip(data.labels, run_rows(data), strict=True)
            ],
            "changes": [
                {"key": change.key, "values": change.values, "seed": change.seed}
                for change in data.changes
            ],
            "targets": [target_json(data, place) for place in range(len(data.targets))],
            "comparisons": data.comparisons,
            "factors": [
                {
                    "label": factor.label,
                    "keys": factor.keys,
                    "levels": [level_text(level) for level in factor.levels],
                    "numbers": factor.numbers,
                    "place": factor.place,
                }
                for factor in data.sweep.factors
            ],
            "settings": [
                {
                    "runs": setting.runs,
                    "levels": setting.levels,
                    "label": setting_text(data.sweep, setting) or data.labels[setting.runs[0]],
                }
                for setting in data.sweep.settings
            ],
            "curves": data.curves,
        }


def answers_core(data: RunsData, answers: AnswerTable) -> dict[str, Any]:
    """The models and metrics of the answers side by side."""
    metrics = {target.metric["name"]: target.metric for target in data.targets}
    return core_summary(answers, answer_columns(data), list(metrics.values()))


def answer_columns(data: RunsData) -> list[Column]:
    """The models whose answers stand side by side."""
    return columns_of(data.labels, [run.summary for run in data.runs])


def target_json(data: RunsData, place: int) -> dict[str, Any]:
    """One quantity: its value in each run, the mean of each setting, the effects."""
    target = data.targets[place]
    higher = bool(target.metric["higher_is_better"])
    return {
        "name": target.name,
        "kind": target.kind,
        "model": target.model,
        "modelLabel": target.model_label,
        "metric": target.metric,
        "values": target.values,
        "means": [as_json(mean) for mean in data.means[target.name]],
        "effects": [
            {
                "factor": effect.factor,
                "reference": effect.reference,
                "level": effect.level,
                "how": effect.how,
                "mean": as_json(effect.mean),
                "p": effect.p_value,
                "verdict": verdict(effect.mean, effect.p_value, higher, data.confidence)
                if target.metric["tested"]
                else "",
            }
            for effect in data.effects[target.name]
        ],
    }
