"""Preference pairs: corruptions, the judged best, distinct pairs, disjoint prompts."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections import Counter
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from judges import Replies, Samples, Scores, prompts
from scripted import Killed, Mortal

from espalier.curate.best import best_of
from espalier.curate.config_filters import FilterConfig
from espalier.curate.config_preferences import DEFAULT_KINDS, PreferencesConfig
from espalier.curate.corruptions import CORRUPTIONS, Setting, corrupt
from espalier.curate.filters import answer_rules, prompt_rules
from espalier.curate.judged import Judged, WeakAnswer, judged_answers
from espalier.curate.pipeline import Ledger
from espalier.curate.preferences import (
    Answers,
    check_pairs,
    make_pairs,
    ranking_pairs,
    split_by_prompt,
    split_prompts,
)
from espalier.curate.verdicts import confirmed, question, reason_of
from espalier.curate.weak import with_weak_answers
from espalier.engines.base import EngineSpec
from espalier.engines.offline import OfflineEngine
from espalier.journal import Journal, JournaledEngine
from espalier.judging import Judge
from espalier.offline.source import draw_prompts
from espalier.records import Example, Message, PreferencePair
from espalier.text import normalise

EN = Setting("Reverse the words: red green blue", "en", ["big small old", "red", "seven 3"])
ZH = Setting("把这些词倒过来写：红、绿、蓝", "zh", ["大、小、老", "红", "七"])


def variants(kind: str, answer: str, setting: Setting) -> set[str | None]:
    return {corrupt(kind, answer, setting, Random(f"{kind}{i}")) for i in range(60)}


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("answer", ["blue green red", "17", "A", "蓝、绿、红", "Hello, Tom!", "是"])
def test_a_corruption_differs_or_does_not_apply(kind: str, answer: str) -> None:
    for setting in (EN, ZH):
        for worse in variants(kind, answer, setting) - {None}:
            assert worse is not None
            assert worse.strip() != answer.strip()
            if kind not in ("case", "full_stop", "empty"):
                assert normalise(worse) != normalise(answer)


@pytest.mark.parametrize(
    ("kind", "answer", "setting", "expected"),
    [
        ("number", "17", EN, {"16", "18", "15", "19", "7", "27"}),
        ("number", "1", EN, {"0", "2", "3", "11"}),
        ("number", "共3个", ZH, {"共2个", "共4个", "共1个", "共5个", "共13个"}),
        ("number", "version 3.5", EN, {None}),
        ("item_dropped", "a, b, c", EN, {"a, b", "a, c", "b, c"}),
        ("item_doubled", "a b", EN, {"a a b", "a b b"}),
        ("item_swapped", "蓝、绿", ZH, {"绿、蓝"}),
        ("item_dropped", "word", EN, {None}),
        ("case", "Red", EN, {"red", "RED", "rED"}),
        ("case", "红", ZH, {None}),
        ("full_stop", "red", EN, {"red."}),
        ("full_stop", "红", ZH, {"红。"}),
        ("full_stop", "Red!", EN, {None}),
        ("truncation", "a b c", EN, {"a", "a b"}),
        ("truncation", "红绿蓝", ZH, {"红", "红绿"}),
        ("truncation", "a", EN, {None}),
        ("padding", "red", EN, {"The answer is red"}),
        ("padding", "红", ZH, {"答案是红"}),
        ("padding", "The answer is red", EN, {None}),
        ("empty", "red", EN, {""}),
        ("other_answer", "red", EN, {"big small old", "seven 3", None}),
        ("prompt_fragment", "one two", Setting("Say it now", "en", []), {"Say it", "it now"}),
        ("prompt_fragment", "好", Setting("说好", "zh", []), {"说", None}),
    ],
)
def test_what_each_kind_does(
    kind: str, answer: str, setting: Setting, expected: set[str | None]
) -> None:
    assert variants(kind, answer, setting) == expected


def test_an_item_is_replaced_by_one_of_another_answer() -> None:
    made = variants("item_replaced", "x y", EN)
    pool = {"big", "small", "old", "seven", "3"}
    assert made == {f"{item} y" for item in pool} | {f"x {item}" for item in pool}


def test_the_best_of_many_wins_and_the_losers_are_known() -> None:
    judge: Any = Scores({"a": 1, "b": 3, "c": 2, "d": 3, "e": 0})
    first, second, third = best_of(
        judge, prompts(3), [["a", "b", "a", "c", "d"], ["e"], []], "pairwise"
    )
    assert first is not None
    assert first.best == "b"
    assert {answer for answer, _ in first.worse} == {"a", "c"}
    assert first.ties == 1
    assert second is not None
    assert (second.best, second.worse) == ("e", [])
    assert third is None
    assert len(judge.compared) == 3  # n-1 for the four distinct answers, none for one


def test_the_best_by_rubric() -> None:
    judge: Any = Scores({"a": 2, "b": 4, "c": 0, "unsafe": 5})
    (ranked,) = best_of(judge, prompts(1), [["a", "b", "c", "unsafe"]], "rubric")
    assert ranked is not None
    assert ranked.best == "b"
    assert dict(ranked.worse) == {"a": 2.0, "unsafe": 4.0}
    assert ranked.unread == 1


def test_a_dialogue_is_shown_to_the_judge_with_its_speakers() -> None:
    turns = (Message("system", "be kind"), Message("user", "a"), Message("assistant", "b"),
             Message("user", "c"))  # fmt: skip
    assert question(turns) == "user: a\n\nassistant: b\n\nuser: c"
    assert question(turns[:2]) == "a"


def test_prompts_without_a_usable_best_are_rejected() -> None:
    worth = {"Red": 4.0, "Blue": 2.0, "I'm sorry, but I can't help with that.": 3.0}
    given = [Example.single("Name a colour.", meta={"language": "en"})]

    def judged(samples: list[str], **options: Any) -> tuple[list[Judged], list[str]]:
        handle = io.StringIO()
        found = judged_answers(
            given, Samples(samples), Scores(worth), PreferencesConfig(**options),  # type: ignore[arg-type]
            answer_rules(FilterConfig()), Ledger("made", handle), 1,
        )  # fmt: skip
        listed = list(found)
        return listed, [json.loads(line)["rule"] for line in handle.getvalue().splitlines()]

    kept, _ = judged(["Blue", "Red"])
    assert [(item.chosen, item.worse) for item in kept] == [("Red", [("Blue", None)])]
    assert judged(["Red…", "Red…"]) == ([], ["no_sample"])
    refusal = "I'm sorry, but I can't help with that."
    assert judged([refusal, "Blue"]) == ([], ["refusal"])
    assert judged(["Blue", "Blue"], min_rating=3) == ([], ["low_rating"])
    assert len(judged(["Blue", "Red"], min_rating=3)[0]) == 1


def judged_prompts(count: int) -> list[Judged]:
    made = []
    for i in range(count):
        zh = i % 2
        text = f"第{i}个问题：红、绿、蓝" if zh else f"Question {i}: red, green and blue?"
        row = Example.single(text, meta={"language": "zh" if zh else "en", "category": f"c{i % 3}",
                                         "source": "s"})  # fmt: skip
        made.append(Judged(row, f"红、绿、{i}" if zh else f"red, green, {i}", [("worse", None)]))
    return made


def test_pairs_are_distinct_and_have_their_kind() -> None:
    given = judged_prompts(60)
    config = PreferencesConfig(per_prompt=3)
    pairs = list(make_pairs(given, Answers(given), config, None, "seed"))
    assert len(pairs) > 150
    assert len({(pair.prompt, pair.rejected) for pair in pairs}) == len(pairs)
    assert all(pair.chosen != pair.rejected for pair in pairs)
    kinds = Counter(pair.meta["kind"] for pair in pairs)
    assert set(kinds) == set(DEFAULT_KINDS)
    assert kinds["other_answer"] > kinds["empty"]
    languages = Counter(pair.meta["language"] for pair in pairs)
    assert set(languages) == {"en", "zh"}
    by_id = {item.row.id: item for item in given}
    for pair in pairs:
        assert pair.chosen == by_id[pair.meta["parents"][0]].chosen
        assert pair.meta["category"] == by_id[pair.meta["parents"][0]].row.meta["category"]


def test_an_other_answer_is_of_the_same_category_and_language() -> None:
    given = judged_prompts(60)
    config = PreferencesConfig(kinds={"other_answer": 1.0})
    of = {item.chosen: (item.language, item.category) for item in given}
    pairs = list(make_pairs(given, Answers(given), config, None, "seed"))
    assert len(pairs) == 60
    assert all(of[pair.rejected] == of[pair.chosen] for pair in pairs)


def test_further_passes_draw_new_corruptions_until_the_count_is_reached() -> None:
    given = judged_prompts(20)
    pairs = list(make_pairs(given, Answers(given), PreferencesConfig(), 55, "seed"))
    assert len(pairs) == 55
    assert len({(pair.prompt, pair.rejected) for pair in pairs}) == 55
    assert pairs == list(make_pairs(given, Answers(given), PreferencesConfig(), 55, "seed"))
    # What can't be made is not repeated.
    only_empty = PreferencesConfig(kinds={"empty": 1.0})
    assert len(list(make_pairs(given, Answers(given), only_empty, 55, "seed"))) == 20


def test_sides_have_different_prompts() -> None:
    given = judged_prompts(50) + judged_prompts(10)
    training, evaluation = split_prompts(given, 75, 25, "seed")
    assert len(training) + len(evaluation) == 60
    assert 14 <= len(evaluation) <= 17
    assert not {i.row.prompt for i in training} & {i.row.prompt for i in evaluation}


def test_given_pairs_are_split_by_prompt() -> None:
    pairs = [
        PreferencePair.make((Message("user", f"prompt {i // 3}"),), "good", f"bad {i}")
        for i in range(60)
    ]
    training, evaluation = split_by_prompt(pairs, 10, "seed")
    assert len(evaluation) == 12  # whole prompts of three pairs
    assert len(training) == 48
    assert not {p.prompt for p in training} & {p.prompt for p in evaluation}
    assert split_by_prompt(reversed(pairs), 10, "seed")[1][0].prompt == evaluation[0].prompt
    assert split_by_prompt(pairs, 0, "seed")[1] == []


def test_pairs_of_a_dialogue_and_of_a_common_prompt_go_one_way() -> None:
    def pair(prompt: str, dialogue: int) -> PreferencePair:
        meta = {"part": 0, "of_parts": 2, "parents": [f"d{dialogue}"]}
        turns = (Message("user", prompt),)
        return PreferencePair.make(turns, "good", f"bad {dialogue}", meta=meta)

    rows = [pair(f"opening {i}", i) for i in range(20)] + [pair("go on", i) for i in range(6)]
    for seed in range(6):
        training, evaluation = split_by_prompt(rows, 5, str(seed))
        assert not {p.prompt for p in training} & {p.prompt for p in evaluation}
        sides = [{p.meta["parents"][0] for p in side} for side in (training, evaluation)]
        assert evaluation and not sides[0] & sides[1]
        # What many dialogues have in common is no small draw.
        assert len(evaluation) == 5


def test_given_pairs_that_teach_nothing() -> None:
    prompt = (Message("user", "Name a colour."),)
    good = PreferencePair.make(prompt, "Red", "Seven")
    given = [
        good,
        PreferencePair.make(prompt, "Red", "Red "),
        PreferencePair.make(prompt, " ", "Red"),
        good,
        PreferencePair.make((Message("user", " "),), "a", "b"),
        PreferencePair.make(prompt, "Red", ""),
    ]
    handle = io.StringIO()
    tally = Ledger("given", handle).tally("pair rules")
    kept = list(check_pairs(given, prompt_rules(FilterConfig()), tally))
    assert kept == [good, given[-1]]
    rules = [json.loads(line)["rule"] for line in handle.getvalue().splitlines()]
    assert rules == ["same_answers", "empty_answer", "duplicate_pair", "empty_prompt"]


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown kinds"):
        PreferencesConfig(kinds={"typo": 1.0})
    with pytest.raises(ValueError, match="above zero"):
        PreferencesConfig(kinds={"empty": 0.0})


def test_the_protocols_used_here_are_the_real_ones() -> None:
    # The scripted judge stands for espalier.judging.Judge.
    assert {"compare_fully", "rate", "rate_fully"} <= set(dir(Judge))


# --- a weaker teacher ------------------------------------------------------------------------


def weakly(text: str, verify: Any, worth: dict[str, float]) -> tuple[Judged, list[str], Any]:
    config = PreferencesConfig(weak=EngineSpec(), verify_weak=verify, kinds={"weak": 1.0})
    handle = io.StringIO()
    tally = Ledger("weak", handle).tally("weak answers")
    item = Judged(Example.single("Name a colour.", meta={"language": "en"}), "Red")
    judge: Any = Scores(worth)
    (done,) = with_weak_answers([item], Samples([text]), judge, config, tally, 1)
    assert tally.seen == 1
    assert tally.seen - tally.kept == sum(tally.rejected.values())
    pairs = list(make_pairs([done], Answers([done]), config, None, "s"))
    return done, [json.loads(line)["rule"] for line in handle.getvalue().splitlines()], pairs


def test_the_weak_answer_is_the_rejected_one() -> None:
    _, rules, (pair,) = weakly("Seven", "no", {})
    assert rules == []
    assert (pair.chosen, pair.rejected) == ("Red", "Seven")
    assert pair.meta["kind"] == "weak"
    assert pair.meta["weak_teacher"] == "samples"
    assert "judge" not in pair.meta


@pytest.mark.parametrize(
    ("verify", "worth", "rules", "expected"),
    [
        ("drop", {"Red": 2, "Blue": 1}, [], ("Red", "Blue")),
        ("drop", {"Red": 1, "Blue": 2}, ["weak_better"], None),
        ("drop", {"Red": 1, "Blue": 1}, ["tie"], None),
        ("flip", {"Red": 2, "Blue": 1}, [], ("Red", "Blue")),
        ("flip", {"Red": 1, "Blue": 2}, [], ("Blue", "Red")),
        ("flip", {"Red": 1, "Blue": 1}, ["tie"], None),
    ],
)
def test_a_judge_may_check_the_weak_answer(
    verify: str, worth: dict[str, float], rules: list[str], expected: tuple[str, str] | None
) -> None:
    _, found, pairs = weakly("Blue", verify, worth)
    assert found == rules
    assert [(p.chosen, p.rejected) for p in pairs] == ([] if expected is None else [expected])
    for pair in pairs:
        assert pair.meta["judge"]["orders"] == ["chosen", "chosen"]
        assert bool(pair.meta.get("flipped")) == (pair.chosen == "Blue")


@pytest.mark.parametrize(
    ("text", "rule"), [("Red", "same_answers"), (" ", "empty_answer"), ("Bl…", "truncated")]
)
def test_weak_answers_that_are_no_use(text: str, rule: str) -> None:
    done, rules, pairs = weakly(text, "flip", {})
    assert (done.weak, rules, pairs) == (None, [rule], [])


def test_a_weak_teacher_has_a_weight_among_the_kinds() -> None:
    config = PreferencesConfig(weak=EngineSpec(model="small"), per_prompt=1)
    assert config.kinds["weak"] == 2.0
    assert PreferencesConfig(weak=EngineSpec(), kinds={"weak": 5.0, "empty": 1}).kinds["weak"] == 5
    given = judged_prompts(200)
    for item in given:
        item.weak = WeakAnswer(f"weak {item.row.id}", "small")
    kinds = Counter(
        pair.meta["kind"] for pair in make_pairs(given, Answers(given), config, None, "seed")
    )
    share = 2.0 / sum(config.kinds.values())
    assert abs(kinds["weak"] / 200 - share) < 4 * math.sqrt(share * (1 - share) / 200)
    for wrong in ({"kinds": {"weak": 1.0}}, {"verify_weak": "drop"},
                  {"ranking": {}, "samples": 1}):  # fmt: skip
        with pytest.raises(ValueError, match="need"):
            PreferencesConfig(**wrong)


# --- corruptions that the judge checks, and what it said ----------------------------------------


def test_only_corruptions_that_the_judge_puts_lower_are_kept() -> None:
    given = judged_prompts(20)
    config = PreferencesConfig(kinds={"empty": 1.0, "padding": 1.0}, verify_corruptions=True)
    handle = io.StringIO()
    tally = Ledger("made", handle).tally("judge")

    def say(a: str, b: str) -> str:
        return "Verdict: tie" if "" in (a, b) else f"Verdict: {'A' if len(a) < len(b) else 'B'}"

    engine = Replies(say)
    english = [item for item in given if item.language == "en"]
    pairs = list(make_pairs(english, Answers(english), config, 15, "s",
                            partial(confirmed, judge=Judge(engine), tally=tally)))  # fmt: skip
    assert {pair.meta["kind"] for pair in pairs} == {"padding"}
    assert len(pairs) == 10  # one padding a prompt; the empty ones were all drawn and rejected
    assert all(pair.meta["judge"]["orders"] == ["chosen", "chosen"] for pair in pairs)
    rules = [json.loads(line)["rule"] for line in handle.getvalue().splitlines()]
    assert set(rules) == {"corruption_not_worse"}
    assert (tally.seen, tally.kept) == (len(pairs) + len(rules), len(pairs))
    unread = Ledger("made", handle).tally("judge")
    assert not confirmed(pairs, Judge(Replies(lambda a, b: "I like both")), unread)
    assert unread.rejected == {"unread_verdict": len(pairs)}


def test_undecided_samples_are_rejects_with_evidence() -> None:
    row = Example.single("Name a colour.", meta={"language": "en", "source": "s"})
    handle = io.StringIO()
    comparisons = Ledger("judge", handle).tally("comparisons")
    engine = Replies(lambda a, b: "Both are fine.\nVerdict: tie" if "Tie" in (a, b)
                     else f"Red is redder.\nVerdict: {'A' if a == 'Red' else 'B'}")  # fmt: skip
    (item,) = judged_answers(
        [row], Samples(["Blue", "Tie", "Red"]), Judge(engine),
        PreferencesConfig(samples=3, reasons=True), [], Ledger("made", handle), 1, comparisons,
    )  # fmt: skip
    assert (item.chosen, item.worse) == ("Red", [("Blue", None)])
    said = {"orders": ["chosen", "chosen"], "reasons": ["Red is redder."] * 2}
    assert item.said == {"Blue": said}
    assert (comparisons.seen, comparisons.kept) == (2, 1)
    (reject,) = [json.loads(line) for line in handle.getvalue().splitlines()]
    assert (reject["rule"], reject["id"], reject["source"]) == ("tie", row.id, "s")
    assert "A: Blue" in reject["text"]
    assert "B: Tie" in reject["text"]
    assert reject["evidence"].count("tie (Both are fine.)") == 2
    (pair,) = make_pairs([item], Answers([item]), PreferencesConfig(kinds={"sample": 1}), None, "s")
    assert pair.meta["judge"] == said


def test_a_run_that_was_cut_off_asks_for_the_rest_alone_and_gives_the_same(tmp_path: Path) -> None:
    rows = draw_prompts(25, seed=5)
    options = {"samples": 3, "ranking": {"extra": 1}, "weak": {}, "verify_weak": "drop"}
    config = PreferencesConfig.model_validate(options)

    def through(last: int | None, name: str) -> tuple[list[PreferencePair], int]:
        engines = [Mortal(OfflineEngine(f"m{seed}", seed=seed), last) for seed in range(3)]
        with contextlib.ExitStack() as stack:
            journals = [
                stack.enter_context(Journal(tmp_path / f"{name}{place}.jsonl"))
                for place in range(3)
            ]
            teacher, weak, asked = (
                JournaledEngine(engine, journal)
                for engine, journal in zip(engines, journals, strict=True)
            )
            judge = Judge(asked)
            ledger = Ledger("made", io.StringIO())
            found = judged_answers(rows, teacher, judge, config, [], ledger, 1)
            items = list(with_weak_answers(found, weak, judge, config, ledger.tally("weak"), 1))
            tally = ledger.tally("judge")
            pairs = [
                *ranking_pairs(items, "all", [], tally),
                *make_pairs(items, Answers(items), config, None, "s",
                            partial(confirmed, judge=judge, tally=tally)),
            ]  # fmt: skip
        return pairs, sum(len(engine.asked) for engine in engines)

    expected, total = through(None, "whole")
    assert {"ranking", "weak"} < {pair.meta["kind"] for pair in expected}
    for last in (0, 1, 24, 60, 74):
        with pytest.raises(Killed):
            through(last, f"{last}-")
        sent = sum(
            len((tmp_path / f"{last}-{place}.jsonl").read_text(encoding="utf-8").splitlines())
            for place in range(3)
        )
        again, rest = through(None, f"{last}-")
        assert again == expected
        assert rest == total - sent


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("A is shorter.\nAnd better.\n\nVerdict: A", "A is shorter. And better."),
        ("理由很简单。\n结论：B", "理由很简单。"),
        ('```json\n{"reason": "It is right.", "verdict": "A"}\n```', "It is right."),
        ('{"理由": "对。", "结论": "A"}', "对。"),
        ("Verdict: A", "Verdict: A"),
        ("{not json}", "{not json}"),
        ("", ""),
        ("x" * 500, "x" * 199 + "…"),
    ],
)
def test_the_reason_in_a_reply(reply: str, reason: str) -> None:
    assert reason_of(reply) == reason
