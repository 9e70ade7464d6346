"""Held-out prompts: drawing them first, and keeping training rows away from them.

A training row is too near when its prompt equals a held-out one after normalisation, when the
n-grams of the two prompts have a Jaccard similarity at or above the threshold, or when both rows
go back to one (parts of a dialogue).
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from espalier.contamination import EqualTexts, NearTexts
from espalier.curate.config_holdout import HoldoutConfig
from espalier.curate.dedup import prompt_key
from espalier.curate.filters import user_text
from espalier.curate.lineage import root_of
from espalier.curate.pipeline import Step, Tally
from espalier.records import Example, Messages, PreferencePair, dialogue_of
from espalier.together import together

SAME_PROMPT = "same_prompt_held_out"
SAME_ROOT = "same_root_held_out"


def draw_order(key: bytes, seed: str) -> bytes:
    """A pseudo-random place of a prompt, the same however the rows are ordered."""
    return hashlib.blake2b(key, digest_size=8, key=seed.encode()[:64]).digest()


def draw_held_out(rows: Iterable[Example], count: int, seed: str) -> list[Example]:
    """`count` rows with distinct prompts, a seeded sample that does not depend on row order.

    Of rows with one prompt the first is taken, and of a dialogue in parts the first part: rows of
    an evaluation are to be independent, and what a later part asks may rest on turns before it.
    Holds `count` rows and the ids of such dialogues in memory.
    """
    seen: set[str] = set()
    chosen: dict[bytes, tuple[bytes, Example]] = {}
    # A heap of inverted places: its root is the drawn prompt that would be given up first.
    heap: list[tuple[bytes, bytes]] = []
    for row in rows:
        dialogue = dialogue_of(row)
        if dialogue in seen:
            continue
        if dialogue is not None:
            seen.add(dialogue)
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


def families(rows: Sequence[Example | PreferencePair], seed: str) -> list[list[int]]:
    """The places of rows, those with one prompt or of one dialogue together, in a seeded order;
    dialogues that only a common prompt holds together come last."""
    keys = [
        prompt_key(row.prompt if isinstance(row, PreferencePair) else row.prompt_messages)
        for row in rows
    ]
    found = together(zip(keys, map(dialogue_of, rows), strict=True))
    found.sort(key=lambda one: (one.linked, draw_order(keys[one.places[0]], seed)))
    return [one.places for one in found]


class HeldOut:
    """The prompts that must not be trained on, and what is near them."""

    def __init__(self, config: HoldoutConfig) -> None:
        self.ids: set[str] = set()
        self.roots: dict[str, str] = {}
        self._ngram = config.ngram
        self._equal = EqualTexts()
        self._near = NearTexts(config.near_threshold, config.ngram)

    def __len__(self) -> int:
        return len(self._near)

    def add(self, row: Example) -> None:
        """Guard one held-out row."""
        text = user_text(row.prompt_messages)
        self.ids.add(row.id)
        self.roots.setdefault(root_of(row), row.id)
        self._equal.add(row.id, text)
        self._near.add(row.id, text)

    def verdict(self, prompt: Messages) -> tuple[str, str] | None:
        """(rule, evidence) when the prompt is a held-out one or near one, else None."""
        text = user_text(prompt)
        same = self._equal.find(text)
        if same is not None:
            return SAME_PROMPT, f"the prompt of held-out row {same}"
        matches = self._near.matches(text)
        if matches:
            identity, similarity = matches[0]
            return "near_held_out", (
                f"Jaccard {similarity:.2f} of {self._ngram}-grams with held-out row {identity}"
            )
        return None

    def sibling(self, row: Example | PreferencePair) -> tuple[str, str] | None:
        """(rule, evidence) when the row is a part of a dialogue that a held-out one names."""
        dialogue = dialogue_of(row)
        if dialogue is None or dialogue not in self.roots:
            return None
        return SAME_ROOT, f"goes back to {dialogue}, as held-out row {self.roots[dialogue]} does"


def decontaminate(held_out: HeldOut) -> Step:
    """Reject rows that are held out, near a held-out row, or go back to the same one.

    Of a dialogue with a part that is held out, or that has the prompt of a held-out row, no part
    is kept. Parts that follow each other are decided together, since the last may be the one that
    tells: one dialogue is held in memory. Of parts that stand apart it tells for those after it.
    """

    def step(rows: Iterable[Example], tally: Tally) -> Iterator[Example]:
        reasons = {root: f"as held-out row {row} does" for root, row in held_out.roots.items()}
        for dialogue, group in groupby(rows, key=dialogue_of):
            if dialogue is None:
                for row in group:
                    yield from _decided([row], held_out, reasons, tally)
            else:
                yield from _decided(list(group), held_out, reasons, tally)

    return step


def _decided(
    rows: Sequence[Example], held_out: HeldOut, reasons: dict[str, str], tally: Tally
) -> list[Example]:
    """Those that are kept of rows with one root; what is learnt about it goes to `reasons`."""
    root = root_of(rows[0])
    verdicts = [held_out.verdict(row.prompt_messages) if len(held_out) else None for row in rows]
    for row, verdict in zip(rows, verdicts, strict=True):
        if verdict is not None and (reason := _of_all_parts(row, verdict, held_out)) is not None:
            reasons.setdefault(root, reason)
    kept = []
    for row, verdict in zip(rows, verdicts, strict=True):
        if verdict is None and root not in reasons:
            kept.append(row)
        elif verdict is None:
            tally.reject(row, SAME_ROOT, f"goes back to {root}, {reasons[root]}")
        elif row.id in held_out.ids:
            tally.set_apart("held_out")
        else:
            tally.reject(row, *verdict)
    return kept


def _of_all_parts(row: Example, verdict: tuple[str, str], held_out: HeldOut) -> str | None:
    """Why the other parts of a row's dialogue go with it; None where they may stay."""
    rule, evidence = verdict
    if row.id in held_out.ids:
        # A dialogue that was shared twice, once longer, has this part in both.
        return f"as held-out row {row.id} does"
    if rule == SAME_PROMPT and dialogue_of(row) is not None:
        return f"as row {row.id} does, which has {evidence}"
    # Prompts that are alike (a template, a greeting) make no common dialogue.
    return None
