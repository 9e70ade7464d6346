"""The verb `espalier curate`: the stage of a recipe, or curation alone on one file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from espalier.errors import UsageError
from espalier.verbs import add_recipe_options, add_verb, run_recipe_stages, within

_OUTPUTS = ("train.jsonl", "train.parquet", "eval.jsonl", "prompts.jsonl", "preferences.jsonl",
            "preferences_eval.jsonl", "rejects.jsonl", "clusters.jsonl", "contamination.jsonl",
            "funnel.json", "statistics.json", "card.md", "manifest.json",
            "data.html")  # fmt: skip


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = add_verb(
        subparsers,
        "curate",
        _curate,
        summary="clean, deduplicate and split instruction data",
        example="espalier curate --input theirs.jsonl --output clean/\n"
        "  espalier curate --recipe recipes/demo.yaml",
    )
    add_recipe_options(parser)
    alone = parser.add_argument_group("curation alone, on one file")
    alone.add_argument("--input", metavar="FILE", help="a dataset in any known format")
    alone.add_argument(
        "--output", metavar="DIR", help="output folder (default: <file's name>-curated)"
    )
    alone.add_argument(
        "--format", default="auto", metavar="NAME", help="name the format instead of detecting it"
    )
    alone.add_argument(
        "--on-bad-row",
        choices=("stop", "quarantine"),
        default=None,
        help="what to do with a row that can't be read (default: stop)",
    )
    alone.add_argument(
        "--output-format",
        action="append",
        default=[],
        metavar="NAME",
        help="write the training rows in this format too, e.g. alpaca (repeatable)",
    )
    alone.add_argument(
        "--near",
        type=within(0, 1),
        default=0.0,
        metavar="J",
        help="remove rows whose prompt and answer have a Jaccard similarity of J or more with a "
        "kept row's, for example 0.8 (default: near duplicates stay)",
    )
    alone.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="FILE",
        help="an evaluation file that no row may share 13 words in a row with (repeatable)",
    )
    alone.add_argument(
        "--repair", action="store_true", help="repair damaged text (wrong encodings, entities)"
    )
    alone.add_argument(
        "--mask-pii",
        action="store_true",
        help="replace personal data and keys by marks such as <EMAIL>",
    )


def _curate(args: argparse.Namespace) -> int:
    if args.input is None:
        names = ("output", "on_bad_row", "output_format", "against", "repair", "mask_pii")
        given = [name for name in names if getattr(args, name)]
        if given or args.format != "auto" or args.near:
            raise UsageError(
                "--output, --format, --near, --against, --repair, --mask-pii, --on-bad-row and "
                "--output-format go with --input.",
                expected="--input FILE, or --recipe FILE with --set curate.…",
            )
        if args.recipe is None:
            raise UsageError(
                "Say what to curate.",
                expected="--input FILE, or --recipe FILE",
                hint="for example: espalier curate --input theirs.jsonl --output clean/",
            )
        return run_recipe_stages(args, ["curate", "data_report"])
    if args.recipe is not None:
        raise UsageError(
            "--input and --recipe were both given.",
            expected="one of them",
            hint="put the file into the recipe's curate.sources",
        )
    return _curate_file(args)


def _curate_file(args: argparse.Namespace) -> int:
    from espalier.curate.sources import located
    from espalier.recipe import recipe_from
    from espalier.running import run_stage, write_data_page

    source = located(args.input, lambda text: Path(text).expanduser().absolute())
    name = Path(source).name.split(".")[0] or "dataset"
    folder = Path(args.output or f"{name}-curated").expanduser().resolve()
    _check_output(folder)
    file: dict[str, Any] = {"kind": "file", "path": str(source), "format": args.format}
    curate: dict[str, Any] = {"sources": [file], "output_formats": args.output_format}
    if args.on_bad_row is not None:
        curate["on_bad_row"] = args.on_bad_row
    if args.near:
        curate["dedup"] = {"near": {"threshold": args.near, "on": "prompt+answer"}}
    if args.against:
        found = [located(name, lambda text: Path(text).absolute()) for name in args.against]
        curate["decontaminate"] = {"against": [str(path) for path in found]}
    if args.repair:
        curate["repair"] = {}
    if args.mask_pii:
        curate["pii"] = {}
    recipe = recipe_from({"name": name, "curate": curate}, args.overrides)
    # Locks and superseded results stay out of the user's folder.
    aside = folder.parent / f".{folder.name}.espalier"
    run_stage("curate", recipe, aside, folder=folder)
    write_data_page(folder, folder / "data.html")
    print("files:")
    for output in (*_OUTPUTS, *(f"train.{form}.jsonl" for form in args.output_format)):
        if (folder / output).is_file():
            print(f"  {folder / output}")
    return 0


def _check_output(folder: Path) -> None:
    """Refuse a folder with other files in it: a changed rerun sets the whole folder aside."""
    if folder.exists() and not folder.is_dir():
        raise UsageError("The output is a file.", where=str(folder), expected="a folder")
    ours = any((folder / name).is_file() for name in ("manifest.json", "state.json"))
    if folder.is_dir() and not ours and any(folder.iterdir()):
        raise UsageError(
            "The output folder holds other files.",
            where=str(folder),
            expected="a new or empty folder, or that of an earlier curation",
            hint="--output NEW_FOLDER",
        )
