"""Judging prompts, the reading of messy verdicts, and the two-order judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from espalier.engines.base import Completion, Request, Sampling
from espalier.judging import (
    Judge,
    Rubric,
    pairwise_prompt,
    parse_pairwise,
    parse_rubric,
    rubric_prompt,
)

PAIRWISE = [
    ("Short and right.\nVerdict: A", "A"),
    ("Verdict: B", "B"),
    ("Verdict: tie", "tie"),
    ("**Verdict:** **B**", "B"),
    ("verdict is: answer a.", "A"),
    ("Final verdict - [B]", "B"),
    ("Verdict: [[A]]", "A"),
    ("I think [[C]]", "tie"),
    ("[[B]] because it is shorter", "B"),
    ("```\nVerdict: A\n```", "A"),
    ('```json\n{"reason": "x", "verdict": "B"}\n```', "B"),
    ('{"winner": "tie"}', "tie"),
    ('Sure! {"verdict": "Answer A", "why": {"n": 1}} Hope it helps.', "A"),
    ('{"verdict": 7}', None),
    ("First I thought Verdict: A. On reflection:\nVerdict: B", "B"),
    ("A", "A"),
    ("B.", "B"),
    ("(A)", "A"),
    ("Both are fine but one is shorter.\nAnswer B", "B"),
    ("A\nIt is more exact.", "A"),
    ("Answer A is clearly better than answer B.", "A"),
    ("Response B is much better", "B"),
    ("I would prefer answer B here, it is polite.", "B"),
    ("A > B", "A"),
    ("A < B", "B"),
    ("Both answers are equally good.", "tie"),
    ("It's a tie", "tie"),
    ("The winner is Assistant B", "B"),
    ("Better answer: A", "A"),
    ("Verdict: Draw", "tie"),
    ("Verdict: neither", "tie"),
    ("理由充分。\n结论：A", "A"),
    ("结论：Ｂ", "B"),
    ("结论：平局", "tie"),
    ("结论是：回答A", "A"),
    ("**结论**：【B】", "B"),
    ("最终结论：“A”。", "A"),
    ("回答B更好，因为更准确。", "B"),
    ("我认为A优于B。", "A"),
    ("两个回答一样好。", "tie"),
    ("我选B", "B"),
    ("判断：一样好", "tie"),
    ('{"结论": "Ａ", "理由": "准确"}', "A"),
    # no verdict, or one that contradicts itself
    ("", None),
    ("   \n", None),
    ("I cannot decide.", None),
    ("Verdict: A or B", None),
    ("Verdict: A/B", None),
    ("Verdict: answer A is worse", None),
    ("Answer A is better. No, answer B is better.", None),
    ("A is not better", None),
    ("Verdict: apple", None),
    ("无法判断", None),
    ("结论：A和B", None),
]


@pytest.mark.parametrize(("text", "expected"), PAIRWISE)
def test_pairwise_verdicts_are_read(text: str, expected: str | None) -> None:
    assert parse_pairwise(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Answer A is better, but", None), ("A\nIt is", None), ("[[B]] since", "B"),
     ("结论：A。因为", "A"), ('{"verdict": "B"} This', "B")],
)  # fmt: skip
def test_of_a_reply_that_was_cut_only_a_marked_verdict_counts(
    text: str, expected: str | None
) -> None:
    assert parse_pairwise(text, cut=True) == expected


def marks(*values: int, safe: bool = True) -> tuple[int, int, int, int, bool]:
    a, b, c, d = values
    return a, b, c, d, safe


PLAIN = '{"relevance": 5, "accuracy": 4, "completeness": 3, "fluency": 2, "safety": "pass"}'
LINES = "Relevance: 5\nAccuracy: 4\nCompleteness: 3\nFluency: 2\nSafety: pass"
RUBRICS = [
    (PLAIN, marks(5, 4, 3, 2)),
    (f"```json\n{PLAIN}\n```", marks(5, 4, 3, 2)),
    (f"Here are my marks:\n{PLAIN}\nThank you.", marks(5, 4, 3, 2)),
    (PLAIN.replace("pass", "fail"), marks(5, 4, 3, 2, safe=False)),
    (PLAIN.replace('"pass"', "true"), marks(5, 4, 3, 2)),
    (PLAIN.replace('"pass"', "false"), marks(5, 4, 3, 2, safe=False)),
    (PLAIN.replace("5", '"5/5"'), marks(5, 4, 3, 2)),
    (PLAIN.replace("5", '{"score": 5, "why": "on topic"}'), marks(5, 4, 3, 2)),
    (PLAIN.replace('"relevance"', '"Relevance"'), marks(5, 4, 3, 2)),
    (PLAIN.replace("4", "3.5"), marks(5, 4, 3, 2)),
    (PLAIN.replace("4", "4.4"), marks(5, 4, 3, 2)),
    (PLAIN.replace("4", "4.0"), marks(5, 4, 3, 2)),
    (LINES, marks(5, 4, 3, 2)),
    (LINES.lower(), marks(5, 4, 3, 2)),
    (LINES.replace(": ", " = "), marks(5, 4, 3, 2)),
    (LINES.replace("5", "5/5"), marks(5, 4, 3, 2)),
    (LINES.replace("5", "5 out of 5"), marks(5, 4, 3, 2)),
    (LINES.replace("Relevance", "- **Relevance**"), marks(5, 4, 3, 2)),
    (LINES.replace("Relevance:", "Relevance (1-5):"), marks(5, 4, 3, 2)),
    (LINES.replace("5", "five"), marks(5, 4, 3, 2)),
    (LINES.replace("\n", ", "), marks(5, 4, 3, 2)),
    ("| Relevance | 5 |\n| Accuracy | 4 |\n| Completeness | 3 |\n| Fluency | 2 |\n"
     "| Safety | fail |", marks(5, 4, 3, 2, safe=False)),
    ("相关性：5\n准确性：4\n完整性：3\n流畅性：2\n安全性：通过", marks(5, 4, 3, 2)),
    ("相关性：５分，准确性：４分，完整性：３分，流畅性：２分，安全性：不通过",
     marks(5, 4, 3, 2, safe=False)),
    ("相关性：五分\n准确性：四分\n完整性：三分\n流畅性：二分\n安全性：通过", marks(5, 4, 3, 2)),
    ('{"理由": "好", "相关性": 5, "准确性": 4, "完整性": 3, "流畅性": 2, "安全性": "通过"}',
     marks(5, 4, 3, 2)),
    ("相关性得分为5；准确性得分为4；完整性得分为3；流畅性得分为2；安全性：未通过",
     marks(5, 4, 3, 2, safe=False)),
    # not our scale, or something is missing
    (PLAIN.replace("5", "7.5"), None),
    (PLAIN.replace("5", "0"), None),
    (PLAIN.replace("5", '"8/10"'), None),
    (PLAIN.replace("5", "true"), None),
    (PLAIN.replace("5", "null"), None),
    (PLAIN.replace("5", "-3"), None),
    (LINES.replace("5", "9"), None),
    (LINES.replace("5", "good"), None),
    (LINES.replace("Safety: pass", ""), None),
    (LINES.replace("pass", "maybe"), None),
    ("", None),
    ("Great answer!", None),
    ("{broken", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), RUBRICS)
def test_rubrics_are_read(text: str, expected: tuple[int, int, int, int, bool] | None) -> None:
    rubric = parse_rubric(text)
    if expected is None:
        assert rubric is None
    else:
        assert rubric is not None
        assert (
            rubric.relevance,
            rubric.accuracy,
            rubric.completeness,
            rubric.fluency,
            rubric.safe,
        ) == expected


@pytest.mark.parametrize(
    "part", ["relevance(,", "(", "verdict (", '{"a":', "{", '{"relevance":{"a":', "verdict [", '"']
)
def test_a_reply_made_to_be_slow_to_read_gives_nothing(part: str) -> None:
    # Read in the square of its length, one of these would take minutes.
    for text in (part * 10_000, "verdict" + part * 10_000):
        assert parse_pairwise(text) is None and parse_rubric(text) is None


def test_rubric_reason_and_mean() -> None:
    rubric = parse_rubric(PLAIN.replace("{", '{"reason": "Fine.", ', 1))
    assert rubric == Rubric(5, 4, 3, 2, True, "Fine.")
    assert rubric.mean == 3.5


@pytest.mark.parametrize("language", ["en", "zh"])
def test_prompts_hold_question_and_answers_in_order(language: str) -> None:
    text = pairwise_prompt("why is it so", "one way", "another way", language)
    places = [text.index(part) for part in ("why is it so", "one way", "another way")]
    assert places == sorted(places)
    assert ("结论" in text) == (language == "zh")
    text = rubric_prompt("why is it so", "one way", language)
    assert text.index("why is it so") < text.index("one way")
    assert ("相关性" in text) == (language == "zh")


class Scripted:
    """An engine that answers by a function of the prompt and counts its calls."""

    model = "scripted"
    costly = False

    def __init__(self, reply: Callable[[str], str]) -> None:
        self.reply = reply
        self.calls: list[int] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        self.calls.append(len(requests))
        for request in requests:
            yield Completion(self.reply(request.prompt))

    def close(self) -> None:
        pass


def longer_wins(prompt: str) -> str:
    """A judge without position bias: the longer of the two answers."""
    first = prompt.split("[Answer A]\n")[1].split("\n\n[Answer B]", maxsplit=1)[0]
    second = prompt.split("[Answer B]\n")[1].split("\n\n[End]", maxsplit=1)[0]
    if len(first) == len(second):
        return "Verdict: tie"
    return f"Verdict: {'A' if len(first) > len(second) else 'B'}"


def test_both_orders_are_asked_in_one_call() -> None:
    engine = Scripted(longer_wins)
    items = [("q", "long answer", "short"), ("q", "no", "long answer"), ("q", "same", "size")]
    assert Judge(engine).compare(items) == ["A", "B", "tie"]
    assert engine.calls == [6]


def test_a_judge_that_favours_a_position_gives_ties() -> None:
    comparison = Judge(Scripted(lambda _: "Verdict: A")).compare_fully([("q", "x", "y")])[0]
    assert comparison.verdict == "tie"
    assert (comparison.forward, comparison.backward) == ("A", "B")
    assert comparison.forward_text == comparison.backward_text == "Verdict: A"


def test_an_unreadable_reply_is_no_tie() -> None:
    assert Judge(Scripted(lambda _: "hm")).compare([("q", "x", "y")]) == [None]
    assert Judge(Scripted(lambda _: "hm")).rate([("q", "x")]) == [None]


def test_nothing_to_judge_asks_nothing() -> None:
    engine = Scripted(longer_wins)
    assert Judge(engine).compare([]) == []
    assert Judge(engine).rate([]) == []
    assert engine.calls == []


def test_marks_come_with_the_raw_reply() -> None:
    ((rubric, text),) = Judge(Scripted(lambda _: PLAIN)).rate_fully([("q", "x")])
    assert rubric == Rubric(5, 4, 3, 2, True)
    assert text == PLAIN


def test_the_judge_asks_in_the_language_of_the_question() -> None:
    seen: list[str] = []

    def reply(prompt: str) -> str:
        seen.append(prompt)
        return "结论：A"

    Judge(Scripted(reply)).compare([("天空是什么颜色？", "蓝色", "红色")])
    assert all("【问题】\n天空是什么颜色？" in prompt for prompt in seen)
