"""Alpaca mode with a scripted teacher: the prompt, the reading of lists, the rules, resuming."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scripted import Reply, Scripted, resumed, rows_and_rejects

from espalier.curate.alpaca import Alpaca, parse_batch
from espalier.curate.config_instruct import AlpacaConfig, SelfInstructConfig
from espalier.curate.instruction_rules import InstructionRules
from espalier.curate.options import Language
from espalier.curate.pipeline import Ledger
from espalier.curate.seed_tasks import Instance, Task, language_of, read_seeds, seed_path
from espalier.curate.self_instruct import SelfInstruct, generator
from espalier.engines.base import Completion, Sampling
from espalier.engines.offline import OfflineEngine
from espalier.errors import InputError
from espalier.records import Example

LANGUAGES: tuple[Language, ...] = ("en", "zh")
SEEDS = [
    Task("s0", "Add the two numbers:", instances=(Instance("2 and 3", "5"),)),
    Task("s1", "Name a red fruit.", instances=(Instance("", "A cherry."),)),
    Task("s2", "Say good night in three languages.", instances=(Instance("", "Gute Nacht …"),)),
]
WANTED = [
    ("Write a poem about rain.", Instance("", "Drip, drop.")),
    ("Sort the numbers.", Instance("3, 1, 2", "1, 2, 3")),
]


class Outcome:
    """What a run made with a scripted teacher."""

    def __init__(self, reply: Reply, seeds: list[Task] | None = None, **options: Any) -> None:
        self.engine = Scripted(reply)
        config = AlpacaConfig(**{"mode": "alpaca", "requests_per_round": 1, **options})

        def start(engine: Any, ledger: Ledger) -> Iterator[Example]:
            self.made = generator(engine, config, "en", seeds or SEEDS, 7, ledger)
            return self.made.rows()

        self.rows, self.rejects, self.ledger = rows_and_rejects(start, self.engine)


def listed(*tasks: str, first: int = 4) -> str:
    """A list as the prompt asks for it, after its "4. Instruction:"."""
    text = "\n###\n".join(
        f"{n}. Instruction: {task}\n{n}. Input:\n<noinput>\n{n}. Output:\nDone, number {n}."
        for n, task in enumerate(tasks, first)
    )
    return text.removeprefix(f"{first}. Instruction:")


# --- reading ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        # as asked for
        " Write a poem about rain.\n4. Input:\n<noinput>\n4. Output:\nDrip, drop.\n###\n"
        "5. Instruction: Sort the numbers.\n5. Input:\n3, 1, 2\n5. Output:\n1, 2, 3",
        # the label repeated, a border before and after
        "###\n4. Instruction: Write a poem about rain.\n4. Input:\n<noinput>\n4. Output:\n"
        "Drip, drop.\n###\n5. Instruction: Sort the numbers.\n5. Input:\n3, 1, 2\n5. Output:\n"
        "1, 2, 3\n###",
        # other numbers, chatter, no border
        "Sure, here are 17 tasks:\n\n1. Instruction: Write a poem about rain.\n1. Input: "
        "<noinput>\n1. Output: Drip, drop.\n\n1. Instruction: Sort the numbers.\n1. Input: "
        "3, 1, 2\n1. Output: 1, 2, 3",
        # marked up, the number on a heading
        "### 4. **Instruction:** Write a poem about rain.\n**Input:** None\n**Output:** Drip, "
        "drop.\n\n### 5. **Instruction:** Sort the numbers.\n**Input:** 3, 1, 2\n**Output:** "
        "1, 2, 3",
        "**Task 4**\n**4. Instruction:** Write a poem about rain.\n**4. Input:**\n<noinput>\n"
        "**4. Output:**\nDrip, drop.\n\n**Task 5**\n**5. Instruction:** Sort the numbers.\n"
        "**5. Input:**\n3, 1, 2\n**5. Output:**\n1, 2, 3",
        # only the instruction has a number; fenced; no input field
        "```\n4. Instruction: Write a poem about rain.\nOutput: Drip, drop.\n###\n"
        "5. Instruction: Sort the numbers.\nInput: 3, 1, 2\nOutput: 1, 2, 3\n```",
        # full-width punctuation, Chinese labels
        "Write a poem about rain.\n4. 输入：\n<无输入>\n4. 输出：\nDrip, drop.\n###\n"
        "5. 指令：Sort the numbers.\n5. 输入：\n3, 1, 2\n5. 输出：\n1, 2, 3",
        "４．指令：Write a poem about rain.\n４．输入：无\n４．输出：Drip, drop.\n###\n"
        "５、指令：Sort the numbers.\n５、输入：3, 1, 2\n５、输出：1, 2, 3",
    ],
)
def test_forms_of_lists(text: str) -> None:
    read = parse_batch(text, cut=False)
    assert list(read.tasks) == [(task, (instance,)) for task, instance in WANTED]
    assert not read.dropped
    cut = parse_batch(text, cut=True)
    assert [task for task, _ in cut.tasks] == [WANTED[0][0]]
    assert [rule for _, rule, _ in cut.dropped] == ["truncated"]


def test_an_output_may_hold_borders_labels_and_numbers() -> None:
    output = (
        "# Plan\n### Day 1\nInput: eggs\nOutput: cake\n20. Rest.\n```\nprint('###')\n```\nInput: 7"
    )
    text = f" Write a plan.\n4. Input:\n<noinput>\n4. Output:\n{output}\n###\n5. Instruction: Sing!"
    read = parse_batch(text, cut=False)
    assert read.tasks == [("Write a plan.", (Instance("", output),))]
    assert [rule for _, rule, _ in read.dropped] == ["odd_fields"]


@pytest.mark.parametrize(
    ("piece", "rule"),
    [
        ("5. Instruction: Sing a song.\n5. Input:\n<noinput>", "odd_fields"),
        ("5. Input:\nrain\n5. Output:\nwet", "odd_fields"),
        ("5. Instruction:\n5. Input:\nrain\n5. Output:\nwet", "odd_fields"),
        ("5. Instruction: Sing.\n5. Output:\na\n5. Output:\nb", "odd_fields"),
        ("5. Instruction: Sing a song.\n5. Input:\n<noinput>\n5. Output:\n", "empty_answer"),
        ("I hope these help!", "odd_fields"),
    ],
)
def test_a_piece_that_can_not_be_read_costs_no_other(piece: str, rule: str) -> None:
    text = listed("Name five trees of the north.") + f"\n###\n{piece}\n###\n"
    text += "6. Instruction: Say what rain is.\n6. Input:\n<noinput>\n6. Output:\nWater."
    read = parse_batch(text, cut=False)
    assert [task for task, _ in read.tasks] == ["Name five trees of the north.",
                                                "Say what rain is."]  # fmt: skip
    assert [(found, evidence) for _, found, evidence in read.dropped] == [(rule, piece.strip())]


@pytest.mark.parametrize("text", ["", "\n\n", "###\n###"])
def test_nothing_to_read(text: str) -> None:
    assert not parse_batch(text, cut=False).tasks and not parse_batch(text, cut=False).dropped


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["###", "4. ", "Instruction:", "Input:", "输出：", "Output:", "\n",
                              "\n", "a", "**", "7.5", "指令："]), max_size=25),
    st.booleans(),
)  # fmt: skip
def test_any_text_can_be_read(parts: list[str], cut: bool) -> None:
    read = parse_batch("".join(parts), cut=cut)
    for instruction, (instance,) in read.tasks:
        assert instruction and instance.output


# --- asking ----------------------------------------------------------------------------------


def test_the_prompt_shows_tasks_with_input_and_output() -> None:
    made = Outcome(lambda *_: listed("Name five trees of the north."), target=1)
    prompt = made.engine.asked[0][0].prompt
    assert prompt.startswith("Come up with a set of 20 different tasks")
    assert prompt.endswith("\n###\n4. Instruction:")
    for number in (1, 2, 3):
        assert f"\n###\n{number}. Instruction: " in prompt
    assert ". Instruction: Add the two numbers\n" in prompt  # the trailing colon goes
    assert prompt.count(". Input:\n<noinput>\n") == 2 and ". Input:\n2 and 3\n" in prompt
    assert ". Output:\nA cherry.\n" in prompt
    row = made.rows[0]
    assert set(row.meta["parents"]) == {"s0", "s1", "s2"}
    assert row.meta["source"] == row.meta["operator"] == "alpaca"
    assert "is_classification" not in row.meta


def test_the_published_sampling_is_the_default_and_nothing_stops_a_list() -> None:
    made = Outcome(lambda *_: listed("Name five trees of the north."), target=1)
    expected = Sampling(temperature=1.0, top_p=1.0, max_tokens=3072, stop=(), seed=7)
    assert made.engine.asked[0][1] == expected


def test_every_constant_is_an_option() -> None:
    made = Outcome(
        lambda *_: listed("Name five trees of the north.", first=3),
        target=1, in_context=2, batch=9, temperature=0.4, top_p=0.5, presence_penalty=0.6,
        max_tokens=88, nearest=1,
    )  # fmt: skip
    request, sampling = made.engine.asked[0]
    assert request.prompt.startswith("Come up with a set of 9 ")
    assert request.prompt.endswith("\n###\n3. Instruction:")
    assert sampling == Sampling(0.4, 0.5, 88, (), 0.6, 7)
    assert len(made.rows[0].meta["nearest"]) == 1
    with pytest.raises(ValidationError, match="batch"):
        AlpacaConfig(mode="alpaca", batch=3)


def test_machine_tasks_can_be_shown_with_their_examples() -> None:
    answers = iter(
        [listed("Name five trees of the north."), listed("Say what a cloud is made of.")]
    )
    made = Outcome(lambda *_: next(answers), target=2, machine_in_context=1, batch=4)
    prompt = made.engine.asked[1][0].prompt
    assert "Instruction: Name five trees of the north.\n" in prompt
    assert "Output:\nDone, number 4." in prompt


def test_rules_of_alpaca() -> None:
    text = listed(
        "Compose a piece of music for two", "Sketch a flowchart of the house", "Watch this video "
        "and sum it up", "Name five trees of the north", "Name five trees of the north", "Sing it",
        "Write a program that counts", "?! what is this now", "Add the two numbers together",
    )  # fmt: skip
    made = Outcome(
        lambda *_: Completion(text + "\n###\n13. Instruction: Say wh", "length"), target=1
    )
    assert [reject["rule"] for reject in made.rejects] == [
        "truncated", "blacklisted", "blacklisted", "blacklisted", "not_novel", "short_instruction",
        "blacklisted_opening", "odd_opening", "not_novel",
    ]  # fmt: skip
    assert [row.prompt for row in made.rows] == ["Name five trees of the north"]
    funnel = made.ledger.tallies[0].to_json()
    assert (funnel["in"], funnel["out"]) == (10, 1)


@pytest.mark.parametrize("word", ["video", "audio", "music", "flowchart", "diagram", "image"])
def test_the_blacklist_of_alpaca_is_longer(word: str) -> None:
    text = f"Tell me about this {word} of yours"
    alpaca = InstructionRules(AlpacaConfig(mode="alpaca"), "en")
    assert alpaca.verdict(text) == ("blacklisted", word)
    published = InstructionRules(SelfInstructConfig(), "en").verdict(text)
    assert (published is None) == (word != "image")


def test_capitals_and_inputs_are_kept() -> None:
    text = " Explain what NASA and the EU do.\n4. Input:\nBriefly: HOW?\n4. Output:\nThey do much."
    row = Outcome(lambda *_: text, target=1).rows[0]
    assert row.prompt == "Explain what NASA and the EU do.\n\nBriefly: HOW?"
    assert row.meta["input"] == "Briefly: HOW?"


def test_seeds_without_examples() -> None:
    bare = [Task("a", "Say something nice."), Task("b", "Name a red fruit.")]
    with pytest.raises(InputError, match="has an example") as caught:
        Outcome(lambda *_: "", seeds=bare, target=1)
    assert "instances" in caught.value.render()
    made = Outcome(lambda *_: listed("Name five trees of the north.", first=2),
                   seeds=[*bare, SEEDS[0]], target=1)  # fmt: skip
    assert set(made.rows[0].meta["parents"]) == {"s0"}
    assert "1 of 3" in made.made.notes[0]


def test_the_mode_chooses_the_generator() -> None:
    ledger = Ledger("x", io.StringIO())
    engine = Scripted(lambda *_: "")
    alpaca = generator(engine, AlpacaConfig(mode="alpaca"), "en", SEEDS, 1, ledger)
    assert isinstance(alpaca, Alpaca)
    assert isinstance(generator(engine, SelfInstructConfig(), "en", SEEDS, 1, ledger), SelfInstruct)


# --- the whole -------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_embedded_teacher_reaches_the_target(language: Language) -> None:
    seeds = read_seeds(seed_path(language))
    config = AlpacaConfig(mode="alpaca", target=120)

    def start(engine: Any, ledger: Ledger) -> Iterator[Example]:
        return generator(engine, config, language, seeds, 1, ledger).rows()

    options = {"example_fault_rate": 0.2, "odd_format_rate": 0.3}
    rows, rejects, ledger = rows_and_rejects(start, OfflineEngine(seed=1, options=options))
    assert len(rows) >= 120
    assert any("input" in row.meta for row in rows)
    assert language_of([Task("", row.prompt) for row in rows]) == language
    rules = Counter(reject["rule"] for reject in rejects)
    assert set(rules) >= {"not_novel", "blacklisted", "odd_fields", "empty_answer"}
    for tally in ledger.tallies:
        funnel = tally.to_json()
        assert funnel["in"] == funnel["out"] + sum(funnel["rejected"].values())


@pytest.mark.parametrize("name", ["self_instruct/seed_tasks.jsonl", "belle_zh/zh_seed_tasks.jsonl"])
def test_published_seeds_can_be_shown(shared_data: Path, name: str) -> None:
    seeds = read_seeds(shared_data / name)
    config = AlpacaConfig(mode="alpaca", target=20)

    def start(engine: Any, ledger: Ledger) -> Iterator[Example]:
        return generator(engine, config, language_of(seeds), seeds, 1, ledger).rows()

    rows, _, _ = rows_and_rejects(start, OfflineEngine(seed=1))
    assert len(rows) >= 20
    known = {task.id for task in seeds}
    assert all(set(row.meta["parents"]) <= known for row in rows)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_run_cut_anywhere_goes_on_and_asks_nothing_twice(
    language: Language, tmp_path: Path
) -> None:
    seeds = read_seeds(seed_path(language))
    config = AlpacaConfig(mode="alpaca", target=120, requests_per_round=3)

    def start(engine: Any, ledger: Ledger) -> Iterator[Example]:
        return generator(engine, config, language, seeds, 5, ledger).rows()

    engine = OfflineEngine(seed=3)
    whole = rows_and_rejects(start, engine)
    _, requests = resumed(start, engine, tmp_path / "whole.jsonl", [])
    rng = Random(f"cuts {language}")
    for number in range(3):
        cuts = [rng.randrange(1, max(2, requests // 3)) for _ in range(2)]
        again, total = resumed(start, engine, tmp_path / f"{number}.jsonl", cuts)
        assert again == (whole[0], whole[1]), cuts
        assert total == requests, cuts
