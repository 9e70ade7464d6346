"""Answers of every model on the set: made through the engines, each kept as it arrives.

Local models are handed token ids, API models messages. An answer is stored under the hash of all
that decides it (weights, tokenizer and template, the prompt's ids, sampling, the code that
decodes), whatever else is asked with it. So a kill loses what was in the works, one batch at
most, and a change of one model, template or prompt asks again only for what it touches.
`answers/<model>.jsonl` is the result in the order of the set.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from espalier import provenance
from espalier.engines import open_engine
from espalier.engines.base import Completion, Engine, EngineSpec, Request, Sampling
from espalier.errors import StageError
from espalier.evaluate.config import EvaluateConfig
from espalier.evaluate.evalset import EvalSet
from espalier.evaluate.fewshot import Shots
from espalier.evaluate.predictions import read_predictions
from espalier.evaluate.prompts import Prompts
from espalier.evaluate.store import (
    TRANSFORMERS,
    VLLM,
    Store,
    key_of,
    tell_upgrade,
    with_versions,
)
from espalier.evaluate.subjects import Subject
from espalier.files import atomic_write_text
from espalier.journal import UnorderedEngine
from espalier.progress import Progress
from espalier.records import content_id, dump_line
from espalier.spending import Meter

STORE = ".store"
ANSWER_STORE = "answers.jsonl"
# The code that turns weights and a prompt into an answer, by engine; an API's is elsewhere.
_CODE = {
    "transformers": ("espalier.engines.hf", "espalier.engines.chat", "espalier.decoding"),
    "vllm": (
        "espalier.engines.vllm_local",
        "espalier.engines.vllm_child",
        "espalier.engines.chat",
    ),
    "vllm-server": ("espalier.engines.vllm_server", "espalier.engines.chat"),
}
_LIBRARIES = {"transformers": TRANSFORMERS, "vllm": VLLM, "vllm-server": VLLM}


@dataclass
class Answered:
    """A model's answers, one a row of the set (None where there is none), and what to know."""

    answers: list[str | None]
    template: str = ""
    facts: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    # Requests without an answer, which the next run asks for once more.
    failed: int = 0


def answer_all(
    subject: Subject,
    evalset: EvalSet,
    options: EvaluateConfig,
    *,
    folder: Path,
    shots: Shots | None,
    seed: int,
    meter: Meter | None = None,
    then: Callable[[Subject, Engine], None] | None = None,
) -> Answered:
    """The model's answers on the whole set, stored in `folder` (the stage's `answers/`).

    `then` is called once they are, while the engine is open.
    """
    if subject.kind == "predictions":
        return _from_file(subject, evalset)
    spec = _in_batches(_engine_spec(subject, options), options.batch)
    engine = open_engine(
        spec,
        seed=seed,
        journal=folder / STORE / f"{subject.name}.journal.jsonl" if subject.kind == "api" else None,
        meter=meter if subject.kind == "api" else None,
        step="evaluate",
    )
    with closing(engine):
        prompts = Prompts(subject, options, shots)
        sampling = Sampling(
            temperature=options.sampling.temperature,
            top_p=options.sampling.top_p,
            max_tokens=options.sampling.max_tokens,
            stop=prompts.stop,
            seed=seed,
        )
        requests = prompts.requests(evalset.rows, sampling.max_tokens)
        with Store(folder / STORE / ANSWER_STORE) as store:
            records = _generate(subject, store, spec, engine, requests, sampling)
        if then is not None:
            then(subject, engine)
    lines = [
        dump_line({"id": row.id, **record})
        for row, record in zip(evalset.rows, records, strict=True)
    ]
    atomic_write_text(folder / f"{subject.name}.jsonl", "".join(line + "\n" for line in lines))
    return _summed_up(subject, records, prompts)


def _summed_up(subject: Subject, records: Sequence[dict[str, Any]], prompts: Prompts) -> Answered:
    failed = sum(record["finish_reason"] == "error" for record in records)
    if failed == len(records):
        raise StageError(
            f"The model '{subject.name}' gave no answer at all.",
            where=subject.source,
            hint="run the same command again to ask once more; see the messages above",
        )
    texts = [
        None if record["finish_reason"] == "error" else str(record["answer"]) for record in records
    ]
    cut = sum(record["finish_reason"] == "length" for record in records)
    result = Answered(texts, prompts.template_name, _facts(texts, cut), failed=failed)
    if failed:
        result.warnings.append(
            f"{subject.name}: {failed:,} requests failed; it is scored on the rest, and compared "
            "on shared rows. Running again asks for them once more."
        )
    if cut * 5 >= len(records):
        result.warnings.append(
            f"{subject.name}: {cut:,} of {len(records):,} answers were cut off at the longest "
            "length that `sampling.max_tokens` or the model's context allows."
        )
    if prompts.dropped:
        result.warnings.append(
            f"{subject.name}: for {prompts.dropped:,} prompts fewer than "
            f"{subject.config.few_shot} examples fit into the model's context."
        )
    if prompts.truncated:
        result.warnings.append(
            f"{subject.name}: {prompts.truncated:,} prompts do not fit into the model's context "
            "with an answer; their oldest tokens were cut off."
        )
    return result


