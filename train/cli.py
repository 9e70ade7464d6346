"""The verb `espalier train`: one training stage of a recipe."""

from __future__ import annotations

import argparse
from pathlib import Path

from espalier.verbs import add_processes_option, add_recipe_options, add_verb, recipe_of, run_folder

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
    """Add `train base|sft|reward|reward_eval|ppo|preview|merge|export|push`."""
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
        add_processes_option(stage)
    _add_preview(stages)
    _add_model_verbs(stages)


def _add_preview(stages: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    preview = add_verb(
        stages,
        "preview",
        _preview,
        summary="show what a stage would learn from its rows, without training",
        example="espalier train preview --recipe recipes/demo.yaml --rows 5",
        writes=False,
    )
    add_recipe_options(preview)
    preview.add_argument(
        "--stage",
        choices=("sft", "reward", "reward_eval"),
        default="sft",
        help="whose rows: sft (default), reward or reward_eval",
    )
    preview.add_argument("--rows", type=int, default=3, metavar="N", help="rows to show (3)")
    preview.add_argument("--seed", type=int, metavar="S", help="draws them (default: the stage's)")


def _add_model_verbs(stages: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    merge = add_verb(
        stages,
        "merge",
        _merge,
        summary="merge a folder of adapters into a whole model",
        example="espalier train merge runs/mine/sft/model --output merged/",
    )
    export = add_verb(
        stages,
        "export",
        _export,
        summary="write a model in another number type, with tokenizer and template",
        example="espalier train export runs/mine/ppo/model --output small/ --dtype bf16",
    )
    for parser, default in ((merge, "fp32"), (export, "bf16")):
        parser.add_argument("folder", metavar="FOLDER", type=Path, help="the model's folder")
        parser.add_argument(
            "--output", metavar="FOLDER", type=Path, required=True, help="where to write it (new)"
        )
        parser.add_argument(
            "--dtype",
            choices=("fp32", "bf16", "fp16"),
            default=default,
            help=f"type of the weights ({default})",
        )
        parser.add_argument(
            "--trust-remote-code",
            metavar="MODEL",
            action="append",
            default=[],
            help="run the code that comes with this model (a folder or hub name; repeatable)",
        )
    push = add_verb(
        stages,
        "push",
        _push,
        summary="upload a model folder to the Hugging Face hub (token: $HF_TOKEN)",
        example="espalier train push runs/mine/ppo/model --repo owner/name",
    )
    push.add_argument("folder", metavar="FOLDER", type=Path, help="the model's folder")
    push.add_argument("--repo", metavar="OWNER/NAME", required=True, help="the repository")
    push.add_argument("--public", action="store_true", help="make a new repository public")
    push.add_argument("--message", metavar="TEXT", help="message of the commit")


def _merge(args: argparse.Namespace) -> int:
    from espalier.own_code import allowing
    from espalier.train.export import merge

    with allowing(args.trust_remote_code):
        merge(args.folder, args.output, dtype=args.dtype)
    print(f"merged: {args.output}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from espalier.own_code import allowing
    from espalier.train.export import export

    with allowing(args.trust_remote_code):
        export(args.folder, args.output, dtype=args.dtype)
    print(f"exported: {args.output} ({args.dtype})")
    return 0


def _push(args: argparse.Namespace) -> int:
    from espalier.train.export import push

    print(push(args.folder, args.repo, private=not args.public, message=args.message))
    return 0


def _preview(args: argparse.Namespace) -> int:
    from espalier.train.preview import preview

    recipe = recipe_of(args)
    run = run_folder(args, recipe)
    for text in preview(recipe, run, args.stage, rows=max(0, args.rows), seed=args.seed):
        print(text)
    return 0


def _run(args: argparse.Namespace) -> int:
    from espalier.launch import processes_wanted
    from espalier.running import planned, run_stages

    recipe = recipe_of(args)
    present = planned(recipe)
    companions = [name for name in COMPANIONS.get(args.training, ()) if name in present]
    processes = processes_wanted(args.processes)
    names = [*companions, args.training]
    run_stages(recipe, run_folder(args, recipe), names, processes=processes)
    return 0
