"""Sampling from a causal language model: one loop for the engine and for PPO's rollouts.

Why not `model.generate`: here each row draws from its own random stream, so that an answer
depends on its prompt, seed and sample number alone and not on what shares its batch; rows that
have ended leave the batch; and the log-probability of every chosen token comes along.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from espalier.adapted import virtual_tokens
from espalier.errors import StageError

StopCheck = Callable[[Sequence[int]], bool]

# The largest fraction of 1 a row may draw: rounding must not reach the end of the distribution.
_BELOW_ONE = 1.0 - 1e-12


@dataclass(frozen=True, slots=True)
class Decoded:
    """What one prompt got.

    `ids` are the new tokens, the stop token included when one ended the row; `logprobs` are
    natural logarithms, one a token, under the whole vocabulary at `logprob_temperature`;
    `finish_reason` is "stop" after a stop token or a stop check, else "length".
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class _Settings:
    max_new_tokens: int
    temperature: float
    top_p: float
    presence_penalty: float
    stop_ids: frozenset[int]
    pad_id: int
    stop_check: StopCheck | None
    max_length: int | None
    logprob_temperature: float
    autocast: torch.dtype | None
    token_budget: int
    max_rows: int


def row_seed(seed: int, prompt: Sequence[int], sample: int = 0) -> int:
    """The 128-bit seed of one row: the SHA-256 of seed, sample number and prompt tokens."""
    digest = hashlib.sha256(f"{seed}:{sample}:".encode())
    digest.update(np.asarray(prompt, dtype="<i8").tobytes())
    return int.from_bytes(digest.digest()[:16], "little")


def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    pad_id: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    presence_penalty: float = 0.0,
    stop_ids: Sequence[int] = (),
    seeds: Sequence[int] | None = None,
    stop_check: StopCheck | None = None,
    max_length: int | None = None,
    logprob_temperature: float = 1.0,
    autocast: torch.dtype | None = None,
    token_budget: int = 16384,
    max_rows: int = 128,
) -> list[Decoded]:
    """Complete every prompt (token ids, at least one each); the answers come in prompt order.

    `temperature` 0 is greedy. `seeds` are one a prompt (default: `row_seed(0, prompt)`, and
    equal prompts then draw alike). `stop_check` sees a row's new tokens after each step and ends
    it by returning True. `max_length` bounds prompt and answer together. `token_budget` bounds
    the padded tokens (prompt + `max_new_tokens`) of one batch, `max_rows` its rows.
    `autocast` runs the forward passes in that type (logits are used as float32).
    `logprob_temperature` divides the logits that log-probabilities are taken from: 1 for the
    model's own distribution, the sampling temperature for a policy-gradient's.
    Works on any device; the model's mode is put to eval and back, no gradient is kept.
    """
    answers: list[Decoded | None] = [None] * len(prompts)
    for index, decoded in decode_stream(
        model,
        prompts,
        max_new_tokens=max_new_tokens,
        pad_id=pad_id,
        temperature=temperature,
        top_p=top_p,
        presence_penalty=presence_penalty,
        stop_ids=stop_ids,
        seeds=seeds,
        stop_check=stop_check,
        max_length=max_length,
        logprob_temperature=logprob_temperature,
        autocast=autocast,
        token_budget=token_budget,
        max_rows=max_rows,
    ):
        answers[index] = decoded
    return [answer for answer in answers if answer is not None]


def decode_stream(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    pad_id: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    presence_penalty: float = 0.0,
    stop_ids: Sequence[int] = (),
    seeds: Sequence[int] | None = None,
    stop_check: StopCheck | None = None,
    max_length: int | None = None,
    logprob_temperature: float = 1.0,
    autocast: torch.dtype | None = None,
    token_budget: int = 16384,
    max_rows: int = 128,
) -> Iterator[tuple[int, Decoded]]:
    """`decode`, yielding (prompt index, answer) as batches end, longest prompts first."""
    settings = _Settings(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        presence_penalty=presence_penalty,
        stop_ids=frozenset(stop_ids),
        pad_id=pad_id,
        stop_check=stop_check,
        max_length=max_length,
        logprob_temperature=logprob_temperature,
        autocast=autocast,
        token_budget=token_budget,
        max_rows=max_rows,
    )
    if seeds is None:
        seeds = [row_seed(0, prompt) for prompt in prompts]
    if len(seeds) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts, but {len(seeds)} seeds")
    if any(not prompt for prompt in prompts):
        raise ValueError("a prompt has no tokens")
    waiting = list(_batches(prompts, settings))
    while waiting:
        batch = waiting.pop(0)
        answers = _try_batch(
            model, [prompts[i] for i in batch], [seeds[i] for i in batch], settings
        )
        if answers is None:
            half = len(batch) // 2
            waiting[:0] = [batch[:half], batch[half:]]
            continue
        yield from zip(batch, answers, strict=True)


