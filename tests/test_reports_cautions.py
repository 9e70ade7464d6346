"""What could mislead, told whole; and sentences of the stages in Chinese."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from espalier.evaluate.clean_scores import contamination_warnings
from espalier.evaluate.coverage import coverage_warnings
from espalier.evaluate.described import score_lengths
from espalier.reports.cautions import cautions, engine_of
from espalier.reports.retold import patterns, retell
from espalier.reports.strings import LANGUAGES, speaking

VLLM = {"name": "vllm", "version": "0.32", "dtype": "bfloat16"}
HF = {"name": "transformers", "version": "5.19", "dtype": "float32"}


def model(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "label": name.upper(), "engine": HF, "few_shot": 0, "answers": 200,
        "cut": 0, "empty": 0, **more,
    }  # fmt: skip


def summary(**more: Any) -> dict[str, Any]:
    return {
        "set": {"name": "s", "rows": 200},
        "models": [model("a"), model("b")],
        "metrics": [{"name": "m", "label": "Metric"}],
        "slices": [{"by": "language", "group": "en", "n": 200}],
        "coverage": [],
        "synthetic": False,
        "contamination": {"rows": 0},
        **more,
    }


def stage(**more: Any) -> dict[str, Any]:
    return {"label": "SFT", "seed": 1, "git": "abc", "packages": {"torch": "2"}, **more}


def states(found: Any) -> dict[str, str]:
    return {one.name: one.state for one in found}


def test_a_clean_run_has_every_point_and_one_caution() -> None:
    found = cautions(summary(), [stage(), stage()])
    assert states(found) == {
        "synthetic": "fine", "contamination": "fine", "size": "fine", "setup": "fine",
        "cut": "fine", "empty": "fine", "coverage": "fine", "seed": "caution", "versions": "fine",
    }  # fmt: skip


CASES: list[tuple[str, str, dict[str, Any], str]] = [
    ("synthetic", "caution", {"synthetic": True}, "embedded teacher"),
    ("contamination", "caution", {"contamination": {"rows": 7}}, "7 of 200"),
    ("contamination", "unknown", {"contamination": None}, "Nobody looked"),
    ("size", "caution", {"set": {"name": "s", "rows": 40}}, "Only 40 prompts"),
    (
        "size",
        "caution",
        {"slices": [{"by": "c", "group": g, "n": n} for g, n in (("x", 29), ("y", 30))]},
        "1 of 2 groups",
    ),
    (
        "setup",
        "caution",
        {"models": [model("a"), model("b", engine=VLLM), model("c", few_shot=4)]},
        "A: transformers 5.19 float32, 0 examples; B: vllm 0.32 bfloat16, 0 examples; "
        "C: transformers 5.19 float32, 4 examples",
    ),
    ("cut", "caution", {"models": [model("a", cut=11)]}, "A 11 of 200"),
    ("cut", "fine", {"models": [model("a", cut=10)]}, "A 10 of 200"),
    ("empty", "caution", {"models": [model("a", empty=50)]}, "A 50 of 200"),
    ("coverage", "caution", {"coverage": [{"metric": "m"}]}, "by Metric"),
]


@pytest.mark.parametrize(("name", "state", "more", "said"), CASES)
def test_each_point(name: str, state: str, more: dict[str, Any], said: str) -> None:
    found = next(one for one in cautions(summary(**more), []) if one.name == name)
    assert found.state == state and said in found.text
    with speaking("zh"):
        told = next(one for one in cautions(summary(**more), []) if one.name == name)
    assert told.state == state and re.search(r"[\u4e00-\u9fff]{3}", told.text)


def test_versions_and_changes() -> None:
    other = stage(packages={"torch": "3"})
    assert states(cautions(None, [stage(), other])) == {"seed": "caution", "versions": "caution"}
    changed = cautions(None, [stage(git="abc+changes"), stage(git="abc+changes")])
    assert "uncommitted changes in: SFT" in changed[-1].text
    assert cautions(None, []) == []


def test_answers_of_a_file_have_no_engine() -> None:
    assert engine_of({"label": "x"}) == "a file of answers"


# --- sentences of the stages ---------------------------------------------------------------------


def test_what_the_evaluation_writes_is_told_in_chinese() -> None:
    """Sentences as the stages make them, so that a changed one is noticed here."""
    rows = [{"metric": "bleu", "rows": {"a": 3, "b": 4}, "shared": 3}]
    contaminated = {
        "rows": 7, "share": 0.035, "same_prompt": 1, "same_turn": 2, "ngram": 5,
        "near_prompt": 1, "whole_reference": 4, "unread": {},
        "against": [{"file": "train.jsonl"}], "comparisons": [],
    }  # fmt: skip
    said = [
        *coverage_warnings(rows),
        *contamination_warnings(contaminated, 200),
        *contamination_warnings({**contaminated, "whole_reference": 0}, 7),
        # As an earlier version wrote it.
        "Contamination: 7 of 200 prompts (3.5%) share text with the training data (train.jsonl): "
        "1 a whole prompt, 5 a run of words, 1 most of the prompt. summary.json has the scores "
        "without them.",
        *(one.metric.description for one in score_lengths({"a": ["x"]}, ["y"])),
    ]
    assert np.all([retell(text) == text for text in said])
    with speaking("zh"):
        for text in said:
            told = retell(text)
            assert re.search(r"[\u4e00-\u9fff]{2}", told), text
            digits = re.findall(r"\d[\d,.]*\d|\d", text)
            assert sorted(re.findall(r"\d[\d,.]*\d|\d", told)) == sorted(digits)


def test_values_stay_as_they_are() -> None:
    with speaking("zh"):
        told = retell("{shots}: 3 answers are empty; they count as answers.")
        assert told == "{shots}：有 3 个回答为空；仍计为回答。"
        hostile = "<img src=x>: 3 answers are empty; they count as answers."
        assert retell(hostile).startswith("<img src=x>：")


def test_what_fits_no_sentence_stays() -> None:
    with speaking("zh"):
        for text in ("", "my own note", "x" * 100_000, "Exact match " * 3):
            assert retell(text) == text


def test_every_pattern_fits_itself_and_has_its_places() -> None:
    whole, placed = patterns()
    assert LANGUAGES == ("en", "zh")
    for told in [*whole.values(), *(pattern.told for pattern in placed)]:
        assert re.search(r"[\u4e00-\u9fff]", told) or told.endswith("BLEU"), told
    for pattern in placed:
        assert set(re.findall(r"\{(\w+)\}", pattern.told)) <= set(pattern.matcher.groupindex)


@pytest.mark.parametrize("where", ["synthetic", "judge"])
def test_an_embedded_judge_is_synthetic_too(where: str) -> None:
    marked = {"synthetic": True} if where == "synthetic" else {"judge": {"synthetic": True}}
    states = {one.name: one.state for one in cautions(summary(**marked), [])}
    assert states["synthetic"] == "caution"
    plain = {one.name: one.state for one in cautions(summary(judge={"synthetic": False}), [])}
    assert plain["synthetic"] == "fine"
