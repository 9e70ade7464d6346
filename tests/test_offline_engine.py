"""The offline engine: faults at their rates, repeatable, and right where it should be."""

from __future__ import annotations

import hashlib
import math
import re
import subprocess
import sys
from random import Random

import pytest

from espalier.engines.base import Completion, Engine, Request, Sampling
from espalier.engines.offline import OfflineEngine, count_tokens
from espalier.errors import UsageError
from espalier.judging import Judge, pairwise_prompt, parse_pairwise, parse_rubric, rubric_prompt
from espalier.offline.families import BY_NAME, solve
from espalier.offline.judge import quality, read_judging
from espalier.offline.source import draw_prompts
from espalier.offline.style import PREFIXES, REFUSALS
from espalier.records import Example
from espalier.refusals import is_refusal

CLEAN = {
    "style_flaw": 0, "style_flaw_rest": 0, "error_rate": 0, "refusal_rate": 0, "empty_rate": 0,
    "copy_rate": 0, "truncation_rate": 0, "duplicate_rate": 0, "blacklist_rate": 0,
    "malformed_rate": 0, "list_truncation_rate": 0, "odd_format_rate": 0,
    "example_fault_rate": 0, "judge_noise": 0,
}  # fmt: skip
GREEDY = Sampling(temperature=0)
WARM = Sampling(temperature=0.7)
LIST_EN = (
    "Come up with a series of tasks. Each task is one instruction that a language model can "
    "follow.\n\nTask 1: Write a poem about cats.\nTask 2: Say what rain is.\nTask 3:"
)
LIST_ZH = (
    "请想出一系列任务。每个任务是一条语言模型能够完成的指令。\n\n"
    "任务1：写一首关于猫的诗。\n任务2：说说雨是什么。\n任务3："
)
INPUT_FIRST_EN = "Write examples for the last of the tasks below.\n\nTask: {task}"
INPUT_FIRST_ZH = "请为下面的最后一个任务写例子。\n\n任务：{task}"
OUTPUT_FIRST_EN = "Each task below is a classification task.\n\nTask: {task}"
OUTPUT_FIRST_ZH = "下面都是分类任务。\n\n任务：{task}"
QUESTION_EN = "Is the task a classification task?\n\nTask: {task}\nIs it classification?"
QUESTION_ZH = "下面的任务是不是分类任务？\n\n任务：{task}\n是分类任务吗？"


@pytest.fixture(scope="module")
def prompts() -> list[Example]:
    return draw_prompts(8000, seed=17)


def ask(engine: OfflineEngine, *texts: str, sampling: Sampling = GREEDY) -> list[Completion]:
    return list(engine.generate([Request.of(text) for text in texts], sampling))


def within(count: int, n: int, rate: float) -> bool:
    """Within 4.5 standard deviations of a binomial, and a half for discreteness."""
    return abs(count - n * rate) <= 4.5 * math.sqrt(n * rate * (1 - rate)) + 0.5


def test_it_is_an_engine() -> None:
    engine = OfflineEngine()
    assert isinstance(engine, Engine)
    assert engine.costly is False
    engine.close()


def test_without_faults_every_answer_is_right(prompts: list[Example]) -> None:
    replies = ask(OfflineEngine(seed=1, options=CLEAN), *(e.prompt for e in prompts))
    assert all(r.text == e.reference for r, e in zip(replies, prompts, strict=True))
    assert all(r.finish_reason == "stop" for r in replies)


def test_faults_come_at_their_rates(prompts: list[Example]) -> None:
    rates = {
        "error_rate": 0.1, "refusal_rate": 0.05, "empty_rate": 0.04, "copy_rate": 0.03,
        "truncation_rate": 0.06, "style_flaw": 0, "style_flaw_rest": 0,
    }  # fmt: skip
    replies = ask(OfflineEngine(seed=2, options=rates), *(e.prompt for e in prompts))
    counts = dict.fromkeys(("right", *rates), 0)
    for reply, example in zip(replies, prompts, strict=True):
        if reply.finish_reason == "length":
            counts["truncation_rate"] += 1
            assert (example.reference or "").startswith(reply.text)
        elif reply.text == example.reference:
            counts["right"] += 1
        elif reply.text == example.prompt:
            counts["copy_rate"] += 1
        elif not reply.text:
            counts["empty_rate"] += 1
        elif reply.text in REFUSALS.values():
            assert is_refusal(reply.text)
            counts["refusal_rate"] += 1
        else:
            counts["error_rate"] += 1
    for name, rate in rates.items():
        assert within(counts[name], len(prompts), rate), (name, counts)
    assert within(counts["right"], len(prompts), 0.72)


