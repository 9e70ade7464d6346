"""The report of 10,000 prompts × 4 models (33 MB of text) beside pages made otherwise.

Peers, over the same texts and scores: a page with a DOM node a row, and packing as gzip of JSON in
base64. Each page is opened in Chromium from its file, offline; what counts is the size, the time to
the first paint, until the page is ready, and until the answers of a filter stand there. Our pages
are built by `espalier report` in a process of its own, whose peak memory is shown.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import data_folder, header, write
from report_corpus import MODELS, Row, drawn, make_run, texts

PROMPTS, LARGE = 10_000, 100_000
ROUNDS = 5
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-quic",
]  # fmt: skip
# Stands in the page before anything else runs; the time is since the navigation began.
WATCH = """
new MutationObserver(() => {
  const root = document.documentElement;
  if (root?.dataset.ready && !window.readyAt) window.readyAt = performance.now();
}).observe(document, { attributes: true, subtree: true, attributeFilter: ["data-ready"] });
"""
# From the typed letter to the first change of the count of rows, less the wait for more letters.
FILTER = """
([query, wait]) => new Promise((resolve) => {
  const input = document.querySelector('#answers input[name="q"]');
  const count = document.querySelector('#answers p.status');
  const start = performance.now();
  new MutationObserver((_, watch) => {
    watch.disconnect();
    resolve(performance.now() - start - wait);
  }).observe(count, { childList: true, characterData: true, subtree: true });
  input.value = query;
  input.dispatchEvent(new Event("input", { bubbles: true }));
})
"""
QUERIES = ("government", "ing the", "[0-9]{4}", "university")
# Milliseconds that the page waits for the reader's next letter.
DEBOUNCE = 120
RUN = "import sys; from espalier.cli import main; sys.exit(main(sys.argv[1:]))"
PAGE = "<!doctype html><meta charset=utf-8><title>x</title><table>{}</table>"


def node_a_row(rows: list[Row], output: Path) -> None:
    """The page of a simple script: a table row a prompt."""
    with output.open("w", encoding="utf-8") as file:
        start, end = PAGE.split("{}")
        file.write(start)
        for category, prompt, reference, answers in rows:
            cells = (category, prompt, reference, *answers)
            file.write("<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in cells) + "\n")
        file.write(end)


def gzip_base64(rows: list[Row]) -> int:
    """Bytes of the texts as JSON in columns, by gzip and base64."""
    columns = {
        "prompt": [row[1] for row in rows],
        "reference": [row[2] for row in rows],
        **{name: [row[3][i] for row in rows] for i, name in enumerate(MODELS)},
    }
    text = json.dumps(columns, ensure_ascii=False, separators=(",", ":"))
    return len(base64.b64encode(gzip.compress(text.encode("utf-8"), 6)))


def build(run: Path, output: Path) -> tuple[float, float]:
    """Seconds and peak MB of `espalier report`."""
    command = [sys.executable, "-c", RUN, "report", str(run), "--output", str(output)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    process.returncode = 0
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def opened(browser: Any, path: Path, rounds: int = ROUNDS) -> dict[str, float]:
    """Medians of opening a page: milliseconds to paint, until ready, of a filter; nodes, heap."""
    found: list[dict[str, float]] = []
    for _ in range(rounds):
        context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.set_default_timeout(600_000)
        page.add_init_script(WATCH)
        page.goto(path.resolve().as_uri())
        if page.locator("#answers").count():
            page.wait_for_selector("html[data-ready]")
            found.append({**_opening(page), "ready": page.evaluate("window.readyAt")})
            times = [page.evaluate(FILTER, [query, DEBOUNCE]) for query in QUERIES]
            found[-1] |= {"filter": max(times), "scrolled": _scrolled(page)}
        else:
            load = "performance.getEntriesByType('navigation')[0].loadEventEnd"
            found.append({**_opening(page), "ready": page.evaluate(load)})
        context.close()
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def _opening(page: Any) -> dict[str, float]:
    paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN"
    return {
        "paint": page.evaluate(paint),
        "nodes": page.evaluate("document.querySelectorAll('*').length"),
        "heap": page.evaluate("performance.memory.usedJSHeapSize / 1e6"),
    }


def _scrolled(page: Any) -> float:
    """Most elements of the page while its answers are scrolled through."""
    most = 0
    page.locator("#answers .examples-box").hover()
    for _ in range(40):
        page.mouse.wheel(0, 3_000)
        page.wait_for_timeout(30)
        most = max(most, page.evaluate("document.querySelectorAll('*').length"))
    return most


def row(name: str, size: int, times: dict[str, float]) -> str:
    """A line of the table."""
    shown = [f"{times[key]:,.0f}" if key in times else "" for key in ("paint", "ready", "filter")]
    most = f"{times.get('scrolled', times['nodes']):,.0f}"
    return f"| {name} | {size / 1e6:.1f} | {' | '.join(shown)} | {most} | {times['heap']:.0f} |"


def main() -> None:
    data = data_folder()
    if data is None:
        raise SystemExit("the texts come from real data (set ESPALIER_DATA)")
    from playwright.sync_api import sync_playwright

    makers: dict[str, tuple[Callable[[Path, int], Any], int]] = {
        "real texts": (texts, PROMPTS),
        "drawn texts": (drawn, PROMPTS),
        "drawn texts, ten times as many": (drawn, LARGE),
    }
    lines, built = [], []
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=[*ARGUMENTS, "--enable-precise-memory-info"],
        )
        for number, (label, (maker, prompts)) in enumerate(makers.items()):
            run, page = folder / f"run{number}", folder / f"{number}.html"
            total = make_run(run, maker(data, prompts))
            seconds, peak = build(run, page)
            size = page.stat().st_size
            what = f"{label}: {prompts:,} prompts, {total / 1e6:.0f} MB"
            lines.append(row(f"ours, {what}", size, opened(browser, page)))
            built.append(f"| {what} | {seconds:.1f} | {peak:.0f} |")
            if prompts > PROMPTS:
                continue
            rows = list(maker(data, prompts))
            plain = folder / "plain.html"
            node_a_row(rows, plain)
            times = opened(browser, plain, rounds=1)
            lines.append(row(f"a DOM node a row, {label}", plain.stat().st_size, times))
            lines.append(f"| gzip, base64, {label} | {gzip_base64(rows) / 1e6:.1f} | | | | | |")
        browser.close()
    write("report.md", page_of(lines, built))


def page_of(lines: list[str], built: list[str]) -> list[str]:
    """The results page."""
    return [
        *(x.replace("interleaved runs", "openings") for x in header("The report at scale", ROUNDS)),
        "Four models. Opened in headless Chromium from a file, offline; milliseconds since the "
        "navigation began. Ready: all texts are unpacked and the answers stand there. Filter: the "
        f"slowest of {len(QUERIES)} searches over all texts. Nodes: the most elements while "
        "scrolling through the answers. MB are 10^6 bytes.",
        "",
        "| page | file, MB | first paint, ms | ready, ms | filter, ms | nodes | heap, MB |",
        "|---|---|---|---|---|---|---|",
        *lines,
        "",
        "Real texts hold the same documents under several templates, which a window of 32 KiB "
        "does not see; drawn texts hold no document twice and are harder to pack than real ones. "
        "Of the largest set the page holds the texts of about 100 MB "
        "(`report.answer_megabytes`) and the scores of all; it says so.",
        "",
        "| building | seconds | peak memory, MB |",
        "|---|---|---|",
        *built,
    ]


if __name__ == "__main__":
    main()
