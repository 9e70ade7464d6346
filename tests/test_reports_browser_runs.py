"""The comparison of runs in a browser, offline: every control is driven, its effect counted."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import (
    WIDTHS,
    Visit,
    axe,
    broken_words,
    browser,
    overflowing,
    rows_of,
    until,
    visits,
)
from report_fixture import make_run
from runs_fixture import PENALTIES, RATES, make_sweep, row_scores, set_scores, write_recipe

from espalier.reports.config import ReportConfig
from espalier.reports.runs_page import build_comparison
from espalier.reports.strings import words

pytestmark = pytest.mark.browser

__all__ = ["browser"]

HOSTILE = "<img src=x onerror=window.hit=1>"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_sweep(tmp_path_factory.mktemp("sweep"), rows=12)


@pytest.fixture(scope="module")
def sweep(runs: list[Path]) -> Path:
    page = runs[0].parent / "sweep.html"
    build_comparison(runs, ReportConfig(), page)
    return page


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Two runs, the second with a far better reward of PPO, and their page."""
    folder = tmp_path_factory.mktemp("pair")
    a = make_run(folder / "old", rows=24, stages=("sft", "ppo", "evaluate"), seed=1)
    b = make_run(folder / "new", rows=24, stages=("sft", "ppo", "evaluate"), seed=1)
    write_recipe(a, kl_coefficient=0.05, note=HOSTILE)
    write_recipe(b, kl_coefficient=0.2, note="plain")
    values = row_scores(b, "ppo", "reward")
    set_scores(b, "ppo", "reward", {k: v + 2 + 0.01 * int(k, 16) for k, v in values.items()})
    page = folder / "pair.html"
    build_comparison([a, b], ReportConfig(), page)
    return a, b, page


visit = visits("sweep")


@pytest.fixture
def two(browser: Any, pair: tuple[Path, Path, Path]) -> Iterator[Visit]:
    found = Visit(browser, pair[2])
    yield found
    assert found.page.evaluate("window.hit") is None
    found.close()
    assert found.problems == []


def test_options_that_differ_are_shown_and_found(visit: Visit) -> None:
    page = visit.open()
    table = rows_of(page, "#changes-view")
    assert [row[0].replace("\u200b", "") for row in table] == [
        "train.ppo.kl_coefficient", "train.ppo.learning_rate",
    ]  # fmt: skip
    # Repeats share a column: four settings.
    assert table[1][1:] == ["0.0001", "0.0001", "0.001", "0.001"]
    page.check("input[name=seeds]")
    assert len(rows_of(page, "#changes-view")) == 3
    assert "seeds=1" in page.url
    page.fill("input[name=key]", "LEARNING")
    until(page, lambda: len(rows_of(page, "#changes-view")) == 1)
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.locator("input[name=key]").input_value() == "LEARNING"
    assert len(rows_of(page, "#changes-view")) == 1


def test_scores_of_each_run_stand_beside_each_other(visit: Visit, runs: list[Path]) -> None:
    page = visit.open()
    assert len(rows_of(page, "#run-scores")) == 2 * len(runs)
    page.select_option("select[name=model]", "ppo")
    assert "model=ppo" in page.url
    table = page.evaluate(
        """() => { const table = document.querySelector("#run-scores table");
            const place = [...table.tHead.rows[0].cells].findIndex(
                (c) => c.innerText.startsWith("Exact match"));
            return [...table.tBodies[0].rows].map((row, i) =>
                row.cells[place - (i ? 1 : 0)].querySelector(".value").innerText); }"""
    )  # fmt: skip
    truth = [100 * statistics.mean(row_scores(run, "ppo", "exact_match").values()) for run in runs]
    assert table == [f"{value:.1f} %" for value in truth]
    charts = page.locator("#run-trends figure").count()
    marks = page.locator("#run-trends figure >> nth=0 >> circle")
    until(page, lambda: marks.count() == len(runs))
    assert charts == 7


def test_marks_compare_with_the_chosen_run(two: Visit, pair: tuple[Path, Path, Path]) -> None:
    page = two.open()
    lead = page.locator(".verdicts li").first.inner_text()
    assert lead.startswith("▲") and "new beats old on held-out reward by 2.1" in lead
    assert page.locator("#run-scores .mark.better").count() == 1
    assert page.locator("#run-scores .mark.worse").count() == 0
    page.select_option("select[name=ref]", "1")
    assert "ref=1" in page.url
    assert page.locator("#run-scores .mark.better").count() == 0
    mark = page.locator("#run-scores .mark.worse")
    assert mark.count() == 1
    one, two_scores = (row_scores(run, "ppo", "reward") for run in pair[:2])
    mean = statistics.mean(two_scores[key] - one[key] for key in one)
    shown = float(mark.inner_text().split()[1].replace("−", "-"))
    assert shown == pytest.approx(-mean, abs=0.006)
    assert "p < 0.001" in (mark.get_attribute("title") or "").replace("= ", "")
    assert "(Student's t)" in (mark.get_attribute("title") or "")
    page.select_option("select[name=order]", "time")
    assert "order=time" in page.url


