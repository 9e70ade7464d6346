"""Calibration, length and reliability of a reward model on the page."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from report_fixture import make_run, reward_facts, write_json

from espalier.reports.config import ReportConfig
from espalier.reports.curves import accuracy_bars, read_curves
from espalier.reports.page import SCRIPTS, build_report
from espalier.reports.reward_facts import calibration, facts, statement
from espalier.reports.strings import ASSETS, words


def test_points_of_the_calibration_chart() -> None:
    found = calibration(reward_facts())
    assert found is not None
    assert len(found["points"]) == 10
    first = found["points"][0]
    assert (first["x"], first["y"], first["n"]) == (0.525, 0.5, 60)
    assert first["label"] == "52.5 % sure, 50.0 % right (60 pairs)"
    assert found["note"] == "calibration error 3.1 % · log loss 0.284"


def test_rows_of_the_table() -> None:
    shown = {row["label"]: row["value"] for row in facts(reward_facts())}
    values = list(shown.values())
    assert values[:4] == ["−0.12 / −0.10", "+0.08 / +0.05", "55.0 %", "58.0 %"]
    assert "88.0 % [84.0,\u00a091.1] (310)" in values
    assert values[-2:] == ["+2.10 ± 1.70", "3"]
    # There is no pair in which the chosen answer is shorter.
    assert words()["length.accuracy_shorter"] not in shown


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"calibration": None, "length": [], "margins": "x", "reliability": "text"},
        {"calibration": {"bins": [None, {}, {"predicted": "a", "right": 1, "n": 2}]}},
        {"calibration": {"bins": [{"predicted": 1.7, "right": 0.5, "n": 2}]}},
        {"calibration": {"bins": "x"}, "length": {"pearson": "1", "spearman": None}},
    ],
)
def test_what_is_absent_or_broken_is_left_out(value: Any) -> None:
    assert calibration(value) is None
    assert facts(value) == []
    assert statement(value) == []


def test_sources_are_shown_where_there_are_several() -> None:
    one = {"n": 5, "accuracy": 0.8, "low": 0.4, "high": 0.9}
    assert accuracy_bars({"by_source": {"hh": one}}) == []
    bars = accuracy_bars({"by_source": {"hh": one, "mine": one}})
    assert [bar["label"] for bar in bars] == ["Source: hh", "Source: mine"]


def test_what_the_stage_writes_is_what_the_page_reads(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from espalier.train.reward_pairs import EncodedPair
    from espalier.train.reward_report import summary

    rng = random.Random(1)
    rows = [
        EncodedPair([i], [i, 1], 0.0, "k", "en", "s", prompt=str(i), chosen_tokens=i % 7 + 1,
                    rejected_tokens=i % 5 + 1)
        for i in range(200)
    ]  # fmt: skip
    value = summary(rows, [rng.gauss(1, 2) for _ in rows], [rng.gauss(0, 2) for _ in rows])
    write_json(tmp_path / "reward" / "accuracy.json", value)
    stage = read_curves(tmp_path, 100, 4)[0]
    assert sum(point["n"] for point in stage["calibration"]["points"]) == 200
    assert len(stage["facts"]) == 8
    assert stage["statement"] == value["reliability"]


def test_hostile_sentences_stay_text(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    hostile = "</script><script>window.hit = 1</script>"
    value = {**reward_facts(), "accuracy": 0.9, "pairs": 9, "low": 0.8, "high": 1.0}
    value["reliability"] = [hostile]
    value["by_kind"] = {hostile: {"n": 9, "accuracy": 0.9, "low": 0.8, "high": 1.0}}
    write_json(run / "reward" / "accuracy.json", value)
    page = tmp_path / "report.html"
    build_report(run, ReportConfig(), page)
    text = page.read_text(encoding="utf-8")
    assert hostile not in text
    assert json.dumps(hostile)[1:-1].replace("<", "\\u003c").replace(">", "\\u003e") in text


def test_every_word_of_the_cards_is_in_the_strings() -> None:
    import re

    script = (ASSETS / "calibration.js").read_text(encoding="utf-8")
    used = set(re.findall(r'\bt\("([\w.]+)"', script))
    assert used and used <= set(words())
    # No text becomes markup.
    assert "innerHTML" not in script and "insertAdjacent" not in script
    assert SCRIPTS.index("calibration.js") < SCRIPTS.index("training.js")
