"""What the prompts of a set may be grouped by beside language, category and source, for the report.

One line a prompt: its id, and its label in each meta field that has a handful of values. Labels are
those of the slices: a field of many numbers is cut into thirds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from espalier.evaluate.evalset import EvalSet
from espalier.evaluate.slices import Labels, labels_of
from espalier.files import atomic_path
from espalier.records import dump_line

# Told by other columns of the results, or by the prompt itself.
TOLD = frozenset({"language", "category", "source", "reference", "length"})
MOST_FIELDS = 40
# A field with more values, or longer ones, names single prompts; nobody filters by it.
MOST_VALUES = 200
LONGEST_VALUE = 120


def groups_of(evalset: EvalSet, slices: Sequence[str]) -> dict[str, Labels]:
    """The label of each row by field, "" where it has none: `slices` first, then the other meta
    fields that tell groups apart, at most `MOST_FIELDS` in all."""
    named = [by for by in slices if by not in TOLD]
    found = {by: labels_of(evalset, by) for by in named}
    for by in dict.fromkeys(key for row in evalset.rows for key in row.meta):
        if len(found) >= MOST_FIELDS:
            break
        if by in TOLD or by in found or not _is_known(evalset, by):
            continue
        labels = labels_of(evalset, by)
        if _tells_apart(labels):
            found[by] = labels
    return found


def write_groups(evalset: EvalSet, slices: Sequence[str], path: Path) -> None:
    """Write the groups as JSON lines, `{"id": …, "groups": {field: label}}`, whole or not at all;
    a row is without the fields that it lacks."""
    groups = groups_of(evalset, slices)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for place, row in enumerate(evalset.rows):
            own = {by: labels[place] for by, labels in groups.items() if labels[place]}
            file.write(dump_line({"id": row.id, "groups": own}) + "\n")


def _is_known(evalset: EvalSet, by: str) -> bool:
    return any(row.meta.get(by) is not None for row in evalset.rows)


def _tells_apart(labels: Labels) -> bool:
    different = set(labels)
    return 2 <= len(different) <= MOST_VALUES and all(len(x) <= LONGEST_VALUE for x in different)
