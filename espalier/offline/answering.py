"""Answers to single tasks, with deliberate faults at known rates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from espalier.offline.families import solve
from espalier.offline.family import Language
from espalier.offline.frame import Entry
from espalier.offline.hashing import Draws
from espalier.offline.instructions import OpenTask, read_instruction, stock_answer
from espalier.offline.style import PREFIXES, REFUSALS, OfflineOptions
from espalier.text import language as language_of

Fault = Literal["error", "refusal", "empty", "copy", "truncation", ""]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, and whether it was cut off."""

    text: str
    cut: bool = False


def answer_task(task: str, given: str, draws: Draws, options: OfflineOptions) -> Reply:
    """Solve a task of a known family or frame; anything else gets a stock answer."""
    solution = solve(task)
    if solution is not None:
        language: Language = solution.family.language
        right = solution.answer
    else:
        language, right = open_answer(task, given)
    match _fault(draws.uniform(0), options):
        case "refusal":
            return Reply(REFUSALS[language])
        case "empty":
            return Reply("")
        case "copy":
            return Reply(given or task)
        case "error":
            right = _wrong(task, right, language, draws)
        case "truncation":
            return Reply(_styled(task, right, draws, options)[: max(1, len(right) // 2)], cut=True)
    return Reply(_styled(task, right, draws, options))


def _fault(chance: float, options: OfflineOptions) -> Fault:
    rates: tuple[tuple[Fault, float], ...] = (
        ("error", options.error_rate),
        ("refusal", options.refusal_rate),
        ("empty", options.empty_rate),
        ("copy", options.copy_rate),
        ("truncation", options.truncation_rate),
    )
    for fault, rate in rates:
        if chance < rate:
            return fault
        chance -= rate
    return ""


def _styled(task: str, text: str, draws: Draws, options: OfflineOptions) -> str:
    solution = solve(task)
    if solution is None:
        return text
    family = solution.family
    rate = options.style_flaw if family.flawed else options.style_flaw_rest
    return PREFIXES[family.language] + text if draws.uniform(2) < rate else text


def _wrong(task: str, right: str, language: Language, draws: Draws) -> str:
    """Another answer of the same family; for an open task, one that misses the topic."""
    rng = draws.random()
    solution = solve(task)
    if solution is not None:
        for _ in range(100):
            other = solution.family.draw(rng)[1]
            if other != right:
                return other
    return "It depends." if language == "en" else "看情况。"


def open_answer(task: str, given: str) -> tuple[Language, str]:
    """The language and the answer of a task that belongs to no family.

    Without `given`, an input may follow the instruction after a blank line.
    """
    known = open_task(task)
    if known is None and not given and "\n\n" in task:
        head, _, tail = task.partition("\n\n")
        inner = open_task(head)
        if inner is not None and inner.frame.inputs:
            known, given = inner, tail
    if known is not None:
        entry: Entry = known.entry_for(given)
        if entry or not known.frame.inputs:
            return known.frame.language, known.frame.reply(dict(known.slots), entry)
    language: Language = "zh" if language_of(task) == "zh" else "en"
    return language, stock_answer(task, language)


@lru_cache(maxsize=8192)
def open_task(task: str) -> OpenTask | None:
    """`read_instruction`, remembered."""
    return read_instruction(task)
