"""What every benchmark writes beside its figures: the machine, versions, medians."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from espalier import provenance

RESULTS = Path(__file__).resolve().parent / "results"
REPEATS = 5


def data_folder() -> Path | None:
    """The folder of real data beside the repository (or ESPALIER_DATA), None where absent."""
    folder = Path(
        os.environ.get("ESPALIER_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data"
    )
    return folder if folder.is_dir() else None


def interleaved(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each function over `REPEATS` rounds in which all take turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPEATS):
        for name, function in runs.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def header(title: str, runs: int = REPEATS) -> list[str]:
    """Head of a results page: title, machine, versions; `runs` is 0 where the page says it."""
    hardware = provenance.hardware()
    versions = provenance.package_versions()
    shown = ("python", "numpy", "rapidfuzz", "rouge-score", "torch", "transformers")
    return [
        f"# {title}",
        "",
        f"{hardware['cpu']}, {hardware['cores']} cores, {hardware.get('memory_gib', '?')} GiB; "
        + ", ".join(f"{name} {versions[name]}" for name in shown if name in versions)
        + (f". Medians of {runs} interleaved runs." if runs > 1 else ". One run." if runs else "."),
        "",
    ]


def write(name: str, lines: list[str]) -> Path:
    """Write a results page and print it."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / name
    text = "\n".join(lines) + "\n"
    path.write_text(text, encoding="utf-8")
    print(text)
    return path
