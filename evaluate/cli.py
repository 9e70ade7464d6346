"""The verb `espalier evaluate`: the stage of a recipe, or models and files of answers alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalier.errors import UsageError
from espalier.evaluate import cli_compare, cli_details, cli_parity, cli_ratings
from espalier.verbs import add_recipe_options, add_verb, recipe_of, run_folder

if TYPE_CHECKING:
    from espalier.recipe import Recipe

EXAMPLE = """espalier evaluate --recipe recipes/demo.yaml
  espalier evaluate --set prompts.jsonl --predictions mine=mine.jsonl \\
      --predictions theirs=theirs.jsonl --model sft=models/sft --output compared"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `evaluate`, `parity` and `details` below it, `compare` and `ratings`."""
    cli_compare.register(subparsers)
    cli_ratings.register(subparsers)
    parser = add_verb(
        subparsers,
        "evaluate",
        _run,
        summary="answer the held-out set with every model, score and compare",
        example=EXAMPLE,
    )
    add_recipe_options(parser)
    alone = parser.add_argument_group(
        "without a recipe", "`--set FILE` is then the set of prompts (KEY=VALUE still overrides)"
    )
    alone.add_argument(
        "--predictions",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="answers made elsewhere (repeatable)",
    )
    alone.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="a model folder or hub name that answers here (repeatable)",
    )
    alone.add_argument(
        "--output",
        metavar="DIR",
        help="folder for the result; it is a run folder, with evaluate/ in it",
    )
    alone.add_argument("--baseline", metavar="NAME", help="compare with this one (default: first)")
    alone.add_argument("--reward-model", metavar="FOLDER", help="score with this reward model")
    alone.add_argument("--limit", type=int, metavar="N", help="only the first N prompts")
    more = parser.add_subparsers(dest="evaluation", metavar="")
    cli_parity.register(more)
    cli_details.register(more)


def _run(args: argparse.Namespace) -> int:
    from espalier.running import run_stages

    if args.recipe:
        _refuse_mixture(args)
        recipe = recipe_of(args)
        folder = run_folder(args, recipe)
    else:
        recipe = _alone(args)
        folder = Path(args.output)
    outcome = run_stages(recipe, folder, ["evaluate"])["evaluate"]
    if outcome == "up to date":
        _print_table(folder / "evaluate" / "summary.json")
    return 0


def _print_table(path: Path) -> None:
    from espalier.evaluate.table import headline
    from espalier.files import read_json

    print(headline(read_json(path)))


def _refuse_mixture(args: argparse.Namespace) -> None:
    for name in ("predictions", "model", "output", "baseline", "reward_model", "limit"):
        if getattr(args, name) not in (None, []):
            option = "--" + name.replace("_", "-")
            raise UsageError(
                f"{option} and --recipe don't go together.",
                hint=f"put it into the recipe below `evaluate:`, or leave out {option}",
            )


def _alone(args: argparse.Namespace) -> Recipe:
    """The recipe that the options amount to."""
    from espalier.recipe import recipe_from

    sets, overrides = _split(args.overrides)
    if len(sets) != 1 or not args.output or not (args.predictions or args.model):
        raise UsageError(
            "Say what to evaluate.",
            expected="--recipe FILE, or --set FILE, --output DIR and at least one "
            "--predictions NAME=FILE or --model NAME=FOLDER",
            hint=f"for example: {EXAMPLE.splitlines()[0]}",
        )
    models = [
        {"name": name, "predictions": _absolute(file)}
        for name, file in map(_named, args.predictions)
    ]
    models += [{"name": name, "path": _absolute(place)} for name, place in map(_named, args.model)]
    evaluate: dict[str, Any] = {"set": _absolute(sets[0]), "models": models}
    for key in ("baseline", "limit"):
        if getattr(args, key) is not None:
            evaluate[key] = getattr(args, key)
    if args.reward_model:
        evaluate["reward_model"] = _absolute(args.reward_model)
    name = args.run or Path(args.output).resolve().name
    return recipe_from({"name": name, "evaluate": evaluate}, overrides)


def _split(values: list[str]) -> tuple[list[str], list[str]]:
    """Of what follows `--set`: files, and overrides of recipe keys."""
    files = [text for text in values if "=" not in text or Path(text).exists()]
    return files, [text for text in values if text not in files]


def _absolute(text: str) -> str:
    # A relative path such as curate/eval.jsonl would be looked for in the run folder.
    path = Path(text).expanduser()
    return str(path.resolve()) if path.exists() else text


def _named(text: str) -> tuple[str, str]:
    name, separator, rest = text.partition("=")
    if not separator or not name or not rest:
        raise UsageError(
            f"'{text}' has no name.", expected="NAME=FILE, for example mine=answers.jsonl"
        )
    return name, rest
