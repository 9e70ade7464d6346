"""Chat templates in Jinja, the model's own or a file: a conversation to pieces, answers found.

They are rendered as `transformers` does (`tokenizer.apply_chat_template`): in its sandbox, with
the variables `messages`, `add_generation_prompt`, `bos_token`, `eos_token` and the tokenizer's
other named tokens. What is learnt:

- `{% generation %}` blocks, where the template has them, are the learnt spans, as for
  `return_assistant_tokens_mask`;
- else prefixes are rendered: a turn of the assistant begins where the rendering of the turns
  before it, with the generation prompt, ends; it goes on to its last special token, the end
  marker (a newline after that is never generated).

Two things differ from `transformers`, both on purpose. A special token that someone typed into a
turn is hidden from the template and stays plain text. `strftime_now` gives one fixed day: with
the day of the run, a run that goes on tomorrow would train on other data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from espalier.errors import InputError, UsageError, require
from espalier.records import Message, Messages
from espalier.segments import Segment, Template, untrained

Span = tuple[int, int]

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_TODAY = datetime(2025, 1, 1)
# Private-use signs that stand for a hidden text while a template is rendered.
_STAND_INS = range(0xF0000, 0xFFFFE)
_PROBE = (Message("user", "question 7301"), Message("assistant", "answer 9482"))
_HINT = "set train_on: last, use single-turn data, or name another template"


def chat_template(tokenizer: Any, text: str, name: str) -> Template:
    """A Jinja chat template as a Template; raises UsageError for a text that is no Jinja."""
    form = _ChatForm(tokenizer, text)
    return Template(name, form.ends(), (), form.render, form.render_last, text, form.warning())


class _ChatForm:
    def __init__(self, tokenizer: Any, text: str) -> None:
        self._tokenizer = tokenizer
        self._text = text
        self._has_blocks = bool(_GENERATION.search(text))
        self._place = str(getattr(tokenizer, "name_or_path", "") or "the tokenizer")
        self._known: dict[int, list[str]] = {}  # special tokens, by size of the vocabulary
        self._parts = False
        self._parts = self._takes_parts()

    def render(self, messages: Messages, meta: Mapping[str, Any], generate: bool) -> list[Segment]:
        """All turns; without `generate` the answers are learnt."""
        turns, hidden = self._hide(messages)
        text, spans = self._write(turns, generate)
        if not self._has_blocks:
            found = self._answers(turns, text)
            if found is None and not generate:
                raise self._broken()
            spans = found or []
        return _cut(text, spans, hidden)

    def render_last(self, messages: Messages, meta: Mapping[str, Any]) -> list[Segment]:
        """All turns up to the assistant's last, which alone is learnt.

        The turns before it are cut as in its prompt, so that their ids are the same.
        """
        last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
        if last < 0:
            return [untrained(piece) for piece in self.render(messages, meta, True)]
        turns, hidden = self._hide(messages[: last + 1])
        before = self._write(turns[:last], True)[0]
        text, spans = self._write(turns, False)
        start = self._begin_of(turns[:last], before, text)
        if self._has_blocks:
            # A block may begin with the head of the turn.
            start = start if start is not None else spans[-1][0] if spans else 0
        elif start is None:
            raise self._broken()
        else:
            spans = [*(self._answers(turns[:last], before) or []), (start, self._end_of(text))]
        return _cut(text, spans, hidden, learnt_after=start)

    def _takes_parts(self) -> bool:
        """Whether contents have to be lists of parts, as some templates for pictures and text
        take them; with plain text they fail, or write nothing."""
        if self._writes_probe():
            return False
        self._parts = True
        return self._writes_probe()

    def _writes_probe(self) -> bool:
        try:
            return _PROBE[1].content in self._write(_PROBE, False)[0]
        except InputError:
            return False

    def ends(self) -> tuple[str, ...]:
        """The special token that ends an answer, if the template writes one."""
        try:
            pieces = self.render_last(_PROBE, {})
        except InputError:
            return ()
        learnt = "".join(piece.text for piece in pieces if piece.trained).rstrip()
        return tuple(token for token in self._special() if learnt.endswith(token))[:1]

    def warning(self) -> str | None:
        """What to say where a prompt is not how a row with its answer begins."""
        try:
            asked = self._write(_PROBE[:1], True)[0]
            row = self._write(_PROBE, False)[0]
        except InputError:
            return None
        if row.startswith(asked):
            return None
        return (
            f"the template asks for an answer with …{asked[-40:]!r}, and rows with an answer go on "
            "otherwise: what is trained is not quite what is asked"
        )

    def _answers(self, turns: Messages, text: str) -> list[Span] | None:
        """Where the answers stand in `text`; None when the template rewrites earlier turns."""
        spans = []
        for index, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            before = self._write(turns[:index], True)[0]
            after = self._write(turns[: index + 1], False)[0]
            start = self._begin_of(turns[:index], before, after)
            if start is None or not text.startswith(after):
                return None
            spans.append((start, self._end_of(after)))
        return spans

    def _begin_of(self, turns: Messages, before: str, after: str) -> int | None:
        """Where the answer in `after` begins, `before` being what is asked; None when the template
        rewrites earlier turns.

        Where the generation prompt opens what the turn does not have (such as a thought), the
        answer begins where the two part.
        """
        if after.startswith(before):
            return len(before)
        pairs = enumerate(zip(before, after, strict=False))
        shared = next((i for i, (one, other) in pairs if one != other), len(after))
        earlier = self._write(turns, False)[0] if turns else ""
        return shared if after.startswith(earlier) and shared >= len(earlier) else None

    def _end_of(self, text: str) -> int:
        """Where an answer at the end of `text` ends: after its last special token, if nothing but
        space follows that. (Special tokens of the content itself are hidden.)"""
        end = max((text.rfind(t) + len(t) for t in self._special() if t in text), default=0)
        return end if end and not text[end:].strip() else len(text)

    def _write(self, turns: Sequence[Message], generate: bool) -> tuple[str, list[Span]]:
        """The text of the turns, and where its generation blocks begin and end."""
        require("transformers", extra="train", feature="A chat template")
        from jinja2 import TemplateError, TemplateSyntaxError
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            rendered: Any = render_jinja_template(
                conversations=[[self._turn(turn) for turn in turns]],
                chat_template=self._text,
                return_assistant_tokens_mask=self._has_blocks,
                add_generation_prompt=generate,
                strftime_now=_TODAY.strftime,
                **getattr(self._tokenizer, "special_tokens_map", {}),
            )
        except TemplateSyntaxError as error:
            raise UsageError(
                f"The chat template is not valid Jinja: {error.message}.",
                where=f"{self._place}, line {error.lineno} of the template",
            ) from error
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise InputError(
                f"The chat template can't write this conversation: {error}",
                where=self._place,
                expected="roles in the order that the template takes: "
                + ", ".join(turn.role for turn in turns),
                hint="leave such rows out, or name another template",
            ) from error
        texts, blocks = rendered
        spans = [span for found in blocks for span in found if span[0] < span[1]]
        return str(texts[0]), sorted(spans)

    def _turn(self, turn: Message) -> dict[str, Any]:
        if self._parts:
            return {"role": turn.role, "content": [{"type": "text", "text": turn.content}]}
        return dict(turn.to_json())

    def _special(self) -> list[str]:
        """Texts of the tokenizer's special tokens; markers may be added to it at any time."""
        if not hasattr(self._tokenizer, "added_tokens_decoder"):
            return []
        size = len(self._tokenizer)
        if size not in self._known:
            added = self._tokenizer.added_tokens_decoder
            texts = [str(token) for token in added.values() if token.special]
            self._known = {size: [text for text in texts if text]}
        return self._known[size]

    def _hide(self, messages: Messages) -> tuple[Messages, dict[str, str]]:
        """Messages in which one sign stands for each special token that they hold as text."""
        whole = "".join(message.content for message in messages)
        typed = sorted((t for t in self._special() if t in whole), key=len, reverse=True)
        if not typed:
            return messages, {}
        free = (chr(code) for code in _STAND_INS if chr(code) not in whole)
        hidden = dict(zip(free, typed, strict=False))
        shown = []
        for message in messages:
            content = message.content
            for sign, text in hidden.items():
                content = content.replace(text, sign)
            shown.append(Message(message.role, content))
        return tuple(shown), hidden

    def _broken(self) -> InputError:
        return InputError(
            "The chat template of this tokenizer rewrites earlier turns when a turn is added, so "
            "the answers in a conversation can't be told from the rest.",
            where=self._place,
            expected="each turn to be written after the ones before it, unchanged, or "
            "{% generation %} blocks",
            hint=_HINT,
        )


def _cut(
    text: str, spans: Sequence[Span], hidden: Mapping[str, str], learnt_after: int = 0
) -> list[Segment]:
    """The text in pieces, those of `spans` that end after `learnt_after` learnt; hidden texts
    shown."""
    pieces: list[Segment] = []
    at = 0
    for start, end in spans:
        pieces += _shown(text[at:start], False, hidden)
        pieces += _shown(text[max(at, start) : end], end > learnt_after, hidden)
        at = max(at, end)
    return pieces + _shown(text[at:], False, hidden)


def _shown(text: str, trained: bool, hidden: Mapping[str, str]) -> list[Segment]:
    """A piece of a rendering; what was hidden in it is text again."""
    if not hidden:
        return [Segment(text, trained, "marker")]
    parts = re.split(f"([{re.escape(''.join(hidden))}])", text)
    return [
        Segment(hidden[part], trained, "text")
        if part in hidden
        else Segment(part, trained, "marker")
        for part in parts
        if part
    ]
