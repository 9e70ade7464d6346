"""The teacher's prompts for new tasks, and tolerant readers of what it answers.

Teachers number, mark up and wrap their lists as they like, in English as in Chinese. A reader
takes what can be told apart and says what it left out; the rules that a text must pass are the
caller's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from espalier.curate.options import Language
from espalier.curate.seed_tasks import Task

# The prompt texts: files, so a stage that uses them counts them among its inputs.
PROMPTS = Path(__file__).parent / "prompts"
NO_INPUT = {"en": "<noinput>", "zh": "<无输入>"}
_TASK_LINE = {"en": "Task {number}: {text}", "zh": "任务{number}：{text}"}
_ALPACA_TASK = {
    "en": "###\n{n}. Instruction: {instruction}\n{n}. Input:\n{input}\n{n}. Output:\n{output}",
    "zh": "###\n{n}. 指令：{instruction}\n{n}. 输入：\n{input}\n{n}. 输出：\n{output}",
}
_FIELD = re.compile(r"\{(\w+)\}")

# "Task 9:", "**Task 9.**", "9)", "（9）", "任务９：", "### 9、", "任务九：", "九、"
_NUMBERED = re.compile(
    r"^[ \t>#*_\-•]*(?:(?P<word>task|instruction|任务|指令|题目)[ \t]*)?[(（\[]?[ \t]*"
    r"(?:(?P<number>\d{1,4})|(?P<han>[一二三四五六七八九十]{1,3}))[ \t]*"
    r"(?(number)(?:[)）\]][ \t]*[:：.、]?|[:：、．]|[.](?!\d)|(?(word)[ \t]*[-–—]|(?!)))"
    r"|(?:[)）][ \t]*[:：.、]?|、|(?(word)[:：．]|(?!))))"
    r"[ \t*_]*",
    re.IGNORECASE | re.MULTILINE,
)
_BULLET = re.compile(r"^[ \t]*[-*•·]+[ \t]+", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]*```[^\n`]*$\n?", re.MULTILINE)
_SPACES = re.compile(r"\s+")
_YES_OR_NO = re.compile(
    r"\W*(?:(?:is it classification|answer|是分类任务吗|答案|回答)\W*)?"
    r"(?:(?P<no>no\b|false\b|不|否|非)|(?P<yes>yes\b|true\b|是|对))",
    re.IGNORECASE,
)


@cache
def _template(name: str, language: Language) -> str:
    return (PROMPTS / f"{name}.{language}.txt").read_text(encoding="utf-8").rstrip("\n")


def filled(name: str, language: Language, **fields: str) -> str:
    """The prompt of this name with its `{fields}` filled; a text that looks like one stays."""
    return _FIELD.sub(lambda match: fields.get(match[1], match[0]), _template(name, language))


def one_line(text: str) -> str:
    """Whitespace collapsed and a trailing colon dropped: how an instruction is kept."""
    return _SPACES.sub(" ", text).strip().rstrip(":：").rstrip()


def instruction_prompt(examples: Sequence[str], language: Language) -> str:
    """Ask for more tasks after these; ends in the number of the next one."""
    line = _TASK_LINE[language]
    listed = [line.format(number=n, text=one_line(text)) for n, text in enumerate(examples, 1)]
    return filled("instructions", language, tasks="\n".join(listed), next=str(len(examples) + 1))


def classification_prompt(instruction: str, language: Language) -> str:
    """Ask, after 12 tasks that are one and 19 that are none, if a task is a classification."""
    return filled("classification", language, instruction=instruction)


def instance_prompt(
    instruction: str, language: Language, *, is_classification: bool, count: int
) -> str:
    """Ask for up to `count` examples of a task.

    Those of a classification task begin with the class label, so that the labels are not all
    the same; those of other tasks begin with the input (Self-Instruct, section 2.2).
    """
    name = "instances_output_first" if is_classification else "instances_input_first"
    return filled(name, language, instruction=instruction, count=str(count))


def alpaca_prompt(examples: Sequence[Task], language: Language, batch: int) -> str:
    """Ask for a list of `batch` tasks that begins with these, shown with their first instance."""
    form = _ALPACA_TASK[language]
    listed = [
        form.format(
            n=n,
            instruction=one_line(task.instruction),
            input=task.instances[0].input or NO_INPUT[language],
            output=task.instances[0].output,
        )
        for n, task in enumerate(examples, 1)
    ]
    return filled(
        "alpaca",
        language,
        batch=str(batch),
        tasks="\n".join(listed),
        next=str(len(examples) + 1),
    )


@dataclass(frozen=True, slots=True)
class Listed:
    """The instructions of a completion; `cut` is the last one where its end is missing."""

    instructions: list[str]
    cut: str | None = None


def parse_instructions(text: str, first: int, *, cut: bool) -> Listed:
    """The instructions in a completion of `instruction_prompt`.

    `first` is the number that the prompt ended with. Text before the first numbered line is
    chatter when that line begins the list (as number `first` or 1), and else the task that the
    prompt's own number stands before. With `cut` (the completion ran into its limit) the last
    one is set apart.
    """
    body = _FENCE.sub("", text).strip()
    marks = list(_NUMBERED.finditer(body))
    if marks:
        ends = [mark.start() for mark in marks[1:]] + [len(body)]
        pieces = [body[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]
        if _number(marks[0]) not in (first, 1):
            pieces.insert(0, body[: marks[0].start()])
    else:
        bullets = list(_BULLET.finditer(body))
        pieces = _BULLET.split(body)[1:] if bullets else body.split("\n\n")[:1]
    last = pieces.pop().strip() if cut and pieces else None
    cleaned = (one_line(piece.strip().strip("*_").strip()) for piece in pieces)
    return Listed([piece for piece in cleaned if piece], last)


def _number(mark: re.Match[str]) -> int:
    """The number of a list's line; Chinese numerals up to 99."""
    if mark["number"]:
        return int(mark["number"])
    tens, ten, ones = mark["han"].rpartition("十")
    digits = "零一二三四五六七八九"
    return (digits.find(tens or "一") * 10 if ten else 0) + digits.find(ones or "零")


def parse_classification(text: str) -> bool | None:
    """Yes or no at the start of a completion of `classification_prompt`; None for neither."""
    found = _YES_OR_NO.match(unicodedata.normalize("NFKC", text))
    return None if found is None else found["yes"] is not None
