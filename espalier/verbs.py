"""What the verbs of the command line share: recipe options, and running stages of a recipe."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espalier.errors import UsageError

if TYPE_CHECKING:
    from espalier.recipe import Recipe

Handler = Callable[[argparse.Namespace], int]


def add_verb(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    handler: Handler,
    *,
    summary: str,
    example: str,
) -> argparse.ArgumentParser:
    """A verb with its one-line help, its description and an example."""
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(handler=handler)
    return parser


def positive(text: str) -> int:
    """The type of an option that counts: a whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("has to be at least 1")
    return number


def add_recipe_options(parser: argparse.ArgumentParser, *, positional: bool = False) -> None:
    """The recipe (positional, or `--recipe`), `--run`, `--runs-dir` and `--set`."""
    if positional:
        parser.add_argument("recipe", metavar="RECIPE", help="a recipe file (YAML)")
    else:
        parser.add_argument("--recipe", metavar="FILE", help="a recipe file (YAML)")
    parser.add_argument("--run", metavar="NAME", help="name of the run (default: the recipe's)")
    parser.add_argument(
        "--runs-dir", metavar="DIR", default="runs", help="where runs are kept (default: runs)"
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        dest="overrides",
        action="append",
        default=[],
        help="override a recipe key, e.g. --set train.sft.learning_rate=1e-5 (repeatable)",
    )


def add_processes_option(parser: argparse.ArgumentParser) -> None:
    """`--processes`, for the verbs that run training stages."""
    parser.add_argument(
        "--processes",
        metavar="N",
        type=int,
        help="train on N processes of this machine, one a GPU where there are GPUs "
        "(default: $NPROC, else 1)",
    )


def recipe_of(args: argparse.Namespace) -> Recipe:
    """The recipe that the options name, with the overrides applied."""
    from espalier.recipe import load_recipe

    if not args.recipe:
        raise UsageError(
            "No recipe was given.", expected="--recipe FILE", hint="try --recipe recipes/demo.yaml"
        )
    return load_recipe(args.recipe, args.overrides)


def run_folder(args: argparse.Namespace, recipe: Recipe) -> Path:
    """The folder of the run that the options name."""
    return Path(args.runs_dir) / (args.run or recipe.shared.name)


def run_recipe_stages(args: argparse.Namespace, names: Sequence[str] | None) -> int:
    """Load the recipe and bring the named stages (or all) up to date; returns the exit code."""
    from espalier.running import run_stages

    recipe = recipe_of(args)
    run_stages(recipe, run_folder(args, recipe), names)
    return 0
