"""K-way rankings: all answers to a prompt in order, and the pairs that they expand to.

Ouyang et al. 2022 ("Training language models to follow instructions with human feedback",
arXiv 2203.02155, section 3.5): labelers rank K = 4 to 9 answers, all C(K, 2) pairs are taken,
and the pairs of one prompt are trained on in one batch. Here the judge compares each two answers
in both orders, and the scores are Copeland's (wins minus losses) or Bradley and Terry's
log-strengths; or the answers are rated one by one with the rubric.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Any

from espalier.curate.best import rate
from espalier.curate.config_preferences import Expand, RankBy
from espalier.curate.verdicts import Doubts, Said, compare, question
from espalier.judging import Judge
from espalier.records import Example, Messages

# (winner, loser, drawn): for a drawn game the order of the two says nothing.
Game = tuple[int, int, bool]
_ROUNDS = 10_000
_CLOSE = 1e-12
_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Standing:
    """An answer's place: rank 1 is the best, equal scores share a rank ("1224")."""

    text: str
    rank: int
    score: float


@dataclass(slots=True)
class Ranking:
    """One prompt's answers, the best first; equal ranks in the order of the samples.

    `said` is what the judge said of two answers, by (higher ranked, lower ranked).
    """

    standings: list[Standing]
    said: dict[tuple[str, str], Said] = field(default_factory=dict)
    doubts: Doubts = field(default_factory=Doubts)

    @property
    def decided(self) -> bool:
        """Whether any answer stands above another."""
        return self.standings[0].rank < self.standings[-1].rank

    def to_json(self, row: Example) -> dict[str, Any]:
        """A line of a file of rankings; `row` holds the prompt."""
        return {
            "id": row.id,
            "prompt": [message.to_json() for message in row.prompt_messages],
            "answers": [
                {"text": place.text, "rank": place.rank, "score": place.score}
                for place in self.standings
            ],
            "meta": row.meta,
        }


def rank_answers(
    judge: Judge, prompts: Sequence[Messages], answers: Sequence[Sequence[str]], by: RankBy
) -> list[Ranking | None]:
    """Rank the distinct answers of each prompt; None where there is nothing to rank.

    Pairwise: all C(n, 2) pairs in both orders; a reply that can't be read is no game. Rubric: by
    mean mark, unsafe answers below all safe ones, answers with unreadable marks left out.
    """
    distinct = [list(dict.fromkeys(listed)) for listed in answers]
    if by == "rubric":
        return [_by_marks(*rated) for rated in rate(judge, prompts, distinct)]
    items = [
        (question(prompt), *pair)
        for prompt, listed in zip(prompts, distinct, strict=True)
        for pair in combinations(listed, 2)
    ]
    meetings = iter(compare(judge, items))
    score = copeland if by == "copeland" else bradley_terry
    ranked: list[Ranking | None] = []
    for listed in distinct:
        if not listed:
            ranked.append(None)
            continue
        games: list[Game] = []
        doubts = Doubts()
        met = []
        for first, second in combinations(range(len(listed)), 2):
            meeting = next(meetings)
            met.append(meeting)
            doubts.add(meeting)
            if meeting.undecided == "tie":
                games.append((first, second, True))
            elif meeting.winner is not None:
                won = meeting.winner == listed[first]
                games.append((first, second, False) if won else (second, first, False))
        ranking = Ranking(standings(listed, score(len(listed), games)), doubts=doubts)
        place = {standing.text: number for number, standing in enumerate(ranking.standings)}
        for meeting in met:
            better, worse = sorted((meeting.first, meeting.second), key=place.__getitem__)
            ranking.said[better, worse] = meeting.said(better)
        ranked.append(ranking)
    return ranked


def _by_marks(marks: dict[str, tuple[float, str]], doubts: Doubts) -> Ranking | None:
    if not marks:
        return None
    ranking = Ranking(standings(list(marks), [score for score, _ in marks.values()]), doubts=doubts)
    for better, worse in combinations(ranking.standings, 2):
        ranking.said[better.text, worse.text] = {
            "scores": [better.score, worse.score],
            "reasons": [marks[better.text][1], marks[worse.text][1]],
        }
    return ranking


def copeland(count: int, games: Sequence[Game]) -> list[float]:
    """Wins minus losses of each of `count` players (Copeland 1951)."""
    scores = [0.0] * count
    for winner, loser, drawn in games:
        if not drawn:
            scores[winner] += 1
            scores[loser] -= 1
    return scores


def bradley_terry(count: int, games: Sequence[Game]) -> list[float]:
    """Log-strengths: P(i beats j) = p_i / (p_i + p_j) (Bradley and Terry 1952).

    The maximum is found by the MM iteration p_i = W_i / Σ_j n_ij / (p_i + p_j) (Hunter 2004, Ann.
    Statist. 32, eq. 3), a draw being half a win for both. Each player also has one drawn game
    against a player of strength 1: without it one who won all games has no finite strength. The
    scores are rounded to 6 decimals, so that players who did equally well have equal ones.
    """
    wins = [0.5] * count
    played: list[list[int]] = [[] for _ in range(count)]
    for winner, loser, drawn in games:
        wins[winner] += 0.5 if drawn else 1.0
        wins[loser] += 0.5 if drawn else 0.0
        played[winner].append(loser)
        played[loser].append(winner)
    strength = [1.0] * count
    for _ in range(_ROUNDS):
        before = strength
        strength = [
            wins[i] / (1 / (before[i] + 1) + sum(1 / (before[i] + before[j]) for j in played[i]))
            for i in range(count)
        ]
        if all(abs(a - b) <= _CLOSE * b for a, b in zip(strength, before, strict=True)):
            break
    return [round(math.log(value), _DECIMALS) + 0.0 for value in strength]


def standings(answers: Sequence[str], scores: Sequence[float]) -> list[Standing]:
    """Answers in order of falling scores, ranked 1 + the number of higher scores."""
    ranked = [
        Standing(answer, 1 + sum(other > score for other in scores), score)
        for answer, score in zip(answers, scores, strict=True)
    ]
    return sorted(ranked, key=lambda standing: standing.rank)


def expand(ordered: Sequence[Standing], how: Expand) -> Iterator[tuple[Standing, Standing]]:
    """Pairs (higher, lower or equal) of a ranking, the best first.

    `all`: each two answers; `adjacent`: each answer and the next one; `best_worst`: the first and
    the last. Pairs of equal rank are among them: the caller counts and drops them.
    """
    if how == "all":
        yield from combinations(ordered, 2)
    elif how == "adjacent":
        yield from pairwise(ordered)
    elif len(ordered) > 1:
        yield ordered[0], ordered[-1]
