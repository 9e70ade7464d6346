"""Tokens that a model is given: a pad token that is not eos, markers of templates, their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Tokens that models are given for padding, best first; "<unk>" is never trained on either.
_PAD_LIKE = (
    "<|pad|>",
    "<pad>",
    "[PAD]",
    "<|finetune_right_pad_id|>",
    "<|endoftext|>",
    "<unk>",
    "[UNK]",
)


def ensure_pad(tokenizer: Any) -> bool:
    """Give the tokenizer a pad token that is not eos; True if a new token had to be added.

    With pad = eos the end token drops out of the loss and of the score position, and a model
    trained so never stops.
    """
    eos = tokenizer.eos_token_id
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != eos:
        return False
    vocabulary = tokenizer.get_vocab()
    for name in _PAD_LIKE:
        identity = vocabulary.get(name)
        if identity is not None and identity not in (eos, tokenizer.bos_token_id):
            tokenizer.pad_token = name
            return False
    tokenizer.add_special_tokens({"pad_token": _PAD_LIKE[0]})
    return True


def fit_to_tokenizer(model: Any, tokenizer: Any) -> int:
    """Set the model's pad token, and grow its embedding to the tokenizer; returns new rows.

    New rows start as the mean of the old ones, so that a new token is neither likely nor
    unlikely at first. Rows beyond the tokenizer (vocabularies padded to a round size) stay.
    """
    old = int(model.get_input_embeddings().weight.shape[0])
    new = len(tokenizer) - old
    if new > 0:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        _set_to_mean(model, old, slice(old, len(tokenizer)))
    model.config.pad_token_id = tokenizer.pad_token_id
    generation = getattr(model, "generation_config", None)
    if generation is not None:
        generation.pad_token_id = tokenizer.pad_token_id
        if tokenizer.eos_token_id is not None and generation.eos_token_id is None:
            generation.eos_token_id = tokenizer.eos_token_id
    return max(new, 0)


def add_markers(model: Any, tokenizer: Any, markers: tuple[str, ...]) -> tuple[int, ...]:
    """Make each marker of a template a special token of its own; returns the ids of new ones.

    Their rows start as the mean of the rows of the tokens that there were, in the input and in
    the output embedding, also where a row of a vocabulary padded to a round size was free.
    """
    old = len(tokenizer)
    if not new_markers(tokenizer, markers):
        return ()
    had = int(model.get_input_embeddings().weight.shape[0])
    fit_to_tokenizer(model, tokenizer)
    _set_to_mean(model, min(old, had), slice(old, len(tokenizer)))
    return tuple(range(old, len(tokenizer)))


def new_markers(tokenizer: Any, markers: Sequence[str]) -> tuple[str, ...]:
    """Add those markers that are no token yet to the tokenizer; returns them."""
    vocabulary = tokenizer.get_vocab()
    missing = [marker for marker in dict.fromkeys(markers) if marker not in vocabulary]
    if missing:
        tokenizer.add_special_tokens(
            {"additional_special_tokens": missing}, replace_extra_special_tokens=False
        )
    return tuple(missing)


def _set_to_mean(model: Any, known: int, rows: slice) -> None:
    """Set rows of the input and the output embedding (and its bias) to the mean of the first
    `known` rows. Tied embeddings are one matrix, and setting it twice changes nothing."""
    import torch

    size = model.get_input_embeddings().weight.shape[0]
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            for value in (getattr(layer, "weight", None), getattr(layer, "bias", None)):
                if value is not None and value.shape[0] == size:
                    value[rows] = value[:known].mean(dim=0, keepdim=True)


def frozen_tokens(model: Any, tokenizer: Any, ids: Sequence[int]) -> str | None:
    """What to say where new tokens can't be learnt, since no embedding is trained; else None."""
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    if not ids or any(p.requires_grad for layer in layers if layer for p in layer.parameters()):
        return None
    names = ", ".join(tokenizer.convert_ids_to_tokens(list(ids)))
    return (
        f"the tokens {names} are new and the embeddings are not trained: they stay the mean of "
        "all tokens, and an answer that ends with one may never end. Train the embeddings, or "
        "name a template whose markers the model has (alpaca and vicuna have none)"
    )
