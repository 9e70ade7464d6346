"""The page in a real browser, offline: every control is driven and its effect asserted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from browsing import WIDTHS, Visit, broken_words, browser, until, visits
from report_fixture import make_run
from test_reports_contamination import contaminated_run
from test_reports_page import HOSTILE

from espalier.reports.config import ReportConfig
from espalier.reports.page import build_report

pytestmark = pytest.mark.browser

__all__ = ["browser"]

ROWS = 60


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("runs") / "demo", rows=ROWS)
    build_report(run, ReportConfig(notes=["A note."]), run / "report.html")
    return run / "report.html"


visit = visits("report")


def shown(page: Any) -> int:
    return int(page.locator(".frame-bar .status").inner_text().split(" of ")[0].replace(",", ""))


def test_a_baseline_changes_the_marks(visit: Visit, report: Path) -> None:
    page = visit.open()
    summary = json.loads((report.parent / "evaluate/summary.json").read_text("utf-8"))
    for baseline in ("sft", "base", "ppo"):
        page.select_option("#baseline", baseline)
        marks = page.locator(".scores .mark").evaluate_all(
            "marks => marks.map(mark => mark.classList[1])"
        )
        expected = [
            comparison["verdict"]
            for model in ("base", "base-3shot", "sft", "ppo")
            for metric in summary["metrics"]
            for comparison in summary["comparisons"]
            if (comparison["model"], comparison["baseline"]) == (model, baseline)
            and comparison["metric"] == metric["name"]
        ]
        assert marks == expected
        assert page.locator(".scores tr.baseline th bdi").inner_text() in ("SFT", "Base", "PPO")
    assert "vs=ppo" in page.url
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.locator("#baseline").input_value() == "ppo"
    bold = page.locator(".scores td.best").count()
    assert bold == len(summary["metrics"])


def test_metric_tooltip_by_keyboard(visit: Visit) -> None:
    page = visit.open()
    page.locator("button.term").first.focus()
    assert "What Held-out reward measures" in page.locator("#tip").inner_text()
    assert "espalier.reward" in page.locator("#tip").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()


def test_a_broken_address_does_no_harm(visit: Visit) -> None:
    page = visit.open(
        "#answers&mode=nonsense&a=%E0%A4%A&metric=__proto__&page=-7&vs=x&hide=a,b&by=q"
    )
    assert shown(page) == ROWS
    assert page.locator("article.example").count() > 1


def test_theme(visit: Visit) -> None:
    page = visit.open()

    def paper() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    page.emulate_media(color_scheme="light")
    light = paper()
    page.emulate_media(color_scheme="dark")
    dark = paper()
    assert light != dark
    page.select_option("#theme", "light")
    assert paper() == light
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert paper() == light
    page.emulate_media(media="print")
    assert paper() == "rgb(255, 255, 255)"
    assert page.locator(".controls").is_hidden()


def test_charts_read_out_values(visit: Visit, report: Path) -> None:
    page = visit.open()
    lines = (report.parent / "ppo/metrics.jsonl").read_text("utf-8").splitlines()
    last = json.loads(lines[-1])
    chart = page.locator("#training-stages figure", has_text="Reward model score")
    assert float(chart.locator(".legend-row .num").inner_text()) == pytest.approx(
        last["score"], abs=0.01
    )
    chart.locator("svg").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert "step 28" in chart.locator("figcaption").inner_text()
    expected = json.loads(lines[27])["score"]
    assert float(chart.locator(".legend-row .num").inner_text().replace("−", "-")) == pytest.approx(
        expected, abs=0.01
    )
    stages = page.locator("#training-stages h3").all_inner_texts()
    assert stages == ["Base model", "SFT", "Reward model", "Held-out reward model", "PPO"]
    details = page.locator("#training-stages details").first
    details.locator("summary").click()
    until(page, lambda: details.locator(".sample-steps tr").count() == 12)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(browser: Any, report: Path, width: int) -> None:
    visit = Visit(browser, report, viewport={"width": width, "height": 900})
    page = visit.open()
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    until(page, lambda: page.locator("#training-stages figure svg").count() > 20)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert broken_words(page) == []
    if width == 390:
        # The table scrolls in its own box, and its first column stays.
        box = page.locator("#scores-table")
        box.evaluate("node => { node.scrollLeft = 200; }")
        left = box.locator("tbody th").first.evaluate("node => node.getBoundingClientRect().left")
        assert left == pytest.approx(box.bounding_box()["x"], abs=2)
        columns = page.locator("article.example").first.locator(".answer")
        tops = columns.evaluate_all("nodes => nodes.map(n => n.getBoundingClientRect().top)")
        assert len(set(tops)) == len(tops)
    visit.close()
    assert visit.problems == []


def test_hostile_text_runs_nothing(browser: Any, tmp_path: Path) -> None:
    """Every payload stands somewhere on one page; all parts of it are opened."""
    count = 0

    def next_payload(text: str) -> str:
        nonlocal count
        count += 1
        return HOSTILE[count % len(HOSTILE)]

    models = [
        ("<img src=x onerror=window.hit=1>", "", "stage", 0, 0.4),
        ("__proto__", "", "stage", 0, 0.5),
    ]
    run = make_run(
        tmp_path / "<svg onload=window.hit=1>", rows=ROWS, models=models, change=next_payload
    )
    build_report(run, ReportConfig(title=HOSTILE[1], notes=HOSTILE), run / "report.html")
    visit = Visit(browser, run / "report.html")
    page = visit.open("#q=%3Cimg%20src%3Dx%20onerror%3Dhit%3D1%3E")
    page.click("button.reset")
    page.evaluate(
        "document.querySelectorAll('details:not(.menu)').forEach(d => { d.open = true; })"
    )
    while page.locator("[data-step=next]").is_enabled():
        page.click("[data-step=next]")
    page.locator("button.term").first.focus()
    page.wait_for_timeout(100)
    assert page.evaluate("window.hit") is None
    assert (
        page.evaluate("document.querySelectorAll('img, iframe, object, form[action]').length") == 0
    )
    assert page.locator(".notice", has_text=HOSTILE[0]).count() >= 1
    # Even a page that tried to make markup of text could not: Trusted Types forbid it.
    blocked = page.evaluate(
        "(() => { try { document.body.innerHTML = '<b>x</b>'; return false; }"
        " catch { return true; } })()"
    )
    assert blocked
    visit.close()
    own = [p for p in visit.problems if "TrustedHTML" not in p and "Trusted" not in p]
    assert own == []


@pytest.mark.slow
@pytest.mark.ci_slice
def test_a_page_of_one_stage_opens_without_complaint(browser: Any, tmp_path: Path) -> None:
    for stages in (("curate",), ("ppo",), ("evaluate",)):
        run = make_run(
            tmp_path / stages[0], stages=stages, rows=3, models=[("m", "M", "stage", 0, 1)]
        )
        build_report(run, ReportConfig(), run / "report.html")
        visit = Visit(browser, run / "report.html")
        visit.open()
        visit.close()
        assert visit.problems == []


@pytest.mark.slow
def test_ten_thousand_prompts_open_and_few_are_drawn(browser: Any, tmp_path: Path) -> None:
    filler = "The quick brown fox jumps over the lazy dog, and then 它又跳了一次。 " * 5
    run = make_run(
        tmp_path / "big", rows=10_000, stages=("evaluate",), change=lambda text: text + filler
    )
    build_report(run, ReportConfig(), run / "report.html")
    visit = Visit(browser, run / "report.html")
    page = visit.open()
    assert shown(page) == 10_000
    assert page.locator("#answers *").count() <= 3000
    page.locator("input[name=q]").fill("item 1234 ")
    until(page, lambda: shown(page) == 0)
    page.locator("input[name=q]").fill("item")
    until(page, lambda: shown(page) == 10_000)
    visit.close()
    assert visit.problems == []


@pytest.mark.slow
@pytest.mark.ci_slice
def test_what_is_not_tested_has_no_mark_and_ranks_no_answers(browser: Any, tmp_path: Path) -> None:
    run = contaminated_run(tmp_path / "run")
    build_report(run, ReportConfig(), run / "report.html")
    found = Visit(browser, run / "report.html")
    page = found.open()
    heads = page.locator("#scores-table thead th").all_inner_texts()
    place = next(i for i, text in enumerate(heads) if text.startswith("BLEU"))
    assert "not tested" in heads[place] and "↑" not in heads[place]
    assert sum("not tested" in text for text in heads) == 1
    column = page.locator(f"#scores-table tbody tr > :nth-child({place + 1})")
    assert column.locator(".mark").count() == 0 and column.locator(".value").count() == 4
    assert not any("best" in str(c.get_attribute("class")) for c in column.all())
    # Models that are scored on different prompts have their numbers beside the scores.
    uneven = next(i for i, text in enumerate(heads) if text.startswith("ROUGE-L"))
    cells = page.locator(f"#scores-table tbody tr > :nth-child({uneven + 1})").all_inner_texts()
    assert all("n = 24" in text for text in cells) and "n = 24" not in column.all_inner_texts()[0]
    judged = page.locator('select[name="metric"] option').all_inner_texts()
    assert "BLEU" not in judged and "ROUGE-L" in judged
    assert page.locator("#contamination .mark.changed").all_inner_texts() == ["better → tie"]
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(wide) == 0
    found.close()
    assert found.problems == []
