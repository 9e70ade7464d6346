"""`sweep.json`: what a sweep varies, its members, and how far each of them is.

One process writes it, whole, whenever a member changes; whoever reads it sees the old state or the
new one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

from espalier.errors import InputError
from espalier.files import atomic_write_text, read_json

NAME = "sweep.json"
VERSION = 1
MEMBERS = "members"
SHARED = "shared"
JOURNALS = "journals"
RECIPE = "recipe.resolved.yaml"
PAGE = "comparison.html"
# The key of the factor whose levels are the names of variants.
VARIANT = "variant"

Status = Literal["waiting", "running", "done", "failed", "skipped"]


@dataclass(frozen=True)
class Factor:
    """What the members differ in: a key of the recipe, or `variant`.

    `levels` are values or names of variants, in the order in which they were given; those of a
    drawn factor (`draw`) are the drawn values, ascending. `label` is the shortest end of the key
    that tells it from the others.
    """

    key: str
    label: str
    levels: list[Any]
    draw: bool = False


@dataclass
class Member:
    """One run of a sweep.

    `settings` has the level of each factor; `stages` the folder of each stage that is done, as a
    path below the sweep's folder; `stage` is where it is, or where it failed; `seconds` what was
    spent on it here, interrupted work too (a stage that another member made costs nothing).
    """

    name: str
    settings: dict[str, Any]
    seed: int
    status: Status = "waiting"
    error: str | None = None
    stage: str | None = None
    stages: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass
class SweepFile:
    """The content of `sweep.json`. `question` may be in both languages: `{"en": …, "zh": …}`.

    `former_seconds` were spent on members that no longer belong to the sweep.
    """

    recipe: str
    question: str | dict[str, str] = ""
    answer: dict[str, Any] | None = None
    factors: list[Factor] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    former_seconds: float = 0.0
    version: int = VERSION


def is_sweep(folder: Path) -> bool:
    """Whether a folder is that of a sweep."""
    return (folder / NAME).is_file()


def member_folder(folder: Path, member: Member) -> Path:
    """The run folder of a member of the sweep in `folder`."""
    return folder / MEMBERS / member.name


def write_sweep(folder: Path, sweep: SweepFile) -> None:
    """Write `sweep.json` atomically."""
    text = json.dumps(asdict(sweep), ensure_ascii=False, indent=1)
    atomic_write_text(folder / NAME, text + "\n")


def read_sweep(folder: Path) -> SweepFile:
    """Read `sweep.json` of a folder.

    Raises InputError where there is none, or where it is not what `write_sweep` writes.
    """
    path = folder / NAME
    if not path.is_file():
        raise InputError(
            "This folder holds no sweep.",
            where=str(path),
            expected=f"a folder with {NAME}, as `espalier sweep RECIPE` makes it",
        )
    value = read_json(path)
    version = value.get("version") if isinstance(value, Mapping) else None
    if version != VERSION:
        raise InputError(
            f"The sweep was written in another form (version {version!r}).",
            where=str(path),
            expected=f"version {VERSION}",
            hint="run the sweep with the same version of this program",
        )
    try:
        return _sweep(value, path)
    except KeyError as error:
        raise InputError(
            f"{error} is missing in a sweep's file.",
            where=str(path),
            hint="the same `espalier sweep` command writes it anew",
        ) from error


def _sweep(value: Mapping[str, Any], path: Path) -> SweepFile:
    def of(name: str, kind: type, parts: Mapping[str, Any] = value) -> Any:
        if not isinstance(parts[name], kind):
            raise InputError(
                f"'{name}' of a sweep's file is of the wrong kind.",
                where=str(path),
                hint="the same `espalier sweep` command writes it anew",
            )
        return parts[name]

    return SweepFile(
        recipe=of("recipe", str),
        question=value.get("question") or "",
        answer=value.get("answer"),
        factors=[_factor(one, of) for one in of("factors", list)],
        members=[_member(one, of) for one in of("members", list)],
        former_seconds=float(value.get("former_seconds") or 0.0),
    )


def _factor(value: Mapping[str, Any], of: Callable[..., Any]) -> Factor:
    return Factor(
        of("key", str, value),
        of("label", str, value),
        of("levels", list, value),
        bool(value.get("draw", False)),
    )


def _member(value: Mapping[str, Any], of: Callable[..., Any]) -> Member:
    status = of("status", str, value)
    return Member(
        name=of("name", str, value),
        settings=of("settings", dict, value),
        seed=of("seed", int, value),
        # A status of a later version is no reason to refuse the rest.
        status=cast(Status, status if status in get_args(Status) else "waiting"),
        error=value.get("error"),
        stage=value.get("stage"),
        stages=dict(value.get("stages") or {}),
        seconds=float(value.get("seconds") or 0.0),
    )
