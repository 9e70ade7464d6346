"""`espalier compare` as a build server runs it: exit codes, files, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from espalier.cli import main
from espalier.errors import InputError
from espalier.evaluate import compare_output
from espalier.evaluate.significance import Analysis, Column, holm
from espalier.evaluate.statistics_file import read_statistics

WORDS = ["river", "stone", "window", "garden", "paper", "silver", "morning", "engine", "violet"]
ROWS = 40


def references() -> list[str]:
    generator = np.random.default_rng(0)
    return [" ".join(generator.choice(WORDS, 8)) for _ in range(ROWS)]


def prompt(index: int) -> str:
    return f"第{index}句话怎么说？" if index % 4 == 3 else f"Say sentence number {index}."


def spoilt(rate: float, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    return [
        " ".join(w if generator.random() > rate else "wrong" for w in text.split())
        for text in references()
    ]


ANSWERS = {"poor": spoilt(0.6, 1), "fair": spoilt(0.3, 2), "fair-again": spoilt(0.3, 3)}


def write(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return str(path)


def evaluate(
    folder: Path,
    models: dict[str, list[str]],
    *,
    rows: Sequence[int] = range(ROWS),
    texts: list[str] | None = None,
    more: Sequence[str] = (),
) -> Path:
    """A run of prediction files, evaluated through the command line."""
    folder.mkdir(parents=True)
    texts = texts or references()
    items = [
        {"id": f"q{i}", "prompt": prompt(i), "completion": texts[i], "source": f"book {i // 10}"}
        for i in rows
    ]
    words = ["evaluate", "--set", write(folder / "set.jsonl", items), "--output", str(folder)]
    for name, answers in models.items():
        given = [{"prompt": prompt(i), "response": answers[i]} for i in rows]
        words += ["--predictions", f"{name}={write(folder / f'{name}.jsonl', given)}"]
    words += ["--set", "evaluate.metrics=[exact_match,rougeL,bleu]"]
    words += ["--set", "evaluate.resamples=400", "--set", "evaluate.permutations=1000"]
    words += ["--set", "evaluate.compare.slices=[language,source]"]
    assert main([*words, *more]) == 0
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluate(tmp_path_factory.mktemp("compare") / "run", ANSWERS)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model names in another run: `fair` has become better."""
    models = {"poor": ANSWERS["poor"], "fair": spoilt(0.1, 5)}
    return evaluate(tmp_path_factory.mktemp("compare") / "other", models)


def compare(*words: str) -> int:
    return main(["compare", *words])


def result_of(tmp_path: Path, *words: str) -> dict[str, Any]:
    path = tmp_path / "result.json"
    compare(*words, "--json", str(path))
    value: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return value


def row_scores(run: Path, model: str, metric: str) -> list[float]:
    import pandas

    frame = pandas.read_parquet(run / "evaluate" / "scores.parquet")
    return [float(v) for v in frame[frame["model"] == model][metric]]


# --- numbers ---------------------------------------------------------------------------------


def test_stored_statistics_give_the_numbers_of_the_summary(run: Path, tmp_path: Path) -> None:
    summary = json.loads((run / "evaluate" / "summary.json").read_text("utf-8"))
    [pair] = result_of(tmp_path, f"{run}:poor", f"{run}:fair")["pairs"]
    scores = {(s["model"], s["metric"]): s["value"] for s in summary["scores"]}
    told = {
        c["metric"]: c
        for c in summary["comparisons"]
        if (c["baseline"], c["model"]) == ("poor", "fair")
    }
    assert [entry["metric"] for entry in pair["metrics"]] == ["exact_match", "rougeL", "bleu"]
    for entry in pair["metrics"]:
        assert entry["a"] == pytest.approx(scores["poor", entry["metric"]])
        assert entry["b"] == pytest.approx(scores["fair", entry["metric"]])
        mine = told[entry["metric"]]
        for key in ("difference", "low", "high", "p_uncorrected", "effect", "wins", "n"):
            assert entry[key] == pytest.approx(mine[key])
    assert told["rougeL"]["verdict"] == "better" and told["rougeL"]["effect"] > 0.8
    assert pair["rows"] == {"shared": ROWS, "only_a": 0, "only_b": 0, "differing": 0}


