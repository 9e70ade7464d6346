"""The frame of the page in a real browser: language, theme, keyboard, print, widths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browsing import WIDTHS, Visit, axe, browser, overflowing, until, visits
from curate_fixture import make_folder, spending
from report_fixture import make_run

from espalier.curate.statistics import write_statistics
from espalier.reports.config import ReportConfig
from espalier.reports.data_page import build_data_page
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


visit = visits("report")


def switch(page: Any, language: str) -> None:
    page.select_option("#language", language)
    page.wait_for_selector(f"html[lang={language}][data-ready]")


# --- language ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.ci_slice
def test_the_language_is_switched_and_kept_in_the_address(visit: Visit) -> None:
    page = visit.open()
    english, chinese = words("en"), words("zh")
    assert page.locator("#answers-title").inner_text() == english["section.answers"]
    page.fill("input[name=q]", "item 00")
    until(page, lambda: "q=" in page.url)
    found = page.locator("article.example").count()
    switch(page, "zh")
    assert "ui=zh" in page.url and "q=" in page.url
    assert page.locator("#answers-title").inner_text() == chinese["section.answers"]
    # The components run on the new content, with what was chosen before.
    assert page.locator("input[name=q]").input_value() == "item 00"
    assert page.locator("article.example").count() == found
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


@pytest.mark.slow
@pytest.mark.ci_slice
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


@pytest.mark.slow
@pytest.mark.ci_slice
def test_reading_goes_on_where_it_was(visit: Visit) -> None:
    page = visit.open()
    top = "document.querySelector('#provenance').getBoundingClientRect().top"
    page.click("a[data-nav=provenance]")
    # Charts above are drawn as they come into view: the section is followed.
    until(page, lambda: 0 <= page.evaluate(top) < 120)
    page.wait_for_timeout(1500)
    before = page.evaluate(top)
    assert 0 <= before < 120
    switch(page, "zh")
    until(page, lambda: abs(page.evaluate(top) - before) < 60)


@pytest.mark.slow
def test_the_data_page_speaks_both_languages_too(browser: Any, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "clean", 20)
    write_statistics(folder, spending())
    build_data_page(folder, folder / "data.html")
    found = Visit(browser, folder / "data.html")
    page = found.open()
    for language in ("zh", "en"):
        switch(page, language)
        assert page.locator("#removed-title").inner_text() == words(language)["section.dp_removed"]
        assert words(language)["rule.refusal"] in page.locator("#rejects-browser").inner_text()
        assert axe(page) == []
    found.close()
    assert found.problems == []


# --- keyboard, theme, print --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.ci_slice
def test_the_sheet_of_keys(visit: Visit) -> None:
    page = visit.open()
    sheet = page.locator("#help")
    assert sheet.is_hidden()
    page.keyboard.press("?")
    assert sheet.is_visible()
    for part in ("general", "answers", "charts", "rating"):
        assert words("en")[f"help.part_{part}"] in sheet.inner_text()
    page.keyboard.press("Escape")
    assert sheet.is_hidden()
    page.click("#help-open")
    page.click("#help-close")
    assert sheet.is_hidden()
    # Typed into a field it is a character like any other.
    page.locator("input[type=search]").first.focus()
    page.keyboard.press("?")
    assert sheet.is_hidden()
    switch(page, "zh")
    page.keyboard.press("?")
    assert words("zh")["help.title"] in page.locator("#help").inner_text()


@pytest.mark.slow
@pytest.mark.ci_slice
def test_the_command_is_copied(browser: Any, report: Path) -> None:
    found = Visit(browser, report)
    found.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = found.open("#provenance")
    page.click("button[data-copy=command]")
    until(page, lambda: page.locator("button[data-copy=command]").inner_text() == "Copied")
    command = page.locator("#command").inner_text()
    assert "espalier run recipe.yaml --run demo" in command
    assert page.evaluate("navigator.clipboard.readText()") == command
    found.close()
    assert found.problems == []


@pytest.mark.slow
@pytest.mark.ci_slice
def test_tabs_lead_through_the_page_visibly(visit: Visit) -> None:
    page = visit.open()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        outline, top, bottom, name = page.evaluate(
            """() => {
              const node = document.activeElement;
              const style = getComputedStyle(node);
              const box = node.getBoundingClientRect();
              const shown = style.outlineStyle !== "none" || style.boxShadow !== "none";
              const name = node.tagName + node.id + node.textContent.slice(0, 20);
              return [shown, box.top, box.bottom, name];
            }"""
        )
        assert outline and bottom > 0 and top < 900, name
        seen.append(name)
    assert len(set(seen)) > 20
    page.keyboard.press("Shift+Tab")
    page.locator("a.skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


# Controls and links smaller than 24 pixels, but for links inside sentences.
SMALL = """() => {
  const sizes = (node) => [node.getBoundingClientRect().width, node.getBoundingClientRect().height];
  const whole = (node) => (node.matches("input") ? node.closest("label") : null) ?? node;
  return [...document.querySelectorAll("#page :is(button, select, summary, input, a[href])")]
    .filter((node) => node.getClientRects().length && node.checkVisibility())
    .filter((node) => !node.closest(".visually-hidden, .skip, p, dd, li span, .told"))
    .map(whole)
    .filter((node) => Math.min(...sizes(node)) < 23.5 && Math.max(...sizes(node)) > 1)
    .map((node) => `${node.tagName}.${node.className} ${sizes(node)}: ${node.textContent.trim()}`);
}"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_targets_are_large_enough(browser: Any, report: Path, width: int) -> None:
    found = Visit(browser, report, viewport={"width": width, "height": 900})
    page = found.open()
    assert page.evaluate(SMALL) == []
    found.close()


