"""Self-Instruct seeds: `{instruction, instances: [{input, output}]}` (Wang et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espalier.formats.alpaca import single_turn
from espalier.formats.base import FieldError, Format, other_fields, text_field, with_input
from espalier.records import Example


def _fits(row: Mapping[str, Any]) -> bool:
    return "instruction" in row and isinstance(row.get("instances"), list)


def _parse(row: Mapping[str, Any]) -> list[Example]:
    instruction = text_field(row, "instruction")
    instances = row.get("instances")
    if not isinstance(instances, list) or not instances:
        raise FieldError("instances", "The task has no instances.", instances, "a non-empty list")
    shared = other_fields(row, ("instruction", "instances", "id"))
    if row.get("id") is not None:
        shared["task"] = row["id"]
    examples = []
    for index, instance in enumerate(instances):
        if not isinstance(instance, Mapping):
            place = f"instances[{index}]"
            raise FieldError(place, "An instance is not an object.", instance, "{input, output}")
        extra = text_field(instance, "input", optional=True)
        meta = {**shared, "instance": index}
        if extra.strip():
            meta["input"] = extra
        prompt = with_input(instruction, extra)
        examples.append(Example.single(prompt, text_field(instance, "output"), meta=meta))
    return examples


def _dump(example: Example) -> dict[str, Any]:
    _, instruction, extra, response = single_turn(example)
    return {
        "id": str(example.meta.get("task") or example.id),
        "instruction": instruction,
        "instances": [{"input": extra, "output": response}],
        "is_classification": bool(example.meta.get("is_classification", False)),
    }


FORMAT = Format("seeds", "examples", "instruction, instances", _fits, _parse, _dump)
