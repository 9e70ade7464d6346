"""Critique and revision: the loop, what is kept and what is rejected, principles from files."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from espalier.curate.config_constitution import ConstitutionConfig
from espalier.curate.constitution import Revised, revise
from espalier.curate.constitution_prompts import (
    critique_prompt,
    parse_critique,
    parse_revision,
    principle_prompt,
    revision_prompt,
)
from espalier.curate.pipeline import Ledger
from espalier.curate.principles import Principle, constitution_path, read_principles
from espalier.engines.base import Completion, Engine, Request, Sampling
from espalier.engines.offline import OfflineEngine
from espalier.errors import EspalierError, InputError
from espalier.formats.read import read_pairs
from espalier.journal import Journal, JournaledEngine
from espalier.offline.source import draw_prompts
from espalier.recipe import recipe_from
from espalier.records import Example, Message
from espalier.running import run_stage
from espalier.text import language

FIRST = Principle(id="first", critique="Find the faults.", revision="Mend the faults.")
SECOND = Principle(id="second", critique="Is it kind?", revision="Make it kind.",
                   principle="The answer is kind.")  # fmt: skip
PRINCIPLES: Any = {"en": [FIRST, SECOND]}


class Teacher:
    """Answers with `answer`, criticises with `critique`, and revises by the round's number."""

    model = "scripted"
    costly = True

    def __init__(self, **replies: Any) -> None:
        self.replies: dict[str, Any] = {
            "answer": "A0", "critique": "It is short.", "revision": "", **replies,
        }  # fmt: skip
        self.asked: list[str] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        for request in requests:
            prompt = request.prompt
            self.asked.append(prompt)
            if prompt.endswith("[Critique]"):
                reply = self.replies["critique"]
            elif prompt.endswith("[New answer]"):
                match = re.search(r"\[Answer]\nA(\d+)", prompt)
                reply = self.replies["revision"] or f"A{int(match[1]) + 1 if match else 1}"
            else:
                reply = self.replies["answer"]
            yield reply if isinstance(reply, Completion) else Completion(reply)

    def close(self) -> None:
        pass


class Preferring:
    """A judge whose reply is a function of the answers shown as A and B."""

    model = "judge"
    costly = False

    def __init__(self, say: Callable[[str, str], str]) -> None:
        self.say = say
        self.asked: list[str] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        for request in requests:
            self.asked.append(request.prompt)
            found = re.search(r"\[Answer A]\n(.*?)\n\n\[Answer B]\n(.*?)\n\n\[End]",
                              request.prompt, re.DOTALL)  # fmt: skip
            assert found is not None
            yield Completion(self.say(found[1], found[2]))

    def close(self) -> None:
        pass


def run(
    rows: Sequence[Example], teacher: Engine, judge: Engine | None = None, **options: Any
) -> tuple[list[Revised], list[dict[str, Any]], list[dict[str, Any]]]:
    """(revised, rejects, funnel)"""
    handle = io.StringIO()
    ledger = Ledger("constitution", handle)
    config = ConstitutionConfig(**options)
    done = list(revise(rows, teacher, judge, PRINCIPLES, config, 7, ledger))
    rejects = [json.loads(line) for line in handle.getvalue().splitlines()]
    funnel = [tally.to_json() for tally in ledger.tallies]
    for row in funnel:
        assert row["in"] - row["out"] == sum(row["rejected"].values())
    return done, rejects, funnel


def question(text: str = "What is red?", **meta: Any) -> Example:
    return Example.single(text, meta={"language": "en", "source": "s", **meta})


