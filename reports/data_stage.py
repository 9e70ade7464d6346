"""The stage that writes `data.html`: the page about the curated data, without any training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espalier.progress import say
from espalier.reports.data_gather import Sources, data_files
from espalier.reports.data_page import build_data_page
from espalier.reports.shell import TEMPLATES
from espalier.reports.strings import ASSETS
from espalier.run import StageContext

PAGE = "data.html"


def inputs(context: StageContext) -> Mapping[str, Path]:
    """The files of the stage `curate` that exist, and the page's own templates and assets."""
    found = data_files(Sources(context.stage_folder("curate")))
    return {**found, "templates": TEMPLATES, "assets": ASSETS}


def run(context: StageContext) -> Mapping[str, Any]:
    """Build the page beside the stage folders; returns its size and where it is."""
    page = context.run / PAGE
    build_data_page(context.stage_folder("curate"), page)
    tell(page)
    return {"bytes": page.stat().st_size, "outputs": [page]}


def tell(page: Path) -> None:
    """Say where the page is."""
    say(f"  {page} ({page.stat().st_size / 1e3:,.0f} kB)")
