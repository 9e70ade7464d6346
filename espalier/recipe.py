"""Recipes: YAML, `extends`, `--set`, validated; every mistake named with file and line."""

from __future__ import annotations

import copy
import difflib
import shlex
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
from espalier.errors import EspalierError, UsageError, did_you_mean, place
from espalier.run import Shared
from espalier.stages import SECTIONS, load

KeyPath = tuple[str | int, ...]
Marks = dict[KeyPath, tuple[Path, int]]

# Mappings that are values, not options: a later recipe replaces them.
WHOLE = (("sweep", "over"), ("sweep", "variants"))


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


@dataclass(frozen=True)
class Draft:
    """A recipe as it was written, composed and overridden but not validated yet."""

    data: dict[str, Any]
    path: Path | None
    marks: Marks = field(repr=False)

    def recipe(self) -> Recipe:
        """The validated recipe; raises UsageError that lists each mistake with its line."""
        return validate(self.data, self.path, self.marks)

    def place(self, key: KeyPath) -> str:
        """File and line of a key, or of the nearest one above it."""
        return _where(key, self.path, self.marks)

    def with_settings(
        self, settings: Mapping[str, Any], places: Mapping[str, KeyPath] | None = None
    ) -> Draft:
        """A copy with other values at some keys (dotted paths, as for `--set`).

        `places`: where the recipe itself writes a key's new value, for the line of a mistake.
        Raises UsageError for a path that leads through a list's end.
        """
        data, marks = copy.deepcopy(self.data), dict(self.marks)
        for key, value in settings.items():
            _put(data, key.split("."), copy.deepcopy(value), key, marks)
            mark = self.marks.get((places or {}).get(key, ()))
            if mark is not None:
                marks[_key_path(key)] = mark
        return Draft(data, self.path, marks)


def _key_path(key: str) -> KeyPath:
    return tuple(int(part) if part.isdigit() else part for part in key.split("."))


def load_recipe(path: Path | str, overrides: Sequence[str] = (), *, small: bool = False) -> Recipe:
    """Read, compose and validate a recipe file.

    `overrides` are `key.path=value` texts; the value is read as YAML. `small` takes the recipe's
    small variant: what stands under `small:` is laid over the rest, and the run's name ends in
    `-small`. Raises UsageError with file, line and the nearest valid name.
    """
    return draft_recipe(path, overrides, small=small).recipe()


def draft_recipe(path: Path | str, overrides: Sequence[str] = (), *, small: bool = False) -> Draft:
    """As `load_recipe`, before the validation."""
    source = Path(path)
    marks: Marks = {}
    data = _read_with_parents(source, marks, ())
    variant = data.pop("small", None)
    if small:
        _make_small(data, variant, source, marks)
    for text in overrides:
        _override(data, text, marks)
    return Draft(data, source, marks)