def test_the_loop_gives_a_row_a_pair_and_a_trace() -> None:
    teacher = Teacher()
    row = question(category="c", to_answer=True, reference="secret")
    (done,), rejects, _ = run([row], teacher)
    assert rejects == []
    used = [made.principle for made in done.rounds]
    assert sorted(used) == ["first", "second"]  # two rounds, no principle twice
    named = {"first": FIRST, "second": SECOND}
    assert teacher.asked == [
        "What is red?",
        critique_prompt("What is red?", "A0", named[used[0]], "en"),
        revision_prompt("What is red?", "A0", "It is short.", named[used[0]], "en"),
        critique_prompt("What is red?", "A1", named[used[1]], "en"),
        revision_prompt("What is red?", "A1", "It is short.", named[used[1]], "en"),
    ]
    example, pair = done.example(), done.pair()
    assert example is not None
    assert pair is not None
    assert [m.content for m in example.messages] == ["What is red?", "A2"]
    assert (pair.prompt, pair.chosen, pair.rejected) == (row.messages, "A2", "A0")
    shared = {"language": "en", "source": "s", "category": "c", "parents": [row.id],
              "principles": used}  # fmt: skip
    assert example.meta == {**shared, "operator": "constitution", "teacher": "scripted"}
    assert pair.meta == {**shared, "operator": "preferences", "kind": "constitution"}
    trace = done.trace()
    assert trace["initial"] == "A0"
    assert [r["revision"] for r in trace["rounds"]] == ["A1", "A2"]
    assert "secret" not in "".join(teacher.asked) + json.dumps(trace)


def test_a_given_answer_is_not_shown_and_dialogues_keep_their_speakers() -> None:
    turns = [Message("system", "be kind"), Message("user", "a"), Message("assistant", "b"),
             Message("user", "c"), Message("assistant", "given")]  # fmt: skip
    teacher = Teacher()
    (done,), _, _ = run([Example.make(turns, {"language": "en"})], teacher, revisions=1)
    assert "given" not in "".join(teacher.asked)
    assert "[Question]\nuser: a\n\nassistant: b\n\nuser: c\n\n[Answer]\nA0" in teacher.asked[1]
    example = done.example()
    assert example is not None
    assert example.messages == (*turns[:-1], Message("assistant", "A1"))


@pytest.mark.parametrize(
    ("replies", "rule", "evidence"),
    [
        ({"answer": Completion("A0 and", "length")}, "truncated", "first answer"),
        ({"answer": Completion("no", "error")}, "engine_error", "first answer: no"),
        ({"answer": " "}, "empty_answer", "first answer"),
        ({"critique": Completion("It", "length")}, "truncated", "critique of round 1"),
        ({"critique": "**Critique:**"}, "empty_critique", "critique of round 1"),
        ({"revision": Completion("B", "length")}, "truncated", "revision of round 1"),
        ({"revision": "Critique: still bad."}, "empty_revision", "revision of round 1"),
        ({"revision": "A0"}, "unchanged", "the first answer"),
    ],
)
def test_what_is_no_use_is_a_reject(replies: dict[str, Any], rule: str, evidence: str) -> None:
    done, rejects, _ = run([question()], Teacher(**replies))
    assert done == []
    (reject,) = rejects
    assert reject["rule"] == rule
    assert evidence in reject["evidence"]
    assert reject["text"].startswith("user: What is red?")
    assert (reject["id"], reject["source"]) == (question().id, "s")


def test_a_reject_shows_how_far_the_row_came() -> None:
    (reject,) = run([question()], Teacher(revision="A0"))[1]
    assert "first answer: A0" in reject["text"]
    assert reject["text"].count("revision") == 2


def test_nothing_comes_of_a_revised_that_is_not_revised() -> None:
    for item in (Revised(question(), "m", "A0"), Revised(question(), "m")):
        assert item.example() is None
        assert item.pair() is None


def by_worth(worth: dict[str, int]) -> Preferring:
    def say(a: str, b: str) -> str:
        left, right = worth[a], worth[b]
        return f"Because.\nVerdict: {'tie' if left == right else 'A' if left > right else 'B'}"

    return Preferring(say)


def test_a_judge_may_have_to_agree() -> None:
    judge = by_worth({"A0": 1, "A2": 2})
    (done,), rejects, _ = run([question()], Teacher(), judge)
    assert rejects == []
    last = {"first": FIRST, "second": SECOND}[done.rounds[-1].principle]
    assert judge.asked == [
        principle_prompt("What is red?", "A2", "A0", last, "en"),
        principle_prompt("What is red?", "A0", "A2", last, "en"),
    ]
    assert (last.principle or last.critique) in judge.asked[0]
    pair = done.pair()
    assert pair is not None
    assert pair.meta["judge"] == {"orders": ["chosen", "chosen"], "reasons": ["Because."] * 2}


