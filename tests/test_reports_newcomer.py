"""Somebody who never saw the page asks it four questions, with what can be read on it alone.

The walk finds its way by visible words, labels and roles; what it finds is checked against the
files of the run, read independently.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from browsing import browser, until, visits
from report_fixture import METRICS, write_json
from test_reports_browser_lineage import make

from espalier.reports.config import ReportConfig
from espalier.reports.page import build_report

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.ci_slice]

__all__ = ["browser"]

ROWS = 60
LABELS = {label: (name, higher) for name, label, higher, _ in METRICS}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the tests of lineage, with as many prompts as make differences sure."""
    page = make(tmp_path_factory.mktemp("newcomer") / "run", rows=ROWS)
    summary = summary_of(page)
    # Scores of single answers stand behind these comparisons, as the evaluation says.
    for pair in summary["comparisons"]:
        pair |= {"wins": 30, "ties": 10, "losses": 20}
    write_json(page.parent / "evaluate/summary.json", summary)
    build_report(page.parent, ReportConfig(), page)
    return page


visit = visits("report", whole=False)


def summary_of(report: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((report.parent / "evaluate/summary.json").read_text("utf-8"))
    return found


def seen(page: Any) -> list[str]:
    """The lines of text that stand in the window, from top to bottom."""
    text = page.evaluate(
        """() => [...document.querySelectorAll('main :is(p, li, h1, h2, h3, h4)')]
          .filter((node) => node.checkVisibility())
          .filter((node) => {
            const box = node.getBoundingClientRect();
            return box.bottom > 60 && box.top < innerHeight;
          }).map((node) => node.innerText)"""
    )
    return [" ".join(line.split()) for line in text]


def test_which_model_is_the_best(visit: Any, report: Path) -> None:
    page = visit.open()
    said = [line for line in seen(page) if "best" in line.lower()]
    best = re.match(r"Best overall: (.+?)\. Against every other model", said[0])
    assert best is not None
    summary = summary_of(report)
    surely = {model["name"]: dict.fromkeys(("better", "worse"), 0) for model in summary["models"]}
    for pair in summary["comparisons"]:
        if pair["model"] == name_of(summary, best[1]) and pair["verdict"] != "tie":
            surely[pair["baseline"]][pair["verdict"]] += 1
    others = [counts for name, counts in surely.items() if name != name_of(summary, best[1])]
    assert others and all(counts["better"] > counts["worse"] for counts in others)


def name_of(summary: dict[str, Any], label: str) -> str:
    return next(str(m["name"]) for m in summary["models"] if m["label"] == label)


def test_whether_the_difference_is_real(visit: Any, report: Path) -> None:
    page = visit.open()
    sentence = next(line for line in seen(page) if " beats " in line)
    named = re.search(r"(\S+) beats (.+?) on (.+?) by (−?[\d.]+)[^\[]* \[(.+?), (.+?)\]", sentence)
    assert named is not None
    winner, loser, metric = named[1], named[2], named[3]
    summary = summary_of(report)
    label = next(label for label in LABELS if label.lower() == metric.lower())
    pair = next(
        one
        for one in summary["comparisons"]
        if one["metric"] == LABELS[label][0]
        and one["model"] == name_of(summary, winner)
        and one["baseline"] == name_of(summary, loser)
    )
    factor = 100 if next(f for n, _, _, f in METRICS if n == pair["metric"]) == "percent" else 1
    ends = sorted(abs(factor * pair[end]) for end in ("low", "high"))
    assert sorted(map(number, (named[5], named[6]))) == pytest.approx(ends, rel=0.02, abs=0.06)
    # The table says the same with a mark, whose meaning stands below it, and the whole in words.
    table = page.get_by_role("grid", name="Scores")
    table.scroll_into_view_if_needed()
    page.get_by_label("Compare with").select_option(label=loser)
    heads = table.get_by_role("columnheader").all_inner_texts()
    place = next(i for i, head in enumerate(heads) if head.startswith(label))
    row = table.get_by_role("row").filter(has_text=winner).last
    cell = row.locator("> *").nth(place)
    assert "▲" in cell.inner_text()
    assert page.get_by_text("▲ better", exact=True).is_visible()
    cell.get_by_role("button").focus()
    told = page.get_by_role("tooltip").inner_text()
    assert f"{winner} against {loser}" in told
    assert "better by" in told and "p = 0.001" in told and f"n = {pair['n']}" in told
    assert pair["verdict"] == "better"


def number(text: str) -> float:
    return abs(float(text.replace("−", "-").replace(",", "")))


def test_the_ten_answers_on_which_ppo_lost_most(visit: Any, report: Path) -> None:
    page = visit.open()
    sentence = next(line for line in seen(page) if line.lstrip("▲◆▼≈ ").startswith("PPO beats"))
    loser, metric = re.search(r"PPO beats (.+?) on (.+?) by", sentence).groups()  # type: ignore[union-attr]
    page.get_by_role("button", name="Where PPO lost most").first.click()
    place = page.get_by_text(re.compile(r"^1 / \d+$"))
    place.wait_for()
    assert metric in sentence
    table = pyarrow.parquet.read_table(report.parent / "evaluate/scores.parquet").to_pylist()
    label = next(label for label in LABELS if label.lower() == metric.lower())
    name, higher = LABELS[label]
    scores = {(row["model"], row["id"]): row[name] for row in table}
    other = name_of(summary_of(report), loser)
    gaps = {
        row["id"]: (scores["ppo", row["id"]] - scores[other, row["id"]]) * (1 if higher else -1)
        for row in table
    }
    expected = [one for one in sorted(gaps, key=gaps.__getitem__)[:10] if gaps[one] < 0]
    found = []
    for turn in range(len(expected)):
        card = page.get_by_role("article").nth(0) if turn == 0 else current(page)
        words = card.inner_text()
        assert f"{loser} better on {label}" in " ".join(words.split())
        found.append(re.search(r"\b[0-9a-f]{16}\b", words)[0])  # type: ignore[index]
        following = page.get_by_role("button", name="Next")
        if turn + 1 < len(expected):
            following.click()
            until(page, lambda turn=turn: bool(page.get_by_text(f"{turn + 2} / ").count()))
    assert found == expected
    assert len(found) >= 5


def current(page: Any) -> Any:
    """The example that the reader is at: the first one that the list shows."""
    return page.locator("article.example[tabindex='0']")


def test_why_a_training_row_exists(visit: Any) -> None:
    page = visit.open()
    page.get_by_role("navigation", name="Sections").get_by_role("link", name="Data").click()
    page.get_by_role("link", name="Rows, and where they come from").click()
    # The examples have a search too, which stands there already; this one comes with its section.
    page.locator("#rows").get_by_role("searchbox").fill("The child")
    button = page.get_by_role("button", name="Where it comes from child")
    until(page, lambda: button.count() == 1)
    button.click()
    story = page.get_by_role("article", name=re.compile("child$")).first
    told = " ".join(story.inner_text().split())
    # Who made it, of what, and what these go back to.
    assert "teacher-x wrote it (evolve:deepen, round 2) after seeing task-1." in told
    assert "Seed number 1." in told and "Seed number 2." in told
    assert "Now it stands in curate/train.jsonl" in told
