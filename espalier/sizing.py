"""How much memory and time a training takes, before it is started: arithmetic alone.

Memory is counted as our trainer uses it: weights in float32, gradients and optimizer state of what
is trained, bf16 copies of the matrices under autocast, and the activations that a Llama-like layer
keeps for its backward pass (each line of `kept_by_layer` is one operation of it). Time is the
floating-point operations over what the device does of them in a second; it is rough.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from espalier.model_facts import Shape

GIB = 1 << 30
Method = Literal["full", "lora", "qlora", "frozen"]
# PPO of all weights, of adapters, or of adapters with the critic on the policy's trunk.
PPOForm = Literal["full", "lora", "shared"]
# Bytes of optimizer state for each trained parameter.
STATE = {"adamw": 8, "adamw_8bit": 2, "sgd": 4, "muon": 4}
# Linear layers in a block of Llama: queries, keys, values, output, gate, up, down.
_ADAPTED = 7
# What the program itself and its libraries hold.
_PROGRAM = 0.7 * GIB
# How much slower than in training a generated token goes through the model: it is a pass over one
# token a row, which reads all weights for little arithmetic. Rough, for some tens of rows at once.
_ONE_BY_ONE = 4.0
# What the allocator wastes, as a part of what is freed and taken at every pass: torch's on a GPU;
# on a CPU the C library's, which keeps freed blocks that do not fit the next ones (measured).
_WASTE = {"gpu": 0.08, "cpu": 0.7}


@dataclass(frozen=True, slots=True)
class Load:
    """One training, as far as its size goes.

    `method`: full, lora, qlora, or frozen (all weights, as with learnt prompts); `rank` of LoRA;
    `bits` (4 or 8) of the frozen weights of qlora; `trained_part` of the parameters where some
    blocks are frozen. `longest` row in tokens; `learnt` is the part of the tokens that the loss is
    taken over. `gpus` share one training; `sharded`: each holds a part of the weights (FSDP)
    instead of all.
    """

    method: Method = "full"
    rank: int = 16
    bits: int = 4
    trained_part: float = 1.0
    optimizer: str = "adamw"
    autocast: bool = True
    checkpointing: bool = False
    token_budget: int = 8192
    longest: int = 512
    learnt: float = 0.5
    gpus: int = 1
    sharded: bool = False
    on_cpu: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on one device at the peak of a step, by what they are for."""

    weights: float
    gradients: float
    optimizer: float
    copies: float
    activations: float
    logits: float
    program: float

    @property
    def total(self) -> float:
        """All of it."""
        return (
            self.weights
            + self.gradients
            + self.optimizer
            + self.copies
            + self.activations
            + self.logits
            + self.program
        )

    def in_words(self, *, chinese: bool = False) -> str:
        """The total, and its parts in the order of their size."""
        parts = (
            ("weights", "权重", self.weights),
            ("gradients", "梯度", self.gradients),
            ("optimizer", "优化器", self.optimizer),
            ("bf16 copies", "bf16 副本", self.copies),
            ("activations", "激活", self.activations),
            ("logits", "logits", self.logits),
            ("program and waste", "程序与碎片", self.program),
        )
        shown = sorted(parts, key=lambda part: -part[2])
        named = [
            f"{zh if chinese else en} {gib(size)}" for en, zh, size in shown if size >= 0.02 * GIB
        ]
        if chinese:
            return f"{gib(self.total)} GiB（{'、'.join(named)}）"
        return f"{gib(self.total)} GiB ({', '.join(named)})"


def gib(size: float) -> str:
    """Bytes in GiB with sensible digits: 0.04, 3.4, 87."""
    value = size / GIB
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def trained_parameters(shape: Shape, parameters: int, load: Load) -> float:
    """How many parameters learn: all, a part of them, adapters (r × (inputs + outputs) of every
    linear layer; Hu et al. 2021, section 4.1), or next to none."""
    if load.method in ("lora", "qlora"):
        h, q, kv, f = shape.hidden, shape.query, shape.key_value, shape.ffn
        gates = 3 if shape.gated else 2
        return float(shape.layers * load.rank * (2 * (h + q) + 2 * (h + kv) + gates * (h + f)))
    if load.method == "frozen":
        return 32.0 * shape.hidden
    return parameters * load.trained_part


