"""The teacher's prompts, and that its answers are read in whatever form they come."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.curate.instances import Found, parse_input_first, parse_output_first, usable
from espalier.curate.prompting import (
    classification_prompt,
    instance_prompt,
    instruction_prompt,
    one_line,
    parse_classification,
    parse_instructions,
)
from espalier.curate.seed_tasks import Instance

WANTED = ["Write a poem about rain.", "Name three birds.", "Sort 3, 1 and 2."]


@pytest.mark.parametrize(
    "text",
    [
        " Write a poem about rain.\nTask 10: Name three birds.\nTask 11: Sort 3, 1 and 2.",
        "Task 9: Write a poem about rain.\nTask 10: Name three birds.\nTask 11: Sort 3, 1 and 2.",
        "9. Write a poem about rain.\n10. Name three birds.\n11. Sort 3, 1 and 2.",
        "9) Write a poem about rain.\n\n10) Name three birds.\n\n11) Sort 3, 1 and 2.",
        "(9) Write a poem about rain.\n(10) Name three birds.\n(11) Sort 3, 1 and 2.",
        "1. Write a poem about rain.\n2. Name three birds.\n3. Sort 3, 1 and 2.",
        "Sure! Here are some tasks:\n\n1. Write a poem about rain.\n2. Name three birds.\n"
        "3. Sort 3, 1 and 2.",
        "**Task 9:** Write a poem about rain.\n**Task 10:** Name three birds.\n"
        "**Task 11:** Sort 3, 1 and 2.",
        "**9. Write a poem about rain.**\n**10. Name three birds.**\n**11. Sort 3, 1 and 2.**",
        "### Task 9: Write a poem\nabout rain.\n### Task 10: Name three\n  birds.\n"
        "### Task 11: Sort 3, 1 and 2.",
        "```\nTask 9: Write a poem about rain.\nTask 10: Name three birds.\n"
        "Task 11: Sort 3, 1 and 2.\n```",
        "TASK 9 - Write a poem about rain.\ntask 10 - Name three birds.\n"
        "Task 11 - Sort 3, 1 and 2.",
        "- Write a poem about rain.\n- Name three birds.\n- Sort 3, 1 and 2.",
        "任务9：Write a poem about rain.\n任务10：Name three birds.\n任务11：Sort 3, 1 and 2.",
        "９．Write a poem about rain.\n１０．Name three birds.\n１１．Sort 3, 1 and 2.",
        "9、Write a poem about rain.\n10、Name three birds.\n11、Sort 3, 1 and 2.",
        "（9）Write a poem about rain.\n（10）Name three birds.\n（11）Sort 3, 1 and 2.",
        "任务九：Write a poem about rain.\n任务十：Name three birds.\n任务十一：Sort 3, 1 and 2.",
        "九、Write a poem about rain.\n十、Name three birds.\n十一、Sort 3, 1 and 2.",
        "（一）Write a poem about rain.\n（二）Name three birds.\n（三）Sort 3, 1 and 2.",
    ],
)
def test_numbering_styles(text: str) -> None:
    whole = parse_instructions(text, 9, cut=False)
    assert (whole.instructions, whole.cut) == (WANTED, None)
    cut = parse_instructions(text, 9, cut=True)
    assert cut.instructions == WANTED[:-1]
    assert cut.cut is not None and "Sort 3, 1 and 2." in cut.cut


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            " Convert 3.5 kg to pounds.\nTask 10: Is\n2.5 more than 2?",
            ["Convert 3.5 kg to pounds.", "Is 2.5 more than 2?"],
        ),
        ("9. Round\n7.5 up.\n10. Say it.", ["Round 7.5 up.", "Say it."]),
        (" Write a poem.\n2. Name a bird.", ["Write a poem.", "Name a bird."]),
        ("写诗\n任务十：说鸟", ["写诗", "说鸟"]),
        ("Sure:\n九、写诗\n十、说鸟", ["写诗", "说鸟"]),
        ("好的，二十个任务如下：\n（一）写诗\n（二）说鸟", ["写诗", "说鸟"]),
        ("一年有多少天？\n任务10：十个人分苹果", ["一年有多少天？", "十个人分苹果"]),
    ],
)
def test_numbers_inside_a_task_do_not_split_it(text: str, wanted: list[str]) -> None:
    assert parse_instructions(text, 9, cut=False).instructions == wanted


@pytest.mark.parametrize("text", ["", "\n\n", "Task 9:", "Task 9:\nTask 10:   "])
def test_nothing_to_read(text: str) -> None:
    assert parse_instructions(text, 9, cut=False).instructions == []
    assert parse_instructions(text, 9, cut=True).instructions == []


@settings(max_examples=50, deadline=None)
@given(
    st.one_of(
        st.text(max_size=80),
        st.lists(
            st.sampled_from(["Input:", "Output:", "输入：", "\n", "\n", "Example 1", "例子2", "a",
                             "**", "Class label:", "Task:", "```", " 7.5 "]), max_size=20,
        ).map("".join),
    ),
    st.booleans(),
)  # fmt: skip
def test_any_text_can_be_read(text: str, cut: bool) -> None:
    for piece in parse_instructions(text, 9, cut=cut).instructions:
        assert piece == " ".join(piece.split())
    parse_classification(text)
    for parse in (parse_input_first, parse_output_first):
        found = parse(text, cut=cut)
        kept = usable(found, 2)
        assert len(kept.instances) <= 2
        assert len(kept.instances) + len(kept.dropped) == len(found.instances) + len(found.dropped)


def test_case_is_kept_and_a_trailing_colon_is_not() -> None:
    assert one_line("  Explain what NASA\n does :") == "Explain what NASA does"
    assert one_line("翻译下面的句子：") == "翻译下面的句子"


# --- the question ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes", True), (" yes.", True), ("**Yes**", True), ("Answer: Yes", True), ("YES", True),
        ("No", False), ("no, it", False), ("Is it classification? No", False), ("是", True),
        ("是的。", True), ("否", False), ("不是", False), ("“是”", True),
        ("是分类任务吗？否", False),
        ("Ｎｏ", False), ("Not sure", None), ("Now", None), ("Maybe", None), ("", None),
        ("It depends", None), ("看情况", None),
    ],
)  # fmt: skip
def test_yes_or_no(text: str, said: bool | None) -> None:
    assert parse_classification(text) is said


# --- examples --------------------------------------------------------------------------------


def pairs(found: Found) -> list[tuple[str, str]]:
    return [(instance.input, instance.output) for instance in found.instances]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Input: rain\nOutput: wet", [("rain", "wet")]),
        ("Input: none\nOutput: wet", [("", "wet")]),
        ("Input: N/A\n\nOutput: wet", [("", "wet")]),
        ("Input: <noinput>\nOutput: wet", [("", "wet")]),
        ("Output: wet", [("", "wet")]),
        ("Sure!\n\nOutput: wet", [("", "wet")]),
        ("Sure.\nInput:\nrain\nand wind\nOutput:\nwet\nand cold",
         [("rain\nand wind", "wet\nand cold")]),
        ("**Input:** rain\n**Output:** wet", [("rain", "wet")]),
        ("INPUT: rain\nANSWER: wet", [("rain", "wet")]),
        ("```\nInput: rain\nOutput: wet\n```", [("rain", "wet")]),
        ("Output: ```python\nprint(1)\n```", [("", "```python\nprint(1)\n```")]),
        ("输入：雨\n输出：湿", [("雨", "湿")]),
        ("输入：无\n输出：湿", [("", "湿")]),
        ("输入: 无。\n输出: 湿", [("", "湿")]),
        ("输入：<无输入>\n输出：湿", [("", "湿")]),
        ("输入： 雨\n回答： 湿", [("雨", "湿")]),
        ("Input: rain\nOutput: wet\n\nInput: sun\nOutput: dry", [("rain", "wet"), ("sun", "dry")]),
        ("Input: rain\nOutput: wet\n\nTask: another\nOutput: no", [("rain", "wet")]),
        ("Input: rain\nOutput:", [("rain", "")]),
        ("Example 1\nInput: rain\nOutput: wet\nExample 2\nInput: sun\nOutput: dry",
         [("rain", "wet"), ("sun", "dry")]),
        ("**Example 1:**\n**Input:** rain\n**Output:** wet\n\n### Example 2\nOutput: dry",
         [("rain", "wet"), ("", "dry")]),
        ("Here are examples:\n例子1\n输入：雨\n输出：湿\n例子2：\n输入：晴\n输出：干",
         [("雨", "湿"), ("晴", "干")]),
        ("例子一\n输入：雨\n输出：湿\n示例二、\n输入：晴\n输出：干", [("雨", "湿"), ("晴", "干")]),
        ("Example 1\nSentence: it rains\nOutput: wet", [("Sentence: it rains", "wet")]),
        ("Sentence: it rains\nOutput: wet", [("Sentence: it rains", "wet")]),
        ("Input 1: a\nInput 2: b\nOutput: c", [("a\nInput 2: b", "c")]),
        ("Output: Question: who?\nAnswer: me", [("", "Question: who?\nAnswer: me")]),
        ("Output: See Example 1 and\nExample 1 shows it", [("", "See Example 1 and\n"
                                                            "Example 1 shows it")]),
        ("It is wet.", []),
        ("", []),
    ],
)  # fmt: skip
def test_input_first(text: str, expected: list[tuple[str, str]]) -> None:
    found = parse_input_first(text, cut=False)
    assert pairs(found) == expected
    rules = [rule for _, rule, _ in found.dropped]
    further = ["further_task"] * ("Task: another" in text)
    assert rules == (["no_output_label"] if not expected and text else further)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Class label: good\nInput: sun\nClass label: bad\nInput: mud", [("sun", "good"),
                                                                       ("mud", "bad")]),
        ("**Class label:** good\n**Input:** sun\nand sea", [("sun\nand sea", "good")]),
        ("Class label: good\nThe sun shines.", [("The sun shines.", "good")]),
        ("Class label 1: good\nInput 1: sun\nClass label 2: bad\nInput 2: mud",
         [("sun", "good"), ("mud", "bad")]),
        ("Example 1\nClass label: good\nInput: sun\nExample 2\nClass label: bad\nInput: mud",
         [("sun", "good"), ("mud", "bad")]),
        ("Class label: no", [("", "no")]),
        ("类别标签：好\n输入：晴\n类别标签：坏\n输入：泥", [("晴", "好"), ("泥", "坏")]),
        ("类别标签: 好\n输入: 晴", [("晴", "好")]),
        ("类别：好\n输入：晴\n\n任务：别的\n类别标签：x", [("晴", "好")]),
        ("Label: good\nText: sun", [("Text: sun", "good")]),
        # the other order, or the other step's labels
        ("Input: sun\nClass label: good\nInput: mud\nClass label: bad", [("sun", "good"),
                                                                      ("mud", "bad")]),
        ("Input: sun\nOutput: good", [("sun", "good")]),
        ("It is good.", []),
        ("", []),
    ],
)  # fmt: skip
def test_output_first(text: str, expected: list[tuple[str, str]]) -> None:
    found = parse_output_first(text, cut=False)
    assert pairs(found) == expected
    rules = [rule for _, rule, _ in found.dropped]
    further = ["further_task"] * ("别的" in text)
    assert rules == (["no_class_label"] if not expected and text else further)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Example 1\nInput: a\nOutput: x\nExample 2\nInput: b\nOutput: y", ["x"]),
        ("Example 1\nInput: a\nOutput: x\nExample 2\nInput: b and", ["x"]),
        ("Example 1\nInput: a\nOutput: x\n\nTask: another one\nOut", ["x"]),
        ("Output: x", []),
        ("Input: a", []),
    ],
)
def test_what_is_cut_off_goes_and_no_more(text: str, kept: list[str]) -> None:
    found = parse_input_first(text, cut=True)
    assert [instance.output for instance in found.instances] == kept
    rule = "further_task" if "another" in text else "truncated"
    assert [found for _, found, _ in found.dropped] == [rule]


def test_a_cut_list_of_labels() -> None:
    found = parse_output_first("Class label: good\nInput: a\nClass label: bad\nInput: b", cut=True)
    assert pairs(found) == [("a", "good")]
    assert [rule for _, rule, _ in found.dropped] == ["truncated"]


def test_the_order_of_rules_on_examples() -> None:
    found = Found([Instance("a", "x"), Instance("a", "x"), Instance("b", "b"), Instance("a", "z:")])
    kept = usable(found, 5)
    # The third and fourth are gone before differing outputs are looked for.
    assert pairs(kept) == [("a", "x")]
    assert [rule for _, rule, _ in kept.dropped] == ["copy", "cut_off", "repeated_instance"]


# --- prompts ---------------------------------------------------------------------------------


def test_prompts_end_where_the_teacher_goes_on() -> None:
    english = instruction_prompt(["Name  a\ncolour:", "Sort {tasks} and {next}."], "en")
    assert english == (
        "Come up with a series of tasks. Each task is one instruction that a language model can "
        "follow.\n\nTask 1: Name a colour\nTask 2: Sort {tasks} and {next}.\nTask 3:"
    )
    chinese = instruction_prompt(["说出一种颜色。"], "zh")
    assert chinese == (
        "请想出一系列任务。每个任务是一条语言模型能够完成的指令。\n\n任务1：说出一种颜色。\n任务2："
    )
    for labelled in (True, False):
        prompt = instance_prompt("Name {count} {x}.", "en", is_classification=labelled, count=5)
        assert prompt.endswith("\n\nTask: Name {count} {x}.")
        assert " 5 " in prompt.split("\n")[0]
        prompt = instance_prompt("说出一种颜色。", "zh", is_classification=labelled, count=4)
        assert prompt.endswith("\n\n任务：说出一种颜色。")
        assert "4个" in prompt.split("\n")[0]
    assert classification_prompt("Do it.", "en").endswith("\n\nTask: Do it.\nIs it classification?")
    assert classification_prompt("做。", "zh").endswith("\n\n任务：做。\n是分类任务吗？")


def test_the_examples_in_prompts_are_read_as_the_answers_are() -> None:
    for language, label in (("en", "\n\nTask: "), ("zh", "\n\n任务：")):
        for labelled in (True, False):
            prompt = instance_prompt("X", language, is_classification=labelled, count=5)  # type: ignore[arg-type]
            parse = parse_output_first if labelled else parse_input_first
            blocks = prompt.split(label)[1:-1]
            assert len(blocks) >= 4
            for block in blocks:
                answer = block.split("\n", maxsplit=1)[1]
                found = usable(parse(answer, cut=False), 5)
                assert found.instances and not found.dropped, block
