"""Input that is not as it should be: each case has one stated behaviour, and the table says so."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from espalier.errors import InputError
from espalier.evaluate import measure
from espalier.evaluate.config import EvaluateConfig
from espalier.evaluate.coverage import coverage, coverage_warnings
from espalier.evaluate.evalset import EvalSet, read_set
from espalier.evaluate.matching import Matched
from espalier.evaluate.metric import Metric, Scored
from espalier.evaluate.predictions import read_predictions
from espalier.evaluate.rewards import RewardModel
from espalier.evaluate.significance import Column
from espalier.evaluate.table import headline
from espalier.recipe import recipe_from
from espalier.rewarding import RewardScore
from espalier.running import run_stages

COUNT = 20


def write(path: Path, rows: Sequence[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def prompt(index: int) -> str:
    return f"What is the name of number {index}?"


@pytest.fixture
def evalset(tmp_path: Path) -> EvalSet:
    rows = [{"id": f"q{n}", "prompt": prompt(n), "completion": f"n{n}"} for n in range(COUNT)]
    return read_set(write(tmp_path / "set.jsonl", rows))


def answers(**extra: Any) -> list[dict[str, Any]]:
    return [{"prompt": prompt(n), "response": f"n{n}", **extra} for n in range(COUNT)]


def read(tmp_path: Path, evalset: EvalSet, rows: Sequence[Any], **options: Any) -> Matched:
    return read_predictions(write(tmp_path / "p.jsonl", rows), evalset, **options)


# --- prediction files -------------------------------------------------------------------------


def test_rows_in_another_order_than_said_are_refused(tmp_path: Path, evalset: EvalSet) -> None:
    rows = answers()
    rows[3], rows[7] = rows[7], rows[3]
    assert read(tmp_path, evalset, rows).answers[evalset.rows[3].id] == "n3"
    with pytest.raises(InputError) as caught:
        read(tmp_path, evalset, rows, match="order")
    message = str(caught.value)
    assert "not in the order of the set" in message and "line 4" in message
    assert "what is the name of number 7" in message and "match: prompt" in message


def test_prompts_in_another_wording_are_told_where_order_decides(
    tmp_path: Path, evalset: EvalSet
) -> None:
    rows = [{"response": f"n{n}"} for n in range(COUNT)]
    matched = read(tmp_path, evalset, rows, match="order")
    assert matched.answers[evalset.rows[9].id] == "n9"
    rows[2]["prompt"] = "an older wording of the question"
    matched = read(tmp_path, evalset, rows, match="order")
    told = " ".join(matched.warnings("m"))
    assert "1 rows give another prompt" in told and "they count all the same" in told


def test_an_id_with_another_prompt_is_left_out_and_told(tmp_path: Path, evalset: EvalSet) -> None:
    rows = [{**row, "id": f"q{n}"} for n, row in enumerate(answers())]
    rows[5]["prompt"] = "Who wrote that novel about a whale?"
    matched = read(tmp_path, evalset, rows)
    assert (matched.how, matched.contradicting) == ("id", 1)
    assert (matched.missing, matched.extra) == (1, 1)
    assert evalset.rows[5].id not in matched.answers
    assert "1 rows give another prompt than the one that they were matched to; left out" in (
        " ".join(matched.warnings("m"))
    )
    decided = read(tmp_path, evalset, rows, match="id")
    assert (decided.missing, decided.contradicting) == (0, 1)
    assert "they count all the same" in " ".join(decided.warnings("m"))


def test_ids_given_twice_count_once(tmp_path: Path, evalset: EvalSet) -> None:
    rows = [{"id": f"q{n}", "response": f"n{n}"} for n in range(COUNT)]
    rows += [{"id": "q4", "response": "n4"}, {"id": "q5", "response": "other"}]
    matched = read(tmp_path, evalset, rows)
    assert (matched.duplicate, matched.conflicting, matched.missing) == (2, 1, 0)
    assert matched.answers[evalset.rows[5].id] == "n5"


def test_an_id_that_the_set_gives_twice_leaves_the_prompt_to_decide(tmp_path: Path) -> None:
    rows = [{"id": f"q{n % 4}", "prompt": prompt(n), "completion": "-"} for n in range(5)]
    evalset = read_set(write(tmp_path / "set.jsonl", rows))
    given = [{"id": f"q{n % 4}", **row} for n, row in enumerate(answers()[:5])]
    matched = read(tmp_path, evalset, [*reversed(given), {**given[0], "response": "again"}])
    assert [matched.answers[row.id] for row in evalset.rows] == [f"n{n}" for n in range(5)]
    assert (matched.how, matched.missing, matched.extra) == ("id", 0, 1)
    # Without prompts such rows answer nothing that could be told apart.
    bare = [{"id": row["id"], "response": row["response"]} for row in given]
    matched = read(tmp_path, evalset, bare)
    assert (matched.missing, matched.extra) == (2, 2)


def test_a_number_that_is_none_is_an_empty_answer(tmp_path: Path, evalset: EvalSet) -> None:
    rows = answers()
    lines: list[Any] = [*rows[:2], f'{{"prompt": "{prompt(2)}", "response": NaN}}', *rows[3:]]
    path = write(tmp_path / "p.jsonl", lines)
    try:
        matched = read_predictions(path, evalset)
    except InputError as error:  # a reader may refuse NaN, which JSON does not have
        assert "line 3" in str(error)
    else:
        assert matched.answers[evalset.rows[2].id] == "" and matched.empty == 1
    import pyarrow
    import pyarrow.parquet

    for row in rows:
        row["response"] = 1.5
    rows[2]["response"] = math.nan
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "p.parquet")
    matched = read_predictions(tmp_path / "p.parquet", evalset)
    assert (matched.empty, matched.answers[evalset.rows[2].id]) == (1, "")


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\0\0\0", b"\xff\xfe{\0", b"[1, 2, 3]"])
def test_files_that_hold_no_rows_are_named(
    tmp_path: Path, evalset: EvalSet, content: bytes
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"p\.jsonl"):
        read_predictions(path, evalset)


# --- rewards ----------------------------------------------------------------------------------


class Scorer:
    """Gives NaN and infinity to some answers."""

    def __init__(self) -> None:
        self.seen = 0

    def score_counted(
        self, prompts: Sequence[Any], given: Sequence[str], metas: Any
    ) -> list[RewardScore]:
        self.seen += len(given)
        strange = {"n3": math.nan, "n4": math.inf}
        return [RewardScore(strange.get(text, float(len(text)))) for text in given]


def test_rewards_that_are_no_numbers_are_left_out_and_told(
    tmp_path: Path, evalset: EvalSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = Scorer()
    monkeypatch.setattr(measure, "open_scorer", lambda *args, **options: scorer)
    weights = write(tmp_path / "reward" / "weights", ["w"])
    reward = RewardModel("r", weights.parent, 0.0, 1.0, False, False)
    config = EvaluateConfig.model_validate({"models": [{"name": "a", "path": "x"}]})
    texts: dict[str, list[str | None]] = {
        "a": [f"n{n}" for n in range(COUNT)],
        "b": ["", *("x" * 10 for _ in range(COUNT - 2)), None],
    }
    for _ in range(2):
        scored = measure.rewards(reward, texts, evalset, config, folder=tmp_path)
        assert [i for i, value in enumerate(scored.rows["a"]) if value is None] == [3, 4]
        assert [i for i, value in enumerate(scored.rows["b"]) if value is None] == [COUNT - 1]
        assert scored.columns["a"].n == COUNT - 2 and scored.rows["b"][0] == 0.0
    # The second time nothing is scored, numbers or not; equal answers to a prompt once.
    assert scorer.seen == COUNT + COUNT - 1
    [told] = coverage_warnings(coverage([scored]))
    assert "reward: a 18, b 19; 17 shared" in told


# --- which prompts the table speaks of --------------------------------------------------------


def metric(name: str) -> Metric:
    return Metric(name, name, True, "number", f"s|{name}", "A score.")


def scored_of(name: str, **values: list[float | None]) -> Scored:
    columns = {model: Column.of_means(rows) for model, rows in values.items()}
    return Scored(metric(name), columns, values)


def test_coverage_is_told_only_where_prompts_differ() -> None:
    same = scored_of("same", a=[1.0, None, 3.0], b=[4.0, None, 6.0])
    other = scored_of("other", a=[1.0, 2.0, None], b=[None, 4.0, 6.0])
    again = scored_of("again", a=[1.0, 2.0, None], b=[None, 4.0, 6.0])
    elsewhere = Scored(metric("corpus"), {"a": Column.of_means([1.0, None])})
    found = coverage([same, other, again, elsewhere])
    assert [item["metric"] for item in found] == ["other", "again"]
    assert found[0]["rows"] == {"a": 2, "b": 2} and found[0]["shared"] == 1
    assert found[0]["scores"] == {"a": 2.0, "b": 4.0}
    [told] = coverage_warnings(found)
    assert "(other, again: a 2, b 2; 1 shared)" in told


def test_models_without_a_shared_prompt_have_no_shared_score() -> None:
    [item] = coverage([scored_of("m", a=[1.0, None], b=[None, 2.0])])
    assert item["shared"] == 0 and item["scores"] == {"a": None, "b": None}


def test_everything_at_once_in_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing and empty answers, one of 100,001 characters, references for some rows only."""
    rows = [{"prompt": prompt(n), "completion": f"n{n}" if n % 5 else ""} for n in range(COUNT)]
    examples = [
        {"id": f"q{n}", "messages": [{"role": "user", "content": row["prompt"]}],
         "meta": {"reference": row["completion"]} if row["completion"] else {}}
        for n, row in enumerate(rows)
    ]  # fmt: skip
    path = write(tmp_path / "set.jsonl", examples)
    first, second = answers(), answers()
    first[1]["response"] = ""
    first[2]["response"] = "字" * 100_001
    first[3]["response"] = None
    files = {
        "early": write(tmp_path / "early.jsonl", first[:16]),
        "late": write(tmp_path / "late.jsonl", second[4:]),
    }
    options = {
        "set": str(path),
        "models": [{"name": name, "predictions": str(file)} for name, file in files.items()],
        "resamples": 100,
        "permutations": 100,
    }
    run_stages(recipe_from({"name": "t", "evaluate": options}), tmp_path / "run", ["evaluate"])
    summary = json.loads((tmp_path / "run" / "evaluate" / "summary.json").read_text("utf-8"))
    told = " ".join(summary["warnings"])
    assert "4 of 20 prompts have no reference answer" in told
    assert "early: 4 of 20 prompts have no answer in its file" in told
    assert "early: 2 answers are empty; they count as answers" in told
    assert "early: 1 answers are longer than 100,000 characters" in told
    # 16 answers each, of which 13 and 13 or so have a reference: equal counts, other prompts.
    with_reference = [n for n in range(COUNT) if n % 5]
    expected = {
        "early": sum(n < 16 for n in with_reference),
        "late": sum(n >= 4 for n in with_reference),
    }
    shared = sum(4 <= n < 16 for n in with_reference)
    found = {item["metric"]: item for item in summary["coverage"]}
    assert found["exact_match"]["rows"] == expected and found["exact_match"]["shared"] == shared
    assert found["exact_match"]["scores"] == {"early": 1.0, "late": 1.0}
    assert "Not all models are scored on the same prompts (exact_match, " in told
    scores = {(s["model"], s["metric"]): s for s in summary["scores"]}
    right = expected["early"] - 3
    assert scores["early", "exact_match"]["value"] == pytest.approx(right / expected["early"])
    assert {c["n"] for c in summary["comparisons"] if c["metric"] == "exact_match"} == {shared}
    text = headline(summary, columns=200)
    assert f"n={expected['early']}: " in text and "not the same ones as its rivals" in text


def test_a_file_that_does_not_fit_is_told_before_any_model_answers(tmp_path: Path) -> None:
    sets = [{"prompt": prompt(n), "completion": f"n{n}"} for n in range(3)]
    other = [{"prompt": "Who wrote that novel about a whale?", "response": "M."}] * 3
    options = {
        "set": str(write(tmp_path / "set.jsonl", sets)),
        "models": [
            {"name": "paid", "api": {"engine": "offline"}},
            {"name": "file", "predictions": str(write(tmp_path / "p.jsonl", other))},
        ],
    }
    with pytest.raises(InputError, match="No row of the predictions file"):
        run_stages(recipe_from({"name": "t", "evaluate": options}), tmp_path / "run", ["evaluate"])
    assert not (tmp_path / "run" / "evaluate" / "answers").exists()
