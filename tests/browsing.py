"""A real browser for the tests of pages: offline, counting whatever a page should not do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-quic",
]  # fmt: skip
WIDTHS = (390, 1280, 1920)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium for the tests of one file, which imports this fixture by name."""
    executable = CHROMIUM if Path(CHROMIUM).exists() else shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        absent("playwright is not installed")
    if executable is None:
        absent("chromium is not installed")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield found
        found.close()


def absent(reason: str) -> None:
    """Skip; fail in continuous integration, which has to have what is absent here."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and continuous integration has to have it")
    pytest.skip(reason)


class Visit:
    """A page opened from its file with the network off; counts whatever it should not do.

    `whole`: all parts of the page stand in the document, as they do for printing; without it
    those far from the window wait outside, as they do for readers.
    """

    def __init__(self, browser: Any, path: Path, whole: bool = True, **options: Any) -> None:
        options = {"viewport": {"width": 1280, "height": 900}, "locale": "en-US", **options}
        self.context = browser.new_context(offline=True, **options)
        self.page = self.context.new_page()
        if whole:
            printing = "document.addEventListener('readystatechange', () =>"
            self.page.add_init_script(f"{printing} dispatchEvent(new Event('beforeprint')))")
        self.page.set_default_timeout(60_000)
        self.problems: list[str] = []
        self.url = path.resolve().as_uri()
        self.page.on("console", lambda message: self.problems.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: self.problems.append(f"dialog: {dialog.message}"))
        self.page.on("request", self._request)

    def _request(self, request: Any) -> None:
        if request.url.split("#")[0] != self.url and not request.url.startswith("data:"):
            self.problems.append(f"request: {request.url}")

    def open(self, hash: str = "") -> Any:
        """Go to the page, with this address after its `#`; returns when its script is done."""
        if self.page.url != "about:blank":
            # Another address of the page that is there would load nothing by itself.
            self.page.goto("about:blank")
        self.page.goto(self.url + hash)
        self.page.wait_for_selector("html[data-ready]")
        settled(self.page)
        return self.page

    def close(self) -> None:
        self.context.close()


def visits(page: str, **options: Any) -> Any:
    """A fixture that opens nothing yet: a visit to the page (or `report.html` of the folder) that
    the test file's fixture called `page` gives; nothing may have gone wrong by its end."""

    @pytest.fixture
    def visit(browser: Any, request: pytest.FixtureRequest) -> Iterator[Visit]:
        path = request.getfixturevalue(page)
        found = Visit(browser, path / "report.html" if path.is_dir() else path, **options)
        yield found
        found.close()
        assert found.problems == []

    return visit


def settled(page: Any) -> None:
    """Wait until what measures itself is drawn: charts are, once the layout tells their width."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")


def until(page: Any, condition: Callable[[], bool]) -> None:
    """Wait for an effect of a debounced control; the page's policy forbids polling inside it.

    A page that is being loaded anew in the middle of the question has not answered yet.
    """
    from playwright.sync_api import Error

    for _ in range(1200):
        try:
            if condition():
                return
        except Error as error:
            if "context was destroyed" not in str(error):
                raise
        page.wait_for_timeout(50)
    raise AssertionError("it did not happen within a minute")


def rows_of(page: Any, where: str) -> list[list[str]]:
    """The texts of a table's body on the page, cell by cell; `where` is a CSS selector."""
    found: list[list[str]] = page.evaluate(
        """(where) => [...document.querySelectorAll(`${where} tbody tr`)]
            .map((row) => [...row.cells].map((cell) => cell.innerText.trim()))""",
        where,
    )
    return found


def axe(page: Any, within: str | None = None) -> list[str]:
    """What axe-core finds serious or critical on the page as it stands: one line a rule.

    `within` is a CSS selector that the check keeps to. The script of axe-core comes from the
    package axe-playwright-python and is put in past the page's policy, as a debugger would.
    """
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ModuleNotFoundError:
        absent("axe-playwright-python is not installed")
    found = Axe().run(page, context=within, options={"resultTypes": ["violations"]})
    return [
        f"{rule['id']} ({rule['impact']}): {rule['help']}: "
        + "; ".join(" ".join(map(str, node["target"])) for node in rule["nodes"][:5])
        for rule in found.response["violations"]
        if rule["impact"] in ("serious", "critical")
    ]


def broken_words(page: Any) -> list[str]:
    """Short words in the cells of scrolling tables that go on in a second line."""
    return list(
        page.evaluate(
            """() => [...document.querySelectorAll(".scroll td, .scroll th")].flatMap((cell) => {
                const found = [];
                const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
                while (walker.nextNode()) {
                    const node = walker.currentNode;
                    if (node.parentElement.closest("code, .error-text, .hash")) continue;
                    for (const word of node.data.matchAll(/(?<!\\S)[A-Za-z0-9.,]{2,12}(?!\\S)/g)) {
                        const range = document.createRange();
                        range.setStart(node, word.index);
                        range.setEnd(node, word.index + word[0].length);
                        const lines = new Set([...range.getClientRects()].map((r) => r.top));
                        if (lines.size > 1) found.push(word[0]);
                    }
                }
                return found;
            })"""
        )
    )


def overflowing(page: Any) -> int:
    """By how many pixels the page is wider than its window."""
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    return int(page.evaluate(wide))
