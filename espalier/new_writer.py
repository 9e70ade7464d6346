"""Writes YAML line by line, with comments in English or Chinese."""

from __future__ import annotations

from typing import Any, Literal

import yaml

from espalier.terminal import visible

Language = Literal["en", "zh"]


class Writer:
    """Lines of YAML, and comments in one of two languages."""

    def __init__(self, language: Language) -> None:
        self.lines: list[str] = []
        self.chinese = language == "zh"

    def say(self, en: str, zh: str) -> str:
        """The comment in the recipe's language, on one line."""
        return " ".join(visible(zh if self.chinese else en).split("\n"))

    def comment(self, en: str, zh: str, depth: int = 0) -> None:
        """A line of comment."""
        self.lines.append(f"{'  ' * depth}# {self.say(en, zh)}")

    def put(self, depth: int, key: str, value: Any = None, en: str = "", zh: str = "") -> None:
        """`key: value`, with a comment behind it; without a value the key alone."""
        text = f"{'  ' * depth}{key}:" + ("" if value is None else f" {scalar(value)}")
        note = self.say(en, zh)
        self.lines.append(f"{text}  # {note}" if note else text)

    def blank(self) -> None:
        """An empty line."""
        self.lines.append("")

    def text(self) -> str:
        """All of it."""
        return "\n".join(self.lines) + "\n"


def scalar(value: Any) -> str:
    """A value as YAML on one line."""
    if isinstance(value, float):
        # YAML 1.1 takes 1e-05 for a text; 1.0e-05 is a number.
        text = f"{value:g}"
        return text.replace("e", ".0e") if "e" in text and "." not in text else text
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...").strip()
