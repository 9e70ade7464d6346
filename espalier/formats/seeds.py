"""Self-Instruct seed tasks: `instruction`, `instances` of `input` and `output` (Wang et al. 2022).

One task gives one Example an instance. The user-oriented evaluation set has the same form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from espalier.formats.base import (
    Answers,
    Format,
    RowFault,
    answer_of,
    describe,
    extras,
    has_fields,
    optional_text,
    single_turn,
    split_input,
    text_of,
    with_input,
)
from espalier.records import Example, content_id

_FIELDS = ("id", "instruction", "instances", "is_classification")


def _instances(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    value = row.get("instances")
    if not isinstance(value, list) or not value:
        raise RowFault(
            "The field 'instances' is not a list of instances.",
            field="instances",
            found=describe(value) if "instances" in row else "no such field",
            expected="a non-empty list of objects with input and output",
        )
    for number, item in enumerate(value):
        if not isinstance(item, Mapping):
            raise RowFault(
                f"Instance {number + 1} is not an object.",
                field=f"instances[{number}]",
                found=describe(item),
                expected="an object with input and output",
            )
    return value


def _parse(row: Mapping[str, Any], answers: Answers) -> list[Example]:
    instruction = text_of(row, "instruction")
    common = extras(row, _FIELDS)
    common["task"] = str(row.get("id") or content_id(instruction))
    if isinstance(row.get("is_classification"), bool):
        common["is_classification"] = row["is_classification"]
    examples = []
    for index, instance in enumerate(_instances(row)):
        try:
            text = optional_text(instance, "input")
            answer = answer_of(instance, "output", answers)
        except RowFault as fault:
            fault.field = f"instances[{index}].{fault.field}"
            raise
        meta = {**common, "instance": index}
        if text.strip():
            meta["input"] = text
        examples.append(Example.single(with_input(instruction, text), answer, meta=meta))
    return examples


def _dump(example: Example) -> dict[str, Any]:
    prompt, response = single_turn(example, "seeds")
    instruction, text = split_input(prompt, example.meta)
    row: dict[str, Any] = {
        "id": str(example.meta.get("task") or example.id),
        "instruction": instruction,
        "instances": [{"input": text, "output": response}],
    }
    if isinstance(example.meta.get("is_classification"), bool):
        row["is_classification"] = example.meta["is_classification"]
    return row


def _join(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Put neighbouring instances of one task into one row."""
    current: dict[str, Any] | None = None
    for row in rows:
        if current and (current["id"], current["instruction"]) == (row["id"], row["instruction"]):
            current["instances"].extend(row["instances"])
            continue
        if current:
            yield current
        current = row
    if current:
        yield current


SEEDS = Format[Example](
    name="seeds",
    kind="examples",
    shape="instruction, instances (a list of input and output), is_classification (optional)",
    fits=has_fields("instruction", "instances"),
    parse=_parse,
    dump=_dump,
    nested=("instances",),
    join=_join,
)
