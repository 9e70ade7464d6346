"""Still pictures for papers: every chart as SVG and PNG, every table as Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from espalier.errors import UsageError
from espalier.files import atomic_write_text
from espalier.progress import say
from espalier.reports import figure_png
from espalier.reports.config import ReportConfig
from espalier.reports.data import gather
from espalier.reports.figure_run import figures, tables
from espalier.reports.figure_runs import run_figures, run_tables
from espalier.reports.figure_tables import Table, latex, markdown
from espalier.reports.figure_text import Figure
from espalier.reports.runs_data import gather_runs
from espalier.reports.strings import speaking

LONGEST_NAME = 80


def write_figures(runs: Sequence[Path], options: ReportConfig, folder: Path) -> list[Path]:
    """Write the pictures and tables of one run, or of several compared, into `folder`.

    They speak the language that the options name, else English. Without anything here that turns
    SVG into PNG there are no PNG files, and a line says what is needed.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError("--figures names a file.", where=str(folder), expected="a folder")
    with speaking(options.language or "en"):
        if len(runs) == 1:
            data = gather(runs[0], options)
            return write_all(figures(data), tables(data), folder)
        compared = gather_runs(runs, options)
        return write_all(run_figures(compared), run_tables(compared), folder)


def write_all(pictures: Iterable[Figure], texts: Iterable[Table], folder: Path) -> list[Path]:
    """Write pictures and tables; returns the files, PNG files last."""
    folder.mkdir(parents=True, exist_ok=True)
    names: set[str] = set()
    written: list[Path] = []
    drawn: list[tuple[str, Path]] = []
    for picture in pictures:
        path = folder / f"{unused(picture.name, names)}.svg"
        atomic_write_text(path, picture.svg)
        written.append(path)
        drawn.append((picture.svg, path.with_suffix(".png")))
    for table in texts:
        stem = unused(f"table-{table.name}", names)
        for suffix, text in ((".md", markdown(table)), (".tex", latex(table))):
            atomic_write_text(folder / (stem + suffix), text)
            written.append(folder / (stem + suffix))
    how = figure_png.way()
    if how is not None:
        figure_png.write_pngs(drawn, how)
        written += [path for _, path in drawn]
    kinds = f"{len(drawn)} pictures, {len(written)} files"
    say(f"  {folder} ({kinds})")
    if how is None and drawn:
        say(f"  no PNG: nothing here turns SVG into PNG; {figure_png.HINT}")
    return written


def unused(name: str, names: set[str]) -> str:
    """A file name of letters, digits, `-`, `_` and `.` that is not in `names`; it is added.

    Other signs become `-`; names that are the same without case are told apart by numbers.
    """
    clean = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:LONGEST_NAME] or "figure"
    found, place = clean, 1
    while found.lower() in names:
        place += 1
        found = f"{clean}-{place}"
    names.add(found.lower())
    return found
