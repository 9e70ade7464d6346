"""Single runs of bench_train.py: one worker a process, checked against its settings, kept."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from processes import ROOT, Result, run_worker

# Packs hold as many tokens a step as rows do, to the rounding of packs a step.
PACKED_STEPS = 0.2


def run(environment: str, worker: str, settings: dict[str, Any], *, ppo: bool) -> Result:
    """What one worker measured; {"failed": why} where it failed or was not what was asked for."""
    result = run_worker(environment, worker, settings)
    different = [] if "failed" in result else unequal(result, settings, ppo=ppo)
    return (
        {"failed": f"not the settings asked for: {'; '.join(different)}"} if different else result
    )


# Equal settings ---------------------------------------------------------------------------


def unequal(result: Result, given: dict[str, Any], *, ppo: bool) -> list[str]:
    """Where a run was not what its settings say."""
    free = {"bf16", "checkpointing"} if given["default"] else set()
    found = [
        f"{name} {value}, not {given[name]}"
        for name, value in result["settings"].items()
        if name not in free and value != given[name]
    ]
    steps = wanted_steps(given, ppo=ppo)
    slack = max(1, PACKED_STEPS * steps) if given["packed"] else 0
    if not result["optimizers"]:
        found.append("no optimizer step")
    for optimizer in result["optimizers"]:
        if abs(optimizer["steps"] - steps) > slack:
            found.append(f"{optimizer['steps']} steps of {optimizer['name']}, not {steps}")
        if optimizer["rates"] != [given["learning_rate"]] * 2:
            found.append(f"learning rates {optimizer['rates']}, not {given['learning_rate']}")
        if optimizer["decay"]:
            found.append(f"weight decay {optimizer['decay']}")
        if optimizer["weights"] != ["torch.float32"]:
            found.append(f"weights in {optimizer['weights']}")
    if result["total"] != (work := wanted_work(given, ppo=ppo)):
        found.append(f"{result['total']:,} tokens or episodes, not {work:,}")
    return found


def wanted_steps(given: dict[str, Any], *, ppo: bool) -> int:
    """Optimizer steps of every network."""
    each = given["epochs"] * given["rollout_batch"] // given["minibatch"] if ppo else 1
    return int(given["steps"] * each)


def wanted_work(given: dict[str, Any], *, ppo: bool) -> int:
    """Episodes, or real tokens of all rows."""
    if ppo:
        return int(given["steps"] * given["rollout_batch"])
    rows = json.loads(Path(given["data"]).read_text(encoding="utf-8"))
    sides = ("ids", "chosen", "rejected")
    count = given["steps"] * given["minibatch"]
    return sum(len(row[side]) for row in rows[:count] for side in sides if side in row)


# Finished runs ----------------------------------------------------------------------------


def fingerprint(settings: dict[str, Any]) -> str:
    """Changes with the settings of a part and with all code of the project."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in sorted(sources()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def sources() -> Iterator[Path]:
    for folder in ("espalier", "train", "benchmarks"):
        yield from (ROOT / folder).rglob("*.py")


class Kept:
    """The finished runs of a part, for one that was stopped to go on with."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, row: str, number: int) -> Result | None:
        path = self._path(row, number)
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def put(self, row: str, number: int, result: Result) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(row, number)
        whole = path.with_suffix(".tmp")
        whole.write_text(json.dumps(result), encoding="utf-8")
        whole.replace(path)

    def clear(self) -> None:
        """Once the part's table is written: the next call measures anew."""
        for path in self._folder.glob("*.json"):
            path.unlink()

    def _path(self, row: str, number: int) -> Path:
        return self._folder / f"{re.sub('[^a-z0-9]+', '-', row.lower())}-{number}.json"
