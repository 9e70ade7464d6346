"""A loaded reward model that scores answers to conversations, in its own template."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalier.errors import InputError
from espalier.files import read_json
from espalier.records import Message, Messages
from espalier.reward_heads import is_classifier

if TYPE_CHECKING:
    from espalier.encoding import Encoded
    from espalier.segments import Template

NORMALISATION = "reward.json"


def check_reward_folder(folder: Path, name: str, where: str) -> None:
    """Raise InputError when the folder holds no reward model; `where` is the option's name."""
    config = folder / "config.json"
    if not config.is_file():
        raise InputError(
            f"There is no reward model '{name}'.",
            where=str(folder),
            expected="a folder with a sequence-classification model of one output",
            hint=f"run the stage that trains it (espalier train reward), or correct `{where}`",
        )
    value = read_json(config)
    kinds = value.get("architectures") or [] if isinstance(value, dict) else []
    if kinds and not is_classifier(kinds, value.get("auto_map")):
        raise InputError(
            f"The model '{name}' is no reward model: its type is {kinds[0]}.",
            where=str(config),
            expected="a sequence-classification model of one output",
        )


def normalisation(folder: Path) -> tuple[float, float, bool]:
    """Mean and deviation of the scores of reference answers, and whether they are known."""
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


def reward_template(source: Path | str, tokenizer: Any, name: str | None = None) -> Template:
    """How a reward model reads a conversation: `name` if given, else as its folder says.

    That is `template.json`, else the tokenizer's chat template, else, for an encoder, its own
    form for two texts (`text-pair`). Raises UsageError where nothing says it.
    """
    from espalier.templates import TEMPLATE_FILE, get_template, template_of
    from espalier.text_pair import NAME, joins_pairs

    said = (Path(source) / TEMPLATE_FILE).is_file() or getattr(tokenizer, "chat_template", None)
    if name is None and not said and joins_pairs(tokenizer):
        return get_template(NAME, tokenizer=tokenizer)
    return template_of(source, tokenizer=tokenizer, name=name)


def encode_answers(
    tokenizer: Any,
    template: Template,
    conversations: Iterable[tuple[Messages, Mapping[str, Any]]],
) -> list[Encoded]:
    """Each (messages, meta) up to the end of its last answer, the only trained piece.

    All that stands before that answer is its prompt, earlier answers too, and may be cut.
    """
    from espalier.encoding import Encoded, encode_conversations, through_answer

    found = []
    for item in encode_conversations(tokenizer, template, conversations, train_on="last"):
        ended = through_answer(item)
        size = answer_tokens(ended)
        trained = [False] * (len(ended) - size) + [True] * size
        found.append(Encoded(ended.ids, trained))
    return found


def answer_tokens(encoded: Encoded) -> int:
    """Tokens of the last answer of what ends with it, its end marker included."""
    flags = reversed(encoded.trained)
    return next((count for count, trained in enumerate(flags) if not trained), len(encoded))


@dataclass(frozen=True, slots=True)
class RewardScore:
    """A score, and how many tokens of prompt and answer did not fit into the model's context."""

    score: float
    prompt_cut: int = 0
    answer_cut: int = 0


class RewardScorer:
    """A loaded reward model: any sequence classifier of transformers, with its own tokenizer.

    `label` names the output to take of a classifier with several, `template` how conversations
    are written where the model's folder does not say it.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        mean: float,
        deviation: float,
        dtype: str,
        token_budget: int | None = None,
        label: str | int | None = None,
        template: str | None = None,
    ) -> None:
        from espalier.models import load_model, load_tokenizer
        from espalier.scoring import context_limit

        self.mean = mean
        self.deviation = deviation
        self.token_budget = token_budget
        self.tokenizer = load_tokenizer(folder)
        self.template = reward_template(folder, self.tokenizer, template)
        self.model: Any = load_model(folder, kind="reward", dtype=dtype, label=label)
        self.limit = context_limit(self.model)

    def score(
        self,
        prompts: Sequence[Messages],
        answers: Sequence[str],
        metas: Sequence[Mapping[str, Any]],
    ) -> list[float]:
        """One score an answer, in deviations from the mean of reference answers if known.

        What is longer than the model's context loses the oldest tokens of its prompt, then the
        end of its answer.
        """
        return [found.score for found in self.score_counted(prompts, answers, metas)]

    def score_counted(
        self,
        prompts: Sequence[Messages],
        answers: Sequence[str],
        metas: Sequence[Mapping[str, Any]],
    ) -> list[RewardScore]:
        """The same, with how many tokens of each prompt and answer the model could not read."""
        from espalier.encoding import truncate_prompt
        from espalier.fitting import cuts
        from espalier.scoring import reward_scores

        conversations = [
            ((*turns, Message("assistant", answer)), meta)
            for turns, answer, meta in zip(prompts, answers, metas, strict=True)
        ]
        whole = encode_answers(self.tokenizer, self.template, conversations)
        limit = self.limit or None
        read = whole if limit is None else [truncate_prompt(item, limit) for item in whole]
        raw = reward_scores(
            self.model,
            self.tokenizer,
            [item.ids for item in read],
            token_budget=self.token_budget,
        )
        return [
            RewardScore((score - self.mean) / self.deviation, *cuts(item, limit))
            for score, item in zip(raw, whole, strict=True)
        ]
