"""The embedded teacher in Evol-Instruct and self-chat: what it writes, it can answer rightly."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from espalier.curate.config_evolve import INPUT_FORMATS, OPERATORS, EvolveConfig, Operator
from espalier.curate.elimination import failed_answer, leaked
from espalier.curate.evolve_prompts import (
    equality_prompt,
    evolve_prompt,
    parse_equality,
    parse_rewrite,
)
from espalier.curate.options import Language
from espalier.curate.self_chat import parse_user, user_prompt
from espalier.engines.base import Completion, Request, Sampling
from espalier.engines.offline import OfflineEngine
from espalier.offline import chatting, evolving
from espalier.offline.evolving import read_evolved, right_answer
from espalier.offline.families import solve
from espalier.offline.hashing import Draws
from espalier.offline.instructions import compose
from espalier.offline.source import draw_prompts
from espalier.offline.style import OfflineOptions
from espalier.offline.wishes import OPERATOR_WISHES, hidden_task, hide_task, with_wish
from espalier.records import Example, Message
from espalier.text import length, normalise

CONFIG = EvolveConfig()
CLEAN = {
    "style_flaw": 0, "style_flaw_rest": 0, "error_rate": 0, "refusal_rate": 0, "empty_rate": 0,
    "copy_rate": 0, "truncation_rate": 0, "equal_rewrite_rate": 0, "leak_rate": 0,
    "rewrite_truncation_rate": 0, "rewrite_decoration_rate": 0, "sorry_rate": 0, "filler_rate": 0,
    "chat_end_rate": 0, "chat_label_rate": 0, "judge_noise": 0,
}  # fmt: skip
WARM = Sampling(temperature=1.0, max_tokens=4096)


@pytest.fixture(scope="module")
def prompts() -> list[Example]:
    return draw_prompts(1500, seed=23)


def ask(engine: OfflineEngine, *texts: str) -> list[Completion]:
    return list(engine.generate([Request.of(text) for text in texts], WARM))


def language_of(row: Example) -> Language:
    return "zh" if row.meta["language"] == "zh" else "en"


def evolved(
    engine: OfflineEngine, rows: list[tuple[str, Language]], operator: Operator, form: int = 0
) -> list[str]:
    requests = [
        evolve_prompt(text, operator, language, CONFIG, INPUT_FORMATS[(n + form) % 6])
        for n, (text, language) in enumerate(rows)
    ]
    return [parse_rewrite(reply.text) for reply in ask(engine, *requests)]


def within(count: int, n: int, rate: float) -> bool:
    """Within 4.5 standard deviations of a binomial, and a half for discreteness."""
    return abs(count - n * rate) <= 4.5 * math.sqrt(n * rate * (1 - rate)) + 0.5


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_gives_a_task_that_is_answered_rightly(
    operator: Operator, prompts: list[Example]
) -> None:
    engine = OfflineEngine(seed=1, options=CLEAN)
    rows = [(row.prompt, language_of(row)) for row in prompts]
    texts = evolved(engine, rows, operator)
    answers = [reply.text for reply in ask(engine, *texts)]
    for row, text, answer in zip(prompts, texts, answers, strict=True):
        if operator == "breadth":
            known = solve(text)
            assert known is not None and known.family.name == row.meta["category"]
            assert answer == known.answer
            continue
        assert row.prompt in text or operator == "complicate_input"
        under = read_evolved(text)
        assert under is not None and under.task == row.prompt
        assert right_answer(text) == (row.meta["language"], answer)
        assert str(row.reference).casefold() in answer.casefold()
        if operator != "complicate_input":
            assert 0 < length(text) - length(row.prompt) <= 24
            assert answer != row.reference or "capital letters" in text


def test_constraints_are_met(prompts: list[Example]) -> None:
    """Each wish against what its words ask for, read here from the text alone."""
    engine = OfflineEngine(seed=1, options=CLEAN)
    row = next(r for r in prompts if r.meta["category"] == "antonym_en")
    right = str(row.reference)
    expected = {
        "Write the whole answer in capital letters.": right.upper(),
        "Put the whole answer between square brackets.": f"[{right}]",
        "Give the answer twice, with a semicolon between.": f"{right}; {right}",
        "End with three exclamation marks.": f"{right}!!!",
        "Also say, in brackets after the answer, how many words it has.": f"{right} (words: 1)",
        "First repeat the task, then answer on a line of its own.": f"{row.prompt}\n{right}",
    }
    for wish, answer in expected.items():
        assert ask(engine, f"{row.prompt} {wish}")[0].text == answer
    row = next(r for r in prompts if r.meta["category"] == "antonym_zh")
    right = str(row.reference)
    chinese = {
        "请把整个答案放在方括号里。": f"【{right}】",
        "请把答案写两遍，中间用分号隔开。": f"{right}；{right}",
        "还请在答案后面的括号里写出它有几个字。": f"{right}（字数：1）",
        "请先重复题目，再另起一行回答。": f"{row.prompt}\n{right}",
    }
    for wish, answer in chinese.items():
        assert ask(engine, row.prompt + wish)[0].text == answer


def test_wishes_add_up_in_the_order_in_which_they_were_made(prompts: list[Example]) -> None:
    engine = OfflineEngine(seed=2, options=CLEAN)
    rng = Random(5)
    rows = [(row.prompt, language_of(row)) for row in prompts[:300]]
    lines = [[text] for text, _ in rows]
    for number in range(5):
        operator = rng.choice([name for name in OPERATORS if name != "breadth"])
        texts = evolved(engine, [(line[-1], rows[i][1]) for i, line in enumerate(lines)], operator,
                        number)  # fmt: skip
        for line, text in zip(lines, texts, strict=True):
            line.append(text)
    final = [line[-1] for line in lines]
    known = [right_answer(text) for text in final]
    for text, answer, reply in zip(final, known, ask(engine, *final), strict=True):
        if answer is None:
            # Nothing more could be added, so it went on in breadth: a plain task of the family.
            assert solve(text) is not None
        else:
            assert reply.text == answer[1]
    assert sum(answer is not None for answer in known) > 200


@pytest.mark.parametrize("form", INPUT_FORMATS)
@pytest.mark.parametrize(
    "task",
    [
        "Say \"hi\" & 'bye' <now>.",
        "It's a \\ path\nin two lines",
        "写出“大”的反义词。",
        "'",
        '"',
        "a",
    ],
)
def test_any_task_can_be_hidden_and_found(form: str, task: str) -> None:
    for language in OPERATOR_WISHES:
        hidden = hide_task(task, form, language)
        assert hidden_task(hidden) == task
        wish = OPERATOR_WISHES[language]["reasoning"][0]
        found = read_evolved(with_wish(hidden, wish))
        assert found is not None and (found.task, found.wishes) == (task, (wish,))


def test_open_tasks_evolve_too() -> None:
    engine = OfflineEngine(seed=1, options=CLEAN)
    rng = Random(1)
    for language in OPERATOR_WISHES:
        rows: list[tuple[str, Language]] = [(compose(language, rng), language) for _ in range(60)]
        for operator in OPERATORS:
            for (text, _), new in zip(rows, evolved(engine, rows, operator), strict=True):
                assert normalise(new) != normalise(text)


def test_other_prompts_are_answered_as_before(prompts: list[Example]) -> None:
    draws, options = Draws("x"), OfflineOptions()
    rng = Random(2)
    texts = [row.prompt for row in draw_prompts(6000, seed=7)]
    texts += [compose("zh" if n % 2 else "en", rng) for n in range(2000)]
    for text in texts:
        assert evolving.reply(text, draws, options) is None
        assert chatting.reply(text, draws, options) is None


def test_judgements_of_equality(prompts: list[Example]) -> None:
    quiet, noisy = OfflineEngine(options={"judge_noise": 0}), OfflineEngine(seed=3)
    same = [equality_prompt(r.prompt, r.prompt + " ", language_of(r)) for r in prompts]
    other = [equality_prompt(a.prompt, b.prompt, language_of(a)) for a, b in pairwise(prompts)]
    assert all(parse_equality(reply.text) is True for reply in ask(quiet, *same))
    assert all(parse_equality(reply.text) is False for reply in ask(quiet, *other))
    wrong = sum(parse_equality(reply.text) is False for reply in ask(noisy, *same))
    assert within(wrong, len(same), 0.05)


def test_faults_of_rewrites_come_at_their_rates(prompts: list[Example]) -> None:
    rates = {"equal_rewrite_rate": 0.1, "leak_rate": 0.15, "rewrite_truncation_rate": 0.2}
    engine = OfflineEngine(seed=2, options={**CLEAN, **rates})
    requests = [
        evolve_prompt(row.prompt, "constraints", language_of(row), CONFIG) for row in prompts
    ]
    counts: Counter[str] = Counter()
    for row, reply in zip(prompts, ask(engine, *requests), strict=True):
        if reply.finish_reason == "length":
            counts["rewrite_truncation_rate"] += 1
        elif leaked(reply.text, row.prompt, CONFIG.eliminate):
            counts["leak_rate"] += 1
        elif reply.text == row.prompt:
            counts["equal_rewrite_rate"] += 1
    for name, rate in rates.items():
        assert within(counts[name], len(prompts), rate), (name, counts)


def test_faults_of_answers_come_at_their_rates(prompts: list[Example]) -> None:
    rates = {"sorry_rate": 0.1, "filler_rate": 0.15}
    engine = OfflineEngine(seed=2, options={**CLEAN, **rates})
    wishes = {language: OPERATOR_WISHES[language]["constraints"][1] for language in OPERATOR_WISHES}
    texts = [with_wish(row.prompt, wishes[language_of(row)]) for row in prompts]
    for language in OPERATOR_WISHES:
        chosen = [t for t, row in zip(texts, prompts, strict=True) if language_of(row) == language]
        rules = Counter(
            verdict[0]
            for reply in ask(engine, *chosen)
            if (verdict := failed_answer(reply.text, CONFIG.eliminate))
        )
        assert within(rules["sorry"], len(chosen), 0.1)
        assert within(rules["stop_words_only"], len(chosen), 0.15)


def test_the_simulated_user_goes_on_with_what_can_be_answered(prompts: list[Example]) -> None:
    engine = OfflineEngine(seed=1, options=CLEAN)
    for row in prompts[:200]:
        turns = list(row.messages)
        for _ in range(3):
            turns.append(Message("assistant", "An answer."))
            (reply,) = ask(engine, user_prompt(turns, language_of(row)))
            said = parse_user(reply.text)
            task = said.removeprefix(said[: _opening(said)])
            known = solve(task)
            assert known is not None and known.family.name == row.meta["category"], said
            assert ask(engine, said)[0].text == known.answer
            turns.append(Message("user", said))


def _opening(said: str) -> int:
    """Where the task begins, behind the first colon and its space."""
    mark = min(place for place in (said.find(": "), said.find("：")) if place >= 0)
    return mark + (2 if said[mark] == ":" else 1)


def test_the_simulated_user_ends_and_labels_at_its_rates(prompts: list[Example]) -> None:
    engine = OfflineEngine(seed=1, options={**CLEAN, "chat_end_rate": 0.3, "chat_label_rate": 0.2})
    requests = [
        user_prompt([*row.messages, Message("assistant", "Yes.")], language_of(row))
        for row in prompts
    ]
    replies = [reply.text for reply in ask(engine, *requests)]
    assert within(sum(not parse_user(text) for text in replies), len(prompts), 0.3)
    labelled = sum(text.startswith(("User: ", "用户：")) for text in replies)
    assert within(labelled, len(prompts), 0.7 * 0.2)