def recipe_from(data: Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """Validate a recipe that is given as nested dictionaries."""
    copied: dict[str, Any] = yaml.safe_load(yaml.safe_dump(dict(data), sort_keys=False))
    copied.pop("small", None)
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
        if isinstance(merged.get("small"), dict):
            merged["small"].pop("name", None)
    _merge(merged, own)
    marks.update(own_marks)
    return merged


def _make_small(data: dict[str, Any], variant: Any, path: Path, marks: Marks) -> None:
    """Lay the small variant over the recipe; its lines are those of `small:`."""
    if not isinstance(variant, Mapping) or not variant:
        raise UsageError(
            "The recipe has no small variant.",
            where=_where(("small",), path, marks),
            expected="`small:` with the keys that differ from the full recipe",
            hint="leave --small out, or override single keys with --set",
        )
    _merge(data, variant)
    for location in [key for key in marks if key[0] == "small" and len(key) > 1]:
        marks[location[1:]] = marks[location]
    data.setdefault("name", path.stem)
    if "name" not in variant:
        data["name"] = f"{data['name']}-small"


def _read_yaml(path: Path, marks: Marks) -> dict[str, Any]:
    if path.is_file() and _is_data(path):
        raise UsageError(
            "This is no recipe, but looks like data.",
            where=str(path),
            expected="a YAML file with the keys of a recipe",
            hint=f"`espalier new {shlex.quote(str(path))} --model MODEL` writes a recipe for it",
        )
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


def _is_data(path: Path) -> bool:
    """Whether a file is data by its name; a `.json`, which may be a recipe, by its beginning."""
    if path.suffix.lower() in (".yaml", ".yml"):
        return False
    from espalier.formats.rows import SUFFIXES
    from espalier.formats.streams import COMPRESSIONS

    packed = path.suffix.lower() in COMPRESSIONS
    kind = SUFFIXES.get((path.with_suffix("") if packed else path).suffix.lower())
    if packed or kind != "json":
        return kind is not None
    from espalier.formats.detect import detect

    try:
        with path.open("rb") as file:
            if file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
                return True
        detect(path)
    except (EspalierError, OSError):
        return False
    return True


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


def _merge(base: dict[str, Any], update: Mapping[str, Any], above: KeyPath = ()) -> None:
    """Mappings are merged key by key; lists and scalars of the later recipe replace, and so does
    what a sweep varies: its keys are no options."""
    for key, value in update.items():
        old = base.get(key)
        place = (*above, key)
        merged = isinstance(old, dict) and isinstance(value, Mapping)
        if merged and place[-2:] not in WHOLE:
            _merge(old, value, place)  # type: ignore[arg-type]
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
        value = yaml_value(raw)
    except yaml.YAMLError as error:
        raise UsageError(
            f"The value of '--set {text}' is not valid YAML.", hint="quote the value"
        ) from error
    _put(data, parts, value, f"--set {text}", marks)


def _put(data: dict[str, Any], parts: list[str], value: Any, told: str, marks: Marks) -> None:
    """Set the value at a key path; `told` is what messages call it."""
    target: Any = data
    for depth, part in enumerate(parts[:-1]):
        if isinstance(target, list):
            target = _item(target, part, told)
        else:
            nested = target.get(part)
            if not isinstance(nested, dict | list):
                nested = target[part] = {}
            target = nested
        marks.pop(tuple(parts[: depth + 1]), None)
    if isinstance(target, list):
        _item(target, parts[-1], told)
        target[int(parts[-1])] = value
    else:
        target[parts[-1]] = value


def _item(values: list[Any], part: str, told: str) -> Any:
    if not part.isdigit() or int(part) >= len(values):
        raise UsageError(
            f"'{told}': '{part}' is no element of a list of {len(values)}.",
            expected=f"a number from 0 to {len(values) - 1}",
        )
    return values[int(part)]


def yaml_value(text: str) -> Any:
    """A value as a person writes it on the command line; raises yaml.YAMLError."""
    return numbers_in(plain_yaml.load(text))


def numbers_in(value: Any) -> Any:
    """The value, also within lists, with `1e-5` as the number that YAML 1.1 takes for text."""
    if isinstance(value, list):
        return [numbers_in(item) for item in value]
    return _number(value) if isinstance(value, str) else value


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
        tip = did_you_mean(str(location[-1]), fields) or f"known here: {', '.join(fields)}"
        return f"unknown key '{dotted}'{place_text}; {tip}"
    if item["type"] == "missing":
        return f"'{dotted}' is missing{place_text}"
    message = item["msg"].removeprefix("Value error, ")
    found = item.get("input")
    hidden = item["type"] == HIDDEN or isinstance(found, dict | list)
    shown = "" if hidden else f", found {found!r}"
    return f"'{dotted}': {message}{shown}{place_text}"


def hides(error: UsageError) -> bool:
    """Whether a mistake in a recipe lies in a value that may not be shown."""
    cause = error.__cause__
    return isinstance(cause, ValidationError) and any(
        item["type"] == HIDDEN for item in cause.errors(include_url=False)
    )


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
