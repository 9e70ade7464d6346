"""What models answer to the requests of Evol-Instruct, read tolerantly; stop words."""

from __future__ import annotations

import pytest

from espalier.curate.evolve_prompts import parse_equality, parse_rewrite
from espalier.curate.stop_words import CHINESE, ENGLISH, only_stop_words

NEW = "Name three rivers of Peru, the longest first."
NEU = "请说出秘鲁的三条河，最长的写在前面。"


@pytest.mark.parametrize(
    "reply",
    [
        NEW,
        f"  {NEW}\n\n",
        f"#Rewritten Prompt#:\n{NEW}",
        f"#Rewritten Prompt#: {NEW}",
        f"#Rewritten Prompt#\n{NEW}",
        f"**Rewritten Prompt:** {NEW}",
        f"### Rewritten Prompt\n\n{NEW}",
        f"### The Rewritten Prompt:\n{NEW}",
        f"Rewritten prompt: {NEW}",
        f"#Created Prompt#:\n\n{NEW}",
        f"[New Prompt]\n{NEW}",
        f"Here is the rewritten prompt:\n\n{NEW}",
        f"Here's a more complex version of the prompt:\n{NEW}",
        f"Sure! Here is a rewritten version: {NEW}",
        f"Certainly!\n\n{NEW}",
        f"Of course. Here's the new instruction:\n\n```\n{NEW}\n```",
        f"```text\n{NEW}\n```",
        f'"{NEW}"',
        f"“{NEW}”",
        f"**{NEW}**",
        f'Here is the rewritten prompt:\n\n"{NEW}"',
        f"#Given Prompt#:\nName rivers.\n\n#Rewritten Prompt#:\n{NEW}",
        f"#Rewritten Prompt#:\n{NEW}\n\n#Rewritten Prompt#:\n",
    ],
)
def test_english_rewrites_are_found(reply: str) -> None:
    assert parse_rewrite(reply) == NEW


@pytest.mark.parametrize(
    "reply",
    [
        NEU,
        f"#改写后的指令#：\n{NEU}",
        f"#改写后的指令#:{NEU}",
        f"**改写后的指令：** {NEU}",
        f"【改写后的指令】\n{NEU}",
        f"## 改写后的问题\n\n{NEU}",
        f"改写后的提示词：{NEU}",
        f"#新写的指令#：\n{NEU}",
        f"新指令：{NEU}",
        f"好的，以下是改写后的指令：\n\n{NEU}",
        f"下面是改写后的版本：{NEU}",
        f"当然可以！\n\n{NEU}",
        f"“{NEU}”",
        f"「{NEU}」",
        f"```\n{NEU}\n```",
        f"#给定的指令#：\n说出河流。\n\n#改写后的指令#：\n{NEU}",
    ],
)
def test_chinese_rewrites_are_found(reply: str) -> None:
    assert parse_rewrite(reply) == NEU


@pytest.mark.parametrize(
    "text",
    [
        "Here is a list of words: sea, sun. Put them in order.",
        "Sort this:\n```python\nx = [3, 1]\n```\nand explain each step.",
        '"To be or not to be": who says this, and in "Hamlet" where?',
        "Write a prompt: it should ask for a cake.",
        "**Bold** words and **more** of them",
        "Here is my question: why is the sky blue?\nAnswer in prose.",
        "这是一道题：小明有三个苹果，吃了一个，还剩几个？",
        "新年的问题有很多，请写出三个。",
        "以下数字中哪个最大：3、5、7？",
        '{"task": "Say why", "place": [7]}',
        "<p>Change this page</p>",
    ],
)
def test_a_bare_instruction_stays_as_it_is(text: str) -> None:
    assert parse_rewrite(text) == text


@pytest.mark.parametrize(
    "reply", ["", "  \n", "#Rewritten Prompt#:\n", "#改写后的指令#：", "**New Prompt:**"]
)
def test_a_heading_alone_is_no_instruction(reply: str) -> None:
    assert parse_rewrite(reply) == ""


def test_a_heading_inside_a_line_is_left_for_the_leak_rule() -> None:
    text = "Explain the tides. #Rewritten Prompt# Explain them well."
    assert parse_rewrite(text) == text


