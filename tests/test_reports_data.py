"""What the page says: verdicts, curves, funnel, provenance, words, the command line."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
from report_fixture import make_run, write_json, write_lines

from espalier.cli import main
from espalier.reports.config import ReportConfig
from espalier.reports.curves import accuracy_bars, charts, samples, thin
from espalier.reports.data import gather, source_files
from espalier.reports.data_gather import read_steps
from espalier.reports.data_samples import sample_rejects
from espalier.reports.funnel import composition, count_tables, kept_share
from espalier.reports.manifests import again, shown_path, without_secrets
from espalier.reports.strings import ASSETS, t, words
from espalier.reports.verdicts import difference_text, plain_number, verdicts

ROOT = Path(__file__).resolve().parents[1]


# --- verdicts ---------------------------------------------------------------------------------


def compared(metric: str, model: str, baseline: str, values: tuple[Any, ...]) -> dict[str, Any]:
    difference, low, high, verdict = values
    return {
        "metric": metric, "model": model, "baseline": baseline, "difference": difference,
        "low": low, "high": high, "verdict": verdict, "p_value": 0.01, "n": 100,
    }  # fmt: skip


def both(metric: str, model: str, baseline: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
    difference, low, high, verdict = values
    turned = {"better": "worse", "worse": "better", "tie": "tie"}[verdict]
    return [
        compared(metric, model, baseline, values),
        compared(metric, baseline, model, (-difference, -high, -low, turned)),
    ]


METRICS = [
    {"name": name, "label": label, "higher_is_better": name != "perplexity", "format": style}
    for name, label, style in (
        ("exact_match", "Exact match", "percent"),
        ("perplexity", "Perplexity", "perplexity"),
        ("reward", "Held-out reward", "number"),
        ("bleu", "BLEU", "number"),
    )
]


def summary(*comparisons: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "baseline": "sft",
        "models": [{"name": "base", "label": "Base"}, {"name": "sft"}, {"name": "ppo"}],
        "metrics": METRICS,
        "comparisons": [item for pair in comparisons for item in pair],
    }


def test_a_win_with_ties() -> None:
    found = verdicts(
        summary(
            both("exact_match", "ppo", "sft", (0.012, -0.02, 0.04, "tie")),
            both("reward", "ppo", "sft", (2.31, 1.9, 2.7, "better")),
            both("bleu", "ppo", "sft", (0.3, -1.0, 2.0, "tie")),
        )
    )
    assert [v.sentence for v in found] == [
        "ppo beats sft on held-out reward by 2.31 [1.90, 2.70]; tie: exact match, BLEU."
    ]
    assert found[0].mark == "better"


def test_the_winner_on_more_metrics_is_the_subject() -> None:
    found = verdicts(
        summary(
            both("reward", "base", "sft", (0.3, 0.1, 0.5, "better")),
            both("exact_match", "base", "sft", (-0.2, -0.3, -0.1, "worse")),
            both("bleu", "base", "sft", (-9.0, -12.0, -5.0, "worse")),
        )
    )
    assert found[0].lead == "sft beats Base"
    assert "; it falls behind on held-out reward by 0.30 [0.10, 0.50]" in found[0].sentence


def test_the_winner_is_the_subject_and_less_can_be_better() -> None:
    found = verdicts(
        summary(
            both("exact_match", "base", "sft", (-0.405, -0.47, -0.34, "worse")),
            both("perplexity", "base", "sft", (12.5, 11.0, 14.0, "worse")),
        )
    )
    assert [v.sentence for v in found] == [
        "sft beats Base on exact match by 40.5 points [34.0, 47.0] "
        "and perplexity by 12.5 [11.0, 14.0]."
    ]


def test_a_mixed_verdict_and_all_ties() -> None:
    mixed = verdicts(
        summary(
            both("reward", "ppo", "sft", (0.41, 0.32, 0.5, "better")),
            both("exact_match", "ppo", "sft", (-0.1, -0.15, -0.05, "worse")),
        )
    )[0]
    assert mixed.sentence == (
        "ppo beats sft on held-out reward by 0.41 [0.32, 0.50]; "
        "it falls behind on exact match by 10.0 points [5.0, 15.0]."
    )
    assert mixed.mark == "mixed"
    tied = verdicts(summary(both("reward", "ppo", "sft", (0.0, -1, 1, "tie"))))[0]
    assert (tied.sentence, tied.mark) == ("ppo and sft are tied on held-out reward.", "tie")


def test_headline_metrics_come_first_and_later_ones_are_only_named() -> None:
    wins = [
        both(name, "ppo", "sft", (0.5, 0.4, 0.6, "worse" if name == "perplexity" else "better"))
        for name in ("exact_match", "perplexity", "reward", "bleu")
    ]
    sentence = verdicts(summary(*wins), ["bleu"])[0].sentence
    assert sentence.startswith("ppo beats sft on BLEU by 0.50")
    one_more = [*METRICS, {**METRICS[3], "name": "chrf", "label": "chrF"}]
    more = {**summary(*wins, both("chrf", "ppo", "sft", (5, 4, 6, "better"))), "metrics": one_more}
    assert ", also on chrF;" in verdicts(more)[0].sentence
    names = [f"m{n}" for n in range(9)]
    many = {
        **summary(*(both(n, "ppo", "sft", (5, 4, 6, "better")) for n in names)),
        "metrics": [{**METRICS[3], "name": n, "label": n} for n in names],
    }
    assert ", also on m3, m4, m5 and 3 more." in verdicts(many)[0].sentence


def test_models_without_shared_rows_have_no_verdict() -> None:
    assert verdicts(summary([compared("bleu", "ppo", "sft", (None, None, None, "tie"))])) == []


@pytest.mark.parametrize(
    ("value", "style", "scale", "text"),
    [
        (0.5, "percent", 0.5, "50.0"),
        (-0.0004, "percent", 0.1, "0.0"),
        (2.345, "number", 2.7, "2.35"),
        (0.0123, "number", 0.02, "0.012"),
        (-31.26, "number", 40, "\u221231.3"),
        (12345.6, "perplexity", 20000, "12,346"),
        (0.0, "number", 0.0, "0.00"),
    ],
)
def test_numbers_of_a_sentence(value: float, style: str, scale: float, text: str) -> None:
    assert plain_number(value, style, scale) == text


def test_a_difference_without_interval() -> None:
    comparison = {"difference": -3.0, "low": None, "high": None}
    assert difference_text(METRICS[3], comparison) == "BLEU by 3.00"


# --- curves -----------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [20, 21, 100, 400])
@pytest.mark.parametrize("size", [1, 2, 19, 20, 400, 401, 9_973])
def test_thinning_keeps_ends_peaks_and_order(points: int, size: int) -> None:
    rng = random.Random(f"{points}:{size}")
    line = [(float(i), rng.gauss(0, 1)) for i in range(size)]
    kept = thin(line, points)
    assert len(kept) <= max(points, 2)
    assert kept == sorted(set(kept) & set(line))
    assert {line[0], line[-1], min(line, key=lambda p: p[1]), max(line, key=lambda p: p[1])} <= {
        *kept
    }
    if size <= points:
        assert kept == line


def test_charts_group_splits_and_kinds() -> None:
    rows = [
        {"step": s, "split": "train", "loss": 2.0 / s, "accuracy/style": 0.5, "epoch": s, "x": "a"}
        for s in (1, 2, 3)
    ]
    rows += [{"step": s, "split": "eval", "loss": 3.0} for s in (2, 3)]
    rows += [{"step": s, "kl": 0.1 * s, "kl_k3": 0.2 * s, "brand_new": s} for s in (1, 2)]
    rows += [{"loss": 1.0}, {"step": 9, "flag": True, "alone": 3.0}]
    found = {chart["key"]: chart for chart in charts(rows, 100)}
    assert list(found) == ["loss", "accuracy", "kl", "brand_new"]
    assert [(s["label"], s["x"], s["y"]) for s in found["loss"]["series"]] == [
        ("training", [1, 2, 3], [2, 1, 0.66667]),
        ("validation", [2, 3], [3, 3]),
    ]
    assert len(found["kl"]["series"]) == 2
    assert found["brand_new"]["title"] == "Brand new"
    assert [chart["minor"] for chart in found.values()] == [False, True, False, True]


def test_samples_are_gathered_by_prompt() -> None:
    rows = [
        {"step": s, "prompt": p, "answer": f"{p}{s}", "reference": "r"}
        for s in (1, 2)
        for p in ("a", "b", "c")
    ]
    found = samples(rows, 2)
    assert [(x["prompt"], [a["text"] for a in x["answers"]]) for x in found] == [
        ("a", ["a1", "a2"]),
        ("b", ["b1", "b2"]),
    ]


def test_accuracy_bars() -> None:
    kinds = {"style": {"n": 5, "accuracy": 0.8, "low": 0.4, "high": 0.9}, "x": {"n": 0}}
    bars = accuracy_bars({"pairs": 7, "accuracy": 0.9, "by_kind": kinds})
    assert [(bar["label"], bar["value"], bar["n"]) for bar in bars] == [
        ("All pairs", 0.9, 7),
        ("Style", 0.8, 5),
    ]
    spoken = accuracy_bars({"by_language": {"zh": {"n": 3, "accuracy": 1.0}}})
    assert [bar["label"] for bar in spoken] == ["Language: Chinese"]
    assert accuracy_bars(None) == []


# --- data -------------------------------------------------------------------------------------


def test_funnel_counts_and_examples(tmp_path: Path) -> None:
    steps = [
        {"step": "filters", "stream": "train", "in": 10, "out": 7, "rejected": {"b": 1, "a": 2}},
        {"step": "read", "stream": "train", "in": 10, "out": 10, "rejected": {}},
        {"step": "pairs", "stream": "other", "in": 4, "out": 0, "rejected": {"refusal": 4}},
    ]
    write_json(tmp_path / "funnel.json", steps)
    rejects = [
        {"step": "filters", "rule": "a", "text": f"{n}" * 1000, "evidence": None} for n in (1, 2)
    ]
    write_lines(tmp_path / "rejects.jsonl", rejects)
    (examples,) = sample_rejects([tmp_path / "rejects.jsonl"], "s", {}, 1)
    assert (examples["count"], len(examples["examples"])) == (2, 1)
    assert len(examples["examples"][0]["text"]) == 900
    train, other = read_steps([tmp_path / "funnel.json"], [examples])
    assert [step["step"] for step in train["steps"]] == ["read", "filters"]
    # A rule with examples knows which they are.
    assert [
        (rule["label"], rule["count"], rule["key"]) for rule in train["steps"][1]["rejected"]
    ] == [
        ("A", 2, "0"),
        ("B", 1, ""),
    ]
    assert other["steps"][0]["kept"] == "0.0"


@pytest.mark.parametrize(
    ("rows_in", "rows_out", "text"),
    [(0, 0, ""), (3, 3, "100.0"), (100_000, 99_999, "99.9"), (100_000, 1, "0.1"), (3, 2, "66.7")],
)
def test_kept_share(rows_in: int, rows_out: int, text: str) -> None:
    assert kept_share(rows_in, rows_out) == text


def test_counts_come_from_the_manifest_or_the_rows(tmp_path: Path) -> None:
    manifest = {"counts": {"train": 3, "by_language": {"en": 1, "zh": 2}, "deep": {"x": {"a": 1}}}}
    assert [(table["title"], table["rows"]) for table in count_tables(manifest)] == [
        ("By language", [("zh", 2), ("en", 1)]),
        ("X", [("a", 1)]),
    ]
    rows = [{"meta": {"source": f"s{i % 50}", "language": "en"}} for i in range(100)]
    write_lines(tmp_path / "train.jsonl", [*rows, {"id": "no meta"}])
    (table,) = composition(tmp_path / "train.jsonl")
    assert table["title"] == "By source"
    assert len(table["rows"]) == 41
    assert dict(table["rows"])["others"] == 20


# --- provenance -------------------------------------------------------------------------------


def test_secrets_and_home_are_not_shown() -> None:
    recipe = (
        "teacher:\n  api_key_env: OPENAI_API_KEY\n  options:\n    api_key: sk-123\n"
        "    'hf_token': abc\n  base_url: http://me:pw@host/v1\n"
        "data: /home/someone/data\ntoken_budget: 8192\n"
    )
    shown = without_secrets(recipe, Path("/home/someone"))
    for gone in ("sk-123", "abc", "me:pw", "/home/someone"):
        assert gone not in shown
    for kept in ("OPENAI_API_KEY", "8192", "~/data", "host/v1"):
        assert kept in shown


def test_paths_are_shown_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    run = tmp_path / "runs/r"
    assert shown_path(str(run / "curate/train.jsonl"), run) == "curate/train.jsonl"
    assert shown_path(str(tmp_path / "home/data/x"), run) == "~/data/x"
    assert shown_path("data/x.jsonl", run) == "data/x.jsonl"
    monkeypatch.chdir(tmp_path)
    assert shown_path("runs/r/curate/train.jsonl", Path("runs/r")) == "curate/train.jsonl"


def test_how_to_do_it_again() -> None:
    assert again("my run", [{"git": "abc"}]) == (
        "git checkout abc\nespalier run recipe.yaml --run 'my run'"
    )
    assert again("r", [{"git": None}]) == "espalier run recipe.yaml --run r"


# --- words ------------------------------------------------------------------------------------


def test_every_word_is_there_and_used() -> None:
    sources = [*ASSETS.glob("*.js"), *(ROOT / "reports").glob("*.py")]
    sources += (ROOT / "reports/templates").glob("*.j2")
    text = "\n".join(path.read_text("utf-8") for path in sources)
    called = set(re.findall(r"\bt\(\s*[\"']([\w.-]+)[\"']\s*[,)]", text))
    assert called <= set(words())
    # Keys that are put together from a part and a name.
    parts = set(re.findall(r"[(\[]f?[\"'`]([\w]+\.[\w]*?)(?:[\"'] ~|\{|\$\{)", text))
    parts |= {"stage.", "curve.", "chart.", "rule.", "stream.", "split.", "count.", "hardware."}
    parts |= {"section.", "section.dp_", "runs.how_", "runs.end_"}
    parts |= {
        f"dp.{name}."
        for name in ("action", "field", "file", "group", "language", "length", "quality", "role",
                     "shared")
    }  # fmt: skip
    parts |= {"step.", "kind.", "dp.origin_"}
    literal = {key for key in words() if f'"{key}"' in text or f"'{key}'" in text}
    unused = {k for k in words() if k not in literal and not any(k.startswith(p) for p in parts)}
    assert unused == set()


def test_values_are_put_in_once() -> None:
    assert t("verdict.better", model="{baseline}", baseline="{x}") == "{baseline} beats {x}"
    with pytest.raises(KeyError):
        t("verdict.better", model="a")


# --- stage and command line -------------------------------------------------------------------


def test_inputs_are_the_files_that_exist(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", rows=2, stages=("sft", "evaluate"))
    found = source_files(run)
    assert {"sft/metrics.jsonl", "evaluate/scores.parquet", "evaluate/answers/ppo.jsonl"} <= {
        *found
    }
    assert not [name for name in found if name.startswith("curate")]
    assert gather(run, ReportConfig()).name == "r"


def test_report_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "r", rows=30)
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text("utf-8")
    assert "PPO’s gain".replace("’", "&#39;") in page  # the recipe's note, read from the run
    out = capsys.readouterr().out
    assert "PPO beats SFT" in out
    assert main(["report", str(run), "--output", str(tmp_path / "x/y.html")]) == 0
    assert (tmp_path / "x/y.html").read_text("utf-8") == page


def test_report_of_a_recipe_is_a_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "demo.yaml"
    recipe.write_text("report:\n  title: Hello\n", encoding="utf-8")
    make_run(tmp_path / "runs/demo", rows=4, stages=("sft", "evaluate"))
    assert main(["report", "--recipe", str(recipe)]) == 0
    manifest = tmp_path / "runs/demo/report/manifest.json"
    assert manifest.is_file()
    assert "<title>Hello</title>" in (tmp_path / "runs/demo/report.html").read_text("utf-8")
    capsys.readouterr()
    assert main(["report", "--recipe", str(recipe)]) == 0
    assert "up to date" in capsys.readouterr().out
    (tmp_path / "runs/demo/report.html").unlink()
    assert main(["report", "--recipe", str(recipe)]) == 0
    assert (tmp_path / "runs/demo/report.html").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report"], "needs run folders, a recipe or a data folder"),
        (["report", "nowhere"], "no such run folder"),
        (["report", "r", "--recipe", "x.yaml"], "only one of them"),
        (["report", "r", "--set", "a=b"], "go with --recipe"),
        (["report", "empty"], "nothing to report"),
        (["report", "r", "--output", "empty"], "names a folder"),
    ],
)
def test_wrong_use_says_what_to_do(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    make_run(tmp_path / "r", rows=2, stages=("sft",))
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_run_folder_with_a_strange_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "r", rows=2, stages=("sft",))
    (run / "recipe.resolved.yaml").write_text("report: {titel: x}\n", encoding="utf-8")
    assert main(["report", str(run)]) == 2
    assert "recipe.resolved.yaml" in capsys.readouterr().err
