"""`espalier evaluate` as a user runs it: predictions alone, messages, the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from espalier.cli import main
from espalier.evaluate.table import headline, number
from espalier.recipe import recipe_from
from espalier.running import run_stages
from espalier.terminal import width

PUBLISHED = (
    "davinci", "davinci-t0-ft", "davinci-superni-ft", "davinci-self-instruct",
    "davinci-self-instruct-and-superni-ft", "text-davinci-001", "text-davinci-002",
    "text-davinci-003",
)  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    pairs = [(f"Say {word}.", word) for word in ("red", "blue", "绿色", "gold", "pink")]
    right = [{"instruction": p, "response": a} for p, a in pairs]
    wrong = [{"instruction": p, "response": "x"} for p, _ in pairs]
    return {
        "set": write(tmp_path / "set.jsonl", [{"prompt": p, "completion": a} for p, a in pairs]),
        "right": write(tmp_path / "right.jsonl", right),
        "wrong": write(tmp_path / "wrong.jsonl", wrong),
    }


def test_predictions_alone_are_compared_and_printed(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--set", files["set"], "--output", str(tmp_path / "out")]
    words += [
        "--predictions",
        f"wrong={files['wrong']}",
        "--predictions",
        f"right={files['right']}",
    ]
    words += ["--set", "evaluate.resamples=200"]
    assert main(words) == 0
    first = capsys.readouterr().out
    lines = first.splitlines()
    assert any(line.startswith("right") and "100.0 [" in line for line in lines)
    assert "only 5 prompts" in first
    summary = json.loads((tmp_path / "out/evaluate/summary.json").read_text("utf-8"))
    assert summary["baseline"] == "wrong" and summary["resamples"] == 200
    assert summary["synthetic"] is False
    assert (tmp_path / "out/evaluate/scores.parquet").is_file()
    assert main(words) == 0
    again = capsys.readouterr().out
    assert "up to date" in again and "100.0 [" in again


def test_the_table_says_what_is_not_tested_and_marks_only_what_was_compared(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--set", files["set"], "--predictions", f"a={files['wrong']}"]
    words += ["--output", str(tmp_path / "out"), "--limit", "1"]
    assert main([*words, "--set", "evaluate.metrics=[rougeL,length,refusals]"]) == 0
    out = capsys.readouterr().out
    assert "1 prompt, 1 model\n" in out and "only 1 prompt:" in out
    # One model is compared with none, and a share of refusals is neither good nor bad.
    assert "better" not in out.replace("less is better", "") and "Refusals % ↓" not in out
    assert "shown, not tested: Words, Characters, Refusals" in out
    assert main([*words, "--set", "evaluate.metrics=[reward]"]) == 0
    assert "no metric was scored" in capsys.readouterr().out


def test_more_comparisons_than_exchanges_can_tell_apart_are_told(
    files: dict[str, str], tmp_path: Path
) -> None:
    words = ["evaluate", "--set", files["set"], "--output", str(tmp_path / "out")]
    for name in ("wrong", "right"):
        words += ["--predictions", f"{name}={files[name]}"]
    words += ["--set", "evaluate.metrics=[exact_match,token_f1,rouge1,rouge2,rougeL,chrf]"]
    assert main([*words, "--set", "evaluate.permutations=100"]) == 0
    summary = json.loads((tmp_path / "out/evaluate/summary.json").read_text("utf-8"))
    told, *slices = [text for text in summary["warnings"] if "`permutations:" in text]
    # Six metrics need 6 / 0.05 - 1 exchanges.
    assert told.startswith("6 comparisons with wrong need `permutations: 119` at least")
    # The slices are given as many as they need.
    assert slices == []


def test_a_resolved_recipe_evaluates_again(files: dict[str, str], tmp_path: Path) -> None:
    """All defaults written out mean what they mean unsaid."""
    words = ["evaluate", "--set", files["set"], "--predictions", f"a={files['wrong']}"]
    words += ["--set", "evaluate.compare.slices=[]", "--output", str(tmp_path / "out")]
    assert main([*words, "--set", "evaluate.metrics=[exact_match]"]) == 0
    recipe = tmp_path / "out" / "recipe.resolved.yaml"
    assert main(["evaluate", "--recipe", str(recipe), "--runs-dir", str(tmp_path / "runs")]) == 0
    assert (tmp_path / "runs/out/evaluate/summary.json").is_file()


@pytest.mark.parametrize(
    ("option", "value", "needs"),
    [
        ("reward_label", 1, "reward_model"),
        ("reward_template", "vicuna", "reward_model"),
        ("allow_training_reward", True, "reward_model"),
        ("corpus_windows", "rolling", "perplexity_corpus"),
    ],
)
def test_options_without_what_they_belong_to_are_refused(
    option: str, value: object, needs: str
) -> None:
    from pydantic import ValidationError

    from espalier.evaluate.config import EvaluateConfig

    model = {"name": "a", "predictions": "a.jsonl"}
    with pytest.raises(ValidationError, match=f"{option} has no effect without `{needs}`"):
        EvaluateConfig.model_validate({"models": [model], option: value})
    EvaluateConfig.model_validate({"models": [model], option: value, needs: "x"})


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--predictions NAME=FILE"),
        (["--set", "SET", "--output", "out"], "Say what to evaluate"),
        (["--set", "SET", "--output", "out", "--predictions", "file.jsonl"], "has no name"),
        (["--set", "SET", "--output", "out", "--predictions", "x=none.jsonl"], "none.jsonl"),
        (["--set", "none.jsonl", "--output", "out", "--predictions", "x=RIGHT"], "none.jsonl"),
        (["--set", "SET", "--output", "out", "--model", "x=no/such"], "no/such"),
        (["--recipe", "r.yaml", "--predictions", "x=RIGHT"], "don't go together"),
        (["--recipe", "none.yaml"], "none.yaml"),
        (
            ["--set", "SET", "--output", "out", "--predictions", "x=RIGHT", "--baseline", "y"],
            "none of the models",
        ),
        (
            [
                "--set",
                "SET",
                "--output",
                "out",
                "--predictions",
                "x=RIGHT",
                "--set",
                "evaluate.n=1",
            ],
            "unknown key",
        ),
    ],
)
def test_wrong_usage_ends_with_code_2_and_a_message(
    files: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [w.replace("SET", files["set"]).replace("RIGHT", files["right"]) for w in words]
    assert main(["evaluate", *filled]) == 2
    assert told in capsys.readouterr().err


def test_a_limit_of_zero_is_no_missing_limit(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--set", files["set"], "--output", str(tmp_path / "out")]
    assert main([*words, "--predictions", f"x={files['right']}", "--limit", "0"]) == 2
    assert "evaluate.limit" in capsys.readouterr().err
    assert main(["evaluate", "--recipe", "r.yaml", "--limit", "0"]) == 2
    assert "don't go together" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "expected"), [("file", False), ("procedural", True)])
def test_only_rows_of_the_embedded_teacher_are_called_synthetic(
    tmp_path: Path, kind: str, expected: bool
) -> None:
    rows = [
        {"instruction": f"Name the {n}th thing of {w}.", "output": f"thing {n} {w}"}
        for n in range(9)
        for w in ("rain", "wood")
    ]
    data, answers = tmp_path / "own.jsonl", tmp_path / "answers.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    answers.write_bytes(data.read_bytes())
    source: dict[str, Any] = {"kind": "file", "path": str(data)}
    if kind == "procedural":
        source = {"kind": "procedural", "count": 40}
    model = {"name": "x", "predictions": str(answers)}
    curate = {"sources": [source], "holdout": {"count": 5}}
    recipe = recipe_from({"name": "r", "curate": curate})
    run_stages(recipe, tmp_path / "run", ["curate"])
    if kind == "procedural":
        held = (tmp_path / "run/curate/eval.jsonl").read_text(encoding="utf-8")
        ids = [json.loads(line)["id"] for line in held.splitlines()]
        text = "".join(json.dumps({"id": i, "response": "a"}) + "\n" for i in ids)
        answers.write_text(text, encoding="utf-8")
    evaluate = {"set": "curate/eval.jsonl", "models": [model], "resamples": 100}
    recipe = recipe_from({"name": "r", "curate": curate, "evaluate": evaluate})
    run_stages(recipe, tmp_path / "run", ["evaluate"])
    summary = json.loads((tmp_path / "run/evaluate/summary.json").read_text("utf-8"))
    assert summary["synthetic"] is expected


def test_the_table_is_aligned_for_wide_characters() -> None:
    def score(model: str, value: float) -> dict[str, Any]:
        return {"model": model, "metric": "m", "value": value, "low": 0.0, "high": 1.0, "n": 9}

    summary = {
        "set": {"name": "s", "rows": 9},
        "baseline": "a",
        "synthetic": True,
        "confidence": 0.95,
        "models": [{"name": "a", "label": "模型甲"}, {"name": "b", "label": "model b"}],
        "metrics": [{"name": "m", "label": "Exact", "format": "percent", "higher_is_better": True}],
        "scores": [score("a", 0.25), score("b", 0.5)],
        "comparisons": [{"metric": "m", "baseline": "a", "model": "b", "verdict": "better"}],
        "warnings": ["few rows"],
    }
    lines = headline(summary, columns=80).splitlines()
    first = next(line for line in lines if line.startswith("模型甲"))
    second = next(line for line in lines if line.startswith("model b"))
    assert width(first[: first.index("25.0")]) == width(second[: second.index("50.0")])
    assert second.endswith("50.0 [0.0, 100.0] +")
    assert any("synthetic" in line for line in lines)
    assert lines[-1] == "warning: few rows"


def test_numbers_are_short() -> None:
    shown = [number(v, "number") for v in (0.12345, 12.345, 123.45, 1234.5, 1.5e7)]
    assert shown == ["0.12", "12.35", "123.5", "1,234", "1.50e+07"]
    assert number(0.405, "percent") == "40.5" and number(None, "number") == "–"


def test_published_models_come_in_the_known_order(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared_data / "self_instruct"
    words = ["evaluate", "--set", str(folder / "user_oriented_instructions.jsonl")]
    for name in PUBLISHED:
        words += ["--predictions", f"{name}={folder / 'predictions' / name}_predictions.jsonl"]
    words += ["--output", str(tmp_path / "out"), "--set", "evaluate.metrics=[rougeL]"]
    assert main(words) == 0
    summary = json.loads((tmp_path / "out/evaluate/summary.json").read_text("utf-8"))
    value = {score["model"]: score["value"] for score in summary["scores"]}
    assert {score["n"] for score in summary["scores"]} == {252}
    assert value["davinci"] < value["davinci-t0-ft"] < value["davinci-superni-ft"]
    assert value["davinci-superni-ft"] < value["davinci-self-instruct"]
    for name in PUBLISHED[:5]:
        assert all(value[name] < value[f"text-davinci-00{number}"] for number in (1, 2, 3))
    verdicts = {(c["baseline"], c["model"]): c["verdict"] for c in summary["comparisons"]}
    assert verdicts["davinci", "davinci-t0-ft"] == "better"
    assert verdicts["text-davinci-002", "text-davinci-003"] == "tie"
