"""The training section in a real browser: curves, their controls, alarms, sample generations."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from browsing import Visit, axe, browser, overflowing, until, visits
from curate_fixture import read_lines
from report_fixture import make_run, write_lines

from espalier.reports.config import ReportConfig
from espalier.reports.page import build_report

pytestmark = pytest.mark.browser

__all__ = ["browser"]
ALARM = "answers are twice as long as at the start"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("training") / "run", stages=("sft", "reward", "ppo"))
    alarms = [{"step": step, "alarm": "length", "message": ALARM} for step in (9, 10, 11, 20)]
    write_lines(run / "ppo" / "alarms.jsonl", alarms)
    held_out = [
        {"step": s, "split": "held_out", "gain": s / 10, "gain_low": s / 10 - 0.2,
         "gain_high": s / 10 + 0.3}
        for s in range(0, 31, 5)
    ]  # fmt: skip
    path = run / "ppo" / "metrics.jsonl"
    write_lines(path, [*read_lines(path), *held_out])
    build_report(run, ReportConfig(), run / "report.html")
    return run / "report.html"


visit = visits("report")


def chart(page: Any, title: str, stage: str = "PPO") -> Any:
    block = page.locator("#training-stages > .block").filter(
        has=page.locator("h3", has_text=re.compile(f"^{stage}$"))
    )
    return block.locator("figure.chart").filter(
        has=page.locator(".chart-title", has_text=re.compile(f"^{title}$"))
    )


def drawn(figure: Any) -> str:
    """The path of the line that is read: the smoothed one where there is one."""
    return str(figure.locator("path.line:not(.raw)").first.get_attribute("d"))


def numbers(run: Path, key: str, stage: str = "ppo") -> dict[int, float]:
    rows = read_lines(run / stage / "metrics.jsonl")
    return {row["step"]: row[key] for row in rows if key in row and row.get("split") != "eval"}


@pytest.mark.slow
@pytest.mark.ci_slice
def test_alarms_stand_on_the_curve_and_are_read_out(visit: Visit) -> None:
    page = visit.open()
    length = chart(page, "Tokens an answer")
    until(page, lambda: length.locator(".alarm").count() == 2)
    # The first spell has three steps, the second one.
    assert length.locator(".alarm-span").count() == 1
    assert page.locator(".alarm").count() == 2
    length.locator("svg").focus()
    page.keyboard.press("Home")
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    assert "step 10" in length.locator("figcaption").inner_text()
    assert length.locator(".curve-fired").inner_text() == f"▲ {ALARM}"
    assert ALARM in str(length.locator("svg").get_attribute("aria-valuetext"))
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert not length.locator(".curve-fired").is_visible()


@pytest.mark.slow
@pytest.mark.ci_slice
def test_an_alarm_in_words_leads_to_its_curve(visit: Visit) -> None:
    page = visit.open()
    notice = page.locator(".alarm-notice")
    assert f"{ALARM} (4 ×, first at step 9)" in notice.inner_text()
    notice.get_by_role("button", name="Show on the curve").click()
    length = chart(page, "Tokens an answer")
    until(page, lambda: "step 9" in length.locator("figcaption").inner_text())
    assert length.locator("svg").evaluate("node => node === document.activeElement")


@pytest.mark.slow
@pytest.mark.ci_slice
def test_the_charts_of_a_stage_read_out_the_same_step(visit: Visit, report: Path) -> None:
    page = visit.open()
    chart(page, "Entropy").locator("svg").focus()
    page.keyboard.press("End")
    for _ in range(6):
        page.keyboard.press("ArrowLeft")
    score = chart(page, "Reward model score")
    assert "step 24" in score.locator("figcaption").inner_text()
    shown = float(score.locator(".legend-row .num").first.inner_text().replace("−", "-"))
    assert shown == pytest.approx(numbers(report.parent, "score")[24], rel=0.01)
    # Those of another stage stay as they are.
    assert "by step" in chart(page, "Loss", "SFT").locator("figcaption").inner_text()
    gain = chart(page, "Gain on the held-out prompts")
    assert "2.5 [2.3, 2.8]" in gain.locator(".legend-row").inner_text()
    until(page, lambda: gain.locator("path.band").count() == 1)


def test_smoothing(visit: Visit, report: Path) -> None:
    page = visit.open()
    loss = chart(page, "Loss", "SFT")
    until(page, lambda: loss.locator("path.line").count() > 0)
    entropy = chart(page, "Entropy")
    # A long jagged line is smoothed by itself, a short one only when asked for.
    assert loss.locator("path.raw").count() == 1
    assert entropy.locator("path.raw").count() == 0
    page.select_option("#curve-smooth", "0.2")
    until(page, lambda: entropy.locator("path.raw").count() == 1)
    assert "curve.smooth=0.2" in page.url
    ys = list(numbers(report.parent, "entropy").values())
    places = [tuple(map(float, pair.split())) for pair in drawn(entropy)[1:].split("L")]
    raw_path = str(entropy.locator("path.raw").get_attribute("d"))
    raw = [tuple(map(float, pair.split())) for pair in raw_path[1:].split("L")]
    # Pixels go down as values go up, evenly: the middle point is the mean of its seven.
    mean = sum(ys[12:19]) / 7
    slope = (raw[0][1] - raw[1][1]) / (ys[0] - ys[1])
    assert places[15][1] == pytest.approx(raw[0][1] - slope * (ys[0] - mean), abs=0.3)
    page.select_option("#curve-smooth", "0")
    until(page, lambda: page.locator("path.raw").count() == 0)
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.locator("#curve-smooth").input_value() == "0"
    until(page, lambda: entropy.locator("path.line").count() > 0)
    assert page.locator("path.raw").count() == 0


def test_a_logarithmic_axis(visit: Visit, report: Path) -> None:
    page = visit.open()
    loss = chart(page, "Loss", "SFT")
    until(page, lambda: loss.locator("path.line").count() > 0)
    before = drawn(loss)
    page.select_option("#curve-scale", "log")
    until(page, lambda: drawn(loss) != before)
    assert "curve.scale=log" in page.url
    texts = loss.locator("text[text-anchor=end]").all_text_contents()
    assert {"0.5", "1", "2"} <= set(texts)
    # Equal factors are equal ways: 0.5, 1 and 2 stand evenly.
    at = {
        node.text_content(): float(str(node.get_attribute("y")))
        for node in loss.locator("text[text-anchor=end]").all()
    }
    assert at["0.5"] - at["1"] == pytest.approx(at["1"] - at["2"], abs=0.1)
    # What goes below zero stays linear, and says so.
    policy = chart(page, "Policy loss")
    assert "Linear: it goes to zero or below." in policy.inner_text()
    assert not loss.locator(".curve-linear").is_visible()


@pytest.mark.slow
@pytest.mark.ci_slice
def test_broken_choices_in_the_address_are_as_if_absent(visit: Visit) -> None:
    page = visit.open("#training&curve.smooth=abc&curve.scale=round")
    assert page.locator("#curve-smooth").input_value() == ""
    assert page.locator("#curve-scale").input_value() == ""


@pytest.mark.slow
@pytest.mark.ci_slice
def test_sample_generations_mark_what_changed(visit: Visit, report: Path) -> None:
    page = visit.open()
    samples = page.locator("#training-stages details", has_text="Sample generations").first
    samples.locator("summary").click()
    rows = read_lines(report.parent / "sft" / "samples.jsonl")
    first = [row for row in rows if row["prompt"] == rows[0]["prompt"]]
    card = samples.locator(".card").first
    until(page, lambda: card.locator("tr").count() == len(first))
    shown = card.locator("td.text").all_inner_texts()
    assert shown == [row["answer"] for row in first]
    changed = [i for i in range(1, len(first)) if first[i]["answer"] != first[i - 1]["answer"]]
    marked = [i for i in range(len(first)) if card.locator("tr").nth(i).locator("ins").count()]
    assert set(marked) <= set(changed)
    assert not card.locator("tr").first.locator("ins").count()


@pytest.mark.slow
@pytest.mark.ci_slice
def test_both_languages_and_no_serious_fault(visit: Visit) -> None:
    page = visit.open("#training&curve.scale=log")
    assert axe(page, "#training") == []
    page.select_option("#language", "zh")
    until(page, lambda: "在曲线上查看" in page.locator("#training").inner_text())
    assert page.locator("#curve-scale option:checked").inner_text() == "对数"
    assert axe(page, "#training") == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_nothing_is_wider_than_the_window(browser: Any, report: Path, width: int) -> None:
    visit = Visit(browser, report, viewport={"width": width, "height": 900})
    page = visit.open("#training&curve.scale=log")
    page.evaluate("document.querySelectorAll('#training details').forEach(d => { d.open = true; })")
    assert overflowing(page) == 0
    assert json.dumps(visit.problems) == "[]"
    visit.close()
