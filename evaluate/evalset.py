"""The held-out set: prompts with their references, languages and categories."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espalier.errors import InputError
from espalier.files import hash_path
from espalier.formats.read import read_examples
from espalier.records import Example, Messages
from espalier.text import language, normalise


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
    """Read the set from a file in any dataset format; the last answer of a row is its reference.

    `category` is the meta field that groups the rows, `shown` the path as results name it.
    Equal ids get a number behind them, so that an id names one row. Raises InputError when
    there is no file or no row.
    """
    if not path.exists():
        raise InputError(
            "The evaluation set does not exist.",
            where=str(path),
            expected="a file of prompts, with references where there are any",
            hint="check `evaluate.set`, or run the stage that writes it (curate)",
        )
    examples = list(read_examples(path, format=format, limit=limit))
    if not examples:
        raise InputError(
            "The evaluation set has no rows.", where=str(path), expected="at least one prompt"
        )
    seen: Counter[str] = Counter()
    rows = []
    for example in examples:
        seen[example.id] += 1
        count = seen[example.id]
        identity = example.id if count == 1 else f"{example.id}-{count}"
        rows.append(_row(identity, example, category))
    return EvalSet(name or path.name, shown or str(path), hash_path(path), tuple(rows))


def _row(identity: str, example: Example, category_field: str) -> Row:
    meta = example.meta
    reference = example.reference
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
        reference if reference and reference.strip() else None,
        str(meta.get("language") or language(example.prompt)),
        str(category) if category not in (None, "") else "",
        meta,
        tuple(dict.fromkeys(names)),
    )
