"""Options of the comparison: the test, clusters, slices, power."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class CompareConfig(BaseModel):
    """How the models are compared, and by what the set is divided."""

    model_config = ConfigDict(extra="forbid")

    test: Literal["permutation", "bootstrap"] = Field(
        "permutation",
        description="Where p-values come from: exchanging the two models' answers at random "
        "(two-sided), or the paired bootstrap of Koehn (2004), whose p sacrebleu gives (one-sided "
        "for models that lie apart, so about half).",
    )
    cluster: str | None = Field(
        "prompt",
        description="Rows that are drawn together: `prompt` for those with the same prompt, or a "
        "meta field of the set (a document, a source); null takes every row for itself.",
    )
    slices: list[str] = Field(
        default_factory=lambda: ["language", "category", "length"],
        description="What the set is divided by: language, category, length (of the prompt, in "
        "thirds) and any meta field; a field of numbers is cut into thirds.",
    )
    slice_tests: bool = Field(
        True,
        description="Whether the models are compared with the baseline in each slice as well "
        "(corrected after Holm over all slices of one field).",
    )
    power: float = Field(
        0.8,
        gt=0.5,
        lt=1,
        description="Power for the minimum detectable difference: how often a true difference of "
        "that size would be found.",
    )

    @model_validator(mode="after")
    def _distinct(self) -> CompareConfig:
        twice = sorted({name for name in self.slices if self.slices.count(name) > 1})
        if twice:
            raise ValueError(f"`slices` names '{twice[0]}' twice")
        return self


class CompareSettings(BaseModel):
    """The numbers that `espalier compare` takes from the command line or a stored evaluation."""

    model_config = ConfigDict(extra="forbid")

    confidence: float = Field(gt=0.5, lt=1, description="Level of the intervals.")
    power: float = Field(gt=0.5, lt=1, description="Power for the detectable difference.")
    resamples: int = Field(ge=100, description="Bootstrap resamples for the intervals.")
    permutations: int = Field(ge=100, description="Random exchanges for the p-values.")
    seed: int = Field(description="Seed of the resampling.")
    test: Literal["permutation", "bootstrap"] = Field(description="Where p-values come from.")
