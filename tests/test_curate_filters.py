"""The rules on single rows: what each takes, and what it has to leave."""

from __future__ import annotations

import io
import json

import pytest

from espalier.curate.config_filters import FilterConfig
from espalier.curate.filters import answer_rules, prompt_rules, rule_step
from espalier.curate.pipeline import Ledger
from espalier.records import Example, Message


def rule_of(row: Example, config: FilterConfig | None = None) -> str | None:
    """The rule that takes a row, None when it passes."""
    config = config or FilterConfig()
    handle = io.StringIO()
    ledger = Ledger("test", handle)
    rules = [*prompt_rules(config), *answer_rules(config)]
    kept = list(ledger.through([row], [("rules", rule_step(rules))]))
    rejects = [json.loads(line) for line in handle.getvalue().splitlines()]
    assert len(kept) + len(rejects) == 1
    return rejects[0]["rule"] if rejects else None


@pytest.mark.parametrize(
    ("prompt", "answer", "rule"),
    [
        ("Name a colour.", "Red", None),
        ("说出一种颜色。", "红色", None),
        ("Rate this app: it is great", "★★★★★", None),
        ("  ", "Red", "empty_prompt"),
        ("?!", "What do you mean?", "short_prompt"),
        ("Name a colour.", " \n", "empty_answer"),
        ("Name a colour.", "name a colour", "copy"),
        ("说出一种颜色。", "说出一种颜色", "copy"),
        ("Name a colour.", "I'm sorry, but I can't help with that.", "refusal"),
        ("说出一种颜色。", "抱歉，我无法回答这个问题。", "refusal"),
        ("List three colours.", "Here are three colours:", "cut_off"),
        ("列出三种颜色。", "三种颜色如下：", "cut_off"),
        ("Name a colour.", "Re\ufffdd", "broken_text"),
        ("Name a \x07colour.", "Red", "broken_text"),
        ("Name a colour.", "\ud83d red", "broken_text"),
        ("Write on.", "word and word and " * 40, "repetition"),
        ("接着写。", "春天来了，" * 40, "repetition"),
        ("Count to three.", "one\ttwo\nthree", None),
    ],
)
def test_rules(prompt: str, answer: str, rule: str | None) -> None:
    assert rule_of(Example.single(prompt, answer)) == rule


def test_a_row_without_answer() -> None:
    assert rule_of(Example.single("Name a colour.")) == "no_answer"


def test_a_copied_input_counts_but_an_answer_that_holds_it_does_not() -> None:
    prompt = "Fix the grammar.\n\nHe go home every single day."
    row = Example.single(prompt, "Fix the grammar", meta={"input": "He go home every single day."})
    assert rule_of(row) == "copy"
    fixed = Example.single(prompt, "He goes home.", meta={"input": "He go home every single day."})
    assert rule_of(fixed) is None


@pytest.mark.parametrize(
    ("language", "word"), [("en", "word "), ("zh", "词")], ids=["English", "Chinese"]
)
def test_lengths_count_words_of_either_script(language: str, word: str) -> None:
    config = FilterConfig(
        min_prompt_words=3, max_prompt_words=10, min_answer_words=3, max_answer_words=10,
        copies=False, repetition=None,
    )  # fmt: skip
    good = word * 5
    assert rule_of(Example.single(good, good), config) is None
    assert rule_of(Example.single(word * 2, good), config) == "short_prompt"
    assert rule_of(Example.single(word * 11, good), config) == "long_prompt"
    assert rule_of(Example.single(good, word * 2), config) == "short_answer"
    assert rule_of(Example.single(good, word * 11), config) == "long_answer"
    # Punctuation is no word: these are ten words, however long the text.
    assert rule_of(Example.single(good, word * 10 + "!" * 200), config) is None
    assert rule_of(Example.single("!" * 500 + word * 5, good), config) is None


def test_dialogues_alternate() -> None:
    def dialogue(*roles: str) -> Example:
        return Example.make(Message(role, f"turn of the {role}") for role in roles)  # type: ignore[arg-type]

    assert rule_of(dialogue("system", "user", "assistant", "user", "assistant")) is None
    assert rule_of(dialogue("user", "user", "assistant")) == "turn_order"
    assert rule_of(dialogue("assistant", "user", "assistant")) == "turn_order"
    assert rule_of(dialogue("user", "system", "assistant")) == "turn_order"
    off = FilterConfig(turn_order=False)
    assert rule_of(dialogue("user", "user", "assistant"), off) is None


def test_rules_can_be_switched_off() -> None:
    off = FilterConfig(
        refusals=False, copies=False, cut_off=False, broken_text=False, repetition=None,
        min_prompt_words=None, max_prompt_words=None, max_answer_words=None,
    )  # fmt: skip
    for answer in ("I'm sorry, but I can't help with that.", "Name a colour.", "So:", "a\x07"):
        assert rule_of(Example.single("Name a colour.", answer), off) is None
    assert rule_of(Example.single("Name a colour.", ""), off) == "empty_answer"
