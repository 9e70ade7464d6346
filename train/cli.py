"""The verb `espalier train`: one training stage of a recipe."""

from __future__ import annotations

import argparse

from espalier.verbs import add_recipe_options, add_verb, recipe_of, run_folder

SUMMARIES = {
    "base": "train a tiny base model and its tokenizer from scratch",
    "sft": "supervised fine-tuning, after its base where the recipe trains one",
    "reward": "train both reward models, after the pairs that they learn from",
    "reward_eval": "train the second reward model, for evaluation only",
    "ppo": "PPO, or A2C, against the reward model",
}

# What a stage is of no use without, as far as the recipe has it.
COMPANIONS = {"sft": ("base",), "reward": ("pairs", "reward_eval")}


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `train base|sft|reward|reward_eval|ppo`."""
    train = add_verb(
        subparsers,
        "train",
        _run,
        summary="run one training stage of a recipe",
        example="espalier train sft --recipe recipes/demo.yaml --set train.sft.epochs=2",
    )
    stages = train.add_subparsers(dest="training", metavar="STAGE", required=True)
    for name, summary in SUMMARIES.items():
        stage = add_verb(
            stages,
            name,
            _run,
            summary=summary,
            example=f"espalier train {name} --recipe recipes/demo.yaml",
        )
        add_recipe_options(stage)


def _run(args: argparse.Namespace) -> int:
    from espalier.running import planned, run_stages

    recipe = recipe_of(args)
    present = planned(recipe)
    companions = [name for name in COMPANIONS.get(args.training, ()) if name in present]
    run_stages(recipe, run_folder(args, recipe), [*companions, args.training])
    return 0
