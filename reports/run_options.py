"""How the report of a run is made: what its own recipe says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from espalier.errors import InputError

if TYPE_CHECKING:
    from espalier.reports.config import ReportConfig


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
