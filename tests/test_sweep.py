"""A sweep's books: what is handed to which worker, what is waited for, what a failure costs.

The workers are played here; `tests/test_sweep_runs.py` has real ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from espalier.errors import StageError, UsageError
from espalier.recipe import Draft, recipe_from
from espalier.running import run_stages
from espalier.spending import Meter
from espalier.sweep import Ended, Sweeping, run_sweep
from espalier.sweep_file import Member, SweepFile, read_sweep, write_sweep
from espalier.sweep_folder import unused
from espalier.sweep_members import plan_sweep
from espalier.sweep_plan import counts, steps_of, table
from espalier.sweep_pool import Pool, Reply, _Worker
from espalier.sweep_progress import Board
from espalier.sweep_stage import link
from espalier.terminal import columns

SFT = {"model": "base", "data": ["curate/train.jsonl"]}
RECIPE: dict[str, Any] = {
    "name": "r",
    "curate": {"sources": [{"kind": "file", "path": "rows.jsonl"}]},
    "train": {"base": {}, "sft": SFT, "reward": {}, "reward_eval": {}},
    "evaluate": {"models": [{"name": "sft", "stage": "sft"}]},
    "report": {},
}
Answer = Callable[[Mapping[str, Any]], list[dict[str, Any] | int]]


class Played:
    """Workers that answer by a function of the task; a number is the exit code of a death.

    What is under way together is recorded; answers come in the order of the tasks, one a call.
    """

    def __init__(self, answer: Answer, count: int = 1) -> None:
        self.count = count
        self.answer = answer
        self.open: dict[int, Mapping[str, Any]] = {}
        self.tasks: list[Mapping[str, Any]] = []
        self.slots: list[int] = []
        self.together: list[list[Mapping[str, Any]]] = []
        self.stopped = False

    def send(self, slot: int, task: Mapping[str, Any]) -> None:
        assert slot not in self.open
        json.dumps(task)
        self.open[slot] = task
        self.tasks.append(task)
        self.slots.append(slot)
        self.together.append(list(self.open.values()))

    def wait(self, seconds: float) -> list[Reply]:
        if not self.open:
            return []
        slot = next(iter(self.open))
        task = self.open.pop(slot)
        said = self.answer(task)
        return [Reply(slot, {}, one) if isinstance(one, int) else Reply(slot, one) for one in said]

    def stop(self) -> None:
        self.stopped = True


class Results:
    """Stands for the stages: a result is decided by the stage's section, and those before it."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()

    def folder(self, task: Mapping[str, Any]) -> str:
        recipe = yaml.safe_load(task["recipe"])
        train = recipe["train"]
        decides: list[Any] = [recipe.get("seed", 1), recipe["curate"]]
        for stage in ("base", "sft", "reward", "reward_eval"):
            if task["stage"] in ("curate", "data_report"):
                break
            decides.append(train[stage])
            if task["stage"] == stage:
                break
        digest = abs(hash(json.dumps(decides))) % 10**8
        return f"shared/{task['stage']}-{digest}"

    def __call__(self, task: Mapping[str, Any]) -> list[dict[str, Any] | int]:
        if task["stage"] in ("data_report", "report"):
            return [{"result": "done", "folder": "", "seconds": 1.0}]
        folder = self.folder(task)
        if folder in task["failed"]:
            return [{"result": "failed", "folder": folder, "seconds": 0.0}]
        result = "up to date" if self.made[folder] else "done"
        self.made[folder] += 1
        return [{"at": folder}, {"result": result, "folder": folder, "seconds": 10.0}]


def sweep(
    tmp_path: Path, answer: Answer, *, count: int = 1, hours: float | None = None, **options: Any
) -> tuple[Ended, Played]:
    changed = options.pop("recipe", {})
    over = options or {"over": {"train.sft.epochs": [1, 2]}, "seeds": [1, 2], "reseed": KEPT}
    draft = Draft({**RECIPE, **changed, "sweep": over}, None, {})
    plan = plan_sweep(draft)
    workers = Played(answer, count)
    board = Board(len(plan.members))
    return Sweeping(plan, tmp_path / "s", workers, board, hours).run(), workers


KEPT = ["train.sft.seed"]


