"""Options of Evol-Instruct."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from espalier.curate.options import Options

Operator = Literal[
    "constraints", "deepening", "concretising", "reasoning", "complicate_input", "breadth"
]
InputFormat = Literal["xml", "sql", "python", "html", "shell", "json"]
OPERATORS: tuple[Operator, ...] = (
    "constraints", "deepening", "concretising", "reasoning", "complicate_input", "breadth",
)  # fmt: skip
INPUT_FORMATS: tuple[InputFormat, ...] = ("xml", "sql", "python", "html", "shell", "json")


class EliminationConfig(Options):
    """Which evolved instructions fail (WizardLM, section 3.2); each rule can be switched off."""

    equal: bool = Field(True, description="Reject what is judged equal to what it came from.")
    sorry: bool = Field(True, description="Reject those whose answer is a short apology.")
    sorry_below: int = Field(
        80, ge=0, description="Short: fewer words (of Chinese: characters) than this."
    )
    sorry_words: list[str] = Field(
        ["sorry", "抱歉", "对不起", "對不起"], description="What an apology contains (any case)."
    )
    stop_words: bool = Field(
        True, description="Reject those whose answer is only punctuation and stop words."
    )
    leak: bool = Field(True, description="Reject those that repeat words of the request.")
    leak_phrases: list[str] = Field(
        [
            "given prompt", "rewritten prompt", "#Rewritten Prompt#", "created prompt",
            "给定的指令", "给定指令", "改写后的指令", "改写的指令", "新写的指令", "给定的提示",
            "给定提示", "改写后的提示",
        ],
        description="Words of the request that an evolved instruction must not hold (any case), "
        "unless they already stood in what it came from.",
    )  # fmt: skip


class EvolveConfig(Options):
    """Instructions made harder or rarer in rounds (Evol-Instruct, Xu et al. 2023)."""

    sources: list[str] | None = Field(
        None, description="Start with the rows of these sources (default: with all rows)."
    )
    limit: int | None = Field(
        None, ge=1, description="Start with at most this many rows (a seeded random sample)."
    )
    target: int | None = Field(
        None, ge=1, description="Stop after this many evolved rows (default: all rounds)."
    )
    rounds: int = Field(4, ge=1, description="How often each instruction is evolved.")
    operators: dict[Operator, float] = Field(
        default_factory=lambda: dict.fromkeys(OPERATORS, 1.0),
        description="How often each operator is drawn, as weights; one that is left out never.",
    )
    input_formats: list[InputFormat] = Field(
        list(INPUT_FORMATS),
        min_length=1,
        description="Formats of the input that `complicate_input` asks for, drawn uniformly.",
    )
    min_added_words: int = Field(
        10, ge=0, description="The operators in depth ask for so many words more ..."
    )
    max_added_words: int = Field(20, ge=1, description="... to so many at most.")
    max_words: int = Field(
        600, ge=1, description="Reject evolved (and start) instructions of more words."
    )
    temperature: float = Field(1.0, ge=0, description="Sampling of evolved instructions.")
    top_p: float = Field(0.9, gt=0, le=1, description="Sampling of evolved instructions.")
    max_tokens: int = Field(2048, ge=1, description="Longest evolved instruction.")
    judge_max_tokens: int = Field(64, ge=1, description="Longest judgement of equality.")
    equality_by: Literal["judge", "teacher"] = Field(
        "judge", description="Who says whether an evolved instruction equals its origin."
    )
    eliminate: EliminationConfig = Field(
        default_factory=EliminationConfig, description="Rules that send an instruction back."
    )

    @model_validator(mode="after")
    def _can_be_drawn(self) -> EvolveConfig:
        weights = self.operators.values()
        if any(weight < 0 for weight in weights) or not sum(weights) > 0:
            raise ValueError("operators: weights are 0 or more, and one is above 0")
        if self.min_added_words > self.max_added_words:
            raise ValueError("min_added_words is above max_added_words")
        return self
