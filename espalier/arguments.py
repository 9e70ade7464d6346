"""The parser of the command line: a wrong option ends in one message, with what was meant."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from espalier.errors import UsageError, did_you_mean


class Parser(argparse.ArgumentParser):
    """`argparse` without abbreviations (`--seed` is not `--seeds`); what is wrong ends in one
    message with the verb and the nearest name, and in exit code 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    # argparse has two forms of this for its types; the namespace is always a plain one here.
    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """As argparse does it, with what was meant where it does not know an option."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parser = found.refused_by
            name = unknown[0].partition("=")[0]
            known = parser._option_string_actions
            _stop(
                f"{parser.prog} has no option {name}."
                if name.startswith("-")
                else f"{parser.prog} takes no further argument, and {name!r} is one.",
                hint=did_you_mean(name, known) or f"{parser.prog} --help names them",
            )
        return found

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse does it; the innermost verb that did not know something is remembered."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown and not hasattr(found, "refused_by"):
            found.refused_by = self
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Ends with what argparse found wrong."""
        _stop(f"{message[0].upper()}{message[1:]}.", where=self.prog, hint=f"{self.prog} --help")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        names = [str(choice) for choice in action.choices]
        _stop(
            f"{self.prog} does not know {str(value)!r}.",
            where=str(action.metavar or (action.option_strings or [action.dest])[0]),
            expected=", ".join(names),
            hint=did_you_mean(str(value), names),
        )


def _stop(what: str, **more: str | None) -> NoReturn:
    error = UsageError(what, **more)
    print(f"espalier: {error.render()}", file=sys.stderr)
    sys.exit(error.exit_code)
