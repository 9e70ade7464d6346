"""The words of the page: the same keys and places in every language, and each in its own."""

from __future__ import annotations

import re

import pytest

from espalier.reports.strings import area_words, areas, language, speaking, t, words

# What the English results bring themselves: only its translation stands in a file.
TRANSLATIONS = {"metrics"}
# Names and symbols that are the same in both languages.
_WORDLESS = re.compile(r"\{\w*\}|[\W\d_]+")


def shared_areas() -> list[str]:
    return sorted((set(areas("en")) | set(areas("zh"))) - TRANSLATIONS)


@pytest.mark.parametrize("area", shared_areas())
def test_both_languages_have_the_same_keys_and_places(area: str) -> None:
    english, chinese = area_words(area, "en"), area_words(area, "zh")
    assert chinese.keys() == english.keys()
    for key, text in english.items():
        places = re.findall(r"\{(\w+)\}", text)
        assert sorted(set(re.findall(r"\{(\w+)\}", chinese[key]))) == sorted(set(places)), key


@pytest.mark.parametrize("area", shared_areas())
def test_sentences_are_translated(area: str) -> None:
    """A text of several English words has a Chinese one of Chinese characters."""
    english, chinese = area_words(area, "en"), area_words(area, "zh")
    for key, text in english.items():
        if len(_WORDLESS.sub(" ", text).split()) >= 4:
            assert re.search(r"[\u4e00-\u9fff]", chinese[key]), key
        assert not re.search(r"[\u4e00-\u9fff]", text) or key.startswith("language."), key


def test_a_key_stands_in_one_area_only() -> None:
    for tongue in ("en", "zh"):
        keys = [key for area in areas(tongue) for key in area_words(area, tongue)]
        assert len(keys) == len(set(keys))


def test_who_speaks() -> None:
    assert language() == "en"
    with speaking("zh"):
        assert t("section.answers") == words("zh")["section.answers"] == "回答"
        with speaking("en"):
            assert t("section.answers") == "Answers"
        assert language() == "zh"
    assert language() == "en"
