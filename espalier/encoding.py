"""Conversations to token ids with their loss mask: each piece tokenised by itself.

Training and generation encode through the same pieces, so the ids of a prompt are the same in
both, and a trained span never shares a token with its surroundings. One BOS comes first where the
tokenizer or the template puts one; where both do, or the template writes several, the row still
begins with one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from espalier.errors import InputError, StageError
from espalier.fitting import Encoded, EncodingCounts, OverLong, fit_row, truncate_prompt
from espalier.records import Example, Messages
from espalier.segments import NO_META, Segment, Template, TrainOn

__all__ = [
    "Encoded",
    "EncodingCounts",
    "OverLong",
    "adds_bos",
    "encode_conversations",
    "encode_example",
    "encode_examples",
    "encode_prompt",
    "encode_prompts",
    "encode_segments",
    "segments_of",
    "through_answer",
    "tokenize_plain",
    "truncate_prompt",
]

_Key = tuple[str, bool, str]


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


def encode_segments(tokenizer: Any, rows: Sequence[Sequence[Segment]]) -> list[Encoded]:
    """Ids and loss mask of many rows in pieces, with a few calls of the tokenizer."""
    lead = _lead(tokenizer)
    keys = [_keys(row, bool(lead)) for row in rows]
    ids_of: dict[_Key, list[int]] = {}
    for kind in ("text", "marker"):
        for inner in (False, True):
            wanted = [k for row in keys for k in row if k[0] == kind and k[1] == inner]
            texts = [text for _, _, text in dict.fromkeys(wanted)]
            found = _tokenize_pieces(tokenizer, texts, kind == "text", lead if inner else [])
            ids_of.update(((kind, inner, t), i) for t, i in zip(texts, found, strict=True))
    bos = tokenizer.bos_token_id if adds_bos(tokenizer) else None
    return [
        _join(tokenizer, row, [ids_of.get(key, []) for key in own], bos)
        for row, own in zip(rows, keys, strict=True)
    ]


def _keys(row: Sequence[Segment], leads: bool) -> list[_Key]:
    """What the ids of each piece depend on: its kind, whether something stands before it (only
    where that matters), its text."""
    keys: list[_Key] = []
    begun = False
    for segment in row:
        keys.append((segment.kind, leads and begun, segment.text))
        begun = begun or bool(segment.text) or segment.kind == "eos"
    return keys


def _lead(tokenizer: Any) -> list[int]:
    """Ids of a newline, for a tokenizer that puts a space before every text; else nothing.

    SentencePiece tokenizers do that (Kudo & Richardson 2018, dummy prefix). A piece inside of a
    row must not get a space that its text has not.
    """
    alone, lead, both = _tokenize(tokenizer, ["x", "\n", "\nx"], split_special_tokens=True)
    first = tokenizer.convert_ids_to_tokens(alone[:1])
    marked = bool(first) and str(first[0]).startswith("\u2581")
    begins = lead and both[: len(lead)] == lead and len(both) > len(lead)
    return lead if marked and begins and both != lead + alone else []


def _tokenize_pieces(
    tokenizer: Any, texts: Sequence[str], plain: bool, lead: Sequence[int]
) -> list[list[int]]:
    """Ids of each piece, as they are after a newline where `lead` has the ids of one."""
    if not lead:
        return _tokenize(tokenizer, texts, plain)
    after = _tokenize(tokenizer, ["\n" + text for text in texts], plain)
    if all(ids[: len(lead)] == lead for ids in after):
        return [ids[len(lead) :] for ids in after]
    alone = _tokenize(tokenizer, texts, plain)  # a newline and the piece made one token
    return [
        ids[len(lead) :] if ids[: len(lead)] == lead else own
        for ids, own in zip(after, alone, strict=True)
    ]


def _join(
    tokenizer: Any, row: Sequence[Segment], pieces: Sequence[list[int]], bos: int | None
) -> Encoded:
    ids: list[int] = []
    trained: list[bool] = []
    for segment, own in zip(row, pieces, strict=True):
        piece = own
        if segment.kind == "eos":
            if tokenizer.eos_token_id is None:
                raise InputError(
                    "The tokenizer has no end-of-sequence token, and the template ends answers "
                    "with it.",
                    where=str(getattr(tokenizer, "name_or_path", "tokenizer")),
                    hint="choose a template with an end marker of its own, such as chatml",
                )
            piece = [tokenizer.eos_token_id]
        ids.extend(piece)
        trained.extend([segment.trained] * len(piece))
    extra = _leading(ids, tokenizer.bos_token_id)
    if extra > 1:
        del ids[: extra - 1], trained[: extra - 1]
    if bos is not None and (not ids or ids[0] != bos):
        ids.insert(0, bos)
        trained.insert(0, False)
    return Encoded(ids, trained)


def _leading(ids: Sequence[int], token: int | None) -> int:
    """How many of the first ids are `token`."""
    return next((i for i, found in enumerate(ids) if found != token), len(ids))


def encode_prompts(
    tokenizer: Any,
    template: Template,
    prompts: Iterable[tuple[Messages, Mapping[str, Any]]],
) -> list[list[int]]:
    """Ids of each (messages, meta) up to where the assistant begins (a final answer left out)."""
    rows = [template.prompt_segments(messages, meta) for messages, meta in prompts]
    return [encoded.ids for encoded in encode_segments(tokenizer, rows)]


def encode_prompt(
    tokenizer: Any, template: Template, messages: Messages, meta: Mapping[str, Any] = NO_META
) -> list[int]:
    """Ids up to where the assistant begins; see `encode_prompts` for many at once."""
    return encode_prompts(tokenizer, template, [(messages, meta)])[0]


def encode_example(
    tokenizer: Any, template: Template, messages: Messages, meta: Mapping[str, Any] = NO_META
) -> Encoded:
    """Ids and loss mask of a whole conversation; see `encode_examples` for many at once."""
    return encode_segments(tokenizer, [template.segments(messages, meta)])[0]


def encode_conversations(
    tokenizer: Any,
    template: Template,
    conversations: Iterable[tuple[Messages, Mapping[str, Any]]],
    *,
    train_on: TrainOn = "all",
) -> list[Encoded]:
    """`encode_example` for many (messages, meta) at once; none is dropped or truncated."""
    rows = [template.segments(turns, meta, train_on=train_on) for turns, meta in conversations]
    return encode_segments(tokenizer, rows)


def through_answer(encoded: Encoded) -> Encoded:
    """Without what a template writes after the end of the last answer (such as a newline).

    A reward is read at the token that ends the answer, which is also the last token that a
    policy generates.
    """
    last = max((i for i, trained in enumerate(encoded.trained) if trained), default=-1)
    return Encoded(encoded.ids[: last + 1], encoded.trained[: last + 1])


def last_trained(encoded: Encoded) -> int | None:
    """The id of the last trained token."""
    pairs = zip(reversed(encoded.ids), reversed(encoded.trained), strict=True)
    return next((identity for identity, trained in pairs if trained), None)


def encode_examples(
    tokenizer: Any,
    template: Template,
    examples: Sequence[Example],
    *,
    max_length: int | None = None,
    over_long: OverLong = "truncate",
    train_on: TrainOn = "all",
    counts: EncodingCounts | None = None,
) -> list[Encoded]:
    """Encode training examples; rows that can't be used are dropped and counted in `counts`.

    The loss is taken over all turns of the assistant, or with `train_on` "last" over the last
    one. Over `max_length` tokens: "truncate" takes the excess from the side of the prompt (the
    oldest tokens after a BOS, up to the last answer), and from the end of that answer once
    nothing else is left; an answer that the row then begins with is not trained.
    "drop" drops the row; "stop" raises StageError. A row left without a trained token is
    dropped (`untrained`). Raises InputError, naming the row, where the template can't write one,
    and StageError when no row is left.
    """
    counts = counts if counts is not None else EncodingCounts()
    rows = [
        segments_of(template, example, number, train_on)
        for number, example in enumerate(examples, 1)
    ]
    kept = []
    special = (i for i, token in tokenizer.added_tokens_decoder.items() if token.special)
    ends = {*special, tokenizer.eos_token_id, None}
    for example, encoded in zip(examples, encode_segments(tokenizer, rows), strict=True):
        if last_trained(encoded) not in ends:
            counts.endless += 1
            counts.name("endless", example.id)
        fitted = fit_row(encoded, max_length, over_long, example.id, counts)
        if fitted is not None:
            kept.append(fitted)
    if not kept:
        raise StageError(
            f"None of {len(examples):,} rows has a token to train on"
            + (f": {'; '.join(counts.notes(max_length))}." if examples else "."),
            expected="conversations with an assistant turn"
            + (f" that fit in {max_length} tokens" if max_length else ""),
            hint="look at the data with `espalier inspect FILE`, or raise max_length",
        )
    return kept


def segments_of(
    template: Template, example: Example, number: int, train_on: TrainOn
) -> list[Segment]:
    """The pieces of a row; raises InputError, naming it, where the template can't write it."""
    try:
        return template.segments(example.messages, example.meta, train_on=train_on)
    except InputError as error:
        raise InputError(
            error.what,
            where=f"row {number:,} ({example.id})" + (f", {error.where}" if error.where else ""),
            expected=error.expected,
            hint=error.hint,
        ) from error
