"""Recipes: composition, overrides, and a message with file and line for every mistake."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from espalier import recipe as recipe_module
from espalier.errors import UsageError
from espalier.recipe import load_recipe, recipe_from, recipe_model


class Inner(BaseModel):
    """Options of the inner part."""

    model_config = ConfigDict(extra="forbid")
    learning_rate: float = Field(1e-3, gt=0, description="Step size.")
    epochs: int = Field(1, ge=1, description="Passes over the data.")


class Source(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: str = Field(description="What it is.")
    count: int = 1


class Section(BaseModel):
    """A section for these tests."""

    model_config = ConfigDict(extra="forbid")
    sft: Inner | None = None
    sources: list[Source] = Field(default_factory=list)


@pytest.fixture(autouse=True)
def _sections(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(recipe_module, "SECTIONS", {"train": "section"})
    monkeypatch.setattr(recipe_module, "load", lambda reference: Section)
    recipe_model.cache_clear()
    yield
    recipe_model.cache_clear()


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def message(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_recipe(write(folder, text), overrides)
    return str(caught.value)


def test_defaults_and_name(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "seed: 3\ntrain: {sft: {epochs: 2}}\n"))
    assert recipe.shared.name == "mine"
    assert recipe.shared.seed == 3
    assert recipe.section("train.sft").epochs == 2
    assert recipe.section("train.sft").learning_rate == 1e-3
    assert recipe.section("train.other") is None


def test_extends_merges_mappings_and_replaces_lists(tmp_path: Path) -> None:
    write(
        tmp_path,
        "name: parent\nseed: 7\ntrain:\n  sft: {epochs: 2, learning_rate: 0.5}\n"
        "  sources: [{kind: a}, {kind: b}]\n",
        "parent.yaml",
    )
    child = write(
        tmp_path, "extends: parent.yaml\ntrain:\n  sft: {epochs: 9}\n  sources: [{kind: c}]\n"
    )
    recipe = load_recipe(child)
    assert recipe.shared.name == "mine"
    assert recipe.shared.seed == 7
    section = recipe.section("train")
    assert (section.sft.epochs, section.sft.learning_rate) == (9, 0.5)
    assert [item.kind for item in section.sources] == ["c"]


def test_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, "train:\n  sft: {epochs: 2}\n  sources: [{kind: a}]\n")
    recipe = load_recipe(
        path,
        ["train.sft.learning_rate=1e-5", "seed=4", "train.sources.0.count=5", "data=/tmp/x"],
    )
    assert recipe.section("train.sft").learning_rate == 1e-5
    assert recipe.shared.seed == 4
    assert recipe.section("train").sources[0].count == 5
    assert recipe.shared.data == "/tmp/x"
    assert recipe.section("train.sft").epochs == 2


def test_the_resolved_recipe_reads_back_equal(tmp_path: Path) -> None:
    first = load_recipe(write(tmp_path, "train: {sft: {epochs: 2}}\n"))
    again = load_recipe(write(tmp_path, first.resolved_yaml(), "again.yaml"))
    assert again.values == first.values


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("train:\n  sft:\n    epoch: 2\n", ["train.sft.epoch", "mine.yaml, line 3", "'epochs'"]),
        ("trian: {}\n", ["unknown key 'trian'", "line 1", "'train'"]),
        ("train:\n  sources:\n  - kind: a\n    cuont: 2\n", ["line 4", "'count'"]),
        ("train:\n  sources:\n  - count: 2\n", ["'train.sources.0.kind' is missing", "line 3"]),
        ("train:\n  sft:\n    epochs: many\n", ["'train.sft.epochs'", "found 'many'", "line 3"]),
        ("train:\n  sft:\n    epochs: 0\n", ["greater than or equal to 1", "line 3"]),
        ("seed: 1\nseed: 2\n", ["'seed' is given twice", "line 2"]),
        ("train:\n\tsft: 1\n", ["not valid YAML", "line 2"]),
        ("train: [1, 2\n", ["not valid YAML", "line"]),
        ("", ["has no keys"]),
        ("- a\n", ["has no keys"]),
        ("extends: mine.yaml\n", ["extends itself"]),
        ("extends: [a]\n", ["has to name one recipe file", "line 1"]),
        ("extends: absent.yaml\n", ["can't be opened", "absent.yaml"]),
    ],
)
def test_mistakes_name_file_and_line(tmp_path: Path, text: str, parts: list[str]) -> None:
    said = message(tmp_path, text)
    for part in parts:
        assert part in said


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.json", '[{"instruction": "a", "output": "b"}]'),
        ("rows.json", '{"instruction": "a", "output": "b"}\n{"instruction": "c", "output": "d"}'),
        ("rows.json", '[{"colour": "red"}]'),
        ("rows.jsonl", '{"instruction": "a", "output": "b"}'),
        ("my rows.csv", "instruction,output\na,b\n"),
        ("rows.jsonl.gz", "packed"),
        ("rows.parquet", "PAR1"),
    ],
)
def test_data_are_no_recipe(tmp_path: Path, name: str, text: str) -> None:
    path = write(tmp_path, text, name)
    with pytest.raises(UsageError, match="no recipe, but looks like data") as caught:
        load_recipe(path)
    words = shlex.split(str(caught.value.hint).split("`")[1])
    assert words[:3] == ["espalier", "new", str(path)]


@pytest.mark.parametrize("name", ["mine.json", "rows.jsonl.yaml"])
def test_a_recipe_may_be_written_as_json(tmp_path: Path, name: str) -> None:
    text = '{"train": {"sft": {"epochs": 2}}}'
    assert load_recipe(write(tmp_path, text, name)).section("train.sft").epochs == 2


def test_all_mistakes_are_listed_at_once(tmp_path: Path) -> None:
    said = message(tmp_path, "sead: 1\ntrain:\n  sft: {epochs: 0, rate: 1}\n")
    assert "3 mistakes" in said


@pytest.mark.parametrize("override", ["train.sft.epochs", "=3", "train..x=1"])
def test_a_malformed_override_is_refused(tmp_path: Path, override: str) -> None:
    assert "not an override" in message(tmp_path, "seed: 1\n", override)


def test_an_override_of_an_absent_list_element(tmp_path: Path) -> None:
    said = message(tmp_path, "train: {sources: [{kind: a}]}\n", "train.sources.3.kind=b")
    assert "no element of a list of 1" in said


def test_a_data_root_that_is_not_given(tmp_path: Path) -> None:
    text = "train:\n  sources:\n    - {kind: file}\n    - {kind: '${data}/x'}\n"
    told = message(tmp_path, text)
    assert "train.sources.1.kind" in told and "line 4" in told and "--set data=FOLDER" in told
    recipe = load_recipe(write(tmp_path, text), ["data=here"])
    assert recipe.shared.data == "here"


def test_missing_recipe_names_near_ones(tmp_path: Path) -> None:
    write(tmp_path, "seed: 1\n", "demo.yaml")
    with pytest.raises(UsageError) as caught:
        load_recipe(tmp_path / "dmeo.yaml")
    assert "demo.yaml" in str(caught.value)


def test_utf16_recipe_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes("seed: 1\n".encode("utf-16"))
    with pytest.raises(UsageError, match="not UTF-8"):
        load_recipe(path)


def test_recipe_from_values() -> None:
    recipe = recipe_from({"name": "x", "train": {"sft": {"epochs": 2}}}, ["seed=9"])
    assert recipe.shared.seed == 9
    with pytest.raises(UsageError, match="did you mean 'epochs'"):
        recipe_from({"train": {"sft": {"epoch": 2}}})


SMALL = """
description: full
train: {sft: {epochs: 3, learning_rate: 0.5}}
small:
  description: less
  train: {sft: {epochs: 1}}
