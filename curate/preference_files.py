"""The part `preferences`: given pairs and made ones, split by prompt into two files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from espalier.curate.curation import Curation
from espalier.curate.filters import answer_rules, prompt_rules
from espalier.curate.parts import Work, writers
from espalier.curate.pipeline import Tally
from espalier.curate.preferences import (
    Answers,
    check_pairs,
    judged_answers,
    make_pairs,
    split_by_prompt,
    split_prompts,
)
from espalier.curate.sources import OpenFile
from espalier.errors import StageError
from espalier.judging import Judge
from espalier.progress import Progress
from espalier.records import PreferencePair

Sides = tuple[list[PreferencePair], list[PreferencePair]]


def write_preferences(curation: Curation, work: Work) -> None:
    """preferences.jsonl and, from other prompts, preferences_eval.jsonl."""
    sources = curation.sources("preferences")
    files = [s for s in sources if isinstance(s, OpenFile) and s.holds_pairs]
    given = _given_pairs(curation, files, work) if files else ([], [])
    made = _made_pairs(curation, work) if len(files) < len(sources) else ([], [])
    training, evaluation = given[0] + made[0], given[1] + made[1]
    if not training:
        raise StageError(
            "No preference pair is left for training.",
            where="curate.preferences",
            expected="at least one pair",
            hint="ask for fewer eval_count pairs or give more prompts; see rejects.jsonl",
        )
    names = ["preferences.jsonl", "preferences_eval.jsonl"]
    with writers(curation.folder, names) as (write_training, write_evaluation):
        for pair in training:
            write_training(pair)
        for pair in evaluation:
            write_evaluation(pair)
    work.counts.update({"preferences": len(training), "preferences_eval": len(evaluation)})


def _given_pairs(curation: Curation, files: list[OpenFile], work: Work) -> Sides:
    ledger = work.ledger("given pairs")
    read = ledger.tally("read")
    rules = prompt_rules(curation.config.filters)
    pairs = check_pairs(
        chain.from_iterable(source.pairs(read) for source in files),
        rules,
        ledger.tally("pair rules"),
    )
    if len(curation.held_out):
        pairs = _away_from_held_out(curation, pairs, ledger.tally("held-out prompts"))
    config = curation.config.preferences
    training, evaluation = split_by_prompt(pairs, config.eval_count, f"{curation.seed}:pairs")
    ledger.require_rows("preference pairs")
    return training[: config.count], evaluation


def _away_from_held_out(
    curation: Curation, pairs: Iterable[PreferencePair], tally: Tally
) -> Iterator[PreferencePair]:
    for pair in pairs:
        tally.seen += 1
        verdict = curation.held_out.verdict(pair.prompt)
        if verdict is None:
            tally.kept += 1
            yield pair
        else:
            tally.reject(pair, *verdict)


def _made_pairs(curation: Curation, work: Work) -> Sides:
    config = curation.config.preferences
    ledger = work.ledger("made pairs")
    rules = answer_rules(curation.config.filters)
    with (
        curation.teacher() as teacher,
        curation.judge() as judge,
        Progress("curate: preference prompts") as progress,
    ):
        rows = curation.prompt_rows("preferences", ledger)
        judged = []
        for item in judged_answers(
            rows, teacher, Judge(judge), config, rules, ledger, curation.seed
        ):
            judged.append(item)
            progress.update(1)
    ledger.require_rows("preference prompts")
    answers = Answers(judged)
    sides = split_prompts(judged, config.count, config.eval_count, f"{curation.seed}:prompts")
    made = []
    for side, name, count in zip(
        sides, ("count", "eval_count"), (config.count, config.eval_count), strict=True
    ):
        pairs = list(make_pairs(side, answers, config, count, f"{curation.seed}:pairs"))
        if count is not None and len(pairs) < count:
            work.notes.append(f"preferences.{name}: only {len(pairs)} of {count} could be made")
        made.append(pairs)
    return made[0], made[1]
