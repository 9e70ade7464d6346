"""Evol-Instruct (WizardLM; Xu et al. 2023, arXiv 2304.12244): instructions made harder in rounds.

In each round every instruction of the pool is evolved once, by an operator drawn for it: in depth
(a constraint, a deeper question, concrete notions, reasoning steps, a complicated input) or in
breadth (a rarer one of the same domain). A judge compares it with what it came from, the teacher
answers it, and the eliminations look at both. One that passes takes the place of its origin in
the pool; for one that fails the origin goes into the next round again. The pool is frozen within
a round and everything is read in request order, so the rows depend on nothing but the
configuration, the seed and the answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from espalier.curate.asking import SampleNumbers, replies
from espalier.curate.config import AnswerConfig
from espalier.curate.config_evolve import OPERATORS, EvolveConfig, InputFormat, Operator
from espalier.curate.elimination import failed_answer, leaked
from espalier.curate.evolve_pool import Entry, Verdict, start_pool
from espalier.curate.evolve_prompts import (
    equality_prompt,
    evolve_prompt,
    parse_equality,
    parse_rewrite,
)
from espalier.curate.pipeline import Ledger, Tally
from espalier.curate.respond import BATCH, fault, unanswered
from espalier.engines.base import Engine, Request, Sampling
from espalier.records import Example, Message, Messages
from espalier.text import length, normalise

SOURCE = "evol-instruct"
# What an evolved instruction has in common with its origin.
_INHERITED = ("category", "group")
# Near a target no more instructions than this are evolved at once, but for what is missing.
_LEAST = 32


@dataclass(slots=True)
class Attempt:
    """An entry on its way through a round; `verdict` is the rule that sent it back, and why."""

    entry: Entry
    operator: Operator
    input_format: InputFormat
    round: int
    text: str = ""
    answer: str = ""
    verdict: Verdict | None = None


def evolve(
    rows: Sequence[Example],
    teacher: Engine,
    judge: Engine,
    config: EvolveConfig,
    seed: int,
    ledger: Ledger,
    answers: AnswerConfig | None = None,
) -> Iterator[Example]:
    """Evolved rows with the teacher's answers, round by round.

    `answers` says how the teacher is sampled for them (default: `AnswerConfig()`). Every evolved
    instruction that fails is a reject that names its rule, origin, operator and round. Raises
    StageError when there is nothing to start with, or nothing passed.
    """
    pool = start_pool(rows, config, seed, ledger.tally("start instructions"))
    evolution = _Evolution(teacher, judge, config, seed, ledger, answers or AnswerConfig())
    made = 0
    for number in range(1, config.rounds + 1):
        following: list[Entry] = []
        while len(following) < len(pool):
            size = BATCH if config.target is None else max(_LEAST, config.target - made)
            batch = pool[len(following) : len(following) + min(size, BATCH)]
            for attempt in evolution.attempts(batch, number):
                if attempt.verdict is None and made == config.target:
                    evolution.leave(attempt, f"{made:,} rows were asked for")
                if attempt.verdict is not None:
                    following.append(attempt.entry)
                    continue
                child = evolution.child(attempt)
                following.append(child)
                made += 1
                yield child.row
            if made == config.target:
                return
        pool = following
    ledger.require_rows("evolved instructions")


@dataclass(slots=True)
class _Evolution:
    """The engines, the funnel and the sample numbers of one run."""

    teacher: Engine
    judge: Engine
    config: EvolveConfig
    seed: int
    ledger: Ledger
    answers: AnswerConfig
    numbers: SampleNumbers = field(default_factory=SampleNumbers)
    written: Tally = field(init=False)
    compared: Tally = field(init=False)
    answered: Tally = field(init=False)

    def __post_init__(self) -> None:
        self.written = self.ledger.tally("evolved instructions")
        self.compared = self.ledger.tally("comparison with their origin")
        self.answered = self.ledger.tally("answers to them")

    def attempts(self, entries: Sequence[Entry], number: int) -> list[Attempt]:
        """A batch evolved, compared and answered, in the order of the entries."""
        attempts = [self._attempt(entry, number) for entry in entries]
        self._write(attempts)
        self._compare([attempt for attempt in attempts if attempt.verdict is None])
        self._answer([attempt for attempt in attempts if attempt.verdict is None])
        return attempts

    def child(self, attempt: Attempt) -> Entry:
        """The entry that takes the place of its origin; its row is finished."""
        self.answered.kept += 1
        entry = attempt.entry
        turns = (*self._asked(attempt), Message("assistant", attempt.answer))
        row = Example.make(turns, {"source": SOURCE, **self._lineage(attempt)})
        return Entry(row, entry.root, entry.depth + 1)

    def leave(self, attempt: Attempt, why: str) -> None:
        """Set a good row aside, since there are enough."""
        self._fail(attempt, self.answered, "over_target", why)

    def _attempt(self, entry: Entry, number: int) -> Attempt:
        rng = Random(f"{self.seed}:evolve:{number}:{entry.row.id}")
        weights = {name: self.config.operators.get(name, 0.0) for name in OPERATORS}
        (operator,) = rng.choices(list(weights), list(weights.values()))
        return Attempt(entry, operator, rng.choice(self.config.input_formats), number)

    def _write(self, attempts: Sequence[Attempt]) -> None:
        requests = [
            self.numbers.prompt(
                evolve_prompt(
                    attempt.entry.row.prompt,
                    attempt.operator,
                    attempt.entry.language,
                    self.config,
                    attempt.input_format,
                )
            )
            for attempt in attempts
        ]
        sampling = Sampling(
            temperature=self.config.temperature,
            top_p=self.config.top_p,
            max_tokens=self.config.max_tokens,
            seed=self.seed,
        )
        for attempt, completion in replies(self.teacher, attempts, requests, sampling):
            self.written.seen += 1
            attempt.text = parse_rewrite(completion.text)
            verdict = fault(completion) or self._bad_rewrite(attempt, completion.text)
            if verdict is None:
                self.written.kept += 1
            else:
                self._fail(attempt, self.written, *verdict)

    def _bad_rewrite(self, attempt: Attempt, reply: str) -> Verdict | None:
        words = length(attempt.text)
        if not words:
            return "no_rewrite", reply
        leak = leaked(attempt.text, attempt.entry.row.prompt, self.config.eliminate)
        if leak is not None:
            return leak
        return ("long_rewrite", f"{words} words") if words > self.config.max_words else None

    def _compare(self, attempts: Sequence[Attempt]) -> None:
        """Elimination 1: what the judge calls equal to its origin gives nothing new."""
        if not self.config.eliminate.equal:
            self.compared.seen += len(attempts)
            self.compared.kept += len(attempts)
            return
        changed = []
        for attempt in attempts:
            self.compared.seen += 1
            if normalise(attempt.text) == normalise(attempt.entry.row.prompt):
                self._fail(attempt, self.compared, "equal", "the text is the same")
            else:
                changed.append(attempt)
        requests = [
            Request.of(equality_prompt(a.entry.row.prompt, a.text, a.entry.language))
            for a in changed
        ]
        sampling = Sampling(temperature=0.0, max_tokens=self.config.judge_max_tokens)
        engine = self.teacher if self.config.equality_by == "teacher" else self.judge
        for attempt, completion in replies(engine, changed, requests, sampling):
            equal = parse_equality(completion.text)
            if completion.finish_reason == "error":
                self._fail(attempt, self.compared, "engine_error", unanswered(completion))
            elif equal:
                self._fail(attempt, self.compared, "equal", f"the judge says: {completion.text}")
            else:
                if equal is None:
                    self.compared.change("unread_verdict")
                self.compared.kept += 1

    def _answer(self, attempts: Sequence[Attempt]) -> None:
        requests = [self.numbers.chat(self._asked(attempt)) for attempt in attempts]
        sampling = Sampling(
            temperature=self.answers.temperature,
            top_p=self.answers.top_p,
            max_tokens=self.answers.max_tokens,
            seed=self.seed,
        )
        for attempt, completion in replies(self.teacher, attempts, requests, sampling):
            self.answered.seen += 1
            attempt.answer = completion.text.strip()
            verdict = fault(completion)
            if verdict is None and not attempt.answer:
                verdict = "empty_answer", "no text"
            verdict = verdict or failed_answer(attempt.answer, self.config.eliminate)
            if verdict is not None:
                self._fail(attempt, self.answered, *verdict)

    def _asked(self, attempt: Attempt) -> Messages:
        system = [m for m in attempt.entry.row.messages if m.role == "system"]
        return (*system, Message("user", attempt.text))

    def _fail(self, attempt: Attempt, tally: Tally, rule: str, evidence: str) -> None:
        attempt.verdict = rule, evidence
        tally.reject_text(
            attempt.text or attempt.entry.row.prompt,
            rule,
            evidence,
            source=SOURCE,
            meta={**self._lineage(attempt), "back_in_pool": attempt.round < self.config.rounds},
        )

    def _lineage(self, attempt: Attempt) -> dict[str, Any]:
        entry = attempt.entry
        kept = {key: entry.row.meta[key] for key in _INHERITED if key in entry.row.meta}
        meta = {
            **kept,
            "language": entry.language_of(attempt.text or entry.row.prompt),
            "operator": f"evolve:{attempt.operator}",
            "parents": [entry.row.id],
            "root": entry.root.id,
            "depth": entry.depth + 1,
            "round": attempt.round,
            "teacher": self.teacher.model,
        }
        if attempt.operator == "complicate_input":
            meta["input_format"] = attempt.input_format
        if "source" in entry.root.meta:
            meta["root_source"] = entry.root.meta["source"]
        return meta