def test_a_sweep_shows_levels_ranks_and_effects(visit: Visit, runs: list[Path]) -> None:
    page = visit.open()
    assert page.locator("select[name=target]").input_value() == "ppo/reward"
    means = {
        (rate, penalty): statistics.mean(
            statistics.mean(row_scores(run, "ppo", "reward").values())
            for run in runs
            if run.name.startswith(f"rate{rate:g}-kl{penalty:g}-")
        )
        for rate in RATES
        for penalty in PENALTIES
    }
    order = sorted(means, key=lambda key: -means[key])
    table = rows_of(page, "#sweep-ranking")
    by_name = {tuple(sorted(map(float, row[1:3]))) for row in table[:1]}
    assert by_name == {tuple(sorted(order[0]))}
    assert [row[4].split(" ")[0] for row in table] == [
        f"{means[key]:.2f}".replace("-", "−") for key in order
    ]
    # Points: a mean for each setting, and its three runs.
    until(page, lambda: page.locator("#sweep-chart circle").count() == 4 + 12)
    page.click("#sweep-ranking button[data-column='0']")
    assert "rank=0" in page.url
    assert (
        page.locator("#sweep-ranking th[aria-sort=ascending] button").get_attribute("data-column")
        == "0"
    )
    values = [float(row[1]) for row in rows_of(page, "#sweep-ranking")]
    assert values == sorted(values)
    page.keyboard.press("Enter")
    values = [float(row[1]) for row in rows_of(page, "#sweep-ranking")]
    assert values == sorted(values, reverse=True)
    effects = rows_of(page, "#sweep-effects")
    assert len(effects) == 2 and all(
        "6 pairs of runs with the same seeds" in row[-1] for row in effects
    )
    page.select_option("select[name=target]", "sft/loss:eval")
    assert "t=sft" in page.url
    assert "Loss" in page.locator("#sweep-chart .chart-title").inner_text()
    page.select_option("select[name=factor]", "1")
    assert "f=1" in page.url


@pytest.mark.slow
@pytest.mark.ci_slice
def test_learning_curves_by_run_or_by_setting(visit: Visit, runs: list[Path]) -> None:
    page = visit.open()
    chart = page.locator("#run-curves figure").first
    until(page, lambda: chart.locator("path.line").count() == 4)
    assert chart.locator("path.band").count() == 4
    page.select_option("select[name=lines]", "runs")
    until(page, lambda: chart.locator("path.line").count() == len(runs))
    until(page, lambda: page.locator("#run-curves path.band").count() == 0)
    page.select_option("select[name=colour]", "run")
    keys = page.locator(".run-keys button")
    assert keys.count() == len(runs)
    keys.nth(0).click()
    assert "off=0" in page.url
    assert keys.nth(0).get_attribute("aria-pressed") == "false"
    until(page, lambda: chart.locator("path.line").count() == len(runs) - 1)
    page.select_option("select[name=stage]", "sft")
    titles = page.locator("#run-curves .chart-title").all_inner_texts()
    assert "Loss · validation" in titles
    page.select_option("select[name=scale]", "log")
    assert "scale=log" in page.url
    page.reload()
    page.wait_for_selector("html[data-ready]")
    until(page, lambda: chart.locator("path.line").count() == len(runs) - 1)


@pytest.mark.slow
@pytest.mark.ci_slice
def test_the_values_of_a_curve_are_read_by_keys_and_pointer(visit: Visit) -> None:
    page = visit.open()
    chart = page.locator("#run-curves figure").first
    read = chart.locator("figcaption .num")
    chart.locator("svg").focus()
    page.keyboard.press("ArrowLeft")
    assert read.inner_text().startswith("step 30")
    page.keyboard.press("ArrowLeft")
    assert read.inner_text().startswith("step 29")
    first = read.inner_text()
    page.keyboard.press("ArrowDown")
    assert read.inner_text() != first
    box = chart.locator("svg").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert read.inner_text().startswith("step 1")
    page.mouse.move(0, 0)
    assert read.inner_text() == "by step"


@pytest.mark.slow
@pytest.mark.ci_slice
def test_answers_of_two_runs_stand_side_by_side(two: Visit) -> None:
    page = two.open("#answers&q=Item")
    page.wait_for_selector("#answers-browser [role=list], #answers-browser article")
    text = page.locator("#answers").inner_text()
    assert "PPO · old" in text and "PPO · new" in text
    assert "24" in text


@pytest.mark.slow
@pytest.mark.ci_slice
def test_broken_values_in_the_address_fall_back(visit: Visit) -> None:
    page = visit.open(
        "#sweep&t=%22%3E&f=99&rank=x&ref=-1&model=__proto__&lines=&off=a,7,999&stage=no"
    )
    assert page.locator("select[name=target]").input_value() == "ppo/reward"
    assert page.locator("#sweep-ranking tbody tr").count() == 4


@pytest.mark.slow
@pytest.mark.ci_slice
def test_the_language_is_switched(visit: Visit) -> None:
    page = visit.open("#t=ppo%2Fexact_match")
    page.select_option("#language", "zh")
    page.wait_for_selector("html[lang=zh][data-ready]")
    chinese = words("zh")
    assert page.locator("#sweep-title").inner_text() == chinese["section.sweep"]
    assert page.locator("select[name=target]").input_value() == "ppo/exact_match"
    assert (
        chinese["runs.verdict_tie"] in page.locator("#sweep-effects").inner_text()
        or page.locator("#sweep-effects .mark").count()
    )


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(
    browser: Any, sweep: Path, pair: tuple[Path, Path, Path], language: str, scheme: str
) -> None:
    for path in (sweep, pair[2]):
        found = Visit(browser, path, color_scheme=scheme)
        page = found.open(f"#ui={language}")
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        assert axe(page) == []
        found.close()
        assert found.problems == []


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(
    browser: Any, sweep: Path, pair: tuple[Path, Path, Path], width: int
) -> None:
    for path in (sweep, pair[2]):
        found = Visit(browser, path, viewport={"width": width, "height": 900})
        page = found.open()
        assert overflowing(page) <= 0
        assert broken_words(page) == []
        small = page.evaluate(
            """() => [...document.querySelectorAll("main button, main select, main input")]
                .filter((node) => node.offsetParent && node.getBoundingClientRect().height < 24
                    && !node.closest("#answers"))
                .map((node) => node.outerHTML.slice(0, 80))"""
        )
        assert small == []
        found.close()
