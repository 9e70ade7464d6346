"""Training passes that compute the last block's feed-forward layer only where it is read.

A loss over answers reads the last hidden states at the trained positions alone, a reward at one
position of each sequence. What the last feed-forward layer would say elsewhere has no effect on
the loss, so its gradient there is zero, and leaving it out changes nothing but rounding. Earlier
layers are needed everywhere: attention reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# Architectures whose blocks are `layers[i]` with a feed-forward layer `mlp` that sees each token
# by itself, and add its output to what it was given.
KNOWN = frozenset({"llama", "mistral", "qwen2", "qwen3"})
# Products that must be saved in a pass; below, picking rows costs as much.
WORTH = 600_000_000


@contextmanager
def feed_forward_at(model: Any, positions: Tensor, tokens: int) -> Iterator[None]:
    """While active, the last feed-forward layer works at flat `positions` [n] of the `tokens`
    (rows × length) of a forward pass, and gives zeros elsewhere.

    Without effect outside of training, with gradient checkpointing (which would compute the
    layer again after this has ended), for other architectures, and where little is saved.
    """
    layer = last_feed_forward(model)
    if layer is None or not torch.is_grad_enabled():
        yield
        return
    weights = sum(p.numel() for p in layer.parameters())
    if (tokens - len(positions)) * weights < WORTH:
        yield
        return
    whole = layer.forward

    def forward(hidden: Tensor) -> Tensor:
        result: Tensor
        if hidden.shape[:-1].numel() != tokens:
            # Virtual tokens stand before the rows: positions are not what they were.
            result = whole(hidden)
            return result
        flat = hidden.reshape(tokens, hidden.shape[-1])
        chosen = whole(flat.index_select(0, positions)[None])[0]
        spread = chosen.new_zeros(tokens, chosen.shape[-1]).index_copy(0, positions, chosen)
        result = spread.view(*hidden.shape[:-1], chosen.shape[-1])
        return result

    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward


def last_feed_forward(model: Any) -> nn.Module | None:
    """The feed-forward layer of the last block, where it may be given some tokens only."""
    config = getattr(model, "config", None)
    if getattr(config, "model_type", None) not in KNOWN:
        return None
    layers = [m for m in model.modules() if isinstance(getattr(m, "layers", None), nn.ModuleList)]
    if len(layers) != 1 or getattr(layers[0], "gradient_checkpointing", False):
        return None
    last = layers[0].layers[-1]
    if getattr(last, "gradient_checkpointing", False) and last.training:
        return None
    found = getattr(last, "mlp", None)
    plain = isinstance(found, nn.Module) and "forward" not in vars(found)
    return found if plain else None
