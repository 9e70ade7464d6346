"""The stages `reward` and `reward_eval`: a reward model from preference pairs.

The Bradley-Terry likelihood of the preferred answer, with margins and centring (`reward_loss`);
the score is read at the token that ends the answer. Any causal or sequence-classification model
can be the start; it reads with the policy's tokenizer where it knows its tokens, else its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalier.errors import UsageError, require
from espalier.files import atomic_write_json
from espalier.models import add_markers, fit_to_tokenizer, load_model, load_tokenizer, save_model
from espalier.progress import say
from espalier.rewarding import NORMALISATION, reward_template
from espalier.run import StageContext
from espalier.scoring import context_limit
from espalier.templates import Template, template_of
from espalier.train import checkpoints
from espalier.train.config_parts import Validation
from espalier.train.config_rl import RewardConfig
from espalier.train.label_noise import swap_labels
from espalier.train.reward_pairs import (
    EncodedPair,
    EncodedRanking,
    Row,
    encode_pairs,
    group_rankings,
    pair_sources,
    split,
)
from espalier.train.sources import (
    data_files,
    model_source,
    stage_seed,
    template_input,
    template_name,
)

if TYPE_CHECKING:
    from espalier.train.reward_loss import BradleyTerry

ACCURACY = "accuracy.json"
# Two models that share their seed would share their mistakes.
EVALUATION_SEED_STEP = 1000
# Tokens that sharing the prompt must save a pair, on average, for `share_prompts: auto`.
WORTH_SHARING = 64


def inputs(context: StageContext) -> dict[str, Path]:
    """The pair files, and the model folders that the result depends on."""
    options: RewardConfig = context.options
    sources = [*pair_sources(context), *(options.validation or [])]
    found = data_files(context, [source.path for source in sources])
    found |= template_input(context, options.template)
    for name, text in (("model", start_of(context)), ("policy", "sft")):
        folder = _folder(context, text)
        if folder is not None:
            found[name] = folder
    return found


def run(context: StageContext) -> dict[str, Any]:
    """Train the reward model; writes model/, model/reward.json, accuracy.json; returns counts."""
    require("torch", extra="train", feature="Training a reward model")
    from espalier.train.reward_model import merged, prepared
    from espalier.train.reward_report import measure
    from espalier.train.trainer import fit

    options: RewardConfig = context.options
    seed = reward_seed(context)
    source = model_source(context, start_of(context))
    tokenizer, template = reading_of(context, source)
    model = load_model(source, kind="reward", head_seed=seed, label=options.label)
    new = add_markers(model, tokenizer, template.special_tokens)
    fit_to_tokenizer(model, tokenizer)
    limit = length_limit(context, model)
    train, held_out, leaked = split(context, seed)
    train, swapped = swap_labels(train, options.flip, seed)
    pairs, lost = encode_pairs(tokenizer, template, train, limit, options)
    checks, _ = encode_pairs(tokenizer, template, held_out, limit, options)
    lost |= {"held_out_prompt": leaked} if leaked else {}
    flipped = sum(pair.id in swapped for pair in pairs)
    rows = rows_of(pairs, options)
    check_rankings(rows, options, context.stage)
    wrapped = prepared(model, options, seed, new)
    task = loss_of(model, tokenizer, rows, options)
    say(
        f"  {len(pairs):,} pairs to train on, {len(checks):,} held out, {sum(lost.values()):,} "
        f"lost, template {template.name}{', prompts shared' if task.shared else ''}"
        + (f", {flipped:,} with swapped labels" if flipped else "")
    )
    result = fit(
        wrapped,
        rows,
        task,
        options,
        folder=context.folder,
        seed=seed,
        validation=Validation.model_validate(
            {
                "every": options.validate_every,
                "keep_best": options.keep_best,
                "patience": options.patience,
            }
        ),
        validation_rows=rows_of(checks, options),
    )
    model = merged(wrapped)
    accuracy, normal = measure(model, tokenizer, checks, options.token_budget)
    if options.keep_best:
        accuracy["reliability"].append("The best weights were chosen on these very pairs.")
    if flipped:
        accuracy["reliability"].append(
            f"The labels of {flipped:,} of {len(pairs):,} training pairs were swapped on purpose."
        )
    atomic_write_json(context.folder / ACCURACY, accuracy)
    save_model(model, tokenizer, template.name, context.folder / "model")
    atomic_write_json(context.folder / "model" / NORMALISATION, normal)
    checkpoints.clear(context.folder / "checkpoints")
    say(
        f"  accuracy on held-out pairs {accuracy['accuracy']:.3f} "
        f"[{accuracy['low']:.3f}, {accuracy['high']:.3f}]"
    )
    return {
        **result,
        "pairs": len(pairs),
        "lost": lost,
        "flipped": flipped,
        "template": template.name,
        "shared_prompts": task.shared,
        "accuracy": accuracy["accuracy"],
        "normalisation": normal,
    }


def plan(context: StageContext) -> list[str]:
    """What the stage will do, for `espalier recipe explain`."""
    options: RewardConfig = context.options
    names = ", ".join(source.path for source in pair_sources(context))
    how = f"from {start_of(context)}, {options.epochs:g} epochs over {names}"
    how += ", whole rankings" if options.group_rankings else ""
    how += f", {options.flip:.0%} of the labels swapped" if options.flip else ""
    how += f", adapters of rank {options.lora.r}" if options.lora is not None else ""
    return [how]


# What it starts from ----------------------------------------------------------------------


def start_of(context: StageContext) -> str:
    """The model to start from: the recipe's, else sft; for the evaluation rather base."""
    options: RewardConfig = context.options
    if options.model is not None:
        return options.model
    trained_base = (context.stage_folder("base") / "model").is_dir()
    return "base" if context.stage == "reward_eval" and trained_base else "sft"


