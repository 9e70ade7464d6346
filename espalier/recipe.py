"""Recipes: YAML, `extends`, `--set`, validated; every mistake named with file and line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError, create_model

from espalier import plain_yaml
from espalier.engines.base import HIDDEN
from espalier.errors import UsageError, place
from espalier.run import Shared
from espalier.stages import SECTIONS, load

KeyPath = tuple[str | int, ...]
Marks = dict[KeyPath, tuple[Path, int]]


@cache
def recipe_model() -> type[BaseModel]:
    """The typed model of a whole recipe: the shared fields and each stage's section."""
    fields: dict[str, Any] = {
        "description": (str, Field("", description="What the recipe is for."))
    }
    for name, reference in SECTIONS.items():
        config = load(reference)
        fields[name] = (
            config | None,
            Field(None, description=(config.__doc__ or name).strip().splitlines()[0]),
        )
    return create_model("RecipeModel", __base__=Shared, **fields)


@dataclass(frozen=True)
class Recipe:
    """A validated recipe. `values` is the whole model, `shared` what all stages know."""

    values: BaseModel
    path: Path | None = None
    marks: Marks = field(default_factory=dict, repr=False)

    @property
    def shared(self) -> Shared:
        return Shared(**{name: getattr(self.values, name) for name in Shared.model_fields})

    def section(self, dotted: str) -> Any:
        """The options at `curate` or `train.sft`; None where the recipe has none."""
        value: Any = self.values
        for part in dotted.split("."):
            value = getattr(value, part, None)
            if value is None:
                return None
        return value

    def resolved_yaml(self) -> str:
        """The recipe with every default written out."""
        data = self.values.model_dump(mode="json")
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read, compose and validate a recipe file.

    `overrides` are `key.path=value` texts; the value is read as YAML. Raises UsageError with
    file, line and the nearest valid name.
    """
    source = Path(path)
    marks: Marks = {}
    data = _read_with_parents(source, marks, ())
    for text in overrides:
        _override(data, text, marks)
    return validate(data, source, marks)


def recipe_from(data: Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """Validate a recipe that is given as nested dictionaries."""
    copied: dict[str, Any] = yaml.safe_load(yaml.safe_dump(dict(data)))
    marks: Marks = {}
    for text in overrides:
        _override(copied, text, marks)
    return validate(copied, None, marks)


def validate(data: Mapping[str, Any], path: Path | None, marks: Marks) -> Recipe:
    """Build the typed recipe; raises UsageError that lists each mistake with its line."""
    values = dict(data)
    if path is not None:
        values.setdefault("name", path.stem)
    try:
        recipe = Recipe(recipe_model()(**values), path, marks)
    except ValidationError as error:
        problems = [_problem(item, path, marks) for item in error.errors(include_url=False)]
        count = "a mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        raise UsageError(
            f"The recipe has {count}:\n" + "\n".join(f"  - {text}" for text in problems),
            hint="`espalier recipe explain RECIPE` shows every key with its meaning",
        ) from error
    location = None if recipe.shared.data else _data_use(values, ())
    if location is not None:
        raise UsageError(
            f"'{'.'.join(map(str, location))}' starts at ${{data}}, and the recipe names no data "
            "root.",
            where=_where(location, path, marks) or None,
            expected="the folder of the data at the key `data`",
            hint="--set data=FOLDER, or `data: FOLDER` in the recipe",
        )
    return recipe


def _data_use(value: Any, location: KeyPath) -> KeyPath | None:
    """The place of the first text that stands below `${data}`."""
    if isinstance(value, str):
        return location if value.startswith("${data}") else None
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    found = (_data_use(item, (*location, key)) for key, item in items)
    return next((place for place in found if place is not None), None)


# --- reading ---------------------------------------------------------------------------------


def _read_with_parents(path: Path, marks: Marks, seen: tuple[Path, ...]) -> dict[str, Any]:
    here = path.resolve()
    if here in seen:
        chain = " -> ".join(str(item) for item in (*seen, here))
        raise UsageError("A recipe extends itself.", where=chain, hint="remove one `extends:`")
    own_marks: Marks = {}
    own = _read_yaml(path, own_marks)
    parent_name = own.pop("extends", None)
    merged: dict[str, Any] = {}
    if parent_name is not None:
        if not isinstance(parent_name, str):
            raise UsageError(
                "`extends` has to name one recipe file.",
                where=_where(("extends",), path, own_marks),
                expected="a path relative to this recipe",
            )
        merged = _read_with_parents(path.parent / parent_name, marks, (*seen, here))
        merged.pop("name", None)
    _merge(merged, own)
    marks.update(own_marks)
    return merged


def _read_yaml(path: Path, marks: Marks) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UsageError(
            "The recipe can't be opened.",
            where=str(path),
            expected="a YAML file",
            hint=_near_files(path) or "the recipes that come with the project are in recipes/",
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            "The recipe is not UTF-8 text.", where=str(path), hint="save it as UTF-8"
        ) from error
    try:
        node = yaml.compose(text, Loader=plain_yaml.Loader)
        value = plain_yaml.load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UsageError(
            f"The recipe is not valid YAML: {error.problem or error.context}.",
            where=place(path, mark.line + 1 if mark else None),
            hint="check indentation (spaces, no tabs), colons and quotes on that line",
        ) from error
    if node is None or not isinstance(value, dict):
        raise UsageError(
            "The recipe has no keys.", where=str(path), expected="a YAML mapping, `key: value`"
        )
    _collect_marks(node, (), path, marks)
    return value


def _near_files(path: Path) -> str | None:
    folder = path.parent if path.parent.is_dir() else Path("recipes")
    names = [item.name for item in folder.glob("*.yaml")] if folder.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.4)
    return f"near it: {', '.join(str(folder / name) for name in close)}" if close else None


def _collect_marks(node: yaml.Node, prefix: KeyPath, path: Path, marks: Marks) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                raise UsageError(
                    f"The key '{name}' is given twice.",
                    where=place(path, key.start_mark.line + 1),
                    hint="remove one of the two",
                )
            seen.add(name)
            marks[(*prefix, name)] = (path, key.start_mark.line + 1)
            _collect_marks(value, (*prefix, name), path, marks)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            marks[(*prefix, index)] = (path, value.start_mark.line + 1)
            _collect_marks(value, (*prefix, index), path, marks)


def _merge(base: dict[str, Any], update: Mapping[str, Any]) -> None:
    """Mappings are merged key by key; lists and scalars of the later recipe replace."""
    for key, value in update.items():
        old = base.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping):
            _merge(old, value)
        else:
            base[key] = value


def _override(data: dict[str, Any], text: str, marks: Marks) -> None:
    key, separator, raw = text.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise UsageError(
            f"'--set {text}' is not an override.",
            expected="key.path=value, for example --set train.sft.learning_rate=1e-5",
        )
    try:
        value = plain_yaml.load(raw)
    except yaml.YAMLError as error:
        raise UsageError(
            f"The value of '--set {text}' is not valid YAML.", hint="quote the value"
        ) from error
    if isinstance(value, str):
        value = _number(value)
    target: Any = data
    for depth, part in enumerate(parts[:-1]):
        if isinstance(target, list):
            target = _item(target, part, text)
        else:
            nested = target.get(part)
            if not isinstance(nested, dict | list):
                nested = target[part] = {}
            target = nested
        marks.pop(tuple(parts[: depth + 1]), None)
    if isinstance(target, list):
        _item(target, parts[-1], text)
        target[int(parts[-1])] = value
    else:
        target[parts[-1]] = value


def _item(values: list[Any], part: str, text: str) -> Any:
    if not part.isdigit() or int(part) >= len(values):
        raise UsageError(
            f"'--set {text}': '{part}' is no element of a list of {len(values)}.",
            expected=f"a number from 0 to {len(values) - 1}",
        )
    return values[int(part)]


def _number(text: str) -> str | float:
    # YAML 1.1 reads 1e-5 as text; a person who writes it means the number.
    try:
        return float(text) if "e" in text.lower() else text
    except ValueError:
        return text


# --- mistakes --------------------------------------------------------------------------------


def _problem(item: Any, path: Path | None, marks: Marks) -> str:
    location = _clean(item["loc"])
    dotted = ".".join(str(part) for part in location)
    where = _where(location, path, marks)
    place_text = f" ({where})" if where else ""
    if item["type"] == "extra_forbidden":
        fields = _fields_at(recipe_model(), location[:-1])
        near = difflib.get_close_matches(str(location[-1]), fields, n=1, cutoff=0.5)
        tip = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(fields)}"
        return f"unknown key '{dotted}'{place_text}; {tip}"
    if item["type"] == "missing":
        return f"'{dotted}' is missing{place_text}"
    message = item["msg"].removeprefix("Value error, ")
    found = item.get("input")
    hidden = item["type"] == HIDDEN or isinstance(found, dict | list)
    shown = "" if hidden else f", found {found!r}"
    return f"'{dotted}': {message}{shown}{place_text}"


def _clean(location: Iterable[str | int]) -> KeyPath:
    """Drop the tags that pydantic adds for unions (class names, `function-after[…]`)."""
    return tuple(
        part
        for part in location
        if isinstance(part, int) or not (part[:1].isupper() or "[" in part or "(" in part)
    )


def _where(location: KeyPath, path: Path | None, marks: Marks) -> str:
    for end in range(len(location), 0, -1):
        if location[:end] in marks:
            source, line = marks[location[:end]]
            return place(source, line)
    return str(path) if path else ""


def _fields_at(model: type[BaseModel], location: KeyPath) -> list[str]:
    current: list[type[BaseModel]] = [model]
    for part in location:
        if isinstance(part, int):
            continue
        found = [m.model_fields[part].annotation for m in current if part in m.model_fields]
        narrowed = [m for annotation in found for m in _models_in(annotation)]
        current = narrowed or current
    return [name for m in current for name in m.model_fields]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType, list, dict, tuple) or get_args(annotation):
        return [m for part in get_args(annotation) for m in _models_in(part)]
    return []
