"""The vectorised mathematics of PPO against a scalar reference and closed forms."""

from __future__ import annotations

import math
import random

import ppo_reference as reference
import pytest

torch = pytest.importorskip("torch")

from espalier.train import policy_math as pm  # noqa: E402

ROWS, WIDTH = 6, 7


def _rows(seed: int, scale: float = 1.0) -> list[list[float]]:
    random_ = random.Random(seed)
    return [[random_.gauss(0, scale) for _ in range(WIDTH)] for _ in range(ROWS)]


def _mask(seed: int, holes: bool = False) -> list[list[bool]]:
    random_ = random.Random(seed)
    rows = []
    for _ in range(ROWS):
        length = random_.randint(1, WIDTH)
        row = [i < length for i in range(WIDTH)]
        if holes:
            row = [on and (i == length - 1 or random_.random() < 0.7) for i, on in enumerate(row)]
        rows.append(row)
    return rows


def _t(rows: object) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def _close(tensor: torch.Tensor, rows: object, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(tensor.double(), _t(rows), rtol=0, atol=tolerance)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.0])
def test_detail_05_logprobs_and_entropy_divide_the_logits_by_the_temperature(
    temperature: float,
) -> None:
    logits = _rows(1, 3.0)
    tokens = [random.Random(2).randrange(WIDTH) for _ in range(ROWS)]
    got = pm.token_logprobs(_t(logits), torch.tensor(tokens), temperature)
    want = [reference.logprob(row, t, temperature) for row, t in zip(logits, tokens, strict=True)]
    _close(got, want, 1e-5)
    _close(
        pm.token_entropy(_t(logits), temperature),
        [reference.entropy(row, temperature) for row in logits],
        1e-5,
    )


def test_entropy_of_a_uniform_distribution_is_the_logarithm_of_its_size() -> None:
    _close(pm.token_entropy(torch.zeros(3, 50)), [math.log(50)] * 3, 1e-5)


def test_detail_08_k1_is_unbiased_and_k3_is_too_and_never_negative() -> None:
    p, q = reference.softmax([0.3, -1.0, 0.5, 0.1]), reference.softmax([0.1, 0.2, -0.4, 0.9])
    logp, logq = torch.log(_t(p)), torch.log(_t(q))
    exact = reference.kl(p, q)
    for estimate in (pm.kl_k1, pm.kl_k3):
        mean = sum(a * b for a, b in zip(p, estimate(logp, logq).tolist(), strict=True))
        assert mean == pytest.approx(exact, abs=1e-12)
    assert (pm.kl_k3(_t(_rows(3)), _t(_rows(4))) >= 0).all()


def test_detail_08_the_score_is_added_at_the_last_action_and_k1_everywhere() -> None:
    scores, new, old, mask = [1.5, -2.0, 0.3, 4.0, 0.0, -1.0], _rows(5), _rows(6), _mask(7)
    got = pm.token_rewards(_t(scores), _t(new), _t(old), torch.tensor(mask), 0.05)
    want = [reference.rewards(*row, 0.05) for row in zip(scores, new, old, mask, strict=True)]
    _close(got, want)


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (1.0, 0.0)])
def test_detail_11_gae_equals_its_definition(holes: bool, gamma: float, lam: float) -> None:
    reward, value, mask = _rows(8), _rows(9), _mask(10, holes)
    cut = [0.0, 1.0, 0.0, -2.0, 0.5, 0.0]
    got = pm.advantages_and_returns(
        _t(reward), _t(value), torch.tensor(mask), gamma=gamma, lam=lam, bootstrap=_t(cut)
    )
    want = [
        reference.gae(r, v, m, gamma, lam, b)
        for r, v, m, b in zip(reward, value, mask, cut, strict=True)
    ]
    _close(got[0], [row[0] for row in want])
    _close(got[1], [row[1] for row in want])


def test_detail_11_with_lambda_one_the_return_is_the_sum_of_later_rewards() -> None:
    reward, value = _rows(11), _rows(12)
    mask = torch.ones(ROWS, WIDTH, dtype=torch.bool)
    _, returns = pm.advantages_and_returns(_t(reward), _t(value), mask, gamma=1.0, lam=1.0)
    _close(returns, [[sum(row[i:]) for i in range(WIDTH)] for row in reward])


