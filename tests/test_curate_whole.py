"""Everything that curation can do, in one run of the recipe that shows it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from espalier.curate import near_dedup, quality, respond, training
from espalier.files import read_json
from espalier.offline.source import draw_prompts
from espalier.recipe import load_recipe, recipe_from
from espalier.running import run_stage, run_stages
from espalier.text import normalise

ROOT = Path(__file__).resolve().parents[1]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    run_stages(load_recipe(ROOT / "recipes" / "curation.yaml"), folder, ["curate", "data_report"])
    return folder


slow = [pytest.mark.slow, pytest.mark.ci_slice]


class TestTheRecipe:
    pytestmark = slow

    def test_each_generator_gives_training_rows_with_lineage(self, run: Path) -> None:
        rows = lines(run / "curate" / "train.jsonl")
        assert len(rows) == len({row["id"] for row in rows})
        operators = Counter(str(row["meta"].get("operator", "")).split(":")[0] for row in rows)
        for operator in ("respond", "self-instruct", "evolve", "self-chat", "constitution"):
            assert operators[operator], operator
        assert {row["meta"]["language"] for row in rows} == {"en", "zh"}
        assert all(row["meta"].get("group") for row in rows)
        safety = Counter(row["meta"].get("safety_set") for row in rows)
        assert safety["harmful"]
        assert safety["borderline"]
        evolved = [row for row in rows if str(row["meta"].get("operator")).startswith("evolve:")]
        assert all(row["meta"]["parents"] and row["meta"]["round"] >= 1 for row in evolved)
        dialogues = [row for row in rows if row["meta"].get("operator") == "self-chat"]
        assert any(len(row["messages"]) >= 4 for row in dialogues)

    def test_the_funnel_adds_up_and_no_reject_is_lost(self, run: Path) -> None:
        funnel = read_json(run / "curate" / "funnel.json")
        rejects = Counter((r["step"], r["rule"]) for r in lines(run / "curate" / "rejects.jsonl"))
        assert all(r["evidence"] for r in lines(run / "curate" / "rejects.jsonl"))
        told: Counter[tuple[str, str]] = Counter()
        for row in funnel:
            if row["stream"] == "train" and row["step"] != "dialogues":
                assert row["in"] == row["out"] + sum(row["rejected"].values()), row
            for rule, count in row["rejected"].items():
                if rule != "held_out":  # set apart for eval.jsonl, no reject
                    told[row["step"], rule] += count
        assert told == rejects

    def test_no_training_prompt_is_in_the_evaluation(self, run: Path) -> None:
        def prompts(name: str) -> set[str]:
            found = set()
            for row in lines(run / "curate" / name):
                users = [m["content"] for m in row["messages"] if m["role"] == "user"]
                found.add(normalise(users[-1]))
            return found

        held = prompts("eval.jsonl")
        assert len(held) == 40
        assert not held & prompts("train.jsonl")

    def test_selection_keeps_to_its_target_and_the_judges_limit(self, run: Path) -> None:
        rows = lines(run / "curate" / "train.jsonl")
        assert len(rows) == 800
        marks = ("relevance", "accuracy", "completeness", "fluency")
        for row in rows:
            marked = row["meta"]["quality"]
            assert marked["safe"] is True
            if not row["meta"].get("declines"):
                assert sum(marked[name] for name in marks) / 4 >= 2

    def test_rankings_expand_to_pairs_and_revisions_become_pairs(self, run: Path) -> None:
        pairs = lines(run / "curate" / "preferences.jsonl")
        kinds = Counter(pair["meta"]["kind"] for pair in pairs)
        assert kinds["ranking"]
        assert kinds["constitution"]
        held = lines(run / "curate" / "preferences_eval.jsonl")
        users = lambda row: row["prompt"][-1]["content"]  # noqa: E731
        assert not {users(pair) for pair in pairs} & {users(pair) for pair in held}

    def test_the_page_and_the_card_are_there(self, run: Path) -> None:
        page = (run / "data.html").read_text(encoding="utf-8")
        assert "<html" in page
        card = (run / "curate" / "card.md").read_text(encoding="utf-8")
        assert card.startswith("---\n")
        assert "procedural" in card

    def test_a_second_run_does_nothing(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = (run / "curate" / "train.jsonl").stat().st_mtime_ns
        recipe = load_recipe(ROOT / "recipes" / "curation.yaml")
        run_stages(recipe, run, ["curate", "data_report"])
        assert capsys.readouterr().out.count("up to date") == 2
        assert (run / "curate" / "train.jsonl").stat().st_mtime_ns == before


SMALL: dict[str, Any] = {
    "name": "small",
    "teacher": {"engine": "offline"},
    "judge": {"engine": "offline"},
    "curate": {
        "sources": [
            {"kind": "procedural", "name": "tasks", "count": 60},
            {"kind": "safety", "name": "safety", "include": ["borderline"]},
        ],
        "evolve": {"sources": ["tasks"], "limit": 20, "rounds": 2},
        "dedup": {"near": {"threshold": 0.6, "on": "prompt"}},
        "quality": {"judge": {}},
        "selection": {"target": 80},
    },
}


def lines_of(run: Path) -> list[str]:
    return (run / "curate" / "rejects.jsonl").read_text(encoding="utf-8").splitlines()


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.name in ("train.jsonl", "evolved.jsonl", "clusters.jsonl", "funnel.json")
    }


def test_the_result_does_not_depend_on_batches_or_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stage("curate", recipe_from(SMALL), tmp_path / "a")
    wanted = contents(tmp_path / "a" / "curate")
    # Where a later step works in batches, rejects of the steps before it come in another order.
    rejects = sorted(lines_of(tmp_path / "a"))
    assert any('"near_duplicate"' in line for line in rejects)
    monkeypatch.setattr(respond, "BATCH", 7)
    monkeypatch.setattr(respond.batches, "__defaults__", (7,))
    monkeypatch.setattr(quality, "_BATCH", 3)
    asked = []

    def three_threads(config: Any, write: Any) -> Any:
        asked.append(3)
        return near_dedup.near_dedup(config, write, threads=3)

    monkeypatch.setattr(training, "near_dedup", three_threads)
    run_stage("curate", recipe_from(SMALL), tmp_path / "b")
    assert asked
    assert contents(tmp_path / "b" / "curate") == wanted
    assert sorted(lines_of(tmp_path / "b")) == rejects


def test_held_out_rows_are_cleaned_like_training_rows(tmp_path: Path) -> None:
    """A row whose text a step alters is the same row on both sides, and no address stays."""
    path = tmp_path / "rows.jsonl"
    with path.open("w", encoding="utf-8") as handle:
        for number in range(12):
            question = f"Write to user{number}@example.org about the {number} caf\u00c3\u00a9s."
            row = {"instruction": question, "output": f"Dear user, number {number} is open."}
            handle.write(json.dumps(row) + "\n")
    recipe = recipe_from(
        {
            "name": "clean",
            "curate": {
                "sources": [{"path": str(path)}],
                "repair": {},
                "pii": {},
                "dialogues": {"max_tokens": 500},
                "holdout": {"count": 4, "near_threshold": 1.0},
            },
        }
    )
    run_stage("curate", recipe, tmp_path / "run")
    folder = tmp_path / "run" / "curate"
    held, trained = lines(folder / "eval.jsonl"), lines(folder / "train.jsonl")
    assert len(held) == 4
    for name in ("eval.jsonl", "train.jsonl", "rejects.jsonl"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "@example.org" not in text
        assert "\u00c3" not in text
    prompts = [{row["messages"][0]["content"] for row in side} for side in (held, trained)]
    assert not prompts[0] & prompts[1]
    assert len(held) + len(trained) == 12


def test_the_best_scored_of_duplicates_stays(tmp_path: Path) -> None:
    """`keep: score` needs answers and marks first, so the order of the steps changes."""
    path = tmp_path / "rows.jsonl"
    [task] = draw_prompts(1, languages=["en"], families=None, seed=1, exclude=set())
    question, right = task.prompt, task.meta["reference"]
    answers = ["The moon is made of cheese and rather far away.", right]
    with path.open("w", encoding="utf-8") as handle:
        for answer in answers:
            handle.write(json.dumps({"instruction": question, "output": answer}) + "\n")
    recipe = recipe_from(
        {
            "name": "best",
            "curate": {
                "sources": [{"path": str(path)}],
                "dedup": {"key": "prompt", "keep": "score"},
                "quality": {"judge": {"min_mean": 1, "safe": False}},
            },
        }
    )
    run_stage("curate", recipe, tmp_path / "run")
    [kept] = lines(tmp_path / "run" / "curate" / "train.jsonl")
    assert kept["messages"][-1]["content"] == right
    steps = [row["step"] for row in read_json(tmp_path / "run" / "curate" / "funnel.json")]
    assert steps.index("judge's marks") < steps.index("exact duplicates")
    [cluster] = lines(tmp_path / "run" / "curate" / "clusters.jsonl")
    assert cluster["keeper"] == kept["id"]
