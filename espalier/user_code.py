"""Functions of the user, named in a recipe as `package.module:function` or `file.py:function`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from espalier.errors import UsageError


def load_function(
    name: str, place: Callable[[str], Path] = Path, *, what: str, where: str
) -> Callable[..., Any]:
    """The function behind a name; `place` finds a file as the recipe writes it.

    `what` ("reward function") and `where` (a place in the recipe) are for the message. Raises
    UsageError where there is no such function.
    """
    source, _, attribute = name.rpartition(":")
    try:
        if source.endswith(".py"):
            module = _run_file(place(source), what)
        else:
            module = importlib.import_module(source)
        found = getattr(module, attribute)
    except Exception as error:  # the code is the user's and may raise anything
        raise UsageError(
            f"The {what} '{name}' can't be loaded: {type(error).__name__}: {error}",
            where=where,
            expected="package.module:function or file.py:function",
        ) from error
    if not callable(found):
        raise UsageError(f"The {what} '{name}' is no function.", where=where)
    function: Callable[..., Any] = found
    return function


def in_words(error: Exception) -> str:
    """`ValueError: no luck`: what the user's function raised, the first line of its message."""
    reason = str(error).strip().split("\n")[0]
    return type(error).__name__ + (f": {reason}" if reason else "")


def line_of(error: Exception) -> str:
    """`line 3 of mine.py`: where in the user's code it was raised; "" where that is not known.

    To be called where the error was caught: the first frames are those of the file that called the
    function, the last may be deep in a library, so the first one after ours says most.
    """
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if frame.filename != frames[0].filename]
    return f"line {theirs[0].lineno} of {theirs[0].filename}" if theirs else ""


def _run_file(path: Path, what: str) -> ModuleType:
    # A name of its own: dataclasses look their module up by it.
    name = f"espalier_{what.replace(' ', '_')}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
