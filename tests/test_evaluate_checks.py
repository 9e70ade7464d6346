"""Verifiable checks: each with answers that keep to it and that do not, in English and Chinese."""

from __future__ import annotations

from typing import Any

import pytest
from evaluate_rows import made_set

from espalier.errors import InputError
from espalier.evaluate.check_columns import score_checks
from espalier.evaluate.checks import checks_of, loose_forms, make_check
from espalier.evaluate.config_checks import CHECKS
from espalier.evaluate.config_metrics import CheckConfig

CASES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("words", {"max": 3}, ["one two three", "三个字"], ["one two three four", "四个汉字"]),
    ("words", {"min": 2, "max": 2}, ["a b"], ["a", "a b c"]),
    ("characters", {"max": 4}, [" abcd "], ["abcde"]),
    (
        "sentences",
        {"min": 2},
        ["One. Two!", "一句。两句！", "A... B"],
        ["3.5 is one.", "一句。", "x"],
    ),
    ("lines", {"max": 2}, ["a\n\nb"], ["a\nb\nc"]),
    ("paragraphs", {"min": 2, "max": 2}, ["a\nb\n\nc"], ["a\nb"]),
    ("paragraphs", {"min": 2, "separator": "***"}, ["a ***\n b"], ["a\n\nb", "a ***"]),
    ("first_word", {"paragraph": 2, "word": "Then"}, ["a\n\nthen b"], ["a\n\nthence", "then"]),
    ("keywords", {"include": ["cat", "C++"]}, ["A Cat in C++."], ["category C++", "cat"]),
    ("keywords", {"include": ["天气", "雨"], "any": True}, ["今天天气好"], ["今天好"]),
    ("keywords", {"exclude": ["bad"]}, ["badly good"], ["so bad."]),
    ("frequency", {"text": "the", "min": 2}, ["the and The"], ["the then"]),
    ("frequency", {"text": "e", "characters": True, "max": 1}, ["the"], ["they were"]),
    ("language", {"language": "Chinese"}, ["今天的天气真不错"], ["It is a very nice day outside."]),
    ("language", {"language": "de"}, ["Das Wetter ist heute wirklich sehr schön."], ["天气很好"]),
    ("json", {}, ['{"a": 1}', "```json\n[1]\n```"], ["{a: 1}", "NaN", "Here: {}"]),
    ("json", {"keys": ["a"]}, ['{"a": null}'], ["[]", '{"b": 1}']),
    (
        "bullets",
        {"min": 2, "max": 2},
        ["- a\n- b", "1. a\n2. b", "• 甲\n• 乙"],
        ["- a", "**a**\n*b*"],
    ),
    ("highlights", {"min": 1}, ["*so*", "**so**"], ["2 * 3", "none"]),
    ("placeholders", {"min": 2}, ["[name] at [place]"], ["[name]"]),
    ("capital_words", {"max": 1}, ["ONE two", "an MZ-V8P2T0B"], ["ONE TWO"]),
    ("sections", {"marker": "Section", "min": 2}, ["Section 1\nx\nSection 2"], ["Section 1"]),
    ("title", {}, ["<<A title>>\nx", "《标题》"], ["<< >>", "<title>"]),
    ("quoted", {}, ['"all of it"', "“全部”"], ['"a" b', '"']),
    ("no_commas", {}, ["a b"], ["a, b", "甲，乙"]),
    ("two_answers", {}, ["a\n******\nb"], ["a ****** a", "a", "a ****** b ****** c"]),
    ("case", {"case": "lower"}, ["all lower 3"], ["Not"]),
    ("case", {"case": "upper"}, ["ALL UPPER"], ["ALL UPPEr", "123"]),
    ("starts_with", {"text": "Dear"}, [" dear you"], ["Oh dear"]),
    ("ends_with", {"text": "that is all."}, ['x. "That is all."'], ["that is all. Or not"]),
    ("postscript", {"text": "P.S."}, ["x\nP.S. y", "x\nP. S. y"], ["x", "x\nP.S."]),
    ("one_of", {"options": ["yes", "no"]}, ["My answer: yes"], ["yes and no", "maybe"]),
    ("regex", {"pattern": r"\d{4}", "whole": True}, ["2024"], ["in 2024"]),
]


@pytest.mark.parametrize(("name", "options", "right", "wrong"), CASES)
def test_answers_pass_or_not(
    name: str, options: dict[str, Any], right: list[str], wrong: list[str]
) -> None:
    check = make_check(name, options)
    assert [check.passes(answer) for answer in right] == [True] * len(right)
    assert [check.passes(answer) for answer in [*wrong, "", " \n"]] == [False] * (len(wrong) + 2)


