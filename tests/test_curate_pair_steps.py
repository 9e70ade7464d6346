"""Preference pairs go through the steps of rows, both answers included."""

from __future__ import annotations

import io
import json

from espalier.curate.config_filters import FilterConfig, PiiConfig, RepairConfig
from espalier.curate.config_holdout import DecontaminateConfig
from espalier.curate.contamination import EvaluationTexts, contamination_step
from espalier.curate.pair_steps import on_pairs
from espalier.curate.pii import pii_step
from espalier.curate.pipeline import Ledger, Step
from espalier.curate.repair import repair_step
from espalier.curate.terms import term_flags
from espalier.records import Example, Message, PreferencePair

LEAK = "A farmer has seventeen sheep and all but nine of them run away in the night"


def pair(prompt: str, chosen: str, rejected: str) -> PreferencePair:
    turns = [Message("user", prompt)]
    return PreferencePair.make(turns, chosen, rejected, margin=1.5, meta={"language": "en"})


def through(step: Step, *pairs: PreferencePair) -> tuple[list[PreferencePair], str, Ledger]:
    handle = io.StringIO()
    ledger = Ledger("pairs", handle)
    kept = list(on_pairs(step)(pairs, ledger.tally("step")))
    return kept, handle.getvalue(), ledger


def test_clean_pairs_stay_as_they_are() -> None:
    clean = pair("Name a colour.", "Red", "Blue, or what?")
    for step in (repair_step(RepairConfig()), pii_step(PiiConfig()), term_flags(FilterConfig())):
        assert through(step, clean)[0] == [clean]


def test_both_answers_are_changed_and_counted() -> None:
    damaged = pair("Itâ€™s a cafÃ©.", "SÃ£o Paulo", "me@mail.example.org")
    (fixed,), _, ledger = through(repair_step(RepairConfig()), damaged)
    assert fixed.prompt[0].content == "It’s a café."
    assert (fixed.chosen, fixed.margin) == ("São Paulo", 1.5)
    assert fixed.id == PreferencePair.make(fixed.prompt, fixed.chosen, fixed.rejected).id
    assert fixed.meta["original_id"] == damaged.id
    (masked,), _, _ = through(pii_step(PiiConfig()), fixed)
    assert masked.rejected == "<EMAIL>"
    assert masked.id not in (fixed.id, damaged.id)
    assert ledger.tallies[0].to_json()["in"] == ledger.tallies[0].to_json()["out"] == 1


def test_a_leak_in_either_answer_takes_the_pair() -> None:
    config = DecontaminateConfig(against=["x"])
    texts = EvaluationTexts(config)
    texts.add(Example.single(LEAK), "x", 1)
    given = [pair("Riddle?", LEAK, "No."), pair("Riddle?", "No.", LEAK), pair("Riddle?", "A", "B")]
    kept, written, ledger = through(contamination_step(config, texts), *given)
    assert kept == given[2:]
    rejects = [json.loads(line) for line in written.splitlines()]
    assert [reject["id"] for reject in rejects] == [given[0].id, given[1].id]
    assert ledger.tallies[0].rejected == {"contaminated": 2}
