"""How varied a model's answers are: distinct-n and self-BLEU. Neither says whether they are good.

- distinct-n (Li et al. 2016): different n-grams of words / all n-grams, over all answers. Kept by
  row as (Σ 1 / how often all answers have the n-gram, n-grams): the sums over the rows are the
  different n-grams and all of them, so the score is a ratio of sums like all others.
- self-BLEU (Zhu et al. 2018): the mean over answers of the BLEU of one with all others as its
  references. All n-grams' counts are compared with the two highest among the answers at once, so
  that n answers take n steps and not n².
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from espalier.errors import require
from espalier.evaluate.metric import Metric, RowValues, Scored
from espalier.evaluate.references import BLEU, BLEU_ORDER, bleu_of_sums, bleu_tokenizer
from espalier.evaluate.significance import MEAN, Array, Column
from espalier.text import ngrams, tokens

DISTINCT = ("distinct1", "distinct2")


def distinct_statistics(texts: Sequence[str | None], n: int) -> Array:
    """(rows, 2): the row's share of the different n-grams of all texts, and its n-grams."""
    grams = [ngrams(tokens(text or ""), n) for text in texts]
    counts = Counter(gram for row in grams for gram in row)
    return np.array([(sum(1 / counts[gram] for gram in row), len(row)) for row in grams]).reshape(
        len(texts), 2
    )


def score_distinct(name: str, answers: Mapping[str, Sequence[str | None]]) -> Scored:
    """`distinct1` or `distinct2` of all models; answers without an n-gram have no value."""
    n = int(name[-1])
    scored = Scored(
        Metric(
            name,
            f"Distinct-{n}",
            True,
            "percent",
            f"espalier.distinct|n:{n}|tok:espalier-words|over:all-answers",
            "Different words (or word pairs) among all of them: how varied the answers are, right "
            "or wrong; it falls as answers grow longer or more, so compare equal sets only (and "
            "its interval takes the other answers as given).",
            slices=False,
            tested=False,
        )
    )
    for model, texts in answers.items():
        statistics = distinct_statistics(texts, n)
        valid = statistics[:, 1] > 0
        scored.columns[model] = Column(statistics, valid, MEAN)
        scored.rows[model] = _values(MEAN(statistics), valid)
    return scored


def self_bleu_statistics(texts: Sequence[str]) -> Array:
    """sacrebleu's BLEU statistics (n, 10) of each text with all the others as its references.

    Each text is parted by the tokeniser of its own script; at least two texts.
    """
    parted = [_split(text) for text in texts]
    lengths = sorted(map(len, parted))
    result = np.zeros((len(texts), BLEU.size))
    for row, words in enumerate(parted):
        result[row, :2] = len(words), _closest(lengths, len(words))
    for order in range(1, BLEU_ORDER + 1):
        counts = [Counter(ngrams(words, order)) for words in parted]
        highest = _two_highest(counts)
        for row, own in enumerate(counts):
            result[row, 1 + order] = sum(
                min(count, highest[gram][count == highest[gram][0]]) for gram, count in own.items()
            )
            result[row, 1 + BLEU_ORDER + order] = own.total()
    return result


def _two_highest(counts: Sequence[Counter[Any]]) -> dict[Any, list[int]]:
    """By n-gram the highest count among the texts and the second highest (may be equal)."""
    highest: dict[Any, list[int]] = {}
    for own in counts:
        for gram, count in own.items():
            first, second = highest.get(gram, (0, 0))
            if count > second:
                highest[gram] = sorted((first, count), reverse=True)
    # A text with the highest count is compared with the second: it may have both places.
    return highest


def _closest(lengths: Sequence[int], length: int) -> int:
    """The length nearest to one of the sorted `lengths`, itself left out; the shorter of two."""
    at = bisect_left(lengths, length)
    others = [*lengths[max(at - 1, 0) : at], *lengths[at + 1 : at + 2]]
    return min(others, key=lambda other: (abs(other - length), other))


def _split(text: str) -> list[str]:
    return str(_tokenizer(bleu_tokenizer(text))(text.rstrip())).split()


@cache
def _tokenizer(name: str) -> Any:
    metrics = require("sacrebleu.metrics", extra="evaluate", feature="Self-BLEU")
    return metrics.BLEU(tokenize=name).tokenizer


def score_self_bleu(answers: Mapping[str, Sequence[str | None]]) -> Scored:
    """Self-BLEU of all models; answers without a word, or without another one, have no value."""
    sacrebleu = require("sacrebleu", extra="evaluate", feature="Self-BLEU")
    scored = Scored(
        Metric(
            "self_bleu",
            "Self-BLEU",
            False,
            "number",
            "sacrebleu.BLEU|refs:all-other-answers|eff:yes|smooth:exp|mean:rows|"
            f"version:{sacrebleu.__version__}",
            "How much each answer repeats the other answers, 0 to 100 (100: all are copies); it "
            "grows with the number of answers, so compare equal sets only (and its interval takes "
            "the other answers as given).",
            slices=False,
            tested=False,
        )
    )
    for model, texts in answers.items():
        values: RowValues = [None] * len(texts)
        rows = [row for row, text in enumerate(texts) if text and _split(text)]
        if len(rows) > 1:
            statistics = self_bleu_statistics([texts[row] or "" for row in rows])
            found = bleu_of_sums(statistics, effective_order=True)
            for row, value in zip(rows, found, strict=True):
                values[row] = float(value)
        scored.rows[model] = values
        scored.columns[model] = Column.of_means(values)
    return scored


def _values(by_row: Array, valid: Any) -> RowValues:
    return [float(value) if ok else None for value, ok in zip(by_row, valid, strict=True)]
