"""Script-aware words, lengths, n-grams: English and Chinese alike.

Every filter, duplicate search and overlap score counts with these functions.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache

# Scripts written without spaces: each character (with its marks) is a word of its own. The
# regular expressions keep what lies above U+FFFF apart: only then are their sets bitmaps.
_SINGLE = (
    r"\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    r"\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"  # kana
    r"\u0e01-\u0e30\u0e32-\u0e33\u0e40-\u0e46\u0e50-\u0e59"  # Thai
    r"\u0e81-\u0eb0\u0eb2-\u0eb3\u0ebd-\u0ec6\u0ed0-\u0edf"  # Lao
    r"\u1000-\u102a\u103f-\u1055\u1780-\u17b3\u17e0-\u17e9"  # Myanmar, Khmer
)
_SINGLE_ABOVE = r"\U0001aff0-\U0001b16f\U00020000-\U000323af"  # kana and Han extensions
_ABOVE = r"\U00010000-\U0010ffff"
_ASCII_TOKEN = re.compile(r"[a-z0-9]+")
_WORD = re.compile(r"[^\W_]+")
_CJK = re.compile(rf"[{_SINGLE}]|[{_SINGLE_ABOVE}]")
_COUNTS = {
    "zh": re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[\U00020000-\U000323af]"),
    "ja": re.compile(r"[\u3041-\u3096\u30a1-\u30fa]"),
    "ko": re.compile(r"[\uac00-\ud7af\u1100-\u11ff\u3131-\u318e]"),
    "th": re.compile(r"[\u0e01-\u0e5b]"),
    "en": re.compile(r"[A-Za-z\u00c0-\u024f]+"),
}
_PUNCTUATION = re.compile(
    r"(?<!\d)[.,:]|[.,:](?!\d)|[!\"'(;?\[\]{}_`\\)\u00a1\u00ab\u00b7\u00bb\u00bf]"
    r"|[\u2010-\u2027\u2030-\u205e\u3001-\u3003\u3008-\u3011\u3014-\u301f\u3030]"
)
# Words of scripts with spaces that are not Latin: Greek, Cyrillic, Arabic and so on.
_FOREIGN = re.compile(
    r"(?:[^\W\d_A-Za-z\u00c0-\u024f\u0e00-\u0e7f\u1100-\u11ff\u3000-\u9fff\uac00-\ud7af"
    r"\uf900-\ufaff\U00020000-\U000323af])+"
)


def tokens(text: str) -> list[str]:
    """Lower-case words; each character of a script without spaces is one word.

    For ASCII text these are the default tokens of `rouge_score` (runs of letters and digits).
    Full-width forms are folded first (NFKC), so that `ＡＢＣ１` is `abc1`.
    """
    if text.isascii():
        return _ASCII_TOKEN.findall(text.lower())
    folded = _fold(text)
    special, pattern = _patterns()
    return (pattern if special.search(folded) else _WORD).findall(folded)


def token_spans(text: str) -> list[tuple[str, int, int]]:
    """The words of `tokens` with their place: (word, start, end) in characters of `text`.

    Where folding joins characters that lie apart (Hangul letters, say) the place is the run of
    characters between spaces that holds the word.
    """
    if text.isascii():
        return [(m.group(), m.start(), m.end()) for m in _ASCII_TOKEN.finditer(text.lower())]
    special, pattern = _patterns()
    if unicodedata.is_normalized("NFKC", text) and len(folded := text.lower()) == len(text):
        # Nothing is joined or parted, and the lower case of each character is one character.
        found = (pattern if special.search(folded) else _WORD).finditer(folded)
        return [(m.group(), m.start(), m.end()) for m in found]
    folded, origin = _fold_with_origin(text)
    found = (pattern if special.search(folded) else _WORD).finditer(folded)
    return [(m.group(), origin[m.start()][0], origin[m.end() - 1][1]) for m in found]


def _fold_with_origin(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The folded text, and for each of its characters the part of `text` it came from."""
    parts: list[str] = []
    origin: list[tuple[int, int]] = []
    for chunk in re.finditer(r"\s+|\S+", text):
        whole = _fold(chunk.group())
        pieces = [
            (_fold_one(char), at, at + 1) for at, char in enumerate(chunk.group(), chunk.start())
        ]
        if "".join([folded for folded, _, _ in pieces]) != whole:
            pieces = [
                (_fold(m.group()), m.start(), m.end())
                for m in _clusters().finditer(text, chunk.start(), chunk.end())
            ]
        if "".join([folded for folded, _, _ in pieces]) != whole:
            pieces = [(whole, chunk.start(), chunk.end())]
        for folded, start, end in pieces:
            parts.append(folded)
            origin += [(start, end)] * len(folded)
    return "".join(parts), origin


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower()