def test_every_check_is_tried_and_stands_long_hostile_answers() -> None:
    assert {name for name, *_ in CASES} == set(CHECKS)
    for name, options, *_ in CASES:
        for part in ("<<", "[", "*a", "\n", " ", "- ", "。", "a b ", "【《“"):
            make_check(name, options).passes("x" + part * (100_000 // len(part)))


def test_loose_forms_leave_out_lines_and_asterisks() -> None:
    assert "b" in loose_forms("a\nb\nc") and "a\nb" in loose_forms("a\nb\nc")
    check = make_check("starts_with", {"text": "dear"})
    assert not check.passes("Sure!\n*Dear* you") and check.passes_loosely("Sure!\n*Dear* you")


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("wordz", {}, "no check 'wordz'"),
        ("words", {}, "min or max"),
        ("words", {"min": 3, "max": 2}, "below min"),
        ("words", {"least": 3}, "it has: min, max"),
        ("regex", {"pattern": "("}, "regular expression"),
        ("language", {"language": "klingon"}, "no language 'klingon'"),
        ("keywords", {"include": ["a"], "exclude": ["a"]}, "in include and in exclude"),
    ],
)
def test_wrong_options_are_named(name: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make_check(name, options)
    with pytest.raises(InputError, match="row r0"):
        checks_of(made_set([None], metas=[{"checks": [{"check": name, **options}]}]).rows[0], [])


def test_rows_of_ifeval_are_read() -> None:
    meta = {
        "instruction_id_list": [
            "length_constraints:number_words",
            "keywords:forbidden_words",
            "punctuation:no_comma",
            "combination:repeat_prompt",
        ],
        "kwargs": [
            {"num_words": 5, "relation": "less than", "language": None},
            {"forbidden_words": ["bad"]},
            {},
            {"prompt_to_repeat": "Say it"},
        ],
    }
    checks = checks_of(made_set([None], metas=[meta]).rows[0], [])
    assert [check.passes("Say it to me") for check in checks] == [True] * 4
    assert [check.passes("bad, bad, bad bad bad") for check in checks] == [False] * 4
    first = meta["instruction_id_list"][0]
    for broken in (
        {"kwargs": []},
        {"kwargs": [{}, {}, {}, {}]},
        {"instruction_id_list": [["x"]], "kwargs": [{}]},
        {"instruction_id_list": [first], "kwargs": [["x"]]},
        {"instruction_id_list": [first], "kwargs": ["[1]"]},
        {"instruction_id_list": [first], "kwargs": [{"num_words": [1], "relation": "at least"}]},
        {"instruction_id_list": [first], "kwargs": [{"num_words": 1, "relation": "about"}]},
    ):
        with pytest.raises(InputError, match="row r0"):
            checks_of(made_set([None], metas=[{**meta, **broken}]).rows[0], [])


def test_all_instructions_of_ifeval_make_a_check() -> None:
    from espalier.evaluate.ifeval import _INSTRUCTIONS, ifeval_checks

    values = {
        "keywords": ["a"], "forbidden_words": ["a"], "keyword": "a", "frequency": 1,
        "relation": "at least", "letter": "a", "let_frequency": 2, "let_relation": "less than",
        "language": "en", "num_words": 3, "num_sentences": 3, "num_paragraphs": 3,
        "nth_paragraph": 1, "first_word": "a", "num_placeholders": 1, "postscript_marker": "P.S.",
        "num_bullets": 2, "num_highlights": 1, "section_spliter": "Section", "num_sections": 2,
        "prompt_to_repeat": "a", "end_phrase": "a", "capital_frequency": 3,
        "capital_relation": "at least",
    }  # fmt: skip
    meta = {"instruction_id_list": list(_INSTRUCTIONS), "kwargs": [values] * len(_INSTRUCTIONS)}
    made = ifeval_checks(meta)
    assert len(made) == 25
    assert [make_check(name, options).name for name, options in made]


def test_columns_count_prompts_and_checks() -> None:
    rows = made_set(
        [None] * 3,
        metas=[
            {"checks": [{"check": "words", "max": 2}, {"check": "no_commas"}]},
            {},
            {"checks": '[{"check": "json", "options": {"kind": "array"}}]'},
        ],
    )
    answers = {"m": ["a, b", "anything", None], "n": ["one", None, "[]"]}
    prompt, each, loose, _ = score_checks([], rows, answers)
    assert prompt.rows == {"m": [0.0, None, None], "n": [1.0, None, 1.0]}
    assert each.rows["m"] == [0.5, None, None]
    assert each.columns["n"].value() == 1.0 and each.columns["m"].value() == 0.5
    assert each.details["m"]["checks"]["no_commas"] == {"passed": 0.0, "checks": 1}
    assert not loose.metric.tested
    common = [CheckConfig(check="words", options={"max": 1})]
    prompt, each, *_ = score_checks(common, rows, answers)
    assert prompt.rows["m"] == [0.0, 1.0, None]
    assert each.columns["m"].value() == pytest.approx(2 / 4)  # of the 3 + 1 checks with answers
    with pytest.raises(InputError, match="nothing to check"):
        score_checks([], made_set([None]), {})
