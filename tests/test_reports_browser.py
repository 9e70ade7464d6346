"""The page in a real browser, offline: every control is driven and its effect asserted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import WIDTHS, Visit, browser, until
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


@pytest.fixture
def visit(browser: Any, report: Path) -> Iterator[Visit]:
    found = Visit(browser, report)
    yield found
    found.close()
    assert found.problems == []


@pytest.fixture(scope="module")
def table(report: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The row scores by (id, model), read without the code under test."""
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(report.parent / "evaluate/scores.parquet").to_pylist()
    return {(row["id"], row["model"]): row for row in rows}


def shown(page: Any) -> int:
    return int(page.locator(".status").inner_text().split(" of ")[0].replace(",", ""))


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


def test_modes_count_what_they_say(visit: Visit, table: dict[Any, Any]) -> None:
    page = visit.open()
    ids = list(dict.fromkeys(identity for identity, _ in table))
    models = ("base", "base-3shot", "sft", "ppo")
    different = sum(len({table[i, m]["answer"].strip() for m in models}) > 1 for i in ids)
    assert shown(page) == ROWS
    page.check("input[name=mode][value=different]", force=True)
    assert shown(page) == different
    for metric, sign in (("exact_match", 1), ("perplexity", -1)):
        page.select_option("select[name=metric]", metric)
        for mode, factor in (("a", -1), ("b", 1)):
            page.check(f"input[name=mode][value={mode}]", force=True)
            wins = sum(
                sign * factor * (table[i, "ppo"][metric] - table[i, "sft"][metric]) > 0 for i in ids
            )
            assert shown(page) == wins
    page.select_option("select[name=b]", "base")
    assert "Base better" in page.locator(".segments").inner_text()
    page.click("button.reset")
    assert shown(page) == ROWS


def test_search_with_highlight_and_plain_fallback(visit: Visit, table: dict[Any, Any]) -> None:
    page = visit.open()
    prompts = {identity: row["prompt"] for (identity, _), row in table.items()}
    search = page.locator("input[name=q]")
    query = "^how.*item 00[0-4]|下面.*item 01"
    search.fill(query)
    matching = sum(bool(re.search(query, prompt, re.IGNORECASE)) for prompt in prompts.values())
    assert 0 < matching < ROWS
    until(page, lambda: shown(page) == matching)
    assert page.locator(".row .prompt mark").count() == matching
    assert page.locator(".row .prompt mark").last.inner_text().startswith("下面")
    search.fill("ITEM 02")
    expected = sum("item 02" in prompt.lower() for prompt in prompts.values())
    until(page, lambda: shown(page) == expected)
    search.fill("list. (")
    until(page, lambda: shown(page) == 0)
    assert "plain text" in page.locator(".hint").inner_text()
    page.click("button.reset")
    assert page.locator("input[name=q]").input_value() == ""
    assert page.locator("mark").count() == 0


def test_filters_pages_columns_and_order(visit: Visit, table: dict[Any, Any]) -> None:
    page = visit.open()
    assert page.locator("article.row").count() == 20
    first = page.locator(".row-id").first.inner_text()
    page.get_by_role("button", name="Next").click()
    assert page.locator(".row-id").first.inner_text() != first
    assert "21–40 of 60" in page.locator(".pager").inner_text()
    page.select_option("select[name=lang]", "zh")
    zh = {identity for (identity, _), row in table.items() if row["language"] == "zh"}
    assert shown(page) == len(zh)
    page.select_option("select[name=cat]", "plural")
    both = {i for i in zh if table[i, "sft"]["category"] == "plural"}
    assert shown(page) == len(both)
    assert page.locator(".answer h4").count() == 4 * len(both)
    page.uncheck("input[name=column][value=base]")
    assert page.locator(".answer h4").count() == 3 * len(both)
    page.click("button.reset")
    page.select_option("select[name=metric]", "reward")
    page.select_option("select[name=sort]", "gap")
    gaps = {i: abs(table[i, "ppo"]["reward"] - table[i, "sft"]["reward"]) for i, _ in table}
    order = sorted(gaps, key=lambda i: -gaps[i])[:20]
    assert page.locator(".row-id").all_inner_texts() == order
    page.locator(".row-scores summary").first.click()
    until(page, lambda: page.locator(".score-table tbody tr").count() == 7 + 3)


def test_what_was_chosen_is_restored_from_the_address(visit: Visit) -> None:
    page = visit.open()
    page.check("input[name=mode][value=b]", force=True)
    page.select_option("select[name=metric]", "perplexity")
    page.select_option("select[name=lang]", "en")
    page.locator("input[name=q]").fill("item|の&=#")
    until(page, lambda: "q=" in page.url)
    before = page.locator(".status").inner_text()
    url = page.url
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.url == url
    assert page.locator("input[name=mode][value=b]").is_checked()
    assert page.locator("select[name=metric]").input_value() == "perplexity"
    assert page.locator("select[name=lang]").input_value() == "en"
    assert page.locator("input[name=q]").input_value() == "item|の&=#"
    assert page.locator(".status").inner_text() == before


def test_a_broken_address_does_no_harm(visit: Visit) -> None:
    page = visit.open(
        "#answers&mode=nonsense&a=%E0%A4%A&metric=__proto__&page=-7&vs=x&hide=a,b&by=q"
    )
    assert shown(page) == ROWS
    assert page.locator("article.row").count() == 20


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


def test_a_group_leads_to_its_answers(visit: Visit) -> None:
    page = visit.open()
    page.select_option("#slice-by", "category")
    page.select_option("#slice-metric", "reward")
    assert page.locator(".heat tbody tr").count() == 12
    page.get_by_role("button", name="plural").click()
    assert page.locator("select[name=cat]").input_value() == "plural"
    assert shown(page) == 5
    assert page.url.split("#")[1].startswith("answers")


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
    if width == 390:
        # The table scrolls in its own box, and its first column stays.
        box = page.locator("#scores-table")
        box.evaluate("node => { node.scrollLeft = 200; }")
        left = box.locator("tbody th").first.evaluate("node => node.getBoundingClientRect().left")
        assert left == pytest.approx(box.bounding_box()["x"], abs=2)
        columns = page.locator(".row").first.locator(".answer")
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
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    while page.get_by_role("button", name="Next").is_enabled():
        page.get_by_role("button", name="Next").click()
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
    assert page.locator("article.row").count() <= 50
    page.locator("input[name=q]").fill("item 1234 ")
    until(page, lambda: shown(page) == 0)
    page.locator("input[name=q]").fill("item")
    until(page, lambda: shown(page) == 10_000)
    visit.close()
    assert visit.problems == []


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
