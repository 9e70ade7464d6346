"""The task families: solved from the text alone, checked against independent small solvers."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from espalier.errors import UsageError
from espalier.offline.families import BY_NAME, FAMILIES, solve
from espalier.offline.family import Family
from espalier.offline.form import Form
from espalier.offline.source import draw, draw_prompts
from espalier.text import language, length, normalise

DRAWS = 300


def after(prompt: str) -> list[str]:
    """The words after the last colon or question mark."""
    return re.split(r"[:?]", prompt)[-1].split()


def numbers(prompt: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", prompt)]


def quoted(prompt: str) -> list[str]:
    return re.findall(r"“(.+?)”", prompt)


def han_after(prompt: str) -> str:
    found = quoted(prompt)
    return found[0] if found else prompt.rsplit("：", maxsplit=1)[-1]


def taste(prompt: str) -> str:
    pairs = dict(re.findall(r"([A-Z][a-z]+) (?:likes|wants|has) ([a-z]+)", prompt))
    asked = re.findall(r"does ([A-Z][a-z]+)", prompt)[0]
    return str(pairs[asked])


def as_json(prompt: str) -> str:
    person = re.findall(r"(?:name |: )([A-Z][a-z]+)", prompt)[-1]
    return json.dumps({"name": person, "age": numbers(prompt)[0]})


def repeated_en(prompt: str) -> str:
    word = re.findall(r"(?:word|Write|Say) ([a-z]+) \d", prompt)[0]
    return " ".join([word] * numbers(prompt)[0])


# Written without the code under test: each looks at the prompt in a way of its own.
ORACLES: dict[str, Callable[[str], str]] = {
    "count_en": lambda p: str(len(after(p))),
    "max_en": lambda p: str(max(numbers(p))),
    "add_en": lambda p: str(sum(numbers(p))),
    "first_word_en": lambda p: after(p)[0],
    "last_word_en": lambda p: after(p)[-1],
    "reading_en": taste,
    "range_en": lambda p: " ".join(map(str, range(numbers(p)[0], numbers(p)[1] + 1))),
    "json_en": as_json,
    "repeat_en": repeated_en,
    "reverse_en": lambda p: " ".join(after(p)[::-1]),
    "count_zh": lambda p: str(p.count("、") + 1),
    "max_zh": lambda p: str(max(numbers(p))),
    "first_character_zh": lambda p: han_after(p)[0],
    "reverse_zh": lambda p: "".join(reversed(han_after(p).rstrip("。"))),
    "repeat_zh": lambda p: quoted(p)[0] * numbers(p)[0],
}

KNOWN = {
    "What is the capital of France?": "Paris",
    "Name the capital city of Japan.": "Tokyo",
    "Tell me the capital of India.": "New Delhi",
    "What is the opposite of hot?": "cold",
    "Give the opposite of cold.": "hot",
    "What is the plural of mouse?": "mice",
    "Write the plural of dog.": "dogs",
    "I have one box. Now I have two what?": "boxes",
    "What is the first letter of apple?": "a",
    "Put the word dog in capital letters.": "DOG",
    "Is this review positive or negative? The soup was very rude.": "negative",
    "Positive or negative: I love this hotel.": "positive",
    "What kind of thing is horse: animal, food, color, clothes or job?": "animal",
    "Write a sentence with the words old and lamp.": "I see an old lamp.",
    "Say good night to Lucy.": "Good night, Lucy!",
    "写出“大”的反义词。": "小",
    "请问数“黑马”用什么量词？": "匹",
    "把“狗”翻译成英语。": "dog",
    "给“茶”分类：动物、食物、颜色、自然。": "食物",
    "请对小明说晚安。": "晚安，小明！",
    "请判断正面还是负面：我讨厌这里的菜。": "负面",
    "用“红”和“花”写一句话。": "这里有红色的花。",
}

STRANGERS = [
    "",
    "Hello",
    "What is the capital of Atlantis?",
    "What is the opposite of banana?",
    "Count from 9 to 3.",
    "Positive or negative: The film was long.",
    "Positive or negative: The great film was awful.",
    "写出“桌”的反义词。",
    "天空为什么是蓝色的？",
    "Story: Tom likes tea and Anna likes milk. What does Ben like?",
]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_drawn_prompt_is_solved(family: Family) -> None:
    rng = Random(f"test:{family.name}")
    oracle = ORACLES.get(family.name)
    for _ in range(DRAWS):
        prompt, answer = family.draw(rng)
        found = solve(prompt)
        assert found is not None, prompt
        assert (found.family.name, found.answer) == (family.name, answer), prompt
        assert family.solve(prompt) == answer
        if oracle is not None:
            assert answer == oracle(prompt), prompt


def test_every_phrasing_of_a_family_is_drawn() -> None:
    for family in FAMILIES:
        rng = Random(f"phrasings:{family.name}")
        drawn = [family.draw(rng)[0] for _ in range(DRAWS)]
        assert 3 <= len(family.texts) <= 5
        for form in family.forms:
            assert any(form.read(prompt) is not None for prompt in drawn), form.text


@pytest.mark.parametrize("prompt", KNOWN, ids=str)
def test_known_answers(prompt: str) -> None:
    found = solve(prompt)
    assert found is not None
    assert found.answer == KNOWN[prompt]


@pytest.mark.parametrize("prompt", STRANGERS)
def test_other_prompts_have_no_solution(prompt: str) -> None:
    assert solve(prompt) is None


def test_the_plan_of_the_families() -> None:
    english = [family for family in FAMILIES if family.language == "en"]
    assert len(FAMILIES) >= 28
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    assert 0.5 <= len(english) / len(FAMILIES) <= 0.7
    for chosen in (english, [family for family in FAMILIES if family.language == "zh"]):
        assert len({family.group for family in chosen}) == 5
        assert 0.4 <= sum(family.flawed for family in chosen) / len(chosen) <= 0.6


def test_prompts_and_answers_are_short_and_in_their_language() -> None:
    for family in FAMILIES:
        rng = Random(f"short:{family.name}")
        for _ in range(100):
            prompt, answer = family.draw(rng)
            assert language(prompt) == family.language, prompt
            assert length(prompt) <= 40, prompt
            assert 0 < len(answer) <= (60 if family.language == "en" else 20), answer
            assert answer == answer.strip()


def test_two_way_answers_are_balanced() -> None:
    for name in ("sentiment_en", "sentiment_zh"):
        rng = Random(f"balance:{name}")
        counts = Counter(BY_NAME[name].draw(rng)[1] for _ in range(2000))
        assert len(counts) == 2
        # 2000 fair draws: 4.5 standard deviations are 101
        assert all(abs(count - 1000) < 101 for count in counts.values()), counts


# --- drawing ---------------------------------------------------------------------------------


def test_drawn_prompts_are_distinct_fair_and_carry_their_truth() -> None:
    examples = draw_prompts(930, seed=3)
    assert len(examples) == 930
    assert len({normalise(example.prompt) for example in examples}) == 930
    counts = Counter(example.meta["category"] for example in examples)
    assert set(counts) == {family.name for family in FAMILIES}
    assert max(counts.values()) - min(counts.values()) <= 1
    for example in examples[:100]:
        found = solve(example.prompt)
        assert found is not None
        assert example.response is None
        assert example.reference == example.meta["reference"] == found.answer
        assert example.meta["source"] == "procedural"
        assert example.meta["category"] == found.family.name
        assert example.meta["language"] == found.family.language
        assert example.meta["group"] == found.family.group


def test_drawing_is_repeatable_and_seeded() -> None:
    first = [example.prompt for example in draw_prompts(200, seed=5)]
    assert first == [example.prompt for example in draw_prompts(200, seed=5)]
    assert first != [example.prompt for example in draw_prompts(200, seed=6)]


def test_excluded_prompts_are_never_drawn() -> None:
    held = {normalise(example.prompt) for example in draw_prompts(300, seed=1)}
    drawn = {normalise(example.prompt) for example in draw_prompts(4000, seed=1, exclude=held)}
    assert len(drawn) == 4000
    assert not held & drawn


def test_small_families_run_out_and_the_others_fill_up() -> None:
    drawn = draw(2000, families=("capital_en", "json_en"), seed=2)
    counts = Counter(example.meta["category"] for example in drawn.examples)
    # 28 countries in five phrasings
    assert drawn.ran_out == {"capital_en": counts["capital_en"]}
    assert 130 <= counts["capital_en"] <= 140
    assert len(drawn.examples) == 2000


def test_enough_prompts_for_the_demo() -> None:
    assert len(draw(15000, seed=9).examples) == 15000


def test_asking_for_too_many_says_how_many_there_are() -> None:
    with pytest.raises(UsageError, match="of the 500 prompts"):
        draw_prompts(500, families=("capital_en",), seed=1)


def test_unknown_families_and_languages_are_named() -> None:
    with pytest.raises(UsageError, match="did you mean 'capital_en'"):
        draw_prompts(5, families=("capitol_en",))
    with pytest.raises(UsageError, match="at least one of en, zh"):
        draw_prompts(5, languages=("fr",))


def test_languages_can_be_chosen() -> None:
    assert {e.meta["language"] for e in draw_prompts(60, languages=("zh",))} == {"zh"}


# --- forms -----------------------------------------------------------------------------------


def test_a_form_writes_what_it_reads() -> None:
    form = Form("[Take|Bring] the {thing} to {place}[|, please].", {"thing": r"\w+"})
    rng = Random(1)
    texts = {form.write({"thing": "cup", "place": "the big house"}, rng) for _ in range(50)}
    assert len(texts) == 4
    for text in texts:
        slots = form.read(text)
        assert slots is not None
        assert slots["thing"] == "cup"
        assert slots["place"].startswith("the big house")
    assert form.read("Take the two cups to here.") is None
    assert form.openings() == {"ta", "br"}
    assert Form("{a} and {a}").read("x and y") is None
    assert Form("{a} and {a}").openings() == {""}
