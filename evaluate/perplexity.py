"""Perplexity of texts under a local model, in the four ways that are told apart by name.

- `ppl_response`: of the reference answers given their prompts, weighted by tokens.
- `ppl_whole`: of prompts and reference answers, weighted by tokens.
- `ppl_text_mean`: the same texts, the mean over texts of each text's perplexity.
- `bits_per_byte`: of the reference answers, by UTF-8 bytes: the only one of them that models
  with different tokenisers can be compared by.
- `ppl_corpus`: of the texts of a file, weighted by tokens.

Token-weighted perplexity is exp(Σ nll / Σ tokens) with the sums over all texts; the first token
of a text is never predicted. An answer includes the marker that ends it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from espalier.encoding import encode_example, encode_prompt
from espalier.evaluate.metric import Metric, Scored
from espalier.evaluate.significance import EXP_RATIO, MEAN, Column, Combine
from espalier.records import Messages
from espalier.scoring import token_logprobs

_SETTINGS = "nll:nats|first-token:skipped|end-marker:included|dtype:{dtype}"
PERPLEXITIES = {
    "ppl_response": Metric(
        "ppl_response",
        "Perplexity of answers",
        False,
        "perplexity",
        "espalier.perplexity|text:reference-answers|mean:tokens|" + _SETTINGS,
        "How surprised the model is by each token of the reference answers; not comparable "
        "between models with different tokenisers.",
    ),
    "ppl_whole": Metric(
        "ppl_whole",
        "Perplexity of prompts and answers",
        False,
        "perplexity",
        "espalier.perplexity|text:prompts+reference-answers|mean:tokens|" + _SETTINGS,
        "How surprised the model is by each token of prompt and reference answer; dominated by "
        "the prompts where these are long.",
    ),
    "ppl_text_mean": Metric(
        "ppl_text_mean",
        "Mean perplexity of texts",
        False,
        "perplexity",
        "espalier.perplexity|text:prompts+reference-answers|mean:texts|" + _SETTINGS,
        "The mean over texts of each text's own perplexity; a few odd short texts can rule it.",
    ),
    "bits_per_byte": Metric(
        "bits_per_byte",
        "Bits per byte of answers",
        False,
        "number",
        "espalier.bits-per-byte|text:reference-answers|bytes:utf-8|" + _SETTINGS,
        "Bits that the model needs for each byte of the reference answers; comparable between "
        "tokenisers, but not between languages (a Chinese character is three bytes).",
    ),
    "ppl_corpus": Metric(
        "ppl_corpus",
        "Perplexity of corpus",
        False,
        "perplexity",
        "espalier.perplexity|text:corpus|mean:tokens|" + _SETTINGS,
        "How surprised the model is by each token of running text, without any prompt template.",
        slices=False,
    ),
}


ON_THE_SET = ("ppl_response", "ppl_whole", "ppl_text_mean", "bits_per_byte")


@dataclass(frozen=True, slots=True)
class TextScore:
    """Sums over one text: nll in nats and tokens, for the whole and for its answer."""

    nll: float
    tokens: int
    answer_nll: float
    answer_tokens: int

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def score_conversations(
    model: Any,
    tokenizer: Any,
    template: Any,
    conversations: Sequence[Messages],
    *,
    skipped: Sequence[int] | None = None,
    metas: Sequence[Mapping[str, Any]] | None = None,
    token_budget: int = 8192,
    limit: int | None = None,
) -> list[TextScore | None]:
    """Score conversations whose last turn is the answer; None for one longer than `limit` tokens.

    The answer is what follows the prompt up to where the assistant begins. `skipped` says how
    many first turns of each (few-shot examples) are context only and not part of its text.
    """
    metas = metas or [{}] * len(conversations)
    skipped = skipped or [0] * len(conversations)
    sequences, answers, texts = [], [], []
    for turns, meta, skip in zip(conversations, metas, skipped, strict=True):
        whole = encode_example(tokenizer, template, turns, meta)
        prompt = encode_prompt(tokenizer, template, turns, meta)
        answer = np.array(whole.trained, dtype=bool)
        answer[: len(prompt)] = False
        text = np.ones(len(whole), dtype=bool)
        text[: len(encode_example(tokenizer, template, turns[:skip], meta)) if skip else 0] = False
        sequences.append(whole.ids)
        answers.append(answer[1:])
        texts.append(text[1:])
    fitting = [i for i, ids in enumerate(sequences) if 1 < len(ids) <= (limit or len(ids))]
    scored = token_logprobs(model, [sequences[i] for i in fitting], token_budget=token_budget)
    results: list[TextScore | None] = [None] * len(sequences)
    for index, logprobs in zip(fitting, scored, strict=True):
        nll = -logprobs.astype(np.float64)
        answer, text = answers[index], texts[index]
        results[index] = TextScore(
            float(nll[text].sum()), int(text.sum()), float(nll[answer].sum()), int(answer.sum())
        )
    return results


def score_texts(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    token_budget: int = 8192,
    limit: int | None = None,
) -> list[TextScore | None]:
    """Score running texts, a BOS before each where the tokenizer puts one.

    A text longer than `limit` tokens is scored in pieces of that length, each without the
    others as context.
    """
    pieces: list[list[int]] = []
    owners: list[int] = []
    for owner, text in enumerate(texts):
        ids = list(tokenizer(text)["input_ids"])
        step = limit or max(len(ids), 1)
        for start in range(0, len(ids), step):
            piece = ids[start : start + step]
            if len(piece) > 1:
                pieces.append(piece)
                owners.append(owner)
    totals = np.zeros((len(texts), 2))
    scored = token_logprobs(model, pieces, token_budget=token_budget)
    for owner, logprobs in zip(owners, scored, strict=True):
        totals[owner] += (-float(logprobs.astype(np.float64).sum()), len(logprobs))
    return [TextScore(float(nll), int(count), 0.0, 0) if count else None for nll, count in totals]


def column_of(
    name: str, scores: Sequence[TextScore | None], references: Sequence[str | None]
) -> tuple[Column, list[float | None]]:
    """Statistics and row values of one of the perplexities."""
    statistics = np.zeros((len(scores), 2))
    valid = np.zeros(len(scores), dtype=bool)
    for index, score in enumerate(scores):
        pair = None if score is None else _STATISTICS[name](score, references[index] or "")
        if pair is not None and pair[1] > 0:
            statistics[index] = pair
            valid[index] = True
    combine = _COMBINE.get(name, EXP_RATIO)
    rows = combine(statistics)
    return Column(statistics, valid, combine), [
        float(value) if ok and math.isfinite(value) else None
        for value, ok in zip(rows, valid, strict=True)
    ]


def _text_mean(score: TextScore, reference: str) -> tuple[float, float]:
    return math.exp(min(score.nll / score.tokens, 700.0)), 1.0


_STATISTICS: dict[str, Callable[[TextScore, str], tuple[float, float]]] = {
    "ppl_response": lambda score, reference: (score.answer_nll, score.answer_tokens),
    "ppl_whole": lambda score, reference: (score.nll, score.tokens),
    "ppl_text_mean": _text_mean,
    "bits_per_byte": lambda score, reference: (
        score.answer_nll / math.log(2),
        len(reference.encode("utf-8", errors="replace")),
    ),
    "ppl_corpus": lambda score, reference: (score.nll, score.tokens),
}
# Bits per byte is a ratio of sums like a mean: (bits, bytes) instead of (value, 1).
_COMBINE: dict[str, Combine] = {"ppl_text_mean": MEAN, "bits_per_byte": MEAN}


def tables(
    by_model: dict[str, list[TextScore | None]],
    references: Sequence[str | None],
    dtype: str,
    names: Sequence[str] = ON_THE_SET,
) -> list[Scored]:
    """The perplexity metrics of all local models."""
    found = []
    for name in names:
        metric = PERPLEXITIES[name]
        scored = Scored(replace(metric, signature=metric.signature.format(dtype=dtype)))
        for model, scores in by_model.items():
            scored.columns[model], rows = column_of(name, scores, references)
            if name != "ppl_corpus":
                scored.rows[model] = rows
        found.append(scored)
    return found
