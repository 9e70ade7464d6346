"""The SFT stage on a tiny model: what it writes, its options, its errors, a kill."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file

from espalier.errors import InputError, StageError, UsageError
from espalier.models import load_model, save_model
from espalier.records import Example, dump_line
from espalier.run import Shared, StageContext
from espalier.train import adapters, sft
from espalier.train.config import SFTConfig
from espalier.train.monitor import TIMINGS, read_metrics

Make = Callable[..., StageContext]


def write_rows(path: Path, count: int) -> None:
    rng = random.Random(1)
    words = [
        "hello",
        "world",
        "the",
        "cat",
        "sat",
        "on",
        "mat",
        "one",
        "two",
        "three",
        "你好",
        "世界",
        "猫",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            word = rng.choice(words)
            row = Example.single(f"say {word} {number}", word)
            file.write(dump_line(row.to_json()) + "\n")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    save_model(tiny.model(), tiny.tokenizer(), "espalier", tmp_path / "base" / "model")
    write_rows(tmp_path / "curate" / "train.jsonl", 24)

    def context(**changes: Any) -> StageContext:
        values = {"minibatch": 8, "epochs": 2, "learning_rate": 5e-3, "precision": "fp32",
                  "max_length": 64, "log_every": 1}  # fmt: skip
        options = SFTConfig.model_validate({**values, **changes})
        return StageContext("sft", tmp_path, tmp_path / "sft", options, Shared.model_validate({}))

    return context


def test_the_stage_learns_and_saves(make: Make, tmp_path: Path) -> None:
    context = make(epochs=6)
    assert set(sft.inputs(context)) == {"model", "curate/train.jsonl"}
    counts = sft.run(context)
    assert counts["steps"] == 18
    assert counts["data"] == {"kept": 24, "truncated": 0, "too_long": 0, "untrained": 0}
    assert counts["template"] == "espalier"
    losses = [m["loss"] for m in read_metrics(tmp_path / "sft" / "metrics.jsonl")]
    assert losses[-1] < 0.5 * losses[0]
    assert json.loads((tmp_path / "sft/model/template.json").read_text()) == {"name": "espalier"}
    before, after = tiny.model(), load_model(tmp_path / "sft" / "model", device="cpu")
    assert not torch.equal(before.lm_head.weight, after.lm_head.weight)
    assert not (tmp_path / "sft" / "checkpoints").exists()


def test_frozen_parameters_stay(make: Make, tmp_path: Path) -> None:
    sft.run(make(freeze=[r"layers\.0\.", "embed"]))
    before = tiny.model().state_dict()
    after = load_model(tmp_path / "sft" / "model", device="cpu").state_dict()
    same = {name for name, value in after.items() if torch.equal(value, before[name])}
    assert {n for n in before if "layers.0." in n or "embed" in n} <= same
    assert not any("layers.1." in name for name in same)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [(["("], "not a regular expression"), (["nothing"], "No parameter"), ([""], "nothing is left")],
)
def test_wrong_freeze_patterns(patterns: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        adapters.freeze(tiny.model(), patterns)


def test_adapters_are_merged_into_the_model(make: Make, tmp_path: Path) -> None:
    lora = {"r": 2, "alpha": 4, "targets": ["q_proj", "down_proj"]}
    sft.run(make(lora=lora))
    before = tiny.model().state_dict()
    state = load_file(tmp_path / "sft" / "model" / "model.safetensors")
    assert not any("lora" in name for name in state)
    after = load_model(tmp_path / "sft" / "model", device="cpu").state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {n for n in before if "q_proj.weight" in n or "down_proj.weight" in n}
    # A merged adapter of rank 2 changes each matrix by a matrix of rank 2.
    for name in changed:
        values = torch.linalg.svdvals(after[name] - before[name])
        assert float(values[2]) < 1e-4 * float(values[0])


def test_adapter_targets_that_do_not_exist(make: Make) -> None:
    with pytest.raises(UsageError, match="can't be put into this model"):
        sft.run(make(lora={"targets": ["nothing_proj"]}))


def test_validation_rows_are_not_trained_on(make: Make, tmp_path: Path) -> None:
    counts = sft.run(make(validation={"fraction": 0.25, "every": 2}))
    assert (counts["rows"], counts["validation_rows"]) == (18, 6)
    assert counts["best"]["loss"] > 0
    splits = {m["split"] for m in read_metrics(tmp_path / "sft" / "metrics.jsonl")}
    assert splits == {"train", "eval"}
    rows = [Example.single(str(i), "x") for i in range(24)]
    train, held = sft.set_aside(rows, 0.25, 1)
    assert {e.id for e in train}.isdisjoint(e.id for e in held)
    assert len(train) + len(held) == 24
    assert sft.set_aside(rows, 0.25, 1) == (train, held)
    with pytest.raises(StageError, match="is 0 rows"):
        sft.set_aside(rows, 0.001, 1)


def test_samples_show_the_model_learn(make: Make, tmp_path: Path) -> None:
    sft.run(make(sample_every=3, samples=2, sample_tokens=6))
    text = (tmp_path / "sft/samples.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["step"] for line in lines] == [3, 3, 6, 6]
    assert all({"id", "prompt", "text", "finish_reason"} <= set(line) for line in lines)


def test_a_template_with_markers_adds_them(make: Make, tmp_path: Path) -> None:
    counts = sft.run(make(template="chatml", epochs=1))
    assert counts["template"] == "chatml"
    model = load_model(tmp_path / "sft" / "model", device="cpu")
    assert model.get_input_embeddings().weight.shape[0] == len(tiny.tokenizer()) + 2


def test_what_is_missing_is_named(make: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model yet"):
        sft.inputs(make(model="ppo"))
    with pytest.raises(InputError, match="data file") as caught:
        sft.inputs(make(data=["curate/train.json"]))
    assert str(tmp_path / "curate" / "train.json") in str(caught.value.where)
    with pytest.raises(UsageError, match="the model takes 128"):
        sft.run(make(max_length=256))
    with pytest.raises(InputError, match="no such model folder"):
        sft.run(make(model="./nowhere"))


SCRIPT = """
import sys
from pathlib import Path
from espalier.run import Shared, StageContext
from espalier.train import adapters, sft
from espalier.train.config import SFTConfig
run = Path(sys.argv[1])
options = SFTConfig.model_validate_json(sys.argv[2])
sft.run(StageContext("sft", run, run / "sft", options, Shared.model_validate({})))
"""


def untimed(folder: Path) -> list[dict[str, Any]]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k not in TIMINGS} for line in lines]


@pytest.mark.slow
def test_kill_at_any_moment_and_run_again(make: Make, tmp_path: Path) -> None:
    context = make(epochs=40, checkpoint_every=7, log_every=5, optimizer="muon")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), context.options.model_dump_json()]
    subprocess.run(command, check=True, capture_output=True)
    folder = tmp_path / "sft"
    weights = (folder / "model" / "model.safetensors").read_bytes()
    lines = untimed(folder)
    folder.rename(tmp_path / "reference")
    rng = random.Random(3)
    for target in ("checkpoint", "moment", "moment"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            names = [p.name for p in (folder / "checkpoints").glob("*")]
            if target == "checkpoint" and any(name.startswith(".tmp-") for name in names):
                break
            if target == "moment" and names:
                time.sleep(rng.uniform(0, 0.5))
                break
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, capture_output=True)
    assert (folder / "model" / "model.safetensors").read_bytes() == weights
    after = untimed(folder)
    assert after == lines
