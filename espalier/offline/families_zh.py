"""The Chinese task families."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from espalier.offline import words_zh as words
from espalier.offline.family import Family
from espalier.offline.form import Slots

HAN = r"[\u4e00-\u9fff]"
NUMBER = r"\d{1,3}"
_LARGEST = 99


def _one(slot: str, items: Sequence[str]) -> Callable[[Random], Slots]:
    return lambda rng: {slot: rng.choice(items)}


def _lookup(slot: str, table: Mapping[str, str]) -> Callable[[Mapping[str, str]], str | None]:
    return lambda slots: table.get(slots[slot])


def _pick_list(rng: Random) -> Slots:
    return {"list": "、".join(rng.sample(words.WORDS, rng.randint(2, 6)))}


def _count(slots: Mapping[str, str]) -> str:
    return str(len(slots["list"].split("、")))


def _text_of(low: int, high: int) -> Callable[[Random], Slots]:
    return lambda rng: {"text": "".join(rng.sample(words.WORDS, rng.randint(low, high)))}


def _pick_numbers(rng: Random) -> Slots:
    return dict(zip("abc", map(str, rng.sample(range(1, _LARGEST + 1), 3)), strict=True))


def _largest(slots: Mapping[str, str]) -> str:
    return max((slots["a"], slots["b"], slots["c"]), key=int)


def _pick_review(rng: Random) -> Slots:
    good = rng.random() < 0.5
    noun, degree = rng.choice(words.REVIEWED), rng.choice(words.DEGREES)
    adjective = rng.choice(words.GOOD if good else words.BAD)
    verb = rng.choice(words.LIKED if good else words.DISLIKED)
    person = rng.choice(words.NAMES)
    return {
        "review": rng.choice(
            (
                f"这里的{noun}{degree}{adjective}",
                f"我{verb}这里的{noun}",
                f"{person}{verb}这里的{noun}",
                f"今天的{noun}{degree}{adjective}",
            )
        )
    }


def _mood(slots: Mapping[str, str]) -> str | None:
    text = slots["review"]
    for name in words.NAMES:
        text = text.replace(name, "")
    good = any(word in text for word in (*words.GOOD, *words.LIKED))
    bad = any(word in text for word in (*words.BAD, *words.DISLIKED))
    if good == bad:
        return None
    return "正面" if good else "负面"


def _pick_repeat(rng: Random) -> Slots:
    return {"word": rng.choice(words.WORDS), "n": str(rng.randint(2, 5))}


def _repeated(slots: Mapping[str, str]) -> str:
    return slots["word"] * int(slots["n"])


def _pick_measured(rng: Random) -> Slots:
    adjective = rng.choice(("", *words.COLORS, "大", "小", "新", "旧"))
    return {"noun": adjective + rng.choice(tuple(words.MEASURES))}


def _measure(slots: Mapping[str, str]) -> str | None:
    return words.MEASURES.get(slots["noun"][-1])


def _pick_greeting(rng: Random) -> Slots:
    return {"name": rng.choice(words.NAMES), "greeting": rng.choice(words.GREETINGS)}


def _greeting(slots: Mapping[str, str]) -> str:
    return f"{slots['greeting']}，{slots['name']}！"


def _pick_colored(rng: Random) -> Slots:
    return {"color": rng.choice(words.COLORS), "noun": rng.choice(tuple(words.MEASURES))}


def _sentence(slots: Mapping[str, str]) -> str:
    return f"这里有{slots['color']}色的{slots['noun']}。"


_GROUPS = "动物、食物、颜色、自然"
_P = {
    "list": rf"{HAN}(?:、{HAN})*",
    "text": rf"{HAN}+",
    "word": HAN,
    "item": HAN,
    "noun": rf"{HAN}{{1,2}}",
    "color": HAN,
    "name": rf"{HAN}{{2}}",
    "review": rf"{HAN}+",
    "greeting": "|".join(words.GREETINGS),
    "n": r"[2-9]",
    "a": NUMBER,
    "b": NUMBER,
    "c": NUMBER,
}

FAMILIES_ZH: tuple[Family, ...] = (
    Family(
        "count_zh", "zh", "reasoning",
        ("数一数这里有几个词：{list}", "下面一共有几个词：{list}", "请告诉我有几个词：{list}"),
        _pick_list, _count, _P, flawed=True,
    ),
    Family(
        "max_zh", "zh", "reasoning",
        (
            "哪个数最大：{a}、{b}、{c}？",
            "写出最大的数：{a}、{b}、{c}",
            "在{a}、{b}和{c}中，最大的数是哪个？",
        ),
        _pick_numbers, _largest, _P, flawed=True,
    ),
    Family(
        "sentiment_zh", "zh", "understanding",
        (
            "这条评论是正面还是负面：{review}。",
            "请判断正面还是负面：{review}。",
            "评论说“{review}”，是正面还是负面？",
        ),
        _pick_review, _mood, _P,
    ),
    Family(
        "category_zh", "zh", "understanding",
        (
            f"请问“{{item}}”是哪一类：{_GROUPS}？",
            f"给“{{item}}”分类：{_GROUPS}。",
            f"把“{{item}}”放到一类里：{_GROUPS}。",
            f"说出“{{item}}”是哪一类：{_GROUPS}。",
        ),
        _one("item", tuple(words.CATEGORY_OF)), _lookup("item", words.CATEGORY_OF), _P,
        flawed=True,
    ),
    Family(
        "first_character_zh", "zh", "understanding",
        ("请问“{text}”的第一个字是什么？", "写出“{text}”的第一个字。", "找出第一个字：{text}"),
        _text_of(2, 5), lambda slots: slots["text"][0], _P,
    ),
    Family(
        "measure_zh", "zh", "understanding",
        (
            "请问数“{noun}”用什么量词？",
            "写出“{noun}”的量词。",
            "说“一个{noun}”不对，用什么量词？",
        ),
        _pick_measured, _measure, _P, flawed=True,
    ),
    Family(
        "sentence_zh", "zh", "generation",
        (
            "用“{color}”和“{noun}”写一句话。",
            "请用“{color}”和“{noun}”造句。",
            "写一句有“{color}”和“{noun}”的话。",
        ),
        _pick_colored, _sentence, _P,
    ),
    Family(
        "greet_zh", "zh", "dialogue",
        (
            "请对{name}说{greeting}。",
            "我叫{name}，请对我说{greeting}。",
            "看到{name}，怎么说{greeting}？",
            "你和{name}说{greeting}。",
        ),
        _pick_greeting, _greeting, _P,
    ),
    Family(
        "antonym_zh", "zh", "dialogue",
        (
            "请问“{word}”的反义词是什么？",
            "写出“{word}”的反义词。",
            "什么字和“{word}”意思相反？",
            "给出“{word}”的反义词。",
        ),
        _one("word", tuple(words.ANTONYMS)), _lookup("word", words.ANTONYMS), _P, flawed=True,
    ),
    Family(
        "repeat_zh", "zh", "transformation",
        ("把“{word}”重复{n}遍。", "请写{n}遍“{word}”。", "连着说{n}遍“{word}”。"),
        _pick_repeat, _repeated, _P,
    ),
    Family(
        "reverse_zh", "zh", "transformation",
        ("把“{text}”倒过来写。", "请从后往前写：{text}", "从最后一个字写到第一个字：{text}"),
        _text_of(2, 3), lambda slots: slots["text"][::-1], _P,
    ),
    Family(
        "translate_zh", "zh", "transformation",
        (
            "把“{word}”翻译成英语。",
            "请问“{word}”用英语怎么说？",
            "写出“{word}”的英语词。",
            "英语里“{word}”是哪个词？",
        ),
        _one("word", tuple(words.ENGLISH)), _lookup("word", words.ENGLISH), _P, flawed=True,
    ),
)  # fmt: skip
