"""The part `preferences`: given pairs and made ones, split by prompt into two files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain

from espalier.curate.constitution_files import revised_pairs
from espalier.curate.curation import CONTAMINATION, RANKINGS, Curation
from espalier.curate.dedup import prompt_key
from espalier.curate.filters import answer_rules, prompt_rules
from espalier.curate.judged import Judged, judged_answers
from espalier.curate.pair_steps import on_pairs
from espalier.curate.parts import Work, writers
from espalier.curate.pipeline import Ledger, Tally
from espalier.curate.preferences import (
    Answers,
    check_pairs,
    make_pairs,
    ranking_pairs,
    split_by_prompt,
    split_prompts,
)
from espalier.curate.sources import OpenFile
from espalier.curate.verdicts import confirmed
from espalier.curate.weak import with_weak_answers
from espalier.errors import StageError
from espalier.judging import Judge
from espalier.progress import Progress
from espalier.records import Example, PreferencePair

PREFERENCES = "preferences.jsonl"
PREFERENCES_EVAL = "preferences_eval.jsonl"
# Given pairs that were not asked for.
OVER_COUNT = "over_count"
Sides = tuple[list[PreferencePair], list[PreferencePair]]


def write_preferences(curation: Curation, work: Work, revised: bool = False) -> None:
    """preferences.jsonl and, from other prompts, preferences_eval.jsonl.

    With `revised`, the pairs of the part `constitution` are among them.
    """
    sources = curation.sources("preferences")
    files = [s for s in sources if isinstance(s, OpenFile) and s.holds_pairs]
    given = _given_pairs(curation, files, work) if files else ([], [])
    made = _made_pairs(curation, work) if len(files) < len(sources) else ([], [])
    training, evaluation = given[0] + made[0], given[1] + made[1]
    if revised:
        ledger = work.ledger("pairs of revisions")
        pairs = list(_cleaned(curation, revised_pairs(curation.folder), work, ledger))
        training, evaluation = _with_revised(curation, pairs, training, evaluation)
    if not training:
        raise StageError(
            "No preference pair is left for training.",
            where="curate.preferences",
            expected="at least one pair",
            hint="ask for fewer eval_count pairs or give more prompts; see rejects.jsonl",
        )
    with writers(curation.folder, [PREFERENCES, PREFERENCES_EVAL]) as (
        write_training,
        write_evaluation,
    ):
        for pair in training:
            write_training(pair)
        for pair in evaluation:
            write_evaluation(pair)
    work.counts.update({"preferences": len(training), "preferences_eval": len(evaluation)})


def _with_revised(
    curation: Curation,
    revised: list[PreferencePair],
    training: list[PreferencePair],
    evaluation: list[PreferencePair],
) -> Sides:
    """Both sides with the pairs of revised answers; a prompt of the evaluation stays there."""
    if not training and not evaluation:
        count = curation.config.preferences.eval_count
        return split_by_prompt(revised, count, f"{curation.seed}:pairs")
    held = {prompt_key(pair.prompt) for pair in evaluation}
    for pair in revised:
        (evaluation if prompt_key(pair.prompt) in held else training).append(pair)
    return training, evaluation


def _given_pairs(curation: Curation, files: list[OpenFile], work: Work) -> Sides:
    ledger = work.ledger("given pairs")
    read = ledger.tally("read")
    rules = prompt_rules(curation.config.filters)
    given = chain.from_iterable(source.pairs(read) for source in files)
    cleaned = _cleaned(curation, given, work, ledger)
    pairs = check_pairs(cleaned, rules, ledger.tally("pair rules"))
    if len(curation.held_out):
        pairs = _away_from_held_out(curation, pairs, ledger.tally("held-out prompts"))
    config = curation.config.preferences
    training, evaluation = split_by_prompt(pairs, config.eval_count, f"{curation.seed}:pairs")
    ledger.require_rows("preference pairs")
    return _up_to_count(training, config.count, work, ledger), evaluation


def _up_to_count(
    pairs: list[PreferencePair], count: int | None, work: Work, ledger: Ledger
) -> list[PreferencePair]:
    """The first `count` pairs; how many were left over is told in the funnel and in a note.

    They are no rejects: nothing is wrong with them, and there may be millions.
    """
    if count is None or len(pairs) <= count:
        return pairs
    tally = ledger.tally("count")
    tally.seen, tally.kept = len(pairs), count
    tally.set_apart(OVER_COUNT, len(pairs) - count)
    work.notes.append(
        f"preferences.count: {len(pairs) - count:,} of {len(pairs):,} given pairs are over the "
        f"count of {count:,} and were left out (by a seeded order of their prompts)"
    )
    return pairs[:count]


def _cleaned(
    curation: Curation, pairs: Iterable[PreferencePair], work: Work, ledger: Ledger
) -> Iterable[PreferencePair]:
    """Pairs whose prompts and answers went through repair, personal data, word lists and the
    evaluation files, as far as the recipe has them."""
    for name, step in curation.text_steps(work.writer(CONTAMINATION)):
        pairs = on_pairs(step)(pairs, ledger.tally(name))
    return pairs


def _away_from_held_out(
    curation: Curation, pairs: Iterable[PreferencePair], tally: Tally
) -> Iterator[PreferencePair]:
    for pair in pairs:
        tally.seen += 1
        verdict = curation.held_out.verdict(pair.prompt) or curation.held_out.sibling(pair)
        if verdict is None:
            tally.kept += 1
            yield pair
        else:
            tally.reject(pair, *verdict)


def _made_pairs(curation: Curation, work: Work) -> Sides:
    config = curation.config.preferences
    ledger = work.ledger("made pairs")
    with curation.judge("preferences") as engine:
        judge = Judge(engine)
        judged = _judged_prompts(curation, work, ledger, judge)
        ledger.require_rows("preference prompts")
        answers = Answers(judged)
        sides = split_prompts(judged, config.count, config.eval_count, f"{curation.seed}:prompts")
        if config.ranking is not None:
            _write_rankings(work, sides)
        made = [
            _side(curation, work, ledger, judge, side, answers, name)
            for side, name in zip(sides, ("count", "eval_count"), strict=True)
        ]
    if not made[0]:
        ledger.require_rows("preference pairs")
    training, evaluation = (list(_cleaned(curation, side, work, ledger)) for side in made)
    return training, evaluation


def _judged_prompts(curation: Curation, work: Work, ledger: Ledger, judge: Judge) -> list[Judged]:
    """The prompts with their chosen answers, and the weak teacher's where there is one."""
    config = curation.config.preferences
    comparisons = work.ledger("judge on samples").tally("comparisons")
    rules = answer_rules(curation.config.filters)
    seed = curation.seed
    with (
        curation.teacher("preferences") as teacher,
        Progress("curate: preference prompts") as progress,
    ):
        rows = curation.prompt_rows("preferences", work, ledger)
        judged: list[Judged] = []
        for item in judged_answers(rows, teacher, judge, config, rules, ledger, seed, comparisons):
            judged.append(item)
            progress.update(1)
    if config.weak is None:
        return judged
    tally = work.ledger("weak teacher").tally("weak answers")
    with curation.engine("weak", "preferences", config.weak) as weak:
        return list(with_weak_answers(judged, weak, judge, config, tally, seed))


