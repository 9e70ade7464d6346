"""The teacher's prompts, and that its answers are read in whatever form they come."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.curate.prompting import (
    Instance,
    instance_prompt,
    instruction_prompt,
    one_line,
    parse_instance,
    parse_instructions,
)

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
    ],
)
def test_numbering_styles(text: str) -> None:
    assert parse_instructions(text, 9, cut=False) == WANTED
    assert parse_instructions(text, 9, cut=True) == WANTED[:-1]


def test_numbers_inside_a_task_do_not_split_it() -> None:
    text = " Convert 3.5 kg to pounds.\nTask 10: Is\n2.5 more than 2?"
    assert parse_instructions(text, 9, cut=False) == [
        "Convert 3.5 kg to pounds.",
        "Is 2.5 more than 2?",
    ]


@pytest.mark.parametrize("text", ["", "\n\n", "Task 9:", "Task 9:\nTask 10:   "])
def test_nothing_to_read(text: str) -> None:
    assert parse_instructions(text, 9, cut=False) == []
    assert parse_instructions(text, 9, cut=True) == []


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=80), st.booleans())
def test_any_text_can_be_read(text: str, cut: bool) -> None:
    for piece in parse_instructions(text, 9, cut=cut):
        assert piece == " ".join(piece.split())
    parse_instance(text)


def test_case_is_kept_and_a_trailing_colon_is_not() -> None:
    assert one_line("  Explain what NASA\n does :") == "Explain what NASA does"
    assert one_line("翻译下面的句子：") == "翻译下面的句子"


@pytest.mark.parametrize(
    ("text", "instance"),
    [
        ("Input: rain\nOutput: wet", Instance("rain", "wet")),
        ("Input: none\nOutput: wet", Instance("", "wet")),
        ("Input: N/A\n\nOutput: wet", Instance("", "wet")),
        ("Input: <noinput>\nOutput: wet", Instance("", "wet")),
        ("Output: wet", Instance("", "wet")),
        ("Sure.\nInput:\nrain\nand wind\nOutput:\nwet\nand cold", Instance("rain\nand wind",
                                                                      "wet\nand cold")),
        ("**Input:** rain\n**Output:** wet", Instance("rain", "wet")),
        ("INPUT: rain\nANSWER: wet", Instance("rain", "wet")),
        ("```\nInput: rain\nOutput: wet\n```", Instance("rain", "wet")),
        ("输入：雨\n输出：湿", Instance("雨", "湿")),
        ("输入：无\n输出：湿", Instance("", "湿")),
        ("输入: 无。\n输出: 湿", Instance("", "湿")),
        ("输入： 雨\n回答： 湿", Instance("雨", "湿")),
        ("Input: rain\nOutput: wet\n\nInput: sun\nOutput: dry", Instance("rain", "wet")),
        ("Input: rain\nOutput: wet\nTask: another", Instance("rain", "wet")),
        ("Input: rain\nOutput:", Instance("rain", "")),
        ("It is wet.", None),
        ("", None),
    ],
)  # fmt: skip
def test_instances(text: str, instance: Instance | None) -> None:
    assert parse_instance(text) == instance


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
    assert instance_prompt("Name a colour.", "en").endswith("\n\nTask: Name a colour.\n")
    assert instance_prompt("说出一种颜色。", "zh").endswith("\n\n任务：说出一种颜色。\n")
