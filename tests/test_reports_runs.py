"""Comparisons of runs: what differs, repeats, effects, paired differences, the page itself."""

from __future__ import annotations

import json
import random
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import packed
import pyarrow.compute
import pyarrow.parquet
import pytest
from report_fixture import make_run
from runs_fixture import (
    PENALTIES,
    RATES,
    make_sweep,
    read_summary,
    row_scores,
    set_scores,
    write_recipe,
    write_summary,
)

from espalier.cli import main
from espalier.errors import InputError, UsageError
from espalier.reports.config import ReportConfig
from espalier.reports.runs_answers import columns_of, merged_answers
from espalier.reports.runs_curves import bands, curves_of
from espalier.reports.runs_data import RunsData, gather_runs, run_labels
from espalier.reports.runs_effects import effects, holm, setting_means, verdict
from espalier.reports.runs_page import build_comparison, default_page
from espalier.reports.runs_paired import MOST_RUNS
from espalier.reports.runs_recipes import changes, flat, read_options
from espalier.reports.runs_settings import Factor, Setting, Sweep, short_names, sweep_of
from espalier.reports.strings import speaking
from espalier.reports.student import incomplete_beta, mean_interval, paired, t_quantile, welch

scipy_stats = pytest.importorskip("scipy.stats")
scipy_special = pytest.importorskip("scipy.special")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_sweep(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def swept(sweep: list[Path]) -> RunsData:
    return gather_runs(sweep, ReportConfig())


# --- Student's t -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "x"), [(1, 0.5, 0.3), (5, 0.5, 0.9), (0.5, 0.5, 0.5), (40, 0.5, 0.99), (2.3, 7, 0.1)]
)
def test_incomplete_beta_is_scipy_s(a: float, b: float, x: float) -> None:
    assert incomplete_beta(a, b, x) == pytest.approx(scipy_special.betainc(a, b, x), rel=1e-10)


@pytest.mark.parametrize("freedom", [1, 2, 2.7, 9, 199])
@pytest.mark.parametrize("p", [0.9, 0.975, 0.9995])
def test_quantiles_are_scipy_s(p: float, freedom: float) -> None:
    assert t_quantile(p, freedom) == pytest.approx(scipy_stats.t.ppf(p, freedom), rel=1e-8)


def test_intervals_and_tests_are_scipy_s() -> None:
    rng = random.Random(5)
    a = [rng.gauss(0, 1) for _ in range(6)]
    b = [rng.gauss(0.7, 3) for _ in range(9)]
    one = mean_interval(a, 0.9)
    low, high = scipy_stats.t.interval(0.9, 5, np.mean(a), scipy_stats.sem(a))
    assert (one.low, one.high) == (pytest.approx(low), pytest.approx(high))
    found, p = welch(a, b, 0.95)
    theirs = scipy_stats.ttest_ind(b, a, equal_var=False)
    ends = theirs.confidence_interval(0.95)
    assert (found.value, found.low, found.high) == (
        pytest.approx(np.mean(b) - np.mean(a)), pytest.approx(ends.low), pytest.approx(ends.high),
    )  # fmt: skip
    assert p == pytest.approx(theirs.pvalue)
    differences = [y - x for x, y in zip(a, b, strict=False)]
    matched, p = paired(differences, 0.95)
    theirs = scipy_stats.ttest_1samp(differences, 0)
    assert p == pytest.approx(theirs.pvalue)
    assert matched.low == pytest.approx(theirs.confidence_interval(0.95).low)


def test_one_value_has_no_interval() -> None:
    assert mean_interval([3.0], 0.95).low is None
    assert welch([1.0], [2.0, 3.0], 0.95)[1] is None
    assert paired([0.5], 0.95)[1] is None
    assert paired([0.0, 0.0], 0.95)[1] is None


# --- recipes -----------------------------------------------------------------------------------


