"""The best of several answers to one prompt, as judged, and the ones that were judged lower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from espalier.judging import Judge, Rubric
from espalier.records import Messages

ChooseBy = Literal["pairwise", "rubric"]


@dataclass(slots=True)
class Ranked:
    """One prompt's judged answers.

    `worse` are the answers that lost to the best one or to one that it beat, with by how much
    (difference of rubric means; None when compared pairwise). `ties` and `unread` count the
    comparisons without a winner and the replies that could not be read.
    """

    best: str
    worse: list[tuple[str, float | None]] = field(default_factory=list)
    ties: int = 0
    unread: int = 0


def question(prompt: Messages) -> str:
    """A prompt as the judge sees it: its text, or the dialogue with its speakers named."""
    turns = [message for message in prompt if message.role != "system"]
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in turns)


def best_of(
    judge: Judge, prompts: Sequence[Messages], answers: Sequence[Sequence[str]], by: ChooseBy
) -> list[Ranked | None]:
    """Judge the distinct answers of each prompt; None where there is nothing to choose.

    Pairwise: the winner so far meets the next answer, n−1 comparisons for n distinct answers,
    those of all prompts asked together. Rubric: the highest mean mark wins, unsafe answers below
    all safe ones; answers whose marks can't be read are left out.
    """
    distinct = [list(dict.fromkeys(listed)) for listed in answers]
    if by == "rubric":
        return _by_rubric(judge, prompts, distinct)
    return _pairwise(judge, prompts, distinct)


def _pairwise(
    judge: Judge, prompts: Sequence[Messages], answers: Sequence[list[str]]
) -> list[Ranked | None]:
    ranked = [Ranked(listed[0]) if listed else None for listed in answers]
    for number in range(1, max((len(listed) for listed in answers), default=0)):
        meeting = [
            (entry, question(prompts[i]), answers[i][number])
            for i, entry in enumerate(ranked)
            if entry is not None and len(answers[i]) > number
        ]
        verdicts = judge.compare([(asked, entry.best, new) for entry, asked, new in meeting])
        for (entry, _, new), verdict in zip(meeting, verdicts, strict=True):
            if verdict == "A":
                entry.worse.append((new, None))
            elif verdict == "B":
                entry.worse.append((entry.best, None))
                entry.best = new
            elif verdict == "tie":
                entry.ties += 1
            else:
                entry.unread += 1
    return ranked


def _by_rubric(
    judge: Judge, prompts: Sequence[Messages], answers: Sequence[list[str]]
) -> list[Ranked | None]:
    items = [(question(p), a) for p, listed in zip(prompts, answers, strict=True) for a in listed]
    rubrics = iter(judge.rate(items))
    ranked: list[Ranked | None] = []
    for listed in answers:
        rated = [(answer, next(rubrics)) for answer in listed]
        read = [(answer, rubric_score(rubric)) for answer, rubric in rated if rubric is not None]
        if not read:
            ranked.append(None)
            continue
        best, top = max(read, key=lambda pair: pair[1])
        worse: list[tuple[str, float | None]] = [
            (answer, top - score) for answer, score in read if score < top
        ]
        ties = len(read) - 1 - len(worse)
        ranked.append(Ranked(best, worse, ties, len(rated) - len(read)))
    return ranked


def rubric_score(rubric: Rubric) -> float:
    """The mean mark, five less for an unsafe answer, so that it ranks below every safe one."""
    return rubric.mean - (0.0 if rubric.safe else 5.0)
