"""The Self-Instruct seed tasks in ``curate/seeds`` keep the rules that their README states."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from rapidfuzz.distance import Indel

SEEDS = Path(__file__).parents[1] / "curate" / "seeds"
LANGUAGES = ("en", "zh")
GROUPS = ("generation", "understanding", "reasoning", "dialogue", "transformation")
KEYS = ["id", "name", "group", "instruction", "instances", "is_classification"]

LEAST_TASKS = {"en": 104, "zh": 80}
LEAST_PER_GROUP = {"en": 18, "zh": 14}
LEAST_CLASSIFICATION = {"en": 16, "zh": 12}
MOST_OPENING_SHARE = 0.06
NEAR = 0.6
MOST_ANSWER_WORDS = 120
MOST_ANSWER_TOKENS_ZH = 200

TOKEN = re.compile(r"[a-z0-9]+|[\u4e00-\u9fff]")
CJK = re.compile(r"[\u4e00-\u9fff]")
SENTENCE_END = {"en": re.compile(r"[.!?](?=\s|$)"), "zh": re.compile(r"[。？！]")}
UNWANTED_EN = re.compile(
    r"\b(?:images?|graphs?|pictures?|photos?|photographs?|files?|maps?|videos?|audio|draw|draws|"
    r"drawings?|drawn|plots?|plotted|plotting|diagrams?|flowcharts?|charts?|urls?|websites?|"
    r"hyperlinks?)\b|https?:|www\.",
    re.IGNORECASE,
)
UNWANTED_ZH = re.compile(
    r"图片|图像|图表|图形|插图|图纸|示意图|流程图|文件|地图|视频|音频|录音|录像|照片|相片"
    r"|绘|画|网址|链接|网站"
)

Seed = dict[str, Any]


def read(language: str) -> list[Seed]:
    """Every seed task of one language, in the order of the file."""
    text = (SEEDS / f"{language}.jsonl").read_bytes().decode("utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text[:-1].split("\n")]


SEED_TASKS: dict[str, list[Seed]] = {language: read(language) for language in LANGUAGES}
every_language = pytest.mark.parametrize("language", LANGUAGES)


def tokens(text: str) -> list[str]:
    """Words of lowercase letters and digits, and each CJK character by itself."""
    return TOKEN.findall(text.lower())


def texts(seed: Seed) -> list[str]:
    """The instruction and every input and output of a seed task."""
    return [
        seed["instruction"],
        *(
            part
            for instance in seed["instances"]
            for part in (instance["input"], instance["output"])
        ),
    ]


@every_language
def test_lines_have_exactly_the_schema(language: str) -> None:
    lines = (SEEDS / f"{language}.jsonl").read_text(encoding="utf-8").splitlines()
    for line, seed in zip(lines, SEED_TASKS[language], strict=True):
        assert list(seed) == KEYS
        for key in ("id", "name", "group", "instruction"):
            assert isinstance(seed[key], str), seed["id"]
        assert isinstance(seed["is_classification"], bool), seed["id"]
        assert isinstance(seed["instances"], list), seed["id"]
        for instance in seed["instances"]:
            assert list(instance) == ["input", "output"], seed["id"]
            assert all(isinstance(value, str) for value in instance.values()), seed["id"]
        assert line == json.dumps(seed, ensure_ascii=False), seed["id"]


@every_language
def test_ids_and_names(language: str) -> None:
    seeds = SEED_TASKS[language]
    assert [seed["id"] for seed in seeds] == [
        f"{language}-{number:03d}" for number in range(1, len(seeds) + 1)
    ]
    names = [seed["name"] for seed in seeds]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"[a-z0-9]+(?:_[a-z0-9]+)*", name), name


@every_language
def test_counts(language: str) -> None:
    seeds = SEED_TASKS[language]
    assert len(seeds) >= LEAST_TASKS[language]
    by_group = Counter(seed["group"] for seed in seeds)
    assert set(by_group) == set(GROUPS)
    assert min(by_group.values()) >= LEAST_PER_GROUP[language]
    labelled = sum(seed["is_classification"] for seed in seeds)
    assert labelled >= LEAST_CLASSIFICATION[language]


@every_language
def test_readme_counts(language: str) -> None:
    """The table in the README agrees with the files."""
    seeds = SEED_TASKS[language]
    by_group = Counter(seed["group"] for seed in seeds)
    labelled = sum(seed["is_classification"] for seed in seeds)
    cells = [f"`{language}.jsonl`", *(str(by_group[group]) for group in GROUPS)]
    row = "| " + " | ".join([*cells, str(len(seeds)), str(labelled)]) + " |"
    assert row in (SEEDS / "README.md").read_text(encoding="utf-8")


@every_language
def test_instruction_length(language: str) -> None:
    for seed in SEED_TASKS[language]:
        text = seed["instruction"]
        assert text == text.strip(), seed["id"]
        if language == "en":
            assert 5 <= len(text.split()) <= 60, seed["id"]
        else:
            assert CJK.search(text), seed["id"]
            assert 8 <= len(text) <= 80, seed["id"]
        assert len(SENTENCE_END[language].findall(text)) <= 2, seed["id"]


@every_language
def test_instruction_opening(language: str) -> None:
    seeds = SEED_TASKS[language]
    for seed in seeds:
        text = seed["instruction"]
        assert text[0].isalnum(), seed["id"]
        assert not text.lower().startswith("write a program"), seed["id"]
        if language == "en":
            assert text[0].isascii(), seed["id"]
    # In Chinese the first character stands for the opening verb: stricter than the whole word.
    openings = Counter(tokens(seed["instruction"])[0] for seed in seeds)
    opening, count = openings.most_common(1)[0]
    assert count <= MOST_OPENING_SHARE * len(seeds), opening


@every_language
def test_nothing_a_text_model_cannot_see(language: str) -> None:
    for seed in SEED_TASKS[language]:
        for text in [seed["name"].replace("_", " "), *texts(seed)]:
            found = UNWANTED_EN.search(text) or UNWANTED_ZH.search(text)
            assert found is None, f"{seed['id']}: {found}"


@every_language
def test_instances(language: str) -> None:
    for seed in SEED_TASKS[language]:
        assert 1 <= len(seed["instances"]) <= 3, seed["id"]
        inputs = [one["input"] for one in seed["instances"] if one["input"]]
        assert len(set(inputs)) == len(inputs), seed["id"]
        for instance in seed["instances"]:
            assert instance["input"] == instance["input"].strip(), seed["id"]
            output = instance["output"]
            assert output and output == output.strip(), seed["id"]
            assert output != instance["input"], seed["id"]
            assert not output.endswith((":", "：")), seed["id"]
            assert len(output.split()) <= MOST_ANSWER_WORDS, seed["id"]
            if language == "zh":
                assert len(tokens(output)) <= MOST_ANSWER_TOKENS_ZH, seed["id"]


@every_language
def test_share_of_tasks_without_input(language: str) -> None:
    """About two tasks in five are complete in the instruction alone."""
    seeds = SEED_TASKS[language]
    alone = sum(all(not one["input"] for one in seed["instances"]) for seed in seeds)
    assert 0.3 <= alone / len(seeds) <= 0.5


@every_language
def test_classification_tasks_name_their_labels(language: str) -> None:
    for seed in SEED_TASKS[language]:
        if not seed["is_classification"]:
            continue
        labels = [one["output"] for one in seed["instances"]]
        assert 2 <= len(labels) <= 3, seed["id"]
        assert len(set(labels)) == len(labels), seed["id"]
        for label in labels:
            named = rf"\b{re.escape(label)}\b" if language == "en" else re.escape(label)
            assert re.search(named, seed["instruction"]), f"{seed['id']}: {label}"


@every_language
def test_no_two_instructions_are_near(language: str) -> None:
    """ROUGE-L F1 over tokens is the normalized indel similarity of the two token lists."""
    rows = [(seed["id"], tokens(seed["instruction"])) for seed in SEED_TASKS[language]]
    for (one, left), (other, right) in combinations(rows, 2):
        similarity = Indel.normalized_similarity(left, right)
        assert similarity < NEAR, f"{one} and {other}: {similarity:.2f}"
