"""Scores that need a model to compute: perplexity and reward, kept by content.

Each text's result is stored under the hash of what decides it (weights, template, text, code), so
that a changed model, metric or row computes only that again, and a kill loses one batch.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from espalier.encoding import encode_example
from espalier.engines import open_engine
from espalier.engines.chat import weights_identity
from espalier.errors import InputError, place
from espalier.evaluate.answers import STORE
from espalier.evaluate.config import EvaluateConfig
from espalier.evaluate.evalset import EvalSet, Row
from espalier.evaluate.fewshot import Shots
from espalier.evaluate.metric import Metric, RowValues, Scored
from espalier.evaluate.perplexity import (
    ON_A_CORPUS,
    ON_THE_SET,
    TextScore,
    forgetting,
    score_conversations,
    score_texts,
    tables,
)
from espalier.evaluate.prompts import context_length, load_template, with_shots
from espalier.evaluate.rewards import RewardModel, open_scorer
from espalier.evaluate.rows import row_error
from espalier.evaluate.significance import Column
from espalier.evaluate.store import TRANSFORMERS, VLLM, Store, kept, key_of
from espalier.evaluate.subjects import Subject
from espalier.files import hash_path, read_json
from espalier.formats.files import BadRow, read_rows
from espalier.progress import Progress
from espalier.records import Message, Messages
from espalier.rewarding import RewardScorer
from espalier.templates import template_identity

PERPLEXITY_STORE = "perplexity.jsonl"
REWARD_STORE = "rewards.jsonl"
_CODE = ("espalier.scoring", "espalier.encoding", "espalier.templates")
_PERPLEXITY_CODE = (*_CODE, "espalier.evaluate.perplexity")
_ENGINE_CODE = ("espalier.engines.vllm_local", "espalier.engines.vllm_child")
_REWARD_CODE = (*_CODE, "espalier.rewarding", "espalier.reward_heads")


def _turns_text(turns: Messages, meta: Any) -> str:
    """What a template is given, as a part of a key."""
    return json.dumps([[turn.to_json() for turn in turns], meta], sort_keys=True, default=str)


# --- perplexity ------------------------------------------------------------------------------


def perplexities(
    subjects: Sequence[Subject],
    evalset: EvalSet,
    options: EvaluateConfig,
    *,
    folder: Path,
    shots: Shots | None,
    corpus: Path | None,
    before: str | None = None,
) -> list[Scored]:
    """The perplexity columns of all local models, on the references and on the corpus if given.

    Those of a corpus that no recipe has to name come last: with `before`, the ratio to that
    model's perplexity.
    """
    local = [subject for subject in subjects if subject.local]
    if not local:
        return []
    on_set: dict[str, list[TextScore | None]] = {}
    on_corpus: dict[str, list[TextScore | None]] = {}
    texts = read_corpus(corpus) if corpus is not None else []
    has_references = any(row.reference for row in evalset.rows)
    work = len(local) * (has_references + bool(texts))
    with Progress("evaluate: perplexity", work, unit="models") as progress:
        for subject in local:
            with closing(_PerplexityScorer(subject, options, folder / STORE)) as scorer:
                if has_references:
                    on_set[subject.name] = scorer.on_set(evalset, shots)
                    progress.update()
                if texts:
                    on_corpus[subject.name] = scorer.on_texts(texts)
                    progress.update()
    dtype = "+".join(sorted({_dtype(subject, options) for subject in local}))
    # Of another engine than transformers the signature says so.
    engines = sorted({subject.scored_by for subject in local} - {""})
    dtype += "".join(f"|engine:{engine}" for engine in engines)
    found = tables(on_set, evalset.references, dtype) if on_set else []
    if on_corpus:
        found += tables(on_corpus, texts, dtype, ON_A_CORPUS)
        if before in on_corpus:
            found.append(forgetting(on_corpus, before, dtype))
    if options.corpus_windows == "rolling":
        found = [_rolling(scored) if not scored.rows else scored for scored in found]
    return found


def asks_perplexity(options: EvaluateConfig) -> bool:
    """Whether any column of the recipe is computed from perplexities."""
    named = (*ON_THE_SET, *ON_A_CORPUS, "forgetting")
    return options.asks("perplexity") or any(options.names(name) for name in named)


def score_while_open(
    subject: Subject,
    engine: Any,
    evalset: EvalSet,
    options: EvaluateConfig,
    *,
    folder: Path,
    shots: Shots | None,
    corpus: Path | None,
) -> None:
    """Fill the store with the perplexities of a model whose engine has just answered, where that
    engine computes them: `perplexities` then finds them, and the model is loaded once."""
    if not subject.scored_by or not asks_perplexity(options):
        return
    scorer = _PerplexityScorer(subject, options, folder / STORE, engine)
    scorer.on_set(evalset, shots)
    if corpus is not None:
        scorer.on_texts(read_corpus(corpus))


def _rolling(scored: Scored) -> Scored:
    """The same with a signature that says so."""
    signature = scored.metric.signature.replace("first-token:skipped", "windows:rolling")
    return replace(scored, metric=replace(scored.metric, signature=signature))


def _dtype(subject: Subject, options: EvaluateConfig) -> str:
    if options.dtype != "auto":
        return options.dtype
    path = Path(subject.location) / "config.json"
    value = read_json(path) if path.is_file() else {}
    return str(value.get("dtype") or value.get("torch_dtype") or "auto")


class _PerplexityScorer:
    """One model, loaded at the first text that is not stored, or the engine that has it."""

    def __init__(
        self, subject: Subject, options: EvaluateConfig, store: Path, engine: Any = None
    ) -> None:
        self.subject = subject
        self.options = options
        self.store = store
        self.limit = context_length(subject.location)
        self._weights = weights_identity(subject.location)
        self._model: Any = engine
        self._tokenizer, self._template = load_template(subject)

    def _loaded(self) -> Any:
        if self._model is None:
            if self.subject.scored_by and self.subject.spec is not None:
                self._model = open_engine(self.subject.spec)
            else:
                from espalier.models import load_model

                self._model = load_model(self.subject.location, dtype=self.options.dtype)
        return self._model

    def _room(self) -> int | None:
        """The longest text; an engine may have been told to read less than the model can."""
        if not self.subject.scored_by:
            return self.limit
        longest = int(self._loaded().longest())
        return longest if self.limit is None else min(self.limit, longest)

    def close(self) -> None:
        """Give the model's memory back."""
        if self.subject.scored_by and self._model is not None:
            self._model.close()
        self._model = None

    def on_set(self, evalset: EvalSet, shots: Shots | None) -> list[TextScore | None]:
        """One score a row of the set; None where there is no reference or it does not fit."""
        rows = [index for index, row in enumerate(evalset.rows) if row.reference]
        turns = [self._turns(evalset.rows[index], shots) for index in rows]
        metas = [{} if self.subject.config.few_shot else evalset.rows[i].meta for i in rows]
        keys = [
            self._key("conversation", str(skip), _turns_text(one, meta))
            for (one, skip), meta in zip(turns, metas, strict=True)
        ]

        def make(places: list[int]) -> list[TextScore | None]:
            return score_conversations(
                self._loaded(),
                self._tokenizer,
                self._template,
                [turns[at][0] for at in places],
                skipped=[turns[at][1] for at in places],
                metas=[metas[at] for at in places],
                token_budget=self.options.token_budget,
                limit=self._room(),
            )

        stored = self._kept(keys, make)
        result: list[TextScore | None] = [None] * len(evalset)
        for index, score in zip(rows, stored, strict=True):
            result[index] = score
        return result

    def _turns(self, row: Row, shots: Shots | None) -> tuple[Messages, int]:
        """The conversation with the reference, and how many of its turns come before the row's.

        As many few-shot examples as fit into the context.
        """
        answer = Message("assistant", row.reference or "")
        system = sum(turn.role == "system" for turn in row.messages)
        for count in range(self.subject.config.few_shot, 0, -1):
            prompt = with_shots(row, self.subject, shots, count)
            turns = (*prompt, answer)
            length = len(encode_example(self._tokenizer, self._template, turns))
            if self.limit is None or length <= self.limit:
                return turns, len(prompt) - len(row.messages) + system
        return (*row.messages, answer), 0

    def on_texts(self, texts: Sequence[str]) -> list[TextScore | None]:
        """One score a text of the corpus."""
        windows = self.options.corpus_windows
        keys = [self._key("text", windows, text) for text in texts]

        def make(places: list[int]) -> list[TextScore | None]:
            return score_texts(
                self._loaded(),
                self._tokenizer,
                [texts[at] for at in places],
                token_budget=self.options.token_budget,
                limit=self._room(),
                windows=windows,
            )

        return self._kept(keys, make)

    def _kept(
        self, keys: Sequence[str], make: Callable[[list[int]], list[TextScore | None]]
    ) -> list[TextScore | None]:
        def as_json(places: list[int]) -> list[Any]:
            return [None if one is None else one.to_json() for one in make(places)]

        with Store(self.store / PERPLEXITY_STORE) as store:
            values = kept(store, keys, as_json, model=self.subject.name)
        return [None if value is None else TextScore(**value) for value in values]

    def _key(self, kind: str, *parts: str) -> str:
        chosen = self.subject.config.template
        code: tuple[str, ...] = _PERPLEXITY_CODE
        how: tuple[str, ...] = ()
        if self.subject.scored_by and self.subject.spec is not None:
            code += _ENGINE_CODE
            settings = json.dumps(self.subject.spec.options, sort_keys=True, default=str)
            how = (self.subject.spec.engine, settings)
        return key_of(
            f"perplexity of a {kind}",
            code,
            self._weights,
            f"{self._template.name} {template_identity(chosen)}" if kind == "conversation" else "",
            self.options.dtype,
            str(self.limit),
            *how,
            *parts,
            libraries=VLLM if self.subject.scored_by else TRANSFORMERS,
        )


