"""Rows written for IFEval (Zhou et al. 2023): its instructions as checks of ours.

Where ours count otherwise: sentences end at `. ! ?` (and `。！？`) without a trained model, a
language that a short text does not show is not held against it, a list's numbered items are items
too, empty paragraphs are none, and of the fixed answers exactly one may be given.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

_ANSWERS = ["My answer is yes.", "My answer is no.", "My answer is maybe."]
_PARAGRAPH_BREAK = "***"

Values = Mapping[str, Any]
Made = tuple[str, dict[str, Any]]


def ifeval_checks(meta: Mapping[str, Any]) -> list[Made]:
    """The (check, options) of a row's `instruction_id_list` and `kwargs`; [] without them.

    Raises ValueError for an instruction that is not known or lacks what it needs.
    """
    names, given = (_listed(meta.get(key)) for key in ("instruction_id_list", "kwargs"))
    if not names:
        return []
    if len(given) != len(names):
        raise ValueError(f"{len(names)} instructions and {len(given)} kwargs")
    found = []
    for name, values in zip(names, given, strict=True):
        if not isinstance(name, str) or name not in _INSTRUCTIONS:
            raise ValueError(f"there is no instruction '{name}'")
        values = json.loads(values) if isinstance(values, str) else (values or {})
        if not isinstance(values, Mapping):
            raise ValueError(f"the kwargs of '{name}' are no object")
        try:
            found.append(_INSTRUCTIONS[name]({k: v for k, v in values.items() if v is not None}))
        except KeyError as error:
            raise ValueError(f"the instruction '{name}' needs {error}") from error
        except TypeError as error:
            raise ValueError(f"the kwargs of '{name}' can't be read: {error}") from error
    return found


def _listed(value: Any) -> list[Any]:
    if isinstance(value, str):  # as CSV files hold it
        value = json.loads(value)
    if value is not None and not isinstance(value, list):
        raise ValueError("`instruction_id_list` or `kwargs` is no list")
    return value or []


def _relation(values: Values, count: str, relation: str = "relation") -> dict[str, int]:
    number = int(values[count])
    if values[relation] == "less than":
        return {"max": number - 1}
    if values[relation] == "at least":
        return {"min": number}
    raise ValueError(f"there is no relation '{values[relation]}' (less than, at least)")


def _count(check: str, count: str, relation: str = "relation") -> Callable[[Values], Made]:
    return lambda values: (check, _relation(values, count, relation))


def _at_least(check: str, count: str) -> Callable[[Values], Made]:
    return lambda values: (check, {"min": int(values[count])})


def _exactly(count: Any) -> dict[str, int]:
    return {"min": int(count), "max": int(count)}


_INSTRUCTIONS: dict[str, Callable[[Values], Made]] = {
    "keywords:existence": lambda v: ("keywords", {"include": v["keywords"], "whole_words": False}),
    "keywords:forbidden_words": lambda v: ("keywords", {"exclude": v["forbidden_words"]}),
    "keywords:frequency": lambda v: (
        "frequency",
        {"text": v["keyword"], "characters": True, **_relation(v, "frequency")},
    ),
    "keywords:letter_frequency": lambda v: (
        "frequency",
        {
            "text": v["letter"],
            "characters": True,
            **_relation(v, "let_frequency", "let_relation"),
        },
    ),
    "language:response_language": lambda v: ("language", {"language": v["language"]}),
    "length_constraints:number_words": _count("words", "num_words"),
    "length_constraints:number_sentences": _count("sentences", "num_sentences"),
    "length_constraints:number_paragraphs": lambda v: (
        "paragraphs",
        {"separator": _PARAGRAPH_BREAK, **_exactly(v["num_paragraphs"])},
    ),
    "length_constraints:nth_paragraph_first_word": lambda v: (
        "first_word",
        {
            "paragraph": v["nth_paragraph"],
            "word": v["first_word"],
            "paragraphs": v["num_paragraphs"],
            "separator": "\n\n",
        },
    ),
    "detectable_content:number_placeholders": _at_least("placeholders", "num_placeholders"),
    "detectable_content:postscript": lambda v: ("postscript", {"text": v["postscript_marker"]}),
    "detectable_format:number_bullet_lists": lambda v: ("bullets", _exactly(v["num_bullets"])),
    "detectable_format:constrained_response": lambda v: ("one_of", {"options": _ANSWERS}),
    "detectable_format:number_highlighted_sections": _at_least("highlights", "num_highlights"),
    "detectable_format:multiple_sections": lambda v: (
        "sections",
        {"marker": v["section_spliter"], "min": int(v["num_sections"])},
    ),
    "detectable_format:json_format": lambda v: ("json", {}),
    "detectable_format:title": lambda v: ("title", {}),
    "combination:two_responses": lambda v: ("two_answers", {}),
    "combination:repeat_prompt": lambda v: ("starts_with", {"text": v["prompt_to_repeat"]}),
    "startend:end_checker": lambda v: ("ends_with", {"text": v["end_phrase"]}),
    "startend:quotation": lambda v: ("quoted", {}),
    "change_case:capital_word_frequency": _count(
        "capital_words", "capital_frequency", "capital_relation"
    ),
    "change_case:english_capital": lambda v: ("case", {"case": "upper"}),
    "change_case:english_lowercase": lambda v: ("case", {"case": "lower"}),
    "punctuation:no_comma": lambda v: ("no_commas", {}),
}
