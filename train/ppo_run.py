"""The place of PPO in its run: what a checkpoint holds beside the networks, and who watches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from espalier.train.actors import Episode
from espalier.train.config_rl import PPOConfig
from espalier.train.held_out import HeldOutWatch
from espalier.train.ppo_parts import Parts
from espalier.train.ppo_update import Learner
from espalier.train.ppo_watch import Stop, Watch
from espalier.train.reward_mix import short_form
from espalier.train.rollout import shaped_score


class Run(Learner):
    """A learner with its folder, its place among the prompts, its score and its watches.

    `stopped` says why the run ended before its time, `kept` after which iteration the policy
    that is kept stood, where it is not the last.
    """

    def __init__(self, parts: Parts, options: PPOConfig, folder: Path, seed: int) -> None:
        super().__init__(parts, options, folder, seed)
        self.folder = folder
        self.store = folder / "checkpoints"
        self.cursor = 0
        self.terms = tuple(parts.terms) or short_form(parts.rules, parts.reward)
        self.watch = Watch(options)
        self.held_out = HeldOutWatch(options.held_out) if options.held_out else None
        self.stopped: Stop | None = None
        self.kept: int | None = None

    def shaped(self, totals: Sequence[float], episodes: Sequence[Episode]) -> list[float]:
        """Totals of the terms as scores: clamped, and by the rule for answers without an end."""
        options = self.options
        return [
            shaped_score(
                total,
                episode.ended,
                clip=options.score_clip,
                no_end_score=options.no_end_score,
                no_end_penalty=options.no_end_penalty,
            )
            for total, episode in zip(totals, episodes, strict=True)
        ]
