"""What a sweep varies, and the question that it answers: the section `sweep` of a recipe."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Words = str | dict[Literal["en", "zh"], str]


class Answer(BaseModel):
    """Which number answers the question, and between what it is compared.

    With `model`, levels of `factor` are compared on that model's score; with `models`, these models
    are, within every member. Repeats (seeds) are what the interval is over.
    """

    model_config = ConfigDict(extra="forbid")

    metric: str = Field(
        description="A metric of the evaluation, by its name; or STAGE/CHART:SPLIT for the end of "
        "a training curve, such as reward/accuracy:eval."
    )
    model: str | None = Field(None, description="The evaluated model whose score it is.")
    models: list[str] = Field(
        default_factory=list,
        description="Compare these evaluated models, each with the first, instead of levels.",
    )
    factor: str | None = Field(
        None,
        description="The key (or `variant`) whose levels are compared; default: the variants, else "
        "the only key that is varied.",
    )
    reference: Any = Field(
        None, description="The level that the others are held against; default: the first."
    )
    also: list[str] = Field(
        default_factory=list,
        description="Metrics without which the answer says half: each has a sentence of its own "
        "after the answer, for the same models and levels.",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Answer:
        if self.models and (self.model or self.factor or self.reference is not None):
            raise ValueError(
                "`models` compares models within each member; `model`, `factor` and `reference` "
                "belong to a comparison of levels: give one of the two"
            )
        if len(self.models) == 1 or len(set(self.models)) < len(self.models):
            raise ValueError("`models` names two different models at least")
        if "/" in self.metric and (self.model or self.models):
            raise ValueError("the end of a training curve names its stage, and needs no model")
        if "/" not in self.metric and not (self.model or self.models):
            raise ValueError("a metric of the evaluation needs `model` or `models`")
        named = [self.metric, *self.also]
        if len(set(named)) < len(named):
            raise ValueError("`also` names other metrics than `metric`, each once")
        if "/" in self.metric and any("/" not in name for name in self.also):
            raise ValueError("beside the end of a training curve `also` names other curves' ends")
        return self


class Draw(BaseModel):
    """Random search: values drawn from a range."""

    model_config = ConfigDict(extra="forbid")

    low: float = Field(description="The smallest value.")
    high: float = Field(description="The largest value.")
    log: bool = Field(False, description="Draw the logarithm evenly, as for learning rates.")
    whole: bool = Field(False, description="Whole numbers only.")

    @model_validator(mode="after")
    def _range(self) -> Draw:
        if not self.low < self.high:
            raise ValueError(f"`low` ({self.low:g}) has to be below `high` ({self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range starts above 0")
        return self


class SweepConfig(BaseModel):
    """Many runs of one recipe: what they differ in, and the question that they answer."""

    model_config = ConfigDict(extra="forbid")

    question: Words = Field(
        "", description="The question in words, or in both languages: {en: …, zh: …}."
    )
    over: dict[str, list[Any] | Draw] = Field(
        default_factory=dict,
        description="Keys of the recipe and their values; all combinations are run. A range "
        "{low, high, log, whole} instead of a list is drawn from (with `draws`).",
    )
    variants: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Named sets of keys and values, as a list of members; the first one is the "
        "reference. With `over`, each is run with all combinations.",
    )
    seeds: int | list[int] = Field(
        1, description="So many repeats, with the recipe's seed and those after it; or the seeds."
    )
    reseed: list[str] = Field(
        ["seed"],
        min_length=1,
        description="The keys that get a repeat's seed. [train.sft.seed] keeps the data and the "
        "base model the same over repeats, so they are made once.",
    )
    draws: int | None = Field(
        None, ge=1, description="Random search: so many members drawn from `over`, without repeats."
    )
    answer: Answer | None = Field(
        None, description="The number that answers the question; default: no verdict is given."
    )

    @field_validator("over")
    @classmethod
    def _levels(cls, value: dict[str, list[Any] | Draw]) -> dict[str, list[Any] | Draw]:
        for key, levels in value.items():
            if isinstance(levels, list) and not levels:
                raise ValueError(f"'{key}' has no value")
            dates = (
                [one for one in levels if isinstance(one, date)] if isinstance(levels, list) else []
            )
            if dates:
                raise ValueError(f"'{key}' has the date {dates[0]}: put it in quotes")
            if isinstance(levels, list) and any(
                one == other and type(one) is type(other)
                for place, one in enumerate(levels)
                for other in levels[:place]
            ):
                raise ValueError(f"'{key}' names a value twice")
        return value

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, value: int | list[int]) -> int | list[int]:
        count = value if isinstance(value, int) else len(value)
        if count < 1:
            raise ValueError("one repeat at least")
        if isinstance(value, list) and len(set(value)) < len(value):
            raise ValueError("a seed is named twice")
        return value

    @model_validator(mode="after")
    def _drawn(self) -> SweepConfig:
        ranges = [key for key, levels in self.over.items() if isinstance(levels, Draw)]
        if ranges and self.draws is None:
            raise ValueError(f"'{ranges[0]}' is a range: say with `draws` how many are drawn")
        if self.draws is not None and not self.over:
            raise ValueError("`draws` draws from `over`, which is empty")
        both = [key for key in self.over if any(key in keys for keys in self.variants.values())]
        if both:
            raise ValueError(f"'{both[0]}' stands in `over` and in a variant")
        for key in self.reseed:
            if key in self.over:
                raise ValueError(f"'{key}' stands in `over` and in `reseed`")
            named = [name for name, keys in self.variants.items() if key in keys]
            if named:
                raise ValueError(f"'{key}' stands in the variant '{named[0]}' and in `reseed`")
        return self
