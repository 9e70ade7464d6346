"""The last feed-forward layer where it is read alone: the same losses and gradients."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import tiny

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from espalier.encoding import Encoded  # noqa: E402
from espalier.train import last_layer  # noqa: E402
from espalier.train.last_layer import feed_forward_at, last_feed_forward  # noqa: E402
from espalier.train.reward_loss import BradleyTerry  # noqa: E402
from espalier.train.reward_pairs import EncodedPair  # noqa: E402
from espalier.train.tasks import NextToken  # noqa: E402


@pytest.fixture
def worth(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every saving is worth it."""
    monkeypatch.setattr(last_layer, "WORTH", 0)
    yield


def rows(count: int) -> list[Encoded]:
    rng = random.Random(0)
    found = []
    for _ in range(count):
        size = rng.randint(6, 30)
        ids = [rng.randrange(5, 200) for _ in range(size)]
        found.append(Encoded(ids, [i >= size - 3 for i in range(size)]))
    return found


def pairs(count: int) -> list[EncodedPair]:
    """Pairs with a common prompt; in the first one answer begins the other."""
    rng = random.Random(1)
    found = [EncodedPair([9, 8, 7], [9, 8, 7, 6, 5], 0.0, "", "")]
    for _ in range(count):
        prompt = [rng.randrange(5, 200) for _ in range(rng.randint(3, 20))]
        sides = [[*prompt, *(rng.randrange(5, 200) for _ in range(4))] for _ in range(2)]
        found.append(EncodedPair(sides[0], sides[1], 0.0, "", ""))
    return found


CASES = {
    "causal": (NextToken(0), rows(7)),
    "reward": (BradleyTerry(0, 0.1, shared=True), pairs(6)),
}


def gradients(kind: str) -> tuple[float, dict[str, Any]]:
    task, data = CASES[kind]
    model = tiny.model(kind)
    loss, _ = task.loss(model, data)
    loss.backward()
    return float(loss.detach()), {n: p.grad for n, p in model.named_parameters()}


@pytest.mark.parametrize("kind", CASES)
def test_losses_and_gradients_are_those_of_the_whole_layer(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_layer, "WORTH", float("inf"))
    whole, expected = gradients(kind)
    monkeypatch.setattr(last_layer, "WORTH", 0)
    seen = []
    inner = torch.Tensor.index_copy
    monkeypatch.setattr(torch.Tensor, "index_copy", lambda *a: seen.append(1) or inner(*a))
    loss, found = gradients(kind)
    assert seen
    assert loss == pytest.approx(whole, rel=1e-6)
    for name, value in expected.items():
        assert (found[name] - value).norm() <= 1e-5 * value.norm(), name


def test_the_layer_is_whole_again_afterwards(worth: None) -> None:
    model = tiny.model()
    layer = last_feed_forward(model)
    assert layer is model.model.layers[-1].mlp
    with pytest.raises(KeyError), feed_forward_at(model, torch.tensor([1]), 8):
        assert "forward" in vars(layer)
        raise KeyError
    assert "forward" not in vars(layer)


def test_without_effect_where_it_would_be_wrong(worth: None) -> None:
    """Without gradients, with gradient checkpointing, on other architectures."""
    model, positions = tiny.model(), torch.tensor([1])
    layer = model.model.layers[-1].mlp
    with torch.no_grad(), feed_forward_at(model, positions, 8):
        assert "forward" not in vars(layer)
    model.config.model_type = "unknown"
    with feed_forward_at(model, positions, 8):
        assert "forward" not in vars(layer)
    model.config.model_type = "llama"
    model.gradient_checkpointing_enable({"use_reentrant": False})
    with feed_forward_at(model.train(), positions, 8):
        assert "forward" not in vars(layer)


def test_rows_with_virtual_tokens_before_them_are_computed_whole(worth: None) -> None:
    model = tiny.model()
    hidden = torch.randn(2, 6, 32)
    whole = model.model.layers[-1].mlp(hidden)
    with feed_forward_at(model, torch.tensor([1]), 8):
        assert torch.equal(model.model.layers[-1].mlp(hidden), whole)


def test_adapters_get_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    peft = pytest.importorskip("peft")
    found = []
    for worth in (float("inf"), 0):
        monkeypatch.setattr(last_layer, "WORTH", worth)
        torch.manual_seed(0)
        config = peft.LoraConfig(
            r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False
        )
        model = peft.get_peft_model(tiny.model(), config)
        assert last_feed_forward(model) is not None
        loss, _ = NextToken(0).loss(model, rows(5))
        loss.backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    for name, value in found[0].items():
        assert (found[1][name] - value).norm() <= 1e-5 * value.norm(), name
