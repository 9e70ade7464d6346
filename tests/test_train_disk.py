"""A full disk: a clear message, the last checkpoint loads, and the run goes on from it."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from train_workers import options, rows

from espalier.disk import full_disk, room
from espalier.errors import StageError
from espalier.train import checkpoints
from espalier.train.monitor import read_metrics
from espalier.train.tasks import NextToken
from espalier.train.trainer import fit

SEED = int(os.environ.get("ESPALIER_KILL_SEED", "1"))


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """The system refuses writes beyond so many bytes of a file, whoever writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def train(folder: Path, steps: int) -> Any:
    model = tiny.model(attention_dropout=0.1)
    chosen = options(checkpoint_every=2, epochs=100, schedule="constant", warmup=0.0)
    fit(model, rows(12), NextToken(0), chosen, folder=folder, seed=3, steps=steps)
    return model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[int]]:
    """A run without trouble, and the sizes of the files of its checkpoints."""
    folder = tmp_path_factory.mktemp("whole")
    model = train(folder, 8)
    last = checkpoints.latest(folder / "checkpoints")
    assert last is not None
    return model, sorted(path.stat().st_size for path in last.path.iterdir())


def test_a_write_that_fails_anywhere_leaves_the_checkpoint_before(
    whole: tuple[Any, list[int]], tmp_path: Path
) -> None:
    """Files are cut off at sizes drawn by a printed seed, in whichever file that is."""
    reference, sizes = whole
    train(tmp_path, 4)
    before = checkpoints.latest(tmp_path / "checkpoints")
    assert before is not None and before.step == 4
    log = max(p.stat().st_size for p in tmp_path.iterdir() if p.is_file())
    draw = random.Random(SEED)
    # Each time beyond the next smaller file, so that one file after another fails.
    small = [size for size in sizes if size > log + 4096]
    for low, high in zip([log + 4096, *small], small, strict=False):
        limit = draw.randint(low, high - 1)
        print(f"seed {SEED}: no file above {limit:,} bytes")
        with no_file_above(limit), pytest.raises(StageError) as caught:
            train(tmp_path, 8)
        assert "The checkpoint after step 6 can't be written" in str(caught.value)
        assert str(tmp_path / "checkpoints") in str(caught.value.where)
        assert "MiB free" in str(caught.value.where)
        last = checkpoints.latest(tmp_path / "checkpoints")
        assert last == before
        # Nothing that is unfinished takes up space.
        assert not list((tmp_path / "checkpoints").glob(".tmp-*"))
    resumed = train(tmp_path, 8)
    for a, b in zip(reference.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    steps = [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")]
    assert steps == [2, 4, 6, 8]


@pytest.mark.slow
def test_a_full_file_system(whole: tuple[Any, list[int]], tmp_path: Path) -> None:
    reference, sizes = whole
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("only the superuser can mount a small file system")
    size = f"size={4 * sum(sizes)}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        train(disk / "run", 4)
        for left in (0, sizes[-1] // 2, sizes[-1] + 100):
            filler = disk / "filler"
            free = shutil.disk_usage(disk).free
            filler.write_bytes(b"x" * max(0, free - left))
            # As a stage does it, since metrics may be the first that finds no room.
            with (
                pytest.raises(StageError, match="no space left on device"),
                room(disk, "A file of the stage"),
            ):
                train(disk / "run", 8)
            last = checkpoints.latest(disk / "run" / "checkpoints")
            assert last is not None and last.step == 4
            filler.unlink()
        resumed = train(disk / "run", 8)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    for a, b in zip(reference.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_which_errors_say_that_a_disk_is_full(tmp_path: Path) -> None:
    assert full_disk(OSError(28, "No space left on device")) == 28
    assert full_disk(RuntimeError("[enforce fail at inline_container.cc:672] . unexpected")) == 28
    assert full_disk(RuntimeError("I/O error: Disk quota exceeded (os error 122)")) == 122
    assert full_disk(OSError(2, "No such file")) is None
    assert full_disk(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    with pytest.raises(ValueError, match="other"), room(tmp_path, "A file"):
        raise ValueError("other")
