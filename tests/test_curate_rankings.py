"""K-way rankings: scores against naive ones, and the pairs that they expand to."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from itertools import combinations, permutations
from random import Random
from typing import Any

import pytest
from judges import Replies, Samples, Scores, prompts

from espalier.curate.best import best_of
from espalier.curate.config_filters import FilterConfig
from espalier.curate.config_preferences import PreferencesConfig, RankingConfig
from espalier.curate.filters import answer_rules
from espalier.curate.judged import Judged, judged_answers
from espalier.curate.pipeline import Ledger
from espalier.curate.preferences import Answers, make_pairs, ranking_pairs
from espalier.curate.rankings import bradley_terry, rank_answers
from espalier.judging import Judge
from espalier.records import Example


def places(answers: list[str], worth: dict[str, float], by: Any) -> list[tuple[str, int, float]]:
    judge: Any = Scores(worth)
    (ranking,) = rank_answers(judge, prompts(1), [answers], by)
    assert ranking is not None
    return [(s.text, s.rank, s.score) for s in ranking.standings]


@pytest.mark.parametrize("by", ["copeland", "bradley_terry", "rubric"])
@pytest.mark.parametrize("seed", range(25))
def test_a_ranking_is_the_order_of_the_worths(by: Any, seed: int) -> None:
    rng = Random(seed)
    worth = {name: float(rng.randint(1, 4)) for name in "abcdefg"[: rng.randint(2, 7)]}
    answers = [*worth, *rng.sample(list(worth), 1)]  # one occurs twice
    rng.shuffle(answers)
    found = places(answers, worth, by)
    assert {(text, rank) for text, rank, _ in found} == {
        (text, 1 + sum(other > value for other in worth.values())) for text, value in worth.items()
    }
    scores = [score for _, _, score in found]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(set(worth.values()))
    if by == "copeland":
        for text, _, score in found:
            wins = sum(worth[text] > other for other in worth.values())
            assert score == wins - sum(worth[text] < other for other in worth.values())


@pytest.mark.parametrize("seed", range(10))
def test_strengths_are_at_the_maximum_of_the_likelihood(seed: int) -> None:
    rng = Random(seed)
    count = rng.randint(2, 5)
    games = [(*rng.sample(range(count), 2), rng.random() < 0.2) for _ in range(rng.randint(1, 12))]
    found = bradley_terry(count, games)

    def likelihood(strengths: list[float]) -> float:
        total = sum(-0.5 * math.log1p(math.exp(s)) - 0.5 * math.log1p(math.exp(-s))
                    for s in strengths)  # fmt: skip
        for winner, loser, drawn in games:
            gap = strengths[winner] - strengths[loser]
            won, lost = -math.log1p(math.exp(-gap)), -math.log1p(math.exp(gap))
            total += (won + lost) / 2 if drawn else won
        return total

    best = likelihood(found)
    for place in range(count):
        for step in (-1e-3, 1e-3):
            moved = [s + step * (i == place) for i, s in enumerate(found)]
            assert likelihood(moved) < best + 1e-9


def test_strengths_of_one_game_in_closed_form() -> None:
    # By symmetry b = -a; the derivative -a's logistic + .5 + 1 - logistic(2a) is 0 at the maximum.
    low, high = 0.0, 5.0
    for _ in range(80):
        a = (low + high) / 2
        slope = 0.5 - 1 / (1 + math.exp(-a)) + 1 - 1 / (1 + math.exp(-2 * a))
        low, high = (a, high) if slope > 0 else (low, a)
    assert bradley_terry(2, [(0, 1, False)]) == pytest.approx([a, -a], abs=1e-6)
    assert bradley_terry(3, [(0, 1, True), (1, 2, True), (0, 2, True)]) == [0.0, 0.0, 0.0]
    assert bradley_terry(1, []) == [0.0]


def test_a_judge_who_prefers_a_position_decides_nothing() -> None:
    engine = Replies(lambda a, b: "The first is better.\nVerdict: A")
    (ranking,) = rank_answers(Judge(engine), prompts(1), [["x", "y", "z"]], "copeland")
    assert ranking is not None
    assert engine.asked == 6  # C(3, 2) pairs in both orders
    assert {(s.rank, s.score) for s in ranking.standings} == {(1, 0.0)}
    assert ranking.doubts.asked == ranking.doubts.count("tie") == 3
    (best,) = best_of(Judge(engine), prompts(1), [["x", "y"]], "pairwise")
    assert best is not None
    assert (best.best, best.worse, best.ties) == ("x", [], 1)


def test_an_unreadable_verdict_is_no_game() -> None:
    def say(a: str, b: str) -> str:
        return "Hm." if {a, b} == {"x", "z"} else f"Verdict: {'A' if a < b else 'B'}"

    (ranking,) = rank_answers(Judge(Replies(say)), prompts(1), [["z", "y", "x"]], "copeland")
    assert ranking is not None
    assert [(s.text, s.score) for s in ranking.standings] == [("x", 1.0), ("y", 0.0), ("z", -1.0)]
    assert ranking.doubts.count("unread_verdict") == 1
    assert "unread (Hm.)" in ranking.doubts.undecided[0][2]


def ranked_prompts(worths: Sequence[dict[str, float]]) -> list[Judged]:
    made = []
    for i, worth in enumerate(worths):
        judge: Any = Scores(worth)
        (ranking,) = rank_answers(judge, prompts(1), [list(worth)], "copeland")
        assert ranking is not None
        row = Example.single(f"prompt {i}", meta={"source": "s", "language": "en"})
        made.append(Judged(row, ranking.standings[0].text, ranking=ranking))
    return made


@pytest.mark.parametrize("seed", range(10))
def test_all_pairs_of_a_ranking_are_k_over_2_minus_equal_ranks(seed: int) -> None:
    rng = Random(seed)
    worth = {name: float(rng.randint(1, 4)) for name in "abcdefghi"[: rng.randint(2, 9)]}
    tally = Ledger("made", io.StringIO()).tally("pairs")
    (item,) = ranked_prompts([worth])
    pairs = list(ranking_pairs([item], "all", [], tally))
    expected = {(a, b) for a, b in permutations(worth, 2) if worth[a] > worth[b]}
    assert {(p.chosen, p.rejected) for p in pairs} == expected
    equal = sum(worth[a] == worth[b] for a, b in combinations(worth, 2))
    assert len(pairs) == math.comb(len(worth), 2) - equal
    assert tally.seen - tally.kept == tally.rejected["equal_rank"] == equal
    for pair in pairs:
        score = {a: sum((worth[a] > v) - (worth[a] < v) for v in worth.values()) for a in worth}
        assert pair.margin == score[pair.chosen] - score[pair.rejected] > 0
        assert pair.meta["kind"] == "ranking"
        assert pair.meta["judge"]["orders"] == ["chosen", "chosen"]
        assert pair.meta["judge"]["reasons"][0].startswith(f"{pair.chosen} is worth")


def test_what_a_ranking_expands_to() -> None:
    items = ranked_prompts([{"a": 4, "b": 3, "c": 2, "d": 1}, {"x": 1, "y": 2}])

    def pairs(how: Any, count: int | None = None) -> list[str]:
        tally = Ledger("made", io.StringIO()).tally("pairs")
        found = list(ranking_pairs(items, how, [], tally, count))
        groups = {pair.meta["ranking"] for pair in found}
        assert len(groups) == len({pair.prompt for pair in found})
        return [pair.chosen + pair.rejected for pair in found]

    assert pairs("best_worst") == ["ad", "yx"]
    assert pairs("adjacent") == ["ab", "bc", "cd", "yx"]
    assert pairs("all") == ["ab", "ac", "ad", "bc", "bd", "cd", "yx"]
    assert pairs("all", 4) == ["ab", "ac", "ad", "bc"]


def test_a_better_answer_that_breaks_a_rule_is_not_chosen() -> None:
    refusal = "I'm sorry, but I can't help with that."
    (item,) = ranked_prompts([{"good": 3, refusal: 2, "bad": 1}])
    handle = io.StringIO()
    tally = Ledger("made", handle).tally("pairs")
    rules = answer_rules(FilterConfig())
    pairs = list(ranking_pairs([item], "all", rules, tally))
    assert [(p.chosen, p.rejected) for p in pairs] == [("good", refusal), ("good", "bad")]
    assert [json.loads(line)["rule"] for line in handle.getvalue().splitlines()] == ["refusal"]


def test_rankings_are_judged_for_each_prompt_and_written_as_a_line() -> None:
    config = PreferencesConfig(samples=4, ranking=RankingConfig())
    rows = [Example.single(f"Name colour {i}.", meta={"language": "en"}) for i in range(3)]
    judge: Any = Scores({"Red": 4, "Blue": 2, "Blau": 2, "Ro": 1})
    teacher = Samples(["Blue", "Red", "Blau", "Ro"])
    rules = answer_rules(FilterConfig())
    ledger = Ledger("made", io.StringIO())
    found = list(judged_answers(rows, teacher, judge, config, rules, ledger, 1))
    assert [item.chosen for item in found] == ["Red"] * 3
    ranking = found[0].ranking
    assert ranking is not None
    line = ranking.to_json(found[0].row)
    assert line["prompt"] == [{"role": "user", "content": "Name colour 0."}]
    assert [(a["text"], a["rank"], a["score"]) for a in line["answers"]] == [
        ("Red", 1, 3.0), ("Blue", 2, 0.0), ("Blau", 2, 0.0), ("Ro", 4, -3.0),
    ]  # fmt: skip


def test_further_pairs_of_a_ranking_are_corruptions_and_no_sample_again() -> None:
    items = ranked_prompts([{f"red {i}, green": 2, f"The answer is red {i}, green": 1}
                            for i in range(30)])  # fmt: skip
    kinds = {"sample": 1.0, "padding": 1.0, "item_dropped": 1.0}
    config = PreferencesConfig(ranking=RankingConfig(extra=2), kinds=kinds)
    pairs = list(make_pairs(items, Answers(items), config, None, "seed"))
    assert {pair.meta["kind"] for pair in pairs} == {"item_dropped"}
    assert not list(make_pairs(items, Answers(items), PreferencesConfig(ranking=RankingConfig()),
                               None, "seed"))  # fmt: skip
