"""The embedded pretraining text: shares, languages, no chat, nothing that is held out."""

from __future__ import annotations

import re

import pytest

from espalier.errors import UsageError
from espalier.offline.corpus import SHARES, pretraining_texts
from espalier.offline.families import solve
from espalier.offline.source import draw_prompts
from espalier.text import length, normalise

QUESTION = re.compile(r"^Question: (.*)\nAnswer: (.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return list(pretraining_texts(6000, seed=3))


def test_seeded_and_of_the_size_asked_for(texts: list[str]) -> None:
    assert len(texts) == 6000
    assert texts[:500] == list(pretraining_texts(500, seed=3))
    assert texts[:500] != list(pretraining_texts(500, seed=4))
    assert all(text.strip() for text in texts)
    assert max(length(text) for text in texts) <= 200


def test_shares(texts: list[str]) -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    # 6000 draws: 4.5 standard deviations are 0.028 at 0.4 and 0.017 at 0.1
    copying = sum("|" in text or "｜" in text for text in texts) / len(texts)
    assert abs(copying - 0.40) < 0.029
    questions = sum("Question: " in text for text in texts) / len(texts)
    assert abs(questions - 0.10) < 0.018
    chinese = sum(bool(re.search("[\u4e00-\u9fff]", text)) for text in texts) / len(texts)
    assert abs(chinese - 0.5) < 0.04


def test_copies_are_copies(texts: list[str]) -> None:
    copies = [text for text in texts if "|" in text]
    repeated = 0
    for text in copies:
        first, *rest = (part.split() for part in text.split(" | "))
        repeated += len(rest) > 2 and all(part == first for part in rest)
        assert all(set(part) <= set(first) for part in rest)
    assert 0.7 < repeated / len(copies) < 0.8


def test_answers_are_right_and_no_chat_markers(texts: list[str]) -> None:
    asked = [match for text in texts for match in QUESTION.findall(text)]
    assert len(asked) > 1000
    for prompt, answer in asked:
        solution = solve(prompt)
        assert solution is not None and solution.answer == answer
    assert not any("<|" in text for text in texts)


def test_held_out_prompts_never_appear() -> None:
    held = {normalise(example.prompt) for example in draw_prompts(3000, seed=5)}
    for text in pretraining_texts(4000, seed=6, exclude=held):
        for prompt, _ in QUESTION.findall(text):
            assert normalise(prompt) not in held
        assert normalise(text) not in held
        assert not any(normalise(line) in held for line in text.split("\n"))


def test_facts_are_taught(texts: list[str]) -> None:
    everything = "\n".join(texts)
    for fact in ("The capital of France is Paris.", "The opposite of hot is cold.", "狗 dog",
                 "“大”的反义词是小。", '{"name": "', "dog DOG"):  # fmt: skip
        assert fact in everything


def test_languages() -> None:
    english = list(pretraining_texts(300, seed=1, languages=("en",)))
    assert not any(re.search("[\u4e00-\u9fff]", text) for text in english)
    with pytest.raises(UsageError, match="no text in fr"):
        next(pretraining_texts(1, languages=("fr",)))
