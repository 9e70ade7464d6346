"""The page of a sweep: effects over seeds, trends, what could have been seen, words, members."""

from __future__ import annotations

import html
import json
import math
import random
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sweep_fixture import QUESTION, ROWS, drop, give, make_members, seconds_of, share, write

from espalier.cli import main
from espalier.errors import InputError
from espalier.reports.config import ReportConfig
from espalier.reports.runs_effects import holm
from espalier.reports.strings import spaced, speaking
from espalier.reports.student import Mean
from espalier.reports.sweep_data import SweepData, gather_sweep
from espalier.reports.sweep_draws import draw_trends
from espalier.reports.sweep_effects import (
    Cell,
    Cells,
    as_share,
    group_means,
    level_effects,
    levels_and_trend,
    slope,
)
from espalier.reports.sweep_json import answer_json
from espalier.reports.sweep_members import reseeded
from espalier.reports.sweep_page import answer_columns, answer_sentences, build_sweep_page
from espalier.reports.sweep_power import detectable, t_power
from espalier.reports.sweep_question import shown_level
from espalier.sweep_file import VARIANT, Factor, read_sweep, write_sweep

scipy_stats = pytest.importorskip("scipy.stats")

LEVELS = [100, 200, 400, 800]
SFT = {"metric": "exact_match", "model": "sft"}


def cells(values: dict[tuple[int, int], float], signature: str = "") -> Cells:
    """{(other option's level, seed): value} as the cells of one level."""
    return {((rest,), seed): Cell(v, signature, 0) for (rest, seed), v in values.items()}


def answered(folder: Path) -> tuple[SweepData, dict[str, Any], list[str]]:
    """A sweep's data, the content of answer.json, and the English sentences."""
    data = gather_sweep(folder, ReportConfig())
    said = answer_sentences(data)
    return data, answer_json({"en": data}, {"en": said}), [text for _, text in said]


# --- statistics --------------------------------------------------------------------------------


@pytest.mark.parametrize("freedom", [1, 2, 4, 9, 60])
@pytest.mark.parametrize("shift", [0.0, 0.7, 2.5, 5.0])
def test_power_is_that_of_scipy_s_noncentral_t(freedom: int, shift: float) -> None:
    critical = scipy_stats.t.ppf(0.975, freedom)
    above = scipy_stats.nct.sf(critical, freedom, shift)
    below = scipy_stats.nct.cdf(-critical, freedom, shift)
    assert t_power(shift, freedom, critical) == pytest.approx(above + below, abs=2e-5)


@pytest.mark.parametrize(("n", "alpha"), [(3, 0.05), (5, 0.0125), (30, 0.05)])
def test_what_is_detectable_is_found_four_times_out_of_five(n: int, alpha: float) -> None:
    found = detectable(2.0 / math.sqrt(n), n - 1, alpha)
    assert found is not None
    shift = found / (2.0 / math.sqrt(n))
    critical = scipy_stats.t.ppf(1 - alpha / 2, n - 1)
    power = scipy_stats.nct.sf(critical, n - 1, shift) + scipy_stats.nct.cdf(
        -critical, n - 1, shift
    )
    assert power == pytest.approx(0.8, abs=1e-3)


def test_nothing_is_detectable_by_one_run_or_without_spread() -> None:
    assert detectable(1.0, 0, 0.05) is None
    assert detectable(0.0, 4, 0.05) is None


def test_effects_are_paired_by_seed_and_corrected_after_holm() -> None:
    rng = random.Random(4)
    values = [
        {(0, s): 3 * s + 0.2 * level + rng.gauss(0, 0.1) for s in range(5)} for level in range(3)
    ]
    found = level_effects([cells(v) for v in values], 0, True, 0.95)
    assert found[0] is None
    raw = []
    for place in (1, 2):
        differences = [values[place][key] - values[0][key] for key in values[0]]
        theirs = scipy_stats.ttest_1samp(differences, 0)
        ends = theirs.confidence_interval(0.95)
        effect = found[place]
        assert effect is not None and effect.mean is not None and effect.how == "seeds"
        assert (effect.mean.value, effect.mean.low, effect.mean.high) == (
            pytest.approx(statistics.mean(differences)),
            pytest.approx(ends.low),
            pytest.approx(ends.high),
        )
        assert effect.mean.n == 5
        error = statistics.stdev(differences) / math.sqrt(5)
        # The first test of two is made at half the level.
        assert effect.detectable == pytest.approx(detectable(error, 4, 0.025))
        raw.append(theirs.pvalue)
    assert [e.p for e in found if e] == pytest.approx(holm(raw))


