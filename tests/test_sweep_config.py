"""The section `sweep` of a recipe: what is taken, and what is refused with its reason."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from espalier.errors import UsageError
from espalier.recipe import load_recipe, recipe_from
from espalier.sweep_config import Draw


def sweep(**options: Any) -> Any:
    return recipe_from({"name": "r", "sweep": options}).section("sweep")


def test_a_grid_variants_and_ranges_are_taken() -> None:
    found = sweep(
        question={"en": "Which?", "zh": "哪个？"},
        over={"train.sft.epochs": [1, 2], "train.sft.learning_rate": {"low": 1e-5, "high": 1e-3}},
        variants={"plain": {}, "long": {"train.sft.max_length": 512}},
        draws=3,
        seeds=[1, 5],
        reseed=["train.sft.seed"],
        answer={"metric": "exact_match", "model": "sft", "factor": "variant"},
    )
    assert found.over["train.sft.learning_rate"] == Draw(low=1e-5, high=1e-3)
    assert list(found.variants) == ["plain", "long"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"over": {"seed": []}}, "has no value"),
        ({"over": {"a.b": [1, 1]}}, "names a value twice"),
        ({"over": {"a.b": [date(2024, 1, 1)]}}, "the date 2024-01-01: put it in quotes"),
        ({"over": {"a.b": {"low": 1, "high": 2}}}, "with `draws` how many"),
        ({"over": {"a.b": {"low": 0, "high": 2, "log": True}}, "draws": 2}, "above 0"),
        ({"over": {"a.b": {"low": 3, "high": 2}}, "draws": 2}, "below `high`"),
        ({"draws": 2}, "which is empty"),
        ({"seeds": 0}, "one repeat at least"),
        ({"seeds": [1, 1]}, "a seed is named twice"),
        ({"over": {"a": [1]}, "variants": {"x": {"a": 2}}}, "in `over` and in a variant"),
        ({"over": {"seed": [1, 2]}}, "in `over` and in `reseed`"),
        ({"variants": {"x": {"seed": 2}}}, "in the variant 'x' and in `reseed`"),
        ({"answer": {"metric": "bleu"}}, "needs `model` or `models`"),
        ({"answer": {"metric": "bleu", "models": ["sft"]}}, "two different models"),
        ({"answer": {"metric": "bleu", "models": ["a", "b"], "model": "c"}}, "one of the two"),
        ({"answer": {"metric": "ppo/kl:train", "model": "ppo"}}, "needs no model"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sweep(**options)


def test_whole_numbers_and_truth_values_are_different_levels() -> None:
    assert len(sweep(over={"a": [1, True, 1.0]}).over["a"]) == 3


def test_what_is_varied_is_replaced_not_merged(tmp_path: Path) -> None:
    (tmp_path / "parent.yaml").write_text(
        "sweep: {over: {seed: [1, 2]}, variants: {a: {}, b: {}}, reseed: [train.sft.seed]}\n"
        "small: {sweep: {variants: {c: {}}, seeds: 2}}\n"
    )
    child = tmp_path / "child.yaml"
    child.write_text("extends: parent.yaml\nsweep: {over: {data: [x]}}\n")
    full, small = load_recipe(child).section("sweep"), load_recipe(child, small=True)
    assert (list(full.over), list(full.variants), full.seeds) == (["data"], ["a", "b"], 1)
    assert list(small.section("sweep").variants) == ["c"]
    assert (small.section("sweep").seeds, small.section("sweep").reseed) == (2, ["train.sft.seed"])
