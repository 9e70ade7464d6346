"""Asking the judge of an evaluation: one engine, its journal, and what became of the replies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from espalier.engines.base import Completion, Engine, EngineSpec, Request, Sampling
from espalier.errors import StageError
from espalier.evaluate.config_judge import JudgeConfig
from espalier.evaluate.evalset import Row
from espalier.judging import WORDINGS
from espalier.progress import Progress

# What is left of an over-long answer on each side of the gap.
_GAP = "\n[… {left:,} characters left out …]\n"
# A line that is a heading of the judge's prompt, whatever breaks lines and however far it is in.
_BREAK = "[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]"
_HEADINGS = re.compile(
    rf"(\A|{_BREAK})([ \t\u3000]*(?:"
    + "|".join(
        re.escape(mark)
        for words in WORDINGS.values()
        for mark in (words.question, words.reference, words.answer, words.answer_a, words.answer_b,
                     words.end)
    )
    + rf")[ \t\u3000]*(?=\Z|{_BREAK}))",
    re.IGNORECASE,
)  # fmt: skip


@dataclass(slots=True)
class Asked:
    """How many replies were asked for, and how many say nothing: requests that failed (`again`:
    those of them that the next run asks once more), replies cut off at `max_tokens`, and answers
    that were shown without their middle."""

    replies: int = 0
    failed: int = 0
    again: int = 0
    cut: int = 0
    shortened: int = 0


class Asker:
    """Puts prompts to the judge, and counts."""

    def __init__(self, engine: Engine, spec: EngineSpec, options: JudgeConfig, seed: int) -> None:
        self.engine = engine
        self.spec = spec
        self.options = options
        self.asked = Asked()
        self._sampling = Sampling(
            temperature=options.temperature, max_tokens=options.max_tokens, seed=seed
        )

    @property
    def signature(self) -> str:
        """What has to be known of the judge to ask again."""
        return (
            f"judge:{self.spec.engine}/{self.spec.model}|temp:{self.options.temperature:g}"
            f"|max-tokens:{self.options.max_tokens}" + "|reference:shown" * self.options.reference
        )

    def ask(self, prompts: Sequence[str], label: str) -> list[Completion]:
        """The replies in the order of the prompts.

        An answer that arrived is in the journal before the next is waited for. Raises StageError
        when not one request was answered up to here.
        """
        if not prompts:
            return []
        found: list[Completion] = []
        requests = [Request.of(prompt) for prompt in prompts]
        with Progress(f"evaluate: {label}", len(requests), unit="replies") as progress:
            for reply in self.engine.generate(requests, self._sampling):
                found.append(reply)
                progress.update()
        failed = sum(reply.finish_reason == "error" for reply in found)
        if failed == len(found) and self.asked.failed == self.asked.replies:
            raise StageError(
                f"The judge gave no reply at all: {_reason(found[0].text)}",
                where=f"evaluate.judge ({self.spec.engine}: {self.spec.model})",
                hint="run the same command again to ask once more; see the messages above",
            )
        self.asked.replies += len(found)
        self.asked.failed += failed
        self.asked.again += sum(not reply.billed for reply in found)
        self.asked.cut += sum(reply.finish_reason == "length" for reply in found)
        return found

    def shown(self, answer: str) -> str:
        """An answer as the judge sees it.

        A line in it that looks like a heading of the judge's prompt is set off by a bar, so that
        an answer can't pretend to end, or to be another answer. A very long one loses its middle.
        """
        text = guarded(answer)
        most = self.options.max_characters
        if len(text) <= most:
            return text
        self.asked.shortened += 1
        half = most // 2
        return text[:half] + _GAP.format(left=len(text) - 2 * half) + text[-half:]

    def question(self, row: Row) -> str:
        """The prompt of a row as the judge sees it."""
        return guarded(row.prompt)

    def reference(self, row: Row) -> str | None:
        """The reference that the judge is shown; None where it gets none."""
        if not self.options.reference or row.reference is None:
            return None
        return guarded(row.reference)

    def warnings(self) -> Iterable[str]:
        """What a reader of the judge's scores has to know."""
        asked = self.asked
        if asked.failed:
            again = f"running again asks {asked.again:,} of them once more"
            yield (
                f"The judge did not answer {asked.failed:,} of {asked.replies:,} requests; "
                f"{again if asked.again else 'asking again would give the same'}."
            )
        if asked.cut:
            yield (
                f"{asked.cut:,} of the judge's {asked.replies:,} replies were cut off at "
                f"`judge.max_tokens` ({self.options.max_tokens}), or where its context ends."
            )
        if asked.shortened:
            yield (
                f"{asked.shortened:,} times an answer was longer than `judge.max_characters` "
                f"({self.options.max_characters:,}) and was shown to the judge without its middle."
            )


def guarded(text: str) -> str:
    """A text with a bar before each line that looks like a heading of the judge's prompt."""
    return _HEADINGS.sub(r"\1| \2", text)


def _reason(text: str) -> str:
    """What a server says of a failed request, fit for a terminal."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(plain.split())[:200] or "no reason was given"
