"""Perplexity of texts under a local model, in the four ways that are told apart by name.

- `ppl_response`: of the reference answers given their prompts, weighted by tokens.
- `ppl_whole`: of prompts and reference answers, weighted by tokens.
- `ppl_text_mean`: the same texts, the mean over texts of each text's perplexity.
- `bits_per_byte`: of the reference answers, by UTF-8 bytes: the only one of them that models
  with different tokenisers can be compared by.
- `ppl_corpus`: of the texts of a file, weighted by tokens; `ppl_corpus_mean` is the mean over
  these texts, `bpb_corpus` their bits per byte.
- `forgetting`: `ppl_corpus` over that of the model it was trained from.

Token-weighted perplexity is exp(Σ nll / Σ tokens) with the sums over all texts; the first token
of a text is not predicted, but with `rolling` windows it is. An answer includes the marker that
ends it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from espalier.encoding import encode_example, encode_prompt
from espalier.engines.base import ScoringEngine
from espalier.errors import InputError
from espalier.evaluate.metric import Metric, Scored
from espalier.evaluate.significance import EXP_RATIO, MEAN, Array, Column, Combine
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
    "ppl_corpus_mean": Metric(
        "ppl_corpus_mean",
        "Mean perplexity of corpus texts",
        False,
        "perplexity",
        "espalier.perplexity|text:corpus|mean:texts|" + _SETTINGS,
        "The mean over the texts of the corpus of each one's own perplexity; a few odd short "
        "texts can rule it.",
        slices=False,
    ),
    "bpb_corpus": Metric(
        "bpb_corpus",
        "Bits per byte of corpus",
        False,
        "number",
        "espalier.bits-per-byte|text:corpus|bytes:utf-8|" + _SETTINGS,
        "Bits that the model needs for each byte of running text; comparable between tokenisers, "
        "but not between languages.",
        slices=False,
    ),
}
FORGETTING_METRIC = Metric(
    "forgetting",
    "Forgetting",
    False,
    "number",
    "espalier.forgetting|text:corpus|ratio:perplexity|before:{before}|" + _SETTINGS,
    "Perplexity on general text divided by that of the model before the training: 1 is nothing "
    "forgotten, 2 twice as surprised; it knows nothing of skills that the text does not show, and "
    "nothing of models with another tokeniser.",
    slices=False,
)


def forgetting_of_sums(sums: Array) -> Array:
    """Ratio of two perplexities of summed statistics (..., 4): nll, tokens; the same before."""
    return np.asarray(np.exp(sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3]))


FORGETTING = Combine(4, forgetting_of_sums, "perplexity:FORGETTING")


ON_THE_SET = ("ppl_response", "ppl_whole", "ppl_text_mean", "bits_per_byte")
# Share of the tokens by which texts may differ that are parted alike.
UNEVEN_TOKENS = 0.01
ON_A_CORPUS = ("ppl_corpus", "ppl_corpus_mean", "bpb_corpus")


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
    token_budget: int | None = None,
    limit: int | None = None,
) -> list[TextScore | None]:
    """Score conversations whose last turn is the answer; None for one longer than `limit` tokens.

    `model` is a model of transformers or an engine that scores.

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
    scored = _logprobs(model, [sequences[i] for i in fitting], token_budget)
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
    token_budget: int | None = None,
    limit: int | None = None,
    windows: str = "pieces",
) -> list[TextScore | None]:
    """Score running texts.

    "pieces": as the tokenizer writes them; one longer than `limit` tokens is cut into pieces of
    that length, each without the others as context. "rolling": every token is predicted, the
    first from the BOS (else EOS) token, and those of later windows from what stands before them
    (as lm-eval's `loglikelihood_rolling`; for texts of one window as the module `perplexity` of
    Hugging Face evaluate). Raises InputError where a rolling window has no token to start from.
    """
    split = _rolling if windows == "rolling" else _pieces
    sequences: list[list[int]] = []
    counted: list[int] = []
    owners: list[int] = []
    for owner, text in enumerate(texts):
        for sequence, count in split(tokenizer, text, limit):
            sequences.append(sequence)
            counted.append(count)
            owners.append(owner)
    totals = np.zeros((len(texts), 2))
    scored = _logprobs(model, sequences, token_budget)
    for owner, count, logprobs in zip(owners, counted, scored, strict=True):
        totals[owner] += (-float(logprobs[-count:].astype(np.float64).sum()), count)
    return [TextScore(float(nll), int(count), 0.0, 0) if count else None for nll, count in totals]


def _logprobs(
    model: Any, sequences: Sequence[Sequence[int]], token_budget: int | None
) -> Sequence[np.ndarray[Any, Any]]:
    """`token_logprobs` of a model of transformers, or of an engine that scores."""
    if not isinstance(model, ScoringEngine):
        return token_logprobs(model, sequences, token_budget=token_budget)
    return [np.array(scores.logprobs) for scores in model.score(sequences)]