def reward_seed(context: StageContext) -> int:
    """The stage's seed; the evaluation's reward model has one of its own."""
    own = context.stage == "reward_eval" and context.options.seed is None
    return stage_seed(context) + (EVALUATION_SEED_STEP if own else 0)


def reading_of(context: StageContext, source: Path | str) -> tuple[Any, Template]:
    """The tokenizer and the template that a reward model from `source` reads with.

    1. Where the run has a policy (sft) whose tokenizer gives every token of this model the same
       id, both are the policy's: the reward model then reads the very ids that were sampled.
    2. Else the tokenizer is the model's own, and answers are written anew for it as text.
       Its template is the recipe's `template`, else what the model says (template.json, its chat
       template, an encoder's form for two texts), else the policy's.
    """
    options: RewardConfig = context.options
    named = template_name(context, options.template)
    own = load_tokenizer(source)
    folder = _folder(context, "sft")
    if folder is None:
        return own, reward_template(source, own, named)
    policys = load_tokenizer(folder)
    if own.get_vocab().items() <= policys.get_vocab().items():
        return policys, template_of(folder, tokenizer=policys, name=named)
    try:
        return own, reward_template(source, own, named)
    except UsageError:
        if named is not None:
            raise
        name = template_of(folder, tokenizer=policys).name
        return own, template_of(source, tokenizer=own, name=name)


def length_limit(context: StageContext, model: Any) -> int:
    """Tokens that a conversation may have: the recipe's, or fewer where the model has no more."""
    options: RewardConfig = context.options
    return min(options.max_length, context_limit(model) or options.max_length)


def _folder(context: StageContext, text: str) -> Path | None:
    """A model's local folder; None for a hub name and for a policy that this run has not."""
    if text == "sft" and not (context.stage_folder("sft") / "model").is_dir():
        return None
    source = model_source(context, text)
    return source if isinstance(source, Path) and source.exists() else None


# What it trains on ------------------------------------------------------------------------


def rows_of(pairs: Sequence[EncodedPair], options: RewardConfig) -> list[Row]:
    """The rows of a minibatch: pairs, or whole rankings."""
    return group_rankings(pairs) if options.group_rankings else list(pairs)


def check_rankings(rows: Sequence[Row], options: RewardConfig, stage: str = "reward") -> None:
    """Raises UsageError where rankings are asked for and no row is one."""
    if options.group_rankings and not any(isinstance(row, EncodedRanking) for row in rows):
        raise UsageError(
            f"No two of {len(rows):,} pairs are of one ranking.",
            where=f"train.{stage}.group_rankings",
            expected="pairs with meta.ranking, as a ranking's file is read",
            hint="leave group_rankings out, or add rankings to the pairs",
        )


def loss_of(model: Any, tokenizer: Any, rows: Sequence[Row], options: RewardConfig) -> BradleyTerry:
    """The loss, with prompts shared where that is asked for, worth it, and right for the model.

    Raises UsageError where it is asked for and the model can't.
    """
    from espalier.scoring import separator_of
    from espalier.train.reward_loss import BradleyTerry
    from espalier.train.shared_prompts import can_share, tree_size

    answers = [row.answers for row in rows]
    asked = options.share_prompts
    if asked == "auto":
        saved = sum(sum(map(len, own)) - tree_size(own) for own in answers)
        wanted = saved >= WORTH_SHARING * len(rows)
    else:
        wanted = asked
    shared = wanted and can_share(model, answers, tokenizer.pad_token_id)
    if asked is True and not shared:
        raise UsageError(
            "This model can't take a prompt once for several answers.",
            where="train.reward.share_prompts",
            expected="a causal model without dropout and without a sliding window",
            hint="leave share_prompts out",
        )
    return BradleyTerry(
        tokenizer.pad_token_id,
        options.center_coefficient,
        shared=shared,
        separator=separator_of(model, tokenizer),
    )
