"""Hostile text all over one page: nothing runs, is asked for, or leaves its cell."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from browsing import Visit, browser, overflowing, until
from hostile_texts import LONG_LINE, PAYLOADS
from report_fixture import make_run, write_json, write_lines
from test_reports_page import Page

from espalier.reports.config import ReportConfig
from espalier.reports.page import build_report

__all__ = ["browser"]
STAGES = ("curate", "sft", "reward", "ppo", "evaluate")
# What a page of ours never has; text that became markup would.
FOREIGN = (
    "#page :is(img, image, iframe, object, embed, video, audio, link, meta, base, style, script,"
    " form[action], portal, marquee, math, foreignObject, animate, set, use, area),"
    " a[href^='javascript:' i], a[href^='data:' i], a[href^='vbscript:' i], [srcdoc]"
)
HANDLED = """() => [...document.querySelectorAll("*")].flatMap((node) =>
    [...node.attributes].filter((one) => one.name.startsWith("on")).map((one) => one.name))"""
# Texts whose characters turn the direction of writing, beside words that are not theirs.
TURNED = r"""() => {
  const found = [];
  const walker = document.createTreeWalker(document.getElementById("page"), NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    let at = node.parentElement;
    if (!/[\u202a-\u202e\u2066-\u2069]/.test(node.data) || at.closest("option, noscript")) continue;
    const keeps = (one) => {
      const style = getComputedStyle(one);
      return /isolate|plaintext/.test(style.unicodeBidi) || style.display !== "inline";
    };
    while (!keeps(at)) at = at.parentElement;
    if (at.textContent.trim() !== node.data.trim()) found.push(at.outerHTML.slice(0, 160));
  }
  return found;
}"""


def writable(text: str) -> bool:
    """Whether a file can hold the text as UTF-8: a lone surrogate can be in JSON only."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def rotating(texts: list[str]) -> Callable[[str], str]:
    found = cycle(texts)
    return lambda _: next(found)


def hostile_run(folder: Path) -> Path:
    """Every payload as prompt, answer, name of a model, a file and a run, key and value of meta."""
    texts = [text for text in PAYLOADS if writable(text)]
    models = [
        (text, "", "stage", 0, 0.5) for text in ("<img src=x onerror=window.hit=1>", "__proto__")
    ]
    run = make_run(folder, rows=90, stages=STAGES, models=models, change=rotating(texts))
    rows = [
        {
            "id": f"{place:016x}",
            "messages": [
                {"role": "user", "content": text},
                {"role": "assistant", "content": LONG_LINE if place == 7 else text},
            ],
            "meta": {text: text, "source": text, "category": text, "language": text,
                     "teacher": text, "operator": text, "parents": [text, f"{place - 1:016x}"]},
        }
        for place, text in enumerate(PAYLOADS)
    ]  # fmt: skip
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "curate/train.jsonl").write_text(lines, encoding="utf-8")
    manifest = json.loads((run / "sft/manifest.json").read_text("utf-8"))
    manifest["counts"] = {text: {text: text} for text in PAYLOADS}
    manifest["packages"] = dict(zip(PAYLOADS, PAYLOADS, strict=True))
    manifest["hardware"] = {text: [text] for text in PAYLOADS}
    manifest["inputs"] = {text: {"path": text, "sha256": text} for text in PAYLOADS}
    manifest["notes"] = PAYLOADS
    write_json(run / "sft/manifest.json", manifest)
    summary = json.loads((run / "evaluate/summary.json").read_text("utf-8"))
    summary["warnings"] = PAYLOADS
    summary["set"]["path"] = PAYLOADS[0]
    summary["contamination"] = {"rows": 3, "against": [{"file": text} for text in PAYLOADS]}
    for place, metric in enumerate(summary["metrics"]):
        metric["label"], metric["signature"] = PAYLOADS[place], PAYLOADS[-place]
    summary["rubrics"] = [
        {"name": text, "marks": [text, f"{text} 2"], "checks": [], "meanings": {text: text}}
        for text in PAYLOADS[:12]
    ]
    write_json(run / "evaluate/summary.json", summary)
    ids = [json.loads(line)["id"] for line in first_answers(run)]
    fields = [PAYLOADS[place : place + 20] for place in range(0, len(PAYLOADS), 20)]
    write_lines(
        run / "evaluate/groups.jsonl",
        [
            {"id": row, "groups": dict.fromkeys(fields[place % len(fields)], PAYLOADS[place])}
            for place, row in enumerate(ids)
        ],
    )
    return run


def first_answers(run: Path) -> list[str]:
    path = sorted((run / "evaluate/answers").glob("*.jsonl"))[0]
    return path.read_text("utf-8").splitlines()


def test_there_are_enough_payloads() -> None:
    assert len(set(PAYLOADS)) >= 150


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "<svg onload=window.hit=1>"
    run = hostile_run(folder)
    build_report(run, ReportConfig(title=PAYLOADS[1], notes=PAYLOADS), run / "report.html")
    return run / "report.html"


