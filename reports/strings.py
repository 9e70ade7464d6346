"""The words of the page, one file a language: `assets/strings.<language>.yaml`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

ASSETS = Path(__file__).parent / "assets"


@cache
def words(language: str = "en") -> dict[str, str]:
    """All strings of one language by key; `{name}` in them is a place for a value."""
    loaded = yaml.safe_load((ASSETS / f"strings.{language}.yaml").read_text(encoding="utf-8"))
    return {str(key): str(value) for key, value in loaded.items()}


def t(key: str, **values: Any) -> str:
    """The string at `key` with its places filled; raises KeyError for an unknown key.

    Values are put in once: braces inside them stay as they are.
    """
    text = words()[key]
    parts = text.split("{")
    out = [parts[0]]
    for part in parts[1:]:
        name, _, rest = part.partition("}")
        out.append(str(values[name]) + rest)
    return "".join(out)


def known(key: str, default: str) -> str:
    """The string at `key`, or `default` where there is none."""
    return words().get(key, default)


def pretty(name: str) -> str:
    """A readable label for an identifier: `grad_norm` becomes `Grad norm`."""
    text = name.replace("_", " ").replace("/", " · ").strip()
    return text[:1].upper() + text[1:]
