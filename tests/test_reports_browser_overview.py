"""The overview in a real browser, offline: each control is driven, its effect counted again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from browsing import WIDTHS, Visit, axe, browser, overflowing, until, visits
from overview_fixture import overview_run
from report_fixture import make_run

from espalier.reports.config import ReportConfig
from espalier.reports.page import build_report

pytestmark = pytest.mark.browser

__all__ = ["browser"]

ROWS = 60
MODELS = ("base", "base-3shot", "sft", "ppo")
Table = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = overview_run(tmp_path_factory.mktemp("runs") / "demo", rows=ROWS)
    build_report(run, ReportConfig(), run / "report.html")
    return run / "report.html"


visit = visits("report")


@pytest.fixture(scope="module")
def table(report: Path) -> Table:
    """The row scores by (id, model), read without the code under test."""
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(report.parent / "evaluate/scores.parquet").to_pylist()
    return {(row["id"], row["model"]): row for row in rows}


@pytest.fixture(scope="module")
def summary(report: Path) -> dict[str, Any]:
    found = json.loads((report.parent / "evaluate/summary.json").read_text("utf-8"))
    assert isinstance(found, dict)
    return found


def shown(page: Any) -> int:
    return int(page.locator("#answers .status").inner_text().split(" of ")[0].replace(",", ""))


def value_of(summary: dict[str, Any], model: str, metric: str) -> float:
    return next(
        float(one["value"])
        for one in summary["scores"]
        if (one["model"], one["metric"]) == (model, metric)
    )


def column(page: Any, metric: str) -> int:
    """The place of a metric's column, from 1."""
    orders = page.locator("#scores-table thead button").evaluate_all(
        "buttons => buttons.map(button => button.dataset.order)"
    )
    return int(orders.index(metric)) + 1


def test_without_answers_counts_stay_and_links_are_not_offered(
    browser: Any, tmp_path: Path
) -> None:
    run = overview_run(tmp_path / "demo", rows=8)
    (run / "evaluate" / "scores.parquet").unlink()
    shutil.rmtree(run / "evaluate" / "answers", ignore_errors=True)
    build_report(run, ReportConfig(), run / "report.html")
    found = Visit(browser, run / "report.html")
    page = found.open()
    parts = page.locator("#overview button.part, .judged button.part")
    assert parts.count() > 0
    assert parts.evaluate_all("parts => parts.every(part => part.offsetParent && part.disabled)")
    assert page.locator("button.more-answers:visible").count() == 0
    found.close()
    assert found.problems == []


# --- the table -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.ci_slice
def test_the_table_is_sorted_by_each_column(visit: Visit, summary: dict[str, Any]) -> None:
    page = visit.open()

    def order() -> list[str]:
        return list(page.locator("#scores-table tbody th bdi").all_inner_texts())

    labels = {model["name"]: model["label"] for model in summary["models"]}
    listed = order()
    assert listed == list(labels.values())
    for metric, sign in (("reward", -1), ("perplexity", 1)):
        best = sorted(MODELS, key=lambda name: sign * value_of(summary, name, metric))
        head = page.locator(f'#scores-table [data-order="{metric}"]')
        head.click()
        assert order() == [labels[name] for name in best]
        assert head.locator("xpath=..").get_attribute("aria-sort") == "descending"
        assert page.evaluate("document.activeElement.dataset.order") == metric
        page.keyboard.press("Enter")
        assert order() == [labels[name] for name in reversed(best)]
        assert f"order=worst.{metric}" in page.url
        page.reload()
        page.wait_for_selector("html[data-ready]")
        assert order() == [labels[name] for name in reversed(best)]
        head.click()
        assert order() == listed and "order=" not in page.url
    page.locator('#scores-table [data-order=""]').click()
    assert order() == sorted(listed)


