"""The teacher's prompts for Self-Instruct, and tolerant readers of what it answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from espalier.curate.options import Language

# The prompt texts: files, so a stage that uses them counts them among its inputs.
PROMPTS = Path(__file__).parent / "prompts"
_TASK_LINE = {"en": "Task {number}: {text}", "zh": "任务{number}：{text}"}

# "Task 9:", "**Task 9.**", "9)", "（9）", "任务９：", "### 9、"
_NUMBERED = re.compile(
    r"^[ \t>#*_\-•]*(?:(?P<word>task|instruction|任务|指令|题目)[ \t]*)?[(（\[]?[ \t]*"
    r"(?P<number>\d{1,4})[ \t]*"
    r"(?:[)）\]][ \t]*[:：.、]?|[:：、．]|[.](?!\d)|(?(word)[ \t]*[-–—]|(?!)))"
    r"[ \t*_]*",
    re.IGNORECASE | re.MULTILINE,
)
_BULLET = re.compile(r"^[ \t]*[-*•·]+[ \t]+", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]*```[^\n`]*$\n?", re.MULTILINE)
_SPACES = re.compile(r"\s+")

_LABEL = r"^[ \t>#*_\-]*(?:{words})[ \t*_]*[0-9]*[ \t]*[:：][ \t*_]*"
_INPUT = re.compile(_LABEL.format(words="input|输入|問題输入"), re.IGNORECASE | re.MULTILINE)
_OUTPUT = re.compile(
    _LABEL.format(words="output|answer|response|输出|答案|回答|输出结果"),
    re.IGNORECASE | re.MULTILINE,
)
_NEXT_EXAMPLE = re.compile(
    r"^[ \t>#*_\-]*(?:task|input|example|任务|输入|例子|示例)[ \t*_]*[0-9]*[ \t]*[:：]",
    re.IGNORECASE | re.MULTILINE,
)
_NO_INPUT = re.compile(
    r"^[\W_]*(?:none|n/?a|no input|not needed|noinput|empty|无|无需输入|没有|不需要|空)?[\W_]*$",
    re.IGNORECASE,
)


@cache
def _template(name: str, language: Language) -> str:
    return (PROMPTS / f"{name}.{language}.txt").read_text(encoding="utf-8")


def one_line(text: str) -> str:
    """Whitespace collapsed and a trailing colon dropped: how an instruction is kept."""
    return _SPACES.sub(" ", text).strip().rstrip(":：").rstrip()


def instruction_prompt(examples: Sequence[str], language: Language) -> str:
    """Ask for more tasks after these; ends in the number of the next one."""
    line = _TASK_LINE[language]
    listed = [line.format(number=n, text=one_line(text)) for n, text in enumerate(examples, 1)]
    template = _template("instructions", language).rstrip("\n")
    return template.replace("{next}", str(len(examples) + 1)).replace("{tasks}", "\n".join(listed))


def instance_prompt(instruction: str, language: Language) -> str:
    """Ask for one example (input and output) of a task."""
    return _template("instance", language).replace("{instruction}", instruction)


def parse_instructions(text: str, first: int, *, cut: bool) -> list[str]:
    """The instructions in a completion of `instruction_prompt`.

    `first` is the number that the prompt ended with. Text before the first numbered line is
    that task when the numbering then goes on with the next one, and chatter otherwise. With
    `cut` (the completion ran into its limit) the last one is dropped: its end is missing.
    """
    body = _FENCE.sub("", text).strip()
    marks = list(_NUMBERED.finditer(body))
    if marks:
        ends = [mark.start() for mark in marks[1:]] + [len(body)]
        pieces = [body[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]
        if int(marks[0]["number"]) == first + 1:
            pieces.insert(0, body[: marks[0].start()])
    else:
        bullets = list(_BULLET.finditer(body))
        pieces = _BULLET.split(body)[1:] if bullets else body.split("\n\n")[:1]
    if cut and pieces:
        pieces.pop()
    cleaned = (one_line(piece.strip().strip("*_").strip()) for piece in pieces)
    return [piece for piece in cleaned if piece]


@dataclass(frozen=True, slots=True)
class Instance:
    """One example of a task; `input` is empty where the task needs none."""

    input: str
    output: str


def parse_instance(text: str) -> Instance | None:
    """The example in a completion of `instance_prompt`; None when it has no output label."""
    body = _FENCE.sub("", text).strip()
    output = _OUTPUT.search(body)
    if output is None:
        return None
    before, after = body[: output.start()], body[output.end() :]
    label = _INPUT.search(before)
    given = before[label.end() :].strip() if label else ""
    following = _NEXT_EXAMPLE.search(after)
    if following is not None:
        after = after[: following.start()]
    return Instance("" if _NO_INPUT.match(given) else given, after.strip())
