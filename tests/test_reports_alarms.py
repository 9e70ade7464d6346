"""Alarms on the curves that they are about, and intervals around curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_fixture import write_lines

from espalier.reports.curves import alarms, charts, mark_alarms, read_curves, spells


def fired(*steps: int, kind: str = "length") -> list[dict[str, Any]]:
    return [{"step": step, "alarm": kind, "message": f"about {kind}"} for step in steps]


def test_an_alarm_stands_on_the_curve_that_it_is_about(tmp_path: Path) -> None:
    rows = [{"step": s, "score": 1.0 * s, "length": 5.0 + s, "kl": 0.1 * s} for s in range(1, 21)]
    write_lines(tmp_path / "ppo" / "metrics.jsonl", rows)
    lines = [
        *fired(7, 8, 9, 15),
        *fired(4, kind="negative kl"),
        *fired(20, kind="stopped"),
        *fired(3, kind="entropy"),
    ]
    write_lines(tmp_path / "ppo" / "alarms.jsonl", lines)
    (stage,) = read_curves(tmp_path, 400, 3)
    marks = {chart["key"]: chart["marks"] for chart in stage["charts"]}
    assert marks == {
        "score": [
            {"from": 20, "to": 20, "message": "about stopped"},
            # There is no curve of the entropy here.
            {"from": 3, "to": 3, "message": "about entropy"},
        ],
        "kl": [{"from": 4, "to": 4, "message": "about negative kl"}],
        "length": [
            {"from": 7, "to": 9, "message": "about length"},
            {"from": 15, "to": 15, "message": "about length"},
        ],
    }
    length = stage["alarms"][0]
    assert (length["count"], length["first"], length["last"], length["chart"]) == (
        4, 7, 15, "length",
    )  # fmt: skip


def test_alarms_without_curves_or_steps_are_told_all_the_same(tmp_path: Path) -> None:
    write_lines(tmp_path / "ppo" / "alarms.jsonl", [{"alarm": "odd", "message": "m"}])
    (stage,) = read_curves(tmp_path, 400, 3)
    (alarm,) = stage["alarms"]
    assert (alarm["count"], alarm["first"], alarm["chart"]) == (1, None, None)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_a_spell_has_no_other_step_inside(places: set[int], steps: set[int]) -> None:
    """Against the definition: neighbours are one spell where no place lies strictly between."""
    ordered = sorted(steps)
    expected: list[list[int]] = []
    for step in ordered:
        last = expected[-1][-1] if expected else None
        if last is not None and not any(last < place < step for place in places):
            expected[-1].append(step)
        else:
            expected.append([step])
    assert spells(ordered, sorted(places)) == [(run[0], run[-1]) for run in expected]


def test_many_spells_are_drawn_in_part() -> None:
    steps = list(range(0, 1000, 2))
    found = alarms(fired(*steps))
    chart: dict[str, Any] = {"key": "length", "series": [{"x": list(range(1000))}], "marks": []}
    mark_alarms([chart], found)
    assert len(chart["marks"]) == 60
    assert found[0]["count"] == 500


@pytest.mark.parametrize("points", [400, 3])
def test_the_interval_of_the_gain_is_a_band(points: int) -> None:
    rows = [
        {"step": s, "split": "held_out", "gain": s, "gain_low": s - 1.0, "gain_high": s + 2.0,
         "training_gain": 2.0 * s}
        for s in range(0, 50, 5)
    ]  # fmt: skip
    (chart,) = charts(rows, points)
    labels = [series["label"] for series in chart["series"]]
    if points == 3:
        # A thinned curve has no band: its points are not those of the ends.
        assert len(labels) == 4
        return
    assert labels == ["held-out reward", "training reward"]
    gain, training = chart["series"]
    assert gain["low"] == [y - 1 for y in gain["y"]]
    assert gain["high"] == [y + 2 for y in gain["y"]]
    assert "low" not in training


def test_a_band_with_gaps_stays_two_lines() -> None:
    rows = [{"step": s, "gain": s, "gain_low": s - 1.0} for s in range(3)]
    rows += [{"step": s, "gain_high": s + 1.0} for s in range(2)]
    (chart,) = charts(rows, 400)
    assert len(chart["series"]) == 3
