"""Overlap counts against `rouge_score` and naive programs; the novelty search against all pairs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.overlap import NoveltyIndex, lcs, rouge_l, rouge_n, rouge_scores
from espalier.text import tokens

WORDS = st.lists(st.sampled_from("abcdef"), max_size=14)


def naive_lcs(a: Sequence[object], b: Sequence[object]) -> int:
    rows = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, left in enumerate(a, 1):
        for j, right in enumerate(b, 1):
            rows[i][j] = (
                rows[i - 1][j - 1] + 1 if left == right else max(rows[i - 1][j], rows[i][j - 1])
            )
    return rows[-1][-1]


def brute_nearest(
    pool: Sequence[Sequence[str]], query: Sequence[str], threshold: Fraction
) -> tuple[int | None, float]:
    best: tuple[Fraction, int] | None = None
    for index, member in enumerate(pool):
        if not query or not member:
            continue
        f1 = Fraction(2 * naive_lcs(query, member), len(query) + len(member))
        if f1 > threshold and (best is None or f1 > best[0]):
            best = f1, index
    return (None, 0.0) if best is None else (best[1], float(best[0]))


@settings(max_examples=60, deadline=None)
@given(WORDS, WORDS)
def test_lcs_is_that_of_the_naive_program(a: list[str], b: list[str]) -> None:
    assert lcs(a, b) == naive_lcs(a, b) == lcs(b, a)


def test_lcs_does_not_confuse_tokens_and_numbers() -> None:
    assert lcs(["a", "bc", 97], [97, "bc", "a"]) == 1
    assert lcs([ord("a")], ["a"]) == 0


@settings(max_examples=60, deadline=None)
@given(
    st.text(st.characters(max_codepoint=127), max_size=60),
    st.text(st.characters(max_codepoint=127), max_size=60),
)
def test_rouge_equals_rouge_score_on_ascii(candidate: str, reference: str) -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(
        ["rouge1", "rouge2", "rougeL"]
    )
    theirs = scorer.score(reference, candidate)
    left, right = tokens(candidate), tokens(reference)
    ours = {"rouge1": rouge_n(left, right, 1), "rouge2": rouge_n(left, right, 2)}
    ours["rougeL"] = rouge_l(left, right)
    for name, score in ours.items():
        assert score.precision == pytest.approx(theirs[name].precision, abs=1e-12), name
        assert score.recall == pytest.approx(theirs[name].recall, abs=1e-12), name
        assert score.f1 == pytest.approx(theirs[name].fmeasure, abs=1e-12), name


def test_rouge_equals_rouge_score_on_sentences() -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rouge2", "rougeL"])
    words = "the cat sat on a mat while 3 dogs ran round the old mill".split()  # noqa: SIM905
    rng = Random("sentences")
    for _ in range(100):
        a = " ".join(rng.choices(words, k=rng.randint(1, 20)))
        b = " ".join(rng.choices(words, k=rng.randint(1, 20)))
        theirs = scorer.score(b, a)
        assert rouge_l(tokens(a), tokens(b)).f1 == pytest.approx(
            theirs["rougeL"].fmeasure, abs=1e-12
        )
        assert rouge_n(tokens(a), tokens(b), 2).f1 == pytest.approx(
            theirs["rouge2"].fmeasure, abs=1e-12
        )


TEXTS = st.lists(
    st.text(st.sampled_from("ab c.中文éΣ\u0301 ")) | st.text(max_size=30), min_size=1, max_size=5
)


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS)
def test_scores_of_many_pairs_are_those_of_each(left: list[str], right: list[str]) -> None:
    count = min(len(left), len(right))
    found = rouge_scores(left[:count], right[:count])
    assert found.shape == (count, 3, 3)
    for scores, a, b in zip(found.tolist(), left, right, strict=False):
        x, y = tokens(a), tokens(b)
        for score, expected in zip(
            scores, (rouge_n(x, y, 1), rouge_n(x, y, 2), rouge_l(x, y)), strict=True
        ):
            assert score == [expected.precision, expected.recall, expected.f1]


def test_scores_of_long_texts_are_those_of_each() -> None:
    rng = Random("long")
    words = [f"w{number}" for number in range(40)]
    for size in (63, 64, 65, 128, 300):
        a, b = rng.choices(words, k=size), rng.choices(words, k=size + rng.randint(0, 70))
        ((one, two, sub),) = rouge_scores([" ".join(a)], [" ".join(b)]).tolist()
        assert sub[2] == rouge_l(a, b).f1
        assert one[2] == rouge_n(a, b, 1).f1 and two[2] == rouge_n(a, b, 2).f1
        assert sub[0] * len(a) == pytest.approx(naive_lcs(a, b))


def test_scores_of_pairs_need_pairs() -> None:
    assert rouge_scores([], []).shape == (0, 3, 3)
    with pytest.raises(ValueError, match="1 candidates and 2 references"):
        rouge_scores(["a"], ["a", "b"])


def test_equal_chinese_texts_overlap_fully() -> None:
    text = tokens("请把下面的句子翻译成英文。")
    assert rouge_l(text, text).f1 == 1.0
    assert rouge_l(text, tokens("写一首关于春天的诗")).f1 < 0.3


def test_nothing_overlaps_with_an_empty_text() -> None:
    assert rouge_l([], ["a"]).f1 == rouge_l([], []).f1 == rouge_n(["a"], ["a"], 2).f1 == 0.0


@settings(max_examples=40, deadline=None)
@given(st.lists(WORDS, max_size=25), st.lists(WORDS, max_size=10), st.sampled_from([7, 5, 9, 10]))
def test_novelty_decisions_are_those_of_all_pairs(
    pool: list[list[str]], queries: list[list[str]], tenths: int
) -> None:
    threshold = Fraction(tenths, 10)
    index = NoveltyIndex(threshold)
    for member in pool:
        index.add(member)
    for query in [*queries, *pool]:
        assert index.nearest(query) == brute_nearest(pool, query, threshold)


def random_instructions(count: int, seed: str) -> list[list[str]]:
    """Instructions that repeat each other with small changes, so that many pairs are near ties."""
    rng = Random(seed)
    words = [f"w{number}" for number in range(60)]
    made: list[list[str]] = []
    for _ in range(count):
        if made and rng.random() < 0.6:
            text = list(rng.choice(made))
            for _ in range(rng.randint(0, 1 + len(text) // 3)):
                place = rng.randrange(len(text) + 1)
                if rng.random() < 0.5 and len(text) > 1:
                    text.pop(min(place, len(text) - 1))
                else:
                    text.insert(place, rng.choice(words))
        else:
            text = [words[min(int(rng.expovariate(0.08)), 59)] for _ in range(rng.randint(1, 18))]
        made.append(text)
    return made


def test_novelty_equals_all_pairs_while_the_pool_grows() -> None:
    index = NoveltyIndex(0.7)
    pool: list[list[str]] = []
    near = 0
    for text in random_instructions(260, "grow"):
        expected = brute_nearest(pool, text, Fraction(7, 10))
        assert index.nearest(text) == expected
        near += expected[0] is not None
        assert index.add(text) == len(pool)
        pool.append(text)
    assert 50 < near < 230  # the comparison saw both outcomes often


def test_ties_at_the_threshold_are_novel() -> None:
    # LCS 7, lengths 10 and 10: F1 is exactly 0.7, which is not above it.
    shared = [f"s{i}" for i in range(7)]
    index = NoveltyIndex(0.7)
    index.add([*shared, "a", "b", "c"])
    assert index.nearest([*shared, "x", "y", "z"]) == (None, 0.0)
    assert index.nearest([*shared, "a", "y", "z"]) == (0, 0.8)


def test_of_equal_members_the_earliest_is_named() -> None:
    index = NoveltyIndex(0.7)
    for _ in range(3):
        index.add(["one", "two", "three"])
    assert index.nearest(["one", "two", "three"]) == (0, 1.0)


def test_identical_chinese_instructions_are_near_and_unrelated_ones_are_not() -> None:
    index = NoveltyIndex(0.7)
    index.add(tokens("把下面的句子改写得更正式一些。"))
    assert index.nearest(tokens("把下面的句子改写得更正式一些"))[0] == 0
    assert index.nearest(tokens("列出三种适合在阳台种植的香草。")) == (None, 0.0)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5])
def test_a_threshold_outside_0_to_1_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        NoveltyIndex(threshold)


@pytest.mark.slow
def test_novelty_equals_all_pairs_on_real_instructions(shared_data: Path) -> None:
    texts = []
    for name in ("self_instruct/seed_tasks.jsonl", "belle_zh/zh_seed_tasks.jsonl"):
        lines = (shared_data / name).read_text(encoding="utf-8").splitlines()
        texts += [json.loads(line)["instruction"] for line in lines]
    lines = (shared_data / "self_instruct/user_oriented_instructions.jsonl").read_text(
        encoding="utf-8"
    )
    texts += [json.loads(line)["instruction"] for line in lines.splitlines()]
    rng = Random("real")
    # A changed copy of each, so that there are near pairs in both languages.
    copies = []
    for text in texts:
        words = tokens(text)
        for _ in range(rng.randint(1, max(1, len(words) // 3))):
            words[rng.randrange(len(words))] = rng.choice(words)
        copies.append(words)
    index = NoveltyIndex(0.7)
    pool: list[list[str]] = []
    near = 0
    for words in [*map(tokens, texts), *copies]:
        best = max(
            ((Fraction(2 * lcs(words, m), len(words) + len(m)), -i) for i, m in enumerate(pool)),
            default=(Fraction(0), 0),
        )
        expected = (-best[1], float(best[0])) if best[0] > Fraction(7, 10) else (None, 0.0)
        assert index.nearest(words) == expected
        near += expected[0] is not None
        index.add(words)
        pool.append(words)
    assert near > 100