def test_equal_stages_are_made_once_and_each_member_has_all(tmp_path: Path) -> None:
    results = Results()
    ended, workers = sweep(tmp_path, results, count=3)
    assert {member.status for member in ended.sweep.members} == {"done"}
    stages = [list(member.stages) for member in ended.sweep.members]
    assert stages == [["curate", "base", "sft", "reward", "reward_eval", "evaluate"]] * 4
    made = Counter(name.split("-")[0] for name in results.made)
    assert made == {
        "shared/curate": 1, "shared/base": 1, "shared/sft": 4, "shared/reward": 4,
        "shared/reward_eval": 4, "shared/evaluate": 4,
    }  # fmt: skip
    # Pages are made for each member; of data and base model, three members take the first's.
    assert ended.ran == 1 + 1 + 4 * 4 + 4 * 2 and ended.shared == 3 + 3
    # While one worker makes a result, no other is sent to make the same.
    for together in workers.together:
        folders = [results.folder(task) for task in together if "report" not in task["stage"]]
        assert len(set(folders)) == len(folders)
    assert max(len(together) for together in workers.together) == 3
    assert read_sweep(tmp_path / "s") == ended.sweep
    assert workers.stopped


def test_a_failed_stage_fails_its_members_alone_and_is_not_tried_for_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = Results()
    tried: list[str] = []

    def answer(task: Mapping[str, Any]) -> list[dict[str, Any] | int]:
        epochs = yaml.safe_load(task["recipe"])["train"]["sft"]["epochs"]
        folder = results.folder(task)
        if task["stage"] == "sft" and epochs == 2 and folder not in task["failed"]:
            tried.append(folder)
            return [{"at": folder}, {"error": "The stage broke.\n  where: here"}]
        return results(task)

    ended, _ = sweep(tmp_path, answer, over={"train.sft.epochs": [1, 2], "evaluate.limit": [5, 6]})
    states = [(m.settings["train.sft.epochs"], m.status, m.stage) for m in ended.sweep.members]
    assert states == [(1, "done", None)] * 2 + [(2, "failed", "sft")] * 2
    first, second = ended.failed
    assert first.error == "The stage broke.\n  where: here"
    assert second.error and second.error.startswith(f"failed for {first.name} already: The stage")
    assert len(tried) == 1
    said = capsys.readouterr().out
    assert "failed at sft: The stage broke." in said and "output.log" in said
    assert read_sweep(tmp_path / "s").members[2].error == first.error


def test_a_killed_worker_costs_its_member_and_the_next_one_tries_once_more(tmp_path: Path) -> None:
    results, deaths = Results(), [-9]

    def answer(task: Mapping[str, Any]) -> list[dict[str, Any] | int]:
        if task["stage"] == "curate" and deaths:
            return [{"at": results.folder(task)}, deaths.pop()]
        return results(task)

    ended, _ = sweep(tmp_path, answer)
    assert [m.status for m in ended.sweep.members] == ["failed", *["done"] * 3]
    assert "killed (SIGKILL)" in str(ended.failed[0].error)

    deaths[:] = [-9, -9]
    again, workers = sweep(tmp_path / "again", answer)
    assert {m.status for m in again.sweep.members} == {"failed"}
    assert "already" in str(again.sweep.members[2].error)
    assert [task["stage"] for task in workers.tasks if not task["failed"]] == ["curate"] * 2


def test_failed_members_are_tried_again_by_the_next_call(tmp_path: Path) -> None:
    results = Results()
    broken = True

    def answer(task: Mapping[str, Any]) -> list[dict[str, Any] | int]:
        if broken and task["stage"] == "reward":
            return [{"at": results.folder(task)}, {"error": "No."}]
        return results(task)

    first, _ = sweep(tmp_path, answer)
    assert len(first.failed) == 4
    broken = False
    second, _ = sweep(tmp_path, answer)
    assert {m.status for m in second.sweep.members} == {"done"}
    assert not any(m.error for m in second.sweep.members)


def test_a_result_in_other_hands_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("espalier.sweep._BUSY_SECONDS", 0.0)
    results, busy = Results(), [2]

    def answer(task: Mapping[str, Any]) -> list[dict[str, Any] | int]:
        if task["stage"] == "base" and busy[0]:
            busy[0] -= 1
            return [{"result": "busy", "folder": results.folder(task), "seconds": 0.0}]
        return results(task)

    ended, _ = sweep(tmp_path, answer)
    assert {m.status for m in ended.sweep.members} == {"done"} and busy == [0]


def test_hours_are_those_of_all_calls_and_begun_members_are_finished(tmp_path: Path) -> None:
    ended, _ = sweep(tmp_path, Results(), hours=100 / 3600)
    states = [member.status for member in ended.sweep.members]
    # 62 s for the first member, 42 s for the second: the third is not begun.
    assert states == ["done", "done", "skipped", "skipped"]
    assert "hours of work are used up" in str(ended.sweep.members[2].error)
    results = Results()
    again, workers = sweep(tmp_path, results, hours=100 / 3600)
    assert {task["member"] for task in workers.tasks} == {m.name for m in again.sweep.members[:2]}


