"""Shared runs of words: the index agrees with comparing all n-grams, and shows the right places."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.contamination import NearTexts, NgramIndex
from espalier.formats.read import read_examples
from espalier.text import ngrams, shingles, token_spans, tokens

MIXED = st.text(alphabet="ab 你好，ＡｶﾞЃé\u0301ﬁ1 \n.İΣ한ㄱᄀ", max_size=60)


def brute_force(
    texts: list[tuple[str, str]], words: list[str], n: int, shortest: int
) -> list[tuple[int, int, frozenset[str]]]:
    """Merged runs of words that are in n-grams of the texts, and the keys of those."""
    found = []
    for key, text in texts:
        other = tokens(text)
        size = min(n, len(other))
        if len(other) < shortest:
            continue
        grams = {tuple(other[i : i + size]) for i in range(len(other) - size + 1)}
        for start in range(len(words) - size + 1):
            if tuple(words[start : start + size]) in grams:
                found.append((start, start + size, key))
    merged: list[tuple[int, int, frozenset[str]]] = []
    for start, stop, key in sorted(found):
        if merged and start < merged[-1][1]:
            first, last, keys = merged.pop()
            merged.append((first, max(last, stop), keys | {key}))
        else:
            merged.append((start, stop, frozenset({key})))
    return merged


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(("n", "shortest"), [(13, 8), (5, 3), (3, 1), (8, 8)])
def test_spans_are_those_of_all_ngrams(language: str, n: int, shortest: int) -> None:
    total = 0
    for seed in range(60):
        draw = Random(f"{language}{n}{shortest}{seed}")
        size = draw.choice([2, 3, 6, 20])
        words = (
            [f"w{i}" for i in range(size)]
            if language == "en"
            else list("天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往")[:size]
        )
        glue = " " if language == "en" else ""
        texts = [
            (f"row {i}", glue.join(draw.choices(words, k=draw.randint(1, 30))))
            for i in range(draw.randint(1, 12))
        ]
        parts: list[str] = []
        for _ in range(draw.randint(1, 6)):
            other = tokens(draw.choice(texts)[1])
            parts += draw.choices([*words, "zz"], k=draw.randint(0, 20))
            parts += other[draw.randint(0, len(other)) :]
        text = (", " if language == "en" else "").join(parts)
        index = NgramIndex(n, shortest)
        for key, other_text in texts:
            index.add(key, other_text)
        places = token_spans(text)
        starts = {start: number for number, (_, start, _) in enumerate(places)}
        ends = {end: number + 1 for number, (_, _, end) in enumerate(places)}
        spans = index.spans(text)
        expected = brute_force(texts, [word for word, _, _ in places], n, shortest)
        assert [(starts[s.start], ends[s.end], frozenset(s.keys)) for s in spans] == expected
        assert [s.tokens for s in spans] == [stop - start for start, stop, _ in expected]
        for span in spans:
            # The row that is named shares that many words in a row, and none shares more.
            inside = tokens(text[span.start : span.end])
            longest = {key: longest_common_run(inside, tokens(t)) for key, t in texts}
            assert longest[span.key] >= span.longest >= min(shortest, n)
            assert span.key == span.keys[0]
        total += len(spans)
    assert total > 20


def longest_common_run(a: list[str], b: list[str]) -> int:
    """Length of the longest common substring, by the quadratic table."""
    best = 0
    row = [0] * (len(b) + 1)
    for left in a:
        row = [0] + [row[i] + 1 if left == right else 0 for i, right in enumerate(b)]
        best = max(best, *row)
    return best


@given(MIXED)
@settings(max_examples=300, deadline=None)
def test_token_spans_are_the_tokens_with_their_places(text: str) -> None:
    spans = token_spans(text)
    assert [word for word, _, _ in spans] == tokens(text)
    assert all(0 <= start < end <= len(text) for _, start, end in spans)
    assert [start for _, start, _ in spans] == sorted(start for _, start, _ in spans)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World", ["Hello", "World"]),
        ("你好，世界", ["你", "好", "世", "界"]),
        ("ＡＢＣ１，ｶﾞｷﾞ", ["ＡＢＣ１", "ｶﾞ", "ｷﾞ"]),
        ("ﬁne cafe\u0301", ["ﬁne", "cafe\u0301"]),
        ("用Python写", ["用", "Python", "写"]),
    ],
)
def test_places_show_the_original_text(text: str, words: list[str]) -> None:
    assert [text[start:end] for _, start, end in token_spans(text)] == words


def test_a_short_text_counts_where_it_occurs_whole() -> None:
    index = NgramIndex()
    index.add("ten", "one two three four five six seven eight nine ten")
    index.add("seven", "uno dos tres cuatro cinco seis siete")
    (span,) = index.spans("He said: one two, three four five six seven eight nine TEN eleven")
    assert (span.tokens, span.longest, span.share, span.keys) == (10, 10, 1.0, ("ten",))
    assert index.spans("one two three four five six seven eight nine and ten") == []
    assert index.spans("uno dos tres cuatro cinco seis siete") == []


def test_boilerplate_can_be_left_out() -> None:
    frame = "answer the following question with one word and give no reasons at all please"
    rows = {f"row {i}": f"{frame} {i}" for i in range(5)}
    for max_rows, found in ((None, 1), (5, 1), (4, 0)):
        index = NgramIndex(max_rows=max_rows)
        for key, text in rows.items():
            index.add(key, text)
            index.add(key, text)  # its second text: still one row
        assert len(index) == 5
        assert len(index.spans(f"{frame} 77")) == found


def test_what_differs_in_case_width_and_punctuation_is_shared() -> None:
    index = NgramIndex(n=8)
    index.add("en", "The quick brown fox jumps over the lazy dog today")
    index.add("zh", "数据质量决定模型的好坏，要仔细挑选ABC")
    text = "So: THE QUICK—brown fox; jumps over the lazy dog (today)!"
    (span,) = index.spans(text)
    assert text[span.start : span.end] == "THE QUICK—brown fox; jumps over the lazy dog (today"
    text = "他说“数据质量决定模型的好坏。要仔细挑选ａｂｃ”。"
    (span,) = index.spans(text)
    assert text[span.start : span.end] == "数据质量决定模型的好坏。要仔细挑选ａｂｃ"


def test_wrong_sizes() -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        NgramIndex(0)


@pytest.mark.parametrize("threshold", [0.3, 0.7, 1.0])
def test_near_texts_are_those_of_exact_jaccard(threshold: float) -> None:
    draw = Random(f"near {threshold}")
    words = [f"w{i}" for i in range(12)] + list("天地玄黄")
    texts = [" ".join(draw.choices(words, k=draw.randint(0, 12))) for _ in range(60)]
    near = NearTexts(threshold, 3)
    for number, text in enumerate(texts):
        near.add(str(number), text)
    hits = 0
    for text in texts + [f"{t} new" for t in texts] + ["unknown words alone", ""]:
        mine = shingles(text, 3)
        expected = {
            str(number)
            for number, other in enumerate(texts)
            if mine
            and len(mine & shingles(other, 3)) >= threshold * len(mine | shingles(other, 3)) - 1e-12
        }
        assert {key for key, _ in near.matches(text)} == expected
        hits += len(expected)
    assert hits >= 50


def test_real_rows_agree_with_comparing_all_ngrams(shared_data: Path) -> None:
    path = shared_data / "self_instruct" / "t0_50k.jsonl.gz"
    # Neighbouring rows share documents, so that rows of every third are full of the others.
    rows = [row.prompt for row in read_examples(path, limit=600)]
    held, train = rows[::3], rows[1::3]
    for n in (13, 60):
        index = NgramIndex(n, shortest=n)
        for number, text in enumerate(held):
            index.add(str(number), text)
        grams = {gram for text in held for gram in ngrams(tokens(text), n)}
        found = 0
        for text in train:
            words = tokens(text)
            covered = set()
            for place, gram in enumerate(ngrams(words, n)):
                if gram in grams:
                    covered.update(range(place, place + n))
            assert sum(span.tokens for span in index.spans(text)) == len(covered)
            found += bool(covered)
        assert found > 50
