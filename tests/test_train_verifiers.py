"""The verifiable rules, against answers judged by hand and independent references."""

from __future__ import annotations

import json
import random
import re
from fractions import Fraction
from typing import Any

import pytest
from pydantic import ValidationError

from espalier.errors import InputError, UsageError
from espalier.records import Example
from espalier.train.config_rewards import RULES, RewardTerm
from espalier.train.verifiers import check_references, last_number, make_verifier, needs_reference


def score(
    rule: str,
    answer: str,
    reference: str | None = None,
    prompt: str = "What is it?",
    meta: dict[str, Any] | None = None,
    **options: Any,
) -> float:
    example = Example.single(prompt, reference, meta=meta)
    return make_verifier(rule, options)(example, answer)


def test_every_rule_takes_its_defaults_or_names_what_it_needs_and_is_0_without_an_answer() -> None:
    needed = {"regex": {"pattern": "x?"}, "language_match": {"language": "en"}}
    for rule in RULES:
        for empty in ("", " \n "):
            assert score(rule, empty, "12", **needed.get(rule, {})) == 0.0


@pytest.mark.parametrize(
    ("answer", "reference", "match", "expected"),
    [
        ("Paris", "Paris", "exact", 1),
        (" Paris\n", "Paris", "exact", 1),
        ("paris.", "Paris", "exact", 0),
        ("paris.", "Paris", "normalised", 1),
        ("答案，是巴黎。", "答案是巴黎", "exact", 0),
        ("ＡＢＣ", "abc", "normalised", 1),
        ("-3", "3", "normalised", 0),
        ("3.5", "35", "normalised", 0),
        ("Paris, France", "Paris", "normalised", 0),
    ],
)
def test_exact_match(answer: str, reference: str, match: str, expected: float) -> None:
    assert score("exact_match", answer, reference, match=match) == expected


def test_the_reference_of_the_meta_goes_before_the_answer_of_the_row() -> None:
    assert score("exact_match", "b", "a", meta={"reference": "b"}) == 1.0


@pytest.mark.parametrize(
    ("answer", "texts", "options", "expected"),
    [
        ("it is 12.", ["12"], {}, 1),
        ("it is 123", ["12"], {}, 0),
        ("it is 123", ["12"], {"whole_words": False}, 1),
        ("A Black cat", ["black CAT"], {}, 1),
        ("A Black cat", ["black CAT"], {"ignore_case": False}, 0),
        ("Category of a cat", ["Cat"], {"ignore_case": False}, 0),
        ("a cat and a dog", ["cat", "cow"], {}, 1),
        ("a cat and a dog", ["cat", "cow"], {"all": True}, 0),
        ("a cat and a dog", ["cat", "dog"], {"all": True}, 1),
        ("dog black cat", ["cat black"], {}, 0),
        ("他住在北京市。", ["北京"], {}, 1),
        ("京北", ["北京"], {}, 0),
        ("共１２个", ["12"], {}, 1),
        ("x → y", ["→"], {}, 1),
    ],
)
def test_contains(answer: str, texts: list[str], options: dict[str, Any], expected: float) -> None:
    assert score("contains", answer, texts=texts, **options) == expected


def test_contains_takes_the_reference_where_no_text_is_given() -> None:
    assert score("contains", "The answer is Rome.", "Rome") == 1.0
    assert score("contains", "The answer is Romeo.", "Rome") == 0.0
    assert needs_reference("contains", {}) and not needs_reference("contains", {"texts": ["x"]})


def test_regex() -> None:
    assert score("regex", "code AB-12", pattern=r"[A-Z]{2}-\d+") == 1.0
    assert score("regex", "code AB-12", pattern=r"[A-Z]{2}-\d+", whole=True) == 0.0
    assert score("regex", "AB-12", pattern=r"[A-Z]{2}-\d+", whole=True) == 1.0
    assert score("regex", "ab-12", pattern=r"[A-Z]{2}-\d+", ignore_case=True) == 1.0
    assert score("regex", "答案：甲", pattern="答案：[甲乙]") == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so 3 + 4 = 7", 7),
        ("the total is $1,234.50.", Fraction("1234.5")),
        ("lists 1,2,3", 3),
        ("it is -3", -3),
        ("答案是-3", -3),
        ("it is \u22123", -3),
        ("10-3", 3),
        ("5 - 3", 3),
        ("on 2024-05-03", 3),
        ("on 5/3/2024", 2024),
        ("3/4", Fraction(3, 4)),
        ("about 1.5e3 units", 1500),
        ("50%", 50),
        (".5", Fraction(1, 2)),
        ("共有１２个", 12),
        ("答案是12。", 12),
        ("#### 42", 42),
        ("Room 12B", 12),
        ("三百二十", 320),
        ("一百零五", 105),
        ("十二", 12),
        ("二十", 20),
        ("两万三千", 23000),
        ("三亿五千万", 350000000),
        ("二〇二四", 2024),
        ("负一点五", Fraction(-3, 2)),
        ("一共有3个", 3),
        ("none", None),
        ("", None),
        ("9" * 5000, None),
    ],
)
def test_last_number(text: str, expected: Fraction | int | None) -> None:
    assert last_number(text) == expected


