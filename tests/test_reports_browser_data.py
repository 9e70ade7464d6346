"""The page about curated data in a real browser, offline: its browsers are driven."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browsing import Visit, axe, broken_words, browser, until, visits
from curate_fixture import make_folder, read_lines, spending
from test_reports_page import HOSTILE

from espalier.curate.statistics import write_statistics
from espalier.reports.data_page import build_data_page

pytestmark = pytest.mark.browser

__all__ = ["browser"]


def make(folder: Path, rows: int = 60, text: str = "") -> Path:
    made = make_folder(folder, rows, text=text)
    write_statistics(made, spending(text))
    build_data_page(made, made / "data.html")
    return made / "data.html"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("data") / "clean")


visit = visits("built")


def status(page: Any, name: str) -> str:
    return str(page.locator(f"#{name}-browser .browse-status").inner_text())


def shown_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of all files, in the order in which the page shows them."""
    names = ("train", "eval", "preferences", "rejects")
    return [row for name in names for row in read_lines(folder / f"{name}.jsonl")]


def test_a_rule_of_the_funnel_leads_to_its_examples(visit: Visit, built: Path) -> None:
    page = visit.open()
    rejects = read_lines(built.parent / "rejects.jsonl")
    link = page.locator("a[data-rule]", has_text="Refusal").first
    link.focus()
    page.keyboard.press("Enter")
    count = sum((row["step"], row["rule"]) == ("step 0", "refusal") for row in rejects)
    assert status(page, "rejects") == f"{count} examples, of {count} rejects"
    shown = page.locator("#rejects-browser .entry h3").all_inner_texts()
    assert set(shown) == {"Refusal"}
    assert "reject.rule=" in page.url
    assert page.evaluate("document.activeElement.name") == "reject.q"
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert status(page, "rejects") == f"{count} examples, of {count} rejects"


def test_rows_are_searched_filtered_and_paged(visit: Visit, built: Path) -> None:
    page = visit.open()
    rows = shown_rows(built.parent)
    assert status(page, "rows") == f"{len(rows)} of {len(rows)} rows"
    assert page.locator("#rows-browser .entry").count() == 10
    page.locator("#rows-browser").get_by_role("button", name="Next").click()
    assert page.locator("#rows-browser .entry-id").first.inner_text() == rows[10]["id"]
    page.select_option("select[name='row.language']", "zh")
    chinese = [row for row in rows if row["meta"].get("language") == "zh"]
    assert status(page, "rows") == f"{len(chinese)} of {len(rows)} rows"
    page.fill("input[name='row.q']", "春天")
    matching = [row for row in chinese if "春天" in row["messages"][0]["content"]]
    until(page, lambda: status(page, "rows") == f"{len(matching)} of {len(rows)} rows")
    assert page.locator("#rows-browser mark").first.inner_text() == "春天"
    page.fill("input[name='row.q']", "")
    page.select_option("select[name='row.language']", "")
    page.select_option("select[name='row.file']", "curate/rejects.jsonl")
    until(page, lambda: status(page, "rows") == f"41 of {len(rows)} rows")


def test_a_row_is_walked_back(visit: Visit, built: Path) -> None:
    page = visit.open()
    page.select_option("select[name='row.file']", "curate/train.jsonl")
    page.locator("#rows-browser .entry", has_text="made from 2").first.get_by_role(
        "button", name="Where it comes from"
    ).click()
    opened = page.locator(".entry.opened")
    row = read_lines(built.parent / "train.jsonl")[1]
    assert row["id"] in opened.locator("h4").first.inner_text()
    assert page.evaluate("document.activeElement.textContent").startswith("From seed to now")
    story = opened.locator(".story").inner_text()
    assert "t wrote it (evolve, round 1) after seeing id0, elsewhere." in story
    assert "Now it stands in curate/train.jsonl." in story
    columns = opened.locator(".generation")
    assert [columns.nth(i).locator("code").all_inner_texts() for i in range(2)] == [
        ["id0", "elsewhere"], [row["id"]],
    ]  # fmt: skip
    # What no file has is a name only; what one has can be opened, and the way back is there.
    assert columns.nth(0).locator("button").count() == 1
    columns.nth(0).locator("button").hover()
    assert opened.locator(".kin.near").count() == 2
    columns.nth(0).locator("button").click()
    assert "row.id=id0" in page.url
    children = sum("id0" in r["meta"].get("parents", []) for r in shown_rows(built.parent))
    assert (
        f"Other rows here that were made from it: {children}."
        in opened.locator(".story").inner_text()
    )
    opened.get_by_role("button", name="Back").click()
    assert f"row.id={row['id']}" in page.url
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert row["id"] in opened.locator("h4").first.inner_text()
    page.select_option("#language", "zh")
    until(page, lambda: "从种子到现在" in opened.inner_text())
    opened.get_by_role("button", name="关闭").click()
    assert opened.count() == 0
    assert "row.id" not in page.url


@pytest.mark.slow
@pytest.mark.ci_slice
def test_why_a_row_was_taken_out(visit: Visit, built: Path) -> None:
    reject = read_lines(built.parent / "rejects.jsonl")[0]
    page = visit.open(f"#rows&row.id={reject['id']}")
    story = page.locator(".entry.opened .story").inner_text()
    assert (
        f"It was taken out at “Step 0” by the rule “Refusal”: {reject['evidence'].strip()}" in story
    )
    page = visit.open("#rows&row.id=no+such+row")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert "no+such+row is not among the data" in page.locator("#rows-browser").inner_text()


@pytest.mark.slow
@pytest.mark.ci_slice
def test_near_duplicates_mark_what_is_shared(visit: Visit, built: Path) -> None:
    page = visit.open()
    lines = read_lines(built.parent / "clusters.jsonl")
    assert status(page, "duplicates").startswith(f"{len(lines)} removed rows")
    first = page.locator("#duplicates-browser .entry").first
    marks = first.locator(".entry-side").nth(0).locator("mark").all_inner_texts()
    assert marks == first.locator(".entry-side").nth(1).locator("mark").all_inner_texts()
    assert "".join(marks)
    page.select_option("select[name='pair.show']", "largest")
    assert "cluster of 5" in page.locator("#duplicates-browser .entry").first.inner_text()
    assert "row 4" in page.locator("#contamination-browser .entry").first.inner_text()


@pytest.mark.slow
@pytest.mark.ci_slice
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_fault(browser: Any, built: Path, scheme: str) -> None:
    visit = Visit(browser, built, color_scheme=scheme)
    page = visit.open("#rows&row.id=id1")
    page.locator(".entry.opened").wait_for()
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert axe(page) == []
    visit.close()


@pytest.mark.slow
@pytest.mark.ci_slice
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(
    browser: Any, built: Path, width: int, scheme: str
) -> None:
    visit = Visit(browser, built, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = visit.open()
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert broken_words(page) == []
    visit.close()
    assert visit.problems == []


def test_hostile_text_runs_nothing(browser: Any, tmp_path: Path) -> None:
    payloads = [text for text in HOSTILE if len(text) < 1000]
    for number in range(5):
        # Some alone, all of them together: a long text is cut.
        text = " ".join(payloads[number::5]) if number else payloads[0]
        visit = Visit(browser, make(tmp_path / str(number), rows=12, text=text))
        page = visit.open("#reject.q=%3Cimg&row.page=99")
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        page.fill("input[name='reject.q']", "")
        page.select_option("select[name='pair.show']", "all")
        assert page.evaluate("window.hit") is None
        assert page.evaluate("document.querySelectorAll('img, iframe, object').length") == 0
        visit.close()
        assert visit.problems == []