def test_lists_of_named_things_are_entered_by_name() -> None:
    value = {"models": [{"name": "a", "path": "x"}, {"name": "b", "path": "y"}], "n": [1, 2]}
    assert flat(value) == {"models[a].path": "x", "models[b].path": "y", "n": [1, 2]}
    assert flat({"models": [{"name": "a"}, {"name": "a"}]}) == {
        "models": [{"name": "a"}, {"name": "a"}]
    }


def found_changes(*recipes: dict[str, Any]) -> dict[str, tuple[str | None, ...]]:
    runs = [Path(f"runs/{place}") for place in range(len(recipes))]
    return {change.key: change.values for change in changes(recipes, runs)}


def test_what_differs_and_nothing_else() -> None:
    one = {"name": "one", "seed": 1, "train": {"sft": {"lr": 0.1, "on": "all"}}, "report": {"x": 1}}
    other = {"name": "two", "seed": 1, "train": {"sft": {"lr": 0.2, "on": "all"}}, "report": {}}
    assert found_changes(one, other) == {"train.sft.lr": ("0.1", "0.2")}
    assert found_changes(one, one) == {}


def test_a_section_that_one_recipe_lacks_is_one_key() -> None:
    lora = {"rank": 8, "alpha": 16, "dropout": 0.0}
    found = found_changes({"sft": {"lora": None}}, {"sft": {"lora": lora}}, {"sft": {}})
    assert list(found) == ["sft.lora"]
    assert found["sft.lora"][0] == "null"
    assert found["sft.lora"][2] is None
    assert json.loads(json.dumps(found["sft.lora"][1])).startswith("{")


def test_secrets_are_not_shown_and_folders_of_the_run_are_relative() -> None:
    recipes = [
        {"teacher": {"api_key": f"sk-{place}", "url": f"https://u:p{place}@host/"},
         "more": [{"token": f"sk-{place}", "n": place}], "path": f"runs/{place}/sft"}
        for place in range(2)
    ]  # fmt: skip
    found = found_changes(*recipes)
    text = json.dumps(found)
    assert "sk-" not in text and "p0@" not in text
    # The same place inside each run is no difference.
    assert "path" not in found


def test_null_is_a_value_and_absence_is_none() -> None:
    assert found_changes({"x": None, "y": 1}, {"x": 0}) == {"x": ("null", "0"), "y": ("1", None)}
    assert found_changes({"x": None}, {"x": 0}) == {"x": ("null", "0")}


