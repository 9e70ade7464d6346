"""accuracy.json against closed forms and scipy."""

from __future__ import annotations

import math
import random

import ppo_reference as reference
import pytest

from espalier.train.config_rl import RewardConfig

pytest.importorskip("torch")

from espalier.train import reward_report as report
from espalier.train.reward_pairs import EncodedPair


def rows(count: int, seed: int = 0) -> list[EncodedPair]:
    rng = random.Random(seed)
    return [
        EncodedPair(
            [i, 1, rng.randrange(99)], [i, 2, rng.randrange(99)], rng.choice([0.0, 1.0, 2.5]),
            rng.choice(["number", "style"]), rng.choice(["en", "zh"]), rng.choice(["s1", "s2"]),
            id=str(i), prompt=str(i // 2), chosen_tokens=rng.randint(1, 9),
            rejected_tokens=rng.randint(1, 9),
        )
        for i in range(count)
    ]  # fmt: skip


def scores(count: int, seed: int = 1) -> tuple[list[float], list[float]]:
    rng = random.Random(seed)
    return [rng.gauss(0.7, 1.5) for _ in range(count)], [rng.gauss(0, 1.5) for _ in range(count)]


@pytest.mark.parametrize(("wins", "n"), [(0, 5), (5, 5), (7, 10), (131, 200), (1, 1), (997, 1000)])
def test_the_interval_is_wilsons(wins: int, n: int) -> None:
    from scipy.stats import binomtest

    found = report.share([True] * wins + [False] * (n - wins))
    wanted = binomtest(wins, n).proportion_ci(0.95, method="wilson")
    assert (found["low"], found["high"]) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    assert (found["low"], found["high"]) == pytest.approx(reference.wilson(wins, n), abs=1e-9)
    assert (found["accuracy"], found["n"]) == (wins / n, n)


def test_pairs_of_one_prompt_are_not_counted_as_independent() -> None:
    wins = [True, True, True, False, True, False, False, True]
    alone = report.by_prompt([str(i) for i in range(8)], wins)
    # 8/7 of the variance: the clusters' is the one without bias.
    assert alone["design_effect"] == pytest.approx(8 / 7)
    # Every pair four times says no more than once.
    four = report.by_prompt([str(i // 4) for i in range(32)], [w for w in wins for _ in range(4)])
    assert four["design_effect"] == pytest.approx(4 * 8 / 7)
    assert (four["low"], four["high"]) == pytest.approx((alone["low"], alone["high"]))
    assert report.by_prompt(["a"], [True])["design_effect"] == 1.0


def test_ties_are_no_wins_and_are_counted() -> None:
    data = rows(6)
    value = report.summary(data, [1.0, 0.0, 2.0, 0.5, 0.0, 3.0], [0.0, 0.0, 2.0, 1.0, -1.0, 3.0])
    assert (value["pairs"], value["accuracy"], value["ties"]) == (6, 2 / 6, 3)
    assert any("3 ties" in sentence for sentence in value["reliability"])
    flat = report.summary(data, [1.0] * 6, [1.0] * 6)
    assert (flat["accuracy"], flat["ties"]) == (0.0, 6)
    # A model without an opinion is right half of the time when it is 50 % sure.
    assert flat["calibration"]["ece"] == 0.0


def test_groups_hold_every_pair_once() -> None:
    data = rows(50)
    value = report.summary(data, *scores(50))
    for group in ("by_kind", "by_language", "by_source"):
        assert sum(part["n"] for part in value[group].values()) == 50
        wins = sum(part["accuracy"] * part["n"] for part in value[group].values())
        assert wins == pytest.approx(50 * value["accuracy"])
    assert value["prompts"] == 25


def test_calibration_by_hand() -> None:
    gaps = [math.log(0.62 / 0.38)] * 3 + [-math.log(0.64 / 0.36)] + [math.log(0.97 / 0.03)]
    found = report.calibration(gaps)
    low, high = found["bins"]
    assert (low["from"], low["to"], low["n"], low["right"]) == (0.6, 0.65, 4, 0.75)
    assert low["predicted"] == pytest.approx((3 * 0.62 + 0.64) / 4)
    assert (high["from"], high["n"], high["right"]) == (0.95, 1, 1.0)
    assert found["ece"] == pytest.approx((4 * abs(0.75 - 0.625) + abs(1 - 0.97)) / 5)
    assert found["gap"] == pytest.approx((3 * 0.62 + 0.64 + 0.97) / 5 - 4 / 5)
    wanted = -(3 * math.log(0.62) + math.log(0.36) + math.log(0.97)) / 5
    assert found["log_loss"] == pytest.approx(wanted)


def test_calibration_of_a_model_that_means_what_it_says() -> None:
    rng = random.Random(5)
    gaps = []
    for _ in range(20_000):
        gap = rng.gauss(0, 2)
        # The answer that is preferred with probability p is the right one with probability p.
        gaps.append(gap if rng.random() < 1 / (1 + math.exp(-gap)) else -gap)
    found = report.calibration(gaps)
    assert found["ece"] < 0.02
    assert abs(found["gap"]) < 0.01
    inside = [b["low"] <= b["predicted"] <= b["high"] for b in found["bins"]]
    assert sum(inside) >= 8
    sure = report.calibration([4 * gap for gap in gaps])
    assert sure["ece"] > 0.1
    assert sure["gap"] > 0.1
    assert sum(b["n"] for b in found["bins"]) == 20_000


def test_huge_gaps_do_not_overflow() -> None:
    found = report.calibration([1e4, -1e4])
    assert found["bins"][0]["n"] == 2
    assert found["log_loss"] == pytest.approx(5e3)


def test_correlations_are_scipys() -> None:
    from scipy.stats import pearsonr, spearmanr

    rng = random.Random(2)
    x = [float(rng.randint(1, 12)) for _ in range(80)]
    y = [a + rng.gauss(0, 4) for a in x]
    assert report.pearson(x, y) == pytest.approx(pearsonr(x, y).statistic)
    assert report.spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert report.pearson([1.0, 1.0], [1.0, 2.0]) is None


def test_length_bias_over_answers_and_within_pairs() -> None:
    from scipy.stats import pearsonr, spearmanr

    data, (chosen, rejected) = rows(60), scores(60)
    found = report.length_bias(data, chosen, rejected)
    lengths = [r.chosen_tokens for r in data] + [r.rejected_tokens for r in data]
    assert found["answers"] == 120
    assert found["pearson"] == pytest.approx(pearsonr(lengths, chosen + rejected).statistic)
    assert found["spearman"] == pytest.approx(spearmanr(lengths, chosen + rejected).statistic)
    more = [r.chosen_tokens - r.rejected_tokens for r in data]
    gaps = [a - b for a, b in zip(chosen, rejected, strict=True)]
    both = [*more, *(-m for m in more)], [*gaps, *(-g for g in gaps)]
    assert found["gap_pearson"] == pytest.approx(pearsonr(*both).statistic)
    assert found["gap_spearman"] == pytest.approx(spearmanr(*both).statistic)
    unequal = [(m, g) for m, g in zip(more, gaps, strict=True) if m]
    assert found["unequal"] == len(unequal)
    assert found["longer_chosen"] == sum(m > 0 for m, _ in unequal) / len(unequal)
    assert found["longer_preferred"] == sum(m * g > 0 for m, g in unequal) / len(unequal)
    near = [g > 0 for r, g in zip(data, gaps, strict=True) if r.chosen_tokens == r.rejected_tokens]
    # With at most nine tokens, a tenth is less than one.
    assert found["accuracy_near"]["n"] == len(near)
    assert found["accuracy_near"]["accuracy"] == sum(near) / len(near)
    parts = found["accuracy_longer"]["n"] + found["accuracy_shorter"]["n"]
    assert parts == len(unequal)


def test_a_model_that_counts_tokens_is_found_out() -> None:
    data = rows(200)
    value = report.summary(
        data, [float(r.chosen_tokens) for r in data], [float(r.rejected_tokens) for r in data]
    )
    assert value["length"]["pearson"] == pytest.approx(1.0)
    assert value["length"]["longer_preferred"] == 1.0
    assert any("prefers longer answers" in sentence for sentence in value["reliability"])


def test_margins_by_hand() -> None:
    data = rows(5)
    chosen, rejected = [1.0, 2.0, 3.0, 4.0, 5.0], [0.0] * 5
    found = report.margins(data, [a - b for a, b in zip(chosen, rejected, strict=True)])
    assert (found["mean"], found["deviation"]) == (3.0, pytest.approx(math.sqrt(2)))
    assert found["quantiles"]["0.5"] == 3.0
    assert found["given"] == sum(r.margin > 0 for r in data)


def test_the_statement_says_when_nothing_is_shown() -> None:
    half = report.summary(rows(10), [1.0, -1.0] * 5, [0.0] * 10)
    assert any("no difference to chance" in sentence for sentence in half["reliability"])
    swapped = report.summary(rows(40), [-1.0] * 40, [0.0] * 40)
    assert any("swapped" in sentence for sentence in swapped["reliability"])
    assert "10 held-out pairs on 5 prompts: accuracy 50.0%" in half["reliability"][0]


def test_options_that_contradict_each_other() -> None:
    for values, names in (
        ({"validation": "x.jsonl", "validation_fraction": 0.1}, "validation_fraction"),
        ({"lora": {}, "freeze": ["embed"]}, "freeze and lora"),
        ({"validation": [{"path": "x", "weight": 2}]}, "weight"),
    ):
        with pytest.raises(ValueError, match=names):
            RewardConfig.model_validate(values)
    one = RewardConfig.model_validate({"validation": "x.jsonl"})
    assert one.validation is not None
    assert one.validation[0].path == "x.jsonl"