def kept_by_layer(shape: Shape, load: Load) -> float:
    """Bytes that one layer keeps of each token for the backward pass (a layer of Llama).

    The residual stream is float32; under autocast matrices are multiplied in bf16, each linear
    layer keeping a copy of its input. With fused attention no table of scores is kept.
    """
    h, q, kv, f = shape.hidden, shape.query, shape.key_value, shape.ffn
    frozen = load.method == "frozen"
    adapted = load.method in ("lora", "qlora")
    small = 2 if load.autocast else 4
    norms = 2 * 4 * h  # the inputs of both norms
    if not frozen and not adapted:
        norms += 2 * 4 * h  # normalised, for the gradient of the norms' weights
    attention = small * (2 * q + 2 * kv)  # queries, keys, values, result
    gates = 3 * small * f  # gate, its activation, up
    inputs = 0.0
    if not frozen:
        gates += small * f  # the product, which `down` multiplies
        # Without autocast q, k, v share one input, and gate and up another.
        inputs = (10.0 if load.autocast else 8.0) * h
        if adapted:
            # Adapters read float32: copies of the two norms' results, one fewer of the others.
            inputs = (12.0 if load.autocast else 8.0) * h + _ADAPTED * small * load.rank
    kept = norms + attention + gates + inputs
    if load.on_cpu and load.autocast and load.longest <= 512:
        # Plain products instead of the fused kernel: scores in float32 and bf16, keys repeated.
        kept += 6 * shape.heads * load.longest + 4 * (q - kv)
    return float(kept)


def training_memory(shape: Shape, parameters: int, load: Load) -> Memory:
    """The peak of a step on one device, optimizer state being there.

    Bytes a parameter: 4 of weights, 4 of gradients, 8 of AdamW's moments: the 16 of Rajbhandari
    et al. 2020 (ZeRO, section 3.1), to which bf16 copies of the matrices come while a pass runs.
    """
    trained = trained_parameters(shape, parameters, load)
    shares = load.gpus if load.sharded else 1
    weights = 4.0 * parameters + (4.0 * trained if load.method in ("lora", "qlora") else 0.0)
    if load.method == "qlora":
        # NF4: half a byte, and with doubly quantised constants 0.127 bits (Dettmers et al. 2023).
        each_weight = 0.516 if load.bits == 4 else 1.0
        weights = each_weight * shape.linear + 4.0 * (parameters - shape.linear + trained)
    # Each process of DDP has a second copy of the gradients in its buckets.
    gradients = 4.0 * trained * (2 if load.gpus > 1 and not load.sharded else 1)
    layers = shape.layers
    copies = 0.0
    if load.autocast and load.method != "qlora":
        copies = 2.0 * shape.linear
        if load.sharded or (load.checkpointing and load.method != "full"):
            copies /= max(1, layers)
    if load.sharded:
        copies += 4.0 * shape.linear / max(1, layers) * 2  # two layers are whole at a time
    tokens = max(load.token_budget, load.longest)
    each = kept_by_layer(shape, load)
    activations = tokens * each * layers
    if load.checkpointing:
        activations = tokens * (4.0 * shape.hidden * layers + each)
    # Logits in bf16 and float32, their log-softmax, and its gradient, at learnt positions only.
    logits = tokens * load.learnt * shape.vocabulary * (10.0 if load.autocast else 8.0)
    program = _PROGRAM + _WASTE["cpu" if load.on_cpu else "gpu"] * (activations + logits)
    return Memory(
        weights / shares,
        gradients / shares,
        STATE.get(load.optimizer, 8) * trained / shares,
        copies,
        activations,
        logits,
        program,
    )