@pytest.mark.parametrize(
    ("reply", "equal"),
    [
        ("Equal", True),
        ("equal.", True),
        ("**Equal**", True),
        ("Not equal", False),
        ("NOT EQUAL", False),
        ("Not  Equal.", False),
        ("Unequal", False),
        ("They are not equal.", False),
        ("They aren't equal.", False),
        ("They aren’t really the same.", False),
        ("The two prompts are equal.", True),
        ("Verdict: Equal", True),
        ("Both ask about rivers in the same way.\n\nJudgement: Not equal", False),
        ("The second asks for more depth, so they are different.", False),
        ("There is no difference between them.", True),
        ("Yes", True),
        ("No", False),
        ("No, they differ.", False),
        ('"Equal"', True),
        ("```\nNot equal\n```", False),
        ("等同", True),
        ("等同。", True),
        ("不等同", False),
        ("“不等同”", False),
        ("两者不相同，第二条多了限制。", False),
        ("这两条指令是等同的。", True),
        ("结论：不等同", False),
        ("第二条要求更多。\n判断：不等同。", False),
        ("相等", True),
        ("不完全相同", False),
        ("没有区别", True),
        ("有所不同", False),
        ("否", False),
        ("是", True),
        ("ＥＱＵＡＬ", True),
        ("", None),
        ("Hmm.", None),
        ("我不知道", None),
    ],
)  # fmt: skip
def test_verdicts_of_equality(reply: str, equal: bool | None) -> None:
    assert parse_equality(reply) is equal


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "...",
        "?!",
        "- - -",
        "。。。",
        "……！？",
        "The.",
        "It is what it is.",
        "And so on, and so on",
        "的",
        "就是这样的吧。",
        "那么，这个呢？",
        "因为所以，如果但是。",
        "So, 这样吧",
        "“the”——的",
    ],
)
def test_stop_words_alone(text: str) -> None:
    assert only_stop_words(text)


@pytest.mark.parametrize(
    "text",
    [
        "Paris",
        "42",
        "Yes.",
        "No.",
        "The cat",
        "It is 7",
        "是的，北京",
        "不",
        "三",
        "他是王",
        "ok",
        "★★★",
        "😀",
        "x",
        "<=",
        "a + i",
        "naïve",
        "そう",
        "да",
        "Both",
        "C",
        "真",
        "没有",
    ],
)
def test_what_says_something(text: str) -> None:
    assert not only_stop_words(text)


def test_the_lists_hold_what_the_tokens_are() -> None:
    assert all(word == word.lower() and word.isascii() and word.isalpha() for word in ENGLISH)
    assert all("\u4e00" <= sign <= "\u9fff" for word in CHINESE for sign in word)
    assert not {"yes", "no", "not", "both", "none"} & ENGLISH
    assert not {"不", "没", "无", "否", "他", "她"} & CHINESE


def test_a_long_run_of_stop_characters_is_quick() -> None:
    assert only_stop_words("的是" * 20_000)
    assert not only_stop_words("的是" * 20_000 + "河")


@pytest.mark.parametrize(
    ("reply", "equal"),
    [
        ("Equal: no", False),
        ("Equal? No", False),
        ("Are they equal?\nNo, the second asks for more.", False),
        ("Equal = false", False),
        ('{"equal": false, "reason": "one more constraint"}', False),
        ("**Equal:** No", False),
        ("Equal - No, it adds a constraint", False),
        ("The same: no", False),
        ("Equality: no", False),
        ("Equal: not at all", False),
        ("Different: yes", False),
        ("Verdict: equal: no", False),
        ("Equal:\nNo", False),
        ("Are they equal or different? Different", False),
        ("相等：否", False),
        ("是否相等：否", False),
        ("是否等同：不是", False),
        ("相同吗？不", False),
        ("两者相同吗？\n不，第二个更难。", False),
        ("不同：是", False),
        ("一致性：否", False),
        ("Equal: yes", True),
        ('{"equal": true}', True),
        ("Are they equal? Yes, they ask the same.", True),
        ("Equal.\nNo new constraints were added.", True),
        ("Equal - nothing was added", True),
        ("Equal: no difference between them", True),
        ("Different: no", True),
        ("相等：是", True),
        ("是否相等：是的", True),
        ("不同：否", True),
        ("Equal", True),
    ],
)
def test_answers_to_the_question_of_equality(reply: str, equal: bool) -> None:
    assert parse_equality(reply) is equal
