"""Exact and near deduplication against a naive greedy choice, and what they write down."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from espalier.curate.config_dedup import DedupConfig
from espalier.curate.dedup import exact_dedup, exact_dedup_by_policy
from espalier.curate.keeping import Policy, keep_preferred
from espalier.curate.near_dedup import near_dedup
from espalier.curate.pipeline import Ledger
from espalier.errors import UsageError
from espalier.overlap import lcs
from espalier.records import Example
from espalier.spans import shared_span
from espalier.text import shingles, tokens

Line = dict[str, Any]


def config(**options: Any) -> DedupConfig:
    return DedupConfig.model_validate(options)


def run_barrier(
    rows: Sequence[Example], made: DedupConfig, *, near: bool, threads: int = 2
) -> tuple[list[Example], list[Line], list[Line]]:
    """Kept rows, rejects, cluster lines."""
    lines: list[Line] = []
    handle = io.StringIO()
    barrier = (
        near_dedup(made, lines.append, threads=threads)
        if near
        else exact_dedup_by_policy(made, lines.append)
    )
    ledger = Ledger("test", handle)
    kept = list(ledger.behind(lambda: iter(rows), "duplicates", barrier))
    assert ledger.tallies[0].seen == len(rows)
    assert ledger.tallies[0].kept + sum(ledger.tallies[0].rejected.values()) == len(rows)
    return kept, [json.loads(line) for line in handle.getvalue().splitlines()], lines


def near(rows: Sequence[Example], **options: Any) -> tuple[list[Example], list[Line], list[Line]]:
    made = config(key="none", near=options.pop("near", {}), **options)
    return run_barrier(rows, made, near=True)


def prompts(*texts: str, **meta: Any) -> list[Example]:
    return [Example.single(text, "An answer.", meta=meta) for text in texts]


BASE = {
    "en": "Write a short and friendly note to the neighbours about the street party that we plan "
    "for the last Saturday in June with music and food for everyone and "
    "tell them that they may bring a dish or a guitar or simply themselves and their children",
    "zh": "请为我们计划在六月最后一个星期六举办的街区聚会给邻居们写一张简短而友好的便条"
    "说明会有音乐和食物",
}
CHANGED = {"en": BASE["en"].replace("June", "July"), "zh": BASE["zh"].replace("六月", "七月")}
OTHER = {
    "en": "Explain why the days in summer are longer than those in winter, in words for a child",
    "zh": "解释为什么夏天的白天比冬天的白天长，用小学生能懂的话。",
}


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("method", ["minhash", "rouge_l"])
def test_a_changed_word_is_near_and_another_task_is_not(language: str, method: str) -> None:
    rows = prompts(BASE[language], OTHER[language], CHANGED[language], BASE[language] + "！")
    kept, rejects, lines = near(rows, near={"method": method})
    assert [row.prompt for row in kept] == [BASE[language], OTHER[language]]
    assert [reject["rule"] for reject in rejects] == ["near_duplicate"] * 2
    assert [line["removed"] for line in lines] == [rows[2].id, rows[3].id]
    changed, same = lines
    assert changed["keeper"] == same["keeper"] == rows[0].id
    assert 0.7 < changed["similarity"] < 1.0 == same["similarity"]
    assert changed["method"] == method
    assert changed["keeper_text"] == BASE[language]
    assert changed["removed_text"] == CHANGED[language]
    assert changed["shared"] in BASE[language] and changed["shared"] in CHANGED[language]
    assert len(changed["shared"]) > len(BASE[language]) // 3
    assert rows[0].id in rejects[0]["evidence"]


def test_near_by_answer_or_by_both() -> None:
    rows = [
        Example.single("What is said of it?", BASE["en"]),
        Example.single("Another question, with nothing in common.", CHANGED["en"]),
        Example.single("A question without an answer"),
        Example.single("One more question without an answer"),
    ]
    kept, _, _ = near(rows, near={"on": "answer"})
    assert kept == [rows[0], rows[2], rows[3]]
    assert len(near(rows, near={"on": "prompt"})[0]) == 4
    assert len(near(rows, near={"on": "prompt+answer", "threshold": 0.95})[0]) == 4
    assert len(near(rows, near={"on": "prompt+answer", "threshold": 0.3})[0]) == 3


def test_who_stays_is_the_policy() -> None:
    rows = [
        Example.single(BASE["en"], "short", meta={"source": "b", "quality": {"score": 4.5}}),
        Example.single(CHANGED["en"], "the longest answer", meta={"source": "a", "quality": 3}),
        Example.single(BASE["en"] + " too", "middle one", meta={"source": "c"}),
        Example.single(BASE["en"], "tiny", meta={"source": "a", "quality": {"score": 5}}),
    ]
    expected = {"first": 0, "longest": 1, "score": 3, "source": 1}
    for keep, place in expected.items():
        kept, _, lines = near(rows, keep=keep, source_order=["a", "c"])
        assert kept == [rows[place]], keep
        assert {line["keeper"] for line in lines} == {rows[place].id}
    for keep, place in {"first": 0, "longest": 0, "score": 3, "source": 3}.items():
        made = config(keep=keep, source_order=["a", "c"])
        kept, rejects, lines = run_barrier(rows, made, near=False)
        assert kept == [row for row in rows if row is rows[place] or row in rows[1:3]], keep
        assert [line["keeper"] for line in lines] == [rows[place].id]
        assert lines[0]["method"] == "exact" and lines[0]["similarity"] == 1.0
        assert lines[0]["shared"] == lines[0]["keeper_text"] == BASE["en"]
        assert rejects[0]["rule"] == "duplicate_prompt"


def test_a_score_may_lie_deeper_and_has_to_be_somewhere() -> None:
    rows = [
        Example.single(BASE["en"], "a", meta={"quality": {"judge": 1.0, "ifd": True}}),
        Example.single(BASE["en"], "b", meta={"quality": {"judge": 2.0}}),
        Example.single(BASE["en"], "c", meta={"quality": {"judge": "2.5"}}),
        Example.single(BASE["en"], "d"),
    ]
    assert near(rows, keep="score", score_field="quality.judge")[0] == [rows[1]]
    with pytest.raises(UsageError, match="No row has a number"):
        near(rows, keep="score", score_field="quality.ifd")
    assert near([], keep="score")[0] == []


def test_a_policy_by_source_needs_its_order() -> None:
    with pytest.raises(ValidationError, match="source_order"):
        config(keep="source")


def test_a_row_near_a_removed_one_only_stays() -> None:
    # A chain: each is near the next; the second goes for the first, so the third stays.
    words = [f"w{number}" for number in range(60)]
    texts = [" ".join(words[start : start + 40]) for start in (0, 5, 10)]
    kept, _, lines = near(prompts(*texts))
    assert [row.prompt for row in kept] == [texts[0], texts[2]]
    # Its keeper is the most similar of the kept ones, of equals the preferred one.
    assert [line["keeper"] for line in lines] == [kept[0].id]


def naive_greedy(
    pairs: dict[tuple[int, int], Fraction], ranks: Sequence[int]
) -> dict[int, tuple[int, float]]:
    near_to: dict[int, dict[int, Fraction]] = {}
    for (i, j), value in pairs.items():
        near_to.setdefault(i, {})[j] = value
        near_to.setdefault(j, {})[i] = value
    kept: set[int] = set()
    for row in sorted(range(len(ranks)), key=lambda row: ranks[row]):
        if not kept & near_to.get(row, {}).keys():
            kept.add(row)
    found = {}
    for row in range(len(ranks)):
        if row not in kept:
            value, _, keeper = max(
                (value, -ranks[other], other)
                for other, value in near_to[row].items()
                if other in kept
            )
            found[row] = (keeper, float(value))
    return found


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12).flatmap(lambda n: st.tuples(
    st.permutations(range(n)),
    st.dictionaries(
        st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda p: p[0] < p[1]),
        st.integers(7, 10),
    ),
)))  # fmt: skip
def test_the_greedy_choice(given: tuple[list[int], dict[tuple[int, int], int]]) -> None:
    import numpy as np

    ranks, tenths = given
    pairs = {pair: Fraction(value, 10) for pair, value in tenths.items()}
    first = np.array([i for i, _ in pairs], dtype=np.int32)
    second = np.array([j for _, j in pairs], dtype=np.int32)
    values = np.array([float(value) for value in pairs.values()], dtype=np.float64)
    found = keep_preferred(first, second, values, np.array(ranks))
    ours = {
        row: (int(keeper), float(found.similarity[row]))
        for row, keeper in enumerate(found.keeper)
        if keeper >= 0
    }
    assert ours == naive_greedy(pairs, ranks)
    assert found.count == len(ours)


def varied(language: str, count: int, seed: str) -> list[Example]:
    """Rows of which many are another one, equal or with a word changed."""
    rng = Random(f"{seed}:{language}")
    words = (
        [chr(code) for code in range(0x4E00, 0x4F00)]
        if language == "zh"
        else [f"w{number}" for number in range(256)]
    )
    texts: list[list[str]] = []
    for _ in range(count):
        if texts and rng.random() < 0.6:
            text = list(rng.choice(texts))
            for _ in range(rng.randint(0, 2)):
                text[rng.randrange(len(text))] = rng.choice(words)
        else:
            text = rng.choices(words, k=rng.randint(1, 30))
        texts.append(text)
    joined = "" if language == "zh" else " "
    return [
        Example.single(
            joined.join(text), "x" * rng.randint(1, 9), meta={"source": rng.choice("abc"), "n": n}
        )
        for n, text in enumerate(texts)
    ]


def naive_pairs(rows: Sequence[Example]) -> dict[tuple[int, int], Fraction]:
    sets = [shingles(row.prompt) for row in rows]
    pairs = {}
    for j, right in enumerate(sets):
        for i, left in enumerate(sets[:j]):
            union = len(left | right)
            if union and Fraction(len(left & right), union) >= Fraction(7, 10):
                pairs[i, j] = Fraction(len(left & right), union)
    return pairs


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("keep", ["first", "longest", "source"])
def test_minhash_removes_what_the_naive_search_removes(language: str, keep: str) -> None:
    rows = varied(language, 300, "minhash")
    made = config(key="none", keep=keep, source_order=["c", "a"], near={})
    policy = Policy(made)
    for row in rows:
        policy.add(row)
    expected = naive_greedy(naive_pairs(rows), policy.ranks().tolist())
    kept, _, lines = run_barrier(rows, made, near=True)
    assert len(expected) > 50
    assert [row.meta["n"] for row in kept] == [n for n in range(300) if n not in expected]
    for line, (row, (keeper, similarity)) in zip(lines, sorted(expected.items()), strict=True):
        assert (line["removed"], line["keeper"]) == (rows[row].id, rows[keeper].id)
        assert line["similarity"] == pytest.approx(similarity, abs=1e-6)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_rouge_l_removes_what_the_naive_search_removes(language: str) -> None:
    rows = varied(language, 150, "rouge")
    made = config(key="none", keep="longest", near={"method": "rouge_l", "threshold": 0.7})
    policy = Policy(made)
    for row in rows:
        policy.add(row)
    kept: list[int] = []
    expected = {}
    words = [tokens(row.prompt) for row in rows]
    for place in sorted(range(len(rows)), key=policy.ranks().__getitem__):
        best = max(
            (
                (Fraction(2 * lcs(words[k], words[place]), len(words[k]) + len(words[place])), -at)
                for at, k in enumerate(kept)
            ),
            default=(Fraction(0), 0),
        )
        if best[0] > Fraction(7, 10):
            expected[place] = kept[-best[1]]
        else:
            kept.append(place)
    survivors, _, lines = run_barrier(rows, made, near=True)
    assert [row.meta["n"] for row in survivors] == sorted(kept)
    assert [(line["removed"], line["keeper"]) for line in lines] == [
        (rows[place].id, rows[keeper].id) for place, keeper in sorted(expected.items())
    ]


def test_threads_change_nothing() -> None:
    rows = [*varied("en", 200, "threads"), *varied("zh", 200, "threads")]
    made = config(key="none", near={})
    results = [run_barrier(rows, made, near=True, threads=threads) for threads in (1, 2, 5)]
    assert results[0] == results[1] == results[2]


def test_a_crowd_leaves_its_preferred_row() -> None:
    words = [f"w{number}" for number in range(30)]
    rows = [
        Example.single(" ".join([*words, f"n{number}"]), "x" * (1 + number % 1000))
        for number in range(3000)
    ]
    kept, _, lines = near(rows, keep="longest")
    assert kept == [rows[999]]
    assert {line["keeper"] for line in lines} == {rows[999].id}


def test_exact_repeats_go_to_the_cluster_file_as_they_stream() -> None:
    rows = [
        Example.single("Name a colour.", "Red."),
        Example.single("name a  colour", "Blue."),
        Example.single("说出一种颜色。", "红色"),
        Example.single("说出一种颜色！", "蓝色"),
    ]
    lines: list[Line] = []
    ledger = Ledger("test", io.StringIO())
    kept = list(ledger.through(rows, [("dups", exact_dedup(DedupConfig(), lines.append))]))
    assert kept == [rows[0], rows[2]]
    assert lines[0] == {
        "method": "exact",
        "keeper": rows[0].id,
        "removed": rows[1].id,
        "similarity": 1.0,
        "shared": "a",
        "keeper_text": "Name a colour.",
        "removed_text": "name a  colour",
    }
    assert lines[1]["shared"] == "说出一种颜色"


def test_equal_answers() -> None:
    rows = [
        Example.single("First?", "The same answer."),
        Example.single("Second?", "the same answer"),
        Example.single("Third?"),
        Example.single("Fourth?"),
    ]
    for keep, place in (("first", 0), ("longest", 0)):
        ledger = Ledger("test", io.StringIO())
        made = config(key="answer", keep=keep)
        kept = list(ledger.through(rows, [("dups", exact_dedup(made))]))
        assert kept == [rows[place], rows[2], rows[3]]
        assert ledger.tallies[0].rejected == {"duplicate_answer": 1}
        assert run_barrier(rows, made, near=False)[0] == kept


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab?"), st.sampled_from(["", "x", "X!", "y"])), max_size=12),
    st.sampled_from(["prompt", "prompt+answer", "answer", "none"]),
)
def test_both_exact_ways_agree_where_the_first_is_kept(
    given: list[tuple[str, str]], key: str
) -> None:
    rows = [Example.single(p, a or None, meta={"n": n}) for n, (p, a) in enumerate(given)]
    made = config(key=key)
    lines: list[Line] = []
    handle = io.StringIO()
    ledger = Ledger("test", handle)
    kept = list(ledger.through(rows, [("duplicates", exact_dedup(made, lines.append))]))
    barrier = run_barrier(rows, made, near=False)
    assert kept == barrier[0]
    assert [json.loads(line) for line in handle.getvalue().splitlines()] == barrier[1]
    assert lines == barrier[2]


WORDS = st.lists(st.sampled_from(["a", "b", "cc", "中", "文"]), max_size=12)


@settings(max_examples=80, deadline=None)
@given(WORDS, WORDS)
def test_the_shared_span_is_the_longest(left: list[str], right: list[str]) -> None:
    one, other = " ".join(left), " ".join(right)
    longest = max(
        (
            stop - start
            for start in range(len(right))
            for stop in range(start + 1, len(right) + 1)
            if any(left[at : at + stop - start] == right[start:stop] for at in range(len(left)))
        ),
        default=0,
    )
    span = shared_span(one, other)
    assert len(span.split()) == longest
    assert span in other


def test_a_shared_span_is_cut_from_the_text_as_it_is() -> None:
    assert shared_span("x Hello,  big\nworld y", "a Hello,  big\nworld b") == "Hello,  big\nworld"
    assert shared_span("今天天气很好。", "明天天气很好吗") == "天天气很好"
    assert shared_span("", "a") == shared_span("a", "") == shared_span("a", "b") == ""
