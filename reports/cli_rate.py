"""The verb `rate`."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from espalier.errors import UsageError
from espalier.verbs import add_verb, positive

if TYPE_CHECKING:
    from espalier.reports.rating_session import Plan
    from espalier.rubrics import Scale

KINDS = ("both", "pairs", "marks")
PORT = 8017
RUBRIC_FILES = (".yaml", ".yml", ".json")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `espalier rate`."""
    parser = add_verb(
        subparsers,
        "rate",
        _rate,
        summary="have people rate a run's answers blind, in the browser",
        example="espalier rate runs/demo\n"
        "  espalier rate runs/demo --kind pairs --models sft,ppo --count 100 --raters-per-item 2",
    )
    parser.add_argument("run", metavar="RUN", help="a run folder with a finished evaluation")
    parser.add_argument(
        "--kind", choices=KINDS, default="both",
        help="two answers to choose from, single answers to mark, or both (default)",
    )  # fmt: skip
    parser.add_argument(
        "--rubric", action="append", metavar="RUBRIC",
        help="what single answers are marked for: quality (default), hhh, or the file of a rubric "
        "of your own (repeatable)",
    )  # fmt: skip
    parser.add_argument("--models", metavar="A,B", help="only the answers of these models")
    parser.add_argument("--count", type=positive, metavar="N", help="at most N items of a kind")
    parser.add_argument(
        "--raters-per-item", type=positive, metavar="N",
        help="give an item to N people (default: everybody rates everything)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, help="draws items and order (default: 1)")
    parser.add_argument(
        "--host", choices=("127.0.0.1", "::1"), default="127.0.0.1",
        help="the loopback address to listen on (default: 127.0.0.1)",
    )  # fmt: skip
    parser.add_argument(
        "--port", type=_port, default=PORT, help=f"port, 0 for a free one (default: {PORT})"
    )


def _port(text: str) -> int:
    if not text.isdecimal() or len(text) > 5 or int(text) >= 65536:
        raise argparse.ArgumentTypeError("has to be a whole number from 0 to 65535")
    return int(text)


def _rate(args: argparse.Namespace) -> int:
    from espalier.progress import say
    from espalier.rating_store import FILE, FOLDER, RatingStore
    from espalier.reports.rating_page import rating_page
    from espalier.reports.rating_server import RatingServer, token_of
    from espalier.reports.rating_session import Session

    run = Path(args.run)
    plan = _plan(args, run)
    folder = run / FOLDER
    store = RatingStore(folder / FILE)
    try:
        session = Session(plan, store)
        page, policy = rating_page(run.resolve().name)
        server = RatingServer((args.host, args.port), session, token_of(folder), page, policy)
        counts = f"{len(plan.pairs):,} pairs, {len(plan.marks):,} answers to mark"
        say(f"{counts}; ratings go to {store.path}")
        say(f"Open this address, or hand it to who rates on this machine:\n  {server.url}")
        say("Ctrl-C ends the server; nothing is lost, and the same command goes on.")
        with server, contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    finally:
        store.close()
    say(_what_next(run))
    return 0


def _what_next(run: Path) -> str:
    """The commands that take the ratings further."""
    whole = run.resolve()
    named = f"--run {quote(whole.name)} --runs-dir {quote(os.path.relpath(whole.parent))}"
    recipe = quote(str(run / "recipe.resolved.yaml"))
    return (
        f"Into the evaluation:\n  espalier evaluate --recipe {recipe} {named} "
        "--set 'evaluate.ratings={files: [ratings/ratings.sqlite]}'\n"
        "As pairs for a reward model:\n"
        f"  espalier ratings preferences {quote(str(run))} --output preferences.jsonl"
    )


def _plan(args: argparse.Namespace, run: Path) -> Plan:
    from espalier.blind import answers_of, mark_items, pair_items, read_answers
    from espalier.reports.rating_session import Plan, drawn

    models = [name.strip() for name in (args.models or "").split(",") if name.strip()]
    answers = answers_of(read_answers(run), models)
    scales = _scales(args.rubric or ["quality"])
    pairs = pair_items(answers) if args.kind != "marks" else []
    marks = mark_items(answers) if args.kind != "pairs" else []
    if not pairs and not marks:
        raise UsageError(
            "There is nothing to rate: no two models answer a prompt differently.",
            expected="answers of two models to the same prompts",
            hint="--kind marks, to mark single answers",
        )
    return Plan(
        pairs=drawn(pairs, args.seed, args.count),
        marks=drawn(marks, args.seed, args.count),
        scales=scales,
        seed=args.seed,
        raters_per_item=args.raters_per_item,
    )


def _scales(names: list[str]) -> list[Scale]:
    from espalier.reports.rating_session import PAIRS
    from espalier.rubrics import SCALES
    from espalier.stages import RUBRICS, load

    scales: list[Scale] = []
    for name in names:
        if name not in SCALES and not name.lower().endswith(RUBRIC_FILES):
            raise UsageError(
                f"There is no rubric '{name}'.",
                expected=f"quality, hhh, or a file ({', '.join(RUBRIC_FILES)})",
            )
        scales += [SCALES[name]] if name in SCALES else load(RUBRICS)([name], Path)
    taken = {PAIRS}
    for one in scales:
        if one.name in taken:
            raise UsageError(
                f"Two things to rate would be called '{one.name}'.",
                expected="rubrics of different names, and none called 'pairs'",
            )
        taken.add(one.name)
    return scales
