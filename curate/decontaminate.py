"""Held-out prompts: drawing them first, and keeping training rows away from them.

A training row is too near when its prompt equals a held-out one after normalisation, or when
the n-grams of the two prompts have a Jaccard similarity at or above the threshold.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator

from espalier.contamination import EqualTexts, NearTexts
from espalier.curate.config_holdout import HoldoutConfig
from espalier.curate.dedup import prompt_key
from espalier.curate.filters import user_text
from espalier.curate.pipeline import Step, Tally
from espalier.records import Example, Messages


def draw_order(key: bytes, seed: str) -> bytes:
    """A pseudo-random place of a prompt, the same however the rows are ordered."""
    return hashlib.blake2b(key, digest_size=8, key=seed.encode()[:64]).digest()


def draw_held_out(rows: Iterable[Example], count: int, seed: str) -> list[Example]:
    """`count` rows with distinct prompts, a seeded sample that does not depend on row order.

    Of rows with one prompt the first is taken. Holds `count` rows in memory.
    """
    chosen: dict[bytes, tuple[bytes, Example]] = {}
    # A heap of inverted places: its root is the drawn prompt that would be given up first.
    heap: list[tuple[bytes, bytes]] = []
    for row in rows:
        key = prompt_key(row.prompt_messages)
        if key in chosen:
            continue
        place = draw_order(key, seed)
        inverted = bytes(255 - value for value in place)
        if len(heap) < count:
            heapq.heappush(heap, (inverted, key))
        elif heap and inverted > heap[0][0]:
            _, dropped = heapq.heapreplace(heap, (inverted, key))
            del chosen[dropped]
        else:
            continue
        chosen[key] = (place, row)
    return [row for _, row in sorted(chosen.values(), key=lambda pair: pair[0])]


class HeldOut:
    """The prompts that must not be trained on, and what is near them."""

    def __init__(self, config: HoldoutConfig) -> None:
        self.ids: set[str] = set()
        self._ngram = config.ngram
        self._equal = EqualTexts()
        self._near = NearTexts(config.near_threshold, config.ngram)

    def __len__(self) -> int:
        return len(self._near)

    def add(self, row: Example) -> None:
        """Guard one held-out row."""
        text = user_text(row.prompt_messages)
        self.ids.add(row.id)
        self._equal.add(row.id, text)
        self._near.add(row.id, text)

    def verdict(self, prompt: Messages) -> tuple[str, str] | None:
        """(rule, evidence) when the prompt is a held-out one or near one, else None."""
        text = user_text(prompt)
        same = self._equal.find(text)
        if same is not None:
            return "same_prompt_held_out", f"the prompt of held-out row {same}"
        matches = self._near.matches(text)
        if matches:
            identity, similarity = matches[0]
            return "near_held_out", (
                f"Jaccard {similarity:.2f} of {self._ngram}-grams with held-out row {identity}"
            )
        return None


def decontaminate(held_out: HeldOut) -> Step:
    """Reject rows that are held out or near a held-out row."""

    def step(rows: Iterable[Example], tally: Tally) -> Iterator[Example]:
        for row in rows:
            verdict = held_out.verdict(row.prompt_messages) if len(held_out) else None
            if verdict is None:
                yield row
            elif row.id in held_out.ids:
                tally.set_apart("held_out")
            else:
                tally.reject(row, *verdict)

    return step
