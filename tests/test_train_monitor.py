"""Metrics, samples and alarms: one line each, none twice after a resume."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from espalier.train.monitor import Monitor, read_metrics


def test_lines_and_tensorboard(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor:
        monitor.write(1, {"loss": 2.5, "learning_rate": 1e-3})
        monitor.write(2, {"loss": math.nan}, split="eval")
        monitor.samples(2, [{"id": "a", "text": "你好"}])
    assert list(read_metrics(tmp_path / "metrics.jsonl")) == [
        {"step": 1, "split": "train", "loss": 2.5, "learning_rate": 1e-3},
        {"step": 2, "split": "eval", "loss": None},
    ]
    assert json.loads((tmp_path / "samples.jsonl").read_text()) == {
        "step": 2, "id": "a", "text": "你好",
    }  # fmt: skip
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"train/loss", "train/learning_rate"}
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 2.5)]


def test_a_resumed_run_cuts_back_to_its_checkpoint(tmp_path: Path) -> None:
    with Monitor(tmp_path, tensorboard=False) as monitor:
        for step in (10, 20, 30):
            monitor.write(step, {"loss": float(step)})
            monitor.samples(step, [{"id": "a"}])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "los')
    with Monitor(tmp_path, step=20, tensorboard=False) as monitor:
        monitor.write(30, {"loss": 31.0})
    assert [(m["step"], m["loss"]) for m in read_metrics(tmp_path / "metrics.jsonl")] == [
        (10, 10.0),
        (20, 20.0),
        (30, 31.0),
    ]
    assert [m["step"] for m in read_metrics(tmp_path / "samples.jsonl")] == [10, 20]
    with Monitor(tmp_path, tensorboard=False):
        pass
    assert not (tmp_path / "metrics.jsonl").exists()


def test_an_alarm_is_said_once_and_recorded_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Monitor(tmp_path, tensorboard=False) as monitor:
        monitor.alarm(3, "kl", "KL is 40")
        monitor.alarm(4, "kl", "KL is 41")
    assert capsys.readouterr().out.count("KL is") == 1
    assert len((tmp_path / "alarms.jsonl").read_text().splitlines()) == 2


def test_the_peak_of_memory_is_this_process_s_own() -> None:
    """`ru_maxrss` would be that of the larger process that started it."""
    code = "import torch; from espalier.train.monitor import peak_memory_mib as peak; " \
        "print(peak(torch.device('cpu')))"  # fmt: skip
    held = numpy.ones(2**31, dtype=numpy.uint8)  # 2 GiB
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    del held
    assert 50 < float(done.stdout) < 1500
