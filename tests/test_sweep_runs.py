"""Sweeps with real workers and real, tiny stages: the same results as single runs, whatever
happens meanwhile."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_server import FakeServer

from espalier.cli import main
from espalier.files import hash_file, read_json
from espalier.sweep_file import SweepFile, read_sweep
from espalier.train.monitor import TIMINGS

WORDS = ("maple", "river", "clock", "bread", "kite", "salt", "owl", "ferry", "枫树", "河流", "时钟")
TWO = {"train.sft.learning_rate": [1e-2, 1e-4]}
# Several commands one after the other, each of which loads torch; more where others work too.
pytestmark = pytest.mark.timeout(1200)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def write_rows(path: Path, count: int = 36) -> None:
    rows = [
        {"instruction": f"Say {WORDS[n % len(WORDS)]} {n} times.", "input": "",
         "output": f"{WORDS[n % len(WORDS)]} " * (1 + n % 3) + str(n)}
        for n in range(count)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def curation(folder: Path, **sweep: Any) -> Path:
    """A recipe that only curates: its stages take a moment, and need no torch."""
    write_rows(folder / "rows.jsonl")
    recipe = {
        "name": "s",
        "curate": {"sources": [{"kind": "file", "path": "rows.jsonl"}], "holdout": {"count": 2}},
        "sweep": sweep or {"over": {"curate.holdout.count": [2, 3]}},
    }
    path = folder / "s.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path


def training(folder: Path, **sweep: Any) -> Path:
    """A recipe with a tiny base model, SFT and an evaluation."""
    write_rows(folder / "rows.jsonl")
    recipe = {
        "name": "s",
        "curate": {"sources": [{"kind": "file", "path": "rows.jsonl"}], "holdout": {"count": 6}},
        "train": {
            "base": {"texts": 200, "vocabulary": 320, "steps": 3, "hidden": 16, "layers": 1,
                     "heads": 2, "ffn": 24, "max_positions": 128},
            "sft": {"epochs": 1, "minibatch": 8, "max_length": 96, "precision": "fp32"},
        },
        "evaluate": {
            "models": [{"name": "base", "stage": "base"}, {"name": "sft", "stage": "sft"}],
            "sampling": {"max_tokens": 3}, "resamples": 100, "permutations": 100,
        },
        "sweep": sweep
        or {"over": {"train.sft.learning_rate": [1e-2, 1e-4]}, "seeds": 2,
            "reseed": ["train.sft.seed"]},
    }  # fmt: skip
    path = folder / "s.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path


def start(recipe: Path, *options: str, run: str = "s") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "espalier.cli", "sweep", recipe.name, "--run", run, *options],
        cwd=recipe.parent,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=280)
    return process.returncode, said


def sweep(recipe: Path, *options: str, run: str = "s") -> tuple[int, str]:
    return finish(start(recipe, *options, run=run))


def results(folder: Path) -> dict[str, str]:
    """What the files of a run say, without what differs from call to call: times, pages."""
    found = {}
    for stage in sorted(path for path in folder.iterdir() if path.is_dir()):
        if stage.name.startswith(".") or stage.name in ("journals", "data_report", "report"):
            continue
        for path in sorted(stage.rglob("*")):
            parts = path.relative_to(stage).parts
            hidden = any(part.startswith(".") for part in parts) or "tensorboard" in parts
            if path.is_file() and not hidden and "journal" not in parts:
                found[f"{stage.name}/{'/'.join(parts)}"] = content(path)
    return found


def content(path: Path) -> str:
    if path.name == "manifest.json":
        kept = read_json(path)
        return json.dumps([kept["fingerprint"], sorted(kept["outputs"])])
    if path.name == "metrics.jsonl" or path.parent.name == "answers":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        timed = TIMINGS | {"seconds"}
        return json.dumps([{k: v for k, v in line.items() if k not in timed} for line in lines])
    return hash_file(path)


def assert_same(one: Path, other: Path) -> None:
    """The same files with the same content, in both runs."""
    ours, theirs = results(one), results(other)
    assert "evaluate/scores.parquet" in ours and "sft/model/model.safetensors" in ours
    assert [name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)] == []


def manifests(folder: Path) -> dict[str, str]:
    """When each shared stage was finished, by its folder."""
    return {
        path.parent.name: f"{read_json(path)['finished']} {path.stat().st_mtime_ns}"
        for path in (folder / "shared").glob("*/manifest.json")
    }


def statuses(folder: Path) -> list[str]:
    return [member.status for member in read_sweep(folder).members]


# --- with a moment's work --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.ci_slice
def test_a_sweep_runs_resumes_and_grows(tmp_path: Path) -> None:
    recipe = curation(tmp_path)
    code, said = sweep(recipe)
    assert code == 0, said
    assert "2 members: 2 done" in said and "\x1b" not in said
    made = manifests(tmp_path / "runs/s")
    assert len(made) == 2
    assert (tmp_path / "runs/s/comparison.html").is_file()
    members = read_sweep(tmp_path / "runs/s").members
    for member, count in zip(members, (2, 3), strict=True):
        run = tmp_path / "runs/s/members" / member.name
        assert (run / "curate").readlink() == Path("../..") / member.stages["curate"]
        assert len((run / "curate/eval.jsonl").read_text().splitlines()) == count
        assert "curate: done" in (run / "output.log").read_text()
    # The same again, with more of it: what is there stays as it is.
    code, said = sweep(recipe, "--over", "curate.holdout.count=3,2,4", "--processes", "2")
    assert code == 0, said
    assert said.count("up to date") == 2 and "[2, 3] → [3, 2, 4]" in said
    later = manifests(tmp_path / "runs/s")
    assert len(later) == 3 and made.items() <= later.items()
    # One that was made by a sweep is a run like any other.
    code, said = finish(
        subprocess.Popen(
            [sys.executable, "-m", "espalier.cli", "run",
             f"runs/s/members/{members[0].name}/recipe.resolved.yaml", "--runs-dir",
             "runs/s/members", "--run", members[0].name, "--stage", "curate"],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
    )  # fmt: skip
    assert (code, said) == (0, "curate: up to date\n")


@pytest.mark.slow
def test_members_that_fail_are_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"instruction": 3}\n')
    source = [{"kind": "file", "path": "rows.jsonl"}]
    recipe = curation(
        tmp_path,
        variants={
            "good": {},
            "missing": {"curate.sources": [{"kind": "file", "path": "nowhere.jsonl"}]},
            "bad": {"curate.sources": [*source, {"kind": "file", "path": "bad.jsonl"}]},
            "also-good": {"curate.holdout.count": 3},
        },
    )
    code, said = sweep(recipe)
    assert code == 1
    assert statuses(tmp_path / "runs/s") == ["done", "failed", "failed", "done"]
    failed = [m for m in read_sweep(tmp_path / "runs/s").members if m.status == "failed"]
    assert "nowhere.jsonl" in str(failed[0].error) and failed[0].stage == "curate"
    assert "bad.jsonl" in str(failed[1].error) and "line 1" in str(failed[1].error)
    assert "Traceback" not in said and "4 members: 2 done, 2 failed" in said
    write_rows(tmp_path / "nowhere.jsonl")
    bad.unlink()
    write_rows(bad, 5)
    code, said = sweep(recipe)
    assert code == 0, said
    assert statuses(tmp_path / "runs/s") == ["done"] * 4


@pytest.mark.slow
def test_a_second_process_is_refused_and_another_sweep_is_not_disturbed(tmp_path: Path) -> None:
    recipe = training(tmp_path, over=TWO)
    first, other = start(recipe), start(recipe, run="t")
    lock = tmp_path / "runs/s/.locks/sweep.lock"
    while not lock.is_file() or not lock.read_text():
        assert first.poll() is None
        time.sleep(0.05)
    second = start(recipe)
    code, said = finish(second)
    assert code == 1
    assert f"Another process (pid {first.pid}) is working on the sweep in runs/s" in said
    for process in (first, other):
        code, said = finish(process)
        assert code == 0, said
    for member in read_sweep(tmp_path / "runs/s").members:
        place = f"members/{member.name}"
        assert_same(tmp_path / "runs/s" / place, tmp_path / "runs/t" / place)


@pytest.mark.slow
def test_ctrl_c_ends_all_workers_and_the_same_command_goes_on(tmp_path: Path) -> None:
    recipe = training(tmp_path, over=TWO)
    process = start(recipe, "--processes", "2")
    while not list(tmp_path.glob("runs/s/shared/base-*/*")):
        assert process.poll() is None
        time.sleep(0.05)
    children = workers_of(process.pid)
    assert children
    process.send_signal(signal.SIGINT)
    code, said = finish(process)
    assert code == 130 and "interrupted" in said and "Traceback" not in said
    assert not any(running(pid) for pid in children)
    assert set(statuses(tmp_path / "runs/s")) <= {"waiting", "done"}
    # What was under way counts among the hours.
    assert sum(member.seconds for member in read_sweep(tmp_path / "runs/s").members) > 0
    code, said = sweep(recipe, "--processes", "2")
    assert code == 0, said


def workers_of(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.is_file() and ") Z " not in stat.read_text()


@pytest.mark.slow
def test_a_killed_worker_is_told_of_and_replaced(tmp_path: Path) -> None:
    recipe = training(tmp_path, over=TWO)
    process = start(recipe)
    while not list(tmp_path.glob("runs/s/shared/base-*/*")):
        assert process.poll() is None
        time.sleep(0.05)
    for pid in workers_of(process.pid):
        os.kill(pid, signal.SIGKILL)
    code, said = finish(process)
    assert code == 1
    assert "killed (SIGKILL); look for a lack of memory" in said
    assert statuses(tmp_path / "runs/s") == ["failed", "done"]


# --- the same results ------------------------------------------------------------------------


@pytest.mark.slow
def test_sharing_changes_nothing(tmp_path: Path) -> None:
    """Each member's files are those of `espalier run` with the member's recipe, byte by byte."""
    recipe = training(tmp_path, over=TWO)
    code, said = sweep(recipe)
    assert code == 0, said
    folder = tmp_path / "runs/s"
    swept = read_sweep(folder)
    assert ran_once(folder, swept) == {"curate": 1, "base": 1, "sft": 2, "evaluate": 2}
    # The last member: its data and its base model were made for another.
    member = swept.members[-1]
    made = folder / "members" / member.name
    alone = subprocess.run(
        [sys.executable, "-m", "espalier.cli", "run", f"{made}/recipe.resolved.yaml",
         "--runs-dir", "alone", "--run", member.name],
        cwd=tmp_path, env=ENVIRONMENT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    assert_same(made, tmp_path / "alone" / member.name)


def ran_once(folder: Path, swept: SweepFile) -> dict[str, int]:
    """How many times each stage ran: every shared folder has one manifest, and one beginning."""
    counts: dict[str, int] = {}
    logs = "".join(path.read_text() for path in folder.glob("members/*/output.log"))
    for name in sorted({at for member in swept.members for at in member.stages.values()}):
        stage = Path(name).name.rpartition("-")[0]
        counts[stage] = counts.get(stage, 0) + 1
        assert (folder / name / "manifest.json").is_file()
    for stage, count in counts.items():
        assert len(re.findall(rf"^{stage}: running", logs, flags=re.MULTILINE)) == count
    return counts


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(tmp_path: Path) -> None:
    """kill -9 of the command, at moments of a fixed seed, until a call comes to the end."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for place in (whole, killed):
        place.mkdir()
        training(place)
    code, said = sweep(whole / "s.yaml")
    assert code == 0, said
    rng = random.Random(7)
    finished: dict[str, str] = {}
    kills = 0
    for wait in (2.0, 4.0, 6.0, 8.0, 12.0, 18.0):
        process = start(killed / "s.yaml", "--processes", "2")
        try:
            process.communicate(timeout=wait * rng.uniform(0.6, 1.4))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            # What was finished before stays as it is: it is not made again.
            now = manifests(killed / "runs/s")
            assert finished.items() <= now.items()
            finished = now
    assert kills >= 2
    code, said = sweep(killed / "s.yaml", "--processes", "2")
    assert code == 0, said
    assert finished.items() <= manifests(killed / "runs/s").items()
    assert statuses(killed / "runs/s") == ["done"] * 4
    one, other = read_sweep(whole / "runs/s"), read_sweep(killed / "runs/s")
    assert [m.stages for m in one.members] == [m.stages for m in other.members]
    for member in one.members:
        place = Path("runs/s/members") / member.name
        assert_same(whole / place, killed / place)