def test_corpus_bleu_is_sacrebleus_from_the_stored_statistics(run: Path, tmp_path: Path) -> None:
    from sacrebleu.metrics import BLEU

    [pair] = result_of(tmp_path, f"{run}:poor", f"{run}:fair", "--metric", "bleu")["pairs"]
    [entry] = pair["metrics"]
    theirs = BLEU(tokenize="13a", force=True).corpus_score(ANSWERS["fair"], [references()])
    assert entry["b"] == pytest.approx(theirs.score)


def test_wins_and_holm_are_those_of_the_rows(run: Path, tmp_path: Path) -> None:
    [pair] = result_of(tmp_path, f"{run}:fair", f"{run}:fair-again")["pairs"]
    first, second = (row_scores(run, name, "rougeL") for name in ("fair", "fair-again"))
    entry = next(e for e in pair["metrics"] if e["metric"] == "rougeL")
    assert entry["wins"] == sum(b > a for a, b in zip(first, second, strict=True))
    assert entry["losses"] == sum(b < a for a, b in zip(first, second, strict=True))
    assert entry["wins"] + entry["losses"] + entry["ties"] == ROWS
    assert entry["verdict"] == "tie" and entry["detectable_corrected"] > entry["detectable"] > 0
    raw = [e["p_uncorrected"] for e in pair["metrics"]]
    assert [e["p_value"] for e in pair["metrics"]] == pytest.approx(holm(raw))


def test_runs_are_compared_model_by_model_of_the_same_name(
    run: Path, other: Path, tmp_path: Path
) -> None:
    result = result_of(tmp_path, str(run), str(other), "--metric", "rougeL")
    assert [(p["a"]["model"], p["b"]["model"]) for p in result["pairs"]] == [
        ("poor", "poor"),
        ("fair", "fair"),
    ]
    same, better = (pair["metrics"][0] for pair in result["pairs"])
    assert (same["difference"], same["verdict"]) == (0.0, "tie")
    assert better["verdict"] == "better"
    # One table: two tests, corrected together.
    assert better["p_value"] == pytest.approx(min(1.0, 2 * better["p_uncorrected"]))


def test_slices_are_compared_on_their_rows(run: Path, tmp_path: Path) -> None:
    words = (f"{run}:poor", f"{run}:fair", "--metric", "rougeL", "--by", "language")
    [pair] = result_of(tmp_path, *words)["pairs"]
    chinese = [i for i in range(ROWS) if i % 4 == 3]
    entry = next(e for e in pair["slices"] if e["value"] == "zh")
    columns = [
        Column.of_means([row_scores(run, name, "rougeL")[i] for i in chinese])
        for name in ("poor", "fair")
    ]
    analysis = Analysis(resamples=400, permutations=1000, confidence=0.95, seed=1)
    [naive] = analysis.compare([(columns[0], columns[1])])
    assert entry["n"] == len(chinese)
    assert (entry["difference"], entry["low"]) == pytest.approx((naive.difference, naive.low))


def test_repeated_prompts_are_one_cluster(tmp_path: Path) -> None:
    """Each prompt three times: the intervals are those of each once."""
    once = evaluate(tmp_path / "once", ANSWERS)
    folder = tmp_path / "thrice"
    folder.mkdir()
    rows = [i for i in range(ROWS) for _ in range(3)]
    items = [{"prompt": prompt(i), "completion": references()[i]} for i in rows]
    words = ["evaluate", "--set", write(folder / "set.jsonl", items), "--output", str(folder)]
    for name in ("poor", "fair"):
        given = [{"prompt": prompt(i), "response": ANSWERS[name][i]} for i in rows]
        words += ["--predictions", f"{name}={write(folder / f'{name}.jsonl', given)}"]
    words += ["--set", "evaluate.metrics=[rougeL]", "--set", "evaluate.resamples=400"]
    assert main([*words, "--set", "evaluate.permutations=1000"]) == 0
    summary = json.loads((folder / "evaluate" / "summary.json").read_text("utf-8"))
    assert summary["clusters"] == {"by": "prompt", "rows": 3 * ROWS, "clusters": ROWS}
    assert "same prompt are drawn together" in summary["method"]
    told = json.loads((once / "evaluate" / "summary.json").read_text("utf-8"))
    for key in ("low", "high", "p_uncorrected", "effect"):
        mine, theirs = (
            next(
                c[key]
                for c in s["comparisons"]
                if (c["metric"], c["baseline"], c["model"]) == ("rougeL", "poor", "fair")
            )
            for s in (summary, told)
        )
        assert mine == pytest.approx(theirs)


