"""The score that a reward model gives to each answer, in its own tokeniser and template.

The reward model must not be the one that PPO was trained against: a policy that learnt to please
a reward model pleases that one whatever its answers are worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espalier.errors import UsageError
from espalier.files import hash_path, read_json
from espalier.rewarding import RewardScorer, check_reward_folder, normalisation
from espalier.templates import template_identity

PPO_MANIFEST = "ppo/manifest.json"
# PPO's input that it only watches: it learns nothing from it.
HELD_OUT = "held_out"


@dataclass(frozen=True)
class RewardModel:
    """Where the reward model is, and mean and deviation of its scores on reference answers."""

    name: str
    folder: Path
    mean: float
    deviation: float
    normalised: bool
    training: bool  # PPO was trained against it
    chose: bool = False  # PPO's policy was chosen by it, as its held-out reward
    label: str | int | None = None
    template: str | None = None

    @property
    def signature(self) -> str:
        scale = "reference-answers" if self.normalised else "none"
        tail = "|training-reward:yes" if self.training else ""
        tail += "|chose-the-policy:yes" if self.chose else ""
        return (
            f"espalier.reward|model:{self.name}|normalised:{scale}|end-marker:added"
            f"{self.reading}{tail}"
        )

    @property
    def reading(self) -> str:
        """The label and the template that the recipe names, for signatures."""
        named = (("label", self.label), ("template", self.template))
        return "".join(f"|{name}:{value}" for name, value in named if value is not None)

    @property
    def identity(self) -> str:
        """The same for stored scores: a template file counts by its content."""
        template = template_identity(self.template) if self.template is not None else None
        named = (("label", self.label), ("template", template))
        return "".join(f"|{name}:{value}" for name, value in named if value is not None)


def find_reward_model(
    text: str,
    path: Path,
    run: Path,
    *,
    allow_training: bool,
    label: str | int | None = None,
    template: str | None = None,
    where: str = "evaluate.reward_model",
) -> RewardModel:
    """The reward model to score with.

    `text` is what the recipe says, `path` the folder that it means, `run` the run folder; `label`
    and `template` say how it is read where its folder does not. Raises
    InputError when the folder holds no reward model, UsageError when PPO of this run was trained
    against it and that is not allowed.
    """
    folder = path / "model" if (path / "model").is_dir() else path
    check_reward_folder(folder, text, where)
    manifest = run / PPO_MANIFEST
    value = read_json(manifest) if manifest.is_file() else {}
    ppo = value if isinstance(value, dict) else {}
    taken = _taken(folder, ppo.get("inputs", {}))
    training = bool(taken - {HELD_OUT})
    if training and not allow_training:
        raise UsageError(
            f"The reward model '{text}' is the one that PPO was trained against, so it can't "
            "judge what PPO gained.",
            where=where,
            expected="a reward model that PPO never saw, such as `reward_eval`",
            hint="set `allow_training_reward: true` (in `reward_models`: `allow_training`) to show "
            "its score all the same",
        )
    mean, deviation, normalised = normalisation(folder)
    chose = HELD_OUT in taken and "model_after_iteration" in ppo.get("counts", {})
    return RewardModel(
        text, folder, mean, deviation, normalised, training, chose, label=label, template=template
    )


def _taken(folder: Path, inputs: Mapping[str, Any]) -> set[str]:
    """Names of the inputs of PPO that are these files, by path or by content."""
    if not inputs:
        return set()
    hashes = {hash_path(folder), hash_path(folder.parent)}
    places = {folder.resolve(), folder.parent.resolve()}
    return {
        name
        for name, item in inputs.items()
        if isinstance(item, dict)
        and (item.get("sha256") in hashes or Path(str(item.get("path", ""))).resolve() in places)
    }


def open_scorer(found: RewardModel, *, dtype: str, token_budget: int | None) -> RewardScorer:
    """Load the reward model."""
    return RewardScorer(
        found.folder,
        mean=found.mean,
        deviation=found.deviation,
        dtype=dtype,
        token_budget=token_budget,
        label=found.label,
        template=found.template,
    )
