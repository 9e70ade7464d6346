"""An estimate of a training in words: steps, tokens, memory, time and money."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from espalier.machine import Machine
from espalier.model_facts import ModelFacts
from espalier.prices import amount
from espalier.sizing import (
    Load,
    Memory,
    duration,
    generation_flops,
    gib,
    ppo_flops,
    ppo_memory,
    training_flops,
    training_memory,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is trained on: rows of a mean length in tokens, passes, rows a step."""

    rows: int
    mean_tokens: float
    epochs: float
    minibatch: int

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        # Rounded first: passes that were counted from steps give just these.
        return math.ceil(round(self.epochs * math.ceil(self.rows / self.minibatch), 6))

    @property
    def tokens(self) -> float:
        """Tokens that go through the model, padding aside."""
        return self.rows * self.mean_tokens * self.epochs


@dataclass(frozen=True, slots=True)
class Episodes:
    """What PPO samples and learns from: answers, counted at their longest, with `epochs` passes
    over each iteration's."""

    iterations: int
    batch: int
    prompt_tokens: float
    answer_tokens: float
    epochs: int

    @property
    def count(self) -> int:
        """All episodes."""
        return self.iterations * self.batch


@dataclass(frozen=True, slots=True)
class Answers:
    """What an evaluation lets `models` generate: answers, counted at their longest."""

    models: int
    prompts: int
    prompt_tokens: float
    answer_tokens: float


def seconds_of(facts: ModelFacts, load: Load, tokens: float, machine: Machine) -> float | None:
    """Seconds of training on so many tokens; None where the machine's speed is not known.

    Rough: a small model on a fast device takes longer, since starting its many small operations
    takes more time than they do.
    """
    return _seconds(training_flops(facts.shape, facts.parameters, load, tokens), machine)


def ppo_seconds(
    facts: ModelFacts, load: Load, episodes: Episodes, machine: Machine, *, shared: bool = False
) -> float | None:
    """Seconds of PPO, answers being as long as they may be (see `sizing.ppo_flops`)."""
    prompts = episodes.count * episodes.prompt_tokens
    answers = episodes.count * episodes.answer_tokens
    flops = ppo_flops(
        facts.shape, facts.parameters, load, prompts, answers, episodes.epochs, shared=shared
    )
    return _seconds(flops, machine)


def answer_seconds(
    facts: ModelFacts, load: Load, answers: Answers, machine: Machine
) -> float | None:
    """Seconds of an evaluation's answers, on one device; what they are scored with (perplexity,
    reward) is a pass over the same tokens and little beside it."""
    count = answers.models * answers.prompts
    flops = generation_flops(
        facts.shape,
        facts.parameters,
        load,
        count * answers.prompt_tokens,
        count * answers.answer_tokens,
    )
    return _seconds(flops, replace(machine, count=1))


def _seconds(flops: float, machine: Machine) -> float | None:
    return None if machine.flops is None else flops / (machine.flops * machine.count)


def memory_line(memory: Memory, machine: Machine, *, chinese: bool = False) -> str:
    """The memory of a step beside what a device of the machine has."""
    words, held = memory.in_words(chinese=chinese), gib(machine.memory)
    fits = memory.total <= machine.limit
    if chinese:
        return f"每步内存：约 {words}，共有 {held}" + ("" if fits else "：不够")
    return f"memory of a step: about {words} of {held}" + ("" if fits else ": more than there is")


def time_line(
    seconds: float | None, machine: Machine, price: float | None, *, chinese: bool = False
) -> str:
    """The time, and its price at so much for an hour of one GPU; a processor has none."""
    if seconds is None:
        if chinese:
            return "时间：未知（请指明 GPU，例如 --gpu a100-80）"
        return "time: not known (name the GPU, such as --gpu a100-80)"
    told = duration(seconds, chinese=chinese)
    text = f"时间：{told}（粗略）" if chinese else f"time: {told} (rough)"
    hours = machine.count * seconds / 3600
    if machine.device == "gpu" and machine.count > 1 and seconds >= 60:
        text += f"，{hours:,.1f} GPU 小时" if chinese else f", {hours:,.1f} GPU hours"
    if price is not None and machine.device == "cpu":
        text += "，没有按小时计价的 GPU" if chinese else ", no GPU to pay for"
    elif price is not None:
        money = amount(price * hours, "USD")
        text += f"，{money}（每小时 {price:g}）" if chinese else f", {money} at {price:g} an hour"
    return text


def trainings_line(
    times: Sequence[float | None], which: str, machine: Machine, price: float | None
) -> str:
    """The time of `which` trainings by that of each, and what is not in it; so many go on at a
    time as the machine has GPUs, where each has one."""
    known = [seconds for seconds in times if seconds is not None]
    if not known:
        return "time of all trainings: not known"
    missing = len(times) - len(known)
    also = {0: "", 1: "1 training, "}.get(missing, f"{missing} trainings, ")
    if missing:
        which = f"{len(known)} of {len(times)} trainings"
    told = time_line(sum(known), machine, price)
    return f"{told} for {which} alone; {also}curation and evaluation are not counted"


