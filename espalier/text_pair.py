"""The template `text-pair`: prompt and answer as the two texts of an encoder's input.

BERT and its kin read `[CLS] prompt [SEP] answer [SEP]`, RoBERTa `<s> prompt </s></s> answer </s>`.
The markers are asked of the tokenizer, so the ids are those of `tokenizer(prompt, answer)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espalier.errors import UsageError
from espalier.records import Messages
from espalier.segments import Segment, Template

NAME = "text-pair"


def joins_pairs(tokenizer: Any) -> bool:
    """Whether this is an encoder's tokenizer, which puts markers around two texts."""
    return tokenizer.cls_token_id is not None and tokenizer.sep_token_id is not None


def text_pair(tokenizer: Any) -> Template:
    """The template; raises UsageError for a tokenizer that has no form for two texts."""
    if tokenizer is None or not joins_pairs(tokenizer):
        raise UsageError(
            f"The template '{NAME}' needs a tokenizer with [CLS] and [SEP] tokens.",
            where=str(getattr(tokenizer, "name_or_path", "tokenizer")),
            hint="it is for encoders such as BERT; name another template",
        )
    before, between, after = _markers(tokenizer)

    def render(messages: Messages, meta: Mapping[str, Any], generate: bool) -> list[Segment]:
        answered = messages[-1].role == "assistant" and not generate
        turns = messages[:-1] if answered else messages
        pieces = [
            Segment(before, False, "marker"),
            Segment(_prompt(turns), False),
            Segment(between, False, "marker"),
        ]
        if answered:
            pieces.append(Segment(messages[-1].content, True))
            pieces.append(Segment(after, True, "marker"))
        return pieces

    return Template(NAME, (), (), render)


def _prompt(turns: Messages) -> str:
    """The turns before the answer as one text: alone as it is, several with who speaks."""
    if len(turns) == 1:
        return turns[0].content
    return "\n".join(f"{turn.role.capitalize()}: {turn.content}" for turn in turns)


def _markers(tokenizer: Any) -> tuple[str, str, str]:
    """The special tokens before, between and after two texts."""
    encoded = tokenizer("a", "a", return_special_tokens_mask=True)
    names = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    runs = [""]
    inside = False
    for name, special in zip(names, encoded["special_tokens_mask"], strict=True):
        if special:
            runs[-1] += name
            inside = False
        elif not inside:
            runs.append("")
            inside = True
    before, between, after = (*runs, "", "", "")[:3]
    return before, between, after
