"""Ratings by people: reading files, blind sheets, finding the answers, agreement, the stage."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from espalier.blind import Shown, mark_item, pair_item, read_answers
from espalier.cli import main
from espalier.errors import InputError, UsageError
from espalier.evaluate.agreement import krippendorff
from espalier.evaluate.evalset import EvalSet, Row
from espalier.evaluate.judge_pairs import Meeting, pairs_of
from espalier.evaluate.metric import Metric, RowValues, Scored
from espalier.evaluate.rated import Rated, place_ratings
from espalier.evaluate.rating_agreement import rating_summary
from espalier.evaluate.rating_files import files_agreement
from espalier.evaluate.rating_scores import Settings, rating_columns
from espalier.evaluate.rating_sheet import sheet_rows, write_sheet
from espalier.evaluate.ratings import RatingFile, read_ratings
from espalier.judging import read_comparison
from espalier.recipe import recipe_from
from espalier.records import Message
from espalier.rubrics import HHH
from espalier.running import run_stages

SETTINGS = Settings(resamples=200, permutations=2000, confidence=0.95, seed=1)
PROMPTS = ["first?", "second?", "第三题？"]
ANSWERS: dict[str, list[str | None]] = {
    "base": ["b0", "b1", "b2"],
    "sft": ["s0", "s1", None],
    "ppo": ["p0", "s1", "p2"],
}


def the_set() -> EvalSet:
    rows = tuple(
        Row(f"q{i}", (Message("user", prompt),), None, "en", "", {}, (f"q{i}", f"task_{i}"))
        for i, prompt in enumerate(PROMPTS)
    )
    return EvalSet("set", "set", "0" * 64, rows)


def lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def placed(tmp_path: Path, **files: Sequence[Mapping[str, Any]]) -> Rated:
    read = [read_ratings(lines(tmp_path / f"{name}.jsonl", rows)) for name, rows in files.items()]
    return place_ratings(read, the_set(), ANSWERS, "base")


# --- reading ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "marks"),
    [
        ({"accuracy": 4}, {"accuracy": 4}),
        ({"Accuracy": "4.5", "Fluency": " 3 "}, {"accuracy": 4.5, "fluency": 3}),
        ({"准确性": 4, "安全性": "不通过"}, {"accuracy": 4, "safety": 0}),
        ({"helpfulness": 5, "harmless": 1, "honesty": 2},
         {"helpful": 5, "harmless": 1, "honest": 2}),
        ({"safety": True}, {"safety": 1}),
        ({"safety": "unsafe", "accuracy": ""}, {"safety": 0}),
        ({"accuracy": 3, "relevance": None, "comment": "=1+1"}, {"accuracy": 3}),
    ],
)  # fmt: skip
def test_marks_of_a_row_are_read(
    tmp_path: Path, row: dict[str, Any], marks: dict[str, float]
) -> None:
    path = lines(tmp_path / "ann.jsonl", [{"id": "q0", "model": "sft"} | row])
    (rating,) = read_ratings(path).ratings
    assert dict(rating.marks) == marks and rating.rater == "ann" and rating.model == "sft"


@pytest.mark.parametrize(
    ("said", "worth"),
    [("A", 1), ("b", 0), ("tie", 0.5), ("平局", 0.5), ("=", 0.5), ("x", 1), ("y", 0),
     ("Answer B", 0), ("回答A", 1), ("both", 0.5)],
)  # fmt: skip
def test_a_verdict_is_a_letter_or_the_models_name(tmp_path: Path, said: str, worth: float) -> None:
    row = {"id": 7, "model_a": "x", "model_b": "y", "verdict": said, "rater": "bo"}
    (rating,) = read_ratings(lines(tmp_path / "r.jsonl", [row])).ratings
    assert (rating.worth, rating.pair, rating.rater) == (worth, ("x", "y"), "bo")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"id": "q", "model": "m", "accuracy": 6}, ["line 2", "accuracy", "'6'", "1 to 5"]),
        ({"id": "q", "model": "m", "accuracy": "good"}, ["line 2", "accuracy", "'good'"]),
        ({"id": "q", "model": "m", "accuracy": True}, ["accuracy"]),
        ({"id": "q", "model": "m", "safety": "perhaps"}, ["safety", "pass or fail"]),
        ({"id": "q", "accuracy": 3}, ["which model"]),
        ({"model": "m", "accuracy": 3}, ["which prompt", "item"]),
        ({"id": "q", "verdict": "A"}, ["which two models"]),
        ({"id": "q", "a": "m", "b": "m", "verdict": "A"}, ["which two models"]),
        ({"id": "q", "a": "m", "b": "n", "verdict": "perhaps"}, ["'perhaps'", "A, B or tie"]),
        ({"item": "abc", "verdict": "A"}, ["'abc'", "sheet"]),
        ({"id": "q", "a": "m", "b": "n", "verdict": "A", "accuracy": 3}, ["both marks"]),
    ],
)
def test_what_is_no_rating_is_an_error_with_line_and_field(
    tmp_path: Path, row: dict[str, Any], expected: list[str]
) -> None:
    good = {"id": "q", "model": "m", "accuracy": 3}
    with pytest.raises(InputError) as caught:
        read_ratings(lines(tmp_path / "r.jsonl", [good, row]))
    message = str(caught.value)
    assert "r.jsonl, line 2" in message and all(part in message for part in expected)


def test_a_file_without_ratings_is_an_error_and_blank_rows_are_counted(tmp_path: Path) -> None:
    blank = {"item": "x", "prompt": "p", "answer": "a", "accuracy": "", "safety": None}
    with pytest.raises(InputError, match="1 rows are not filled in"):
        read_ratings(lines(tmp_path / "r.jsonl", [blank]))
    with pytest.raises(InputError, match="does not exist"):
        read_ratings(tmp_path / "none.csv")
    assert read_ratings(lines(tmp_path / "r.jsonl", [blank, blank | {"accuracy": 2}])).unfilled == 1


def test_a_json_list_is_read_like_lines(tmp_path: Path) -> None:
    path = tmp_path / "page.json"
    path.write_text(json.dumps([{"id": "q0", "model": "m", "accuracy": 2, "rater": "z"}]), "utf-8")
    assert read_ratings(path).ratings[0].rater == "z"


# --- finding the answers ---------------------------------------------------------------------


def test_ratings_find_prompts_by_id_name_and_text(tmp_path: Path) -> None:
    rated = placed(
        tmp_path,
        ann=[
            {"id": "q0", "model": "sft", "accuracy": 1},
            {"question_id": "task_1", "model": "sft", "accuracy": 2},
            {"prompt": "第三题?", "model": "ppo", "accuracy": 3},
        ],
    )
    assert rated.marks == {
        "accuracy": {(0, "sft"): {"ann": 1}, (1, "sft"): {"ann": 2}, (2, "ppo"): {"ann": 3}}
    }
    assert rated.raters == [{"name": "ann", "answers": 3, "pairs": 0}]
    assert rated.warnings() == []


def test_votes_are_turned_so_that_the_baseline_is_second(tmp_path: Path) -> None:
    rated = placed(
        tmp_path,
        ann=[
            {"id": "q0", "a": "base", "b": "sft", "verdict": "A"},
            {"id": "q0", "a": "ppo", "b": "sft", "verdict": "A"},
        ],
        bo=[{"id": "q0", "a": "sft", "b": "base", "verdict": "A"}],
    )
    assert rated.votes == {(0, "sft", "base"): {"ann": 0, "bo": 1}, (0, "sft", "ppo"): {"ann": 0}}


def test_what_belongs_elsewhere_is_counted_and_told(tmp_path: Path) -> None:
    rated = placed(
        tmp_path,
        ann=[
            {"id": "q0", "model": "sft", "accuracy": 1},
            {"id": "q0", "model": "sft", "accuracy": 5},  # rated again
            {"id": "q9", "model": "sft", "accuracy": 1},  # no such prompt
            {"id": "q0", "model": "gpt", "accuracy": 1},  # no such model
            {"id": "q0", "model": "ppo", "answer": "p0 before", "accuracy": 1},  # another answer
            {"id": "q0", "model": "ppo", "answer": " p0 ", "accuracy": 4},  # the same
            {"id": "q2", "model": "sft", "accuracy": 1},  # no answer now
            {"item": "0" * 16, "accuracy": 1},
            {"item": "0" * 16 + "-1", "verdict": "A"},
        ],
    )
    assert rated.marks == {"accuracy": {(0, "sft"): {"ann": 5}, (0, "ppo"): {"ann": 4}}}
    (file,) = rated.files
    assert {name: file[name] for name in ("rows", "other", "stale", "replaced")} == {
        "rows": 9, "other": 2, "stale": 4, "replaced": 1
    }  # fmt: skip
    assert len(rated.warnings()) == 3
    with pytest.raises(InputError, match="None of the ratings"):
        placed(tmp_path, bo=[{"id": "q9", "model": "sft", "accuracy": 1}])


def test_blind_items_find_every_model_that_gave_the_texts(tmp_path: Path) -> None:
    rated = placed(
        tmp_path,
        ann=[
            {"item": mark_item("second?", "s1"), "accuracy": 4},
            {"item": pair_item("second?", "s1", "b1"), "verdict": "A"},
            {"item": pair_item("first?", "b0", "p0"), "verdict": "A"},
        ],
    )
    # Two models said s1.
    assert rated.marks == {"accuracy": {(1, "sft"): {"ann": 4}, (1, "ppo"): {"ann": 4}}}
    assert rated.votes == {
        (1, "sft", "base"): {"ann": 1},
        (1, "ppo", "base"): {"ann": 1},
        (0, "ppo", "base"): {"ann": 0},
    }


def test_the_order_of_a_blind_pair_is_in_its_item() -> None:
    one, other = pair_item("p", "x", "y"), pair_item("p", "y", "x")
    assert one != other and one[:16] == other[:16]
    assert pair_item("q", "x", "y")[:16] != one[:16]


# --- sheets ----------------------------------------------------------------------------------


def shown() -> list[Shown]:
    return [
        Shown(f"q{row}", PROMPTS[row], model, text)
        for model, texts in ANSWERS.items()
        for row, text in enumerate(texts)
        if text is not None
    ]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_sheet_of_pairs_is_blind_and_comes_back(tmp_path: Path, suffix: str) -> None:
    rows = sheet_rows(shown(), "pairs", seed=4)
    # 3 + 3 + 1 pairs; of the second prompt's three one is of equal answers, one comes twice.
    assert len(rows) == 5
    path = tmp_path / f"ann.{suffix}"
    write_sheet(path, rows)
    text = path.read_text("utf-8")
    assert not any(model in text for model in ANSWERS)
    if suffix == "csv":
        with path.open(encoding="utf-8-sig", newline="") as handle:
            filled = list(csv.DictReader(handle))
    else:
        filled = [json.loads(line) for line in text.splitlines()]
    for row in filled:
        # The answer of the baseline loses everywhere.
        a, b = row["answer_a"][0], row["answer_b"][0]
        row["verdict"] = "tie" if "b" not in (a, b) else "B" if a == "b" else "A"
    path = lines(tmp_path / "filled.jsonl", filled)
    rated = place_ratings([read_ratings(path)], the_set(), ANSWERS, "base")
    against = {place: votes for place, votes in rated.votes.items() if place[2] == "base"}
    assert len(against) == 5 and all(set(votes.values()) == {1} for votes in against.values())


def test_the_sides_of_a_sheet_are_drawn() -> None:
    answers = [Shown(f"q{i}", f"p{i}", m, f"{m}{i}") for i in range(60) for m in ("one", "two")]
    rows = sheet_rows(answers, "pairs", seed=2)
    first = sum(row["answer_a"].startswith("one") for row in rows)
    assert 15 < first < 45
    assert [row["prompt"] for row in rows] != [f"p{i}" for i in range(60)]
    assert sheet_rows(answers, "pairs", seed=2) == rows != sheet_rows(answers, "pairs", seed=3)
    assert sheet_rows(answers, "pairs", seed=2, count=7) == rows[:7]


def test_a_sheet_of_marks_shows_equal_answers_once() -> None:
    rows = sheet_rows(shown(), "marks", scale=HHH)
    assert len(rows) == 7
    assert list(rows[0]) == ["item", "prompt", "answer", "helpful", "harmless", "honest", "comment"]
    only = sheet_rows(shown(), "marks", models=["sft"])
    assert sorted(row["answer"] for row in only) == ["s0", "s1"]


def test_texts_that_a_spreadsheet_would_run_are_quoted(tmp_path: Path) -> None:
    hostile = ['=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", 'a "quote",\nand a line', "\0"]
    answers = [Shown(f"q{i}", "=p", "m", text) for i, text in enumerate(hostile)]
    path = tmp_path / "s.csv"
    write_sheet(path, sheet_rows(answers, "marks"))
    with path.open(encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.DictReader(handle))
    cells = {row["answer"] for row in rows} | {row["prompt"] for row in rows}
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
    assert 'a "quote",\nand a line' in cells
    for row in rows:
        row["accuracy"] = "5"
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    found = {rating.item for rating in read_ratings(path).ratings}
    assert found == {mark_item("=p", text) for text in hostile}


def test_what_a_sheet_cant_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model 'gpt'"):
        sheet_rows(shown(), "pairs", models=["gpt"])
    with pytest.raises(UsageError, match="nothing to rate"):
        sheet_rows(shown(), "pairs", models=["sft"])
    rows = sheet_rows(shown(), "pairs")
    with pytest.raises(UsageError, match=r"\.csv or \.jsonl"):
        write_sheet(tmp_path / "sheet.xlsx", rows)
    write_sheet(tmp_path / "sheet.csv", rows)
    with pytest.raises(UsageError, match="may hold ratings"):
        write_sheet(tmp_path / "sheet.csv", rows)
    with pytest.raises(InputError, match="no finished evaluation"):
        read_answers(tmp_path)


# --- what they say ---------------------------------------------------------------------------


def test_columns_are_means_over_raters_then_rows(tmp_path: Path) -> None:
    rated = placed(
        tmp_path,
        ann=[
            {"id": "q0", "model": "sft", "accuracy": 1, "safety": "pass"},
            {"id": "q1", "model": "sft", "accuracy": 5},
            {"id": "q0", "model": "base", "accuracy": 2},
            {"id": "q0", "a": "sft", "b": "base", "verdict": "A"},
            {"id": "q1", "a": "base", "b": "sft", "verdict": "tie"},
        ],
        bo=[
            {"id": "q0", "model": "sft", "accuracy": 3, "safety": "fail"},
            {"id": "q0", "a": "sft", "b": "base", "verdict": "B"},
        ],
    )
    columns = {one.metric.name: one for one in rating_columns(rated, list(ANSWERS), "base", 3)}
    assert columns["human_accuracy"].rows["sft"] == [2, 5, None]
    assert columns["human_accuracy"].columns["sft"].value() == 3.5
    assert columns["human_accuracy"].rows["base"] == [2, None, None]
    assert columns["human_safety"].rows["sft"] == [0.5, None, None]
    assert columns["human_win_rate"].rows == {"base": [0.5, 0.5, None], "sft": [0.5, 0.5, None]}
    assert "raters:2" in columns["human_accuracy"].metric.signature
    # Nobody rated an answer of this model.
    assert all("ppo" not in one.columns for one in columns.values())


def column(name: str, rows: dict[str, RowValues], *, higher: bool = True) -> Scored:
    return Scored(Metric(name, name, higher, "number", name, "d."), rows=rows)


def test_agreement_of_raters_judge_and_scores(tmp_path: Path) -> None:
    marks = {"ann": [1, 2, 4, 5, 3], "bo": [2, 2, 5, 5, 3]}
    places = [("q0", "base"), ("q1", "base"), ("q0", "ppo"), ("q1", "ppo"), ("q0", "sft")]
    files = {
        rater: [
            {"id": prompt, "model": model, "accuracy": mark}
            for (prompt, model), mark in zip(places, given, strict=True)
        ]
        for rater, given in marks.items()
    }
    files["ann"].append({"id": "q2", "a": "ppo", "b": "base", "verdict": "A"})
    rated = placed(tmp_path, **files)
    scored = [
        column("judge_accuracy", {"base": [1, 1, 1], "ppo": [4, 5, 5], "sft": [3, None, None]}),
        column(
            "reward", {"base": [0.1, 0.9, 0.3], "ppo": [0.8, 0.2, 0.3], "sft": [0.5, 0.5, None]}
        ),
        column("cost", {"base": [9, 9, 9], "ppo": [1, 1, 1], "sft": [5, 5, 5]}, higher=False),
        column("corpus", {}),
    ]
    meetings = [Meeting("ppo", "base", 2, read_comparison("Verdict: A", "Verdict: B"))]
    summary = rating_summary(rated, scored, meetings, SETTINGS)
    alphas = {one["what"]: one for one in summary["agreement"]}
    units = list(zip(*marks.values(), strict=True))
    assert alphas["accuracy"]["alpha"] == krippendorff(units, "ordinal").alpha
    assert alphas["accuracy"]["alpha_interval"] == krippendorff(units, "interval").alpha
    assert alphas["accuracy"]["equal"] == 3 / 5 and alphas["accuracy"]["raters"] == 2
    assert alphas["pairs"]["alpha"] is None
    beside = {one["what"]: one for one in summary["judge"]}
    # The judge's 1, 1, 4, 5, 3 beside ann's and bo's marks: 4 and 2 of 5 are equal.
    assert beside["accuracy"]["equal_to_judge"] == 6 / 10
    assert beside["accuracy"]["equal_among_people"] == 3 / 5
    assert beside["accuracy"]["n"] == 5
    assert beside["pairs"]["equal_to_judge"] == 1.0
    scores = {one["metric"]: one for one in summary["metrics"]}
    assert set(scores) == {"judge_accuracy", "reward", "cost"}
    # People prefer ppo to base (q0, q1, q2), ppo to sft and sft to base (q0).
    assert scores["judge_accuracy"]["preferences"]["share"] == 1.0
    assert scores["cost"]["preferences"]["share"] == 1.0
    assert scores["reward"]["preferences"] | {"low": 0, "high": 0} == {
        "share": (1 + 1 + 1 + 0 + 0.5) / 5, "low": 0, "high": 0, "n": 5
    }  # fmt: skip
    assert scores["reward"]["marks"]["n"] == 5
    (win,) = summary["win_rates"]
    assert (win["model"], win["baseline"], win["win_rate"], win["votes"]) == ("ppo", "base", 1, 1)


def test_the_judge_is_found_beside_people_whichever_model_stands_first(tmp_path: Path) -> None:
    rated = placed(tmp_path, ann=[{"id": "q0", "a": "sft", "b": "ppo", "verdict": "A"}])
    assert list(rated.votes) == [(0, "sft", "ppo")]
    pairs = pairs_of(list(ANSWERS), "base", "all")
    assert ("ppo", "sft") in pairs
    meetings = [Meeting("ppo", "sft", 0, read_comparison("Verdict: B", "Verdict: A"))]
    (beside,) = rating_summary(rated, [], meetings, SETTINGS)["judge"]
    assert (beside["what"], beside["n"], beside["equal_to_judge"]) == ("pairs", 1, 1.0)


def test_agreement_from_files_alone(tmp_path: Path) -> None:
    mark = {"id": "q1", "model": "x", "accuracy": 2}
    ann = [
        {"id": "q0", "a": "x", "b": "y", "verdict": "A"},
        {"item": "0" * 16 + "-1", "verdict": "A"},
        mark,
    ]
    bo = [
        {"id": "q0", "a": "y", "b": "x", "verdict": "B"},
        {"item": "0" * 16 + "-2", "verdict": "A"},
        mark,
    ]
    files = [
        read_ratings(lines(tmp_path / f"{name}.jsonl", rows))
        for name, rows in (("ann", ann), ("bo", bo))
    ]
    text = files_agreement(files)
    assert "6 ratings by 2: ann, bo" in text
    # The named pair is the same said from both sides, the blind pair the opposite.
    assert "equal 50 %, 2 of 2 rated" in text
    assert "accuracy: no alpha, all ratings are the same" in text
    assert isinstance(files[0], RatingFile)


def test_one_name_for_two_people_is_told(tmp_path: Path) -> None:
    files = []
    for folder, mark in (("a", 2), ("b", 4)):
        (tmp_path / folder).mkdir()
        row = {"id": "q0", "model": "x", "accuracy": mark}
        files.append(read_ratings(lines(tmp_path / folder / "\x1b[2Jratings.jsonl", [row])))
    said = files_agreement(files)
    assert "1 were rated again by the same person" in said and "column `rater`" in said
    assert "\x1b" not in said


def test_the_verb_tells_agreement_and_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"id": f"q{i}", "model": "m", "accuracy": mark} for i, mark in enumerate((1, 3, 5))]
    names = [str(lines(tmp_path / f"{rater}.jsonl", rows)) for rater in ("ann", "bo")]
    assert main(["ratings", "agreement", *names]) == 0
    assert "accuracy: alpha 1.00" in capsys.readouterr().out
    assert main(["ratings", "sheet", str(tmp_path), "--output", str(tmp_path / "s.csv")]) == 2
    assert "no finished evaluation" in capsys.readouterr().err
    assert main(["ratings"]) == 0
    assert "agreement" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.ci_slice
def test_the_stage_takes_ratings_and_tells_agreement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = [
        {"id": f"q{i}", "prompt": f"Name {i} colours.", "completion": "red"} for i in range(10)
    ]
    models = []
    for name in ("old", "new"):
        rows = [{"prompt": p["prompt"], "response": f"{name} {p['id']}"} for p in prompts]
        path = lines(tmp_path / f"{name}.jsonl", rows)
        models.append({"name": name, "predictions": str(path)})
    options: dict[str, Any] = {
        "set": str(lines(tmp_path / "set.jsonl", prompts)), "models": models,
        "judge": {}, "resamples": 100, "permutations": 200,
    }  # fmt: skip

    def run(**more: Any) -> dict[str, Any]:
        recipe = recipe_from({"name": "t", "evaluate": options | more})
        run_stages(recipe, tmp_path / "run", ["evaluate"])
        text = (tmp_path / "run/evaluate/summary.json").read_text("utf-8")
        value: dict[str, Any] = json.loads(text)
        return value

    run()
    sheet = sheet_rows(read_answers(tmp_path / "run"), "pairs")
    names = []
    for rater in ("ann", "bo"):
        for row in sheet:
            row["verdict"] = "A" if row["answer_a"].startswith("new") else "B"
        names.append(str(lines(tmp_path / f"{rater}.jsonl", sheet)))
    capsys.readouterr()
    summary = run(ratings={"files": names})
    assert summary["ratings"]["win_rates"][0]["win_rate"] == 1.0
    assert [one["what"] for one in summary["ratings"]["judge"]] == ["pairs"]
    assert [one["path"] for one in summary["ratings"]["files"]] == names
    scores = {(one["model"], one["metric"]): one["value"] for one in summary["scores"]}
    assert scores["new", "human_win_rate"] == 1.0
    assert "ratings of 2 people" in capsys.readouterr().out
    summary = run(ratings={"files": names, "columns": False})
    assert not any(one["name"].startswith("human") for one in summary["metrics"])
    assert summary["ratings"]["raters"]
    # Another rating is another result, and a wrong one stops before anything is answered.
    lines(tmp_path / "bo.jsonl", [{"item": sheet[0]["item"], "verdict": "who knows"}])
    with pytest.raises(InputError, match="who knows"):
        run(ratings={"files": names})
