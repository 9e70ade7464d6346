"""Edits of TER against sacrebleu's own search, and in long texts against what is known."""

from __future__ import annotations

import random

import numpy as np
import pytest

from espalier.evaluate.ter import ter_statistics
from espalier.evaluate.ter_edits import count_edits


def edits(words: list[str], reference: list[str]) -> int:
    ids: dict[str, int] = {}
    one, other = (
        np.array([ids.setdefault(w, len(ids)) for w in side], dtype=np.int32)
        for side in (words, reference)
    )
    return int(count_edits(one, other))


def damaged(generator: random.Random, reference: list[str], pool: list[str]) -> list[str]:
    """The words with some runs of them moved, and some lost, new or others."""
    words = list(reference)
    for _ in range(generator.randint(0, 4)):
        start, size = generator.randrange(len(words)), generator.randint(1, 12)
        run = words[start : start + size]
        del words[start : start + size]
        place = generator.randint(0, len(words))
        words[place:place] = run
    for _ in range(generator.randint(0, len(words) // 3)):
        place = generator.randrange(len(words))
        words[place : place + generator.randint(0, 2)] = generator.choices(
            pool, k=generator.randint(0, 2)
        ) or [pool[0]]
    if generator.random() < 0.1:
        return generator.choice([words[:2], words * 3, [], generator.sample(words, len(words))])
    return words


@pytest.mark.parametrize(("longest", "vocabulary", "count"), [(8, 3, 80), (20, 5, 30), (50, 25, 6)])
def test_edits_are_sacrebleus(longest: int, vocabulary: int, count: int) -> None:
    from sacrebleu.metrics.lib_ter import translation_edit_rate

    generator = random.Random(longest)
    pool = [str(number) for number in range(vocabulary)]
    for _ in range(count):
        reference = generator.choices(pool, k=generator.randint(1, longest))
        words = damaged(generator, reference, pool)
        assert edits(words, reference) == translation_edit_rate(words, reference)[0], words


@pytest.mark.parametrize("lengths", [(1, 130), (2, 101), (130, 1), (3, 155), (0, 4), (4, 0)])
def test_lengths_far_apart_are_sacrebleus_too(lengths: tuple[int, int]) -> None:
    from sacrebleu.metrics.lib_ter import translation_edit_rate

    words, reference = ([str(n % 7) for n in range(length)] for length in lengths)
    assert edits(words, reference) == translation_edit_rate(words, reference)[0]


@pytest.mark.slow
def test_edits_of_texts_of_hundreds_of_words_are_sacrebleus() -> None:
    from sacrebleu.metrics.lib_ter import translation_edit_rate

    generator = random.Random(7)
    pool = [str(number) for number in range(60)]
    for size in (150, 300):
        reference = generator.choices(pool, k=size)
        words = damaged(generator, reference, pool)
        assert edits(words, reference) == translation_edit_rate(words, reference)[0]


def test_shifts_count_once_in_texts_of_any_length() -> None:
    reference = [f"w{number}" for number in range(5000)]
    moved = list(reference)
    for start in (100, 2500, 4800):  # a run of seven, 20 places to the left
        run = moved[start : start + 7]
        del moved[start : start + 7]
        moved[start - 20 : start - 20] = run
    assert edits(moved, reference) == 3
    # A run of half of the words is longer than a shift may be.
    assert edits(reference[2500:] + reference[:2500], reference) == 5000


def test_each_row_is_parted_by_its_tokeniser() -> None:
    found = ter_statistics(
        ["b a c d", "我爱苹果吃", ""], ["a b c d", "我爱吃苹果", "x"], ["13a", "zh", "13a"]
    )
    assert found.tolist() == [[1.0, 4.0], [1.0, 5.0], [1.0, 1.0]]
