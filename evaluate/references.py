"""Scores against reference answers: exact match, token F1, ROUGE, BLEU, chrF, TER.

All are right for text without spaces between words: ROUGE and token F1 count
`espalier.text.tokens` (for ASCII text exactly `rouge_score`'s tokens), and BLEU tokenises each
row by the script of its reference. BLEU, chrF and TER are corpus scores of sacrebleu, kept as
its sufficient statistics by row, so that resampling sums statistics instead of scoring again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from espalier.errors import require
from espalier.evaluate.metric import Metric, RowValues, Scored
from espalier.evaluate.significance import Array, Column, Combine
from espalier.evaluate.ter import TER, ter_statistics
from espalier.overlap import rouge_scores
from espalier.overlap_summary import rouge_lsum_scores
from espalier.text import language, tokens

# sacrebleu's own tokenisers that work without MeCab or a downloaded model. Korean and Thai have
# none of their own, and Japanese only with MeCab: characters, so that a score does not depend
# on what happens to be installed.
BLEU_TOKENIZERS = {"zh": "zh", "ja": "char", "ko": "char", "th": "char"}
BLEU_DEFAULT = "13a"
BLEU_ORDER = 4
CHRF_ORDER = 6
CHRF_BETA = 2
ARTICLES = frozenset({"a", "an", "the"})

_Score = Callable[[Sequence[str], Sequence[str]], list[float]]


def bleu_tokenizer(text: str) -> str:
    """Name of the sacrebleu tokeniser for a reference: by script, 13a for alphabets."""
    return BLEU_TOKENIZERS.get(language(text), BLEU_DEFAULT)


# --- row by row ------------------------------------------------------------------------------


def exact_match(answer: str, reference: str) -> float:
    """1.0 when the texts are equal, case and punctuation included; outer whitespace aside."""
    return float(answer.strip() == reference.strip())


def token_f1(answer: str, reference: str) -> float:
    """F1 of the two bags of words without English articles (as for SQuAD, Rajpurkar 2016).

    Two texts without any word score 1 when they are equal.
    """
    left, right = _bag(answer), _bag(reference)
    if not left or not right:
        return exact_match(answer, reference) if left == right else 0.0
    common = sum([min(count, right[word]) for word, count in left.items() if word in right])
    return 2 * common / (left.total() + right.total())


def _bag(text: str) -> Counter[str]:
    words = Counter(tokens(text))
    for article in ARTICLES:
        words.pop(article, None)
    return words


def _each(score: Callable[[str, str], float]) -> _Score:
    return lambda answers, references: [
        score(answer, reference) for answer, reference in zip(answers, references, strict=True)
    ]


def _rouge(place: int) -> _Score:
    return lambda answers, references: rouge_scores(answers, references)[:, place, 2].tolist()


def _rouge_lsum(answers: Sequence[str], references: Sequence[str]) -> list[float]:
    found: list[float] = rouge_lsum_scores(answers, references)[:, 2].tolist()
    return found


# --- corpus scores from sums of statistics ----------------------------------------------------


def bleu_of_sums(sums: Array, *, effective_order: bool = False) -> Array:
    """BLEU (Papineni 2002) in 0..100 of summed statistics (..., 10), as sacrebleu computes it.

    Statistics: answer length, reference length, matches of order 1..4, n-grams of order 1..4.
    Smoothing "exp" (each order without a match halves once more). `effective_order`: orders
    that the answer is too short for are left out (for single sentences).
    """
    length, reference = sums[..., 0], sums[..., 1]
    correct, total = sums[..., 2 : 2 + BLEU_ORDER], sums[..., 2 + BLEU_ORDER :]
    smooth = np.cumsum(np.where((correct == 0) & (total > 0), 1, 0), axis=-1)
    precision = np.where(correct > 0, correct, 0.5**smooth) / np.maximum(total, 1)
    counted = np.cumsum(total == 0, axis=-1) == 0
    logs = np.where(counted, np.log(precision), 0.0).sum(axis=-1)
    orders = counted.sum(axis=-1)
    brevity = np.where(length < reference, np.exp(1 - reference / np.maximum(length, 1e-300)), 1.0)
    divisor = np.maximum(orders, 1) if effective_order else BLEU_ORDER
    defined = correct.any(axis=-1) & (effective_order | (orders == BLEU_ORDER))
    return np.asarray(np.where(defined, 100 * brevity * np.exp(logs / divisor), 0.0))


def chrf_of_sums(sums: Array) -> Array:
    """chrF (Popović 2015) in 0..100 of summed statistics (..., 18), as sacrebleu computes it.

    Statistics: for character n-grams of order 1..6 the count in the answer, in the reference,
    and in both. Precision and recall are averaged over the orders that both texts reach.
    """
    table = sums.reshape(*sums.shape[:-1], CHRF_ORDER, 3)
    answer, reference, both = table[..., 0], table[..., 1], table[..., 2]
    counted = (answer > 0) & (reference > 0)
    orders = np.maximum(counted.sum(axis=-1), 1)
    precision = np.where(counted, both / np.maximum(answer, 1), 0.0).sum(axis=-1) / orders
    recall = np.where(counted, both / np.maximum(reference, 1), 0.0).sum(axis=-1) / orders
    factor = CHRF_BETA**2
    divisor = np.maximum(factor * precision + recall, 1e-300)
    return np.asarray(100 * (1 + factor) * precision * recall / divisor)


BLEU = Combine(2 + 2 * BLEU_ORDER, bleu_of_sums, "references:BLEU")
CHRF = Combine(3 * CHRF_ORDER, chrf_of_sums, "references:CHRF")


def _statistics(scorer: Any, answers: Sequence[str], references: Sequence[str]) -> Array:
    # The method that sacrebleu's own significance tests are built on.
    return np.array(scorer._extract_corpus_statistics(answers, [references]), dtype=np.float64)


def bleu_statistics(answers: Sequence[str], references: Sequence[str]) -> Array:
    """sacrebleu's BLEU statistics (n, 10), each row tokenised by its reference's script."""
    metrics = require("sacrebleu.metrics", extra="evaluate", feature="BLEU")
    result = np.zeros((len(answers), BLEU.size))
    names = [bleu_tokenizer(reference) for reference in references]
    for name in sorted(set(names)):
        rows = [index for index, other in enumerate(names) if other == name]
        # `force` only silences a warning about text that looks tokenised.
        scorer = metrics.BLEU(tokenize=name, force=True)
        result[rows] = _statistics(
            scorer, [answers[i] for i in rows], [references[i] for i in rows]
        )
    return result


def chrf_statistics(answers: Sequence[str], references: Sequence[str]) -> Array:
    """sacrebleu's chrF statistics (n, 18)."""
    metrics = require("sacrebleu.metrics", extra="evaluate", feature="chrF")
    return _statistics(metrics.CHRF(), answers, references)


