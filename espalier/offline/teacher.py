"""The embedded teacher: answers the text of a prompt, with deliberate faults at known rates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from espalier.offline.families import solve
from espalier.offline.family import Language
from espalier.offline.frame import Entry
from espalier.offline.hashing import Draws
from espalier.offline.instructions import (
    OpenTask,
    compose_list,
    read_instruction,
    stock_answer,
)
from espalier.offline.style import PREFIXES, REFUSALS, OfflineOptions
from espalier.text import language as language_of

NEW_TASKS = 8
"""How many instructions the teacher adds to a list."""

_LISTS: dict[Language, tuple[str, re.Pattern[str], str]] = {
    "en": (
        "Come up with a series of tasks.",
        re.compile(r"^Task (\d+):[ \t]*(.*)$", re.MULTILINE),
        "Task {number}: {text}",
    ),
    "zh": (
        "请想出一系列任务。",
        re.compile(r"^任务(\d+)：[ \t]*(.*)$", re.MULTILINE),
        "任务{number}：{text}",
    ),
}
_EXAMPLES: dict[Language, tuple[str, str, str, str, str]] = {
    "en": ("Write one example for the task below.", "\n\nTask: ", "Input: ", "Output: ", "none"),
    "zh": ("请为下面的任务写一个例子。", "\n\n任务：", "输入：", "输出：", "无"),
}

Fault = Literal["error", "refusal", "empty", "copy", "truncation", ""]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, and whether it was cut off."""

    text: str
    cut: bool = False


def answer(prompt: str, draws: Draws, options: OfflineOptions) -> Reply:
    """Answer a prompt by what its text is.

    A Self-Instruct list is continued, a request for an example gets one, a task of a known
    family or frame is solved, anything else gets a stock answer. Every random choice comes
    from `draws`.
    """
    for language, (opening, numbered, line) in _LISTS.items():
        if prompt.startswith(opening):
            return _continue_list(prompt, language, numbered, line, draws, options)
    for language, (opening, label, *_) in _EXAMPLES.items():
        if prompt.startswith(opening) and label in prompt:
            task = prompt.split(label, maxsplit=1)[1].strip()
            return _write_example(task, language, draws, options)
    return _answer_task(prompt, "", draws, options)


def _continue_list(
    prompt: str,
    language: Language,
    numbered: re.Pattern[str],
    line: str,
    draws: Draws,
    options: OfflineOptions,
) -> Reply:
    listed = numbered.findall(prompt)
    shown = [text.strip() for _, text in listed if text.strip()]
    number = int(listed[-1][0]) if listed and not listed[-1][1].strip() else len(shown) + 1
    made = compose_list(language, NEW_TASKS, shown, draws.random(), options)
    lines = [line.format(number=number + index, text=text) for index, text in enumerate(made)]
    head = line.format(number=number, text="")
    text = "\n".join(lines).removeprefix(head).lstrip()
    if draws.uniform(1) < options.list_truncation_rate:
        return Reply(text[: len(text) - (len(made[-1]) + 1) // 2], cut=True)
    return Reply(text)


def _write_example(task: str, language: Language, draws: Draws, options: OfflineOptions) -> Reply:
    _, _, input_label, output_label, none = _EXAMPLES[language]
    given = ""
    known = _open_task(task)
    if known is not None and known.frame.inputs:
        inputs = known.frame.inputs
        given = inputs[int(draws.uniform(3) * len(inputs))]["input"]
    reply = _answer_task(task, given, draws, options)
    text = f"{input_label}{given or none}\n{output_label}{reply.text}"
    return Reply(text.rstrip(), reply.cut)


def _answer_task(task: str, given: str, draws: Draws, options: OfflineOptions) -> Reply:
    solution = solve(task)
    if solution is not None:
        language: Language = solution.family.language
        right = solution.answer
    else:
        language, right = _open_answer(task, given)
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


def _open_answer(task: str, given: str) -> tuple[Language, str]:
    """The language and the answer of a task that belongs to no family.

    Without `given`, an input may follow the instruction after a blank line.
    """
    known = _open_task(task)
    if known is None and not given and "\n\n" in task:
        head, _, tail = task.partition("\n\n")
        inner = _open_task(head)
        if inner is not None and inner.frame.inputs:
            known, given = inner, tail
    if known is not None:
        entry: Entry = known.entry_for(given)
        if entry or not known.frame.inputs:
            return known.frame.language, known.frame.reply(dict(known.slots), entry)
    language: Language = "zh" if language_of(task) == "zh" else "en"
    return language, stock_answer(task, language)


@lru_cache(maxsize=8192)
def _open_task(task: str) -> OpenTask | None:
    return read_instruction(task)
