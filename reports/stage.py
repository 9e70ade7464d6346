"""The stage `report`: writes `report.html` into the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espalier.progress import say
from espalier.reports.config import ReportConfig
from espalier.reports.data import RunData, source_files
from espalier.reports.page import build_report
from espalier.reports.shell import TEMPLATES
from espalier.reports.strings import ASSETS
from espalier.run import StageContext

PAGE = "report.html"


def inputs(context: StageContext) -> Mapping[str, Path]:
    """The result files that exist, the recipe, and the page's own templates and assets."""
    found = source_files(context.run)
    recipe = context.run / "recipe.resolved.yaml"
    if recipe.is_file():
        found["recipe"] = recipe
    return {**found, "templates": TEMPLATES, "assets": ASSETS}


def run(context: StageContext) -> Mapping[str, Any]:
    """Build the page; returns its size, what it shows, and where it is (beside the folder)."""
    options: ReportConfig = context.options
    page = context.run / PAGE
    data = build_report(context.run, options, page)
    tell(data, page)
    return {**facts(data, page), "outputs": [page]}


def facts(data: RunData, page: Path) -> dict[str, Any]:
    """Counts of what a page shows."""
    return {
        "bytes": page.stat().st_size,
        "models": len((data.summary or {}).get("models", [])),
        "prompts": data.answers.count if data.answers else 0,
        "stages": len(data.stages),
    }


def tell(data: RunData, page: Path) -> None:
    """Print the verdicts and where the page is."""
    for verdict in data.verdicts[:6]:
        say(f"  {verdict.sentence}")
    say(f"  {page} ({page.stat().st_size / 1e6:.1f} MB)")
