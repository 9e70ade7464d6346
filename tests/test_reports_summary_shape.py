"""A summary of another version, or one that was mended by hand, ends in one message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_fixture import make_run

from espalier.cli import main

Keys = tuple[str | int, ...]
# Where the summary is spoilt (None takes the key away), and what the message has to name.
SPOILT: list[tuple[Keys, Any, str]] = [
    (("schema",), 2, "its form is 2, this version reads 1"),
    (("models", 0, "name"), None, "at 'models.0.name'"),
    (("models", 1, "few_shot"), "four", "at 'models.1.few_shot'"),
    (("metrics",), {"name": "x"}, "at 'metrics'"),
    (("scores", 0, "value"), "high", "at 'scores.0.value'"),
    (("comparisons", 0, "verdict"), None, "at 'comparisons.0.verdict'"),
    (("slices", 0, "by"), None, "at 'slices.0.by'"),
    (("set", "rows"), "many", "at 'set.rows'"),
    (("confidence",), 95, "at 'confidence'"),
    (("contamination",), {"scores": [{"model": "sft"}]}, "at 'contamination.scores.0.metric'"),
]


def spoil(run: Path, keys: Keys, value: Any) -> None:
    path = run / "evaluate" / "summary.json"
    summary = json.loads(path.read_text("utf-8"))
    place = summary
    for key in keys[:-1]:
        place = place[key]
    if value is None:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    path.write_text(json.dumps(summary), encoding="utf-8")


@pytest.mark.parametrize(("keys", "value", "said"), SPOILT)
def test_a_spoilt_summary_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], keys: Keys, value: Any, said: str
) -> None:
    runs = [make_run(tmp_path / name, stages=("evaluate",), rows=3) for name in "ab"]
    spoil(runs[0], keys, value)
    for words in (["report", str(runs[0])], ["report", *map(str, runs)]):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert said in error and "summary.json" in error and "what to do: run the stage" in error
    assert not (runs[0] / "report.html").exists() and not (tmp_path / "comparison.html").exists()


def test_what_newer_files_hold_beside_it_is_left_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", stages=("evaluate",), rows=3)
    spoil(run, ("later",), {"x": 1})
    spoil(run, ("models", 0, "later"), [1])
    assert main(["report", str(run)]) == 0


def test_statistics_of_data_may_lack_what_other_versions_did_not_write(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", stages=("curate",), rows=3)
    path = run / "curate" / "statistics.json"
    whole = {"min": 1, "max": 9, "median": 4, "p05": 1, "p95": 8, "histogram": [[1, 9, 5]]}
    statistics = {
        "files": {"train.jsonl": {"rows": 5, "lengths": {"answer": {
            "en": {"count": 3, "histogram": [[1, 9, 3]]}, "zh": {"count": 2, **whole},
        }}}},
        "openings": {"languages": {"en": {"verbs": [
            {"verb": "write", "count": 3}, {"verb": "say"}, {"count": None, "nouns": [["x", 1]]},
        ]}, "zh": {}}},
    }  # fmt: skip
    path.write_text(json.dumps(statistics), encoding="utf-8")
    assert main(["report", str(run)]) == 0
    html = (run / "report.html").read_text("utf-8")
    assert "write: 3" in html and "say: " not in html
