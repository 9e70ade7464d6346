"""Self-Instruct with a scripted teacher: what is asked, what is kept, what is dropped and why."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from espalier.curate.config_instruct import SelfInstructConfig
from espalier.curate.pipeline import Ledger
from espalier.curate.self_instruct import (
    InstructionRules,
    SelfInstruct,
    Task,
    language_of,
    read_seeds,
    seed_path,
)
from espalier.engines.base import Completion, Request, Sampling
from espalier.errors import InputError, StageError

Reply = Callable[[Request, Sampling], str | Completion]


class Scripted:
    """An engine that answers by a function and remembers what it was asked."""

    model = "scripted"
    costly = False

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.asked: list[tuple[Request, Sampling]] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        for request in requests:
            self.asked.append((request, sampling))
            answer = self.reply(request, sampling)
            yield answer if isinstance(answer, Completion) else Completion(answer)

    def close(self) -> None:
        pass


NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
SEEDS = [
    Task(f"seed-{i}", f"Seed task number {word} about something") for i, word in enumerate(NUMBERS)
]
TOPICS = ["rivers in winter", "how bread rises", "the oldest bridge", "choosing a bicycle",
          "why cats purr", "a letter to an aunt", "packing for rain", "counting stars"]  # fmt: skip


def is_instance(request: Request) -> bool:
    return request.prompt.startswith("Write one example")


def run(reply: Reply, **options: Any) -> tuple[list[Any], list[dict[str, Any]], Scripted, Ledger]:
    handle = io.StringIO()
    ledger = Ledger("self-instruct", handle)
    engine = Scripted(reply)
    config = SelfInstructConfig(**{"requests_per_round": 2, **options})
    made = SelfInstruct(engine, config, "en", SEEDS, 7, ledger)
    rows = list(made.rows())
    return rows, [json.loads(line) for line in handle.getvalue().splitlines()], engine, ledger


def teacher_of_topics() -> Reply:
    """Two new tasks a request, until the topics run out."""
    topics = iter(TOPICS * 3)

    def reply(request: Request, sampling: Sampling) -> str:
        if is_instance(request):
            return "Input: none\nOutput: An answer of some words."
        return f" Tell me everything about {next(topics)}\nTask 10: Explain {next(topics)} to me"

    return reply


def test_rows_carry_their_lineage() -> None:
    rows, _, engine, _ = run(teacher_of_topics(), target=4)
    assert len(rows) == 4
    row = rows[0]
    assert row.prompt == "Tell me everything about rivers in winter"
    assert row.response == "An answer of some words."
    assert row.meta["teacher"] == "scripted"
    assert row.meta["round"] == 1
    assert row.meta["source"] == row.meta["operator"] == "self-instruct"
    assert len(row.meta["parents"]) == 8
    first = engine.asked[0][0].prompt
    for parent in row.meta["parents"]:
        assert SEEDS[int(parent.split("-")[1])].instruction in first


def test_a_later_round_shows_two_machine_tasks_and_a_frozen_pool() -> None:
    _, _, engine, _ = run(teacher_of_topics(), target=8)
    prompts = [r.prompt for r, _ in engine.asked if not is_instance(r)]
    assert len(prompts) == 4

    def machine(prompt: str) -> int:
        return sum("everything about" in line or "Explain " in line for line in prompt.split("\n"))

    # Both requests of a round see the pool as it was before the round.
    assert [machine(prompt) for prompt in prompts] == [0, 0, 2, 2]
    assert all(prompt.endswith("\nTask 9:") for prompt in prompts)
    samples = [r.sample for r, _ in engine.asked if not is_instance(r)]
    assert len(set(samples)) == len(samples)


def test_each_drop_has_its_rule() -> None:
    replies = iter([
        " Describe this picture to me in detail\nTask 10: Say hi\nTask 11: Seed task number one "
        "about something\nTask 12: Write a program that sorts names\nTask 13: ?? what is going "
        "on here\nTask 14: Élan vital is what exactly\nTask 15: Compare tea and coffee for me",
        Completion(" Suggest names for a quiet parrot\nTask 10: This one is cut in the mid",
                   "length"),
    ])  # fmt: skip

    def reply(request: Request, sampling: Sampling) -> str | Completion:
        return "Input: none\nOutput: Fine." if is_instance(request) else next(replies)

    rows, rejects, _, ledger = run(reply, target=1)
    assert [row.prompt for row in rows] == [
        "Compare tea and coffee for me",
        "Suggest names for a quiet parrot",
    ]
    assert [(r["rule"], r["text"].split()[0]) for r in rejects] == [
        ("blacklisted", "Describe"),
        ("short_instruction", "Say"),
        ("not_novel", "Seed"),
        ("blacklisted_opening", "Write"),
        ("odd_opening", "??"),
        ("not_ascii", "Élan"),
    ]
    assert "Seed task number one about something" in rejects[2]["evidence"]
    assert all(r["meta"]["parents"] and r["meta"]["round"] == 1 for r in rejects)
    assert ledger.tallies[0].to_json()["in"] == 8


@pytest.mark.parametrize(
    ("reply", "rule"),
    [
        ("It depends.", "no_output_label"),
        ("Input: rain\nOutput:", "empty_answer"),
        ("Input: rain\nOutput: Rain.", "copy"),
        ("Input: none\nOutput: As follows:", "cut_off"),
        ("Input: the list is:\nOutput: Fine", "cut_off"),
        (Completion("Input: none\nOutput: An unfin", "length"), "truncated"),
        (Completion("", "error"), "engine_error"),
    ],
)
def test_examples_that_can_not_be_used(reply: str | Completion, rule: str) -> None:
    given = iter([reply, "Input: a word\nOutput: A fine answer.", *["Output: Fine."] * 2])
    topics = teacher_of_topics()

    def answer(request: Request, sampling: Sampling) -> str | Completion:
        return next(given) if is_instance(request) else topics(request, sampling)

    rows, rejects, _, _ = run(answer, target=1)
    assert len(rows) == 3
    assert [reject["rule"] for reject in rejects] == [rule]
    assert rows[0].prompt.endswith("\n\na word")
    assert rows[0].meta["input"] == "a word"


def test_a_teacher_with_nothing_new_stops_the_run_with_a_note() -> None:
    def reply(request: Request, sampling: Sampling) -> str:
        if is_instance(request):
            return "Input: none\nOutput: Fine."
        return " Tell me about rivers in the north\nTask 10: Tell me about rivers in the north"

    handle = io.StringIO()
    made = SelfInstruct(
        Scripted(reply), SelfInstructConfig(target=50, requests_per_round=1), "en", SEEDS, 1,
        Ledger("self-instruct", handle),
    )  # fmt: skip
    assert len(list(made.rows())) == 1
    assert made.rounds == 6
    assert "1 of 50" in made.notes[0]


def test_a_teacher_that_says_nothing_is_an_error_that_says_so() -> None:
    with pytest.raises(StageError, match="no task"):
        run(lambda request, sampling: "", target=5)
    with pytest.raises(StageError, match="not_novel"):
        run(lambda request, sampling: f" {SEEDS[0].instruction}", target=5)


def test_chinese_rules() -> None:
    rules = InstructionRules(SelfInstructConfig(), "zh")
    assert rules.verdict("写一首关于春天的短诗") is None
    assert rules.verdict("把这张图片里的文字写出来") == ("blacklisted", "图片")
    assert rules.verdict("写诗") == ("short_instruction", "2 words")
    assert rules.verdict("写一个程序来排序名字") == ("blacklisted_opening", "写一个程序")
    english = InstructionRules(SelfInstructConfig(), "en")
    assert english.verdict("Explain photographic memory to a child") is None  # no whole word
    open_rules = InstructionRules(SelfInstructConfig(ascii_only=False), "en")
    assert open_rules.verdict("Élan vital is what exactly") is None


@pytest.mark.parametrize("name", ["en", "zh"])
def test_built_in_seeds(name: str) -> None:
    tasks = read_seeds(seed_path(name))
    assert len(tasks) >= 75
    assert language_of(tasks) == name


def test_a_seed_without_instruction(tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_text('{"instruction": "Name a colour."}\n{"name": "x"}\n', encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_seeds(path)
    assert "line 2" in caught.value.render()


def test_the_same_seed_gives_the_same_rows() -> None:
    first = run(teacher_of_topics(), target=8)[0]
    assert run(teacher_of_topics(), target=8)[0] == first
