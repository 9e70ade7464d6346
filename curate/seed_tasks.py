"""Tasks that Self-Instruct starts from, read in the published form of its seed files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espalier.curate.options import Language
from espalier.errors import InputError, place
from espalier.formats.files import read_rows
from espalier.records import content_id
from espalier.text import language

SEEDS = Path(__file__).parent / "seeds"
BUILT_IN: tuple[Language, ...] = ("en", "zh")


@dataclass(frozen=True, slots=True)
class Instance:
    """One example of a task; `input` is empty where the task needs none."""

    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Task:
    """An instruction of the pool, and the name that lineage knows it by.

    `is_classification` is None where nobody said; `instances` are its known examples.
    """

    id: str
    instruction: str
    parents: tuple[str, ...] = ()
    round: int = 0
    is_classification: bool | None = None
    instances: tuple[Instance, ...] = ()


def seed_path(name: str, resolve: Callable[[str], Path] = Path) -> Path:
    """The file behind `en`, `zh` or a path."""
    return SEEDS / f"{name}.jsonl" if name in BUILT_IN else resolve(name)


def read_seeds(path: Path) -> list[Task]:
    """The tasks of a seed file; raises InputError naming file, line and field.

    A row holds `instruction` and may hold `id`, `is_classification` and `instances`, a list of
    `{input, output}` (as in the published `seed_tasks.jsonl`); a row in Alpaca form, with
    `input` and `output` of its own, has one instance.
    """
    tasks = []
    for row in read_rows(path):
        value = getattr(row, "value", None)
        fields = value if isinstance(value, dict) else {}
        instruction = fields.get("instruction")
        if not isinstance(instruction, str) or not instruction.strip():
            raise InputError(
                "A seed task has no instruction.",
                where=place(path, row.line, "instruction"),
                expected='an object like {"id": "…", "instruction": "…", "instances": […]}',
            )
        identity, labelled = fields.get("id"), fields.get("is_classification")
        tasks.append(
            Task(
                str(identity) if identity not in (None, "") else content_id(instruction),
                instruction.strip(),
                is_classification=labelled if isinstance(labelled, bool) else None,
                instances=tuple(_instances(fields, place(path, row.line, "instances"))),
            )
        )
    if not tasks:
        raise InputError("A seed file has no tasks.", where=str(path), expected="JSON objects")
    return tasks


def _instances(row: Mapping[str, Any], where: str) -> Iterable[Instance]:
    listed = row.get("instances")
    if listed is None:
        listed = [row] if row.get("output") else []
    if not isinstance(listed, list):
        listed = [None]
    for item in listed:
        fields = item if isinstance(item, Mapping) else {}
        given, output = fields.get("input") or "", fields.get("output")
        if not isinstance(given, str) or not isinstance(output, str):
            raise InputError(
                "The instances of a seed task can't be read.",
                where=where,
                expected='a list like [{"input": "…", "output": "…"}] ("" where there is no input)',
            )
        yield Instance(given.strip(), output.strip())


def language_of(tasks: Iterable[Task]) -> Language:
    """The language that most of the tasks are written in (Chinese, else English)."""
    found = [language(task.instruction) for task in tasks]
    return "zh" if found.count("zh") * 2 > len(found) else "en"
