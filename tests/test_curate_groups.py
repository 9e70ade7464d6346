"""Task groups: against the built-in seeds' own labels, and datasets that no rule was made for."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from espalier.curate.groups import GROUPS, group_of, known_group, task_group
from espalier.offline.frames_en import FRAMES_EN
from espalier.offline.frames_zh import FRAMES_ZH
from espalier.records import Example, Message

SEEDS = Path(__file__).resolve().parents[1] / "curate" / "seeds"
DOLLY = {
    "brainstorming": "generation",
    "creative_writing": "generation",
    "summarization": "generation",
    "classification": "understanding",
    "closed_qa": "understanding",
    "information_extraction": "understanding",
    "open_qa": "dialogue",
    "general_qa": "dialogue",
}
MT_BENCH = {
    "writing": "generation", "roleplay": "dialogue", "reasoning": "reasoning", "math": "reasoning",
    "coding": "generation", "extraction": "understanding", "stem": "dialogue",
    "humanities": "dialogue",
}  # fmt: skip


def seed_rows(language: str) -> list[tuple[str, str]]:
    rows = []
    for line in (SEEDS / f"{language}.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        given = row["instances"][0]["input"]
        rows.append((row["instruction"] + (f"\n\n{given}" if given else ""), row["group"]))
    return rows


def accuracy(rows: list[tuple[str, str]]) -> float:
    return sum(task_group(text) == group for text, group in rows) / len(rows)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("half", [0, 1])
def test_seeds_of_either_half(language: str, half: int) -> None:
    """The words were chosen on the even rows; the odd ones were held out."""
    assert accuracy(seed_rows(language)[half::2]) > 0.85


def test_instructions_of_the_offline_teacher() -> None:
    for frames in (FRAMES_EN, FRAMES_ZH):
        rows = [(frame.compose(Random(n)), frame.group) for n, frame in enumerate(frames)]
        assert accuracy(rows) > 0.7


def test_questions_of_another_origin(shared_data: Path) -> None:
    path = shared_data / "sharegpt" / "mt_bench_questions.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert accuracy([(row["turns"][0], MT_BENCH[row["category"]]) for row in rows]) > 0.65


@pytest.mark.parametrize(("category", "group"), DOLLY.items())
def test_categories_of_dolly(category: str, group: str) -> None:
    assert known_group({"category": category}) == group
    assert known_group({"category": category.replace("_", " ").title()}) == group
    assert group_of(Example.single("Prove it.", "No.", meta={"category": category})) == group


def test_what_a_row_states_comes_first() -> None:
    meta = {"group": "Reasoning", "category": "creative_writing"}
    assert group_of(Example.single("Write a poem.", "…", meta=meta)) == "reasoning"
    assert known_group({"group": "nonsense", "category": 3}) is None
    assert group_of(Example.single("Write a poem about rain.", "…")) == "generation"


def test_many_turns_are_a_dialogue() -> None:
    turns = [Message("user", "Write a poem."), Message("assistant", "…"), Message("user", "More.")]
    assert task_group("Write a poem.", turns) == "dialogue"
    assert task_group("Write a poem.", turns[:1]) == "generation"


@pytest.mark.parametrize(
    "text", ["", "\n", "?", "a" * 5000, "1 " * 3000, "的" * 5000, "\x00\ud800"]
)
def test_every_text_has_a_group(text: str) -> None:
    assert task_group(text) in GROUPS
