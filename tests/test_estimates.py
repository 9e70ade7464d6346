"""What a whole recipe takes: PPO and answers by hand, runs and sweeps as the sum of their parts."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from own_data import bare_model, comparisons, long_talks, share_gpt

from espalier.cli import main
from espalier.estimates import (
    Answers,
    Episodes,
    Plan,
    answer_seconds,
    ppo_lines,
    ppo_seconds,
    seconds_of,
    time_line,
)
from espalier.machine import Machine, named_machine
from espalier.model_facts import ModelFacts, Shape
from espalier.recipe import draft_recipe
from espalier.sizing import Load
from espalier.sweep_members import plan_sweep
from espalier.sweep_plan import in_all, steps_of

LLAMA_7B = Shape(4096, 32, 11008, 32, 4096, 4096, 32000)
MODEL = ModelFacts("m", "llama", LLAMA_7B, LLAMA_7B.parameters, "config")
# A step of one token has next to no attention, so that a token is 2 operations a parameter.
LOAD = Load(longest=1, token_budget=1)
PROCESSOR = Machine("cpu", "processor", 1, 2**34, 1e12, True)
GPU = named_machine("a100-80")
INSIDE, HEAD = LLAMA_7B.linear, LLAMA_7B.embedding


def test_ppo_is_sampling_and_passes_of_four_networks() -> None:
    """Counted by hand for one episode: 100 tokens of prompt, 50 of answer, 2 epochs. Forward is 2
    operations a parameter and token, with its backward pass 6 (Kaplan et al. 2020); the head is
    there at half of the tokens (`learnt`), of a critic nowhere."""
    machine = replace(GPU, flops=1.0)
    episodes = Episodes(1, 1, 100, 50, 2)
    policy, critic = INSIDE + HEAD / 2, INSIDE
    sampling = 2 * 100 * INSIDE + 4 * 2 * 50 * (INSIDE + HEAD)
    scoring = 4 * 2 * 150 * policy
    learning = 2 * 6 * 150 * (policy + critic)
    told = ppo_seconds(MODEL, LOAD, episodes, machine)
    assert told == pytest.approx(sampling + scoring + learning, rel=1e-3)
    shared = ppo_seconds(MODEL, LOAD, episodes, machine, shared=True)
    without = sampling + 3 / 4 * scoring + 2 * 6 * 150 * policy
    assert shared == pytest.approx(without, rel=1e-3)
    many = ppo_seconds(MODEL, LOAD, replace(episodes, iterations=30, batch=128), machine)
    assert many == pytest.approx(30 * 128 * (told or 0))


def test_ppo_of_seven_billion_takes_more_than_a_minute() -> None:
    lines = ppo_lines(MODEL, Load(longest=512), Episodes(30, 128, 100, 256, 2), GPU, 1.0)
    assert "30 iterations of 128 episodes" in lines[0]
    hours = re.search(r"about \d+ min \(rough\), \$([\d.]+) at 1 an hour", lines[-1])
    assert hours
    # 3,840 episodes of 356 tokens, two epochs of 6 N of policy and critic: 2.2e17 operations.
    assert float(hours[1]) > 24 * 6.7e9 * 3840 * 356 / 1.25e14 / 3600


def test_answers_are_generated_on_one_device() -> None:
    """Two models, ten prompts of 100 tokens, answers of 50: a generated one costs four."""
    answers = Answers(2, 10, 100, 50)
    by_hand = 20 * (2 * 100 * INSIDE + 4 * 2 * 50 * (INSIDE + HEAD))
    for count in (1, 8):
        told = answer_seconds(MODEL, LOAD, answers, replace(GPU, count=count, flops=1.0))
        assert told == pytest.approx(by_hand, rel=1e-3)


def test_a_processor_has_no_price() -> None:
    assert "$" not in time_line(7200, PROCESSOR, 2.0)
    assert time_line(7200, PROCESSOR, 2.0).endswith("no GPU to pay for")
    assert time_line(7200, GPU, 2.0).endswith("$4.00 at 2 an hour")


@pytest.fixture
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANG", "C.UTF-8")
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    bare_model(Path("model"))
    share_gpt(Path("talks.json"))
    comparisons(Path("pairs.jsonl"))


def hours_of(text: str, what: str) -> float:
    """The time that is told of a stage, in hours: by its price at a million an hour."""
    found = re.findall(rf"Estimate, {what}: .*time: .*\$([\d.,]+) at 1e\+06 an hour", text)
    assert len(found) == 1, text
    return float(found[0].replace(",", "")) / 1e6


@pytest.mark.usefixtures("_here")
def test_a_run_is_the_sum_of_its_stages(capsys: pytest.CaptureFixture[str]) -> None:
    """Seven billion parameters: both reward models, PPO and the answers are in the total."""
    long_talks(Path("long.json"), 300)
    words = ["--model", "owner/model-7b", "--gpu", "a100-80", "--price", "1e6", "--yes"]
    files = ["long.json", "pairs.jsonl"]
    assert main(["new", *files, *words, "--compare", "lora,ppo"]) == 0
    told = capsys.readouterr().out
    # 32 pairs to train on, 8 for the evaluation's, of each of which 5 % are set aside.
    assert "Estimate, reward: 30 rows" in told
    assert "Estimate, reward_eval: 8 rows" in told
    assert "learnt from 2 times" in told
    stages = ("lora", "reward", "reward_eval", "ppo", "evaluate")
    whole = hours_of(told, "whole run")
    assert whole == pytest.approx(sum(hours_of(told, name) for name in stages), rel=0.001)
    assert hours_of(told, "ppo") > 10 * hours_of(told, "evaluate") > 0


def priced(text: str) -> list[float]:
    """Every time of a plan, in hours: by its price at a million an hour."""
    told = re.findall(r"time: .*?\$([\d.,]+) at 1e\+06 an hour", text)
    return [float(amount.replace(",", "")) / 1e6 for amount in told]


@pytest.mark.usefixtures("_here")
def test_explain_ends_with_the_time_of_all_trainings(capsys: pytest.CaptureFixture[str]) -> None:
    long_talks(Path("long.json"), 300)
    words = ["--model", "owner/model-7b", "--gpu", "a100-80", "--price", "1e6"]
    files = ["long.json", "pairs.jsonl"]
    assert main(["new", *files, *words, "--yes", "--compare", "lora,ppo"]) == 0
    capsys.readouterr()
    assert main(["recipe", "explain", "long.yaml", *words[2:]]) == 0
    told = capsys.readouterr().out
    *stages, whole = priced(told)
    assert len(stages) == 4 and whole == pytest.approx(sum(stages), rel=0.001)
    last = told.splitlines()[-1]
    assert "for all 4 trainings alone; curation and evaluation are not counted" in last
    # One training is told where it stands.
    assert main(["new", "long.json", *words, "--yes", "--output", "one.yaml"]) == 0
    capsys.readouterr()
    assert main(["recipe", "explain", "one.yaml", *words[2:]]) == 0
    assert len(priced(capsys.readouterr().out)) == 1


@pytest.mark.usefixtures("_here")
def test_a_sweeps_plan_for_a_named_machine(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", "owner/model-7b", "--compare", "lora", "--seeds", "4", "--yes"]
    long_talks(Path("long.json"), 300)
    assert main(["new", "long.json", *words, "--gpu", "h200"]) == 0
    capsys.readouterr()
    found = {}
    for gpu in ("h200", "8xh200"):
        more = ["--gpu", gpu, "--price", "1e6"]
        assert main(["sweep", "long.yaml", "--dry-run", *more]) == 0
        told = capsys.readouterr().out
        assert "for at most 4 different trainings alone" in told
        found[gpu] = priced(told)
    # All of them, and the first: each on one GPU, whatever else there is; of eight, four are paid.
    whole, first = found["h200"]
    assert whole == pytest.approx(4 * first, rel=0.001) and found["8xh200"] == found["h200"]
    assert main(["sweep", "long.yaml", "--gpu", "h200"]) == 2
    assert "add --dry-run" in capsys.readouterr().err


@pytest.mark.usefixtures("_here")
def test_a_sweep_is_the_sum_of_its_runs(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", "owner/model-7b", "--gpu", "h200", "--price", "1e6", "--yes"]
    long_talks(Path("long.json"), 300)
    totals = {}
    for compare, seeds in (("lora", 1), ("lora", 3), ("lora,qlora", 3)):
        name = f"{compare.replace(',', '-')}-{seeds}.yaml"
        more = ["--compare", compare, "--seeds", str(seeds), "--output", name]
        assert main(["new", "long.json", *words, *more]) == 0
        told = capsys.readouterr().out
        totals[compare, seeds] = hours_of(told, "whole run" if seeds == 1 else "whole sweep")
        one = hours_of(told, "lora"), hours_of(told, "evaluate")
    # Three trainings, and the answers of four models instead of six: the base answers once.
    assert totals["lora", 1] == pytest.approx(sum(one), rel=0.001)
    assert totals["lora", 3] == pytest.approx(3 * one[0] + 4 / 2 * one[1], rel=0.001)
    more = ["--compare", "lora,ppo", "--seeds", "2", "--output", "ppo.yaml"]
    assert main(["new", "long.json", "pairs.jsonl", *words, *more]) == 0
    told = capsys.readouterr().out
    trainings = sum(hours_of(told, name) for name in ("lora", "reward", "reward_eval", "ppo"))
    expected = 2 * trainings + 5 / 3 * hours_of(told, "evaluate")
    assert hours_of(told, "whole sweep") == pytest.approx(expected, rel=0.001)
    # QLoRA has the operations of LoRA; of 12 models' answers the base model's are made once.
    assert totals["lora,qlora", 3] == pytest.approx(6 * one[0] + 7 / 2 * one[1], rel=0.001)


@pytest.mark.usefixtures("_here")
def test_a_sweeps_plan_tells_all_trainings(capsys: pytest.CaptureFixture[str]) -> None:
    """Two methods with three seeds: six trainings, each as large as its method's."""
    words = ["--model", "model", "--compare", "sft,freeze", "--gpu", "80", "--yes"]
    assert main(["new", "talks.json", *words]) == 0
    plan = plan_sweep(draft_recipe("talks.yaml"))
    folder = Path("runs/talks")
    steps = [steps_of(member, folder / "members" / member.name) for member in plan.members]
    (line,) = in_all(plan, steps, folder, lambda: replace(PROCESSOR, flops=1e6))
    assert "for at most 6 different trainings alone" in line
    assert "curation and evaluation are not counted" in line
    capsys.readouterr()
    assert main(["sweep", "talks.yaml", "--dry-run"]) == 0
    assert "for at most 6 different trainings alone" in capsys.readouterr().out
    assert main(["recipe", "explain", "talks.yaml", "--gpu", "80"]) == 0
    told = capsys.readouterr().out
    found = re.search(r"([\d,]+) rows of ([\d,]+) tokens on average, 3 epochs", told)
    assert found
    tokens = 3 * int(found[1]) * int(found[2])
    shape = Shape(32, 2, 48, 4, 32, 16, 320)
    facts = ModelFacts("m", "llama", shape, shape.parameters, "config")
    size = Load(longest=256, on_cpu=True)
    machine = replace(PROCESSOR, flops=1e6)
    each = seconds_of(facts, size, tokens, machine) or 0
    minutes = re.search(r"about ([\d.]+) (min|h)", line)
    assert minutes
    told_seconds = float(minutes[1]) * {"min": 60, "h": 3600}[minutes[2]]
    assert told_seconds == pytest.approx(6 * each, rel=0.15)
    assert Plan(int(found[1]), int(found[2]), 3, 1).tokens == tokens


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize("price", ["-3", "0", "nan", "inf", "much"])
def test_a_price_is_above_nothing(price: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["new", "talks.json", "--model", "model", "--gpu", "h100", f"--price={price}"])
    assert ended.value.code == 2
    assert f"Argument --price: '{price}' is no number above 0" in capsys.readouterr().err


