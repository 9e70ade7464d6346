"""Sentences that the stages wrote in English, told in the language of the page.

The results of a run say in English what a metric measures and what a reader has to know.
`assets/retold.zh.yaml` has their patterns: the English sentence, with `{name}` where a value
stands, and the Chinese one. What fits no pattern (a note of the recipe's author, a metric of the
user's own) stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import yaml

from espalier.reports.strings import ASSETS, language

# Longer texts are no sentence of a stage; matching them could take long.
LONGEST = 2000


class Pattern(NamedTuple):
    """An English sentence with places, and how it is told."""

    matcher: re.Pattern[str]
    told: str


@cache
def patterns() -> tuple[dict[str, str], list[Pattern]]:
    """Whole sentences by their text, and those with places, in the file's order."""
    loaded = yaml.safe_load((ASSETS / "retold.zh.yaml").read_text(encoding="utf-8"))
    whole = {english: told for english, told in loaded.items() if "{" not in english}
    placed = [
        Pattern(_matcher(english), told) for english, told in loaded.items() if "{" in english
    ]
    return whole, placed


def retell(text: str) -> str:
    """The text in the language that speaks, where a pattern fits it; else the text itself.

    A value inside a sentence is retold too where it is a whole sentence of its own.
    """
    if language() == "en" or len(text) > LONGEST:
        return text
    whole, placed = patterns()
    if text in whole:
        return whole[text]
    for pattern in placed:
        match = pattern.matcher.fullmatch(text)
        if match:
            return _filled(pattern.told, match.groupdict(), whole)
    return text


def _filled(told: str, values: Mapping[str, str], whole: Mapping[str, str]) -> str:
    """The sentence with its places filled once: braces inside values stay as they are."""
    parts = re.split(r"\{(\w+)\}", told)
    return "".join(
        whole.get(values[part], values[part]) if place % 2 else part
        for place, part in enumerate(parts)
    )


def _matcher(english: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", english)
    pieces = [
        f"(?P<{part}>.+?)" if place % 2 else re.escape(part) for place, part in enumerate(parts)
    ]
    return re.compile("".join(pieces), re.DOTALL)
