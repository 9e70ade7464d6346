"""What a training run writes while it goes: metrics.jsonl, samples.jsonl, TensorBoard, alarms.

The metrics go to further trackers as well, where the recipe names some.

Lines are appended and flushed one by one, so a kill loses none. A resumed run first cuts the
files back to the step of its checkpoint: no line is there twice, none is missing.
"""

from __future__ import annotations

import json
import math
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from espalier.errors import require
from espalier.files import atomic_write_text
from espalier.progress import say
from espalier.terminal import visible

if TYPE_CHECKING:
    from espalier.train.trackers import Trackers

# Metrics that tell of the machine: they differ between a resumed run and an uninterrupted one.
TIMINGS = frozenset({"tokens_per_second", "trained_tokens_per_second", "peak_memory_mib"})
METRICS = "metrics.jsonl"
SAMPLES = "samples.jsonl"
ALARMS = "alarms.jsonl"
TENSORBOARD = "tensorboard"


class Monitor:
    """Writes the metrics of one stage into its folder; `step` is where a resumed run goes on."""

    def __init__(
        self,
        folder: Path,
        *,
        step: int = 0,
        tensorboard: bool = True,
        trackers: Trackers | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        for name in (METRICS, SAMPLES, ALARMS):
            cut_back(folder / name, step)
        self._told: set[str] = set()
        self._trackers = trackers
        self._board: Any = None
        if tensorboard:
            module = require("torch.utils.tensorboard", extra="train", feature="TensorBoard")
            self._board = module.SummaryWriter(
                str(folder / TENSORBOARD), purge_step=step + 1 if step else None
            )

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, step: int, values: Mapping[str, Any], *, split: str = "train") -> None:
        """One line of metrics.jsonl: step, split and the values; numbers go to TensorBoard too.

        Numbers that are not finite are written as null (JSON has none).
        """
        clean = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in values.items()
        }
        self._append(METRICS, {"step": step, "split": split, **clean})
        if self._board is not None:
            for key, value in clean.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(f"{split}/{key}", value, step)
        if self._trackers is not None:
            self._trackers.log(step, {f"{split}/{key}": v for key, v in clean.items()})

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]], *, show: bool = False) -> None:
        """Sample generations of a step, one line each in samples.jsonl, and said with `show`."""
        for row in rows:
            self._append(SAMPLES, {"step": step, **row})
            if show:
                say(sample_line(step, str(row.get("prompt", "")), str(row.get("text", ""))))

    def alarm(self, step: int, kind: str, message: str) -> None:
        """Record something that looks wrong; said aloud the first time for each `kind`."""
        self._append(ALARMS, {"step": step, "alarm": kind, "message": message})
        if kind not in self._told:
            self._told.add(kind)
            say(f"  warning, step {step}: {message}")

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Write out and close TensorBoard's file and the trackers."""
        if self._trackers is not None:
            self._trackers.finish()
        if self._board is not None:
            self._board.close()
            self._board = None


def sample_line(step: int, prompt: str, answer: str) -> str:
    """A sample in one short line in which nothing can steer a terminal."""
    return f"  sample, step {step}: {_short(prompt, 40)} → {_short(answer, 60) or '(nothing)'}"


def _short(text: str, limit: int) -> str:
    flat = visible(" ".join(text.split()))
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def peak_memory_mib(device: Any) -> float:
    """The most memory so far in MiB: that of the GPU where one is used, else of the process."""
    if device.type == "cuda":
        import torch

        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return round(_peak_resident() / 2**20, 1)


def _peak_resident() -> int:
    """The most resident memory of this process so far, in bytes."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        status = ""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 2**10
    # On Linux this one would be that of the process that started this one, where it was larger.
    # It counts in KiB there, in bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 2**10


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a metrics file; a torn last line is left out."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def cut_back(path: Path, step: int) -> None:
    """Drop the lines of a JSONL file that are later than `step`, and a torn last one."""
    if not path.is_file():
        return
    if step == 0:
        path.unlink()
        return
    kept = [row for row in read_metrics(path) if int(row.get("step", 0)) <= step]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    atomic_write_text(path, text)
