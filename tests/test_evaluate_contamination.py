"""Contamination: what is found in the training data, in which files, and the scores without it."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from espalier.errors import InputError
from espalier.evaluate import training_rows
from espalier.evaluate.clean_scores import contamination_warnings
from espalier.evaluate.config_contamination import ContaminationConfig
from espalier.evaluate.contamination import (
    KINDS,
    Contamination,
    find_contamination,
    training_files,
    write_findings,
)
from espalier.evaluate.evalset import EvalSet, read_set
from espalier.recipe import recipe_from
from espalier.records import Example
from espalier.run import Shared, StageContext
from espalier.running import run_stages
from espalier.text import tokens

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
ZH = "春眠不觉晓处处闻啼鸟夜来风雨声花落知多少"
SET = [
    ("Explain photosynthesis to a child in plain words please.", "Plants eat light."),
    ("Say hi.", "hi"),
    (f"Continue this list: {LONG}", "sixteen"),
    (f"请把这首诗写完：{ZH}", "没有"),
    (
        "What does the fox say?",
        "the quick brown fox jumps over the lazy dog and then runs far away",
    ),
    ("Write about the sea and the wind and the old man who fished alone there.", "A story."),
]


def write(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def alpaca(instruction: str, output: str) -> dict[str, str]:
    return {"instruction": instruction, "input": "", "output": output}


@pytest.fixture
def evalset(tmp_path: Path) -> EvalSet:
    return read_set(write(tmp_path / "set.jsonl", [alpaca(*row) for row in SET]))


def found(
    evalset: EvalSet, tmp_path: Path, rows: list[Any], **options: Any
) -> dict[int, tuple[str, ...]]:
    result = result_of(evalset, tmp_path, rows, **options)
    return {index: tuple(one.kinds) for index, one in result.found.items()}


def result_of(evalset: EvalSet, tmp_path: Path, rows: list[Any], **options: Any) -> Contamination:
    path = write(tmp_path / "train.jsonl", rows)
    return find_contamination(evalset, {"train": path}, ContaminationConfig(**options))


def test_clean_training_rows_find_nothing(evalset: EvalSet, tmp_path: Path) -> None:
    rows = [alpaca("Name a colour.", "red"), alpaca("Say bye.", "hi"), alpaca(LONG[:40], "x")]
    result = result_of(evalset, tmp_path, rows)
    assert result.found == {} and result.files == {"train": 3}
    assert result.labels() == [""] * len(SET)


def test_each_kind_is_found(evalset: EvalSet, tmp_path: Path) -> None:
    rows = [
        alpaca("say HI", "hello"),  # equal after normalisation, two words long
        alpaca("Count.", f"Sure: {LONG}!"),  # 15 words of a prompt, in an answer
        alpaca("续写", f"诗：{ZH[:13]}。"),  # 13 characters
        alpaca("Fox?", "He said: the quick brown fox jumps over the lazy dog and then runs far!"),
        alpaca("Write about the sea and the wind and the old man who fished alone.", "No."),
    ]
    assert found(evalset, tmp_path, rows) == {
        1: ("same_prompt", "near_prompt"),
        2: ("ngram",),
        3: ("ngram",),
        4: ("ngram",),
        5: ("ngram", "near_prompt"),
    }
    result = result_of(evalset, tmp_path, rows)
    poem = result.found[3].evidence["ngram"]
    assert (poem["part"], poem["number"], poem["text"]) == ("prompt", 3, ZH[:13])
    assert result.found[4].evidence["ngram"]["part"] == "reference"
    kinds = {"same_prompt": 1, "same_turn": 0, "ngram": 4, "near_prompt": 2}
    assert result.counts() == {"rows": 5, **kinds, "whole_reference": 0}


def dialogue(*turns: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": t} for i, t in enumerate(turns)]}


def test_a_last_question_with_its_answer_is_found_in_another_dialogue(tmp_path: Path) -> None:
    closing = ("Have a nice day!", "You too!")
    rows = [
        dialogue("Who are you?", "A model.", *closing),
        dialogue("How do I bake bread?", "Slowly.", *closing),
        dialogue("What time is it?", "Noon.", "Have a nice day!", "Goodbye."),  # another answer
    ]
    evalset = read_set(write(tmp_path / "set.jsonl", rows))
    training = [
        dialogue("Tell me a joke.", "No.", "have a nice  day", "You too"),
        dialogue("How do I bake bread?", "In an oven.", *closing),
        dialogue("You too!", "Have a nice day!"),  # the other way round
    ]
    result = result_of(evalset, tmp_path, training)
    assert {i: one.kinds for i, one in result.found.items()} == {
        0: ["same_turn"],
        1: ["same_prompt", "near_prompt"],  # which says more
    }
    assert result.found[0].training_rows == 2
    assert result.found[0].evidence["same_turn"]["number"] == 1
    counts = result.counts()
    assert (counts["same_turn"], counts["whole_reference"]) == (1, 2)
    only = result_of(evalset, tmp_path, training, fields="prompt")
    assert set(only.found) == {1}


def test_the_chosen_answer_of_a_pair_is_a_turn(tmp_path: Path) -> None:
    evalset = read_set(write(tmp_path / "set.jsonl", [dialogue("Hm?", "Yes.", "Why?", "Because.")]))
    pairs = [
        {"prompt": "Why?", "chosen": "No.", "rejected": "Because."},
        {"prompt": "Why?", "chosen": "Because.", "rejected": "No."},
    ]
    result = result_of(evalset, tmp_path, pairs)
    assert result.found[0].kinds == ["same_turn"] and result.found[0].training_rows == 1


def test_a_prompt_that_ends_otherwise_has_no_last_question(tmp_path: Path) -> None:
    turns = [("user", "Who are you?"), ("assistant", "A model."), ("assistant", "Namely:")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns], "reference": "I."}
    evalset = read_set(write(tmp_path / "set.jsonl", [row]))
    assert evalset.rows[0].reference == "I."
    assert found(evalset, tmp_path, [dialogue("Who are you?", "A model.", "Bye.", "Bye.")]) == {}


def test_a_whole_reference_is_told(evalset: EvalSet, tmp_path: Path) -> None:
    whole = alpaca("Animals?", f"Once upon a time {SET[4][1]}, and so on.")
    result = result_of(evalset, tmp_path, [whole])
    assert result.found[4].whole_reference and result.counts()["whole_reference"] == 1


def test_twelve_words_are_not_thirteen(evalset: EvalSet, tmp_path: Path) -> None:
    words = LONG.split()
    assert found(evalset, tmp_path, [alpaca("Go", " ".join(words[:12]) + " stop")]) == {}
    assert found(evalset, tmp_path, [alpaca("Go", " ".join(words[:13]) + " stop")]) == {
        2: ("ngram",)
    }
    assert found(evalset, tmp_path, [alpaca("Go", ZH[:12])]) == {}


def test_the_options_narrow_what_is_looked_for(evalset: EvalSet, tmp_path: Path) -> None:
    rows = [alpaca("say hi", "x"), alpaca("Fox?", SET[4][1]), alpaca("Count.", LONG)]
    assert found(evalset, tmp_path, rows, fields="prompt").keys() == {1, 2}
    assert found(evalset, tmp_path, rows, fields="reference").keys() == {4}
    assert found(evalset, tmp_path, rows, ngram=None).keys() == {1}
    assert found(evalset, tmp_path, rows, min_share=0.9).keys() == {1, 4}
    assert found(evalset, tmp_path, rows, near_threshold=None)[1] == ("same_prompt",)


def test_boilerplate_can_be_ignored(tmp_path: Path) -> None:
    line = "answer the following question with one of the letters a b c or d only"
    rows = [alpaca(f"{line}: number {n} of all", "a") for n in range(8)]
    evalset = read_set(write(tmp_path / "set.jsonl", rows))
    train = [alpaca(f"Please {line}", "b")]
    assert len(found(evalset, tmp_path, train, near_threshold=None, max_rows=8)) == 8
    assert found(evalset, tmp_path, train, near_threshold=None, max_rows=7) == {}
    assert len(found(evalset, tmp_path, train, near_threshold=None, max_rows=None)) == 8


def test_equal_prompts_of_the_set_are_all_found(tmp_path: Path) -> None:
    rows = [alpaca("Say hi.", "hi"), alpaca("say hi", "hello"), alpaca("Say bye.", "bye")]
    evalset = read_set(write(tmp_path / "set.jsonl", rows))
    assert found(evalset, tmp_path, [alpaca("SAY HI!", "x")]).keys() == {0, 1}


def test_pairs_and_prompts_without_answers_are_read(evalset: EvalSet, tmp_path: Path) -> None:
    pair = {"prompt": "Fox?", "chosen": SET[4][1], "rejected": "no idea about that"}
    assert found(evalset, tmp_path, [pair]) == {4: ("ngram",)}
    prompts = [{"messages": [{"role": "user", "content": "Say hi."}]}]
    assert found(evalset, tmp_path, prompts).keys() == {1}


def test_running_text_is_read(evalset: EvalSet, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text(f"A text.\n\nIt says {LONG}.\n", encoding="utf-8")
    options = ContaminationConfig(against=["c"])
    for path in (tmp_path / "c.txt", write(tmp_path / "c.jsonl", [{"text": LONG}])):
        assert find_contamination(evalset, {"c": path}, options).found.keys() == {2}


@pytest.mark.parametrize("packed", [False, True])
def test_long_running_text_is_read_in_pieces_that_cut_no_run(
    evalset: EvalSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    monkeypatch.setattr(training_rows, "_PIECE", 400)
    monkeypatch.setattr(training_rows, "_OVERLAP", 150)
    draw = random.Random(7)
    filler = [" ".join(draw.choices(["pear", "plum", "fig"], k=5)) for _ in range(300)]
    for at in range(0, 300, 23):
        # The run stands on two lines, with no blank line anywhere.
        first, second = LONG.split(" eight ")
        text = "\n".join([*filler[:at], first, f"eight {second}", *filler[at:]]).encode()
        path = tmp_path / ("c.txt.gz" if packed else "c.txt")
        path.write_bytes(gzip.compress(text) if packed else text)
        result = find_contamination(evalset, {"c": path}, ContaminationConfig(against=["c"]))
        assert result.found.keys() == {2}
    longest = max(
        len(row.messages[0].content)
        for row in training_rows.training_rows(path, [])
        if isinstance(row, Example)
    )
    assert longest < 700


def test_running_text_with_a_bad_row_is_told(evalset: EvalSet, tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", [{"text": LONG}, {"text": 3}])
    with pytest.raises(InputError, match="'text' is missing or no text") as caught:
        find_contamination(evalset, {"c": path}, ContaminationConfig(against=["c"]))
    assert "line 2" in str(caught.value) and "on_bad_row" not in str(caught.value)
    told = find_contamination(evalset, {"c": path}, ContaminationConfig())
    assert told.found.keys() == {2} and told.unread == {"c": "1 rows can't be read"}


def test_rows_that_cannot_be_read_stop_or_are_told(evalset: EvalSet, tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [alpaca("say hi", "x"), {"instruction": 3, "output": "x"}])
    with pytest.raises(InputError, match="line 2"):
        find_contamination(evalset, {"t": path}, ContaminationConfig(against=["t"]))
    told = find_contamination(evalset, {"t": path}, ContaminationConfig())
    assert told.found.keys() == {1} and told.unread == {"t": "1 rows can't be read"}
    strange = write(tmp_path / "s.jsonl", [{"a": 1}])
    told = find_contamination(evalset, {"s": strange, "t": path}, ContaminationConfig())
    assert told.found.keys() == {1} and set(told.unread) == {"s", "t"}


def test_the_n_grams_agree_with_a_naive_search(tmp_path: Path) -> None:
    draw = random.Random(4)
    words = [f"w{n}" for n in range(7)]
    made = [" ".join(draw.choices(words, k=draw.randint(1, 30))) for _ in range(60)]
    evalset = read_set(write(tmp_path / "set.jsonl", [alpaca(text, "-") for text in made[:40]]))
    train = [alpaca("zzz", text) for text in made[40:]]
    expected = {}
    for index, text in enumerate(made[:40]):
        mine = tokens(text)
        size = min(5, len(mine))
        grams = {tuple(mine[i : i + size]) for i in range(len(mine) - size + 1)}
        hits = 0
        for other in made[40:]:
            theirs = tokens(other)
            runs = {tuple(theirs[i : i + size]) for i in range(len(theirs) - size + 1)}
            hits += size >= 4 and bool(grams & runs)
        if hits:
            expected[index] = hits
    options = {"ngram": 5, "shortest": 4, "max_rows": None, "near_threshold": None}
    result = result_of(evalset, tmp_path, train, **options)
    assert {i: one.training_rows for i, one in result.found.items()} == expected
    assert 5 < len(expected) < 40


def test_the_findings_are_written_with_their_evidence(evalset: EvalSet, tmp_path: Path) -> None:
    result = result_of(evalset, tmp_path, [alpaca("A", "b"), alpaca("say hi", "x")] * 2)
    write_findings(result, evalset, tmp_path / "out.jsonl")
    [line] = [json.loads(text) for text in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert line["id"] == evalset.rows[1].id and line["training_rows"] == 2
    assert line["found"][0]["file"] == "train" and line["found"][0]["number"] == 2


# --- which files ------------------------------------------------------------------------------


def context(run: Path) -> StageContext:
    return StageContext("evaluate", run, run / "evaluate", None, Shared())


def manifest(run: Path, stage: str, inputs: dict[str, Path]) -> None:
    value = {"inputs": {name: {"path": str(path), "sha256": ""} for name, path in inputs.items()}}
    (run / stage).mkdir(parents=True)
    (run / stage / "manifest.json").write_text(json.dumps(value), encoding="utf-8")


def test_the_files_are_those_that_the_run_was_trained_on(tmp_path: Path) -> None:
    evaluation_set = write(tmp_path / "curate" / "eval.jsonl", [{}])
    options = ContaminationConfig()
    assert training_files(context(tmp_path), options, evaluation_set) == {}
    train = write(tmp_path / "curate" / "train.jsonl", [{}])
    assert training_files(context(tmp_path), options, evaluation_set) == {
        "curate/train.jsonl": train
    }
    other = write(tmp_path / "mine.jsonl", [{}])
    rule = tmp_path / "rule.py"
    rule.write_text("", encoding="utf-8")
    (tmp_path / "model").mkdir()
    manifest(tmp_path, "base", {str(rule): rule, "corpus.jsonl": other})
    manifest(tmp_path, "sft", {str(other): other, "model": tmp_path / "model"})
    manifest(tmp_path, "ppo", {"curate/prompts.jsonl": train, str(rule): rule})
    manifest(tmp_path, "reward_eval", {"curate/eval_preferences.jsonl": other})
    found = training_files(context(tmp_path), options, evaluation_set)
    assert found == {str(other): other, "curate/prompts.jsonl": train}
    assert training_files(context(tmp_path), None, evaluation_set) == {}
    named = ContaminationConfig(against=[str(other)])
    assert training_files(context(tmp_path), named, evaluation_set) == {str(other): other}
    with pytest.raises(InputError, match=r"none\.jsonl"):
        training_files(
            context(tmp_path), ContaminationConfig(against=["none.jsonl"]), evaluation_set
        )


@pytest.mark.parametrize(
    "options", [{"shortest": 14}, {"fields": "reference", "ngram": None}, {"min_share": 2}]
)
def test_options_that_contradict_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ContaminationConfig(**options)


# --- in the stage -----------------------------------------------------------------------------


def test_the_summary_has_the_scores_with_and_without(tmp_path: Path) -> None:
    run, count = tmp_path / "run", 40
    prompts = [f"Prompt number {n} asks for the word w{n}" for n in range(count)]
    leaked = set(range(0, count, 4))
    rows = [alpaca(text, f"w{n}") for n, text in enumerate(prompts)]
    write(run / "curate" / "eval.jsonl", rows)
    write(run / "curate" / "train.jsonl", [rows[n] for n in sorted(leaked)])
    # One model knows only what leaked, the other everything.
    right = {"knows": set(range(count)), "learnt": leaked}
    models = []
    for name, known in right.items():
        answers = [
            {"prompt": text, "response": f"w{n}" if n in known else "no"}
            for n, text in enumerate(prompts)
        ]
        models.append({"name": name, "predictions": str(write(tmp_path / name, answers))})
        (tmp_path / name).rename(tmp_path / f"{name}.jsonl")
        models[-1]["predictions"] = str(tmp_path / f"{name}.jsonl")
    options = {
        "models": models,
        "metrics": ["exact_match", "distinct"],  # parts of the set are no set for distinct-n
        "resamples": 200,
        "permutations": 500,
        "contamination": {"near_threshold": None},
    }
    run_stages(recipe_from({"name": "t", "evaluate": options}), run, ["evaluate"])
    summary = json.loads((run / "evaluate" / "summary.json").read_text("utf-8"))
    said = summary["contamination"]
    assert (said["rows"], said["same_prompt"], said["share"]) == (10, 10, 0.25)
    assert said["against"][0]["file"] == "curate/train.jsonl" and said["against"][0]["rows"] == 10
    assert {item["metric"] for item in said["scores"]} == {"exact_match"}
    scores = {item["model"]: item for item in said["scores"]}
    assert (scores["knows"]["all"], scores["knows"]["clean"]) == (1.0, 1.0)
    learnt = scores["learnt"]
    assert (learnt["all"], learnt["contaminated"], learnt["clean"]) == (0.25, 1.0, 0.0)
    assert (learnt["n"], learnt["n_contaminated"]) == (30, 10)
    [difference] = said["comparisons"]
    assert difference["difference"] == -1.0 and difference["verdict"] == "worse"
    assert difference["verdict_all"] == "worse" and difference["changed"] is False
    assert any("Contamination: 10 of 40 prompts (25.0%)" in text for text in summary["warnings"])
    import pandas

    frame = pandas.read_parquet(run / "evaluate" / "scores.parquet")
    labels = dict(zip(frame["prompt"], frame["contamination"], strict=True))
    assert [n for n in range(count) if labels[prompts[n]]] == sorted(leaked)
    assert np.isfinite(frame["exact_match"]).all()


@pytest.mark.parametrize(
    ("rest", "answer", "changed"),
    [
        ("Fine.", "Fine.", False),
        ("That is what we all say.", "That is what we all say.", True),
        ("That is what we all say.", "No.", True),  # one could have said it
    ],
)
def test_a_metric_that_counts_nothing_there_changes_no_verdict(
    tmp_path: Path, rest: str, answer: str, changed: bool
) -> None:
    """Without the leaked prompts only short references are left: BLEU needs four words."""
    run, count = tmp_path / "run", 30
    long = "The sea was calm and the old man went out alone {}."
    rows = [alpaca(f"Say number {n}.", long.format(n) if n < 15 else rest) for n in range(count)]
    write(run / "curate" / "eval.jsonl", rows)
    write(run / "curate" / "train.jsonl", rows[:15])
    models = []
    for name in ("wrong", "right"):
        answers = [
            {"prompt": row["instruction"],
             "response": answer if n >= 15 else row["output"] if name == "right" else "not so"}
            for n, row in enumerate(rows)
        ]  # fmt: skip
        path = write(tmp_path / f"{name}.jsonl", answers)
        models.append({"name": name, "predictions": str(path)})
    options = {"models": models, "metrics": ["bleu"], "resamples": 200, "permutations": 500}
    run_stages(recipe_from({"name": "t", "evaluate": options}), run, ["evaluate"])
    said = json.loads((run / "evaluate" / "summary.json").read_text("utf-8"))["contamination"]
    (comparison,) = said["comparisons"]
    assert (comparison["verdict_all"], comparison["verdict"]) == ("better", "tie")
    assert comparison["changed"] is changed


def test_a_set_without_a_clean_prompt_says_so() -> None:
    told = {
        "unread": {},
        "rows": 3,
        "share": 1.0,
        "against": [{"file": "train.jsonl"}],
        **dict.fromkeys((*KINDS, "whole_reference"), 3),
        "comparisons": [],
    }
    [all_of_them] = contamination_warnings(told, 3)
    assert "No prompt is left" in all_of_them and "without them" not in all_of_them
    [some] = contamination_warnings(told, 4)
    assert "summary.json has the scores without them" in some
    assert "of 3 the whole reference is there" in some
    [other] = contamination_warnings({**told, "whole_reference": 0}, 4)
    assert "reference" not in other