@pytest.mark.parametrize(
    ("judge", "rule"),
    [
        (by_worth({"A0": 2, "A2": 1}), "revision_not_better"),
        (by_worth({"A0": 1, "A2": 1}), "tie"),
        (Preferring(lambda a, b: "Verdict: A"), "tie"),  # prefers a position
        (Preferring(lambda a, b: "Verdict: B"), "tie"),
        (Preferring(lambda a, b: "Who knows?"), "unread_verdict"),
    ],
)
def test_what_the_judge_does_not_prefer_is_a_reject(judge: Engine, rule: str) -> None:
    done, rejects, funnel = run([question()], Teacher(), judge)
    assert done == []
    assert [reject["rule"] for reject in rejects] == [rule]
    assert [row["step"] for row in funnel] == ["critique and revision", "judge on revisions"]


def test_principles_are_drawn_evenly_and_by_the_row_alone() -> None:
    rows = [question(f"Question {i}?") for i in range(300)]
    done, _, _ = run(rows, Teacher(), revisions=1)
    drawn = {item.row.id: item.rounds[0].principle for item in done}
    counts = Counter(drawn.values())
    assert abs(counts["first"] - 150) < 4 * 300**0.5 / 2
    again, _, _ = run(rows[100:][::-1], Teacher(), revisions=1)
    assert {item.row.id: item.rounds[0].principle for item in again} == {
        row.id: drawn[row.id] for row in rows[100:]
    }
    three, _, _ = run(rows[:5], Teacher(), revisions=3)
    for item in three:
        assert {made.principle for made in item.rounds[:2]} == {"first", "second"}


def test_a_limit_takes_the_first_prompts() -> None:
    rows = [question(f"Question {i}?") for i in range(9)]
    done, _, _ = run(iter(rows), Teacher(), limit=3)  # type: ignore[arg-type]
    assert [item.row for item in done] == rows[:3]


def test_a_run_that_was_cut_off_goes_on_from_the_journal_to_the_same_end(tmp_path: Path) -> None:
    """A teacher that fails after some answers; then one that is asked for the rest alone."""
    rows = [row.with_meta(to_answer=True) for row in draw_prompts(40, seed=5)]
    principles = read_principles([constitution_path("en"), constitution_path("zh")])

    class Paid:
        model = "offline"
        costly = True

        def __init__(self, left: int) -> None:
            self.inner = OfflineEngine(seed=3)
            self.left = left
            self.asked = 0

        def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
            for completion in self.inner.generate(requests, sampling):
                if self.asked == self.left:
                    raise KeyboardInterrupt
                self.asked += 1
                yield completion

        def close(self) -> None:
            pass

    def lines(engine: Engine) -> list[str]:
        config = ConstitutionConfig()
        ledger = Ledger("constitution", io.StringIO())
        found = revise(rows, engine, OfflineEngine(seed=4), principles, config, 1, ledger)
        return [json.dumps(item.trace(), ensure_ascii=False) for item in found]

    whole = Paid(10**9)
    expected = lines(whole)
    assert len(expected) > 5
    for cut in (1, 39, 41, 79, 100, 150):
        path = tmp_path / f"{cut}.jsonl"
        first = JournaledEngine(Paid(cut), Journal(path))
        with pytest.raises(KeyboardInterrupt):
            lines(first)
        first.close()
        rest = Paid(10**9)
        second = JournaledEngine(rest, Journal(path))
        assert lines(second) == expected
        second.close()
        assert rest.asked == whole.asked - cut


