"""What the validators of options share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel


def was_changed(options: BaseModel, name: str) -> bool:
    """Whether an option was given another value than its default.

    Contradictions are asked of this rather than of `model_fields_set`: a resolved recipe writes
    every default down, and has to be accepted again.
    """
    default = type(options).model_fields[name].get_default(call_default_factory=True)
    return name in options.model_fields_set and getattr(options, name) != default