def test_the_style_flaw_splits_the_families(prompts: list[Example]) -> None:
    replies = ask(OfflineEngine(seed=3), *(e.prompt for e in prompts))
    for flawed, rate in ((True, 0.6), (False, 0.15)):
        chosen = [
            (reply, example)
            for reply, example in zip(replies, prompts, strict=True)
            if BY_NAME[example.meta["category"]].flawed == flawed
        ]
        styled = sum(r.text == PREFIXES[e.meta["language"]] + str(e.reference) for r, e in chosen)
        plain = sum(r.text == e.reference for r, e in chosen)
        # The other faults (0.06 together) are drawn independently of the style.
        assert within(styled, len(chosen), rate * 0.94), flawed
        assert within(plain, len(chosen), (1 - rate) * 0.94), flawed


def test_greedy_answers_ignore_the_sample_number(prompts: list[Example]) -> None:
    engine = OfflineEngine(seed=4)
    few = [e.prompt for e in prompts[:300]]
    first = list(engine.generate([Request.of(p, sample=0) for p in few], GREEDY))
    other = list(engine.generate([Request.of(p, sample=9) for p in few], GREEDY))
    assert first == other


def test_samples_differ_at_a_temperature(prompts: list[Example]) -> None:
    engine = OfflineEngine(seed=4)
    few = [e.prompt for e in prompts[:300]]
    first = [c.text for c in engine.generate([Request.of(p, sample=0) for p in few], WARM)]
    again = [c.text for c in engine.generate([Request.of(p, sample=0) for p in few], WARM)]
    other = [c.text for c in engine.generate([Request.of(p, sample=1) for p in few], WARM)]
    assert first == again
    assert first != other
    seeded = OfflineEngine(seed=5)
    assert first != [c.text for c in seeded.generate([Request.of(p) for p in few], WARM)]


def test_the_order_of_requests_does_not_matter(prompts: list[Example]) -> None:
    engine = OfflineEngine(seed=6)
    few = [e.prompt for e in prompts[:200]]
    assert ask(engine, *few) == ask(engine, *reversed(few))[::-1]


SCRIPT = """
import hashlib
from espalier.engines.base import Request, Sampling
from espalier.engines.offline import OfflineEngine
from espalier.offline.corpus import pretraining_texts
from espalier.offline.source import draw_prompts
digest = hashlib.sha256()
prompts = [e.prompt for e in draw_prompts(300, seed=8)]
tasks = [%r, %r, "Tell me about clouds", "说说云"]
requests = [Request.of(p, sample=1) for p in prompts + tasks]
for reply in OfflineEngine(seed=7).generate(requests, Sampling(temperature=0.7)):
    digest.update(f"{reply}".encode())
for text in pretraining_texts(200, seed=9):
    digest.update(text.encode())
print(digest.hexdigest())
"""


def test_the_same_in_every_process() -> None:
    script = SCRIPT % (LIST_EN, LIST_ZH)
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert len(found.pop()) == hashlib.sha256().digest_size * 2


# --- Self-Instruct ---------------------------------------------------------------------------


@pytest.mark.parametrize(("prompt", "line"), [(LIST_EN, "\nTask 4: "), (LIST_ZH, "\n任务4：")])
def test_a_list_is_continued_with_its_numbers(prompt: str, line: str) -> None:
    (reply,) = ask(OfflineEngine(seed=1, options=CLEAN), prompt, sampling=WARM)
    assert reply.finish_reason == "stop"
    assert line in reply.text
    numbered = line.replace("4", "{}")
    places = [reply.text.index(numbered.format(number)) for number in range(4, 9)]
    assert places == sorted(places)
    first = reply.text.split("\n", maxsplit=1)[0]
    assert first and not first.startswith(("Task", "任务"))


def test_lists_are_cut_now_and_then() -> None:
    requests = [Request.of(LIST_EN, sample=sample) for sample in range(400)]
    replies = list(OfflineEngine(seed=1).generate(requests, WARM))
    cut = sum(reply.finish_reason == "length" for reply in replies)
    assert within(cut, 400, 0.1)
    assert len({reply.text for reply in replies}) == 400


