"""The verb `report`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from espalier.errors import InputError, UsageError
from espalier.verbs import add_recipe_options, add_verb, recipe_of, run_folder

if TYPE_CHECKING:
    from espalier.reports.config import ReportConfig


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `espalier report`."""
    parser = add_verb(
        subparsers,
        "report",
        _report,
        summary="write the HTML page that compares the models of a run",
        example="espalier report runs/demo --output demo.html",
    )
    parser.add_argument(
        "folder", nargs="?", metavar="RUNFOLDER", help="a run folder, instead of --recipe"
    )
    parser.add_argument(
        "--output", metavar="FILE", help="where to write (default: report.html in the run folder)"
    )
    add_recipe_options(parser)


def _report(args: argparse.Namespace) -> int:
    if bool(args.folder) == bool(args.recipe):
        raise UsageError(
            "The report needs a run folder or a recipe, and only one of them.",
            expected="espalier report RUNFOLDER, or espalier report --recipe FILE",
        )
    return _of_folder(args) if args.folder else _of_recipe(args)


def _of_recipe(args: argparse.Namespace) -> int:
    from espalier.running import run_stages

    recipe = recipe_of(args)
    run = run_folder(args, recipe)
    _require_folder(run, f"run the stages first: espalier run {args.recipe}")
    options = recipe.section("report")
    if options is not None and not args.output:
        run_stages(recipe, run, ["report"])
        return 0
    return _write(run, options, args.output)


def _of_folder(args: argparse.Namespace) -> int:
    if args.overrides or args.run:
        raise UsageError(
            "--set and --run go with --recipe; a run folder has its recipe in it.",
            hint="espalier report --recipe FILE --run NAME --set report.title=…",
        )
    run = Path(args.folder)
    _require_folder(run, "see runs/ for the runs that there are")
    return _write(run, None, args.output)


def _write(run: Path, options: ReportConfig | None, output: str | None) -> int:
    from espalier.reports.page import build_report
    from espalier.reports.stage import PAGE, tell

    page = Path(output) if output else run / PAGE
    if page.is_dir():
        raise UsageError(
            "--output names a folder.", where=str(page), expected="a file, e.g. report.html"
        )
    tell(build_report(run, options or options_of(run), page), page)
    return 0


def _require_folder(run: Path, hint: str) -> None:
    if not run.is_dir():
        raise InputError(
            "There is no such run folder.", where=str(run), expected="a folder", hint=hint
        )


def options_of(run: Path) -> ReportConfig:
    """The section `report` of the run's resolved recipe, or the defaults where it has none."""
    import yaml
    from pydantic import ValidationError

    from espalier.reports.config import ReportConfig

    path = run / "recipe.resolved.yaml"
    if not path.is_file():
        return ReportConfig.model_validate({})
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        section = loaded.get("report") if isinstance(loaded, dict) else None
        return ReportConfig.model_validate(section or {})
    except (yaml.YAMLError, ValidationError) as error:
        raise InputError(
            "The section 'report' of the run's recipe can't be read.",
            where=str(path),
            expected="what `espalier run` wrote there",
            hint="espalier report --recipe FILE, with the recipe itself",
        ) from error
