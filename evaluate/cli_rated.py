"""What ratings become: `espalier ratings export` and `espalier ratings preferences`."""

from __future__ import annotations

import argparse
from pathlib import Path

from espalier.errors import InputError, UsageError
from espalier.verbs import add_verb, within

FORMS = (".jsonl", ".json", ".csv")


def register(parts: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the two parts to `espalier ratings`."""
    export = add_verb(
        parts,
        "export",
        _export,
        summary="write the ratings that `espalier rate` keeps as a file of ratings",
        example="espalier ratings export runs/demo --output ratings.jsonl",
    )
    export.add_argument("run", metavar="RUN", help="a run folder whose answers were rated")
    export.add_argument("--output", required=True, metavar="FILE", help=f"a {_listed()} file")
    pairs = add_verb(
        parts,
        "preferences",
        _preferences,
        summary="make preference pairs of ratings, for a reward model",
        example="espalier ratings preferences runs/demo --output preferences.jsonl\n"
        "  espalier ratings preferences runs/demo ratings.json ann.csv --output preferences.jsonl",
    )
    pairs.add_argument("run", metavar="RUN", help="the run whose answers were rated")
    pairs.add_argument(
        "files", nargs="*", metavar="FILE",
        help="files of ratings (default: what `espalier rate` keeps in the run)",
    )  # fmt: skip
    pairs.add_argument("--output", required=True, metavar="FILE", help="a .jsonl file of pairs")
    pairs.add_argument(
        "--rubric", action="append", default=[], metavar="FILE",
        help="a rubric of your own that answers were marked by (repeatable)",
    )  # fmt: skip
    pairs.add_argument(
        "--min-agreement", type=within(0.5, 1), default=0.5, metavar="SHARE",
        help="share of the verdicts that have to be for the better answer, ties counted half "
        "(default: more than half)",
    )  # fmt: skip
    pairs.add_argument(
        "--min-gap", type=within(0, 4, above=True), default=1.0, metavar="MARKS",
        help="least difference of the mean marks of two answers (default: 1)",
    )  # fmt: skip


def _listed() -> str:
    return ", ".join(FORMS[:-1]) + f" or {FORMS[-1]}"


def _own(run: Path) -> Path:
    """The database of a run's ratings; raises InputError where nothing was rated."""
    from espalier.rating_store import FILE, FOLDER

    path = run / FOLDER / FILE
    if not path.is_file():
        raise InputError(
            "Nobody has rated the answers of this run yet.",
            where=str(path),
            expected="what `espalier rate` writes there, or files of ratings",
            hint=f"espalier rate {run}",
        )
    return path


def _new_file(text: str, forms: tuple[str, ...]) -> Path:
    path = Path(text)
    if path.suffix.lower() not in forms:
        raise UsageError(
            f"The file can't be written as '{path.name}'.",
            expected=f"a name that ends in {' or '.join(forms)}",
        )
    if path.exists():
        raise UsageError(
            "The file is there already.",
            where=str(path),
            hint="choose another name, or move the file away",
        )
    return path


def _export(args: argparse.Namespace) -> int:
    from espalier.evaluate.rating_sheet import write_rows
    from espalier.progress import say
    from espalier.rating_store import stored_rows

    path = _new_file(args.output, FORMS)
    rows = list(stored_rows(_own(Path(args.run))))
    if not rows:
        raise InputError("Nobody has rated the answers of this run yet.", where=args.run)
    write_rows(path, rows)
    raters = {row["rater"] for row in rows}
    say(f"{len(rows):,} ratings by {len(raters)} in {path}")
    return 0


def _preferences(args: argparse.Namespace) -> int:
    from espalier.evaluate.judge_rubrics import scales_of
    from espalier.evaluate.rating_preferences import (
        files_told,
        preferred,
        rated_run,
        said_of_texts,
    )
    from espalier.evaluate.ratings import Criteria, read_ratings
    from espalier.formats.write import write_pairs
    from espalier.progress import say

    path = _new_file(args.output, (".jsonl",))
    run = Path(args.run)
    evalset, answers, baseline = rated_run(run)
    criteria = Criteria.of(scales_of(args.rubric, Path))
    files = [read_ratings(Path(name), criteria) for name in args.files or [_own(run)]]
    said = said_of_texts(files, evalset, answers, baseline)
    found = preferred(said, evalset, min_agreement=args.min_agreement, min_gap=args.min_gap)
    if not found.pairs:
        raise InputError(
            "The ratings give no preference pair.",
            where=", ".join(file.path for file in files),
            expected="verdicts for one of two answers, or answers to one prompt that are marked "
            f"{args.min_gap:g} apart by the same person",
            hint=f"{found.ties:,} verdicts are tied or split, {found.close:,} marked too close",
        )
    write_pairs(path, found.pairs)
    say(files_told(files))
    say(
        f"{len(found.pairs):,} pairs in {path}; no pair: {found.ties:,} tied or split, "
        f"{found.close:,} marked too close, {said.left_out:,} ratings of answers that are not known"
    )
    say(f"Train on them: --set 'train.reward.pairs=[curate/preferences.jsonl, {path}]'")
    say(
        "The prompts are those of the evaluation: evaluate what is trained on them on others "
        "(the column contamination shows where that was not done)."
    )
    return 0
