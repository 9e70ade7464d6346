"""Opening verbs and their objects, as a reader would name them."""

from __future__ import annotations

import pytest

from espalier.curate.openings import opening

ENGLISH = [
    ("Write a short story about a lost dog.", "write", "story"),
    ("Could you please write me a poem about rain?", "write", "poem"),
    ("Give me a list of ten animals.", "give", "list"),
    ("Generate a creative, funny slogan for a bakery", "generate", "slogan"),
    ("I'd like you to suggest three names for my cat.", "suggest", "name"),
    ("Your task is to classify the sentences below.", "classify", "sentence"),
    ("Given the text below, identify the main idea.", "identify", "idea"),
    ("You are a travel agent. Plan a weekend trip to Rome.", "plan", "trip"),
    ("1. List five stories by Chekhov", "list", "story"),
    ("Briefly describe photosynthesis.", "describe", "photosynthesis"),
    ("How do I clean a cast-iron pan?", "clean", "pan"),
    ("Can you explain inflation to a ten-year-old?", "explain", "inflation"),
    ("What is the capital of France?", "what is", "capital"),
    ("What describes the mood best?", "what", None),
    ("Which words describe a mood?", "which", "word"),
    ("Work out the total cost of the order.", "work", "cost"),
    ("Let's solve the equation 3x = 9.", "solve", "equation"),
    ("Explain how tides work.", "explain", None),
    ("Translate into French: good morning", "translate", None),
    ("Identify the words describing a mood.", "identify", "word"),
]
CHINESE = [
    ("写一首关于春天的诗。", "写", "诗"),
    ("请你帮我写一封求职信", "写", "求职信"),
    ("请介绍一下光合作用的原理。", "介绍", "原理"),
    ("把这句话翻译成英文。", "翻译", "话"),
    ("设计一份适合初学者的健身计划", "设计", "计划"),
    ("判断这条评论的情感。", "判断", "情感"),
    ("编写一个 Python 函数，统计字数。", "编写", "函数"),
    ("如何学习英语？", "学习", "英语"),
    ("找出句中的错别字，并写出正确的字。", "找出", "错别字"),
]


@pytest.mark.parametrize(("text", "verb", "noun"), ENGLISH)
def test_english(text: str, verb: str, noun: str | None) -> None:
    assert opening(text, "en") == (verb, noun)


@pytest.mark.parametrize(("text", "verb", "noun"), CHINESE)
def test_chinese(text: str, verb: str, noun: str | None) -> None:
    assert opening(text, "zh") == (verb, noun)


@pytest.mark.parametrize(
    "text", ["", "   ", "???", "Hello", "The weather was fine.", "3.14", "\ufffd"]
)
def test_nothing_is_said_where_nothing_is_asked(text: str) -> None:
    assert opening(text, "en") is None


@pytest.mark.parametrize("text", ["", "。。。", "今天天气很好。", "“”", "🙂"])
def test_nothing_is_said_in_chinese_either(text: str) -> None:
    assert opening(text, "zh") is None
