"""Wins by at least so much, filters by any field of the set, win rates by group: in a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from browsing import Visit, axe, browser, overflowing, until, visits
from overview_fixture import overview_run
from report_fixture import make_run, write_json, write_lines

from espalier.reports.config import ReportConfig
from espalier.reports.page import build_report

pytestmark = pytest.mark.browser

__all__ = ["browser"]

ROWS = 60
STEPS = ("1 low: 0–19", "2 middle: 20–39", "3 high: 40–59")
LEVELS = ("easy", "hard", "<b>odd</b>; ~%")
Table = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose set has the fields level and steps, the scores sliced by the first."""
    run = overview_run(tmp_path_factory.mktemp("runs") / "demo", rows=ROWS)
    folder = run / "evaluate"
    scores = read_table(folder)
    ids = list(dict.fromkeys(identity for identity, _ in scores))
    levels = {identity: LEVELS[i % 3] for i, identity in enumerate(ids)}
    groups = [
        {"id": identity, "groups": {"level": levels[identity], "steps": STEPS[i // 20]}}
        for i, identity in enumerate(ids)
    ]
    write_lines(folder / "groups.jsonl", groups)
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    for level in LEVELS:
        for model in ("base", "base-3shot", "sft", "ppo"):
            values = [scores[i, model]["reward"] for i in ids if levels[i] == level]
            entry = {"by": "level", "value": level, "model": model, "metric": "reward"}
            score = sum(values) / len(values)
            summary["slices"].append({**entry, "score": score, "n": len(values)})
    write_json(folder / "summary.json", summary)
    build_report(run, ReportConfig(), run / "report.html")
    return run / "report.html"


def read_table(folder: Path) -> Table:
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(folder / "scores.parquet").to_pylist()
    return {(row["id"], row["model"]): row for row in rows}


@pytest.fixture(scope="module")
def table(report: Path) -> Table:
    return read_table(report.parent / "evaluate")


visit = visits("report")


def identities(table: Table) -> list[str]:
    return list(dict.fromkeys(identity for identity, _ in table))


def shown(page: Any) -> int:
    return int(page.locator(".frame-bar .status").inner_text().split(" of ")[0].replace(",", ""))


def listed(page: Any) -> list[str]:
    found = page.locator("article.example").evaluate_all("all => all.map(one => one.dataset.id)")
    return [str(identity) for identity in found]


def gap(table: Table, identity: str, metric: str = "reward", model: str = "ppo") -> float:
    return float(table[identity, model][metric] - table[identity, "sft"][metric])


# --- a win by at least so much ----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.ci_slice
def test_wins_by_at_least_so_much(visit: Visit, table: Table) -> None:
    page = visit.open("#answers&metric=reward")
    slider = page.locator("input[name=least]")
    assert slider.is_hidden()
    page.check("input[name=mode][value=b]", force=True)
    gaps = [gap(table, i) for i in identities(table)]
    assert shown(page) == sum(one > 0 for one in gaps)
    # The far end is the last step that some answer reaches.
    top, step = (float(slider.get_attribute(name)) for name in ("max", "step"))
    assert top <= max(map(abs, gaps)) + 1e-3 < top + step + 1e-3
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    least = 5 * step
    wanted = sum(one >= least - 1e-3 for one in gaps)
    until(page, lambda: shown(page) == wanted)
    assert 0 < wanted < sum(one > 0 for one in gaps)
    assert f"least={least:g}" in page.url
    chip = page.locator(".chip", has_text="by at least")
    assert f"{least:g}" in chip.inner_text()
    assert slider.get_attribute("aria-valuetext") in chip.inner_text()
    # The address shows the same; the other model's wins have the same threshold.
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert shown(page) == wanted and float(slider.input_value()) == pytest.approx(least)
    page.check("input[name=mode][value=a]", force=True)
    assert shown(page) == sum(-one >= least - 1e-3 for one in gaps)
    chip.get_by_role("button").click()
    assert shown(page) == sum(one < 0 for one in gaps) and "least" not in page.url
    # It means nothing where nobody wins, or for a metric that is yes or no.
    slider.fill(str(least))
    until(page, lambda: "least" in page.url)
    page.select_option("select[name=metric]", "exact_match")
    assert slider.is_hidden() and "least" not in page.url
    page.select_option("select[name=metric]", "reward")
    slider.fill(str(least))
    until(page, lambda: "least" in page.url)
    page.check("input[name=mode][value=all]", force=True)
    assert shown(page) == ROWS and "least" not in page.url


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["x", "-1", "1e999", "NaN", "", "0", "0x10,5"])
def test_a_broken_threshold_is_none(visit: Visit, table: Table, broken: str) -> None:
    page = visit.open(f"#answers&metric=reward&mode=b&least={broken}")
    assert shown(page) == sum(gap(table, i) > 0 for i in identities(table))
    assert page.locator(".chip").count() == 1


# --- any field of the set ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.ci_slice
def test_filters_by_the_fields_of_this_set(visit: Visit, table: Table) -> None:
    page = visit.open("#answers")
    ids = identities(table)
    page.click("summary[data-menu=filters]")
    levels = page.get_by_role("group", name="level")
    assert levels.locator(".check-line").all_inner_texts() == [
        f"{level} 20" for level in sorted(LEVELS)
    ]
    levels.get_by_label(LEVELS[2]).check()
    assert shown(page) == 20 and listed(page)[0] == ids[2]
    # A third of numbers is told in words.
    page.get_by_role("group", name="steps").get_by_label("middle: 20–39").check()
    fitting = [identity for i, identity in enumerate(ids) if i % 3 == 2 and 20 <= i < 40]
    assert shown(page) == len(fitting) and listed(page)[: len(fitting)][0] == fitting[0]
    page.keyboard.press("Escape")
    chips = page.locator(".chip bdi").all_inner_texts()
    assert chips == [f"level: {LEVELS[2]}", "steps: middle: 20–39"]
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert shown(page) == len(fitting)
    # An open example tells its fields; one click shows more like it.
    page.click("button.reset")
    page.locator("article.example [data-action=open]").first.click()
    page.get_by_role("button", name=f"level: {LEVELS[0]}").click()
    assert shown(page) == 20 and "is~level~easy" in unquote(page.url)


@pytest.mark.slow
def test_fields_go_out_with_the_rows(visit: Visit, table: Table, tmp_path: Path) -> None:
    page = visit.open("#answers&where=is~level~hard")
    with page.expect_download() as download:
        page.click("[data-save=jsonl]")
    download.value.save_as(tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()]
    ids = identities(table)
    assert [row["id"] for row in rows] == [i for place, i in enumerate(ids) if place % 3 == 1]
    assert {row["groups"]["level"] for row in rows} == {"hard"}
    assert rows[0]["groups"]["steps"] == STEPS[0]


# --- groups in the overview -------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.ci_slice
def test_cells_of_any_group_open_its_answers(visit: Visit, table: Table) -> None:
    page = visit.open("#overview&by=level&of=reward")
    lines = page.locator("#slices-table tbody tr")
    assert lines.locator("th").all_inner_texts() == list(LEVELS)
    cells = lines.nth(2).locator("td button")
    assert cells.count() == 4
    cells.nth(3).click()
    assert shown(page) == 20
    members = [identity for i, identity in enumerate(identities(table)) if i % 3 == 2]
    widest = max(members, key=lambda i: abs(gap(table, i)))
    assert listed(page)[0] == widest
    lines.nth(1).locator("th button").click()
    assert page.locator(".chip bdi").inner_text() == "level: hard"


@pytest.mark.slow
@pytest.mark.ci_slice
def test_win_rates_of_groups(visit: Visit, table: Table) -> None:
    page = visit.open("#overview&by=level&of=reward")
    page.check("#slice-tint input[value=wins]", force=True)
    ids = identities(table)
    rows = page.locator("#slices-table tbody tr")
    for place in range(3):
        members = [identity for i, identity in enumerate(ids) if i % 3 == place]
        texts = rows.nth(place).locator("td button").all_inner_texts()
        for model, text in zip(("base", "base-3shot", "ppo"), texts, strict=True):
            gaps = [gap(table, i, model=model) for i in members]
            rate = sum(1 if one > 0 else 0.5 if one == 0 else 0 for one in gaps) / len(gaps)
            assert int(text.removesuffix(" %")) == pytest.approx(100 * rate, abs=0.51)
    cell = rows.nth(0).locator("td button").nth(2)
    cell.hover()
    members = ids[::3]
    wins = sum(gap(table, i) > 0 for i in members)
    assert f"{wins} answers better" in page.locator("#tip").inner_text()
    assert "tint=wins" in page.url
    # Which group is won most often; then against another baseline.
    page.locator('#slices-table [data-order="ppo"]').click()
    shares = [
        int(text.removesuffix(" %")) for text in rows.locator("td:last-child").all_inner_texts()
    ]
    assert shares == sorted(shares, reverse=True)
    page.select_option("#baseline", "ppo")
    heads = page.locator("#slices-table thead th").all_inner_texts()
    assert not any(head.startswith("PPO") for head in heads)
    page.select_option("#baseline", "sft")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    texts = rows.locator("td:last-child").all_inner_texts()
    assert [int(text.removesuffix(" %")) for text in texts] == shares
    rows.nth(0).locator("td button").nth(2).click()
    top = page.locator(".chip bdi").inner_text().removeprefix("level: ")
    members = [identity for i, identity in enumerate(ids) if LEVELS[i % 3] == top]
    assert listed(page)[0] == max(members, key=lambda i: gap(table, i))


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_controls_fit_and_can_be_used_by_all(
    browser: Any, report: Path, width: int, scheme: Any
) -> None:
    size = {"width": width, "height": 900}
    found = Visit(browser, report, viewport=size, color_scheme=scheme)
    page = found.open("#answers&metric=reward&mode=b&least=0.2&tint=wins&of=reward&by=level")
    page.locator("article.example [data-action=open]").first.click()
    assert overflowing(page) == 0
    assert axe(page, "#answers") == [] and axe(page, "#slices") == []
    small = page.locator(".least input, .group-links button").evaluate_all(
        "nodes => nodes.filter(n => n.offsetHeight < 24).map(n => n.outerHTML)"
    )
    assert small == []
    found.close()
    assert found.problems == []


# --- what a reader may stumble over -----------------------------------------------------------


def test_escape_closes_what_is_open_wherever_the_focus_is(visit: Visit, table: Table) -> None:
    page = visit.open("#answers")
    cards = page.locator("article.example")
    cards.nth(0).locator("[data-action=open]").click()
    assert page.locator("article.example.open").count() == 1
    cards.nth(1).focus()
    page.keyboard.press("Escape")
    assert page.locator("article.example.open").count() == 0 and "row=" not in page.url
    assert page.evaluate("document.activeElement.dataset.id") == identities(table)[1]


@pytest.mark.slow
def test_a_copied_link_leads_to_the_example(browser: Any, report: Path, table: Table) -> None:
    found = Visit(browser, report, permissions=["clipboard-read", "clipboard-write"])
    page = found.open()
    row = identities(table)[2]
    page.locator(f'article.example[data-id="{row}"] [data-action=link]').click()
    until(page, lambda: "Copied" in page.locator(".said-now").inner_text())
    link = page.evaluate("navigator.clipboard.readText()")
    assert link.split("#")[1].startswith("answers&") and f"row={row}" in link
    assert "answers" not in page.url.split("#")[-1]
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_selector("html[data-ready]")
    card = page.locator("article.example.open")
    assert card.get_attribute("data-id") == row
    until(page, lambda: bool(card.evaluate("n => Math.abs(n.getBoundingClientRect().top) < 600")))
    found.problems.clear()
    found.close()


@pytest.mark.slow
def test_no_model_is_compared_with_itself(visit: Visit) -> None:
    page = visit.open("#answers")
    before = page.locator("select[name=a]").input_value()
    page.select_option("select[name=a]", page.locator("select[name=b]").input_value())
    assert page.locator("select[name=b]").input_value() == before
    assert page.locator("select[name=a]").input_value() == "ppo"


@pytest.mark.slow
def test_one_model_alone(browser: Any, tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "one", rows=12, stages=("evaluate",), models=(("ppo", "PPO", "stage", 0, 0.5),)
    )
    build_report(run, ReportConfig(), run / "report.html")
    found = Visit(browser, run / "report.html")
    page = found.open("#overview&tint=wins&bars=differences&spreads=differences&mode=a&least=1")
    assert shown(page) == 12 and page.locator("input[name=least]").count() == 0
    assert page.locator("select[name=a]").count() == 0
    scores = read_table(run / "evaluate")
    page.select_option("select[name=metric]", "reward")
    page.select_option("select[name=sort]", "low")
    assert listed(page)[0] == min(scores, key=lambda key: scores[key]["reward"])[0]
    assert page.locator("#slices-table td.num").count() == 4
    assert page.locator("#spread-cards .bin").count() > 2
    assert page.locator("#bars-cards .bar-row").count() > 4
    found.close()
    assert found.problems == []


@pytest.mark.slow
@pytest.mark.ci_slice
def test_eight_models_with_long_names_and_many_sources(browser: Any, tmp_path: Path) -> None:
    names = [f"model-{i}-" + "very-long-name-" * 8 for i in range(8)]
    models = tuple((name, f"Label {name}", "stage", 0, i / 9) for i, name in enumerate(names))
    run = make_run(tmp_path / "many", rows=150, stages=("evaluate",), models=models)
    ids = list(dict.fromkeys(identity for identity, _ in read_table(run / "evaluate")))
    groups = [{"id": row, "groups": {"page": f"page {i}"}} for i, row in enumerate(ids)]
    write_lines(run / "evaluate" / "groups.jsonl", groups)
    build_report(run, ReportConfig(), run / "report.html")
    for width in (390, 1280):
        size = {"width": width, "height": 900}
        found = Visit(browser, run / "report.html", viewport=size, whole=False)
        page = found.open(f"#answers&mode=a&least=0.1&metric=reward&a={names[0]}&b={names[7]}")
        assert overflowing(page) == 0
        page.click("summary[data-menu=filters]")
        many = page.get_by_role("group", name="page")
        assert many.locator(".check-line").count() == 100
        assert "50 more" in many.inner_text()
        assert overflowing(page) == 0
        panel = page.locator(".menu-panel").first.bounding_box()
        assert panel["x"] >= 0 and panel["x"] + panel["width"] <= width
        found.close()
        assert found.problems == []
