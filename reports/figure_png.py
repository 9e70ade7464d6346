"""SVG to PNG by what this machine has: the package resvg_py, or Chromium through playwright."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from espalier.files import atomic_path

# Pixels of the picture for one of the drawing: 640 become 1,920, enough for a column of a paper.
ZOOM = 3
HINT = (
    "pip install 'espalier[figures]' (the package resvg_py), or playwright with Chromium; "
    "the SVG files are there"
)
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")


def way() -> str | None:
    """What can make PNG files here: `resvg`, `chromium` or None."""
    if importlib.util.find_spec("resvg_py") is not None:
        return "resvg"
    if importlib.util.find_spec("playwright") is not None and chromium() is not None:
        return "chromium"
    return None


def chromium() -> str | None:
    """The path of a Chromium on this machine."""
    return next((found for name in _CHROMIUM if (found := shutil.which(name))), None)


def write_pngs(pictures: Sequence[tuple[str, Path]], how: str) -> None:
    """Write each (SVG text, path) as a PNG file of `ZOOM` times its size."""
    if how == "resvg":
        resvg = importlib.import_module("resvg_py")
        for text, path in pictures:
            data = bytes(resvg.svg_to_bytes(svg_string=text, zoom=ZOOM))
            with atomic_path(path) as temporary:
                temporary.write_bytes(data)
        return
    with _browser() as browser:
        context = browser.new_context(device_scale_factor=ZOOM, offline=True)
        page = context.new_page()
        for text, path in pictures:
            page.set_content(f"<!doctype html><style>body{{margin:0}}</style>{_inline(text)}")
            with atomic_path(path) as temporary:
                page.locator("svg").screenshot(path=temporary, type="png")


def _inline(text: str) -> str:
    """The svg element alone: HTML has no place for an XML declaration."""
    return text[text.index("<svg") :]


@contextmanager
def _browser() -> Iterator[Any]:
    api = importlib.import_module("playwright.sync_api")
    with api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=chromium(), args=options)
        try:
            yield browser
        finally:
            browser.close()
