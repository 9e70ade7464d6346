"""Muon and AdamW against torch's own, and which parameter gets which."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from espalier.train.optimizers import Optimizer, build_optimizer, orthogonalise, split_parameters


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Linear(16, 3))


def steps(model: nn.Module, optimizers: list[Any], count: int) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        x = torch.randn(8, 6, generator=generator, dtype=next(model.parameters()).dtype)
        model(x).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def test_adamw_is_torch_adamw() -> None:
    ours, theirs = network().double(), network().double()
    settings: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.9), "eps": 1e-5}
    steps(ours, [Optimizer([{"params": list(ours.parameters())}], **settings)], 7)
    steps(theirs, [torch.optim.AdamW(theirs.parameters(), **settings)], 7)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_muon_is_torch_muon() -> None:
    """torch's is in bf16 and takes one matrix after the other; so the tolerance is bf16's."""
    ours, theirs = network(), network()
    pick = lambda m: [p for p in m.parameters() if p.ndim == 2]  # noqa: E731
    group = {"params": pick(ours), "muon": True}
    steps(ours, [Optimizer([group], lr=0.02, weight_decay=0.1)], 5)
    steps(theirs, [torch.optim.Muon(pick(theirs), lr=0.02, weight_decay=0.1)], 5)
    start = network()
    for a, b, before in zip(pick(ours), pick(theirs), pick(start), strict=True):
        moved = (b - before).norm()
        assert ((a - b).norm() / moved).item() < 0.02


def naive_newton_schulz(matrix: torch.Tensor) -> torch.Tensor:
    x = matrix / matrix.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


@pytest.mark.parametrize("shape", [(5, 5), (4, 9), (9, 4)])
def test_orthogonalise_is_the_quintic_iteration(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    stack = torch.randn(3, *shape, dtype=torch.float64)
    found = orthogonalise(stack, dtype=torch.float64)
    for ours, matrix in zip(found, stack, strict=True):
        torch.testing.assert_close(ours, naive_newton_schulz(matrix))
        # Roughly orthogonal: all singular values near one, directions those of the SVD.
        values = torch.linalg.svdvals(ours)
        assert float(values.min()) > 0.5 and float(values.max()) < 1.5
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        cosine = (ours * (u @ v)).sum() / (ours.norm() * (u @ v).norm())
        assert float(cosine) > 0.97


def test_muon_takes_the_hidden_matrices_of_a_language_model() -> None:
    model = tiny.model()
    hidden, other, vectors = split_parameters(model)
    assert len(hidden) == 2 * 7  # q, k, v, o, gate, up, down of two blocks
    assert [id(p) for p in other] == [id(model.get_input_embeddings().weight)]
    assert all(p.ndim == 1 for p in vectors)
    reward = tiny.model("reward")
    names = {id(p): name for name, p in reward.named_parameters()}
    assert {names[id(p)] for p in split_parameters(reward)[1]} == {
        "model.embed_tokens.weight",
        "score.weight",
    }


def test_rates_and_decay_of_the_groups() -> None:
    optimizer = build_optimizer(tiny.model(), "muon", lr=1e-3, weight_decay=0.1, muon_ratio=7)
    assert [(g["muon"], g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (True, pytest.approx(7e-3), 0.1),
        (False, 1e-3, 0.1),
        (False, 1e-3, 0.0),
    ]
    plain = build_optimizer(tiny.model(), "adamw", lr=1e-3)
    assert {g["lr"] for g in plain.param_groups} == {1e-3}
    assert not any(g["muon"] for g in plain.param_groups)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_restored_optimizer_goes_on_as_if_nothing_had_happened(name: str) -> None:
    whole, first = network(), network()
    steps(whole, [build_optimizer(whole, name, lr=0.01)], 6)
    optimizer = build_optimizer(first, name, lr=0.01)
    generator = torch.Generator().manual_seed(1)
    second: nn.Module = first
    for step in range(6):
        if step == 3:
            second = copy.deepcopy(first)
            restored = build_optimizer(second, name, lr=0.01)
            restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            optimizer = restored
        second(torch.randn(8, 6, generator=generator)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
