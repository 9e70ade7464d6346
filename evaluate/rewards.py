"""The score that a reward model gives to each answer, in its own tokeniser and template.

The reward model must not be the one that PPO was trained against: a policy that learnt to please
a reward model pleases that one whatever its answers are worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espalier.errors import InputError, UsageError
from espalier.files import hash_path, read_json
from espalier.records import Message, Messages

NORMALISATION = "reward.json"
PPO_MANIFEST = "ppo/manifest.json"


@dataclass(frozen=True)
class RewardModel:
    """Where the reward model is, and mean and deviation of its scores on reference answers."""

    name: str
    folder: Path
    mean: float
    deviation: float
    normalised: bool
    training: bool  # PPO was trained against it

    @property
    def signature(self) -> str:
        scale = "reference-answers" if self.normalised else "none"
        tail = "|training-reward:yes" if self.training else ""
        return f"espalier.reward|model:{self.name}|normalised:{scale}|end-marker:added{tail}"


def find_reward_model(text: str, path: Path, run: Path, *, allow_training: bool) -> RewardModel:
    """The reward model to score with.

    `text` is what the recipe says, `path` the folder that it means, `run` the run folder. Raises
    InputError when the folder holds no reward model, UsageError when PPO of this run was trained
    against it and that is not allowed.
    """
    folder = path / "model" if (path / "model").is_dir() else path
    _check(folder, text)
    training = _trained_against(folder, run)
    if training and not allow_training:
        raise UsageError(
            f"The reward model '{text}' is the one that PPO was trained against, so it can't "
            "judge what PPO gained.",
            where="evaluate.reward_model",
            expected="a reward model that PPO never saw, such as `reward_eval`",
            hint="set `allow_training_reward: true` to show its score all the same",
        )
    mean, deviation, normalised = _normalisation(folder)
    return RewardModel(text, folder, mean, deviation, normalised, training)


def _check(folder: Path, text: str) -> None:
    config = folder / "config.json"
    if not config.is_file():
        raise InputError(
            f"There is no reward model '{text}'.",
            where=str(folder),
            expected="a folder with a sequence-classification model of one output",
            hint="run the stage that trains it (espalier train reward), or correct "
            "`evaluate.reward_model`",
        )
    value = read_json(config)
    kinds = value.get("architectures") or [] if isinstance(value, dict) else []
    if kinds and not any("SequenceClassification" in str(kind) for kind in kinds):
        raise InputError(
            f"The model '{text}' is no reward model: its type is {kinds[0]}.",
            where=str(config),
            expected="a sequence-classification model of one output",
        )


def _trained_against(folder: Path, run: Path) -> bool:
    """Whether PPO of this run took the same files, by path or by content."""
    manifest = run / PPO_MANIFEST
    if not manifest.is_file():
        return False
    value = read_json(manifest)
    inputs = value.get("inputs", {}) if isinstance(value, dict) else {}
    hashes = {hash_path(folder), hash_path(folder.parent)}
    places = {folder.resolve(), folder.parent.resolve()}
    return any(
        item.get("sha256") in hashes or Path(str(item.get("path", ""))).resolve() in places
        for item in inputs.values()
        if isinstance(item, dict)
    )


def _normalisation(folder: Path) -> tuple[float, float, bool]:
    path = folder / NORMALISATION
    if not path.is_file():
        return 0.0, 1.0, False
    value = read_json(path)
    try:
        mean = float(value["mean"])
        deviation = float(value["deviation"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "The normalisation of a reward model can't be read.",
            where=str(path),
            expected='numbers "mean" and "deviation"',
        ) from error
    return mean, deviation if deviation > 0 else 1.0, True


class RewardScorer:
    """A loaded reward model."""

    def __init__(self, found: RewardModel, *, dtype: str, token_budget: int) -> None:
        from espalier.models import load_model, load_tokenizer
        from espalier.templates import template_of

        self.found = found
        self.token_budget = token_budget
        self.tokenizer = load_tokenizer(found.folder)
        self.template = template_of(found.folder, tokenizer=self.tokenizer)
        self.model: Any = load_model(found.folder, kind="reward", dtype=dtype)
        self.limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def score(
        self, prompts: Sequence[Messages], answers: Sequence[str], metas: Sequence[dict[str, Any]]
    ) -> list[float]:
        """One score an answer, in deviations from the mean of reference answers if known.

        What is longer than the model's context loses the oldest tokens of its prompt.
        """
        from espalier.encoding import encode_example, through_answer, truncate_prompt
        from espalier.scoring import reward_scores

        encoded = [
            through_answer(
                encode_example(
                    self.tokenizer, self.template, (*turns, Message("assistant", answer)), meta
                )
            )
            for turns, answer, meta in zip(prompts, answers, metas, strict=True)
        ]
        if self.limit:
            encoded = [truncate_prompt(item, self.limit) for item in encoded]
        raw = reward_scores(
            self.model,
            self.tokenizer,
            [item.ids for item in encoded],
            token_budget=self.token_budget,
        )
        return [(score - self.found.mean) / self.found.deviation for score in raw]