def plan_line(plan: Plan, *, chinese: bool = False) -> str:
    """Rows, epochs, steps and tokens."""
    if chinese:
        return (
            f"{plan.rows:,} 行，平均 {plan.mean_tokens:,.0f} 个词元，{plan.epochs:g} 遍："
            f"每步 {plan.minibatch} 行，共 {plan.steps:,} 步，{plan.tokens / 1e6:,.2f} 百万词元"
        )
    return (
        f"{plan.rows:,} rows of {plan.mean_tokens:,.0f} tokens on average, {plan.epochs:g} "
        f"{'epoch' if plan.epochs == 1 else 'epochs'}: "
        f"{plan.steps:,} {'step' if plan.steps == 1 else 'steps'} of {plan.minibatch} rows, "
        f"{plan.tokens / 1e6:,.2f} million tokens"
    )


def training_lines(
    facts: ModelFacts,
    load: Load,
    plan: Plan | None,
    machine: Machine,
    price: float | None = None,
    *,
    chinese: bool = False,
) -> list[str]:
    """What a training comes to, one sentence a line; without a plan its memory alone."""
    memory = training_memory(facts.shape, facts.parameters, load)
    told = memory_line(memory, machine, chinese=chinese)
    if plan is None:
        return [told]
    seconds = seconds_of(facts, load, plan.tokens, machine)
    time = time_line(seconds, machine, price, chinese=chinese)
    return [plan_line(plan, chinese=chinese), told, time]


def ppo_lines(
    facts: ModelFacts,
    load: Load,
    episodes: Episodes,
    machine: Machine,
    price: float | None = None,
    *,
    shared: bool = False,
    chinese: bool = False,
) -> list[str]:
    """What PPO takes; `shared`: the critic is a head on the policy's trunk."""
    memory = ppo_memory(facts.shape, facts.parameters, load, shared=shared)
    seconds = ppo_seconds(facts, load, episodes, machine, shared=shared)
    return [
        episodes_line(episodes, chinese=chinese),
        memory_line(memory, machine, chinese=chinese),
        time_line(seconds, machine, price, chinese=chinese),
    ]


def episodes_line(episodes: Episodes, *, chinese: bool = False) -> str:
    """Iterations, episodes and their lengths."""
    if chinese:
        return (
            f"{episodes.iterations:,} 次迭代，每次 {episodes.batch:,} 个回合，学 "
            f"{episodes.epochs} 遍；提示平均 {episodes.prompt_tokens:,.0f} 个词元，"
            f"回答最长 {episodes.answer_tokens:,.0f} 个"
        )
    return (
        f"{episodes.iterations:,} iterations of {episodes.batch:,} episodes, learnt from "
        f"{episodes.epochs} {'time' if episodes.epochs == 1 else 'times'}; prompts of "
        f"{episodes.prompt_tokens:,.0f} tokens on average, answers of {episodes.answer_tokens:,.0f}"
        " at most"
    )


def answers_line(answers: Answers, *, chinese: bool = False) -> str:
    """What an evaluation lets its models answer."""
    if chinese:
        return (
            f"{answers.models} 个模型各回答 {answers.prompts:,} 个提示，"
            f"每个回答最多 {answers.answer_tokens:,.0f} 个词元"
        )
    return (
        f"{answers.prompts:,} prompts to {answers.models} models, answers of "
        f"{answers.answer_tokens:,.0f} tokens at most"
    )


def model_line(facts: ModelFacts, *, chinese: bool = False) -> str:
    """`llama, 6.7 billion parameters, 4,096 positions`; how it is known, where that is a guess."""
    kind = [] if facts.kind == "unknown" else [facts.kind]
    known = {
        "name": ("a guess from its name", "按名称猜测"),
        "config": ("by its config.json", "按 config.json"),
    }
    note = known.get(facts.source)
    if chinese:
        places = [] if facts.context is None else [f"{facts.context:,} 个位置"]
        return "，".join([*kind, f"{size_in_chinese(facts.parameters)}参数", *places]) + (
            f"（{note[1]}）" if note else ""
        )
    places = [] if facts.context is None else [f"{facts.context:,} positions"]
    return ", ".join([*kind, f"{size_in_words(facts.parameters)} parameters", *places]) + (
        f" ({note[0]})" if note else ""
    )


def size_in_words(size: float) -> str:
    """`6.7 billion`, `0.9 million`, `22,000`."""
    if size >= 1e9:
        return f"{size / 1e9:,.1f} billion"
    return f"{size / 1e6:,.1f} million" if size >= 1e5 else f"{size:,.0f}"


def size_in_chinese(size: float) -> str:
    """`67 亿`, `95 万`: by ten thousands, as Chinese counts."""
    if size >= 1e8:
        return f"{size / 1e8:,.1f} 亿" if size < 1e9 else f"{size / 1e8:,.0f} 亿"
    return f"{size / 1e4:,.0f} 万" if size >= 1e5 else f"{size:,.0f} 个"
