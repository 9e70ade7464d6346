"""The best of several answers to one prompt, as judged, and the ones that were judged lower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from espalier.curate.pipeline import clip
from espalier.curate.verdicts import Doubts, Said, compare, question
from espalier.judging import Judge, Rubric
from espalier.records import Messages

ChooseBy = Literal["pairwise", "rubric"]


@dataclass(slots=True)
class Ranked:
    """One prompt's judged answers.

    `worse` are the answers that lost to the best one or to one that it beat, with by how much
    (difference of rubric means; None when compared pairwise). `said` is what the judge said when
    such an answer lost, by the answer. `doubts` holds the comparisons without a winner and the
    replies that could not be read.
    """

    best: str
    worse: list[tuple[str, float | None]] = field(default_factory=list)
    said: dict[str, Said] = field(default_factory=dict)
    doubts: Doubts = field(default_factory=Doubts)

    @property
    def ties(self) -> int:
        """Comparisons without a winner."""
        return self.doubts.count("tie")

    @property
    def unread(self) -> int:
        """Replies that could not be read."""
        return self.doubts.count("unread_verdict") + self.doubts.count("unread_rating")


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
        met = compare(judge, [(asked, entry.best, new) for entry, asked, new in meeting])
        for (entry, _, new), meets in zip(meeting, met, strict=True):
            entry.doubts.add(meets)
            if meets.winner is None:
                continue
            loser = entry.best if meets.winner == new else new
            entry.worse.append((loser, None))
            entry.said[loser] = meets.said(meets.winner)
            if meets.winner == new:
                _mark_indirect(entry)
                entry.best = new
    return ranked


def _mark_indirect(entry: Ranked) -> None:
    """Say of all that lost before the last one that another answer than the new best beat them."""
    for answer, _ in entry.worse[:-1]:
        entry.said[answer]["indirect"] = True


def _by_rubric(
    judge: Judge, prompts: Sequence[Messages], answers: Sequence[list[str]]
) -> list[Ranked | None]:
    rated = rate(judge, prompts, answers)
    ranked: list[Ranked | None] = []
    for marks, doubts in rated:
        if not marks:
            ranked.append(None)
            continue
        best, (top, why) = max(marks.items(), key=lambda pair: pair[1][0])
        entry = Ranked(best, doubts=doubts)
        for answer, (score, reason) in marks.items():
            if score < top:
                entry.worse.append((answer, top - score))
                entry.said[answer] = {"scores": [top, score], "reasons": [why, reason]}
            elif answer != best:
                shown = f"A: {best}\nB: {answer}"
                doubts.undecided.append(("tie", shown, f"both have the mark {score:g}"))
        ranked.append(entry)
    return ranked


def rate(
    judge: Judge, prompts: Sequence[Messages], answers: Sequence[Sequence[str]]
) -> list[tuple[dict[str, tuple[float, str]], Doubts]]:
    """For each prompt: (score, reason) of each answer whose marks can be read, and the doubts."""
    items = [(question(p), a) for p, listed in zip(prompts, answers, strict=True) for a in listed]
    replies = iter(judge.rate_fully(items))
    rated = []
    for listed in answers:
        marks: dict[str, tuple[float, str]] = {}
        doubts = Doubts(asked=len(listed))
        for answer in listed:
            rubric, text = next(replies)
            if rubric is None:
                doubts.undecided.append(("unread_rating", f"A: {answer}", f"the reply: {text}"))
            else:
                marks[answer] = (rubric_score(rubric), clip(rubric.reason, 200))
        rated.append((marks, doubts))
    return rated


def rubric_score(rubric: Rubric) -> float:
    """The mean mark, five less for an unsafe answer, so that it ranks below every safe one."""
    return rubric.mean - (0.0 if rubric.safe else 5.0)
