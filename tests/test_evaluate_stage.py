"""The whole stage on tiny random models: files, resume after a kill, refusals, warnings."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import rl_models

from espalier.engines.base import Completion, EngineSpec, Request, Sampling, Usage
from espalier.engines.hf import TransformersEngine
from espalier.errors import EspalierError, InputError, StageError, UsageError
from espalier.evaluate import answers as answers_module
from espalier.evaluate import measure
from espalier.evaluate.config import EvaluateConfig, ModelConfig
from espalier.evaluate.subjects import Subject, subject_of
from espalier.recipe import recipe_from
from espalier.records import Example
from espalier.run import Shared, StageContext
from espalier.running import run_stages

ROWS = 24
BASE: dict[str, Any] = {
    "models": [
        {"name": "sft", "label": "SFT", "stage": "sft"},
        {"name": "ppo", "label": "PPO", "stage": "ppo", "notes": ["trained longer"]},
    ],
    "baseline": "sft",
    "reward_model": "reward_eval",
    "sampling": {"max_tokens": 6},
    "batch": 10,
    "resamples": 200,
    "permutations": 400,
}


def example(index: int, split: str) -> Example:
    prompt = rl_models.prompts(ROWS)[index % ROWS].prompt + f" {split}"
    meta = {
        "reference": f"answer {index}",
        "language": "zh" if index % 3 == 2 else "en",
        "category": f"kind {index % 4}",
        "source": "procedural",
    }
    return Example.single(prompt, meta=meta)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose training is done: two policies, a reward model, the data."""
    run = tmp_path_factory.mktemp("run")
    rl_models.write_rows(run / "curate" / "eval.jsonl", [example(i, "e") for i in range(ROWS)])
    train = [example(i, "t").with_response(f"shot {i}") for i in range(8)]
    # A training row that is in the set as well must never be shown as an example.
    train.append(Example.single(example(0, "e").prompt, "leaked", meta={"language": "en"}))
    rl_models.write_rows(run / "curate" / "train.jsonl", train)
    for seed, stage in enumerate(("base", "sft", "ppo")):
        rl_models.save(rl_models.make_model(seed=seed), run / stage / "model")
    scale = {"mean": 0.5, "deviation": 2.0}
    rl_models.save(
        rl_models.make_model("reward", seed=9), run / "reward_eval" / "model", reward=scale
    )
    return run


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def evaluate(run: Path, **options: Any) -> str:
    recipe = recipe_from({"name": "t", "seed": 5, "evaluate": {**BASE, **options}})
    return run_stages(recipe, run, ["evaluate"])["evaluate"]


def summary_of(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run / "evaluate" / "summary.json").read_text("utf-8"))
    return value


