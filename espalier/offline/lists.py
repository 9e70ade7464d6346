"""The teacher's part in Self-Instruct: it continues lists of tasks and writes examples."""

from __future__ import annotations

import re

from espalier.offline.answering import Reply, answer_task, open_task
from espalier.offline.family import Language
from espalier.offline.hashing import Draws
from espalier.offline.instructions import compose_list
from espalier.offline.style import OfflineOptions

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


def reply(prompt: str, draws: Draws, options: OfflineOptions) -> Reply | None:
    """The reply to a Self-Instruct prompt; None for any other text."""
    for language, (opening, numbered, line) in _LISTS.items():
        if prompt.startswith(opening):
            return _continue_list(prompt, language, numbered, line, draws, options)
    for language, (opening, label, *_) in _EXAMPLES.items():
        if prompt.startswith(opening) and label in prompt:
            task = prompt.split(label, maxsplit=1)[1].strip()
            return _write_example(task, language, draws, options)
    return None


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
    known = open_task(task)
    if known is not None and known.frame.inputs:
        inputs = known.frame.inputs
        given = inputs[int(draws.uniform(3) * len(inputs))]["input"]
    reply = answer_task(task, given, draws, options)
    text = f"{input_label}{given or none}\n{output_label}{reply.text}"
    return Reply(text.rstrip(), reply.cut)
