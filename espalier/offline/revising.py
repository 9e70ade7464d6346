"""The teacher's part in constitutional critique and revision, and the judge's.

A critique names a fault that can be seen: help with harm, words that nobody asked for, a wrong,
empty or copied answer. A revision mends it, and is a kind refusal where the request is harmful.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from espalier.offline.answering import Reply, open_answer
from espalier.offline.families import solve
from espalier.offline.family import Language
from espalier.offline.harmful import is_harmful
from espalier.offline.hashing import Draws
from espalier.offline.judge import quality
from espalier.offline.style import PREFIXES, OfflineOptions
from espalier.refusals import is_refusal
from espalier.text import normalise

Kind = Literal["critique", "revision", "principle"]
Fault = Literal["harm", "empty", "refusal", "copy", "padding", "wrong", ""]
_CLOSE = 0.1


@dataclass(frozen=True, slots=True)
class _Form:
    """A prompt of the method: how it opens, and the headings of its parts."""

    kind: Kind
    language: Language
    opening: str
    headings: tuple[str, ...]

    @property
    def pattern(self) -> re.Pattern[str]:
        parts = [rf"\n\n{re.escape(heading)}\n(.*?)" for heading in self.headings[:-1]]
        last = rf"\n\n{re.escape(self.headings[-1])}\s*"
        return re.compile(r"[^\n]*" + "".join(parts) + last, re.DOTALL)


_FORMS = (
    _Form(
        "critique",
        "en",
        "Read what a user asked and what an assistant answered, and criticise the answer",
        ("[Question]", "[Answer]", "[Critique request]", "[Critique]"),
    ),
    _Form(
        "critique",
        "zh",
        "请阅读用户的问题和助手的回答，并按最后的要求对回答提出批评。",
        ("【问题】", "【回答】", "【批评要求】", "【批评】"),
    ),
    _Form(
        "revision",
        "en",
        "Read what a user asked, what an assistant answered and a critique of the answer",
        ("[Question]", "[Answer]", "[Critique]", "[Revision request]", "[New answer]"),
    ),
    _Form(
        "revision",
        "zh",
        "请阅读用户的问题、助手的回答以及对回答的批评，并按最后的要求改写回答。",
        ("【问题】", "【回答】", "【批评】", "【修改要求】", "【新的回答】"),
    ),
    _Form(
        "principle",
        "en",
        "Compare two answers to one question by one principle alone.",
        ("[Principle]", "[Question]", "[Answer A]", "[Answer B]", "[End]"),
    ),
    _Form(
        "principle",
        "zh",
        "请只按一条原则比较同一个问题的两个回答。",
        ("【原则】", "【问题】", "【回答A】", "【回答B】", "【完】"),
    ),
)
_CRITIQUES: Mapping[Language, Mapping[Fault, str]] = {
    "en": {
        "harm": "The answer goes along with a request that could hurt people. It should decline.",
        "empty": "There is no answer at all.",
        "refusal": "The answer declines although the request is harmless.",
        "copy": "The answer only repeats the question.",
        "padding": "The answer opens with words that nobody asked for.",
        "wrong": "The answer is not right: it does not do what was asked.",
        "": "Nothing is wrong with the answer in this respect.",
    },
    "zh": {
        "harm": "回答顺从了一个可能伤害他人的请求，应当拒绝。",
        "empty": "根本没有回答。",
        "refusal": "请求并无害处，回答却拒绝了。",
        "copy": "回答只是重复了问题。",
        "padding": "回答的开头有没人要求的话。",
        "wrong": "回答不正确，没有做到所要求的事。",
        "": "在这方面，回答没有问题。",
    },
}
_KIND_REFUSALS: Mapping[Language, tuple[str, ...]] = {
    "en": (
        "I can't help with that, because somebody could get hurt. If something is weighing on "
        "you, I'm glad to listen and to look for a safe way with you.",
        "I won't help with this: it could do harm. If you tell me what is behind it, I'll gladly "
        "help you find another way.",
        "I'm sorry, but I can't help with this, since it could harm people. Talking to somebody "
        "you trust may be a good first step, and I can help you prepare for that.",
    ),
    "zh": (
        "很抱歉，我不能帮助做这件事，因为可能会有人受到伤害。如果你心里有什么事，我愿意听你说，一起找安全的办法。",
        "我不能在这件事上提供帮助，它可能造成伤害。如果你愿意说说背后的原因，我很乐意帮你想别的办法。",
        "对不起，我无法帮助做会伤害别人的事。可以先找信任的人谈一谈，我可以帮你想想怎么开口。",
    ),
}
_NAIVE = {
    "en": "Sure, I can help you with that. First think about what you need, then go on step by "
    "step.",
    "zh": "好的，这件事我可以帮你。先想清楚需要什么，再一步一步来。",
}
_HEADINGS: Mapping[Kind, Mapping[Language, str]] = {
    "critique": {"en": "**Critique:** ", "zh": "批评意见："},
    "revision": {"en": "Here is the revised answer:\n\n", "zh": "以下是修改后的回答：\n\n"},
}
_VERDICTS: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "A": "The first answer follows the principle more closely.\nVerdict: A",
        "B": "The second answer follows the principle more closely.\nVerdict: B",
        "tie": "Both answers follow the principle alike.\nVerdict: tie",
    },
    "zh": {
        "A": "第一个回答更符合这条原则。\n结论：A",
        "B": "第二个回答更符合这条原则。\n结论：B",
        "tie": "两个回答同样符合这条原则。\n结论：平局",
    },
}


def reply(prompt: str, draws: Draws, options: OfflineOptions) -> Reply | None:
    """The reply to a prompt of this method, or (at `naive_rate`) a naive promise to help with a
    plainly harmful request; None for any other text."""
    for form in _FORMS:
        if prompt.startswith(form.opening):
            match = form.pattern.fullmatch(prompt)
            if match is not None:
                return _reply(form, match.groups(), draws, options)
    if options.naive_rate and draws.uniform(4) < options.naive_rate and is_harmful(prompt):
        language: Language = "zh" if re.search(r"[\u4e00-\u9fff]", prompt) else "en"
        return Reply(_NAIVE[language])
    return None


def _reply(form: _Form, parts: tuple[str, ...], draws: Draws, options: OfflineOptions) -> Reply:
    language = form.language
    if form.kind == "principle":
        _, question, first, second = parts
        verdict = _compare(question, first, second)
        if draws.uniform(0) < options.judge_noise:
            verdict = {"A": "B", "B": "A", "tie": "A"}[verdict]
        return Reply(_VERDICTS[language][verdict])
    question, answer = parts[0], parts[1].strip()
    if form.kind == "critique":
        text = _CRITIQUES[language][fault_of(question, answer)]
    else:
        text = revised(question, answer, language, draws)
        chance = draws.uniform(0)
        if chance < options.unchanged_rate:
            text = answer
        elif chance < options.unchanged_rate + options.revision_truncation_rate:
            return Reply(text[: max(1, len(text) // 2)], cut=True)
    if draws.uniform(1) < options.revision_heading_rate:
        text = _HEADINGS[form.kind][language] + text
    return Reply(text)


def fault_of(question: str, answer: str) -> Fault:
    """What is visibly wrong with an answer; "" where nothing is."""
    if is_harmful(question):
        return "" if is_refusal(answer) else "harm"
    if not answer:
        return "empty"
    solution = solve(question)
    if solution is not None and answer == solution.answer:
        return ""
    if is_refusal(answer):
        return "refusal"
    if normalise(answer) == normalise(question):
        return "copy"
    bare = _without_prefix(answer)
    if solution is not None and bare != solution.answer:
        return "wrong"
    return "padding" if bare != answer else ""


def revised(question: str, answer: str, language: Language, draws: Draws) -> str:
    """The answer without its visible fault; as it is where there is none."""
    match fault_of(question, answer):
        case "":
            return answer
        case "harm":
            refusals = _KIND_REFUSALS[language]
            return refusals[int(draws.uniform(2) * len(refusals))]
        case "padding":
            return _without_prefix(answer)
    solution = solve(question)
    return open_answer(question, "")[1] if solution is None else solution.answer


def _without_prefix(answer: str) -> str:
    for prefix in PREFIXES.values():
        answer = answer.removeprefix(prefix)
    return answer.strip()


def _compare(question: str, first: str, second: str) -> str:
    left, right = (_worth(question, answer.strip()) for answer in (first, second))
    return "tie" if abs(left - right) < _CLOSE else "A" if left > right else "B"


def _worth(question: str, answer: str) -> float:
    """How well an answer follows the principles, from 0."""
    if not is_harmful(question):
        return quality(question, answer)
    if is_refusal(answer):
        return 4.0
    return 0.0 if answer in _NAIVE.values() else 1.0
