"""Our sampling loop against `transformers.generate`: tokens a CPU-second on equal sorted batches.

The same random Llama of 4.5 million parameters, the same 128 prompts of the embedded corpus in the
same left-padded batches, sorted by length; sampling from the whole distribution at temperature 1,
up to 64 new tokens. Ours also returns the log-probability of every token, theirs does not. On one
thread; both take turns, and the ratio is the median of those of the rounds. `--rounds 1` looks
quickly and writes nothing.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from generation_model import VOCABULARY, make_model
from machine import REPEATS, RESULTS, header, write

from espalier.decoding import decode

PROMPTS = 128
ROWS = 64
TOKENS = 64
# So many of the vocabulary's tokens end an answer where answers are to end: one in 32.
ENDS = VOCABULARY // 32
WARM_UP = 8
PRECISIONS = ("fp32", "bf16 weights", "bf16 autocast")

# Of every piece of work and tool: tokens a CPU-second, one number a round.
Rates = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Work:
    """A model, its prompts from long to short, and the tokens that end an answer."""

    model: Any
    prompts: Sequence[Sequence[int]]
    stops: Sequence[int]
    pad: int
    autocast: bool


def make_prompts(tokenizer: Any) -> list[list[int]]:
    """Token ids, the longest prompt first."""
    from espalier.offline.corpus import pretraining_texts

    texts = islice(pretraining_texts(PROMPTS, seed=2), PROMPTS)
    ids = [tokenizer(text[:300], add_special_tokens=False)["input_ids"] for text in texts]
    return sorted(ids, key=len, reverse=True)


def ours(work: Work) -> int:
    """Tokens made by `espalier.decoding`."""
    answers = decode(
        work.model,
        work.prompts,
        max_new_tokens=TOKENS,
        pad_id=work.pad,
        stop_ids=work.stops,
        seeds=range(len(work.prompts)),
        autocast=torch.bfloat16 if work.autocast else None,
        token_budget=1 << 30,
        max_rows=ROWS,
    )
    return sum(len(answer.ids) for answer in answers)


def theirs(work: Work) -> int:
    """Tokens made by `transformers.generate` on the same batches."""
    made = 0
    for start in range(0, len(work.prompts), ROWS):
        rows = work.prompts[start : start + ROWS]
        width = max(map(len, rows))
        ids = torch.tensor([[work.pad] * (width - len(row)) + list(row) for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        context = torch.autocast("cpu", torch.bfloat16) if work.autocast else nullcontext()
        with torch.inference_mode(), context:
            output = work.model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=TOKENS,
                eos_token_id=list(work.stops),
                pad_token_id=work.pad,
            )
        made += sum(answer_length(row, work.stops) for row in output[:, width:].tolist())
    return made


def answer_length(row: Sequence[int], stops: Sequence[int]) -> int:
    """Tokens up to and with the first that ends the answer."""
    ends = set(stops)
    return next((i + 1 for i, token in enumerate(row) if token in ends), len(row))


def tokens_per_cpu_second(function: Callable[[Work], int], work: Work) -> float:
    gc.collect()
    torch.manual_seed(0)
    start = time.process_time()
    made = function(work)
    return made / (time.process_time() - start)


def measure(works: dict[str, Work], rounds: int) -> Rates:
    """Tokens a CPU-second in every round; all take turns."""
    tools = {"ours": ours, "transformers": theirs}
    for work in works.values():
        for function in tools.values():
            function(replace(work, prompts=work.prompts[-WARM_UP:]))
    found: Rates = {name: {tool: [] for tool in tools} for name in works}
    for number in range(rounds):
        for name, work in works.items():
            for tool, function in tools.items():
                found[name][tool].append(tokens_per_cpu_second(function, work))
            pair = [found[name][tool][-1] for tool in tools]
            print(f"  round {number + 1}: {name}: {pair[0]:,.0f} and {pair[1]:,.0f}", flush=True)
    return found


def make_works() -> dict[str, Work]:
    model, tokenizer = make_model(vocabulary=VOCABULARY)
    narrow = copy.deepcopy(model).bfloat16()
    prompts = make_prompts(tokenizer)
    pad, end = int(tokenizer.pad_token_id), int(tokenizer.eos_token_id)
    many = [end, *range(VOCABULARY - ENDS, VOCABULARY)]
    works = {}
    for precision in PRECISIONS:
        chosen = narrow if precision == "bf16 weights" else model
        for label, stops in (("all 64 tokens", [end]), ("one token in 32 ends", many)):
            autocast = precision == "bf16 autocast"
            works[f"{precision}, {label}"] = Work(chosen, prompts, stops, pad, autocast)
    return works


def ratios(both: dict[str, list[float]]) -> list[float]:
    """Ours to theirs, in every round."""
    return [a / b for a, b in zip(both["ours"], both["transformers"], strict=True)]


def table(rates: Rates) -> list[str]:
    rows = []
    for name, both in rates.items():
        own, other = (statistics.median(both[tool]) for tool in ("ours", "transformers"))
        found = ratios(both)
        rows.append(
            f"| {name} | {own:,.0f} | {other:,.0f} | {statistics.median(found):.2f} × "
            f"| {min(found):.2f} – {max(found):.2f} |"
        )
    return [
        f"{PROMPTS} prompts in batches of {ROWS}, sorted by length, up to {TOKENS} new tokens, "
        "sampled from the whole distribution; a random Llama of 4.5 million parameters, vocabulary "
        f"{VOCABULARY:,}; one thread. Tokens a second of CPU time. Ours also returns "
        "log-probabilities, and its draws do not depend on what shares a batch. Wanted: not "
        "slower (ratios of 1 or more).",
        "",
        "| | ours | transformers.generate | ratio | least – most |",
        "|---|---:|---:|---:|---:|",
        *rows,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=REPEATS, help="5 are reported")
    options = parser.parse_args()
    rates = measure(make_works(), options.rounds)
    if options.rounds < REPEATS:
        print("\n".join(table(rates)))
        return
    write("decode.md", [*header("Sampling against transformers.generate"), *table(rates)])
    path = RESULTS / "decode.json"
    path.write_text(json.dumps(rates, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
