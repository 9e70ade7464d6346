"""Self-Instruct (Wang et al. 2022, arXiv 2212.10560): the teacher writes new tasks after seeds.

A round asks `requests_per_round` times for more instructions. Each request shows instructions
drawn from a pool that is frozen for the round, so that requests can run at once; the answers are
read in request order, so that the result does not depend on which came first. An instruction
that passes the rules and is novel against seeds and all kept ones joins the pool, and the teacher
writes one example (input and output) for it. Every instruction and example that is dropped is
kept with the rule that dropped it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from espalier.curate.config_instruct import SelfInstructConfig
from espalier.curate.novelty import InstructionPool
from espalier.curate.options import Language
from espalier.curate.pipeline import Ledger
from espalier.curate.prompting import (
    instance_prompt,
    instruction_prompt,
    parse_instance,
    parse_instructions,
)
from espalier.curate.respond import fault
from espalier.engines.base import Engine, Request, Sampling
from espalier.errors import InputError, StageError, place
from espalier.formats.files import read_rows
from espalier.records import Example, content_id
from espalier.text import language, length, normalise

SOURCE = "self-instruct"
SEEDS = Path(__file__).parent / "seeds"
BUILT_IN: tuple[Language, ...] = ("en", "zh")
# So many rounds in a row without one new task mean that the teacher has no more to say.
_BARREN_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Task:
    """An instruction of the pool and the name that lineage knows it by."""

    id: str
    instruction: str
    parents: tuple[str, ...] = ()
    round: int = 0


def seed_path(name: str, resolve: Callable[[str], Path] = Path) -> Path:
    """The file behind `en`, `zh` or a path."""
    return SEEDS / f"{name}.jsonl" if name in BUILT_IN else resolve(name)


def read_seeds(path: Path) -> list[Task]:
    """The instructions of a seed file; raises InputError naming file, line and field."""
    tasks = []
    for row in read_rows(path):
        value = getattr(row, "value", None)
        instruction = value.get("instruction") if isinstance(value, dict) else None
        if not isinstance(instruction, str) or not instruction.strip():
            raise InputError(
                "A seed task has no instruction.",
                where=place(path, row.line, "instruction"),
                expected='an object like {"id": "…", "instruction": "…", "instances": […]}',
            )
        identity = value.get("id") if isinstance(value, dict) else None
        tasks.append(Task(str(identity or content_id(instruction)), instruction.strip()))
    if not tasks:
        raise InputError("A seed file has no tasks.", where=str(path), expected="JSON objects")
    return tasks


def language_of(tasks: Iterable[Task]) -> Language:
    """The language that most of the tasks are written in (Chinese, else English)."""
    found = [language(task.instruction) for task in tasks]
    return "zh" if found.count("zh") * 2 > len(found) else "en"


class InstructionRules:
    """The rules on one instruction (ANCHOR: Self-Instruct, Alpaca), for one language."""

    def __init__(self, config: SelfInstructConfig, spoken: Language) -> None:
        self._config = config
        self._openings = tuple(text.lower() for text in config.blacklist_openings.get(spoken, []))
        self._ascii_only = config.ascii_only and spoken == "en"
        words = config.blacklist.get(spoken, [])
        # Chinese has no word boundaries: there the words are looked for anywhere.
        edge = "" if spoken == "zh" else r"\b"
        joined = "|".join(re.escape(word) for word in words)
        self._blacklist = re.compile(f"{edge}(?:{joined}){edge}", re.IGNORECASE) if words else None

    def verdict(self, instruction: str) -> tuple[str, str] | None:
        """(rule, evidence) of the first rule that objects, else None."""
        words = length(instruction)
        if words <= self._config.min_words:
            return "short_instruction", f"{words} words"
        if words > self._config.max_words:
            return "long_instruction", f"{words} words"
        found = self._blacklist.search(instruction) if self._blacklist else None
        if found:
            return "blacklisted", found.group()
        for opening in self._openings:
            if instruction.lower().startswith(opening):
                return "blacklisted_opening", opening
        if not instruction[0].isalnum():
            return "odd_opening", instruction[:10]
        if self._ascii_only and not instruction[0].isascii():
            return "not_ascii", instruction[:10]
        return None


@dataclass(slots=True)
class SelfInstruct:
    """One language's run; iterate `rows()` once."""

    engine: Engine
    config: SelfInstructConfig
    language: Language
    seeds: Sequence[Task]
    seed: int
    ledger: Ledger
    rounds: int = 0
    notes: list[str] = field(default_factory=list)

    def rows(self) -> Iterator[Example]:
        """Finished rows, round by round, until the target or the last round.

        Raises StageError when the whole run gave nothing.
        """
        written = self.ledger.tally(f"instructions ({self.language})")
        examples = self.ledger.tally(f"examples ({self.language})")
        rules = InstructionRules(self.config, self.language)
        pool = InstructionPool(self.config.novelty)
        for task in self.seeds:
            pool.add(task.instruction)
        machine: list[Task] = []
        made = barren = 0
        while made < self.config.target and self.rounds < self.config.max_rounds:
            self.rounds += 1
            kept = []
            for task in self._written(machine, written):
                written.seen += 1
                verdict = rules.verdict(task.instruction)
                near = None if verdict else pool.too_near(task.instruction)
                if near is not None:
                    verdict = "not_novel", f"ROUGE-L {near.f1:.3f} to {near.text!r}"
                if verdict is not None:
                    written.reject_text(task.instruction, *verdict, **self._origin(task))
                    continue
                written.kept += 1
                pool.add(task.instruction)
                kept.append(task)
            for row in self._examples(kept, examples):
                made += 1
                yield row
            machine += kept
            barren = 0 if kept else barren + 1
            if barren == _BARREN_ROUNDS:
                break
        self._account(made)

    def _account(self, made: int) -> None:
        self.ledger.require_rows("Self-Instruct results")
        if not made:
            raise StageError(
                f"Self-Instruct got no task in {self.rounds} rounds ({self.language}).",
                where="curate.self_instruct",
                expected="numbered instructions from the teacher",
                hint="look at the teacher's answers, or choose another teacher",
            )
        if made < self.config.target:
            self.notes.append(
                f"Self-Instruct ({self.language}) stopped at {made} of {self.config.target} rows "
                f"after {self.rounds} rounds: nothing new came"
            )

    def _origin(self, task: Task) -> dict[str, Any]:
        return {"id": task.id, "source": SOURCE, "meta": self._lineage(task)}

    def _lineage(self, task: Task) -> dict[str, Any]:
        return {
            "language": self.language,
            "operator": SOURCE,
            "task": task.id,
            "parents": list(task.parents),
            "round": task.round,
            "teacher": self.engine.model,
        }

    def _written(self, machine: Sequence[Task], tally: Any) -> Iterator[Task]:
        """New instructions of one round, in request order."""
        rng = Random(f"{self.seed}:self-instruct:{self.language}:{self.rounds}")
        contexts = [self._context(machine, rng) for _ in range(self.config.requests_per_round)]
        requests = [
            Request.of(
                instruction_prompt([task.instruction for task in context], self.language),
                sample=(self.rounds - 1) * self.config.requests_per_round + number,
            )
            for number, context in enumerate(contexts)
        ]
        sampling = Sampling(
            temperature=self.config.temperature,
            top_p=self.config.top_p,
            max_tokens=self.config.max_tokens,
            presence_penalty=self.config.presence_penalty,
            seed=self.seed,
        )
        for context, completion in zip(
            contexts, self.engine.generate(requests, sampling), strict=True
        ):
            parents = tuple(task.id for task in context)
            if completion.finish_reason == "error":
                tally.seen += 1
                tally.reject_text(completion.text, "engine_error", "the request failed")
                continue
            for instruction in parse_instructions(
                completion.text, len(context) + 1, cut=completion.finish_reason == "length"
            ):
                yield Task(content_id(instruction), instruction, parents, self.rounds)

    def _context(self, machine: Sequence[Task], rng: Random) -> list[Task]:
        own = min(self.config.machine_in_context, len(machine), self.config.in_context)
        human = min(self.config.in_context - own, len(self.seeds))
        context = rng.sample(list(machine), own) + rng.sample(list(self.seeds), human)
        rng.shuffle(context)
        return context

    def _examples(self, tasks: Sequence[Task], tally: Any) -> Iterator[Example]:
        """One finished row for each task whose example can be used."""
        requests = [Request.of(instance_prompt(t.instruction, self.language)) for t in tasks]
        if not requests:
            return
        sampling = Sampling(
            temperature=self.config.instance_temperature,
            max_tokens=self.config.max_tokens,
            seed=self.seed,
        )
        for task, completion in zip(tasks, self.engine.generate(requests, sampling), strict=True):
            tally.seen += 1
            problem = fault(completion)
            instance = None if problem else parse_instance(completion.text)
            if instance is None:
                problem = problem or ("no_output_label", completion.text)
            elif not instance.output:
                problem = "empty_answer", completion.text
            elif instance.input and normalise(instance.input) == normalise(instance.output):
                problem = "copy", instance.output
            elif f"{instance.input}\n{instance.output}".endswith((":", "：")) or (
                instance.input.endswith((":", "："))
            ):
                problem = "cut_off", completion.text[-120:]
            if instance is None or problem is not None:
                rule, evidence = problem or ("no_output_label", completion.text)
                tally.reject_text(task.instruction, rule, evidence, **self._origin(task))
                continue
            tally.kept += 1
            prompt = task.instruction + (f"\n\n{instance.input}" if instance.input else "")
            meta = {"source": SOURCE, **self._lineage(task)}
            if instance.input:
                meta["input"] = instance.input
            yield Example.single(prompt, instance.output, meta=meta)
