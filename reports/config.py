"""Options of the report page."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ReportConfig(BaseModel):
    """One self-contained HTML page that compares the models of a run."""

    model_config = ConfigDict(extra="forbid")

    title: str | None = Field(None, description="Title of the page (default: the run's name).")
    language: Literal["en", "zh"] | None = Field(
        None, description="Language that the page opens in: en or zh (default: that of the "
        "reader's browser). Readers can switch."
    )  # fmt: skip
    notes: list[str] = Field(
        default_factory=list,
        description="Sentences shown near the top, e.g. what is special about the data.",
    )
    headline: list[str] = Field(
        default_factory=list,
        description="Metrics that come first, in the sentences and the table "
        "(default: win rates, reward, exact match, judge, then as evaluated).",
    )
    rejects_per_rule: int = Field(
        10, ge=0, le=200, description="Examples shown of the rows that each rule rejected."
    )
    curve_points: int = Field(
        400, ge=20, le=20_000, description="Most points of a training curve; longer ones are "
        "thinned so that every peak stays."
    )  # fmt: skip
    sample_prompts: int = Field(
        12, ge=0, le=200, description="Prompts whose sample generations are shown over time."
    )
    data_megabytes: float = Field(
        8, gt=0, description="Most text of training rows and their origins in the page, in MB "
        "before it is packed to about a third, and a sixteenth of that for each file of prompts, "
        "pairs or rejects. Larger files are sampled, and the page says so."
    )  # fmt: skip
    answer_rows: int | None = Field(
        None, ge=1, description="Only the first rows of the side-by-side answers (default: all)."
    )
    answer_megabytes: float = Field(
        100, gt=0, description="Most text of prompts and answers in the page, in MB before it is "
        "packed to about a third. Above it the texts of some prompts are left out, and the page "
        "says so; the scores of all are there."
    )  # fmt: skip