# --- the metrics -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rowwise:
    label: str
    score: _Score
    settings: str
    description: str
    binary: bool = False


_ROUGE_SETTINGS = "tok:espalier-words|stem:no|f:1|mean:rows"
_ROWWISE = {
    "exact_match": _Rowwise(
        "Exact match",
        _each(exact_match),
        "case:kept|punct:kept|strip:outer|interval:wilson",
        "Share of answers equal to the reference; misleads where many answers are right.",
        binary=True,
    ),
    "token_f1": _Rowwise(
        "Token F1",
        _each(token_f1),
        "tok:espalier-words|articles:dropped|mean:rows",
        "Words shared with the reference, in any order; misleads where order or a 'not' matters.",
    ),
    "rouge1": _Rowwise(
        "ROUGE-1",
        _rouge(0),
        _ROUGE_SETTINGS,
        "Words shared with the reference; misleads where order or a 'not' matters.",
    ),
    "rouge2": _Rowwise(
        "ROUGE-2",
        _rouge(1),
        _ROUGE_SETTINGS,
        "Word pairs shared with the reference; always 0 against references of one word.",
    ),
    "rougeL": _Rowwise(
        "ROUGE-L",
        _rouge(2),
        _ROUGE_SETTINGS,
        "Longest common word sequence with the reference; misleads for free-form answers.",
    ),
    "rougeLsum": _Rowwise(
        "ROUGE-Lsum",
        _rouge_lsum,
        _ROUGE_SETTINGS + "|lines:line-feeds",
        "ROUGE-L line by line, the lines in any order, for summaries of one sentence a line; the "
        "same as ROUGE-L where texts have one line, and misleading for free-form answers.",
    ),
}
# What is scored where the recipe names no metrics, and what only by name.
REFERENCE_METRICS = ("exact_match", "token_f1", "rouge1", "rouge2", "rougeL", "bleu", "chrf")
BY_NAME = ("rougeLsum", "ter")

Answers = dict[str, list[str | None]]