def _in_chinese(number: int) -> str:
    """A number below 10⁸ in Chinese, written group by group from the grammar."""

    def group(value: int) -> str:
        out = ""
        for size, unit in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
            digit, value = divmod(value, size)
            if digit:
                out += "零一二三四五六七八九"[digit] + unit
            elif out and not out.endswith("零") and value:
                out += "零"
        return out

    high, low = divmod(number, 10000)
    joint = "零" if high and low and low < 1000 else ""
    return (group(high) + "万" if high else "") + joint + group(low) if number else "零"


def test_chinese_numerals_are_read_as_they_are_written() -> None:
    rng = random.Random(1)
    numbers = [*range(0, 130), *(rng.randrange(10 ** rng.randint(3, 8)) for _ in range(500))]
    for number in numbers:
        assert last_number(f"答案是{_in_chinese(number)}。") == number, _in_chinese(number)


def test_western_numbers_are_read_as_they_are_printed() -> None:
    rng = random.Random(2)
    for _ in range(500):
        value = rng.randint(-(10**9), 10**9)
        decimals = rng.choice(["", f".{rng.randint(0, 999):03}"])
        text = f"{value:,}{decimals}" if rng.random() < 0.5 else f"{value}{decimals}"
        assert last_number(f"first 7, then {text}") == Fraction(text.replace(",", ""))


def test_number_match() -> None:
    assert score("number_match", "I think 7, no, 8", "The answer is 8.0") == 1.0
    assert score("number_match", "8 or 7", "8") == 0.0
    assert score("number_match", "no idea", "8") == 0.0
    assert score("number_match", "0.3333", "1/3", tolerance=1e-3) == 1.0
    assert score("number_match", "0.3333", "1/3") == 0.0
    assert score("number_match", "1049", "1000", tolerance=0.05, relative=True) == 1.0
    assert score("number_match", "1051", "1000", tolerance=0.05, relative=True) == 0.0
    assert score("number_match", "答案是十二", "12") == 1.0


@pytest.mark.parametrize(
    ("answer", "options", "expected"),
    [
        ('{"a": 1}', {}, 1),
        ("[1, 2]", {}, 1),
        ("12", {}, 1),
        ("12", {"kind": "object"}, 0),
        ('{"a": 1}', {"kind": "array"}, 0),
        ('{"a": 1}', {"keys": ["a"]}, 1),
        ('{"a": 1}', {"keys": ["a", "b"]}, 0),
        ('```json\n{"a": "甲"}\n```', {}, 1),
        ('```json\n{"a": 1}\n```', {"fenced": False}, 0),
        ('Here: {"a": 1}', {}, 0),
        ('{"a": NaN}', {}, 0),
        ("{'a': 1}", {}, 0),
        ("[" * 100_000, {}, 0),
    ],
)
def test_json_valid(answer: str, options: dict[str, Any], expected: float) -> None:
    assert score("json_valid", answer, **options) == expected


def test_json_valid_agrees_with_the_library_on_random_texts() -> None:
    rng = random.Random(3)
    for _ in range(500):
        value = {"k": [rng.random(), "é甲", None, True]}
        text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
        if rng.random() < 0.5:
            place = rng.randrange(len(text))
            text = text[:place] + text[place + 1 :]
        try:
            json.loads(text)
            valid = True
        except ValueError:
            valid = False
        assert score("json_valid", text) == valid


def test_length_band() -> None:
    for words, expected in ((1, 0), (2, 1), (4, 1), (5, 0)):
        assert score("length", "word " * words, min=2, max=4) == expected
    for words, expected in ((4, 1), (5, 0.75), (6, 0.5), (8, 0), (9, 0)):
        assert score("length", "word " * words, max=4, slope=4) == expected
    assert score("length", "四个汉字", min=4, max=4) == 1.0
    assert score("length", "four", min=4, max=4, unit="characters") == 1.0


