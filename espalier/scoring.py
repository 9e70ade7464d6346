"""Log-probabilities and reward scores of token sequences, in token-budget batches.

Sequences are sorted by length and padded on the right. A causal model's real tokens never see
what comes after them, so right padding needs no attention mask and changes no number; logits
are made for real positions only, and a chunk at a time, so that a large vocabulary never costs
batch × length × vocabulary at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from espalier.adapted import virtual_tokens
from espalier.errors import InputError, require

if TYPE_CHECKING:
    import torch

    FloatArray = np.ndarray[Any, np.dtype[np.float32]]

CHUNK_ELEMENTS = 16 * 1024 * 1024  # float32 logits held at once: 64 MiB
# Tokens of a forward pass where none are asked for. A CPU is fastest while the activations stay
# in its caches (2,048 tokens: a fifth faster than 8,192 on a model of width 256).
CPU_BUDGET, BUDGET = 2048, 8192


def token_budget_for(model: Any) -> int:
    """How many tokens a forward pass of `model` best has, on the device where it is."""
    return CPU_BUDGET if model.device.type == "cpu" else BUDGET


def length_batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Indices in batches of similar length; rows × longest ≤ `token_budget` (one row at least).

    Longest first, so that a batch that does not fit in memory fails at once.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    start = 0
    while start < len(order):
        size = max(1, token_budget // max(lengths[order[start]], 1))
        yield order[start : start + size]
        start += size


def pad_right(sequences: Sequence[Sequence[int]], pad: int, device: Any = None) -> torch.Tensor:
    """(rows, longest) int64 ids, padded on the right."""
    import torch

    longest = max(map(len, sequences))
    table = np.full((len(sequences), longest), pad, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        table[row, : len(sequence)] = sequence
    return torch.from_numpy(table).to(device)


@contextmanager
def selected_logits(model: Any, select: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """While active, the model's head sees `select(hidden)` instead of all hidden states.

    `select` maps (rows, length, d) to (..., d). Going through a hook on the head keeps whatever
    the model does around it (logit scaling, soft-capping, wrappers such as DDP or PEFT). The
    virtual tokens of a tuned prompt are not part of `hidden`.
    """
    head = model.get_output_embeddings()
    if head is None:
        raise InputError(f"{type(model).__name__} has no language-model head to score with.")
    virtual = virtual_tokens(model)
    skip = virtual.prepended if virtual is not None else 0
    handle = head.register_forward_pre_hook(
        lambda _module, args: (select(args[0][:, skip:] if skip else args[0]), *args[1:])
    )
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def logits_at(model: Any, positions: torch.Tensor, tokens: int) -> Iterator[None]:
    """While active, a pass over `tokens` (rows × length) gives logits (1, n, V) at flat
    `positions` (n) only, and the last block computes no more than these need."""
    from espalier.last_block import last_block_at

    with last_block_at(model, positions, tokens) as chosen:

        def select(hidden: torch.Tensor) -> torch.Tensor:
            flat = hidden.reshape(-1, hidden.shape[-1])
            return (flat if chosen else flat.index_select(0, positions))[None]

        with selected_logits(model, select):
            yield


def hidden_at(
    model: Any, ids: torch.Tensor, positions: torch.Tensor, **inputs: Any
) -> torch.Tensor:
    """The last hidden states (n, d) at flat `positions` (n) of a model's backbone."""
    from espalier.last_block import last_block_at

    with last_block_at(model, positions, ids.numel()) as chosen:
        hidden = model.base_model(input_ids=ids, use_cache=False, **inputs).last_hidden_state
    flat: torch.Tensor = hidden.reshape(-1, hidden.shape[-1])
    return flat if chosen else flat.index_select(0, positions)