def test_detail_11_nothing_off_the_mask_enters() -> None:
    reward, value, mask = _t(_rows(13)), _t(_rows(14)), torch.tensor(_mask(15, holes=True))
    spoiled = [torch.where(mask, x, torch.full_like(x, 1e9)) for x in (reward, value)]
    clean = pm.advantages_and_returns(reward, value, mask, gamma=0.9, lam=0.9)
    other = pm.advantages_and_returns(*spoiled, mask, gamma=0.9, lam=0.9)
    for a, b in zip(clean, other, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("keep_mean", [False, True])
def test_detail_12_whitening_is_over_all_true_positions(keep_mean: bool) -> None:
    values, mask = _rows(16, 3.0), _mask(17)
    got = pm.whiten(_t(values), torch.tensor(mask), keep_mean=keep_mean)
    _close(got, reference.whiten(values, mask, keep_mean))


def test_detail_12_whitening_over_two_processes_equals_one() -> None:
    values, mask = _t(_rows(18, 2.0)), torch.tensor(_mask(19))
    whole = pm.whiten(values, mask)
    parts = [(values[:2], mask[:2]), (values[2:], mask[2:])]
    # Each part sees the sums of both: the moments of the whole, computed beforehand.
    mean = values[mask].mean()
    moments = [
        torch.stack([values[mask].sum(), mask.sum().double()]),
        torch.stack([((values[mask] - mean) ** 2).sum(), mask.sum().double()]),
    ]
    for (part, part_mask), rows in zip(parts, (slice(0, 2), slice(2, None)), strict=True):
        sums = iter(moments)
        got = pm.whiten(part, part_mask, total=lambda _, sums=sums: next(sums))
        torch.testing.assert_close(got, whole[rows])


def _policy(case: dict[str, object], count: float) -> tuple[torch.Tensor, torch.Tensor]:
    new = _t(_rows(20, 0.5)).requires_grad_()
    old, advantage, mask = _t(_rows(21, 0.5)), _t(_rows(22)), torch.tensor(_mask(23))
    result = pm.policy_loss(new, old, advantage, mask, count=count, **case)
    (gradient,) = torch.autograd.grad(result.loss, new)
    return result.loss.detach(), gradient


def _scalar_policy(case: dict[str, float | None], count: float, new: list[list[float]]) -> float:
    total = 0.0
    for n, o, a, m in zip(new, _rows(21, 0.5), _rows(22), _mask(23), strict=True):
        for i in range(WIDTH):
            if m[i]:
                total += reference.policy_term(n[i], o[i], a[i], **case)
    return total / count


@pytest.mark.parametrize(
    "case",
    [{"clip": 0.2}, {"clip": None}, {"clip": 0.2, "dual_clip": 1.5}],
    ids=["clip", "free", "dual"],
)
def test_detail_14_policy_loss_and_gradient_equal_the_scalar_reference(
    case: dict[str, float | None],
) -> None:
    loss, gradient = _policy(case, 17.0)
    new = _rows(20, 0.5)
    assert float(loss) == pytest.approx(_scalar_policy(case, 17.0, new), abs=1e-12)
    step = 1e-6
    for i in range(ROWS):
        for j in range(WIDTH):
            sides = []
            for sign in (1, -1):
                moved = [list(row) for row in new]
                moved[i][j] += sign * step
                sides.append(_scalar_policy(case, 17.0, moved))
            slope = (sides[0] - sides[1]) / (2 * step)
            assert float(gradient[i, j]) == pytest.approx(slope, abs=1e-7)


def test_detail_14_a_huge_log_ratio_stays_finite() -> None:
    mask = torch.ones(1, 2, dtype=torch.bool)
    new = torch.tensor([[400.0, -400.0]], requires_grad=True)
    result = pm.policy_loss(
        new, torch.zeros(1, 2), torch.tensor([[-1.0, 1.0]]), mask, clip=None, count=1.0
    )
    result.loss.backward()
    assert float(result.loss.detach()) == pytest.approx(math.exp(20) - math.exp(-20), rel=1e-6)
    assert torch.equal(new.grad, torch.zeros(1, 2))


def test_detail_14_clip_fraction_counts_tokens_that_the_clip_holds() -> None:
    ratios, advantages = [1.5, 1.5, 0.5, 0.5, 1.1], [1.0, -1.0, 1.0, -1.0, 1.0]
    result = pm.policy_loss(
        torch.log(_t([ratios])), torch.zeros(1, 5).double(), _t([advantages]),
        torch.ones(1, 5, dtype=torch.bool), clip=0.2, count=5.0,
    )  # fmt: skip
    assert int(result.clipped) == 2  # up with a gain, down with a loss
    assert float(result.ratio_gap) == pytest.approx(0.5)


def test_detail_15_parts_of_a_minibatch_add_up_to_the_whole() -> None:
    new, old, advantage = _t(_rows(24)), _t(_rows(25)), _t(_rows(26))
    mask = torch.tensor(_mask(27))
    count = float(mask.sum())
    whole = pm.policy_loss(new, old, advantage, mask, clip=0.2, count=count).loss
    parts = sum(
        pm.policy_loss(new[r], old[r], advantage[r], mask[r], clip=0.2, count=count).loss
        for r in (slice(0, 1), slice(1, 4), slice(4, None))
    )
    assert float(parts) == pytest.approx(float(whole), abs=1e-12)


@pytest.mark.parametrize("clip", [0.2, None])
def test_detail_13_value_loss_is_clipped_around_the_old_values(clip: float | None) -> None:
    new, old, target, mask = _rows(28), _rows(29), _rows(30), _mask(31)
    values = _t(new).requires_grad_()
    loss, clipped = pm.value_loss(
        values, _t(old), _t(target), torch.tensor(mask), clip=clip, count=9.0
    )
    terms = [
        (reference.value_term(n, o, r, clip), reference.value_term(n, o, r, None))
        for rows in zip(new, old, target, mask, strict=True)
        for n, o, r, on in zip(*rows, strict=True)
        if on
    ]
    assert float(loss.detach()) == pytest.approx(sum(t for t, _ in terms) / 9.0, abs=1e-12)
    assert int(clipped) == sum(t > plain for t, plain in terms)
    (gradient,) = torch.autograd.grad(loss, values)
    for i, rows in enumerate(zip(new, old, target, mask, strict=True)):
        for j, (n, o, r, on) in enumerate(zip(*rows, strict=True)):
            up, down = (reference.value_term(n + d, o, r, clip) for d in (1e-6, -1e-6))
            slope = (up - down) / 2e-6 / 9.0 if on else 0.0
            assert float(gradient[i, j]) == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize(
    ("kl", "factor"), [(6.0, 1.0), (100.0, 1.002), (0.0, 0.998), (6.6, 1.001), (5.4, 0.999)]
)
def test_detail_09_adaptive_coefficient(kl: float, factor: float) -> None:
    got = pm.adapted_kl_coefficient(0.15, kl, target=6.0, horizon=10_000, episodes=100)
    assert got == pytest.approx(0.15 * factor, rel=1e-12)


def test_detail_06_importance_weights_are_truncated_and_multiply_the_terms() -> None:
    old, rollout = _rows(32), _rows(33)
    weights = pm.truncated_importance(_t(old), _t(rollout), 1.5)
    want = [
        [min(math.exp(o - r), 1.5) for o, r in zip(*rows, strict=True)]
        for rows in zip(old, rollout, strict=True)
    ]
    _close(weights, want)
    new, advantage, mask = _rows(34), _rows(35), _mask(36)
    got = pm.policy_loss(
        _t(new), _t(old), _t(advantage), torch.tensor(mask), clip=0.2, count=1.0, weights=weights
    )
    total = sum(
        reference.policy_term(new[i][j], old[i][j], advantage[i][j], 0.2, weight=want[i][j])
        for i in range(ROWS)
        for j in range(WIDTH)
        if mask[i][j]
    )
    assert float(got.loss) == pytest.approx(total, abs=1e-12)


def test_explained_variance_of_perfect_constant_and_wrong_values() -> None:
    returns, mask = _t(_rows(37)), torch.tensor(_mask(38))
    assert float(pm.explained_variance(returns, returns, mask)) == pytest.approx(1.0)
    constant = torch.full_like(returns, 3.0)
    assert float(pm.explained_variance(constant, returns, mask)) == pytest.approx(0.0)
    assert float(pm.explained_variance(-returns, returns, mask)) == pytest.approx(-3.0)
    assert float(pm.explained_variance(returns, constant, mask)) == 0.0


def test_the_learning_rate_decays_linearly_to_its_final_share() -> None:
    factors = [pm.linear_decay(i, 5, 0.2) for i in range(5)]
    assert factors == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert pm.linear_decay(0, 1, 0.2) == 1.0
