"""Exact duplicates: rows whose normalised prompt (and answer) was seen before."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator

from espalier.curate.config_dedup import DedupConfig
from espalier.curate.pipeline import Step, Tally
from espalier.records import Example, Messages
from espalier.text import normalise

# Signs beside a digit: `5 + 3` and `5 - 3` are two tasks, though punctuation does not count.
_SIGN = re.compile(r"\d\s?[-+*/=<>^%×÷]+\s?\w|[-+*/=<>^%×÷]+\s?\d|\d[.:]\d")


def prompt_key(messages: Messages) -> bytes:
    """16 bytes that stand for a prompt: all its turns, normalised, with their roles.

    Arithmetic signs beside digits count, other punctuation does not.
    """
    digest = hashlib.blake2b(digest_size=16)
    for message in messages:
        text = normalise(message.content)
        signs = "".join("".join(_SIGN.findall(message.content)).split())
        data = f"{text}\0{signs}".encode(errors="surrogatepass")
        digest.update(f"{message.role}:{len(data)}:".encode())
        digest.update(data)
    return digest.digest()


def exact_dedup(config: DedupConfig) -> Step:
    """Keep the first row of each key; a later one is rejected, naming the row that it repeats."""
    rule = "duplicate_prompt" if config.key == "prompt" else "duplicate_row"

    def step(rows: Iterable[Example], tally: Tally) -> Iterator[Example]:
        first: dict[bytes, str] = {}
        for row in rows:
            key = prompt_key(row.prompt_messages)
            if config.key == "prompt+answer":
                key += prompt_key(row.messages[len(row.prompt_messages) :])
            if key in first:
                tally.reject(row, rule, f"repeats row {first[key]}")
            else:
                first[key] = row.id
                yield row

    return step