# --- the gate --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ([], 0),
        (["--fail-if", "rougeL < -1 at 95%"], 0),
        (["--fail-if", "rougeL > 1 at 95%"], 1),
        (["--fail-unless", "rougeL > 1 at 95%", "--fail-unless", "bleu > 0 at 95%"], 0),
        (["--fail-if", "rougeL < -1 at 95%", "--fail-unless", "rougeL > 90"], 1),
        (["--fail-if", "score(exact_match) < 99 at 95%"], 1),
        (["--fail-if", "score(rougeL) < 1"], 0),
        (["--fail-if", "rougeL[language=zh] < 0"], 0),
        (["--fail-if", "rougeL[language=zh] > 0"], 1),
        (["--fail-if", "rougeL[language=fr] > 0"], 2),
        (["--fail-if", "rougeL[colour=red] > 0"], 2),
        (["--fail-if", "meteor > 0"], 2),
        (["--fail-if", "rougeL"], 2),
        (["--metric", "rougeL", "--fail-if", "bleu > 0"], 2),
        (["--metric", "meteor"], 2),
        (["--by", "colour"], 2),
        (["--confidence", "95"], 2),
        (["--resamples", "3"], 2),
        (["--json", "-", "--csv", "-"], 2),
    ],
)
def test_exit_codes(
    run: Path, rules: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(f"{run}:poor", f"{run}:fair", *rules) == code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert (captured.err == "") == (code != 2)


def test_a_worse_model_breaks_the_gate(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = "rougeL < -1 at 95%"
    files = {name: tmp_path / f"out.{name}" for name in ("json", "csv", "markdown", "junit")}
    words = [w for name, path in files.items() for w in (f"--{name}", str(path))]
    assert compare(f"{run}:fair", f"{run}:poor", "--fail-if", rule, *words) == 1
    assert f'failed: fail-if "{rule}"' in capsys.readouterr().out
    result = json.loads(files["json"].read_text("utf-8"))
    [outcome] = result["rules"]
    assert result["passed"] is False and outcome["outcome"] == "failed"
    entry = next(e for e in result["pairs"][0]["metrics"] if e["metric"] == "rougeL")
    assert (outcome["value"], outcome["low"], outcome["high"]) == pytest.approx(
        (100 * entry["difference"], 100 * entry["low"], 100 * entry["high"])
    )
    suite = ElementTree.parse(files["junit"]).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "1", "0")
    [failure] = suite.iter("failure")
    assert rule in str(failure.get("message"))
    lines = list(csv.DictReader(io.StringIO(files["csv"].read_text("utf-8"))))
    assert [line["metric"] for line in lines] == ["exact_match", "rougeL", "bleu"]
    assert float(lines[1]["difference"]) == pytest.approx(entry["difference"])
    assert lines[1]["verdict"] == "worse"
    text = files["markdown"].read_text("utf-8")
    assert text.startswith("**Gate: failed**") and "| ROUGE-L % |" in text


def test_the_level_of_a_rule_is_its_own(run: Path, tmp_path: Path) -> None:
    rules = ["rougeL < 100 at 80%", "rougeL < 100 at 99%"]
    words = [w for rule in rules for w in ("--fail-if", rule)]
    narrow, wide = result_of(tmp_path, f"{run}:poor", f"{run}:fair", *words)["rules"]
    assert wide["low"] < narrow["low"] < narrow["value"] < narrow["high"] < wide["high"]


def test_junit_is_what_build_servers_read(run: Path, tmp_path: Path) -> None:
    """The elements, attributes and counts of Jenkins' schema (jenkins-junit.xsd)."""
    path = tmp_path / "gate.xml"
    rules = [
        "rougeL > 1 at 95%",
        "rougeL < -1 at 95%",
        "score(bleu) < 200",
        "bleu[language=zh] < 0",
    ]
    words = [w for rule in rules for w in ("--fail-if", rule)]
    assert compare(f"{run}:poor", f"{run}:fair", *words, "--junit", str(path)) == 1
    root = ElementTree.parse(path).getroot()
    assert root.tag == "testsuites" and [suite.tag for suite in root] == ["testsuite"]
    cases = list(root[0])
    assert [case.tag for case in cases] == ["testcase"] * 4
    assert all(case.get("name") and case.get("classname") for case in cases)
    assert len({case.get("name") for case in cases}) == 4
    assert [[child.tag for child in case] for case in cases] == [
        ["failure"], ["system-out"], ["failure"], ["system-out"]
    ]  # fmt: skip
    for element in (root, root[0]):
        counts = [element.get(name) for name in ("tests", "failures", "errors")]
        assert counts == ["4", "2", "0"]


def test_a_file_that_cannot_be_written_is_no_broken_rule(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    target = tmp_path / "file" / "gate.json"
    assert compare(f"{run}:poor", f"{run}:fair", "--json", str(target)) == 2
    captured = capsys.readouterr()
    assert "--json can't be written" in captured.err and "ROUGE-L" in captured.out


def test_one_row_decides_only_what_asks_for_no_interval(tmp_path: Path) -> None:
    one = evaluate(tmp_path / "one", ANSWERS, rows=[4])
    rules = ["rougeL < 0", "rougeL < 0 at 95%", "score(rougeL) < 0"]
    words = [w for rule in rules for w in ("--fail-if", rule)]
    result = result_of(tmp_path, f"{one}:poor", f"{one}:fair", *words, "--by", "language")
    [pair] = result["pairs"]
    entry = pair["metrics"][1]
    assert entry["difference"] == pytest.approx(entry["b"] - entry["a"])
    assert (entry["low"], entry["p_value"], entry["verdict"]) == (None, None, "tie")
    assert [o["outcome"] for o in result["rules"]] == ["passed", "undecided", "passed"]
    assert "language has no two slices among these rows." in pair["notes"]


def test_metrics_of_other_texts_are_compared_within_one_run_however_it_is_named(
    run: Path, tmp_path: Path
) -> None:
    folder = edited(run, tmp_path / "copy", lambda header: None)
    with np.load(folder / "statistics.npz") as archive:
        arrays = {name: archive[name] for name in archive.files if not name.endswith(".rows")}
    np.savez(folder / "statistics.npz", **arrays)
    [pair] = result_of(tmp_path, f"{folder}:poor", f"{folder}/../copy:fair")["pairs"]
    assert [entry["metric"] for entry in pair["metrics"]] == ["exact_match", "rougeL", "bleu"]


def test_too_few_exchanges_for_so_many_comparisons_are_told(run: Path, tmp_path: Path) -> None:
    words = (f"{run}:poor", f"{run}:fair", "--confidence", "0.99", "--permutations", "200")
    [pair] = result_of(tmp_path, *words, "--by", "source")["pairs"]
    # Three comparisons: 3 / 0.01 - 1 exchanges are the least that can do.
    assert all(entry["p_value"] > 0.01 for entry in pair["metrics"])
    [note] = pair["notes"]
    assert note.startswith("3 comparisons need --permutations 299 at least")
    # The twelve in the four slices are given the 1,199 that they need, and so get finer p-values.
    raw = min(entry["p_uncorrected"] for entry in pair["slices"])
    assert 1 / 1200 <= raw < 1 / 201 and raw * 1200 == pytest.approx(round(raw * 1200))
    enough = result_of(tmp_path, *words[:-1], "299")["pairs"][0]
    assert enough["notes"] == []
    assert min(entry["p_value"] for entry in enough["metrics"]) == pytest.approx(0.01)


def test_output_goes_to_the_stream_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(f"{run}:poor", f"{run}:fair", "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["schema"] == 1


# --- what can't be compared ------------------------------------------------------------------


def test_rows_that_only_one_side_has_are_left_out_and_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = references()
    texts[7] = "another reference altogether"
    part = evaluate(tmp_path / "part", {"fair": ANSWERS["fair"]}, rows=range(5, ROWS), texts=texts)
    capsys.readouterr()
    result = result_of(tmp_path, f"{run}:poor", str(part), "--metric", "rougeL")
    out = capsys.readouterr().out
    assert result["pairs"][0]["rows"] == {
        "shared": ROWS - 6,
        "only_a": 5,
        "only_b": 0,
        "differing": 1,
    }
    assert "left out: 5 rows that only A has" in out
    assert "left out: 1 rows that have another reference in B" in out
    shared = [i for i in range(5, ROWS) if i != 7]
    mean = sum(row_scores(run, "poor", "rougeL")[i] for i in shared) / len(shared)
    assert result["pairs"][0]["metrics"][0]["a"] == pytest.approx(mean)


def test_sets_without_a_shared_row_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = [f"{text} changed" for text in references()]
    elsewhere = evaluate(tmp_path / "elsewhere", {"fair": ANSWERS["fair"]}, texts=changed)
    capsys.readouterr()
    assert compare(f"{run}:fair", str(elsewhere)) == 2
    assert "share no row" in capsys.readouterr().err


def edited(run: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a run's statistics with another header."""
    folder.mkdir()
    with np.load(run / "evaluate" / "statistics.npz") as archive:
        arrays = dict(archive)
    header = json.loads(arrays["header"].tobytes())
    change(header)
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez(folder / "statistics.npz", **arrays)
    return folder


def test_a_metric_with_other_settings_is_left_out(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def older(header: dict[str, Any]) -> None:
        header["metrics"][2]["signature"] = "sacrebleu.BLEU|version:1.0"
        header["columns"][0]["combine"] = "nowhere:NOTHING"

    old = edited(run, tmp_path / "old", older)
    result = result_of(tmp_path, f"{old}:poor", f"{run}:fair")
    [pair] = result["pairs"]
    assert [e["metric"] for e in pair["metrics"]] == ["rougeL"]
    assert {one["metric"] for one in pair["left_out"]} == {"exact_match", "bleu"}
    capsys.readouterr()
    assert compare(f"{old}:poor", f"{run}:fair", "--fail-if", "bleu < 0") == 2
    assert "other settings" in capsys.readouterr().err


def test_win_rates_are_compared_over_the_same_answers_only(
    run: Path, other: Path, tmp_path: Path
) -> None:
    def win_rate(header: dict[str, Any]) -> None:
        header["metrics"][1]["signature"] = "judge.pairs|baseline:poor|orders:both"

    def another_opponent(header: dict[str, Any]) -> None:
        win_rate(header)
        header["answers"]["poor"][5] = "0123456789abcdef"

    first = edited(run, tmp_path / "first", win_rate)
    for change, left_out in ((win_rate, []), (another_opponent, ["rougeL"])):
        second = edited(other, tmp_path / f"second{len(left_out)}", change)
        [pair] = result_of(tmp_path, f"{first}:fair", f"{second}:fair")["pairs"]
        assert [one["metric"] for one in pair["left_out"]] == left_out
        if left_out:
            assert (
                "'poor', whose answers to 1 shared prompts differ" in pair["left_out"][0]["reason"]
            )


@pytest.mark.parametrize(
    "combine", ["os:system", "../x:Y", "cli:main", "significance:holm", "json:", "", 7]
)
def test_a_statistics_file_names_only_scores_of_this_stage(
    run: Path, tmp_path: Path, combine: object
) -> None:
    def hostile(header: dict[str, Any]) -> None:
        for column in header["columns"]:
            column["combine"] = combine

    folder = edited(run, tmp_path / "hostile", hostile)
    stored = read_statistics(folder / "statistics.npz")
    assert stored.scored == {} and set(stored.unreadable) == {"exact_match", "rougeL", "bleu"}


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.update(schema=99),
        lambda header: header.pop("ids"),
        lambda header: header["ids"].pop(),
        lambda header: header["columns"][0].update(key="c99"),
        lambda header: header["columns"][0].update(combine="references:BLEU"),
        lambda header: header["metrics"].clear(),
        lambda header: header.update(metrics=3),
        lambda header: header["prompts"].pop(),
        lambda header: header["answers"]["poor"].pop(),
        lambda header: header["labels"].update(language=["en"]),
        lambda header: header["settings"].pop("seed"),
        lambda header: header["settings"].update(confidence="high"),
    ],
)
def test_a_broken_header_is_one_message(
    run: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    folder = edited(run, tmp_path / "broken", change)
    with pytest.raises(InputError, match="can't be read"):
        read_statistics(folder / "statistics.npz")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut"])
def test_a_broken_file_is_one_message(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "statistics.npz"
    path.write_bytes(content)
    assert compare(str(tmp_path), str(tmp_path / "none")) == 2
    told = capsys.readouterr().err
    assert "can't be read" in told and "pickle" not in told


def test_a_file_of_answers_in_a_runs_place_is_told_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "answers.jsonl", [{"prompt": "x", "response": "y"}])
    assert compare(path, path) == 2
    assert "--predictions NAME=FILE" in capsys.readouterr().err


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "statistics.npz", header=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="can't be read"):
        read_statistics(tmp_path / "statistics.npz")


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ("RUN", "RUN", "Both sides are the same evaluation"),
        ("RUN:poor", "RUN:poor", "same model"),
        ("RUN:poor", "RUN:none", "no model 'none'"),
        ("RUN:fair-again", "OTHER", "none is called 'fair-again'"),
        ("RUN", "missing", "does not exist"),
        ("RUN", "missing:poor", "does not exist"),
        ("RUN", "EMPTY", "no stored statistics"),
    ],
)
def test_sides_that_name_nothing_are_refused(
    run: Path,
    other: Path,
    tmp_path: Path,
    a: str,
    b: str,
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"RUN": str(run), "OTHER": str(other), "EMPTY": str(tmp_path)}
    words = []
    for word in (a, b):
        head, separator, tail = word.partition(":")
        words.append(places.get(head, head) + separator + tail)
    assert compare(*words) == 2
    assert told in capsys.readouterr().err


def test_single_models_are_compared_whatever_their_names(tmp_path: Path) -> None:
    one = evaluate(tmp_path / "one", {"mine": ANSWERS["poor"]})
    two = evaluate(tmp_path / "two", {"theirs": ANSWERS["fair"]})
    shutil.move(str(one / "evaluate"), str(tmp_path / "moved"))
    [pair] = result_of(tmp_path, str(tmp_path / "moved"), str(two))["pairs"]
    assert (pair["a"]["model"], pair["b"]["model"]) == ("mine", "theirs")


# --- hostile names ---------------------------------------------------------------------------


def hostile_result() -> dict[str, Any]:
    name = '=cmd()|x\x1b[31m<script>"&*_`\n\u202e\uffff\ud800'
    entry = {
        "metric": name, "label": name, "format": "number", "higher_is_better": True,
        "signature": name, "a": 1.0, "b": 2.0, "n": 3, "n_a": 3, "n_b": 4, "difference": 1.0,
        "low": 0.5, "high": 1.5, "p_value": 0.01, "p_uncorrected": 0.01, "verdict": "better",
        "effect": None, "detectable": None, "detectable_corrected": None,
    }  # fmt: skip
    rule = {
        "rule": name, "kind": "fail-if", "a": name, "b": name, "metric": name, "unit": "",
        "outcome": "undecided", "value": None, "low": None, "high": None, "level": 0.95, "n": 0,
        "of": "difference",
    }  # fmt: skip
    return {
        "confidence": 0.95, "test": "permutation", "power": 0.8, "passed": False, "rules": [rule],
        "pairs": [{
            "a": {"name": name}, "b": {"name": name},
            "rows": {"shared": 3, "only_a": 0, "only_b": 1, "differing": 0},
            "metrics": [entry], "slices": [{**entry, "by": name, "value": name}],
            "left_out": [{"metric": name, "reason": name}], "notes": [name],
        }],
    }  # fmt: skip


def test_hostile_names_stay_text() -> None:
    result = hostile_result()
    shown = compare_output.text(result)
    assert not set("\x1b\u202e\uffff\ud800") & set(shown)
    page = compare_output.markdown(result)
    assert "<script>" not in page and "\x1b" not in page
    tables = [line for line in page.splitlines() if line.startswith("|")]
    unescaped = [line.replace("\\|", "").count("|") for line in tables]
    assert set(unescaped[:3]) == {11} and set(unescaped[3:]) == {12}
    root = ElementTree.fromstring(compare_output.junit(result))
    assert root.get("errors") == "1" and len(list(root.iter("error"))) == 1
    cells = list(csv.reader(io.StringIO(compare_output.csv_text(result))))
    assert len(cells) == 3 and all(len(row) == len(cells[0]) for row in cells)
    assert not any(cell.startswith(("=", "@")) for row in cells for cell in row)


def test_every_score_made_from_sums_can_be_found_again() -> None:
    """What a metric makes its score with is stored by name; a new one must have its own."""
    import importlib

    from espalier.evaluate.significance import Combine
    from espalier.evaluate.statistics_file import _combine

    folder = Path(__file__).resolve().parents[1] / "evaluate"
    found: dict[str, Combine] = {}
    for path in sorted(folder.glob("*.py")):
        if "Combine(" in path.read_text("utf-8"):
            module = importlib.import_module(f"espalier.evaluate.{path.stem}")
            found |= {c.name: c for c in vars(module).values() if isinstance(c, Combine)}
    assert len(found) >= 4 and "" not in found
    for name, combine in found.items():
        assert _combine(name) is combine
