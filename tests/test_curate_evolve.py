"""Evol-Instruct with scripted engines: operators, eliminations, lineage, rounds, resuming."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from espalier.curate import evolve as evolve_module
from espalier.curate.config import AnswerConfig
from espalier.curate.config_evolve import (
    INPUT_FORMATS,
    OPERATORS,
    EliminationConfig,
    EvolveConfig,
    Operator,
)
from espalier.curate.evolve import evolve
from espalier.curate.pipeline import Ledger
from espalier.engines.base import Completion, Engine, Request, Sampling
from espalier.engines.offline import OfflineEngine
from espalier.errors import StageError
from espalier.journal import Journal, JournaledEngine
from espalier.offline.source import draw_prompts
from espalier.records import Example, content_id

Reply = Callable[[Request], str | Completion]
GIVEN = re.compile(r"(?:#Given Prompt#:|#给定的指令#：)\n(.*)\n\n#[^\n]*\Z", re.DOTALL)
NOTES = ("carefully", "with care", "by the sea", "for a child", "in winter", "at noon", "for Ann",
         "in a hurry", "on paper", "by heart")  # fmt: skip


def kind(request: Request) -> str:
    """Which of the three requests of a round this is, by its text."""
    if GIVEN.search(request.prompt):
        return "evolve"
    if "[Second prompt]" in request.prompt or "【第二条指令】" in request.prompt:
        return "compare"
    return "answer"


def given(request: Request) -> str:
    found = GIVEN.search(request.prompt)
    assert found
    return found[1]


@dataclass
class Scripted:
    """An engine that answers by a function and remembers what it was asked."""

    reply: Reply
    model: str = "scripted"
    costly: bool = False
    asked: list[tuple[Request, Sampling]] = field(default_factory=list)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        for request in requests:
            self.asked.append((request, sampling))
            answer = self.reply(request)
            yield answer if isinstance(answer, Completion) else Completion(answer)

    def close(self) -> None:
        pass

    def of_kind(self, name: str) -> list[Request]:
        return [request for request, _ in self.asked if kind(request) == name]


def plain(request: Request) -> str:
    """Each instruction gets a few words more, each comparison differs, each task its answer."""
    if kind(request) == "evolve":
        number = int(content_id(request.prompt, str(request.sample)), 16)
        return f"{given(request)} {NOTES[number % len(NOTES)]} {number % 1000}"
    return "Not equal" if kind(request) == "compare" else f"Answer to {request.prompt}"


def start(count: int = 6) -> list[Example]:
    return [
        Example.single(f"Tell me about matter {n}", "Fine.", meta={"source": "seeds"})
        for n in range(count)
    ]


@dataclass
class Run:
    rows: list[Example]
    rejects: list[dict[str, Any]]
    teacher: Scripted
    judge: Scripted
    ledger: Ledger


def run(
    reply: Reply = plain,
    rows: Sequence[Example] | None = None,
    judge: Reply = plain,
    answers: AnswerConfig | None = None,
    **options: Any,
) -> Run:
    handle = io.StringIO()
    ledger = Ledger("evolve", handle)
    engines = Scripted(reply), Scripted(judge, model="judge")
    config = EvolveConfig(**{"rounds": 1, **options})
    made = list(evolve(rows or start(), *engines, config, 5, ledger, answers))
    rejects = [json.loads(line) for line in handle.getvalue().splitlines()]
    return Run(made, rejects, *engines, ledger)


def only(operator: Operator) -> dict[str, Any]:
    return {"operators": {operator: 1.0}}


# --- what is asked ---------------------------------------------------------------------------


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("text", ["Name {low} of {how} things.", "请列出{low}样东西。"])
def test_each_operator_asks_in_the_language_of_the_row(operator: Operator, text: str) -> None:
    made = run(rows=[Example.single(text)], **only(operator))
    (asked,) = made.teacher.of_kind("evolve")
    assert given(asked) == text
    head = asked.prompt.split(text)[0]
    chinese = len(re.findall(r"[\u4e00-\u9fff]", head))
    assert chinese > 60 if text.startswith("请") else chinese == 0
    assert not re.search(r"\{[a-z]+\}", head.replace("rm {}", ""))
    if operator == "breadth":
        assert "rarer" in head or "少见" in head
    else:
        assert re.search(r"10 to 20 words|10到20个词", head)
    (row,) = made.rows
    assert row.meta["operator"] == f"evolve:{operator}"
    assert row.meta["language"] == ("zh" if text.startswith("请") else "en")
    assert ("input_format" in row.meta) == (operator == "complicate_input")


def test_the_operators_ask_for_different_things() -> None:
    heads = set()
    for operator in OPERATORS:
        for text in ("Say why.", "说说为什么。"):
            made = run(rows=[Example.single(text)], **only(operator))
            heads.add(made.teacher.of_kind("evolve")[0].prompt)
    assert len(heads) == 2 * len(OPERATORS)


@pytest.mark.parametrize("name", INPUT_FORMATS)
def test_a_complicated_input_has_the_format_asked_for(name: str) -> None:
    signs = {"xml": "XML", "sql": "SQL", "python": "Python", "html": "HTML", "shell": "shell",
             "json": "JSON"}  # fmt: skip
    for text in ("Say why.", "说说为什么。"):
        made = run(rows=[Example.single(text)], input_formats=[name], **only("complicate_input"))
        prompt = made.teacher.of_kind("evolve")[0].prompt
        assert [sign for sign in signs.values() if sign in prompt] == [signs[name]]
        assert made.rows[0].meta["input_format"] == name


def test_the_words_to_add_are_options() -> None:
    made = run(min_added_words=3, max_added_words=7, **only("deepening"))
    assert all("Add 3 to 7 words" in asked.prompt for asked in made.teacher.of_kind("evolve"))


def test_sampling_is_the_papers_and_the_answers_own() -> None:
    made = run(answers=AnswerConfig(temperature=0.3, max_tokens=77))
    by_kind = {kind(request): sampling for request, sampling in made.teacher.asked}
    evolved, answer = by_kind["evolve"], by_kind["answer"]
    assert (evolved.temperature, evolved.top_p, evolved.max_tokens) == (1.0, 0.9, 2048)
    assert (answer.temperature, answer.max_tokens) == (0.3, 77)
    assert made.judge.asked[0][1].temperature == 0
    assert {kind(request) for request, _ in made.judge.asked} == {"compare"}


def test_the_teacher_can_be_the_judge() -> None:
    made = run(equality_by="teacher")
    assert not made.judge.asked
    assert len(made.teacher.of_kind("compare")) == 6


# --- the draw of operators -------------------------------------------------------------------


def operators_of(made: Run) -> dict[str, str]:
    return {row.meta["parents"][0]: row.meta["operator"] for row in made.rows}


def test_operators_are_drawn_uniformly_and_for_each_row_by_itself() -> None:
    rows = start(3000)
    first = operators_of(run(rows=rows))
    counts = Counter(first.values())
    assert len(counts) == 6
    # Within 4.5 standard deviations of a binomial with p = 1/6.
    assert all(abs(count - 500) < 4.5 * (3000 * 5 / 36) ** 0.5 for count in counts.values())
    again = operators_of(run(rows=rows[::-1][:500]))
    assert all(first[parent] == operator for parent, operator in again.items())
    other_order = dict.fromkeys(reversed(OPERATORS), 1.0)
    assert operators_of(run(rows=rows[:50], operators=other_order)).items() <= first.items()


def test_weights_are_followed() -> None:
    weights = {"deepening": 3.0, "breadth": 1.0, "reasoning": 0.0}
    counts = Counter(operators_of(run(rows=start(2000), operators=weights)).values())
    assert set(counts) == {"evolve:deepening", "evolve:breadth"}
    assert abs(counts["evolve:breadth"] - 500) < 4.5 * (2000 * 3 / 16) ** 0.5


@pytest.mark.parametrize(
    "wrong",
    [{"operators": {}}, {"operators": {"breadth": -1}}, {"operators": {"widen": 1}},
     {"min_added_words": 30}, {"input_formats": []}],
)  # fmt: skip
def test_impossible_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        EvolveConfig(**wrong)


# --- lineage and rounds ----------------------------------------------------------------------


def test_lineage_leads_back_to_the_first_instruction() -> None:
    made = run(rounds=4)
    assert len(made.rows) == 24 and not made.rejects
    seeds = {row.id: row for row in start()}
    known = {**seeds, **{row.id: row for row in made.rows}}
    for row in made.rows:
        (parent,) = row.meta["parents"]
        assert row.prompt.startswith(known[parent].prompt + " ")
        steps, line = 0, row
        while line.id not in seeds:
            line, steps = known[line.meta["parents"][0]], steps + 1
        assert (row.meta["root"], row.meta["depth"]) == (line.id, steps)
        assert row.meta["round"] == steps
        assert row.meta["teacher"] == "scripted"
        assert (row.meta["source"], row.meta["root_source"]) == ("evol-instruct", "seeds")
        assert row.response == f"Answer to {row.prompt}"
    assert [row.meta["round"] for row in made.rows] == sorted(r.meta["round"] for r in made.rows)


def test_what_fails_is_kept_and_its_origin_goes_on() -> None:
    def reply(request: Request) -> str:
        if kind(request) == "evolve" and given(request).endswith("matter 2"):
            # The first round gives a leak, the second one a good version.
            return "Write the Rewritten Prompt" if request.sample == 0 else "A good new one"
        return plain(request)

    made = run(reply, rounds=2, **only("constraints"))
    (reject,) = made.rejects
    origin = start()[2]
    assert (reject["rule"], reject["text"]) == ("leak", "Write the Rewritten Prompt")
    assert reject["meta"]["parents"] == [origin.id]
    assert (reject["meta"]["round"], reject["meta"]["back_in_pool"]) == (1, True)
    assert len(made.rows) == 5 + 6
    late = next(row for row in made.rows if row.prompt == "A good new one")
    assert late.meta["parents"] == [origin.id] == [late.meta["root"]]
    assert (late.meta["round"], late.meta["depth"]) == (2, 1)
    # The origin was shown twice, under two sample numbers; the others with what they became.
    shown = [r for r in made.teacher.of_kind("evolve") if given(r) == origin.prompt]
    assert [request.sample for request in shown] == [0, 1]


def test_nothing_goes_back_after_the_last_round() -> None:
    made = run(lambda r: "" if kind(r) == "evolve" and "matter 3" in r.prompt else plain(r))
    (reject,) = made.rejects
    assert (reject["rule"], reject["meta"]["back_in_pool"]) == ("no_rewrite", False)


def test_the_pool_is_frozen_within_a_round() -> None:
    made = run(rounds=2)
    shown = [given(request) for request in made.teacher.of_kind("evolve")]
    assert shown[:6] == [row.prompt for row in start()]
    assert shown[6:] == [row.prompt for row in made.rows[:6]]


def test_a_system_message_stays_with_its_instruction() -> None:
    row = Example.single("Say why.", system="Be brief.")
    made = run(rows=[row])
    assert [m.role for m in made.rows[0].messages] == ["system", "user", "assistant"]
    (asked,) = made.teacher.of_kind("answer")
    assert asked.messages[0].content == "Be brief."


# --- eliminations ----------------------------------------------------------------------------

EVOLVED = {
    "en": "Explain in two steps why the sky is blue.",
    "zh": "请分两步说明天空为什么是蓝的。",
}
ORIGIN = {"en": "Explain why the sky is blue.", "zh": "请说明天空为什么是蓝的。"}
GOOD = {"en": "Light is scattered by the air.", "zh": "空气使光散射。"}


def one(
    language: str, evolved: str = "", verdict: str = "", answer: str = "", **rules: Any
) -> tuple[list[Example], list[dict[str, Any]]]:
    """One instruction through one round with these replies."""

    def reply(request: Request) -> str:
        if kind(request) == "evolve":
            return evolved or EVOLVED[language]
        if kind(request) == "compare":
            return verdict or {"en": "Not equal", "zh": "不等同"}[language]
        return answer or GOOD[language]

    rows = [Example.single(ORIGIN[language])]
    try:
        made = run(reply, rows, reply, eliminate=rules, **only("constraints"))
    except StageError:
        handle = io.StringIO()
        ledger = Ledger("evolve", handle)
        config = EvolveConfig(rounds=1, eliminate=EliminationConfig(**rules), **only("constraints"))
        engine = Scripted(reply)
        with pytest.raises(StageError):
            list(evolve(rows, engine, engine, config, 5, ledger))
        return [], [json.loads(line) for line in handle.getvalue().splitlines()]
    return made.rows, made.rejects


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_good_one_passes(language: str) -> None:
    rows, rejects = one(language)
    assert not rejects
    assert (rows[0].prompt, rows[0].response) == (EVOLVED[language], GOOD[language])


CASES: list[tuple[str, str, str, dict[str, str]]] = [
    ("equal", "equal", "en", {"verdict": "Equal"}),
    ("equal", "equal", "zh", {"verdict": "等同。"}),
    ("equal", "equal", "en", {"evolved": "explain why the sky is blue"}),
    ("sorry", "sorry", "en", {"answer": "I'm Sorry, but the sky is what it is today."}),
    ("sorry", "sorry", "zh", {"answer": "很抱歉，天空的颜色我说不清楚。"}),
    ("sorry", "sorry", "zh", {"answer": "对不起，天空的颜色我说不清楚。"}),
    ("stop_words", "stop_words_only", "en", {"answer": "It is what it is, and so on..."}),
    ("stop_words", "stop_words_only", "en", {"answer": "... !? --"}),
    ("stop_words", "stop_words_only", "zh", {"answer": "就是这样的吧……"}),
    ("leak", "leak", "en", {"evolved": "Do the given prompt in two steps."}),
    ("leak", "leak", "en", {"evolved": "Explain the sky. #Rewritten Prompt# ends here"}),
    ("leak", "leak", "zh", {"evolved": "请回答给定的指令，并分成两步。"}),
    ("leak", "leak", "zh", {"evolved": "请分两步回答，这是改写后的指令，谢谢"}),
]


@pytest.mark.parametrize(("switch", "rule", "language", "replies"), CASES)
def test_each_elimination_and_its_switch(
    switch: str, rule: str, language: str, replies: dict[str, str]
) -> None:
    rows, rejects = one(language, **replies)
    assert not rows
    assert [reject["rule"] for reject in rejects] == [rule]
    assert rejects[0]["evidence"]
    options: dict[str, Any] = {switch: False, **replies}
    rows, rejects = one(language, **options)
    assert len(rows) == 1 and not rejects


@pytest.mark.parametrize(("language", "word", "sorry"), [("en", "why ", "Sorry, "),
                                                         ("zh", "因", "抱歉，")])  # fmt: skip
def test_a_long_answer_may_say_sorry(language: str, word: str, sorry: str) -> None:
    """From 80 words on (of Chinese: characters), the apology counted with them."""
    own = 1 if language == "en" else 2
    long, short = sorry + word * (80 - own), sorry + word * (79 - own)
    assert len(one(language, answer=long + GOOD[language])[0]) == 1
    assert len(one(language, answer=long, stop_words=False)[0]) == 1
    assert [r["rule"] for r in one(language, answer=short)[1]] == ["sorry"]
    assert len(one(language, answer=short, sorry_below=79, stop_words=False)[0]) == 1


def test_words_that_the_origin_had_are_no_leak() -> None:
    def reply(request: Request) -> str:
        if kind(request) == "evolve" and "Continue" in request.prompt:
            return "Continue the given prompt in rhyme"
        return plain(request)

    made = run(reply, [Example.single("Continue the given prompt"), *start(2)])
    assert len(made.rows) == 3
    made = run(reply, [Example.single("Continue the story"), *start(2)])
    assert [reject["rule"] for reject in made.rejects] == ["leak"]


def test_more_phrases_can_be_named() -> None:
    replies = {"evolved": "Explain it as an AI would, in two steps."}
    assert len(one("en", **replies)[0]) == 1
    assert [r["rule"] for r in one("en", **replies, leak_phrases=["as an AI"])[1]] == ["leak"]


def test_an_unreadable_verdict_keeps_the_row_and_is_counted() -> None:
    made = run(judge=lambda request: "Hmm, hard to say.")
    assert len(made.rows) == 6
    tally = next(t for t in made.ledger.tallies if t.name == "comparison with their origin")
    assert tally.changed == {"unread_verdict": 6}


@pytest.mark.parametrize(
    ("part", "completion", "rule"),
    [
        ("evolve", Completion("Half of a new", "length"), "truncated"),
        ("evolve", Completion("no connection", "error"), "engine_error"),
        ("evolve", Completion('""\n```\n```'), "no_rewrite"),
        ("evolve", Completion("word " * 601), "long_rewrite"),
        ("answer", Completion("Half of an", "length"), "truncated"),
        ("answer", Completion("no connection", "error"), "engine_error"),
        ("answer", Completion("  "), "empty_answer"),
        ("compare", Completion("no connection", "error"), "engine_error"),
    ],
)
def test_unusable_completions_have_their_rule(part: str, completion: Completion, rule: str) -> None:
    def reply(request: Request) -> str | Completion:
        return (
            completion if kind(request) == part and "matter 4" in request.prompt else plain(request)
        )

    made = run(reply, judge=reply)
    assert [reject["rule"] for reject in made.rejects] == [rule]
    assert len(made.rows) == 5
    for tally in made.ledger.tallies:
        assert tally.seen == tally.kept + sum(tally.rejected.values())


# --- the start pool and the end --------------------------------------------------------------


def test_sources_and_limit_choose_where_to_start() -> None:
    rows = [*start(40), *(Example.single(f"Other {n}", meta={"source": "b"}) for n in range(5))]
    assert len(run(rows=rows, sources=["b"]).rows) == 5
    made = run(rows=rows, limit=7, sources=["seeds"])
    shown = [given(request) for request in made.teacher.of_kind("evolve")]
    assert len(shown) == 7
    assert shown == [row.prompt for row in rows if row.prompt in set(shown)]
    assert shown != [row.prompt for row in rows[:7]]
    assert shown == [given(r) for r in run(rows=rows, limit=7, sources=["seeds"]).teacher.of_kind(
        "evolve")]  # fmt: skip


def test_rows_that_cannot_be_evolved_are_rejects() -> None:
    from espalier.records import Message

    dialogue = Example.make([Message("user", "a"), Message("assistant", "b"), Message("user", "c")])
    made = run(rows=[dialogue, Example.single("word " * 700), *start(2)])
    assert [r["rule"] for r in made.rejects] == ["not_single_turn", "long_start"]
    assert len(made.rows) == 2


def test_a_target_ends_the_run_early_and_changes_no_row_before() -> None:
    rows = start(100)
    all_rows = run(rows=rows, rounds=3).rows
    for target in (1, 70, 130):
        made = run(rows=rows, rounds=3, target=target)
        assert made.rows == all_rows[:target]
        assert len(made.teacher.of_kind("evolve")) < target + 35
        assert {reject["rule"] for reject in made.rejects} <= {"over_target"}


def test_nothing_to_start_with_is_said() -> None:
    with pytest.raises(StageError, match=r"of the sources nowhere"):
        run(sources=["nowhere"])


def test_nothing_left_names_the_rule() -> None:
    with pytest.raises(StageError, match=r"'comparison with their origin' kept 0 of 6.*equal 6"):
        run(judge=lambda request: "Equal")


# --- the same again --------------------------------------------------------------------------


def blemished(request: Request) -> str | Completion:
    """A pure function of request and sample number, with all kinds of faults."""
    chance = Random(content_id(request.prompt, str(request.sample))).random()
    if kind(request) == "evolve":
        if chance < 0.15:
            return given(request)
        if chance < 0.25:
            return Completion(given(request)[:5], "length")
    if kind(request) == "compare":
        return "Equal" if chance < 0.1 else "Not equal"
    if kind(request) == "answer" and chance < 0.1:
        return "Sorry, no."
    return plain(request)


def outcome(teacher: Engine, judge: Engine) -> tuple[list[dict[str, Any]], str]:
    handle = io.StringIO()
    config = EvolveConfig(rounds=3)
    rows = [*start(30), *start(3)]
    made = evolve(rows, teacher, judge, config, 9, Ledger("evolve", handle))
    return [row.to_json() for row in made], handle.getvalue()


@pytest.mark.parametrize("seed", range(12))
def test_a_cut_journal_gives_the_same_rows(seed: int, tmp_path: Path) -> None:
    whole = outcome(Scripted(blemished, costly=True), Scripted(blemished, "judge", costly=True))
    assert len(whole[0]) > 40 and whole[1]

    def journaled() -> tuple[Scripted, Scripted, tuple[list[dict[str, Any]], str]]:
        scripts = [Scripted(blemished, name, True) for name in ("scripted", "judge")]
        engines = [
            JournaledEngine(script, Journal(tmp_path / f"{script.model}.jsonl"))
            for script in scripts
        ]
        result = outcome(*engines)
        for engine in engines:
            engine.close()
        return scripts[0], scripts[1], result

    teacher, _, result = journaled()
    assert result == whole
    total = len(teacher.asked)
    journal = tmp_path / "scripted.jsonl"
    data = journal.read_bytes()
    cut = Random(f"{seed}:cut").randrange(len(data))
    journal.write_bytes(data[:cut])
    complete = data[:cut].count(b"\n")
    again, judge_again, resumed = journaled()
    assert resumed == whole
    assert len(again.asked) == total - complete or len(again.asked) == total - complete - 1
    assert not judge_again.asked


def test_batches_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = outcome(Scripted(blemished), Scripted(blemished))
    for size in (1, 7):
        monkeypatch.setattr(evolve_module, "BATCH", size)
        rows, rejects = outcome(Scripted(blemished), Scripted(blemished))
        assert rows == whole[0]
        assert sorted(rejects.splitlines()) == sorted(whole[1].splitlines())


def test_the_embedded_teacher_shows_every_elimination() -> None:
    handle = io.StringIO()
    engine = OfflineEngine(seed=1)
    rows = draw_prompts(250, seed=3)
    made = list(evolve(rows, engine, engine, EvolveConfig(), 0, Ledger("evolve", handle)))
    rules = Counter(json.loads(line)["rule"] for line in handle.getvalue().splitlines())
    assert {"equal", "sorry", "stop_words_only", "leak", "truncated"} <= set(rules)
    assert len(made) + sum(rules.values()) == 4 * len(rows)
    for language in ("en", "zh"):
        operators = {r.meta["operator"] for r in made if r.meta["language"] == language}
        assert operators == {f"evolve:{name}" for name in OPERATORS}
    assert max(row.meta["depth"] for row in made) == 4
