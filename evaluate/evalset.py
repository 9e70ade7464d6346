"""The held-out set: prompts with their references, languages and categories."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espalier.errors import InputError
from espalier.evaluate.rows import read_all
from espalier.files import hash_path
from espalier.records import Example, Messages
from espalier.text import language, normalise

# Fields of other tools' sets that hold a reference; ours is called `reference`.
_REFERENCE_LIKE = ("references", "answer", "answers", "target", "targets", "expected", "gold")


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt of the set. `names` are ids under which other files may know it."""

    id: str
    messages: Messages
    reference: str | None
    language: str
    category: str
    meta: dict[str, Any]
    names: tuple[str, ...]

    @property
    def prompt(self) -> str:
        """The prompt as shown: the user's text, or all turns where there are several."""
        if len(self.messages) == 1:
            return self.messages[0].content
        return "\n\n".join(f"{turn.role}: {turn.content}" for turn in self.messages)

    @property
    def question(self) -> str:
        """The text of the last user turn."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def key(self) -> str:
        """What makes two prompts the same prompt, whatever their spacing and punctuation."""
        return normalise(self.question)


@dataclass(frozen=True)
class EvalSet:
    """The rows, in file order, and where they came from."""

    name: str
    path: str
    sha256: str
    rows: tuple[Row, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def references(self) -> list[str | None]:
        return [row.reference for row in self.rows]


def read_set(
    path: Path,
    *,
    name: str | None = None,
    format: str = "auto",
    limit: int | None = None,
    category: str = "category",
    shown: str | None = None,
) -> EvalSet:
    """Read the set from a file in any dataset format.

    The reference of a row is its field `reference`, else its last answer; a row without either is
    a prompt without reference. `category` is the meta field that groups the rows, `shown` the path
    as results name it. Equal ids get a number behind them, so that an id names one row.

    Raises InputError when there is no file or no row, at a row that can't be read, and where no
    row has a reference but all have a field that looks like one.
    """
    if not path.exists():
        raise InputError(
            "The evaluation set does not exist.",
            where=str(path),
            expected="a file of prompts, with references where there are any",
            hint="check `evaluate.set`, or run the stage that writes it (curate)",
        )
    examples = read_all(path, format=format, limit=limit, answers="optional")
    if not examples:
        raise InputError(
            "The evaluation set has no rows.", where=str(path), expected="at least one prompt"
        )
    _check_references(path, examples)
    rows = [
        _row(identity, example, category)
        for identity, example in zip(_identities(examples), examples, strict=True)
    ]
    return EvalSet(name or path.name, shown or str(path), hash_path(path), tuple(rows))


def _identities(examples: Sequence[Example]) -> list[str]:
    """The ids of the rows, those that come again with the next free number behind them."""
    given = {example.id for example in examples}
    counts: Counter[str] = Counter()
    found = []
    for example in examples:
        number = counts[example.id] + 1
        while number > 1 and f"{example.id}-{number}" in given:
            number += 1
        counts[example.id] = number
        found.append(example.id if number == 1 else f"{example.id}-{number}")
    return found


def _check_references(path: Path, examples: Sequence[Example]) -> None:
    """Raise InputError where references would be passed over because of their field's name."""
    if any(_reference(example) for example in examples):
        return
    found = [name for name in _REFERENCE_LIKE if all(name in row.meta for row in examples)]
    if found:
        raise InputError(
            f"The rows of the evaluation set have a field '{found[0]}', and no reference.",
            where=str(path),
            expected="the known right answer in a field `reference`, as one text",
            hint=f"rename '{found[0]}' to `reference`; or remove it, to score without references",
        )


def _reference(example: Example) -> str | None:
    given = example.meta.get("reference")
    if isinstance(given, int | float) and not isinstance(given, bool):
        return None if math.isnan(given) else str(given)
    text = example.reference
    return text if text and text.strip() else None


def _row(identity: str, example: Example, category_field: str) -> Row:
    meta = example.meta
    names = [identity, example.id]
    names += [
        str(meta[key])
        for key in ("task", "row_id", "question_id", "id")
        if isinstance(meta.get(key), str | int)
    ]
    category = meta.get(category_field)
    return Row(
        identity,
        example.prompt_messages,
        _reference(example),
        str(meta.get("language") or language(example.prompt)),
        str(category) if category not in (None, "") else "",
        meta,
        tuple(dict.fromkeys(names)),
    )
