"""The embedded engine: a procedural teacher and judge that need no network and no key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from espalier.engines.base import (
    Completion,
    FinishReason,
    Request,
    Sampling,
    Usage,
)
from espalier.errors import UsageError
from espalier.offline.answering import Reply
from espalier.offline.hashing import Draws
from espalier.offline.judge import judge, read_judging
from espalier.offline.style import read_options
from espalier.offline.teacher import answer

_ASCII_PER_TOKEN = 4


class OfflineEngine:
    """Answers by what the prompt's text is: a judging prompt, or a task for the teacher.

    An answer depends on nothing but the seed, the prompt text and, when sampling at a
    temperature above 0, that temperature and the request's sample number. Raises UsageError
    for unknown options.
    """

    costly = False

    def __init__(
        self,
        model: str = "espalier-offline",
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self._options = read_options(options or {})
        self._seed = seed

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """Yield one completion a request, in request order.

        Stop strings are honoured; `max_tokens` roughly, at four Latin letters or one other
        character a token. Raises UsageError for a request of token ids.
        """
        for request in requests:
            if not request.messages:
                raise UsageError(
                    "The offline engine was given token ids.",
                    expected="a chat request: it reads the text of the prompt",
                )
            yield self._complete(request, sampling)

    def close(self) -> None:
        """Nothing to give back."""

    def _complete(self, request: Request, sampling: Sampling) -> Completion:
        prompt = request.prompt
        parts = [str(self._seed), prompt]
        if sampling.temperature > 0:
            parts += [repr(float(sampling.temperature)), str(request.sample)]
        draws = Draws(*parts)
        asked = read_judging(prompt)
        if asked is None:
            reply = answer(prompt, draws, self._options)
        else:
            reply = Reply(judge(asked, draws, self._options.judge_noise))
        text, cut = _bounded(reply, sampling)
        finish: FinishReason = "length" if cut else "stop"
        return Completion(text, finish, Usage(count_tokens(prompt), count_tokens(text)))


def count_tokens(text: str) -> int:
    """Roughly the tokens of a text: four ASCII characters or one other character each."""
    ascii_characters = len(text.encode("ascii", errors="ignore"))
    return -(-ascii_characters // _ASCII_PER_TOKEN) + len(text) - ascii_characters


def _bounded(reply: Reply, sampling: Sampling) -> tuple[str, bool]:
    text, cut = reply.text, reply.cut
    ends = [text.find(stop) for stop in sampling.stop if stop and stop in text]
    if ends:
        text, cut = text[: min(ends)], False
    if len(text) > sampling.max_tokens and count_tokens(text) > sampling.max_tokens:
        return _first_tokens(text, sampling.max_tokens), True
    return text, cut


def _first_tokens(text: str, limit: int) -> str:
    used = 0.0
    for index, character in enumerate(text):
        used += 1 / _ASCII_PER_TOKEN if character.isascii() else 1
        if used > limit:
            return text[:index]
    return text
