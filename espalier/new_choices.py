"""The settings of a new recipe, chosen from what the data, the model and the machine are.

Where a published practice is followed it is named beside the number; all of it is written into
the recipe, to be changed there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from espalier.data_facts import DataFacts
from espalier.errors import UsageError
from espalier.estimates import Plan
from espalier.machine import Machine
from espalier.model_facts import ModelFacts, preamble_tokens
from espalier.new_rows import Left, check_left, rows_left, trained_part
from espalier.sizing import Load, Method, PPOForm, fitting, gib, ppo_memory, training_memory

METHODS = ("sft", "lora", "qlora", "prompt-tuning", "freeze", "ppo")
_KINDS: dict[str, Method] = {
    "sft": "full", "lora": "lora", "qlora": "qlora", "prompt-tuning": "frozen", "freeze": "full",
}  # fmt: skip
RANK = 16
PROMPT = 32
# The rates of adapters and of learnt prompts beside that of all weights; a rate of LoRA is about
# ten times as high (Biderman et al. 2024, "LoRA Learns Less and Forgets Less").
_RATE = {"lora": 10.0, "qlora": 10.0, "prompt-tuning": 200.0}
# The highest rate of a learnt prompt: AdamW moves a vector by about the rate at every step, and
# embeddings are some hundredths large.
_HIGHEST = {"prompt-tuning": 0.03}
_SHORTEST = 64
# Between the names of a list, as people type them in English or Chinese.
_BETWEEN = re.compile(r"[\s,，、]+")
# What a length covers: all rows or answers of the data, most of them, or what the model allows.
Bound = Literal["all", "rows", "memory", "positions"]
Answered = Literal["all", "most", "limit"]


@dataclass(frozen=True)
class Wishes:
    """What is asked for: data files that were read, a model, what to compare, on which machine.

    `evaluation_texts` are the test set's own, which training rows are kept away from.
    """

    examples: Sequence[DataFacts]
    pairs: Sequence[DataFacts]
    model: ModelFacts | None
    model_name: str
    compare: Sequence[str]
    evaluation: DataFacts | None
    machine: Machine
    seeds: int | None = None
    evaluation_texts: Any = None

    @property
    def many(self) -> bool:
        """Whether several runs are asked for: a sweep."""
        methods = [name for name in self.compare if name != "ppo"]
        return len(set(methods)) > 1 or (self.seeds or 1) > 1


@dataclass(frozen=True)
class Choices:
    """The settings; `methods` are the kinds of supervised training, the first of them the recipe's
    own and the others its variants. `bound`: what keeps `max_length` from being larger. `left`:
    what curation leaves of the files of examples, `dialogues` being split. `answered`: which of
    their answers are no longer than `answer_tokens`."""

    methods: tuple[str, ...]
    ppo: PPOForm | None
    ppo_load: Load
    max_length: int
    preamble: int
    bound: Bound
    load: Load
    plan: Plan
    left: tuple[Left, ...]
    learning_rate: float
    packing: bool
    template: str | None
    dialogues: bool
    holdout: int
    prompts: int
    eval_pairs: int
    validation: float
    answer_tokens: int
    answered: Answered
    prompt_tokens: int
    metric: str
    seeds: int

    def rate(self, method: str) -> float:
        """The learning rate of a method."""
        return min(self.learning_rate * _RATE.get(method, 1.0), _HIGHEST.get(method, 1.0))

    @property
    def part_tokens(self) -> int:
        """The longest part of a dialogue, in tokens."""
        return _part_tokens(self.max_length, self.preamble)

    @property
    def many(self) -> bool:
        """Whether several runs are compared: a sweep."""
        return len(self.methods) > 1 or self.seeds > 1


def choose(wishes: Wishes) -> Choices:
    """All settings of the recipe.

    Raises UsageError for what can't be compared, and where the machine is too small for the
    model, with the figures.
    """
    methods, ppo = methods_of(
        wishes.compare, bool(wishes.pairs), wishes.model, wishes.model_name, wishes.machine
    )
    rows = sum(facts.rows for facts in wishes.examples)
    usable = max(1, rows - sum(facts.repeated for facts in wishes.examples))
    if usable < 2 and wishes.evaluation is None:
        raise UsageError(
            "There is one row to learn from, and none would be left to evaluate with.",
            where=", ".join(facts.path for facts in wishes.examples),
            expected="at least two rows with different prompts",
            hint="give a test set with --eval",
        )
    holdout = 0 if wishes.evaluation else min(200, max(1, usable // 10))
    prompts = min(1000, max(1, usable // 4)) if ppo else 0
    length, cut, load, methods = _sizes(wishes, methods)
    form, ppo_load = _ppo_form(wishes, load) if ppo else (None, load)
    preamble = _preamble(wishes)
    left = _left(wishes, length, preamble)
    kept = trained_part(left, holdout + prompts)
    remaining = max(1, round(kept * sum(one.facts.rows for one in left)))
    validation = 0.02 if remaining >= 2500 else 0.05 if remaining >= 200 else 0.0
    trained = max(1, round(remaining * (1 - validation)))
    epochs = 3.0 if trained < 20_000 else 2.0 if trained < 100_000 else 1.0
    minibatch = _minibatch(trained * epochs)
    parts = [one.facts for one in left if one.facts.rows]
    mean = _weighted(parts, [facts.mean_tokens(length, preamble) for facts in parts])
    median_answer = max(facts.quantile(50, "answer") for facts in parts)
    context = wishes.model.context if wishes.model and wishes.model.context else 1 << 20
    answer, answered = _answer_tokens(parts, context)
    return Choices(
        methods=methods,
        ppo=form,
        ppo_load=ppo_load,
        max_length=length,
        preamble=preamble,
        bound=_bound(wishes, length, cut),
        load=load,
        plan=Plan(trained, mean, epochs, minibatch),
        left=left,
        learning_rate=_learning_rate(wishes.model),
        packing=wishes.machine.device == "gpu" and mean < length / 3,
        template=_template(wishes),
        dialogues=_dialogues(wishes),
        holdout=holdout,
        prompts=prompts,
        eval_pairs=min(500, sum(facts.rows for facts in wishes.pairs) // 5),
        validation=validation,
        answer_tokens=answer,
        answered=answered,
        prompt_tokens=max(16, min(length, context - answer)),
        metric="exact_match" if median_answer <= 6 else "rougeL",
        seeds=wishes.seeds or (3 if wishes.many else 1),
    )


def _left(wishes: Wishes, length: int, preamble: int) -> tuple[Left, ...]:
    """What curation leaves of each file of examples."""
    limit = _part_tokens(length, preamble)
    left = tuple(
        rows_left(facts, limit if _dialogues(wishes) else None, wishes.evaluation_texts)
        for facts in wishes.examples
    )
    names = ", ".join(facts.path for facts in wishes.examples)
    check_left(left, names, limit, wishes.evaluation.path if wishes.evaluation else None)
    return left


def _part_tokens(length: int, preamble: int) -> int:
    return max(32, length - preamble)


def _dialogues(wishes: Wishes) -> bool:
    return any(facts.several_turns > 0.02 * facts.rows for facts in wishes.examples)


def listed(text: str) -> list[str]:
    """The names of a list as a person types it: `sft,lora`, `sft lora`, `sft、lora`."""
    return [name for name in _BETWEEN.split(text) if name]


def methods_of(
    compare: Sequence[str],
    pairs: bool,
    model: ModelFacts | None,
    model_name: str,
    machine: Machine,
) -> tuple[tuple[str, ...], bool]:
    """The kinds of supervised training that are compared, and whether PPO follows them; raises
    UsageError for what can't be compared with such data, model and machine."""
    unknown = [name for name in compare if name not in METHODS]
    if unknown:
        raise UsageError(
            f"'{unknown[0]}' is nothing that can be compared.",
            where="--compare",
            expected="a list such as sft,lora of " + ", ".join(METHODS),
        )
    ppo = "ppo" in compare
    if ppo and not pairs:
        raise UsageError(
            "PPO needs a reward model, and no file of preference pairs was given.",
            where="--compare ppo",
            expected="a file of pairs (prompt, chosen, rejected) among the data",
            hint="espalier new theirs.jsonl comparisons.jsonl --compare sft,ppo",
        )
    if "qlora" in compare and machine.device == "cpu":
        raise UsageError(
            "QLoRA needs a GPU, and this machine has none.",
            where="--compare qlora",
            hint="name the GPU that it will run on, such as --gpu 24; or compare lora",
        )
    if "freeze" in compare and model is None:
        raise UsageError(
            "Which blocks to freeze follows from their number, and nothing is known of the model.",
            where=f"--model {model_name}",
            hint="fetch the model into a folder first, or leave freeze out",
        )
    if ppo and "prompt-tuning" in compare:
        raise UsageError(
            "PPO can't go on from a learnt prompt: its virtual tokens are no weights, and can't be "
            "merged into them.",
            where="--compare " + ",".join(compare),
            expected="ppo with any of sft, lora, qlora, freeze",
            hint="compare prompt-tuning in a recipe of its own",
        )
    return tuple(dict.fromkeys(name for name in compare if name != "ppo")), ppo