def test_arrow_keys_walk_through_the_table(visit: Visit) -> None:
    page = visit.open()
    assert page.locator('#scores-table button[tabindex="0"]').count() == 1
    page.locator('#scores-table [data-order="reward"]').focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    focus = "document.activeElement.closest"
    place = f"[{focus}('tr').rowIndex, {focus}('td').cellIndex]"
    at = column(page, "reward") - 1
    assert page.evaluate(place) == [2, at]
    page.keyboard.press("ArrowRight")
    assert page.evaluate(place) == [2, at + 1]
    page.keyboard.press("Control+End")
    assert page.evaluate("document.activeElement.closest('tr').rowIndex") == 4
    assert page.locator('#scores-table button[tabindex="0"]').count() == 1


def test_a_cell_tells_its_comparison_and_opens_its_answers(visit: Visit, table: Table) -> None:
    page = visit.open()
    cell = page.locator(
        f"#scores-table tbody tr:nth-child(4) > :nth-child({column(page, 'reward')}) button"
    )
    cell.hover()
    tip = page.locator("#tip").inner_text()
    assert "PPO against SFT" in tip and "p = 0.001" in tip
    assert "30 answers better, 20 equal, 10 worse" in tip
    cell.click()
    assert shown(page) == ROWS
    ids = {identity for identity, _ in table}
    gaps = {i: abs(table[i, "ppo"]["reward"] - table[i, "sft"]["reward"]) for i in ids}
    widest = max(gaps, key=lambda i: gaps[i])
    assert widest in page.locator("#answers-browser").inner_text()
    for part in ("a=sft", "b=ppo", "metric=reward", "sort=gap"):
        assert part in page.url
    assert page.url.split("#")[1].startswith("answers")


@pytest.mark.slow
@pytest.mark.ci_slice
def test_families_of_metrics_are_switched(visit: Visit, summary: dict[str, Any]) -> None:
    page = visit.open()
    columns = page.locator("#scores-table thead th")
    assert columns.count() == 1 + len(summary["metrics"])
    families = page.locator("#families input")
    assert families.count() == 5
    page.uncheck("#families input[value=reference]")
    assert columns.count() == 1 + 2 + 6
    assert "without=reference" in page.url
    assert page.locator("#bars-cards figure").count() == 8
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert columns.count() == 1 + 2 + 6
    # Where nothing is left to show, everything is.
    for name in ("reward", "perplexity", "judge", "people"):
        page.uncheck(f"#families input[value={name}]")
    assert columns.count() == 1 + len(summary["metrics"])


def test_verdicts_of_the_chosen_baseline_come_first(visit: Visit, table: Table) -> None:
    page = visit.open()

    def pairs() -> list[tuple[str, str]]:
        found = page.locator("#verdicts > ul > li").evaluate_all(
            "items => items.map(item => [item.dataset.model, item.dataset.against])"
        )
        return [tuple(sorted(pair)) for pair in found]

    assert len(pairs()) == 3 and all("sft" in pair for pair in pairs())
    page.select_option("#baseline", "base")
    assert len(pairs()) == 3 and all("base" in pair for pair in pairs())
    assert page.locator("#more-verdicts summary").inner_text() == "3 more pairs"
    page.select_option("#baseline", "sft")
    # The ten answers where PPO lost most against SFT are one click away.
    sentence = page.locator('#verdicts > ul > li[data-model="ppo"][data-against="sft"]')
    sentence.get_by_role("button").click()
    metric = page.evaluate("decodeURIComponent(location.hash)").split("metric=")[1].split("&")[0]
    sign = -1 if metric == "perplexity" else 1
    ids = list(dict.fromkeys(identity for identity, _ in table))
    loss = {i: sign * (table[i, "sft"][metric] - table[i, "ppo"][metric]) for i in ids}
    lost = sorted((i for i in ids if loss[i] > 0), key=lambda i: -loss[i])
    assert shown(page) == len(lost)
    text = page.locator("#answers-browser").inner_text()
    places = [text.find(identity) for identity in lost[:2]]
    assert -1 not in places and places == sorted(places)


