"""Judges and teachers by script, for tests of preferences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from espalier.engines.base import Completion, Request, Sampling
from espalier.judging import Comparison, Rubric, read_comparison
from espalier.records import Message


class Scores:
    """A judge that knows what answers are worth; equal ones are a tie, 0 can't be rated."""

    def __init__(self, worth: dict[str, float]) -> None:
        self.worth = worth
        self.compared: list[tuple[str, str, str]] = []

    def compare_fully(self, items: Sequence[tuple[str, str, str]]) -> list[Comparison]:
        self.compared += items
        return [read_comparison(self.say(a, b), self.say(b, a)) for _, a, b in items]

    def say(self, a: str, b: str) -> str:
        left, right = self.worth[a], self.worth[b]
        verdict = "tie" if left == right else "A" if left > right else "B"
        return f"{a} is worth {left:g}.\nVerdict: {verdict}"

    def rate(self, items: Sequence[tuple[str, str]]) -> list[Rubric | None]:
        return [
            None if (mark := self.worth[answer]) < 1 else Rubric(*[int(mark)] * 4, safe=mark != 5)
            for _, answer in items
        ]

    def rate_fully(self, items: Sequence[tuple[str, str]]) -> list[tuple[Rubric | None, str]]:
        return [(rubric, "the reply") for rubric in self.rate(items)]


def prompts(count: int) -> list[tuple[Message, ...]]:
    return [(Message("user", f"prompt {i}"),) for i in range(count)]


class Samples:
    """A teacher that gives a prompt's samples by their number."""

    model = "samples"
    costly = False

    def __init__(self, answers: Sequence[str]) -> None:
        self.answers = answers

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        for request in requests:
            text = self.answers[request.sample % len(self.answers)]
            cut = text.endswith("…")
            yield Completion(text, "length" if cut else "stop")

    def close(self) -> None:
        pass


class Replies:
    """A judge engine whose reply is a function of the answers shown as A and B."""

    model = "scripted"
    costly = False

    def __init__(self, say: Callable[[str, str], str]) -> None:
        self.say = say
        self.asked = 0

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        for request in requests:
            self.asked += 1
            match = re.search(r"\[Answer A]\n(.*?)\n\n\[Answer B]\n(.*?)\n\n\[End]",
                              request.prompt, re.DOTALL)  # fmt: skip
            assert match is not None
            yield Completion(self.say(match[1], match[2]))

    def close(self) -> None:
        pass
