"""Ways to spoil a good answer, for preference pairs; each keeps script and style plausible.

A corruption is a function of the good answer and its surroundings that returns a worse answer,
or None where it does not apply.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from espalier.text import is_cjk, normalise

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?![\w]|\.\d)")
_CJK_NUMBER = re.compile(r"\d+")
_SEPARATORS = ("、", "，", ", ", ",", "; ", "；", "\n", " ")
PADDING = {"en": "The answer is ", "zh": "答案是"}
_STEPS = (1, -1, 2, -2, 10, -10)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a corruption may draw on: the prompt, its language, other answers of its category."""

    prompt: str
    language: str
    others: Sequence[str]


Corruption = Callable[[str, Setting, Random], str | None]


def corrupt(kind: str, answer: str, setting: Setting, rng: Random) -> str | None:
    """The answer spoiled in one way; None where that is not possible or changes nothing.

    Apart from `case`, `full_stop` and `empty`, a result that only differs in case, width, spaces
    or punctuation counts as no change.
    """
    worse = CORRUPTIONS[kind](answer, setting, rng)
    if worse is None or worse.strip() == answer.strip():
        return None
    if kind not in _SURFACE and normalise(worse) == normalise(answer):
        return None
    return worse


def _other_answer(answer: str, setting: Setting, rng: Random) -> str | None:
    if not setting.others:
        return None
    return rng.choice(setting.others)


def _words(text: str) -> tuple[list[str], str]:
    """The words of a text and what joins them: Chinese by character, the rest by spaces."""
    if " " not in text and any(is_cjk(char) for char in text):
        return list(text), ""
    return text.split(), " "


def _prompt_fragment(answer: str, setting: Setting, rng: Random) -> str | None:
    words, glue = _words(setting.prompt)
    wanted = max(1, min(len(_words(answer)[0]), len(words) - 1))
    if len(words) < 2:
        return None
    start = rng.randrange(len(words) - wanted + 1)
    fragment = glue.join(words[start : start + wanted]).strip(" \n.,:;?!，。：；？！、")
    return fragment or None


def _number(answer: str, setting: Setting, rng: Random) -> str | None:
    pattern = _CJK_NUMBER if setting.language == "zh" else _NUMBER
    found = list(pattern.finditer(answer))
    if not found:
        return None
    match = rng.choice(found)
    value = int(match.group())
    steps = [step for step in _STEPS if value < 0 or value + step >= 0]
    return answer[: match.start()] + str(value + rng.choice(steps)) + answer[match.end() :]


def _items(answer: str) -> tuple[list[str], str] | None:
    """The answer's items by its strongest separator; None when it is one item."""
    for separator in _SEPARATORS:
        items = answer.split(separator)
        if len(items) > 1 and all(item.strip() for item in items):
            return items, separator
    return None


def _on_items(change: Callable[[list[str], Setting, Random], bool]) -> Corruption:
    def corruption(answer: str, setting: Setting, rng: Random) -> str | None:
        parsed = _items(answer)
        if parsed is None:
            return None
        items, separator = parsed
        return separator.join(items) if change(items, setting, rng) else None

    return corruption


def _drop(items: list[str], setting: Setting, rng: Random) -> bool:
    items.pop(rng.randrange(len(items)))
    return True


def _double(items: list[str], setting: Setting, rng: Random) -> bool:
    place = rng.randrange(len(items))
    items.insert(place, items[place])
    return True


def _swap(items: list[str], setting: Setting, rng: Random) -> bool:
    first, second = rng.sample(range(len(items)), 2)
    items[first], items[second] = items[second], items[first]
    return True


def _replace(items: list[str], setting: Setting, rng: Random) -> bool:
    parsed = [
        _items(other) for other in rng.sample(list(setting.others), min(8, len(setting.others)))
    ]
    pool = [item for found in parsed if found for item in found[0] if item not in items]
    if not pool:
        return False
    items[rng.randrange(len(items))] = rng.choice(pool)
    return True


def _case(answer: str, setting: Setting, rng: Random) -> str | None:
    forms = {answer.lower(), answer.upper(), answer.title(), answer.swapcase()} - {answer}
    return rng.choice(sorted(forms)) if forms else None


def _extra_word(answer: str, setting: Setting, rng: Random) -> str | None:
    words, _ = _words(setting.prompt)
    words = [word for word in words if any(char.isalnum() for char in word)]
    if not words:
        return None
    spoken, glue = _words(answer)
    spoken.insert(rng.randint(0, len(spoken)), rng.choice(words).strip(".,:;?!，。：；？！"))
    return glue.join(spoken)


def _full_stop(answer: str, setting: Setting, rng: Random) -> str | None:
    if answer.endswith((".", "。", "!", "！", "?", "？")):
        return None
    return answer + ("。" if setting.language == "zh" else ".")


def _truncation(answer: str, setting: Setting, rng: Random) -> str | None:
    words, glue = _words(answer)
    if len(words) > 1:
        return glue.join(words[: rng.randint(1, len(words) - 1)])
    return answer[: rng.randint(1, len(answer) - 1)] if len(answer) > 2 else None


def _padding(answer: str, setting: Setting, rng: Random) -> str | None:
    prefix = PADDING.get(setting.language, PADDING["en"])
    return None if answer.startswith(prefix.strip()) else prefix + answer


def _empty(answer: str, setting: Setting, rng: Random) -> str | None:
    return ""


CORRUPTIONS: Mapping[str, Corruption] = {
    "other_answer": _other_answer,
    "prompt_fragment": _prompt_fragment,
    "number": _number,
    "item_dropped": _on_items(_drop),
    "item_doubled": _on_items(_double),
    "item_swapped": _on_items(_swap),
    "item_replaced": _on_items(_replace),
    "case": _case,
    "extra_word": _extra_word,
    "full_stop": _full_stop,
    "truncation": _truncation,
    "padding": _padding,
    "empty": _empty,
}
_SURFACE = ("case", "full_stop", "empty")
