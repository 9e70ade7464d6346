"""The members of a sweep as the rows of its tables: results, failures, what was shared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from espalier import plain_yaml
from espalier.reports.manifests import duration, without_secrets
from espalier.reports.runs_sentences import mean_text
from espalier.reports.strings import known, pretty, t
from espalier.reports.student import Mean
from espalier.reports.sweep_data import SweepData
from espalier.reports.sweep_question import shown_level
from espalier.sweep_file import MEMBERS, RECIPE, VARIANT, Member, member_folder


def member_rows(data: SweepData, beside: Path) -> list[dict[str, Any]]:
    """A row a member, in the order of the sweep; `beside` is its folder, seen from the page."""
    values = _values(data)
    done = {member.name for member in data.members}
    left = {member.name: member for member in data.left}
    rows = []
    for member in data.file.members:
        member = left.get(member.name, member)
        page = member_folder(data.folder, member) / "report.html"
        link = (beside / MEMBERS / member.name / "report.html").as_posix()
        rows.append(
            {
                "name": member.name,
                "link": quote(link) if member.name in done and page.is_file() else "",
                "levels": [
                    shown_level(factor.key, member.settings.get(factor.key), drawn=factor.draw)
                    for factor in data.file.factors
                ],
                "seed": member.seed,
                "status": member.status,
                "told": _status(member),
                "value": values.get(member.name, ""),
                "time": duration(member.seconds) if member.seconds else "",
            }
        )
    return rows


def _status(member: Member) -> str:
    status = t(f"sweep.status_{member.status}")
    if member.stage and member.status in ("failed", "running", "skipped"):
        return t("sweep.status_at", status=status, stage=stage_label(member.stage))
    return status


def stage_label(stage: str) -> str:
    """A stage in words."""
    return known(f"stage.{stage}", pretty(stage))


def _values(data: SweepData) -> dict[str, str]:
    """The number in question of each finished member; of models that of each of them."""
    if data.outcome is None:
        return {}
    found: dict[int, list[str]] = {}
    for group in data.outcome.groups:
        for cell in group.cells.values():
            text = mean_text(data.outcome.metric, Mean(cell.value, None, None, 1))
            named = f"{group.label} {text}" if data.outcome.kind == "models" else text
            found.setdefault(cell.run, []).append(named)
    return {data.members[run].name: t("list.comma").join(texts) for run, texts in found.items()}


def failures(data: SweepData) -> list[dict[str, str]]:
    """What failed or was skipped, where, and why."""
    return [
        {
            "name": member.name,
            "told": _status(member),
            "error": without_secrets(member.error or t("sweep.no_error")),
        }
        for member in data.left
        if member.status in ("failed", "skipped")
    ]


def sharing_rows(data: SweepData) -> dict[str, Any]:
    """The stages with the times that they ran, and the sentence about all of them."""
    rows = data.sharing
    asked, ran = sum(row.members for row in rows), sum(row.ran for row in rows)
    saved = sum(row.saved for row in rows)
    about = {"asked": asked, "ran": ran, "saved": asked - ran, "time": duration(saved)}
    return {
        "sentence": t("sweep.shared", **about) if asked > ran else t("sweep.shared_none"),
        "rows": [
            {
                "stage": stage_label(row.stage),
                "members": row.members,
                "ran": row.ran,
                "time": duration(row.seconds),
                "saved": duration(row.saved) if row.saved else "",
            }
            for row in rows
        ],
    }


def variant_rows(data: SweepData) -> list[dict[str, Any]]:
    """Each variant with the keys that it sets; empty where there are none, or it can't be read."""
    named = [factor for factor in data.file.factors if factor.key == VARIANT]
    variants = _section(data).get("variants") if named else None
    if not isinstance(variants, Mapping):
        return []
    return [
        {"name": name, "keys": [_key(*item) for item in (variants.get(name) or {}).items()]}
        for name in map(str, named[0].levels)
    ]


def reseeded(data: SweepData) -> str:
    """The keys that alone got the seed of a repeat; empty where everything got it."""
    keys = _section(data).get("reseed")
    several = len({member.seed for member in data.members}) > 1
    if not several or not isinstance(keys, list) or "seed" in keys:
        return ""
    return t("list.comma").join(map(str, keys))


def _section(data: SweepData) -> Mapping[str, Any]:
    """The section `sweep` of the recipe; empty where it can't be read."""
    path = data.folder / RECIPE
    if not path.is_file():
        return {}
    try:
        recipe = plain_yaml.load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return {}
    section = recipe.get("sweep") if isinstance(recipe, Mapping) else None
    return section if isinstance(section, Mapping) else {}


def _key(key: str, value: Any) -> tuple[str, str]:
    return key, t("sweep.removed") if value is None else shown_level(key, value)
