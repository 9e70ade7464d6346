"""The stages `reward` and `reward_eval`: a reward model from preference pairs.

The Bradley-Terry likelihood of the preferred answer (Christiano et al. 2017; Ouyang et al. 2022,
eq. 1), with the pairs' margins where they have one (Touvron et al. 2023, eq. 2), plus a small
weight on the squared score, which keeps scores near zero. The score is read at the token that
ends the answer.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalier.encoding import (
    Encoded,
    encode_conversations,
    through_answer,
    truncate_prompt,
)
from espalier.errors import StageError, require
from espalier.files import atomic_write_json
from espalier.models import fit_to_tokenizer, load_model, load_tokenizer, save_model
from espalier.progress import say
from espalier.records import Message, PreferencePair, messages_id
from espalier.rewarding import NORMALISATION
from espalier.run import StageContext
from espalier.scoring import pad_right, reward_scores, sequence_scores
from espalier.templates import Template, template_of
from espalier.train import checkpoints
from espalier.train.config_parts import Validation
from espalier.train.config_rl import PairSource, RewardConfig
from espalier.train.sources import data_files, model_source, stage_seed

if TYPE_CHECKING:
    from torch import Tensor

ACCURACY = "accuracy.json"
# Two models that share their seed would share their mistakes.
EVALUATION_SEED_STEP = 1000


def inputs(context: StageContext) -> dict[str, Path]:
    """The pair files, and the model folders that the result depends on."""
    found = data_files(context, [source.path for source in pair_sources(context)])
    for name, text in (("model", start_of(context)), ("policy", "sft")):
        folder = _folder(context, text)
        if folder is not None:
            found[name] = folder
    return found


def run(context: StageContext) -> dict[str, Any]:
    """Train the reward model; writes model/, model/reward.json, accuracy.json; returns counts."""
    require("torch", extra="train", feature="Training a reward model")
    from espalier.train.actors import exact_head
    from espalier.train.trainer import fit

    options: RewardConfig = context.options
    seed = reward_seed(context)
    source = model_source(context, start_of(context))
    tokenizer, template = reading_of(context, source)
    model = exact_head(load_model(source, kind="reward", head_seed=seed))
    fit_to_tokenizer(model, tokenizer)
    limit = min(options.max_length, getattr(model.config, "max_position_embeddings", None) or 10**9)
    train, held_out = split_by_prompt(read_all(context, seed), options, seed)
    rows, lost = encode_pairs(tokenizer, template, train, limit, options)
    checks, _ = encode_pairs(tokenizer, template, held_out, limit, options)
    say(f"  {len(rows):,} pairs to train on, {len(checks):,} held out, {sum(lost.values()):,} lost")
    result = fit(
        model,
        rows,
        BradleyTerry(tokenizer.pad_token_id, options.center_coefficient),
        options,
        folder=context.folder,
        seed=seed,
        validation=Validation.model_validate({"every": options.validate_every}),
        validation_rows=checks,
    )
    accuracy, normal = measure(model, tokenizer, checks, options.token_budget)
    atomic_write_json(context.folder / ACCURACY, accuracy)
    save_model(model, tokenizer, template.name, context.folder / "model")
    atomic_write_json(context.folder / "model" / NORMALISATION, normal)
    checkpoints.clear(context.folder / "checkpoints")
    say(
        f"  accuracy on held-out pairs {accuracy['accuracy']:.3f} "
        f"[{accuracy['low']:.3f}, {accuracy['high']:.3f}]"
    )
    return {**result, "lost": lost, "accuracy": accuracy["accuracy"], "normalisation": normal}


def plan(context: StageContext) -> list[str]:
    """What the stage will do, for `espalier recipe explain`."""
    names = ", ".join(source.path for source in pair_sources(context))
    return [f"from {start_of(context)}, {context.options.epochs:g} epochs over {names}"]


# What it starts from ----------------------------------------------------------------------


def pair_sources(context: StageContext) -> list[PairSource]:
    """The recipe's files; by default those of curate and (where there are any) of pairs."""
    options: RewardConfig = context.options
    if options.pairs is not None:
        return [s for s in options.pairs if not s.optional or context.path(s.path).exists()]
    name = "preferences_eval.jsonl" if _for_evaluation(context) else "preferences.jsonl"
    sources = [PairSource.model_validate({"path": f"curate/{name}"})]
    if context.path(f"pairs/{name}").exists():
        sources.append(PairSource.model_validate({"path": f"pairs/{name}"}))
    return sources