def test_settings_of_other_options_are_averaged_within_a_seed() -> None:
    """Six pairs of runs at two seeds are two repeats, not six."""
    rng = random.Random(5)
    one = {(rest, seed): rng.random() for rest in range(3) for seed in (1, 2)}
    two = {key: value + rng.random() for key, value in one.items()}
    (_, effect) = level_effects([cells(one), cells(two)], 0, True, 0.95)
    by_seed = [
        statistics.mean(two[rest, seed] - one[rest, seed] for rest in range(3)) for seed in (1, 2)
    ]
    theirs = scipy_stats.ttest_1samp(by_seed, 0)
    assert effect is not None and effect.mean is not None
    assert effect.mean.n == 2 and effect.p == pytest.approx(theirs.pvalue)


def test_with_one_seed_the_other_options_are_the_repeats_and_it_is_named() -> None:
    one = {(rest, 1): float(rest) for rest in range(4)}
    two = {(rest, 1): rest + 0.5 + 0.1 * rest for rest in range(4)}
    (_, effect) = level_effects([cells(one), cells(two)], 0, True, 0.95)
    assert effect is not None and effect.how == "settings"
    assert effect.mean is not None and effect.mean.n == 4
    # All of them share what chance their seed had: an interval, and no verdict.
    assert effect.mean.low is not None and effect.mean.low > 0
    assert (effect.p, effect.verdict, effect.detectable) == (None, "", None)


def test_one_pair_repeats_that_do_not_vary_and_other_measures() -> None:
    one = cells({(0, 1): 1.0, (0, 2): 2.0})
    (_, once) = level_effects([one, cells({(0, 2): 2.5})], 0, True, 0.95)
    assert once is not None and once.how == "once" and once.p is None and once.verdict == ""
    (_, same) = level_effects([one, cells({(0, 1): 1.3, (0, 2): 2.3})], 0, True, 0.95)
    assert same is not None and same.how == "same" and same.verdict == "" and same.p is None
    (_, equal) = level_effects([one, one], 0, True, 0.95)
    assert equal is not None and equal.how == "same" and equal.verdict == "tie"
    (_, mixed) = level_effects([one, cells({(0, 1): 1.3}, "other")], 0, True, 0.95)
    assert mixed is not None and mixed.how == "mixed" and mixed.mean is None
    (_, none) = level_effects([one, cells({(0, 7): 1.3})], 0, True, 0.95)
    assert none is not None and none.how == "none"


def test_levels_that_never_vary_make_no_test_of_the_family() -> None:
    one = cells({(0, seed): float(seed) for seed in range(4)})
    same = cells({(0, seed): seed + 0.5 for seed in range(4)})
    other = {(0, seed): seed + 0.2 + 0.1 * (seed % 3) for seed in range(4)}
    found = level_effects([one, same, cells(other)], 0, True, 0.95)
    deltas = [value - key[1] for key, value in other.items()]
    error = statistics.stdev(deltas) / 2
    assert found[2] is not None and found[1] is not None and found[1].how == "same"
    assert found[2].p == pytest.approx(scipy_stats.ttest_1samp(deltas, 0).pvalue)
    assert found[2].detectable == pytest.approx(detectable(error, 3, 0.05))


def test_means_are_over_seeds_in_settings_that_all_levels_have() -> None:
    one = cells({(0, 1): 1.0, (0, 2): 3.0, (1, 1): 100.0})
    two = cells({(0, 1): 2.0})
    first, second = group_means([one, two], 0.95)
    low, high = scipy_stats.t.interval(0.95, 1, 2.0, scipy_stats.sem([1.0, 3.0]))
    assert first is not None and second is not None
    assert (first.value, first.low, first.high) == (2.0, pytest.approx(low), pytest.approx(high))
    assert (second.value, second.low, second.n) == (2.0, None, 1)
    assert group_means([{}, one], 0.95)[0] is None


def test_intervals_of_shares_end_where_shares_do() -> None:
    wide = Mean(0.1, -0.4, 1.2, 2)
    assert as_share(wide, {"format": "percent"}) == Mean(0.1, 0.0, 1.0, 2)
    assert as_share(wide, {"format": "number"}) == wide
    beyond = Mean(1.4, 0.9, 1.9, 2)
    assert as_share(beyond, {"format": "percent"}) == beyond
    assert as_share(None, {"format": "percent"}) is None


