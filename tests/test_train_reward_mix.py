"""A mix of rewards: the order of operations against a naive loop, loading, errors, metrics."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import rl_models

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from pydantic import ValidationError  # noqa: E402
from rl_learner import ENDS, TEMPLATE, judged, make_learner, make_options, stage_context  # noqa: E402

from espalier.errors import InputError, StageError, UsageError  # noqa: E402
from espalier.records import Example  # noqa: E402
from espalier.scoring import reward_scores  # noqa: E402
from espalier.train import ppo  # noqa: E402
from espalier.train import reward_mix as rm  # noqa: E402
from espalier.train import rollout as rollouts  # noqa: E402
from espalier.train.actors import Episode  # noqa: E402
from espalier.train.config_rl import PPOConfig  # noqa: E402
from espalier.train.monitor import read_metrics  # noqa: E402
from espalier.train.ppo_loop import PPO  # noqa: E402


def answers(*texts: str) -> rm.Answers:
    prompts = [rollouts.Prompt(e, (1,)) for e in rl_models.prompts(len(texts))]
    return rm.Answers(prompts, [Episode((1,), (7, 4), True) for _ in texts], texts, 1024)


def fixed(name: str, values: list[float], weight: float = 1.0, clip: float | None = None) -> Any:
    return rm.Term(name, lambda _: values, weight, clip)


def with_terms(folder: Path, terms: Any, **values: Any) -> PPO:
    """A learner whose score is the mix of these terms."""
    learner = make_learner(folder, stop=ENDS, **values)
    return PPO(dataclasses.replace(learner.parts, terms=terms), learner.options, folder, seed=5)


# The order of operations -------------------------------------------------------------------


def naive_score(
    raw: list[float],
    terms: list[dict[str, Any]],
    ended: bool,
    options: PPOConfig,
) -> float:
    """Score, standardise, clip, weight, sum, total clip, no end: written out for one answer."""
    total = 0.0
    for value, term in zip(raw, terms, strict=True):
        value = (value - term["mean"]) / term["deviation"]
        if term["clip"] is not None:
            if value > term["clip"]:
                value = term["clip"]
            if value < -term["clip"]:
                value = -term["clip"]
        total = total + term["weight"] * value
    if options.score_clip is not None:
        if total > options.score_clip:
            total = options.score_clip
        if total < -options.score_clip:
            total = -options.score_clip
    if not ended:
        if options.no_end_score is not None:
            return options.no_end_score
        return total - options.no_end_penalty
    return total


def new_words(text: str) -> float:
    """The share of words that are new; a Chinese character is a word."""
    words = re.findall("[a-z0-9]+|[甲乙丙丁]", text)
    return len(set(words)) / len(words) if words else float(bool(text))


@pytest.mark.parametrize(
    "values",
    [
        {"score_clip": 4.0},
        {"score_clip": 0.5},
        {"score_clip": None, "no_end_score": None, "no_end_penalty": 0.7},
    ],
)
def test_the_order_of_operations_is_that_of_a_naive_loop(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    # Two reward models, one of them with a tokenizer of its own, and two rules.
    own = rl_models.make_tokenizer()
    other = rl_models.make_tokenizer(order="reversed")
    first, second = (rl_models.make_model("reward", seed=s) for s in (2, 3))
    specs = [
        {"mean": 0.2, "deviation": 0.5, "clip": 1.0, "weight": 1.5},
        {"mean": -0.1, "deviation": 2.0, "clip": None, "weight": -0.5},
        {"mean": 0.0, "deviation": 1.0, "clip": 3.0, "weight": 0.25},
        {"mean": 0.0, "deviation": 1.0, "clip": None, "weight": 2.0},
    ]
    terms = (
        rm.model_term("a", rollouts.RewardModel(first, own, TEMPLATE, True, 0.2, 0.5), 1.5, 1.0),
        rm.model_term("b", rollouts.RewardModel(second, other, TEMPLATE, False, -0.1, 2.0), -0.5),
        rm.function_term("short", rl_models.rule_short, 0.25, 3.0),
        rm.rule_term("new", "no_repetition", {"n": 1}, 2.0, None),
    )
    learner = with_terms(tmp_path, terms, **values)
    experience = judged(learner)
    assert {e.ended for e in experience.episodes} == {True, False}
    clipped = 0
    for i, (prompt, episode, text) in enumerate(
        zip(experience.prompts, experience.episodes, experience.texts, strict=True)
    ):
        words = f"<|user|> {prompt.example.prompt}<|end|><|assistant|> {text}<|end|>"
        ids = other(words, add_special_tokens=False)["input_ids"]
        raw = [
            reward_scores(first, own, [list(episode.ids)])[0],
            reward_scores(second, other, [ids])[0],
            -float(len(text)),
            new_words(text),
        ]
        expected = naive_score(raw, specs, episode.ended, learner.options)
        clipped += abs((raw[0] - 0.2) / 0.5) > 1
        assert float(experience.scores[i]) == pytest.approx(expected, abs=1e-5)
    assert clipped


def test_the_short_form_is_the_mix_of_its_parts_bit_for_bit(tmp_path: Path) -> None:
    model = rl_models.make_model("reward", seed=2)
    scorer = rollouts.RewardModel(
        model, rl_models.make_tokenizer(), TEMPLATE, True, mean=0.25, deviation=2.0
    )
    rules = {"rl_models:rule_short": 0.3, "rl_models:rule_letter": 1.7}
    learner = make_learner(tmp_path, reward=scorer, rules=rules, stop=ENDS, no_end_score=None)
    experience = judged(learner)
    raw = reward_scores(model, scorer.tokenizer, [list(e.ids) for e in experience.episodes])
    for text, number, score in zip(experience.texts, raw, experience.scores.tolist(), strict=True):
        total = 0.0
        total += 0.3 * rl_models.rule_short(Example.single("x"), text)
        total += 1.7 * rl_models.rule_letter(Example.single("x"), text)
        total += (number - 0.25) / 2.0
        assert score == float(torch.tensor(max(-4.0, min(4.0, total))))


def test_terms_add_up_in_any_number_and_order() -> None:
    rng = random.Random(1)
    for _ in range(50):
        terms, expected = [], [0.0, 0.0, 0.0]
        for number in range(rng.randint(1, 5)):
            values = [rng.gauss(0, 3) for _ in range(3)]
            weight, clip = rng.gauss(0, 1), rng.choice([None, 1.0])
            terms.append(fixed(f"t{number}", values, weight, clip))
            for i, value in enumerate(values):
                held = value if clip is None else sorted((-clip, value, clip))[1]
                expected[i] += weight * held
        found = rm.mix(terms, answers("a", "b", "c"))
        assert found.totals == pytest.approx(expected, abs=1e-12)
        assert [sum(column) for column in zip(*found.added.values(), strict=True)] == (
            pytest.approx(expected, abs=1e-12)
        )


# Functions ---------------------------------------------------------------------------------


def test_functions_are_called_one_by_one_or_with_lists() -> None:
    calls = []

    def one(example: Example, answer: str) -> float:
        calls.append(answer)
        return float(len(answer))

    def many(examples: list[Example], answers: list[str]) -> Any:
        calls.append(answers)
        return torch.tensor([float(len(a)) for a in answers])

    for function in (one, many):
        calls.clear()
        found = rm.mix([rm.function_term("f", function, 2.0)], answers("a", "bb"))
        assert found.totals == [2.0, 4.0]
        assert calls == (["a", "bb"] if function is one else [["a", "bb"]])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "returned None"),
        (float("nan"), "returned nan"),
        (float("inf"), "returned inf"),
        ("1", "returned '1'"),
    ],
)
def test_a_function_must_return_a_finite_number(value: Any, message: str) -> None:
    given = answers("good", "bad")
    term = rm.function_term("mine", lambda e, a: value if a == "bad" else 1, 1.0)
    with pytest.raises(InputError, match=f"'mine' {message}") as caught:
        rm.mix([term], given)
    assert given.prompts[1].example.id in str(caught.value)
    assert "'bad'" in str(caught.value)


def test_a_batched_function_must_return_as_many_numbers() -> None:
    def short(examples: list[Example], answers: list[str]) -> list[float]:
        return [1.0]

    with pytest.raises(InputError, match="'short' returned 1 numbers for 2 answers"):
        rm.mix([rm.function_term("short", short, 1.0)], answers("a", "b"))  # type: ignore[arg-type]


def test_an_error_in_a_function_is_one_message_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def ratio(example, answer):\n    return 1 / answer.count('a')\n"
        "def all_of_them(examples, answers):\n    raise KeyError('gone')\n",
        encoding="utf-8",
    )
    given = answers("aa", "bb")
    with pytest.raises(StageError) as caught:
        rm.mix([rm.function_term("ratio", rollouts.load_rule(f"{file}:ratio"), 1.0)], given)
    text = str(caught.value)
    assert "'ratio' failed: ZeroDivisionError: division by zero" in text
    assert f"prompt {given.prompts[1].example.id}, answer 'bb', line 2 of {file}" in text
    with pytest.raises(StageError, match="KeyError: 'gone'") as caught:
        rm.mix([rm.function_term("x", rollouts.load_rule(f"{file}:all_of_them"), 1.0)], given)
    assert f"line 4 of {file}" in str(caught.value)


def test_a_file_that_fails_when_it_is_read_is_one_message(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    for text, reason in (("def f(:\n", "SyntaxError"), ("x = 1 / 0\n", "ZeroDivisionError")):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=f"can't be loaded: {reason}"):
            rollouts.load_rule(f"{file}:f")


def test_a_file_may_hold_dataclasses(tmp_path: Path) -> None:
    file = tmp_path / "shapes.py"
    file.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Box:\n    size: int\n"
        "def f(example, answer):\n    return Box(len(answer)).size\n",
        encoding="utf-8",
    )
    assert rollouts.load_rule(f"{file}:f")(Example.single("x"), "abc") == 3


@pytest.mark.slow
@pytest.mark.ci_slice
def test_a_failing_function_leaves_the_checkpoint_and_the_run_goes_on_from_it(
    tmp_path: Path,
) -> None:
    # The function reads a file that is not in the recipe, so correcting that changes no input.
    file, switch = tmp_path / "mine.py", tmp_path / "broken"
    file.write_text(
        "from pathlib import Path\n"
        "def letter(example, answer):\n"
        f"    if Path({str(switch)!r}).exists():\n        raise ValueError('down')\n"
        "    return answer.count('a')\n",
        encoding="utf-8",
    )
    values = {
        "reward": None, "rewards": [{"function": f"{file}:letter"}], "iterations": 4,
        "checkpoint_every": 1,
    }  # fmt: skip
    whole = ppo.run(stage_context(tmp_path / "whole", **values))
    context = stage_context(tmp_path / "broken-run", **values)
    ppo.prepare(context).run(until=2)
    switch.touch()
    with pytest.raises(StageError, match="'letter' failed: ValueError: down"):
        ppo.run(context)
    switch.unlink()
    counts = ppo.run(context)
    assert counts == whole
    weights = [
        (tmp_path / name / "run" / "ppo" / "model" / "model.safetensors").read_bytes()
        for name in ("whole", "broken-run")
    ]
    assert weights[0] == weights[1]


# The recipe --------------------------------------------------------------------------------


def test_the_two_forms_contradict_each_other() -> None:
    term = {"rule": "length"}
    with pytest.raises(ValidationError, match="rules and rewards both"):
        make_options(rewards=[term])
    with pytest.raises(ValidationError, match="reward: mine and rewards both"):
        PPOConfig.model_validate({"reward": "mine", "rewards": [term]})
    with pytest.raises(ValidationError, match="two terms of rewards are called 'length'"):
        PPOConfig.model_validate({"rewards": [term, term]})
    options = PPOConfig.model_validate({"rewards": [term]})
    assert options.reward is None
    # What is written down as the resolved recipe must be read back.
    assert PPOConfig.model_validate(options.model_dump(mode="json")) == options
    defaults = PPOConfig()
    assert (defaults.reward, defaults.rewards, defaults.held_out) == ("reward", [], None)
    assert PPOConfig.model_validate(defaults.model_dump(mode="json")) == defaults


def _other_reward(context: Any) -> Path:
    folder = context.run / "second"
    model = rl_models.make_model("reward", seed=9)
    rl_models.save(model, folder, reward={"mean": -1.0, "deviation": 0.5})
    rl_models.make_tokenizer(order="reversed").save_pretrained(folder)
    return folder


MIX = {
    "reward": None,
    "rewards": [
        {"model": "reward", "weight": 0.5},
        {"model": "SECOND", "name": "second", "clip": 2.0},
        {"function": "rl_models:rule_letter", "weight": 3.0},
        {"rule": "length", "options": {"max": 2, "slope": 3}},
    ],
}


def mixed(tmp_path: Path, **values: Any) -> Any:
    context = stage_context(tmp_path)
    text = json.dumps({**MIX, **values}).replace("SECOND", str(_other_reward(context)))
    return stage_context(tmp_path, **json.loads(text))


def test_a_recipes_terms_are_loaded_with_their_own_tokenizers_and_are_inputs(
    tmp_path: Path,
) -> None:
    context = mixed(tmp_path)
    assert set(ppo.inputs(context)) == {
        "curate/prompts.jsonl", "model", "rewards.reward", "rewards.second",
    }  # fmt: skip
    learner = ppo.prepare(context)
    first, second, third, fourth = learner.terms
    assert first.model is not None and second.model is not None
    assert (first.model.same_tokens, second.model.same_tokens) == (True, False)
    assert (first.model.mean, first.model.deviation) == (0.5, 2.0)
    assert (second.model.mean, second.model.deviation) == (-1.0, 0.5)
    assert (first.weight, second.clip, third.name, fourth.name) == (
        0.5, 2.0, "rule_letter", "length",
    )  # fmt: skip
    # The critic begins as what the first model that reads the policy's tokens adds to the score.
    assert learner.critic is not None
    assert (learner.critic.mean, learner.critic.deviation) == (0.5, 4.0)


def test_each_terms_part_of_the_score_is_in_the_metrics(tmp_path: Path) -> None:
    context = mixed(tmp_path, no_end_score=None, score_clip=None)
    counts = ppo.run(context)
    assert counts["iterations"] == 2
    names = ["reward", "second", "rule_letter", "length"]
    for line in read_metrics(context.folder / "metrics.jsonl"):
        parts = [line[f"reward/{name}"] for name in names]
        assert sum(parts) == pytest.approx(line["score"], abs=1e-5)
        assert line["reward/rule_letter"] == pytest.approx(3 * line["term/rule_letter"])
        assert 0 <= line["term/length"] <= 1
    short = ppo.run(stage_context(tmp_path / "short"))
    assert short["iterations"] == 2
    line = next(iter(read_metrics(tmp_path / "short" / "run" / "ppo" / "metrics.jsonl")))
    assert not any("/" in key for key in line)


def test_a_mix_of_one_reward_model_trains_as_the_short_form_does(tmp_path: Path) -> None:
    ppo.run(stage_context(tmp_path / "a"))
    ppo.run(stage_context(tmp_path / "b", reward=None, rewards=[{"model": "reward"}]))
    weights = [
        (tmp_path / name / "run" / "ppo" / "model" / "model.safetensors").read_bytes()
        for name in ("a", "b")
    ]
    assert weights[0] == weights[1]


def test_wrong_models_and_missing_references_are_said_at_the_start(tmp_path: Path) -> None:
    context = mixed(tmp_path)
    (context.run / "second" / "reward.json").unlink()
    with pytest.raises(InputError, match="standardise: false in the term 'second'"):
        ppo.prepare(context)
    rewards = [{"model": str(context.run / "second"), "standardise": False, "name": "second"}]
    plain = stage_context(tmp_path, reward=None, rewards=rewards)
    learner = ppo.prepare(plain)
    assert learner.terms[0].model is not None
    assert (learner.terms[0].model.mean, learner.terms[0].model.deviation) == (0.0, 1.0)
    with pytest.raises(InputError, match="'sft' is no reward model"):
        ppo.prepare(stage_context(tmp_path, reward=None, rewards=[{"model": "sft"}]))
    with pytest.raises(InputError, match="exact_match compares with a reference"):
        ppo.prepare(stage_context(tmp_path, reward=None, rewards=[{"rule": "exact_match"}]))
    with pytest.raises(UsageError, match="'rl_models:nothing' can't be loaded"):
        ppo.prepare(
            stage_context(tmp_path, reward=None, rewards=[{"function": "rl_models:nothing"}])
        )


def test_what_is_longer_than_a_reward_models_context_loses_the_oldest_of_its_prompt() -> None:
    model, tokenizer = rl_models.make_model("reward", seed=2), rl_models.make_tokenizer()
    prompt = rollouts.Prompt(Example.single("abcdefghij"), (2, 7, 8, 9, 10, 11, 3))
    episode = Episode(prompt.ids, (12, 13, 4), True)
    for alike, kept in ((True, [2, 11, 3, 12, 13, 4]), (False, None)):
        scorer = rollouts.RewardModel(model, tokenizer, TEMPLATE, alike, limit=6)
        (score,) = scorer([prompt], [episode], ["gh"], 99)
        if kept is None:
            whole = tokenizer(
                "<|user|> abcdefghij<|end|><|assistant|> gh<|end|>", add_special_tokens=False
            )["input_ids"]
            kept = whole[:1] + whole[-5:]
        assert score == pytest.approx(reward_scores(model, tokenizer, [kept])[0], abs=1e-6)