def start_of(context: StageContext) -> str:
    """The model to start from: the recipe's, else sft; for the evaluation rather base."""
    options: RewardConfig = context.options
    if options.model is not None:
        return options.model
    trained_base = (context.stage_folder("base") / "model").is_dir()
    return "base" if _for_evaluation(context) and trained_base else "sft"


def reward_seed(context: StageContext) -> int:
    """The stage's seed; the evaluation's reward model has one of its own."""
    own = _for_evaluation(context) and context.options.seed is None
    return stage_seed(context) + (EVALUATION_SEED_STEP if own else 0)


def reading_of(context: StageContext, source: Path | str) -> tuple[Any, Template]:
    """Tokenizer and template: the policy's where this model knows its tokens, else its own."""
    options: RewardConfig = context.options
    own = load_tokenizer(source)
    folder = _folder(context, "sft")
    if folder is not None:
        policys = load_tokenizer(folder)
        if own.get_vocab().items() <= policys.get_vocab().items():
            return policys, template_of(folder, tokenizer=policys, name=options.template)
    return own, template_of(source, tokenizer=own, name=options.template)


def _for_evaluation(context: StageContext) -> bool:
    return context.stage == "reward_eval"


def _folder(context: StageContext, text: str) -> Path | None:
    """A model's local folder; None for a hub name and for a policy that this run has not."""
    if text == "sft" and not (context.stage_folder("sft") / "model").is_dir():
        return None
    source = model_source(context, text)
    return source if isinstance(source, Path) and source.exists() else None


# Pairs ------------------------------------------------------------------------------------


def read_all(context: StageContext, seed: int) -> list[tuple[PreferencePair, int]]:
    """All pairs with how often each is used; limits are drawn by the seed."""
    from espalier.formats.read import read_pairs

    found = []
    for source in pair_sources(context):
        pairs = list(read_pairs(context.path(source.path), format=source.format))
        if source.limit is not None and source.limit < len(pairs):
            chosen = random.Random(f"{seed}:{source.path}").sample(range(len(pairs)), source.limit)
            pairs = [pairs[i] for i in sorted(chosen)]
        found += [(pair, source.weight) for pair in pairs]
    return found


def split_by_prompt(
    pairs: Sequence[tuple[PreferencePair, int]], options: RewardConfig, seed: int
) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """(training pairs, each as often as its file says; held-out pairs): no prompt is in both."""
    groups: dict[str, list[tuple[PreferencePair, int]]] = defaultdict(list)
    for pair, weight in pairs:
        groups[messages_id(pair.prompt)].append((pair, weight))
    names = list(groups)
    random.Random(f"{seed}:held out").shuffle(names)
    wanted = min(options.validation_limit, round(len(pairs) * options.validation_fraction))
    held_out: list[PreferencePair] = []
    while names and len(held_out) < max(wanted, 1):
        held_out += [pair for pair, _ in groups.pop(names.pop())]
    train = [pair for group in groups.values() for pair, weight in group for _ in range(weight)]
    if not train:
        raise StageError(
            f"{len(pairs):,} preference pairs are too few to train on and to measure with.",
            expected="pairs on at least two prompts",
            hint="add files to train.reward.pairs, or make more pairs in curate",
        )
    return train, held_out


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """Token ids of both conversations, up to the end of the answer."""

    chosen: list[int]
    rejected: list[int]
    margin: float
    kind: str
    language: str


def encode_pairs(
    tokenizer: Any,
    template: Template,
    pairs: Sequence[PreferencePair],
    limit: int,
    options: RewardConfig,
) -> tuple[list[EncodedPair], dict[str, int]]:
    """Encode both sides of each pair; counts pairs lost as too long or with equal sides.

    Raises StageError when none is left, or for a long one where the recipe says "stop".
    """
    sides = [
        encode_conversations(
            tokenizer,
            template,
            [((*p.prompt, Message("assistant", _side(p, name))), p.meta) for p in pairs],
        )
        for name in ("chosen", "rejected")
    ]
    rows, lost = [], {"too_long": 0, "equal": 0}
    for pair, *both in zip(pairs, *sides, strict=True):
        fitted = [_fit(through_answer(side), limit, pair, options) for side in both]
        if any(side is None for side in fitted):
            lost["too_long"] += 1
            continue
        chosen, rejected = ([] if side is None else side.ids for side in fitted)
        if chosen == rejected:
            lost["equal"] += 1
            continue
        margin = pair.margin if options.margin and pair.margin is not None else 0.0
        kind, language = (str(pair.meta.get(key, "other")) for key in ("kind", "language"))
        rows.append(EncodedPair(chosen, rejected, margin, kind, language))
    if not rows:
        raise StageError(
            f"None of {len(pairs):,} preference pairs can be used.",
            expected=f"two different answers that fit in {limit} tokens with their prompt",
            hint="look at the files with `espalier inspect FILE`",
        )
    return rows, lost


