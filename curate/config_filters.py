"""Options of the rules on single rows."""

from __future__ import annotations

from pydantic import Field

from espalier.curate.options import Options


class FilterConfig(Options):
    """Rules on single rows; a limit of null switches a rule off. Empty answers always go."""

    min_prompt_words: int | None = Field(1, description="Script-aware words in the prompt.")
    max_prompt_words: int | None = Field(4000, description="Script-aware words in the prompt.")
    min_answer_words: int | None = Field(
        None, description="Script-aware words in the answer; marks such as ★★★ are none."
    )
    max_answer_words: int | None = Field(4000, description="Script-aware words in the answer.")
    refusals: bool = Field(True, description="Reject answers that decline the task.")
    copies: bool = Field(True, description="Reject answers that repeat the prompt or its input.")
    cut_off: bool = Field(True, description="Reject answers that end in a colon.")
    broken_text: bool = Field(True, description="Reject replacement and control characters.")
    repetition: float | None = Field(
        0.6,
        gt=0,
        le=1,
        description="Reject answers of 30 words or more in which a larger share of the 4-grams "
        "are repeats.",
    )
    turn_order: bool = Field(True, description="Reject dialogues whose turns do not alternate.")