def _pieces(tokenizer: Any, text: str, limit: int | None) -> list[tuple[list[int], int]]:
    ids = list(tokenizer(text)["input_ids"])
    step = limit or max(len(ids), 1)
    pieces = [ids[start : start + step] for start in range(0, len(ids), step)]
    return [(piece, len(piece) - 1) for piece in pieces if len(piece) > 1]


def _rolling(tokenizer: Any, text: str, limit: int | None) -> list[tuple[list[int], int]]:
    """(ids, how many of the last are predicted): no window is longer than `limit` + 1 ids, the
    last of which is predicted only. The last window is as full as the others."""
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if start is None:
        raise InputError(
            "The tokenizer has neither a BOS nor an EOS token to begin a text with.",
            where="evaluate.corpus_windows",
            expected="`pieces`, or a tokenizer with one of them",
        )
    ids = [start, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    step = limit or max(len(ids) - 1, 1)
    found = []
    for done in range(0, len(ids) - 1, step):
        end = min(done + step, len(ids) - 1) + 1
        found.append((ids[max(0, end - 1 - step) : end], end - 1 - done))
    return found


def forgetting(
    by_model: Mapping[str, Sequence[TextScore | None]], before: str, dtype: str
) -> Scored:
    """Perplexity of each model over that of the model `before`, on the texts that both score."""
    signature = FORGETTING_METRIC.signature.format(dtype=dtype, before=before)
    scored = Scored(replace(FORGETTING_METRIC, signature=signature))
    for model, scores in by_model.items():
        statistics = np.zeros((len(scores), 4))
        valid = np.zeros(len(scores), dtype=bool)
        for index, (now, then) in enumerate(zip(scores, by_model[before], strict=True)):
            if now is not None and then is not None:
                statistics[index] = (now.nll, now.tokens, then.nll, then.tokens)
                valid[index] = True
        scored.columns[model] = Column(statistics, valid, FORGETTING)
        after, first = (EXP_RATIO(statistics[:, at : at + 2].sum(axis=0)) for at in (0, 2))
        if valid.any():
            scored.details[model] = {"perplexity": float(after), "before": float(first)}
            scored.details[model] |= token_details(scores, by_model[before], answers=False)
    return scored


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
    if not score.tokens:
        return 0.0, 0.0
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
    "ppl_corpus_mean": _text_mean,
    "bpb_corpus": lambda score, reference: (
        score.nll / math.log(2),
        len(reference.encode("utf-8", errors="replace")),
    ),
}
# Bits per byte is a ratio of sums like a mean: (bits, bytes) instead of (value, 1).
_COMBINE: dict[str, Combine] = {
    "ppl_text_mean": MEAN,
    "bits_per_byte": MEAN,
    "ppl_corpus_mean": MEAN,
    "bpb_corpus": MEAN,
}


def token_details(
    scores: Sequence[TextScore | None], first: Sequence[TextScore | None], *, answers: bool
) -> dict[str, Any]:
    """How many tokens the texts have, and whether they are parted as for the `first` model.

    Another template adds the same number to each text, and may join a token at its border;
    larger differences are another tokenizer's, or of texts that a shorter context cuts.
    """

    def counts(of: Sequence[TextScore | None]) -> Array:
        return np.array(
            [0.0 if one is None else one.answer_tokens if answers else one.tokens for one in of]
        )

    own, others = counts(scores), counts(first)
    both = (own > 0) & (others > 0)
    difference = own[both] - others[both]
    uneven = np.abs(difference - np.median(difference)).sum() if both.any() else 0.0
    return {
        "tokens": int(own.sum()),
        "tokens_as_first": bool(uneven <= UNEVEN_TOKENS * own[both].sum()),
    }


def token_warnings(columns: Sequence[Scored]) -> list[str]:
    """Which models' perplexities by token can't be compared."""
    by_token = [one for one in columns if one.metric.name not in ("bits_per_byte", "bpb_corpus")]
    others = {
        model: next(iter(one.details))
        for one in by_token
        for model, details in one.details.items()
        if not details["tokens_as_first"]
    }
    return [
        f"Perplexities of {model} and {first} can't be compared: the same texts have other tokens "
        "for them (another tokenizer, or a shorter context). Bits per byte can."
        for model, first in others.items()
    ]


def tables(
    by_model: dict[str, list[TextScore | None]],
    references: Sequence[str | None],
    dtype: str,
    names: Sequence[str] = ON_THE_SET,
) -> list[Scored]:
    """The perplexity metrics of all local models."""
    found = []
    first = next(iter(by_model.values()), [])
    for name in names:
        metric = PERPLEXITIES[name]
        scored = Scored(replace(metric, signature=metric.signature.format(dtype=dtype)))
        for model, scores in by_model.items():
            scored.columns[model], rows = column_of(name, scores, references)
            if name in ON_THE_SET:
                scored.rows[model] = rows
            scored.details[model] = token_details(scores, first, answers=name in ON_THE_SET)
        found.append(scored)
    return found
