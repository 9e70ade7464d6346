"""The verb `espalier train`: one training stage of a recipe."""

from __future__ import annotations

import argparse

from espalier.verbs import add_recipe_options, add_verb, run_recipe_stages

SUMMARIES = {
    "base": "train a tiny base model and its tokenizer from scratch",
    "sft": "supervised fine-tuning",
    "reward": "train the reward model",
    "reward_eval": "train the second reward model, for evaluation only",
    "ppo": "PPO, or A2C, against the reward model",
}


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
    return run_recipe_stages(args, [args.training])
