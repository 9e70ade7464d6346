"""How much of a text is repeats: the measures of Rae et al. 2021 (Gopher, table A1).

Words are those of `espalier.text.tokens`, so that Chinese is measured in characters. Shares of
characters count the letters of words, without spaces and punctuation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from espalier.curate.config_filters import RepeatConfig
from espalier.text import ngrams, tokens

SHORTEST = 30
_LINES = 0.30
_LINE_CHARACTERS = 0.20
_TOP_NGRAMS = {2: 0.20, 3: 0.18, 4: 0.16}
_NGRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
# Rules of a table, dots of a contents page and spaces are repeated on purpose.
_RUN = re.compile(r"([^\s\-=_*#.~·…—─━+|])\1+")
_PARAGRAPH = re.compile(r"\n{2,}")


def repeats(text: str, config: RepeatConfig) -> str | None:
    """What repeats beyond the limits, or None; texts of fewer than 30 words are let be."""
    if config.run is not None:
        longest = max((m.group() for m in _RUN.finditer(text)), key=len, default="")
        if len(longest) >= config.run:
            return f"“{longest[0]}” {len(longest)} times in a row"
    words = tokens(text)
    if len(words) < SHORTEST:
        return None
    for what, share, limit in _measures(text, words, config):
        if limit is not None and share > limit:
            return f"{share:.0%} {what}, at most {limit:.0%} wanted"
    return None


def _measures(
    text: str, words: Sequence[str], config: RepeatConfig
) -> Iterator[tuple[str, float, float | None]]:
    """(what, its share, the limit) in the paper's order; only those with a limit are computed."""
    published = config.gopher
    for name, parts, limits in (
        ("lines", text.split("\n"), (config.lines, config.line_characters)),
        (
            "paragraphs",
            _PARAGRAPH.split(text),
            (config.paragraphs, config.paragraph_characters),
        ),
    ):
        if published or any(limit is not None for limit in limits):
            count, characters = repeated_parts(parts)
            yield f"of the {name} are repeats", count, limits[0] or (_LINES if published else None)
            yield (
                f"of the characters are in repeated {name}",
                characters,
                limits[1] or (_LINE_CHARACTERS if published else None),
            )
    for n, limit in sorted({**(_TOP_NGRAMS if published else {}), **config.top_ngrams}.items()):
        yield f"of the characters are in the most frequent {n}-gram", top_ngram(words, n), limit
    for n, limit in sorted({**(_NGRAMS if published else {}), **config.ngrams}.items()):
        yield f"of the characters are in repeated {n}-grams", repeated_ngrams(words, n), limit


def repeated_parts(parts: Sequence[str]) -> tuple[float, float]:
    """Shares of the parts, and of their characters, that came before; blank parts aside."""
    listed = [part.strip() for part in parts if part.strip()]
    seen: set[str] = set()
    again = characters = 0
    for part in listed:
        if part in seen:
            again += 1
            characters += len(part)
        seen.add(part)
    total = sum(map(len, listed))
    return (again / len(listed), characters / total) if listed else (0.0, 0.0)


def top_ngram(words: Sequence[str], n: int) -> float:
    """Share of the words' characters in the most frequent n-gram (the longest of equals).

    Zero when no n-gram comes twice. Occurrences that overlap count once each, so the share of a
    word said over and over is capped at 1.
    """
    counts = Counter(ngrams(words, n))
    top = max(counts.values(), default=0)
    if top < 2:
        return 0.0
    size = max(sum(map(len, gram)) for gram, count in counts.items() if count == top)
    return min(1.0, top * size / sum(map(len, words)))


def repeated_ngrams(words: Sequence[str], n: int) -> float:
    """Share of the words' characters in n-grams that came before, each character once."""
    seen: set[tuple[str, ...]] = set()
    marked = bytearray(len(words))
    for start, gram in enumerate(ngrams(words, n)):
        if gram in seen:
            marked[start : start + n] = b"\x01" * n
        seen.add(gram)
    total = sum(map(len, words))
    return sum(len(word) for word, mark in zip(words, marked, strict=True) if mark) / (total or 1)