@pytest.fixture(scope="module")
def finished(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = Path(shutil.copytree(made, tmp_path_factory.mktemp("finished") / "run"))
    evaluate(run)
    return run


def test_the_summary_has_every_part(finished: Path) -> None:
    summary = summary_of(finished)
    assert summary["schema"] == 1 and summary["run"] == "t" and summary["baseline"] == "sft"
    assert summary["synthetic"] is True
    assert summary["set"]["rows"] == ROWS and len(summary["set"]["sha256"]) == 64
    assert [m["name"] for m in summary["models"]] == ["sft", "ppo"]
    assert summary["models"][1]["notes"] == ["trained longer"]
    assert summary["models"][0]["template"] == "espalier"
    names = [metric["name"] for metric in summary["metrics"]]
    assert names == [
        "exact_match", "token_f1", "rouge1", "rouge2", "rougeL", "bleu", "chrf", "reward",
        "ppl_response", "ppl_whole", "ppl_text_mean", "bits_per_byte",
    ]  # fmt: skip
    for metric in summary["metrics"]:
        assert metric["signature"] and metric["description"].endswith(".")
        assert metric["format"] in ("percent", "number", "perplexity")
    assert len(summary["scores"]) == 2 * len(names)
    for score in summary["scores"]:
        assert score["n"] == ROWS and score["low"] <= score["value"] <= score["high"]
    pairs = {(c["metric"], c["baseline"], c["model"]) for c in summary["comparisons"]}
    assert pairs == {(n, *p) for n in names for p in (("sft", "ppo"), ("ppo", "sft"))}
    groups = {(s["by"], s["value"]) for s in summary["slices"]}
    assert ("language", "zh") in groups and ("category", "kind 3") in groups
    assert any("only 24 prompts" in text for text in summary["warnings"])


def test_comparisons_mirror_and_agree_with_the_rows(finished: Path) -> None:
    import pandas

    summary = summary_of(finished)
    frame = pandas.read_parquet(finished / "evaluate" / "scores.parquet")
    assert len(frame) == 2 * ROWS
    means = frame.groupby("model")["reward"].mean()
    by_key = {(c["metric"], c["baseline"], c["model"]): c for c in summary["comparisons"]}
    there, back = by_key["reward", "sft", "ppo"], by_key["reward", "ppo", "sft"]
    assert there["difference"] == pytest.approx(means["ppo"] - means["sft"])
    assert there["difference"] == pytest.approx(-back["difference"])
    assert (there["low"], there["high"]) == pytest.approx((-back["high"], -back["low"]))
    assert there["p_value"] >= there["p_uncorrected"]
    opposite = {"better": "worse", "worse": "better", "tie": "tie"}
    assert all(
        by_key[metric, model, baseline]["verdict"] == opposite[c["verdict"]]
        for (metric, baseline, model), c in by_key.items()
    )


def test_every_prompt_of_the_set_has_a_line_of_groups(finished: Path) -> None:
    rows = (finished / "curate" / "eval.jsonl").read_text("utf-8").splitlines()
    lines = (finished / "evaluate" / "groups.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [json.loads(row)["id"] for row in rows]
    manifest = json.loads((finished / "evaluate" / "manifest.json").read_text("utf-8"))
    assert "groups.jsonl" in manifest["outputs"]


def test_slices_are_the_means_of_their_rows(finished: Path) -> None:
    import pandas

    frame = pandas.read_parquet(finished / "evaluate" / "scores.parquet")
    slices = summary_of(finished)["slices"]
    assert {item["by"] for item in slices} == {"language", "category", "length"}
    for item in slices:
        if item["by"] == "length":
            continue
        rows = frame[(frame["model"] == item["model"]) & (frame[item["by"]] == item["value"])]
        assert item["n"] == len(rows)
        if item["metric"] in ("reward", "rougeL", "ppl_text_mean"):
            assert item["score"] == pytest.approx(rows[item["metric"]].mean())


def test_answers_are_greedy_decoding_and_rewards_the_models_own(finished: Path) -> None:
    import torch

    from espalier.encoding import encode_example, encode_prompt
    from espalier.models import load_model, load_tokenizer
    from espalier.records import Message
    from espalier.templates import get_template

    template = get_template("espalier")
    folder = finished / "sft" / "model"
    tokenizer, model = load_tokenizer(folder), load_model(folder)
    judge = load_model(finished / "reward_eval" / "model", kind="reward")
    records = read_answers(finished, "sft")
    import pandas

    frame = pandas.read_parquet(finished / "evaluate" / "scores.parquet")
    rewards = dict(zip(zip(frame["id"], frame["model"], strict=True), frame["reward"], strict=True))
    for index in (0, 2, 7):
        messages = example(index, "e").messages
        ids = encode_prompt(tokenizer, template, messages)
        start = len(ids)
        with torch.no_grad():
            for _ in range(6):
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
                if ids[-1] == tokenizer.eos_token_id:
                    break
        text = tokenizer.decode(ids[start:], skip_special_tokens=True).strip()
        assert records[index]["answer"] == text
        whole = encode_example(tokenizer, template, (*messages, Message("assistant", text))).ids
        with torch.no_grad():
            raw = float(judge(input_ids=torch.tensor([whole])).logits[0, 0])
        expected = (raw - 0.5) / 2.0
        assert rewards[records[index]["id"], "sft"] == pytest.approx(expected, abs=1e-5)


def read_answers(run: Path, name: str) -> list[dict[str, Any]]:
    path = run / "evaluate" / "answers" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_an_engine_that_scores_is_asked_while_it_is_open(
    run: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As vLLM is: here transformers' engine stands for it."""

    class Scoring(TransformersEngine):
        opened: ClassVar[list[str]] = []

        def longest(self) -> int:
            return 128

        def _load(self) -> Any:
            if self._loaded is None:
                self.opened.append(self.model)
            return super()._load()

    def scoring(subjects: list[Subject], options: Any) -> list[Subject]:
        return [replace(one, scored_by="vllm-9") for one in subjects]

    def nothing_else(*_: Any, **__: Any) -> None:
        raise AssertionError("the model is loaded once more")

    monkeypatch.setattr("espalier.engines.hf.TransformersEngine", Scoring)
    monkeypatch.setattr("espalier.evaluate.engines._with_scoring", scoring)
    monkeypatch.setattr("espalier.evaluate.measure.open_engine", nothing_else)
    evaluate(run)
    assert len(Scoring.opened) == len(set(Scoring.opened)) > 1
    kept = {(s["model"], s["metric"]): s["value"] for s in summary_of(finished)["scores"]}
    found = {(s["model"], s["metric"]): s["value"] for s in summary_of(run)["scores"]}
    assert any(metric == "ppl_response" for _, metric in kept)
    assert found == pytest.approx(kept, rel=1e-5)
    signatures = [m["signature"] for m in summary_of(run)["metrics"] if "ppl" in m["name"]]
    assert all("|engine:vllm-9" in signature for signature in signatures)
    assert len(signatures) > 1


def test_a_second_run_is_up_to_date_and_the_same_again_if_deleted(
    finished: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    assert evaluate(run) == "up to date"
    before = (run / "evaluate" / "summary.json").read_bytes()
    table = (run / "evaluate" / "scores.parquet").read_bytes()
    shutil.rmtree(run / "evaluate")
    assert evaluate(run) == "done"
    assert (run / "evaluate" / "summary.json").read_bytes() == before
    assert (run / "evaluate" / "scores.parquet").read_bytes() == table


def test_one_changed_model_is_all_that_is_computed_again(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    rl_models.save(rl_models.make_model(seed=77), run / "ppo" / "model")
    asked: list[str] = []
    opened = answers_module.open_engine
    scored: list[str] = []
    plain = measure.score_conversations

    def open_engine(spec: EngineSpec, **options: Any) -> Any:
        engine = opened(spec, **options)
        generate = engine.generate_unordered

        def counted(requests: Sequence[Request], *rest: Any) -> Any:
            asked.append(Path(spec.model).parent.name)
            return generate(requests, *rest)

        monkeypatch.setattr(engine, "generate_unordered", counted)
        return engine

    def score(model: Any, *args: Any, **options: Any) -> Any:
        scored.append("scored")
        return plain(model, *args, **options)

    monkeypatch.setattr(answers_module, "open_engine", open_engine)
    monkeypatch.setattr(measure, "score_conversations", score)
    assert evaluate(run) == "done"
    assert set(asked) == {"ppo"} and len(scored) == 1
    asked.clear()
    assert evaluate(run, metrics=["exact_match"]) == "done"
    assert asked == []
    assert [m["name"] for m in summary_of(run)["metrics"]] == ["exact_match"]


KILLED = """
    import os, signal, sys
    from espalier.evaluate import answers
    from espalier.recipe import recipe_from
    from espalier.running import run_stages
    import json
    opened = answers.open_engine
    made = 0
    def open_engine(spec, **options):
        engine = opened(spec, **options)
        generate = engine.generate_unordered
        def dying(*asked):
            global made
            for answer in generate(*asked):
                made += 1
                if made > 34:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield answer
        engine.generate_unordered = dying
        return engine
    answers.open_engine = open_engine
    recipe = recipe_from({"name": "t", "seed": 5, "evaluate": json.loads(sys.argv[1])})
    run_stages(recipe, __import__("pathlib").Path(sys.argv[2]), ["evaluate"])
"""


@pytest.mark.slow
@pytest.mark.ci_slice
def test_kill_9_loses_one_batch_and_changes_nothing(
    finished: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), json.dumps(BASE), str(run)],
        capture_output=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    # 24 answers of the first model and a batch of 10 of the second.
    store = run / "evaluate" / "answers" / answers_module.STORE / answers_module.ANSWER_STORE
    assert len(store.read_bytes().splitlines()) == 34
    made: list[int] = []
    opened = answers_module.open_engine

    def open_engine(spec: EngineSpec, **options: Any) -> Any:
        engine = opened(spec, **options)
        generate = engine.generate_unordered

        def counted(requests: Sequence[Request], *rest: Any) -> Any:
            made.append(len(requests))
            return generate(requests, *rest)

        monkeypatch.setattr(engine, "generate_unordered", counted)
        return engine

    monkeypatch.setattr(answers_module, "open_engine", open_engine)
    assert evaluate(run) == "done"
    assert made == [14]
    whole = (finished / "evaluate" / "summary.json").read_bytes()
    assert (run / "evaluate" / "summary.json").read_bytes() == whole


def test_few_shot_examples_come_from_training_rows_outside_the_set(run: Path) -> None:
    models = [
        {"name": "base", "stage": "base"},
        {"name": "shots", "stage": "base", "template": "qa", "few_shot": 5},
    ]
    evaluate(run, models=models, baseline="base", reward_model=None)
    summary = summary_of(run)
    shots = summary["models"][1]
    assert (shots["template"], shots["few_shot"]) == ("qa", 5)
    told = " ".join(summary["warnings"])
    assert "few-shot" in told and "fewer than 5 examples fit" in told
    perplexity = [s["n"] for s in summary["scores"] if s["metric"] == "ppl_response"]
    assert perplexity == [ROWS, ROWS]
    from espalier.evaluate.evalset import read_set
    from espalier.evaluate.fewshot import read_shots

    evalset = read_set(run / "curate" / "eval.jsonl")
    drawn = read_shots(run / "curate" / "train.jsonl", evalset, 5)
    texts = {turn.content for row in evalset.rows for turn in drawn.messages(row, 8)}
    assert "leaked" not in texts and "shot 1" in texts
    # Eight examples in English and Chinese; two of the prompt's own language come first.
    chinese = next(row for row in evalset.rows if row.language == "zh")
    pair = drawn.messages(chinese, 2)
    assert [int(turn.content.split()[-1]) % 3 for turn in pair if turn.role == "assistant"] == [
        2,
        2,
    ]
    with pytest.raises(InputError, match="8 examples can serve"):
        read_shots(run / "curate" / "train.jsonl", evalset, 5, 9)


def test_too_few_examples_are_told_before_any_model_answers(run: Path) -> None:
    models = [{"name": "a", "stage": "base"}, {"name": "b", "stage": "base", "few_shot": 9}]
    with pytest.raises(InputError, match="Only 8 examples can serve"):
        evaluate(run, models=models, baseline="a")
    assert not (run / "evaluate" / "answers").exists()


def test_a_run_folder_of_adapters_is_found_as_one_of_whole_models_is(tmp_path: Path) -> None:
    context = StageContext("evaluate", tmp_path, tmp_path / "evaluate", None, Shared())
    for name, file in (("whole", "config.json"), ("lora", "adapter_config.json")):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "model" / file).write_text("{}", encoding="utf-8")
        for given in (name, f"{name}/model"):
            model = ModelConfig(name="m", path=str(tmp_path / given))
            assert subject_of(model, context).location == str(tmp_path / name / "model")


def test_prompts_longer_than_the_context_are_cut_and_told(run: Path) -> None:
    rows = [example(index, "e") for index in range(4)]
    long = Example.single("a b " * 60 + "end", meta={"reference": "x", "language": "en"})
    rl_models.write_rows(run / "curate" / "eval.jsonl", [*rows, long])
    evaluate(run, reward_model=None, metrics=["exact_match", "perplexity"])
    told = " ".join(summary_of(run)["warnings"])
    assert "sft: 1 prompts do not fit into the model's context" in told
    assert "sft: 1 texts do not fit" in told
    assert read_answers(run, "sft")[-1]["tokens"] > 0


def test_missing_rows_are_compared_on_shared_rows(run: Path, tmp_path: Path) -> None:
    rows = [example(index, "e") for index in range(ROWS)]
    files = {}
    for name, kept in (("a", range(0, 18)), ("b", range(6, 24))):
        files[name] = tmp_path / f"{name}.jsonl"
        lines = [
            json.dumps({"prompt": rows[i].prompt, "response": f"answer {i if name == 'a' else 0}"})
            for i in kept
        ]
        files[name].write_text("\n".join(lines), encoding="utf-8")
    models = [{"name": name, "predictions": str(path)} for name, path in files.items()]
    evaluate(run, models=models, baseline="a", reward_model=None)
    summary = summary_of(run)
    assert {s["n"] for s in summary["scores"]} == {18}
    assert {c["n"] for c in summary["comparisons"]} == {12}
    match = next(c for c in summary["comparisons"] if c["metric"] == "exact_match")
    assert match["difference"] == -1.0
    told = " ".join(summary["warnings"])
    assert "a: 6 of 24 prompts have no answer" in told
    assert "ppl_response" not in {m["name"] for m in summary["metrics"]}


def test_the_reward_model_of_ppo_is_refused(run: Path) -> None:
    manifest = {"inputs": {"reward": {"path": "elsewhere", "sha256": ""}}}
    from espalier.files import hash_path

    manifest["inputs"]["reward"]["sha256"] = hash_path(run / "reward_eval" / "model")
    (run / "ppo" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        evaluate(run)
    assert "PPO was trained against" in str(caught.value)
    assert "allow_training_reward" in str(caught.value)
    evaluate(run, allow_training_reward=True, metrics=["reward"])
    [metric] = summary_of(run)["metrics"]
    assert metric["label"] == "Reward (trained against)"
    assert "training-reward:yes" in metric["signature"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"set": "curate/none.jsonl"}, "none.jsonl"),
        ({"models": [{"name": "x", "stage": "pairs"}], "baseline": None}, "pairs"),
        ({"models": [{"name": "x", "path": "no/such/folder"}], "baseline": None}, "no/such/folder"),
        ({"reward_model": "sft"}, "is no reward model"),
        ({"reward_model": "missing/folder"}, "missing/folder"),
        ({"baseline": "nobody"}, "none of the models"),
        ({"models": [{"name": "x"}]}, "exactly one of stage, path, api, predictions"),
        ({"models": [{"name": "a b", "stage": "sft"}]}, "pattern"),
        ({"models": [{"name": "x", "stage": "sft"}] * 2}, "two models are called 'x'"),
        ({"few_shot": 3}, "few_shot_from"),
        (
            {"models": [{"name": "x", "stage": "sft", "template": "chatm"}], "baseline": None},
            "chatml",
        ),
    ],
)
def test_mistakes_are_said_in_words(run: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(EspalierError) as caught:
        evaluate(run, **options)
    assert told in str(caught.value)


class StubEngine:
    """An API that fails for some prompts the first time round."""

    model = "stub"
    costly = True
    failing = True

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        for request in requests:
            bad = self.failing and request.prompt.startswith("count")
            reason: Any = "error" if bad else "length"
            yield Completion("" if bad else "answer 0", reason, Usage(1, 2))

    def close(self) -> None:
        return None


def test_failed_requests_are_missing_and_asked_again(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_module, "open_engine", lambda spec, **options: StubEngine())
    models = [{"name": "api", "api": {"engine": "openai", "model": "m"}}]
    evaluate(run, models=models, baseline=None, reward_model=None)
    summary = summary_of(run)
    assert summary["models"][0]["answers"] == ROWS - 4
    assert {s["n"] for s in summary["scores"]} == {ROWS - 4}
    told = " ".join(summary["warnings"])
    assert "4 requests failed" in told and "cut off" in told
    monkeypatch.setattr(StubEngine, "failing", False)
    (run / "evaluate" / "manifest.json").unlink()
    evaluate(run, models=models, baseline=None, reward_model=None)
    assert summary_of(run)["models"][0]["answers"] == ROWS


def test_a_model_that_never_answers_stops_the_stage(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dead(StubEngine):
        def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
            return iter([Completion("", "error")] * len(requests))

    monkeypatch.setattr(answers_module, "open_engine", lambda spec, **options: Dead())
    models = [{"name": "api", "api": {"engine": "openai", "model": "m"}}]
    with pytest.raises(StageError, match="'api' gave no answer at all"):
        evaluate(run, models=models, baseline=None, reward_model=None)


def test_a_corpus_and_a_hub_metric_are_further_columns(run: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a count to 3\n\nwhat is 1 2\n", encoding="utf-8")
    module = tmp_path / "shorter" / "shorter.py"
    module.parent.mkdir()
    module.write_text(textwrap.dedent(HUB_MODULE), encoding="utf-8")
    evaluate(
        run,
        reward_model=None,
        metrics=["perplexity"],
        perplexity_corpus=str(tmp_path / "text.txt"),
        hub_metrics=[{"path": str(module.parent), "options": {"scale": 2.0}}],
    )
    summary = summary_of(run)
    by_name = {metric["name"]: metric for metric in summary["metrics"]}
    assert "scale:2.0" in by_name["shorter"]["signature"]
    corpus = [s for s in summary["scores"] if s["metric"] == "ppl_corpus"]
    assert [s["n"] for s in corpus] == [2, 2]
    records = read_answers(run, "sft")
    score = next(s for s in summary["scores"] if s["metric"] == "shorter" and s["model"] == "sft")
    expected = sum(2.0 * len(r["answer"]) / 8 for r in records) / ROWS
    assert score["value"] == pytest.approx(expected, rel=0.2)


HUB_MODULE = """
    import datasets
    import evaluate


    class Shorter(evaluate.Metric):
        def _info(self):
            text = datasets.Value("string")
            return evaluate.MetricInfo(
                description="length",
                citation="",
                inputs_description="",
                features=datasets.Features({"predictions": text, "references": text}),
            )

        def _compute(self, predictions, references, scale=1.0):
            return {"share": scale * len(predictions[0]) / len(references[0])}
"""


def test_a_hub_metric_that_is_not_there_says_so_once(run: Path) -> None:
    with pytest.raises(InputError) as caught:
        evaluate(run, metrics=["exact_match"], hub_metrics=[{"path": "/none/here"}])
    assert "/none/here" in str(caught.value) and "copy on this machine" in str(caught.value)


def test_every_option_has_a_description() -> None:
    for model in (EvaluateConfig, *(_nested(EvaluateConfig))):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"


def _nested(model: Any) -> list[Any]:
    from espalier.evaluate.config import EvalSampling, HubMetricConfig, ModelConfig

    return [EvalSampling, HubMetricConfig, ModelConfig]
