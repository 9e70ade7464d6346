"""The judge's part of an evaluation: marks by rubric, pairs in both orders, and what to know.

Replies are kept in `journal/judge.jsonl` as they arrive, so nothing is asked for twice.
`judge_marks.jsonl` and `judge_pairs.jsonl` hold what was said of each answer and each pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espalier.engines import open_engine
from espalier.engines.base import EngineSpec
from espalier.errors import UsageError
from espalier.evaluate.clusters import cluster_ids
from espalier.evaluate.config import EvaluateConfig
from espalier.evaluate.config_judge import JudgeConfig
from espalier.evaluate.evalset import EvalSet
from espalier.evaluate.judge import judged_rows, mark_answers
from espalier.evaluate.judge_asking import Asker
from espalier.evaluate.judge_pairs import Meeting, compare_answers, pair_table, pairs_of
from espalier.evaluate.judge_rubrics import FindPath, check_columns, scales_of
from espalier.evaluate.metric import Scored
from espalier.evaluate.slices import cluster_keys
from espalier.evaluate.subjects import Subject
from espalier.files import atomic_write_text
from espalier.models import check_source
from espalier.records import dump_line
from espalier.rubrics import Scale
from espalier.spending import BOUGHT, Meter

MARKS = "judge_marks.jsonl"
PAIRS = "judge_pairs.jsonl"
JOURNAL = "journal/judge.jsonl"
STEP = "judge"
# Share of pairs above which a judge that goes by the order is worth a warning.
MANY_FLIPS = 0.3


@dataclass
class Judgement:
    """What the judge gave: columns, the part of the summary, warnings, and all meetings.

    `failed` are the requests that the next run asks once more.
    """

    scored: list[Scored] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    meetings: list[Meeting] = field(default_factory=list)
    failed: int = 0


def judge_spec(options: EvaluateConfig, judge: EngineSpec) -> EngineSpec | None:
    """The engine that judges, `judge` being the recipe's; None where nothing is judged."""
    if options.judge is None:
        return None
    return options.judge.engine or judge


def judge_scales(options: EvaluateConfig, path: FindPath) -> list[Scale]:
    """The rubrics that the judge marks by; raises InputError for a file that holds none, and
    UsageError where two columns would have one name."""
    scales = scales_of(options.judge.rubrics, path) if options.judge is not None else []
    check_columns(scales)
    return scales


def check_judge(spec: EngineSpec | None, scales: Sequence[Scale], meter: Meter) -> None:
    """Raise UsageError or InputError for a judge that can't be paid for or reached (a key, prices,
    options, a model's folder) or does not know a rubric, before the first answer is made."""
    if spec is None:
        return
    own = [scale.name for scale in scales if scale.about]
    if own and spec.engine == "offline":
        raise UsageError(
            f"The embedded judge can't mark by the rubric '{own[0]}'.",
            where="evaluate.judge.rubrics",
            expected="quality or hhh, or another judge",
            hint="name one in `judge` (or `evaluate.judge.engine`): a local model, or an API",
        )
    if spec.engine in (*BOUGHT, "offline", "function"):
        open_engine(spec, meter=meter, step=STEP).close()
    else:
        # Opened, these load the model.
        check_source(spec.model)


def judge_models(
    config: JudgeConfig,
    spec: EngineSpec,
    scales: Sequence[Scale],
    subjects: Sequence[Subject],
    evalset: EvalSet,
    answers: Mapping[str, Sequence[str | None]],
    options: EvaluateConfig,
    *,
    folder: Path,
    seed: int,
    meter: Meter | None,
) -> Judgement:
    """Ask for all marks and comparisons that the options want; writes the two files of records.

    `answers`: by model, one text a row of the set, None where there is none. Raises StageError
    where the judge answers nothing, and BudgetReached; what was answered stays in the journal.
    """
    baseline = options.baseline or subjects[0].name
    rows = judged_rows(evalset, config.prompts, seed)
    result = Judgement()
    records: list[dict[str, Any]] = []
    counts: list[dict[str, Any]] = []
    engine = open_engine(spec, seed=seed, journal=folder / JOURNAL, meter=meter, step=STEP)
    with closing(engine):
        asker = Asker(engine, spec, config, seed)
        for scale in scales:
            marked = mark_answers(scale, asker, evalset, answers, rows)
            result.scored += marked.scored
            records += marked.records
            counts += marked.counts
        pairs = pairs_of(list(answers), baseline, config.pairs)
        compared = compare_answers(pairs, asker, evalset, answers, rows, baseline=baseline)
    result.scored += compared.scored
    result.meetings = compared.meetings
    result.failed = asker.asked.again
    table = pair_table(
        compared.meetings,
        answers,
        resamples=options.resamples,
        permutations=options.permutations,
        confidence=options.confidence,
        seed=seed,
        length_control=config.length_control,
        groups=cluster_ids(cluster_keys(evalset, options.compare.cluster)),
    )
    _write(folder / MARKS, records)
    _write(folder / PAIRS, compared.records)
    result.summary = {
        "engine": spec.engine,
        "model": spec.model,
        "synthetic": spec.engine == "offline",
        "prompts": len(rows),
        "reference": _referenced(config, evalset, rows),
        "replies": asker.asked.replies,
        "failed": asker.asked.failed,
        "cut": asker.asked.cut,
        "shortened": asker.asked.shortened,
        "rubrics": counts,
        "pairs": table,
    }
    result.warnings = [*asker.warnings(), *_warnings(result.summary, spec, subjects)]
    return result


