"""Log-probabilities and reward scores against one-by-one references."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from espalier import scoring
from espalier.errors import InputError
from espalier.scoring import length_batches, reward_scores, token_logprobs


def sequences(count: int = 12, seed: int = 0) -> list[list[int]]:
    rng = random.Random(seed)
    top = len(tiny.tokenizer())
    return [[rng.randrange(top) for _ in range(rng.randint(1, 30))] for _ in range(count)]


def one_by_one(model: Any, rows: list[list[int]]) -> list[np.ndarray[Any, Any]]:
    wide = model.double()
    found = []
    with torch.no_grad():
        for row in rows:
            logits = wide(torch.tensor([row])).logits[0, :-1]
            logp = torch.log_softmax(logits, -1)
            found.append(logp[torch.arange(len(row) - 1), torch.tensor(row[1:])].numpy())
    model.float()
    return found


@pytest.mark.parametrize("budget", [1, 64, 8192])
def test_logprobs_are_those_of_each_sequence_alone(budget: int) -> None:
    model, rows = tiny.model(), sequences()
    found = token_logprobs(model, rows, token_budget=budget)
    for row, ours, reference in zip(rows, found, one_by_one(model, rows), strict=True):
        assert ours.shape == (len(row) - 1,)
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, reference, atol=1e-5)


def test_chunked_logits_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = tiny.model(), sequences()
    whole = token_logprobs(model, rows)
    monkeypatch.setattr(scoring, "CHUNK_ELEMENTS", 3 * len(tiny.tokenizer()))
    for ours, reference in zip(token_logprobs(model, rows), whole, strict=True):
        np.testing.assert_allclose(ours, reference, atol=1e-6)


@pytest.mark.parametrize("chunk", [10**9, 1000])
def test_what_a_model_does_after_its_head_is_kept(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    model = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=len(tiny.tokenizer()), hidden_size=32, intermediate_size=32,
            num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
            final_logit_softcapping=0.5, initializer_range=0.5, sliding_window=8,
        )
    ).eval()  # fmt: skip
    monkeypatch.setattr(scoring, "CHUNK_ELEMENTS", chunk)
    rows = sequences(5)
    for ours, reference in zip(token_logprobs(model, rows), one_by_one(model, rows), strict=True):
        np.testing.assert_allclose(ours, reference, atol=1e-4)


def test_a_training_model_is_scored_without_dropout_and_stays_training() -> None:
    model = tiny.model(attention_dropout=0.5).train()
    rows = sequences(4)
    first, second = token_logprobs(model, rows), token_logprobs(model, rows)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert model.training
    assert not model.lm_head._forward_pre_hooks


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("budget", [40, 8192])
def test_reward_is_that_of_each_sequence_alone(side: str, budget: int) -> None:
    tok, model = tiny.tokenizer(), tiny.model("reward")
    tok.padding_side = side
    rows = [[*row, tok.eos_token_id] for row in sequences()]
    found = reward_scores(model, tok, rows, token_budget=budget)
    with torch.no_grad():
        alone = [float(model(torch.tensor([row])).logits[0, 0]) for row in rows]
    np.testing.assert_allclose(found, alone, atol=1e-5)


def test_reward_agrees_with_transformers_on_a_padded_batch() -> None:
    tok, model = tiny.tokenizer(), tiny.model("reward")
    rows = [[*[5 + i, 9, 11 + i][: 1 + i % 3], tok.eos_token_id] for i in range(6)]
    for side in ("left", "right"):
        tok.padding_side = side
        batch = tok.pad({"input_ids": rows}, return_tensors="pt")
        with torch.no_grad():
            theirs = model(**batch).logits[:, 0]
        np.testing.assert_allclose(reward_scores(model, tok, rows), theirs, atol=1e-5)


def test_encoder_classifiers_are_scored_with_a_mask() -> None:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    tok = tiny.tokenizer()
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tok), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32, num_labels=1, max_position_embeddings=64,
        )
    ).eval()  # fmt: skip
    rows = sequences(6)
    with torch.no_grad():
        alone = [float(model(torch.tensor([row])).logits[0, 0]) for row in rows]
    np.testing.assert_allclose(reward_scores(model, tok, rows), alone, atol=1e-5)


def test_batches_keep_to_the_budget_and_hold_each_sequence_once() -> None:
    lengths = [random.Random(1).randint(1, 50) for _ in range(100)]
    batches = list(length_batches(lengths, 120))
    assert sorted(i for batch in batches for i in batch) == list(range(100))
    for batch in batches:
        assert len(batch) * max(lengths[i] for i in batch) <= 120
    assert list(length_batches([500], 120)) == [[0]]


def test_an_empty_sequence_is_refused() -> None:
    with pytest.raises(InputError, match="sequence 2"):
        token_logprobs(tiny.model(), [[1, 2], []])
    assert token_logprobs(tiny.model(), []) == []
    assert token_logprobs(tiny.model(), [[3]])[0].shape == (0,)
