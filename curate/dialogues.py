"""The step that makes dialogues fit for training: clean, alternating, within a token limit.

As Vicuna's data were made from ShareGPT (Chiang et al. 2023): remnants of the web page go, a
dialogue that does not alternate is dropped, and a long one is cut at turn borders into parts that
each begin with a question and end with an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from espalier.curate.config_dialogues import DialogueConfig
from espalier.curate.dialogue_text import clean_turns, disorder, framed, merged
from espalier.curate.pipeline import Step, Tally
from espalier.errors import InputError, require
from espalier.records import Example, Message

_ASCII_PER_TOKEN = 4
Count = Callable[[Sequence[str]], list[int]]
Exchange = tuple[Message, Message]


def estimate_tokens(text: str) -> int:
    """Roughly the tokens of a text: four ASCII characters or one other character each."""
    ascii_characters = len(text.encode("ascii", errors="ignore"))
    return -(-ascii_characters // _ASCII_PER_TOKEN) + len(text) - ascii_characters


def token_counter(tokenizer: str | None) -> Count:
    """Counts the tokens of texts, with the tokenizer of a folder or by the estimate.

    Special tokens that are written in a text count as the plain text that they are there.
    Raises InputError for a folder that holds no tokenizer.
    """
    if tokenizer is None:
        return lambda texts: [estimate_tokens(text) for text in texts]
    path = Path(tokenizer) / "tokenizer.json"
    if not path.is_file():
        return _by_model(tokenizer)
    package: Any = require("tokenizers", extra="train", feature="Counting with a tokenizer")
    try:
        loaded = package.Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises the base class itself
        raise InputError(
            "A tokenizer can't be read.", where=str(path), expected=f"tokenizer.json ({error})"
        ) from error
    loaded.no_truncation()
    loaded.no_padding()
    loaded.encode_special_tokens = True
    return lambda texts: [
        len(encoded.ids) for encoded in loaded.encode_batch(list(texts), add_special_tokens=False)
    ]


def _by_model(folder: str) -> Count:
    from espalier.encoding import tokenize_plain
    from espalier.models import load_tokenizer

    loaded = load_tokenizer(folder)
    return lambda texts: [len(ids) for ids in tokenize_plain(loaded, texts)]


def dialogue_step(config: DialogueConfig) -> Step:
    """Clean each row and split it where it is longer than `max_tokens`.

    Rows without an answer pass as they are (the teacher may answer them later). What is altered
    is counted; a part names its dialogue in `meta.parents` and its place in `meta.part`.
    """

    def step(rows: Iterable[Example], tally: Tally) -> Iterator[Example]:
        count = token_counter(config.tokenizer) if config.max_tokens is not None else None
        for row in rows:
            if all(message.role != "assistant" for message in row.messages):
                yield row
                continue
            cleaned = clean(row, config, tally)
            if cleaned is None:
                continue
            if count is None or config.max_tokens is None:
                yield cleaned
            else:
                yield from split(cleaned, config.max_tokens, config.turn_tokens, count, tally)

    return step


def clean(row: Example, config: DialogueConfig, tally: Tally) -> Example | None:
    """The row as a sound dialogue; None (a reject of `tally`) where it can't be one."""
    turns = framed(clean_turns(row.messages, config, tally.change), tally.change)
    fault = disorder(turns)
    if fault is not None and config.not_alternating == "merge":
        turns = merged(turns)
        fault = disorder(turns)
        if fault is None:
            tally.change("merged_turns")
    if fault is not None:
        tally.reject(row, "not_alternating", fault)
        return None
    return row if tuple(turns) == row.messages else _derived(row, turns, "clean")


def split(row: Example, limit: int, per_turn: int, count: Count, tally: Tally) -> Iterator[Example]:
    """The parts of a sound dialogue, each of at most `limit` tokens.

    A part takes as many exchanges (question and answer) as fit; the system message, which each
    part repeats, counts too. An exchange that is too long by itself is a reject, and no part
    reaches across it.
    """
    has_system = row.messages[0].role == "system"
    head, body = row.messages[:has_system], row.messages[has_system:]
    sizes = [size + per_turn for size in count([turn.content for turn in row.messages])]
    base = sum(sizes[:has_system])
    if sum(sizes) <= limit:
        yield row
        return
    parts: list[list[Message]] = []
    room = 0
    for place in range(0, len(body), 2):
        exchange = body[place : place + 2]
        size = sum(sizes[has_system + place : has_system + place + 2])
        if base + size > limit:
            _reject_long(row, exchange, base + size, limit, tally)
            room = 0
        elif parts and size <= room:
            parts[-1] += exchange
            room -= size
        else:
            parts.append([*exchange])
            room = limit - base - size
    if parts:
        tally.change("split")
    for number, part in enumerate(parts, 1):
        yield _derived(row, [*head, *part], "split", part=number, of_parts=len(parts))


def _reject_long(
    row: Example, exchange: Sequence[Message], size: int, limit: int, tally: Tally
) -> None:
    tally.reject_text(
        "\n".join(f"{turn.role}: {turn.content}" for turn in exchange),
        "long_exchange",
        f"{size:,} tokens with the system message; the limit is {limit:,}",
        id=row.id,
        source=row.meta.get("source"),
        meta={"parents": [row.id]},
    )


def _derived(row: Example, turns: Sequence[Message], operator: str, **more: Any) -> Example:
    """A row made of another, which it names before that one's own parents."""
    meta = {key: value for key, value in row.meta.items() if key != "reference"}
    first = next(turn.content for turn in turns if turn.role == "user")
    if "input" in meta and not first.endswith(str(meta["input"])):
        del meta["input"]
    meta["parents"] = [row.id, *row.meta.get("parents", [])]
    meta["operator"] = row.meta.get("operator", operator)
    return Example.make(turns, {**meta, **more})