@pytest.mark.slow
@pytest.mark.ci_slice
def test_on_paper(visit: Visit) -> None:
    page = visit.open()
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 794, "height": 1123})
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    for selector in (".bar", "#help", "button[data-copy]"):
        assert page.locator(selector).first.is_hidden()
    assert page.locator("#scores-table table").is_visible()
    assert page.locator("#cautions").is_visible()
    assert overflowing(page) == 0
    assert page.pdf(format="A4")[:5] == b"%PDF-"


# --- provenance and warnings -------------------------------------------------------------------


def test_what_could_mislead_stands_in_both_languages(visit: Visit) -> None:
    page = visit.open()
    said = {}
    for language in ("en", "zh"):
        switch(page, language)
        listed = page.locator("#cautions li").all_inner_texts()
        said[language] = [
            page.locator(f"#cautions li.{state}").count()
            for state in ("caution", "fine", "unknown")
        ]
        assert any(words(language)["caution.synthetic.caution"] in text for text in listed)
    assert said["en"] == said["zh"] and sum(said["en"]) == 9
    row = page.locator("#provenance .stages tbody tr").first.inner_text()
    assert "2026-01-02 03:04:05" in row
    text = page.locator("#provenance").inner_text()
    for fact in ("torch", "2.13.0", "Example CPU", "0123456789ab", "ab" * 32):
        assert fact in text


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_nothing_is_wider_than_the_window(
    browser: Any, report: Path, width: int, language: str
) -> None:
    found = Visit(browser, report, viewport={"width": width, "height": 900})
    page = found.open(f"#ui={language}")
    page.evaluate(
        "document.querySelectorAll('details:not(.menu)').forEach(d => { d.open = true; })"
    )
    page.wait_for_timeout(300)
    assert overflowing(page) == 0
    found.close()
    assert found.problems == []


@pytest.mark.slow
@pytest.mark.ci_slice
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, report: Path, language: str, scheme: str) -> None:
    found = Visit(browser, report, color_scheme=scheme)
    page = found.open(f"#ui={language}")
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert axe(page) == []
    found.close()
    assert found.problems == []


def test_the_sheet_of_keys_opens_on_the_page_about_data(browser: Any, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "clean")
    write_statistics(folder)
    build_data_page(folder, folder / "data.html")
    visit = Visit(browser, folder / "data.html")
    page = visit.open()
    page.click("#help-open")
    assert page.locator("#help").is_visible()
    page.click("#help-close")
    assert not page.locator("#help").is_visible()
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    visit.close()
    assert visit.problems == []
