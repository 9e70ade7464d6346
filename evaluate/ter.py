"""TER, translation edit rate (Snover et al. 2006): sacrebleu's, for every script.

Edits (inserting, leaving out or replacing a word, shifting a run of words) for each word of the
reference; 0 is identical text. Rows in Chinese, Japanese, Korean and Thai are parted into words
by the tokenisers that BLEU uses for them, other rows as TER does by default.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from espalier.errors import require
from espalier.evaluate.significance import Array, Combine
from espalier.evaluate.ter_edits import count_edits


def ter_of_sums(sums: Array) -> Array:
    """TER in per cent of summed statistics (..., 2): edits, words of the reference."""
    edits, words = sums[..., 0], sums[..., 1]
    whole = np.where(edits > 0, 100.0, 0.0)
    return np.asarray(np.where(words > 0, 100 * edits / np.maximum(words, 1), whole))


TER = Combine(2, ter_of_sums, "ter:TER")


def ter_statistics(
    answers: Sequence[str], references: Sequence[str], tokenizers: Sequence[str]
) -> Array:
    """Edits and words of the reference (n, 2), each row by its tokeniser of sacrebleu.

    The tokeniser `13a` stands for TER's own.
    """
    metrics = require("sacrebleu.metrics", extra="evaluate", feature="TER")
    scorer = metrics.TER()
    parted = {name: _parter(name) for name in set(tokenizers)}
    result = np.zeros((len(answers), TER.size))
    for row, name in enumerate(tokenizers):
        ids: dict[str, int] = {}
        answer, reference = (
            np.array(
                [
                    ids.setdefault(word, len(ids))
                    for word in scorer._preprocess_segment(parted[name](text)).split()
                ],
                dtype=np.int32,
            )
            for text in (answers[row], references[row])
        )
        result[row] = count_edits(answer, reference), len(reference)
    return result


def _parter(name: str) -> Callable[[str], str]:
    if name == "13a":
        return lambda text: text
    module = {"zh": "tokenizer_zh", "char": "tokenizer_char"}[name]
    made = require(f"sacrebleu.tokenizers.{module}", extra="evaluate", feature="TER")
    tokenizer: Any = {"zh": "TokenizerZh", "char": "TokenizerChar"}[name]
    parter: Callable[[str], str] = getattr(made, tokenizer)()
    return parter
