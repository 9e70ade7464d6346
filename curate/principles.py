"""Files of principles for critique and revision: the built-in ones, and the user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import yaml
from pydantic import Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from espalier.curate.options import Language, Options
from espalier.errors import InputError, did_you_mean, place

FOLDER = Path(__file__).parent / "constitutions"
_SHOWN = 10
_FORM = "`language: en` (or zh) and `principles:`, a list of id, critique, revision, principle"


class Principle(Options):
    """What an answer is criticised for, and how it is then revised."""

    id: str = Field(min_length=1)
    critique: str = Field(min_length=1, description="The critique request.")
    revision: str = Field(min_length=1, description="The revision request.")
    principle: str = Field("", description="What a judge compares by (default: the critique).")

    @field_validator("id", "critique", "revision")
    @classmethod
    def _something_in_it(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("the text is empty")
        return value.strip()


class _File(Options):
    language: Language
    principles: list[Principle] = Field(min_length=1)


def constitution_path(name: str, resolve: Callable[[str], Path] = Path) -> Path:
    """The file of a built-in constitution (`en`, `zh`) or of the user's."""
    builtin = FOLDER / f"{name}.yaml"
    return builtin if builtin.is_file() else resolve(name)


def read_principles(paths: Iterable[Path]) -> dict[Language, list[Principle]]:
    """The principles of some files by language, in their order.

    Raises InputError for a file that can't be read, is no YAML, or has wrong fields (named with
    their lines), and for an id that occurs twice in a language.
    """
    found: dict[Language, list[Principle]] = {}
    for path in paths:
        read = _read(path)
        listed = found.setdefault(read.language, [])
        for principle in read.principles:
            if any(other.id == principle.id for other in listed):
                raise InputError(
                    f"The principle '{principle.id}' is given twice for '{read.language}'.",
                    where=str(path),
                    expected="an id of its own for each principle of a language",
                )
            listed.append(principle)
    return found


def _read(path: Path) -> _File:
    try:
        text = path.read_text(encoding="utf-8-sig")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except OSError as error:
        raise InputError(
            "The file of principles can't be opened.",
            where=str(path),
            expected="en, zh, or a YAML file",
            hint=_near(path),
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            "The file of principles is not UTF-8 text.", where=str(path), hint="save it as UTF-8"
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InputError(
            f"The file of principles is not valid YAML: {error.problem or error.context}.",
            where=place(path, mark.line + 1 if mark else None),
            hint="check indentation (spaces, no tabs), colons and quotes on that line",
        ) from error
    except yaml.YAMLError as error:
        raise InputError(
            f"The file of principles is not valid YAML: {error}.", where=str(path)
        ) from error
    if not isinstance(value, dict):
        raise InputError("The file of principles has no keys.", where=str(path), expected=_FORM)
    try:
        return _File.model_validate(value)
    except ValidationError as error:
        raise _wrong(path, node, error) from error


def _wrong(path: Path, node: yaml.Node | None, error: ValidationError) -> InputError:
    """All faults of a file (at most ten are shown), each with its line and field."""
    faults = error.errors(include_url=False)
    if len(faults) == 1:
        location, message, hint = _fault(faults[0])
        return InputError(
            f"The file of principles is wrong: {message}.",
            where=place(path, _line(node, location), _field(location)),
            expected=_FORM,
            hint=hint,
        )
    lines = []
    for fault in faults[:_SHOWN]:
        location, message, hint = _fault(fault)
        at = place(f"  - line {_line(node, location)}", field=_field(location))
        lines.append(f"{at}: {message}" + (f" ({hint})" if hint else ""))
    if len(faults) > _SHOWN:
        lines.append(f"  … and {len(faults) - _SHOWN} more")
    return InputError(
        f"The file of principles has {len(faults)} mistakes:\n" + "\n".join(lines),
        where=str(path),
        expected=_FORM,
    )


def _fault(fault: ErrorDetails) -> tuple[Sequence[int | str], str, str | None]:
    """(field, what is wrong with it, a hint)."""
    location = fault["loc"]
    hint = None
    if fault["type"] == "extra_forbidden":
        known = (Principle if len(location) > 1 else _File).model_fields
        hint = did_you_mean(str(location[-1]), known) or f"known fields: {', '.join(known)}"
    return location, fault["msg"].removeprefix("Value error, "), hint


def _field(location: Sequence[int | str]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).lstrip(".")


def _line(node: yaml.Node | None, location: Sequence[int | str]) -> int | None:
    """The line of the field, or of what should hold it."""
    line = None if node is None else node.start_mark.line + 1
    for part in location:
        child = None
        if isinstance(node, yaml.MappingNode):
            child = next(((key, item) for key, item in node.value if key.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            item = node.value[part] if part < len(node.value) else None
            child = None if item is None else (item, item)
        if child is None:
            return line
        line, node = child[0].start_mark.line + 1, child[1]
    return line


def _near(path: Path) -> str | None:
    folder = path.parent if path.parent.is_dir() else None
    names = [item.name for item in folder.glob("*.y*ml")] if folder else []
    return did_you_mean(path.name, [*names, "en", "zh"])


def of_language(
    principles: Mapping[Language, Sequence[Principle]], language: str
) -> Sequence[Principle]:
    """The principles for a row of this language: its own, else English ones, else any."""
    if language == "zh" and principles.get("zh"):
        return principles["zh"]
    return principles.get("en") or next(iter(principles.values()))
