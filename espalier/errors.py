"""Errors that a user can cause: each says what happened, where, what was expected, what to do.

The command line prints these without a traceback and exits with `exit_code`
(0 done or up to date, 1 failed, 2 wrong usage or input, 130 interrupted).
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class EspalierError(Exception):
    """Base of every error that ends in one clear message.

    `what` is one sentence; `where` a place (file, line, field); `expected` what would
    have been right; `hint` the command or change that helps.
    """

    exit_code = EXIT_FAILED

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.expected = expected
        self.hint = hint
        super().__init__(self.render())

    def render(self) -> str:
        """The message as printed: the sentence, then one indented line a known detail."""
        lines = [self.what]
        for label, text in (
            ("where", self.where),
            ("expected", self.expected),
            ("what to do", self.hint),
        ):
            if text:
                lines.append(f"  {label}: {text}")
        return "\n".join(lines)


class InputError(EspalierError):
    """A file, a row or a field that the user gave is not what it has to be (exit code 2)."""

    exit_code = EXIT_USAGE


class UsageError(EspalierError):
    """A wrong command line or recipe (exit code 2)."""

    exit_code = EXIT_USAGE


class MissingExtra(EspalierError):
    """A feature needs a package that is not installed (exit code 1)."""


class StageError(EspalierError):
    """A stage could not finish, for a reason in its data or its machine (exit code 1)."""


def place(path: Path | str, line: int | None = None, field: str | None = None) -> str:
    """`file, line 3, field 'output'`, with only the parts that are known."""
    parts = [str(path)]
    if line is not None:
        parts.append(f"line {line}")
    if field is not None:
        parts.append(f"field '{field}'")
    return ", ".join(parts)


def did_you_mean(name: str, known: Iterable[str], folder: Path | None = None) -> str | None:
    """A hint with the known name that was meant, perhaps; None where none is close.

    Letter case and all but letters and digits count for nothing. `folder`: names are of files
    in it, and the hint shows the whole path.
    """
    plain = {_plain(one): one for one in known}
    near = difflib.get_close_matches(_plain(name), list(plain), n=1, cutoff=0.5)
    if not near:
        return None
    found = plain[near[0]]
    return f"did you mean '{found}'?" if folder is None else f"did you mean {folder / found}?"


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def require(module: str, *, extra: str, feature: str) -> ModuleType:
    """Import `module`, or say which extra brings it and how to install that.

    Raises MissingExtra where the package is absent; errors inside an installed package
    are not hidden.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if missing.split(".")[0] != module.split(".", maxsplit=1)[0]:
            raise
        package = module.split(".", maxsplit=1)[0]
        raise MissingExtra(
            f"{feature} needs the package '{package}', which is not installed.",
            hint=f"pip install 'espalier[{extra}]'",
        ) from error