# --- reading replies -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "critique"),
    [
        ("It is too long.", "It is too long."),
        ("**Critique:** It is too long.", "It is too long."),
        ("Critique\nIt is too long.", "It is too long."),
        ("## Critique\n\nIt is too long.", "It is too long."),
        ("批评意见：太长了。", "太长了。"),
        ("【批评】\n太长了。", "太长了。"),
        ("Too long.\n\nRevised answer: short.", "Too long."),
        ("太长了。\n\n修改后的回答：短。", "太长了。"),
        ("<think>hm\nhm</think>\nToo long.", "Too long."),
        ("Here is the critique: too long.", "too long."),
        ("```\nToo long.\n```", "Too long."),
        (" \n", ""),
    ],
)
def test_the_critique_in_a_reply(reply: str, critique: str) -> None:
    assert parse_critique(reply) == critique


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("Red is a colour.", "Red is a colour."),
        ("Here is the revised answer:\n\nRed is a colour.", "Red is a colour."),
        ("Sure! Here's an improved version of the response: Red.", "Red."),
        ("**Revised answer:** Red.", "Red."),
        ("### New answer\nRed.\n\nAnd blue.", "Red.\n\nAnd blue."),
        ("Revision: Red.", "Red."),
        ("Critique\nBad.\n\nRevised answer\nRed.", "Red."),
        ("Critique: bad.\n\nRevision: Red.", "Red."),
        ("Critique: bad.", ""),
        ("以下是修改后的回答：\n\n红是一种颜色。", "红是一种颜色。"),
        ("好的，以下是修改后的回答：红。", "红。"),
        ("修改后的回答：红。", "红。"),
        ("【新的回答】\n红。", "红。"),
        ("<think>\nRevision: no\n</think>Red.", "Red."),
        ('"Red."', "Red."),
        ("```\nRed.\n```", "Red."),
        ("```python\nprint(1)\n```", "```python\nprint(1)\n```"),
        ('"a" or "b"', '"a" or "b"'),
        ("You asked for a revision of the law: it failed.", None),
        ("Here is a list:\n- red", None),
        ("修改代码的方法有三种。", None),
        ("", ""),
    ],
)
def test_the_answer_in_a_reply(reply: str, answer: str | None) -> None:
    assert parse_revision(reply) == (reply if answer is None else answer)


def test_what_a_prompt_quotes_stays_as_it_is() -> None:
    prompt = revision_prompt("{answer} {request}", "{critique}", "{question}", FIRST, "zh")
    assert "【问题】\n{answer} {request}\n" in prompt
    assert "【回答】\n{critique}\n" in prompt
    assert "【批评】\n{question}\n" in prompt
    assert "【修改要求】\nMend the faults.\n" in prompt


# --- principles ------------------------------------------------------------------------------


def test_the_built_in_principles() -> None:
    found = read_principles([constitution_path("en"), constitution_path("zh")])
    english, chinese = found["en"], found["zh"]
    assert len(english) >= 12
    assert [p.id for p in english] == [p.id for p in chinese]
    assert {"harmlessness", "honesty", "helpfulness", "privacy", "fairness", "respect",
            "illegal_acts", "self_harm_support"} <= {p.id for p in english}  # fmt: skip
    for code, listed in found.items():
        for principle in listed:
            for text in (principle.critique, principle.revision, principle.principle):
                assert len(text) > 10
                assert language(text) == code


def test_rows_are_revised_by_principles_of_their_language() -> None:
    chinese = Principle(id="zh", critique="有什么问题？", revision="请改写。")
    principles: Any = {"en": [FIRST], "zh": [chinese]}
    rows = [question(), Example.single("什么是红？", meta={"language": "zh"})]
    ledger = Ledger("constitution", io.StringIO())
    teacher = OfflineEngine(seed=1)
    asked: list[str] = []

    class Watching:
        model, costly = "m", False

        def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
            asked.extend(request.prompt for request in requests)
            return teacher.generate(requests, sampling)

        def close(self) -> None:
            pass

    list(revise(rows, Watching(), None, principles, ConstitutionConfig(), 1, ledger))
    english = [p for p in asked if "What is red?" in p and p != "What is red?"]
    other = [p for p in asked if "什么是红？" in p and p != "什么是红？"]
    assert english
    assert all(FIRST.critique in p or FIRST.revision in p for p in english)
    assert other
    assert all(p.startswith("请阅读") and ("有什么问题？" in p or "请改写。" in p) for p in other)


