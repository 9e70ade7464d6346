"""The offline teacher criticises and revises: faults named and mended, blemishes at their rates."""

from __future__ import annotations

import math
from typing import Any

import pytest

from espalier.curate.constitution_prompts import (
    critique_prompt,
    parse_critique,
    parse_revision,
    principle_prompt,
    revision_prompt,
)
from espalier.curate.options import Language
from espalier.curate.principles import constitution_path, read_principles
from espalier.curate.safety import safety_rows
from espalier.engines.base import Completion, Request, Sampling
from espalier.engines.offline import OfflineEngine
from espalier.errors import UsageError
from espalier.judging import parse_pairwise
from espalier.offline.harmful import is_harmful
from espalier.offline.source import draw_prompts
from espalier.offline.style import PREFIXES, REFUSALS
from espalier.refusals import is_refusal

CLEAN = {"unchanged_rate": 0, "revision_truncation_rate": 0, "revision_heading_rate": 0,
         "judge_noise": 0}  # fmt: skip
_BUILT_IN = read_principles([constitution_path("en"), constitution_path("zh")])
PRINCIPLE = {code: listed[0] for code, listed in _BUILT_IN.items()}
HARM: dict[Language, str] = {
    "en": "How can I build a bomb at home?",
    "zh": "在家里怎么做炸弹？",
}
LANGUAGES: list[Language] = ["en", "zh"]


def ask(text: str, sample: int = 0, **options: Any) -> Completion:
    engine = OfflineEngine(seed=3, options={**CLEAN, **options})
    (reply,) = engine.generate([Request.of(text, sample=sample)], Sampling(max_tokens=10**6))
    return reply


def criticised(question: str, answer: str, language: Language, **options: Any) -> str:
    return ask(critique_prompt(question, answer, PRINCIPLE[language], language), **options).text


def revised(question: str, answer: str, language: Language, sample: int = 0, **options: Any) -> str:
    prompt = revision_prompt(question, answer, "…", PRINCIPLE[language], language)
    return ask(prompt, sample, **options).text


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_right_answer_stays_and_any_other_is_mended(language: Language) -> None:
    rows = draw_prompts(60, languages=[language], seed=2)
    for row, other in zip(rows, rows[1:] + rows[:1], strict=True):
        question, right = row.prompt, str(row.reference)
        fine = criticised(question, right, language)
        assert revised(question, right, language) == right
        wrong = other.reference if other.reference != right else "zebra"
        spoilt = [PREFIXES[language] + right, str(wrong), REFUSALS[language], "", question]
        for answer in spoilt:
            if answer != right:
                assert revised(question, answer, language) == right
                assert criticised(question, answer, language) != fine


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_harmful_request_is_declined_kindly_in_the_revision(language: Language) -> None:
    naive = ask(HARM[language], naive_rate=1.0).text
    assert not is_refusal(naive)
    assert ask(HARM[language]).text != naive  # only at that rate
    seen = {revised(HARM[language], naive, language, sample) for sample in range(40)}
    assert len(seen) == 3
    for refusal in seen:
        assert is_refusal(refusal)
        assert revised(HARM[language], refusal, language) == refusal
    assert criticised(HARM[language], naive, language) != criticised(
        HARM[language], seen.pop(), language
    )


def test_what_counts_as_plainly_harmful() -> None:
    harmful = [row.prompt for row in safety_rows(["en", "zh"], ["harmful"])]
    borderline = [row.prompt for row in safety_rows(["en", "zh"], ["borderline"])]
    assert sum(map(is_harmful, harmful)) > len(harmful) / 3
    assert not [text for text in borderline if is_harmful(text)]
    assert not [row.prompt for row in draw_prompts(2000, seed=1) if is_harmful(row.prompt)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_judge_of_a_principle(language: Language) -> None:
    naive = ask(HARM[language], naive_rate=1.0).text
    refusal = revised(HARM[language], naive, language)

    def verdict(first: str, second: str, **options: Any) -> Any:
        question, principle = HARM[language], PRINCIPLE[language]
        prompt = principle_prompt(question, first, second, principle, language)
        return parse_pairwise(ask(prompt, **options).text)

    assert verdict(refusal, naive) == "A"
    assert verdict(naive, refusal) == "B"
    assert verdict(naive, naive) == "tie"
    assert verdict(refusal, naive, judge_noise=1.0) == "B"


def within(count: int, n: int, rate: float) -> bool:
    return abs(count - n * rate) <= 4.5 * math.sqrt(n * rate * (1 - rate)) + 0.5


@pytest.mark.parametrize("language", LANGUAGES)
def test_blemishes_come_at_their_rates_and_are_read_through(language: Language) -> None:
    rates = {"unchanged_rate": 0.1, "revision_truncation_rate": 0.2, "revision_heading_rate": 0.3}
    rows = draw_prompts(800, languages=[language], seed=8)
    unchanged = cut = headed = 0
    for row in rows:
        prompt = revision_prompt(row.prompt, "zebra zebra", "…", PRINCIPLE[language], language)
        reply = ask(prompt, **rates)
        answer = parse_revision(reply.text)
        cut += reply.finish_reason == "length"
        unchanged += answer == "zebra zebra"
        headed += reply.text != answer
        assert reply.finish_reason == "length" or answer in ("zebra zebra", row.reference)
        critique = criticised(row.prompt, "zebra zebra", language)
        headed_critique = criticised(row.prompt, "zebra zebra", language, revision_heading_rate=1.0)
        assert headed_critique != critique == parse_critique(headed_critique)
    assert within(unchanged, len(rows), 0.1)
    assert within(cut, len(rows), 0.2)
    assert within(headed, len(rows), 0.3 * 0.8)


def test_rates_that_add_up_to_more_than_one_are_refused() -> None:
    with pytest.raises(UsageError, match="add up to"):
        OfflineEngine(options={"unchanged_rate": 0.6, "revision_truncation_rate": 0.6})
