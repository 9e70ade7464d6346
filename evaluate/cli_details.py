"""The verb `espalier evaluate details`: what the metrics of a finished evaluation say."""

from __future__ import annotations

import argparse
from pathlib import Path

from espalier.errors import InputError, UsageError
from espalier.verbs import add_verb


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `details`."""
    parser = add_verb(
        subparsers,
        "details",
        _run,
        summary="show what each metric means, and scores by label, type, check; distributions",
        example="espalier evaluate details runs/demo --metric reward --metric macro_f1",
    )
    parser.add_argument("folder", metavar="RUN", help="a run folder with a finished evaluation")
    parser.add_argument(
        "--metric",
        dest="metrics",
        action="append",
        default=[],
        metavar="NAME",
        help="only this metric (repeatable)",
    )


def _run(args: argparse.Namespace) -> int:
    from espalier.evaluate.details import details_text
    from espalier.files import read_json

    folder = Path(args.folder)
    path = folder / "evaluate" / "summary.json"
    if not path.is_file():
        raise InputError(
            "There is no finished evaluation.",
            where=str(folder),
            expected="a run folder with evaluate/summary.json",
            hint="run the stage first: espalier evaluate --recipe FILE",
        )
    summary = read_json(path)
    known = [metric["name"] for metric in summary["metrics"]]
    unknown = [name for name in args.metrics if name not in known]
    if unknown:
        raise UsageError(f"The evaluation has no metric '{unknown[0]}'.", expected=", ".join(known))
    print(details_text(summary, args.metrics))
    return 0
