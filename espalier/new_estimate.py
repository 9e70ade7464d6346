"""What a new recipe will take, stage by stage and in all: memory, time and money.

Counted: trainings, PPO's sampling, and the answers of the evaluation, each at its longest.
Curation, perplexity and the pages are not: beside the rest they take little.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from espalier.estimates import (
    Answers,
    Episodes,
    Plan,
    answer_seconds,
    answers_line,
    plan_line,
    ppo_lines,
    ppo_seconds,
    seconds_of,
    time_line,
    training_lines,
)
from espalier.machine import Machine
from espalier.model_facts import ModelFacts
from espalier.new_choices import Choices, Wishes, method_load
from espalier.sizing import Load
from espalier.stages import load

# Options that a new recipe leaves as they are, by the classes that hold them.
_REWARD = "espalier.train.config:RewardConfig"
_PPO = "espalier.train.config:PPOConfig"
Told = tuple[str, str]


def estimate(
    wishes: Wishes, choices: Choices, price: float | None, *, chinese: bool
) -> Iterator[Told]:
    """(what, one line) of the estimate; nothing but steps where the model is not known."""
    if wishes.model is None:
        yield choices.methods[0], plan_line(choices.plan, chinese=chinese)
        return
    yield from _Estimate(wishes, choices, wishes.model, price, chinese).lines()


@dataclass(frozen=True)
class _Estimate:
    wishes: Wishes
    choices: Choices
    model: ModelFacts
    price: float | None
    chinese: bool

    @property
    def machine(self) -> Machine:
        """What one run has: one GPU in a sweep, where several runs go on at a time."""
        machine = self.wishes.machine
        return replace(machine, count=1) if self.choices.many else machine

    def lines(self) -> Iterator[Told]:
        """Every stage of one run, then all of it."""
        choices, machine, price, chinese = self.choices, self.machine, self.price, self.chinese
        first = choices.methods[0]
        for line in training_lines(
            self.model, choices.load, choices.plan, machine, price, chinese=chinese
        ):
            yield first, line
        if choices.ppo:
            for name, plan in self.reward_plans().items():
                for line in training_lines(
                    self.model, self.reward_load, plan, machine, price, chinese=chinese
                ):
                    yield name, line
            shared = choices.ppo == "shared"
            for line in ppo_lines(
                self.model, choices.ppo_load, self.episodes, machine, price,
                shared=shared, chinese=chinese,
            ):  # fmt: skip
                yield "ppo", line
        yield "evaluate", answers_line(self.answers, chinese=chinese)
        alone = replace(machine, count=1)
        yield "evaluate", time_line(self.answering(self.answers.models), alone, price,
                                    chinese=chinese)  # fmt: skip
        yield from self.in_all()

    def in_all(self) -> Iterator[Told]:
        """One run; or all runs of a sweep less what they share."""
        if not self.choices.many:
            seconds = _sum([self.member(self.choices.methods[0]), self.answering(1)])
            told = time_line(seconds, self.machine, self.price, chinese=self.chinese)
            yield ("整次运行" if self.chinese else "whole run"), told
            return
        runs = len(self.choices.methods) * self.choices.seeds
        members = [self.member(name) for name in self.choices.methods]
        # The base model answers once for all runs; the rest depends on each one's own training.
        seconds = _sum([*(members * self.choices.seeds), self.answering(1)])
        abreast = min(runs, self.wishes.machine.count)
        machine = replace(self.wishes.machine, count=abreast)
        told = time_line(
            None if seconds is None else seconds / abreast, machine, self.price,
            chinese=self.chinese,
        )  # fmt: skip
        if self.chinese:
            yield "整个扫描", f"{runs} 次运行，相同的部分只做一次；{told}"
        else:
            yield "whole sweep", f"{runs} runs, what is the same made once; {told}"

    def member(self, method: str) -> float | None:
        """Seconds of what each run has for itself: its trainings (the second reward model reads
        as its policy does, and is trained anew as well), and its own models' answers."""
        choices, machine = self.choices, self.machine
        size = method_load(method, choices, self.wishes)
        parts = [seconds_of(self.model, size, choices.plan.tokens, machine)]
        if choices.ppo:
            for plan in self.reward_plans().values():
                parts.append(seconds_of(self.model, self.reward_load, plan.tokens, machine))
            shared = choices.ppo == "shared"
            parts.append(
                ppo_seconds(self.model, choices.ppo_load, self.episodes, machine, shared=shared)
            )
        return _sum([*parts, self.answering(self.answers.models - 1)])

    def answering(self, models: int) -> float | None:
        """Seconds of the evaluation's answers of so many models."""
        size = replace(self.choices.load, sharded=False)
        return answer_seconds(self.model, size, replace(self.answers, models=models), self.machine)

    @property
    def answers(self) -> Answers:
        choices, evaluation = self.choices, self.wishes.evaluation
        prompts = evaluation.rows if evaluation is not None else choices.holdout
        models = 3 if choices.ppo else 2
        return Answers(models, prompts, self.prompt_tokens(), choices.answer_tokens)

    @property
    def episodes(self) -> Episodes:
        options = load(_PPO)()
        return Episodes(
            options.iterations,
            options.rollout_batch,
            self.prompt_tokens(),
            self.choices.answer_tokens,
            options.epochs,
        )

    def prompt_tokens(self) -> float:
        """Mean length of the prompts that are answered."""
        limit, preamble = self.choices.prompt_tokens, self.choices.preamble
        parts = [one.facts for one in self.choices.left if one.facts.rows]
        means = [facts.rows * facts.mean_prompt(limit, preamble) for facts in parts]
        return sum(means) / max(1, sum(facts.rows for facts in parts))

    @property
    def reward_load(self) -> Load:
        """A reward model has no logits of a vocabulary."""
        choices = self.choices
        sharded, optimizer = choices.load.sharded, load(_REWARD)().optimizer
        return replace(choices.ppo_load, learnt=0.0, sharded=sharded, optimizer=optimizer)

    def reward_plans(self) -> dict[str, Plan]:
        """The trainings of both reward models: a pair is a prompt with each of two answers."""
        choices, pairs, options = self.choices, self.wishes.pairs, load(_REWARD)()
        rows = sum(facts.rows for facts in pairs)
        sizes = [f.rows * f.mean_tokens(choices.max_length, choices.preamble) for f in pairs]
        mean = 2 * sum(sizes) / max(1, rows)
        counts = {"reward": rows - choices.eval_pairs, "reward_eval": choices.eval_pairs}
        part = 1 - options.validation_fraction
        return {
            name: Plan(max(1, round(count * part)), mean, options.epochs, options.minibatch)
            for name, count in counts.items()
        }


def _sum(parts: list[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None
