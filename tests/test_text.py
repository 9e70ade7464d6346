"""Words, lengths, n-grams and keys, against rouge_score, unicodedata and plain loops."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier import text

ASCII = st.text(st.characters(min_codepoint=0, max_codepoint=127))
# Letters, marks and signs of many scripts, so that examples are not all exotic.
MIXED = st.text(
    st.one_of(
        st.sampled_from("aZ9 _-.,，。！？、「」\n\t’“"),
        st.sampled_from("中文夏天狗㐀𠮷𰻞日本ひらがなカタカナーไทยกำ가각나العَرَبहिन्दीéß"),
        st.characters(exclude_categories=("Cs",)),
    ),
    max_size=60,
)


@given(ASCII)
@settings(max_examples=300, deadline=None)
def test_ascii_tokens_are_those_of_rouge_score(value: str) -> None:
    tokenizers = pytest.importorskip("rouge_score.tokenizers")
    assert text.tokens(value) == tokenizers.DefaultTokenizer(use_stemmer=False).tokenize(value)


@given(MIXED)
@settings(max_examples=400, deadline=None)
def test_tokens_hold_every_letter_and_digit_once_in_order(value: str) -> None:
    folded = unicodedata.normalize("NFKC", value).lower()
    letters = [c for c in folded if unicodedata.category(c)[0] in "LN"]
    held = [c for c in "".join(text.tokens(value)) if unicodedata.category(c)[0] in "LN"]
    assert held == letters


@given(MIXED)
@settings(max_examples=200, deadline=None)
def test_no_token_begins_with_a_mark_or_holds_a_space(value: str) -> None:
    for token in text.tokens(value):
        # Radicals and Han characters younger than this Python are words too.
        assert unicodedata.category(token[0])[0] in "LN" or text.is_cjk(token[0])
        assert not any(c.isspace() for c in token)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("狗狗喜欢吃西瓜。", list("狗狗喜欢吃西瓜")),
        ("用Python写3个函数", ["用", "python", "写", "3", "个", "函", "数"]),
        ("ＡＢＣ１２", ["abc12"]),
        ("ｶﾞｷﾞ", ["ガ", "ギ"]),
        ("𠮷野家 㐀 𰻞", ["𠮷", "野", "家", "㐀", "𰻞"]),
        ("ひらがな カタカナー", list("ひらがなカタカナー")),
        ("한국어 문장입니다", ["한국어", "문장입니다"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("हिन्दी में लिखो", ["हिन्दी", "में", "लिखो"]),
        ("Café naïve Straße", ["café", "naïve", "straße"]),
        ("cafe\u0301", ["café"]),
        ("don’t stop", ["don", "t", "stop"]),
        ("Привет, мир!", ["привет", "мир"]),
        ("，。！？", []),
        ("", []),
    ],
)
def test_tokens_of_scripts(value: str, expected: list[str]) -> None:
    assert text.tokens(value) == expected
    assert text.length(value) == len(expected)


def test_language_of_scripts() -> None:
    cases = {
        "Write a poem about summer.": "en",
        "请写一首关于夏天的诗。": "zh",
        "用 Python 写一个排序函数，并解释它的复杂度": "zh",
        "夏についての詩を書いてください": "ja",
        "여름에 대한 시를 쓰세요": "ko",
        "เขียนบทกวีเกี่ยวกับฤดูร้อน": "th",
        "Напиши стихотворение о лете": "other",
        "اكتب قصيدة عن الصيف": "other",
        # A few Greek letters are no Greek text: words are counted, as in Latin.
        "The Framework Law (Ανώτατα Εκπαιδευτικά Ιδρύματα) says so": "en",
        "12 + 30 = ?": "other",
        "": "other",
        # One kana in a long Chinese text is a quotation, not a language.
        "日语里的の是什么意思？请用中文详细说明它的各种用法和例句": "zh",
    }
    assert {value: text.language(value) for value in cases} == cases


@given(ASCII)
@settings(max_examples=100, deadline=None)
def test_ascii_language_is_english_exactly_when_it_has_letters(value: str) -> None:
    assert text.language(value) == ("en" if any(c.isalpha() for c in value) else "other")


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(1, 5))
def test_ngrams_are_all_windows(items: list[str], n: int) -> None:
    assert text.ngrams(items, n) == list(zip(*(items[i:] for i in range(n)), strict=False))


@given(MIXED, st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_shingles_stand_for_distinct_ngrams(value: str, n: int) -> None:
    words = text.tokens(value)
    expected = set(text.ngrams(words, n)) or ({tuple(words)} if words else set())
    assert len(text.shingles(value, n)) == len(expected)


def test_shingles_are_equal_in_every_process() -> None:
    value = "在夏天 the dogs like to eat 西瓜 and ice"
    code = (
        "import json; from espalier.text import shingles; "
        f"print(json.dumps(sorted(shingles({value!r}))))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert json.loads(runs[0]) == sorted(text.shingles(value))
    assert all(0 <= shingle < 2**64 for shingle in text.shingles(value))


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        ("Hello,  World!", "hello world", True),
        ("你好，世界！", "你好 世界", True),
        ("ＡＢＣ", "abc", True),
        ("What is 12 + 3?", "What is 12 - 3?", False),
        ("3.5", "35", False),
        ("C#", "C", False),
        ("Straße", "STRASSE", True),
        ("?", "!", False),
    ],
)
def test_normalise(first: str, second: str, equal: bool) -> None:
    assert (text.normalise(first) == text.normalise(second)) is equal


@given(MIXED)
@settings(max_examples=150, deadline=None)
def test_normalise_twice_is_once(value: str) -> None:
    once = text.normalise(value)
    # Case folding and NFKC are not quite closed under each other (some Greek and ligatures).
    if unicodedata.normalize("NFKC", once).casefold() == once:
        assert text.normalise(once) == once


def test_is_cjk() -> None:
    assert all(text.is_cjk(char) for char in "中㐀𠮷𰻞かカー々ก")
    assert not any(text.is_cjk(char) for char in "aé1，。가ع ")