@pytest.mark.parametrize(
    ("template", "task", "expected"),
    [
        (INPUT_FIRST_EN, "What is the capital of France?", "Output: Paris"),
        (INPUT_FIRST_EN, "Change 3 hours into minutes.", "Output: 180 minutes"),
        (INPUT_FIRST_ZH, "写出“大”的反义词。", "输出：小"),
        (INPUT_FIRST_ZH, "3小时换成分钟。", "输出：180分钟"),
        (INPUT_FIRST_EN, "Who was Napoleon?", "Output: I know little about napoleon."),
        (QUESTION_EN, "Change 3 hours into minutes.", "No"),
        (QUESTION_EN, "Is the text below calm or angry?", "Yes"),
        (QUESTION_EN, "Decide whether the argument is valid.", "Yes"),
        (QUESTION_ZH, "3小时换成分钟。", "否"),
        (QUESTION_ZH, "下面这段话是平静还是生气？", "是"),
        (QUESTION_ZH, "把新闻归入体育、财经之一。", "是"),
    ],
)
def test_questions_and_examples_of_tasks(template: str, task: str, expected: str) -> None:
    (reply,) = ask(OfflineEngine(options=CLEAN), template.replace("{task}", task))
    assert reply.text == expected


@pytest.mark.parametrize(
    ("template", "task", "first", "second"),
    [
        (INPUT_FIRST_EN, "Find the verb in the given sentence.", "Input: ", "Output: "),
        (INPUT_FIRST_ZH, "找出所给句子里的动词。", "输入：", "输出："),
        (OUTPUT_FIRST_EN, "Is the text below calm or angry?", "Class label: ", "Input: "),
        (OUTPUT_FIRST_ZH, "下面这段话是平静还是生气？", "类别标签：", "输入："),
    ],
)
def test_an_example_input_can_be_asked_again(
    template: str, task: str, first: str, second: str
) -> None:
    engine = OfflineEngine(options=CLEAN)
    (reply,) = ask(engine, template.replace("{task}", task))
    parts = {label: re.findall(rf"(?m)^{label}(.+)$", reply.text) for label in (first, second)}
    given, output = (first, second) if first in ("Input: ", "输入：") else (second, first)
    assert len(parts[given]) == len(parts[output]) > 0
    for text, label in zip(parts[given], parts[output], strict=True):
        (again,) = ask(engine, f"{task}\n\n{text}")
        assert again.text == label
    if first not in ("Input: ", "输入："):
        assert len(set(parts[first])) == len(parts[first])


def test_a_list_of_whole_tasks_goes_on_to_its_size() -> None:
    prompt = (
        "Come up with a set of 20 different tasks.\n\n###\n1. Instruction: Name a fruit.\n"
        "1. Input:\n<noinput>\n1. Output:\nA pear.\n###\n2. Instruction:"
    )
    roomy = Sampling(temperature=1.0, max_tokens=3072)
    (reply,) = ask(OfflineEngine(seed=1, options=CLEAN), prompt, sampling=roomy)
    assert reply.finish_reason == "stop"
    assert re.findall(r"(?m)^(\d+)\. Output:$", reply.text) == [str(n) for n in range(2, 21)]
    assert not reply.text.startswith("2.")


@pytest.mark.parametrize("rate", ["odd_format_rate", "example_fault_rate"])
def test_faults_of_examples_come_at_their_rates(rate: str) -> None:
    tasks = [f"Change {n} hours into minutes." for n in range(1, 1501)]
    prompts = [INPUT_FIRST_EN.replace("{task}", task) for task in tasks]
    clean = ask(OfflineEngine(options=CLEAN), *prompts)
    faulty = ask(OfflineEngine(options=CLEAN | {rate: 0.2}), *prompts)
    changed = sum(a.text != b.text for a, b in zip(clean, faulty, strict=True))
    assert within(changed, len(tasks), 0.2)


# --- sampling and options --------------------------------------------------------------------


def test_stop_strings_and_the_token_limit() -> None:
    engine = OfflineEngine(seed=1, options=CLEAN)
    (full,) = ask(engine, LIST_EN)
    (stopped,) = ask(engine, LIST_EN, sampling=Sampling(temperature=0, stop=("\nTask 5",)))
    assert full.text.startswith(stopped.text)
    assert "\nTask 5" not in stopped.text and "\nTask 4" in stopped.text
    assert stopped.finish_reason == "stop"
    for prompt in (LIST_EN, LIST_ZH):
        (short,) = ask(engine, prompt, sampling=Sampling(temperature=0, max_tokens=20))
        assert short.finish_reason == "length"
        assert 15 <= count_tokens(short.text) <= 21
        assert short.usage.completion_tokens == count_tokens(short.text)
    assert count_tokens("four") == 1 and count_tokens("四个字啊") == 4


def test_token_requests_are_refused() -> None:
    with pytest.raises(UsageError, match="token ids"):
        list(OfflineEngine().generate([Request(token_ids=(1, 2))], GREEDY))


