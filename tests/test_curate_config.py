"""The options of curation: every key is explained, mistakes are named, defaults are useful."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from espalier.curate.config import CurateConfig, FileSource, PairsConfig, ProceduralSource
from espalier.errors import UsageError
from espalier.recipe import load_recipe, recipe_from


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """All option groups below an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models(field.annotation)
    else:
        for part in get_args(annotation):
            yield from models(part)


def test_every_option_has_a_description() -> None:
    groups = set(models(CurateConfig))
    assert {FileSource, ProceduralSource, PairsConfig} <= groups
    for group in groups:
        assert group.__doc__
        for name, field in group.model_fields.items():
            assert field.description, f"{group.__name__}.{name}"


def test_a_path_is_enough() -> None:
    config = CurateConfig(sources=[{"path": "theirs.jsonl"}])  # type: ignore[list-item]
    (source,) = config.sources
    assert isinstance(source, FileSource)
    assert config.holdout.count == 0
    assert config.self_instruct is None
    assert config.pairs is None


@pytest.mark.parametrize(
    ("curate", "words"),
    [
        ({"sources": []}, ["nothing to curate"]),
        ({"sources": [{"kind": "procedural"}]}, ["count", "missing"]),
        ({"sources": [{"kind": "file", "pth": "x", "path": "y"}]}, ["pth", "did you mean 'path'"]),
        ({"sources": [{"path": "x"}], "dedupe": {}}, ["did you mean 'dedup'"]),
        ({"sources": [{"path": "x"}], "holdout": {"near_threshold": 2}}, ["near_threshold"]),
        ({"sources": [{"path": "x"}], "preferences": {"kinds": {"typo": 1}}}, ["typo", "padding"]),
        ({"sources": [{"kind": "procedural", "count": 5, "languages": ["fr"]}]}, ["'en' or 'zh'"]),
    ],
)
def test_mistakes_are_named(curate: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        recipe_from({"curate": curate})
    for word in words:
        assert word in caught.value.render()


def test_models_refuse_unknown_keys() -> None:
    with pytest.raises(ValidationError, match="extra"):
        PairsConfig(typo=1)  # type: ignore[call-arg]


def test_on_off_yes_and_no_are_words(tmp_path: Path) -> None:
    path = tmp_path / "words.yaml"
    path.write_text(
        "curate:\n  sources: [{path: a.jsonl}]\n"
        "  filters: {languages: [no, en], refusals: false}\n"
        "  dedup: {near: {on: answer}}\n  pii: {email: off}\n",
        encoding="utf-8",
    )
    recipe = load_recipe(path, ["curate.pii.phone=off"])
    config = recipe.section("curate")
    assert config.filters.languages == ["no", "en"]
    assert config.filters.refusals is False
    assert config.dedup.near.on == "answer"
    assert (config.pii.email, config.pii.phone) == ("off", "off")
