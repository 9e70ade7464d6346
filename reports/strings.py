"""The words of the page: `assets/strings/<area>.<language>.yaml`, one area of the page a file.

Which language speaks is a context variable, so that the same code writes both: what `t` and
`known` return inside `with speaking("zh"):` is Chinese.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

ASSETS = Path(__file__).parent / "assets"
STRINGS = ASSETS / "strings"
Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

# Embeddings, overrides and isolates of the bidirectional algorithm.
TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")

_HAN = "[\u4e00-\u9fff]"
_MARK = "[。，；：！？、]"

_speaking: ContextVar[Language] = ContextVar("language", default="en")


@contextmanager
def speaking(language: Language) -> Iterator[None]:
    """Let `t` and `known` speak `language` inside this block."""
    token = _speaking.set(language)
    try:
        yield
    finally:
        _speaking.reset(token)


def language() -> Language:
    """The language that speaks now."""
    return _speaking.get()


def spaced(text: str) -> str:
    """Chinese text with a space between Chinese and Latin words, and none between Chinese ones or
    after a full-width mark."""
    if language() != "zh":
        return text
    text = re.sub(f"(?<={_HAN}) (?={_HAN})", "", text)
    text = re.sub(f"(?<={_MARK}) ", "", text)
    return re.sub(f"(?<={_HAN})(?=[A-Za-z0-9])|(?<=[A-Za-z0-9])(?={_HAN})", " ", text)


@cache
def area_words(area: str, language: Language) -> dict[str, str]:
    """The strings of one file, `assets/strings/<area>.<language>.yaml`, by key."""
    path = STRINGS / f"{area}.{language}.yaml"
    loaded = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return {str(key): str(value) for key, value in loaded.items()}


def areas(language: Language) -> list[str]:
    """The names of the areas that have strings."""
    return sorted(path.name.split(".")[0] for path in STRINGS.glob(f"*.{language}.yaml"))


@cache
def words(language: Language = "en") -> dict[str, str]:
    """All strings of one language by key; `{name}` in them is a place for a value.

    What a language lacks is said in English.
    """
    found: dict[str, str] = {}
    spoken: tuple[Language, ...] = ("en", language)
    for one in spoken:
        for area in areas(one):
            found.update(area_words(area, one))
    return found


def t(key: str, **values: Any) -> str:
    """The string at `key` with its places filled; raises KeyError for an unknown key.

    Values are put in once: braces inside them stay as they are. Characters that turn the
    direction of writing are left out of them, since they would turn the sentence's own words.
    """
    text = words(_speaking.get())[key]
    parts = text.split("{")
    out = [parts[0]]
    for part in parts[1:]:
        name, _, rest = part.partition("}")
        out.append(TURNING.sub("", str(values[name])) + rest)
    return "".join(out)


def known(key: str, default: str) -> str:
    """The string at `key`, or `default` where there is none."""
    return words(_speaking.get()).get(key, default)


def pretty(name: str) -> str:
    """A readable label for an identifier: `grad_norm` becomes `Grad norm`."""
    text = name.replace("_", " ").replace("/", " · ").strip()
    return text[:1].upper() + text[1:]
