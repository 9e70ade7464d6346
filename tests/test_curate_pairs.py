"""The stage `pairs` with a scripted policy: what is compared, kept and dropped."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from espalier.curate import pairs
from espalier.engines import open_engine
from espalier.engines.base import Completion, Engine, EngineSpec, Request, Sampling
from espalier.errors import StageError
from espalier.offline.families import solve
from espalier.offline.source import draw_prompts
from espalier.recipe import recipe_from
from espalier.records import dump_line
from espalier.running import run_stage

RECIPE: dict[str, Any] = {
    "name": "pairs",
    "judge": {"options": {"judge_noise": 0.0}},
    "teacher": {"options": {"style_flaw": 0.0, "style_flaw_rest": 0.0, "error_rate": 0.0}},
    "curate": {
        "sources": [{"kind": "procedural", "count": 1}],
        "pairs": {"prompts": 30, "eval_prompts": 10},
    },
}


class Policy:
    """Answers right the first time and nonsense the second; cut off for every fifth prompt."""

    model = "policy"
    costly = False

    def __init__(self, second: str = "zebra zebra") -> None:
        self.second = second

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        for request in requests:
            solution = solve(request.prompt)
            right = solution.answer if solution is not None else "?"
            yield Completion(self.second if request.sample else right)

    def close(self) -> None:
        pass


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose SFT model is a scripted policy."""
    (tmp_path / "curate").mkdir()
    (tmp_path / "sft" / "model").mkdir(parents=True)
    (tmp_path / "sft" / "model" / "config.json").write_text("{}", encoding="utf-8")
    drawn = draw_prompts(60, seed=3)
    text = "".join(dump_line(row.to_json()) + "\n" for row in drawn)
    (tmp_path / "curate" / "prompts.jsonl").write_text(text, encoding="utf-8")
    use(monkeypatch, Policy())
    return tmp_path


def use(monkeypatch: pytest.MonkeyPatch, policy: Policy) -> None:
    def choose(spec: EngineSpec, **options: Any) -> Engine:
        if spec.engine == "transformers":
            assert spec.model.endswith("sft/model")
            return policy
        return open_engine(spec, **options)

    monkeypatch.setattr(pairs, "open_engine", choose)


def test_wrong_samples_lose_against_the_reference_and_the_right_sample(run: Path) -> None:
    assert run_stage("pairs", recipe_from(RECIPE), run) == "done"
    training = lines(run / "pairs" / "preferences.jsonl")
    evaluation = lines(run / "pairs" / "preferences_eval.jsonl")
    assert len(training) > 25
    assert len(evaluation) > 8
    for pair in [*training, *evaluation]:
        assert pair["rejected"] == "zebra zebra"
        solution = solve(pair["prompt"][0]["content"])
        assert solution is not None
        assert pair["chosen"] == solution.answer
        assert pair["meta"]["kind"] == "policy"
        assert pair["meta"]["judge"]["orders"] == ["chosen", "chosen"]
        assert all(pair["meta"]["judge"]["reasons"])
        assert pair["meta"]["language"] in ("en", "zh")
        assert pair["meta"]["category"]
    sides = [{pair["prompt"][0]["content"] for pair in side} for side in (training, evaluation)]
    assert not sides[0] & sides[1]
    assert len(sides[0]) <= 30
    assert len(sides[1]) <= 10


def test_ties_are_dropped_and_counted(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Policy(second="another zebra"))
    recipe = recipe_from(RECIPE, ["curate.pairs.references=0", "curate.pairs.samples=3"])
    run_stage("pairs", recipe, run)
    (judged,) = json.loads((run / "pairs" / "funnel.json").read_text(encoding="utf-8"))
    made = len(lines(run / "pairs" / "preferences.jsonl")) + len(
        lines(run / "pairs" / "preferences_eval.jsonl")
    )
    assert judged["out"] == made
    assert judged["in"] - judged["out"] == sum(judged["rejected"].values())
    rejects = Counter(row["rule"] for row in lines(run / "pairs" / "rejects.jsonl"))
    assert dict(rejects) == judged["rejected"]


def test_a_model_as_good_as_the_reference_gives_no_pairs(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_from(RECIPE, ["curate.pairs.samples=1"])
    with pytest.raises(StageError, match="No on-policy pair"):
        run_stage("pairs", recipe, run)


def test_too_few_prompts_are_shared_out_with_a_note(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_from(RECIPE, ["curate.pairs.prompts=150", "curate.pairs.eval_prompts=50"])
    run_stage("pairs", recipe, run)
    assert "has 60 of the 200 prompts" in capsys.readouterr().out
    evaluation = {
        pair["prompt"][0]["content"] for pair in lines(run / "pairs" / "preferences_eval.jsonl")
    }
    assert 10 <= len(evaluation) <= 15


def test_a_rerun_after_a_kill_gives_the_same_bytes(run: Path) -> None:
    run_stage("pairs", recipe_from(RECIPE), run)
    folder = run / "pairs"
    before = {p.name: p.read_bytes() for p in folder.glob("*.jsonl")}
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    (folder / "manifest.json").unlink()
    state = {"stage": "pairs", "fingerprint": manifest["fingerprint"]}
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")
    (folder / ".steps" / "pairs.json").unlink()
    (folder / "preferences.jsonl").unlink()
    assert run_stage("pairs", recipe_from(RECIPE), run) == "done"
    assert {p.name: p.read_bytes() for p in folder.glob("*.jsonl")} == before


def test_the_parts_of_a_dialogue_are_on_one_side(run: Path) -> None:
    rows = lines(run / "curate" / "prompts.jsonl")
    for number, row in enumerate(rows):
        row["meta"] |= {"parents": [f"dialogue {number % 20}"], "part": number // 20, "of_parts": 3}
    text = "".join(dump_line(row) + "\n" for row in rows)
    (run / "curate" / "prompts.jsonl").write_text(text, encoding="utf-8")
    run_stage("pairs", recipe_from(RECIPE), run)
    chosen = lines(run / "pairs" / "prompts.jsonl")
    assert len(chosen) == 40
    sides: dict[bool, set[str]] = {True: set(), False: set()}
    for row in chosen:
        sides[row["meta"]["evaluation"]].add(row["meta"]["parents"][0])
    assert sides[True] and sides[False]
    assert not sides[True] & sides[False]
    assert 10 <= sum(row["meta"]["evaluation"] for row in chosen) <= 12
    names = [
        {pair["meta"]["parents"][-1] for pair in lines(run / "pairs" / f"{name}.jsonl")}
        for name in ("preferences", "preferences_eval")
    ]
    assert names[0] and names[1] and not names[0] & names[1]
    assert all(name.startswith("dialogue ") for side in names for name in side)
