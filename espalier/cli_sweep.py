"""The verb `espalier sweep`: many runs of one recipe, and one page about all of them."""

from __future__ import annotations

import argparse
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalier.errors import EXIT_FAILED, EspalierError, UsageError
from espalier.verbs import (
    above_zero,
    add_machine_options,
    add_recipe_options,
    add_verb,
    positive,
)

if TYPE_CHECKING:
    from espalier.recipe import Draft
    from espalier.sweep import Ended

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"^\s*({_NUMBER})\.\.({_NUMBER})((?::\w*)*)\s*$")
_FLAGS = ("log", "whole")
# As many digits as any seed has: `int` refuses thousands of them.
_SEED = re.compile(r"[+-]?[0-9]{1,18}")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = add_verb(
        subparsers,
        "sweep",
        _sweep,
        summary="run a recipe with all combinations of some of its keys, and compare",
        example="espalier sweep recipes/demo.yaml --over train.sft.epochs=1,3,9 --seeds 3",
    )
    add_recipe_options(parser, positional=True)
    parser.add_argument(
        "--over",
        metavar="KEY=A,B",
        action="append",
        default=[],
        help="values of a recipe key (repeatable: all combinations); with --draws also a range, "
        "KEY=1e-6..1e-4:log or KEY=8..64:whole",
    )
    parser.add_argument(
        "--seeds", metavar="N|A,B", help="so many repeats; or the seeds, e.g. 1,5 or 7,"
    )
    parser.add_argument(
        "--draws", metavar="N", type=positive, help="random search: so many points of --over"
    )
    parser.add_argument(
        "--hours",
        metavar="H",
        type=above_zero,
        help="after so many hours of work (all workers, all restarts) begin no further member",
    )
    parser.add_argument(
        "--processes",
        metavar="N",
        type=int,
        help="members at a time, one a GPU where there are GPUs (default: $NPROC, else 1)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="the members, what they share, what would run, and an estimate of its time",
    )
    add_machine_options(parser)


def _sweep(args: argparse.Namespace) -> int:
    from espalier.launch import processes_wanted
    from espalier.recipe import draft_recipe
    from espalier.sweep import run_sweep
    from espalier.sweep_file import is_sweep, read_sweep
    from espalier.sweep_folder import refuse_other_runs
    from espalier.sweep_members import plan_sweep

    if not args.dry_run and (args.gpu or args.price):
        raise UsageError(
            "--gpu and --price are for the estimate, and this would run the sweep here.",
            hint="add --dry-run",
        )
    draft = draft_recipe(args.recipe, args.overrides, small=args.small)
    plan = plan_sweep(laid_over(draft, args.over, args.seeds, args.draws))
    folder = Path(args.runs_dir) / (args.run or plan.base.shared.name)
    wanted = plan.config.draws
    if wanted is not None and (points := plan.points) < wanted:
        print(f"draws: {wanted} were asked for, of {points} different points; all of them run")
    if args.dry_run:
        from espalier.machine import named_machine
        from espalier.sweep_plan import table

        refuse_other_runs(folder)
        before = read_sweep(folder).members if is_sweep(folder) else []
        machine = named_machine(args.gpu) if args.gpu else None
        known = {member.name: member for member in before}
        print(table(plan, folder, known, machine, args.price))
        return 0
    ended = run_sweep(plan, folder, processes=processes_wanted(args.processes), hours=args.hours)
    return _conclude(folder, ended)


def _conclude(folder: Path, ended: Ended) -> int:
    """Say what became of it and build the page; returns the exit code."""
    from collections import Counter

    from espalier.stages import SWEEP_PAGE, load
    from espalier.sweep_folder import unused

    members = ended.sweep.members
    states = Counter(member.status for member in members)
    told = ", ".join(f"{count} {status}" for status, count in states.items())
    print(f"{len(members)} members: {told}; {ended.ran} stages ran, {ended.shared} were there")
    if left := unused(folder, ended.sweep):
        print(f"{len(left)} folders of {folder}/shared belong to no member now: {', '.join(left)}")
    code = EXIT_FAILED if states["failed"] else 0
    # The folder `reports` may be absent in a cut-down installation.
    if states["done"] and importlib.util.find_spec(SWEEP_PAGE.partition(":")[0]) is not None:
        try:
            print(f"comparison: {load(SWEEP_PAGE)(folder)}")
        except EspalierError as error:
            print(f"There is no page of the comparison: {error.render()}")
            code = EXIT_FAILED
    return code


# --- options over the recipe -----------------------------------------------------------------


def laid_over(draft: Draft, over: list[str], seeds: str | None, draws: int | None) -> Draft:
    """The recipe with the options of the command line laid over its section `sweep`.

    A key of `--over` takes the place of the recipe's levels of that key. Raises UsageError for
    an option that can't be read.
    """
    section = draft.data.get("sweep") or {}
    given = section.get("over") if isinstance(section, dict) else None
    if not isinstance(section, dict) or not isinstance(given or {}, dict):
        # What is wrong with it is said where the recipe is validated.
        return draft
    changed: dict[str, Any] = dict(section)
    levels = dict(given or {})
    keys = [text.partition("=")[0].strip() for text in over]
    for key, text in zip(keys, over, strict=True):
        if not key or "=" not in text or keys.count(key) > 1:
            raise UsageError(
                f"'--over {text}' names no values."
                if keys.count(key) < 2
                else f"--over names '{key}' twice.",
                expected="--over KEY=A,B once a key, for example "
                "--over train.sft.learning_rate=1e-5,1e-4",
            )
        levels[key] = levels_of(text.partition("=")[2], key)
    if levels:
        changed["over"] = levels
    if seeds is not None:
        changed["seeds"] = _seeds(seeds)
    if draws is not None:
        changed["draws"] = draws
    return draft.with_settings({"sweep": changed}) if changed else draft


def levels_of(text: str, key: str) -> list[Any] | dict[str, Any]:
    """`1e-5,1e-4` as values, `1e-6..1e-4:log` as a range; raises UsageError."""
    from yaml import YAMLError

    from espalier.recipe import numbers_in, yaml_value

    found = _RANGE.match(text)
    if found:
        low, high, flags = found.groups()
        unknown = next((flag for flag in flags.split(":")[1:] if flag not in _FLAGS), None)
        if unknown is not None:
            raise UsageError(
                f"The range '--over {key}={text}' has no flag '{unknown}'.",
                expected="KEY=LOW..HIGH with :log, :whole or both behind it",
                hint="quote a text that is no range",
            )
        # 8..64 are numbers of something; 8.0..64 are not.
        whole = all(part.lstrip("+-").isdigit() for part in (low, high))
        return {
            "low": float(low),
            "high": float(high),
            "log": ":log" in flags,
            "whole": whole or ":whole" in flags,
        }
    try:
        values = numbers_in(yaml_value(f"[{text}]"))
    except YAMLError as error:
        raise UsageError(
            f"The values of '--over {key}={text}' are not valid YAML.",
            expected="values with commas between them; quote one that has a comma or a bracket",
        ) from error
    return list(values)


def _seeds(text: str) -> int | list[int]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 1 and not parts[-1]:
        parts.pop()
    if not all(_SEED.fullmatch(part) for part in parts):
        raise UsageError(
            f"'--seeds {text:.60}' is no number of repeats.", expected="--seeds 3, or --seeds 1,5"
        )
    return [int(part) for part in parts] if "," in text else int(parts[0])
