"""What the generation of a curate stage will ask for, before it starts.

Rough on purpose: rows are counted, texts are sampled, and how much a model writes is guessed from
the step (never more than its limit). The budget, not the estimate, is what is held to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from espalier.curate.config import ProceduralSource
from espalier.curate.config_instruct import AlpacaConfig
from espalier.curate.config_preferences import PreferencesConfig
from espalier.curate.constitution import OPERATOR
from espalier.curate.corruptions import CORRUPTIONS
from espalier.curate.curation import AnySource, Curation
from espalier.curate.evolve import SOURCE as EVOLVE
from espalier.curate.pipeline import Tally
from espalier.curate.safety import LANGUAGES, safety_rows
from espalier.curate.self_chat import SOURCE as SELF_CHAT
from espalier.curate.self_instruct import read_seeds, seed_path
from espalier.curate.sources import OpenFile
from espalier.engines.base import EngineSpec
from espalier.records import Example
from espalier.spending import (
    BOUGHT,
    Estimate,
    budget_lines,
    estimate_table,
    likely_tokens,
    prices_of,
)

_SAMPLE = 200
# Words of the fixed part of a prompt, and what a model usually writes, in tokens.
_FRAME = 60
_ANSWER = 200
_INSTRUCTION = 40
_VERDICT = 60
# New instructions of one list that pass the rules, and lists in Alpaca mode.
_NEW_IN_A_LIST = 5
_RUBRIC_FRAME = 150


@dataclass(frozen=True, slots=True)
class _Rows:
    """How many rows a step starts from, and the mean tokens of a prompt and of an answer."""

    count: int
    prompt: int = _INSTRUCTION
    answer: int = _ANSWER

    def __add__(self, other: _Rows) -> _Rows:
        count = self.count + other.count
        if not count:
            return self
        return _Rows(
            count,
            (self.prompt * self.count + other.prompt * other.count) // count,
            (self.answer * self.count + other.answer * other.count) // count,
        )


# Rows of generators by the source that their meta names.
_Made = dict[str, _Rows]


def estimate(curation: Curation) -> list[Estimate]:
    """One estimate a step and model, in the order of the steps; steps without requests left out."""
    sums: dict[tuple[str, str], Estimate] = {}
    generation, made = _generation(curation)
    for item in (*generation, *_rows_steps(curation, made), *_preferences(curation)):
        before = sums.get((item.step, item.model))
        sums[item.step, item.model] = item if before is None else _sum(before, item)
    return [item for item in sums.values() if item.requests]


def _sum(a: Estimate, b: Estimate) -> Estimate:
    return Estimate(
        a.step,
        a.model,
        a.requests + b.requests,
        a.prompt_tokens + b.prompt_tokens,
        a.completion_tokens + b.completion_tokens,
    )


def estimate_lines(curation: Curation) -> list[str]:
    """The estimates as lines for a terminal; none when nothing is generated."""
    found = estimate(curation)
    if not found:
        return []
    prices = prices_of(_engines(curation))
    lines = ["estimate of what will be generated (rough; answers in the journal cost nothing):"]
    lines += estimate_table(found, prices).splitlines()
    return lines + budget_lines(found, prices, curation.context.shared.budget)


def buys(curation: Curation) -> bool:
    """Whether any engine of the recipe has to be paid for."""
    return any(spec.engine in BOUGHT for spec in _engines(curation))


def _engines(curation: Curation) -> list[EngineSpec]:
    shared, weak = curation.context.shared, curation.config.preferences.weak
    return [shared.teacher, shared.judge, *([] if weak is None else [weak])]


def _generation(curation: Curation) -> tuple[list[Estimate], _Made]:
    """What the generators ask for, and the rows that they will have made, by their source."""
    made: _Made = {}
    steps = (_self_instruct, _evolve, _self_chat, _constitution)
    return [item for step in steps for item in step(curation, made)], made


def _self_instruct(curation: Curation, made: _Made) -> Iterator[Estimate]:
    options = curation.config.self_instruct
    if options is None:
        return
    teacher = curation.context.shared.teacher.model
    seeds = [read_seeds(seed_path(name, curation.context.path)) for name in options.seeds]
    texts = [task.instruction for tasks in seeds for task in tasks]
    mean = sum(map(likely_tokens, texts)) // max(len(texts), 1)
    wanted = options.target * len(seeds)
    if isinstance(options, AlpacaConfig):
        lists = -(-wanted // (options.batch * 3 // 4))
        prompt = _FRAME + options.in_context * (mean + _ANSWER)
        yield _asked("self-instruct", teacher, lists, prompt, options.max_tokens // 2)
    else:
        lists = -(-wanted // _NEW_IN_A_LIST)
        prompt = _FRAME + options.in_context * mean
        yield _asked("self-instruct", teacher, lists, prompt, 8 * mean)
        # The kind of each task by 31 examples, then its instances.
        yield _asked("self-instruct", teacher, wanted, 32 * mean, 2)
        yield _asked("self-instruct", teacher, wanted, 6 * _ANSWER, 2 * _ANSWER)
    made[options.mode] = _Rows(wanted)


def _evolve(curation: Curation, made: _Made) -> Iterator[Estimate]:
    options, shared = curation.config.evolve, curation.context.shared
    if options is None:
        return
    teacher = shared.teacher.model
    start = _start(curation, options.sources, made)
    count = min(start.count, options.limit or start.count) * options.rounds
    if options.target is not None:
        count = min(count, options.target * 5 // 4)
    longer = start.prompt + 2 * options.max_added_words
    yield _asked("evolve", teacher, count, _FRAME * 3 + start.prompt, longer)
    if options.eliminate.equal:
        asked = teacher if options.equality_by == "teacher" else shared.judge.model
        yield _asked("evolve", asked, count, _FRAME * 2 + start.prompt + longer, 5)
    yield _asked("evolve", teacher, count, longer, _ANSWER)
    made[EVOLVE] = _Rows(min(count, options.target or count), longer, _ANSWER)


def _self_chat(curation: Curation, made: _Made) -> Iterator[Estimate]:
    options = curation.config.self_chat
    if options is None:
        return
    teacher = curation.context.shared.teacher.model
    start = _start(curation, options.sources, made)
    count = min(start.count, options.prompts or start.count)
    turns = options.turns
    said = start.prompt + turns * (_INSTRUCTION + _ANSWER) // 2
    yield _asked("self-chat", teacher, count * turns, said, _ANSWER)
    yield _asked("self-chat", teacher, count * (turns - 1), said + _FRAME, _INSTRUCTION)
    made[SELF_CHAT] = _Rows(count, start.prompt + (turns - 1) * (_INSTRUCTION + _ANSWER), _ANSWER)


def _constitution(curation: Curation, made: _Made) -> Iterator[Estimate]:
    """An answer, then a critique and a revision a round; the judge in both orders."""
    options, shared = curation.config.constitution, curation.context.shared
    if options is None:
        return
    teacher = shared.teacher.model
    start = _start(curation, options.sources, made)
    safe = list(safety_rows(LANGUAGES, options.safety)) if options.safety else []
    start += _measured(len(safe), safe)
    count = min(start.count, options.limit or start.count)
    answer = min(_ANSWER, options.max_tokens)
    critique = min(_ANSWER // 2, options.critique_tokens)
    seen = 2 * _FRAME + start.prompt + answer
    yield _asked("constitution", teacher, count, start.prompt, answer)
    yield _asked("constitution", teacher, count * options.revisions, seen, critique)
    yield _asked("constitution", teacher, count * options.revisions, seen + critique, answer)
    if options.judge:
        yield _asked("constitution", shared.judge.model, 2 * count, seen + answer, _VERDICT)
    if options.rows:
        # Where prompts have to differ a revised row takes the place of the one that it began as.
        instead = curation.config.dedup.key == "prompt"
        rows = max(0, count - (start.count - len(safe))) if instead else count
        made[OPERATOR] = _Rows(rows, start.prompt, answer)


def _rows_steps(curation: Curation, made: _Made) -> Iterator[Estimate]:
    config, shared = curation.config, curation.context.shared
    rows = _Rows(0)
    to_answer = _Rows(0)
    for source in curation.sources("sft"):
        counted = _count(source, curation)
        rows += counted
        if isinstance(source, ProceduralSource) or source.source.answer:
            to_answer += counted
    limit = min(_ANSWER, config.answers.max_tokens)
    yield _asked("answers", shared.teacher.model, to_answer.count, to_answer.prompt, limit)
    if config.quality is not None and config.quality.judge is not None:
        rows = sum(made.values(), start=rows)
        prompt = _RUBRIC_FRAME + rows.prompt + rows.answer
        yield _asked("quality", shared.judge.model, rows.count, prompt, _VERDICT)


def _preferences(curation: Curation) -> Iterator[Estimate]:
    config, shared = curation.config.preferences, curation.context.shared
    rows = _Rows(0)
    for source in curation.sources("preferences"):
        if not (isinstance(source, OpenFile) and source.holds_pairs):
            rows += _count(source, curation)
    answer = min(_ANSWER, config.max_tokens)
    samples = config.samples
    yield _asked("preferences", shared.teacher.model, rows.count * samples, rows.prompt, answer)
    # Both orders; a ranking compares all pairs, a tournament one fewer than there are samples.
    pairs = samples * (samples - 1) // 2 if config.ranking is not None else samples - 1
    by_rubric = config.choose_by == "rubric" and config.ranking is None
    calls = (samples if by_rubric else 2 * pairs) + (config.min_rating is not None)
    prompt = _RUBRIC_FRAME + rows.prompt + 2 * answer
    yield _asked("preferences", shared.judge.model, rows.count * calls, prompt, _VERDICT)
    if config.weak is not None:
        yield _asked("preferences", config.weak.model, rows.count, rows.prompt, answer)
        compared = 2 * rows.count if config.verify_weak != "no" else 0
        yield _asked("preferences", shared.judge.model, compared, prompt, _VERDICT)
    if config.verify_corruptions:
        compared = 2 * _corruptions(config, rows.count)
        yield _asked("preferences", shared.judge.model, compared, prompt, _VERDICT)


def _corruptions(config: PreferencesConfig, prompts: int) -> int:
    """How many pairs with a spoiled answer will be made of so many prompts."""
    each = config.per_prompt if config.ranking is None else config.ranking.extra
    pairs = prompts * each
    if config.count is not None:
        pairs = min(pairs, config.count + config.eval_count)
    spoiled = sum(weight for kind, weight in config.kinds.items() if kind in CORRUPTIONS)
    return math.ceil(pairs * spoiled / sum(config.kinds.values()))


def _asked(step: str, model: str, requests: int, prompt: int, completion: int) -> Estimate:
    return Estimate(step, model, requests, requests * prompt, requests * completion)


def _start(curation: Curation, names: list[str] | None, made: _Made) -> _Rows:
    rows = _Rows(0)
    for source in curation.sources("sft"):
        if names is None or source.name in names:
            rows += _count(source, curation)
    for name, more in made.items():
        if names is None or name in names:
            rows += more
    return rows


def _count(source: AnySource, curation: Curation) -> _Rows:
    """Rows of a source, counted, and the mean length of the first ones."""
    silent = Tally("read", "estimate", lambda reject: None)
    if isinstance(source, ProceduralSource):
        drawn = curation.draw_training(source)
        return _measured(len(drawn), drawn[:_SAMPLE])
    rows = source.examples(silent, str(curation.seed))
    sample = list(islice(rows, _SAMPLE))
    return _measured(len(sample) + sum(1 for _ in rows), sample)


def _measured(count: int, sample: list[Example]) -> _Rows:
    if not sample:
        return _Rows(count)
    prompts = [likely_tokens(row.prompt) for row in sample]
    answers = [likely_tokens(row.response) for row in sample if row.response]
    answer = sum(answers) // len(answers) if answers else _ANSWER
    return _Rows(count, sum(prompts) // len(prompts), answer)
