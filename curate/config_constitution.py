"""Options of constitutional critique and revision."""

from __future__ import annotations

from pydantic import Field, model_validator

from espalier.curate.options import Options, SafetyKind


class ConstitutionConfig(Options):
    """The teacher criticises and revises its own answers by written principles."""

    principles: list[str] = Field(
        ["en", "zh"],
        min_length=1,
        description="Files of principles: `en` and `zh` are built in, others are YAML files. A "
        "row is revised by those of its language.",
    )
    sources: list[str] | None = Field(
        None, description="Prompts of these sources (names); null: of all training sources."
    )
    safety: list[SafetyKind] = Field(
        default_factory=list,
        description="Prompts of the built-in safety set as well: harmful, borderline.",
    )
    limit: int | None = Field(None, ge=1, description="At most this many prompts, the first.")
    revisions: int = Field(2, ge=1, description="Rounds of critique and revision.")
    rows: bool = Field(True, description="Give training rows: prompt and last revision.")
    pairs: bool = Field(
        True, description="Give preference pairs: the last revision above the first answer."
    )
    judge: bool = Field(
        False,
        description="Keep a revision only where the judge puts it above the first answer by the "
        "last principle, in both orders.",
    )
    temperature: float = Field(0.7, ge=0, description="Sampling of the teacher.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling of the teacher.")
    max_tokens: int = Field(1024, ge=1, description="Longest answer and revision.")
    critique_tokens: int = Field(512, ge=1, description="Longest critique.")

    @model_validator(mode="after")
    def _some_output(self) -> ConstitutionConfig:
        if not self.rows and not self.pairs:
            raise ValueError("nothing comes of it: set `rows` or `pairs` to true")
        return self