def _present(answers: Sequence[str | None], references: Sequence[str | None]) -> list[int]:
    return [
        index
        for index, (answer, reference) in enumerate(zip(answers, references, strict=True))
        if answer is not None and reference is not None
    ]


def _pairs(
    answers: Sequence[str | None], references: Sequence[str | None], rows: Sequence[int]
) -> tuple[list[str], list[str]]:
    return [answers[i] or "" for i in rows], [references[i] or "" for i in rows]


def score_references(name: str, answers: Answers, references: Sequence[str | None]) -> Scored:
    """One reference metric for all models.

    `answers`: by model, one text a row of the set, None where the model gave none. Rows without
    answer or without reference have no value; an empty answer is an answer.
    """
    if name in _ROWWISE:
        return _score_rowwise(name, answers, references)
    return _score_corpus(name, answers, references)


def _score_rowwise(name: str, answers: Answers, references: Sequence[str | None]) -> Scored:
    kind = _ROWWISE[name]
    signature = f"espalier.{name}|{kind.settings}"
    scored = Scored(Metric(name, kind.label, True, "percent", signature, kind.description))
    for model, texts in answers.items():
        values: RowValues = [None] * len(texts)
        rows = _present(texts, references)
        for row, value in zip(rows, kind.score(*_pairs(texts, references, rows)), strict=True):
            values[row] = value
        scored.rows[model] = values
        scored.columns[model] = Column.of_means(values, binary=kind.binary)
    return scored


def _score_corpus(name: str, answers: Answers, references: Sequence[str | None]) -> Scored:
    combine, statistics_of = _CORPUS[name]
    scored = Scored(corpus_metric(name, references))
    for model, texts in answers.items():
        rows = _present(texts, references)
        statistics = np.zeros((len(texts), combine.size))
        if rows:
            statistics[rows] = statistics_of(*_pairs(texts, references, rows))
        valid = np.zeros(len(texts), dtype=bool)
        valid[rows] = True
        by_row = (
            bleu_of_sums(statistics, effective_order=True)
            if name == "bleu"
            else combine(statistics)
        )
        scored.rows[model] = [
            float(value) if ok else None for value, ok in zip(by_row, valid, strict=True)
        ]
        scored.columns[model] = Column(statistics, valid, combine)
    return scored


def _ter_by_script(answers: Sequence[str], references: Sequence[str]) -> Array:
    return ter_statistics(answers, references, [bleu_tokenizer(text) for text in references])


_CORPUS: dict[str, tuple[Combine, Callable[[Sequence[str], Sequence[str]], Array]]] = {
    "bleu": (BLEU, bleu_statistics),
    "chrf": (CHRF, chrf_statistics),
    "ter": (TER, _ter_by_script),
}


def corpus_metric(name: str, references: Sequence[str | None]) -> Metric:
    """What BLEU, chrF or TER says of itself on these references (tokenisers, version)."""
    sacrebleu = require("sacrebleu", extra="evaluate", feature="BLEU, chrF and TER")
    version = f"version:{sacrebleu.__version__}"
    if name == "chrf":
        return Metric(
            "chrf",
            "chrF",
            True,
            "number",
            f"sacrebleu.chrF2|nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|{version}|corpus",
            "Character n-grams shared with the references, 0 to 100; kinder than BLEU to short "
            "answers, and misleading where there are many right ones.",
        )
    texts = [reference for reference in references if reference]
    used = Counter(bleu_tokenizer(text) for text in texts)
    names = "+".join(f"{key}({count})" for key, count in sorted(used.items()))
    tokeniser = names if len(used) > 1 else next(iter(used), BLEU_DEFAULT)
    if name == "ter":
        return Metric(
            "ter",
            "TER",
            False,
            "number",
            f"sacrebleu.TER|nrefs:1|case:lc|tok:{tokeniser.replace(BLEU_DEFAULT, 'tercom')}|"
            f"norm:no|punct:yes|{version}|corpus",
            "Edits for each word of the references, in per cent, over the whole set: 0 is equal "
            "text, and long answers go above 100; misleads where there are many right answers, and "
            "counts too many edits where a long answer lacks a large part of its reference.",
        )
    return Metric(
        "bleu",
        "BLEU",
        True,
        "number",
        f"sacrebleu.BLEU|nrefs:1|case:mixed|eff:no|tok:{tokeniser}|smooth:exp|{version}|corpus",
        "Word sequences shared with the references over the whole set, 0 to 100; says little "
        "about answers under four words, and misleads where there are many right answers.",
    )
