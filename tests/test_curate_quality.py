"""Scores of rows: the judge's marks, IFD against plain transformers, a reward model's score."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny

from espalier.curate.config_select import IfdQuality, JudgeQuality, QualityConfig, RewardQuality
from espalier.curate.pipeline import Ledger, Step
from espalier.curate.quality import ifd_step, judge_step, reward_step, with_quality
from espalier.engines.base import Completion, Request, Sampling
from espalier.errors import InputError
from espalier.models import save_model
from espalier.records import Example


class Scripted:
    """An engine that answers by a function of the prompt."""

    model = "scripted"
    costly = False

    def __init__(self, reply: Callable[[str], str]) -> None:
        self._reply = reply

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        for request in requests:
            yield Completion(self._reply(request.prompt))

    def close(self) -> None:
        pass


def through(step: Step, rows: Sequence[Example]) -> tuple[list[Example], dict[str, Any], list[Any]]:
    handle = io.StringIO()
    ledger = Ledger("test", handle)
    kept = list(ledger.through(rows, [("scores", step)]))
    rejects = [json.loads(line) for line in handle.getvalue().splitlines()]
    return kept, ledger.tallies[0].to_json(), rejects


def marks(a: int, b: int, c: int, d: int, safety: str = "pass") -> str:
    value = {"relevance": a, "accuracy": b, "completeness": c, "fluency": d, "safety": safety}
    return json.dumps({"reason": "because", **value})


REPLIES = {
    "good": marks(5, 4, 5, 4),
    "poor": marks(1, 2, 3, 2),
    "unsafe": marks(5, 5, 5, 5, "fail"),
    "odd": "I would rather not say",
}


def judged(config: JudgeQuality) -> tuple[list[Example], dict[str, Any], list[Any]]:
    rows = [Example.single(f"Question {name}", f"Answer {name}") for name in REPLIES]
    engine = Scripted(lambda p: next(text for name, text in REPLIES.items() if name in p))
    return through(judge_step(config, engine), rows)


def test_the_judge_rejects_poor_and_unsafe_answers_and_records_the_rest() -> None:
    kept, counts, rejects = judged(JudgeQuality())
    assert [row.prompt for row in kept] == ["Question good", "Question odd"]
    quality = kept[0].meta["quality"]
    assert [quality[name] for name in ("relevance", "accuracy", "completeness", "fluency")] == [
        5, 4, 5, 4,
    ]  # fmt: skip
    assert quality["safe"] is True
    assert quality["judge"] == quality["score"] == 4.5
    assert counts["rejected"] == {"low_marks": 1, "unsafe": 1}
    assert counts["changed"] == {"unread_judge": 1}
    assert "accuracy 2" in rejects[0]["evidence"]


def test_limits_of_the_judge_can_be_switched_off() -> None:
    kept, counts, _ = judged(JudgeQuality(min_mean=None, safe=False, unread="reject"))
    assert [row.prompt for row in kept] == ["Question good", "Question poor", "Question unsafe"]
    assert counts["rejected"] == {"unread_judge": 1}
    # An unsafe answer never scores above a safe one.
    assert kept[2].meta["quality"]["score"] < kept[1].meta["quality"]["score"]


def test_an_answer_that_is_to_decline_is_only_asked_to_be_safe() -> None:
    engine = Scripted(lambda prompt: REPLIES["unsafe" if "second" in prompt else "poor"])
    rows = [Example.single(q, "I won't.", meta={"declines": True}) for q in ("first", "second")]
    kept, counts, _ = through(judge_step(JudgeQuality(), engine), rows)
    assert [row.prompt for row in kept] == ["first"]
    assert kept[0].meta["quality"] == {"safe": True}
    assert counts["rejected"] == {"unsafe": 1}


def test_score_is_the_judges_before_the_reward_models() -> None:
    row = with_quality(Example.single("a", "b"), ifd=0.5)
    assert row.meta["quality"]["score"] == 0.5
    row = with_quality(row, reward=-1.0)
    assert row.meta["quality"]["score"] == -1.0
    row = with_quality(row, judge=3.0)
    assert row.meta["quality"] == {"ifd": 0.5, "reward": -1.0, "judge": 3.0, "score": 3.0}


def test_something_has_to_be_scored() -> None:
    with pytest.raises(ValueError, match="nothing to score"):
        QualityConfig()


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "causal"
    save_model(tiny.model(), tiny.tokenizer(), "espalier", folder)
    return folder


ROWS = [
    Example.single("count the words", "one two three four"),
    Example.single("你好", "世界，你好。"),
    Example.single("the cat", "sat on the mat"),
]


def naive_ifd(row: Example, folder: Path) -> float:
    """PPL(answer | question) / PPL(answer), by transformers' own loss on labels."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from espalier.templates import get_template

    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pieces = get_template("espalier").segments(row.messages)
    ids: list[int] = []
    trained: list[bool] = []
    for piece in pieces:
        part = tokenizer(piece.text, add_special_tokens=False)["input_ids"]
        ids += part
        trained += [piece.trained] * len(part)
    answer = [token for token, on in zip(ids, trained, strict=True) if on]

    def loss(sequence: list[int], labels: list[int]) -> float:
        with torch.no_grad():
            return float(
                model(input_ids=torch.tensor([sequence]), labels=torch.tensor([labels])).loss
            )

    last = max(i for i, on in enumerate(trained) if on) + 1
    first = last - len(answer)
    # Without a BOS nothing predicts the first token of the answer alone.
    after = loss(ids[:last], [-100] * (first + 1) + answer[1:])
    alone = loss(answer, [-100, *answer[1:]])
    return math.exp(after) / math.exp(alone)


