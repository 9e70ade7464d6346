"""The recipes and options that the documentation prints are taken, and every training option is
named there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from espalier.recipe import load_recipe, recipe_from
from espalier.run import Shared
from espalier.train import config_adapters, config_data, config_parts, config_policy
from espalier.train import config_rewards as rewards
from espalier.train.config import BaseConfig, PPOConfig, RewardConfig, SFTConfig
from espalier.train.config_rl import PairSource
from espalier.train.config_rollout import RolloutOptions

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("README*.md"), ROOT / "CONTRIBUTING.md"])
BLOCK = re.compile(r"^```ya?ml\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
TRAINING = ROOT / "docs" / "training.md"
MODELS: tuple[type[BaseModel], ...] = (
    SFTConfig,
    RewardConfig,
    PPOConfig,
    BaseConfig,
    config_parts.Validation,
    config_adapters.LoraTuning,
    config_adapters.PromptTuning,
    config_adapters.OtherAdapter,
    config_data.DataSource,
    config_data.Curriculum,
    config_policy.PretrainingMix,
    PairSource,
    rewards.RewardTerm,
    rewards.HeldOut,
    rewards.StopRules,
    RolloutOptions,
)


def blocks() -> list[Any]:
    return [
        pytest.param(text, id=f"{page.name}, {number}")
        for page in PAGES
        for number, text in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")), 1)
    ]


@pytest.mark.parametrize("text", blocks())
def test_every_printed_recipe_is_taken(text: str, tmp_path: Path) -> None:
    """A block without a name is a part of a recipe; all else of it has defaults.

    One that `extends` another is an experiment.
    """
    recipe = yaml.safe_load(text)
    if "extends" not in recipe:
        recipe_from({"name": "printed", **recipe})
        return
    recipe["extends"] = str(ROOT / "recipes" / "experiments" / recipe["extends"])
    (tmp_path / "printed.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), "utf-8")
    load_recipe(tmp_path / "printed.yaml")


def test_blocks_are_found() -> None:
    assert len(blocks()) >= 7


def accepts(model: type[BaseModel], name: str, value: Any) -> bool:
    field = model.model_fields.get(name)
    if field is None:
        return False
    parts = (field.annotation, *field.metadata)
    try:
        TypeAdapter(Annotated[parts] if field.metadata else parts[0]).validate_python(value)
    except ValidationError:
        return False
    return True


def test_options_within_the_text_are_taken() -> None:
    """`name: value` in the page on training: some part of a recipe has it, and takes the value."""
    written = re.findall(r"`(\w+): ([^`\n]+)`", TRAINING.read_text(encoding="utf-8"))
    assert len(written) > 15
    refused = [
        f"{name}: {value}"
        for name, value in written
        if not any(accepts(model, name, yaml.safe_load(value)) for model in (*MODELS, Shared))
    ]
    assert refused == []


def test_every_training_option_is_on_the_page() -> None:
    text = TRAINING.read_text(encoding="utf-8")
    named = {word for code in re.findall(r"```.*?```|`[^`]+`", text, flags=re.DOTALL)
             for word in re.findall(r"\w+", code)}  # fmt: skip
    missing = {
        f"{model.__name__}.{name}"
        for model in MODELS
        for name, field in model.model_fields.items()
        if name not in named and not field.exclude
    }
    assert missing == set()


def test_the_page_of_experiments_has_the_questions_of_the_recipes() -> None:
    folder = ROOT / "recipes" / "experiments"
    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| ([^|]+) \|[^|]+\| (\d+)\D[^|]*\|", page, flags=re.M)
    told = {name: (question, int(repeats)) for name, question, repeats in rows}
    asked = {}
    for path in folder.glob("*.yaml"):
        sweep = load_recipe(path).section("sweep")
        if sweep is not None:
            asked[path.stem] = (sweep.question["en"], sweep.seeds)
    assert told == asked