@pytest.mark.slow
@pytest.mark.ci_slice
def test_many_metrics_are_rows_on_paper(visit: Visit, summary: dict[str, Any]) -> None:
    page = visit.open()
    assert page.locator("#scores-paper").is_hidden()
    page.emulate_media(media="print")
    assert page.locator("#scores-table").is_hidden()
    rows = page.locator("#scores-paper tbody tr")
    assert rows.count() == len(summary["metrics"]) and rows.first.is_visible()
    reward = page.locator("#scores-paper tbody tr", has_text="Held-out reward").locator(".value")
    shown = [float(text.replace("−", "-")) for text in reward.all_inner_texts()]
    assert shown == pytest.approx([value_of(summary, m, "reward") for m in MODELS], abs=0.006)
    page.emulate_media(media="screen")
    page.uncheck("#families input[value=reference]")
    page.emulate_media(media="print")
    assert page.locator("#scores-paper table").count() == 0
    assert page.locator("#scores-table").is_visible()


# --- charts --------------------------------------------------------------------------------------


def test_bars_show_scores_or_differences(visit: Visit, summary: dict[str, Any]) -> None:
    page = visit.open()
    card = page.locator("#bars-cards figure", has_text="Held-out reward")
    for model, text in zip(MODELS, card.locator(".bar-head .num").all_inner_texts(), strict=True):
        number = float(text.replace("−", "-"))
        assert number == pytest.approx(value_of(summary, model, "reward"), abs=0.006)
    page.check("#bars-kind input[value=differences]", force=True)
    assert "bars=differences" in page.url
    for model, row in zip(("base", "base-3shot", "ppo"), card.locator("li").all(), strict=True):
        pair = next(
            c for c in summary["comparisons"]
            if (c["model"], c["baseline"], c["metric"]) == (model, "sft", "reward")
        )  # fmt: skip
        mark, number = row.locator(".bar-head .num").inner_text().split(" ")
        assert mark == {"better": "▲", "worse": "▼", "tie": "≈"}[pair["verdict"]]
        assert float(number.replace("−", "-")) == pytest.approx(pair["difference"], abs=0.006)
    # Twelve cards at first, all of them on demand.
    assert page.locator("#bars-cards figure").count() == 12
    page.click("#bars-more")
    assert page.locator("#bars-cards figure").count() == 13
    card.get_by_role("button").last.click()
    assert "sort=gap" in page.url and page.url.split("#")[1].startswith("answers")


def test_the_heat_map_opens_its_groups(visit: Visit, table: Table, summary: dict[str, Any]) -> None:
    page = visit.open()
    page.select_option("#slice-by", "language")
    page.select_option("#slice-metric", "reward")
    heat = page.locator("#slices-table")
    assert heat.locator("td.heat-cell").count() == 8
    page.check("#slice-tint input[value=differences]", force=True)
    zh = heat.locator("tbody tr", has_text="zh")
    tested = {
        (c["value"], c["model"]): c
        for c in summary["slice_comparisons"]
        if c["metric"] == "reward" and c["by"] == "language"
    }
    one = tested["zh", "ppo"]
    text = zh.locator("td").last.inner_text()
    assert text[0] == {"better": "▲", "worse": "▼"}[one["verdict"]]
    assert float(text[1:].strip().replace("−", "-")) == pytest.approx(one["difference"], abs=0.006)
    assert heat.locator("td.heat-better, td.heat-worse").count() == 6
    # Another baseline: differences of the scores, without tests.
    page.select_option("#baseline", "base")
    assert "▲" not in heat.inner_text() and heat.locator("td.heat-better").count() > 0
    page.select_option("#baseline", "sft")
    zh.locator("td").last.get_by_role("button").click()
    inside = {identity for (identity, _), row in table.items() if row["language"] == "zh"}
    assert shown(page) == len(inside)


