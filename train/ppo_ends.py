"""How a run of PPO is watched and ends: held-out checks, stops, and which policy is kept.

The model of a run is its last policy, the one of the best held-out check (`keep: best`, or a
stop for over-optimisation), or, where the samples broke a rule, the newest checkpoint from
before: every such policy was sampled from, and passed. There is always one, since the policy
that the run begins with is written first.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from espalier.errors import InputError, StageError
from espalier.progress import say
from espalier.train import checkpoints
from espalier.train.held_out import SPLIT, HeldOutParts, set_apart
from espalier.train.monitor import Monitor
from espalier.train.ppo_checkpoint import load_policy, save_policy
from espalier.train.ppo_watch import Stop
from espalier.train.reward_mix import Answers, mix
from espalier.train.rollout import Prompt, answer_text, sample_episodes

if TYPE_CHECKING:
    from espalier.train.config_rewards import HeldOut
    from espalier.train.ppo_run import Run

OVER_OPTIMISED = "over-optimisation"


# Held-out checks ---------------------------------------------------------------------------


def hold_out(
    pool: list[Prompt], options: HeldOut, given: list[Prompt] | None, seed: int
) -> tuple[list[Prompt], list[Prompt]]:
    """(prompts to train on, prompts of the checks): those given, or so many drawn by the seed."""
    if given is None:
        count = int(options.prompts)
        if count >= len(pool):
            raise InputError(
                f"{count} prompts are to be held out, and there are {len(pool)}.",
                where="train.ppo.held_out.prompts",
                hint="hold out fewer, or give other prompts",
            )
        given = random.Random(f"{seed}:held_out").sample(pool, count)
    chosen = given[: options.limit] if isinstance(options.prompts, str) else given
    if len(chosen) < 2:
        raise InputError(
            f"There are {len(chosen)} held-out prompts.",
            where=f"train.ppo.held_out.prompts: {options.prompts}",
            expected="2 at least that fit in max_prompt_tokens",
        )
    kept, _ = set_apart(pool, chosen)
    return kept, chosen


def held_out_scores(learner: Run, parts: HeldOutParts, options: HeldOut) -> dict[str, list[float]]:
    """The policy's answers to all held-out prompts: scores (held_out, training), length, end.

    Each process answers its share; the lists are complete on all of them, in order of prompts.
    """
    prompts = parts.prompts
    mine = range(learner.rank, len(prompts), learner.world)
    columns = ("held_out", "training", "length", "no_end")
    table = torch.zeros(len(columns), len(prompts), dtype=torch.float64)
    if mine:
        own = [prompts[i] for i in mine]
        model = learner.accelerator.unwrap_model(learner.policy).model
        episodes = sample_episodes(
            model,
            own,
            stop_ids=learner.parts.stop_ids,
            pad_id=learner.pad,
            max_new_tokens=learner.options.max_new_tokens,
            temperature=options.temperature,
            seed=learner.seed,
            numbers=list(mine),
            autocast=learner.autocast_dtype,
            token_budget=learner.options.token_budget,
        )
        texts = [answer_text(learner.parts.tokenizer, episode) for episode in episodes]
        budget = learner.options.token_budget
        answers = Answers(own, episodes, texts, budget)
        rows = (
            parts.reward(own, episodes, texts, budget),
            learner.shaped(mix(learner.terms, answers).totals, episodes),
            [len(episode.response) for episode in episodes],
            [not episode.ended for episode in episodes],
        )
        for row, values in enumerate(rows):
            table[row, list(mine)] = torch.as_tensor(values, dtype=torch.float64)
    whole = learner.total(table).tolist()
    return dict(zip(columns, whole, strict=True))


def check_held_out(learner: Run, monitor: Monitor | None) -> None:
    """Score the held-out answers of the policy as it is now; keep it if it is the best so far."""
    watch, parts = learner.held_out, learner.parts.held_out
    if watch is None or parts is None:
        return
    number = learner.iteration
    found = held_out_scores(learner, parts, watch.options)
    if not torch.tensor(found["held_out"]).isfinite().all():
        raise StageError(
            f"The held-out reward after iteration {number} is not finite.",
            where=learner.where,
            hint="look at the model of train.ppo.held_out.reward",
        )
    check = watch.check(number, found["held_out"], found["training"])
    if monitor is not None:
        more = {name: sum(found[name]) / len(parts.prompts) for name in ("length", "no_end")}
        metrics = {**check.metrics, "length": more["length"], "no_end_rate": more["no_end"]}
        monitor.write(number, metrics, split=SPLIT)
        if check.alarm:
            monitor.alarm(number, OVER_OPTIMISED, watch.message)
    if check.best and best_is_kept(learner):
        save_policy(learner, best_store(learner.store))
    if check.stop:
        limit = float(watch.options.stop_after or 0)
        message = f"stopped after iteration {number}: {watch.message}"
        learner.stopped = Stop(
            OVER_OPTIMISED, number, float(watch.bad), limit, watch.best_iteration + 1, message
        )


def best_is_kept(learner: Run) -> bool:
    """Whether the policy of the best check may be wanted at the end."""
    watch = learner.held_out
    if watch is None:
        return False
    return learner.options.keep == "best" or watch.options.stop_after is not None


def best_store(store: Path) -> Path:
    """Where the policies of the best checks are."""
    return store / "best"


# The end -----------------------------------------------------------------------------------


def tell(learner: Run, monitor: Monitor | None) -> None:
    """Record why the run stopped."""
    if learner.stopped is None:
        return
    if monitor is not None:
        monitor.alarm(learner.stopped.iteration, "stopped", learner.stopped.message)


def choose_policy(learner: Run) -> None:
    """Put the policy that is kept in place, and say which it is."""
    stop, watch = learner.stopped, learner.held_out
    over = stop is not None and stop.reason == OVER_OPTIMISED
    in_order = stop is None or over or (watch is not None and watch.best_iteration < stop.since - 1)
    if watch is not None and in_order and (over or learner.options.keep == "best"):
        _take(learner, best_store(learner.store), watch.best_iteration)
        learner.kept = watch.best_iteration
        _say(learner, f"the policy after iteration {learner.kept}, best on the held-out reward")
    elif stop is not None:
        # Iteration `since` sampled from the policy after `since` - 1 and found it out of order.
        steps = [checkpoint.step for checkpoint in checkpoints.complete(learner.store)]
        passed = [step for step in steps if step < stop.since - 1]
        learner.kept = max(passed) if passed else min(steps)
        _take(learner, learner.store, learner.kept)
        _say(learner, _named(learner.kept))


def _say(learner: Run, text: str) -> None:
    if learner.accelerator.is_main_process:
        say(f"  kept: {text}")


def _named(step: int) -> str:
    if step == 0:
        return "the policy that the run began with"
    return f"the policy after iteration {step}, the last checkpoint that was in order"


def _take(learner: Run, store: Path, step: int) -> None:
    for checkpoint in checkpoints.complete(store):
        if checkpoint.step == step:
            load_policy(learner, checkpoint)
            return
    raise StageError(
        f"The policy after iteration {step}, which is to be kept, is not there.",
        where=str(store),
        hint="remove the stage's folder and run it again",
    )


def end_counts(learner: Run) -> dict[str, Any]:
    """What the manifest says about the end of the run; nothing of a run that went its way."""
    counts: dict[str, Any] = {}
    if learner.stopped is not None:
        stop = learner.stopped
        counts["stopped"] = {
            "reason": stop.reason,
            "iteration": stop.iteration,
            "value": stop.value,
            "limit": stop.limit,
            "message": stop.message,
        }
    if learner.kept is not None:
        counts["model_after_iteration"] = learner.kept
    if learner.held_out is not None:
        watch = learner.held_out
        counts["held_out"] = {
            "best_iteration": watch.best_iteration,
            "best_score": sum(watch.best) / max(len(watch.best), 1),
            "first_score": sum(watch.start) / max(len(watch.start), 1),
        }
    return counts
