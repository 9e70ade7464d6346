"""The overview without a browser: verdicts of all pairs, what the script is given, tables."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from overview_fixture import details, overview_run, ratings
from test_reports_page import Page

from espalier.reports.config import ReportConfig
from espalier.reports.judged import judge_part, people_part
from espalier.reports.metric_details import metric_details
from espalier.reports.overview import overview_of
from espalier.reports.overview_data import family, overview_core, rubrics
from espalier.reports.page import build_report
from espalier.reports.strings import speaking
from espalier.reports.verdicts import Verdict, best_model, ordered_metrics, verdicts


def compared(table: dict[str, str]) -> dict[str, Any]:
    """A summary of three models from verdicts `model>baseline: word word …`, one a metric."""
    turned = {"better": "worse", "worse": "better", "tie": "tie"}
    comparisons = []
    for pair, words in table.items():
        model, baseline = pair.split(">")
        for metric, word in enumerate(words.split()):
            shared = {"metric": f"m{metric}", "low": -1.0, "high": 1.0, "wins": 3}
            for one, other, verdict, sign in (
                (model, baseline, word, 1), (baseline, model, turned[word], -1),
            ):  # fmt: skip
                size = {"better": 0.5, "worse": -0.5, "tie": 0.0}[word] * sign
                names = {"model": one, "baseline": other, "verdict": verdict, "difference": size}
                comparisons.append({**shared, **names})
    models = list(dict.fromkeys(name for pair in table for name in reversed(pair.split(">"))))
    return {
        "models": [{"name": name, "label": name.upper()} for name in models],
        "baseline": models[0],
        "metrics": [
            {"name": f"m{i}", "label": f"M{i}", "higher_is_better": True} for i in range(3)
        ],
        "comparisons": comparisons,
        "scores": [],
    }


# --- verdicts ----------------------------------------------------------------------------------


def test_every_pair_has_a_verdict_those_with_the_baseline_first() -> None:
    summary = compared(
        {"b>a": "better better tie", "c>a": "worse tie tie", "c>b": "worse worse better"}
    )
    found = verdicts(summary)
    assert [one.names for one in found] == [("a", "c"), ("b", "a"), ("b", "c")]
    assert [one.mark for one in found] == ["better", "better", "mixed"]
    assert [one.balance for one in found] == [1, 2, 1]
    assert (
        found[1].sentence
        == "B beats A on M0 by 0.50 [−1.00, 1.00] and M1 by 0.50 [−1.00, 1.00]; tie: M2."
    )
    assert [one.metric for one in found] == ["m0", "m0", "m0"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            {"b>a": "better tie tie", "c>a": "better better worse", "c>b": "better tie tie"},
            "Best overall: C.",
        ),
        (
            {"b>a": "better tie tie", "c>a": "better tie tie", "c>b": "tie tie tie"},
            "No single best model: C and B are",
        ),
        # In a circle every model has one ahead of it; and where nothing differs none is.
        ({"b>a": "better tie tie", "c>b": "better tie tie", "c>a": "worse tie tie"}, ""),
        ({"b>a": "tie tie tie", "c>a": "tie tie tie", "c>b": "tie tie tie"}, ""),
        # As much better as worse is not ahead.
        (
            {"b>a": "better worse tie", "c>a": "better worse tie", "c>b": "better better tie"},
            "No single best model: C and A are",
        ),
        # The verdict itself says it for two.
        ({"b>a": "better better better"}, ""),
    ],
)
def test_who_is_best(table: dict[str, str], said: str) -> None:
    summary = compared(table)
    sentence = best_model(summary, verdicts(summary))
    assert sentence.startswith(said) and bool(sentence) == bool(said)


def test_a_model_that_was_not_compared_with_all_is_not_called_best() -> None:
    summary = compared({"b>a": "better tie tie", "c>b": "worse tie tie"})
    assert best_model(summary, verdicts(summary)).startswith("No single best model: B are") is False
    assert "Best overall: B" in best_model(summary, verdicts(summary))
    summary["models"].append({"name": "d", "label": "D"})
    assert "No single best" in best_model(summary, verdicts(summary))


def test_metrics_that_a_reader_asks_for_come_first() -> None:
    names = [
        "rougeL",
        "judge_accuracy",
        "exact_match",
        "reward",
        "human_win_rate",
        "judge_win_rate",
    ]
    found = ordered_metrics({"metrics": [{"name": name} for name in names]}, [])
    expected = ["human_win_rate", "judge_win_rate", "reward", "exact_match", "judge_accuracy"]
    assert [metric["name"] for metric in found] == [*expected, "rougeL"]
    chosen = ordered_metrics({"metrics": [{"name": name} for name in names]}, ["rougeL"])
    assert chosen[0]["name"] == "rougeL"


def test_without_a_baseline_among_the_models_some_verdicts_stand_open() -> None:
    summary = compared({"b>a": "better tie tie", "c>a": "tie tie tie", "c>b": "tie tie tie"})
    summary |= {"baseline": "gone", "metrics": [{**m, "tested": True} for m in summary["metrics"]]}
    found = overview_of(summary, verdicts(summary))
    assert found is not None
    assert len(found.first) == 3 and found.more == []
    assert overview_of(None, []) is None


# --- what the script is given --------------------------------------------------------------------


def records(table: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(table["keys"], row, strict=True)) for row in table["rows"]]


def test_the_script_gets_what_it_draws_and_no_more(tmp_path: Path) -> None:
    from espalier.reports.answers import reading_summary

    run = overview_run(tmp_path / "run")
    raw = json.loads((run / "evaluate/summary.json").read_text("utf-8"))
    summary = reading_summary(run / "evaluate")
    assert summary is not None
    core = overview_core(summary, {"reward", "bleu"})
    assert len(json.dumps(core)) < 0.6 * len(json.dumps(raw))
    for table, source in (("scores", raw["scores"]), ("comparisons", raw["comparisons"])):
        found = records(core[table])
        assert len(found) == len(source)
        for one, other in zip(found, source, strict=True):
            for key, value in one.items():
                wanted = other.get(key)
                near = pytest.approx(wanted, rel=1e-5) if isinstance(wanted, float) else wanted
                assert value == near
    slices = records(core["slices"])
    assert len(slices) == len(raw["slices"])
    tests = {(c["by"], c["value"], c["metric"], c["model"]): c for c in raw["slice_comparisons"]}
    for one in slices:
        test = tests.get((one["by"], one["group"], one["metric"], one["model"]), {})
        assert one["verdict"] == test.get("verdict")
        assert one["difference"] == (pytest.approx(test["difference"], rel=1e-5) if test else None)
    assert {m["name"] for m in core["metrics"] if m["rows"]} == {"reward", "bleu"}
    assert "details" not in core and "contamination" not in core
    assert core["judge"] == {"rubrics": [{"rubric": "quality"}]}


@pytest.mark.parametrize(
    ("name", "tested", "expected"),
    [
        ("exact_match", True, "reference"), ("terrible", True, "other"), ("ter", True, "reference"),
        ("judge_win_rate", True, "judge"), ("human_accuracy", True, "people"),
        ("reward_other", True, "reward"), ("ppl_corpus_mean", True, "perplexity"),
        ("checks_each", True, "checks"), ("mine", True, "other"),
        ("length_words", False, "describes"), ("accuracy_2", True, "reference"),
        ("rougeLsum", True, "reference"), ("reward", False, "describes"),
    ],
)  # fmt: skip
def test_families(name: str, tested: bool, expected: str) -> None:
    assert family({"name": name, "tested": tested}) == expected


def test_rubrics_are_found_in_the_signatures() -> None:
    def metric(name: str, signature: str = "", style: str = "number") -> dict[str, Any]:
        return {"name": name, "format": style, "signature": signature}

    house, hhh = "espalier.judge|rubric:house|task:1", "espalier.judge|rubric:hhh|task:2"
    found = rubrics(
        [
            metric("judge_tone", house),
            metric("judge_house", f"{house}|mean:2 marks"),
            metric("judge_cites", house, "percent"),
            metric("judge_clear", house),
            metric("judge_honest", hhh),
            metric("judge_win_rate", "espalier.judge.pairs|x", "percent"),
            metric("human_tone"),
            metric("human_alone"),
            metric("reward"),
        ]
    )
    assert found == [
        {
            "name": "house",
            "criteria": [
                {"name": "tone", "judge": "judge_tone", "people": "human_tone"},
                {"name": "clear", "judge": "judge_clear", "people": None},
            ],
        },
        {"name": "hhh", "criteria": [{"name": "honest", "judge": "judge_honest", "people": None}]},
        {"name": "", "criteria": [{"name": "alone", "judge": None, "people": "human_alone"}]},
    ]
    assert rubrics([]) == []


# --- judge, people, details ----------------------------------------------------------------------


def told(summary: dict[str, Any]) -> dict[str, Any]:
    return {
        "models": [{"name": "sft", "label": "SFT"}, {"name": "ppo", "label": "PPO"}],
        "metrics": [
            {"name": name, "label": label}
            for name, label in (
                ("exact_match", "Exact match"), ("reward", "Reward"), ("chrf", "chrF"),
                ("bleu", "BLEU"),
            )
        ],
        **summary,
    }  # fmt: skip


def test_the_judge_pair_by_pair(tmp_path: Path) -> None:
    run = overview_run(tmp_path / "run")
    summary = json.loads((run / "evaluate/summary.json").read_text("utf-8"))
    found = judge_part(summary)
    assert found is not None
    (pair,) = found["pairs"]
    assert (pair["model"], pair["baseline"], pair["rate"]) == ("PPO", "SFT", "62.5 %")
    assert (pair["interval"], pair["bounds"]) == ("[55.0, 70.0]", "[50.0, 70.0]")
    assert (pair["controlled"], pair["controlled_interval"]) == ("58.0 %", "[50.0, 66.0]")
    assert pair["extrapolated"] and (pair["flips"], pair["first"]) == ("25 %", "51 %")
    # 60 rows: ppo, tie, sft, ppo, unread in turn.
    assert [(p["kind"], p["count"]) for p in pair["parts"]] == [
        ("wins", 24), ("ties", 12), ("losses", 12), ("unread", 12),
    ]  # fmt: skip
    assert [p["from"] for p in pair["parts"]] == ["0.000", "40.000", "60.000", "80.000"]
    assert [p["opens"]["where"][0]["winner"] for p in pair["parts"]] == ["ppo", "tie", "sft", None]
    facts = dict(found["facts"])
    assert facts["Judge"] == "my-judge" and facts["Replies not read"] == "3"
    assert facts["Replies cut off"] == "2" and "Failed requests" not in facts
    assert judge_part({"models": []}) is None


def test_what_people_say() -> None:
    found = people_part(told({"ratings": ratings()}))
    assert found is not None
    assert [one["what"] for one in found["agreement"]] == ["accuracy", "pairs of answers"]
    assert [(one["alpha"], one["weak"]) for one in found["agreement"]] == [
        ("0.41", True),
        ("–", False),
    ]
    assert found["judge"][0]["alpha"] == "0.00" and found["judge"][0]["interval"] == "[−0.20, 0.30]"
    assert (found["judge"][0]["judge"], found["judge"][0]["people"]) == ("50 %", "55 %")
    # The scores that go with people most come first.
    assert [(one["label"], one["share"]) for one in found["metrics"]] == [
        ("Reward", "80 %"),
        ("BLEU", "50 %"),
    ]
    assert found["metrics"][1]["rank"] == "–"
    assert found["left_out"] == [
        ("ann.csv", "60 ratings, 4 not filled in, 2 of other answers than now")
    ]
    assert people_part(told({"ratings": {}})) is None


def test_details_become_tables() -> None:
    found = {one["name"]: one["tables"] for one in metric_details(told({"details": details()}))}
    assert set(found) == {"exact_match", "reward", "chrf", "bleu"}
    labels, confusion, plain = found["exact_match"]
    assert labels["rows"][0] == ["good", "5", "66.7 %\nprecision 75 %, recall 60 %"]
    assert confusion["rows"] == [["good", "3", "2"], ["bad", "0", "2"]]
    assert confusion["shades"] == [[6, 4], [0, 10]]
    assert confusion["note"] == "1 answers name no label."
    assert plain["rows"] == [["SFT", "1"]]
    spread, margin, correlation, values = found["reward"]
    assert spread["rows"] == [
        ["PPO", "60", "0.10", "1.25", "−1.50", "−1.00", "0.00", "1.00", "1.50"]
    ]
    assert margin["rows"][0][-2:] == ["70 %", "20 %"]
    assert correlation["rows"] == [
        ["PPO", "Length of the answer", "0.24", "−0.30", "60"],
        ["PPO", "BLEU", "0.90", "–", "60"],
    ]
    assert (values["head"], values["rows"]) == (
        ["Model", "Answers read without their end"],
        [["PPO", "3"]],
    )
    assert found["chrf"][0]["rows"] == [["words", "60", "90.0 %"]]
    assert found["bleu"][0]["rows"] == [["PER", "8", "66.7 %\nprecision 100 %, recall 50 %"]]


@pytest.mark.parametrize(
    "given",
    [
        {"exact_match": None}, {"exact_match": {"sft": 3}},
        {"exact_match": {"sft": {"labels": []}}},
        {"exact_match": {"sft": {"confusion": [[1]], "labels": []}}},
        {"unknown": {"sft": {"a": 1}}},
        {"exact_match": {"sft": {"quantiles": None, "histogram": {}, "n": None}}},
    ],
)  # fmt: skip
def test_details_of_other_shapes_are_left_out(given: dict[str, Any]) -> None:
    assert metric_details(told({"details": given})) == []


def test_unknown_details_are_listed_as_they_are() -> None:
    (found,) = metric_details(
        told({"details": {"bleu": {"sft": {"odd_rate": 0.25, "kind": "<b>"}}}})
    )
    assert found["tables"][0]["head"] == ["Model", "Odd rate", "Kind"]
    assert found["tables"][0]["rows"] == [["SFT", "0.25", "<b>"]]


def test_what_a_module_left_out_has_a_name() -> None:
    given = {"bleu": {"sft": {"answers": 58, "left_out": 2}}}
    (found,) = metric_details(told({"details": given}))
    assert found["tables"][0]["head"] == ["Model", "Answers", "Left out"]
    with speaking("zh"):
        (found,) = metric_details(told({"details": given}))
    assert found["tables"][0]["head"] == ["模型", "回答数", "略去"]


def test_more_rows_than_fit_are_counted() -> None:
    checks = {f"c{i}": {"passed": 1.0, "checks": 2} for i in range(100)}
    (found,) = metric_details(told({"details": {"bleu": {"sft": {"checks": checks}}}}))
    assert len(found["tables"][0]["rows"]) == 60 and found["tables"][0]["left_out"] == 40


# --- the page ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = overview_run(tmp_path_factory.mktemp("overview") / "run")
    build_report(run, ReportConfig(), run / "report.html")
    return (run / "report.html").read_text("utf-8")


def test_all_of_it_can_be_read_without_scripts(page: str) -> None:
    text = " ".join("".join(Page(page).text).split())
    for part in ("PPO beats SFT", "62.5 %", "were all unread lost or won", "Do the raters agree?",
                 "Which scores go with people?", "Right label and told label: SFT",
                 "Answers read without their end"):  # fmt: skip
        assert part in text
    # What only a script can do is not offered without one.
    assert re.search(r"<button[^>]*more-answers[^>]* hidden", page)


def test_it_speaks_chinese_too(page: str) -> None:
    chinese = page[page.index('<template id="content-zh">') :]
    for part in (
        "总体最好",
        "胜率",
        "评分者之间一致吗",
        "正确标签与所答标签：SFT",
        "“等长时的胜率”",
    ):
        assert part in chinese
    with speaking("zh"):
        found = people_part(told({"ratings": ratings()}))
    assert found is not None
    assert [one["what"] for one in found["agreement"]] == ["准确性", "回答对"]


def test_verdict_is_a_sentence() -> None:
    one = Verdict("A", "B", "better", "A beats B", " on M.", ("a", "b"), None, 1)
    assert one.sentence == "A beats B on M."