def test_the_file_has_our_elements_only(report: Path) -> None:
    page = Page(report.read_text(encoding="utf-8"))
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"img", "iframe", "object", "embed", "video", "base", "form", "math", "image"}
    scripts = [a for name, a in page.tags if name == "script"]
    assert [a for a in scripts if "type" not in a] == [{}]
    assert all(a["type"] in ("application/json", "text/plain") for a in scripts if a)
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert (attributes.get("href") or "#").startswith(("#", "data:image/svg+xml,"))
    # Each note stands on the page as it is; a lone surrogate, which no file can hold, as "?".
    text = "".join(page.text)
    shown = ["".join(c if writable(c) else "?" for c in payload) for payload in PAYLOADS]
    assert [one for one in map(plain, shown) if one not in plain(text)] == []


def plain(text: str) -> str:
    """As a parser hands the text on: one kind of line end, no null."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")


def check(page: Any) -> None:
    assert page.evaluate("window.hit") is None
    assert page.evaluate(f'document.querySelectorAll("{FOREIGN}").length') == 0
    assert page.evaluate(HANDLED) == []
    assert page.evaluate(TURNED) == []
    assert page.evaluate("Object.prototype.polluted ?? Object.keys(Object.prototype).length") == 0


def open_all(page: Any) -> None:
    page.evaluate(
        "document.querySelectorAll('details:not(.menu)').forEach(d => { d.open = true; })"
    )
    page.wait_for_timeout(300)


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.ci_slice
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_runs_and_nothing_leaves_its_cell(browser: Any, report: Path, width: int) -> None:
    visit = Visit(browser, report, viewport={"width": width, "height": 900})
    page = visit.open("#answers")
    for language in ("en", "zh"):
        page.select_option("#language", language)
        page.wait_for_selector(f"html[lang={language}][data-ready]")
        open_all(page)
        height = page.evaluate("document.documentElement.scrollHeight")
        for top in range(0, height, 4000):
            page.evaluate("top => window.scrollTo(0, top)", top)
        check(page)
        assert overflowing(page) == 0
    visit.close()
    assert visit.problems == []


@pytest.mark.browser
@pytest.mark.slow
def test_hostile_fields_and_rubrics(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    page = visit.open("#answers")
    page.click("summary[data-menu=filters]")
    assert page.locator(".facet").count() > len(PAYLOADS) / 2
    check(page)
    for place in (0, 5, 30):
        page.locator(".menu-panel .check-line input").nth(place).check()
    page.keyboard.press("Escape")
    check(page)
    page.click("button.reset")
    page.locator("article.example [data-action=open]").first.click()
    links = page.locator(".group-links button")
    assert links.count() > 10
    check(page)
    links.nth(3).click()
    assert page.locator(".chip").count() == 1
    page.fill("input[name=rater]", PAYLOADS[0])
    page.locator(".rate-welcome button").click()
    page.wait_for_selector(".rate-item h4")
    tabs = page.locator("input[name=rate-part]")
    assert tabs.count() == 15
    tabs.nth(4).check(force=True)
    page.wait_for_selector(".rate-mark")
    check(page)
    assert overflowing(page) == 0
    visit.close()
    assert visit.problems == []


@pytest.mark.browser
@pytest.mark.slow
def test_a_hostile_address_does_no_harm(browser: Any, report: Path) -> None:
    for hash in (
        "#q=%3Cimg%20src%3Dx%20onerror%3Dhit%3D1%3E&ui=<script>&vs=__proto__&by=constructor",
        "#__proto__=x&constructor.prototype=y&ui=toString",
        "#%00%E0%A4%A&=&&==&ui=zh&ui=%ff",
        "#" + "a=" * 2000,
    ):
        visit = Visit(browser, report)
        page = visit.open(hash)
        check(page)
        visit.close()
        assert visit.problems == []


@pytest.mark.browser
def test_markup_could_not_be_made_of_text_anyhow(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    page = visit.open()
    blocked = page.evaluate(
        "(() => { try { document.body.innerHTML = '<b>x</b>'; return false; }"
        " catch { return true; } })()"
    )
    assert blocked
    visit.close()
    assert all("Trusted" in problem for problem in visit.problems)


@pytest.mark.browser
def test_lone_surrogates_in_answers(browser: Any, tmp_path: Path) -> None:
    """An unfinished evaluation has answer files only; JSON may hold half a character."""
    broken = [text for text in PAYLOADS if not writable(text)]
    assert len(broken) >= 3
    run = make_run(tmp_path / "r", rows=6, stages=("evaluate",))
    for name in ("summary.json", "scores.parquet", "manifest.json"):
        (run / "evaluate" / name).unlink()
    for path in (run / "evaluate/answers").glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for row, text in zip(rows, cycle(broken), strict=False):
            row["answer"] = text
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    build_report(run, ReportConfig(), run / "report.html")
    visit = Visit(browser, run / "report.html")
    page = visit.open()
    until(page, lambda: "surrogate" in page.locator("#answers").inner_text())
    check(page)
    visit.close()
    assert visit.problems == []