@pytest.mark.slow
@pytest.mark.ci_slice
def test_groups_are_sorted_and_lengths_open_too(visit: Visit, summary: dict[str, Any]) -> None:
    page = visit.open()
    page.select_option("#slice-by", "category")
    page.select_option("#slice-metric", "reward")
    scores = {
        s["value"]: s["score"] for s in summary["slices"]
        if (s["by"], s["metric"], s["model"]) == ("category", "reward", "ppo")
    }  # fmt: skip
    page.locator('#slices-table [data-order="ppo"]').click()
    names = page.locator("#slices-table tbody th").all_inner_texts()
    assert names == sorted(scores, key=lambda name: -scores[name])
    assert "groups=best.ppo" in page.url
    page.select_option("#slice-by", "length")
    page.get_by_role("button", name="low: 1–16").click()
    # An English prompt has 16 words; a Chinese one has 17 characters and 5 words. 36 are English.
    assert shown(page) == 36


@pytest.mark.slow
@pytest.mark.ci_slice
def test_a_bin_of_the_histogram_opens_its_answers(visit: Visit, table: Table) -> None:
    page = visit.open()
    page.select_option("#spread-metric", "reward")
    cards = page.locator("#spread-cards figure")
    assert cards.count() == 4
    ppo = cards.nth(3)
    labels = [b.get_attribute("aria-label") or "" for b in ppo.locator("button").all()]
    counts = [int(label.split(": ")[2].split(" answers", 1)[0]) for label in labels]
    assert sum(counts) == ROWS
    fullest = counts.index(max(counts))
    low, high = labels[fullest].split(": ")[1].replace("−", "-").split(" … ")
    rewards = [row["reward"] for (_, model), row in table.items() if model == "ppo"]
    assert max(counts) == sum(float(low) <= reward < float(high) for reward in rewards)
    ppo.locator("button").nth(fullest).click()
    assert shown(page) == max(counts)
    page.locator("#spread-kind label", has_text="Differences").click()
    assert cards.count() == 3
    # Bins are one tab stop, and arrows walk along them.
    page.locator("#spread-cards figure").last.locator('button[tabindex="0"]').focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("End")
    label = str(page.evaluate("document.activeElement.getAttribute('aria-label')"))
    page.keyboard.press("Enter")
    assert shown(page) == int(label.split(": ")[2].split(" answers", 1)[0])
    page.select_option("#spread-metric", "exact_match")
    page.locator("#spread-kind label", has_text="Scores").click()
    right = sum(row["exact_match"] for (_, model), row in table.items() if model == "sft")
    cards.nth(2).locator("button").last.click()
    assert shown(page) == right


@pytest.mark.slow
@pytest.mark.ci_slice
def test_rubrics_as_radar_and_small_charts(visit: Visit) -> None:
    page = visit.open()
    assert page.locator("#rubric-list .radar").count() == 2
    said = page.locator("#rubric-list .radar").first.get_attribute("aria-label") or ""
    assert "PPO: relevance 4.50, accuracy 3.50, completeness 4.00." in said
    card = page.locator("#rubric-list figure", has_text="accuracy").last
    texts = card.locator(".bar-head").all_inner_texts()
    assert any("SFT · judge" in text and "3.00" in text for text in texts)
    assert any("SFT · people" in text and "2.50" in text for text in texts)


@pytest.mark.slow
@pytest.mark.ci_slice
def test_what_the_judge_said_opens_its_pairs(visit: Visit) -> None:
    page = visit.open()
    for name, count in (("won", 24), ("tied", 12), ("lost", 12), ("not read", 12)):
        page.locator("#judge .part", has_text=name).click()
        assert shown(page) == count


# --- all of it -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.ci_slice
def test_choices_of_the_overview_survive_a_switch_of_language(visit: Visit) -> None:
    page = visit.open(
        "#order=best.reward&bars=differences&tint=differences&spread=bleu&without=judge&vs=ppo"
    )
    before = page.locator("#scores-table tbody th bdi").all_inner_texts()
    page.select_option("#language", "zh")
    page.wait_for_selector("html[lang=zh][data-ready]")
    assert page.locator("#scores-table tbody th bdi").all_inner_texts() == before
    assert page.locator("#bars-kind input[value=differences]").is_checked()
    assert page.locator("#spread-metric").input_value() == "bleu"
    assert page.locator("#baseline").input_value() == "ppo"
    assert not page.locator("#families input[value=judge]").is_checked()
    assert (
        "总体" in page.locator("#verdicts").inner_text()
        or "最好" in page.locator("#verdicts").inner_text()
    )
    metrics = page.locator("#answers-browser select[name=metric] option").all_inner_texts()
    assert "留出奖励" in metrics and "Held-out reward" not in metrics
    page.locator("#judge .part").first.click()
    until(page, lambda: "answers" in page.url)


