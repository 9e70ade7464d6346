"""Gradient checkpointing: activations of the layers are computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from espalier.errors import UsageError


@contextmanager
def recomputed_activations(model: Any, wanted: bool) -> Iterator[None]:
    """While active, layers keep their inputs only (Chen et al. 2016), where that is `wanted`.

    Dropout draws the same numbers again, so gradients are the same. Raises UsageError for a model
    that can't do it.
    """
    if not wanted:
        yield
        return
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise UsageError(
            f"{type(model).__name__} can't compute its activations again.",
            where="gradient_checkpointing: true",
            hint="leave it out, and lower token_budget if memory is short",
        )
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        yield
    finally:
        model.gradient_checkpointing_disable()