def fitting(
    shape: Shape, parameters: int, load: Load, limit: float, *, ppo: PPOForm | None = None
) -> Load | None:
    """The load in the fastest form that stays within `limit` bytes a device, or None.

    Of a training, or of PPO in one of its forms.

    What is given up, in this order: tokens a pass (down to a row, or 1,024), then activations
    kept, then weights held whole by each of several GPUs.
    """
    floor = max(load.longest, min(1024, load.token_budget))
    budgets = [load.token_budget]
    while budgets[-1] // 2 >= floor:
        budgets.append(budgets[-1] // 2)
    if budgets[-1] > floor:
        budgets.append(floor)
    can_shard = load.gpus > 1 and load.method != "qlora" and ppo is None
    for sharded in (False, True) if can_shard else (False,):
        for checkpointing in (False, True):
            for budget in budgets:
                one = replace(
                    load, token_budget=budget, checkpointing=checkpointing, sharded=sharded
                )
                memory = (
                    training_memory(shape, parameters, one)
                    if ppo is None
                    else ppo_memory(shape, parameters, one, shared=ppo == "shared")
                )
                if memory.total <= limit:
                    return one
    return None


def training_flops(shape: Shape, parameters: int, load: Load, tokens: float) -> float:
    """Floating-point operations of training on so many tokens.

    Forward 2 a parameter and token, backward 4 (Kaplan et al. 2020, section 2.1), 2 where the
    weights have no gradient of their own; attention as much as 2 × hidden × length more a layer.
    """
    forward = forward_flops(shape, parameters, load, 1)
    backward = forward if load.method != "full" else 2 * forward
    again = forward if load.checkpointing else 0.0
    return tokens * (forward + backward + again)


def forward_flops(shape: Shape, parameters: int, load: Load, tokens: float) -> float:
    """Floating-point operations of a pass without gradients over so many tokens."""
    inside = max(shape.linear, parameters - shape.embedding * (1 if shape.tied else 2))
    head = shape.embedding * load.learnt
    attention = 2.0 * shape.layers * shape.query * min(load.longest, load.token_budget) / 2
    return tokens * (2.0 * (inside + head) + attention)


def generation_flops(
    shape: Shape, parameters: int, load: Load, prompts: float, answers: float
) -> float:
    """What generating so many tokens of answers to so many tokens of prompts takes, as operations
    at the speed of training: a pass over the prompts, and tokens one by one at a quarter of it."""
    read = replace(load, learnt=0.0)
    written = replace(load, learnt=1.0)
    return forward_flops(shape, parameters, read, prompts) + _ONE_BY_ONE * forward_flops(
        shape, parameters, written, answers
    )


def ppo_flops(
    shape: Shape,
    parameters: int,
    load: Load,
    prompts: float,
    answers: float,
    epochs: int,
    *,
    shared: bool = False,
) -> float:
    """Floating-point operations of PPO on so many tokens of prompts and of answers in all.

    Generation (`generation_flops`); a pass without gradients of the policy, its reference, the
    critic and the reward model over all tokens; training passes of the policy and of the critic in
    every epoch. All networks are taken to be of one size; with `shared` the critic has no passes
    of its own.
    """
    tokens = prompts + answers
    networks = 3 if shared else 4
    critic = replace(load, method="full", trained_part=1.0, learnt=0.0)
    passes = training_flops(shape, parameters, load, tokens)
    if not shared:
        passes += training_flops(shape, parameters, critic, tokens)
    return (
        generation_flops(shape, parameters, load, prompts, answers)
        + networks * forward_flops(shape, parameters, load, tokens)
        + epochs * passes
    )


def ppo_memory(shape: Shape, parameters: int, load: Load, *, shared: bool = False) -> Memory:
    """The peak of PPO: policy and critic with gradients and state, reference and reward model.

    Every GPU holds all of them. With `shared` the critic is a head on the policy's trunk; a policy
    of adapters is its own reference.
    """
    whole = replace(load, sharded=False)
    policy = training_memory(shape, parameters, whole)
    still = 4.0 * parameters * (1 if load.method == "lora" else 2)
    if shared:
        return replace(policy, weights=policy.weights + still)
    critic = training_memory(shape, parameters, replace(whole, method="full", trained_part=1.0))
    return replace(
        policy,
        weights=policy.weights + critic.weights + still,
        gradients=policy.gradients + critic.gradients,
        optimizer=policy.optimizer + critic.optimizer,
        copies=max(policy.copies, critic.copies),
        activations=max(policy.activations, critic.activations),
    )


def duration(seconds: float, *, chinese: bool = False) -> str:
    """`under a minute`, `about 12 min`, `about 3.5 h`, `about 2.1 days`."""
    if seconds < 60:
        return "不到一分钟" if chinese else "under a minute"
    if seconds < 5400:
        return f"约 {seconds / 60:.0f} 分钟" if chinese else f"about {seconds / 60:.0f} min"
    if seconds < 172800:
        return f"约 {seconds / 3600:.1f} 小时" if chinese else f"about {seconds / 3600:.1f} h"
    return f"约 {seconds / 86400:.1f} 天" if chinese else f"about {seconds / 86400:.1f} days"
