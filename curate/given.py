"""Columns of a user's file that bear the names of our own metadata.

What is of the type that the name has here is kept; anything else is set aside under
`meta.given.<name>`, so that every later step can rely on the types. Nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from espalier.curate.groups import GROUPS
from espalier.language_names import language_code

GIVEN = "given"
Check = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _text_or_texts(value: Any) -> bool:
    return _text(value) or _texts(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _truth(value: Any) -> bool:
    return isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


def _mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _scores(value: Any) -> bool:
    return isinstance(value, dict) and all(item is None or _number(item) for item in value.values())


def _counts(value: Any) -> bool:
    return isinstance(value, dict) and all(_whole(item) for item in value.values())


def _findings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _neighbours(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, list) and len(item) == 2 and _text(item[0]) and _number(item[1])
        for item in value
    )


def _group(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() in GROUPS


def _never(value: Any) -> bool:
    return False


_TYPES: Mapping[str, Check] = {
    "category": _text,
    "contamination": _findings,
    "declines": _truth,
    "evaluation": _truth,
    "group": _group,
    "input": _text,
    "is_classification": _truth,
    "judge": _mapping,
    "keywords": _texts,
    "kind": _text,
    "later_turns": _texts,
    "nearest": _neighbours,
    "nearest_mean": _number,
    "of_parts": _whole,
    "operator": _text,
    "original_id": _text,
    "parents": _texts,
    "part": _whole,
    "pii": _counts,
    "principles": _texts,
    "quality": _scores,
    "ranking": _text,
    "reference": _text_or_texts,
    "repaired": _texts,
    "root_source": _text,
    "round": _whole,
    "safety": _texts,
    "safety_set": _text,
    "teacher": _text,
    # Marks that a step leaves for another one; from a file they would be orders.
    "to_answer": _never,
    "trimmed": _truth,
    "weak_teacher": _text,
}


def sound_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as they came with a row, with well-formed ones alone under our own names.

    `language` becomes a code ("English" and "en_US" are `en`); a word that names no language is
    set aside. `source` is left to the caller, who knows it.
    """
    kept: dict[str, Any] = {}
    aside: dict[str, Any] = {}
    for name, value in meta.items():
        if name == "language":
            code = language_code(value) if isinstance(value, str) else None
            (aside if code is None else kept)[name] = value if code is None else code
        elif name == GIVEN and not isinstance(value, dict):
            aside[name] = value
        elif name == "group" and _group(value):
            kept[name] = value.strip().lower()
        elif name == "quality" and _number(value) and not isinstance(value, bool):
            # One number for a row is its score; the judge's marks may take that place later.
            kept[name], aside[name] = {"score": value}, value
        elif name in _TYPES and not _TYPES[name](value):
            # An empty cell says nothing.
            if value is not None:
                aside[name] = value
        else:
            kept[name] = value
    if aside:
        kept[GIVEN] = {**kept.get(GIVEN, {}), **aside}
    return kept