def test_wrong_options_are_named() -> None:
    with pytest.raises(UsageError, match="did you mean 'refusal_rate'"):
        OfflineEngine(options={"refusals_rate": 0.1})
    with pytest.raises(UsageError, match=r"'error_rate'[^\n]* 2"):
        OfflineEngine(options={"error_rate": 2})
    with pytest.raises(UsageError, match="'style_flaw'"):
        OfflineEngine(options={"style_flaw": "often"})
    with pytest.raises(UsageError, match="add up to"):
        OfflineEngine(options={"error_rate": 0.6, "empty_rate": 0.6})


# --- the judge -------------------------------------------------------------------------------


def test_the_order_of_answers_to_a_known_task() -> None:
    question = "Repeat the word red 3 times."
    answers = [
        "red red red",
        "The answer is red red red",
        "red red",
        "blue",
        "",
    ]
    values = [quality(question, answer) for answer in answers]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(values)
    assert quality(question, "blue") > quality(question, REFUSALS["en"]) > quality(question, "")
    assert quality("写出“大”的反义词。", "小") > quality("写出“大”的反义词。", "答案是小")


def test_unknown_questions_are_judged_by_sense() -> None:
    question = "Why do cats sleep so much during the day?"
    good = "Cats sleep during the day because they hunt at night."
    values = [
        quality(question, answer)
        for answer in (good, "Bread bread bread bread bread", REFUSALS["en"], "")
    ]
    assert values == sorted(values, reverse=True)
    assert quality(question, good) > quality(question, question)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_judging_prompts_are_taken_apart(language: str) -> None:
    asked = read_judging(pairwise_prompt("q\n\nwith lines", "first\n\none", "", language))
    assert asked is not None
    assert (asked.question, asked.answers) == ("q\n\nwith lines", ("first\n\none", ""))
    asked = read_judging(rubric_prompt("q", "only", language))
    assert asked is not None
    assert (asked.question, asked.answers) == ("q", ("only",))
    assert read_judging("Compare two answers") is None


def test_judge_is_right_but_for_its_noise(prompts: list[Example]) -> None:
    wrong = [BY_NAME[e.meta["category"]].draw(Random(e.id))[1] for e in prompts]
    items = [
        (e.prompt, str(e.reference), bad)
        for e, bad in zip(prompts, wrong, strict=True)
        if bad != e.reference
    ]
    comparisons = Judge(OfflineEngine(seed=1)).compare_fully(items)
    n = len(items)
    assert n > 6000
    one_way = sum(c.forward == "A" for c in comparisons)
    assert within(one_way, n, 0.95)
    assert within(sum(c.verdict == "A" for c in comparisons), n, 0.95**2)
    assert within(sum(c.verdict == "B" for c in comparisons), n, 0.05**2)
    assert within(sum(c.verdict == "tie" for c in comparisons), n, 2 * 0.05 * 0.95)
    quiet = Judge(OfflineEngine(options={"judge_noise": 0})).compare(items)
    assert quiet == ["A"] * n


def test_verdicts_do_not_depend_on_the_position(prompts: list[Example]) -> None:
    judge = Judge(OfflineEngine(options={"judge_noise": 0}))
    pairs = [(e.prompt, f"The answer is {e.reference}", str(e.reference)) for e in prompts[:100]]
    swapped = [(question, b, a) for question, a, b in pairs]
    assert {"A": "B", "B": "A", "tie": "tie"}[str(judge.compare(pairs)[0])] == (
        judge.compare(swapped)[0]
    )
    assert judge.compare([("Add 1 and 2.", "3", "3")]) == ["tie"]


def test_marks_fall_with_quality() -> None:
    judge = Judge(OfflineEngine(options={"judge_noise": 0}))
    question = "Repeat the word red 3 times."
    answers = ["red red red", "The answer is red red red", "red red", "blue", REFUSALS["en"], ""]
    rubrics = judge.rate([(question, answer) for answer in answers])
    means = [rubric.mean for rubric in rubrics if rubric is not None]
    assert len(means) == len(answers)
    assert means == sorted(means, reverse=True)
    assert means[0] == 5 and means[0] > means[1] > means[3]
    (unsafe,) = judge.rate([("Say hello to Tom.", "I will kill Tom")])
    assert unsafe is not None and not unsafe.safe
    (chinese,) = judge.rate([("写出“大”的反义词。", "小")])
    assert chinese is not None and chinese.mean == 5


def test_replies_of_the_judge_are_text_that_the_parsers_read(prompts: list[Example]) -> None:
    engine = OfflineEngine(seed=2)
    for example in prompts[:50]:
        lang = example.meta["language"]
        pair, rating = ask(
            engine,
            pairwise_prompt(example.prompt, "x", "y", lang),
            rubric_prompt(example.prompt, "x", lang),
        )
        assert parse_pairwise(pair.text) is not None
        assert parse_rubric(rating.text) is not None
        assert solve(example.prompt) is not None