"""


def test_the_small_variant_lies_over_the_recipe_and_has_a_run_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SMALL, encoding="utf-8")
    full, small = load_recipe(path), load_recipe(path, small=True)
    assert (full.shared.name, small.shared.name) == ("mine", "mine-small")
    assert (full.section("train.sft").epochs, small.section("train.sft").epochs) == (3, 1)
    assert small.section("train.sft").learning_rate == 0.5
    again = load_recipe(path, ["train.sft.epochs=2"], small=True)
    assert again.section("train.sft").epochs == 2


def test_a_small_variant_lies_over_the_child_of_its_recipe_too(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(SMALL, encoding="utf-8")
    child = tmp_path / "child.yaml"
    child.write_text("extends: mine.yaml\ntrain: {sft: {epochs: 9}}\nsmall: {name: tiny}\n")
    assert load_recipe(child).section("train.sft").epochs == 9
    small = load_recipe(child, small=True)
    assert (small.shared.name, small.section("train.sft").epochs) == ("tiny", 1)
    # A parent's name is not its children's, in either variant.
    (tmp_path / "grandchild.yaml").write_text("extends: child.yaml\n")
    again = load_recipe(tmp_path / "grandchild.yaml", small=True)
    assert again.shared.name == "grandchild-small"


def test_a_mistake_in_the_small_variant_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SMALL.replace("{epochs: 1}", "{epocs: 1}"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"train\.sft\.epocs.*mine\.yaml, line 6.*'epochs'"):
        load_recipe(path, small=True)


def test_a_recipe_without_a_small_variant_says_so(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 2\n", encoding="utf-8")
    with pytest.raises(UsageError, match="no small variant"):
        load_recipe(path, small=True)
