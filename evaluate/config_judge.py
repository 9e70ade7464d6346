"""Options of the judge model and of ratings by people."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from espalier.engines.base import EngineSpec

Pairs = Literal["none", "baseline", "all"]
# Letters of any script first, so that a Chinese criterion may have its own name.
NAME = r"^[^\W\d_][\w-]*$"
BUILT_IN = ("quality", "hhh")
FILES = (".yaml", ".yml", ".json")
# What a reply, or a row of a file of ratings, holds beside its marks.
TAKEN = frozenset(
    {
        "reason", "explanation", "理由", "原因", "win_rate", "item", "id", "example_id",
        "task_id", "question_id", "uid", "prompt", "question", "instruction", "answer",
        "answer_a", "answer_b", "model", "model_a", "model_b", "a", "b", "verdict",
        "winner", "preference", "choice", "结论", "rater", "annotator", "labeler", "user",
        "worker", "评分人", "comment", "prompt_id", "seconds", "rated_at", "shown_first",
    }
)  # fmt: skip


class CriterionConfig(BaseModel):
    """One thing that answers are marked for."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        pattern=NAME,
        description="Its name, in the judge's reply, in files of ratings and as the column "
        "`judge_NAME` (letters of any script, digits, _ -).",
    )
    description: str = Field(
        min_length=1, description="What it means, as the judge is told; in any language."
    )
    check: bool = Field(False, description="Passed or failed, in the place of a mark from 1 to 5.")
    words: list[str] = Field(
        default_factory=list,
        description="Other names that a reply or a file of ratings may use for it.",
    )

    @model_validator(mode="after")
    def _free(self) -> CriterionConfig:
        for word in (self.name, *self.words):
            if word.strip().lower() in TAKEN:
                raise ValueError(
                    f"'{word}' can't be the name of a criterion: replies or files of ratings have "
                    "a field of that name"
                )
        return self


class RubricConfig(BaseModel):
    """A rubric of one's own; also the content of a rubric's file."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        pattern=NAME, description="Its name; the column `judge_NAME` has the mean of its marks."
    )
    criteria: list[CriterionConfig] = Field(
        min_length=1, description="What answers are marked for."
    )

    @model_validator(mode="after")
    def _told_apart(self) -> RubricConfig:
        if self.name in BUILT_IN:
            raise ValueError(f"'{self.name}' is a built-in rubric; choose another name")
        seen: dict[str, str] = {}
        for one in self.criteria:
            for word in {text.strip().lower() for text in (one.name, *one.words)}:
                if word in seen:
                    raise ValueError(
                        f"the criteria '{seen[word]}' and '{one.name}' are both called '{word}'"
                    )
                seen[word] = one.name
        return self


def _known(name: str) -> str:
    if name in BUILT_IN or name.lower().endswith(FILES):
        return name
    raise ValueError(
        f"there is no such rubric; expected quality, hhh, a file ({', '.join(FILES)}), or a "
        "rubric of your own: {name: …, criteria: [{name: …, description: …}]}"
    )


def _kind(value: Any) -> str:
    return "Rubric" if isinstance(value, dict | RubricConfig) else "Name"


Rubric = Annotated[
    Annotated[Annotated[str, AfterValidator(_known)], Tag("Name")]
    | Annotated[RubricConfig, Tag("Rubric")],
    Discriminator(_kind),
]


class JudgeConfig(BaseModel):
    """A model that marks every answer by a rubric, and compares answers in pairs."""

    model_config = ConfigDict(extra="forbid")

    engine: EngineSpec | None = Field(
        None, description="The engine that judges (default: `judge` of the recipe)."
    )
    rubrics: list[Rubric] = Field(
        default=["quality"],
        description="What answers are marked for: quality (relevance, accuracy, completeness and "
        "fluency from 1 to 5, safety passed or failed), hhh (helpful, harmless and honest from 1 "
        "to 5), and rubrics of your own: {name, criteria: [{name, description, check, words}]}, or "
        "a YAML or JSON file that holds such a one.",
    )
    reference: bool = Field(
        False,
        description="Show the judge the set's reference answer, where a row has one. It then "
        "knows what is right, and may take other good answers for wrong.",
    )
    pairs: Pairs = Field(
        "baseline",
        description="Which answers are compared, each pair in both orders: every model's with the "
        "baseline's, those of all models with each other, or none.",
    )
    length_control: bool = Field(
        True,
        description="Also tell what the win rate would be if both answers were of one length "
        "(Dubois et al. 2024).",
    )
    prompts: int | None = Field(
        None,
        ge=1,
        description="Judge only so many prompts of the set, drawn by the seed (default: all). With "
        "a larger number later, those judged before stay among them.",
    )
    max_tokens: int = Field(512, ge=16, description="Longest reply of the judge, in its tokens.")
    temperature: float = Field(
        0.0, ge=0, description="0: the same verdict every time, as far as the engine can."
    )
    max_characters: int = Field(
        20_000,
        ge=200,
        description="Longer answers are shown to the judge without their middle, and counted.",
    )

    @model_validator(mode="after")
    def _something_to_do(self) -> JudgeConfig:
        if not self.rubrics and self.pairs == "none":
            raise ValueError(
                "the judge has nothing to do: `rubrics` is empty and `pairs` is none; name a "
                "rubric, or set pairs to baseline or all, or remove `judge`"
            )
        names = [one if isinstance(one, str) else one.name for one in self.rubrics]
        if len(set(names)) < len(names):
            raise ValueError("`rubrics` names the same rubric twice")
        return self


class RatingsConfig(BaseModel):
    """Ratings by people: marks of the same rubrics, and verdicts on (blind) pairs."""

    model_config = ConfigDict(extra="forbid")

    files: list[str] = Field(
        min_length=1,
        description="Files of ratings: what `espalier rate` or the report page wrote, filled-in "
        "sheets of `espalier ratings sheet`, or rows with the prompt's id and the model's name "
        "(JSONL, JSON, CSV, Parquet). `ratings/ratings.sqlite` are those of `espalier rate` on "
        "this run.",
    )
    rubrics: list[Rubric] = Field(
        default_factory=list,
        description="Rubrics of your own that the files are filled in by; quality, hhh and those "
        "of `judge` are known without.",
    )
    columns: bool = Field(
        True,
        description="Show the mean marks and the win rate by people as columns that models are "
        "compared by; false: tell only how far raters agree, with each other and with the scores.",
    )

    @model_validator(mode="after")
    def _once(self) -> RatingsConfig:
        if len(set(self.files)) < len(self.files):
            raise ValueError("`files` names the same file of ratings twice")
        return self
