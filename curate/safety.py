"""The built-in safety set: requests that a good assistant declines, and harmless ones like them.

`harmful` rows are requests in general terms, with a kind refusal. `borderline` rows sound alike
and are harmless, with a helpful answer: a model that refuses those has learnt the words, not the
harm. The rows are files beside this module (`safety/en.jsonl`, `safety/zh.jsonl`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from espalier.curate.filters import DECLINES
from espalier.curate.options import Language, SafetyKind
from espalier.errors import InputError, place
from espalier.formats.files import read_rows
from espalier.records import Example

LANGUAGES: tuple[Language, ...] = ("en", "zh")
FOLDER = Path(__file__).parent / "safety"
CATEGORIES = (
    "violence",
    "self_harm",
    "crime",
    "hate",
    "privacy",
    "cyber",
    "deception",
    "dangerous_acts",
)


def safety_path(language: Language) -> Path:
    """The file of one language."""
    return FOLDER / f"{language}.jsonl"


def safety_rows(
    languages: Iterable[Language], kinds: Iterable[SafetyKind], name: str = "safety"
) -> Iterator[Example]:
    """The rows of these languages and kinds, in file order, with their answers.

    `meta.safety_set` is the kind, `meta.category` one of `CATEGORIES`.
    """
    wanted = set(kinds)
    for language in languages:
        path = safety_path(language)
        for row in read_rows(path):
            value = getattr(row, "value", None)
            if not isinstance(value, dict) or value.get("kind") not in ("harmful", "borderline"):
                raise InputError(
                    "A row of the safety set is broken.",
                    where=place(path, row.line),
                    expected='"kind": "harmful" or "borderline"',
                    hint="install espalier again",
                )
            if value["kind"] not in wanted:
                continue
            meta = {
                "source": name,
                "language": language,
                "category": value["category"],
                "group": "dialogue",
                "safety_set": value["kind"],
            }
            if value["kind"] == "harmful":
                meta[DECLINES] = True
            yield Example.single(value["prompt"], value["answer"], meta=meta)
