"""The English task families."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from espalier.offline import words_en as words
from espalier.offline.family import Family
from espalier.offline.form import Slots

Truth = Callable[[Mapping[str, str]], str | None]

WORD = r"[a-z]+"
LIST = r"[a-z]+(?: [a-z]+)*"
NAME = r"[A-Z][a-z]+"
NUMBER = r"\d{1,3}"

_MIN_LIST, _MAX_LIST = 2, 6
_LARGEST = 99
_LARGEST_TERM = 20
_OLDEST = 60
_VOWELS = "aeiou"


def _one(slot: str, items: Sequence[str]) -> Callable[[Random], Slots]:
    return lambda rng: {slot: rng.choice(items)}


def _lookup(slot: str, table: Mapping[str, str]) -> Truth:
    return lambda slots: table.get(slots[slot])


def _list_of(low: int, high: int) -> Callable[[Random], Slots]:
    return lambda rng: {"list": " ".join(rng.sample(words.WORDS, rng.randint(low, high)))}


def _count(slots: Mapping[str, str]) -> str:
    return str(len(slots["list"].split()))


def _first_word(slots: Mapping[str, str]) -> str:
    return slots["list"].split()[0]


def _last_word(slots: Mapping[str, str]) -> str:
    return slots["list"].split()[-1]


def _reversed(slots: Mapping[str, str]) -> str:
    return " ".join(reversed(slots["list"].split()))


def _pick_repeat(rng: Random) -> Slots:
    return {"word": rng.choice(words.WORDS), "n": str(rng.randint(2, 4))}


def _repeated(slots: Mapping[str, str]) -> str:
    return " ".join([slots["word"]] * int(slots["n"]))


def _pick_numbers(rng: Random) -> Slots:
    return dict(zip("abc", map(str, rng.sample(range(1, _LARGEST + 1), 3)), strict=True))


def _largest(slots: Mapping[str, str]) -> str:
    return max((slots["a"], slots["b"], slots["c"]), key=int)


def _pick_terms(rng: Random) -> Slots:
    return {"a": str(rng.randint(1, _LARGEST_TERM)), "b": str(rng.randint(1, _LARGEST_TERM))}


def _sum(slots: Mapping[str, str]) -> str:
    return str(int(slots["a"]) + int(slots["b"]))


def _pick_range(rng: Random) -> Slots:
    start = rng.randint(1, 40)
    return {"a": str(start), "b": str(start + rng.randint(1, 4))}


def _range(slots: Mapping[str, str]) -> str | None:
    low, high = int(slots["a"]), int(slots["b"])
    if not 0 < high - low < _LARGEST_TERM:
        return None
    return " ".join(str(number) for number in range(low, high + 1))


def _pick_review(rng: Random) -> Slots:
    good = rng.random() < 0.5
    adjective = rng.choice(words.GOOD if good else words.BAD)
    noun, degree = rng.choice(words.REVIEWED), rng.choice(words.DEGREES)
    verb = "love" if good else "hate"
    return {
        "review": rng.choice(
            (
                f"The {noun} was {adjective}.",
                f"The {noun} was {degree} {adjective}.",
                f"I {verb} this {noun}.",
                f"My friends {verb} the {adjective} {noun}.",
            )
        )
    }


def _mood(slots: Mapping[str, str]) -> str | None:
    found = set(slots["review"].lower().rstrip(".!").split())
    good = bool(found & {*words.GOOD, "love"})
    bad = bool(found & {*words.BAD, "hate"})
    if good == bad:
        return None
    return "positive" if good else "negative"


def _pick_person(rng: Random) -> Slots:
    return {"name": rng.choice(words.NAMES), "age": str(rng.randint(1, _OLDEST))}


def _json(slots: Mapping[str, str]) -> str:
    return f'{{"name": "{slots["name"]}", "age": {slots["age"]}}}'


def _pick_greeting(rng: Random) -> Slots:
    return {"name": rng.choice(words.NAMES), "greeting": rng.choice(words.GREETINGS)}


def _greeting(slots: Mapping[str, str]) -> str:
    return f"{slots['greeting'].capitalize()}, {slots['name']}!"


def _pick_tastes(rng: Random) -> Slots:
    x, y = rng.sample(words.NAMES, 2)
    a, b = rng.sample((*words.FOODS, *words.COLORS), 2)
    return {"x": x, "y": y, "a": a, "b": b, "z": rng.choice((x, y))}


def _taste(slots: Mapping[str, str]) -> str | None:
    return {slots["x"]: slots["a"], slots["y"]: slots["b"]}.get(slots["z"])


def _pick_look(rng: Random) -> Slots:
    return {"look": rng.choice(words.LOOKS), "noun": rng.choice(words.COUNTABLE)}


def _sentence(slots: Mapping[str, str]) -> str:
    article = "an" if slots["look"][0] in _VOWELS else "a"
    return f"I see {article} {slots['look']} {slots['noun']}."


_GROUPS = "animal, food, color, clothes or job"
_P = {
    "list": LIST,
    "word": WORD,
    "noun": WORD,
    "look": WORD,
    "item": WORD,
    "country": NAME,
    "name": NAME,
    "x": NAME,
    "y": NAME,
    "z": NAME,
    "age": NUMBER,
    "n": r"[2-9]",
    "review": r"[A-Z][a-z ]+\.",
    "greeting": "|".join(words.GREETINGS),
}
_N = {"a": NUMBER, "b": NUMBER, "c": NUMBER}
_W = {**_P, "a": WORD, "b": WORD}

FAMILIES_EN: tuple[Family, ...] = (
    Family(
        "count_en", "en", "reasoning",
        (
            "How many words are in this list: {list}",
            "Count the words: {list}",
            "Tell me how many words you see: {list}",
        ),
        _list_of(_MIN_LIST, _MAX_LIST), _count, _P, flawed=True,
    ),
    Family(
        "max_en", "en", "reasoning",
        (
            "Which number is the largest: {a}, {b}, {c}?",
            "Give the largest of the numbers {a}, {b} and {c}.",
            "Find the largest number: {a} {b} {c}",
        ),
        _pick_numbers, _largest, _N, flawed=True,
    ),
    Family(
        "add_en", "en", "reasoning",
        ("What is {a} plus {b}?", "Add {a} and {b}.", "Find the sum of {a} and {b}."),
        _pick_terms, _sum, _N,
    ),
    Family(
        "sentiment_en", "en", "understanding",
        (
            "Is this review positive or negative? {review}",
            "Positive or negative: {review}",
            "Tell me the mood of this review, positive or negative: {review}",
        ),
        _pick_review, _mood, _P, flawed=True,
    ),
    Family(
        "category_en", "en", "understanding",
        (
            f"What kind of thing is {{item}}: {_GROUPS}?",
            f"Put {{item}} into one group: {_GROUPS}.",
            f"Which group is right for {{item}}: {_GROUPS}?",
            f"Name the group of the word {{item}}: {_GROUPS}.",
        ),
        _one("item", tuple(words.CATEGORY_OF)), _lookup("item", words.CATEGORY_OF), _P,
        flawed=True,
    ),
    Family(
        "first_word_en", "en", "understanding",
        (
            "What is the first word of this list: {list}",
            "Give the first word: {list}",
            "Which word comes first? {list}",
        ),
        _list_of(3, 5), _first_word, _P, flawed=True,
    ),
    Family(
        "last_word_en", "en", "understanding",
        (
            "What is the last word of this list: {list}",
            "Give the last word: {list}",
            "Which word comes last? {list}",
        ),
        _list_of(3, 5), _last_word, _P,
    ),
    Family(
        "first_letter_en", "en", "understanding",
        (
            "What is the first letter of {word}?",
            "Which letter does {word} start with?",
            "Give the first letter of the word {word}.",
        ),
        _one("word", words.WORDS), lambda slots: slots["word"][0], _P, flawed=True,
    ),
    Family(
        "reading_en", "en", "understanding",
        (
            "Story: {x} likes {a} and {y} likes {b}. What does {z} like?",
            "We know that {x} wants {a} and {y} wants {b}. What does {z} want?",
            "Today {x} has {a} and {y} has {b}. What does {z} have?",
        ),
        _pick_tastes, _taste, _W, flawed=True,
    ),
    Family(
        "range_en", "en", "generation",
        (
            "Count from {a} to {b}.",
            "Write the numbers from {a} to {b}.",
            "List all numbers from {a} up to {b}.",
        ),
        _pick_range, _range, _N,
    ),
    Family(
        "sentence_en", "en", "generation",
        (
            "Write a sentence with the words {look} and {noun}.",
            "Use {look} and {noun} in a sentence.",
            "Make a sentence from the words {look} {noun}.",
        ),
        _pick_look, _sentence, _P,
    ),
    Family(
        "greet_en", "en", "dialogue",
        (
            "Say {greeting} to {name}.",
            "My name is {name}. Say {greeting} to me.",
            "How do I say {greeting} to {name}?",
            "You meet {name}. Say {greeting}.",
        ),
        _pick_greeting, _greeting, _P,
    ),
    Family(
        "capital_en", "en", "dialogue",
        (
            "What is the capital of {country}?",
            "Name the capital city of {country}.",
            "Which city is the capital of {country}?",
            "Tell me the capital of {country}.",
            "I want to see the capital of {country}. Which city is it?",
        ),
        _one("country", tuple(words.CAPITALS)), _lookup("country", words.CAPITALS), _P,
        flawed=True,
    ),
    Family(
        "antonym_en", "en", "dialogue",
        (
            "What is the opposite of {word}?",
            "Give the opposite of {word}.",
            "Which word means the opposite of {word}?",
            "Name the opposite of the word {word}.",
        ),
        _one("word", tuple(words.ANTONYMS)), _lookup("word", words.ANTONYMS), _P, flawed=True,
    ),
    Family(
        "plural_en", "en", "transformation",
        (
            "What is the plural of {noun}?",
            "Write the plural of {noun}.",
            "Give the plural of the word {noun}.",
            "I have one {noun}. Now I have two what?",
        ),
        _one("noun", tuple(words.PLURALS)), _lookup("noun", words.PLURALS), _P, flawed=True,
    ),
    Family(
        "repeat_en", "en", "transformation",
        (
            "Repeat the word {word} {n} times.",
            "Write {word} {n} times.",
            "Say {word} {n} times in a row.",
        ),
        _pick_repeat, _repeated, _P,
    ),
    Family(
        "json_en", "en", "transformation",
        (
            "Write as JSON: name {name}, age {age}",
            "Make JSON with the name {name} and the age {age}.",
            "Turn this into JSON: {name} is {age} years old.",
        ),
        _pick_person, _json, _P,
    ),
    Family(
        "upper_en", "en", "transformation",
        (
            "Write {word} in capital letters.",
            "Put the word {word} in capital letters.",
            "Change {word} to capital letters.",
        ),
        _one("word", words.SHORT_WORDS), lambda slots: slots["word"].upper(), _P,
    ),
    Family(
        "reverse_en", "en", "transformation",
        (
            "Reverse the order of these words: {list}",
            "Write these words from last to first: {list}",
            "Say these words in reverse: {list}",
        ),
        _list_of(2, 3), _reversed, _P,
    ),
)  # fmt: skip
