"""Options of self-chat and of the cleaning and splitting of dialogues."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from espalier.curate.options import Options


class SelfChatConfig(Options):
    """Dialogues in which the teacher plays both the user and the assistant (as in Baize)."""

    sources: list[str] | None = Field(
        None, description="Begin with prompts of these sources (default: of all)."
    )
    prompts: int | None = Field(
        None, ge=1, description="Begin with the first so many prompts (default: with all)."
    )
    turns: int = Field(4, ge=1, description="Most questions (and answers) in a dialogue.")
    min_turns: int = Field(1, ge=1, description="Reject dialogues with fewer.")
    temperature: float = Field(0.7, ge=0, description="Sampling of the assistant's turns.")
    top_p: float = Field(1.0, gt=0, le=1, description="Sampling of both.")
    max_tokens: int = Field(1024, ge=1, description="Longest turn of the assistant.")
    user_temperature: float = Field(1.0, ge=0, description="Sampling of the user's turns.")
    user_max_tokens: int = Field(256, ge=1, description="Longest turn of the user.")

    @model_validator(mode="after")
    def _in_range(self) -> SelfChatConfig:
        if self.min_turns > self.turns:
            raise ValueError("min_turns is above turns")
        return self


class DialogueConfig(Options):
    """Cleaning and splitting of multi-turn rows (as Vicuna did with ShareGPT)."""

    max_tokens: int | None = Field(
        None,
        ge=1,
        description="Split dialogues at turn borders into parts of at most so many tokens "
        "(null: don't split).",
    )
    tokenizer: str | None = Field(
        None,
        description="Folder of the tokenizer that counts (null: an estimate, four ASCII "
        "characters or one other character a token).",
    )
    turn_tokens: int = Field(
        6, ge=0, description="Tokens that each turn costs besides its text (markers, roles)."
    )
    not_alternating: Literal["reject", "merge"] = Field(
        "reject",
        description="Turns of one role in a row: reject the dialogue, or join them into one.",
    )
    html: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Turn HTML into Markdown: in turns that are HTML throughout, in all, in none; "
        "code in fences stays.",
    )
    page_remnants: bool = Field(
        True,
        description="Remove what a web page leaves in copied answers (copy buttons, counters).",
    )
