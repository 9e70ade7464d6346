"""Composes new instructions and answers them: the offline teacher's part in Self-Instruct."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from random import Random

from espalier.offline.family import Language
from espalier.offline.form import Form, FormIndex, Slots
from espalier.offline.frame import Entry, Frame
from espalier.offline.frames_en import FORBIDDEN_EN, FRAMES_EN, MALFORMED_EN
from espalier.offline.frames_zh import FORBIDDEN_ZH, FRAMES_ZH, MALFORMED_ZH
from espalier.offline.style import OfflineOptions

FRAMES: tuple[Frame, ...] = (*FRAMES_EN, *FRAMES_ZH)
_FRAMES = {"en": FRAMES_EN, "zh": FRAMES_ZH}
_FORBIDDEN = {"en": FORBIDDEN_EN, "zh": FORBIDDEN_ZH}
_MALFORMED = {"en": MALFORMED_EN, "zh": MALFORMED_ZH}
_POLITE = re.compile(r"^(?:please |请(?=[^问]))", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class OpenTask:
    """An instruction of a known frame, with its slots."""

    frame: Frame
    slots: Slots

    def entry_for(self, given: str) -> Entry:
        """What is known about this input ({} for an unknown one or none)."""
        return next((e for e in self.frame.inputs if e["input"] == given.strip()), {})


@cache
def _index() -> FormIndex[Frame]:
    return FormIndex((frame.form, frame) for frame in FRAMES)


def read_instruction(text: str) -> OpenTask | None:
    """The open task that a text asks for; None where no frame fits.

    A leading "please", another case of the first letter and a missing end mark do no harm.
    """
    bare = _POLITE.sub("", text.strip())
    upper = bare[:1].upper() + bare[1:]
    for candidate in dict.fromkeys((upper, f"{upper}.", f"{upper}。", f"{upper}？", f"{upper}?")):
        for form, frame in _index().candidates(candidate):
            slots = form.read(candidate)
            if slots is not None:
                return OpenTask(frame, _as_listed(frame, slots))
    return None


def _as_listed(frame: Frame, slots: Slots) -> Slots:
    """The slots with a capital that only opens the sentence put back to small."""
    small = {name: value[:1].lower() + value[1:] for name, value in slots.items()}
    return {
        name: small[name] if small[name] in frame.options(name) else value
        for name, value in slots.items()
    }


@cache
def _weights(language: Language) -> list[float]:
    """Frames that can say more are drawn more often, by the root of what they can say."""
    most = 1000
    return [
        min(most, frame.combinations() * max(1, len(frame.inputs))) ** 0.5
        for frame in _FRAMES[language]
    ]


def compose(language: Language, rng: Random) -> str:
    """A new instruction in this language."""
    (frame,) = rng.choices(_FRAMES[language], _weights(language))
    text = frame.compose(rng)
    return text[:1].upper() + text[1:]


def compose_list(
    language: Language,
    count: int,
    shown: list[str],
    rng: Random,
    options: OfflineOptions,
) -> list[str]:
    """New instructions that continue a list, faults among them at the rates of `options`.

    A repeat takes one of the `shown` instructions or one of its own, word for word or changed
    in a trifle.
    """
    made: list[str] = []
    for _ in range(count):
        chance = rng.random()
        if chance < options.duplicate_rate and (shown or made):
            made.append(_repeat(rng.choice([*shown, *made]), language, rng))
            continue
        chance -= options.duplicate_rate
        if 0 <= chance < options.blacklist_rate:
            made.append(_filled(rng.choice(_FORBIDDEN[language]), language, rng))
            continue
        chance -= options.blacklist_rate
        if 0 <= chance < options.malformed_rate:
            made.append(_filled(rng.choice(_MALFORMED[language]), language, rng))
            continue
        made.append(compose(language, rng))
    return made


def _filled(text: str, language: Language, rng: Random) -> str:
    frame = _FRAMES[language][0]
    form = Form(text)
    return form.write({slot: rng.choice(frame.options(slot)) for slot in form.slots}, rng)


def _repeat(text: str, language: Language, rng: Random) -> str:
    if rng.random() < 0.5:
        return text
    if language == "zh":
        return f"请{text}" if not text.startswith("请") else text.rstrip("。")
    return f"Please {text[:1].lower()}{text[1:]}"


def stock_answer(question: str, language: Language) -> str:
    """A short answer to an unknown question that repeats its topic and claims nothing."""
    topic = topic_of(question, language)
    if language == "zh":
        return f"关于{topic}，我知道的不多。" if topic else "我知道的不多。"
    return f"I know little about {topic}." if topic else "I know little about this."


_COMMON = frozenset(
    [
        "a",
        "an",
        "the",
        "and",
        "or",
        "of",
        "for",
        "to",
        "in",
        "on",
        "at",
        "by",
        "with",
        "from",
        "is",
        "are",
        "was",
        "were",
        "be",
        "this",
        "that",
        "these",
        "those",
        "it",
        "as",
        "if",
        "how",
        "what",
        "which",
        "who",
        "why",
        "when",
        "where",
        "do",
        "does",
        "did",
        "can",
        "could",
        "should",
        "would",
        "will",
        "i",
        "me",
        "my",
        "you",
        "your",
        "we",
        "our",
        "they",
        "their",
        "he",
        "she",
        "his",
        "her",
        "please",
        "write",
        "give",
        "make",
        "list",
        "explain",
        "describe",
        "tell",
        "name",
        "find",
        "find",
        "following",
        "sentence",
        "text",
        "word",
        "words",
        "question",
        "answer",
        "one",
        "two",
        "three",
        "about",
        "into",
        "not",
        "no",
        "so",
        "than",
        "then",
        "there",
        "here",
        "all",
        "any",
        "some",
        "most",
        "more",
        "have",
        "has",
        "had",
        "using",
        "use",
        "between",
        "each",
        "out",
        "up",
        "create",
        "suggest",
        "generate",
        "given",
        "provide",
        "below",
        "input",
        "output",
        "example",
        "task",
    ]
)
_CJK_RUN = re.compile(r"[\u3400-\u9fff]+")
_ZH_COMMON = re.compile(
    r"请|把|用|一个|一首|一段|一句话|一篇|写|下面|以下|的|了|吗|什么|怎么|为什么|如何|给出|关于|根据|并|和|"
    r"是|在|你|我|他|句子|文本|回答|解释|说明|描述|列出|生成|进行"
)


def topic_of(question: str, language: Language) -> str:
    """The first few content words of a question ("" where there are none)."""
    if language == "zh":
        runs = [run for part in _CJK_RUN.findall(question) for run in _ZH_COMMON.split(part) if run]
        long = [run for run in runs if len(run) > 1] or runs
        return "、".join(run[:6] for run in long[:2])
    words = [w for w in re.findall(r"[A-Za-z][A-Za-z'-]+", question) if w.lower() not in _COMMON]
    chosen = list(dict.fromkeys(word.lower() for word in words))[:3]
    return (
        " and ".join((", ".join(chosen[:-1]), chosen[-1])) if len(chosen) > 1 else "".join(chosen)
    )
