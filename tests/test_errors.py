"""Hints with the name that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from espalier.errors import did_you_mean

NAMES = ["--dry-run", "learning_rate", "open-orca", "训练", "训练集.jsonl"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("--dry-rnu", "--dry-run"),
        ("learnig_rate", "learning_rate"),
        ("LearningRate", "learning_rate"),
        ("Open Orca", "open-orca"),
        ("训练級.jsonl", "训练集.jsonl"),
        ("weights", None),
        ("", None),
        ("??", None),
    ],
)
def test_the_nearest_name_is_told(written: str, meant: str | None) -> None:
    told = did_you_mean(written, NAMES)
    assert told == (None if meant is None else f"did you mean '{meant}'?")
    shown = did_you_mean(written, NAMES, Path("data"))
    assert shown == (None if meant is None else f"did you mean {Path('data') / meant}?")
