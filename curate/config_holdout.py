"""Options of the held-out rows."""

from __future__ import annotations

from pydantic import Field

from espalier.curate.options import Options


class HoldoutConfig(Options):
    """Rows held out for evaluation (drawn first) and kept away from training."""

    count: int = Field(0, ge=0, description="Rows for eval.jsonl; 0: none are held out.")
    prompts: int = Field(
        0, ge=0, description="Further held-out rows whose prompts go to prompts.jsonl (for RL)."
    )
    sources: list[str] | None = Field(
        None, description="Names of the training sources to draw from (default: all)."
    )
    against: list[str] = Field(
        default_factory=list,
        description="Further files whose prompts must not be trained on (test sets).",
    )
    near_threshold: float = Field(
        0.7, gt=0, le=1, description="Jaccard of prompt n-grams from which a row is too near."
    )
    ngram: int = Field(5, ge=1, description="Length of these n-grams, in script-aware words.")
