"""Runs a worker of this folder in a process of its own, in our environment or a peer's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OURS = ".venv"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
TIMEOUT = 1800
Result = dict[str, Any]


def python(environment: str) -> Path:
    own = environment == OURS
    return Path(sys.executable) if own else ROOT / environment / "bin" / "python"


def run_worker(environment: str, worker: str, settings: dict[str, Any]) -> Result:
    """The line of JSON that a worker printed last, run on one thread; {"failed": why} else."""
    variables = {
        **os.environ,
        **dict.fromkeys(THREADS, "1"),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT) if environment == OURS else "",
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.json"
        path.write_text(json.dumps(settings), encoding="utf-8")
        command = [str(python(environment)), str(ROOT / "benchmarks" / worker), str(path)]
        try:
            done = subprocess.run(
                command, env=variables, capture_output=True, text=True, check=False, timeout=TIMEOUT
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"no result after {TIMEOUT} seconds"}
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        print(done.stderr[-3000:], file=sys.stderr)
        words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"failed": words[-1][:200]}
    result: Result = json.loads(lines[-1])
    return result