def _try_batch(
    model: Any, prompts: list[Sequence[int]], seeds: list[int], settings: _Settings
) -> list[Decoded] | None:
    """The answers, or None when the device's memory is too small for so many rows."""
    try:
        return _decode_batch(model, prompts, seeds, settings)
    except torch.OutOfMemoryError as error:
        if len(prompts) == 1:
            raise StageError(
                "The device has too little memory to answer a single prompt "
                f"of {len(prompts[0]):,} tokens.",
                where=str(_device(model)),
                hint="use a smaller model or dtype, or lower max_tokens",
            ) from error
    # Outside the handler, so that nothing of the failed attempt is still referenced.
    torch.cuda.empty_cache()
    return None


def _batches(prompts: Sequence[Sequence[int]], settings: _Settings) -> Iterator[list[int]]:
    """Indices sorted by length, longest first (what does not fit in memory fails at once)."""
    batch: list[int] = []
    width = 0
    for index in sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i)):
        if not batch:
            width = len(prompts[index]) + settings.max_new_tokens
        elif len(batch) >= settings.max_rows or (len(batch) + 1) * width > settings.token_budget:
            yield batch
            batch, width = [], len(prompts[index]) + settings.max_new_tokens
        batch.append(index)
    if batch:
        yield batch


@contextmanager
def _eval_mode(model: Any) -> Iterator[None]:
    """Dropout off, and afterwards each module back in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@dataclass(slots=True)
class _Rows:
    """The rows still in the batch; every tensor's first axis is the position in it."""

    numbers: list[int]  # position in the batch -> row of the result
    uniforms: torch.Tensor  # [rows, steps] float64 in [0, 1)
    mask: torch.Tensor  # [rows, width]
    positions: torch.Tensor  # [rows, 1]: position of the token fed next
    seen: torch.Tensor | None  # [rows, vocabulary] bool: tokens already generated

    def select(self, keep: list[int]) -> torch.Tensor:
        """Keep these positions only; returns them as an index on the device."""
        index = torch.tensor(keep, device=self.mask.device)
        self.numbers = [self.numbers[i] for i in keep]
        self.uniforms, self.mask = self.uniforms[index], self.mask[index]
        self.positions = self.positions[index]
        self.seen = None if self.seen is None else self.seen[index]
        return index


@dataclass(slots=True)
class _Result:
    """What the rows got so far; log-probabilities stay on the device until the batch ends."""

    limits: list[int]
    ids: list[list[int]]
    reasons: list[Literal["stop", "length"] | None]
    logprobs: list[torch.Tensor] = field(default_factory=list)
    logprob_rows: list[int] = field(default_factory=list)

    def add(self, rows: _Rows, tokens: list[int], settings: _Settings) -> None:
        for number, token in zip(rows.numbers, tokens, strict=True):
            if self.reasons[number] is not None:
                continue
            mine = self.ids[number]
            mine.append(token)
            if token in settings.stop_ids or (
                settings.stop_check is not None and settings.stop_check(mine)
            ):
                self.reasons[number] = "stop"
            elif len(mine) >= self.limits[number]:
                self.reasons[number] = "length"

    def finished(self) -> list[Decoded]:
        logprobs: list[list[float]] = [[] for _ in self.ids]
        values = torch.cat(self.logprobs).tolist() if self.logprobs else []
        if not all(map(math.isfinite, values)):
            raise StageError(
                "The model's output is not finite (NaN or infinity), so nothing can be sampled.",
                hint="its weights are broken (training diverged?), or its dtype is too narrow: "
                "try dtype: float32",
            )
        for number, value in zip(self.logprob_rows, values, strict=True):
            logprobs[number].append(value)
        return [
            Decoded(tuple(ids), tuple(logprobs[row][: len(ids)]), self.reasons[row] or "length")
            for row, ids in enumerate(self.ids)
        ]


def _decode_batch(
    model: Any, prompts: list[Sequence[int]], seeds: list[int], settings: _Settings
) -> list[Decoded]:
    limits = [_limit(len(prompt), settings) for prompt in prompts]
    result = _Result(
        limits, [[] for _ in prompts], ["length" if limit <= 0 else None for limit in limits]
    )
    if all(result.reasons):
        return result.finished()
    with torch.no_grad(), _eval_mode(model), _casting(model, settings.autocast):
        _loop(model, prompts, seeds, settings, result)
    return result.finished()


def _limit(prompt_length: int, settings: _Settings) -> int:
    if settings.max_length is None:
        return settings.max_new_tokens
    return min(settings.max_new_tokens, settings.max_length - prompt_length)


@contextmanager
def _casting(model: Any, dtype: torch.dtype | None) -> Iterator[None]:
    context: AbstractContextManager[Any] = nullcontext()
    if dtype is not None:
        context = torch.autocast(_device(model).type, dtype=dtype)
    with context:
        yield
    # Weights cast under no_grad must not be found by a training pass of an outer autocast.
    torch.clear_autocast_cache()


def _device(model: Any) -> torch.device:
    device: torch.device = next(model.parameters()).device
    return device


