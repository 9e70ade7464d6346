"""The loop that Self-Instruct and Alpaca share: rounds of new tasks after a frozen pool.

Each request of a round shows tasks drawn from a pool that is frozen for the round, so that the
requests can run at once; the answers are read in request order, so that the result does not
depend on which came first. A task that passes the rules and is novel against seeds and all kept
ones joins the pool. What is asked is a function of the configuration, the seed and the answers
so far: a run that was cut anywhere goes on as if it had not been.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Generic, TypeVar

from espalier.curate.config_instruct import AlpacaConfig, SelfInstructConfig
from espalier.curate.instruction_rules import InstructionRules
from espalier.curate.nearest import NearestTasks
from espalier.curate.novelty import InstructionPool
from espalier.curate.options import Language
from espalier.curate.pipeline import Ledger, Tally
from espalier.curate.respond import unanswered
from espalier.curate.seed_tasks import Instance, Task
from espalier.engines.base import Completion, Engine, Request, Sampling
from espalier.errors import StageError
from espalier.records import Example, content_id

# So many rounds in a row without one new task mean that the teacher has no more to say.
_BARREN_ROUNDS = 5

Config = TypeVar("Config", SelfInstructConfig, AlpacaConfig)


@dataclass(frozen=True, slots=True)
class Read:
    """New tasks of one answer (instruction, examples); pieces left out (text, rule, evidence)."""

    tasks: Sequence[tuple[str, tuple[Instance, ...]]]
    dropped: Sequence[tuple[str, str, str]] = ()


@dataclass(slots=True)
class Rounds(ABC, Generic[Config]):
    """One language's run; iterate `rows()` once."""

    engine: Engine
    config: Config
    language: Language
    seeds: Sequence[Task]
    seed: int
    ledger: Ledger
    rounds: int = 0
    notes: list[str] = field(default_factory=list)
    _asked: int = field(default=0, init=False)
    _made: int = field(default=0, init=False)

    @property
    @abstractmethod
    def source(self) -> str:
        """The name in `meta.source` and `meta.operator`."""

    @property
    @abstractmethod
    def per_request(self) -> float:
        """Rows that a request is expected to give, before any has."""

    @property
    @abstractmethod
    def sampling(self) -> Sampling:
        """How new tasks are sampled."""

    @abstractmethod
    def prompt(self, context: Sequence[Task]) -> str:
        """Ask for new tasks after these."""

    @abstractmethod
    def read(self, text: str, shown: int, *, cut: bool) -> Read:
        """The new tasks of an answer to a prompt that showed so many; `cut`: it is not whole."""

    @abstractmethod
    def finished(self, tasks: Sequence[Task], tally: Tally) -> Iterator[tuple[Task, int, Instance]]:
        """The examples of new tasks that can be used: task, number from 1, example.

        Counts what it has seen and what it rejects in `tally`.
        """

    def rows(self) -> Iterator[Example]:
        """Finished rows, round by round, until the target or the last round.

        Raises StageError when the whole run gave nothing.
        """
        written = self.ledger.tally(f"instructions ({self.language})")
        examples = self.ledger.tally(f"examples ({self.language})")
        seeds = self.usable_seeds()
        rules = InstructionRules(self.config, self.language)
        pool = InstructionPool(self.config.novelty)
        nearest = NearestTasks(self.config.nearest)
        for task in self.seeds:
            pool.add(task.instruction)
            nearest.add(task.id, task.instruction)
        machine: list[Task] = []
        barren = 0
        while self._made < self.config.target and self.rounds < self.config.max_rounds:
            self.rounds += 1
            kept: list[Task] = []
            near: dict[str, dict[str, object]] = {}
            for task in self._new(machine, seeds, written):
                written.seen += 1
                problem = rules.verdict(task.instruction) or _repeat(task, pool)
                if problem is not None:
                    written.reject_text(task.instruction, *problem, **self.origin(task))
                    continue
                written.kept += 1
                near[task.id] = nearest.meta(task.instruction)
                pool.add(task.instruction)
                nearest.add(task.id, task.instruction)
                kept.append(task)
            for task, number, instance in self.finished(kept, examples):
                self._made += 1
                examples.kept += 1
                yield self._row(task, number, instance, near[task.id])
            machine += kept
            barren = 0 if kept else barren + 1
            if barren == _BARREN_ROUNDS:
                break
        self._account()

    def usable_seeds(self) -> Sequence[Task]:
        """The seeds that a prompt can show."""
        return self.seeds

    def origin(self, task: Task) -> dict[str, Any]:
        """What a reject says about where it is from."""
        return {"id": task.id, "source": self.source, "meta": self._lineage(task)}

    def _lineage(self, task: Task) -> dict[str, Any]:
        return {
            "language": self.language,
            "operator": self.source,
            "task": task.id,
            "parents": list(task.parents),
            "round": task.round,
            "teacher": self.engine.model,
        }

    def _row(self, task: Task, number: int, instance: Instance, near: dict[str, object]) -> Example:
        prompt = task.instruction + (f"\n\n{instance.input}" if instance.input else "")
        meta: dict[str, Any] = {"source": self.source, **self._lineage(task), "instance": number}
        if task.is_classification is not None:
            meta["is_classification"] = task.is_classification
        if task.is_classification:
            meta["group"] = "understanding"
        if instance.input:
            meta["input"] = instance.input
        return Example.single(prompt, instance.output, meta={**meta, **near})

    def _account(self) -> None:
        self.ledger.require_rows("Self-Instruct results")
        if not self._made:
            raise StageError(
                f"Self-Instruct got no task in {self.rounds} rounds ({self.language}).",
                where="curate.self_instruct",
                expected="numbered instructions from the teacher",
                hint="look at the teacher's answers, or choose another teacher",
            )
        if self._made < self.config.target:
            ended = self.rounds == self.config.max_rounds
            self.notes.append(
                f"Self-Instruct ({self.language}) stopped at {self._made} of {self.config.target} "
                f"rows after {self.rounds} rounds: "
                + ("curate.self_instruct.max_rounds is reached" if ended else "nothing new came")
            )

    def _new(self, machine: Sequence[Task], seeds: Sequence[Task], tally: Tally) -> Iterator[Task]:
        """New tasks of one round, in request order."""
        rng = Random(f"{self.seed}:{self.source}:{self.language}:{self.rounds}")
        contexts = [self._context(machine, seeds, rng) for _ in range(self._requests())]
        requests = [
            Request.of(self.prompt(context), sample=self._asked + number)
            for number, context in enumerate(contexts)
        ]
        self._asked += len(requests)
        answers = self.engine.generate(requests, self.sampling)
        for context, completion in zip(contexts, answers, strict=True):
            yield from self._tasks(context, completion, tally)

    def _tasks(
        self, context: Sequence[Task], completion: Completion, tally: Tally
    ) -> Iterator[Task]:
        parents = tuple(task.id for task in context)
        meta = self._lineage(Task("", "", parents, self.rounds))
        del meta["task"]
        if completion.finish_reason == "error":
            read = Read((), [("", "engine_error", unanswered(completion))])
        else:
            cut = completion.finish_reason == "length"
            read = self.read(completion.text, len(context), cut=cut)
            if not read.tasks and not read.dropped:
                read = Read((), [(completion.text, "no_instruction", completion.text)])
        for text, rule, evidence in read.dropped:
            tally.seen += 1
            tally.reject_text(text, rule, evidence, source=self.source, meta=meta)
        for instruction, instances in read.tasks:
            name = content_id(instruction)
            yield Task(name, instruction, parents, self.rounds, instances=instances)

    def _requests(self) -> int:
        """How many requests of a round the target seems to need, by what they gave so far."""
        rate = self._made / self._asked if self._made else self.per_request
        missing = self.config.target - self._made
        return min(self.config.requests_per_round, max(1, math.ceil(missing / rate)))

    def _context(self, machine: Sequence[Task], seeds: Sequence[Task], rng: Random) -> list[Task]:
        own = min(self.config.machine_in_context, len(machine), self.config.in_context)
        human = min(self.config.in_context - own, len(seeds))
        context = rng.sample(list(machine), own) + rng.sample(list(seeds), human)
        rng.shuffle(context)
        return context


def _repeat(task: Task, pool: InstructionPool) -> tuple[str, str] | None:
    near = pool.too_near(task.instruction)
    return None if near is None else ("not_novel", f"ROUGE-L {near.f1:.3f} to {near.text!r}")
