"""Conversations to token ids with their loss mask: each piece tokenised by itself.

Training and generation encode through the same pieces, so the ids of a prompt are the same in
both, and a trained span never shares a token with its surroundings. At most one BOS comes
first, and only where the tokenizer itself would put one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from espalier.errors import InputError, StageError
from espalier.records import Example, Messages
from espalier.templates import NO_META, Segment, Template

OverLong = Literal["truncate", "drop", "stop"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids and, for each, whether the loss is taken on predicting it."""

    ids: list[int]
    trained: list[bool]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def targets(self) -> int:
        """How many tokens the loss is taken over (the first token is never predicted)."""
        return sum(self.trained[1:])


@dataclass
class EncodingCounts:
    """What became of the rows: `kept` + `too_long` + `untrained` is all that came in.

    `truncated` counts those of the kept that lost tokens.
    """

    kept: int = 0
    truncated: int = 0
    too_long: int = 0
    untrained: int = 0
    dropped_ids: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, int]:
        return {
            "kept": self.kept,
            "truncated": self.truncated,
            "too_long": self.too_long,
            "untrained": self.untrained,
        }


def adds_bos(tokenizer: Any) -> bool:
    """Whether this tokenizer itself begins a text with its BOS token."""
    bos = getattr(tokenizer, "bos_token_id", None)
    if bos is None:
        return False
    ids = list(tokenizer("x", add_special_tokens=True)["input_ids"])
    return bool(ids) and ids[0] == bos


