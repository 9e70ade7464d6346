"""Options of deduplication."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from espalier.curate.config_select import SemanticConfig
from espalier.curate.options import Options

Compared = Literal["prompt", "answer", "prompt+answer"]
Keep = Literal["first", "longest", "score", "source"]


class NearConfig(Options):
    """Near duplicates: rows of which a kept one has nearly the same words."""

    method: Literal["minhash", "rouge_l"] = Field(
        "minhash",
        description="minhash: Jaccard similarity of word n-grams (characters in Chinese), for any "
        "number of rows. rouge_l: ROUGE-L F1 above the threshold, for short texts such as "
        "instructions.",
    )
    on: Compared = Field("prompt", description="The text that is compared.")
    threshold: float = Field(
        0.7, gt=0, le=1, description="Similarity from which rows are near (rouge_l: above which)."
    )
    ngram: int = Field(5, ge=1, description="Length of the n-grams, in script-aware words.")
    ngram_cjk: int | None = Field(
        None, ge=1, description="The same for texts mostly in CJK (default: as `ngram`)."
    )


class DedupConfig(Options):
    """Exact and near duplicates, and which of them stays."""

    key: Literal["prompt", "prompt+answer", "answer", "none"] = Field(
        "prompt",
        description="What has to be equal after normalising case, width, spaces and punctuation; "
        "none: equal rows are kept.",
    )
    keep: Keep = Field(
        "first",
        description="Which of several duplicates stays: the first; the one with the longest "
        "answer, in characters; the highest score; or that of the first source in "
        "`source_order`. Of equals the first.",
    )
    score_field: str = Field(
        "quality",
        description="For `keep: score`: the key in meta, dots between levels; where it leads to "
        "an object, its `score` counts. Rows without a number come last.",
    )
    source_order: list[str] = Field(
        default_factory=list,
        description="For `keep: source`: names of sources, the preferred first; others come last.",
    )
    near: NearConfig | None = Field(None, description="Near duplicates (default: none removed).")
    semantic: SemanticConfig | None = Field(
        None,
        description="Near duplicates in meaning, by a sentence-embedding model (default: "
        "none removed).",
    )

    @model_validator(mode="after")
    def _order_is_given(self) -> DedupConfig:
        if self.keep == "source" and not self.source_order:
            raise ValueError("`keep: source` needs `source_order`, the preferred source first")
        return self
