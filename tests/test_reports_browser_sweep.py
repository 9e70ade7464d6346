"""The page of a sweep in a browser, offline: what it shows is what the members' files say."""

from __future__ import annotations

import json
import math
import random
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import WIDTHS, Visit, axe, broken_words, browser, overflowing, rows_of, until
from sweep_fixture import QUESTION, ROWS, make_members, share, write

from espalier.reports.strings import words
from espalier.reports.sweep_page import build_sweep_page
from espalier.sweep_file import VARIANT, Factor

pytestmark = pytest.mark.browser

__all__ = ["browser"]

LEVELS = [100, 200, 400]
VARIANTS = ["all steps", "no dedup", "<img src=x onerror=window.hit=1>"]


@pytest.fixture(scope="module")
def scale(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweeps") / "scale"
    factors = [Factor(ROWS, "rows", LEVELS)]
    rng = random.Random(1)
    members = make_members(
        folder, factors, (1, 2, 3), rows=6,
        score=lambda level, seed: 0.2 + 0.08 * math.log2(level[0] / 100) + 0.02 * seed
        + rng.gauss(0, 0.01),
    )  # fmt: skip
    share(folder, members, "sft", {m.name: str(i // 3) for i, m in enumerate(members)})
    for member in members[:2]:
        (folder / "members" / member.name / "report.html").write_text("<title>one</title>")
    write(folder, factors, members, {"metric": "exact_match", "model": "sft"})
    build_sweep_page(folder)
    return folder


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweeps") / "variants"
    factors = [Factor(VARIANT, VARIANT, VARIANTS)]
    members = make_members(
        folder, factors, (1, 2, 3), rows=6,
        score=lambda level, seed: 0.5 - 0.1 * (level[0] == "no dedup") + 0.02 * seed * seed
        + 0.003 * (seed == 2) * (level[0] != "all steps"),
    )  # fmt: skip
    members[-1].status, members[-1].stage = "failed", "sft"
    members[-1].error = "No memory left.\n  what to do: <b>less</b>"
    section = {"variants": {"all steps": {}, "no dedup": {"curate.dedup": None, "curate.x": 3}}}
    write(folder, factors, members, {"metric": "exact_match", "model": "sft"}, "Why?", section)
    build_sweep_page(folder)
    return folder


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweeps") / "stages"
    members = make_members(folder, [], (1, 2, 3), rows=6, stages=("evaluate",))
    write(
        folder, [], members, {"metric": "exact_match", "models": ["sft", "ppo"]}, "Is PPO better?"
    )
    build_sweep_page(folder)
    return folder


@pytest.fixture
def visit(browser: Any, scale: Path) -> Iterator[Visit]:
    found = Visit(browser, scale / "comparison.html")
    yield found
    found.close()
    assert found.problems == []


@pytest.fixture
def other(browser: Any, variants: Path) -> Iterator[Visit]:
    found = Visit(browser, variants / "comparison.html")
    yield found
    assert found.page.evaluate("window.hit") is None
    found.close()
    assert found.problems == []


def values_of(folder: Path) -> dict[Any, list[float]]:
    """The scores by level, in the order of the seeds, from the files alone."""
    found: dict[Any, list[float]] = {}
    for member in json.loads((folder / "sweep.json").read_text())["members"]:
        if member["status"] != "done":
            continue
        summary = json.loads(
            (folder / "members" / member["name"] / "evaluate/summary.json").read_text()
        )
        (value,) = [
            score["value"] for score in summary["scores"]
            if (score["model"], score["metric"]) == ("sft", "exact_match")
        ]  # fmt: skip
        (level,) = member["settings"].values()
        found.setdefault(level, []).append(value)
    return found


def number(text: str) -> float:
    return float(re.split(r"[ %\n\xa0]", text.replace("−", "-").replace("+", ""))[0])


def test_the_question_is_the_heading_and_the_answer_the_first_line(visit: Visit) -> None:
    page = visit.open()
    assert page.locator("h1").inner_text() == QUESTION["en"]
    lead = page.locator("#told li").first
    assert lead.inner_text().startswith("▲") and "with every doubling of rows" in lead.inner_text()
    assert "9 of 9 members" in page.locator("#answer .facts").inner_text()


def test_effects_stand_with_their_bars_and_the_chart_has_its_band(
    visit: Visit, scale: Path
) -> None:
    page = visit.open()
    truth = values_of(scale)
    rows = rows_of(page, "#answer-effects")
    assert [row[0] for row in rows] == [str(level) for level in LEVELS]
    for row, level in zip(rows, LEVELS, strict=True):
        mean = statistics.mean(truth[level])
        assert number(row[1]) == pytest.approx(100 * mean, abs=0.051)
    for row, level in zip(rows[1:], LEVELS[1:], strict=True):
        change = statistics.mean(b - a for a, b in zip(truth[100], truth[level], strict=True))
        assert number(row[2]) == pytest.approx(100 * change, abs=0.051)
        assert "better" in row[4]
    assert page.locator("#answer-effects .bar-svg").count() == 2
    chart = page.locator(".chart.levels")
    until(page, lambda: chart.locator("circle").count() == 3 + 9)
    assert chart.locator("path.band").count() == 1 and chart.locator("path.line").count() == 1
    # Doublings are equal steps.
    places = chart.locator("g.point:not(.small) circle").evaluate_all(
        "nodes => nodes.map((node) => Number(node.getAttribute('cx')))"
    )
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.5)
    (trend,) = rows_of(page, "#answer-trends")
    assert trend[:2] == ["rows", "with every doubling"]


def test_the_smallest_effect_is_explained_by_keyboard(visit: Visit) -> None:
    page = visit.open()
    page.locator("#answer-effects button.term").focus()
    assert words("en")["sweep.column_smallest_about"] in page.locator("#tip").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()


def test_members_lead_to_their_pages_and_say_what_was_shared(visit: Visit) -> None:
    page = visit.open("#members")
    links = page.locator("#members a.member-link")
    assert links.count() == 2
    assert links.first.get_attribute("href") == "members/m000-seed1/report.html"
    rows = rows_of(page, "#members .members-scroll")
    assert len(rows) == 9 and rows[0][1:4] == ["100", "1", "finished"]
    (shared,) = rows_of(page, "#members .shared-stages")
    assert shared[:3] == ["SFT", "9", "3"]
    text = page.locator("#members").inner_text()
    assert "3 stages were run for the 9 that the members have" in text


@pytest.mark.slow
@pytest.mark.ci_slice
def test_any_other_number_is_explored(visit: Visit) -> None:
    page = visit.open()
    page.select_option("select[name=target]", "ppo/reward")
    assert "t=ppo" in page.url
    assert len(rows_of(page, "#sweep-ranking")) == 3
    effects = rows_of(page, "#sweep-effects")
    assert len(effects) == 2 and all(row[-1] == "3 seeds" for row in effects)
    assert page.locator("#run-curves figure").count() > 0


@pytest.mark.slow
@pytest.mark.ci_slice
def test_answers_stand_side_by_side(visit: Visit) -> None:
    page = visit.open("#answers")
    page.wait_for_selector("#answers-browser [role=list], #answers-browser article")
    assert "SFT · rows = 400" in page.locator("#answers").inner_text()


@pytest.mark.slow
@pytest.mark.ci_slice
def test_models_are_compared_by_all_other_metrics(browser: Any, stages: Path) -> None:
    found = Visit(browser, stages / "comparison.html")
    page = found.open()
    rows = rows_of(page, "#answer-others")
    summaries = [
        json.loads(path.read_text())
        for path in sorted((stages / "members").glob("*/evaluate/summary.json"))
    ]
    metrics = [metric["name"] for metric in summaries[0]["metrics"]]
    assert len(rows) == 2 * (len(metrics) - 1)
    scores = [
        {
            score["model"]: score["value"]
            for score in summary["scores"] if score["metric"] == "rougeL"
        }
        for summary in summaries
    ]  # fmt: skip
    place = [row[0] for row in rows].index("ROUGE-L")
    change = statistics.mean(one["ppo"] - one["sft"] for one in scores)
    assert rows[place][1] == "SFT" and rows[place + 1][0] == "PPO"
    assert number(rows[place + 1][2]) == pytest.approx(100 * change, abs=0.051)
    found.close()
    assert found.problems == []


def test_variants_failures_and_hostile_names(other: Visit, variants: Path) -> None:
    page = other.open()
    assert page.locator("#told li").first.inner_text().startswith("▼")
    assert [row[0] for row in rows_of(page, "#answer-effects")] == VARIANTS
    # Words have no line between them.
    until(page, lambda: page.locator(".chart.levels line.stem").count() > 0)
    assert page.locator(".chart.levels path.line").count() == 0
    (failed,) = rows_of(page, ".failed-members")
    assert failed[1] == "failed, SFT" and "<b>less</b>" in failed[2]
    set_by = rows_of(page, ".variants")
    assert set_by[1][1].splitlines() == ["curate.dedup = taken out", "curate.x = 3"]


@pytest.mark.slow
@pytest.mark.ci_slice
def test_the_language_is_switched(visit: Visit) -> None:
    page = visit.open()
    page.select_option("#language", "zh")
    page.wait_for_selector("html[lang=zh][data-ready]")
    assert page.locator("h1").inner_text() == QUESTION["zh"]
    chinese = words("zh")
    until(page, lambda: page.locator("#answer-effects h3, .answer-effects h3").count() > 0)
    assert page.locator(".answer-effects h3").inner_text().startswith(chinese["sweep.table"])
    assert chinese["runs.verdict_better"] in page.locator("#answer-effects").inner_text()
    # Metrics below the answers are called as above.
    assert "留出奖励" in page.locator(".example .answer").first.inner_text()


@pytest.mark.slow
@pytest.mark.ci_slice
def test_broken_values_in_the_address_fall_back(visit: Visit) -> None:
    page = visit.open("#answer&t=%22%3E&f=99&rank=x&off=a,7,999&stage=no&lines=")
    assert len(rows_of(page, "#sweep-ranking")) == 3


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(
    browser: Any, scale: Path, variants: Path, stages: Path, language: str, scheme: str
) -> None:
    for folder in (scale, variants, stages):
        found = Visit(browser, folder / "comparison.html", color_scheme=scheme)
        page = found.open(f"#ui={language}")
        assert axe(page) == []
        found.close()
        assert found.problems == []


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(
    browser: Any, scale: Path, variants: Path, stages: Path, width: int
) -> None:
    for folder in (scale, variants, stages):
        found = Visit(browser, folder / "comparison.html", viewport={"width": width, "height": 900})
        page = found.open()
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        assert overflowing(page) <= 0
        assert broken_words(page) == []
        small = page.evaluate(
            """() => [...document.querySelectorAll("main button, main select, main a")]
                .filter((node) => node.offsetParent && node.getBoundingClientRect().height < 23.5
                    && !node.closest("#answers"))
                .map((node) => node.outerHTML.slice(0, 80))"""
        )
        assert small == []
        found.close()
