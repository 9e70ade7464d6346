"""Scores of the evaluation, and rewards of PPO, by reward models made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import reward_models
import rl_models

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from espalier.errors import InputError  # noqa: E402
from espalier.evaluate.rewards import find_reward_model, open_scorer  # noqa: E402
from espalier.records import Message  # noqa: E402
from espalier.rewarding import encode_answers  # noqa: E402
from espalier.scoring import context_limit, reward_scores  # noqa: E402
from espalier.templates import get_template  # noqa: E402
from espalier.train.actors import Episode  # noqa: E402
from espalier.train.rollout import Prompt, RewardModel  # noqa: E402

ASK = (Message("user", "count to 3"),)


def scorer(folder: Path, run: Path, **values: Any) -> Any:
    found = find_reward_model(str(folder), folder, run, allow_training=False, **values)
    return found, open_scorer(found, dtype="float32", token_budget=300)


@pytest.mark.parametrize("labels", [1, 3])
def test_an_encoder_from_elsewhere_scores_the_answers(labels: int, tmp_path: Path) -> None:
    tokenizer = reward_models.encoder_tokenizer()
    model = reward_models.classifier("bert", tokenizer, labels=labels)
    folder = reward_models.save(model, tokenizer, tmp_path / "bert")
    if labels > 1:
        with pytest.raises(InputError, match="name the output to take as `label`"):
            scorer(folder, tmp_path)
    label = None if labels == 1 else 2
    found, opened = scorer(folder, tmp_path, label=label)
    assert not found.normalised
    assert ("|label:2" in found.signature) == (labels > 1)
    scores = opened.score([ASK, ASK], ["1 2 3", "no"], [{}, {}])
    for answer, score in zip(("1 2 3", "no"), scores, strict=True):
        with torch.no_grad():
            logits = model(**tokenizer("count to 3", answer, return_tensors="pt")).logits[0]
        assert score == pytest.approx(float(logits[label or 0]), abs=2e-5)


def test_scores_are_in_deviations_where_the_folder_says_so(tmp_path: Path) -> None:
    tokenizer = rl_models.make_tokenizer("reversed")
    model = reward_models.classifier("gpt2", tokenizer)
    folder = reward_models.save(
        model, tokenizer, tmp_path / "gpt2", normal={"mean": 0.5, "deviation": 2.0}
    )
    found, opened = scorer(folder, tmp_path, template="espalier")
    assert found.normalised
    assert "template:espalier" in found.signature
    template = get_template("espalier")
    ids = encode_answers(tokenizer, template, [((*ASK, Message("assistant", "a")), {})])[0].ids
    with torch.no_grad():
        raw = float(model(torch.tensor([ids])).logits[0, 0])
    assert opened.score([ASK], ["a"], [{}]) == pytest.approx([(raw - 0.5) / 2.0], abs=2e-5)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_ppo_writes_its_answers_anew_for_another_tokenizer(kind: str) -> None:
    policy = rl_models.make_tokenizer()
    own = (
        reward_models.encoder_tokenizer() if kind == "bert"
        else rl_models.make_tokenizer("reversed")
    )  # fmt: skip
    name = "text-pair" if kind == "bert" else "espalier"
    template = get_template(name, tokenizer=own)
    model = reward_models.classifier(kind, own)
    reward = RewardModel(
        model=model, tokenizer=own, template=template, same_tokens=False,
        limit=context_limit(model),
    )  # fmt: skip
    examples = rl_models.prompts(4)
    texts = ["a", "", "1 2 3", "abc"]
    prompts = [Prompt(e, (1, 2, 3)) for e in examples]
    episodes = [Episode((1, 2, 3), (4,), True) for _ in examples]
    found = reward(prompts, episodes, texts, 200)
    for example, text, score in zip(examples, texts, found, strict=True):
        turns = (*example.prompt_messages, Message("assistant", text))
        ids = encode_answers(own, template, [(turns, {})])[0].ids
        assert reward_scores(model, own, [ids]) == pytest.approx([score], abs=2e-5)
    assert policy.get_vocab() != own.get_vocab()
