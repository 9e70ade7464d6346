"""The machine that trains: this one, or one that is named; what it holds and how fast it is.

No torch is needed: GPUs are asked of `nvidia-smi`, a processor is timed by one product of
matrices.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from espalier.errors import UsageError
from espalier.provenance import hardware

_GIB = 1 << 30
# Memory in GiB and dense bf16 (older ones: fp16) tensor TFLOP/s, from the makers' data sheets.
GPUS: tuple[tuple[str, int, float], ...] = (
    ("b200", 180, 2250), ("h200", 141, 989), ("h100", 80, 989), ("h800", 80, 989),
    ("h20", 96, 148), ("a100-80", 80, 312), ("a800", 80, 312), ("a100", 40, 312),
    ("l40s", 48, 362), ("l40", 48, 181), ("a6000", 48, 155), ("a40", 48, 150), ("l4", 24, 121),
    ("a10", 24, 125), ("5090", 32, 209), ("4090", 24, 165), ("3090", 24, 71), ("v100", 32, 125),
    ("t4", 16, 65),
)  # fmt: skip
# What of the peak a training reaches: of a GPU's data sheet, and of a timed float32 product on a
# CPU (measured on models of 1 and 33 million parameters), where bf16 is so much faster.
_GPU_PART = 0.4
_CPU_PART = 0.2
_CPU_BF16 = 2.5
# Memory of a machine that other programs and the page cache need.
_CPU_ROOM = 0.85
_GPU_ROOM = 0.94


@dataclass(frozen=True, slots=True)
class Machine:
    """`memory` bytes a device; `flops` operations a second that training reaches on one, if known.

    `bf16`: whether our trainer would multiply in bf16 there (`precision: auto`).
    """

    device: Literal["gpu", "cpu"]
    name: str
    count: int
    memory: float
    flops: float | None
    bf16: bool

    @property
    def limit(self) -> float:
        """Bytes that a training may take of one device."""
        return self.memory * (_GPU_ROOM if self.device == "gpu" else _CPU_ROOM)

    def in_words(self) -> str:
        """`2 × a100-80, 80 GiB each`, or the processor with its memory."""
        size = f"{self.memory / _GIB:.0f} GiB"
        if self.device == "cpu":
            return f"{self.name}, {size}, no GPU"
        return (
            f"{self.count} × {self.name}, {size} each"
            if self.count > 1
            else (f"{self.name}, {size}")
        )


def named_machine(text: str) -> Machine:
    """`h100`, `a100-80`, `4x4090`, or GiB of memory such as `24` or `8x80`.

    Raises UsageError for what is none of these.
    """
    found = re.fullmatch(r"(?:(\d+)\s*[x×*]\s*)?([a-z0-9-]+)", text.strip().lower())
    count = int(found[1] or 1) if found else 0
    name = found[2].removeprefix("rtx-").removeprefix("rtx") if found else ""
    row = next((row for row in GPUS if row[0] == name), None)
    if found and count and row is not None:
        return Machine("gpu", row[0], count, row[1] * _GIB, row[2] * 1e12 * _GPU_PART, True)
    if found and count and name.isdigit() and int(name):
        return Machine("gpu", "GPU", count, int(name) * _GIB, None, True)
    raise UsageError(
        f"'{text}' is no GPU that is known here.",
        expected="GiB of memory (24, 8x80), or one of " + ", ".join(row[0] for row in GPUS),
    )


def this_machine() -> Machine:
    """What this machine has: its NVIDIA GPUs, else its processor."""
    found = _nvidia()
    if found:
        name = found[0][0]
        flat = re.sub(r"[^a-z0-9]+", " ", name.lower()).split()
        rate = next((row[2] for row in GPUS if row[0].split("-")[0] in flat), None)
        flops = rate * 1e12 * _GPU_PART if rate is not None else None
        smallest = min(size for _, size in found)
        return Machine("gpu", name, len(found), smallest * 2**20, flops, True)
    facts = hardware()
    memory = float(facts.get("memory_gib", 8.0)) * _GIB
    bf16 = _fast_bf16()
    cores = int(facts["cores"] or 1)
    flops = _timed() * cores * _CPU_PART * (_CPU_BF16 if bf16 else 1)
    return Machine("cpu", f"{facts['cpu']}, {cores} cores", 1, memory, flops, bf16)


def _nvidia() -> list[tuple[str, int]]:
    """Name and MiB of each GPU that may be used."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    chosen = None if given is None else [name.strip() for name in given.split(",")]
    if chosen is not None and chosen[0] in ("", "-1"):
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.rsplit(",", maxsplit=1) for line in done.stdout.splitlines() if "," in line]
    found = [(name.strip(), int(size)) for name, size in rows if size.strip().isdigit()]
    if chosen is None:
        return found
    if all(name.isdigit() for name in chosen):
        return [found[int(name)] for name in chosen if int(name) < len(found)]
    return found[: len(chosen)]


def _fast_bf16() -> bool:
    """Whether the processor multiplies in bf16: the rule of `precision: auto`."""
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return False
    return bool(words & {"avx512_bf16", "amx_tile"})


def _timed() -> float:
    """Operations of a float32 product in a second of one core, the best of five.

    The processor's time is counted, so that it does not matter what else runs.
    """
    import numpy as np

    size = 768
    left = np.ones((size, size), dtype=np.float32)
    best = 1.0
    for _ in range(5):
        start = time.process_time()
        _ = left @ left
        best = max(best, 2 * size**3 / max(time.process_time() - start, 1e-3))
    return best
