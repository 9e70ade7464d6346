"""Metrics by name through the whole stage: which columns there are, and what is refused."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import rl_models
from pydantic import ValidationError

from espalier.errors import EspalierError, InputError
from espalier.evaluate.config import EvaluateConfig, HubMetricConfig
from espalier.evaluate.hub_metric import score_hub_metric
from espalier.recipe import recipe_from
from espalier.records import Example
from espalier.running import run_stages

DEFAULT = ["exact_match", "token_f1", "rouge1", "rouge2", "rougeL", "bleu", "chrf"]
ROWS = [
    ("Is it good? It is great.", "positive", {"category": "labels"}),
    ("Is it good? It is bad.", "negative", {"category": "labels"}),
    ("Find the names: Ada met Bob.", "<PER>Ada</PER> met <PER>Bob</PER>", {}),
    ("用不超过五个字回答：天空是什么颜色？", "蓝色", {"checks": [{"check": "words", "max": 5}]}),
]
ANSWERS = {
    "a": ["Positive.", "positive", "<PER>Ada</PER> met Bob", "天空是蓝色的，很蓝"],
    "b": ["positive", "negative", "I can't help with that.", "蓝色"],
}


def evaluate(run: Path, **options: Any) -> dict[str, Any]:
    small = {"resamples": 100, "permutations": 100, "contamination": None}
    recipe = recipe_from({"name": "t", "seed": 1, "evaluate": {**small, **options}})
    run_stages(recipe, run, ["evaluate"])
    value: dict[str, Any] = json.loads((run / "evaluate" / "summary.json").read_text("utf-8"))
    return value


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    rows = [
        Example.single(prompt, reference, meta={**meta, "row_id": f"q{index}"})
        for index, (prompt, reference, meta) in enumerate(ROWS)
    ]
    rl_models.write_rows(tmp_path / "set.jsonl", rows)
    models = []
    for name, answers in ANSWERS.items():
        lines = [
            json.dumps({"id": row.id, "output": a}) for row, a in zip(rows, answers, strict=True)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        models.append({"name": name, "predictions": str(tmp_path / f"{name}.jsonl")})
    return {"set": str(tmp_path / "set.jsonl"), "models": models}


def values(summary: Mapping[str, Any], metric: str) -> dict[str, float]:
    return {s["model"]: s["value"] for s in summary["scores"] if s["metric"] == metric}


def test_columns_by_name_come_after_the_default_ones(tmp_path: Path, files: dict[str, Any]) -> None:
    (tmp_path / "mine.py").write_text("def size(answer):\n    return len(answer)\n", "utf-8")
    summary = evaluate(
        tmp_path / "run",
        **files,
        metrics=["default", "rougeLsum", "ter", "entities", "checks", "length", "refusals",
                 "distinct", "self_bleu"],
        classification={"category": ["labels"]},
        functions=[{"function": f"{tmp_path}/mine.py:size", "higher_is_better": False}],
    )  # fmt: skip
    names = [metric["name"] for metric in summary["metrics"]]
    assert names == [
        *DEFAULT, "rougeLsum", "ter", "accuracy", "macro_f1", "entity_f1", "checks_prompt",
        "checks_each", "checks_prompt_loose", "checks_each_loose", "length_words",
        "length_characters", "refusal_rate", "distinct1", "distinct2", "self_bleu", "size",
    ]  # fmt: skip
    for metric in summary["metrics"]:
        assert metric["signature"] and metric["description"].endswith((".", "values."))
    assert values(summary, "accuracy") == {"a": 0.5, "b": 1.0}
    assert values(summary, "macro_f1")["a"] == pytest.approx((2 / 3 + 0) / 2)
    assert values(summary, "entity_f1") == {"a": pytest.approx(2 / 3), "b": 0.0}
    assert values(summary, "checks_prompt") == {"a": 0.0, "b": 1.0}
    assert values(summary, "refusal_rate") == {"a": 0.0, "b": 0.25}
    assert values(summary, "size")["b"] == pytest.approx((8 + 8 + 23 + 2) / 4)
    details = summary["details"]["macro_f1"]["a"]["labels"]
    assert [entry["label"] for entry in details] == ["negative", "positive"]
    compared = {entry["metric"] for entry in summary["comparisons"]}
    assert {"ter", "macro_f1", "size"} <= compared
    assert not compared & {"length_words", "refusal_rate", "distinct1", "checks_each_loose"}


def test_only_what_is_named_is_scored(tmp_path: Path, files: dict[str, Any]) -> None:
    summary = evaluate(tmp_path / "run", **files, metrics=["rougeL", "ppl_response"])
    assert [metric["name"] for metric in summary["metrics"]] == ["rougeL"]
    assert any("ppl_response was left out" in text for text in summary["warnings"])


def test_what_can_t_be_scored_is_said_before_anything_is_answered(
    tmp_path: Path, files: dict[str, Any]
) -> None:
    for options, told in (
        ({"classification": {"labels": ["maybe"]}}, "No row of the set has one of the labels"),
        ({"functions": [{"function": "none.py:f"}]}, "can't be loaded"),
        ({"reward_models": [{"model": "/none", "name": "x"}]}, "does not exist"),
        ({"metrics": ["entities"], "entities": {"format": "json"}}, "No reference"),
    ):
        with pytest.raises(EspalierError, match=told) as caught:
            evaluate(tmp_path / "run", **files, **options)
        assert "where" in str(caught.value)
        assert not (tmp_path / "run" / "evaluate" / "answers").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"metrics": ["classification"]}, "needs `classification`"),
        ({"metrics": ["forgetting"]}, "needs `perplexity_corpus`"),
        ({"general_before": "m"}, "without `forgetting`"),
        ({"classification": {}}, "labels"),
        ({"checks": [{"check": "wordz"}]}, "no check 'wordz'"),
        ({"functions": [{"function": "f"}]}, "names no function"),
        ({"functions": [{"function": "a:f"}, {"function": "b:f"}]}, "each needs a `name`"),
        ({"hub_metrics": [{"path": "x", "over": "list"}]}, "needs `key`"),
        ({"hub_metrics": [{"path": "x", "given": "label"}]}, "belong together"),
    ],
)
def test_contradictions_name_the_fields(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        EvaluateConfig.model_validate({"models": [{"name": "m", "path": "x"}], **options})


@pytest.mark.slow
@pytest.mark.ci_slice
def test_several_reward_models_and_forgetting(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for seed, stage in enumerate(("base", "sft")):
        rl_models.save(rl_models.make_model(seed=seed), run / stage / "model")
    for seed in (8, 9):
        rl_models.save(rl_models.make_model("reward", seed=seed), run / f"reward_{seed}")
    rows = [example.with_response("say a") for example in rl_models.prompts(6)]
    rl_models.write_rows(run / "curate" / "eval.jsonl", rows)
    (tmp_path / "general.txt").write_text("a count to 3\n\nsay 甲乙\n\nwhat is it", "utf-8")
    summary = evaluate(
        run,
        models=[{"name": "base", "stage": "base"}, {"name": "sft", "stage": "sft"}],
        metrics=["reward", "forgetting", "ppl_corpus", "bpb_corpus"],
        reward_model=str(run / "reward_8"),
        reward_models=[{"model": str(run / "reward_9"), "name": "second"}],
        perplexity_corpus=str(tmp_path / "general.txt"),
        corpus_windows="rolling",
        sampling={"max_tokens": 4},
    )
    names = [metric["name"] for metric in summary["metrics"]]
    assert names == ["reward", "reward_second", "ppl_corpus", "bpb_corpus", "forgetting"]
    corpus, lost = values(summary, "ppl_corpus"), values(summary, "forgetting")
    assert lost["base"] == 1.0
    assert lost["sft"] == pytest.approx(corpus["sft"] / corpus["base"])
    signatures = {metric["name"]: metric["signature"] for metric in summary["metrics"]}
    assert (
        "windows:rolling" in signatures["ppl_corpus"] and "before:base" in signatures["forgetting"]
    )
    details = summary["details"]["reward_second"]["sft"]
    assert details["margin"]["n"] == 6 and details["other_models"]["reward"]["n"] == 6
    assert details["distribution"]["mean"] == pytest.approx(values(summary, "reward_second")["sft"])


@pytest.mark.slow
def test_answers_that_a_reward_model_can_t_read_whole_are_counted(tmp_path: Path) -> None:
    rl_models.save(rl_models.make_model("reward", seed=8), tmp_path / "reward")
    rows = [example.with_response("say a") for example in rl_models.prompts(3)]
    rl_models.write_rows(tmp_path / "set.jsonl", rows)
    # The context has 128 tokens, a character each: the answer, and with the prompt its whole.
    for name, lengths in (("short", [1, 2, 3]), ("long", [1, 118, 400])):
        answers = [json.dumps({"output": "a" * length}) for length in lengths]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(answers), "utf-8")
    options = {
        "set": str(tmp_path / "set.jsonl"),
        "models": [
            {"name": name, "predictions": str(tmp_path / f"{name}.jsonl"), "match": "order"}
            for name in ("short", "long")
        ],
        "metrics": ["reward"],
        "reward_model": str(tmp_path / "reward"),
    }
    summary = evaluate(tmp_path / "run", **options)
    assert summary["details"]["reward"]["short"]["answers_cut"] == 0
    long = summary["details"]["reward"]["long"]
    assert long["answers_cut"] == 1 and long["prompts_cut"] == 2
    assert long["distribution"]["n"] == 3
    assert any("1 answers of long do not fit" in text for text in summary["warnings"])
    # Stored scores know it as well.
    again = evaluate(tmp_path / "run", **options, confidence=0.9)
    assert again["details"]["reward"]["long"] == long


MODULE = """
    import datasets
    import evaluate


    class Counted(evaluate.Metric):
        def _info(self):
            kind = datasets.Value("int64")
            features = {"predictions": kind, "references": kind}
            return evaluate.MetricInfo(
                description="d", citation="", inputs_description="",
                features=datasets.Features(features),
            )

        def _compute(self, predictions, references):
            hits = [int(p == r) for p, r in zip(predictions, references)]
            return {"hits": hits, "share": sum(hits) / len(hits), "last": hits[-1]}
