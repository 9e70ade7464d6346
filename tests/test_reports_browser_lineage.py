"""The data section of a run's page in a real browser: why a given training row exists."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from browsing import Visit, axe, browser, overflowing, until, visits
from curate_fixture import make_folder, read_lines, spending, write_lines
from report_fixture import make_run, write_json

from espalier.curate.statistics import write_statistics
from espalier.reports.config import ReportConfig
from espalier.reports.page import build_report

pytestmark = pytest.mark.browser

__all__ = ["browser"]


def make(folder: Path, text: str = "", rows: int = 12) -> Path:
    """A run whose training row `child` goes back over a machine-made task to two seeds."""
    run = make_run(folder, stages=("sft", "ppo", "evaluate"), rows=rows)
    curate = make_folder(run / "curate", 40, text=text)
    seeds = folder / "seeds.jsonl"
    write_lines(
        seeds,
        [{"id": f"en-{n}", "instruction": f"Seed number {n}. {text}"} for n in (1, 2)],
    )
    made = {
        "id": "m1", "messages": [{"role": "user", "content": f"The made one. {text}"}],
        "meta": {"task": "task-1", "parents": ["en-1", "en-2"], "operator": "self-instruct"},
    }  # fmt: skip
    child = {
        "id": "child", "messages": [{"role": "user", "content": f"The child. {text}"}],
        "meta": {"parents": ["task-1"], "operator": "evolve:deepen", "teacher": "teacher-x",
                 "round": 2, "quality": {"judge": 4.5, "safe": True}},
    }  # fmt: skip
    write_lines(curate / "self_instruct.jsonl", [made])
    write_lines(curate / "train.jsonl", [*read_lines(curate / "train.jsonl"), child])
    prompt = {
        "id": f"{0:016x}", "messages": [{"role": "user", "content": "Held out."}],
        "meta": {"source": "tasks"},
    }  # fmt: skip
    write_lines(curate / "eval.jsonl", [prompt])
    write_statistics(curate, spending(text))
    manifest = json.loads((curate / "manifest.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(seeds.read_bytes()).hexdigest()
    manifest["inputs"] = {"seeds: mine": {"path": str(seeds), "sha256": digest}}
    write_json(curate / "manifest.json", manifest)
    build_report(run, ReportConfig(), run / "report.html")
    return run / "report.html"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("lineage") / "run")


visit = visits("report")


def test_why_a_training_row_exists(visit: Visit) -> None:
    """With the page alone: the section, the search, the row, its story."""
    page = visit.open()
    page.locator("nav a[data-nav=data]").click()
    page.locator("#data .section-links a", has_text="where they come from").click()
    search = page.locator("input[name='row.q']")
    search.wait_for()
    search.fill("The child")
    entries = page.locator("#rows-browser .entries .entry")
    until(page, lambda: entries.count() == 1)
    entries.get_by_role("button", name="Where it comes from").click()
    opened = page.locator(".entry.opened")
    assert opened.locator(".story li").all_inner_texts() == [
        "Seed tasks at its beginning: 2. Generations since then: 2.",
        "teacher-x wrote it (evolve:deepen, round 2) after seeing task-1.",
        "It passed: Step 0 → Step 1.",
        "Now it stands in curate/train.jsonl, which these stages read: SFT, PPO, Evaluation.",
    ]
    generations = opened.locator(".generation")
    shown = [generations.nth(i).locator("code").all_inner_texts() for i in range(3)]
    assert shown == [["en-1", "en-2"], ["task-1"], ["child"]]
    assert "Seed number 1." in generations.nth(0).inner_text()
    # A seed is as far as it goes.
    generations.nth(0).get_by_role("button").first.click()
    assert "It is a seed task, written by people, in the seed file mine." in opened.inner_text()
    assert opened.locator(".offspring code").all_inner_texts() == ["m1"]
    assert "row.id=en-1" in page.url
    for expected in ("child", ""):
        opened.get_by_role("button", name="Back" if expected else "Close").click()
        assert ("row.id=child" in page.url) == bool(expected)


@pytest.mark.slow
@pytest.mark.ci_slice
def test_a_link_opens_the_row(visit: Visit) -> None:
    page = visit.open("#rows&row.id=child")
    page.locator(".entry.opened").wait_for()
    assert "The child." in page.locator(".entry.opened .turns").inner_text()
    assert "4.5" in page.locator(".entry.opened .row-facts").inner_text()


@pytest.mark.slow
@pytest.mark.ci_slice
def test_the_rows_wait_until_they_are_near(visit: Visit) -> None:
    page = visit.open()
    assert page.locator("script#packed-rows").count() == 1
    assert page.locator("#rows-browser .entry").count() == 0
    page.locator("#rows").scroll_into_view_if_needed()
    until(page, lambda: page.locator("#rows-browser .entry").count() == 10)
    assert page.locator("script#packed-rows").count() == 0
    page.select_option("#language", "zh")
    until(page, lambda: "查看来历" in page.locator("#rows-browser").inner_text())


@pytest.mark.slow
@pytest.mark.ci_slice
def test_a_rule_of_the_funnel_leads_to_its_examples(visit: Visit, report: Path) -> None:
    page = visit.open()
    rejects = read_lines(report.parent / "curate" / "rejects.jsonl")
    link = page.locator("#data a[data-rule]", has_text="Refusal").first
    link.focus()
    page.keyboard.press("Enter")
    count = sum((row["step"], row["rule"]) == ("step 0", "refusal") for row in rejects)
    line = page.locator("#rejects-browser .browse-status")
    until(page, lambda: line.count() == 1)
    shown = min(count, ReportConfig().rejects_per_rule)
    assert line.inner_text() == f"{shown} examples, of {count} rejects"


@pytest.mark.slow
@pytest.mark.ci_slice
def test_everything_of_the_data_is_in_the_section(visit: Visit) -> None:
    page = visit.open()
    text = page.locator("#data").inner_text()
    for heading in (
        "From raw rows to the dataset", "Lengths", "How instructions begin", "Quality scores",
        "Rejects by rule", "Duplicates", "Text shared with evaluations",
        "Rows, and where they come from", "Cost",
    ):  # fmt: skip
        assert heading in text
    assert "41 Training rows" in " ".join(text.split())
    assert "1.75 USD" in text


@pytest.mark.slow
@pytest.mark.ci_slice
def test_a_prompt_of_the_evaluation_leads_to_its_row(visit: Visit) -> None:
    page = visit.open("#answers")
    first = page.locator(f"article.example[data-id='{0:016x}']")
    first.locator("[data-action=open]").click()
    first.locator("[data-action=lineage]").click()
    opened = page.locator(".entry.opened")
    opened.wait_for()
    assert "Held out." in opened.inner_text()
    assert "It came from the source tasks; no other row stands behind it." in opened.inner_text()
    assert f"#rows&row={0:016x}&row.id={0:016x}" in page.url
    # Whoever reads another part stays there.
    address = page.url.replace("#rows", "#answers")
    page.evaluate("address => history.replaceState(null, '', address)", address)
    page.reload()
    page.wait_for_selector("html[data-ready]")
    opened.wait_for()
    assert "#answers&" in page.url
    assert page.evaluate("document.activeElement.closest('.entry')") is None


@pytest.mark.slow
@pytest.mark.ci_slice
def test_no_serious_fault(visit: Visit) -> None:
    page = visit.open("#rows&row.id=child")
    page.locator(".entry.opened").wait_for()
    assert axe(page, "#data") == []
    page.select_option("#theme", "dark")
    assert axe(page, "#data") == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_nothing_is_wider_than_the_window(browser: Any, report: Path, width: int) -> None:
    visit = Visit(browser, report, viewport={"width": width, "height": 900})
    page = visit.open("#rows&row.id=child")
    page.locator(".entry.opened").wait_for()
    page.evaluate("document.querySelectorAll('#data details').forEach(d => { d.open = true; })")
    assert overflowing(page) == 0
    visit.close()
    assert visit.problems == []


@pytest.mark.slow
def test_hostile_text_runs_nothing(browser: Any, tmp_path: Path) -> None:
    text = "</script><img src=x onerror=window.hit=1> [x](javascript:hit=1) \u202e{{7*7}} __proto__"
    visit = Visit(browser, make(tmp_path / "run", text))
    page = visit.open("#rows&row.id=child&row.q=%3Cimg")
    page.locator(".entry.opened").wait_for()
    assert text.split(" ")[1] in page.locator(".entry.opened").inner_text()
    assert page.evaluate("window.hit") is None
    assert page.evaluate("document.querySelectorAll('img, iframe, object').length") == 0
    visit.close()
    assert visit.problems == []
