"""Metrics by name through the whole stage: which columns there are, and what is refused."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import rl_models
from evaluate_rows import made_set
from pydantic import ValidationError

from espalier.errors import EspalierError, InputError, StageError, UsageError
from espalier.evaluate.config import EvaluateConfig, HubMetricConfig
from espalier.evaluate.hub_metric import (
    left_out_warnings,
    load_module,
    score_hub_metric,
    try_module,
)
from espalier.evaluate.metric import Scored
from espalier.files import hash_path
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
    import numpy as np


    class Counted(evaluate.Metric):
        def _info(self):
            kind = datasets.Value("int64")
            features = {"predictions": kind, "references": kind}
            return evaluate.MetricInfo(
                description="Counts hits. And more.", citation="", inputs_description="",
                features=datasets.Features(features),
            )

        def _compute(self, predictions, references, fail=False):
            if fail:
                return {}["gone"]
            hits = [int(p == r) for p, r in zip(predictions, references)]
            return {
                "hits": hits, "share": sum(hits) / len(hits), "last": hits[-1],
                "array": np.array(hits), "words": ["x"] * len(hits),
            }
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    folder = tmp_path / "counted"
    folder.mkdir()
    (folder / "counted.py").write_text(textwrap.dedent(MODULE), encoding="utf-8")
    return folder


def by_module(
    path: Path, answers: dict[str, list[str | None]], references: list[str | None], **options: Any
) -> Scored:
    hub = load_module(HubMetricConfig.model_validate({"path": str(path), **options}))
    evalset = made_set(references)
    try_module(hub, evalset)
    return score_hub_metric(hub, evalset, answers)


@pytest.mark.slow
def test_modules_of_evaluate_by_list_and_corpus(module: Path) -> None:
    answers = {"m": ["Yes.", "no", None, "perhaps"]}
    references: list[str | None] = ["yes", "yes", "no", "no"]
    labels: dict[str, Any] = {"given": "label", "labels": ["yes", "no"]}
    rows = by_module(module, answers, references, **labels, key="share")
    assert rows.rows["m"] == [1.0, 0.0, None, 0.0]
    assert rows.metric.description.startswith("Counts hits. (")
    assert f"code:{hash_path(module)[:12]}" in rows.metric.signature
    listed = by_module(module, answers, references, **labels, over="list", key="hits")
    assert listed.rows["m"] == [1.0, 0.0, None, 0.0]
    arrays = by_module(module, answers, references, **labels, over="list", key="array")
    assert arrays.rows["m"] == [1.0, 0.0, None, 0.0]
    scored = by_module(module, answers, references, **labels, over="corpus", key="share")
    assert scored.columns["m"].value() == pytest.approx(1 / 3)
    assert not scored.rows and not scored.metric.tested
    assert scored.details["m"] == {"answers": 3, "left_out": 0}
    told: dict[str, list[str | None]] = {"m": ["1,000", "x", "1,5", "nan"]}
    found = by_module(module, told, ["1000", "2", "15", "1"], given="number", key="share")
    assert found.rows["m"] == [1.0, None, None, None]
    # A row whose reference is no label or number is none of the module's.
    mixed = by_module(module, {"m": ["a poem", "no"]}, ["a poem", "no"], **labels, key="share")
    assert mixed.rows["m"] == [None, 1.0]
    hub = load_module(HubMetricConfig(path=str(module), given="number", description="Mine."))
    assert left_out_warnings(hub, found) == [
        "counted: 3 of 4 answers of m are no numbers and have no score."
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"over": "list", "key": "share", "given": "number"}, "no list 'share'"),
        ({"over": "list", "key": "words", "given": "number"}, "no list 'words'"),
        ({"options": {"nonsense": 1}}, "does not take what it is given: TypeError"),
        ({"given": "number"}, "several numbers"),
        ({"given": "number", "key": "none"}, "several numbers"),
        ({"given": "label", "labels": ["yes"], "over": "corpus"}, "No reference of the set is a"),
        ({"given": "number", "key": "share", "options": {"fail": True}}, "KeyError: 'gone'"),
        ({"given": "number", "key": "share", "name": "answer"}, "that name is taken"),
    ],
)
def test_a_module_that_can_t_be_used_is_told_before_anything_is_answered(
    tmp_path: Path, module: Path, options: dict[str, Any], told: str
) -> None:
    rl_models.write_rows(tmp_path / "set.jsonl", [Example.single("1 + 1", "2")])
    (tmp_path / "m.jsonl").write_text('{"output": "2"}', "utf-8")
    with pytest.raises(EspalierError, match=told):
        evaluate(
            tmp_path / "run",
            set=str(tmp_path / "set.jsonl"),
            models=[{"name": "m", "predictions": str(tmp_path / "m.jsonl"), "match": "order"}],
            hub_metrics=[{"path": str(module), **options}],
        )
    assert not (tmp_path / "run" / "evaluate" / "answers").exists()


def test_a_module_whose_code_is_broken_says_so(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import evaluate\n1 / 0\n", "utf-8")
    with pytest.raises(InputError, match="ZeroDivisionError"):
        load_module(HubMetricConfig(path=str(tmp_path / "broken.py")))
    (tmp_path / "needs.py").write_text("import evaluate\nimport no_such_package\n", "utf-8")
    with pytest.raises(StageError, match="no_such_package"):
        load_module(HubMetricConfig(path=str(tmp_path / "needs.py")))


def test_columns_may_not_take_the_place_of_others(tmp_path: Path, files: dict[str, Any]) -> None:
    (tmp_path / "mine.py").write_text("def f(answer):\n    return 1\n", "utf-8")
    for name in ("answer", "language", "judge_accuracy"):
        with pytest.raises(UsageError, match=f"called '{name}': that name is taken"):
            evaluate(
                tmp_path / "run",
                **files,
                functions=[{"function": f"{tmp_path}/mine.py:f", "name": name}],
            )
    summary = evaluate(
        tmp_path / "run",
        **files,
        metrics=["rougeL"],
        functions=[
            {"function": f"{tmp_path}/mine.py:f", "name": name} for name in ("rougeL_2", "rougeL")
        ],
    )
    names = [metric["name"] for metric in summary["metrics"]]
    assert names == ["rougeL", "rougeL_2", "rougeL_3"]
