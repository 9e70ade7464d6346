"""Self-Instruct with a scripted teacher: what is asked, what is kept, what is dropped and why."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

import pytest
from rouge_score.rouge_scorer import RougeScorer
from scripted import Reply, Scripted, resumed, rows_and_rejects

from espalier.curate.config_instruct import SelfInstructConfig
from espalier.curate.nearest import NearestTasks
from espalier.curate.options import Language
from espalier.curate.pipeline import Ledger
from espalier.curate.self_instruct import (
    InstructionRules,
    SelfInstruct,
    Task,
    generator,
    language_of,
    read_seeds,
    seed_path,
)
from espalier.engines.base import Completion, Request, Sampling
from espalier.engines.offline import OfflineEngine
from espalier.errors import InputError, StageError
from espalier.records import Example
from espalier.text import tokens

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
SEEDS = [
    Task(f"seed-{i}", f"Seed task number {word} about something") for i, word in enumerate(NUMBERS)
]
SEEDS_ZH = [
    Task(f"seed-{i}", f"种子任务：谈谈{topic}吧")
    for i, topic in enumerate(("春天", "茶叶", "火车", "山路", "邻居", "雨伞", "石桥", "西瓜"))
]
TOPICS = ["rivers in winter", "how bread rises", "the oldest bridge", "choosing a bicycle",
          "why cats purr", "a letter to an aunt", "packing for rain", "counting stars"]  # fmt: skip
LANGUAGES: tuple[Language, ...] = ("en", "zh")

OPENINGS = {
    "list": ("Come up with a series of tasks.", "请想出一系列任务。"),
    "question": ("Is the task a classification task", "下面的任务是不是分类任务"),
    "output-first": ("Each task below is a classification task.", "下面都是分类任务。"),
    "input-first": ("Write examples for the last", "请为下面的最后一个任务写例子"),
}


def step_of(request: Request) -> str:
    """Which step a prompt is from."""
    found = [name for name, texts in OPENINGS.items() if request.prompt.startswith(texts)]
    assert len(found) == 1, request.prompt
    return found[0]


def task_of(request: Request) -> str:
    """The task that a prompt of the second or third step ends with."""
    last = re.split(r"\n\n(?:Task: |任务：)", request.prompt)[-1]
    return last.removesuffix("\nIs it classification?").removesuffix("\n是分类任务吗？")


def teacher(lists: Reply, instances: Reply | str = "Output: Fine.", labelled: str = "^$") -> Reply:
    """A teacher of all three steps; tasks that match `labelled` are classifications."""

    def reply(request: Request, sampling: Sampling) -> str | Completion:
        match step_of(request):
            case "list":
                return lists(request, sampling)
            case "question":
                yes, no = ("Yes", "No") if request.prompt.isascii() else ("是", "否")
                return yes if re.search(labelled, task_of(request)) else no
            case _:
                return instances if isinstance(instances, str) else instances(request, sampling)

    return reply


def in_turn(*answers: str | Completion) -> Reply:
    """These answers, one after the other."""
    following = iter(answers)
    return lambda request, sampling: next(following)


def topics() -> Reply:
    """Two new tasks a request, until the topics run out."""
    following = cycle(TOPICS)

    def reply(request: Request, sampling: Sampling) -> str:
        number = int(request.prompt.split()[-1].rstrip(":")) + 1
        first, second = next(following), next(following)
        return f" Tell me everything about {first}\nTask {number}: Explain {second} to me"

    return reply


class Outcome:
    """What a run made with a scripted teacher."""

    def __init__(self, reply: Reply, language: Language = "en", **options: Any) -> None:
        self.engine = Scripted(reply)
        config = SelfInstructConfig(**{"requests_per_round": 2, **options})
        seeds = SEEDS if language == "en" else SEEDS_ZH

        def start(engine: Any, ledger: Ledger) -> Iterator[Example]:
            self.made = SelfInstruct(engine, config, language, seeds, 7, ledger)
            return self.made.rows()

        self.rows, self.rejects, self.ledger = rows_and_rejects(start, self.engine)

    def asked(self, step: str) -> list[tuple[Request, Sampling]]:
        return [item for item in self.engine.asked if step_of(item[0]) == step]

    def rules(self) -> list[str]:
        return [reject["rule"] for reject in self.rejects]


# --- step 1: instructions --------------------------------------------------------------------


def test_rows_carry_their_lineage() -> None:
    made = Outcome(teacher(topics()), target=4)
    assert len(made.rows) == 4
    row = made.rows[0]
    assert row.prompt == "Tell me everything about rivers in winter"
    assert row.response == "Fine."
    assert row.meta["teacher"] == "scripted"
    assert row.meta["round"] == 1
    assert row.meta["instance"] == 1
    assert row.meta["is_classification"] is False
    assert row.meta["source"] == row.meta["operator"] == "self-instruct"
    assert len(row.meta["parents"]) == 8
    first = made.engine.asked[0][0].prompt
    for parent in row.meta["parents"]:
        assert SEEDS[int(parent.split("-")[1])].instruction in first


def test_a_later_round_shows_two_machine_tasks_and_a_frozen_pool() -> None:
    made = Outcome(teacher(topics()), target=12)
    prompts = [request.prompt for request, _ in made.asked("list")]
    assert len(prompts) >= 4

    def machine(prompt: str) -> int:
        return sum("everything about" in line or "Explain " in line for line in prompt.split("\n"))

    # All requests of a round see the pool as it was before the round.
    assert [machine(prompt) for prompt in prompts[:4]] == [0, 0, 2, 2]
    assert all(prompt.endswith("\nTask 9:") for prompt in prompts)
    samples = [request.sample for request, _ in made.asked("list")]
    assert samples == list(range(len(prompts)))
    kept = {row.meta["task"]: row.meta["round"] for row in made.rows}
    for row in made.rows:
        for parent in row.meta["parents"]:
            assert parent.startswith("seed-") or kept[parent] < row.meta["round"]


def test_the_published_sampling_is_the_default() -> None:
    made = Outcome(teacher(topics(), labelled="^Explain"), target=4)
    wanted = {
        "list": Sampling(temperature=0.7, top_p=0.5, presence_penalty=2.0, max_tokens=1024, seed=7),
        "question": Sampling(temperature=0.0, max_tokens=3, seed=7),
    }
    for step, sampling in wanted.items():
        assert {asked for _, asked in made.asked(step)} == {sampling}
    for step in ("input-first", "output-first"):
        for _, asked in made.asked(step):
            assert (asked.temperature, asked.presence_penalty) == (0.0, 1.5)
    assert all(not any(c.isdigit() for c in s) or s.startswith("\n")
               for _, asked in made.engine.asked for s in asked.stop)  # fmt: skip


def test_every_constant_is_an_option() -> None:
    made = Outcome(
        teacher(topics(), labelled="^Explain"),
        target=8, in_context=5, machine_in_context=3, temperature=0.9, top_p=0.8, nearest=2,
        presence_penalty=0.5, max_tokens=99, classification_max_tokens=7, max_instances=3,
        classification_temperature=0.2, instance_temperature=0.3, instance_presence_penalty=0.1,
        instance_max_tokens=77,
    )  # fmt: skip
    prompts = [request.prompt for request, _ in made.asked("list")]
    assert all(prompt.endswith("\nTask 6:") for prompt in prompts)
    assert sum(not line.startswith("Seed", 8) for line in prompts[-1].split("\n")[2:-1]) == 3
    assert made.asked("list")[0][1] == Sampling(0.9, 0.8, 99, (), 0.5, 7)
    assert made.asked("question")[0][1] == Sampling(0.2, 1.0, 7, (), 0.0, 7)
    request, sampling = made.asked("input-first")[0]
    assert (sampling.temperature, sampling.presence_penalty, sampling.max_tokens) == (0.3, 0.1, 77)
    assert "up to 3 " in request.prompt and "\nExample 4\n" in sampling.stop
    assert {len(row.meta["nearest"]) for row in made.rows} == {2}


def test_a_round_asks_no_more_than_the_target_needs() -> None:
    made = Outcome(teacher(topics()), target=3, requests_per_round=16)
    # Eight new instructions are expected of the first request; two came.
    assert len(made.asked("list")) == 2


def test_each_drop_has_its_rule() -> None:
    lists = in_turn(
        " Describe this picture to me in detail\nTask 10: Say hi\nTask 11: Seed task number one "
        "about something\nTask 12: Write a program that sorts names\nTask 13: ?? what is going "
        "on here\nTask 14: Élan vital is what exactly\nTask 15: Compare tea and coffee for me",
        Completion(" Suggest names for a quiet parrot\nTask 10: This one is cut in the mid",
                   "length"),
        "I would rather not.\n\n\n",
        Completion("", "error"),
        " Name five trees of the north",
    )  # fmt: skip
    made = Outcome(teacher(lists), target=3, requests_per_round=1)
    assert [row.prompt for row in made.rows] == [
        "Compare tea and coffee for me",
        "Suggest names for a quiet parrot",
        "I would rather not.",
    ]
    assert [(r["rule"], r["text"].split()[0]) for r in made.rejects] == [
        ("blacklisted", "Describe"),
        ("short_instruction", "Say"),
        ("not_novel", "Seed"),
        ("blacklisted_opening", "Write"),
        ("odd_opening", "??"),
        ("not_ascii", "Élan"),
        ("truncated", "This"),
    ]
    assert "Seed task number one about something" in made.rejects[2]["evidence"]
    assert all(r["meta"]["parents"] and r["meta"]["round"] for r in made.rejects)
    funnel = made.ledger.tallies[0].to_json()
    assert (funnel["in"], funnel["out"]) == (10, 3)


def test_a_failed_request_and_an_empty_answer_are_counted() -> None:
    lists = in_turn(Completion("", "error"), "\n\n", " Name five trees of the north")
    made = Outcome(teacher(lists), target=1, requests_per_round=1)
    assert made.rules() == ["engine_error", "no_instruction"]
    assert made.ledger.tallies[0].to_json()["in"] == 3


def test_chinese_drops() -> None:
    lists = in_turn(
        "把这张图片里的文字写出来\n任务10：写诗\n任务11：种子任务：谈谈春天吧\n任务12：写一个程序来排序名字\n"
        "任务13：……还有别的什么要求\n任务14：《红楼梦》讲了什么故事？\n任务15：计划一次周末旅行",
        Completion("给安静的鹦鹉取三个名字\n任务10：这一条没有写", "length"),
    )
    made = Outcome(teacher(lists, "输出：好的。"), "zh", target=3, requests_per_round=1)
    assert [row.prompt for row in made.rows] == [
        "《红楼梦》讲了什么故事？",
        "计划一次周末旅行",
        "给安静的鹦鹉取三个名字",
    ]
    assert made.rules() == [
        "blacklisted", "short_instruction", "not_novel", "blacklisted_opening", "odd_opening",
        "truncated",
    ]  # fmt: skip
    assert {row.response for row in made.rows} == {"好的。"}


def test_rules_of_each_language() -> None:
    rules = InstructionRules(SelfInstructConfig(), "zh")
    assert rules.verdict("写一首关于春天的短诗") is None
    assert rules.verdict("“水滴石穿”是什么意思？") is None
    assert rules.verdict("把这张图片里的文字写出来") == ("blacklisted", "图片")
    assert rules.verdict("写诗") == ("short_instruction", "2 words")
    assert rules.verdict("写一个程序来排序名字") == ("blacklisted_opening", "写一个程序")
    assert rules.verdict("，还有别的什么要求") == ("odd_opening", "，还有别的什么要求")
    assert rules.verdict("长" * 151) == ("long_instruction", "151 words")
    assert rules.verdict("长" * 150) is None
    english = InstructionRules(SelfInstructConfig(), "en")
    assert english.verdict("Explain photographic memory to a child") is None  # no whole word
    assert english.verdict("one two three") == ("short_instruction", "3 words")
    assert english.verdict("one two three four") is None
    assert english.verdict("word " * 150) is None
    assert english.verdict("word " * 151) == ("long_instruction", "151 words")
    assert english.verdict('"Nothing ventured" is said by whom?') == ("odd_opening", '"Nothing v')
    assert english.verdict("Write A Program that adds numbers") == (
        "blacklisted_opening", "write a program",
    )  # fmt: skip
    free = SelfInstructConfig(ascii_only=False, punctuation_opening=True)
    open_rules = InstructionRules(free, "en")
    assert open_rules.verdict("Élan vital is what exactly") is None
    assert open_rules.verdict('"Nothing ventured" is said by whom?') is None


@pytest.mark.parametrize(
    "word",
    ["image", "Images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps",
     "DRAW", "plot", "go to"],
)  # fmt: skip
def test_the_published_blacklist(word: str) -> None:
    rules = InstructionRules(SelfInstructConfig(), "en")
    assert rules.verdict(f"Say how you would {word} this thing") == ("blacklisted", word)
    assert rules.verdict(f"Say how you would x{word}x this thing") is None


# --- step 2: is it a classification? ---------------------------------------------------------


@pytest.mark.parametrize(("language", "yes", "no"), [("en", "Yes", "No"), ("zh", "是", "否")])
def test_the_question_is_few_shot(language: Language, yes: str, no: str) -> None:
    lists = {"en": " Name five trees of the north", "zh": "说出北方的五种树"}
    made = Outcome(teacher(lambda *_: lists[language], "Output: x"), language, target=1)
    lines = made.asked("question")[0][0].prompt.split("\n")
    answers = Counter(line[-len(yes if line.endswith(yes) else no):] for line in lines
                      if re.match(r"Is it classification\? \w|是分类任务吗？.", line))  # fmt: skip
    assert answers == {yes: 12, no: 19}
    assert (
        lines[-2:]
        == {
            "en": ["Task: Name five trees of the north", "Is it classification?"],
            "zh": ["任务：说出北方的五种树", "是分类任务吗？"],
        }[language]
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_classifications_are_asked_for_the_label_first(language: Language) -> None:
    lists = {
        "en": " Is the mood good or bad here?\nTask 10: Name five trees of the north",
        "zh": "心情是好还是坏，请判断\n任务10：说出北方的五种树",
    }[language]
    answers = {
        "en": ("Class label: good\nInput: Sun!\nClass label: bad\nInput: Mud.", "Output: Oaks."),
        "zh": ("类别标签：好\n输入：晴天！\n类别标签：坏\n输入：泥巴。", "输出：松树。"),
    }[language]

    def instances(request: Request, sampling: Sampling) -> str:
        return answers[0] if step_of(request) == "output-first" else answers[1]

    made = Outcome(teacher(lambda *_: lists, instances, "mood|心情"), language, target=3)
    assert len(made.asked("output-first")) == len(made.asked("input-first")) == 1
    first, second, third = made.rows
    assert (first.response, second.response) == (("good", "bad") if language == "en" else
                                                 ("好", "坏"))  # fmt: skip
    assert first.meta["task"] == second.meta["task"]
    assert [first.meta["instance"], second.meta["instance"]] == [1, 2]
    assert first.prompt.endswith(f"\n\n{first.meta['input']}")
    assert first.meta["is_classification"] is second.meta["is_classification"] is True
    assert first.meta["group"] == "understanding" and "group" not in third.meta
    assert third.meta["is_classification"] is False


def test_an_unclear_answer_is_no_and_is_counted() -> None:
    def reply(request: Request, sampling: Sampling) -> str:
        if step_of(request) == "question":
            return "Well, it"
        return teacher(topics())(request, sampling)  # type: ignore[return-value]

    made = Outcome(reply, target=1)
    assert made.ledger.tallies[1].to_json()["changed"] == {"unclear_classification": 2}
    assert not made.asked("output-first")


# --- step 3: examples ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "rule"),
    [
        ("It depends.", "no_output_label"),
        ("", "empty_answer"),
        ("Input: rain\nOutput:", "empty_answer"),
        ("Input: rain\nOutput: rain", "copy"),
        ("Input: none\nOutput: As follows:", "cut_off"),
        ("Input: the list is:\nOutput: Fine", "cut_off"),
        ("Input: 雨\nOutput: 如下：", "cut_off"),
        (Completion("Input: none\nOutput: An unfin", "length"), "truncated"),
        (Completion("", "error"), "engine_error"),
    ],
)
def test_examples_that_can_not_be_used(reply: str | Completion, rule: str) -> None:
    given = in_turn(reply, "Input: a word\nOutput: A fine answer.", *["Output: Fine."] * 2)
    made = Outcome(teacher(topics(), given), target=1)
    assert made.rules() == [rule]
    assert made.rows[0].prompt.endswith("\n\na word")
    assert made.rows[0].meta["input"] == "a word"
    funnel = made.ledger.tallies[1].to_json()
    assert funnel["in"] == funnel["out"] + 1


def test_all_examples_of_a_task_go_when_one_input_has_two_outputs() -> None:
    text = (
        "Example 1\nInput: a\nOutput: x\nExample 2\nInput: b\nOutput: y\n"
        "Example 3\nInput: a\nOutput: z"
    )
    made = Outcome(teacher(topics(), in_turn(text, "Output: Fine.")), target=1)
    assert made.rules() == ["differing_outputs"] * 3
    assert "'x'" in made.rejects[0]["evidence"] and "'z'" in made.rejects[0]["evidence"]
    # Without an input, two outputs are two good answers.
    both = "Output: One way.\nOutput: Another way."
    made = Outcome(teacher(topics(), both), target=1)
    assert made.rules() == [] and len(made.rows) == 4


def test_repeats_go_and_at_most_five_stay() -> None:
    parts = [f"Example {n}\nInput: {n}\nOutput: number {n}" for n in (1, 2, 2, 3, 4, 5, 6)]
    made = Outcome(teacher(topics(), in_turn("\n".join(parts), "Output: Fine.")), target=1)
    assert made.rules() == ["repeated_instance", "too_many_instances"]
    assert [row.response for row in made.rows[:5]] == [f"number {n}" for n in (1, 2, 3, 4, 5)]
    assert [row.meta["instance"] for row in made.rows[:5]] == [1, 2, 3, 4, 5]
    made = Outcome(
        teacher(topics(), in_turn("\n".join(parts), "Output: Fine.")), target=1, max_instances=1
    )
    assert [row.response for row in made.rows] == ["number 1", "Fine."]


def test_only_the_last_example_of_a_cut_answer_goes() -> None:
    text = "Example 1\nInput: a\nOutput: x\nExample 2\nInput: b\nOutput: unfin"
    cut = Completion(text, "length")
    made = Outcome(teacher(topics(), in_turn(cut, "Output: Fine.")), target=1)
    assert made.rules() == ["truncated"]
    assert made.rows[0].response == "x"


# --- the whole -------------------------------------------------------------------------------


def test_nearest_tasks_are_those_of_rouge_score() -> None:
    made = Outcome(teacher(topics()), target=8)
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    pool = {task.id: task.instruction for task in SEEDS}
    for row in made.rows:
        scores = {
            name: scorer.score(row.prompt, other)["rougeL"].fmeasure for name, other in pool.items()
        }
        best = sorted(scores.items(), key=lambda item: -item[1])[:10]
        found = row.meta["nearest"]
        assert [f1 for _, f1 in found] == pytest.approx([f1 for _, f1 in best], abs=1e-6)
        for name, f1 in found:
            assert scores[name] == pytest.approx(f1, abs=1e-6)
        assert row.meta["nearest_mean"] == pytest.approx(
            sum(scores.values()) / len(scores), abs=1e-6
        )
        pool[row.meta["task"]] = row.prompt


def test_nearest_in_chinese_and_switched_off() -> None:
    pool = NearestTasks(2)
    for name, text in (("a", "写一首关于春天的诗"), ("b", "写一首关于秋天的诗"), ("c", "煮面")):
        pool.add(name, text)
    # Of nine characters each, eight are common: 2·8/18; nothing is common with the last.
    expected = {"nearest": [["a", 1.0], ["b", 0.888889]], "nearest_mean": 0.62963}
    assert pool.meta("写一首关于春天的诗") == expected
    assert tokens("写一首关于春天的诗") == list("写一首关于春天的诗")
    made = Outcome(teacher(topics()), target=1, nearest=0)
    assert "nearest" not in made.rows[0].meta


def test_a_teacher_with_nothing_new_stops_the_run_with_a_note() -> None:
    text = " Tell me about rivers in the north\nTask 10: Tell me about rivers in the north"
    made = Outcome(teacher(lambda *_: text), target=50, requests_per_round=1)
    assert len(made.rows) == 1
    assert made.made.rounds == 6
    assert "1 of 50" in made.made.notes[0] and "nothing new" in made.made.notes[0]
    made = Outcome(teacher(topics()), target=50, requests_per_round=1, max_rounds=2)
    assert "max_rounds" in made.made.notes[0]


def test_a_teacher_that_says_nothing_is_an_error_that_says_so() -> None:
    with pytest.raises(StageError, match="no_instruction"):
        Outcome(teacher(lambda *_: ""), target=5)
    with pytest.raises(StageError, match="not_novel"):
        Outcome(teacher(lambda *_: f" {SEEDS[0].instruction}"), target=5)


def test_the_same_seed_gives_the_same_rows() -> None:
    first = Outcome(teacher(topics()), target=8)
    assert Outcome(teacher(topics()), target=8).rows == first.rows


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_run_cut_anywhere_goes_on_and_asks_nothing_twice(
    language: Language, tmp_path: Path
) -> None:
    config = SelfInstructConfig(target=25, requests_per_round=3)
    seeds = read_seeds(seed_path(language))
    engine = OfflineEngine(seed=3)

    def start(engine: Any, ledger: Ledger) -> Iterator[Example]:
        return generator(engine, config, language, seeds, 5, ledger).rows()

    whole = rows_and_rejects(start, engine)
    _, requests = resumed(start, engine, tmp_path / "whole.jsonl", [])
    rng = Random(f"cuts {language}")
    for number in range(3):
        cuts = [rng.randrange(1, requests // 3) for _ in range(2)]
        again, total = resumed(start, engine, tmp_path / f"{number}.jsonl", cuts)
        assert again == (whole[0], whole[1]), cuts
        assert total == requests, cuts


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_embedded_teacher_reaches_the_target(language: Language) -> None:
    config = SelfInstructConfig(target=120)
    seeds = read_seeds(seed_path(language))

    def start(engine: Any, ledger: Ledger) -> Iterator[Example]:
        return generator(engine, config, language, seeds, 1, ledger).rows()

    options = {"example_fault_rate": 0.4, "odd_format_rate": 0.3, "malformed_rate": 0.1}
    rows, rejects, ledger = rows_and_rejects(start, OfflineEngine(seed=1, options=options))
    assert len(rows) >= 120
    assert len({row.id for row in rows}) == len(rows)
    assert any(row.meta["is_classification"] for row in rows)
    rules = Counter(reject["rule"] for reject in rejects)
    assert set(rules) >= {
        "not_novel", "blacklisted", "truncated", "repeated_instance", "no_output_label", "cut_off",
        "short_instruction", "odd_opening",
    }  # fmt: skip
    for tally in ledger.tallies:
        funnel = tally.to_json()
        assert funnel["in"] == funnel["out"] + sum(funnel["rejected"].values())


# --- seeds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LANGUAGES)
def test_built_in_seeds(name: Language) -> None:
    tasks = read_seeds(seed_path(name))
    assert len(tasks) >= 75
    assert language_of(tasks) == name
    assert all(task.instances and task.is_classification is not None for task in tasks)


@pytest.mark.parametrize(
    ("name", "language"),
    [("self_instruct/seed_tasks.jsonl", "en"), ("belle_zh/zh_seed_tasks.jsonl", "zh")],
)
def test_published_seeds(shared_data: Path, name: str, language: Language) -> None:
    tasks = read_seeds(shared_data / name)
    assert len(tasks) == 175
    assert sum(task.is_classification is True for task in tasks) == 26
    assert all(len(task.instances) == 1 and task.instances[0].output for task in tasks)
    assert language_of(tasks) == language
    assert len({task.id for task in tasks}) == 175


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ('{"name": "x"}', "instruction"),
        ('{"instruction": "  "}', "instruction"),
        ('{"instruction": "Name a colour.", "instances": {}}', "instances"),
        ('{"instruction": "Name a colour.", "instances": [{"input": ""}]}', "instances"),
        ('{"instruction": "Name a colour.", "instances": ["red"]}', "instances"),
        ("[1]", "instruction"),
    ],
)
def test_a_seed_that_can_not_be_read(tmp_path: Path, row: str, field: str) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_text(f'{{"instruction": "Name a colour."}}\n{row}\n', encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_seeds(path)
    assert "line 2" in caught.value.render() and field in caught.value.render()


def test_seeds_in_alpaca_form(tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_text(
        '{"instruction": "Name a colour.", "input": "", "output": "Red."}\n'
        '{"instruction": "Add one.", "input": "2", "output": "3"}\n',
        encoding="utf-8",
    )
    assert [task.instances[0].input for task in read_seeds(path)] == ["", "2"]
