"""One way to answer prompts given as token ids, alone in its process.

    python answers_worker.py SETTINGS.json

Loads the model, answers a few prompts, and prints {"ready": seconds}. For each line on standard
input it then answers all prompts and prints {"seconds", "tokens", "answers"}: the ids that it made.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

WARM_UP = 8
Ids = Sequence[Sequence[int]]
Answering = Callable[[Ids], list[list[int]]]


def naive(given: dict[str, Any]) -> Answering:
    """`generate` of transformers on batches of 8 in the order given, padded on the left."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(given["model"], padding_side="left")

    def answer(prompts: Ids) -> list[list[int]]:
        made: list[list[int]] = []
        for start in range(0, len(prompts), 8):
            rows = [list(ids) for ids in prompts[start : start + 8]]
            batch = tokenizer.pad({"input_ids": rows}, return_tensors="pt")
            with torch.inference_mode():
                found = model.generate(
                    **batch, do_sample=False, max_new_tokens=given["tokens"],
                    pad_token_id=tokenizer.pad_token_id,
                )  # fmt: skip
            new = found[:, batch["input_ids"].shape[1] :].tolist()
            tokenizer.batch_decode(new, skip_special_tokens=True)
            made += [_ended(ids, tokenizer.eos_token_id) for ids in new]
        return made

    return answer


def _ended(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end) + 1] if end in ids else ids


def raw(given: dict[str, Any]) -> Answering:
    """`LLM.generate` of vLLM, called once, with the settings that our engine gives it."""
    from vllm import LLM, SamplingParams

    from espalier.engines.vllm_options import VLLMOptions

    llm = LLM(**VLLMOptions().settings(given["model"]), use_tqdm_on_load=False)
    params = SamplingParams(temperature=0.0, max_tokens=given["tokens"])

    def answer(prompts: Ids) -> list[list[int]]:
        asked: list[Any] = [{"prompt_token_ids": list(ids)} for ids in prompts]
        outputs = llm.generate(asked, params, use_tqdm=False)
        return [list(output.outputs[0].token_ids) for output in outputs]

    return answer


def ours(given: dict[str, Any]) -> Answering:
    """As the stage `evaluate` answers: through an engine, each answer into the store."""
    from espalier.engines import open_engine
    from espalier.engines.base import EngineSpec, Request, Sampling
    from espalier.evaluate.answers import answer_keys
    from espalier.evaluate.store import Store

    spec = EngineSpec(engine=given["engine"], model=given["model"], options=given["options"])
    engine: Any = open_engine(spec)
    sampling = Sampling(temperature=0.0, max_tokens=given["tokens"])

    def answer(prompts: Ids) -> list[list[int]]:
        requests = [Request(token_ids=tuple(ids)) for ids in prompts]
        made: list[list[int]] = [[] for _ in prompts]
        with (
            tempfile.TemporaryDirectory() as folder,
            Store(Path(folder) / "answers.jsonl") as store,
        ):
            keys = answer_keys(spec, engine, requests, sampling)
            for index, completion in engine.generate_unordered(requests, sampling):
                store.put(keys[index], {"answer": completion.text})
                made[index] = list(completion.token_ids)
        return made

    return answer


KINDS = {"naive": naive, "raw": raw, "ours": ours}


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    # What libraries print goes elsewhere.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(message: dict[str, Any]) -> None:
        output.write(json.dumps(message) + "\n")
        output.flush()

    start = time.perf_counter()
    answer = KINDS[given["kind"]](given)
    answer(given["prompts"][:WARM_UP])
    tell({"ready": time.perf_counter() - start})
    for _ in sys.stdin:
        start = time.perf_counter()
        made = answer(given["prompts"])
        seconds = time.perf_counter() - start
        tell({"seconds": seconds, "tokens": sum(map(len, made)), "answers": made})


if __name__ == "__main__":
    main()
