"""Self-Instruct (Wang et al. 2022, arXiv 2212.10560): the teacher writes new tasks after seeds.

Three steps, round by round: (1) the teacher goes on with a list of instructions drawn from seeds
and from its own; those that pass the rules and are novel are kept; (2) it says of each whether
it is a classification task; (3) it writes examples of each, input first, or for classification
tasks the class label first, because the labels would else be mostly the same. Every instruction
and example that is dropped is kept with the rule that dropped it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from espalier.curate.alpaca import Alpaca
from espalier.curate.config_instruct import AlpacaConfig, SelfInstructConfig
from espalier.curate.instances import Found, parse_input_first, parse_output_first, usable
from espalier.curate.instruction_rounds import Read, Rounds
from espalier.curate.instruction_rules import InstructionRules
from espalier.curate.options import Language
from espalier.curate.pipeline import Ledger, Tally
from espalier.curate.prompting import (
    classification_prompt,
    instance_prompt,
    instruction_prompt,
    parse_classification,
    parse_instructions,
)
from espalier.curate.respond import unanswered
from espalier.curate.seed_tasks import Instance, Task, language_of, read_seeds, seed_path
from espalier.engines.base import Completion, Engine, Request, Sampling

__all__ = [
    "InstructionRules",
    "SelfInstruct",
    "Task",
    "generator",
    "language_of",
    "read_seeds",
    "seed_path",
]

# Instructions that a list goes on with, more or less (the published prompt stops it at 16).
_NEW_TASKS = 8


def generator(
    engine: Engine,
    config: SelfInstructConfig | AlpacaConfig,
    language: Language,
    seeds: Sequence[Task],
    seed: int,
    ledger: Ledger,
) -> SelfInstruct | Alpaca:
    """The run that the configuration's mode asks for; iterate its `rows()` once."""
    if isinstance(config, AlpacaConfig):
        return Alpaca(engine, config, language, seeds, seed, ledger)
    return SelfInstruct(engine, config, language, seeds, seed, ledger)


@dataclass(slots=True)
class SelfInstruct(Rounds[SelfInstructConfig]):
    """One language's run of the three steps."""

    @property
    def source(self) -> str:
        return "self-instruct"

    @property
    def per_request(self) -> float:
        return _NEW_TASKS

    @property
    def sampling(self) -> Sampling:
        return Sampling(
            temperature=self.config.temperature,
            top_p=self.config.top_p,
            max_tokens=self.config.max_tokens,
            presence_penalty=self.config.presence_penalty,
            seed=self.seed,
        )

    def prompt(self, context: Sequence[Task]) -> str:
        return instruction_prompt([task.instruction for task in context], self.language)

    def read(self, text: str, shown: int, *, cut: bool) -> Read:
        listed = parse_instructions(text, shown + 1, cut=cut)
        dropped = [] if listed.cut is None else [(listed.cut, "truncated", listed.cut)]
        return Read([(instruction, ()) for instruction in listed.instructions], dropped)

    def finished(self, tasks: Sequence[Task], tally: Tally) -> Iterator[tuple[Task, int, Instance]]:
        known = list(self._classified(tasks, tally))
        answers = self._instances(known)
        for task, completion in zip(known, answers, strict=True):
            found = self._read_instances(task, completion)
            tally.seen += len(found.instances) + len(found.dropped)
            meta = {**self.origin(task)["meta"], "is_classification": task.is_classification}
            for text, rule, evidence in found.dropped:
                shown = f"{task.instruction}\n\n{text}".strip()
                tally.reject_text(shown, rule, evidence, id=task.id, source=self.source, meta=meta)
            for number, instance in enumerate(found.instances, 1):
                yield task, number, instance

    def _classified(self, tasks: Sequence[Task], tally: Tally) -> Iterator[Task]:
        """Each task with the teacher's word on whether it is a classification (unclear: none)."""
        if not tasks:
            return
        sampling = Sampling(
            temperature=self.config.classification_temperature,
            max_tokens=self.config.classification_max_tokens,
            seed=self.seed,
        )
        requests = [
            Request.of(classification_prompt(task.instruction, self.language)) for task in tasks
        ]
        for task, answer in zip(tasks, self.engine.generate(requests, sampling), strict=True):
            if answer.finish_reason == "error":
                tally.seen += 1
                tally.reject_text(
                    task.instruction, "engine_error", unanswered(answer), **self.origin(task)
                )
                continue
            said = parse_classification(answer.text)
            if said is None:
                tally.change("unclear_classification")
            yield replace(task, is_classification=bool(said))

    def _instances(self, tasks: Sequence[Task]) -> Iterator[Completion]:
        if not tasks:
            return iter(())
        most = self.config.max_instances
        # The borders of the prompt's own form: no text of an example holds them by chance.
        stop = {
            "en": ("\n\nTask:", f"\nExample {most + 1}\n"),
            "zh": ("\n\n任务：", f"\n例子{most + 1}\n"),
        }
        sampling = Sampling(
            temperature=self.config.instance_temperature,
            max_tokens=self.config.instance_max_tokens,
            stop=stop[self.language],
            presence_penalty=self.config.instance_presence_penalty,
            seed=self.seed,
        )
        requests = [
            Request.of(
                instance_prompt(
                    task.instruction,
                    self.language,
                    is_classification=bool(task.is_classification),
                    count=most,
                )
            )
            for task in tasks
        ]
        return self.engine.generate(requests, sampling)

    def _read_instances(self, task: Task, completion: Completion) -> Found:
        if completion.finish_reason == "error":
            return Found(dropped=[("", "engine_error", unanswered(completion))])
        parse = parse_output_first if task.is_classification else parse_input_first
        found = parse(completion.text, cut=completion.finish_reason == "length")
        if not found.instances and not found.dropped:
            found.drop("", "empty_answer", completion.text)
        return usable(found, self.config.max_instances)
