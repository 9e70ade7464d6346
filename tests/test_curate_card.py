"""The dataset card: a valid head, the numbers of the statistics, and hostile text kept as text."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from curate_fixture import make_folder, read_lines, spending
from test_reports_page import HOSTILE

from espalier.curate.card_text import CardFacts, card_text, escaped, money, text_histogram
from espalier.curate.statistics import collect

FACTS = CardFacts(
    name="mine",
    made_by="Made by a test.",
    license="Apache-2.0",
    synthetic=True,
    teacher_note="The teacher was a test.",
    sources=["- `a`: a file"],
    settings=["Every option has its default."],
    notes=["A note | with a bar"],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("card") / "clean")


@pytest.fixture(scope="module")
def statistics(folder: Path) -> dict[str, Any]:
    return collect(folder, spending())


@pytest.fixture(scope="module")
def card(statistics: dict[str, Any]) -> str:
    return card_text(FACTS, statistics)


def section(card: str, title: str) -> str:
    return card.partition(f"## {title}\n\n")[2].partition("\n\n## ")[0]


def test_the_head_is_yaml_that_hubs_read(card: str) -> None:
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["license"] == "apache-2.0"
    assert head["language"] == ["en", "zh"]
    assert head["size_categories"] == ["n<1K"]
    assert head["task_categories"] == ["text-generation"]
    assert {"synthetic", "preference"} < set(head["tags"])
    names = [item["config_name"] for item in head["configs"]]
    assert names == ["train", "eval", "preferences"]
    assert [item["config_name"] for item in head["dataset_info"]] == names
    assert [item.get("default", False) for item in head["configs"]] == [True, False, False]
    assert "&id" not in card.split("---\n")[1]


def test_sections_state_the_numbers(card: str, statistics: dict[str, Any]) -> None:
    assert "| `train.jsonl` | training rows | 60 |" in section(card, "Files")
    funnel = section(card, "Funnel")
    assert "| train | step 0 | 81 | 67 | not\\_novel 7, refusal 7 | mojibake 3 |" in funnel
    taken = section(card, "What was taken out")
    for item in statistics["rejects"]:
        assert (
            f"**{item['rule'].replace('_', chr(92) + '_')}** ({item['step']}): {item['count']}"
            in taken
        )
        assert item["examples"][0]["text"] in taken
    tasks = section(card, "Languages and tasks")
    for name, count in statistics["groups"]["counts"].items():
        assert f"| {name} | {count} |" in tasks
    assert "30 rows were made from others" in tasks
    assert "| write |" in section(card, "How instructions begin")
    assert "A cluster of 5 (semantic):" in section(card, "Duplicates")
    assert "exam.jsonl, row 4" in section(card, "Text shared with evaluations")
    assert "`relevance`: mean" in section(card, "Quality scores")
    cost = section(card, "Cost")
    assert "| judge | m | 30 | 9,000 | 300 | 0.5000 USD |" in cost
    assert "| answers | local | 5 | 50 | 60 |  |" in cost
    assert "All steps: 1.75 USD." in cost


def test_it_says_which_rows_are_synthetic(card: str, statistics: dict[str, Any]) -> None:
    assert "**Contains synthetic text.** The teacher was a test." in card
    assert "- `train.jsonl`: 30 of 60 rows (t 30)" in card
    honest = card_text(CardFacts("x", "Made.", "mit", synthetic=False), {})
    assert "synthetic" not in honest
    # Rows that name a teacher are synthetic, whatever the options say.
    stated = card_text(CardFacts("x", "Made.", "mit", False), statistics)
    assert "30 of 60 rows" in stated
    assert "synthetic" in yaml.safe_load(stated.split("---\n")[1])["tags"]


def test_nothing_but_a_name_is_enough() -> None:
    text = card_text(CardFacts("x", "Made by a test.", "mit", synthetic=False), {})
    assert yaml.safe_load(text.split("---\n")[1])["language"] == []
    assert text.endswith("# x\n\nMade by a test.\n")


class Tags(HTMLParser):
    """The tags that HTML inside Markdown would make."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)


@pytest.mark.parametrize("text", [*HOSTILE, "```\n# Title", "| a | b |", "---\nlicense: x\n---"])
def test_hostile_text_stays_text(tmp_path: Path, text: str) -> None:
    folder = make_folder(tmp_path / "x", rows=8, text=text)
    facts = CardFacts(f"n {text}", "Made.", "mit", True, notes=[text])
    card = card_text(facts, collect(folder, spending(text)))
    outside = re.sub(r"```(?:text|python|yaml)\n.*?\n```", "", card, flags=re.DOTALL)
    # `\<` is a plain sign in Markdown, so what a backslash precedes is no markup.
    plain = re.sub(r"\\.", "", outside)
    assert Tags(plain).found == []
    assert "```" not in plain
    assert not re.search(r"[\u202a-\u202e\u2066-\u2069]", card)
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "mit"
    headings = [line for line in outside.splitlines() if line.startswith("#")]
    assert all(re.match(r"## [A-Z]|# n", line) for line in headings)
    for line in outside.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (4, 5, 7, 8, 10)


def test_small_parts() -> None:
    assert escaped("a|b <i> *c* [d](e) `f` & g\nh") == (
        "a\\|b \\<i\\> \\*c\\* \\[d\\](e) \\`f\\` &amp; g h"
    )
    assert escaped("abcdef", 4) == "abc…"
    assert text_histogram([[0, 1, 2], [1, 10, 0], [10, 20, 4]]) == (
        " 0  2  " + "█" * 12 + "\n 1  0\n10  4  " + "█" * 24
    )
    assert money(1234.5, "EUR") == "1,234.50 EUR"
    assert money(0.01234, "USD") == "0.0123 USD"
    assert money(None, "USD") == ""
    assert money(0, None) == "0.00"


def rounded(rows: list[dict[str, Any]]) -> Any:
    return json.loads(json.dumps(rows), parse_float=lambda text: round(float(text), 9))


@pytest.mark.slow
def test_datasets_loads_every_subset(folder: Path, card: str, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", minversion="4.7")
    hub = tmp_path / "hub"
    shutil.copytree(folder, hub)
    (hub / "README.md").write_text(card, encoding="utf-8")
    for name in ("train", "eval", "preferences"):
        loaded = datasets.load_dataset(str(hub), name, split="train", cache_dir=str(tmp_path / "c"))
        # Its parser of numbers may differ in the last digit.
        assert rounded(loaded.to_list()) == rounded(read_lines(hub / f"{name}.jsonl"))
