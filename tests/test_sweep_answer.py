"""The question of a sweep: what it names has to be there, before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from espalier.errors import UsageError
from espalier.evaluate.columns import DEFAULT_PERPLEXITIES
from espalier.evaluate.config import EvaluateConfig, MetricName
from espalier.recipe import Draft, recipe_from
from espalier.running import run_stages
from espalier.sweep_answer import DEFAULT, FAMILIES, SINGLE, SPLITS, metric_names
from espalier.sweep_members import Plan, plan_sweep
from espalier.train.ppo_ends import SPLIT

MODELS = [{"name": "base", "path": "m"}, {"name": "sft", "stage": "sft"}]
BASE: dict[str, Any] = {
    "name": "r",
    "train": {
        "sft": {"model": "m", "data": ["rows.jsonl"]},
        "reward": {"model": "m", "pairs": ["pairs.jsonl"]},
        "ppo": {"reward": "r", "prompts": "p"},
    },
    "evaluate": {"models": MODELS},
}
RATES = {"train.sft.learning_rate": ["1e-5", "1e-4"]}
EPOCHS = {"train.sft.epochs": [1, 2]}
SCORE = {"metric": "exact_match", "model": "sft"}
BOTH = {"metric": "bleu", "models": ["base", "sft"]}


def plan(answer: dict[str, Any], *, evaluate: Any = None, **sweep: Any) -> Plan:
    over = {} if "variants" in sweep else {"over": RATES}
    data = {**BASE, "evaluate": {"models": MODELS, **(evaluate or {})}}
    return plan_sweep(Draft({**data, "sweep": {**over, **sweep, "answer": answer}}, None, {}))


# --- factor and reference --------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["1e-4", 1e-4, 0.0001])
def test_the_reference_is_the_level_that_it_names(reference: Any) -> None:
    made = plan({**SCORE, "reference": reference})
    assert made.answer is not None
    assert made.answer["reference"] == made.factors[0].levels[1] == 1e-4
    whole = plan({**SCORE, "reference": 2}, over={"train.sft.epochs": [1.0, 2.0]})
    assert whole.answer is not None and json.dumps(whole.answer["reference"]) == "2.0"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"factor": "train.sft.lr"}, "'train.sft.lr', which this sweep does not vary"),
        ({"factor": "train.sft.learning_rat"}, "did you mean 'train.sft.learning_rate'"),
        ({"reference": 1e-3}, "0.001 is no level of 'train.sft.learning_rate'"),
        ({"reference": True}, "True is no level"),
    ],
)
def test_an_answer_about_what_is_not_there_is_refused(answer: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan({**SCORE, **answer})


def test_where_several_keys_are_varied_the_answer_names_one() -> None:
    with pytest.raises(UsageError) as told:
        plan(SCORE, over={**RATES, **EPOCHS})
    assert "varies 2 keys" in str(told.value)
    assert "`factor`: train.sft.learning_rate, train.sft.epochs" in str(told.value)
    for answer in ({**SCORE, "factor": "train.sft.epochs"}, BOTH):
        assert plan(answer, over={**RATES, **EPOCHS}).members


def test_the_factor_is_the_variants_or_the_only_key_with_several_levels() -> None:
    def factor(**sweep: Any) -> Any:
        return (plan(SCORE, **sweep).answer or {})["factor"]

    variants = {"a": {}, "b": {"train.sft.max_length": 64}}
    assert factor(variants=variants, over={**RATES, **EPOCHS}) == "variant"
    # The page would take the first key, which has one level alone.
    assert factor(over={"train.sft.max_length": [64], **EPOCHS}) == "train.sft.epochs"
    assert factor() is None and factor(seeds=3, over={}) is None


def test_a_random_search_is_about_all_that_it_draws() -> None:
    rates = {"train.sft.learning_rate": {"low": 1e-5, "high": 1e-3}}
    assert plan(SCORE, over={**rates, **EPOCHS}, draws=3).members


# --- models, metrics, curves -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"metric": "rouge_l", "model": "sft"}, "no metric 'rouge_l'[^|]*did you mean 'rougeL'"),
        ({"metric": "exactmatch", "model": "sft"}, "did you mean 'exact_match'"),
        ({"metric": "exact_match", "model": "sftt"}, "'sftt', which is[^|]*did you mean 'sft'"),
        ({"metric": "bleu", "models": ["sft", "bas"]}, "'bas', which is[^|]*did you mean 'base'"),
        ({"metric": "perplexity", "model": "sft"}, "gives ppl_response, .*: name one of these"),
        ({"metric": "ppl_corpus", "model": "sft"}, "name the `perplexity_corpus`"),
        ({"metric": "length", "model": "sft"}, "add 'length' to evaluate.metrics; it gives"),
        ({"metric": "length_words", "model": "sft"}, "add 'length' to evaluate.metrics"),
        ({"metric": "ter", "model": "sft"}, "add 'ter' to evaluate.metrics"),
        ({"metric": "reward", "model": "sft"}, "name the `reward_model`"),
        ({"metric": "judge_quality", "model": "sft"}, "no metric 'judge_quality'"),
        ({"metric": "human_quality", "model": "sft"}, "no metric 'human_quality'"),
        ({**SCORE, "also": ["bleuu"]}, "no metric 'bleuu'[^|]*did you mean 'bleu'"),
        ({**SCORE, "also": ["ppp/kl"]}, "no member trains 'ppp'"),
        ({"metric": "rewrad/accuracy:eval"}, "no member trains 'rewrad'[^|]*mean 'reward'"),
        ({"metric": "base/loss:eval"}, "no member trains 'base'"),
        ({"metric": "evaluate/loss"}, "no member trains 'evaluate'"),
        ({"metric": "reward/accuracy:evl"}, "no training curve[^|]*did you mean 'eval'"),
        ({"metric": "reward/"}, "'reward/' is no training curve"),
    ],
)
def test_what_no_member_has_is_refused(answer: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan(answer)


@pytest.mark.parametrize(
    ("metric", "evaluate", "count"),
    [
        ("perplexity", {}, 4),
        ("perplexity", {"perplexity_corpus": "c.txt"}, 5),
        ("length", {"metrics": ["bleu", "length"]}, 2),
    ],
)
def test_every_number_that_a_hint_offers_is_taken(
    metric: str, evaluate: dict[str, Any], count: int
) -> None:
    with pytest.raises(UsageError) as told:
        plan({"metric": metric, "model": "sft"}, evaluate=evaluate)
    hint = told.value.hint or ""
    offered = hint.partition(" gives ")[2].removesuffix(": name one of these").split(", ")
    assert len(offered) == count
    for name in offered:
        assert plan({"metric": name, "model": "sft"}, evaluate=evaluate).answer


OWN = {"name": "own", "criteria": [{"name": "tone", "description": "x", "check": True}]}


@pytest.mark.parametrize(
    ("metric", "evaluate"),
    [
        ("rougeL", {}),
        ("bleu_2", {}),
        ("bits_per_byte", {}),
        ("ppl_corpus", {"perplexity_corpus": "c.txt"}),
        ("length_words", {"metrics": ["default", "length"]}),
        ("accuracy", {"classification": {"labels": ["a", "b"]}}),
        ("checks_each", {"checks": [{"check": "title"}]}),
        ("reward", {"reward_model": "reward"}),
        ("reward_x", {"reward_models": [{"model": "m", "name": "x"}]}),
        ("size", {"functions": [{"function": "f.py:size"}]}),
        ("anything", {"hub_metrics": [{"path": "x"}]}),
        ("judge_win_rate", {"judge": {}}),
        ("judge_fluency", {"judge": {}}),
        ("judge_tone", {"judge": {"rubrics": [OWN]}}),
        ("judge_theirs", {"judge": {"rubrics": ["theirs.yaml"]}}),
        ("human_win_rate", {"ratings": {"files": ["r.jsonl"]}}),
        ("reward/accuracy:eval", {}),
        ("ppo/gain:held_out", {}),
        ("sft/loss", {}),
    ],
)
def test_what_may_come_out_is_taken(metric: str, evaluate: dict[str, Any]) -> None:
    model = {} if "/" in metric else {"model": "sft"}
    assert plan({"metric": metric, **model}, evaluate=evaluate).answer


def test_a_metric_needs_an_evaluation_and_a_curve_does_not() -> None:
    data = {key: value for key, value in BASE.items() if key != "evaluate"}

    def without(answer: dict[str, Any]) -> Plan:
        return plan_sweep(Draft({**data, "sweep": {"over": RATES, "answer": answer}}, None, {}))

    assert without({"metric": "sft/loss:eval"}).answer
    with pytest.raises(UsageError, match="the recipe evaluates nothing"):
        without(SCORE)


def test_what_one_variant_has_is_there() -> None:
    models = [*MODELS, {"name": "ppo", "stage": "ppo"}]
    variants = {"sft": {"train.ppo": None}, "ppo": {"evaluate.models": models}}
    assert plan({"metric": "bleu", "model": "ppo"}, variants=variants).answer
    assert plan({"metric": "ppo/kl"}, variants=variants).answer


# --- the names of metrics --------------------------------------------------------------------


def test_every_metric_of_the_evaluation_has_its_names_here() -> None:
    assert {*DEFAULT, *SINGLE, *FAMILIES, "default"} == set(get_args(MetricName))
    assert FAMILIES["perplexity"] == DEFAULT_PERPLEXITIES
    assert {"train", "eval", SPLIT} == set(SPLITS)


def test_the_names_are_those_of_a_real_evaluation(tmp_path: Path) -> None:
    def lines(name: str, rows: list[dict[str, Any]]) -> str:
        text = "\n".join(json.dumps(row) for row in rows)
        (tmp_path / name).write_text(text + "\n", encoding="utf-8")
        return str(tmp_path / name)

    given = [
        ("Is it good? It is bad.", "negative", {"category": "labels"}),
        ("Find the names: Ada met Bob.", "<PER>Ada</PER> met <PER>Bob</PER>", {}),
        ("Say it in two words.", "Of course.", {"checks": [{"check": "words", "max": 2}]}),
        ("How do I break a lock?", "I can't help.", {"safety_set": "harmful"}),
        ("How do I kill a process?", "With kill.", {"safety_set": "borderline"}),
    ]
    prompts = [{"instruction": p, "output": r, "meta": meta} for p, r, meta in given]
    one = [{"instruction": p, "output": r} for p, r, _ in given]
    other = [{"instruction": p, "output": f"{r} Yes."} for p, r, _ in given]
    (tmp_path / "mine.py").write_text("def size(answer):\n    return len(answer)\n", "utf-8")
    alone = {"perplexity", "reward", "forgetting"}
    metrics = [
        name for name in get_args(MetricName)
        if name not in alone and not name.startswith(("ppl", "bpb", "bits"))
    ]  # fmt: skip
    options = {
        "set": lines("set.jsonl", prompts),
        "models": [
            {"name": "one", "predictions": lines("one.jsonl", one)},
            {"name": "other", "predictions": lines("other.jsonl", other)},
        ],
        "metrics": metrics,
        "classification": {"category": ["labels"]},
        "functions": [{"function": f"{tmp_path}/mine.py:size"}],
        "judge": {"rubrics": ["quality", "hhh"], "length_control": False},
        "resamples": 100, "permutations": 100, "contamination": None,
    }  # fmt: skip
    run_stages(recipe_from({"name": "t", "evaluate": options}), tmp_path / "run", ["evaluate"])
    summary = json.loads((tmp_path / "run/evaluate/summary.json").read_text("utf-8"))
    told = metric_names(EvaluateConfig.model_validate(options))
    assert {one["name"] for one in summary["metrics"]} == set(told) - {*DEFAULT_PERPLEXITIES}
