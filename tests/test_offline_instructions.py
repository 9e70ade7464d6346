"""Open tasks for Self-Instruct: many, of all groups, novel to each other, and answerable."""

from __future__ import annotations

from random import Random

import pytest
from rapidfuzz.distance import LCSseq

from espalier.offline.family import Language
from espalier.offline.frame import Frame
from espalier.offline.instructions import (
    FRAMES,
    compose,
    compose_list,
    read_instruction,
    stock_answer,
    topic_of,
)
from espalier.offline.style import read_options
from espalier.text import tokens

LANGUAGES: tuple[Language, ...] = ("en", "zh")
GROUPS = {"generation", "understanding", "reasoning", "dialogue", "transformation"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_there_are_thousands_of_tasks_over_all_groups(language: Language) -> None:
    frames = [frame for frame in FRAMES if frame.language == language]
    assert {frame.group for frame in frames} == GROUPS
    assert sum(frame.combinations() for frame in frames) >= 5000
    rng = Random(7)
    distinct = {compose(language, rng) for _ in range(8000)}
    assert len(distinct) >= 5000


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_third_is_novel_until_a_few_hundred_are_kept(language: Language) -> None:
    # ROUGE-L F1 > 0.7 by another implementation of the longest common subsequence.
    rng = Random(11)
    kept: list[list[str]] = []
    asked = 0
    while len(kept) < 300:
        asked += 1
        words = tokens(compose(language, rng))
        if all(
            20 * LCSseq.similarity(words, other) <= 7 * (len(words) + len(other)) for other in kept
        ):
            kept.append(words)
    assert len(kept) / asked >= 1 / 3


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.text[:30])
def test_every_composed_task_is_read_back_and_answered(frame: Frame) -> None:
    rng = Random(frame.text)
    for _ in range(20):
        text = frame.compose(rng)
        text = text[:1].upper() + text[1:]
        task = read_instruction(text)
        assert task is not None, text
        assert task.frame is frame, text
        entry = rng.choice(frame.inputs) if frame.inputs else {}
        answer = frame.reply(dict(task.slots), entry)
        assert answer, text
        assert "{" not in answer
        assert len(answer) <= (120 if frame.language == "en" else 40), answer
        if "input" in entry:
            assert task.entry_for(entry["input"]) == entry


def test_answers_depend_on_the_slots() -> None:
    cases = {
        "Olga has 12 stamps and gives away 5. How many are left?": "7",
        "Change 3 hours into minutes.": "180 minutes",
        "Compute 25 percent of 200 in your head.": "50",
        'Translate the word "bread" into French.': "pain",
        "Write the date March 7 only with digits.": "03-07",
        'Spell "garden" with a space after each letter.': "g a r d e n",
        "please change 3 hours into minutes": "180 minutes",
        "小兰有12个邮票，送走5个，还剩多少？": "7个",
        "3小时换成分钟。": "180分钟",
        "将数字40逐位写成汉字。": "四零",
        "请将数字40逐位写成汉字": "四零",
    }
    for text, expected in cases.items():
        task = read_instruction(text)
        assert task is not None, text
        assert task.frame.reply(dict(task.slots), {}) == expected


def test_strangers_are_not_read() -> None:
    for text in ("", "Who was Napoleon?", "为什么天空是蓝色的？", "Change my mind."):
        assert read_instruction(text) is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_faults_of_a_list_come_at_their_rates(language: Language) -> None:
    options = read_options({"duplicate_rate": 0.3, "blacklist_rate": 0.2, "malformed_rate": 0.1})
    shown = "写一首关于老磨坊的歌。" if language == "zh" else "Sing of the old mill by the river."
    total = repeats = unread = 0
    for number in range(500):
        made = compose_list(language, 8, [shown], Random(f"{language}:{number}"), options)
        seen = {shown}
        for text in made:
            total += 1
            bare = text.removeprefix("Please ").removeprefix("请")
            if seen & {text, bare, bare[:1].upper() + bare[1:]}:
                repeats += 1
            elif read_instruction(text) is None:
                unread += 1
            seen.add(text)
    assert total == 4000
    # 4000 draws: 4.5 standard deviations are 130 at 0.3; the margin above is for the few faulty
    # texts and frames with few words that come twice by chance.
    assert 1070 <= repeats <= 1400
    assert 1000 <= unread <= 1330


def test_a_list_without_faults_is_all_tasks() -> None:
    options = read_options({"duplicate_rate": 0, "blacklist_rate": 0, "malformed_rate": 0})
    for language in LANGUAGES:
        made = compose_list(language, 200, ["anything"], Random(4), options)
        assert all(read_instruction(text) is not None for text in made)


def test_stock_answers_name_the_topic_and_claim_nothing() -> None:
    assert stock_answer("Who was Napoleon?", "en") == "I know little about napoleon."
    assert "天空" in stock_answer("为什么天空是蓝色的？", "zh")
    assert stock_answer("???", "en") and stock_answer("？？", "zh")
    assert topic_of("Explain the causes of the French Revolution", "en") == (
        "causes, french and revolution"
    )
