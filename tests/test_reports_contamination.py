"""Contamination and untested columns on the page: what is said, and that it stays text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_fixture import make_run, write_json
from test_reports_page import HOSTILE, Page, build, everywhere

from espalier.evaluate.clean_scores import contamination_warnings
from espalier.reports.config import ReportConfig
from espalier.reports.contamination import CleanCell, changed_verdicts, contamination_of
from espalier.reports.data import gather
from espalier.reports.strings import speaking

METRICS = [
    {"name": "exact_match", "label": "Exact match", "format": "percent"},
    {"name": "bleu", "label": "BLEU", "format": "number"},
    {"name": "ppl_corpus", "label": "Perplexity", "format": "perplexity"},
]


def entry(model: str, metric: str, clean: float | None, everything: float) -> dict[str, Any]:
    spread = {"low": None, "high": None}
    if clean is not None:
        spread = {"low": clean - 0.1, "high": clean + 0.1}
    return {"model": model, "metric": metric, "all": everything, "clean": clean, **spread}


def summary(**found: Any) -> dict[str, Any]:
    return {
        "set": {"rows": 1200},
        "models": [{"name": name, "label": name.upper()} for name in ("a", "b", "api")],
        "metrics": METRICS,
        "contamination": {"against": [{"file": "train.jsonl"}], "rows": 0, **found},
    }


FOUND: dict[str, Any] = {
    "rows": 30, "same_prompt": 1, "same_turn": 0, "ngram": 20, "near_prompt": 11,
    "whole_reference": 3,
    "scores": [
        entry("a", "exact_match", 0.5, 0.54), entry("b", "exact_match", 0.45, 0.6),
        entry("a", "bleu", 12.04, 12.5), entry("b", "bleu", 9.96, 10.0),
        entry("api", "bleu", None, 3.0),
    ],
    "comparisons": [
        {"model": "b", "metric": "exact_match", "changed": True, "verdict": "tie",
         "verdict_all": "better"},
        {"model": "b", "metric": "bleu", "changed": False, "verdict": "tie", "verdict_all": "tie"},
    ],
}  # fmt: skip


def test_the_table_has_the_clean_scores_and_changed_verdicts() -> None:
    found = contamination_of(summary(**FOUND))
    assert found is not None
    assert "30 of 1,200 prompts (2.5 %)" in found.sentence and "20 a run of words" in found.sentence
    assert "For 3 of them the training data hold the whole reference" in found.sentence
    assert "last question" not in found.sentence  # a kind that was not found
    assert "The table has the scores without them" in found.sentence
    everything = contamination_of(summary(**{**FOUND, "rows": 1200}))
    assert everything is not None and "No prompt is left" in everything.sentence
    assert "without them" not in everything.sentence and everything.rows == []
    with speaking("zh"):
        chinese = contamination_of(summary(**FOUND))
    assert chinese is not None and " 下表" not in chinese.sentence and "。下表" in chinese.sentence
    assert found.files == "train.jsonl"
    # Perplexity of a corpus has no prompts of the set.
    assert found.metrics == ["Exact match", "BLEU"]
    assert [label for label, _ in found.rows] == ["A", "B", "API"]
    assert found.rows[1][1] == [
        CleanCell("45.0 %", "[35.0, 55.0]", "all: 60.0 %", "better → tie"),
        CleanCell("10.0", "[9.9, 10.1]", "all: 10.0", ""),
    ]
    assert found.rows[2][1] == [CleanCell("–", "", "", ""), CleanCell("–", "", "all: 3.0", "")]


def test_nothing_found_is_said_and_nothing_looked_for_is_not() -> None:
    found = contamination_of(summary())
    assert found is not None and found.rows == []
    assert found.sentence == "None of the 1,200 prompts shares text with the training data."
    assert contamination_of({**summary(), "contamination": None}) is None
    assert contamination_of(None) is None


def contaminated_run(folder: Path, text: Callable[[str], str] | None = None) -> Path:
    """A run whose BLEU is not tested, scored on other prompts by model, and contaminated."""
    run = make_run(folder, rows=24, change=text)
    path = run / "evaluate" / "summary.json"
    value = json.loads(path.read_text("utf-8"))
    name = text("train.jsonl") if text else "train.jsonl"
    for metric in value["metrics"]:
        metric["tested"] = metric["name"] != "bleu"
    value["comparisons"] = [c for c in value["comparisons"] if c["metric"] != "bleu"]
    value["coverage"] = [{"metric": "rougeL", "rows": {}, "shared": 20, "scores": {}}]
    value["contamination"] = {
        **FOUND, "rows": 12, "against": [{"file": name}],
        "scores": [{**s, "model": m} for s, m in zip(FOUND["scores"][:2], ("sft", "ppo"),
                                                     strict=True)],
        "comparisons": [{**FOUND["comparisons"][0], "model": "ppo"}],
    }  # fmt: skip
    write_json(path, value)
    return run


def test_the_page_shows_it_without_scripts(tmp_path: Path) -> None:
    page = Page(build(contaminated_run(tmp_path / "run")))
    words = " ".join(" ".join(page.text).split())
    assert "12 of 24 prompts" in words and "Compared with: train.jsonl" in words
    assert "better → tie" in words and "all: 60.0 %" in words
    assert "described, not tested" in words
    assert 'id="contamination"' not in build(make_run(tmp_path / "plain", rows=24))


@pytest.mark.parametrize("payload", [HOSTILE[1], HOSTILE[8], HOSTILE[30]])
def test_names_of_files_and_models_stay_text(tmp_path: Path, payload: str) -> None:
    harmless = Page(build(contaminated_run(tmp_path / "one", everywhere("x"))))
    hostile = Page(build(contaminated_run(tmp_path / "two", everywhere(payload))))
    assert hostile.shape() == harmless.shape()


def test_changed_verdicts_are_told_with_labels_in_the_reader_s_language(tmp_path: Path) -> None:
    """The evaluation names metrics and models as a recipe does, the page as its tables do."""
    found = summary(**FOUND)
    found["contamination"]["comparisons"][0]["baseline"] = "a"
    said = contamination_warnings(
        {**found["contamination"], "share": 0.1, "unread": {}}, rows=1200
    )[-1]
    assert said == (
        "Without the contaminated prompts other verdicts: exact_match of b (better → tie)"
    )
    assert changed_verdicts(found) == (
        "Without the contaminated prompts other verdicts: "
        "Exact match of B against A (better → tie)."
    )
    with speaking("zh"):
        chinese = changed_verdicts(found)
    assert "Exact match：B 对 A（更好 → 持平）" in chinese and "verdict" not in chinese
    assert changed_verdicts(summary()) == "" and changed_verdicts(None) == ""
    run = contaminated_run(tmp_path / "run")
    path = run / "evaluate" / "summary.json"
    value = json.loads(path.read_text("utf-8"))
    write_json(path, {**value, "warnings": [said]})
    with speaking("zh"):
        notices = [notice.text for notice in gather(run, ReportConfig()).notices]
    assert any("（更好 → 持平）" in text for text in notices) and said not in notices