@pytest.mark.usefixtures("_here")
def test_no_money_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(["new", "talks.json", "--model", "model", "--price", "2", "--yes"]) == 0
    told = capsys.readouterr().out
    assert "$" not in told
    assert "no GPU to pay for" in told


# --- the rows that a recipe trains on --------------------------------------------------------

SFT = {"model": "model", "data": ["curate/train.jsonl"], "validation": {"fraction": 0}}
ROWS = re.compile(r"([\d,]+) rows of [\d,]+ tokens on average")


def explained(capsys: pytest.CaptureFixture[str], **recipe: Any) -> str:
    """The plan that `recipe explain` prints of a recipe."""
    Path("r.yaml").write_text(yaml.safe_dump({"name": "r", **recipe}), encoding="utf-8")
    assert main(["recipe", "explain", "r.yaml", "--gpu", "80"]) == 0
    return capsys.readouterr().out.split("# plan")[1]


def rows_in(text: str) -> list[int]:
    return [int(found.replace(",", "")) for found in ROWS.findall(text)]


@pytest.mark.usefixtures("_here")
def test_a_limit_takes_its_share_of_the_repeats(capsys: pytest.CaptureFixture[str]) -> None:
    """Every third of 600 rows repeats the one before it, and so 50 of the first 150 do."""
    plain = json.loads(share_gpt(Path("talks.json"), 400).read_text(encoding="utf-8"))
    rows = [row for n, one in enumerate(plain) for row in [one] * (1 + n % 2)]
    Path("talks.json").write_text(json.dumps(rows), encoding="utf-8")
    source = {"path": "talks.json", "limit": 150}
    curate = {"sources": [source], "dialogues": {"max_tokens": 300}}
    different = len({json.dumps(row) for row in rows[:150]})
    assert rows_in(explained(capsys, curate=curate, train={"sft": SFT})) == [different]