@lru_cache(maxsize=65536)
def _fold_one(char: str) -> str:
    return _fold(char)


@cache
def _clusters() -> re.Pattern[str]:
    """A character with the marks that follow it (half-width kana have marks of their own)."""
    marks = "".join(
        rf"\U{first:08x}-\U{last:08x}"
        for first, last in _ranges(
            [code for code in range(0x300, 0x20000) if unicodedata.category(chr(code))[0] == "M"]
        )
    )
    return re.compile(rf".[{marks}\uff9e\uff9f]*", re.DOTALL)


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What makes runs of letters and digits the wrong words, and the right words then.

    Marks follow their letter; `\\w` has none, so they are listed.
    """
    codes = [code for code in range(0x300, 0x20000) if unicodedata.category(chr(code))[0] == "M"]
    low, above = (
        "".join(rf"\U{first:08x}-\U{last:08x}" for first, last in _ranges(part))
        for part in (
            [code for code in codes if code <= 0xFFFF],
            [*(code for code in codes if code > 0xFFFF), *range(0xE0100, 0xE01F0)],
        )
    )
    single = rf"[{_SINGLE}]|[{_SINGLE_ABOVE}]"
    mark = rf"(?:[{low}]|(?=[{_ABOVE}])[{above}])*"
    special = re.compile(rf"[{_SINGLE}{low}]|[{_ABOVE}]")
    return special, re.compile(rf"(?:{single}){mark}|(?:(?!{single})[^\W_]{mark})+")


def _ranges(codes: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of consecutive numbers in a sorted sequence, as (first, last)."""
    runs: list[tuple[int, int]] = []
    for code in codes:
        if runs and runs[-1][1] == code - 1:
            runs[-1] = (runs[-1][0], code)
        else:
            runs.append((code, code))
    return runs


def length(text: str) -> int:
    """Number of words by the rule of `tokens`; punctuation does not count."""
    return len(tokens(text))


def ngrams(items: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """The n-grams of a sequence, in order, with repeats; empty when it is shorter than n."""
    return [tuple(items[start : start + n]) for start in range(len(items) - n + 1)]


def shingles(text: str, n: int = 5) -> frozenset[int]:
    """64-bit hashes of the word n-grams of `text`, the same in every process.

    A text of fewer than n words gives the one shingle of all its words; one without words gives
    none.
    """
    words = tokens(text)
    if not words:
        return frozenset()
    parts = ["\x1f".join(words[i : i + n]) for i in range(max(1, len(words) - n + 1))]
    return frozenset(stable_hash(part) for part in parts)


def stable_hash(text: str) -> int:
    """A 64-bit hash of a text, the same in every process and on every machine."""
    data = text.encode("utf-8", errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def normalise(text: str) -> str:
    """The key for "equal prompts": width, case, spacing and punctuation do not count.

    Signs that carry meaning stay (`12 + 3` is not `12 - 3`, `3.5` is not `35`, `C#` is not `C`).
    A text of punctuation alone is its own key.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_PUNCTUATION.sub(" ", folded).split()) or " ".join(folded.split())


def language(text: str) -> str:
    """`en`, `zh`, `ja`, `ko`, `th` or `other`, by the script that most words are written in.

    `en` stands for Latin script. Han characters beside kana are Japanese. A text without
    letters is `other`.
    """
    if text.isascii():
        return "en" if _COUNTS["en"].search(text) else "other"
    counts = {name: len(pattern.findall(text)) for name, pattern in _COUNTS.items()}
    if counts["ja"]:
        # Japanese mixes both; a stray kana in a Chinese text does not make it Japanese.
        counts["ja"], counts["zh"] = (
            (counts["ja"] + counts["zh"], 0)
            if counts["ja"] * 4 >= counts["zh"]
            else (0, counts["zh"])
        )
    foreign = len(_FOREIGN.findall(text))
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] and counts[best] >= foreign else "other"


def is_cjk(char: str) -> bool:
    """Whether a character is a word of its own (Han, kana, Thai and other unspaced scripts)."""
    return _CJK.match(char) is not None
