"""What a prompt template makes of a conversation: pieces of text, some of which are learnt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from espalier.errors import InputError
from espalier.records import UNTRAINED, Messages, content_id

NO_META: Mapping[str, Any] = {}
TrainOn = Literal["all", "last"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a rendered conversation.

    `trained`: the loss is taken over its tokens. `kind`: "text" is content (special tokens
    written in it stay plain text), "marker" may hold special tokens, "eos" is the tokenizer's
    own end-of-sequence token (its `text` is empty).
    """

    text: str
    trained: bool
    kind: Literal["text", "marker", "eos"] = "text"


Render = Callable[[Messages, Mapping[str, Any], bool], list[Segment]]
RenderLast = Callable[[Messages, Mapping[str, Any]], list[Segment]]


@dataclass(frozen=True)
class Template:
    """A named way to write a conversation.

    `stop`: texts that end an answer (besides the end-of-sequence token).
    `special_tokens`: markers that must be single tokens of the tokenizer.
    `render(messages, meta, generate)` writes a conversation, with `generate` up to where the next
    answer begins. `render_last` is there where learning the last answer alone is more than
    leaving the others out. `jinja` is the text of a chat template, where it is one, `warning` what
    its user should know before training with it.
    """

    name: str
    stop: tuple[str, ...]
    special_tokens: tuple[str, ...]
    render: Render
    render_last: RenderLast | None = None
    jinja: str | None = None
    warning: str | None = None

    @property
    def identity(self) -> str:
        """The name, and for a chat template a hash of its text: two models may each have one."""
        return self.name if self.jinja is None else f"{self.name}:{content_id(self.jinja)}"

    def segments(
        self, messages: Messages, meta: Mapping[str, Any] = NO_META, *, train_on: TrainOn = "all"
    ) -> list[Segment]:
        """The whole conversation; assistant texts and their end markers are the trained pieces:
        those of all turns, or of the last turn of the assistant only, but not of those answers
        that `meta["untrained_answers"]` numbers.

        Raises InputError for a conversation without turns.
        """
        _check(messages, self.name)
        masked = meta.get(UNTRAINED) or ()
        answers = sum(message.role == "assistant" for message in messages)
        if train_on == "all":
            pieces = self.render(messages, meta, False)
            return without_answers(pieces, masked, answers) if masked else pieces
        if answers - 1 in masked:
            pieces = self.render(messages, meta, False)
            return [untrained(piece) for piece in pieces]
        if self.render_last is not None:
            return self.render_last(messages, meta)
        return last_only(self.render(messages, meta, False))

    def prompt_segments(
        self, messages: Messages, meta: Mapping[str, Any] = NO_META
    ) -> list[Segment]:
        """Everything up to where the next assistant turn begins; nothing in it is trained.

        A final assistant turn, if there is one, is left out: it is what would be generated.
        """
        _check(messages, self.name)
        turns = messages[:-1] if messages[-1].role == "assistant" else messages
        return [untrained(segment) for segment in self.render(turns, meta, True)]

    def prompt(self, messages: Messages, meta: Mapping[str, Any] = NO_META) -> str:
        """`prompt_segments` as one text (end-of-sequence tokens of earlier turns left out)."""
        return "".join(segment.text for segment in self.prompt_segments(messages, meta))


def untrained(segment: Segment) -> Segment:
    """The same piece, not learnt."""
    return replace(segment, trained=False)


def last_only(pieces: list[Segment]) -> list[Segment]:
    """Only the last run of trained pieces stays trained: a template puts the head of a turn, which
    is not learnt, between any two answers."""
    end = max((i for i, piece in enumerate(pieces) if piece.trained), default=-1)
    start = end
    while start > 0 and pieces[start - 1].trained:
        start -= 1
    return [p if start <= i <= end else untrained(p) for i, p in enumerate(pieces)]


def without_answers(pieces: list[Segment], masked: Sequence[int], answers: int) -> list[Segment]:
    """The pieces with the `masked` ones of so many answers no longer trained.

    Raises InputError where a template does not write each answer as one trained run.
    """
    runs: list[list[int]] = []
    for place, piece in enumerate(pieces):
        if piece.trained and place and pieces[place - 1].trained:
            runs[-1].append(place)
        elif piece.trained:
            runs.append([place])
    if len(runs) != answers:
        raise InputError(
            f"The template writes {len(runs)} trained pieces for {answers} answers, so single "
            "answers can't be left out.",
            expected="one piece for each answer",
            hint=f"name another template, or take '{UNTRAINED}' (weight: 0) out of the row",
        )
    hidden = {place for number in masked if number < answers for place in runs[number]}
    return [untrained(p) if place in hidden else p for place, p in enumerate(pieces)]


def _check(messages: Messages, name: str) -> None:
    if not messages or all(m.role == "system" for m in messages):
        raise InputError(
            "A conversation has no user or assistant turn.",
            expected=f"at least one turn to write with the template '{name}'",
        )
