"""The SFT stage on a tiny model: what it writes, its options, its errors, a kill."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rl_models
import tiny
import torch
from killing import ENVIRONMENT, Forked
from pydantic import ValidationError
from safetensors.torch import load_file
from sft_stage import Make, stage, untimed

from espalier.errors import InputError, StageError, UsageError
from espalier.models import load_model
from espalier.records import Example, Message
from espalier.train import adapters, sft
from espalier.train.monitor import read_metrics
from espalier.train.sources import read_rows
from espalier.train.validation_rows import apart_from, set_aside


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return stage(tmp_path, minibatch=8, epochs=2, log_every=1)


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
    train, held = set_aside(rows, 0.25, 1)
    assert {e.id for e in train}.isdisjoint(e.id for e in held)
    assert len(train) + len(held) == 24
    assert set_aside(rows, 0.25, 1) == (train, held)
    with pytest.raises(StageError, match="is 0 rows"):
        set_aside(rows, 0.001, 1)


def test_prompts_are_set_aside_whole() -> None:
    rows = [Example.single(f"Say {i}{end}", f"x{end}") for i in range(20) for end in ("!", ".", "")]
    train, held = set_aside(rows, 0.3, 1)
    assert len(held) == 18
    numbers = [{row.prompt.strip("!.") for row in part} for part in (train, held)]
    assert not numbers[0] & numbers[1]
    assert train == [row for row in rows if row not in held]
    with pytest.raises(StageError, match="no row is left to train on"):
        set_aside(rows[:3], 0.5, 1)
    # Texts without a prompt are not one prompt.
    texts = [Example.make([Message("assistant", f"text {i}")]) for i in range(8)]
    assert len(set_aside(texts, 0.25, 1)[1]) == 2


def part(dialogue: str, number: int, of: int) -> Example:
    row = Example.single(f"{dialogue}, part {number}", "x")
    return replace(row, meta={"part": number, "of_parts": of, "parents": [dialogue]})


def test_parts_of_a_dialogue_are_set_aside_together() -> None:
    rows = [part(f"d{i}", number, 4) for i in range(10) for number in range(4)]
    train, held = set_aside(rows, 0.2, 1)
    sides = [{row.meta["parents"][0] for row in side} for side in (train, held)]
    assert len(held) == 8 and len(sides[1]) == 2 and not sides[0] & sides[1]
    # A prompt that dialogues have in common is on one side as well.
    rows += [replace(part(f"d{i}", 4, 5), messages=Example.single("go on", "x").messages)
             for i in range(4)]  # fmt: skip
    for seed in range(6):
        train, held = set_aside(rows, 0.2, seed)
        prompts = [{row.prompt for row in side} for side in (train, held)]
        sides = [{row.meta["parents"][0] for row in side} for side in (train, held)]
        assert held and not prompts[0] & prompts[1] and not sides[0] & sides[1]
    # Of a file of one's own, parts of dialogues that are trained on are left out.
    others = [part("d99", 0, 2), part(train[0].meta["parents"][0], 9, 10)]
    assert apart_from(others, train, "all", where="") == others[:1]


def test_validation_rows_with_a_trained_prompt_are_left_out(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = read_rows([tmp_path / "curate" / "train.jsonl"])
    own = [Example.single(f"tell {i}", "cat") for i in range(3)]
    again = [Example.single(f"  {row.prompt.upper()}!", "another answer") for row in trained[:5]]
    rl_models.write_rows(tmp_path / "check.jsonl", [*again[:2], *own, *again[2:]])
    path = str(tmp_path / "check.jsonl")
    context = make(validation={"data": path, "every": 2})
    data = sft.read_data(context)
    assert ([e.prompt for e in data.held_back], data.shared) == (["tell 0", "tell 1", "tell 2"], 5)
    assert len(data.train) == 24
    counts = sft.run(context)
    assert (counts["rows"], counts["validation_rows"], counts["validation_left_out"]) == (24, 3, 5)
    assert "5 rows left out, their prompts are trained on" in capsys.readouterr().out
    rl_models.write_rows(tmp_path / "check.jsonl", again)
    with pytest.raises(StageError, match="Each of the 5 validation rows") as caught:
        sft.run(context)
    assert caught.value.where == "train.sft.validation.data"


def test_a_prompt_within_a_trained_conversation_counts_where_it_is_learnt() -> None:
    turns = [Message(role, role + str(i)) for i in (1, 2) for role in ("user", "assistant")]
    long, first = Example.make(turns), Example.make([turns[0], Message("assistant", "other")])
    other = Example.single("new", "x")
    assert apart_from([first, other], [long], "all", where="") == [other]
    assert apart_from([first, other], [long], "last", where="") == [first, other]
    # An answer that is context only is not learnt, and a prompt without an answer neither.
    context = long.with_meta(untrained_answers=[0])
    asked = Example.single("new")
    assert apart_from([first, other], [context, asked], "all", where="") == [first, other]


def test_the_format_holds_for_validation_data(make: Make, tmp_path: Path) -> None:
    def write(name: str, rows: list[dict[str, Any]]) -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    # A field that the detection would read as the answer, and another that the format means.
    both = {"prompt": "told", "completion": "detected"}
    check = write("check.jsonl", [{"instruction": "tell", "input": "", "output": "cat", **both}])
    data = write("data.jsonl", [{"instruction": "say", "input": "", "output": "x", **both}])
    for form, wanted in (("alpaca", "tell"), ("prompt-completion", "told")):
        read = sft.read_data(make(data=[{"path": data, "format": "alpaca"}], format=form,
                                  validation={"data": check}))  # fmt: skip
        assert [row.prompt for row in read.held_back] == [wanted]
        read = sft.read_data(make(data=[data], format="alpaca",
                                  validation={"data": check, "format": form}))  # fmt: skip
        assert ([row.prompt for row in read.held_back], read.train[0].prompt) == ([wanted], "say")
    with pytest.raises(ValidationError, match=r"validation\.format is that of validation\.data"):
        make(validation={"format": "alpaca"})


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


@pytest.mark.slow
def test_kill_at_any_moment_and_run_again(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make(epochs=40, checkpoint_every=7, log_every=5, optimizer="muon")
    log = tmp_path / "log"
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    def start() -> Forked:
        return Forked(sft.run, context, preload=__name__, log=log)

    assert start().wait(240) == 0, log.read_text("utf-8")
    folder = tmp_path / "sft"
    weights = (folder / "model" / "model.safetensors").read_bytes()
    lines = untimed(folder)
    folder.rename(tmp_path / "reference")
    rng = random.Random(3)
    for target in ("checkpoint", "moment", "moment"):
        process = start()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            names = [p.name for p in (folder / "checkpoints").glob("*")]
            if target == "checkpoint" and any(name.startswith(".tmp-") for name in names):
                break
            if target == "moment" and names:
                time.sleep(rng.uniform(0, 0.5))
                break
            time.sleep(0.0005)
        process.kill()
    assert start().wait(240) == 0, log.read_text("utf-8")
    assert (folder / "model" / "model.safetensors").read_bytes() == weights
    after = untimed(folder)
    assert after == lines


def test_limits_are_drawn_by_the_seed_and_lie_within_each_other(make: Make) -> None:
    def rows(seed: int, limit: int, pick: str = "random") -> list[str]:
        context = make(seed=seed, limit=limit, pick=pick)
        return [example.id for example in sft.read_data(context).train]

    everything = rows(1, 10_000)
    assert rows(1, 10) == rows(1, 10) != rows(2, 10)
    assert set(rows(1, 10)) < set(rows(1, 20)) < set(everything)
    assert len(rows(1, 10)) == 10
    assert rows(1, 10) == [row for row in everything if row in set(rows(1, 10))]
    assert rows(1, 10, "first") == everything[:10] != rows(1, 10)


def test_a_number_of_steps_replaces_epochs(make: Make) -> None:
    counts = sft.run(make(steps=3, epochs=40))
    assert counts["steps"] == 3
