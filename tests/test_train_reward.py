"""The reward model: loss, held-out split, accuracy, and the whole stage on tiny models."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import ppo_reference as reference
import pytest
import rl_models

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from espalier.errors import InputError, StageError  # noqa: E402
from espalier.models import load_model, load_tokenizer  # noqa: E402
from espalier.records import PreferencePair  # noqa: E402
from espalier.run import Shared, StageContext  # noqa: E402
from espalier.scoring import reward_scores  # noqa: E402
from espalier.templates import get_template  # noqa: E402
from espalier.train import reward, reward_loss, reward_pairs, reward_report  # noqa: E402
from espalier.train.actors import Critic, exact_head  # noqa: E402
from espalier.train.config_rl import RewardConfig  # noqa: E402

TEMPLATE = get_template("espalier")


def make_pairs(count: int, seed: int = 0) -> list[PreferencePair]:
    """The better answer is the one that is all 'a'; prompts repeat now and then."""
    rng = random.Random(seed)
    pairs = []
    for i in range(count):
        prompt = rl_models.prompts(count)[i // 2].prompt_messages
        good = "a" * rng.randint(1, 5)
        bad = "".join(rng.choice("bcdxyz") for _ in range(rng.randint(1, 6)))
        kind = ("policy", "number", "empty")[i % 3]
        pairs.append(
            PreferencePair.make(
                prompt, good, bad if kind != "empty" else "", margin=[None, 0.5][i % 2],
                meta={"kind": kind, "language": "en"},
            )
        )  # fmt: skip
    return pairs


def options(**values: Any) -> RewardConfig:
    return RewardConfig.model_validate({"precision": "fp32", **values})


def encode(pairs: list[PreferencePair], **values: Any) -> list[reward_pairs.EncodedPair]:
    rows, _ = reward_pairs.encode_pairs(
        rl_models.make_tokenizer(), TEMPLATE, pairs, 128, options(**values)
    )
    return rows


@pytest.mark.parametrize("center", [0.0, 0.5])
def test_loss_is_bradley_terry_with_margin_and_centring(center: float) -> None:
    tokenizer = rl_models.make_tokenizer()
    model = exact_head(rl_models.make_model("reward", seed=3))
    rows = encode(make_pairs(9))
    loss, sums = reward_loss.BradleyTerry(tokenizer.pad_token_id, center).loss(model, rows)
    scores = [
        reward_scores(model, tokenizer, [getattr(r, side) for r in rows])
        for side in ("chosen", "rejected")
    ]
    expected = reference.reward_loss(*scores, [r.margin for r in rows], center)
    assert float(loss.detach()) / len(rows) == pytest.approx(expected, abs=1e-5)
    wins = sum(a > b for a, b in zip(*scores, strict=True))
    assert float(sums["accuracy"]) == wins


def test_a_minibatch_cut_into_passes_gives_the_same_gradient() -> None:
    task = reward_loss.BradleyTerry(0, 1e-3)
    rows = encode(make_pairs(8))
    gradients = []
    for parts in ([rows], [rows[:3], rows[3:4], rows[4:]]):
        model = rl_models.make_model("reward", seed=3)
        for part in parts:
            (task.loss(model, part)[0] / len(rows)).backward()
        gradients.append(model.score.weight.grad.clone())
    torch.testing.assert_close(*gradients)


def test_detail_01_pad_is_not_the_end_token() -> None:
    tokenizer = rl_models.make_tokenizer()
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_detail_03_score_is_pooled_at_the_last_real_token() -> None:
    tokenizer = rl_models.make_tokenizer()
    model = exact_head(rl_models.make_model("reward", seed=4))
    rows = encode(make_pairs(6))
    sequences = [r.chosen for r in rows]
    scores = reward_scores(model, tokenizer, sequences)
    for ids, score in zip(sequences, scores, strict=True):
        assert ids[-1] == tokenizer.eos_token_id
        # Alone and unpadded, the last position's head output is the score.
        hidden = model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
        assert score == pytest.approx(float((hidden @ model.score.weight[0]).detach()), abs=1e-5)


def test_detail_03_text_after_the_end_of_the_answer_is_not_scored() -> None:
    # ChatML writes a line break after the end marker; a policy never generates it.
    tokenizer = rl_models.make_tokenizer()
    rows, _ = reward_pairs.encode_pairs(
        tokenizer, get_template("chatml"), make_pairs(2), 500, options()
    )
    end = tokenizer("<|im_end|>", add_special_tokens=False)["input_ids"]
    assert rows[0].chosen[-len(end) :] == end


def test_detail_18_reward_head_is_drawn_from_a_normal_of_variance_one_over_d_plus_one(
    tmp_path: Path,
) -> None:
    width = 512
    folder = rl_models.save(rl_models.make_model(hidden=width), tmp_path / "model")
    heads = [load_model(folder, kind="reward", head_seed=s, device="cpu") for s in (1, 1, 2)]
    weights = [m.score.weight.detach().flatten() for m in heads]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    scaled = weights[0] * math.sqrt(width + 1)
    assert abs(float(scaled.mean())) < 4 / math.sqrt(width)
    assert abs(float(scaled.std()) - 1) < 4 / math.sqrt(2 * width)


def test_scores_keep_float32_under_autocast() -> None:
    critic = Critic(rl_models.make_model("reward", seed=5))
    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = critic(ids, torch.tensor([1, 3]))
    assert values.dtype == torch.float32
    assert not torch.equal(values, values.bfloat16().float())


def test_held_out_prompts_are_not_trained_on() -> None:
    pairs = [(pair, 1 + i % 2) for i, pair in enumerate(make_pairs(40))]
    train, held_out = reward_pairs.split_by_prompt(pairs, options(validation_fraction=0.2), 7)
    prompts = [{p.prompt for p in part} for part in (train, held_out)]
    assert not prompts[0] & prompts[1]
    assert 8 <= len(held_out) <= 9
    weights = {pair.id: weight for pair, weight in pairs}
    for pair in train:
        assert sum(p.id == pair.id for p in train) == weights[pair.id]
    again = reward_pairs.split_by_prompt(pairs, options(validation_fraction=0.2), 7)
    assert (train, held_out) == again
    assert held_out != reward_pairs.split_by_prompt(pairs, options(validation_fraction=0.2), 8)[1]


def test_one_prompt_alone_can_not_be_split() -> None:
    pair = make_pairs(1)[0]
    with pytest.raises(StageError, match="at least two prompts"):
        reward_pairs.split_by_prompt([(pair, 1)], options(), 1)


def test_pairs_with_equal_sides_and_long_ones_are_counted() -> None:
    tokenizer = rl_models.make_tokenizer()
    pairs = make_pairs(4)
    equal = PreferencePair.make(pairs[0].prompt, "same", "same")
    long = PreferencePair.make(pairs[0].prompt, "x" * 60, "y")
    rows, lost = reward_pairs.encode_pairs(
        tokenizer, TEMPLATE, [*pairs, equal, long], 40, options(over_long="drop")
    )
    assert (len(rows), lost) == (4, {"too_long": 1, "equal": 1})
    cut, lost = reward_pairs.encode_pairs(tokenizer, TEMPLATE, [long, *pairs], 40, options())
    assert len(cut[0].chosen) == 40
    assert lost["too_long"] == 0
    with pytest.raises(StageError, match="at most 40"):
        reward_pairs.encode_pairs(tokenizer, TEMPLATE, [long], 40, options(over_long="stop"))


@pytest.mark.parametrize(("wins", "n"), [(0, 5), (5, 5), (7, 10), (131, 200), (1, 1)])
def test_accuracy_has_a_wilson_interval(wins: int, n: int) -> None:
    got = reward_report.share([True] * wins + [False] * (n - wins))
    low, high = reference.wilson(wins, n)
    assert got["accuracy"] == wins / n
    assert got["n"] == n
    assert (got["low"], got["high"]) == pytest.approx((low, high), abs=1e-9)


def _run_folder(tmp_path: Path, count: int = 60) -> Path:
    run = tmp_path / "run"
    rl_models.save(rl_models.make_model(seed=1, spread=0.05), run / "sft" / "model")
    rl_models.save(rl_models.make_model(seed=2, spread=0.05), run / "base" / "model")
    rl_models.write_rows(run / "curate" / "preferences.jsonl", make_pairs(count))
    rl_models.write_rows(run / "curate" / "preferences_eval.jsonl", make_pairs(count, seed=5))
    rl_models.write_rows(run / "pairs" / "preferences.jsonl", make_pairs(count // 2, seed=9))
    return run


def _context(run: Path, stage: str = "reward", **values: Any) -> StageContext:
    chosen = options(**{"minibatch": 8, "epochs": 3, "validation_fraction": 0.2, **values})
    folder = run / stage
    folder.mkdir(parents=True, exist_ok=True)
    return StageContext(stage, run, folder, chosen, Shared(seed=3))


def test_stage_defaults_name_the_files_and_models_of_the_run(tmp_path: Path) -> None:
    run = _run_folder(tmp_path)
    first, second = _context(run), _context(run, "reward_eval")
    assert set(reward.inputs(first)) == {
        "curate/preferences.jsonl", "pairs/preferences.jsonl", "model", "policy",
    }  # fmt: skip
    assert reward.inputs(first)["model"] == run / "sft" / "model"
    assert reward.inputs(second)["model"] == run / "base" / "model"
    assert "curate/preferences_eval.jsonl" in reward.inputs(second)
    assert reward.reward_seed(first) != reward.reward_seed(second)
    assert reward.plan(first)


def test_a_missing_pairs_file_is_named(tmp_path: Path) -> None:
    context = _context(_run_folder(tmp_path), pairs=["mine/none.jsonl"])
    with pytest.raises(InputError, match=r"none\.jsonl"):
        reward.inputs(context)
    optional = [{"path": "mine/none.jsonl", "optional": True}, "curate/preferences.jsonl"]
    assert "mine/none.jsonl" not in reward.inputs(_context(context.run, pairs=optional))


def test_stage_learns_to_tell_the_answers_apart_and_writes_its_files(tmp_path: Path) -> None:
    context = _context(_run_folder(tmp_path), learning_rate=3e-3)
    counts = reward.run(context)
    accuracy = json.loads((context.folder / "accuracy.json").read_text("utf-8"))
    assert accuracy["accuracy"] > 0.9
    assert set(accuracy["by_kind"]) <= {"policy", "number", "empty"}
    assert sum(kind["n"] for kind in accuracy["by_kind"].values()) == accuracy["pairs"]
    assert counts["accuracy"] == accuracy["accuracy"]
    model = context.folder / "model"
    normal = json.loads((model / "reward.json").read_text("utf-8"))
    scorer, tokenizer = load_model(model, kind="reward", device="cpu"), load_tokenizer(model)
    # The stage's own split, scored again by the saved model.
    pairs = reward_pairs.read_all(context, 3)
    _, held_out = reward_pairs.split_by_prompt(pairs, context.options, 3)
    rows = encode(held_out)
    once = list({tuple(r.chosen) for r in rows})
    scores = reward_scores(scorer, tokenizer, [list(ids) for ids in once])
    mean = sum(scores) / len(scores)
    std = math.sqrt(sum((s - mean) ** 2 for s in scores) / len(scores))
    assert (normal["mean"], normal["deviation"]) == pytest.approx((mean, std), abs=1e-4)
    assert (model / "template.json").is_file()
    assert (context.folder / "metrics.jsonl").is_file()
    assert not (context.folder / "checkpoints").exists()


def test_limits_are_drawn_by_the_seed(tmp_path: Path) -> None:
    run = _run_folder(tmp_path)
    sources = [{"path": "curate/preferences.jsonl", "limit": 10, "weight": 2}]
    drawn = [reward_pairs.read_all(_context(run, pairs=sources), seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 10
    assert {weight for _, weight in drawn[0]} == {2}
