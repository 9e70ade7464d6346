"""Compiled blocks: torch.compile on each repeated block of a model, in place, while it trains.

Blocks are compiled and not the whole model: they are alike, so that one compilation serves all of
them, and what the loss does around them (logits at chosen positions only, hooks, wrappers) stays
free to change from pass to pass. Lengths are dynamic, since passes differ in theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from espalier.errors import UsageError


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The repeated blocks, by the names that the architecture gives as not to be split."""
    names: set[str] = set()
    for module in model.modules():
        names |= set(getattr(module, "_no_split_modules", None) or ())
    return [module for module in model.modules() if type(module).__name__ in names]


@contextmanager
def compiled_blocks(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Run the blocks of `model` compiled inside the block, where `wanted`.

    Raises UsageError for an architecture that does not say what its blocks are.
    """
    if not wanted:
        yield
        return
    blocks: list[Any] = blocks_of(model)
    if not blocks:
        raise UsageError(
            f"{type(model).__name__} does not name its repeated blocks, so they can't be compiled.",
            where="compile",
            hint="set compile: false",
        )
    for block in blocks:
        block.compile(dynamic=True)
    try:
        yield
    finally:
        for block in blocks:
            block._compiled_call_impl = None
