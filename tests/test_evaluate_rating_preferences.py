"""Ratings flow back: into the evaluation, out as files, and as pairs into reward training."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from espalier.blind import Shown, mark_item, mark_items, pair_item, pair_items, read_answers
from espalier.cli import main
from espalier.errors import InputError
from espalier.evaluate.evalset import EvalSet, Row
from espalier.evaluate.rating_preferences import Said, preferred, said_of_texts
from espalier.evaluate.ratings import read_ratings
from espalier.formats.read import read_pairs
from espalier.rating_store import FILE, FOLDER, Entry, RatingStore, stored_rows
from espalier.recipe import recipe_from
from espalier.records import Message, PreferencePair
from espalier.running import run_stages

SYSTEM = (Message("system", "be brief"), Message("user", "second?"))
ROWS = (
    Row("q0", (Message("user", "first?"),), None, "en", "colours", {}, ("q0",)),
    Row("q1", SYSTEM, None, "en", "", {}, ("q1",)),
    Row("q2", (Message("user", "第三题？"),), None, "zh", "", {}, ("q2",)),
)
SET = EvalSet("set", "set", "0" * 64, ROWS)
ANSWERS: dict[str, list[str | None]] = {
    "base": ["b0", "same", "b2"],
    "sft": ["s0", "s1", None],
    "ppo": ["p0", "same", "p2"],
}


def lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def said(tmp_path: Path, **files: Sequence[Mapping[str, Any]]) -> Said:
    read = [read_ratings(lines(tmp_path / f"{name}.jsonl", rows)) for name, rows in files.items()]
    return said_of_texts(read, SET, ANSWERS, "base")


def vote(row: str, one: str, other: str, verdict: str) -> dict[str, Any]:
    return {"id": row, "model_a": one, "model_b": other, "verdict": verdict}


def short(pair: PreferencePair) -> tuple[str, str, str]:
    return pair.prompt[-1].content, pair.chosen, pair.rejected


def test_verdicts_of_a_majority_are_pairs_and_ties_are_not(tmp_path: Path) -> None:
    found = said(
        tmp_path,
        ann=[vote("q0", "base", "ppo", "B"), vote("q0", "sft", "ppo", "A"),
             vote("q1", "sft", "ppo", "tie"), vote("q2", "ppo", "base", "A")],
        bo=[vote("q0", "ppo", "base", "A"), vote("q0", "ppo", "sft", "A")],
        cy=[vote("q0", "base", "ppo", "A")],
    )  # fmt: skip
    made = preferred(found, SET)
    assert {short(pair) for pair in made.pairs} == {
        ("first?", "p0", "b0"), ("第三题？", "p2", "b2")
    }  # fmt: skip
    assert (made.ties, made.close) == (2, 0)
    first = next(pair for pair in made.pairs if pair.chosen == "p0")
    assert first.meta["raters"] == 3 and first.meta["preferred"] == pytest.approx(2 / 3, abs=1e-4)
    assert first.meta["parents"] == ["q0"] and first.meta["category"] == "colours"
    assert next(p for p in made.pairs if p.chosen == "p2").meta["language"] == "zh"
    assert {short(pair) for pair in preferred(found, SET, min_agreement=0.7).pairs} == {
        ("第三题？", "p2", "b2")
    }


def test_a_system_turn_stays_a_turn(tmp_path: Path) -> None:
    found = said(tmp_path, ann=[vote("q1", "base", "sft", "B")])
    [pair] = preferred(found, SET).pairs
    assert pair.prompt == SYSTEM and (pair.chosen, pair.rejected) == ("s1", "same")


def test_two_models_that_say_the_same_are_one_pair(tmp_path: Path) -> None:
    item = pair_item(ROWS[1].prompt, "same", "s1")
    found = said(tmp_path, ann=[{"item": item, "verdict": "A"}])
    [pair] = preferred(found, SET).pairs
    assert (pair.chosen, pair.rejected) == ("same", "s1") and pair.meta["raters"] == 1


def test_marks_far_enough_apart_are_pairs_of_the_same_rater(tmp_path: Path) -> None:
    found = said(
        tmp_path,
        ann=[
            {"id": "q0", "model": "base", "accuracy": 1, "fluency": 3, "safety": "pass"},
            {"id": "q0", "model": "sft", "accuracy": 2, "fluency": 3},
            {"id": "q0", "model": "ppo", "accuracy": 5, "safety": "fail"},
        ],
        bo=[{"id": "q2", "model": "base", "accuracy": 1}],
        cy=[{"id": "q2", "model": "ppo", "accuracy": 5}],
    )
    made = preferred(found, SET)
    # Accuracy alone is common to ppo and the others; base and sft differ by (1 + 0) / 2.
    assert {short(pair) for pair in made.pairs} == {
        ("first?", "p0", "b0"), ("first?", "p0", "s0")
    }  # fmt: skip
    assert made.close == 1
    assert {pair.chosen: pair.meta["gap"] for pair in made.pairs} == {"p0": 3.0}
    assert {pair.meta["kind"] for pair in made.pairs} == {"human_marks"}
    assert len(preferred(found, SET, min_gap=0.5).pairs) == 3


def test_a_judged_pair_is_not_made_of_marks_again(tmp_path: Path) -> None:
    rows = [{"id": "q0", "model": "base", "accuracy": 5}, {"id": "q0", "model": "ppo",
            "accuracy": 1}, vote("q0", "base", "ppo", "B")]  # fmt: skip
    [pair] = preferred(said(tmp_path, ann=rows), SET).pairs
    assert pair.chosen == "p0" and pair.meta["kind"] == "human"


def test_ratings_of_texts_outlive_the_models(tmp_path: Path) -> None:
    """A row with the texts that its item is the hash of gives its pair, whatever the run has."""
    old = {"prompt": "gone?", "answer_a": "old b", "answer_b": "old a", "verdict": "A"}
    item = pair_item("gone?", "old b", "old a")
    found = said(
        tmp_path,
        ann=[old | {"item": item},
             old | {"item": pair_item("other", "old b", "old a")},
             {"item": pair_item("first?", "b0", "p0"), "prompt": "first?", "answer_a": "'b0",
              "answer_b": "p0", "verdict": "B"}],
    )  # fmt: skip
    assert {short(pair) for pair in preferred(found, SET).pairs} == {
        ("gone?", "old b", "old a"), ("first?", "p0", "b0")
    }  # fmt: skip
    assert found.left_out == 1
    marks = [{"item": mark_item("gone?", text), "prompt": "gone?", "answer": text, "accuracy": n}
             for text, n in (("x", 5), ("y", 2))]  # fmt: skip
    [pair] = preferred(said(tmp_path, bo=marks), SET).pairs
    assert short(pair) == ("gone?", "x", "y")


def test_ratings_of_nothing_known_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="None of the ratings"):
        said(tmp_path, ann=[vote("q9", "base", "sft", "A")])


# --- a run, its database, the commands -------------------------------------------------------


def small_run(tmp_path: Path, **options: Any) -> dict[str, Any]:
    """Evaluate two files of answers, as often as it is called; returns the summary."""
    prompts = [
        {"id": f"q{i}", "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": f"Name {i} colours."},
            {"role": "assistant", "content": "red"},
        ], "meta": {}}
        for i in range(12)
    ]  # fmt: skip
    models = []
    for name in ("old", "new"):
        rows = [{"id": p["id"], "response": f"{name} {p['id']}"} for p in prompts]
        path = lines(tmp_path / f"{name}.jsonl", rows)
        models.append({"name": name, "predictions": str(path)})
    given = {"set": str(lines(tmp_path / "set.jsonl", prompts)), "models": models,
             "resamples": 100, "permutations": 200}  # fmt: skip
    recipe = recipe_from({"name": "t", "evaluate": given | options})
    run_stages(recipe, tmp_path / "run", ["evaluate"])
    text = (tmp_path / "run/evaluate/summary.json").read_text("utf-8")
    summary: dict[str, Any] = json.loads(text)
    return summary


def rate_all(run: Path, rater: str, prefers: str) -> None:
    """What a person does who always prefers the answers that begin so."""
    store = RatingStore(run / FOLDER / FILE)
    shown: list[Shown] = read_answers(run)
    items = pair_items(shown)
    store.add_items([*items, *mark_items(shown)])
    for number, item in enumerate(items):
        verdict = "A" if item.answers[0].startswith(prefers) else "B"
        uid = f"{rater}-{number:06}"
        store.add(Entry(uid, item.name, rater, "pairs", verdict))  # type: ignore[arg-type]
    store.close()


@pytest.mark.slow
@pytest.mark.ci_slice
def test_the_database_of_a_run_is_evaluated_exported_and_made_into_pairs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    small_run(tmp_path)
    assert main(["ratings", "preferences", str(run), "--output", str(tmp_path / "p.jsonl")]) == 2
    assert "Nobody has rated" in capsys.readouterr().err
    rate_all(run, "ann", "new")
    given = {"files": ["ratings/ratings.sqlite"]}
    summary = small_run(tmp_path, ratings=given)
    [rates] = summary["ratings"]["win_rates"]
    # The baseline is the first model.
    assert (rates["model"], rates["baseline"], rates["win_rate"]) == ("new", "old", 1.0)
    assert (rates["prompts"], rates["votes"]) == (12, 12)
    capsys.readouterr()
    small_run(tmp_path, ratings=given)
    assert "up to date" in capsys.readouterr().out
    # One more rater is another result; now every verdict is contested.
    rate_all(run, "bo", "old")
    summary = small_run(tmp_path, ratings=given)
    assert "inputs.ratings.1 has other content" in capsys.readouterr().out
    [rates] = summary["ratings"]["win_rates"]
    assert rates["win_rate"] == 0.5 and rates["votes"] == 24 and rates["low"] <= 0.5
    assert summary["ratings"]["agreement"][0]["equal"] == 0
    rate_all(run, "cy", "new")

    for name in ("r.json", "r.jsonl", "r.csv"):
        path = tmp_path / name
        assert main(["ratings", "export", str(run), "--output", str(path)]) == 0
        ratings = read_ratings(path).ratings
        assert len(ratings) == 36 and {one.rater for one in ratings} == {"ann", "bo", "cy"}
        assert main(["ratings", "export", str(run), "--output", str(path)]) == 2
    assert main(["ratings", "export", str(run), "--output", str(tmp_path / "r.txt")]) == 2
    with (tmp_path / "r.csv").open(encoding="utf-8-sig", newline="") as handle:
        assert len(list(csv.DictReader(handle))) == 36
    assert json.loads((tmp_path / "r.json").read_text("utf-8")) == list(
        stored_rows(run / FOLDER / FILE)
    )
    assert main(["ratings", "agreement", str(run / FOLDER / FILE)]) == 0
    assert "36 ratings by 3" in capsys.readouterr().out

    output = tmp_path / "pairs.jsonl"
    assert main(["ratings", "preferences", str(run), "--output", str(output)]) == 0
    assert "12 pairs" in capsys.readouterr().out
    pairs = list(read_pairs(output))
    assert len(pairs) == 12 and all(pair.chosen.startswith("new") for pair in pairs)
    # The set is still there: the system text is a turn of its own.
    assert {pair.prompt[0] for pair in pairs} == {Message("system", "be brief")}
    again = tmp_path / "again.jsonl"
    words = ["ratings", "preferences", str(run), str(tmp_path / "r.csv"), "--output", str(again)]
    assert main(words) == 0
    assert {p.id for p in read_pairs(again)} == {p.id for p in pairs}
    assert main([*words[:-1], str(tmp_path / "x.jsonl"), "--min-agreement", "0.9"]) == 2
    assert "12 verdicts are tied or split" in capsys.readouterr().err


@pytest.mark.slow
def test_a_reward_model_learns_what_people_prefer(tmp_path: Path) -> None:
    """The pairs train a real reward model (tiny), which then prefers as the people did."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import rl_models

    from espalier.run import Shared, StageContext
    from espalier.train import reward
    from espalier.train.config_rl import RewardConfig

    run = tmp_path / "run"
    small_run(tmp_path)
    rate_all(run, "ann", "new")
    output = tmp_path / "human.jsonl"
    assert main(["ratings", "preferences", str(run), "--output", str(output)]) == 0
    rl_models.save(rl_models.make_model(seed=1, spread=0.05), run / "sft" / "model")
    options = RewardConfig.model_validate(
        {"pairs": [str(output)], "precision": "fp32", "minibatch": 4, "epochs": 12,
         "validation_fraction": 0.25, "learning_rate": 3e-3}
    )  # fmt: skip
    (run / "reward").mkdir()
    reward.run(StageContext("reward", run, run / "reward", options, Shared(seed=3)))
    accuracy = json.loads((run / "reward/accuracy.json").read_text("utf-8"))
    assert accuracy["pairs"] == 3 and accuracy["accuracy"] == 1
    assert list(accuracy["by_kind"]) == ["human"] and list(accuracy["by_source"]) == ["ratings"]
