"""Proximal policy optimisation of a language model, from top to bottom.

    sample answers -> score them -> judge every token -> improve policy and critic -> repeat

The mathematics is in `policy_math`, the two networks in `actors`, sampling and scores in
`rollout`. Randomness is a pure function of (seed, iteration, episode), so a run that was killed
goes on bit for bit from its last checkpoint. On several processes every one holds a slice of the
episodes; sums, whitening and losses are over all of them.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from espalier.errors import StageError
from espalier.progress import Progress, say
from espalier.templates import Template
from espalier.train import checkpoints
from espalier.train import policy_math as pm
from espalier.train.actors import Batch, Critic, Episode, Policy, collate
from espalier.train.batching import passes
from espalier.train.config_rl import PPOConfig
from espalier.train.monitor import Monitor
from espalier.train.rollout import (
    Prompt,
    RewardModel,
    Rule,
    answer_text,
    prompts_at,
    rule_scores,
    sample_episodes,
    shaped_score,
)

# Metrics that depend on the machine's speed; everything else is reproducible.
TIMINGS = (
    "episodes_per_second", "seconds_sampling", "seconds_scoring", "seconds_judging",
    "seconds_updating",
)  # fmt: skip

# minibatch -> forward passes -> row numbers
Plan = list[list[list[list[int]]]]


@dataclass(frozen=True)
class Parts:
    """Everything that PPO works on."""

    tokenizer: Any
    template: Template
    policy: Any
    reference: Any
    critic: Critic
    reward: RewardModel | None
    rules: Sequence[tuple[str, Rule, float]]
    pool: Sequence[Prompt]
    stop_ids: Sequence[int]


@dataclass
class Experience:
    """One iteration's episodes on this process, N of them with up to T response tokens.

    [N, T] tensors unless said otherwise; they are filled by `PPO.sample`, `score` and `judge`.
    """

    prompts: Sequence[Prompt]
    episodes: Sequence[Episode]
    texts: Sequence[str]
    mask: Tensor
    rollout: Tensor
    plan: Plan
    scores: Tensor = field(default_factory=lambda: torch.zeros(0))  # [N]
    old: Tensor = field(default_factory=lambda: torch.zeros(0))
    reference: Tensor = field(default_factory=lambda: torch.zeros(0))
    entropy: Tensor = field(default_factory=lambda: torch.zeros(0))
    values: Tensor = field(default_factory=lambda: torch.zeros(0))
    rewards: Tensor = field(default_factory=lambda: torch.zeros(0))
    advantages: Tensor = field(default_factory=lambda: torch.zeros(0))
    returns: Tensor = field(default_factory=lambda: torch.zeros(0))

    def of(self, name: str, rows: Sequence[int]) -> Tensor:
        """The valid numbers of these rows as one flat tensor, in the order of a forward pass."""
        table: Tensor = getattr(self, name)
        return table[rows][self.mask[rows]]

    def put(self, table: Tensor, rows: Sequence[int], flat: Tensor) -> None:
        """Write flat numbers of a forward pass back into a table."""
        part = torch.zeros_like(self.mask[rows], dtype=flat.dtype)
        part[self.mask[rows]] = flat
        table[rows] = part


def run_precision(options: PPOConfig) -> torch.dtype | None:
    """bf16 where the device is fast at it (or it is asked for), else None for float32."""
    from espalier.train.trainer import autocast_dtype

    dtype = autocast_dtype(options.precision, "cuda" if torch.cuda.is_available() else "cpu")
    return torch.bfloat16 if dtype is torch.bfloat16 else None


class PPO:
    """The learner: owns the networks, the optimizers and the place in the run."""

    def __init__(self, parts: Parts, options: PPOConfig, folder: Path, seed: int) -> None:
        from accelerate import Accelerator  # type: ignore[import-untyped]

        self.parts = parts
        self.options = options
        self.folder = folder
        self.store = folder / "checkpoints"
        self.seed = seed
        # Autocast is ours: the state behind an Accelerator is shared by all of a process.
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="no")
        self.device = self.accelerator.device
        self.autocast_dtype = run_precision(options)
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.pad = int(parts.tokenizer.pad_token_id)
        self.reference = Policy(parts.reference, options.temperature).to(self.device)
        actor = Policy(parts.policy, options.temperature).to(self.device)
        critic = parts.critic.to(self.device)
        self.policy, self.critic, self.policy_optimizer, self.critic_optimizer = (
            self.accelerator.prepare(actor, critic, self._adam(actor), self._adam(critic))
        )
        self.iteration = 0
        self.cursor = 0
        self.kl_coefficient = options.kl_coefficient
        self.first_length = 0.0
        self.steps = {"policy": 0, "critic": 0}

    # The loop -----------------------------------------------------------------------------

    def run(self, until: int | None = None) -> dict[str, Any]:
        """Train to the end (or to iteration `until`), going on from the last checkpoint."""
        checkpoint = checkpoints.latest(self.store)
        if checkpoint is not None:
            self.load(checkpoint)
            say(f"  going on after iteration {self.iteration} of {self.options.iterations}")
        end = min(self.options.iterations, until or self.options.iterations)
        main = self.accelerator.is_main_process
        with (
            Monitor(self.folder, step=self.iteration) if main else nullcontext() as monitor,
            Progress(
                "ppo", self.options.iterations, unit="iterations", initial=self.iteration
            ) as progress,
        ):
            if self.iteration == 0:
                self.show(monitor)
            while self.iteration < end:
                metrics = self.iterate()
                self.record(monitor, metrics)
                progress.update(1, f"score {metrics['score']:+.2f}, kl {metrics['kl']:.2f}")
        return self.counts()

    def iterate(self) -> dict[str, float]:
        """One iteration; returns its metrics, means over all processes."""
        times = [time.perf_counter()]
        experience = self.sample()
        times.append(time.perf_counter())
        self.score(experience)
        times.append(time.perf_counter())
        self.judge(experience)
        times.append(time.perf_counter())
        metrics = self.describe(experience)
        self.check(metrics)
        metrics |= self.update(experience)
        times.append(time.perf_counter())
        if self.options.kl_target is not None:
            self.kl_coefficient = pm.adapted_kl_coefficient(
                self.kl_coefficient,
                metrics["kl"],
                target=self.options.kl_target,
                horizon=self.options.kl_horizon,
                episodes=self.options.rollout_batch,
            )
        self.iteration += 1
        self.cursor += self.options.rollout_batch
        spans = [b - a for a, b in itertools.pairwise(times)]
        rate = self.options.rollout_batch / (times[-1] - times[0])
        return metrics | dict(zip(TIMINGS, [rate, *spans], strict=True))

    # 1. Answers ---------------------------------------------------------------------------

    def sample(self) -> Experience:
        """Answer this process's share of the next prompts, and plan the updates."""
        options = self.options
        batch = prompts_at(self.parts.pool, self.cursor, options.rollout_batch, self.seed)
        numbers = range(self.cursor, self.cursor + options.rollout_batch)
        prompts = batch[self.rank :: self.world]
        episodes = sample_episodes(
            self.accelerator.unwrap_model(self.policy).model,
            prompts,
            stop_ids=self.parts.stop_ids,
            pad_id=self.pad,
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            seed=self.seed,
            numbers=numbers[self.rank :: self.world],
            autocast=self.autocast_dtype,
            token_budget=options.token_budget,
        )
        lengths = torch.tensor([len(e.response) for e in episodes])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        rollout = torch.zeros(mask.shape)
        rollout[mask] = torch.tensor([x for e in episodes for x in e.rollout_logprobs])
        texts = [answer_text(self.parts.tokenizer, e) for e in episodes]
        return Experience(prompts, episodes, texts, mask, rollout, self.plan(episodes))

    def plan(self, episodes: Sequence[Episode]) -> Plan:
        """For each epoch a fresh permutation, cut into minibatches, cut into forward passes.

        It is made before the old log-probabilities are computed, so that these come from the
        very batches of the first epoch: the ratio on the first minibatch is then exactly 1.
        """
        size = (self.options.minibatch or self.options.rollout_batch) // self.world
        epochs = []
        for epoch in range(self.options.epochs):
            rows = list(range(len(episodes)))
            name = f"{self.seed}:minibatches:{self.iteration}:{epoch}:{self.rank}"
            random.Random(name).shuffle(rows)
            minibatches = [rows[i : i + size] for i in range(0, len(rows), size)]
            epochs.append(
                [
                    passes(minibatch, lambda i: len(episodes[i]), self.options.token_budget)
                    for minibatch in minibatches
                ]
            )
        return epochs

    # 2. Scores ----------------------------------------------------------------------------

    def score(self, experience: Experience) -> None:
        """The score of each truncated answer: reward model and rules, clamped, no-end rule."""
        options, parts = self.options, self.parts
        episodes, texts = experience.episodes, experience.texts
        totals = rule_scores(parts.rules, experience.prompts, texts)
        if parts.reward is not None:
            learnt = parts.reward(experience.prompts, episodes, texts, options.token_budget)
            totals = [a + b for a, b in zip(totals, learnt, strict=True)]
        experience.scores = torch.tensor(
            [
                shaped_score(
                    total,
                    episode.ended,
                    clip=options.score_clip,
                    no_end_score=options.no_end_score,
                    no_end_penalty=options.no_end_penalty,
                )
                for total, episode in zip(totals, episodes, strict=True)
            ]
        )

    # 3. Rewards, values, advantages -------------------------------------------------------

    @torch.no_grad()
    def judge(self, experience: Experience) -> None:
        """Old and reference log-probabilities, values; then rewards, advantages, returns."""
        options, mask = self.options, experience.mask
        tables = {
            name: torch.zeros(mask.shape) for name in ("old", "reference", "entropy", "values")
        }
        after = torch.zeros(len(experience.episodes))
        for rows in (rows for minibatch in experience.plan[0] for rows in minibatch):
            batch = self.batch(experience, rows)
            old, entropy = self.forward(self.policy, batch.ids, batch.states, batch.tokens)
            reference, _ = self.forward(self.reference, batch.ids, batch.states, batch.tokens)
            states = torch.cat([batch.states, batch.ends])
            values = self.forward(self.critic, batch.ids, states)
            flat = {"old": old, "reference": reference, "entropy": entropy}
            flat["values"] = values[: len(batch.states)]
            for name, numbers in flat.items():
                experience.put(tables[name], rows, numbers.cpu())
            after[rows] = values[len(batch.states) :].cpu()
        for name, table in tables.items():
            setattr(experience, name, table)
        rewards = pm.token_rewards(
            experience.scores,
            experience.old,
            experience.reference,
            mask,
            self.kl_coefficient if options.kl_mode == "reward" else 0.0,
        )
        if options.whiten_rewards:
            rewards = pm.whiten(rewards, mask, keep_mean=True, total=self.total)
        advantages, experience.returns = pm.advantages_and_returns(
            rewards,
            experience.values,
            mask,
            gamma=options.gamma,
            lam=options.gae_lambda,
            bootstrap=after * self.cut_off(experience),
        )
        if options.whiten_advantages:
            advantages = pm.whiten(advantages, mask, total=self.total)
        experience.rewards, experience.advantages = rewards, advantages

    def cut_off(self, experience: Experience) -> Tensor:
        """[N] 1 where an episode only ran out of tokens; a fixed score for that is an end."""
        goes_on = self.options.no_end_score is None
        return torch.tensor([float(goes_on and not e.ended) for e in experience.episodes])

    def batch(self, experience: Experience, rows: Sequence[int]) -> Batch:
        return collate([experience.episodes[i] for i in rows], self.pad, self.device)

    def forward(self, network: Any, *inputs: Any) -> Any:
        """A forward pass in the precision of the run; the same call scores and trains."""
        with torch.autocast(
            self.device.type,
            dtype=self.autocast_dtype or torch.bfloat16,
            enabled=self.autocast_dtype is not None,
        ):
            return network(*inputs)

    def total(self, value: Tensor) -> Tensor:
        """The sum of a tensor over processes."""
        if self.world == 1:
            return value
        summed: Tensor = self.accelerator.reduce(value.to(self.device), reduction="sum")
        return summed.to(value.device)

    # 4. Updates ---------------------------------------------------------------------------

    def update(self, experience: Experience) -> dict[str, float]:
        """All epochs over the episodes: one optimizer step of each network a minibatch."""
        sums = _Sums()
        rate = self.set_learning_rates()
        learns = self.iteration >= self.options.critic_only_iterations
        first = True
        for minibatches in experience.plan:
            for groups in minibatches:
                count = float(
                    self.total(torch.tensor(float(sum(experience.mask[g].sum() for g in groups))))
                )
                if learns:
                    part = self.policy_step(experience, groups, count)
                    sums.add("policy", part, count)
                    if first:
                        self.check_first_ratio(part["ratio_gap"], sums)
                        first = False
                sums.add("critic", self.critic_step(experience, groups, count), count)
                if self.too_far(sums):
                    return sums.means(self.total) | rate
        return sums.means(self.total) | rate

    def policy_step(
        self, experience: Experience, groups: Sequence[Sequence[int]], count: float
    ) -> dict[str, float]:
        """One optimizer step of the policy on a minibatch of `count` tokens; sums over tokens."""
        options = self.options
        part = {"policy_loss": 0.0, "clip_fraction": 0.0, "update_kl": 0.0, "ratio_gap": 0.0}
        for number, rows in enumerate(groups):
            batch = self.batch(experience, rows)
            old = experience.of("old", rows).to(self.device)
            with self.gradients_of(self.policy, last=number == len(groups) - 1):
                logprobs, entropy = self.forward(
                    self.policy,
                    batch.ids,
                    batch.states,
                    batch.tokens,
                    options.entropy_coefficient > 0,
                )
                result = pm.policy_loss(
                    logprobs,
                    old,
                    experience.of("advantages", rows).to(self.device),
                    torch.ones_like(old, dtype=torch.bool),
                    clip=options.clip,
                    dual_clip=options.dual_clip,
                    weights=self.importance(experience, rows, old),
                    count=count,
                )
                loss = result.loss
                if options.entropy_coefficient:
                    loss = loss - options.entropy_coefficient * entropy.sum() / count
                if options.kl_mode == "loss":
                    reference = experience.of("reference", rows).to(self.device)
                    loss = loss + self.kl_coefficient * pm.kl_k3(logprobs, reference).sum() / count
                # Gradients are averaged over processes, and `count` is over all of them.
                self.accelerator.backward(loss * self.world)
            part["policy_loss"] += float(loss.detach()) * count
            part["clip_fraction"] += float(result.clipped)
            part["update_kl"] += float(result.approx_kl)
            part["ratio_gap"] = max(part["ratio_gap"], float(result.ratio_gap))
        return part | {"grad_norm": self.step("policy") * count}

    def critic_step(
        self, experience: Experience, groups: Sequence[Sequence[int]], count: float
    ) -> dict[str, float]:
        """One optimizer step of the critic on the same minibatch; sums over tokens."""
        part = {"value_loss": 0.0, "value_clip_fraction": 0.0}
        for number, rows in enumerate(groups):
            batch = self.batch(experience, rows)
            old = experience.of("values", rows).to(self.device)
            with self.gradients_of(self.critic, last=number == len(groups) - 1):
                loss, clipped = pm.value_loss(
                    self.forward(self.critic, batch.ids, batch.states),
                    old,
                    experience.of("returns", rows).to(self.device),
                    torch.ones_like(old, dtype=torch.bool),
                    clip=self.options.value_clip,
                    count=count,
                )
                self.accelerator.backward(loss * self.world)
            part["value_loss"] += float(loss.detach()) * count
            part["value_clip_fraction"] += float(clipped)
        return part | {"critic_grad_norm": self.step("critic") * count}

    def importance(self, experience: Experience, rows: Sequence[int], old: Tensor) -> Tensor | None:
        cap = self.options.importance_cap
        if cap is None:
            return None
        return pm.truncated_importance(old, experience.of("rollout", rows).to(self.device), cap)

    def gradients_of(self, network: Any, *, last: bool) -> Any:
        """Gradients travel between processes once a minibatch, with its last forward pass."""
        return nullcontext() if last else self.accelerator.no_sync(network)

    def step(self, name: str) -> float:
        """Clip the gradients, step the optimizer of "policy" or "critic"; returns the norm."""
        network, optimizer = getattr(self, name), getattr(self, f"{name}_optimizer")
        norm = self.accelerator.clip_grad_norm_(network.parameters(), self.options.max_grad_norm)
        if not torch.isfinite(torch.as_tensor(norm)):
            raise StageError(
                f"The gradient of the {name} is not finite in iteration {self.iteration + 1}.",
                where=str(self.folder / "metrics.jsonl"),
                hint="lower learning_rate, or use precision: fp32; the last checkpoint is whole",
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.steps[name] += 1
        return float(norm)

    def set_learning_rates(self) -> dict[str, float]:
        """Linear decay over the iterations to the final share."""
        options = self.options
        factor = pm.linear_decay(self.iteration, options.iterations, options.final_learning_rate)
        rate = options.learning_rate * factor
        critic_rate = (options.critic_learning_rate or options.learning_rate) * factor
        for optimizer, value in (
            (self.policy_optimizer, rate),
            (self.critic_optimizer, critic_rate),
        ):
            for group in optimizer.param_groups:
                group["lr"] = value
        return {"learning_rate": rate}

    def too_far(self, sums: _Sums) -> bool:
        """Whether this iteration's updates have left the samples' own policy behind."""
        limit = self.options.update_kl_limit
        if limit is None or not sums.last_count:
            return False
        return float(self.total(torch.tensor(sums.last_kl))) / sums.last_count > limit

    # Watching -----------------------------------------------------------------------------

    @torch.no_grad()
    def describe(self, experience: Experience) -> dict[str, float]:
        """Metrics of the samples; KL, reward and length are means over episodes."""
        mask = experience.mask
        k1 = pm.masked(pm.kl_k1(experience.old, experience.reference), mask)
        k3 = pm.masked(pm.kl_k3(experience.old, experience.reference), mask)
        gap = pm.masked((experience.old - experience.rollout).abs(), mask)
        per_episode = {
            "score": experience.scores,
            "score_squared": experience.scores**2,
            "reward": experience.rewards.sum(dim=1),
            "kl": k1.sum(dim=1),
            "kl_k3": k3.sum(dim=1),
            "length": mask.sum(dim=1).float(),
            "no_end_rate": torch.tensor([float(not e.ended) for e in experience.episodes]),
        }
        sums = self.total(torch.stack([values.double().sum() for values in per_episode.values()]))
        means = (sums / self.options.rollout_batch).tolist()
        metrics: dict[str, float] = dict(zip(per_episode, means, strict=True))
        spread = max(metrics.pop("score_squared") - metrics["score"] ** 2, 0.0)
        return {
            "episodes": self.cursor + self.options.rollout_batch,
            **metrics,
            "score_deviation": spread**0.5,
            "entropy": float(pm.masked_mean(experience.entropy, mask, self.total)),
            "value": float(pm.masked_mean(experience.values, mask, self.total)),
            "explained_variance": float(
                pm.explained_variance(experience.values, experience.returns, mask, self.total)
            ),
            "rollout_gap": float(pm.masked_mean(gap, mask, self.total)),
            "kl_coefficient": self.kl_coefficient,
        }

    def check(self, metrics: dict[str, float]) -> None:
        """Stop, with the reason, before a step that would spoil the policy."""
        options, number = self.options, self.iteration + 1
        for name in ("score", "kl", "value"):
            if not torch.isfinite(torch.tensor(metrics[name])):
                raise StageError(
                    f"The {name} of iteration {number} is not finite.",
                    where=str(self.folder),
                    hint="look at the reward model, or use precision: fp32",
                )
        if self.iteration == 0 and abs(metrics["kl_k3"]) > self.tolerance():
            raise StageError(
                f"The policy differs from its own copy before the first step: KL "
                f"{metrics['kl_k3']:.2g} nats an episode.",
                expected="0",
                hint="some random or stateful layer is active in the forward pass",
            )
        if options.kl_limit is not None and metrics["kl"] > options.kl_limit:
            raise StageError(
                f"The policy is {metrics['kl']:.1f} nats an episode from where it started, in "
                f"iteration {number}.",
                where=str(self.folder / "metrics.jsonl"),
                expected=f"at most {options.kl_limit:g} (train.ppo.kl_limit)",
                hint="raise kl_coefficient, lower learning_rate, or raise kl_limit",
            )

    def check_first_ratio(self, gap: float, sums: _Sums) -> None:
        """Before the first step of an iteration the policy is the one that was scored."""
        sums.first_ratio_gap = gap
        if gap > self.tolerance():
            raise StageError(
                f"The ratio on the first minibatch of iteration {self.iteration + 1} is off 1 "
                f"by {gap:.2g}.",
                expected="the scoring pass and the training pass to give the same numbers",
                hint="some random or stateful layer is active in the forward pass",
            )

    def tolerance(self) -> float:
        """How far two equal passes may differ: GPU kernels may add in another order."""
        if self.device.type == "cpu":
            return 1e-6
        return 1e-4 if self.autocast_dtype is None else 5e-2

    def record(self, monitor: Monitor | None, metrics: dict[str, float]) -> None:
        """Metrics, alarms, sample answers and the checkpoint of the iteration that just ended."""
        number, options = self.iteration, self.options
        last = number == options.iterations
        self.first_length = self.first_length or metrics["length"]
        if monitor is not None:
            monitor.write(number, metrics)
            if metrics["length"] > 2 * self.first_length:
                monitor.alarm(number, "length", "answers are twice as long as at the start")
            if metrics["no_end_rate"] > 0.5:
                monitor.alarm(number, "no end", "more than half of the answers do not end")
        if last or number % options.sample_every == 0:
            self.show(monitor)
        if last or number % options.checkpoint_every == 0:
            self.save()

    def show(self, monitor: Monitor | None) -> None:
        """Write greedy answers to a few fixed prompts to samples.jsonl."""
        if monitor is None or not self.options.samples:
            return
        count = min(self.options.samples, len(self.parts.pool))
        prompts = random.Random(f"{self.seed}:samples").sample(list(self.parts.pool), count)
        episodes = sample_episodes(
            self.accelerator.unwrap_model(self.policy).model,
            prompts,
            stop_ids=self.parts.stop_ids,
            pad_id=self.pad,
            max_new_tokens=self.options.max_new_tokens,
            temperature=0.0,
            seed=self.seed,
            numbers=range(count),
            autocast=self.autocast_dtype,
            token_budget=self.options.token_budget,
        )
        monitor.samples(
            self.iteration,
            [
                {
                    "id": prompt.example.id,
                    "prompt": prompt.example.prompt,
                    "text": answer_text(self.parts.tokenizer, episode),
                    "finish_reason": "stop" if episode.ended else "length",
                }
                for prompt, episode in zip(prompts, episodes, strict=True)
            ],
        )

    def counts(self) -> dict[str, Any]:
        """What the manifest says about the run."""
        return {
            "iterations": self.iteration,
            "episodes": self.cursor,
            "policy_steps": self.steps["policy"],
            "critic_steps": self.steps["critic"],
            "prompts": len(self.parts.pool),
            "kl_coefficient": self.kl_coefficient,
            "processes": self.world,
            "precision": str(self.autocast_dtype or torch.float32).removeprefix("torch."),
        }

    # Checkpoints --------------------------------------------------------------------------

    def save(self) -> None:
        """Write everything that the next iteration depends on, complete or not at all."""
        from safetensors.torch import save_model

        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            info = {
                "cursor": self.cursor,
                "kl_coefficient": self.kl_coefficient,
                "first_length": self.first_length,
                "steps": self.steps,
            }
            with checkpoints.writing(self.store, self.iteration, info) as path:
                for name in ("policy", "critic"):
                    network = self.accelerator.unwrap_model(getattr(self, name))
                    save_model(network, str(path / f"{name}.safetensors"))
                torch.save(
                    {
                        "policy": self.policy_optimizer.state_dict(),
                        "critic": self.critic_optimizer.state_dict(),
                        "rng": torch.get_rng_state(),
                    },
                    path / "optimizers.pt",
                )
        self.accelerator.wait_for_everyone()

    def load(self, checkpoint: checkpoints.Checkpoint) -> None:
        """Put everything back that `save` wrote."""
        from safetensors.torch import load_model

        for name in ("policy", "critic"):
            network = self.accelerator.unwrap_model(getattr(self, name))
            load_model(network, checkpoint.path / f"{name}.safetensors", device=str(self.device))
        state = torch.load(checkpoint.path / "optimizers.pt", weights_only=True)
        self.policy_optimizer.load_state_dict(state["policy"])
        self.critic_optimizer.load_state_dict(state["critic"])
        torch.set_rng_state(state["rng"])
        self.iteration = checkpoint.step
        self.cursor = int(checkpoint.info["cursor"])
        self.kl_coefficient = float(checkpoint.info["kl_coefficient"])
        self.first_length = float(checkpoint.info["first_length"])
        self.steps = dict(checkpoint.info["steps"])

    def _adam(self, network: torch.nn.Module) -> torch.optim.Optimizer:
        parameters = [p for p in network.parameters() if p.requires_grad]
        return torch.optim.Adam(
            parameters, lr=self.options.learning_rate, eps=self.options.adam_epsilon
        )


class _Sums:
    """Sums over the tokens of an iteration's updates, and what its limits need."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, float] = {}
        self.owner: dict[str, str] = {}
        self.first_ratio_gap = 0.0
        self.last_kl = 0.0
        self.last_count = 0.0

    def add(self, owner: str, part: dict[str, float], count: float) -> None:
        self.counts[owner] = self.counts.get(owner, 0.0) + count
        for name, value in part.items():
            if name == "ratio_gap":
                self.sums[name] = max(self.sums.get(name, 0.0), value)
                continue
            self.owner[name] = owner
            self.sums[name] = self.sums.get(name, 0.0) + value
        if owner == "policy":
            self.last_kl, self.last_count = part["update_kl"], count

    def means(self, total: pm.Reduce) -> dict[str, float]:
        """Means over all tokens of all processes; 0 for a policy that did not learn yet."""
        result = {
            "policy_loss": 0.0, "clip_fraction": 0.0, "update_kl": 0.0, "grad_norm": 0.0
        }  # fmt: skip
        for name, owner in self.owner.items():
            # Norms are those of all processes already.
            summed = self.sums[name]
            if not name.endswith("grad_norm"):
                summed = float(total(torch.tensor(summed, dtype=torch.float64)))
            result[name] = summed / self.counts[owner]
        return result | {
            "ratio_gap": self.sums.get("ratio_gap", 0.0),
            "first_ratio_gap": self.first_ratio_gap,
        }
