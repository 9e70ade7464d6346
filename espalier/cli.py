"""The command line: `espalier VERB …`. Verbs of a stage come from that stage's `cli.py`.

Exit codes: 0 done or up to date, 1 failed, 2 wrong usage or input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING

import espalier
from espalier import cli_models, cli_new, cli_sweep
from espalier.arguments import Parser
from espalier.errors import EXIT_FAILED, EXIT_INTERRUPTED, EspalierError
from espalier.stages import NAMES, VERBS, load
from espalier.verbs import (
    add_machine_options,
    add_processes_option,
    add_recipe_options,
    add_verb,
    recipe_of,
    run_folder,
    with_recipe,
)

if TYPE_CHECKING:
    from espalier.recipe import Recipe


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    # The terminal (or a log) may be in a locale that lacks Chinese; the text must not fail.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    args = build_parser().parse_args(argv)
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        code = args.handler(args)
        sys.stdout.flush()
        return int(code)
    except EspalierError as error:
        print(f"espalier: {with_recipe(error.render(), args)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        # An interrupt within some `exec` (making a dataclass does one) leaves CPython a mark that
        # ends the process by the signal, though it was caught; the next `exec` takes it away.
        exec("")
        left = (
            "the same command goes on from what is done"
            if getattr(args, "writes", True)
            else "nothing was written"
        )
        print(f"\nespalier: interrupted; {left}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe went away (`espalier … | head`): nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        print(f"espalier: {_os_message(error)}", file=sys.stderr)
        return EXIT_FAILED
    finally:
        signal.signal(signal.SIGTERM, previous)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _os_message(error: OSError) -> str:
    place = f"\n  where: {error.filename}" if error.filename else ""
    return f"The system refused a file operation: {error.strerror}.{place}"


def build_parser() -> argparse.ArgumentParser:
    """The parser with every verb; imports no heavy package."""
    parser: argparse.ArgumentParser = Parser(
        prog="espalier",
        description="Curate instruction data, train on it, evaluate what came out, report it.",
        epilog="example:\n  espalier run recipes/demo.yaml\n\n"
        "exit codes: 0 done or up to date, 1 failed, 2 wrong usage or input, 130 interrupted",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"espalier {espalier.__version__}")
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    run = add_verb(
        subparsers,
        "run",
        _run,
        summary="run a recipe, or some of its stages",
        example="espalier run recipes/demo.yaml --stage sft --set train.sft.epochs=2",
    )
    add_recipe_options(run, positional=True)
    add_processes_option(run)
    run.add_argument(
        "--stage",
        action="append",
        choices=NAMES,
        metavar="STAGE",
        help=f"only this stage (repeatable): {', '.join(NAMES)}",
    )
    run.add_argument("--dry-run", action="store_true", help="say what would run, and why")
    for module in VERBS:
        # A stage folder may be absent in a cut-down installation.
        if importlib.util.find_spec(module) is not None:
            load(module).register(subparsers)
    _register_trunk(subparsers)
    return parser


def _register_trunk(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    inspect = add_verb(
        subparsers,
        "inspect",
        _inspect,
        summary="say what a dataset file holds",
        example="espalier inspect data.jsonl",
        writes=False,
    )
    inspect.add_argument("file", metavar="FILE", help="a dataset file or folder")
    inspect.add_argument("--format", default="auto", help="name the format instead of detecting it")
    recipe = add_verb(
        subparsers,
        "recipe",
        _recipe,
        summary="explain or validate a recipe",
        example="espalier recipe explain recipes/demo.yaml",
        writes=False,
    )
    recipe.add_argument("action", choices=("explain", "validate"))
    add_recipe_options(recipe, positional=True)
    add_machine_options(recipe)
    add_verb(
        subparsers,
        "doctor",
        _doctor,
        summary="say what is installed, what is missing, and what this machine has",
        example="espalier doctor",
        writes=False,
    )
    cli_sweep.register(subparsers)
    cli_models.register(subparsers)
    cli_new.register(subparsers)


def _run(args: argparse.Namespace) -> int:
    recipe = recipe_of(args)
    run = run_folder(args, recipe)
    if args.dry_run:
        from espalier.explain import dry_run

        print(dry_run(recipe, run, args.stage))
        return 0
    from espalier.launch import processes_wanted
    from espalier.running import run_stages

    run_stages(recipe, run, args.stage, processes=processes_wanted(args.processes))
    report = run / "report.html"
    if report.is_file():
        print(f"report: {report}")
    return 0


def _inspect(args: argparse.Namespace) -> int:
    from espalier.inspection import inspect_file

    print(inspect_file(args.file, format=args.format))
    return 0


def _recipe(args: argparse.Namespace) -> int:
    from espalier.explain import explain
    from espalier.running import planned

    recipe = recipe_of(args)
    if args.action == "validate":
        stages = ", ".join(planned(recipe)) or "none"
        print(f"{args.recipe}: valid; stages: {stages}{_sweep_of(args, recipe)}")
    else:
        folder = run_folder(args, recipe)
        print(explain(recipe, folder, gpu=args.gpu, price=args.price))
    return 0


def _sweep_of(args: argparse.Namespace, recipe: Recipe) -> str:
    """What is said of the section `sweep`, with every member of it valid; empty without one."""
    from espalier.recipe import draft_recipe
    from espalier.sweep_members import plan_sweep, varies

    config = recipe.section("sweep")
    if config is None or not varies(config):
        return ""
    draft = draft_recipe(args.recipe, args.overrides, small=args.small)
    return f"; {len(plan_sweep(draft).members)} members"


def _doctor(args: argparse.Namespace) -> int:
    from espalier.doctor import report

    print(report())
    return 0


def entry() -> None:
    """Console-script entry: exit with the code of `main`."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