# Sizes --------------------------------------------------------------------------------------


def _sizes(wishes: Wishes, methods: tuple[str, ...]) -> tuple[int, bool, Load, tuple[str, ...]]:
    """The longest row, whether memory made it shorter, the load, and the methods."""
    wanted = _max_length(wishes)
    model, machine = wishes.model, wishes.machine
    if model is None:
        return wanted, False, _load("full", wishes, wanted), methods or ("sft",)
    half = max(facts.quantile(50) for facts in wishes.examples) + _preamble(wishes)
    lengths = [wanted]
    while lengths[-1] // 2 >= max(half, 128):
        lengths.append(lengths[-1] // 2)
    gpu = machine.device == "gpu"
    # Without a wish it is the first of these that the machine can hold.
    trials = [methods] if methods else [("sft",), ("lora",), *([("qlora",)] if gpu else [])]
    for names in trials:
        for length in lengths:
            loads = [_fitted(name, wishes, length) for name in names]
            found = [load for load in loads if load is not None]
            if len(found) == len(names):
                budget = min(load.token_budget for load in found)
                again = any(load.checkpointing for load in found)
                shards = any(load.sharded for load in found)
                first = replace(found[0], token_budget=budget, checkpointing=again, sharded=shards)
                return length, length < wanted, first, names
    raise _too_large(wishes, model, trials, lengths[-1])


def method_load(method: str, choices: Choices, wishes: Wishes) -> Load:
    """The size of another method's training beside the recipe's own."""
    found = _as_method(method, choices.load, wishes)
    return replace(found, sharded=choices.load.sharded and method != "qlora")


def _as_method(name: str, load: Load, wishes: Wishes) -> Load:
    model = wishes.model
    part = 1.0
    if name == "freeze" and model is not None:
        part = 1 - model.shape.linear / 2 / model.parameters
    return replace(load, method=_KINDS[name], trained_part=part)


def _load(method: Method, wishes: Wishes, length: int) -> Load:
    cpu = wishes.machine.device == "cpu"
    return Load(
        method=method,
        rank=RANK,
        autocast=wishes.machine.bf16,
        # On a CPU small passes stay in its caches.
        token_budget=max(1024 if cpu else 8192, length),
        longest=length,
        learnt=_weighted(wishes.examples, [facts.learnt_part for facts in wishes.examples]),
        # Runs of a sweep train on one GPU each.
        gpus=1 if wishes.many else wishes.machine.count,
        on_cpu=cpu,
    )


def _fitted(name: str, wishes: Wishes, length: int) -> Load | None:
    model = wishes.model
    assert model is not None
    load = _as_method(name, _load(_KINDS[name], wishes, length), wishes)
    return fitting(model.shape, model.parameters, load, wishes.machine.limit)


def _too_large(
    wishes: Wishes, model: ModelFacts, trials: Sequence[Sequence[str]], length: int
) -> UsageError:
    machine = wishes.machine
    needs, fits = [], []
    for name in dict.fromkeys(name for names in trials for name in names):
        load = _load(_KINDS[name], wishes, length)
        least = replace(
            load,
            token_budget=length,
            checkpointing=True,
            sharded=load.gpus > 1 and name != "qlora",  # weights of few bits are held whole
        )
        memory = training_memory(model.shape, model.parameters, least).total
        needs.append(f"{name} about {gib(memory)} GiB")
        fits += [name] if memory <= machine.limit else []
    alone = " (runs of a sweep have one GPU each)" if wishes.many and machine.count > 1 else ""
    larger = "GPUs of more memory" if alone else "the GPUs that it will run on"
    known = ("lora", "qlora") if machine.device == "gpu" else ("lora",)
    tried = {name for names in trials for name in names}
    other = fits or [name for name in known if name not in tried]
    return UsageError(
        f"The model is too large for this machine: {model.parameters / 1e9:,.1f} billion "
        f"parameters, with rows of {length:,} tokens.",
        where=f"{wishes.model_name} on {machine.in_words()}",
        expected=f"at most {gib(machine.limit)} GiB{_each(wishes)}{alone}; "
        f"it needs at least: {', '.join(needs)}",
        hint=f"a smaller model; or name {larger}, such as --gpu {'141' if alone else '4xa100-80'}"
        + (f"; or --compare {','.join(other)}" if other else ""),
    )


def _ppo_form(wishes: Wishes, load: Load) -> tuple[PPOForm, Load]:
    """The fullest PPO that the machine can hold; UsageError where none is."""
    model, limit = wishes.model, wishes.machine.limit
    whole = replace(load, method="full", trained_part=1.0, sharded=False, checkpointing=False)
    if model is None:
        return "full", whole
    forms: tuple[PPOForm, ...] = ("full", "lora", "shared")
    for form in forms:
        one = replace(whole, method="full" if form == "full" else "lora")
        found = fitting(model.shape, model.parameters, one, limit, ppo=form)
        if found is not None:
            return form, found
    least = replace(
        whole, method="lora", checkpointing=True, token_budget=min(1024, load.token_budget)
    )
    memory = ppo_memory(model.shape, model.parameters, least, shared=True)
    raise UsageError(
        f"PPO with this model is too large for this machine: {model.parameters / 1e9:,.1f} "
        "billion parameters, in a policy, its reference, a critic and a reward model.",
        where=f"{wishes.model_name} on {wishes.machine.in_words()}",
        expected=f"at most {gib(limit)} GiB{_each(wishes)}; it needs at least {gib(memory.total)} "
        "(adapters, the critic on the policy's trunk)",
        hint="a smaller model, or GPUs of more memory: PPO does not divide weights over them",
    )


def _each(wishes: Wishes) -> str:
    return " a GPU" if wishes.machine.device == "gpu" else ""


def _max_length(wishes: Wishes) -> int:
    """Long enough for 99 % of the rows (for all, if that takes little more)."""
    margin = _preamble(wishes) + 4
    most = max(facts.quantile(99) for facts in wishes.examples)
    longest = max(facts.quantile(100) for facts in wishes.examples)
    wanted = max(_SHORTEST, _up((longest if longest <= 1.25 * most else most) + margin, 64))
    context = wishes.model.context if wishes.model else None
    if context is not None:
        prompt = PROMPT if "prompt-tuning" in wishes.compare else 0
        wanted = min(wanted, context - prompt)
    return wanted


# Single settings ------------------------------------------------------------------------------


def _template(wishes: Wishes) -> str | None:
    """None where the model has one; else a named one whose markers are plain text, so that
    adapters and learnt prompts can use it as well."""
    if wishes.model is None or wishes.model.template is not None:
        return None
    if _dialogues(wishes):
        return "vicuna"
    shares = dict(wishes.examples[0].language_shares())
    # The preamble of the longer form is English.
    return "alpaca" if shares.get("en", 0) >= 0.5 else "alpaca-short"


def _bound(wishes: Wishes, length: int, cut: bool) -> Bound:
    """What keeps rows from being longer: their own lengths, the memory, or the model."""
    if cut:
        return "memory"
    room = length - _preamble(wishes)
    if _all_within(wishes.examples, "whole", room):
        return "all"
    most = max(facts.quantile(99) for facts in wishes.examples)
    return "positions" if room < most else "rows"


def _answer_tokens(parts: Sequence[DataFacts], context: int) -> tuple[int, Answered]:
    """How long an answer of a model may be, and which of the data's answers are no longer: 95 %
    of them, where half of the model's positions hold those."""
    most = max(facts.quantile(95, "answer") for facts in parts)
    tokens = min(1024, _up(most, 16), max(16, context // 2))
    if _all_within(parts, "answer", tokens):
        return tokens, "all"
    return tokens, "most" if tokens >= most else "limit"


def _all_within(files: Sequence[DataFacts], of: Literal["whole", "answer"], tokens: int) -> bool:
    """Whether surely no row of the files is longer: of a large file only a sample is known, and
    without the model's tokenizer lengths are estimates."""
    return all(
        facts.counted and len(facts.lengths) >= facts.rows and facts.quantile(100, of) <= tokens
        for facts in files
    )


def _preamble(wishes: Wishes) -> int:
    """Tokens that the template writes into each row besides the markers of its turns."""
    return preamble_tokens(_template(wishes), wishes.model)


def _learning_rate(model: ModelFacts | None) -> float:
    """Of all weights: 2e-5 as Alpaca and Vicuna had at 7 billion, more for smaller models."""
    size = model.parameters if model is not None else 7e9
    for limit, rate in ((20e6, 1e-3), (150e6, 2e-4), (1e9, 5e-5), (20e9, 2e-5)):
        if size < limit:
            return rate
    return 1e-5


def _minibatch(rows: float) -> int:
    """128 as Alpaca and Vicuna had, where that leaves a few hundred steps; fewer rows, fewer."""
    size = 128
    while size > 4 and rows / size < 300:
        size //= 2
    return size


def _weighted(files: Sequence[DataFacts], values: Sequence[float]) -> float:
    rows = [facts.rows for facts in files]
    return sum(n * v for n, v in zip(rows, values, strict=True)) / max(1, sum(rows))


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
