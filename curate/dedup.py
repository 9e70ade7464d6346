"""Exact duplicates: rows whose normalised prompt, answer, or both, are those of another."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator

from espalier.curate.config_dedup import Compared, DedupConfig
from espalier.curate.keeping import (
    EXCERPT_CHARACTERS,
    Policy,
    Removals,
    Spool,
    WriteLine,
    cluster_line,
    compared_text,
    remove,
)
from espalier.curate.pipeline import Barrier, Rows, Step, Tally, clip
from espalier.records import Example, Messages
from espalier.text import normalise

# Signs beside a digit: `5 + 3` and `5 - 3` are two tasks, though punctuation does not count.
_SIGN = re.compile(r"\d\s?[-+*/=<>^%×÷]+\s?\w|[-+*/=<>^%×÷]+\s?\d|\d[.:]\d")
_RULES = {"prompt": "duplicate_prompt", "answer": "duplicate_answer"}
EXACT = "exact"


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


def row_key(row: Example, on: Compared) -> bytes | None:
    """What equal rows have in common; None for a row without the answer that is compared."""
    prompt = row.prompt_messages
    answer = row.messages[len(prompt) :]
    if on == "answer":
        return prompt_key(answer) if answer else None
    return prompt_key(prompt) + (prompt_key(answer) if on == "prompt+answer" else b"")


def exact_dedup(config: DedupConfig, write: WriteLine | None = None) -> Step:
    """Keep the first row of each key; a later one is rejected, naming the row that it repeats.

    With `write` each repeat is a line of the cluster file, too; what the first rows say then
    waits in a temporary file.
    """
    on = config.key
    if on == "none":
        return lambda rows, tally: iter(rows)
    rule = _RULES.get(on, "duplicate_row")

    def step(rows: Iterable[Example], tally: Tally) -> Iterator[Example]:
        first: dict[bytes, int] = {}
        with Spool() as spool:
            for row in rows:
                key = row_key(row, on)
                if key is None or key not in first:
                    if key is not None:
                        text = compared_text(row, on) if write is not None else ""
                        first[key] = spool.put([row.id, clip(text, EXCERPT_CHARACTERS)])
                    yield row
                    continue
                keeper, kept = spool.get(first[key])
                tally.reject(row, rule, f"repeats row {keeper}")
                if write is not None:
                    gone = compared_text(row, on)
                    write(cluster_line(EXACT, keeper, row.id, 1.0, kept, gone))

    return step


def exact_dedup_by_policy(config: DedupConfig, write: WriteLine | None = None) -> Barrier:
    """Keep the preferred row of each key (`config.keep`), wherever it stands."""
    on = config.key
    if on == "none":
        return lambda rows, tally: iter(rows())

    def barrier(rows: Rows, tally: Tally) -> Iterator[Example]:
        import numpy as np

        policy = Policy(config)
        groups: dict[bytes, int] = {}
        group_of: list[int] = []
        for row in rows():
            policy.add(row)
            key = row_key(row, on)
            # A row without a key is a group of its own.
            group_of.append(len(group_of) if key is None else groups.setdefault(key, len(group_of)))
        ranks = policy.ranks()
        members = np.array(group_of, dtype=np.int64)
        best = np.full(len(members), len(members), dtype=np.int64)
        np.minimum.at(best, members, ranks)
        row_of = np.empty(len(members), dtype=np.int64)
        row_of[ranks] = np.arange(len(members))
        keeper = row_of[best[members]] if len(members) else members
        keeper[keeper == np.arange(len(members))] = -1
        return remove(
            rows,
            tally,
            Removals(keeper, np.ones(len(members))),
            rule=_RULES.get(on, "duplicate_row"),
            method=EXACT,
            text=lambda row: compared_text(row, on),
            evidence=lambda keeper, similarity, shared: f"repeats row {keeper}",
            write=write,
        )

    return barrier