@pytest.mark.slow
@pytest.mark.ci_slice
def test_broken_addresses_do_no_harm(visit: Visit) -> None:
    page = visit.open(
        "#order=best.__proto__&without=%00,x&groups=worst.nobody&spread=constructor&bars=9&tint=%22"
        "&spreads=__proto__&cards=none&vs=__proto__&of=x&by=y"
    )
    assert page.locator("#scores-table tbody tr").count() == 4
    assert page.locator("#spread-cards figure").count() == 4
    assert page.locator("#slices-table tbody tr").count() == 2


@pytest.mark.slow
@pytest.mark.ci_slice
def test_nothing_serious_for_axe(visit: Visit) -> None:
    page = visit.open("#tint=differences&bars=differences")
    page.evaluate("document.querySelectorAll('#overview details').forEach(d => { d.open = true; })")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert axe(page, "#overview") == []
        page.locator("#slice-tint label", has_text="Scores").click()
        assert axe(page, "#slices") == []
        page.locator("#slice-tint label", has_text="Differences").click()


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_every_window(browser: Any, report: Path, width: int) -> None:
    for language in ("en-US", "zh-CN"):
        found = Visit(browser, report, viewport={"width": width, "height": 900}, locale=language)
        page = found.open()
        page.evaluate(
            "document.querySelectorAll('#overview details').forEach(d => { d.open = true; })"
        )
        assert overflowing(page) == 0
        small = page.locator("#overview button:visible").evaluate_all(
            "nodes => nodes.map(n => [n.getBoundingClientRect(), n.textContent])"
            ".filter(([r]) => r.width < 24 || r.height < 24)"
            ".map(([r, text]) => [r.width, r.height, text])"
        )
        assert small == []
        found.close()
        assert found.problems == []


@pytest.mark.slow
@pytest.mark.ci_slice
def test_hostile_names_stay_names_in_every_chart(browser: Any, tmp_path: Path) -> None:
    names = ["a\"]'} <img src=x onerror=window.hit=1> \\", "__proto__", "constructor\u202e"]
    models = [(name, name, "stage", 0, 0.3 * place) for place, name in enumerate(names)]
    run = make_run(
        tmp_path / "run",
        rows=30,
        stages=("evaluate",),
        models=models,
        change=lambda text: f"{text}\"'<b>~;&=",
    )
    build_report(run, ReportConfig(), run / "report.html")
    found = Visit(browser, run / "report.html")
    page = found.open()
    page.select_option("#baseline", "__proto__")
    page.select_option("#slice-by", "category")
    page.locator("#bars-kind label", has_text="Differences").click()
    for place in range(3):
        head = page.locator("#slices-table thead button").nth(1 + place)
        head.click()
        assert head.locator("xpath=..").get_attribute("aria-sort") == "descending"
    page.locator("#slices-table tbody th button").first.click()
    assert 0 < shown(page) < 30
    page.locator("#slices-table tbody td button").last.click()
    assert 0 < shown(page) < 30
    page.locator("#bars-cards button").first.click()
    assert shown(page) == 30
    bins = page.locator("#spread-cards figure").last.locator("button")
    counts = [int(one.split(": ")[-1].split(" ", 1)[0]) for one in labels_of(bins)]
    place = counts.index(max(counts))
    bins.nth(place).click()
    assert shown(page) == max(counts)
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.evaluate("window.hit") is None
    assert page.locator("#overview img, #overview b b").count() == 0
    found.close()
    assert found.problems == []


def labels_of(buttons: Any) -> list[str]:
    return [str(one.get_attribute("aria-label")) for one in buttons.all()]
