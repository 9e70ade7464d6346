"""What the verbs of the command line share: recipe options, and running stages of a recipe."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espalier.errors import UsageError

if TYPE_CHECKING:
    from espalier.recipe import Recipe

Handler = Callable[[argparse.Namespace], int]
# What stands for the recipe of the command line in the hints of errors.
_ANY_RECIPE = "--recipe RECIPE"


def add_verb(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    handler: Handler,
    *,
    summary: str,
    example: str,
    writes: bool = True,
) -> argparse.ArgumentParser:
    """A verb with its one-line help, its description and an example.

    A verb that `writes` nothing until its end has nothing to go on from when it is interrupted.
    """
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(handler=handler, writes=writes)
    return parser


def positive(text: str) -> int:
    """The type of an option that counts: a whole number from 1 on."""
    return int(_above_zero(text, int, "whole number above 0, such as 3"))


def above_zero(text: str) -> float:
    """The type of an option that measures: a finite number above 0."""
    return _above_zero(text, float, "number above 0, such as 8 or 0.5")


def within(low: float, high: float, *, above: bool = False) -> Callable[[str], float]:
    """The type of an option that is a number from `low` (`above` it) to `high`."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not low <= number <= high or (above and number == low):
            what = f"above {low:g} and at most" if above else f"from {low:g} to"
            raise argparse.ArgumentTypeError(f"'{text:.20}' is no number {what} {high:g}")
        return number

    return read


def _above_zero(text: str, read: Callable[[str], float], what: str) -> float:
    try:
        number = read(text)
    except ValueError:
        number = 0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"'{text:.20}' is no {what}")
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
    parser.add_argument(
        "--small",
        action="store_true",
        help="the recipe's small variant (`small:`), as a run of its own: NAME-small",
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


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """`--gpu` and `--price`, for estimates."""
    parser.add_argument(
        "--gpu",
        metavar="GPU",
        help="estimate for this machine: h100, a100-80, 4x4090, or GiB of memory (default: "
        "the one at hand)",
    )
    parser.add_argument("--price", metavar="P", type=above_zero, help="USD for an hour of one GPU")


def recipe_of(args: argparse.Namespace) -> Recipe:
    """The recipe that the options name, with the overrides applied."""
    from espalier.recipe import load_recipe

    if not args.recipe:
        raise UsageError(
            "No recipe was given.", expected="--recipe FILE", hint="try --recipe recipes/demo.yaml"
        )
    return load_recipe(args.recipe, args.overrides, small=args.small)


def with_recipe(text: str, args: argparse.Namespace) -> str:
    """The text with the recipe options of this command line for `--recipe RECIPE`, so that a
    command in it can be copied."""
    if _ANY_RECIPE not in text or not getattr(args, "recipe", None):
        return text
    words = ["--recipe", args.recipe, *(["--small"] if args.small else [])]
    words += ["--run", args.run] if args.run else []
    words += ["--runs-dir", args.runs_dir] if args.runs_dir != "runs" else []
    words += [word for change in args.overrides for word in ("--set", change)]
    return text.replace(_ANY_RECIPE, shlex.join(words))


def run_folder(args: argparse.Namespace, recipe: Recipe) -> Path:
    """The folder of the run that the options name."""
    return Path(args.runs_dir) / (args.run or recipe.shared.name)


def run_recipe_stages(args: argparse.Namespace, names: Sequence[str] | None) -> int:
    """Load the recipe and bring the named stages (or all) up to date; returns the exit code."""
    from espalier.running import run_stages

    recipe = recipe_of(args)
    run_stages(recipe, run_folder(args, recipe), names)
    return 0