def read_corpus(path: Path) -> list[str]:
    """Texts of a .txt file (parted by blank lines) or of rows with a `text` field.

    Raises InputError when there is none.
    """
    if path.suffix == ".txt" and path.is_file():
        content = path.read_text(encoding="utf-8-sig", errors="replace")
        texts = [part.strip() for part in re.split(r"\n\s*\n", content)]
    else:
        texts = [_corpus_text(path, item) for item in read_rows(path)]
    texts = [text for text in texts if text]
    if not texts:
        raise InputError(
            "The perplexity corpus has no text.", where=str(path), expected="at least one text"
        )
    return texts


def _corpus_text(path: Path, item: Any) -> str:
    if isinstance(item, BadRow):
        raise row_error(item)
    text = item.value.get("text")
    if not isinstance(text, str):
        raise InputError(
            "A row of the perplexity corpus has no text.",
            where=place(path, item.line, "text"),
            expected="a field `text` that holds a text",
        )
    return text.strip()


# --- rewards ---------------------------------------------------------------------------------


def rewards(
    found: RewardModel,
    answers: dict[str, list[str | None]],
    evalset: EvalSet,
    options: EvaluateConfig,
    *,
    folder: Path,
) -> Scored:
    """The reward of every answer of every model (few-shot examples are no part of the prompt)."""
    weights = hash_path(found.folder)
    unit = "deviations from the mean of reference answers" if found.normalised else "raw scores"
    scored = Scored(
        Metric(
            "reward",
            "Reward (trained against)" if found.training else "Held-out reward",
            True,
            "number",
            f"{found.signature}|weights:{weights[:12]}",
            f"What a reward model gives the answers, in {unit}; it has the faults of the data "
            "that it was trained on, and can be fooled.",
        )
    )
    loaded: list[RewardScorer] = []
    with Progress("evaluate: reward", len(answers), unit="models") as progress:
        for model, texts in answers.items():
            made = _rewards_of(found, texts, evalset, options, folder / STORE, weights, loaded)
            values: RowValues = [None if one is None else one["score"] for one in made]
            scored.rows[model] = values
            scored.columns[model] = Column.of_means(values)
            scored.details[model] = {
                f"{what}s_cut": sum(one is not None and one[f"{what}_cut"] > 0 for one in made)
                for what in ("prompt", "answer")
            }
            progress.update()
    return scored


