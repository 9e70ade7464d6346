"""All task families, and the recognition of a prompt that belongs to one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

from espalier.offline.families_en import FAMILIES_EN
from espalier.offline.families_zh import FAMILIES_ZH
from espalier.offline.family import Family
from espalier.offline.form import FormIndex

FAMILIES: tuple[Family, ...] = (*FAMILIES_EN, *FAMILIES_ZH)
BY_NAME = {family.name: family for family in FAMILIES}


@dataclass(frozen=True, slots=True)
class Solution:
    """The family of a prompt and the one right answer."""

    family: Family
    answer: str


@cache
def _index() -> FormIndex[Family]:
    return FormIndex((form, family) for family in FAMILIES for form in family.forms)


@lru_cache(maxsize=65536)
def solve(prompt: str) -> Solution | None:
    """The right answer to a prompt of any family, found in its text alone; None for others."""
    text = prompt.strip()
    for form, family in _index().candidates(text):
        slots = form.read(text)
        if slots is not None:
            answer = family.truth(slots)
            if answer is not None:
                return Solution(family, answer)
    return None
