"""The teacher's part in Evol-Instruct: it rewrites tasks, and answers what it has rewritten.

A task evolved in depth is a task that the teacher knows plus a wish that it can recognise, take
off and apply to the answer; a complicated input hides the task in data; one evolved in breadth is
another task of the same family. So the right answer to an evolved task can be checked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from espalier.offline.answering import Reply, answer_task
from espalier.offline.families import solve
from espalier.offline.family import Language
from espalier.offline.hashing import Draws
from espalier.offline.instructions import compose
from espalier.offline.style import REFUSALS, OfflineOptions
from espalier.offline.wishes import (
    OPERATOR_WISHES,
    Wish,
    hidden_task,
    hide_task,
    wish_at_end,
    with_wish,
)
from espalier.text import language as language_of
from espalier.text import normalise

_LANGUAGES: tuple[Language, ...] = ("en", "zh")
_DEPTH = {
    "en": "Rewrite the given prompt as a more complex version of itself",
    "zh": "请把给定的指令改写成更复杂的版本",
}
_BREADTH = {
    "en": "Take the given prompt as a model and create a new prompt.",
    "zh": "请以给定的指令为参考，写一条全新的指令。",
}
_EQUAL = {
    "en": (
        "Are the two prompts below equal?",
        re.compile(r"\n\n\[First prompt]\n(.*)\n\n\[Second prompt]\n(.*)\n\n\[End]\s*", re.DOTALL),
        ("Equal", "Not equal"),
    ),
    "zh": (
        "下面两条指令是否等同？",
        re.compile(r"\n\n【第一条指令】\n(.*)\n\n【第二条指令】\n(.*)\n\n【完】\s*", re.DOTALL),
        ("等同", "不等同"),
    ),
}
_GIVEN = {
    "en": re.compile(r"\n\n#Given Prompt#:\n(.*)\n\n#(?:Rewritten|Created) Prompt#:\s*", re.DOTALL),
    "zh": re.compile(r"\n\n#给定的指令#：\n(.*)\n\n#(?:改写后|新写)的指令#：\s*", re.DOTALL),
}
# What names the operator in the request.
_HOW = {
    "constraints": ("Add one more constraint", "再加上一个限制"),
    "deepening": ("more deeply and more broadly", "问得更深、更广"),
    "concretising": ("more specific notions", "用更具体的概念"),
    "reasoning": ("reasoning in several steps", "分几步推理"),
    "complicate_input": ("Give it an input to work on", "给它加上要处理的输入"),
}
_FORMATS = {
    "XML": "xml", "SQL": "sql", "Python": "python", "HTML": "html", "shell": "shell",
    "JSON": "json",
}  # fmt: skip
_HEADINGS = {"en": "#Rewritten Prompt#:\n", "zh": "#改写后的指令#：\n"}
_OPENINGS = {"en": "Here is the rewritten prompt:\n\n", "zh": "下面是改写后的指令：\n\n"}
_LEAKS = {
    "en": " This is the #Rewritten Prompt#, made from the given prompt.",
    "zh": "这就是改写后的指令，来自给定的指令。",
}
_SORRY = {"en": "Sorry, I can't do all of this at once.", "zh": "抱歉，这些一次做不完。"}
_FILLER = {"en": "And so on, and so on...", "zh": "就是这样的吧……"}


@dataclass(frozen=True, slots=True)
class Evolved:
    """A task and the wishes that were added to it, the first one first."""

    task: str
    wishes: tuple[Wish, ...] = ()
    hidden: bool = False


def read_evolved(text: str) -> Evolved | None:
    """The task under an evolved one; None for a text that was not evolved (or is not known)."""
    task, wishes, hidden = text.strip(), [], False
    while True:
        found = wish_at_end(task)
        if found is not None:
            task, wish = found
            wishes.append(wish)
            continue
        inner = hidden_task(task)
        if inner is None:
            break
        task, hidden = inner, True
    return Evolved(task, tuple(reversed(wishes)), hidden) if wishes or hidden else None


def right_answer(text: str) -> tuple[Language, str] | None:
    """The right answer to an evolved task of a known family, and its language; else None."""
    evolved = read_evolved(text)
    solution = solve(evolved.task) if evolved else None
    if evolved is None or solution is None:
        return None
    return solution.family.language, _with_wishes(evolved, solution.answer)


def reply(prompt: str, draws: Draws, options: OfflineOptions) -> Reply | None:
    """The reply to a prompt of Evol-Instruct or to an evolved task; None for any other text."""
    for language in _LANGUAGES:
        deeper = prompt.startswith(_DEPTH[language])
        if deeper or prompt.startswith(_BREADTH[language]):
            given = _GIVEN[language].search(prompt)
            if given:
                request = prompt[: given.start()] if deeper else ""
                return _rewrite(request, given[1], language, draws, options)
        opening, layout, verdicts = _EQUAL[language]
        if prompt.startswith(opening) and (pair := layout.search(prompt)):
            equal = normalise(pair[1]) == normalise(pair[2])
            if draws.uniform(0) < options.judge_noise:
                equal = not equal
            return Reply(verdicts[0] if equal else verdicts[1])
    evolved = read_evolved(prompt)
    return _answer(prompt, evolved, draws, options) if evolved else None


def _rewrite(
    request: str, task: str, language: Language, draws: Draws, options: OfflineOptions
) -> Reply:
    chance = draws.uniform(0)
    if chance < options.equal_rewrite_rate:
        return Reply(task)
    text = _evolve(request, task, language, draws)
    chance -= options.equal_rewrite_rate
    if chance < options.leak_rate:
        return Reply(text + _LEAKS[language])
    chance -= options.leak_rate
    if chance < options.rewrite_truncation_rate:
        return Reply(text[: max(1, len(text) * 2 // 3)], cut=True)
    if draws.uniform(1) < options.rewrite_decoration_rate:
        return Reply((_HEADINGS if draws.uniform(2) < 0.5 else _OPENINGS)[language] + text)
    return Reply(text)


def _evolve(request: str, task: str, language: Language, draws: Draws) -> str:
    """The task with what the request asks for; another task where nothing more can be added."""
    rng = draws.random()
    operator = next(
        (name for name, signs in _HOW.items() if any(sign in request for sign in signs)), "breadth"
    )
    if operator == "complicate_input" and hidden_task(task) is None:
        form = next((form for name, form in _FORMATS.items() if name in request), "json")
        return hide_task(task, form, language)
    known = read_evolved(task)
    used = {wish.text for wish in known.wishes} if known else set()
    wishes = OPERATOR_WISHES[language].get(operator, ())
    free = [wish for wish in wishes if wish.text not in used]
    if free:
        return with_wish(task, rng.choice(free))
    solution = solve(known.task if known else task)
    return solution.family.draw(rng)[0] if solution else compose(language, rng)


def _answer(prompt: str, evolved: Evolved, draws: Draws, options: OfflineOptions) -> Reply:
    language: Language = "zh" if language_of(evolved.task) == "zh" else "en"
    chance = draws.uniform(4)
    if chance < options.sorry_rate:
        return Reply(_SORRY[language])
    if chance - options.sorry_rate < options.filler_rate:
        return Reply(_FILLER[language])
    inner = answer_task(evolved.task, "", draws, options)
    if inner.cut or not inner.text or inner.text in REFUSALS.values():
        return inner
    if inner.text == evolved.task:
        return Reply(prompt)
    return Reply(_with_wishes(evolved, inner.text))


def _with_wishes(evolved: Evolved, answer: str) -> str:
    for wish in evolved.wishes:
        answer = wish.apply(evolved.task, answer)
    return answer
