"""One scorer of perplexity, alone in its process: ours, lm-eval, or the loop of Hugging Face's.

    python perplexity_worker.py SETTINGS.json

Prints one line of JSON: the texts' perplexities, CPU seconds of scoring and of the whole process,
and its peak memory. Loading and a warm-up of a few texts are not in the time; tokenising is.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from worker import rows, settings, tell

WARM_UP = 32
Scorer = Callable[[Sequence[str]], list[float]]


def ours(given: dict[str, Any]) -> Scorer:
    """`score_texts` with rolling windows, as the command line scores a corpus."""
    from espalier.evaluate.perplexity import score_texts

    model = AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(given["model"])

    def score(texts: Sequence[str]) -> list[float]:
        found = score_texts(model, tokenizer, texts, windows="rolling", limit=given["limit"])
        return [math.exp(one.nll / one.tokens) for one in found if one is not None]

    return score


def lm_eval(given: dict[str, Any]) -> Scorer:
    """`HFLM.loglikelihood_rolling`, which every perplexity task of lm-eval runs."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(
        pretrained=given["model"],
        device="cpu",
        dtype="float32",
        batch_size=given["batch"],
        max_length=given["limit"],
    )

    def score(texts: Sequence[str]) -> list[float]:
        requests = [
            Instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=0)
            for text in texts
        ]
        sums = model.loglikelihood_rolling(requests, disable_tqdm=True)
        lengths = [len(model.tok_encode(text)) for text in texts]
        return [math.exp(-nll / count) for nll, count in zip(sums, lengths, strict=True)]

    return score


def evaluate_module(given: dict[str, Any]) -> Scorer:
    """The module `perplexity` itself, from the folder that is given or from the hub."""
    import evaluate

    module = evaluate.load(given["module"], module_type="measurement")

    def score(texts: Sequence[str]) -> list[float]:
        found = module.compute(
            data=list(texts), model_id=given["model"], batch_size=given["batch"], device="cpu"
        )
        assert found is not None
        return list(found["perplexities"])

    return score


def evaluate_loop(given: dict[str, Any]) -> Scorer:
    """What that module does: every text padded to the longest of all, batches in their order,
    the logits of all places."""
    model = AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(given["model"])
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    losses_of = torch.nn.CrossEntropyLoss(reduction="none")

    def score(texts: Sequence[str]) -> list[float]:
        encoded = tokenizer(
            list(texts), add_special_tokens=False, padding=True, return_tensors="pt"
        )
        found: list[float] = []
        for at in range(0, len(texts), given["batch"]):
            ids = encoded["input_ids"][at : at + given["batch"]]
            mask = encoded["attention_mask"][at : at + given["batch"]]
            first = torch.full((len(ids), 1), start)
            ids = torch.cat([first, ids], dim=1)
            mask = torch.cat([torch.ones_like(first), mask], dim=1)
            with torch.no_grad():
                logits = model(ids, attention_mask=mask).logits
            losses = losses_of(logits[:, :-1].contiguous().transpose(1, 2), ids[:, 1:].contiguous())
            real = mask[:, 1:]
            found += ((losses * real).sum(1) / real.sum(1)).exp().tolist()
        return found

    return score


SCORERS: dict[str, Callable[[dict[str, Any]], Scorer]] = {
    "ours": ours,
    "lm-eval": lm_eval,
    "evaluate": evaluate_module,
    "evaluate's loop": evaluate_loop,
}


def peak() -> float:
    """Most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    given = settings()
    torch.set_num_threads(given["threads"])
    texts = rows(Path(given["texts"]))
    scorer = SCORERS[given["scorer"]](given)
    scorer(texts[:WARM_UP])
    loaded = peak()
    start = time.process_time()
    values = scorer(texts)
    tell(
        {
            "seconds": time.process_time() - start,
            "values": values,
            "loaded_mb": loaded,
            "peak_mb": peak(),
        }
    )


if __name__ == "__main__":
    main()