def _loop(
    model: Any, prompts: list[Sequence[int]], seeds: list[int], settings: _Settings, result: _Result
) -> None:
    device = _device(model)
    ids, mask = _left_padded(prompts, settings.pad_id, device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    steps = max(result.limits)
    step_model = _Stepper(model, steps)
    draws = np.stack([_uniforms(seed, steps) for seed in seeds])
    rows = _Rows(
        list(range(len(prompts))),
        torch.from_numpy(draws).to(device),
        mask,
        positions[:, -1:] + 1,
        None,
    )
    logits = step_model(ids, mask, positions)
    for step in range(steps):
        shaped = logits
        if settings.presence_penalty:
            if rows.seen is None:
                rows.seen = torch.zeros_like(logits, dtype=torch.bool)
            shaped = logits - settings.presence_penalty * rows.seen
        tokens = choose(shaped, rows.uniforms[:, step], settings.temperature, settings.top_p)
        result.logprobs.append(_logprob(logits, tokens, settings.logprob_temperature))
        result.logprob_rows.extend(rows.numbers)
        if rows.seen is not None:
            rows.seen.scatter_(1, tokens[:, None], True)
        result.add(rows, tokens.tolist(), settings)
        live = [i for i, number in enumerate(rows.numbers) if result.reasons[number] is None]
        if not live:
            return
        if 2 * len(live) <= len(rows.numbers):
            index = rows.select(live)
            step_model.select(index)
            tokens = tokens[index]
        rows.mask = torch.cat([rows.mask, rows.mask.new_ones(len(rows.numbers), 1)], dim=1)
        logits = step_model(tokens[:, None], rows.mask, rows.positions)
        rows.positions = rows.positions + 1


def _left_padded(
    prompts: list[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, both [rows, longest], padding on the left."""
    width = max(len(prompt) for prompt in prompts)
    ids = np.full((len(prompts), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(prompts), width), dtype=np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = prompt
        mask[row, width - len(prompt) :] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


def _uniforms(seed: int, steps: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The draws of one row, [steps]; a longer limit only appends to them."""
    generator = np.random.Generator(np.random.Philox(key=seed % (1 << 128)))
    return np.minimum(generator.random(steps), _BELOW_ONE)


class _Stepper:
    """Calls the model with its cache and returns the last position's logits, [rows, vocabulary]."""

    def __init__(self, model: Any, steps: int) -> None:
        self.model = model
        self.steps = steps
        self.cache: Any = None
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        names = inspect.signature(base.forward).parameters
        self.virtual = virtual_tokens(model)
        if self.virtual is not None:
            self.model = base
        self.takes_positions = "position_ids" in names
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in names else {}

    def __call__(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        inputs = self._inputs(ids, mask, positions if self.takes_positions else None)
        output = self.model(**inputs, use_cache=True, **self.last_only)
        if self.cache is None:
            from espalier.kv_cache import with_room

            self.cache = with_room(output.past_key_values, self.steps)
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def _inputs(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor | None
    ) -> dict[str, Any]:
        if self.virtual is not None and self.cache is None:
            return self.virtual.first(ids, mask, positions)
        if self.virtual is not None:
            inputs = self.virtual.later(ids, mask, positions)
        else:
            inputs = {"input_ids": ids, "attention_mask": mask}
            if positions is not None:
                inputs["position_ids"] = positions
        return {**inputs, "past_key_values": self.cache}

    def select(self, index: torch.Tensor) -> None:
        self.cache.reorder_cache(index)


def choose(
    logits: torch.Tensor, uniforms: torch.Tensor, temperature: float, top_p: float
) -> torch.Tensor:
    """One token a row, [rows], from logits [rows, vocabulary] and draws [rows] in [0, 1).

    Inverse-CDF sampling in the order of the vocabulary: one number a row and step decides, so
    that a row's stream is short and the same on every device. `top_p` keeps the smallest set
    of most probable tokens whose mass reaches it (Holtzman et al. 2020).
    """
    if temperature <= 0:
        return logits.argmax(-1)
    probs = torch.softmax(logits / temperature, dim=-1)
    if top_p < 1:
        ranked, order = probs.sort(dim=-1, descending=True, stable=True)
        before = ranked.cumsum(-1) - ranked
        # The first token always stays, whatever the rounding of the sums.
        cut = (before >= top_p) & (torch.arange(ranked.shape[-1], device=ranked.device) > 0)
        probs = torch.zeros_like(probs).scatter_(1, order, ranked.masked_fill(cut, 0.0))
    cdf = probs.double().cumsum(-1)
    target = uniforms[:, None] * cdf[:, -1:]
    tokens = torch.searchsorted(cdf, target, right=True).squeeze(1)
    return tokens.clamp(max=logits.shape[-1] - 1)


def _logprob(logits: torch.Tensor, tokens: torch.Tensor, temperature: float) -> torch.Tensor:
    scaled = logits if temperature == 1 else logits / temperature
    chosen = scaled.gather(1, tokens[:, None]).squeeze(1)
    return chosen - scaled.logsumexp(-1)