def test_a_trend_is_the_mean_slope_of_the_seeds_by_doublings() -> None:
    rng = random.Random(6)
    values = [
        {(0, s): 0.1 * math.log2(n) + s + rng.gauss(0, 0.02) for s in range(4)} for n in LEVELS
    ]
    levels, found = levels_and_trend(
        [cells(v) for v in values], [float(n) for n in LEVELS], 0, True, 0.95
    )
    assert found is not None and found.unit == "doubling"
    slopes = [
        scipy_stats.linregress(np.log2(LEVELS), [values[i][0, s] for i in range(4)]).slope
        for s in range(4)
    ]
    theirs = scipy_stats.ttest_1samp(slopes, 0)
    effect = found.effect
    assert effect.mean is not None and effect.verdict == "better"
    assert effect.mean.value == pytest.approx(np.mean(slopes))
    assert effect.mean.low == pytest.approx(theirs.confidence_interval(0.95).low)
    # One family with the differences from the first level.
    pairs = [[values[i][0, s] - values[0][0, s] for s in range(4)] for i in (1, 2, 3)]
    raw = [float(scipy_stats.ttest_1samp(own, 0).pvalue) for own in pairs]
    expected = holm([*raw, float(theirs.pvalue)])
    assert [one.p for one in (*levels, effect) if one] == pytest.approx(expected)
    error = statistics.stdev(slopes) / 2
    assert effect.detectable == pytest.approx(detectable(error, 3, 0.05 / 4))


def test_a_trend_over_settings_at_one_seed_is_no_test() -> None:
    """It takes no part in the family of the levels, which are none either."""
    values = [{(rest, 1): x + 0.01 * rest * x for rest in range(3)} for x in (1.0, 2.0, 3.0)]
    levels, found = levels_and_trend([cells(v) for v in values], [1, 2, 3], 0, True, 0.95)
    assert found is not None and found.effect.how == "settings"
    assert [e.p for e in (*levels, found.effect) if e] == [None, None, None]


def test_narrow_or_zero_levels_have_a_trend_over_their_range() -> None:
    levels = [0.0, 0.1, 0.4]
    values = [{(0, s): -2 * x + s for s in (1, 2)} for x in levels]
    _, found = levels_and_trend([cells(v) for v in values], levels, 0, True, 0.95)
    assert found is not None and found.unit == "range" and found.effect.mean is not None
    # From 0 to 0.4 at -2 each.
    assert found.effect.mean.value == pytest.approx(-0.8)
    two = [cells(v) for v in values[:2]]
    assert levels_and_trend(two, levels[:2], 0, True, 0.95)[1] is None
    incomplete = [cells(values[0]), cells({(0, 1): 1.0}), cells({(0, 2): 1.0})]
    assert levels_and_trend(incomplete, levels, 0, True, 0.95)[1] is None


def test_slope_is_numpy_s() -> None:
    rng = random.Random(7)
    x, y = [rng.random() for _ in range(9)], [rng.random() for _ in range(9)]
    assert slope(x, y) == pytest.approx(np.polyfit(x, y, 1)[0])


def test_trends_of_draws_are_those_of_least_squares() -> None:
    rng = np.random.default_rng(8)
    rates, drop_out = 10 ** rng.uniform(-6, -3, 14), rng.uniform(0.0, 0.3, 14)
    y = 0.3 * np.log2(rates) - drop_out + rng.normal(0, 0.2, 14)
    found = draw_trends([list(rates), list(drop_out)], list(y), True, 0.95)
    assert found is not None and [trend.unit for trend in found] == ["doubling", "doubling"]
    # The closed form by the normal equations, not by the solver under test.
    x = np.column_stack([np.ones(14), np.log2(rates), np.log2(drop_out)])
    inverse = np.linalg.inv(x.T @ x)
    beta = inverse @ x.T @ y
    error = np.sqrt(np.diag(inverse) * np.sum((y - x @ beta) ** 2) / 11)
    raw = 2 * scipy_stats.t.sf(np.abs(beta / error), 11)[1:]
    for trend, b, e, p in zip(found, beta[1:], error[1:], holm(list(raw)), strict=True):
        mean = trend.effect.mean
        assert mean is not None and mean.low is not None and mean.n == 14
        assert (mean.value, trend.effect.p) == (pytest.approx(b), pytest.approx(p))
        assert mean.value - mean.low == pytest.approx(scipy_stats.t.ppf(0.975, 11) * e)
    assert draw_trends([[1.0, 2.0], [3.0, 4.0]], [1.0, 2.0], True, 0.95) is None
    assert draw_trends([[1.0, 1.0, 1.0]], [1.0, 2.0, 3.0], True, 0.95) is None