def token_logprobs(
    model: Any, sequences: Sequence[Sequence[int]], *, token_budget: int | None = None
) -> list[FloatArray]:
    """Natural-log probabilities of tokens 1.. of each sequence (length n gives n − 1 numbers).

    The result does not depend on which sequences are scored together (to 1e-5 in float32).
    Raises InputError for an empty sequence.
    """
    torch = require("torch", extra="evaluate", feature="Scoring with a model")
    _check(sequences)
    results: list[FloatArray] = [np.zeros(0, dtype=np.float32)] * len(sequences)
    lengths = [len(s) for s in sequences]
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for batch in length_batches(lengths, token_budget or token_budget_for(model)):
            if lengths[batch[0]] < 2:
                continue
            flat = _batch_logprobs(model, [sequences[i] for i in batch])
            ends = np.cumsum([lengths[i] - 1 for i in batch])
            for index, part in zip(batch, np.split(flat, ends[:-1]), strict=True):
                results[index] = part
    model.train(was_training)
    return results


def _batch_logprobs(model: Any, sequences: Sequence[Sequence[int]]) -> FloatArray:
    """Log-probs of all tokens after the first, row after row, flat."""
    import torch

    whole = pad_right(sequences, 0, model.device)
    lengths = torch.tensor([len(s) for s in sequences], device=whole.device)
    real = torch.arange(1, whole.shape[1], device=whole.device) < lengths[:, None]
    targets = whole[:, 1:][real]
    # A last token is only predicted: it needs no position of the model.
    ids = whole[:, :-1]
    vocabulary = int(model.get_output_embeddings().weight.shape[0])
    chunk = max(1, CHUNK_ELEMENTS // vocabulary)
    if len(targets) <= chunk:
        logits = _positions(model, ids, lambda hidden: hidden[real][None])
        return _gather(logits[0], targets).cpu().numpy()
    kept: list[torch.Tensor] = []

    def keep(hidden: torch.Tensor) -> torch.Tensor:
        kept.append(hidden[real])
        return kept[0][None, :1]

    probe = _positions(model, ids, keep)[0]
    head = model.get_output_embeddings()
    hidden = kept[0]
    if not torch.equal(head(hidden[:1]), probe):
        # The model does something after its head (soft-capping, scaling): let it do so,
        # on fewer sequences at a time.
        if len(sequences) > 1:
            half = len(sequences) // 2
            parts = [_batch_logprobs(model, sequences[:half])]
            parts.append(_batch_logprobs(model, sequences[half:]))
            return np.concatenate(parts)
        logits = _positions(model, ids, lambda hidden: hidden[real][None])
        return _gather(logits[0], targets).cpu().numpy()
    pieces = [
        _gather(head(part), wanted)
        for part, wanted in zip(
            torch.split(hidden, chunk), torch.split(targets, chunk), strict=True
        )
    ]
    return torch.cat(pieces).cpu().numpy()


def _positions(
    model: Any, ids: torch.Tensor, select: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    with selected_logits(model, select):
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    return logits


def _gather(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """log softmax(logits)[target] in float32: (n, V), (n) -> (n)."""
    logits = logits.float()
    return logits.gather(-1, targets[:, None])[:, 0] - logits.logsumexp(-1)


def unwrapped(model: Any) -> Any:
    """The transformers model inside what a trainer puts around it (DDP, FSDP, PEFT)."""
    while True:
        inner = getattr(model, "module", None)
        if inner is None and hasattr(model, "get_base_model"):
            inner = model.get_base_model()
        if inner is None or inner is model:
            return model
        model = inner


@contextmanager
def forward_as(model: Any, forward: Callable[..., Any]) -> Iterator[None]:
    """While active, calling `model`, or any wrapper around it, runs `forward` in its place.

    So a computation of one's own still goes through DDP, FSDP and PEFT, whose hooks sit at the
    call of the module that they wrap.
    """
    inner = unwrapped(model)
    before = vars(inner).get("forward")
    inner.forward = forward
    try:
        yield
    finally:
        if before is None:
            del inner.forward
        else:
            inner.forward = before


def pools_by_position(model: Any) -> bool:
    """Whether this is a causal backbone under a `score` head, whose score is read at a token."""
    return hasattr(unwrapped(model), "score")


def sequence_scores(
    model: Any, ids: torch.Tensor, lengths: torch.Tensor, *, separator: int | None = None
) -> torch.Tensor:
    """Scores (rows,) float32 of right-padded `ids` (rows, length), pooled at token length − 1.

    Differentiable. For causal backbones with a linear `score` head the head is applied to the
    last real position only; other classifiers get a mask and pool their own way. Where
    `separator` is given, tokens after the first one are of type 1 (see `separator_of`).
    """
    import torch

    inner = unwrapped(model)
    if pools_by_position(model):
        read = torch.arange(len(ids), device=ids.device) * ids.shape[1] + lengths - 1

        def forward(input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
            pooled: torch.Tensor = inner.score(hidden_at(inner, input_ids, read))[:, 0]
            return pooled

        with forward_as(model, forward):
            scores: torch.Tensor = model(input_ids=ids)
        return scores.float()
    if getattr(inner.config, "is_encoder_decoder", False) and len(ids) > 1:
        # These pool at the last end token, and refuse rows with unequal numbers of them.
        parts = [
            _classified(model, row[None, :size], lengths[i : i + 1], separator)
            for i, (row, size) in enumerate(zip(ids, lengths.tolist(), strict=True))
        ]
        return torch.cat(parts)
    return _classified(model, ids, lengths, separator)


def _classified(
    model: Any, ids: torch.Tensor, lengths: torch.Tensor, separator: int | None
) -> torch.Tensor:
    import torch

    mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
    extra = {}
    if separator is not None:
        ends = (ids == separator) & mask
        extra["token_type_ids"] = ((ends.cumsum(dim=1) - ends.long()) > 0).long() * mask
    logits = model(input_ids=ids, attention_mask=mask.long(), **extra).logits
    scores: torch.Tensor = logits[:, 0].float()
    return scores


def separator_of(model: Any, tokenizer: Any) -> int | None:
    """The token after which the second text of a pair begins, where the model has token types.

    None for models without them (causal ones, RoBERTa), which must be given none.
    """
    types = getattr(unwrapped(model).config, "type_vocab_size", None) or 0
    named = "token_type_ids" in getattr(tokenizer, "model_input_names", ())
    if types < 2 or not named or pools_by_position(model):
        return None
    separator: int | None = tokenizer.sep_token_id
    return separator


def context_limit(model: Any) -> int | None:
    """The longest sequence that the model has positions for, if it says so."""
    config = unwrapped(model).config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None)
    if limit is None or limit < 1:
        return None
    embeddings = getattr(unwrapped(model).base_model, "embeddings", None)
    # RoBERTa and its kin number positions from the padding index + 1 on.
    padding = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
    return int(limit) - (padding + 1 if padding is not None else 0)


def reward_scores(
    model: Any,
    tokenizer: Any,
    sequences: Sequence[Sequence[int]],
    *,
    token_budget: int | None = None,
) -> list[float]:
    """The reward of each sequence of ids, pooled at its last token, whatever the padding side.

    Raises InputError for an empty sequence.
    """
    torch = require("torch", extra="evaluate", feature="Scoring with a reward model")
    _check(sequences)
    results = [0.0] * len(sequences)
    separator = separator_of(model, tokenizer)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        budget = token_budget or token_budget_for(model)
        for batch in length_batches([len(s) for s in sequences], budget):
            rows = [sequences[i] for i in batch]
            ids = pad_right(rows, tokenizer.pad_token_id, model.device)
            lengths = torch.tensor([len(row) for row in rows], device=ids.device)
            scores = sequence_scores(model, ids, lengths, separator=separator)
            for index, score in zip(batch, scores.tolist(), strict=True):
                results[index] = score
    model.train(was_training)
    return results


def _check(sequences: Sequence[Sequence[int]]) -> None:
    for index, sequence in enumerate(sequences):
        if not len(sequence):
            raise InputError("A sequence to score has no token.", where=f"sequence {index + 1}")
