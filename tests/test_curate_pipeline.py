"""Rows through steps: the funnel adds up, rejects are kept, an empty result is explained."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator

import pytest

from espalier.curate.config_dedup import DedupConfig
from espalier.curate.dedup import exact_dedup
from espalier.curate.filters import rule_step
from espalier.curate.pipeline import Ledger, Tally
from espalier.errors import StageError
from espalier.records import Example, Message


def rows(*prompts: str) -> list[Example]:
    return [
        Example.single(p, "yes", meta={"source": "here", "n": i}) for i, p in enumerate(prompts)
    ]


def no_b(row: Example) -> str | None:
    return "it has a b" if "b" in row.prompt else None


def test_counts_add_up_and_every_reject_is_written() -> None:
    handle = io.StringIO()
    ledger = Ledger("test", handle)
    steps = [("rules", rule_step([("no_b", no_b)])), ("dups", exact_dedup(DedupConfig()))]
    kept = list(ledger.through(rows("a", "ab", "A.", "c", "a!"), steps))
    assert [row.prompt for row in kept] == ["a", "c"]
    assert [tally.to_json() for tally in ledger.tallies] == [
        {"step": "rules", "stream": "test", "in": 5, "out": 4, "rejected": {"no_b": 1}},
        {"step": "dups", "stream": "test", "in": 4, "out": 2, "rejected": {"duplicate_prompt": 2}},
    ]
    rejects = [json.loads(line) for line in handle.getvalue().splitlines()]
    assert len(rejects) == 3
    first = rejects[0]
    assert first["rule"] == "no_b"
    assert first["evidence"] == "it has a b"
    assert (first["source"], first["meta"]) == ("here", {"n": 1})
    assert "user: ab" in first["text"]
    assert rejects[1]["evidence"] == f"repeats row {kept[0].id}"


def test_rows_stream() -> None:
    taken = []

    def endless() -> Iterator[Example]:
        number = 0
        while True:
            taken.append(number)
            yield Example.single(f"prompt {number}", "yes")
            number += 1

    ledger = Ledger("test", io.StringIO())
    stream = ledger.through(endless(), [("rules", rule_step([("no_b", no_b)]))])
    assert next(stream).prompt == "prompt 0"
    assert len(taken) == 1


def test_a_step_that_takes_all_rows_says_which_rule_and_what_to_change() -> None:
    ledger = Ledger("test", io.StringIO())
    rules = rule_step([("refusal", lambda row: row.response)])
    assert list(ledger.through(rows("a", "b"), [("answer rules", rules)])) == []
    with pytest.raises(StageError) as caught:
        ledger.require_rows("rows")
    text = caught.value.render()
    assert "answer rules" in text
    assert "0 of 2 rows" in text
    assert "refusal 2" in text
    assert "user: a" in text
    assert "curate.filters.refusals" in text


def test_steps_that_saw_nothing_are_no_error() -> None:
    ledger = Ledger("test", io.StringIO())
    ledger.tally("unused")
    ledger.require_rows("rows")


def test_rows_set_apart_are_counted_but_are_no_rejects() -> None:
    def apart(stream: Iterable[Example], tally: Tally) -> Iterator[Example]:
        for row in stream:
            if row.prompt == "a":
                tally.set_apart("held_out")
            else:
                yield row

    handle = io.StringIO()
    ledger = Ledger("test", handle)
    assert len(list(ledger.through(rows("a", "c"), [("hold", apart)]))) == 1
    assert ledger.tallies[0].rejected == {"held_out": 1}
    assert handle.getvalue() == ""


def test_equal_prompts_are_found_in_both_languages() -> None:
    def survivors(*prompts: str, key: str = "prompt") -> int:
        ledger = Ledger("test", io.StringIO())
        config = DedupConfig(key=key)  # type: ignore[arg-type]
        return len(list(ledger.through(rows(*prompts), [("dups", exact_dedup(config))])))

    assert survivors("Name a colour.", "name a  colour", "NAME A COLOUR!") == 1
    assert survivors("说出一种颜色。", "说出一种颜色！", "说出一种颜色") == 1
    assert survivors("说出一种颜色。", "说出两种颜色。") == 2
    assert survivors("ＡＢＣ１", "abc1") == 1
    # Signs between numbers are content.
    assert survivors("What is 5 + 3?", "What is 5 - 3?", "What is 5 * 3?") == 3
    assert survivors("Round 3.5", "Round 35", "Round 3 5") == 3
    assert survivors("Add -2 and 4", "Add 2 and 4") == 2
    assert survivors("?", "!") == 2


def test_the_key_may_include_the_answer() -> None:
    pair = [Example.single("Hi", "Hello."), Example.single("hi", "Good day."),
            Example.single("Hi!", "hello")]  # fmt: skip
    for key, expected in (("prompt", 1), ("prompt+answer", 2)):
        ledger = Ledger("test", io.StringIO())
        config = DedupConfig(key=key)  # type: ignore[arg-type]
        kept = list(ledger.through(pair, [("dups", exact_dedup(config))]))
        assert len(kept) == expected


def test_a_dialogue_is_compared_by_all_its_turns() -> None:
    def dialogue(*turns: str) -> Example:
        roles = ("user", "assistant")
        return Example.make(Message(roles[i % 2], t) for i, t in enumerate(turns))  # type: ignore[arg-type]

    ledger = Ledger("test", io.StringIO())
    given = [dialogue("Hi", "Hello", "Bye", "See you"), dialogue("Hi", "Howdy", "Bye", "See you")]
    assert len(list(ledger.through(given, [("dups", exact_dedup(DedupConfig()))]))) == 2
