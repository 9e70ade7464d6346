"""A Python function of one's own as an engine: any client, model or rule as teacher or judge."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from espalier import user_code
from espalier.engines.base import (
    Completion,
    EngineSpec,
    FinishReason,
    Request,
    Sampling,
    Usage,
)
from espalier.errors import StageError, UsageError
from espalier.files import hash_file

# What of a request and its sampling a function may ask for, by the names of its parameters.
OFFERED = ("temperature", "top_p", "max_tokens", "stop", "presence_penalty", "seed", "sample")


def code_file(name: str) -> Path | None:
    """The file that `file.py:function` names; None for a function of a package."""
    source = name.rpartition(":")[0]
    return Path(source) if source.endswith(".py") else None


def code_inputs(engines: Mapping[str, EngineSpec]) -> dict[str, Path]:
    """The files of the engines (by role) that are functions: inputs of the stage that asks them.

    A file that is not there is left to the engine, which says so.
    """
    files = {
        f"function of the {role}": code_file(spec.model)
        for role, spec in engines.items()
        if spec.engine == "function"
    }
    return {label: file for label, file in files.items() if file is not None and file.is_file()}


class FunctionEngine:
    """Calls `function(messages, …)` once a request; its text is the answer.

    `messages` is a list of `{role, content}`. Further parameters get what they are named after:
    those of `OFFERED`, and the keys of the engine's options. The file's hash is a part of the
    model's name, and the options and the seed, where the function asks for it, are a part of
    `identity`, so that a changed function and a function that is asked otherwise answer anew.
    Raises UsageError for a function that is not there or asks for something else.
    """

    costly = True

    def __init__(self, name: str, seed: int = 0, options: Mapping[str, Any] | None = None) -> None:
        self._name = name
        self._function = user_code.load_function(name, what="engine", where="model")
        self._options = dict(options or {})
        self._seed = seed
        self._wanted = self._parameters()
        file = code_file(name)
        self.model = name + (f"@{hash_file(file)[:12]}" if file is not None else "")
        self.identity = self._identity()

    def _identity(self) -> str:
        """What answers, for the journal; what is not given leaves no trace."""
        said: dict[str, Any] = {"options": self._options} if self._options else {}
        if "seed" in self._wanted:
            said["seed"] = self._seed
        if not said:
            return self.model
        text = json.dumps(said, sort_keys=True, default=str)
        return f"{self.model} ({hashlib.sha256(text.encode()).hexdigest()[:16]})"

    def _parameters(self) -> list[str]:
        try:
            parameters = list(inspect.signature(self._function).parameters.values())[1:]
        except (TypeError, ValueError):  # some built-in functions have no signature
            return []
        known = {*OFFERED, *self._options}
        names = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
        needless = [key for key in self._options if key not in names]
        for parameter in parameters:
            needed = parameter.name in names and parameter.default is parameter.empty
            if needed and parameter.name not in known:
                raise UsageError(
                    f"The engine '{self._name}' asks for '{parameter.name}'.",
                    expected=f"the messages, then any of {', '.join(sorted(known))}",
                    hint="give it a default, or a value in the engine's options",
                )
        if needless and len(names) == len(parameters):
            raise UsageError(
                f"The engine '{self._name}' takes no option '{needless[0]}'.",
                where="options",
                expected=", ".join(names) or "no options",
            )
        return [name for name in names if name in known]

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """Yield one completion a request, in request order.

        Raises UsageError for a request of token ids, StageError where the function raises or gives
        no text; what was answered before is kept.
        """
        for request in requests:
            if not request.messages:
                raise UsageError(
                    f"The engine '{self._name}' was given token ids.",
                    expected="a chat request: it takes messages",
                )
            text = self._answer(request, sampling)
            finish: FinishReason = "stop"
            ends = [text.find(stop) for stop in sampling.stop if stop and stop in text]
            yield Completion(text[: min(ends)] if ends else text, finish, Usage())

    def close(self) -> None:
        """Nothing to give back."""

    def _answer(self, request: Request, sampling: Sampling) -> str:
        offered = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "stop": list(sampling.stop),
            "presence_penalty": sampling.presence_penalty,
            "seed": sampling.seed or self._seed,
            "sample": request.sample,
            **self._options,
        }
        messages = [{"role": m.role, "content": m.content} for m in request.messages]
        try:
            answer = self._function(messages, **{name: offered[name] for name in self._wanted})
        except Exception as error:  # the user's code may raise anything
            raise StageError(
                f"The engine '{self._name}' failed: {user_code.in_words(error)}",
                where=user_code.line_of(error),
                expected="a text for every request",
                hint="correct the function and run the stage again; earlier answers are kept",
            ) from error
        if not isinstance(answer, str):
            raise StageError(
                f"The engine '{self._name}' gives {answer!r:.60}.",
                expected="a text for every request",
                hint="correct the function and run the stage again; earlier answers are kept",
            )
        return answer