def _side(pair: PreferencePair, name: str) -> str:
    return pair.chosen if name == "chosen" else pair.rejected


def _fit(
    encoded: Encoded, limit: int, pair: PreferencePair, options: RewardConfig
) -> Encoded | None:
    if len(encoded) <= limit:
        return encoded
    if options.over_long == "stop":
        raise StageError(
            f"A preference pair has {len(encoded):,} tokens.",
            where=f"pair {pair.id}",
            expected=f"at most {limit:,} (max_length)",
            hint="raise max_length, or set over_long to truncate or drop",
        )
    return None if options.over_long == "drop" else truncate_prompt(encoded, limit)


# Loss and accuracy ------------------------------------------------------------------------


class BradleyTerry:
    """-log sigmoid(chosen - rejected - margin), plus `center` times the mean squared score.

    Both sides of a pair go through one forward pass. Sums; the trainer divides by the pairs.
    """

    def __init__(self, pad: int, center: float) -> None:
        self._pad = pad
        self._center = center

    def cost(self, row: EncodedPair) -> int:
        return 2 * max(len(row.chosen), len(row.rejected))

    def weight(self, row: EncodedPair) -> int:
        return 1

    def loss(self, model: Any, rows: Sequence[EncodedPair]) -> tuple[Tensor, dict[str, Tensor]]:
        import torch

        device = next(model.parameters()).device
        sequences = [row.chosen for row in rows] + [row.rejected for row in rows]
        lengths = torch.tensor([len(ids) for ids in sequences], device=device)
        scores = sequence_scores(model, pad_right(sequences, self._pad, device), lengths)
        chosen, rejected = scores.chunk(2)
        margins = torch.tensor([row.margin for row in rows], device=device)
        losses = torch.nn.functional.softplus(rejected + margins - chosen)
        squares = (chosen**2 + rejected**2) / 2
        return (losses + self._center * squares).sum(), {
            "accuracy": (chosen > rejected).float().sum().detach(),
            "margin": (chosen - rejected).sum().detach(),
        }


def measure(
    model: Any, tokenizer: Any, rows: Sequence[EncodedPair], token_budget: int
) -> tuple[dict[str, Any], dict[str, float]]:
    """(accuracy.json, reward.json): pair accuracy in all and by kind and language; the mean and
    deviation of the scores of the chosen answers, each counted once. Scored in float32.
    """
    chosen = reward_scores(model, tokenizer, [r.chosen for r in rows], token_budget=token_budget)
    other = reward_scores(model, tokenizer, [r.rejected for r in rows], token_budget=token_budget)
    wins = [a > b for a, b in zip(chosen, other, strict=True)]

    def by(key: Callable[[EncodedPair], str]) -> dict[str, dict[str, float]]:
        groups: dict[str, list[bool]] = defaultdict(list)
        for row, win in zip(rows, wins, strict=True):
            groups[key(row)].append(win)
        return {name: share(groups[name]) for name in sorted(groups)}

    accuracy = {
        "pairs": len(rows),
        **share(wins),
        "by_kind": by(lambda row: row.kind),
        "by_language": by(lambda row: row.language),
    }
    once = {tuple(row.chosen): score for row, score in zip(rows, chosen, strict=True)}.values()
    mean = sum(once) / len(once)
    deviation = (sum((s - mean) ** 2 for s in once) / len(once)) ** 0.5
    return accuracy, {"mean": mean, "deviation": deviation, "answers": len(once)}


def share(wins: Iterable[bool]) -> dict[str, float]:
    """How often the chosen answer scored strictly higher, with its 95 % Wilson interval."""
    values = list(wins)
    n, p = len(values), sum(values) / len(values)
    z = 1.959963984540054
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5 / (1 + z * z / n)
    return {"n": n, "accuracy": p, "low": max(0.0, middle - half), "high": min(1.0, middle + half)}
