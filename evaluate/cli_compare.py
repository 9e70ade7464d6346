"""The verb `espalier compare`: two evaluations side by side, and a gate for a build server."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalier.errors import EXIT_FAILED, UsageError
from espalier.verbs import add_verb

if TYPE_CHECKING:
    from espalier.evaluate.compare import Settings
    from espalier.evaluate.compare_sides import Pair

EXAMPLE = """espalier compare runs/old runs/new --fail-if "rougeL < -1 at 95%" --junit gate.xml
  espalier compare runs/demo:sft runs/demo:ppo --by language"""
OUTPUTS = ("json", "csv", "markdown", "junit")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `compare`."""
    parser = add_verb(
        subparsers,
        "compare",
        _run,
        summary="compare two evaluations; with rules, a gate (exit code 1 where one is broken)",
        example=EXAMPLE,
    )
    parser.add_argument("a", metavar="A", help="what is compared with: RUN or RUN:MODEL")
    parser.add_argument(
        "b", metavar="B", help="what is new: RUN or RUN:MODEL (default: the models of A's names)"
    )
    rules = parser.add_argument_group(
        "rules",
        "METRIC OP NUMBER [at LEVEL%], on the difference B - A (in points where the metric is "
        "in per cent); METRIC[FIELD=VALUE] for a slice, score(METRIC) for B's own score. With a "
        "level the whole interval must satisfy it, without one the value.",
    )
    rules.add_argument(
        "--fail-if", metavar="RULE", action="append", default=[],
        help='fail where this is shown, e.g. "rougeL < -1 at 95%%" (repeatable)',
    )  # fmt: skip
    rules.add_argument(
        "--fail-unless", metavar="RULE", action="append", default=[],
        help='fail unless this is shown, e.g. "rougeL > -1 at 95%%" (repeatable)',
    )  # fmt: skip
    parser.add_argument(
        "--metric", metavar="NAME", action="append", help="compare only this one (repeatable)"
    )
    parser.add_argument(
        "--by", metavar="FIELD", action="append", default=[],
        help="compare each slice of this field as well: language, category, length, … (repeatable)",
    )  # fmt: skip
    parser.add_argument("--test", choices=("permutation", "bootstrap"), help="default: as A's")
    for name, kind, text in (
        ("confidence", float, "level of the intervals, e.g. 0.95"),
        ("power", float, "power for the detectable difference, e.g. 0.8"),
        ("resamples", int, "bootstrap resamples"),
        ("permutations", int, "random exchanges for the p-value"),
        ("seed", int, "seed of the resampling"),
    ):
        parser.add_argument(f"--{name}", type=kind, metavar="N", help=f"{text} (default: A's)")
    for name in OUTPUTS:
        parser.add_argument(
            f"--{name}", metavar="FILE", help=f"write {name} to this file (- for the output)"
        )


def _run(args: argparse.Namespace) -> int:
    from espalier.evaluate.gate import parse_rule

    rules = [parse_rule(text) for text in args.fail_if]
    rules += [parse_rule(text, unless=True) for text in args.fail_unless]
    streamed = [name for name in OUTPUTS if getattr(args, name) == "-"]
    if len(streamed) > 1:
        raise UsageError(f"--{streamed[0]} and --{streamed[1]} can't both go to the output.")

    from espalier.evaluate.compare import compared
    from espalier.evaluate.compare_sides import matched, sides

    pairs = [matched(a, b, args.metric) for a, b in sides(args.a, args.b)]
    result = compared(pairs, _settings(args, pairs), rules)
    if not streamed:
        from espalier.evaluate.compare_output import text

        print(text(result))
    _write(args, result)
    return 0 if result["passed"] else EXIT_FAILED


def _settings(args: argparse.Namespace, pairs: list[Pair]) -> Settings:
    """The options given, else those of A's evaluation."""
    from pydantic import ValidationError

    from espalier.evaluate.compare import Settings
    from espalier.evaluate.config_compare import CompareSettings

    names = ("confidence", "power", "resamples", "permutations", "seed", "test")
    stored = pairs[0].a.stored.settings
    chosen = {
        name: getattr(stored if getattr(args, name) is None else args, name) for name in names
    }
    try:
        checked = CompareSettings(**chosen)
    except ValidationError as error:
        first = error.errors()[0]
        name = first["loc"][0]
        raise UsageError(
            f"--{name} {chosen[str(name)]}: {first['msg']}.", hint="leave it out for A's value"
        ) from error
    return Settings(**checked.model_dump(), by=tuple(dict.fromkeys(args.by)))


def _write(args: argparse.Namespace, result: dict[str, Any]) -> None:
    from espalier.evaluate import compare_output as output
    from espalier.files import atomic_write_text

    made = {
        "json": lambda: json.dumps(result, ensure_ascii=False, indent=1) + "\n",
        "csv": lambda: output.csv_text(result),
        "markdown": lambda: output.markdown(result),
        "junit": lambda: output.junit(result),
    }
    for name in OUTPUTS:
        target = getattr(args, name)
        if target == "-":
            sys.stdout.write(made[name]())
        elif target is not None:
            if Path(target).is_dir():
                raise UsageError(
                    f"--{name} names a folder.", where=target, expected="the name of a file"
                )
            try:
                atomic_write_text(Path(target), made[name]())
            except OSError as error:
                # A build server must not take this for a broken rule (exit code 1).
                raise UsageError(
                    f"--{name} can't be written: {error.strerror}.", where=target
                ) from error
