"""The frame of the page in a real browser: language, theme, keyboard, print, widths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Visit, axe, browser, until
from report_fixture import make_run

from espalier.reports.config import ReportConfig
from espalier.reports.page import build_report
from espalier.reports.strings import words

pytestmark = pytest.mark.browser

__all__ = ["browser"]
ROWS = 24


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("runs") / "demo", rows=ROWS)
    build_report(run, ReportConfig(notes=["A note."]), run / "report.html")
    return run / "report.html"


@pytest.fixture
def visit(browser: Any, report: Path) -> Iterator[Visit]:
    found = Visit(browser, report)
    yield found
    found.close()
    assert found.problems == []


def switch(page: Any, language: str) -> None:
    page.select_option("#language", language)
    page.wait_for_selector(f"html[lang={language}][data-ready]")


# --- language ---------------------------------------------------------------------------------


def test_the_language_is_switched_and_kept_in_the_address(visit: Visit) -> None:
    page = visit.open()
    english, chinese = words("en"), words("zh")
    assert page.locator("#answers-title").inner_text() == english["section.answers"]
    page.fill("input[name=q]", "item 00")
    until(page, lambda: "q=" in page.url)
    found = page.locator("article.row").count()
    switch(page, "zh")
    assert "ui=zh" in page.url and "q=" in page.url
    assert page.locator("#answers-title").inner_text() == chinese["section.answers"]
    # The components run on the new content, with what was chosen before.
    assert page.locator("input[name=q]").input_value() == "item 00"
    assert page.locator("article.row").count() == found
    page.select_option("#baseline", "base")
    assert "vs=base" in page.url
    page.reload()
    page.wait_for_selector("html[lang=zh][data-ready]")
    assert page.locator("#baseline").input_value() == "base"
    switch(page, "en")
    assert page.locator("#answers-title").inner_text() == english["section.answers"]
    assert page.locator("#baseline").input_value() == "base"
    assert page.evaluate("document.activeElement.id") == "language"


def test_the_browser_s_language_comes_first(browser: Any, report: Path) -> None:
    found = Visit(browser, report, locale="zh-CN")
    page = found.open()
    assert page.evaluate("document.documentElement.lang") == "zh"
    page.goto(found.url + "#ui=en")
    page.wait_for_selector("html[lang=en][data-ready]")
    found.close()
    assert found.problems == []


def test_the_author_s_choice_of_language(browser: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", rows=3, stages=("evaluate",))
    build_report(run, ReportConfig(language="zh"), run / "report.html")
    found = Visit(browser, run / "report.html", locale="en-US")
    page = found.open()
    assert page.evaluate("document.documentElement.lang") == "zh"
    switch(page, "en")
    page.reload()
    page.wait_for_selector("html[lang=en][data-ready]")
    found.close()
    assert found.problems == []


def test_reading_goes_on_where_it_was(visit: Visit) -> None:
    page = visit.open()
    page.evaluate("document.querySelector('#provenance').scrollIntoView()")
    before = page.evaluate("document.querySelector('#provenance').getBoundingClientRect().top")
    switch(page, "zh")
    top = "document.querySelector('#provenance').getBoundingClientRect().top"
    until(page, lambda: abs(page.evaluate(top) - before) < 60)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, report: Path, language: str, scheme: str) -> None:
    found = Visit(browser, report, color_scheme=scheme)
    page = found.open(f"#ui={language}")
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert axe(page) == []
    found.close()
    assert found.problems == []
