"""The teacher answers prompt-only rows, in request order, a bounded batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from espalier.curate.config import AnswerConfig
from espalier.curate.pipeline import Step, Tally
from espalier.engines.base import Completion, Engine, Request, Sampling
from espalier.records import Example

# Enough to keep an API or a GPU busy, few enough to hold.
BATCH = 1024


def batches(rows: Iterable[Example], size: int = BATCH) -> Iterator[list[Example]]:
    """Rows in lists of at most `size`."""
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield batch


def sample_answers(
    engine: Engine, rows: Sequence[Example], sampling: Sampling, samples: int
) -> list[list[Completion]]:
    """`samples` completions for the prompt of each row, in row order.

    The sample numbers of one prompt are 0, 1, …; a prompt that occurs twice in `rows` goes on
    counting, so that its rows get different draws.
    """
    drawn: dict[object, int] = {}
    requests = []
    for row in rows:
        first = drawn.get(row.prompt_messages, 0)
        drawn[row.prompt_messages] = first + samples
        requests += [
            Request(messages=row.prompt_messages, sample=first + number)
            for number in range(samples)
        ]
    completions = iter(engine.generate(requests, sampling))
    return [list(islice(completions, samples)) for _ in rows]


def unanswered(completion: Completion) -> str:
    """Why a completion that ends in "error" is none, as the engine tells it."""
    return completion.text or "the engine gave no answer"


def fault(completion: Completion) -> tuple[str, str] | None:
    """(rule, evidence) when a completion can't be used: an engine error, or cut off."""
    if completion.finish_reason == "error":
        return "engine_error", unanswered(completion)
    if completion.finish_reason == "length":
        return "truncated", completion.text[-120:]
    return None


def respond(engine: Engine, config: AnswerConfig, seed: int) -> Step:
    """Answer the rows that have no answer and are marked to get one (`meta["to_answer"]`)."""
    sampling = Sampling(
        temperature=config.temperature,
        top_p=config.top_p,
        max_tokens=config.max_tokens,
        seed=seed,
    )

    def step(rows: Iterable[Example], tally: Tally) -> Iterator[Example]:
        for batch in batches(rows):
            asked = [row for row in batch if row.meta.get("to_answer")]
            answers = iter(sample_answers(engine, asked, sampling, 1)) if asked else iter(())
            for row in batch:
                if not row.meta.get("to_answer"):
                    yield row
                    continue
                completion = next(answers)[0]
                problem = fault(completion)
                if problem is not None:
                    tally.reject(row, *problem)
                    continue
                text = completion.text.strip()
                meta = {key: row.meta[key] for key in row.meta if key != "to_answer"}
                yield Example(row.id, row.messages, meta).with_response(
                    text, teacher=engine.model, operator=meta.get("operator", "respond")
                )

    return step
