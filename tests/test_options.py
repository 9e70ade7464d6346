"""Options written out with all their defaults are accepted again."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from espalier.evaluate.config import EvaluateConfig
from espalier.safety import SafetyConfig
from espalier.train.config_adapters import OtherAdapter
from espalier.train.config_rl import PPOConfig, RewardConfig


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (SafetyConfig, {"words": ["secret"]}),
        (SafetyConfig, {"model": "classifier", "threshold": 0.3}),
        (RewardConfig, {"pairs": "a.jsonl", "validation": "b.jsonl"}),
        (RewardConfig, {"pairs": "a.jsonl", "validation_fraction": 0.2}),
        (OtherAdapter, {"kind": "ia3"}),
        (OtherAdapter, {"kind": "prefix", "tokens": 8}),
        (PPOConfig, {"rewards": [{"name": "a", "model": "reward"}]}),
        (PPOConfig, {"algorithm": "a2c"}),
        (EvaluateConfig, {"models": [{"name": "sft", "stage": "sft"}]}),
        (EvaluateConfig, {"models": [{"name": "sft", "stage": "sft"}], "compare": {"slices": []}}),
    ],
)
def test_written_out_options_are_accepted_again(
    kind: type[BaseModel], given: dict[str, Any]
) -> None:
    whole = kind.model_validate(given).model_dump(mode="json")
    assert kind.model_validate(whole).model_dump(mode="json") == whole


@pytest.mark.parametrize(
    ("kind", "given", "named"),
    [
        (SafetyConfig, {"words": ["secret"], "threshold": 0.3}, "threshold"),
        (RewardConfig, {"validation": "b.jsonl", "validation_limit": 7}, "validation_limit"),
        (OtherAdapter, {"kind": "ia3", "tokens": 8}, "tokens"),
        (OtherAdapter, {"kind": "prefix", "targets": ["a"], "feedforward": []}, "targets"),
    ],
)
def test_contradictions_are_refused(
    kind: type[BaseModel], given: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValidationError, match=named):
        kind.model_validate(given)
