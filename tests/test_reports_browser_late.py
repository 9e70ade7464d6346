"""Parts of the page come as the window nears them, and nothing is lost, moved or out of reach."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Visit, axe, browser, until
from curate_fixture import make_folder, spending
from report_fixture import ALL_STAGES, make_run

from espalier.curate.statistics import write_statistics
from espalier.reports.config import ReportConfig
from espalier.reports.page import build_report

pytestmark = pytest.mark.browser

__all__ = ["browser"]

MOST_NODES = 3000
NODES = "document.querySelectorAll('*').length"
# What a reader would read of each named part, without what stands in the parts inside it.
TEXTS = """() => Object.fromEntries([...document.querySelectorAll('main .block[id]:not([hidden])')]
  .map((node) => [node.id, node.innerText.replaceAll(/\\s+/g, ' ')]))"""
TOPS = """() => Object.fromEntries([...document.querySelectorAll('main > section, main .block[id]')]
  .map((node) => [node.id, node.getBoundingClientRect().top + scrollY]))"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with something in every section."""
    stages = [stage for stage in ALL_STAGES if stage != "curate"]
    run = make_run(tmp_path_factory.mktemp("runs") / "demo", rows=60, stages=stages)
    make_folder(run / "curate", 60)
    write_statistics(run / "curate", spending())
    build_report(run, ReportConfig(), run / "report.html")
    return run / "report.html"


@pytest.fixture
def near(browser: Any, report: Path) -> Iterator[Visit]:
    """The page as readers have it."""
    found = Visit(browser, report, whole=False)
    yield found
    found.close()
    assert found.problems == []


@pytest.fixture
def whole(browser: Any, report: Path) -> Iterator[Visit]:
    """The page with all of it in the document, to compare with."""
    found = Visit(browser, report)
    yield found
    found.close()
    assert found.problems == []


def waiting(page: Any) -> int:
    return int(page.evaluate("document.querySelectorAll('template.waiting').length"))


def settled(page: Any) -> None:
    """Two frames and what the observers do in them."""
    page.evaluate(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => "
        "setTimeout(done, 30))))"
    )


def scroll_through(page: Any, step: int = 500) -> Iterator[int]:
    """Scroll from top to bottom; yields where the window is."""
    top = 0
    while top < page.evaluate("document.documentElement.scrollHeight"):
        page.evaluate(f"window.scrollTo({{top: {top}, behavior: 'instant'}})")
        settled(page)
        yield top
        top += step


@pytest.mark.slow
@pytest.mark.ci_slice
@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_few_nodes_stand_in_the_document(browser: Any, report: Path, width: int) -> None:
    size = {"width": width, "height": 1080 if width == 1920 else 900}
    visit = Visit(browser, report, whole=False, viewport=size)
    page = visit.open()
    counts = [page.evaluate(NODES)]
    counts += [page.evaluate(NODES) for _ in scroll_through(page)]
    assert max(counts) <= MOST_NODES
    page.keyboard.press("Control+f")
    assert page.evaluate(NODES) > MOST_NODES
    visit.close()
    assert visit.problems == []


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_moves(near: Visit, whole: Visit) -> None:
    """With another baseline, chosen while most parts wait, everything reads as in the whole."""
    pages = near.open(), whole.open()
    for page in pages:
        page.select_option("#baseline", "base")
        settled(page)
    page, other = pages
    assert waiting(page) > 10 and waiting(other) == 0
    # Charts are drawn where they come into view: both pages are walked through first.
    for _ in scroll_through(other):
        pass
    expected, places = other.evaluate(TEXTS), other.evaluate(TOPS)
    moved = []
    for name in expected:
        page.evaluate("name => document.getElementById(name)?.scrollIntoView()", name)
        settled(page)
        page.wait_for_timeout(100)
        assert page.evaluate(TEXTS).get(name) == expected[name], name
        moved.append(page.evaluate(TOPS)[name] - places[name])
    assert max(map(abs, moved)) < 40
    assert len(expected) > 8


@pytest.mark.slow
@pytest.mark.ci_slice
def test_the_bar_and_addresses_lead_to_what_waits(near: Visit) -> None:
    page = near.open()
    for name in ("provenance", "training", "data"):
        page.click(f"a[data-nav={name}]")
        top = f"document.querySelector('#{name}').getBoundingClientRect().top"
        until(page, lambda top=top: 0 <= page.evaluate(top) < 120)
        settled(page)
        inside = f"document.querySelector('#{name}').innerText.length"
        assert page.evaluate(inside) > 300
    page = near.open("#again")
    until(page, lambda: "espalier run" in page.locator("#command").inner_text())
    assert 0 <= page.evaluate("document.querySelector('#again').getBoundingClientRect().top") < 900


@pytest.mark.slow
@pytest.mark.ci_slice
def test_a_switch_of_language_keeps_the_document_small(near: Visit) -> None:
    page = near.open("#provenance")
    until(page, lambda: page.locator("#cautions li").count() == 9)
    for language in ("zh", "en"):
        page.select_option("#language", language)
        page.wait_for_selector(f"html[lang={language}][data-ready]")
        until(page, lambda: page.locator("#cautions li").count() == 9)
        assert waiting(page) > 10
        assert page.evaluate(NODES) <= MOST_NODES


