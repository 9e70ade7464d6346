"""Critique and revision by written principles (Bai et al. 2022, "Constitutional AI: Harmlessness
from AI Feedback", arXiv 2212.08073, section 3.1).

The teacher answers a prompt; then, in each round, it criticises the answer by a principle drawn
at random and revises it by the same principle. Prompt and last revision are a training row; the
last revision above the first answer is a preference pair. A judge may have to agree that the
revision follows the last principle more closely, asked in both orders (section 4.1 has a model
choose so between two answers).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import Any

from espalier.curate.asking import SampleNumbers, replies
from espalier.curate.config_constitution import ConstitutionConfig
from espalier.curate.constitution_prompts import (
    critique_prompt,
    parse_critique,
    parse_revision,
    principle_prompt,
    revision_prompt,
)
from espalier.curate.filters import DECLINES
from espalier.curate.lineage import parents_of_made
from espalier.curate.options import Language
from espalier.curate.pipeline import Ledger, Tally
from espalier.curate.principles import Principle, of_language
from espalier.curate.respond import BATCH, fault
from espalier.curate.verdicts import Meeting, Said, question
from espalier.engines.base import Completion, Engine, Request, Sampling
from espalier.judging import read_comparison, reply_text
from espalier.records import Example, PreferencePair
from espalier.refusals import is_refusal
from espalier.text import language as language_of

OPERATOR = "constitution"


@dataclass(frozen=True, slots=True)
class Round:
    """One critique and the revision after it, by the principle of this id."""

    principle: str
    critique: str
    revision: str


@dataclass(slots=True)
class Revised:
    """A prompt with the teacher's first answer and its revisions."""

    row: Example
    teacher: str
    initial: str = ""
    rounds: list[Round] = field(default_factory=list)
    said: Said | None = None

    @property
    def answer(self) -> str:
        """The last revision; the first answer where there is none."""
        return self.rounds[-1].revision if self.rounds else self.initial

    @property
    def language(self) -> Language:
        known = self.row.meta.get("language") or language_of(self.row.prompt)
        return "zh" if known == "zh" else "en"

    def example(self) -> Example | None:
        """Prompt and last revision; None where nothing was revised or nothing is left."""
        if not self.rounds or not self.answer.strip() or self.answer == self.initial:
            return None
        meta = {**self._meta(), "operator": OPERATOR, "teacher": self.teacher}
        if is_refusal(self.answer) and not is_refusal(self.initial):
            # The principles made it decline: that is the answer to learn.
            meta[DECLINES] = True
        row = Example(self.row.id, self.row.prompt_messages, meta)
        return row.with_response(self.answer)

    def pair(self) -> PreferencePair | None:
        """The last revision above the first answer; None as in `example`."""
        if self.example() is None:
            return None
        meta = {**self._meta(), "kind": OPERATOR, "operator": "preferences"}
        if self.said is not None:
            meta["judge"] = self.said
        prompt = self.row.prompt_messages
        return PreferencePair.make(prompt, self.answer, self.initial, meta=meta)

    def _meta(self) -> dict[str, Any]:
        hidden = ("to_answer", "reference")
        kept = {key: value for key, value in self.row.meta.items() if key not in hidden}
        kept.setdefault("language", self.language)
        used = [made.principle for made in self.rounds]
        return {**kept, "parents": parents_of_made(self.row), "principles": used}

    def trace(self) -> dict[str, Any]:
        """All that was said, as a JSON line."""
        return {
            "id": self.row.id,
            "prompt": [message.to_json() for message in self.row.prompt_messages],
            "initial": self.initial,
            "rounds": [
                {"principle": r.principle, "critique": r.critique, "revision": r.revision}
                for r in self.rounds
            ],
            "teacher": self.teacher,
            **({} if self.said is None else {"judge": self.said}),
        }


def revise(
    rows: Iterable[Example],
    teacher: Engine,
    judge: Engine | None,
    principles: Mapping[Language, Sequence[Principle]],
    config: ConstitutionConfig,
    seed: int,
    ledger: Ledger,
) -> Iterator[Revised]:
    """Answer the prompts of `rows`, criticise and revise; yields those that came through.

    The principle of a round depends on seed, row and round alone, and none comes twice for a row
    before all did. Rejected are: first answers, critiques and revisions that are cut off
    (`truncated`), failed (`engine_error`) or empty (`empty_answer`, `empty_critique`,
    `empty_revision`), last revisions equal to the first answer (`unchanged`) and, with a judge,
    those that it does not put above it (`revision_not_better`, `tie`, `unread_verdict`).
    """
    tally = ledger.tally("critique and revision")
    loop = _Loop(teacher, principles, config, seed, tally)
    checked = None if judge is None else ledger.tally("judge on revisions")
    iterator = iter(rows if config.limit is None else islice(rows, config.limit))
    while batch := list(islice(iterator, BATCH)):
        done = loop.through(batch)
        if judge is not None and checked is not None:
            done = _preferred(done, judge, loop, checked)
        yield from done


