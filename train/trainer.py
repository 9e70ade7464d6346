"""The thin `transformers.Trainer` that supervised and reward training share.

The loader yields whole minibatches (`espalier.train.batching`); `training_step` cuts each into
forward passes by token budget, and the loss of every pass is a *sum*, divided once by the
weight (trained tokens, or pairs) of the whole minibatch on all processes. So the gradient does
not depend on how a minibatch was cut. What is trained on is told by a `Task`.
"""

from __future__ import annotations

import gc
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers.trainer_callback import PrinterCallback

from espalier.errors import StageError, UsageError
from espalier.models import quiet
from espalier.progress import Progress, say
from espalier.train import checkpoints
from espalier.train.arguments import autocast_dtype, training_arguments
from espalier.train.attention import fast_attention
from espalier.train.batching import MinibatchSampler, passes
from espalier.train.config_parts import Optimisation, Validation
from espalier.train.monitor import Monitor
from espalier.train.optimizers import build_optimizer
from espalier.train.tasks import Task, mean_losses

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


class _Loader(DataLoader[Any]):
    """A DataLoader that tells its batch sampler which epoch it is."""

    def set_epoch(self, epoch: int) -> None:
        sampler: Any = self.batch_sampler
        sampler.set_epoch(epoch)


class StepTrainer(transformers.Trainer):
    """`transformers.Trainer` with our minibatches, loss, metrics and checkpoints."""

    def __init__(
        self,
        model: nn.Module,
        arguments: transformers.TrainingArguments,
        *,
        task: Task[Any],
        rows: Sequence[Any],
        options: Optimisation,
        folder: Path,
        monitor: Monitor,
        seed: int,
        validation: Validation | None = None,
        validation_rows: Sequence[Any] = (),
        sampler: Sampler | None = None,
        sample_every: int = 0,
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__(model=model, args=arguments, eval_dataset=list(validation_rows) or None)
        self.remove_callback(PrinterCallback)
        self.task = task
        self.rows = rows
        self.options = options
        self.folder = folder
        self.monitor = monitor
        self.seed = seed
        self.validation = validation
        self.window = Window()
        self.best: dict[str, float] | None = None
        self._worse = 0
        self._autocast = autocast
        self._writing: Path | None = None
        self._norm = 0.0
        self._batch: Sequence[Any] = ()
        self.add_callback(_Steps(self, sampler, sample_every))

    # Data ---------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        lengths = [self.task.cost(row) for row in self.rows]
        sampler = MinibatchSampler(
            lengths,
            self.options.minibatch,
            seed=self.seed,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
        )
        if not len(sampler):
            raise StageError("There are fewer rows than processes.")
        dataset: Any = self.rows
        return _Loader(dataset, batch_sampler=sampler, collate_fn=list)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The next minibatch and its weight over all processes."""
        batch = next(epoch_iterator, None)
        if batch is None:
            return [], None
        weight = torch.tensor(float(sum(self.task.weight(row) for row in batch)))
        if self.accelerator.num_processes > 1:
            weight = self.accelerator.reduce(weight.to(device), reduction="sum").cpu()
        return [batch], float(weight)

    # A step -------------------------------------------------------------------------------

    def training_step(
        self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None
    ) -> Tensor:
        """Forward and backward of one whole minibatch; returns its mean loss."""
        model.train()
        self._batch = inputs
        total = torch.zeros((), device=self.args.device)
        groups = passes(inputs, self.task.cost, self.options.token_budget)
        for group in groups:
            with self.autocast():
                loss, sums = self.task.loss(model, group)
            # Gradients are averaged over processes; the weight is global already.
            self.accelerator.backward(loss * (self.accelerator.num_processes / num_items_in_batch))
            total += loss.detach()
            self._count(group, sums)
        value = float(total)
        if not math.isfinite(value):
            raise self._not_finite("loss", value)
        self.window.loss += value
        self.window.steps += 1
        mean: Tensor = total / num_items_in_batch
        return mean

    def autocast(self) -> torch.autocast:
        """The mixed-precision context of every forward pass."""
        return torch.autocast(
            self.args.device.type,
            dtype=self._autocast or torch.bfloat16,
            enabled=self._autocast is not None,
        )

    def _count(self, group: Sequence[Any], sums: Mapping[str, Tensor]) -> None:
        costs = [self.task.cost(row) for row in group]
        self.window.weight += sum(self.task.weight(row) for row in group)
        self.window.tokens += sum(costs)
        self.window.padded += max(costs) * len(costs)
        for name, value in sums.items():
            self.window.sums[name] = self.window.sums.get(name, 0.0) + float(value)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        parent: Any = super()
        norm = parent._get_grad_norm(model, grad_norm=grad_norm)
        self._norm = math.nan if norm is None else float(norm)
        # Under fp16 an overflow is normal: the scaler skips the step and lowers its scale.
        if norm is not None and not math.isfinite(self._norm) and not self.args.fp16:
            raise self._not_finite("gradient norm", self._norm)
        return norm

    def _not_finite(self, what: str, value: float) -> StageError:
        shown = [str(getattr(row, "id", "")) for row in self._batch]
        names = ", ".join(name for name in shown if name) or f"{len(shown)} rows"
        return StageError(
            f"The {what} became {value} at step {self.state.global_step + 1}.",
            where=f"minibatch of {names[:400]}",
            expected="a finite number",
            hint="lower learning_rate, lengthen warmup, or set precision: fp32",
        )

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: walking over all modules costs as much as a tiny model's step."""
        return 0

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            trained: Any = self.model
            self.optimizer = build_optimizer(
                trained,
                self.options.optimizer,
                lr=self.options.learning_rate,
                weight_decay=self.options.weight_decay,
                muon_ratio=self.options.muon_ratio,
                eps=self.args.adam_epsilon,
                betas=(self.args.adam_beta1, self.args.adam_beta2),
            )
        return self.optimizer

    # Metrics ------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Write the sums since the last line; other things that the parent logs are dropped."""
        if "loss" not in logs or not self.window.steps:
            return
        window, self.window = self.window, Window()
        weight = max(window.weight, 1.0)
        seconds = max(window.seconds, 1e-9)
        self.monitor.write(
            self.state.global_step,
            {
                "epoch": round(self.state.epoch or 0.0, 4),
                "loss": window.loss / weight,
                **{name: value / weight for name, value in window.sums.items()},
                "learning_rate": self._rate(logs["learning_rate"]),
                "grad_norm": self._norm,
                "tokens_per_second": round(window.tokens / seconds, 1),
                "fill": round(window.tokens / max(window.padded, 1), 4),
            },
        )
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def _rate(self, first: float) -> float:
        """The recipe's learning rate now: the first group may run at a multiple of it (Muon)."""
        group = self.create_optimizer().param_groups[0]
        return first * self.options.learning_rate / float(group["initial_lr"])

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Loss on the validation rows, weighted as in training; keeps the best weights."""
        rows: Any = self.eval_dataset
        values = mean_losses(self.model, self.task, rows, self.options.token_budget, self.autocast)
        step = self.state.global_step
        self.monitor.write(step, values, split="eval")
        if self.best is None or values["loss"] < self.best["loss"]:
            self.best, self._worse = {"step": step, "loss": values["loss"]}, 0
            if self.validation is not None and self.validation.keep_best:
                self._save_best()
        else:
            self._worse += 1
            patience = self.validation.patience if self.validation is not None else None
            if patience is not None and self._worse >= patience:
                say(f"  stopped at step {step}: no lower validation loss in {patience} tries")
                self.control.should_training_stop = True
        metrics = {f"eval_{name}": value for name, value in values.items()}
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    # Checkpoints --------------------------------------------------------------------------

    def _save_best(self) -> None:
        with checkpoints.writing(self.folder / "best", self.state.global_step, {}) as path:
            self._save_weights(path)

    def _save_weights(self, path: Path) -> None:
        self.save_model(str(path), _internal_call=True)

    def restore_best(self) -> None:
        """Put the weights of the lowest validation loss back, where they were kept."""
        if self.best is None:
            return
        path = self.folder / "best" / f"checkpoint-{int(self.best['step'])}"
        if path.is_dir():
            self._load_from_checkpoint(str(path))

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._writing) if self._writing else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """The parent's checkpoint, written under a temporary name and renamed when complete."""
        step = self.state.global_step
        info = {
            "step": step,
            "window": vars(self.window),
            "best": self.best,
            "worse": self._worse,
        }
        with checkpoints.writing(self.folder, step, info) as path:
            self._writing = path
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._writing = None
            inner = path / f"checkpoint-{step}"
            for file in inner.iterdir():
                file.rename(path / file.name)
            inner.rmdir()

    def restore(self, checkpoint: checkpoints.Checkpoint) -> None:
        """Take over what the parent does not keep: the open window and the best loss."""
        self.window = Window(**checkpoint.info["window"])
        self.best = checkpoint.info["best"]
        self._worse = int(checkpoint.info["worse"])


class _Steps(transformers.TrainerCallback):
    """Times the steps, logs the last one, samples, and shows progress."""

    def __init__(self, trainer: StepTrainer, sampler: Sampler | None, every: int) -> None:
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
            rows = self._sampler(self._trainer.model, state.global_step)
            self._trainer.monitor.samples(state.global_step, rows)
        if self._progress is not None:
            window = self._trainer.window
            loss = window.loss / max(window.weight, 1.0)
            self._progress.update(1, f"loss {loss:.3f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._progress is not None:
            self._progress.__exit__(None, None, None)


def fit(
    model: Any,
    rows: Sequence[Any],
    task: Task[Any],
    options: Optimisation,
    *,
    folder: Path,
    seed: int,
    steps: int | None = None,
    validation: Validation | None = None,
    validation_rows: Sequence[Any] = (),
    sampler: Sampler | None = None,
    sample_every: int = 0,
) -> dict[str, Any]:
    """Train `model` in place on `rows`, going on from the last complete checkpoint.

    Writes metrics, samples, TensorBoard and checkpoints below `folder` (a stage's). `steps`
    overrides the number that follows from epochs. Returns counts for the manifest. The caller
    saves the model, and clears the checkpoints when that is done.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "Supervised and reward training run in one process so far.",
            hint="start it without torchrun or accelerate launch",
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    autocast = autocast_dtype(options.precision, device)
    per_epoch = -(-len(rows) // options.minibatch)
    total = steps or math.ceil(options.epochs * per_epoch)
    every = validation.every if validation is not None and validation_rows else None
    store = folder / "checkpoints"
    arguments = training_arguments(
        options,
        store,
        seed=seed,
        steps=steps,
        total_steps=total,
        validation_every=every,
        autocast=autocast,
    )
    checkpoint = checkpoints.latest(store)
    with Monitor(folder, step=checkpoint.step if checkpoint else 0) as monitor:
        trainer = StepTrainer(
            model,
            arguments,
            task=task,
            rows=rows,
            options=options,
            folder=store,
            monitor=monitor,
            seed=seed,
            validation=validation,
            validation_rows=validation_rows,
            sampler=sampler,
            sample_every=sample_every,
            autocast=autocast,
        )
        if checkpoint:
            say(f"  going on after step {checkpoint.step:,} of {total:,}")
            trainer.restore(checkpoint)
        # The trainer collects garbage at its start: a second over what the imports have left.
        gc.freeze()
        with quiet(), fast_attention(trainer.model, autocast):
            trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
        gc.unfreeze()
        if validation is not None and validation.keep_best:
            trainer.restore_best()
    return {
        "rows": len(rows),
        "validation_rows": len(validation_rows),
        "steps": trainer.state.global_step,
        "trained_tokens_or_pairs": sum(task.weight(row) for row in rows),
        "parameters": sum(p.numel() for p in model.parameters()),
        "precision": str(autocast or torch.float32).removeprefix("torch."),
        "best": json.loads(json.dumps(trainer.best)),
    }
