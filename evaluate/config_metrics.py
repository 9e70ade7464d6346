"""Options of the metrics that are asked for by name, and of the user's own."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

COLUMN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class Strict(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")


class ClassificationConfig(Strict):
    """Tasks whose right answer is one of a few labels (the metric `classification`)."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    labels: list[str] | dict[str, list[str]] = Field(
        default_factory=list,
        description="The labels, or each label with other ways to write it. Default: the "
        "different references of the rows.",
    )
    find: Literal["whole", "first_line", "anywhere"] = Field(
        "first_line",
        description="Where the answer's label is looked for: whole: the answer is the label; "
        "first_line: its first line is, or begins or ends with it; anywhere: the only label that "
        "stands in the answer. Case, width and punctuation do not count.",
    )
    category: list[str] = Field(
        default_factory=list,
        description="Categories of the rows that have labels. Default: rows whose reference is "
        "one of `labels`.",
    )

    @model_validator(mode="after")
    def _known(self) -> ClassificationConfig:
        if not self.labels and not self.category:
            raise ValueError(
                "classification needs `labels`, or `category` to say whose references they are"
            )
        return self


class EntityConfig(Strict):
    """Answers that tag spans of a text (the metric `entities`)."""

    format: Literal["auto", "json", "tags", "brackets", "bio"] = Field(
        "auto",
        description="How spans are written: json: a list of {text, type} or an object of lists by "
        "type; tags: <PER>Ada</PER>; brackets: [Ada](PER); bio: a line a word, its tag at the "
        "end. auto: by the reference.",
    )
    types: list[str] = Field(
        default_factory=list, description="Types that count. Default: all of them."
    )
    category: list[str] = Field(
        default_factory=list,
        description="Categories of the rows that tag spans. Default: rows whose reference does.",
    )


class RewardColumnConfig(Strict):
    """One more reward model that scores the answers."""

    model: str = Field(
        description="A stage of this run or a folder, never the one that PPO was trained against."
    )
    name: str = Field(pattern=COLUMN, description="Name of the column (reward_NAME).")
    label: str | int | None = Field(
        None, description="The output that is the score, of a classifier with several."
    )
    template: str | None = Field(
        None, description="How it reads a conversation. Default: as its folder says."
    )
    allow_training: bool = Field(
        False, description="Also where PPO was trained against it (labelled as such)."
    )


class FunctionConfig(Strict):
    """A Python function as one more column: from an answer to a number."""

    function: str = Field(
        description="package.module:function or file.py:function. It is called with the answer, "
        "and with whichever of these it has parameters called: reference, prompt, meta, options; "
        "or once with lists, where its first parameter is called answers."
    )
    name: str | None = Field(
        None, pattern=COLUMN, description="Name of the column (default: the function's)."
    )
    label: str | None = Field(None, description="Name in tables (default: the name).")
    higher_is_better: bool | None = Field(
        True, description="null: it only describes, and is never tested."
    )
    description: str | None = Field(
        None, description="What it says and when it misleads (default: its docstring)."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Passed as `options`.")

    @property
    def column(self) -> str:
        """Name of the column."""
        return self.name or self.function.rpartition(":")[2]

    @model_validator(mode="after")
    def _has_function(self) -> FunctionConfig:
        source, _, name = self.function.rpartition(":")
        if not source or not name.isidentifier():
            raise ValueError(
                f"'{self.function}' names no function: package.module:function or file.py:function"
            )
        return self


class CheckConfig(Strict):
    """One verifiable check of every answer; rows bring theirs in meta (`checks`)."""

    check: str = Field(description="Name of the check, such as words, keywords, json, language.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the check.")

    @model_validator(mode="after")
    def _is_one(self) -> CheckConfig:
        from espalier.evaluate.config_checks import check_options

        check_options(self.check, self.options)
        return self


class MetricFields(Strict):
    """The fields of `evaluate` that further metrics need."""

    classification: ClassificationConfig | None = Field(
        None, description="Labels of tasks that have them, for the metric `classification`."
    )
    entities: EntityConfig = Field(
        default_factory=EntityConfig, description="How spans are tagged, for `entities`."
    )
    checks: list[CheckConfig] = Field(
        default_factory=list,
        description="Checks of every answer, for `checks`, besides those of the rows (meta "
        "`checks`, or `instruction_id_list` and `kwargs`).",
    )
    reward_models: list[RewardColumnConfig] = Field(
        default_factory=list, description="Further reward models, a column each."
    )
    functions: list[FunctionConfig] = Field(
        default_factory=list, description="Python functions as further columns."
    )
    general_before: str | None = Field(
        None,
        description="Model that `forgetting` compares the others with on `perplexity_corpus` "
        "(default: the baseline).",
    )
    corpus_windows: Literal["pieces", "rolling"] = Field(
        "pieces",
        description="pieces: texts of the corpus as the tokenizer writes them, cut into pieces of "
        "the model's context; rolling: every token of a text is predicted, the first from the "
        "BOS (or EOS) token, later windows from what stands before them.",
    )

    @model_validator(mode="after")
    def _columns(self) -> MetricFields:
        for what, names in (
            ("reward_models", [item.name for item in self.reward_models]),
            ("functions", [item.column for item in self.functions]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(
                    f"two {what} are called '{twice[0]}'; each needs a `name` of its own"
                )
        return self
