"""The near-duplicate search against all pairs, and its words against `espalier.text.tokens`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from random import Random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from espalier.hashing import Hashing, encoded, hash_texts
from espalier.minhash import NearSearch, bands_for, near_pairs
from espalier.near import JaccardIndex
from espalier.text import ngrams, shingles, tokens

# What the tables have to get right: cases, widths, marks, scripts without spaces, code points
# that fold to several, compose with their neighbours, or are no characters at all.
ALPHABET = (
    "aZ09_ .'\n\x00\x7f\xa0éÉßİıΣσςǅﬁ½²µ…´ﾊﾟ"
    "中文々〇。，ＡＢ１あがか\u3099カｶﾞกำ่ลາຳမ်ខ្មែ한글ᄒ\u1161\u11ab"
    "\u0301\u0327\ufe0f\u200d\u09be\u0915\u093f\U0001f600\U0001d400\U00020000\U000e0101"
    "\U0001b000\U0001d16d\ud800\udc00"
)
MIXED = st.text(st.sampled_from(ALPHABET), max_size=24)
ANY = st.text(st.characters(), max_size=12)


def hashing(ngram: int = 1, ngram_cjk: int | None = None) -> Hashing:
    return Hashing.make(ngram=ngram, ngram_cjk=ngram_cjk or ngram, bands=2, rows=2, seed=1)


def sets_of(texts: Sequence[str], how: Hashing) -> list[list[int]]:
    """The shingles of each text in their order."""
    found: list[list[int]] = [[] for _ in texts]
    for block in hash_texts(*encoded(texts), how):
        start = 0
        for place, size in zip(block.places.tolist(), block.sizes.tolist(), strict=True):
            found[place] = block.flat[start : start + size].tolist()
            start += size
    return found


def distinct(grams: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(grams))


def expected_grams(text: str, n: int) -> list[tuple[str, ...]]:
    words = tokens(text)
    return distinct(ngrams(words, n) or [tuple(words)] if words else [])


def naive_pairs(texts: Sequence[str], threshold: Fraction, n: int) -> dict[tuple[int, int], float]:
    sets = [set(expected_grams(text, n)) for text in texts]
    found = {}
    for i, j in combinations(range(len(texts)), 2):
        union = len(sets[i] | sets[j])
        if union and Fraction(len(sets[i] & sets[j]), union) >= threshold:
            found[i, j] = len(sets[i] & sets[j]) / union
    return found


def as_dict(pairs: list[tuple[int, int, float]]) -> dict[tuple[int, int], float]:
    assert len({(i, j) for i, j, _ in pairs}) == len(pairs)
    assert all(i < j for i, j, _ in pairs)
    return {(i, j): similarity for i, j, similarity in pairs}


@settings(max_examples=150, deadline=None)
@given(st.lists(MIXED | ANY, min_size=1, max_size=6), st.integers(1, 3))
@example(["ΑΣ ΑΣΑ Σ", "ｶﾞ か\u3099 が", "İstanbul", "ไทยำ", "½x", "a\u0301b"], 1)
def test_shingles_are_those_of_the_tokens_of_the_trunk(texts: list[str], n: int) -> None:
    found = sets_of(texts, hashing(n))
    names: dict[int, tuple[str, ...]] = {}
    grams: dict[tuple[str, ...], int] = {}
    for text, values in zip(texts, found, strict=True):
        expected = expected_grams(text, n)
        assert len(values) == len(expected), text
        for value, gram in zip(values, expected, strict=True):
            assert names.setdefault(value, gram) == gram
            assert grams.setdefault(gram, value) == value


def test_every_character_is_read_as_the_trunk_reads_it() -> None:
    codes = [*range(0x3400), *range(0xA000, 0x20000), *range(0xE0000, 0xE0200)]
    texts = [f"a{chr(code)}b {chr(code)}" for code in codes]
    words = {tuple(found) for found in sets_of(["a b", "ab"], hashing(1))}
    assert len(words) == 2
    names: dict[int, str] = {}
    for text, values in zip(texts, sets_of(texts, hashing(1)), strict=True):
        expected = list(dict.fromkeys(tokens(text)))
        assert len(values) == len(expected), ascii(text)
        for value, word in zip(values, expected, strict=True):
            assert names.setdefault(value, word) == word, ascii(text)


def test_a_length_of_its_own_for_texts_in_chinese() -> None:
    how = hashing(3, 2)
    english, chinese, mixed = sets_of(
        ["one two three four", "一二三四", "one two three 一 四"], how
    )
    assert (len(english), len(chinese), len(mixed)) == (2, 3, 3)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abc中文é"), max_size=9), max_size=14),
    st.sampled_from([5, 7, 10]),
    st.integers(1, 3),
)
def test_found_pairs_are_exact_ones(words: list[list[str]], tenths: int, n: int) -> None:
    texts = [" ".join(line) for line in words]
    truth = naive_pairs(texts, Fraction(tenths, 10), n)
    found = as_dict(near_pairs(texts, threshold=tenths / 10, ngram=n, threads=1))
    assert found.items() <= truth.items()
    # Rows with equal sets meet whatever the bands are.
    assert {pair for pair, value in truth.items() if value == 1.0} <= found.keys()
    # With one permutation a band, and many bands, all others do as well.
    many = near_pairs(texts, threshold=tenths / 10, ngram=n, threads=1, bands=40, rows=1)
    assert as_dict(many) == truth


WORDS = {
    "en": [f"{a}{b}" for a in "bdfgklmnprst" for b in ("an", "el", "ir", "ot", "un")],
    "zh": [chr(code) for code in range(0x4E00, 0x5060)],
}


def corpus(language: str, count: int, seed: str) -> list[str]:
    """Texts of 30 words, a third of them another one with some words changed."""
    rng = Random(f"{seed}:{language}")
    texts: list[list[str]] = []
    for number in range(count):
        if number > 10 and rng.random() < 0.35:
            words = list(rng.choice(texts))
            for _ in range(rng.randint(0, 2)):
                words[rng.randrange(len(words))] = rng.choice(WORDS[language])
        else:
            words = rng.choices(WORDS[language], k=30)
        texts.append(words)
    joined = "" if language == "zh" else " "
    return [joined.join(words) for words in texts]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_recall_and_precision_on_planted_twins(language: str) -> None:
    texts = corpus(language, 3000, "twins")
    index = JaccardIndex(0.7)
    truth = {}
    for number, text in enumerate(texts):
        found = shingles(text)
        truth.update({(int(key), number): value for key, value in index.matches(found)})
        index.add(str(number), found)
    assert len(truth) > 500
    ours = as_dict(near_pairs(texts, threads=2))
    assert ours.items() <= truth.items()
    assert len(ours) >= 0.995 * len(truth)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_is_near_in_each_language(language: str) -> None:
    joined = "" if language == "zh" else " "
    words = Random(language).sample(WORDS[language], 50)
    changed = [*words[:20], WORDS[language][0] + "x", *words[21:]]
    unrelated = Random("other" + language).sample(WORDS[language], 50)
    texts = [joined.join(words), joined.join(words), joined.join(changed), joined.join(unrelated)]
    found = as_dict(near_pairs(texts))
    assert found[0, 1] == 1.0
    assert found[0, 2] == found[1, 2] == naive_pairs(texts, Fraction(7, 10), 5)[0, 2] > 0.7
    assert len(found) == 3


def test_case_width_and_punctuation_do_not_count() -> None:
    assert near_pairs(["Hello, World — again!", "hello world ａｇａｉｎ"]) == [(0, 1, 1.0)]


def test_texts_without_words_are_near_nothing() -> None:
    assert near_pairs(["", "", " … ", "!!", "word", "word"]) == [(4, 5, 1.0)]
    assert near_pairs([]) == near_pairs(["one"]) == near_pairs([""]) == []


@pytest.mark.parametrize("crowd", [4, 512])
def test_neither_threads_nor_portions_change_the_result(crowd: int) -> None:
    texts = corpus("en", 400, "portions") + corpus("zh", 200, "portions")
    texts += ["the same long prefix of every row in this crowd " + str(n) for n in range(60)]
    rank = np.array(Random(1).sample(range(len(texts)), len(texts)))
    results = []
    for threads, portion in ((1, 1000), (2, 1), (3, 7), (5, 100)):
        with NearSearch(threads=threads, crowd=crowd) as search:
            for start in range(0, len(texts), portion):
                search.add(texts[start : start + portion])
                search._submit()
            found = search.pairs(rank)
        results.append([a.tolist() for a in (found.same_as, found.first, found.second)])
        results[-1].append(found.similarity.tolist())
    assert results[0][1] and all(result == results[0] for result in results[1:])


def test_searching_again_after_more_texts() -> None:
    texts = corpus("en", 300, "more")
    with NearSearch() as search:
        search.add(texts[:150])
        assert list(search.pairs()) == near_pairs(texts[:150])
        search.add(texts[150:])
        assert list(search.pairs()) == near_pairs(texts)


def test_identical_rows_by_the_thousand_are_one_group() -> None:
    with NearSearch() as search:
        search.add(["a row that is there again and again, word for word"] * 200_000)
        search.add(["another row"])
        found = search.pairs()
    assert not found.same_as[:200_000].any() and found.same_as[200_000] == 200_000
    assert len(found.first) == 0


def test_a_crowd_of_near_rows_gives_each_a_leader() -> None:
    base = [f"w{number}" for number in range(40)]
    texts = [" ".join([*base, f"n{number}"]) for number in range(20_000)]
    with NearSearch(crowd=100) as search:
        search.add(texts)
        found = search.pairs()
    # All pairs would be 200 million; every row but the first is joined to an earlier one.
    assert set(found.second.tolist()) == set(range(1, 20_000))
    assert len(found.first) < 30_000


def test_leaders_are_the_preferred_rows() -> None:
    base = [f"w{number}" for number in range(40)]
    texts = [" ".join([*base, f"n{number}"]) for number in range(1000)]
    with NearSearch(crowd=10) as search:
        search.add(texts)
        found = search.pairs(rank=np.arange(1000)[::-1])
    assert set(found.second.tolist()) == {999}


def test_crowds_below_the_limit_give_all_pairs() -> None:
    base = [f"w{number}" for number in range(40)]
    texts = [" ".join([*base, f"n{number}"]) for number in range(200)]
    assert len(near_pairs(texts)) == 200 * 199 // 2


@pytest.mark.parametrize(("threshold", "expected"), [(0.7, (25, 5)), (1.0, (1, 1))])
def test_bands_for_a_threshold(threshold: float, expected: tuple[int, int]) -> None:
    assert bands_for(threshold) == expected


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99])
def test_a_pair_at_the_threshold_is_rarely_missed(threshold: float) -> None:
    bands, rows = bands_for(threshold)
    assert (1 - threshold**rows) ** bands < 0.0125
    assert bands * rows < 1500


def test_values_outside_their_range_are_refused() -> None:
    for bad in ({"threshold": 0.0}, {"threshold": 1.5}, {"ngram": 0}, {"ngram_cjk": 0}):
        with pytest.raises(ValueError, match=next(iter(bad)).split("_")[0]):
            NearSearch(**bad)  # type: ignore[arg-type]
