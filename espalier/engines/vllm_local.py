"""A local model through vLLM's offline interface: prompts as token ids, answers as they end.

vLLM runs in a child process (`vllm_child.py`), which has four reasons: its own worker processes
outlive a parent that is killed, and this one does not; closing gives back all memory; a script
needs no `__main__` guard; and its output can be kept off the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from espalier.adapted import is_adapter
from espalier.engines.base import (
    Completion,
    FinishReason,
    Request,
    Sampling,
    TokenScores,
    Usage,
    in_order,
)
from espalier.engines.chat import ChatForm, Stops, load_chat_form, weights_identity
from espalier.engines.vllm_lora import weights_for_vllm
from espalier.engines.vllm_options import VLLMOptions
from espalier.engines.vllm_process import require_vllm
from espalier.engines.vllm_session import SEED_BITS, Asked, VLLMSession, check_finite
from espalier.errors import InputError, StageError, require
from espalier.models import check_source


class VLLMEngine:
    """A model folder, a folder of LoRA adapters or a hub name, loaded by vLLM at the first request.

    Prompts, ends of answers and texts are those of `TransformersEngine`: messages are written
    with the model's template, `token_ids` taken as they are; `Completion.token_ids` are all
    generated tokens, the one that ended the answer included, and `logprobs` their natural
    log-probabilities under the model's own distribution. Greedy answers are the same as there,
    rounding aside; sampled ones follow the same distribution with other draws. A prompt that
    leaves no room gets an empty answer with finish reason "length".

    An answer depends on the weights, the prompt, `Sampling`, the sample number and `seed` alone;
    rounding aside, not on what else is asked in the same call.
    """

    costly = True

    def __init__(self, model: str, seed: int = 0, options: VLLMOptions | None = None) -> None:
        """Raises InputError when there is no such model folder or vLLM can't serve its adapters,
        MissingExtra without vLLM."""
        require_vllm()
        require("transformers", extra="train", feature="The vLLM engine")
        self.model = model
        self.seed = seed
        self.options = options or VLLMOptions()
        self._source = check_source(model)
        weights_for_vllm(self._source)
        self._identity: str | None = None
        self._running: _Running | None = None

    @classmethod
    def from_options(cls, model: str, seed: int, options: Mapping[str, Any]) -> VLLMEngine:
        """The engine with the `options` of a recipe; raises UsageError for an unknown one."""
        return cls(model, seed, VLLMOptions.parse(options, "vllm"))

    def __repr__(self) -> str:
        return f"VLLMEngine(model={self.model!r})"

    @property
    def identity(self) -> str:
        """What answers, for the journal: weights, tokenizer and template by hash, and options."""
        if self._identity is None:
            self._identity = f"vllm:{weights_identity(self._source)}:{self.options.identity()}"
        return self._identity

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """Yield one completion a request, in request order."""
        return in_order(self.generate_unordered(requests, sampling))

    def generate_unordered(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        arrived: Callable[[int, Completion], None] | None = None,
    ) -> Generator[tuple[int, Completion], None, None]:
        """Yield (index, completion) as answers end; `arrived` is called first, at once.

        Leaving early ends the requests that are under way. Raises StageError when vLLM ends
        or refuses a request.
        """
        if not requests:
            return
        running = self._started()
        asked = _asked(running, requests, sampling, self.seed)
        with self._afresh(running):
            for index, answer in running.exchange(asked):
                completion = running.completion(asked[index], answer)
                if arrived is not None:
                    arrived(index, completion)
                yield index, completion

    def score(self, sequences: Sequence[Sequence[int]]) -> Iterator[TokenScores]:
        """Yield the scores of each sequence of token ids, in their order.

        Raises InputError for an empty sequence, or one that is longer than the model can read.
        """
        if not sequences:
            return
        running = self._started()
        check_lengths(sequences, running.longest)
        asked = [_to_score(sequence) for sequence in sequences]
        waiting: dict[int, TokenScores] = {}
        following = 0
        with self._afresh(running):
            for index, answer in running.exchange(asked):
                scores, best, best_scores = (
                    tuple(answer.get(name, ()))  # a token alone is not asked about
                    for name in ("scores", "best", "best_scores")
                )
                check_finite(scores)
                waiting[index] = TokenScores(scores, best, best_scores)
                while following in waiting:
                    yield waiting.pop(following)
                    following += 1

    def longest(self) -> int:
        """The most tokens of prompt and answer together; loads the model."""
        return self._started().longest

    @contextmanager
    def _afresh(self, running: _Running) -> Iterator[None]:
        """When vLLM has ended, the next call starts it again."""
        try:
            yield
        except StageError:
            if not running.alive:
                self.close()
            raise

    def _started(self) -> _Running:
        if self._running is None:
            self._running = _Running(self._source, self.options)
        return self._running

    def reload(self, folder: str) -> None:
        """Take the weights of another folder of the same shape, in place (tokenizer and template
        stay). For a policy that is being trained. Raises StageError when vLLM can't, InputError
        for adapters alone, of which it would exchange the wrong weights.
        """
        for place in (self._source, folder):
            if is_adapter(place):
                raise InputError(
                    "Weights are exchanged in place for whole models, not for adapters alone.",
                    where=place,
                    hint=f"merge them: espalier train merge {place} --output FOLDER",
                )
        self._source = check_source(folder)
        self._identity = None
        if self._running is not None:
            self._running.reload(self._source)

    def close(self) -> None:
        """End vLLM's process, which gives back all memory; a later request would load again."""
        if self._running is not None:
            self._running.close()
            self._running = None


