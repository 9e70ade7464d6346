"""Which engine a local model gets where a recipe leaves it open."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from espalier.adapted import is_adapter
from espalier.engines.vllm_process import has_vllm

# Loading costs vLLM some 15 s more than transformers. On two CPU cores a model of 18 MB gained
# 23 ms by it for each answer of 64 tokens, and the gain grows with the weights: the start-up is
# paid back after 15 s / 23 ms × 18 MB ≈ 12 GB of weights × requests.
_WORTH_BYTES = 12e9
_FEWEST = 16


def choose_local_engine(model_folder: Path | str, requests: int) -> Literal["vllm", "transformers"]:
    """vLLM where it is installed and its start-up is paid back, else transformers.

    Paid back means: at least 16 requests, and requests × size of the weights of at least 12 GB
    (667 requests for a model of 18 MB, 16 for one of 1 GB). A hub name counts as large. The
    answers of both agree when greedy; sampled ones differ, so a caller chooses once a run and
    keeps to it. Adapters alone always go to transformers.
    """
    if requests < _FEWEST or is_adapter(model_folder) or not has_vllm():
        return "transformers"
    folder = Path(model_folder)
    if not folder.is_dir():
        return "vllm"
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return "vllm" if size * requests >= _WORTH_BYTES else "transformers"
