"""Swapped labels: how many, which, and that what is measured on stays as it is."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import rl_models

pytest.importorskip("torch")
pytest.importorskip("transformers")

from espalier.recipe import recipe_from
from espalier.records import Message, PreferencePair
from espalier.run import Shared, StageContext
from espalier.terminal import Brush
from espalier.train import reward, reward_pairs
from espalier.train.config_rl import RewardConfig
from espalier.train.label_noise import swap_labels
from espalier.train.preview_pairs import preview_pairs

PAIRS = "curate/preferences.jsonl"


def pairs(count: int) -> list[PreferencePair]:
    """The better answer is the one of a."""
    rng = random.Random(1)
    return [
        PreferencePair.make(
            (Message("user", f"say {i}"),),
            "a" * rng.randint(1, 5),
            rng.choice("bcdxyz") * rng.randint(1, 5),
            margin=0.5 if i % 2 else None,
        )
        for i in range(count)
    ]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    rl_models.save(rl_models.make_model(seed=1, spread=0.05), folder / "sft" / "model")
    rl_models.write_rows(folder / PAIRS, pairs(60))
    return folder


def context(run: Path, name: str = "reward", **values: Any) -> StageContext:
    options = {"precision": "fp32", "minibatch": 8, "validation_fraction": 0.2,
               "learning_rate": 3e-3, "epochs": 3, **values}  # fmt: skip
    folder = run / name
    folder.mkdir(parents=True, exist_ok=True)
    return StageContext("reward", run, folder, RewardConfig.model_validate(options), Shared(seed=3))


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.1, 4), (0.25, 10), (0.33, 13), (1, 40)])
def test_so_many_pairs_change_sides_and_nothing_else_of_them(share: float, count: int) -> None:
    before = pairs(40)
    after, names = swap_labels(before, share, 7)
    assert len(names) == count
    for old, new in zip(before, after, strict=True):
        sides = (old.rejected, old.chosen) if old.id in names else (old.chosen, old.rejected)
        assert (new.chosen, new.rejected) == sides
        assert (new.id, new.prompt, new.margin, new.meta) == (
            old.id, old.prompt, old.margin, old.meta,
        )  # fmt: skip


def test_the_draw_is_the_seeds_nested_and_without_regard_to_order() -> None:
    before = pairs(200)
    drawn = {share: swap_labels(before, share, 7)[1] for share in (0.1, 0.2, 0.4)}
    assert drawn[0.1] < drawn[0.2] < drawn[0.4]
    assert swap_labels(before[::-1], 0.2, 7)[1] == drawn[0.2]
    other = swap_labels(before, 0.2, 8)[1]
    # 40 of 200 twice: 8 in common are expected (hypergeometric, deviation 2.3).
    assert 1 <= len(other & drawn[0.2]) <= 17


def test_a_pair_that_counts_several_times_has_one_label() -> None:
    before = [pair for pair in pairs(20) for _ in range(3)]
    after, names = swap_labels(before, 0.25, 7)
    assert len(names) == 5
    assert sum(old.chosen != new.chosen for old, new in zip(before, after, strict=True)) == 15


def test_the_stage_swaps_training_pairs_only_and_counts_them(run: Path) -> None:
    clean, noisy = context(run), context(run, "noisy", flip=0.25)
    counts = [reward.run(stage) for stage in (clean, noisy)]
    assert [c["flipped"] for c in counts] == [0, round(0.25 * counts[1]["pairs"])]
    said = [
        json.loads((stage.folder / "accuracy.json").read_text("utf-8"))["reliability"]
        for stage in (clean, noisy)
    ]
    sentence = f"The labels of {counts[1]['flipped']} of {counts[1]['pairs']} training pairs"
    assert not any("swapped" in line for line in said[0])
    assert any(line.startswith(sentence) for line in said[1])
    assert "25% of the labels swapped" in reward.plan(noisy)[0]


def test_the_accuracy_is_measured_on_labels_as_they_are(run: Path) -> None:
    """All training labels swapped: the model learns the opposite, and is found wrong."""
    right, wrong = (
        reward.run(context(run, f"flip-{share}", flip=share))["accuracy"] for share in (0.0, 1.0)
    )
    assert right > 0.9
    assert wrong < 0.1


def test_rankings_are_turned_pair_by_pair(run: Path) -> None:
    """A ranking's comparison that is swapped counts the other way; the rest of it stays."""
    ranked = [
        PreferencePair.make((Message("user", "q"),), chosen, rejected, meta={"ranking": "1"})
        for chosen, rejected in (("aaa", "aax"), ("aaa", "axx"), ("aax", "axx"))
    ]
    tokenizer = rl_models.make_tokenizer()
    template = reward.reading_of(context(run), run / "sft" / "model")[1]
    options = RewardConfig.model_validate({"group_rankings": True})
    for share, turned in ((0.0, 0), (0.34, 1), (1.0, 3)):
        swapped, _ = swap_labels(ranked, share, 3)
        rows, _ = reward_pairs.encode_pairs(tokenizer, template, swapped, 100, options)
        (row,) = reward_pairs.group_rankings(rows)
        assert isinstance(row, reward_pairs.EncodedRanking)
        texts = [tokenizer.decode(ids).count("x") for ids in row.answers]
        assert sum(texts[better] > texts[worse] for better, worse, _ in row.comparisons) == turned


def test_the_preview_shows_swapped_pairs(run: Path) -> None:
    lines = list(preview_pairs(context(run, flip=1.0), Brush(colour=False), 2, 1))
    shown = [line for line in lines if line.startswith("pair ")]
    assert len(shown) == 2
    assert all("labels swapped" in line for line in shown)
    assert any("48 with swapped labels (flip: 1)" in line for line in lines)
    plain = list(preview_pairs(context(run), Brush(colour=False), 2, 1))
    assert not any("labels swapped" in line or "swapped labels" in line for line in plain)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_outside_of_0_and_1_is_refused(share: float) -> None:
    with pytest.raises(Exception, match="flip"):
        recipe_from({"name": "x", "train": {"reward": {"flip": share}}})