GOOD = "language: en\nprinciples:\n  - id: a\n    critique: c\n    revision: r\n"


@pytest.mark.parametrize(
    ("text", "message", "line", "field"),
    [
        ("", "no keys", None, None),
        ("- a\n- b\n", "no keys", None, None),
        ("language: en\nprinciples: [\n", "not valid YAML", 3, None),
        (
            "language: fr\nprinciples:\n  - {id: a, critique: c, revision: r}\n",
            "'en' or 'zh'",
            1,
            "language",
        ),
        ("language: en\n", "required", 1, "principles"),
        ("language: en\nprinciples: []\n", "at least 1 item", 2, "principles"),
        (GOOD + "  - id: b\n    critique: c\n", "required", 6, "principles[1].revision"),
        (
            GOOD + "  - id: b\n    critique: ' '\n    revision: r\n",
            "the text is empty",
            7,
            "principles[1].critique",
        ),
        (
            GOOD + "  - id: b\n    critque: c\n    revision: r\n",
            "required",
            6,
            "principles[1].critique",
        ),
        (GOOD + "    extra: c\n", "not permitted", 6, "principles[0].extra"),
        (
            GOOD + "  - id: 3\n    critique: c\n    revision: r\n",
            "valid string",
            6,
            "principles[1].id",
        ),
        (GOOD + "  - id: a\n    critique: c\n    revision: r\n", "given twice", None, None),
    ],
)
def test_a_wrong_file_of_principles_gives_one_clear_message(
    tmp_path: Path, text: str, message: str, line: int | None, field: str | None
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_principles([path])
    said = caught.value.render()
    assert message in said
    assert str(path) in said
    if line is not None:
        assert f"line {line}" in said
    if field is not None:
        assert f"field '{field}'" in said


def test_all_mistakes_of_a_file_of_principles_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    wrong = "".join(
        f"  - {{id: p{i}, critque: c, revision: r}}\n"
        if i % 2
        else f"  - {{id: p{i}, critique: c}}\n"
        for i in range(3)
    )
    path.write_text("language: fr\nprinciples:\n" + wrong, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_principles([path])
    said = caught.value.render()
    # The language, two without a revision, one misspelt: its field is unknown and one is missing.
    assert "has 5 mistakes" in said
    for line, field in (
        (1, "language"),
        (3, "principles[0].revision"),
        (4, "principles[1].critique"),
        (4, "principles[1].critque"),
        (5, "principles[2].revision"),
    ):
        assert f"line {line}, field '{field}'" in said
    assert "did you mean 'critique'?" in said
    many = "  - {id: p, critique: c}\n" * 14
    path.write_text("language: en\nprinciples:\n" + many, encoding="utf-8")
    with pytest.raises(InputError, match="has 14 mistakes") as caught:
        read_principles([path])
    assert caught.value.render().count("  - line") == 10
    assert "and 4 more" in caught.value.render()


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD, encoding="utf-8")
    with pytest.raises(InputError, match=r"did you mean 'mine\.yaml'"):
        read_principles([tmp_path / "mein.yaml"])
    (tmp_path / "latin.yaml").write_bytes("language: \xe9".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read_principles([tmp_path / "latin.yaml"])
    assert constitution_path("mine.yaml", lambda name: tmp_path / name) == tmp_path / "mine.yaml"
    assert len(read_principles([tmp_path / "mine.yaml"])["en"]) == 1


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing comes of it"):
        ConstitutionConfig(rows=False, pairs=False)
    with pytest.raises(ValueError, match="at least 1"):
        ConstitutionConfig(principles=[])


# --- in the stage ----------------------------------------------------------------------------


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


RECIPE: dict[str, Any] = {
    "name": "revised",
    "teacher": {"options": {"naive_rate": 0.8}},
    "curate": {
        "sources": [
            {"kind": "procedural", "name": "tasks", "count": 40},
            {"kind": "procedural", "name": "more", "count": 40, "use": "preferences"},
        ],
        "holdout": {"count": 5, "prompts": 0},
        "constitution": {"safety": ["harmful"], "judge": True, "limit": 120},
        "preferences": {"eval_count": 20, "samples": 4, "ranking": {}},
    },
}


@pytest.mark.slow
def test_the_stage_writes_rows_pairs_rankings_and_what_was_said(tmp_path: Path) -> None:
    run_stage("curate", recipe_from(RECIPE), tmp_path)
    folder = tmp_path / "curate"
    rows, traces = lines_of(folder / "constitution.jsonl"), lines_of(folder / "revisions.jsonl")
    assert len(rows) == len(traces) > 10
    assert [row["messages"][-1]["content"] for row in rows] == [
        trace["rounds"][-1]["revision"] for trace in traces
    ]
    training = lines_of(folder / "preferences.jsonl")
    evaluation = lines_of(folder / "preferences_eval.jsonl")
    kinds = Counter(pair["meta"]["kind"] for pair in [*training, *evaluation])
    assert set(kinds) == {"ranking", "constitution"}
    assert kinds["constitution"] == len(rows)
    prompts = [{json.dumps(p["prompt"]) for p in side} for side in (training, evaluation)]
    assert not prompts[0] & prompts[1]
    ranked = lines_of(folder / "rankings.jsonl")
    assert {row["meta"]["evaluation"] for row in ranked} == {True, False}
    expanded = {pair.id for pair in read_pairs(folder / "rankings.jsonl")}
    made = {p["id"] for p in [*training, *evaluation] if p["meta"]["kind"] == "ranking"}
    assert made == expanded
    for row in lines_of(folder / "rejects.jsonl"):
        assert row["rule"] and row["evidence"]
    funnel = json.loads((folder / "funnel.json").read_text(encoding="utf-8"))
    for step in funnel:
        assert step["in"] - step["out"] == sum(step["rejected"].values()), step
    again = tmp_path / "again"
    run_stage("curate", recipe_from(RECIPE), again)
    for path in folder.glob("*.jsonl"):
        assert (again / "curate" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_rankings_of_a_user_are_a_source_of_pairs(tmp_path: Path) -> None:
    path = tmp_path / "ranked.jsonl"
    rows = [
        {"prompt": f"Name colour {i}.", "answers": [{"text": t, "score": n} for n, t in
                                                    enumerate(["Seven", "Blue?", "Red"])]}
        for i in range(8)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = recipe_from({"name": "given", "curate": {
        "sources": [{"path": str(path)}], "holdout": {"count": 0, "prompts": 0},
        "preferences": {"eval_count": 6},
    }})  # fmt: skip
    run_stage("curate", recipe, tmp_path / "run")
    training = lines_of(tmp_path / "run" / "curate" / "preferences.jsonl")
    evaluation = lines_of(tmp_path / "run" / "curate" / "preferences_eval.jsonl")
    assert (len(training), len(evaluation)) == (18, 6)  # whole groups of C(3, 2) pairs
    assert {pair["margin"] for pair in training} == {1.0, 2.0}
    groups = [{pair["meta"]["ranking"] for pair in side} for side in (training, evaluation)]
    assert (len(groups[0]), len(groups[1])) == (6, 2)
    assert not groups[0] & groups[1]


def test_a_wrong_constitution_stops_the_stage_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("language: en\nprinciples: no\n", encoding="utf-8")
    recipe = recipe_from(RECIPE, [f"curate.constitution.principles=[{tmp_path}/mine.yaml]"])
    with pytest.raises(InputError, match=r"mine\.yaml, line 2, field 'principles'"):
        run_stage("curate", recipe, tmp_path / "run")


def test_sources_without_a_prompt_are_named(tmp_path: Path) -> None:
    overrides = ["curate.constitution.sources=[taks]", "curate.constitution.safety=[]"]
    with pytest.raises(EspalierError) as caught:
        run_stage("curate", recipe_from(RECIPE, overrides), tmp_path)
    assert "tasks" in caught.value.render()