@pytest.mark.slow
@pytest.mark.ci_slice
@pytest.mark.parametrize("place", ["", "#training", "#provenance"])
def test_axe_finds_nothing_serious_while_parts_wait(near: Visit, place: str) -> None:
    page = near.open(place)
    settled(page)
    page.wait_for_timeout(500)
    assert waiting(page) > 10
    assert axe(page) == []


@pytest.mark.slow
@pytest.mark.ci_slice
def test_the_list_of_answers_rests_while_it_is_far(near: Visit) -> None:
    page = near.open("#answers")
    rows = page.locator("article.example")
    until(page, lambda: rows.count() > 2)
    page.locator(".examples-box").evaluate("box => { box.scrollTop = 2000; }")
    settled(page)
    first = page.locator(".examples-frame .frame-steps .num").inner_text()
    shown = rows.nth(1).get_attribute("data-id")
    page.click("a[data-nav=provenance]")
    until(page, lambda: rows.count() == 1)
    page.click("a[data-nav=answers]")
    until(page, lambda: rows.count() > 2)
    assert page.locator(f"article[data-id='{shown}']").count() == 1
    assert page.locator(".examples-frame .frame-steps .num").inner_text() == first


@pytest.mark.slow
@pytest.mark.ci_slice
def test_the_document_is_whole_for_searching_and_for_paper(near: Visit) -> None:
    page = near.open()
    assert waiting(page) > 10 and page.locator("#command").count() == 0
    for key in ("Control+f", "F3", "Control+a"):
        page.keyboard.press(key)
        assert waiting(page) == 0 and page.locator("#command").count() == 1
        page.evaluate("getSelection().removeAllRanges()")
        page.mouse.click(5, 400)
        until(page, lambda: waiting(page) > 10)
    page.emulate_media(media="print")
    until(page, lambda: waiting(page) == 0)
    page.emulate_media(media="screen")
    until(page, lambda: waiting(page) > 10)


@pytest.mark.slow
@pytest.mark.ci_slice
def test_all_of_it_is_printed(near: Visit, whole: Visit) -> None:
    sheets = [
        len(re.findall(rb"/Type\s*/Page\b", visit.open().pdf(format="A4")))
        for visit in (near, whole)
    ]
    assert abs(sheets[0] - sheets[1]) <= 1 < sheets[1]
    until(near.page, lambda: waiting(near.page) > 10)


STOP = """() => {
  const node = document.activeElement;
  const label = node.getAttribute('aria-label') ?? '';
  return `${node.tagName}#${node.id} ${node.name ?? ''} ${label} ${node.textContent.slice(0, 30)}`;
}"""


def stops(page: Any, key: str) -> list[str]:
    """The tab stops from the section of training to the end of the page, or the way back."""
    start = "#training-title" if key == "Tab" else "footer"
    page.evaluate(
        """(start) => {
          const node = document.querySelector(start);
          node.tabIndex = -1;
          node.focus();
        }""",
        start,
    )
    settled(page)
    found: list[str] = []
    while len(found) < 80:
        page.keyboard.press(key)
        settled(page)
        found.append(page.evaluate(STOP))
        if "data-copy" in found[-1] or found[-1].startswith("BODY"):
            break
    return found


@pytest.mark.slow
@pytest.mark.parametrize("key", ["Tab", "Shift+Tab"])
def test_the_tab_key_finds_all_that_waits(near: Visit, whole: Visit, key: str) -> None:
    ways = [stops(visit.open(), key) for visit in (near, whole)]
    assert ways[0] == ways[1]
    assert len(set(ways[0])) > 15


def test_what_is_folded_comes_when_it_is_opened(near: Visit) -> None:
    page = near.open()
    fold = page.locator("#scores details.more").first
    fold.scroll_into_view_if_needed()
    settled(page)
    assert fold.locator("dl").count() == 0
    fold.locator("summary").click()
    assert fold.locator("dl").is_visible()
    other = page.locator("#scores details.more").nth(1)
    for opened in (True, False, True):
        other.evaluate("(node, opened) => { node.open = opened; }", opened)
        until(page, lambda opened=opened: other.locator("dl").count() == opened)


@pytest.mark.slow
@pytest.mark.ci_slice
def test_a_table_stays_where_it_was_scrolled_to(browser: Any, report: Path) -> None:
    visit = Visit(browser, report, whole=False, viewport={"width": 390, "height": 844})
    page = visit.open()
    page.locator("#scores-table").scroll_into_view_if_needed()
    page.evaluate("document.querySelector('#scores-table').scrollLeft = 150")
    page.click("a[data-nav=provenance]")
    until(page, lambda: page.locator("#scores-table").count() == 0)
    page.click("a[data-nav=overview]")
    until(page, lambda: page.locator("#scores-table").count() == 1)
    assert page.evaluate("document.querySelector('#scores-table').scrollLeft") == 150
    visit.close()
    assert visit.problems == []