# --- what was paid for -----------------------------------------------------------------------


def asking(folder: Path, url: str, **sweep: Any) -> Path:
    """A recipe that evaluates one API model on twelve prompts."""
    write_rows(folder / "rows.jsonl", 12)
    api = {"engine": "openai", "model": "m", "base_url": url, "concurrency": 2}
    evaluate = {
        "set": "rows.jsonl", "models": [{"name": "api", "api": api}],
        "resamples": 100, "permutations": 100, "sampling": {"max_tokens": 8},
    }  # fmt: skip
    recipe = {"name": "s", "evaluate": evaluate, "sweep": sweep}
    path = folder / "s.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path


@pytest.mark.slow
def test_members_pay_once_for_the_same_answers(tmp_path: Path) -> None:
    with FakeServer() as server:
        recipe = asking(tmp_path, server.url, over={"evaluate.resamples": [100, 200, 300]})
        code, said = sweep(recipe, "--processes", "2")
        assert code == 0, said
        assert len(list(tmp_path.glob("runs/s/shared/evaluate-*/summary.json"))) == 3
        assert len(server.requests) == 12 and set(server.answered.values()) == {1}
        journals = list(tmp_path.glob("runs/s/journals/evaluate/store/*.journal.jsonl"))
        assert len(journals) == 1


