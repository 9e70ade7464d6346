"""Warnings of the evaluation as the page says them: in its language, with the labels of its tables.

The evaluation names metrics and models as a recipe does (`human_relevance of ppo`), since its
warnings go to a terminal too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from espalier.reports.contamination import CHANGED, changed_verdicts
from espalier.reports.retold import retell
from espalier.reports.strings import t

_COVERAGE = re.compile(r"(Not all models are scored on the same prompts \()([^:]+)(: )")


def told_warning(text: str, summary: Mapping[str, Any] | None) -> str:
    """The warning for the reader; `summary` has its metrics in the language that speaks."""
    if text.startswith(CHANGED):
        return changed_verdicts(summary) or retell(text)
    labels = {metric["name"]: str(metric["label"]) for metric in (summary or {}).get("metrics", [])}

    def labelled(match: re.Match[str]) -> str:
        names = match[2].split(", ")
        return match[1] + t("list.comma").join(labels.get(name, name) for name in names) + match[3]

    return retell(_COVERAGE.sub(labelled, text, count=1))