def _side(
    curation: Curation,
    work: Work,
    ledger: Ledger,
    judge: Judge,
    judged: list[Judged],
    answers: Answers,
    name: str,
) -> list[PreferencePair]:
    """The pairs of one side: those of the rankings first, then the others, up to the count."""
    config = curation.config.preferences
    wanted: int | None = getattr(config, name)
    made: list[PreferencePair] = []
    if config.ranking is not None:
        rules = answer_rules(curation.config.filters)
        tally = ledger.tally(f"pairs of rankings ({name})")
        made += ranking_pairs(judged, config.ranking.expand, rules, tally, wanted)
    confirm = None
    if config.verify_corruptions:
        confirm = partial(
            confirmed, judge=judge, tally=work.ledger("judge on corruptions").tally(name)
        )
    rest = None if wanted is None else wanted - len(made)
    seed = f"{curation.seed}:pairs"
    made += make_pairs(judged, answers, config, rest, seed, confirm)
    if wanted is not None and len(made) < wanted:
        work.notes.append(f"preferences.{name}: only {len(made)} of {wanted} could be made")
    return made


def _write_rankings(work: Work, sides: tuple[list[Judged], list[Judged]]) -> None:
    """The answers of each prompt in order, where some stand above others.

    `meta.evaluation` says for which side.
    """
    write = work.writer(RANKINGS)
    written = 0
    for evaluation, side in enumerate(sides):
        for item in side:
            if item.ranking is not None and item.ranking.decided:
                meta = {key: value for key, value in item.row.meta.items() if key != "to_answer"}
                meta["evaluation"] = bool(evaluation)
                write(item.ranking.to_json(Example(item.row.id, item.row.messages, meta)))
                written += 1
    total = len(sides[0]) + len(sides[1])
    if written < total:
        work.notes.append(
            f"preferences.ranking: {total - written:,} of {total:,} prompts have no ranking, their "
            "samples being equal or of equal rank"
        )
