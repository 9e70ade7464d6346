"""Options of the held-out rows and of the decontamination against evaluation files."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from espalier.curate.options import Options


class HoldoutConfig(Options):
    """Rows held out for evaluation (drawn first) and kept away from training.

    A split dialogue is held out whole: one part is a row of the evaluation, no other is trained on.
    """

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


class DecontaminateConfig(Options):
    """Keep training rows away from what evaluation files hold, prompts and answers."""

    against: list[str] = Field(
        min_length=1, description="Evaluation files in any format that is read."
    )
    fields: Literal["prompt", "answer", "both"] = Field(
        "both",
        description="Which texts of the evaluation rows are looked for (`answer`: answers and "
        "references); they are looked for in every turn of the training rows.",
    )
    ngram: int | None = Field(
        13,
        ge=1,
        description="Words in a row (characters of Chinese) that may not be shared; null: any "
        "number may.",
    )
    shortest: int = Field(
        8,
        ge=1,
        description="Evaluation texts shorter than `ngram` count where they occur whole, from "
        "this many words on.",
    )
    max_rows: int | None = Field(
        None,
        ge=1,
        description="Ignore n-grams that more evaluation rows than this hold: boilerplate, such "
        "as an answer form (null: none is ignored).",
    )
    near_threshold: float | None = Field(
        0.7,
        gt=0,
        le=1,
        description="Jaccard of prompt n-grams from which a row is too near an evaluation "
        "prompt; null: only equal prompts are.",
    )
    near_ngram: int = Field(5, ge=1, description="Length of these n-grams, in words.")
    action: Literal["remove", "flag"] = Field(
        "remove",
        description="Reject such rows, or keep them with what was found in meta.contamination.",
    )

    @model_validator(mode="after")
    def _shortest_fits(self) -> DecontaminateConfig:
        if self.ngram is not None and self.shortest > self.ngram:
            raise ValueError(f"`shortest` is {self.shortest}, above `ngram` ({self.ngram})")
        return self
