"""The verb `report`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from espalier.errors import InputError, UsageError
from espalier.reports import cli_rate
from espalier.reports.run_options import options_of
from espalier.sweep_file import PAGE as COMPARISON
from espalier.sweep_file import is_sweep, member_folder, read_sweep
from espalier.verbs import add_recipe_options, add_verb, recipe_of, run_folder

if TYPE_CHECKING:
    from espalier.reports.config import ReportConfig


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `espalier report` and `espalier rate`."""
    cli_rate.register(subparsers)
    parser = add_verb(
        subparsers,
        "report",
        _report,
        summary="write the HTML page that compares the models of a run, one that compares several "
        "runs, one that answers the question of a sweep, or one about curated data",
        example="espalier report runs/demo --output demo.html\n"
        "  espalier report runs/lr-* --output sweep.html --figures figures/\n"
        "  espalier report --data clean/ --output clean.html",
    )
    parser.add_argument(
        "folders",
        nargs="*",
        metavar="RUNFOLDER",
        help="a run folder, instead of --recipe; with several, the page compares the runs; the "
        "folder of a sweep",
    )
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        help="the page about the data of a folder that `espalier curate` wrote, with no training",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="where to write (default: report.html in the run folder; of several runs or a sweep, "
        "comparison.html in the folder that holds them; with --data, data.html in FOLDER)",
    )
    parser.add_argument(
        "--figures",
        metavar="FOLDER",
        help="write every chart as SVG and PNG, and every table as Markdown and LaTeX, as well",
    )
    add_recipe_options(parser)


def _report(args: argparse.Namespace) -> int:
    if sum(bool(given) for given in (args.folders, args.recipe, args.data)) != 1:
        raise UsageError(
            "The report needs run folders, a recipe or a data folder, and only one of them.",
            expected="espalier report RUNFOLDER, espalier report --recipe FILE, or "
            "espalier report --data FOLDER",
        )
    if args.data:
        return _of_data(args)
    if len(args.folders) > 1:
        return _of_runs(args)
    return _of_folder(args) if args.folders else _of_recipe(args)


def _of_recipe(args: argparse.Namespace) -> int:
    from espalier.running import run_stages

    recipe = recipe_of(args)
    run = run_folder(args, recipe)
    _require_folder(run, f"run the stages first: espalier run {args.recipe}")
    options = recipe.section("report")
    if options is not None and not args.output:
        run_stages(recipe, run, ["report"])
        _figures(args, [run], options)
        return 0
    return _write(args, run, options)


def _of_data(args: argparse.Namespace) -> int:
    from espalier.reports.data_page import build_data_page
    from espalier.reports.data_stage import PAGE, tell

    _no_recipe_options(args, "--data")
    if args.figures:
        raise UsageError("--figures goes with runs, not with --data.")
    folder = Path(args.data)
    if not folder.is_dir():
        raise InputError(
            "There is no such folder.",
            where=str(folder),
            expected="a folder with curated data",
            hint="espalier curate --input theirs.jsonl --output FOLDER",
        )
    page = _page(args.output, folder / PAGE)
    build_data_page(folder, page)
    tell(page)
    return 0


def _no_recipe_options(args: argparse.Namespace, what: str) -> None:
    if args.overrides or args.run or args.small:
        raise UsageError(
            f"--set, --run and --small go with --recipe, not with {what}.",
            hint="espalier report --recipe FILE --run NAME --set report.title=…",
        )


def _page(output: str | None, default: Path) -> Path:
    page = Path(output) if output else default
    if page.is_dir():
        raise UsageError(
            "--output names a folder.", where=str(page), expected="a file, e.g. report.html"
        )
    return page


def _of_folder(args: argparse.Namespace) -> int:
    _no_recipe_options(args, "a run folder, which has its recipe in it")
    run = Path(args.folders[0])
    _require_folder(run, "see runs/ for the runs that there are")
    return _of_sweep(args, run) if is_sweep(run) else _write(args, run, None)


def _of_sweep(args: argparse.Namespace, folder: Path) -> int:
    from espalier.progress import say
    from espalier.reports.sweep_page import build_sweep_page

    options = options_of(folder)
    page = build_sweep_page(folder, options, _page(args.output, folder / COMPARISON))
    say(f"  {page} ({page.stat().st_size / 1e6:.1f} MB)")
    done = [member for member in read_sweep(folder).members if member.status == "done"]
    if done:
        _figures(args, [member_folder(folder, member) for member in done], options)
    return 0


def _of_runs(args: argparse.Namespace) -> int:
    from espalier.progress import say
    from espalier.reports.runs_page import build_comparison, default_page

    _no_recipe_options(args, "run folders, which have their recipes in them")
    runs = [Path(name) for name in args.folders]
    for run in runs:
        _require_folder(run, "see runs/ for the runs that there are")
        if is_sweep(run):
            raise UsageError(
                "A sweep has a page of its own.",
                where=str(run),
                expected="run folders, or the folder of one sweep alone",
                hint=f"espalier report {run}",
            )
    page = _page(args.output, default_page(runs))
    options = options_of(runs[0])
    data = build_comparison(runs, options, page)
    for sentence in data.told[:6]:
        say(f"  {sentence}")
    say(f"  {page} ({page.stat().st_size / 1e6:.1f} MB)")
    _figures(args, runs, options)
    return 0


def _write(args: argparse.Namespace, run: Path, options: ReportConfig | None) -> int:
    from espalier.reports.page import build_report
    from espalier.reports.stage import PAGE, tell

    page = _page(args.output, run / PAGE)
    options = options or options_of(run)
    tell(build_report(run, options, page), page)
    _figures(args, [run], options)
    return 0


def _figures(args: argparse.Namespace, runs: list[Path], options: ReportConfig) -> None:
    if args.figures:
        from espalier.reports.figures import write_figures

        write_figures(runs, options, Path(args.figures))


def _require_folder(run: Path, hint: str) -> None:
    if not run.is_dir():
        raise InputError(
            "There is no such run folder.", where=str(run), expected="a folder", hint=hint
        )