def _facts(texts: Sequence[str | None], cut: int | None) -> dict[str, int]:
    given = [text for text in texts if text is not None]
    facts = {"answers": len(given), "empty": sum(not text.strip() for text in given)}
    if cut is not None:
        facts["cut"] = cut
    return facts


def _from_file(subject: Subject, evalset: EvalSet) -> Answered:
    matched = read_predictions(
        Path(subject.location),
        evalset,
        match=subject.config.match,
        answer_field=subject.config.field,
    )
    texts = [matched.answers.get(row.id) for row in evalset.rows]
    return Answered(texts, "", _facts(texts, None), matched.warnings(subject.name))


def _engine_spec(subject: Subject, options: EvaluateConfig) -> EngineSpec:
    if subject.config.api is not None:
        return subject.config.api
    if subject.spec is not None:
        return subject.spec
    return EngineSpec(
        engine="transformers", model=subject.location, options={"dtype": options.dtype}
    )


def _in_batches(spec: EngineSpec, size: int) -> EngineSpec:
    """The engine with batches of at most `size` rows, where it makes batches itself."""
    if spec.engine != "transformers" or "max_rows" in spec.options:
        return spec
    return spec.model_copy(update={"options": {**spec.options, "max_rows": size}})


# --- answers that are kept -------------------------------------------------------------------


def answer_keys(
    spec: EngineSpec, engine: Engine, requests: Sequence[Request], sampling: Sampling
) -> list[str]:
    """What decides each answer: the model, the prompt, how it is sampled, our code and libraries.

    Sampling options without effect don't count: seed and top_p of greedy answers.
    """
    identity = getattr(engine, "identity", None)
    if identity is None:
        identity = json.dumps([engine.model, spec.options, sampling.seed], sort_keys=True)
    if sampling.temperature == 0:
        sampling = replace(sampling, seed=0, top_p=1.0)
    code = _CODE.get(spec.engine, ())
    if spec.engine == "offline":
        code = tuple(sorted(provenance.source_closure("espalier.engines.offline")))
    shared = key_of("answer", code, str(identity), repr(sampling))
    bare = [
        content_id(shared, json.dumps(_request_json(request)), str(request.sample))
        for request in requests
    ]
    return [with_versions(key, _LIBRARIES.get(spec.engine, ())) for key in bare]


def _request_json(request: Request) -> list[Any]:
    return [[turn.to_json() for turn in request.messages], list(request.token_ids)]


def _generate(
    subject: Subject,
    store: Store,
    spec: EngineSpec,
    engine: Engine,
    requests: Sequence[Request],
    sampling: Sampling,
) -> list[dict[str, Any]]:
    """One record a request: those in the store, and all others asked for in one call."""
    keys = answer_keys(spec, engine, requests, sampling)
    pending = {
        key: request for key, request in zip(keys, requests, strict=True) if key not in store
    }
    tell_upgrade(store, pending)
    waiting, rows = list(pending), Counter(keys)
    failed: dict[str, dict[str, Any]] = {}
    with Progress(f"evaluate: {subject.name}", len(requests), unit="answers") as progress:
        progress.update(sum(key not in pending for key in keys))
        before = time.monotonic()
        for index, completion in _arrivals(subject, engine, list(pending.values()), sampling):
            now = time.monotonic()
            record, before = _record(completion, now - before), now
            # A failed request is asked again next time.
            if completion.finish_reason == "error":
                failed[waiting[index]] = record
            else:
                store.put(waiting[index], record, model=subject.name)
            progress.update(rows[waiting[index]])
    if any(key not in failed and key not in store for key in waiting):
        raise StageError(f"The model '{subject.name}' gave fewer answers than it was asked for.")
    return _with_mean_seconds([failed.get(key) or store.get(key) for key in keys])


def _arrivals(
    subject: Subject, engine: Engine, requests: Sequence[Request], sampling: Sampling
) -> Iterator[tuple[int, Completion]]:
    """(index, completion) as the answers end."""
    if not requests:
        return
    # Answers that are paid for come through their journal, which gives them in order.
    if subject.kind != "api" and hasattr(engine, "generate_unordered"):
        streaming = cast(UnorderedEngine, engine)
        yield from streaming.generate_unordered(requests, sampling, _ignore)
    else:
        yield from enumerate(engine.generate(requests, sampling))


def _ignore(index: int, completion: Completion) -> None:
    """What arrives is taken when it is handed on."""


def _record(completion: Completion, seconds: float) -> dict[str, Any]:
    return {
        # What decodes to half a character must not break the files that it goes into.
        "answer": completion.text.encode("utf-8", errors="replace").decode("utf-8"),
        "finish_reason": completion.finish_reason,
        "tokens": completion.usage.completion_tokens,
        "seconds": round(seconds, 4),
    }


def _with_mean_seconds(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers of a batch arrive together; the time of one is the mean over all."""
    mean = round(sum(record["seconds"] for record in records) / max(len(records), 1), 4)
    return [{**record, "seconds": mean} for record in records]
