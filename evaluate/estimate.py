"""What an evaluation will ask of its judge and of API models, before it asks.

Requests are counted, so far as answers are known or else at most; the tokens of answers that are
not made yet, and of the judge's replies, are guessed. The budget, not the estimate, is held to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from espalier.engines.base import EngineSpec
from espalier.evaluate.config import EvaluateConfig, ModelConfig
from espalier.evaluate.config_judge import JudgeConfig
from espalier.evaluate.evalset import EvalSet
from espalier.evaluate.judge import judged_rows
from espalier.evaluate.judge_pairs import pairs_of
from espalier.evaluate.judgement import JOURNAL, STEP
from espalier.evaluate.predictions import read_predictions
from espalier.evaluate.subjects import subject_of
from espalier.judging import pairwise_prompt
from espalier.rubrics import Scale
from espalier.run import StageContext
from espalier.spending import Estimate, budget_lines, estimate_table, likely_tokens, prices_of
from espalier.text import language

# Tokens of an answer that is not made yet, of a judge's reason, and of one mark with its name.
_ANSWER = 200
_REASON = 40
_MARK = 8

# By model: the tokens of its answer to each row, None where it has none; and the texts, if known.
Sizes = Mapping[str, Sequence[int | None]]
Texts = Mapping[str, Sequence[str | None]]


def estimate_lines(
    context: StageContext, evalset: EvalSet, scales: Sequence[Scale], judge: EngineSpec | None
) -> list[str]:
    """The estimates as lines for a terminal; none where nothing is asked of a judge or an API.

    `scales` are the judge's rubrics. Raises InputError for predictions that can't be read.
    """
    options: EvaluateConfig = context.options
    found = list(_answers(options, evalset))
    if options.judge is not None and judge is not None:
        seed = context.shared.seed if options.seed is None else options.seed
        texts = _known(context, evalset)
        found += _judged(options, options.judge, judge, evalset, scales, texts, seed)
    found = [one for one in found if one.requests]
    if not found:
        return []
    apis = [model.api for model in options.models if model.api is not None]
    prices = prices_of([*apis, *([] if judge is None else [judge])])
    lines = ["estimate of what will be asked (rough; answers in the journals cost nothing):"]
    lines += estimate_table(found, prices).splitlines()
    kept = _lines_of(context.folder / JOURNAL)
    if kept:
        lines.append(f"  {kept:,} replies of the judge are in its journal")
    return lines + budget_lines(found, prices, context.shared.budget)


def _answers(options: EvaluateConfig, evalset: EvalSet) -> Iterator[Estimate]:
    """The answers of API models."""
    rows = evalset.rows
    prompts = sum(likely_tokens(turn.content) for row in rows for turn in row.messages)
    solved = prompts + sum(likely_tokens(row.reference or "") for row in rows)
    for model in options.models:
        if model.api is not None:
            yield Estimate(
                "answers",
                model.api.model,
                len(rows),
                prompts + model.few_shot * solved,
                len(rows) * min(_ANSWER, options.sampling.max_tokens),
            )


def _known(context: StageContext, evalset: EvalSet) -> dict[str, list[str | None]]:
    """The answers that are in files already."""
    found: dict[str, list[str | None]] = {}
    for model in context.options.models:
        if model.predictions is not None:
            path = Path(subject_of(model, context).location)
            matched = read_predictions(
                path, evalset, match=model.match, answer_field=model.field
            ).answers
            found[model.name] = [matched.get(row.id) for row in evalset.rows]
    return found


def _judged(
    options: EvaluateConfig,
    config: JudgeConfig,
    judge: EngineSpec,
    evalset: EvalSet,
    scales: Sequence[Scale],
    texts: Texts,
    seed: int,
) -> Iterator[Estimate]:
    rows = judged_rows(evalset, config.prompts, seed)
    sizes = {model.name: _sizes(model, options, evalset, texts) for model in options.models}
    for scale in scales:
        reply = _REASON + _MARK * (len(scale.marks) + len(scale.checks))
        asked = [
            _frame(scale, evalset, row, config) + size
            for row in rows
            for given in sizes.values()
            if (size := given[row]) is not None
        ]
        yield _sum(f"{STEP}: {scale.name}", judge.model, asked, min(reply, config.max_tokens))
    names = [model.name for model in options.models]
    asked = []
    for one, other in pairs_of(names, options.baseline or names[0], config.pairs):
        for row in rows:
            first, second = sizes[one][row], sizes[other][row]
            if first is None or second is None or _equal(texts, one, other, row):
                continue
            # Both orders.
            asked += [_frame(None, evalset, row, config) + first + second] * 2
    yield _sum(f"{STEP}: pairs", judge.model, asked, min(_REASON, config.max_tokens))


def _sizes(
    model: ModelConfig, options: EvaluateConfig, evalset: EvalSet, texts: Texts
) -> list[int | None]:
    if model.name not in texts:
        return [min(_ANSWER, options.sampling.max_tokens)] * len(evalset)
    return [None if text is None else likely_tokens(text) for text in texts[model.name]]


def _equal(texts: Texts, one: str, other: str, row: int) -> bool:
    """Whether the two answers are known and equal, so that nothing is asked."""
    if one not in texts or other not in texts:
        return False
    return (texts[one][row] or "").strip() == (texts[other][row] or "").strip()


def _frame(scale: Scale | None, evalset: EvalSet, index: int, config: JudgeConfig) -> int:
    """The tokens of a judging prompt (`scale` None: of a pair) without the answers."""
    row = evalset.rows[index]
    reference = row.reference if config.reference else None
    spoken = language(row.prompt)
    if scale is None:
        return likely_tokens(pairwise_prompt(row.prompt, "", "", spoken, reference=reference))
    return likely_tokens(scale.prompt(row.prompt, "", spoken, reference=reference))


def _sum(step: str, model: str, prompts: Sequence[int], reply: int) -> Estimate:
    return Estimate(step, model, len(prompts), sum(prompts), reply * len(prompts))


def _lines_of(journal: Path) -> int:
    if not journal.is_file():
        return 0
    with journal.open("rb") as lines:
        return sum(1 for _ in lines)