def _referenced(config: JudgeConfig, evalset: EvalSet, rows: Sequence[int]) -> int | None:
    """On how many prompts the judge saw a reference; None where it was to see none."""
    if not config.reference:
        return None
    return sum(evalset.rows[row].reference is not None for row in rows)


def _write(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    atomic_write_text(path, "".join(dump_line(record) + "\n" for record in records))


def _warnings(
    summary: Mapping[str, Any], spec: EngineSpec, subjects: Sequence[Subject]
) -> Iterable[str]:
    if summary["synthetic"]:
        yield "The judge is the embedded, synthetic one: it knows the tasks of the demo only."
    for subject in subjects:
        api = subject.config.api
        same = api.model == spec.model if api else subject.location == spec.model
        if same and not summary["synthetic"]:
            yield (
                f"The judge, {spec.model}, is also the model '{subject.name}': judges favour "
                "their own answers."
            )
    shown = summary["reference"]
    if shown is not None and shown < summary["prompts"]:
        yield (
            f"The judge saw a reference on {shown:,} of {summary['prompts']:,} prompts; the others "
            "have none."
        )
    unread = sum(one["unread"] for one in summary["rubrics"])
    if unread:
        asked = sum(one["asked"] for one in summary["rubrics"])
        worst = max(summary["rubrics"], key=lambda one: one["unread"])
        yield (
            f"{unread:,} of the judge's {asked:,} replies on single answers gave no marks that "
            f"can be read (most of them, {worst['unread']:,}, on {worst['model']}); those answers "
            "have no marks."
        )
    for pair in summary["pairs"]:
        yield from _pair_warnings(pair)


def _pair_warnings(pair: Mapping[str, Any]) -> Iterable[str]:
    names = f"{pair['model']} against {pair['baseline']}"
    if pair["unread"]:
        low, high = (f"{100 * value:.1f} %" for value in pair["bounds"])
        yield (
            f"{names}: on {pair['unread']:,} of {pair['pairs']:,} pairs the judge's verdict could "
            f"not be read; were they all lost or all won, the win rate would be {low} or {high}."
        )
    if pair["flip_rate"] is not None and pair["flip_rate"] > MANY_FLIPS:
        yield (
            f"{names}: the judge changed its verdict with the order of the answers on "
            f"{100 * pair['flip_rate']:.0f} % of the pairs; they count as ties."
        )
    controlled = pair.get("length_controlled")
    if controlled and controlled["explains_much"]:
        yield (
            f"{names}: a win rate of {100 * pair['win_rate']:.1f} % would be "
            f"{100 * controlled['win_rate']:.1f} % at equal length: length explains much of it."
        )


def judge_text(summary: Mapping[str, Any]) -> str:
    """The judge's pairs as lines for a terminal; empty where there are none."""
    lines = []
    for pair in summary.get("pairs", []):
        if pair["win_rate"] is None:
            continue
        text = f"{pair['model']} against {pair['baseline']}: wins {100 * pair['win_rate']:.1f} %"
        if pair["low"] is not None:
            text += f" [{100 * pair['low']:.1f}, {100 * pair['high']:.1f}]"
        controlled = pair.get("length_controlled")
        if controlled and controlled["win_rate"] is not None:
            text += f", at equal length {100 * controlled['win_rate']:.1f} %"
            if controlled["low"] is not None:
                text += f" [{100 * controlled['low']:.1f}, {100 * controlled['high']:.1f}]"
            if controlled["extrapolated"]:
                text += " (extrapolated: one model's answers are all longer)"
        if pair["flip_rate"] is not None:
            text += f", flips {100 * pair['flip_rate']:.0f} %"
        lines.append(f"{text}, unread {pair['unread']:,}")
    if not lines:
        return ""
    return "\n".join([f"judge {summary['model']}, pairs in both orders:", *lines])
