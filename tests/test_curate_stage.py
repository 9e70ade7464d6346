"""The stage as a whole: its files, what they promise, and that a kill changes nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from espalier.cli import main
from espalier.errors import StageError, UsageError
from espalier.near import JaccardIndex
from espalier.recipe import Recipe, recipe_from
from espalier.running import context_of, run_stage, runner_of
from espalier.stages import stage_named
from espalier.text import normalise, shingles

SMALL: dict[str, Any] = {
    "name": "small",
    "curate": {
        "sources": [
            {"kind": "procedural", "name": "tasks", "count": 260},
            {"kind": "procedural", "name": "comparisons", "count": 120, "use": "preferences"},
            {"kind": "procedural", "name": "rl", "count": 60, "use": "prompts"},
        ],
        "self_instruct": {"target": 10, "requests_per_round": 2},
        "holdout": {"count": 40},
        "preferences": {"count": 90, "eval_count": 30},
    },
}


def lines(path: Path) -> list[dict[str, Any]]:
    # Texts may hold other line separators, which `splitlines` would split at.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def contents(folder: Path) -> dict[str, bytes]:
    """All result files but the manifest, which holds times."""
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in ("manifest.json", "state.json")
    }


def prompt_of(row: dict[str, Any]) -> str:
    turns = row.get("messages") or row["prompt"]
    return next(str(turn["content"]) for turn in reversed(turns) if turn["role"] == "user")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("small")
    assert run_stage("curate", recipe_from(SMALL), run) == "done"
    return run / "curate"


def test_the_files_of_a_run(small: Path) -> None:
    assert len(lines(small / "eval.jsonl")) == 40
    assert len(lines(small / "preferences.jsonl")) == 90
    assert len(lines(small / "preferences_eval.jsonl")) == 30
    training = lines(small / "train.jsonl")
    assert 200 < len(training) < 300
    assert all(row["messages"][-1]["role"] == "assistant" for row in training)
    assert {row["meta"]["language"] for row in training} == {"en", "zh"}
    assert {row["meta"]["source"] for row in training} == {"tasks", "self-instruct"}
    prompts = lines(small / "prompts.jsonl")
    assert all(row["messages"][-1]["role"] == "user" for row in prompts)
    import pyarrow.parquet

    assert pyarrow.parquet.read_table(small / "train.parquet").num_rows == len(training)
    counts = json.loads((small / "manifest.json").read_text(encoding="utf-8"))["counts"]
    assert counts["train"] == len(training)
    assert counts["rejects"] == len(lines(small / "rejects.jsonl"))


def test_no_row_is_lost_and_the_funnel_adds_up(small: Path) -> None:
    funnel = json.loads((small / "funnel.json").read_text(encoding="utf-8"))
    for row in funnel:
        assert row["in"] - row["out"] == sum(row["rejected"].values()), row
    train = [row for row in funnel if row["stream"] == "train"]
    for before, after in pairwise(train):
        assert after["in"] == before["out"]
    assert train[-1]["out"] == len(lines(small / "train.jsonl"))
    rejected = sum(
        count for row in funnel for rule, count in row["rejected"].items() if rule != "held_out"
    )
    assert rejected == len(lines(small / "rejects.jsonl"))
    for reject in lines(small / "rejects.jsonl"):
        assert reject["rule"]
        assert reject["step"]
        assert isinstance(reject["evidence"], str)


def test_nothing_is_near_a_held_out_row(small: Path) -> None:
    held = [prompt_of(row) for row in lines(small / "eval.jsonl")]
    equal = {normalise(prompt) for prompt in held}
    index = JaccardIndex(0.7)
    for prompt in held:
        index.add(prompt, shingles(prompt, 5))
    names = ("train", "prompts", "preferences", "preferences_eval")
    for name in names:
        for row in lines(small / f"{name}.jsonl"):
            assert normalise(prompt_of(row)) not in equal
            assert not index.matches(shingles(prompt_of(row), 5))


def test_truth_is_in_the_evaluation_alone(small: Path) -> None:
    assert all(row["meta"]["reference"] for row in lines(small / "eval.jsonl"))
    assert all(row["messages"][-1]["role"] == "user" for row in lines(small / "eval.jsonl"))
    for name in ("train", "prompts", "preferences", "preferences_eval"):
        for row in lines(small / f"{name}.jsonl"):
            assert "reference" not in row["meta"]
            assert "to_answer" not in row["meta"]


def test_training_prompts_are_distinct_and_the_pair_files_share_none(small: Path) -> None:
    keys = [normalise(prompt_of(row)) for row in lines(small / "train.jsonl")]
    assert len(set(keys)) >= len(keys) - 5  # signs between digits keep some apart
    sides = [
        {normalise(prompt_of(row)) for row in lines(small / f"{name}.jsonl")}
        for name in ("preferences", "preferences_eval")
    ]
    assert not sides[0] & sides[1]


def test_the_card_says_what_it_is(small: Path) -> None:
    card = (small / "card.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: apache-2.0\nlanguage:\n- en\n- zh\n")
    assert "synthetic" in card
    assert "procedural program" in card
    assert "near_held_out" in card or "held-out prompts" in card


def test_a_second_run_is_up_to_date_and_a_fresh_one_is_the_same(
    small: Path, tmp_path: Path
) -> None:
    assert run_stage("curate", recipe_from(SMALL), small.parent) == "up to date"
    assert run_stage("curate", recipe_from(SMALL), tmp_path) == "done"
    assert contents(tmp_path / "curate") == contents(small)


def test_another_seed_gives_other_rows(small: Path, tmp_path: Path) -> None:
    run_stage("curate", recipe_from({**SMALL, "seed": 2}), tmp_path)
    other = {prompt_of(row) for row in lines(tmp_path / "curate" / "eval.jsonl")}
    assert other != {prompt_of(row) for row in lines(small / "eval.jsonl")}


def test_an_unfinished_run_goes_on_from_its_parts(small: Path, tmp_path: Path) -> None:
    """As after a kill: the later parts and their markers are missing, debris is there."""
    run_stage("curate", recipe_from(SMALL), tmp_path)
    folder = tmp_path / "curate"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    (folder / "manifest.json").unlink()
    state = {"stage": "curate", "fingerprint": manifest["fingerprint"]}
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")
    for name in ("train.json", "preferences.json"):
        (folder / ".steps" / name).unlink()
    (folder / "train.parquet").unlink()
    (folder / ".tmp-1-train.jsonl").write_text("{", encoding="utf-8")
    (folder / ".tmp-2").mkdir()
    (folder / ".tmp-2" / "0.feather").write_bytes(b"ARROW1")
    kept = (folder / "self_instruct.jsonl").stat().st_mtime_ns
    assert run_stage("curate", recipe_from(SMALL), tmp_path) == "done"
    assert contents(folder) == contents(small)
    assert (folder / "self_instruct.jsonl").stat().st_mtime_ns == kept


@pytest.mark.slow
def test_kill_at_random_moments_changes_nothing(small: Path, tmp_path: Path) -> None:
    rng = random.Random(11)
    recipe = tmp_path / "small.json"  # JSON is YAML
    recipe.write_text(json.dumps(SMALL), encoding="utf-8")
    command = [
        sys.executable, "-m", "espalier.cli", "run", str(recipe), "--stage", "curate",
        "--runs-dir", str(tmp_path),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    for _ in range(6):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.3, 2.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    assert contents(tmp_path / "small" / "curate") == contents(small)


# --- a user's own file -------------------------------------------------------------------------

THEIRS = [
    {"instruction": "Name a colour.", "input": "", "output": "Red"},
    {"instruction": "name a colour", "input": "", "output": "Blue"},
    {"instruction": "说出一种颜色。", "input": "", "output": "红色"},
    {"instruction": "Translate to Chinese.", "input": "Good morning", "output": "早上好"},
    {"instruction": "Tell me a secret.", "input": "", "output": "I'm sorry, but I can't help."},
    {"instruction": "Say nothing.", "input": "", "output": ""},
]


def write_theirs(folder: Path, *extra: str) -> Path:
    path = folder / "theirs.jsonl"
    body = [json.dumps(row, ensure_ascii=False) for row in THEIRS]
    path.write_text("\n".join([*body, *extra]) + "\n", encoding="utf-8")
    return path


def test_curation_of_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_theirs(tmp_path)
    out = tmp_path / "clean"
    arguments = ["curate", "--input", str(path), "--output", str(out), "--output-format", "alpaca"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "theirs.jsonl: alpaca" in said
    assert "duplicate_prompt 1" in said
    assert str(out / "train.jsonl") in said
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        "train.jsonl", "train.parquet", "train.alpaca.jsonl", "rejects.jsonl", "funnel.json",
        "card.md", "statistics.json", "clusters.jsonl", "manifest.json", "data.html",
    }  # fmt: skip
    assert [row["messages"][-1]["content"] for row in lines(out / "train.jsonl")] == [
        "Red", "红色", "早上好",
    ]  # fmt: skip
    assert sorted(row["rule"] for row in lines(out / "rejects.jsonl")) == [
        "duplicate_prompt", "no_answer", "refusal",
    ]  # fmt: skip
    back = lines(out / "train.alpaca.jsonl")
    assert back[2]["input"] == "Good morning"
    assert back[2]["output"] == "早上好"
    assert main(arguments) == 0
    assert "up to date" in capsys.readouterr().out


def test_bad_rows_stop_or_are_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_theirs(tmp_path, '{"instruction": 3, "output": "x"}', "{broken")
    out = str(tmp_path / "clean")
    assert main(["curate", "--input", str(path), "--output", out]) == 2
    message = capsys.readouterr().err
    assert "line 7" in message
    assert "quarantine" in message
    arguments = ["curate", "--input", str(path), "--output", out, "--on-bad-row", "quarantine"]
    assert main(arguments) == 0
    bad = [r for r in lines(Path(out) / "rejects.jsonl") if r["rule"] == "unreadable"]
    assert [(row["meta"]["line"], row["step"]) for row in bad] == [(7, "read"), (8, "read")]
    assert all(row["text"] for row in bad)


def test_a_file_of_which_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "refusals.jsonl"
    row = {"instruction": "Tell me.", "output": "Sorry, I can't help with that."}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    assert main(["curate", "--input", str(path), "--output", str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    for part in ("kept 0 of 1", "refusal 1", "Tell me.", "curate.filters.refusals"):
        assert part in message
    arguments = ["--output", str(tmp_path / "out"), "--set", "curate.filters.refusals=false"]
    assert main(["curate", "--input", str(path), *arguments]) == 0


def test_options_that_do_not_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["curate"]) == 2
    assert main(["curate", "--output", "x"]) == 2
    assert main(["curate", "--input", "a", "--recipe", "b"]) == 2
    assert main(["curate", "--input", str(tmp_path / "absent.jsonl")]) == 2
    assert "Traceback" not in capsys.readouterr().err


def file_recipe(path: Path, **curate: Any) -> Recipe:
    source = {"kind": "file", "path": str(path), **curate.pop("source", {})}
    return recipe_from({"name": "files", "curate": {"sources": [source], **curate}})


def test_rows_of_a_file_can_be_held_out(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    rows = [{"prompt": f"What is the name of star number {i}?", "completion": f"Star {i}"}
            for i in range(50)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run_stage("curate", file_recipe(path, holdout={"count": 5, "prompts": 4}), tmp_path / "run")
    folder = tmp_path / "run" / "curate"
    held = lines(folder / "eval.jsonl")
    assert len(held) == 5
    assert all(row["meta"]["reference"].startswith("Star ") for row in held)
    further = lines(folder / "prompts.jsonl")
    assert len(further) == 4
    seen = {prompt_of(row) for row in [*held, *further]}
    assert len(seen) == 9
    training = {prompt_of(row) for row in lines(folder / "train.jsonl")}
    assert not seen & training
    funnel = json.loads((folder / "funnel.json").read_text(encoding="utf-8"))
    step = next(row for row in funnel if row["step"] == "held-out prompts")
    assert step["rejected"]["held_out"] == 9


def test_a_test_set_can_be_kept_out(tmp_path: Path) -> None:
    path = write_theirs(tmp_path)
    test_set = tmp_path / "test.jsonl"
    row = {"question_id": 1, "category": "x", "turns": ["NAME a colour!"]}
    test_set.write_text(json.dumps(row) + "\n", encoding="utf-8")
    recipe = file_recipe(path, holdout={"against": [str(test_set)]})
    run_stage("curate", recipe, tmp_path / "run")
    left = lines(tmp_path / "run" / "curate" / "train.jsonl")
    assert "Name a colour." not in {prompt_of(row) for row in left}


def test_a_random_sample_of_a_file_keeps_its_order(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    rows = [{"prompt": f"Question {i}", "completion": f"Answer {i}"} for i in range(100)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = file_recipe(path, source={"limit": 20, "pick": "random"})
    run_stage("curate", recipe, tmp_path / "run")
    taken = [int(prompt_of(row).split()[1]) for row in lines(tmp_path / "run/curate/train.jsonl")]
    assert len(taken) == 20
    assert taken == sorted(taken)
    assert taken != list(range(20))


def test_rows_without_answer_are_answered_on_request(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    rows = [{"question_id": i, "category": "x", "turns": [text]}
            for i, text in enumerate(["What is 12 plus 9?", "What is 3 plus 4?"])]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(StageError, match="no_answer 2"):
        run_stage("curate", file_recipe(path), tmp_path / "a")
    run_stage("curate", file_recipe(path, source={"answer": True}), tmp_path / "b")
    made = lines(tmp_path / "b" / "curate" / "train.jsonl")
    assert made
    assert all(row["meta"]["teacher"] for row in made)
    run_stage("curate", file_recipe(path, source={"use": "prompts"}), tmp_path / "c")
    assert len(lines(tmp_path / "c" / "curate" / "prompts.jsonl")) == 2


def test_a_file_of_pairs_becomes_preferences(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"chosen": f"\n\nHuman: Question {i // 2}?\n\nAssistant: Good {i}.",
         "rejected": f"\n\nHuman: Question {i // 2}?\n\nAssistant: Bad {i}."}
        for i in range(40)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run_stage("curate", file_recipe(path, preferences={"eval_count": 10}), tmp_path / "run")
    folder = tmp_path / "run" / "curate"
    sides = [lines(folder / f"{name}.jsonl") for name in ("preferences", "preferences_eval")]
    assert [len(side) for side in sides] == [30, 10]
    assert not {prompt_of(r) for r in sides[0]} & {prompt_of(r) for r in sides[1]}
    assert not (folder / "train.jsonl").exists()
    with pytest.raises(UsageError, match="preference pairs"):
        run_stage("curate", file_recipe(path, source={"use": "sft"}), tmp_path / "other")


def test_an_unknown_source_to_hold_out_from(tmp_path: Path) -> None:
    recipe = file_recipe(write_theirs(tmp_path), holdout={"count": 1, "sources": ["typo"]})
    with pytest.raises(UsageError, match="typo"):
        run_stage("curate", recipe, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "read", "least"),
    [
        ("self_instruct/t0_50k.jsonl.gz", 55_185, 45_000),
        ("sharegpt/dummy_conversation.json", 500, 300),
        ("belle_zh/zh_seed_tasks.jsonl", 175, 170),
    ],
)
def test_real_files(shared_data: Path, tmp_path: Path, name: str, read: int, least: int) -> None:
    out = tmp_path / "clean"
    assert main(["curate", "--input", str(shared_data / name), "--output", str(out)]) == 0
    funnel = json.loads((out / "funnel.json").read_text(encoding="utf-8"))
    assert funnel[0]["in"] == read
    kept = lines(out / "train.jsonl")
    assert len(kept) >= least
    assert len(kept) + len(lines(out / "rejects.jsonl")) == read


@pytest.mark.slow
@pytest.mark.ci_slice
def test_curation_needs_no_heavy_package(tmp_path: Path) -> None:
    path = write_theirs(tmp_path)
    program = (
        "import sys\n"
        "class Absent:\n"
        "    names = 'torch', 'transformers', 'datasets', 'pandas', 'evaluate', 'accelerate'\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in self.names:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from espalier.cli import main\n"
        f"sys.exit(main(['curate', '--input', {str(path)!r}, '--output', "
        f"{str(tmp_path / 'clean')!r}]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "clean" / "train.jsonl").is_file()


def test_a_folder_with_other_files_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_theirs(tmp_path)
    assert main(["curate", "--input", str(path), "--output", str(tmp_path)]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert main(["curate", "--input", str(path), "--output", str(path)]) == 2
    assert list(tmp_path.iterdir()) == [path]


def test_a_changed_rerun_keeps_the_earlier_result(tmp_path: Path) -> None:
    path = write_theirs(tmp_path)
    out = tmp_path / "clean"
    arguments = ["curate", "--input", str(path), "--output", str(out)]
    assert main(arguments) == 0
    before = (out / "train.jsonl").read_bytes()
    assert main([*arguments, "--set", "curate.dedup.key=none"]) == 0
    assert len(lines(out / "train.jsonl")) == 4
    (kept,) = (tmp_path / ".clean.espalier" / "superseded").iterdir()
    assert (kept / "train.jsonl").read_bytes() == before


def test_the_prompt_texts_count_only_where_the_teacher_reads_them(tmp_path: Path) -> None:
    def names(curate: dict[str, Any]) -> set[str]:
        recipe = recipe_from({"name": "n", "curate": curate})
        stage = stage_named("curate")
        return set(runner_of(stage).inputs(context_of(stage, recipe, tmp_path)))

    sources = [{"kind": "procedural", "count": 5}]
    assert names({"sources": sources, "self_instruct": {}}) >= {"prompts", "seeds: en"}
    assert names({"sources": sources}) == set()


def test_no_input_and_no_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curate"]) == 2
    told = capsys.readouterr().err
    assert "--input FILE" in told and "--recipe FILE" in told


def test_no_prompt_for_rl_is_near_the_evaluation(tmp_path: Path) -> None:
    """Held-out prompts are drawn beside the evaluation, from rows that may resemble it."""
    words = [f"word{number}" for number in range(13)]
    rows = [
        {"instruction": " ".join([*words, f"{group}a", f"{group}b", last]), "output": "fine"}
        for group in range(30)
        for last in ("up", "down")
    ]
    path = tmp_path / "near.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    holdout = {"count": 6, "prompts": 20, "near_threshold": 0.75}
    recipe = recipe_from(
        {"name": "n", "curate": {"sources": [{"path": str(path)}], "holdout": holdout}}
    )
    run_stage("curate", recipe, tmp_path / "run")
    folder = tmp_path / "run" / "curate"
    held = [shingles(prompt_of(row)) for row in lines(folder / "eval.jsonl")]
    for name in ("prompts", "train"):
        found = [shingles(prompt_of(row)) for row in lines(folder / f"{name}.jsonl")]
        assert found
        assert all(len(a & b) < 0.75 * len(a | b) for a in found for b in held)
    step = next(
        row
        for row in json.loads((folder / "funnel.json").read_text(encoding="utf-8"))
        if row["stream"] == "held-out prompts"
    )
    assert step["in"] == 20 and step["rejected"].get("near_held_out", 0) > 0
    assert step["out"] == len(lines(folder / "prompts.jsonl"))
