"""Options of PPO's rollouts by vLLM, as written below `train.ppo.rollout_options` in a recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from espalier.train.config_parts import Strict

Rollouts = Literal["transformers", "vllm", "auto"]
# What tokens of another sampler are weighed with at most, where nothing is said.
VLLM_IMPORTANCE_CAP = 2.0


class RolloutOptions(Strict):
    """How vLLM runs beside the training: types, memory, start."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Type of vLLM's weights; auto: that of the training's forward pass."
    )
    max_model_len: int | None = Field(
        None,
        ge=1,
        description="Tokens of prompt and answer together. Default: the longest prompt that is "
        "used, and max_new_tokens.",
    )
    gpu_memory_utilization: float = Field(
        0.3, gt=0, le=1, description="Part of a GPU's memory that vLLM takes; training needs more."
    )
    kv_cache_gib: float | None = Field(
        None, gt=0, description="Memory of the key-value cache; default: 1 on a CPU."
    )
    enforce_eager: bool | None = Field(
        None, description="No compiled graphs: starts sooner, runs slower. Default: on a CPU only."
    )
    load_seconds: float = Field(1800.0, gt=0, description="How long loading may take.")
    weights_folder: str | None = Field(
        None,
        description="Where new weights are handed over, for a moment. Default: /dev/shm where it "
        "has room, else the folder of temporary files.",
    )
    vllm: dict[str, JsonValue] = Field(
        default_factory=dict, description="Further settings of vLLM, e.g. {max_num_seqs: 64}."
    )
