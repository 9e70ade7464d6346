"""Sentences that a reader has to see before any number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espalier.reports.manifests import shown_path
from espalier.reports.strings import t


@dataclass(frozen=True)
class Notice:
    """A sentence that a reader has to see: `kind` is synthetic, note or warning."""

    kind: str
    text: str


def own_code_notice(models: Sequence[str], run: Path) -> list[Notice]:
    """What a reader has to know where models ran code of their own; nothing where none did."""
    if not models:
        return []
    shown = t("list.comma").join(dict.fromkeys(shown_path(model, run) for model in models))
    return [Notice("warning", t("notice.own_code", models=shown))]
