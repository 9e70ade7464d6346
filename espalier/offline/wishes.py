"""Wishes that the offline teacher adds to a task and can fulfil: about the form of the answer."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from espalier.offline.family import Language
from espalier.text import length

Apply = Callable[[str, str], str]


@dataclass(frozen=True, slots=True)
class Wish:
    """A sentence that ends a task, and what it does to (task, answer)."""

    language: Language
    text: str
    apply: Apply


def _twice(mark: str) -> Apply:
    return lambda task, answer: f"{answer}{mark}{answer}"


def _around(left: str, right: str) -> Apply:
    return lambda task, answer: f"{left}{answer}{right}"


def _steps(task: str, answer: str) -> str:
    return f"Step 1: I read the task, {length(task)} words.\nStep 2: I answer it: {answer}"


def _steps_zh(task: str, answer: str) -> str:
    return f"第一步：读题，一共{length(task)}个字。\n第二步：回答：{answer}"


def _repeated(task: str, answer: str) -> str:
    return f"{task}\n{answer}"


OPERATOR_WISHES: Mapping[Language, Mapping[str, tuple[Wish, ...]]] = {
    "en": {
        "constraints": (
            Wish("en", "Write the whole answer in capital letters.", lambda _, a: a.upper()),
            Wish("en", "Put the whole answer between square brackets.", _around("[", "]")),
            Wish("en", "Give the answer twice, with a semicolon between.", _twice("; ")),
            Wish("en", "End with three exclamation marks.", _around("", "!!!")),
        ),
        "deepening": (
            Wish(
                "en",
                "Also say, in brackets after the answer, how many words it has.",
                lambda _, a: f"{a} (words: {length(a)})",
            ),
            Wish(
                "en",
                "Also say, in brackets after the answer, how many characters it has.",
                lambda _, a: f"{a} (characters: {len(a)})",
            ),
        ),
        "concretising": (
            Wish(
                "en", "It is for the notice board of a village school, so begin with "
                '"Notice board:".', _around("Notice board: ", ""),
            ),
            Wish(
                "en", "It goes into the diary of a ship's cook, so begin with "
                '"Dear diary:".', _around("Dear diary: ", ""),
            ),
        ),
        "reasoning": (
            Wish("en", "Think in two numbered steps and write both of them down.", _steps),
            Wish("en", "First repeat the task, then answer on a line of its own.", _repeated),
        ),
    },
    "zh": {
        "constraints": (
            Wish("zh", "请把整个答案放在方括号里。", _around("【", "】")),
            Wish("zh", "请把答案写两遍，中间用分号隔开。", _twice("；")),
            Wish("zh", "最后请加上三个感叹号。", _around("", "！！！")),
            Wish("zh", "请在答案前后各加一颗星号。", _around("*", "*")),
        ),
        "deepening": (
            Wish(
                "zh", "还请在答案后面的括号里写出它有几个字。",
                lambda _, a: f"{a}（字数：{length(a)}）",
            ),
            Wish(
                "zh", "还请在答案后面的括号里写出它的第一个字。",
                lambda _, a: f"{a}（首字：{a[:1]}）",
            ),
        ),
        "concretising": (
            Wish("zh", "这是写在乡村小学黑板上的，请用“黑板：”开头。", _around("黑板：", "")),
            Wish("zh", "这是写进船上厨师日记里的，请用“日记：”开头。", _around("日记：", "")),
        ),
        "reasoning": (
            Wish("zh", "请分两步思考，并把两步都写出来。", _steps_zh),
            Wish("zh", "请先重复题目，再另起一行回答。", _repeated),
        ),
    },
}  # fmt: skip
_ALL = tuple(
    wish for kinds in OPERATOR_WISHES.values() for listed in kinds.values() for wish in listed
)
_ENDS = ".?!。？！…"


def with_wish(task: str, wish: Wish) -> str:
    """The task with the wish after it, on a line of its own where the task has no end mark."""
    if not task.endswith(tuple(_ENDS)):
        return f"{task}\n{wish.text}"
    return f"{task} {wish.text}" if wish.language == "en" else task + wish.text


def wish_at_end(text: str) -> tuple[str, Wish] | None:
    """The task before the wish that ends the text, and the wish; None where there is none."""
    for wish in _ALL:
        if text.endswith(wish.text) and len(text) > len(wish.text):
            return text[: -len(wish.text)].rstrip(), wish
    return None


# --- a task within data ----------------------------------------------------------------------

_HEAD: Mapping[Language, str] = {
    "en": "Do what the entry named task in these data says.\n\n",
    "zh": "请完成下面数据中名为task的一项所说的事。\n\n",
}
_DATA: Mapping[str, tuple[str, str]] = {
    "xml": ("<entries>\n  <entry name=\"task\">", "</entry>\n  <entry name=\"place\">7</entry>\n"
            "</entries>"),
    "sql": ("CREATE TABLE entries (name TEXT, value TEXT);\nINSERT INTO entries VALUES ('place', "
            "'7'), ('task', '", "');"),
    "python": ("place = 7\ntask = ", "\nprint(place, task)"),
    "html": ("<!DOCTYPE html>\n<p id=\"place\">7</p>\n<p id=\"task\">", "</p>"),
    "shell": ("export place=7\nexport task='", "'"),
    "json": ('{"place": 7, "task": ', "}"),
}  # fmt: skip


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


_WRITE: Mapping[str, Callable[[str], str]] = {
    "xml": html.escape,
    "html": html.escape,
    "sql": lambda text: text.replace("'", "''"),
    "shell": lambda text: text.replace("'", "'\\''"),
    "python": _quoted,
    "json": _quoted,
}
_READ: Mapping[str, Callable[[str], str]] = {
    "xml": html.unescape,
    "html": html.unescape,
    "sql": lambda text: text.replace("''", "'"),
    "shell": lambda text: text.replace("'\\''", "'"),
    "python": lambda text: str(json.loads(text)),
    "json": lambda text: str(json.loads(text)),
}
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def hide_task(task: str, form: str, language: Language) -> str:
    """A request to do the task that stands in data of this form ("xml", "sql", ...)."""
    before, after = _DATA[form]
    return _HEAD[language] + before + _WRITE[form](task) + after


def hidden_task(text: str) -> str | None:
    """The task that a text made by `hide_task` hides; None for any other text."""
    head = next((head for head in _HEAD.values() if text.startswith(head)), None)
    if head is None:
        return None
    data = text[len(head) :]
    for form, (before, after) in _DATA.items():
        if data.startswith(before) and data.endswith(after):
            inner = data[len(before) : len(data) - len(after)]
            if form in ("python", "json") and not _LITERAL.fullmatch(inner):
                return None
            return _READ[form](inner)
    return None
