"""What differs between the recipes of several runs: dotted keys and their values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from espalier import plain_yaml
from espalier.errors import InputError
from espalier.reports.manifests import HIDDEN, shown_path, without_secrets
from espalier.reports.runfiles import read_object
from espalier.stages import STAGES

# Keys that decide nothing that is compared.
SILENT = ("name", "description", "report", "extends", "sweep", "small")
# Stands for a key that a recipe does not have, which is not the same as null.
ABSENT = object()
_SECRET_KEY = re.compile(r"(?:api_?key|secret|password|token)$", re.IGNORECASE)


@dataclass(frozen=True)
class Change:
    """A key in which the recipes differ: a value a run as text, None where it is not there.

    `numbers` are the values as numbers where all runs that have the key have one.
    """

    key: str
    values: tuple[str | None, ...]
    numbers: tuple[float | None, ...] | None
    seed: bool


def read_options(run: Path) -> dict[str, Any]:
    """The resolved recipe of a run; without one, the options in the manifests of its stages.

    Raises InputError where the recipe can't be read.
    """
    path = run / "recipe.resolved.yaml"
    if not path.is_file():
        return _of_manifests(run)
    try:
        loaded = plain_yaml.load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(
            "The recipe of a run can't be read.",
            where=str(path),
            expected="what `espalier run` wrote there",
            hint="run a stage of it again, or leave the run out",
        ) from error
    return loaded if isinstance(loaded, dict) else {}


def _of_manifests(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for stage in STAGES:
        manifest = read_object(run / stage.name / "manifest.json") or {}
        options = (manifest.get("fingerprint") or {}).get("options")
        if isinstance(options, Mapping) and stage.section:
            inner = found
            *parents, last = stage.section.split(".")
            for name in parents:
                inner = inner.setdefault(name, {})
            inner[last] = {**dict(options), **(inner.get(last) or {})}
        if manifest.get("seed") is not None:
            found.setdefault("seed", manifest["seed"])
    return found


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys and leaves; a list of objects with names is entered by name: `models[sft].path`.

    Any other list is one leaf; an empty object has none.
    """
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for key, inner in value.items():
            found.update(flat(inner, f"{prefix}.{key}" if prefix else str(key)))
        return found
    names = _names(value)
    if names:
        found = {}
        for name, inner in zip(names, value, strict=True):
            rest = {key: item for key, item in inner.items() if key != "name"}
            found.update(flat(rest, f"{prefix}[{name}]"))
        return found
    return {prefix: value}


def _names(value: Any) -> list[str]:
    """The names of a list of objects, each with another one; else none."""
    if not isinstance(value, list) or not value:
        return []
    if not all(isinstance(item, Mapping) and isinstance(item.get("name"), str) for item in value):
        return []
    names = [str(item["name"]) for item in value]
    return names if len(set(names)) == len(names) else []


def changes(recipes: Sequence[Mapping[str, Any]], runs: Sequence[Path]) -> list[Change]:
    """The keys in which the recipes differ, in the order of the recipes.

    A section that one recipe has and another lacks (or sets to null) is one key, not as many as
    it has options. Secrets are hidden, paths of the run's own folder are written relative to it.
    """
    kept = [
        {key: value for key, value in recipe.items() if key not in SILENT} for recipe in recipes
    ]
    leaves = [flat(_whole_sections(recipe, kept)) for recipe in kept]
    keys = list(dict.fromkeys(key for found in leaves for key in found))
    result = []
    for key in keys:
        shown = [
            _shown(found.get(key, ABSENT), key, run)
            for found, run in zip(leaves, runs, strict=True)
        ]
        # An option that an older version did not know yet was off there.
        if len({"null" if text is None else text for text in shown}) > 1:
            raw = [found.get(key) for found in leaves]
            result.append(Change(key, tuple(shown), _numbers(raw), is_seed(key)))
    return result


def is_seed(key: str) -> bool:
    """Whether a key is a seed: runs that differ in nothing else are repeats."""
    return key.rsplit(".", 1)[-1] == "seed"


def _whole_sections(value: Any, others: Sequence[Any]) -> Any:
    """The value with each object that another recipe has as null turned into a leaf."""
    if not isinstance(value, Mapping):
        return value
    found: dict[str, Any] = {}
    for key, inner in value.items():
        rivals = [other.get(key) for other in others if isinstance(other, Mapping)]
        whole = isinstance(inner, Mapping) and any(
            not isinstance(rival, Mapping) for rival in rivals
        )
        found[key] = [dict(inner)] if whole else _whole_sections(inner, rivals)
    return found


def _shown(value: Any, key: str, run: Path) -> str | None:
    if value is ABSENT:
        return None
    last = key.rsplit(".", 1)[-1]
    if _SECRET_KEY.search(last) and isinstance(value, str):
        return HIDDEN
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return without_secrets(shown_path(value, run))
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Mapping):
        value = value[0]
    text = yaml.safe_dump(
        _without_keys(value), default_flow_style=True, allow_unicode=True, width=100_000
    )
    return without_secrets(text.removesuffix("\n...\n").strip())


def _without_keys(value: Any) -> Any:
    """The value with what stands under a secret's name hidden."""
    if isinstance(value, Mapping):
        return {
            key: HIDDEN
            if _SECRET_KEY.search(str(key)) and isinstance(item, str)
            else _without_keys(item)
            for key, item in value.items()
        }
    return [_without_keys(item) for item in value] if isinstance(value, list) else value


def _numbers(values: Sequence[Any]) -> tuple[float | None, ...] | None:
    def is_number(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool)

    if not all(value is None or is_number(value) for value in values):
        return None
    return tuple(None if value is None else float(value) for value in values)
