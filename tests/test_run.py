"""Run folders: fingerprints, resume, changed stages, locks, atomic files."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from espalier.errors import EspalierError, InputError, StageError
from espalier.files import atomic_path, atomic_write_json, exclusive, hash_path, read_json
from espalier.run import Shared, StageContext, StageRunner, execute, planned_outcome


class Options(BaseModel):
    steps: int = 3
    rate: float = 0.5


class Stage:
    """A small stage that copies its input and counts its calls."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.calls = 0
        self.fail = False

    def inputs(self, context: StageContext) -> Mapping[str, Path]:
        return {"source": self.source}

    def run(self, context: StageContext) -> Mapping[str, Any]:
        self.calls += 1
        (context.folder / "part.txt").write_text("begun")
        if self.fail:
            raise StageError("The stage broke.")
        (context.folder / "result.txt").write_text(self.source.read_text())
        return {"rows": 1}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    source = tmp_path / "source.txt"
    source.write_text("one")
    return Stage(source)


def go(stage: Stage, tmp_path: Path, options: Options | None = None) -> str:
    runner = StageRunner("espalier.files", ("seed",), stage.inputs, stage.run)
    return execute(context(tmp_path, options), runner)


def context(tmp_path: Path, options: Options | None = None) -> StageContext:
    run = tmp_path / "runs" / "x"
    return StageContext("demo", run, run / "demo", options or Options(), Shared(name="x"))


def test_unchanged_stage_is_up_to_date(stage: Stage, tmp_path: Path) -> None:
    assert go(stage, tmp_path) == "done"
    manifest = read_json(tmp_path / "runs/x/demo/manifest.json")
    assert manifest["counts"] == {"rows": 1}
    assert manifest["outputs"] == {"part.txt": 5, "result.txt": 3}
    assert manifest["inputs"]["source"]["sha256"] == hash_path(stage.source)
    assert go(stage, tmp_path) == "up to date"
    assert stage.calls == 1


@pytest.mark.parametrize("what", ["option", "input", "output"])
def test_a_change_runs_it_again(
    stage: Stage, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    go(stage, tmp_path)
    options = None
    if what == "option":
        options = Options(steps=4)
    elif what == "input":
        stage.source.write_text("two")
    else:
        (tmp_path / "runs/x/demo/result.txt").unlink()
    assert go(stage, tmp_path, options) == "done"
    assert stage.calls == 2
    said = capsys.readouterr().out
    expected = {
        "option": "changed: options.steps: 3 → 4",
        "input": "changed: inputs.source has other content",
        "output": "outputs are missing",
    }
    assert expected[what] in said


def test_a_changed_stage_keeps_the_old_result_and_the_journal(stage: Stage, tmp_path: Path) -> None:
    go(stage, tmp_path)
    folder = tmp_path / "runs/x/demo"
    (folder / "journal").mkdir()
    (folder / "journal" / "answers.jsonl").write_text("paid")
    go(stage, tmp_path, Options(rate=0.1))
    kept = list((tmp_path / "runs/x/superseded").iterdir())
    assert [(item / "result.txt").read_text() for item in kept] == ["one"]
    assert (folder / "journal" / "answers.jsonl").read_text() == "paid"


def test_unfinished_stage_resumes(stage: Stage, tmp_path: Path) -> None:
    stage.fail = True
    with pytest.raises(StageError):
        go(stage, tmp_path)
    folder = tmp_path / "runs/x/demo"
    assert not (folder / "manifest.json").exists()
    assert (folder / "part.txt").read_text() == "begun"
    runner = StageRunner("espalier.files", ("seed",), stage.inputs, stage.run)
    assert planned_outcome(context(tmp_path), runner) == "to resume"
    stage.fail = False
    assert go(stage, tmp_path) == "done"
    assert not (folder / "state.json").exists()


def test_a_stage_with_failed_requests_is_not_up_to_date(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = stage.run
    failed = [2]

    def run(context: StageContext) -> Mapping[str, Any]:
        return {**done(context), "failed": failed[0]}

    stage.run = run  # type: ignore[method-assign]
    runner = StageRunner("espalier.files", ("seed",), stage.inputs, stage.run)
    assert go(stage, tmp_path) == "done"
    assert "2 requests failed" in planned_outcome(context(tmp_path), runner)
    failed[0] = 0
    assert go(stage, tmp_path) == "done" and stage.calls == 2
    assert "2 requests failed; they are asked for once more" in capsys.readouterr().out
    assert go(stage, tmp_path) == "up to date" and stage.calls == 2


def test_missing_input_is_named(stage: Stage, tmp_path: Path) -> None:
    stage.source.unlink()
    with pytest.raises(InputError, match=r"source\.txt"):
        go(stage, tmp_path)


def _hold(path: str, ready: Any, release: Any) -> None:
    with exclusive(Path(path), "the stage"):
        ready.set()
        release.wait(30)


def test_lock_names_the_holder_and_goes_with_it(tmp_path: Path) -> None:
    mp = multiprocessing.get_context("fork")
    ready, release = mp.Event(), mp.Event()
    holder = mp.Process(target=_hold, args=(str(tmp_path / "lock"), ready, release))
    holder.start()
    ready.wait(30)
    with (
        pytest.raises(EspalierError, match=f"pid {holder.pid}"),
        exclusive(tmp_path / "lock", "the stage"),
    ):
        pass
    holder.kill()
    holder.join()
    with exclusive(tmp_path / "lock", "the stage"):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_atomic_path_leaves_the_old_file_on_an_error(tmp_path: Path) -> None:
    target = tmp_path / "value.json"
    atomic_write_json(target, {"a": 1})

    def broken() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        broken()
    assert json.loads(target.read_text()) == {"a": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["value.json"]


def test_paths_of_a_recipe(tmp_path: Path) -> None:
    here = StageContext("sft", tmp_path, tmp_path / "sft", None, Shared(data="/data"))
    assert here.path("${data}/a.jsonl") == Path("/data/a.jsonl")
    assert here.path("curate/train.jsonl") == tmp_path / "curate/train.jsonl"
    assert here.path("mine/train.jsonl") == Path("mine/train.jsonl")


def test_a_disposable_result_is_replaced_and_ignored_options_change_nothing(
    stage: Stage, tmp_path: Path
) -> None:
    def runner(ignores: tuple[str, ...]) -> StageRunner:
        return StageRunner("espalier.files", (), stage.inputs, stage.run, ignores, disposable=True)

    execute(context(tmp_path), runner(("steps",)))
    assert execute(context(tmp_path, Options(steps=9)), runner(("steps",))) == "up to date"
    assert execute(context(tmp_path, Options(rate=0.1)), runner(("steps",))) == "done"
    assert not (tmp_path / "runs/x/superseded").exists()


def test_a_stage_that_left_nothing_has_nothing_to_set_aside(stage: Stage, tmp_path: Path) -> None:
    def broken(context: StageContext) -> Mapping[str, Any]:
        raise StageError("The stage broke.")

    runner = StageRunner("espalier.files", (), stage.inputs, broken)
    for options in (Options(), Options(steps=4)):
        with pytest.raises(StageError):
            execute(context(tmp_path, options), runner)
    assert not (tmp_path / "runs/x/superseded").exists()