def test_without_a_recipe_the_manifests_speak(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", stages=("sft",))
    (run / "recipe.resolved.yaml").unlink()
    path = run / "sft/manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    manifest["fingerprint"] = {"options": {"epochs": 3}}
    path.write_text(json.dumps(manifest), encoding="utf-8")
    assert read_options(run) == {"train": {"sft": {"epochs": 3}}, "seed": 1}


def test_a_broken_recipe_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", stages=("sft",))
    (run / "recipe.resolved.yaml").write_text("a: [1", encoding="utf-8")
    with pytest.raises(InputError, match=r"recipe of a run can't be read") as caught:
        read_options(run)
    assert "recipe.resolved.yaml" in str(caught.value)


def test_short_names_are_as_short_as_they_can_be() -> None:
    keys = ["train.sft.lr", "train.ppo.lr", "train.ppo.kl", "lr"]
    assert short_names(keys) == {
        "train.sft.lr": "sft.lr", "train.ppo.lr": "ppo.lr", "train.ppo.kl": "kl", "lr": "lr",
    }  # fmt: skip


# --- settings and effects ----------------------------------------------------------------------


def test_seeds_make_repeats_and_keys_that_change_together_are_one_factor() -> None:
    recipes = [
        {"seed": seed, "lr": lr, "batch": batch, "kl": kl}
        for seed, lr, batch, kl in [(1, 9, 32, "a"), (2, 9, 32, "a"), (1, 10, 64, "a"),
                                    (2, 10, 64, "b")]
    ]  # fmt: skip
    found = sweep_of(changes(recipes, [Path(str(i)) for i in range(4)]), 4)
    assert [factor.keys for factor in found.factors] == [("lr", "batch"), ("kl",)]
    assert [setting.runs for setting in found.settings] == [(0, 1), (2,), (3,)]
    assert found.seeds == (("1",), ("2",), ("1",), ("2",))


def test_levels_of_numbers_are_in_their_order() -> None:
    recipes = [{"lr": lr} for lr in (0.01, 2e-05, 10)]
    (factor,) = sweep_of(changes(recipes, [Path(str(i)) for i in range(3)]), 3).factors
    assert factor.numbers == (2e-05, 0.01, 10.0)
    assert factor.place == (1, 0, 2)


def grid(values: dict[tuple[int, int, int], float]) -> tuple[Sweep, list[float]]:
    """A sweep over two factors and seeds from {(level, level, seed): value}."""
    runs = list(values)
    levels = (("0",), ("1",))
    factors = tuple(
        Factor((name,), name, levels, tuple(run[place] for run in runs), (0.0, 1.0))
        for place, name in enumerate("ab")
    )
    cells: dict[tuple[int, ...], list[int]] = {}
    for place, run in enumerate(runs):
        cells.setdefault(run[:2], []).append(place)
    settings = tuple(Setting(tuple(places), key) for key, places in cells.items())
    return Sweep(factors, settings, tuple((str(run[2]),) for run in runs)), list(values.values())


def test_effects_are_paired_by_seed_within_equal_settings() -> None:
    rng = random.Random(2)
    values = {
        (a, b, seed): 3 * seed + 0.5 * a + rng.gauss(0, 0.1)
        for a in (0, 1) for b in (0, 1) for seed in (1, 2, 3)
    }  # fmt: skip
    found, plain = grid(values)
    first, second = effects(found, plain, 0.95)
    matched = [values[1, b, s] - values[0, b, s] for b in (0, 1) for s in (1, 2, 3)]
    theirs = scipy_stats.ttest_1samp(matched, 0)
    assert first.how == "paired" and first.mean is not None and first.mean.n == 6
    assert first.mean.value == pytest.approx(statistics.mean(matched))
    assert first.mean.high == pytest.approx(theirs.confidence_interval(0.95).high)
    other = [values[a, 1, s] - values[a, 0, s] for a in (0, 1) for s in (1, 2, 3)]
    raw = [theirs.pvalue, scipy_stats.ttest_1samp(other, 0).pvalue]
    assert [first.p_value, second.p_value] == pytest.approx(holm(raw))
    assert verdict(first.mean, first.p_value, True, 0.95) == "better"
    assert verdict(first.mean, first.p_value, False, 0.95) == "worse"


def test_other_seeds_are_compared_without_pairing() -> None:
    values = {(0, 0, 1): 1.0, (0, 0, 2): 1.4, (1, 0, 3): 2.0, (1, 0, 4): 2.6, (1, 0, 5): 2.1}
    found, plain = grid(values)
    (effect, *_) = effects(found, plain, 0.95)
    theirs = scipy_stats.ttest_ind([2.0, 2.6, 2.1], [1.0, 1.4], equal_var=False)
    assert effect.how == "welch" and effect.mean is not None
    assert effect.mean.value == pytest.approx(2.2333333 - 1.2)
    # Holm over the one comparison that has a p.
    assert effect.p_value == pytest.approx(theirs.pvalue)


def test_rounding_alone_is_no_difference() -> None:
    """0.1 + 0.2 and 0.3 with every seed: no p-value comes of that."""
    found, plain = grid({(a, 0, s): 0.1 * s + (0.2 if a else 0.1 + 0.1) for a in (0, 1)
                         for s in (1, 2, 3)})  # fmt: skip
    plain[3:] = [value + 1e-16 for value in plain[3:]]
    (effect, *_) = effects(found, plain, 0.95)
    assert effect.mean is not None and effect.mean.value == 0
    assert verdict(effect.mean, effect.p_value, True, 0.95) == "tie"


def test_a_factor_that_never_changes_alone_has_no_effect() -> None:
    found, plain = grid({(0, 0, 1): 1.0, (1, 1, 1): 2.0})
    assert {effect.how for effect in effects(found, plain, 0.95)} == {"none"}


def test_runs_without_a_value_are_left_out() -> None:
    found, _ = grid({(0, 0, 1): 1.0, (0, 0, 2): 2.0, (1, 0, 1): 3.0})
    means = setting_means(found, [1.0, None, None], 0.95)
    assert means[0] is not None and (means[0].value, means[0].n) == (1.0, 1)
    assert means[1] is None


def test_holm_by_hand() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == [0.03, None, 0.06, 0.06]


# --- paired over prompts -----------------------------------------------------------------------


def compared(
    comparisons: list[dict[str, Any]], target: str, run: int, reference: int
) -> dict[str, Any]:
    wanted = (target, run, reference)
    (found,) = [c for c in comparisons if (c["target"], c["run"], c["reference"]) == wanted]
    return found


def test_two_runs_are_compared_on_common_prompts(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", stages=("evaluate",), rows=40, seed=1)
    b = make_run(tmp_path / "b", stages=("evaluate",), rows=30, seed=2)
    data = gather_runs([a, b], ReportConfig())
    one, two = row_scores(a, "ppo", "reward"), row_scores(b, "ppo", "reward")
    deltas = [two[key] - one[key] for key in two]
    theirs = scipy_stats.ttest_1samp(deltas, 0)
    found = compared(data.comparisons, "ppo/reward", 1, 0)
    assert found["n"] == 30
    assert found["difference"] == pytest.approx(statistics.mean(deltas))
    assert found["low"] == pytest.approx(theirs.confidence_interval(0.95).low, rel=1e-6)
    turned = compared(data.comparisons, "ppo/reward", 0, 1)
    assert turned["difference"] == -found["difference"]
    assert turned["high"] == -found["low"]


def test_p_values_are_corrected_over_all_of_one_reference(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / n, stages=("evaluate",), rows=25, seed=i) for i, n in enumerate("ab")
    ]
    data = gather_runs(runs, ReportConfig())
    family = [c for c in data.comparisons if c["reference"] == 0]
    raw = []
    for c in family:
        model, metric = c["target"].split("/")
        one, two = (row_scores(run, model, metric) for run in runs)
        deltas = [two[key] - one[key] for key in one]
        raw.append(scipy_stats.ttest_1samp(deltas, 0).pvalue if len(set(deltas)) > 1 else 1.0)
    assert [c["p_value"] for c in family] == pytest.approx(holm(raw), rel=1e-6)
    for c in family:
        assert (c["verdict"] == "tie") == (c["p_value"] >= 0.05)


@pytest.mark.parametrize("rows", [2, 8])
def test_equal_differences_are_tested_by_their_signs(tmp_path: Path, rows: int) -> None:
    """Student's test has no scale there; two prompts alone can't tell, however equal they are."""
    a = make_run(tmp_path / "a", stages=("evaluate",), rows=rows, seed=1)
    b = make_run(tmp_path / "b", stages=("evaluate",), rows=rows, seed=1)
    path = b / "evaluate/scores.parquet"
    table = pyarrow.parquet.read_table(path)
    place = table.schema.get_field_index("reward")
    moved = pyarrow.compute.add(table["reward"], pyarrow.scalar(0.5, table["reward"].type))
    pyarrow.parquet.write_table(table.set_column(place, "reward", moved), path)
    summary = read_summary(b)
    for score in summary["scores"]:
        if score["metric"] == "reward":
            score["value"] += 0.5
    write_summary(b, summary)
    comparisons = gather_runs([a, b], ReportConfig()).comparisons
    found = compared(comparisons, "ppo/reward", 1, 0)
    theirs = scipy_stats.permutation_test(
        ([0.5] * rows,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    # The models' rewards make the smallest p of the family, so Holm multiplies it by its size.
    tests = sum(c["p_value"] is not None for c in comparisons if c["reference"] == 0)
    assert found["p_value"] == pytest.approx(min(1.0, theirs.pvalue * tests))
    assert found["verdict"] == ("better" if found["p_value"] < 0.05 else "tie")


def test_repeated_prompts_count_as_one_draw(tmp_path: Path) -> None:
    """With every row twice the interval stays as wide as with every row once."""

    runs = [
        make_run(tmp_path / n, stages=("evaluate",), rows=20, seed=i) for i, n in enumerate("ab")
    ]
    once = {c["target"]: c for c in gather_runs(runs, ReportConfig()).comparisons if c["run"] == 1}
    for run in runs:
        path = run / "evaluate/scores.parquet"
        rows = pyarrow.parquet.read_table(path).to_pylist()
        rows += [{**row, "id": row["id"] + "b"} for row in rows]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    data = gather_runs(runs, ReportConfig())
    for c in data.comparisons:
        if c["run"] == 1:
            assert c["n"] == 40
            assert c["low"] == pytest.approx(once[c["target"]]["low"])


def test_scores_that_are_no_means_or_measured_otherwise_are_not_compared(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / n, stages=("evaluate",), rows=12, seed=i) for i, n in enumerate("ab")
    ]
    summary = read_summary(runs[0])
    for score in summary["scores"]:
        if score["metric"] == "bleu":
            score["value"] += 1.0
    for metric in summary["metrics"]:
        if metric["name"] == "reward":
            metric["signature"] += "|other"
    write_summary(runs[0], summary)
    data = gather_runs(runs, ReportConfig())
    metrics = {c["target"].split("/")[1] for c in data.comparisons}
    assert "bleu" not in metrics and "reward" not in metrics and "exact_match" in metrics
    assert any("Held-out reward was measured in different ways" in n.text for n in data.notices)


def test_with_many_runs_only_the_first_is_a_reference(swept: RunsData) -> None:
    assert len(swept.labels) > MOST_RUNS
    assert {c["reference"] for c in swept.comparisons} == {0}


# --- the whole ---------------------------------------------------------------------------------


def test_a_sweep_finds_what_was_varied(sweep: list[Path], swept: RunsData) -> None:
    data = swept
    assert {change.key for change in data.changes} == {
        "seed", "train.ppo.learning_rate", "train.ppo.kl_coefficient",
    }  # fmt: skip
    by_label = {factor.label: factor for factor in data.sweep.factors}
    assert by_label["learning_rate"].numbers == RATES
    assert by_label["kl_coefficient"].numbers == PENALTIES
    assert [len(setting.runs) for setting in data.sweep.settings] == [3, 3, 3, 3]
    for target in data.targets:
        if target.name == "ppo/reward":
            for setting, mean in zip(data.sweep.settings, data.means[target.name], strict=True):
                values = [statistics.mean(row_scores(sweep[run], "ppo", "reward").values())
                          for run in setting.runs]  # fmt: skip
                assert mean is not None and mean.value == pytest.approx(statistics.mean(values))
    assert "held-out reward of PPO" in data.best[0][1] and data.best[0][1] in data.told


def test_bands_are_over_common_steps() -> None:
    found, _ = grid({(0, 0, 1): 0.0, (0, 0, 2): 0.0, (1, 0, 1): 0.0})
    lines = {0: ([1, 2, 3], [1.0, 4.0, 9.0]), 1: ([2, 3, 4], [2.0, 5.0, 6.0]), 2: ([1, 2], [0, 0])}
    assert bands(lines, found, 100) == [
        {"setting": 0, "x": [2, 3], "y": [3, 7], "low": [2.0, 5.0], "high": [4.0, 9.0]}
    ]


def test_a_line_named_as_its_chart_is_named_once() -> None:
    found, _ = grid({(0, 0, 1): 0.0, (0, 0, 2): 0.0})
    line = {"split": "train", "x": [1, 2], "y": [3.0, 4.0]}
    series = [{"label": name, **line} for name in ("Tokens a second", "Trained tokens a second")]
    chart = {"key": "speed", "title": "Tokens a second", "minor": False, "series": series}
    stages = [{"stage": "sft", "label": "SFT", "charts": [chart]}]
    (stage,) = curves_of([stages, stages], found, 100)
    assert [one["part"] for one in stage["charts"]] == ["", "Trained tokens a second"]


def test_names_of_runs_are_told_apart(tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "demo", tmp_path / "b" / "demo", tmp_path / "c"]
    assert run_labels(folders) == ["a/demo", "b/demo", "c"]


def test_notices_tell_what_makes_runs_hard_to_compare(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", stages=("sft", "evaluate"), rows=8)
    b = make_run(tmp_path / "b", stages=("sft", "evaluate"), rows=9)
    (b / "sft/manifest.json").unlink()
    summary = read_summary(b)
    summary["set"]["sha256"] = "cd" * 32
    write_summary(b, summary)
    texts = " ".join(n.text for n in gather_runs([a, b], ReportConfig()).notices)
    for part in ("different sets of prompts", "recipes are the same", "Not finished", "offline"):
        assert part in texts
    with speaking("zh"):
        chinese = " ".join(n.text for n in gather_runs([a, b], ReportConfig()).notices)
    assert "不同的提示集" in chinese and "different sets" not in chinese


def test_runs_with_the_same_seeds_are_no_repeats(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / n, stages=("evaluate",), rows=4, seed=i) for i, n in enumerate("abc")
    ]
    for run, rate in zip(runs, (0.1, 0.1, 0.2), strict=True):
        write_recipe(run, learning_rate=rate)
    assert any(
        "no independent repeats" in n.text for n in gather_runs(runs, ReportConfig()).notices
    )


def test_answers_of_runs_stand_in_one_table(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", stages=("evaluate",), rows=10, seed=1)
    b = make_run(tmp_path / "b", stages=("evaluate",), rows=12, seed=2)
    summaries = [read_summary(run) for run in (a, b)]
    columns = columns_of(["a", "b"], summaries)
    assert [label for *_, label in columns][-2:] == ["PPO · a", "PPO · b"]
    table = merged_answers([a, b], summaries, columns, None)
    assert table is not None and table.count == 12
    place = table.models.index("2/ppo")
    truth = row_scores(b, "ppo", "exact_match")
    for identity, row in table.rows.items():
        assert table.values["exact_match"][place, row] == truth[identity]
    first = table.values["exact_match"][table.models.index("1/ppo")]
    assert np.isnan(first).sum() == 2


def test_the_same_ids_of_other_prompts_are_other_rows(tmp_path: Path) -> None:

    a, b = (make_run(tmp_path / n, stages=("evaluate",), rows=10, seed=1) for n in "ab")
    path = b / "evaluate/scores.parquet"
    rows = pyarrow.parquet.read_table(path).to_pylist()
    ids = list(dict.fromkeys(row["id"] for row in rows))
    for row in rows:
        if row["id"] in ids[:4]:
            row["prompt"] += " Now."
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    summaries = [read_summary(run) for run in (a, b)]
    table = merged_answers([a, b], summaries, columns_of(["a", "b"], summaries), None)
    assert table is not None
    assert list(table.rows) == [*ids, *(f"{one} (2)" for one in ids[:4])]
    there = {
        name: np.isfinite(table.values["exact_match"][place])
        for place, name in enumerate(table.models)
    }
    assert there["1/ppo"].tolist() == [True] * 10 + [False] * 4
    assert there["2/ppo"].tolist() == [False] * 4 + [True] * 10
    texts = json.loads(table.texts(table.rows[f"{ids[0]} (2)"]))
    (told,) = {row["prompt"] for row in rows if row["id"] == ids[0]}
    (answer,) = {
        row["answer"] for row in rows if (row["id"], row["model"]) == (ids[0], table.models[1][2:])
    }
    assert table.models[:2] == ["1/base", "2/base"]
    assert texts[0] == told and texts[2:4] == [None, answer]
    # Only the others are compared.
    pair = compared(gather_runs([a, b], ReportConfig()).comparisons, "ppo/exact_match", 1, 0)
    assert pair["n"] == 6


def test_of_many_runs_no_answers_are_shown() -> None:
    models = {"models": [{"name": "m", "label": "M"}]}
    assert columns_of(list("abcdefghi"), [models] * 9) == []
    assert len(columns_of(list("abcdefgh"), [models] * 8)) == 8
    two = {"models": [{"name": "m", "label": "M"}, {"name": "n", "label": "N"}]}
    assert [name for _, name, _ in columns_of(list("abcde"), [two] * 5)] == ["n"] * 5


def test_the_page_is_written_whole_and_holds_the_answers(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / n, stages=("sft", "evaluate"), rows=6, seed=i)
        for i, n in enumerate("ab")
    ]
    page = tmp_path / "page.html"
    build_comparison(runs, ReportConfig(), page)
    first = page.read_bytes()
    build_comparison(runs, ReportConfig(), page)
    assert page.read_bytes() == first
    html = first.decode("utf-8")
    scripts = {
        name: html.split(f'id="{name}">')[1].split("</script>")[0]
        for name in ("packed-answers", "packed-texts")
    }
    found = packed.answers(scripts["packed-answers"], scripts["packed-texts"])
    assert {model["name"] for model in found["models"]} >= {"1/ppo", "2/ppo"}
    assert default_page(runs) == tmp_path.resolve() / "comparison.html"


@pytest.mark.parametrize("text", ["</script><script>x", "<img src=x onerror=x>", "\u202e\u0000"])
def test_hostile_text_of_a_recipe_or_run_stays_text(tmp_path: Path, text: str) -> None:
    name = text.replace("/", "∕").replace("\u0000", "")
    runs = [
        make_run(
            tmp_path / f"{name}{i}", stages=("evaluate",), rows=3, change=lambda _: text, seed=i
        )
        for i in range(2)
    ]
    write_recipe(runs[0], note=text.replace("\u0000", ""))
    build_comparison(runs, ReportConfig(), tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text("utf-8")
    assert "<img" not in html and "<script>x" not in html


def test_the_command_compares_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sweep: list[Path]
) -> None:
    page = tmp_path / "sweep.html"
    names = [str(run) for run in sweep[:2]]
    assert main(["report", *names, "--output", str(page)]) == 0
    said = capsys.readouterr()
    assert "sweep.html" in said.out + said.err and page.is_file()


WRONG = [
    (["{a}", "{a}"], "named twice"),
    (["{a}", "{none}"], "no such run folder"),
    (["{a}", "{empty}"], "nothing to compare"),
    (["{a}", "{b}", "--set", "x=1"], "--set, --run and --small go with --recipe"),
    (["{a}", "{b}", "--small"], "--set, --run and --small go with --recipe"),
    (["{a}", "{b}", "--output", "{empty}"], "--output names a folder"),
    (["{a}", "--data", "{b}"], "only one of them"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[m for _, m in WRONG])
def test_wrong_usage_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    places = {
        "a": make_run(tmp_path / "a", stages=("evaluate",), rows=2),
        "b": make_run(tmp_path / "b", stages=("evaluate",), rows=2),
        "none": tmp_path / "none",
        "empty": tmp_path / "empty",
    }
    places["empty"].mkdir()
    assert main(["report", *(part.format(**places) for part in arguments)]) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_the_same_folder_under_two_names_is_named_twice(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", stages=("evaluate",), rows=2)
    with pytest.raises(UsageError, match="named twice"):
        build_comparison([run, run / ".." / "a"], ReportConfig(), tmp_path / "x.html")


def test_changed_row_scores_change_the_verdict(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", stages=("evaluate",), rows=30, seed=1)
    b = make_run(tmp_path / "b", stages=("evaluate",), rows=30, seed=1)
    raised = {
        key: value + 1 + 0.01 * int(key, 16)
        for key, value in row_scores(b, "ppo", "reward").items()
    }
    set_scores(b, "ppo", "reward", raised)
    data = gather_runs([a, b], ReportConfig())
    (first, *_) = [v for model, v in data.verdicts if model == "PPO"]
    assert first.sentence.startswith("b beats a on held-out reward by 1.1")
    others = [c for c in data.comparisons if c["target"] != "ppo/reward"]
    assert {c["verdict"] for c in others} == {"tie"}