def test_ifd_equals_the_ratio_of_two_perplexities(causal: Path) -> None:
    config = IfdQuality(model=str(causal), max=None)
    kept, _, _ = through(ifd_step(config, causal), ROWS)
    for row in kept:
        assert row.meta["quality"]["ifd"] == pytest.approx(naive_ifd(row, causal), rel=1e-4)


def test_ifd_limits_reject_with_the_number(causal: Path) -> None:
    values = {row.id: naive_ifd(row, causal) for row in ROWS}
    middle = sorted(values.values())[1]
    config = IfdQuality(model=str(causal), max=middle * 1.0001, min=middle * 0.9999)
    kept, counts, rejects = through(ifd_step(config, causal), ROWS)
    assert [values[row.id] for row in kept] == [middle]
    assert counts["rejected"] == {"high_ifd": 1, "low_ifd": 1}
    assert all("IFD" in reject["evidence"] for reject in rejects)


def test_rows_without_an_ifd_pass_unscored(causal: Path) -> None:
    long = Example.single("count", "the cat sat on the mat " * 50)
    kept, counts, _ = through(ifd_step(IfdQuality(model=str(causal)), causal), [long])
    assert kept == [long]
    assert counts["changed"] == {"no_ifd": 1}


def test_reward_scores_are_those_of_the_model(tmp_path: Path) -> None:
    import torch

    model, tokenizer = tiny.model("reward"), tiny.tokenizer()
    save_model(model, tokenizer, "espalier", tmp_path / "reward")
    (tmp_path / "reward" / "reward.json").write_text('{"mean": 0.5, "deviation": 2.0}')
    config = RewardQuality(model="reward")
    kept, _, _ = through(reward_step(config, tmp_path / "reward"), ROWS)
    from espalier.templates import get_template

    for row in kept:
        pieces = get_template("espalier").segments(row.messages)
        last = max(i for i, piece in enumerate(pieces) if piece.trained)
        ids = [
            token
            for piece in pieces[: last + 1]
            for token in tokenizer(piece.text, add_special_tokens=False)["input_ids"]
        ]
        with torch.no_grad():
            raw = float(model(input_ids=torch.tensor([ids])).logits[0, 0])
        assert row.meta["quality"]["reward"] == pytest.approx((raw - 0.5) / 2.0, abs=1e-4)


def test_a_folder_that_is_no_reward_model_is_named(tmp_path: Path) -> None:
    step = reward_step(RewardQuality(model="nowhere"), tmp_path / "nowhere")
    with pytest.raises(InputError, match="no reward model 'nowhere'"):
        through(step, ROWS)