class Clock:
    """Time that passes only where a test says so."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Endless(Played):
    """Workers that never finish; a minute passes a call, until Ctrl-C is pressed."""

    def __init__(self, clock: Clock, minutes: int, file: Path, count: int) -> None:
        super().__init__(lambda task: [], count)
        self.clock, self.minutes, self.file = clock, minutes, file
        self.left = b""

    def wait(self, seconds: float) -> list[Reply]:
        if not self.minutes:
            self.left = self.file.read_bytes()
            raise KeyboardInterrupt
        self.minutes -= 1
        self.clock.now += 60
        return []


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize(("hours", "begun"), [(1.0, False), (1.01, True)])
def test_hours_count_work_that_was_interrupted_or_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool, hours: float, begun: bool
) -> None:
    clock = Clock()
    monkeypatch.setattr("espalier.sweep.time", clock)
    draft = Draft({**RECIPE, "sweep": {"seeds": 3}}, None, {})
    plan, file = plan_sweep(draft), tmp_path / "s" / "sweep.json"
    for minutes in (20, 10):
        workers = Endless(clock, minutes, file, count=2)
        with pytest.raises(KeyboardInterrupt):
            Sweeping(plan, tmp_path / "s", workers, Board(3)).run()
        # A command that is killed writes nothing at its end.
        file.write_bytes(workers.left if killed else file.read_bytes())
        clock.now += 86400
    # Two workers, half an hour.
    played = Played(Results())
    ended = Sweeping(plan, tmp_path / "s", played, Board(3), hours).run()
    assert bool(played.tasks) == begun
    assert ended.sweep.members[-1].status == "skipped"


def test_hours_are_also_those_of_members_that_left_the_definition(tmp_path: Path) -> None:
    # 62 s for the first member, 42 s for the second.
    sweep(tmp_path, Results(), over={"train.sft.epochs": [1, 2]}, seeds=1, reseed=KEPT)
    over = {"train.sft.epochs": [1, 2], "train.sft.max_length": [64]}
    renamed: dict[str, Any] = {"over": over, "reseed": KEPT}
    ended, workers = sweep(tmp_path, Results(), hours=104 / 3600, **renamed)
    assert not workers.tasks and {m.status for m in ended.sweep.members} == {"skipped"}
    assert read_sweep(tmp_path / "s").former_seconds == 104
    ended, workers = sweep(tmp_path, Results(), hours=105 / 3600, **renamed)
    assert {task["member"] for task in workers.tasks} == {ended.sweep.members[0].name}


def test_an_interruption_ends_the_workers_and_leaves_the_books_right(tmp_path: Path) -> None:
    results = Results()

    def answer(task: Mapping[str, Any]) -> list[dict[str, Any] | int]:
        if task["stage"] == "sft":
            raise KeyboardInterrupt
        return results(task)

    draft = Draft({**RECIPE, "sweep": {"seeds": 2}}, None, {})
    workers = Played(answer)
    with pytest.raises(KeyboardInterrupt):
        Sweeping(plan_sweep(draft), tmp_path / "s", workers, Board(2)).run()
    assert workers.stopped
    members = read_sweep(tmp_path / "s").members
    assert [member.status for member in members] == ["waiting", "waiting"]
    assert list(members[0].stages) == ["curate", "base"]


def test_stages_that_ask_a_paid_engine_have_the_journals_to_themselves(tmp_path: Path) -> None:
    api = {"engine": "openai", "model": "m", "base_url": "http://localhost:1/v1"}
    judged = {**RECIPE["evaluate"], "judge": {}}
    _, workers = sweep(tmp_path, Results(), count=3, recipe={"judge": api, "evaluate": judged})
    for together in workers.together:
        asking = [task for task in together if task["stage"] == "evaluate"]
        assert len(asking) <= 1
        assert all(task["store"] == "" for task in asking)
    _, workers = sweep(tmp_path / "free", Results(), count=3)
    stores = {
        (slot, task["store"])
        for slot, task in zip(workers.slots, workers.tasks, strict=True)
        if task["stage"] == "evaluate"
    }
    assert stores == {(0, ""), (1, "1"), (2, "2")}


def test_members_that_pay_and_members_that_do_not_share_no_store(tmp_path: Path) -> None:
    api = {"engine": "openai", "model": "m", "base_url": "http://localhost:1/v1"}
    judged = {"evaluate": {**RECIPE["evaluate"], "judge": {}}}
    variants = {"free": {}, "paid": {"judge": api}, "bounded": {"judge": api, "budget.tokens": 9}}
    _, workers = sweep(tmp_path, Results(), count=3, recipe=judged, variants=variants, seeds=3)
    asked = 0
    for together in workers.together:
        stores = [task["store"] for task in together if task["stage"] == "evaluate"]
        assert len(set(stores)) == len(stores)
        asked += "" in stores
    assert asked


def test_a_worker_that_is_ending_is_given_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said = ['{"error": "x", "fatal": true}', '{"result": "done"}']
    program = "import sys, time; sys.stdin.readline(); print(%r, flush=True); time.sleep(%r)"

    def start(self: Pool, slot: int) -> _Worker:
        command = [sys.executable, "-c", program % (said.pop(0), 0.3)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None and process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        return _Worker(process, process.stdin, process.stdout)

    monkeypatch.setattr(Pool, "_start", start)
    pool = Pool(1, lock=0)
    found: list[Mapping[str, Any]] = []
    for _ in range(2):
        pool.send(0, {})
        before = len(found)
        while len(found) == before:
            found += [reply.said for reply in pool.wait(5)]
    pool.stop()
    assert found == [{"error": "x", "fatal": True}, {"result": "done"}]


def test_a_budget_is_one_for_all_members(tmp_path: Path) -> None:
    journal = tmp_path / "s" / "journals" / "curate" / "journal" / "teacher.jsonl"
    journal.parent.mkdir(parents=True)
    line = {"key": "k", "model": "m", "text": "x", "engine": "openai",
            "usage": {"prompt_tokens": 70, "completion_tokens": 7}}  # fmt: skip
    journal.write_text(json.dumps(line) + "\n")
    for name in ("a", "b"):
        run = tmp_path / "s" / "members" / name
        link(run / "journals", tmp_path / "s" / "journals")
        assert Meter.of_run(run).spent.tokens == 77


# --- worker processes ------------------------------------------------------------------------


class NotStarted(Exception):
    pass


@pytest.mark.parametrize(
    ("given", "count", "seen"),
    [("4,7", 2, ["4", "7"]), ("4,7", 1, ["4,7"]), ("", 2, ["", ""]), ("-1", 2, ["-1", "-1"])],
)
def test_each_worker_has_a_gpu_of_its_own_where_there_are_some(
    monkeypatch: pytest.MonkeyPatch, given: str, count: int, seen: list[str]
) -> None:
    environments: list[dict[str, str]] = []

    def started(command: list[str], *, env: dict[str, str], **options: Any) -> None:
        environments.append(env)
        raise NotStarted

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("espalier.sweep_pool.subprocess.Popen", started)
    pool = Pool(count, lock=0)
    for slot in range(count):
        with pytest.raises(NotStarted):
            pool.send(slot, {})
    assert [one["CUDA_VISIBLE_DEVICES"] for one in environments] == seen
    assert all(("OMP_NUM_THREADS" in one) == (count > 1) for one in environments)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with pytest.raises(UsageError, match="3 processes need 3 GPUs, and there are 2"):
        Pool(3, lock=0)


# --- definitions that change -----------------------------------------------------------------


def test_an_extended_sweep_keeps_what_is_there_and_says_what_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = Results()
    sweep(tmp_path, results, over={"train.sft.epochs": [1, 2]})
    before = set(results.made)
    capsys.readouterr()
    ended, _ = sweep(tmp_path, results, over={"train.sft.epochs": [2, 5]})
    assert {m.status for m in ended.sweep.members} == {"done"}
    said = capsys.readouterr().out
    assert "changed: sweep.over.train.sft.epochs: [1, 2] → [2, 5]" in said
    assert "2 members: 1 new, 1 as before; 1 no longer belong to it" in said
    assert "epochs-2_s1: up to date" in said or "epochs-2_s1: done" in said
    assert before <= set(results.made)
    for name in ("sft-0", "sft-1"):
        (tmp_path / "s" / "shared" / name).mkdir()
    # One that failed half-way has its link, though it is no stage that is done.
    link(tmp_path / "s" / "members" / "epochs-5_s1" / "sft", tmp_path / "s" / "shared" / "sft-1")
    assert unused(tmp_path / "s", ended.sweep) == ["shared/sft-0"]


def test_what_was_done_with_another_recipe_is_not_done(tmp_path: Path) -> None:
    def interrupted(task: Mapping[str, Any]) -> list[dict[str, Any] | int]:
        raise KeyboardInterrupt

    def states_after(**changed: Any) -> list[str]:
        with pytest.raises(KeyboardInterrupt):
            sweep(tmp_path, interrupted, recipe=changed)
        return [member.status for member in read_sweep(tmp_path / "s").members]

    sweep(tmp_path, Results())
    assert states_after() == ["done"] * 4
    assert states_after(report={"language": "zh"}) == ["waiting"] * 4


def test_a_damaged_file_of_the_sweep_is_written_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(tmp_path, Results())
    path = tmp_path / "s" / "sweep.json"
    path.write_text(path.read_text()[:200])
    ended, _ = sweep(tmp_path, Results())
    assert "it is written anew" in capsys.readouterr().out
    assert read_sweep(tmp_path / "s") == ended.sweep


def test_links_of_stages_that_a_member_lost_are_taken_away(tmp_path: Path) -> None:
    run = tmp_path / "s" / "members" / "epochs-1_s1"
    link(run / "ppo", tmp_path / "s" / "shared" / "ppo-0")
    sweep(tmp_path, Results(), over={"train.sft.epochs": [1]})
    assert not (run / "ppo").is_symlink()
    assert (run / "journals").is_symlink()
    assert recipe_from(yaml.safe_load((run / "recipe.resolved.yaml").read_text()))


def test_a_link_is_relative_and_nothing_else_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    link(tmp_path / "a" / "b", tmp_path / "one")
    assert (tmp_path / "a" / "b").readlink() == Path("../one")
    link(tmp_path / "a" / "b", tmp_path / "two")
    assert (tmp_path / "a" / "b").readlink() == Path("../two")
    with pytest.raises(StageError, match="in the place of a sweep's link"):
        link(tmp_path / "one", tmp_path / "two")


def test_runs_and_sweeps_do_not_share_a_folder(tmp_path: Path) -> None:
    draft = Draft({**RECIPE, "sweep": {"seeds": 2}}, None, {})
    (tmp_path / "run" / "curate").mkdir(parents=True)
    with pytest.raises(UsageError, match="a run that is no sweep"):
        run_sweep(plan_sweep(draft), tmp_path / "run")
    write_sweep(tmp_path, SweepFile("r"))
    with pytest.raises(UsageError, match="holds a sweep"):
        run_stages(recipe_from(RECIPE), tmp_path)


def test_the_time_that_is_left_counts_equal_stages_once(tmp_path: Path) -> None:
    plan = plan_sweep(Draft({**RECIPE, "sweep": {"seeds": [1, 2], "reseed": KEPT}}, None, {}))
    seen: list[tuple[list[str], float | None]] = []

    class Watching(Board):
        def draw(self, state: Any) -> None:
            seen.append(state)

    Sweeping(plan, tmp_path / "s", Played(Results()), Watching(2)).run()
    # Until each stage was seen once, nothing is known; data and base model are not made again.
    first = next(left for _, left in seen if left is not None)
    assert all(left is None for _, left in seen[:7])
    assert 4 * 10 + 2 * 1 - 1 <= first <= 4 * 10 + 2 * 1 + 1
    assert seen[-1][1] == 0.0 and not seen[-1][0]
    assert seen[0][0] == []


# --- the plan --------------------------------------------------------------------------------


def test_columns_begin_below_each_other_with_wide_characters() -> None:
    rows = [("member", "训练", "seed"), ("全部权重", "a", "1"), ("LoRA", "冻结前半", "2")]
    assert columns(rows) == [
        "member    训练      seed",
        "全部权重  a         1",
        "LoRA      冻结前半  2",
    ]


def test_the_table_counts_what_is_shared(tmp_path: Path) -> None:
    sweep_ = {"over": {"train.reward.learning_rate": [1e-4, 1e-5]}, "seeds": 2, "reseed": KEPT}
    plan = plan_sweep(Draft({**RECIPE, "sweep": sweep_}, None, {}))
    steps = [steps_of(member, tmp_path) for member in plan.members]
    assert counts(steps) == {
        "curate": (1, 4), "data_report": (4, 4), "base": (1, 4), "sft": (2, 4),
        "reward": (4, 4), "reward_eval": (2, 4), "evaluate": (4, 4), "report": (4, 4),
    }  # fmt: skip
    known = {plan.members[0].name: Member(plan.members[0].name, {}, 1, "failed")}
    text = table(plan, tmp_path / "s", known)
    assert "4 members" in text and "at most 22 stage runs instead of 32" in text
    assert "learning_rate-1e-05_s2" in text and "failed" in text
    assert not (tmp_path / "s").exists()