class _Loop:
    """The teacher's part, a batch of prompts at a time."""

    def __init__(
        self,
        teacher: Engine,
        principles: Mapping[Language, Sequence[Principle]],
        config: ConstitutionConfig,
        seed: int,
        tally: Tally,
    ) -> None:
        self._teacher = teacher
        self._principles = principles
        self._rounds = config.revisions
        self._seed = seed
        self._tally = tally
        self._numbers = SampleNumbers()
        self._answers = Sampling(
            temperature=config.temperature,
            top_p=config.top_p,
            max_tokens=config.max_tokens,
            seed=seed,
        )
        self._critiques = Sampling(
            temperature=config.temperature,
            top_p=config.top_p,
            max_tokens=config.critique_tokens,
            seed=seed,
        )

    def through(self, rows: Sequence[Example]) -> list[Revised]:
        """Answer, and all rounds; in the order of the rows."""
        self._tally.seen += len(rows)
        items = self._first_answers(rows)
        for number in range(1, self._rounds + 1):
            items = self._round(items, number)
        kept = []
        for item in items:
            if item.answer == item.initial:
                self._reject(item, "unchanged", "the last revision is the first answer")
            else:
                kept.append(item)
        self._tally.kept += len(kept)
        return kept

    def principle(self, item: Revised, number: int) -> Principle:
        """The principle of a round, from 1: one that the rounds before did not use."""
        choice = list(of_language(self._principles, item.language))
        used: list[Principle] = []
        for before in range(1, number + 1):
            left = [p for p in choice if p not in used]
            if not left:
                used, left = [], choice
            used.append(Random(f"{self._seed}:constitution:{item.row.id}:{before}").choice(left))
        return used[-1]

    def _first_answers(self, rows: Sequence[Example]) -> list[Revised]:
        asked = [Revised(row, self._teacher.model) for row in rows]
        requests = [self._numbers.chat(row.prompt_messages) for row in rows]
        kept = []
        for item, reply in replies(self._teacher, asked, requests, self._answers):
            item.initial = reply.text.strip()
            if self._good(item, reply, item.initial, "answer", "first answer"):
                kept.append(item)
        return kept

    def _round(self, items: Sequence[Revised], number: int) -> list[Revised]:
        asked: list[tuple[Revised, Principle, str]] = []
        drawn = [(item, self.principle(item, number)) for item in items]
        requests = [
            self._numbers.prompt(
                critique_prompt(_question(item), item.answer, principle, item.language)
            )
            for item, principle in drawn
        ]
        for (item, principle), reply in replies(self._teacher, drawn, requests, self._critiques):
            critique = parse_critique(reply.text)
            where = f"critique of round {number} ({principle.id})"
            if self._good(item, reply, critique, "critique", where):
                asked.append((item, principle, critique))
        return self._revisions(asked, number)

    def _revisions(
        self, asked: Sequence[tuple[Revised, Principle, str]], number: int
    ) -> list[Revised]:
        requests = [
            self._numbers.prompt(
                revision_prompt(_question(item), item.answer, critique, principle, item.language)
            )
            for item, principle, critique in asked
        ]
        kept = []
        for (item, principle, critique), reply in replies(
            self._teacher, asked, requests, self._answers
        ):
            revision = parse_revision(reply.text)
            where = f"revision of round {number} ({principle.id})"
            if self._good(item, reply, revision, "revision", where):
                item.rounds.append(Round(principle.id, critique, revision))
                kept.append(item)
        return kept

    def _good(self, item: Revised, reply: Completion, text: str, kind: str, where: str) -> bool:
        problem = fault(reply)
        if problem is None and not text:
            problem = f"empty_{kind}", f"the reply: {reply.text!r}"
        if problem is not None:
            self._reject(item, problem[0], f"{where}: {problem[1]}")
        return problem is None

    def _reject(self, item: Revised, rule: str, evidence: str) -> None:
        reject(self._tally, item, rule, evidence)


def _question(item: Revised) -> str:
    return question(item.row.prompt_messages)


def reject(tally: Tally, item: Revised, rule: str, evidence: str) -> None:
    """A reject that shows how far the row came."""
    turns = [f"{message.role}: {message.content}" for message in item.row.prompt_messages]
    if item.initial:
        turns.append(f"first answer: {item.initial}")
    for number, made in enumerate(item.rounds, 1):
        turns += [f"critique {number} ({made.principle}): {made.critique}",
                  f"revision {number}: {made.revision}"]  # fmt: skip
    meta = {key: value for key, value in item.row.meta.items() if key != "source"}
    source = item.row.meta.get("source")
    tally.reject_text("\n".join(turns), rule, evidence, id=item.row.id, source=source, meta=meta)


def _preferred(items: Sequence[Revised], judge: Engine, loop: _Loop, tally: Tally) -> list[Revised]:
    """Those whose revision the judge puts above the first answer by the last principle."""
    requests = []
    for item in items:
        principle = loop.principle(item, len(item.rounds))
        for pair in ((item.answer, item.initial), (item.initial, item.answer)):
            prompt = principle_prompt(_question(item), *pair, principle, item.language)
            requests.append(Request.of(prompt))
    sampling = Sampling(temperature=0.0, max_tokens=256)
    texts = [reply_text(reply) for reply in judge.generate(requests, sampling)] if requests else []
    kept = []
    tally.seen += len(items)
    for item, forward, backward in zip(items, texts[::2], texts[1::2], strict=True):
        meeting = Meeting(item.answer, item.initial, read_comparison(forward, backward))
        if meeting.winner == item.answer:
            item.said = meeting.said(item.answer)
            tally.kept += 1
            kept.append(item)
        else:
            reject(tally, item, meeting.undecided or "revision_not_better", meeting.evidence)
    return kept
