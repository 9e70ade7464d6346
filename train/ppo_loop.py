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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from espalier.errors import UsageError
from espalier.progress import Progress, say
from espalier.templates import Template
from espalier.train import checkpoints
from espalier.train import policy_math as pm
from espalier.train.actors import Batch, Critic, Policy, collate
from espalier.train.config_rl import PPOConfig
from espalier.train.experience import Experience, UpdateSums, make_plan
from espalier.train.monitor import Monitor
from espalier.train.ppo_watch import (
    check_first_ratio,
    check_gradient,
    check_samples,
    describe,
    raise_alarms,
    tolerance,
)
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


def run_precision(options: PPOConfig) -> torch.dtype | None:
    """bf16 where the device is fast at it (or it is asked for), else None for float32."""
    from espalier.train.arguments import autocast_dtype

    dtype = autocast_dtype(options.precision, "cuda" if torch.cuda.is_available() else "cpu")
    return torch.bfloat16 if dtype is torch.bfloat16 else None


def check_slices(options: PPOConfig, processes: int) -> None:
    """Raise UsageError unless each process gets the same number of episodes and minibatches."""
    for name in ("rollout_batch", "minibatch"):
        value = getattr(options, name)
        if value % processes:
            raise UsageError(
                f"{name} is {value}, and {processes} processes share it.",
                where=f"train.ppo.{name}",
                expected=f"a multiple of {processes}",
            )


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
        self.tolerance = tolerance(self.device.type, exact=self.autocast_dtype is None)
        self.where = str(folder / "metrics.jsonl")
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        check_slices(options, self.world)
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
        metrics = describe(experience, self.total)
        check_samples(metrics, self.options, self.iteration, self.tolerance, self.where)
        metrics |= self.update(experience)
        metrics |= {"kl_coefficient": self.kl_coefficient}
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
        plan = make_plan(
            [len(e) for e in episodes],
            epochs=options.epochs,
            minibatch=(options.minibatch or options.rollout_batch) // self.world,
            token_budget=options.token_budget,
            name=f"{self.seed}:minibatches:{self.iteration}:{self.rank}",
        )
        texts = [answer_text(self.parts.tokenizer, e) for e in episodes]
        return Experience.of(prompts, episodes, texts, plan)

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
        sums = UpdateSums()
        rate = self.set_learning_rates()
        learns = self.iteration >= self.options.critic_only_iterations
        first = True
        for minibatches in experience.plan:
            for groups in minibatches:
                count = float(self.total(experience.tokens(groups)))
                if learns:
                    sums.add("policy", self.policy_step(experience, groups, count, first), count)
                    first = False
                sums.add("critic", self.critic_step(experience, groups, count), count)
                if self.too_far(sums):
                    return sums.means(self.total) | rate
        return sums.means(self.total) | rate

    def policy_step(
        self, experience: Experience, groups: Sequence[Sequence[int]], count: float, first: bool
    ) -> dict[str, float]:
        """One optimizer step of the policy on a minibatch of `count` tokens; sums over tokens.

        Before the `first` step of an iteration the policy must be the one that was judged.
        """
        options = self.options
        part = {"policy_loss": 0.0, "clip_fraction": 0.0, "update_kl": 0.0, "ratio_gap": 0.0}
        for number, rows in enumerate(groups):
            batch = self.batch(experience, rows)
            old = experience.flat("old", rows).to(self.device)
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
                    experience.flat("advantages", rows).to(self.device),
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
                    reference = experience.flat("reference", rows).to(self.device)
                    loss = loss + self.kl_coefficient * pm.kl_k3(logprobs, reference).sum() / count
                # Gradients are averaged over processes, and `count` is over all of them.
                self.accelerator.backward(loss * self.world)
            part["policy_loss"] += float(loss.detach()) * count
            part["clip_fraction"] += float(result.clipped)
            part["update_kl"] += float(result.approx_kl)
            part["ratio_gap"] = max(part["ratio_gap"], float(result.ratio_gap))
        if first:
            part["first_ratio_gap"] = part["ratio_gap"]
            check_first_ratio(part["ratio_gap"], self.iteration, self.tolerance)
        return part | {"grad_norm": self.step("policy") * count}

    def critic_step(
        self, experience: Experience, groups: Sequence[Sequence[int]], count: float
    ) -> dict[str, float]:
        """One optimizer step of the critic on the same minibatch; sums over tokens."""
        part = {"value_loss": 0.0, "value_clip_fraction": 0.0}
        for number, rows in enumerate(groups):
            batch = self.batch(experience, rows)
            old = experience.flat("values", rows).to(self.device)
            with self.gradients_of(self.critic, last=number == len(groups) - 1):
                loss, clipped = pm.value_loss(
                    self.forward(self.critic, batch.ids, batch.states),
                    old,
                    experience.flat("returns", rows).to(self.device),
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
        return pm.truncated_importance(old, experience.flat("rollout", rows).to(self.device), cap)

    def gradients_of(self, network: Any, *, last: bool) -> Any:
        """Gradients travel between processes once a minibatch, with its last forward pass."""
        return nullcontext() if last else self.accelerator.no_sync(network)

    def step(self, name: str) -> float:
        """Clip the gradients, step the optimizer of "policy" or "critic"; returns the norm."""
        network, optimizer = getattr(self, name), getattr(self, f"{name}_optimizer")
        limit = self.options.max_grad_norm
        norm = float(self.accelerator.clip_grad_norm_(network.parameters(), limit))
        check_gradient(norm, name, self.iteration, self.where)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.steps[name] += 1
        return norm

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

    def too_far(self, sums: UpdateSums) -> bool:
        """Whether this iteration's updates have left the samples' own policy behind."""
        limit = self.options.update_kl_limit
        if limit is None or not sums.last_count:
            return False
        return float(self.total(torch.tensor(sums.last_kl))) / sums.last_count > limit

    # Watching -----------------------------------------------------------------------------

    def record(self, monitor: Monitor | None, metrics: dict[str, float]) -> None:
        """Metrics, alarms, sample answers and the checkpoint of the iteration that just ended."""
        number, options = self.iteration, self.options
        last = number == options.iterations
        self.first_length = self.first_length or metrics["length"]
        if monitor is not None:
            monitor.write(number, {"episodes": self.cursor, **metrics})
            raise_alarms(monitor, number, metrics, self.first_length)
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