def _rewards_of(
    found: RewardModel,
    texts: Sequence[str | None],
    evalset: EvalSet,
    options: EvaluateConfig,
    folder: Path,
    weights: str,
    loaded: list[RewardScorer],
) -> list[dict[str, Any] | None]:
    """By row a `RewardScore` as JSON, its `score` None where it is not finite; None where there
    is no answer.

    `loaded` holds the reward model once an answer had to be scored.
    """
    rows = [index for index, text in enumerate(texts) if text is not None]
    decisive = (weights + found.identity, options.dtype)
    keys = [
        key_of(
            "reward",
            _REWARD_CODE,
            *decisive,
            _turns_text(evalset.rows[index].messages, evalset.rows[index].meta),
            texts[index] or "",
            libraries=TRANSFORMERS,
        )
        for index in rows
    ]

    def make(places: list[int]) -> list[dict[str, Any]]:
        if not loaded:
            loaded.append(
                open_scorer(found, dtype=options.dtype, token_budget=options.token_budget)
            )
        chosen = [rows[at] for at in places]
        scores = loaded[0].score_counted(
            [evalset.rows[index].messages for index in chosen],
            [texts[index] or "" for index in chosen],
            [evalset.rows[index].meta for index in chosen],
        )
        return [
            {**asdict(one), "score": one.score if math.isfinite(one.score) else None}
            for one in scores
        ]

    with Store(folder / REWARD_STORE) as store:
        stored = kept(store, keys, make, reward_model=found.name)
    made: list[dict[str, Any] | None] = [None] * len(texts)
    for index, value in zip(rows, stored, strict=True):
        made[index] = value
    return made
