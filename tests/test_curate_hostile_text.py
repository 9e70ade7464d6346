"""Whatever a text holds, no filter fails on it, and what it does is the same each time."""

from __future__ import annotations

import io
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.curate.config_filters import FilterConfig, PiiConfig, RepairConfig
from espalier.curate.config_holdout import DecontaminateConfig, HoldoutConfig
from espalier.curate.contamination import EvaluationTexts, contamination_step
from espalier.curate.decontaminate import HeldOut, decontaminate
from espalier.curate.filters import answer_rules, prompt_rules, rule_step
from espalier.curate.pii import pii_step
from espalier.curate.pipeline import Ledger, Step
from espalier.curate.repair import repair_step
from espalier.curate.terms import term_flags, term_rules
from espalier.records import Example, dump_line

# Every character, surrogates and unassigned ones too; and pieces that the patterns look for.
ANY = st.text(alphabet=st.characters(exclude_categories=()), max_size=40)
PIECES = st.lists(
    st.sampled_from(
        ["@", "a@b.co", "::", "1.2.3.4", "13800138000", "+1 ", "-----BEGIN PRIVATE KEY-----",
         "&amp;", "Ã©", "浣犲ソ", "\ud83d", "\x1b[3", "<", "```", "http://", "你好，",
         "of the and ", "DE89 ", "４１１１", "ﬁ", "\u200b", "\n", "：", "sk-", "suicide", "自杀",
         "e\u0301", "한", "\U00020000"]
    ),
    max_size=14,
).map("".join)  # fmt: skip
TEXT = ANY | PIECES

FILTERS = FilterConfig.model_validate(
    {
        "min_answer_words": 1, "min_turn_words": 1, "max_turn_words": 30, "max_dialogue_words": 50,
        "max_turns": 4, "languages": ["en", "zh"], "disclaimers": True, "mojibake": True,
        "repeats": {"gopher": True, "run": 5}, "max_symbols": 0.5, "max_links": 0.5,
        "max_html": 0.5, "keywords": {"terms": {"x": ["浣", "b.co", "★"]}},
        "safety": {"action": "flag"},
    }
)  # fmt: skip
EVALUATION = DecontaminateConfig(against=["x"], ngram=3, shortest=1, action="flag")


def steps() -> list[tuple[str, Step]]:
    texts = EvaluationTexts(EVALUATION)
    held = HeldOut(HoldoutConfig(near_threshold=0.3, ngram=2))
    for number, text in enumerate(["你好，the and of", "13800138000 a@b.co 1.2.3.4", "한e\u0301"]):
        texts.add(Example.single(text, "suicide"), "x", number)
        held.add(Example.single(text, "yes"))
    rules = [*prompt_rules(FILTERS), *term_rules(FILTERS), *answer_rules(FILTERS)]
    single = [(name, rule_step([(name, rule)])) for name, rule in rules]
    return [
        ("repair", repair_step(RepairConfig())),
        ("pii", pii_step(PiiConfig(ip="drop", ssn="flag"))),
        *single,
        ("marks", term_flags(FILTERS)),
        ("evaluation", contamination_step(EVALUATION, texts)),
        ("held out", decontaminate(held)),
    ]


STEPS = steps()


@given(TEXT, TEXT)
@settings(max_examples=120, deadline=None)
def test_no_text_makes_a_step_fail(prompt: str, answer: str) -> None:
    meta = {"input": answer, "language": "zh", "extra": [prompt]}
    row = Example.single(prompt, answer, meta=meta)
    for name, step in STEPS:
        results = []
        for _ in range(2):
            handle = io.StringIO()
            kept = list(Ledger("test", handle).through([row], [(name, step)]))
            rejects = handle.getvalue().split("\n")[:-1]
            assert len(kept) + len(rejects) == 1, name
            results.append([*(dump_line(item.to_json()) for item in kept), *rejects])
        assert results[0] == results[1]
        for line in results[0]:
            json.loads(line)
        # Go on with what the step made of it.
        row = kept[0] if kept else row
