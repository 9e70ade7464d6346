"""What all option groups of the curate stage share."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Language = Literal["en", "zh"]
BadRow = Literal["stop", "quarantine"]
SafetyKind = Literal["harmful", "borderline"]


class Options(BaseModel):
    """Base of all option groups: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")