def check_lengths(sequences: Sequence[Sequence[int]], longest: int) -> None:
    """Raise InputError for a sequence without tokens, or with more than `longest`."""
    for number, sequence in enumerate(sequences, start=1):
        if not 0 < len(sequence) <= longest:
            raise InputError(
                f"A sequence to score has {len(sequence):,} tokens.",
                where=f"sequence {number}",
                expected=f"1 to {longest:,} tokens",
            )


def _to_score(sequence: Sequence[int]) -> Asked:
    """All but the last token as the prompt; the last one is all that the model may answer.

    So a text as long as the model's context can be scored, though vLLM always makes a token more.
    Its log-probabilities are those before anything was forbidden.
    """
    settings = {
        "temperature": 0.0,
        "max_tokens": 1,
        "prompt_logprobs": 1,
        "logprobs": 1,
        "allowed_token_ids": [sequence[-1]],
        "detokenize": False,
    }
    return Asked(list(sequence[:-1]), min(len(sequence) - 1, 1), settings)


@dataclass(frozen=True, slots=True)
class _Asked(Asked):
    stops: Stops


def _asked(
    running: _Running, requests: Sequence[Request], sampling: Sampling, seed: int
) -> list[_Asked]:
    from espalier.decoding import row_seed

    form = running.form
    # The template's stop strings end an answer that was asked for through the template.
    chat, plain = (form.stops((*texts, *sampling.stop)) for texts in (form.template.stop, ()))
    shared = {
        "temperature": max(sampling.temperature, 0.0),
        "top_p": max(sampling.top_p, 1e-9),
        "presence_penalty": sampling.presence_penalty,
    }
    # One number out of two seeds that each may be anything.
    seed = row_seed(seed, (), sampling.seed)
    asked = []
    for prompt, request in zip(form.prompts(requests), requests, strict=True):
        stops = plain if request.token_ids else chat
        limit = min(sampling.max_tokens, running.longest - len(prompt))
        settings = {
            **shared,
            "max_tokens": limit,
            "stop": list(stops.strings),
            "stop_token_ids": sorted(stops.ids),
            # vLLM has to see text for these alone; ours is written from the ids.
            "detokenize": bool(stops.strings),
            "seed": row_seed(seed, prompt, request.sample) % (1 << SEED_BITS),
        }
        asked.append(_Asked(prompt, limit, settings, stops))
    return asked


class _Running(VLLMSession):
    """A loaded model with the form in which it is asked."""

    def __init__(self, source: str, options: VLLMOptions) -> None:
        self.form: ChatForm = load_chat_form(source, options.template)
        weights = weights_for_vllm(source)
        settings = options.settings(weights.model) | weights.settings()
        if weights.adapter is not None:
            settings |= {"tokenizer": weights.adapter, "adapter": weights.adapter}
        super().__init__(
            source,
            settings,
            options.environment(weights.model),
            load_seconds=options.load_seconds,
        )

    def completion(self, asked: _Asked, answer: Mapping[str, Any]) -> Completion:
        """Raises StageError when the model's output is not finite."""
        ids, logprobs = tuple(answer["ids"]), tuple(answer["logprobs"])
        check_finite(logprobs)
        if not ids:
            return Completion("", "length", Usage(len(asked.prompt), 0))
        reason: FinishReason = "stop" if answer["reason"] == "stop" else "length"
        return self.form.completion(ids, logprobs, reason, len(asked.prompt), asked.stops)