"""


@pytest.mark.slow
def test_modules_of_evaluate_by_list_and_corpus(tmp_path: Path) -> None:
    folder = tmp_path / "counted"
    folder.mkdir()
    (folder / "counted.py").write_text(textwrap.dedent(MODULE), encoding="utf-8")
    answers = {"m": ["Yes.", "no", None, "perhaps"]}
    references: list[str | None] = ["yes", "yes", "no", "no"]
    labels = {"path": str(folder), "given": "label", "labels": ["yes", "no"]}
    rows = HubMetricConfig.model_validate({**labels, "key": "share"})
    assert score_hub_metric(rows, answers, references).rows["m"] == [1.0, 0.0, None, 0.0]
    listed = HubMetricConfig.model_validate({**labels, "over": "list", "key": "hits"})
    assert score_hub_metric(listed, answers, references).rows["m"] == [1.0, 0.0, None, 0.0]
    whole = HubMetricConfig.model_validate({**labels, "over": "corpus", "key": "share"})
    scored = score_hub_metric(whole, answers, references)
    assert scored.columns["m"].value() == pytest.approx(1 / 3)
    assert not scored.rows and not scored.metric.tested
    assert scored.details["m"] == {"answers": 3, "left_out": 0}
    numbers = HubMetricConfig(path=str(folder), given="number", key="share")
    found = score_hub_metric(numbers, {"m": ["1,000", "x"]}, ["1000", "2"])
    assert found.rows["m"] == [1.0, None]
    wrong = HubMetricConfig(path=str(folder), over="list", key="share", given="number")
    with pytest.raises(InputError, match="no list 'share'"):
        score_hub_metric(wrong, {"m": ["1"]}, ["1"])
    with pytest.raises(InputError, match="does not take"):
        score_hub_metric(HubMetricConfig(path=str(folder)), {"m": ["a"]}, ["b"])
