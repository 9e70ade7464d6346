"""The text that the tiny base model is trained on: synthetic, English and Chinese, no chat.

What it holds, by `SHARES`:

- copying (40 %): mostly two to five words said over and over, which is where a small model learns
  to look back (one repeat of a random list teaches it in 400 steps next to nothing: half of its
  tokens are noise); the rest is one word again, a list backwards, its first and last word;
- facts (22 %): capitals, opposites, plurals, categories, measure words, the Chinese-English word
  list, capital letters, first letters;
- numbers (9 %): counting up, word lists with their length, which of some numbers is largest;
- sentences (12 %): reviews with their mood, greetings, likes, small descriptions;
- JSON (7 %): a sentence about a person and the same as an object;
- questions (10 %): two to four tasks as "Question: …" and "Answer: …" lines without any chat
  markers, so that a few-shot prompt makes sense to the base model.

Prompts that are held out never appear: `exclude` removes them from the questions, and the other
kinds hold no prompt at all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from random import Random

from espalier.errors import UsageError
from espalier.offline import words_en as en
from espalier.offline import words_zh as zh
from espalier.offline.families import FAMILIES
from espalier.offline.family import Language
from espalier.text import normalise

SHARES = {
    "copying": 0.40,
    "facts": 0.22,
    "numbers": 0.09,
    "sentences": 0.12,
    "json": 0.07,
    "questions": 0.10,
}
"""How often each kind of text is made."""

_ATTEMPTS = 50

Kind = Callable[[Language, Random], str]


def pretraining_texts(
    count: int,
    seed: int = 0,
    languages: Sequence[str] = ("en", "zh"),
    *,
    exclude: Collection[str] = (),
) -> Iterator[str]:
    """Yield `count` short texts of about 10 to 80 tokens each.

    Equal shares of the languages. `exclude` holds normalised prompts (`text.normalise`) that
    must not be asked in any text. Raises UsageError for languages other than en and zh.
    """
    known: tuple[Language, ...] = ("en", "zh")
    chosen = [language for language in known if language in languages]
    if not chosen or len(chosen) != len(set(languages)):
        raise UsageError(
            f"The embedded corpus has no text in {', '.join(languages) or 'no language'}.",
            expected="en, zh or both",
        )
    rng = Random(f"{seed}:corpus")
    kinds, shares = list(SHARES), list(SHARES.values())
    for _ in range(count):
        language = rng.choice(chosen)
        kind = rng.choices(kinds, shares)[0]
        if kind == "questions":
            yield _questions(language, rng, exclude)
        else:
            yield _MAKERS[kind](language, rng)


# --- copying ---------------------------------------------------------------------------------


def _copying(language: Language, rng: Random) -> str:
    words: Sequence[str]
    if language == "zh":
        words, join, bar = zh.WORDS, rng.choice(("", "", "", "、")), "｜"
    else:
        words, join, bar = en.WORDS, " ", " | "
    items = rng.sample(words, rng.randint(2, 5))
    text = join.join(items)
    match rng.randrange(12):
        case 0:
            again = join.join([items[0]] * rng.randint(2, 4))
            return f"{items[0]}{bar}{again}"
        case 1:
            return f"{text}{bar}{join.join(reversed(items))}"
        case 2:
            return f"{text}{bar}{items[0]}{bar}{items[-1]}"
        case _:
            return bar.join([text] * rng.randint(4, 8))


# --- facts -----------------------------------------------------------------------------------


def _facts(language: Language, rng: Random) -> str:
    makers = _FACTS_ZH if language == "zh" else _FACTS_EN
    join = "" if language == "zh" else " "
    maker = rng.choice(makers)
    return join.join(maker(rng) for _ in range(rng.randint(2, 4)))


def _capital(rng: Random) -> str:
    country, city = rng.choice(list(en.CAPITALS.items()))
    return rng.choice(
        (f"The capital of {country} is {city}.", f"{city} is the capital city of {country}.")
    )


def _opposite(rng: Random) -> str:
    word, other = rng.choice(list(en.ANTONYMS.items()))
    return rng.choice((f"The opposite of {word} is {other}.", f"Not {word} but {other}."))


def _plural(rng: Random) -> str:
    noun, plural = rng.choice(list(en.PLURALS.items()))
    return rng.choice((f"One {noun}, two {plural}.", f"The plural of {noun} is {plural}."))


def _category(rng: Random) -> str:
    item, group = rng.choice(list(en.CATEGORY_OF.items()))
    members = rng.sample(en.CATEGORIES[group], 3)
    return rng.choice((f"The group of {item} is {group}.", f"{group}: {' '.join(members)}."))


def _upper(rng: Random) -> str:
    word = rng.choice(en.SHORT_WORDS)
    return f"{word} {word.upper()}"


def _letter(rng: Random) -> str:
    word = rng.choice(en.WORDS)
    return f"{word} starts with the letter {word[0]}."


def _opposite_zh(rng: Random) -> str:
    word, other = rng.choice(list(zh.ANTONYMS.items()))
    return rng.choice((f"“{word}”的反义词是{other}。", f"不{word}就是{other}。"))


def _category_zh(rng: Random) -> str:
    item, group = rng.choice(list(zh.CATEGORY_OF.items()))
    members = rng.sample(zh.CATEGORIES[group], 3)
    return rng.choice((f"“{item}”是{group}。", f"{group}：{'、'.join(members)}。"))


def _measure_zh(rng: Random) -> str:
    noun, measure = rng.choice(list(zh.MEASURES.items()))
    color = rng.choice(zh.COLORS)
    return rng.choice((f"一{measure}{noun}。", f"三{measure}{color}{noun}。"))


def _english_zh(rng: Random) -> str:
    word, english = rng.choice(list(zh.ENGLISH.items()))
    return rng.choice((f"“{word}”的英语是 {english}。", f"{word} {english} {word} {english}。"))


_FACTS_EN = (_capital, _opposite, _plural, _category, _upper, _letter)
_FACTS_ZH = (_opposite_zh, _category_zh, _measure_zh, _english_zh, _english_zh)


# --- numbers ---------------------------------------------------------------------------------


def _numbers(language: Language, rng: Random) -> str:
    match rng.randrange(4):
        case 0:
            start = rng.randint(1, 60)
            join = "、" if language == "zh" else " "
            return join.join(str(start + step) for step in range(rng.randint(4, 9)))
        case 1:
            a, b, c = rng.sample(range(1, 100), 3)
            if language == "zh":
                return f"{a}、{b}、{c}中，最大的数是{max(a, b, c)}。"
            return f"The largest of {a}, {b} and {c} is {max(a, b, c)}."
        case 2 if language == "en":
            a, b = rng.randint(1, 20), rng.randint(1, 20)
            return f"{a} plus {b} is {a + b}. The sum of {b} and {a} is {a + b}."
        case _:
            return "\n".join(_counted(language, rng) for _ in range(2))


def _counted(language: Language, rng: Random) -> str:
    count = rng.randint(1, 6)
    if language == "zh":
        return f"{count}个词：{'、'.join(rng.sample(zh.WORDS, count))}"
    noun = "word" if count == 1 else "words"
    return f"{count} {noun}: {' '.join(rng.sample(en.WORDS, count))}"


# --- sentences -------------------------------------------------------------------------------


def _sentences(language: Language, rng: Random) -> str:
    makers = _SENTENCES_ZH if language == "zh" else _SENTENCES_EN
    join = "" if language == "zh" else " "
    return join.join(rng.choice(makers)(rng) for _ in range(rng.randint(2, 3)))


def _review(rng: Random) -> str:
    good = rng.random() < 0.5
    mood = "positive" if good else "negative"
    adjective, noun = rng.choice(en.GOOD if good else en.BAD), rng.choice(en.REVIEWED)
    verb = "love" if good else "hate"
    return rng.choice(
        (
            f"A {mood} review: The {noun} was {rng.choice(en.DEGREES)} {adjective}.",
            f"A {mood} review: I {verb} this {noun}.",
            f"The {noun} was {adjective}, so the mood is {mood}.",
        )
    )


def _greeting(rng: Random) -> str:
    return f"{rng.choice(en.GREETINGS).capitalize()}, {rng.choice(en.NAMES)}!"


def _taste(rng: Random) -> str:
    x, y = rng.sample(en.NAMES, 2)
    a, b = rng.sample((*en.FOODS, *en.COLORS), 2)
    verb = rng.choice(("likes", "wants", "has"))
    return f"{x} {verb} {a} and {y} {verb} {b}. So {x} {verb} {a}."


def _seen(rng: Random) -> str:
    look, noun = rng.choice(en.LOOKS), rng.choice(en.COUNTABLE)
    return f"I see {'an' if look[0] in 'aeiou' else 'a'} {look} {noun}."


def _review_zh(rng: Random) -> str:
    good = rng.random() < 0.5
    mood = "正面" if good else "负面"
    noun = rng.choice(zh.REVIEWED)
    adjective = rng.choice(zh.GOOD if good else zh.BAD)
    verb = rng.choice(zh.LIKED if good else zh.DISLIKED)
    return rng.choice(
        (
            f"{mood}评论：这里的{noun}{rng.choice(zh.DEGREES)}{adjective}。",
            f"{mood}评论：我{verb}这里的{noun}。",
        )
    )


def _greeting_zh(rng: Random) -> str:
    return f"{rng.choice(zh.GREETINGS)}，{rng.choice(zh.NAMES)}！"


def _seen_zh(rng: Random) -> str:
    return f"这里有{rng.choice(zh.COLORS)}色的{rng.choice(list(zh.MEASURES))}。"


_SENTENCES_EN = (_review, _greeting, _taste, _seen)
_SENTENCES_ZH = (_review_zh, _greeting_zh, _seen_zh)


# --- JSON and questions ----------------------------------------------------------------------


def _json(language: Language, rng: Random) -> str:
    name, age = rng.choice(en.NAMES), rng.randint(1, 60)
    line = f'{{"name": "{name}", "age": {age}}}'
    if language == "zh":
        return f"{name}，{age}岁。JSON：{line}"
    return f"{name} is {age} years old. JSON: {line}"


def _questions(language: Language, rng: Random, exclude: Collection[str]) -> str:
    families = [family for family in FAMILIES if family.language == language]
    same = rng.choice(families)
    parts: list[str] = []
    wanted = rng.randint(2, 4)
    for _ in range(_ATTEMPTS):
        if len(parts) == wanted:
            break
        family = same if rng.random() < 0.5 else rng.choice(families)
        prompt, answer = family.draw(rng)
        if normalise(prompt) not in exclude:
            parts.append(f"Question: {prompt}\nAnswer: {answer}\n")
    return "\n".join(parts)


_MAKERS: dict[str, Kind] = {
    "copying": _copying,
    "facts": _facts,
    "numbers": _numbers,
    "sentences": _sentences,
    "json": _json,
}
