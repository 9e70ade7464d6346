"""What surrounds the steps of the shared trainer: sums of metrics, the loader, the callback."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import transformers
from torch.utils.data import DataLoader

from espalier.progress import Progress

Sampler = Callable[[Any, int], Sequence[Mapping[str, Any]]]


@dataclass
class Window:
    """Sums since the last line of metrics; part of a checkpoint, so resumed lines are equal."""

    loss: float = 0.0
    weight: float = 0.0
    tokens: int = 0
    padded: int = 0
    steps: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)


class Loader(DataLoader[Any]):
    """A DataLoader that tells its batch sampler which epoch it is."""

    def set_epoch(self, epoch: int) -> None:
        sampler: Any = self.batch_sampler
        sampler.set_epoch(epoch)


class Steps(transformers.TrainerCallback):
    """Times the steps, logs the last one, samples, and shows progress."""

    def __init__(self, trainer: Any, sampler: Sampler | None, every: int) -> None:
        self._trainer = trainer
        self._sampler = sampler
        self._every = every
        self._started = 0.0
        self._progress: Progress | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._progress = Progress(
            self._trainer.folder.parent.name,
            state.max_steps,
            unit="steps",
            initial=state.global_step,
        )

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._trainer.window.seconds += time.perf_counter() - self._started
        if state.global_step >= state.max_steps:
            control.should_log = True
        if self._sampler and self._every and state.global_step % self._every == 0:
            self._trainer.sample(self._sampler)
        if self._progress is not None:
            window = self._trainer.window
            loss = window.loss / max(window.weight, 1.0)
            self._progress.update(1, f"loss {loss:.3f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._progress is not None:
            self._progress.__exit__(None, None, None)
