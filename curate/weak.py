"""A weaker teacher's answers, as the rejected side of pairs.

The stronger model's answer is taken to be the better one without asking (Yuan et al. 2023 and
others build pairs so); a judge may check that it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from espalier.curate.config_preferences import PreferencesConfig
from espalier.curate.judged import Judged, WeakAnswer
from espalier.curate.pipeline import Tally
from espalier.curate.respond import BATCH, fault, sample_answers
from espalier.curate.verdicts import Meeting, compare, question
from espalier.engines.base import Completion, Engine, Sampling
from espalier.judging import Judge


def with_weak_answers(
    items: Iterable[Judged],
    weak: Engine,
    judge: Judge,
    config: PreferencesConfig,
    tally: Tally,
    seed: int,
) -> Iterator[Judged]:
    """The prompts with an answer of the weak teacher, where it gave a usable one.

    All prompts go on (they can give pairs of other kinds); what is rejected is the weak answer:
    cut off, empty, equal to the chosen one, or by the judge (`verify_weak`) preferred
    (`weak_better`), tied or unreadable.
    """
    sampling = Sampling(temperature=config.temperature, max_tokens=config.max_tokens, seed=seed)
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        drawn = sample_answers(weak, [item.row for item in batch], sampling, 1)
        usable = []
        for item, (completion,) in zip(batch, drawn, strict=True):
            tally.seen += 1
            if _usable(item, completion, tally):
                item.weak = WeakAnswer(completion.text.strip(), weak.model)
                usable.append(item)
        if config.verify_weak == "no":
            tally.kept += len(usable)
        else:
            _verify(usable, judge, config.verify_weak == "flip", tally)
        yield from batch


def _usable(item: Judged, completion: Completion, tally: Tally) -> bool:
    text = completion.text.strip()
    problem = fault(completion)
    if problem is None and not text:
        problem = "empty_answer", "the weak teacher's answer is empty"
    if problem is None and text == item.chosen:
        problem = "same_answers", "the weak teacher's answer is the chosen one"
    if problem is not None:
        tally.reject(item.row.with_response(text), *problem)
    return problem is None


def _verify(items: Sequence[Judged], judge: Judge, flip: bool, tally: Tally) -> None:
    asked = [
        (question(item.row.prompt_messages), item.chosen, item.weak.text)
        for item in items
        if item.weak is not None
    ]
    for item, meeting in zip(items, compare(judge, asked), strict=True):
        item.weak = _verified(item, meeting, flip, tally)


def _verified(item: Judged, meeting: Meeting, flip: bool, tally: Tally) -> WeakAnswer | None:
    if item.weak is None:
        return None
    better = meeting.winner == item.weak.text
    rule = meeting.undecided or ("weak_better" if better and not flip else None)
    if rule is not None:
        shown = item.row.with_response(item.weak.text)
        tally.reject(shown, rule, f"A: {item.chosen}; {meeting.evidence}")
        return None
    tally.kept += 1
    if better:
        tally.change("weak_flipped")
    said = meeting.said(item.weak.text if better else item.chosen)
    return WeakAnswer(item.weak.text, item.weak.teacher, better, said)