@pytest.mark.parametrize(
    ("prompt", "answer", "expected"),
    [
        ("Write a poem about the sea and the sky.", "The sea is wide and the sky is high.", 1),
        ("Write a poem about the sea and the sky.", "大海很宽，天空很高。", 0),
        ("写一首关于大海的诗。", "大海很宽，天空很高。", 1),
        ("写一首关于大海的诗。", "The sea is wide and the sky is high.", 0),
        ("写一首关于大海的诗。", "42", 1),
        ("Write a poem about the sea and the sky.", "La mer est grande et le ciel est haut.", 0),
        ("say a", "b", 1),
        ("say a", "乙", 0),
        ("2 + 2 = ?", "vier", 1),
    ],
)
def test_language_match(prompt: str, answer: str, expected: float) -> None:
    assert score("language_match", answer, prompt=prompt) == expected


def test_the_language_of_the_row_or_of_the_options_goes_before_that_of_the_prompt() -> None:
    prompt, chinese = "Translate into Chinese: the sea is wide today", "今天的海很宽"
    assert score("language_match", chinese, prompt=prompt) == 0.0
    for language in ("zh", "zh-CN", "Chinese"):
        assert score("language_match", chinese, prompt=prompt, meta={"language": language}) == 1.0
    assert score("language_match", chinese, prompt=prompt, language="zh") == 1.0
    with pytest.raises(UsageError, match="no language 'xx'"):
        make_verifier("language_match", {"language": "xx"})


def test_no_repetition_is_the_share_of_new_ngrams() -> None:
    rng = random.Random(4)
    for n in (1, 2, 4):
        for _ in range(100):
            words = [rng.choice("abc") for _ in range(rng.randint(1, 12))]
            seen: set[tuple[str, ...]] = set()
            repeats = total = 0
            for i in range(len(words) - n + 1):
                gram = tuple(words[i : i + n])
                repeats += gram in seen
                seen.add(gram)
                total += 1
            expected = 1 - repeats / total if total else 1.0
            assert score("no_repetition", " ".join(words), n=n) == pytest.approx(expected)
    assert score("no_repetition", "今天天气很好" * 5) < 0.4
    assert score("no_repetition", "yes " + "!" * 16) == 0.0
    assert score("no_repetition", "yes " + "!" * 15) == 1.0


def test_rules_that_compare_are_refused_where_a_prompt_has_no_reference() -> None:
    good, bare = Example.single("1+1?", "2"), Example.single("hello")
    for rule in ("exact_match", "number_match", "contains"):
        check_references(rule, {}, [good])
        with pytest.raises(InputError, match=f"{rule} compares(.|\n)*{bare.id}"):
            check_references(rule, {}, [good, bare])
    check_references("contains", {"texts": ["x"]}, [bare])
    check_references("length", {}, [bare])
    with pytest.raises(InputError, match="finds no number"):
        check_references("number_match", {}, [Example.single("who?", "Ada")])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rule": "regex"}, r"regex: pattern: Field required"),
        ({"rule": "regex", "options": {"pattern": "("}}, "no regular expression"),
        ({"rule": "length", "options": {"min": 5, "max": 4}}, r"max \(4\) is less than min \(5\)"),
        ({"rule": "length", "options": {"most": 4}}, r"most: Extra.*\(it has: min, max, slope"),
        ({"rule": "json_valid", "options": {"kind": "array", "keys": ["a"]}}, "keys and kind"),
        ({"rule": "contains", "options": {"texts": [" "]}}, "empty text"),
        ({"rule": "exakt"}, "exact_match"),
        ({"rule": "length", "model": "reward"}, "model and rule"),
        ({}, "none of them"),
        ({"model": "reward", "options": {"min": 1}}, "options belong to a rule"),
        ({"rule": "length", "standardise": True}, "standardise: true needs a model"),
        ({"function": "m:f", "label": 1}, "label belongs to a model"),
        ({"rule": "length", "name": "a b"}, "other signs"),
    ],
)
def test_wrong_terms_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.compile(message)):
        RewardTerm.model_validate(values)


def test_terms_are_named_after_what_they_are() -> None:
    for values, name in (
        ({"model": "reward"}, "reward"),
        ({"model": "runs/x/judge/model"}, "judge"),
        ({"model": "owner/some-model"}, "some-model"),
        ({"function": "package.module:f"}, "f"),
        ({"function": "folder/mine.py:f"}, "f"),
        ({"rule": "length"}, "length"),
        ({"rule": "length", "name": "short"}, "short"),
    ):
        assert RewardTerm.model_validate(values).name == name
