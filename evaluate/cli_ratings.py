"""The verb `espalier ratings`: blind sheets to fill in, how far raters agree, preference pairs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from espalier.errors import UsageError
from espalier.evaluate import cli_rated
from espalier.verbs import add_verb, positive

if TYPE_CHECKING:
    from espalier.rubrics import Scale

EXAMPLE = """espalier ratings sheet runs/demo --output pairs.csv --count 100
  espalier ratings sheet runs/demo --kind marks --rubric hhh --output marks.csv
  espalier ratings agreement ann.csv bo.csv
  espalier ratings preferences runs/demo ann.csv bo.csv --output preferences.jsonl
  espalier evaluate --recipe mine.yaml --set 'evaluate.ratings={files: [ann.csv, bo.csv]}'"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `ratings`."""
    parser = add_verb(
        subparsers,
        "ratings",
        _help,
        summary="have people rate answers blind, and see how far they agree",
        example=EXAMPLE,
    )
    parser.set_defaults(parser=parser)
    parts = parser.add_subparsers(metavar="PART")
    sheet = add_verb(
        parts,
        "sheet",
        _sheet,
        summary="write a blind sheet of a run's answers, to be filled in",
        example=EXAMPLE.splitlines()[0],
    )
    sheet.add_argument("run", metavar="RUN", help="a run folder with a finished evaluation")
    sheet.add_argument("--output", required=True, metavar="FILE", help="a .csv or .jsonl file")
    sheet.add_argument(
        "--kind", choices=("pairs", "marks"), default="pairs",
        help="two answers to choose from, or single answers to mark (default: pairs)",
    )  # fmt: skip
    sheet.add_argument(
        "--rubric", default="quality", metavar="RUBRIC",
        help="what single answers are marked for: quality, hhh, or the file of a rubric of your "
        "own (default: quality)",
    )  # fmt: skip
    sheet.add_argument("--models", metavar="A,B", help="only the answers of these models")
    sheet.add_argument("--count", type=positive, metavar="N", help="at most N rows")
    sheet.add_argument("--seed", type=int, default=1, help="draws rows and order (default: 1)")
    agreement = add_verb(
        parts,
        "agreement",
        _agreement,
        summary="Krippendorff's alpha of files of ratings",
        example=EXAMPLE.splitlines()[2].strip(),
    )
    agreement.add_argument("files", nargs="+", metavar="FILE", help="filled-in files of ratings")
    agreement.add_argument(
        "--rubric", action="append", default=[], metavar="FILE",
        help="a rubric of your own that they are filled in by (repeatable)",
    )  # fmt: skip
    cli_rated.register(parts)


def _help(args: argparse.Namespace) -> int:
    args.parser.print_help()
    return 0


def _sheet(args: argparse.Namespace) -> int:
    from espalier.blind import read_answers
    from espalier.evaluate.rating_sheet import sheet_rows, write_sheet
    from espalier.progress import say

    scale = _scale(args.rubric)
    models = [name.strip() for name in (args.models or "").split(",") if name.strip()]
    rows = sheet_rows(
        read_answers(Path(args.run)),
        args.kind,
        scale=scale,
        models=models,
        count=args.count,
        seed=args.seed,
    )
    write_sheet(Path(args.output), rows)
    parts = [f"1 to 5 in {', '.join(scale.marks)}"] if scale.marks else []
    parts += [f"pass or fail in {', '.join(scale.checks)}"] if scale.checks else []
    fill = "A, B or tie in verdict" if args.kind == "pairs" else "; ".join(parts)
    say(f"{len(rows):,} rows in {args.output}: fill in {fill}. One copy a rater, named after them")
    if args.kind == "marks":
        for name, text in scale.about.items():
            say(f"  {name}: {text}")
    return 0


def _agreement(args: argparse.Namespace) -> int:
    from espalier.evaluate.rating_files import files_agreement
    from espalier.evaluate.ratings import Criteria, read_ratings
    from espalier.progress import say

    criteria = Criteria.of(_scale(name) for name in args.rubric)
    say(files_agreement([read_ratings(Path(name), criteria) for name in args.files]))
    return 0


def _scale(name: str) -> Scale:
    from espalier.evaluate.config_judge import BUILT_IN, FILES
    from espalier.evaluate.judge_rubrics import scales_of

    if name not in BUILT_IN and not name.lower().endswith(FILES):
        raise UsageError(
            f"There is no rubric '{name}'.",
            expected=f"quality, hhh, or a file ({', '.join(FILES)})",
        )
    return scales_of([name], Path)[0]