# --- the answer --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scale(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sizes with three seeds; SFT is shared by two members each."""
    folder = tmp_path_factory.mktemp("sweeps") / "scale"
    factors = [Factor(ROWS, "rows", LEVELS)]
    rng = random.Random(9)
    members = make_members(
        folder, factors, score=lambda levels, seed: scale_score(levels[0], seed, rng), rows=6
    )
    share(folder, members, "sft", {m.name: str(i // 2) for i, m in enumerate(members)})
    return write(folder, factors, members, SFT)


def scale_score(rows: int, seed: int, rng: random.Random) -> float:
    return 0.2 + 0.05 * math.log2(rows / 100) + 0.03 * seed + rng.gauss(0, 0.004)


def scores_of(folder: Path, model: str = "sft", metric: str = "exact_match") -> dict[str, float]:
    """The scores by member, read without the code under test."""
    found = {}
    for path in sorted((folder / "members").glob("*/evaluate/summary.json")):
        summary = json.loads(path.read_text("utf-8"))
        for score in summary["scores"]:
            if (score["model"], score["metric"]) == (model, metric):
                found[path.parent.parent.name] = score["value"]
    return found


def test_the_first_sentence_is_the_sure_trend_with_its_interval(scale: Path) -> None:
    data, answer, said = answered(scale)
    scores = list(scores_of(scale).values())
    grid = np.array(scores).reshape(4, 3)
    slopes = [scipy_stats.linregress(np.log2(LEVELS), grid[:, s]).slope for s in range(3)]
    theirs = scipy_stats.ttest_1samp(slopes, 0)
    ends = theirs.confidence_interval(0.95)
    mean = 100 * np.mean(slopes)
    assert said[0].startswith(
        f"Exact match of SFT rises by {mean:.1f} points [{100 * ends.low:.1f}, "
        f"{100 * ends.high:.1f}] with every doubling of rows"
    )
    assert answer["sentence"]["en"] == said[0] and answer["question"] == {"en": QUESTION["en"]}
    assert answer["effect"] == pytest.approx(np.mean(slopes))
    assert answer["interval"] == pytest.approx([ends.low, ends.high])
    # One family: the levels against the first, and the trend.
    pairs = [grid[place] - grid[0] for place in (1, 2, 3)]
    raw = [float(scipy_stats.ttest_1samp(own, 0).pvalue) for own in pairs]
    family = holm([*raw, float(theirs.pvalue)])
    assert answer["p"] == pytest.approx(family[-1])
    assert (answer["n"], answer["basis"], answer["verdict"]) == (3, "seeds", "better")
    assert (answer["per"], answer["metric"], answer["model"]) == ("doubling", "exact_match", "SFT")
    told = [level["difference"]["p"] for level in answer["levels"][1:]]
    assert told == pytest.approx(family[:-1])
    assert [level["level"] for level in answer["levels"]] == ["100", "200", "400", "800"]
    assert answer["levels"][0]["difference"] is None
    assert data.outcome is not None and data.outcome.missing == ()


def test_both_languages_say_the_same(scale: Path) -> None:
    english = answered(scale)[2]
    with speaking("zh"):
        data = gather_sweep(scale, ReportConfig())
        chinese = [text for _, text in answer_sentences(data)]
        assert data.question == QUESTION["zh"]
    assert len(english) == len(chinese)
    digits = [sorted(part for part in text.split() if part[:1] in "[0") for text in english]
    assert digits and chinese[0].startswith("rows 每翻一倍，SFT 的")
    assert english[0].split("[")[1].split("]")[0] in chinese[0]


def test_what_was_shared_is_counted_from_the_manifests(scale: Path) -> None:
    (row,) = answered(scale)[0].sharing
    assert (row.stage, row.members, row.ran) == ("sft", 12, 6)
    total = sum(seconds_of(scale, f"shared/sft-{i}") for i in range(6))
    assert row.seconds == pytest.approx(total) and row.saved == pytest.approx(total)


def small(
    folder: Path, levels: list[Any], values: list[list[float]], key: str = ROWS, **options: Any
) -> Path:
    """A sweep over `levels` whose scores are given, [level][seed]."""
    factors = [Factor(key, key.rsplit(".", 1)[-1], levels)]
    seeds = range(1, len(values[0]) + 1)
    answer = options.pop("answer", SFT)
    members = make_members(
        folder, factors, list(seeds), rows=3, stages=("evaluate",),
        score=lambda level, seed: values[levels.index(level[0])][seed - 1], **options,
    )  # fmt: skip
    return write(folder, factors, members, answer)


def test_a_tie_says_what_could_have_been_seen(tmp_path: Path) -> None:
    values = [[0.40, 0.50, 0.45], [0.42, 0.47, 0.46]]
    _, answer, said = answered(small(tmp_path / "s", [100, 200], values))
    deltas = [b - a for a, b in zip(*values, strict=True)]
    theirs = scipy_stats.ttest_1samp(deltas, 0)
    smallest = detectable(statistics.stdev(deltas) / math.sqrt(3), 2, 0.05)
    assert smallest is not None
    assert said[0].startswith("The data can't tell rows = 200 from rows = 100: exact match of SFT")
    assert f"p = {theirs.pvalue:.3f}; over 3 seeds" in said[0]
    spread = "no proof of no effect: by the spread seen here, a true difference of"
    assert f"{spread} {100 * smallest:.1f} points" in said[0]
    assert answer["verdict"] == "tie"
    assert answer["detectable"] == pytest.approx(smallest, rel=1e-4)


def test_variants_are_held_against_the_one_that_is_named(tmp_path: Path) -> None:
    rng = random.Random(3)
    levels = ["none", "all", "half"]
    means = {"none": 0.3, "all": 0.5, "half": 0.4995}
    values = [[means[v] + 0.02 * s + rng.gauss(0, 0.004) for s in range(4)] for v in levels]
    folder = small(tmp_path / "s", levels, values, key=VARIANT, answer={**SFT, "reference": "all"})
    _, answer, said = answered(folder)
    assert said[0].startswith(
        "Against all, exact match of SFT (over 4 seeds, paired by seed): none"
    )
    assert "none worse, −" in said[0] and "No sure difference: half." in said[0]
    assert answer["verdict"] == "worse"
    assert (answer["level"], answer["reference"]) == ("none", "all")


def test_names_with_commas_stand_in_quotes(tmp_path: Path) -> None:
    values = [[0.40, 0.50, 0.45], [0.42, 0.47, 0.46], [0.41, 0.52, 0.44]]
    folder = small(tmp_path / "s", ["raw, large", "raw, small", "clean"], values, key=VARIANT)
    _, answer, said = answered(folder)
    assert said[0].startswith("The data can't tell any of “raw, small”, “clean” from “raw, large”")
    assert [level["level"] for level in answer["levels"]] == ["raw, large", "raw, small", "clean"]


def test_secrets_are_no_levels() -> None:
    assert "sk-1" not in shown_level("teacher.api_key", "sk-1")
    assert shown_level("teacher.model", "m-1") == "m-1"
    assert shown_level("train.sft.lora", {"r": 8}) == "{r: 8}"
    assert shown_level("lr", 0.000123456, drawn=True) == "0.000123"


def test_a_single_pair_is_not_the_largest_change(tmp_path: Path) -> None:
    """Level 400 ran with one seed; its larger change is not what the sentence is about."""
    values = [[0.40, 0.50, 0.45], [0.42, 0.47, 0.46], [0.90, 0.0, 0.0]]
    folder = small(tmp_path / "s", ["a", "b", "c"], values, key=VARIANT)
    file = json.loads((folder / "sweep.json").read_text())
    for member in file["members"][7:]:
        member["status"] = "failed"
    (folder / "sweep.json").write_text(json.dumps(file))
    _, answer, said = answered(folder)
    assert "with b (p = " in said[0] and answer["basis"] == "seeds"


def test_chinese_and_latin_words_are_set_apart() -> None:
    assert spaced("原样 的 SFT") == "原样 的 SFT"
    with speaking("zh"):
        assert spaced("与SFT 的分数，奖励模型 的3次") == "与 SFT 的分数，奖励模型的 3 次"
        assert spaced("共 3 次。 下表是 SFT 的。") == "共 3 次。下表是 SFT 的。"


def test_levels_with_fewer_repeats_are_not_told_as_more(tmp_path: Path) -> None:
    values = [[0.1, 0.2, 0.3], [0.6, 0.71, 0.79], [0.5, 0.61, 0.69]]
    folder = small(tmp_path / "s", [100, 110, 120], values)
    swept = read_sweep(folder)
    swept.members = [m for m in swept.members if (m.settings[ROWS], m.seed) != (120, 3)]
    write_sweep(folder, swept)
    _, _, said = answered(folder)
    told = next(one for one in said if one.startswith("Against rows = 100"))
    assert "over 2\u20133 seeds" in told


def test_seeds_of_a_part_alone_are_named(tmp_path: Path) -> None:
    folder = small(tmp_path / "s", [100, 200], [[0.4, 0.5], [0.5, 0.7]])
    assert reseeded(gather_sweep(folder, ReportConfig())) == ""
    recipe = folder / "recipe.resolved.yaml"
    recipe.write_text("sweep: {reseed: [train.sft.seed]}", encoding="utf-8")
    assert reseeded(gather_sweep(folder, ReportConfig())) == "train.sft.seed"
    recipe.write_text("a: [", encoding="utf-8")
    assert reseeded(gather_sweep(folder, ReportConfig())) == ""


def test_one_run_a_setting_falls_back_on_prompts_and_names_it(tmp_path: Path) -> None:
    from runs_fixture import row_scores

    folder = small(tmp_path / "s", [100, 200], [[0.4], [0.5]])
    data, answer, said = answered(folder)
    runs = [folder / "members" / member.name for member in data.members]
    one, two = (row_scores(run, "sft", "exact_match") for run in runs)
    deltas = [two[key] - one[key] for key in one]
    theirs = scipy_stats.ttest_1samp(deltas, 0)
    assert said[0].startswith(
        "One run a setting can't separate the effect from chance. On 3 prompts"
    )
    assert "not what another seed would give" in said[0]
    assert answer["basis"] == "prompts" and answer["verdict"] == "none" and answer["n"] == 3
    assert answer["effect"] == pytest.approx(statistics.mean(deltas))
    assert answer["interval"][0] == pytest.approx(theirs.confidence_interval(0.95).low)
    assert any("Each setting ran once" in notice.text for notice in data.notices)


def test_at_one_seed_other_settings_make_no_verdict(tmp_path: Path) -> None:
    """However far apart: all of them share the chance of that seed."""
    folder = tmp_path / "s"
    factors = [
        Factor(ROWS, "rows", [100, 200, 400]),
        Factor("train.sft.epochs", "epochs", [1, 2, 3]),
    ]
    members = make_members(
        folder, factors, (1,), rows=3, stages=("evaluate",),
        score=lambda level, _: 0.001 * level[0] + 0.01 * level[1] * math.sqrt(level[0]) / 10,
    )  # fmt: skip
    write(folder, factors, members, {**SFT, "factor": ROWS})
    _, answer, said = answered(folder)
    assert said[0].startswith("One seed can't separate effects from chance. Over 3 settings")
    assert len(said) == 1 and "400 +" in said[0] and " p " not in said[0]
    assert (answer["verdict"], answer["basis"], answer["p"]) == ("none", "settings", None)
    # The numbers are those of the sentence: a level, not the slope.
    assert (answer["per"], answer["level"], answer["reference"]) == (None, "400", "100")
    assert [level["difference"]["verdict"] for level in answer["levels"][1:]] == ["none", "none"]
    pair = write(
        folder, factors, [m for m in members if m.settings[ROWS] < 400], {**SFT, "factor": ROWS}
    )
    _, answer, said = answered(pair)
    assert said[0].startswith("One seed can't separate the effect from chance: over 3 settings")


def test_metrics_asked_for_beside_the_answer_have_their_own_sentence(tmp_path: Path) -> None:
    folder = small(tmp_path / "s", [100, 200], [[0.4, 0.5, 0.45], [0.6, 0.71, 0.66]])
    file = json.loads((folder / "sweep.json").read_text())
    changed = {**file["answer"], "also": ["token_f1", "nothing"]}
    (folder / "sweep.json").write_text(json.dumps({**file, "answer": changed}))
    data, answer, said = answered(folder)
    first, second = scores_of(folder, metric="token_f1"), answer["also"][0]
    values = list(first.values())
    deltas = [b - a for a, b in zip(values[:3], values[3:], strict=True)]
    theirs = scipy_stats.ttest_1samp(deltas, 0)
    assert second["metric"] == "token_f1" and second["p"] == pytest.approx(theirs.pvalue)
    assert second["effect"] == pytest.approx(statistics.mean(deltas))
    assert [one["metric"] for one in answer["also"]] == ["token_f1", "nothing"]
    assert "exact match of SFT" in said[0] and "oken F1 of SFT" in said[1]
    assert said[2].startswith("No finished member has sft/nothing")
    drop(folder / "members" / data.members[0].name, "sft", "token_f1")
    told = " ".join(notice.text for notice in gather_sweep(folder, ReportConfig()).notices)
    assert f"without token F1 of SFT: {data.members[0].name}" in told
    assert answer["also"][1]["verdict"] == "none" and answer["metric"] == "exact_match"
    page = build_sweep_page(folder, ReportConfig()).read_text(encoding="utf-8")
    told = page.split('id="told"')[1].split("</ul>")[0]
    assert told.count("<li") == 3 and "token F1 of SFT" in html.unescape(told).replace("\u2060", "")


def test_models_are_compared_within_each_member(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    members = make_members(folder, [], (1, 2, 3), rows=4, stages=("evaluate",))
    for place, member in enumerate(members):
        run = folder / "members" / member.name
        give(run, "sft", "exact_match", 0.30 + 0.1 * place)
        give(run, "ppo", "exact_match", 0.36 + 0.1 * place + 0.01 * (place == 1))
    write(folder, [], members, {"metric": "exact_match", "models": ["sft", "ppo"]})
    _, answer, said = answered(folder)
    theirs = scipy_stats.ttest_1samp([0.06, 0.07, 0.06], 0)
    assert said[0].startswith("PPO is better than SFT: exact match +6.3 points [4.9, 7.8]")
    assert answer["p"] == pytest.approx(theirs.pvalue) and answer["factor"] is None
    # With a single run the run's own comparison over prompts is told.
    write(folder, [], members[:1], {"metric": "reward", "models": ["sft", "ppo"]})
    _, answer, said = answered(folder)
    summary = json.loads(
        (folder / "members" / members[0].name / "evaluate/summary.json").read_text()
    )
    (entry,) = [
        one for one in summary["comparisons"]
        if {one["model"], one["baseline"]} == {"sft", "ppo"} and one["metric"] == "reward"
        and one["model"] == "ppo"
    ]  # fmt: skip
    assert answer["effect"] == pytest.approx(entry["difference"]) and answer["basis"] == "prompts"
    assert answer["verdict"] == "none"


def test_the_end_of_a_training_curve(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    factors = [Factor("train.reward.flip", "flip", [0.0, 0.4])]
    members = make_members(folder, factors, (1, 2), stages=("reward",))
    write(folder, factors, members, {"metric": "reward/accuracy:train"})
    _data, answer, said = answered(folder)
    ends = []
    for member in members:
        path = folder / "members" / member.name / "reward/metrics.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        ends.append(statistics.mean(row["accuracy"] for row in rows[-3:]))
    expected = statistics.mean([ends[2] - ends[0], ends[3] - ends[1]])
    assert answer["effect"] == pytest.approx(expected, abs=1e-4)
    assert "accuracy on pairs (training, end) of Reward model" in said[0]
    # A measure that has no better side is told as such.
    assert answer["higher_is_better"] is None


def test_a_random_search_tells_trends_and_the_best_draw(tmp_path: Path) -> None:
    rng = random.Random(2)
    draws = [(10 ** rng.uniform(-6, -4),) for _ in range(8)]
    factors = [
        Factor("train.sft.learning_rate", "learning_rate", sorted(d for (d,) in draws), True)
    ]
    folder = tmp_path / "s"
    members = make_members(
        folder, factors, (1,), rows=3, stages=("evaluate",), settings=draws,
        score=lambda level, _: 0.3 + 0.1 * math.log10(level[0] * 1e6) + rng.gauss(0, 0.01),
    )  # fmt: skip
    write(folder, factors, members, SFT)
    _data, answer, said = answered(folder)
    scores = list(scores_of(folder).values())
    theirs = scipy_stats.linregress(np.log2([d for (d,) in draws]), scores)
    assert "with every doubling of learning_rate" in said[0] and "over 8 draws" in said[0]
    assert answer["effect"] == pytest.approx(theirs.slope)
    assert answer["p"] == pytest.approx(theirs.pvalue)
    best = draws[scores.index(max(scores))][0]
    assert f"Best of 8 draws: learning_rate = {best:.3g}" in said[1]


# --- what can be wrong with members ------------------------------------------------------------


def test_failed_waiting_and_empty_members_are_told_and_left_out(tmp_path: Path) -> None:
    values = [[0.40, 0.50, 0.45], [0.52, 0.60, 0.56]]
    folder = small(tmp_path / "s", [100, 200], values)
    file = json.loads((folder / "sweep.json").read_text())
    file["members"][2].update(status="failed", stage="sft", error="Out of memory.\nhint: less")
    file["members"][5]["status"] = "waiting"
    (folder / "sweep.json").write_text(json.dumps(file))
    drop(folder / "members" / file["members"][4]["name"], "sft", "exact_match")
    data, answer, said = answered(folder)
    assert [member.name for member in data.left] == [file["members"][i]["name"] for i in (2, 5)]
    text = " ".join(notice.text for notice in data.notices)
    assert "Failed: 1 of 6 members" in text and "Not finished yet: 1 of 6 members" in text
    assert f"left out: {file['members'][4]['name']}." in text
    assert answer["members"] == {"total": 6, "done": 4, "failed": 1}
    # Only seed 1 has a pair left, so the interval is over its prompts.
    assert answer["basis"] == "prompts" and said[0].startswith("One run a setting")
    assert answer["effect"] == pytest.approx(0.12)


def test_a_done_member_without_results_is_reported_as_failed(tmp_path: Path) -> None:
    import shutil

    folder = small(tmp_path / "s", [100, 200], [[0.4, 0.5], [0.5, 0.7]])
    name = json.loads((folder / "sweep.json").read_text())["members"][1]["name"]
    shutil.rmtree(folder / "members" / name / "evaluate")
    data = gather_sweep(folder, ReportConfig())
    (left,) = data.left
    assert left.name == name and left.status == "failed" and "nothing to compare" in str(left.error)


def test_levels_measured_in_other_ways_or_on_other_prompts(tmp_path: Path) -> None:
    folder = small(tmp_path / "s", [100, 200], [[0.4, 0.5], [0.5, 0.7]])
    paths = sorted((folder / "members").glob("*/evaluate/summary.json"))
    for path in paths[2:]:
        summary = json.loads(path.read_text())
        summary["set"]["rows"] += 1
        path.write_text(json.dumps(summary))
    text = " ".join(n.text for n in gather_sweep(folder, ReportConfig()).notices)
    assert "evaluated on different prompts" in text
    for path in paths[2:]:
        summary = json.loads(path.read_text())
        for metric in summary["metrics"]:
            metric["signature"] += "|other"
        path.write_text(json.dumps(summary))
    _data, answer, said = answered(folder)
    assert said[0].startswith("The levels were measured in different ways")
    assert answer["verdict"] == "none" and answer["effect"] is None


@pytest.mark.parametrize(
    ("levels", "values", "begins"),
    [
        ([100], [[0.4, 0.5]], "Nothing but the seed was varied: exact match of SFT is 45.0 %"),
        ([100], [[0.4]], "There is one run: exact match of SFT is 40.0 %"),
        ([100, 200], [[0.4, 0.5], [0.5, 0.6]], "Exact match of SFT changes by +10.0 points"),
        ([100, 200], [[0.4, 0.5], [0.4, 0.5]], "No difference: exact match of SFT is the same"),
    ],
)
def test_sweeps_with_nothing_to_tell(
    tmp_path: Path, levels: list[int], values: list[list[float]], begins: str
) -> None:
    _, answer, said = answered(small(tmp_path / "s", levels, values))
    assert said[0].startswith(begins)
    assert answer["verdict"] == ("tie" if begins.startswith("No diff") else "none")


def test_an_answer_that_nobody_has_names_what_there_is(tmp_path: Path) -> None:
    folder = small(
        tmp_path / "s", [100, 200], [[0.4], [0.5]], answer={"metric": "nope", "model": "sft"}
    )
    data, answer, said = answered(folder)
    assert data.outcome is None
    assert said[0].startswith(
        "No finished member has sft/nope. There are: sft/reward, sft/exact_match"
    )
    assert answer["verdict"] == "none"


def test_nothing_finished_and_no_question(tmp_path: Path) -> None:
    folder = small(tmp_path / "s", [100, 200], [[0.4], [0.5]])
    file = json.loads((folder / "sweep.json").read_text())
    for member in file["members"]:
        member.update(status="failed", error=None)
    (folder / "sweep.json").write_text(json.dumps(file))
    page = build_sweep_page(folder)
    assert "No member of this sweep has finished" in page.read_text("utf-8")
    file["answer"], file["question"] = None, ""
    for member in file["members"]:
        member["status"] = "done"
    (folder / "sweep.json").write_text(json.dumps(file))
    build_sweep_page(folder)
    answer = json.loads((folder / "answer.json").read_text("utf-8"))
    assert answer["sentence"] == {"en": "", "zh": ""} and answer["verdict"] == "none"


def test_a_folder_without_a_sweep_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no sweep"):
        build_sweep_page(tmp_path)
    folder = small(tmp_path / "s", [100], [[0.4]], answer={"metric": "x"})
    with pytest.raises(InputError, match="'answer' can't be read"):
        build_sweep_page(folder)


# --- the page ----------------------------------------------------------------------------------


def test_the_page_is_written_whole_and_the_same_again(
    scale: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = build_sweep_page(scale)
    assert page == scale / "comparison.html"
    first = page.read_bytes()
    told = capsys.readouterr()
    assert QUESTION["en"] in told.err + told.out and "rises by" in told.err + told.out
    answer = json.loads((scale / "answer.json").read_text("utf-8"))
    assert answer["question"] == QUESTION and set(answer["sentence"]) == {"en", "zh"}
    build_sweep_page(scale)
    assert page.read_bytes() == first
    html = first.decode("utf-8")
    assert QUESTION["en"] in html and QUESTION["zh"] in html


def test_answers_stand_side_by_side_where_they_are_few(scale: Path) -> None:
    labels = [label for *_, label in answer_columns(answered(scale)[0])]
    assert labels == [f"SFT · rows = {n}" for n in LEVELS]


def test_the_command_knows_a_sweep_by_its_file(
    tmp_path: Path, scale: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(scale), "--output", str(tmp_path / "elsewhere.html")]) == 0
    said = capsys.readouterr()
    assert "elsewhere.html" in said.out + said.err and "rises by" in said.out + said.err
    run = str(next((scale / "members").iterdir()))
    assert main(["report", run, str(scale)]) == 2
    assert "A sweep has a page of its own" in capsys.readouterr().err


HOSTILE = "</script><img src=x onerror=window.hit=1>"


def test_hostile_names_and_errors_stay_text(tmp_path: Path) -> None:
    folder = small(tmp_path / "s", [HOSTILE, "b"], [[0.4, 0.5], [0.5, 0.7]], key=VARIANT)
    file = json.loads((folder / "sweep.json").read_text())
    file["question"] = HOSTILE
    file["members"][3].update(status="failed", error=HOSTILE + " api_key: sk-123", stage=HOSTILE)
    (folder / "sweep.json").write_text(json.dumps(file))
    html = build_sweep_page(folder).read_text("utf-8")
    assert "<img" not in html
