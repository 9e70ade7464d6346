"""Details of metrics on the terminal: what is shown of each kind, and of hostile text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from espalier.cli import main
from espalier.evaluate.details import details_text

LABELS = [
    {"label": "好", "precision": 1.0, "recall": 0.5, "f1": 2 / 3, "rows": 2, "told": 1},
    {"label": "bad\x1b[31m", "precision": 0.5, "recall": 1.0, "f1": 2 / 3, "rows": 1, "told": 2},
]
DETAILS: dict[str, Any] = {
    "macro_f1": {"m": {"labels": LABELS, "confusion": [[1, 1], [0, 1]], "without_label": 0}},
    "checks_each": {"m": {"checks": {"json": {"passed": 0.25, "checks": 1204}}}},
    "reward": {
        "m": {
            "answers_cut": 3,
            "distribution": {"n": 2, "mean": 1.5, "deviation": None, "quantiles": {"0.5": 1.25}},
            "histogram": {"borders": [0.0, 1.0, 2.0, 3.0], "counts": [1, 0, 8]},
            "length": {"n": 2, "pearson": None, "spearman": 0.5},
            "other_models": {"reward_b": {"n": 2, "pearson": 1.0, "spearman": 1.0}},
        }
    },
    "ppl_corpus": {"m": {"tokens": 5000, "tokens_as_first": True}},
}


def summary(format: str = "number") -> dict[str, Any]:
    return {
        "models": [{"name": "m"}, {"name": "other"}],
        "metrics": [
            {"name": name, "label": name.upper(), "description": "It says.", "signature": "s|1",
             "format": format}
            for name in DETAILS
        ],
        "scores": [
            {"model": "m", "metric": name, "value": 0.5, "low": 0.25, "high": 0.75, "n": 1500}
            for name in DETAILS
        ],
        "details": DETAILS,
    }  # fmt: skip


def test_every_kind_of_detail_is_shown() -> None:
    lines = details_text(summary("percent")).split("\n")
    assert lines[:4] == [
        "macro_f1: MACRO_F1", "  It says.", "  s|1", "  m: 50.0 [25.0, 75.0] %, n=1,500",
    ]  # fmt: skip
    text = "\n".join(lines)
    assert "other:" not in text  # it has no score
    assert "\x1b" not in text and "bad�[31m" in text
    table = [line.split() for line in lines]
    assert ["label", "precision", "recall", "f1", "rows", "told"] in table
    assert ["好", "1.00", "0.50", "0.67", "2", "1"] in table
    assert ["好", "1", "1"] in table and ["bad�[31m", "0", "1"] in table
    assert ["json", "0.25", "1,204"] in table
    assert "    distribution: n 2, mean 1.50, deviation –" in lines
    assert "      quantiles: 0.5 1.25" in lines
    assert "    histogram: 0.00 |▁ █| 3.00" in lines
    assert "    length: n 2, pearson –, spearman 0.50" in lines
    assert ["reward_b", "2", "1.00", "1.00"] in table
    assert "    tokens 5,000, tokens as first yes" in lines


def test_columns_are_below_each_other_in_any_script() -> None:
    lines = details_text(summary(), ["macro_f1"]).split("\n")
    assert "CHECKS_EACH" not in "\n".join(lines)
    at = next(i for i, line in enumerate(lines) if line.split()[:1] == ["label"])
    # A Chinese character takes two columns.
    assert len(lines[at]) == len(lines[at + 1]) + 1 == len(lines[at + 2])


def test_the_verb_shows_a_run_and_names_what_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "details", str(tmp_path)]) == 2
    assert "no finished evaluation" in capsys.readouterr().err
    (tmp_path / "evaluate").mkdir()
    (tmp_path / "evaluate" / "summary.json").write_text(json.dumps(summary()), "utf-8")
    assert main(["evaluate", "details", str(tmp_path), "--metric", "rouge"]) == 2
    error = capsys.readouterr().err
    assert "no metric 'rouge'" in error and "macro_f1, checks_each" in error
    assert main(["evaluate", "details", str(tmp_path), "--metric", "reward"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("reward: REWARD") and "ppl_corpus" not in shown