@pytest.mark.slow
def test_a_budget_holds_for_all_members_together(tmp_path: Path) -> None:
    with FakeServer() as server:
        over = {"evaluate.sampling.max_tokens": [4, 5, 6]}
        recipe = asking(tmp_path, server.url, over=over)
        code, said = sweep(recipe, "--processes", "2", "--set", "budget.requests=18")
        assert code == 1
        assert "The budget is reached" in said and "18 of 18 requests" in said
        assert sorted(statuses(tmp_path / "runs/s")) == ["done", "failed", "failed"]
        assert len(server.requests) == 18
        # More may be spent: what was answered is not asked again.
        code, said = sweep(recipe, "--processes", "2", "--set", "budget.requests=36")
        assert code == 0, said
        assert len(server.requests) == 36


# --- the command line ------------------------------------------------------------------------


def test_a_dry_run_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = curation(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", "s.yaml", "--seeds", "2", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "4 members in runs/s" in said
    assert "at most 8 stage runs instead of 8: curate 4/4, data_report 4/4" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", recipe.name]


def test_validating_a_recipe_also_holds_its_sweep_against_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    curation(tmp_path, over={"curate.holdout.count": [2, 3]}, seeds=2)
    monkeypatch.chdir(tmp_path)
    assert main(["recipe", "validate", "s.yaml"]) == 0
    assert capsys.readouterr().out.strip().endswith("; 4 members")
    # A section that says only how a sweep of the command line is answered varies nothing itself.
    curation(tmp_path, seeds=1)
    assert main(["recipe", "validate", "s.yaml"]) == 0
    assert "members" not in capsys.readouterr().out
    curation(tmp_path, over={"curate.holdout.count": [2, 3]}, answer={"metric": "x", "model": "m"})
    assert main(["recipe", "validate", "s.yaml"]) == 2
    assert "evaluate" in capsys.readouterr().err


def test_more_draws_than_points_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    curation(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", "s.yaml", "--draws", "5", "--seeds", "2", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "5 were asked for, of 2 different points; all of them run" in said
    assert "4 members in runs/s" in said
    assert main(["sweep", "s.yaml", "--draws", "2", "--dry-run"]) == 0
    assert "asked for" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--over", "curate.holdot.count=1"], "did you mean 'holdout'"),
        (["--over", "curate.holdout.count=x"], "valid integer"),
        (["--over", "curate.holdout.count="], "has no value"),
        (["--over", "curate.holdout.count=1..9"], "say with `draws` how many"),
        (["--draws", "2", "--set", "sweep.over={}"], "draws from `over`, which is empty"),
        (["--seeds", "0"], "one repeat at least"),
        (["--run", "taken"], "a run that is no sweep"),
    ],
)
def test_wrong_commands_end_in_one_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    curation(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/taken/sft").mkdir(parents=True)
    assert main(["sweep", "s.yaml", *options]) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
