"""Filters of one's own: Python functions that look at a row and give a reason to reject it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from espalier import user_code
from espalier.curate.filters import Rule
from espalier.errors import StageError
from espalier.records import Example

WHERE = "curate.filters.functions"


def own_rules(names: Sequence[str], place: Callable[[str], Path]) -> list[tuple[str, Rule]]:
    """A rule for each function, by the function's name; `place` finds a file of the recipe.

    Raises UsageError for a function that is not there.
    """
    return [
        (
            name.rpartition(":")[2],
            _guarded(name, user_code.load_function(name, place, what="filter", where=WHERE)),
        )
        for name in names
    ]


def code_files(names: Sequence[str]) -> list[str]:
    """The files that functions come from, as the recipe writes them; of packages none."""
    return [file for name in names if (file := name.rpartition(":")[0]).endswith(".py")]


def _guarded(name: str, function: Callable[[Example], object]) -> Rule:
    def rule(row: Example) -> str | None:
        try:
            reason = function(row)
        except Exception as error:  # the user's code may raise anything
            line = user_code.line_of(error)
            raise StageError(
                f"The filter '{name}' failed: {user_code.in_words(error)}",
                where=f"row {row.id}" + (f", {line}" if line else ""),
                expected="None, or a reason to reject the row, for every row",
                hint="correct the function and run the stage again",
            ) from error
        if reason is None or isinstance(reason, str):
            return reason
        raise StageError(
            f"The filter '{name}' gives {reason!r:.60}.",
            where=f"row {row.id}",
            expected="None to keep the row, or the reason to reject it as text",
            hint="correct the function and run the stage again",
        )

    return rule