@pytest.mark.usefixtures("_here")
def test_dialogues_are_split_by_the_counter_that_curation_has(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without `dialogues.tokenizer` that is an estimate, of far fewer tokens than this model's."""
    long_talks(Path("long.json"), 40)
    curate = {"sources": [{"path": "long.json"}], "dialogues": {"max_tokens": 120}}
    recipe = {"curate": curate, "train": {"sft": SFT}}
    (before,) = rows_in(explained(capsys, **recipe))
    assert main(["curate", "--recipe", "r.yaml"]) == 0
    written = Path("runs/r/curate/train.jsonl").read_text(encoding="utf-8").splitlines()
    capsys.readouterr()
    assert before == len(written) > 40
    assert rows_in(explained(capsys, **recipe)) == [before]


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize(
    ("preferences", "rows", "said"),
    [
        # Of each a twentieth is set aside.
        ({"eval_count": 20}, [76, 19], None),
        ({"eval_count": 20, "count": 40}, [38, 19], None),
        ({"eval_count": 500}, [95], "no pair is left for curate/preferences.jsonl"),
        ({"eval_count": 0}, [95], "no pair is left for curate/preferences_eval.jsonl"),
    ],
)
def test_pairs_are_divided_as_far_as_they_go(
    preferences: dict[str, int],
    rows: list[int],
    said: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    comparisons(Path("pairs.jsonl"), 100)
    curate = {"sources": [{"path": "pairs.jsonl"}], "preferences": preferences}
    reward = {"model": "model", "validation_fraction": 0.05}
    told = explained(capsys, curate=curate, train={"reward": reward, "reward_eval": reward})
    assert rows_in(told) == rows
    left = f"there are 100, and preferences.eval_count is {preferences['eval_count']}"
    assert (f"{said}: {left}" in told) if said else ("no pair is left" not in told)


@pytest.mark.usefixtures("_here")
def test_pairs_that_are_still_to_be_made_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the stage `pairs`: before curation, after it, and no more once they are there."""
    curate = {"sources": [{"path": "pairs.jsonl"}], "pairs": {"eval_prompts": 0}}
    train = {"sft": SFT, "reward": {"model": "model", "validation_fraction": 0.05}}
    said = "not counted: pairs/preferences.jsonl, which the stage pairs has yet to make"
    told = explained(capsys, curate=curate, train=train)
    assert said in told and rows_in(told) == [38]
    run = Path("runs/r")
    for stage, count in (("curate", 20), ("pairs", 40)):
        (run / stage).mkdir(parents=True)
        comparisons(run / stage / "preferences.jsonl", count)
        told = explained(capsys, curate=curate, train=train)
        assert (said in told) == (stage == "curate")
    assert rows_in(told) == [57]


@pytest.mark.usefixtures("_here")
def test_a_file_that_is_missing_is_told_and_the_others_count(
    capsys: pytest.CaptureFixture[str],
) -> None:
    share_gpt(Path("more.json"), 25)
    reward = {"model": "model", "validation_fraction": 0.05, "pairs": ["pairs.jsonl", "gone.jsonl"]}
    curate = {"sources": [{"path": "talks.json"}]}
    sft = {**SFT, "data": ["more.json", "lost.json"]}
    told = explained(capsys, curate=curate, train={"sft": sft, "reward": reward})
    assert rows_in(told) == [25, 38]
    for name in ("gone.jsonl", "lost.json"):
        assert f"not counted: {name}, which is not there" in told
    assert "before curation" not in told
    # Beside a file that is there, curation's sources stand for what it has yet to write.
    sft = {**SFT, "data": ["more.json", "curate/train.jsonl"]}
    told = explained(capsys, curate=curate, train={"sft": sft})
    assert rows_in(told) == [25 + 60]
    assert "rows as they are before curation:" in told and "not counted" not in told
    # A limit holds for each of them.
    told = explained(capsys, curate=curate, train={"sft": {**sft, "limit": 30}})
    assert rows_in(told) == [25 + 30]