def tokenize_plain(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text; special tokens written in a text stay plain text. No BOS or EOS."""
    return _tokenize(tokenizer, texts, split_special_tokens=True)


def _tokenize(tokenizer: Any, texts: Sequence[str], split_special_tokens: bool) -> list[list[int]]:
    if not texts:
        return []
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        split_special_tokens=split_special_tokens,
        return_attention_mask=False,
        verbose=False,  # lengths are checked where a limit is known
    )
    return [list(ids) for ids in encoded["input_ids"]]


def _encode_all(tokenizer: Any, rows: Sequence[Sequence[Segment]]) -> list[Encoded]:
    """Encode many segmented rows with two calls of the tokenizer (content, markers)."""
    ids_of: dict[tuple[str, str], list[int]] = {}
    for kind in ("text", "marker"):
        texts = list(dict.fromkeys(s.text for row in rows for s in row if s.kind == kind))
        plain = kind == "text"
        for text, ids in zip(texts, _tokenize(tokenizer, texts, plain), strict=True):
            ids_of[kind, text] = ids
    bos = tokenizer.bos_token_id if adds_bos(tokenizer) else None
    return [_join(tokenizer, row, ids_of, bos) for row in rows]


def _join(
    tokenizer: Any,
    row: Sequence[Segment],
    ids_of: Mapping[tuple[str, str], list[int]],
    bos: int | None,
) -> Encoded:
    ids: list[int] = []
    trained: list[bool] = []
    for segment in row:
        if segment.kind == "eos":
            if tokenizer.eos_token_id is None:
                raise InputError(
                    "The tokenizer has no end-of-sequence token, and the template ends answers "
                    "with it.",
                    where=str(getattr(tokenizer, "name_or_path", "tokenizer")),
                    hint="choose a template with an end marker of its own, such as chatml",
                )
            piece = [tokenizer.eos_token_id]
        else:
            piece = ids_of[segment.kind, segment.text]
        ids.extend(piece)
        trained.extend([segment.trained] * len(piece))
    if bos is not None and (not ids or ids[0] != bos):
        ids.insert(0, bos)
        trained.insert(0, False)
    return Encoded(ids, trained)


def encode_prompts(
    tokenizer: Any,
    template: Template,
    prompts: Iterable[tuple[Messages, Mapping[str, Any]]],
) -> list[list[int]]:
    """Ids of each (messages, meta) up to where the assistant begins (a final answer left out)."""
    rows = [template.prompt_segments(messages, meta) for messages, meta in prompts]
    return [encoded.ids for encoded in _encode_all(tokenizer, rows)]


def encode_prompt(
    tokenizer: Any, template: Template, messages: Messages, meta: Mapping[str, Any] = NO_META
) -> list[int]:
    """Ids up to where the assistant begins; see `encode_prompts` for many at once."""
    return encode_prompts(tokenizer, template, [(messages, meta)])[0]


def encode_example(
    tokenizer: Any, template: Template, messages: Messages, meta: Mapping[str, Any] = NO_META
) -> Encoded:
    """Ids and loss mask of a whole conversation; see `encode_examples` for many at once."""
    return _encode_all(tokenizer, [template.segments(messages, meta)])[0]


def encode_conversations(
    tokenizer: Any,
    template: Template,
    conversations: Iterable[tuple[Messages, Mapping[str, Any]]],
) -> list[Encoded]:
    """`encode_example` for many (messages, meta) at once; none is dropped or truncated."""
    rows = [template.segments(messages, meta) for messages, meta in conversations]
    return _encode_all(tokenizer, rows)


def through_answer(encoded: Encoded) -> Encoded:
    """Without what a template writes after the end of the last answer (such as a newline).

    A reward is read at the token that ends the answer, which is also the last token that a
    policy generates.
    """
    last = max((i for i, trained in enumerate(encoded.trained) if trained), default=-1)
    return Encoded(encoded.ids[: last + 1], encoded.trained[: last + 1])


def encode_examples(
    tokenizer: Any,
    template: Template,
    examples: Sequence[Example],
    *,
    max_length: int | None = None,
    over_long: OverLong = "truncate",
    counts: EncodingCounts | None = None,
) -> list[Encoded]:
    """Encode training examples; rows that can't be used are dropped and counted in `counts`.

    Over `max_length` tokens: "truncate" takes the excess from the side of the prompt (the
    oldest tokens after a BOS), and from the end of the answers once no prompt is left;
    "drop" drops the row; "stop" raises StageError. A row left without a trained token is
    dropped (`untrained`). Raises StageError when no row is left.
    """
    counts = counts if counts is not None else EncodingCounts()
    rows = [template.segments(example.messages, example.meta) for example in examples]
    kept = []
    for example, encoded in zip(examples, _encode_all(tokenizer, rows), strict=True):
        fitted = _fit(encoded, max_length, over_long, example.id)
        if fitted is None:
            counts.too_long += 1
            counts.dropped_ids.append(example.id)
        elif not fitted.targets:
            counts.untrained += 1
            counts.dropped_ids.append(example.id)
        else:
            counts.kept += 1
            counts.truncated += fitted is not encoded
            kept.append(fitted)
    if not kept:
        raise StageError(
            f"None of {len(examples):,} rows has a token to train on.",
            expected="conversations with an assistant turn"
            + (f" that fit in {max_length} tokens" if max_length else ""),
            hint="look at the data with `espalier inspect FILE`, or raise max_length",
        )
    return kept


def _fit(encoded: Encoded, limit: int | None, over_long: OverLong, name: str) -> Encoded | None:
    excess = len(encoded) - limit if limit is not None else 0
    if limit is None or excess <= 0:
        return encoded
    if over_long == "stop":
        raise StageError(
            f"A row has {len(encoded):,} tokens.",
            where=f"row {name}",
            expected=f"at most {limit:,} (max_length)",
            hint="raise max_length, or set over_long to truncate or drop",
        )
    if over_long == "drop":
        return None
    return truncate_prompt(encoded, limit)


def truncate_prompt(encoded: Encoded, limit: int) -> Encoded:
    """Cut to `limit` tokens: first the oldest tokens before the first answer, then the end.

    The first token stays (it is the BOS or the marker that opens the conversation).
    """
    excess = len(encoded) - limit
    if excess <= 0:
        return encoded
    first = next((i for i, t in enumerate(encoded.trained) if t), len(encoded))
    # Two tokens of the prompt always stay: the opening token and the marker of the answer.
    cut = max(0, min(excess, first - 2))
    ids = encoded.ids[:1] + encoded.ids[1 + cut :]
    trained = encoded.trained[:1] + encoded.trained[1 + cut :]
    return Encoded(ids[:limit], trained[:limit])
