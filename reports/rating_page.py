"""The page that `espalier rate` serves: the frame of the report around a place to rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espalier.reports.rating_session import PAIRS
from espalier.reports.shell import content, document, policy, script_text, spoken, style_text
from espalier.reports.strings import Language, speaking, t, words
from espalier.rubrics import SCALES

# What rating needs wherever it is done; later files use what earlier ones define.
DESK = ("rating_plan.js", "rating_form.js", "rating_desk.js")
SCRIPTS = (
    "dom.js", "format.js", "state.js", "theme.js", "language.js", "tip.js", "help.js",
    "nav.js", *DESK, "rating_remote.js", "late.js", "start.js", "rating_main.js",
)  # fmt: skip
STYLES = ("page.css", "frame.css", "parts.css", "answers.css", "rating.css")
SPOKEN = ("page.", "language.", "theme.", "rating.", "help.")


def rating_page(name: str) -> tuple[str, str]:
    """The document, and the Content-Security-Policy that goes with it; `name` is the run's."""
    html = document(
        title=name,
        contents={one: content("rate.html.j2", one, name=name) for one in spoken(None)},
        cores={one: _core(name, one) for one in spoken(None)},
        packed=(),
        scripts=SCRIPTS,
        styles=STYLES,
        connects=True,
    )
    rules = policy(script_text(SCRIPTS), style_text(STYLES), connects=True)
    return "".join(html), f"{rules}; frame-ancestors 'none'"


def rubrics(summary: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """The rubrics that the evaluation marked by, then the built-in ones, as the page marks by
    them; what is no rubric in `summary` is left out."""
    told = (summary or {}).get("rubrics")
    found = [one for one in told if _is_rubric(one)] if isinstance(told, list) else []
    names = {one["name"] for one in found}
    return [*found, *(one.to_json() for one in SCALES.values() if one.name not in names)]


def _is_rubric(value: Any) -> bool:
    if not isinstance(value, Mapping) or value.get("name") == PAIRS:
        return False
    marks, checks, meanings = (value.get(key) for key in ("marks", "checks", "meanings"))
    if not isinstance(marks, list) or not isinstance(checks, list):
        return False
    if not isinstance(meanings, Mapping):
        return False
    texts = [value.get("name"), *marks, *checks, *meanings.values()]
    return all(isinstance(text, str) and text for text in texts)


def _core(name: str, language: Language) -> Mapping[str, Any]:
    strings = {key: text for key, text in words(language).items() if key.startswith(SPOKEN)}
    with speaking(language):
        return {"strings": strings, "title": f"{t('rating.title')} · {name}"}
