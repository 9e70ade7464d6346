"""A local model through vLLM's offline interface: prompts as token ids, answers as they end.

vLLM runs in a child process (`vllm_child.py`), which has four reasons: its own worker processes
outlive a parent that is killed, and this one does not; closing gives back all memory; a script
needs no `__main__` guard; and its output can be kept off the terminal.
"""

from __future__ import annotations

import json
import math
import os
import select
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from espalier.engines.base import Completion, FinishReason, Request, Sampling, Usage, in_order
from espalier.engines.chat import ChatForm, Stops, load_chat_form, weights_identity
from espalier.engines.vllm_options import VLLMOptions
from espalier.engines.vllm_process import VLLMProcess, Waiting, require_vllm
from espalier.errors import InputError, StageError, UsageError, require
from espalier.models import check_source

# Requests under way at once; the rest wait here, where they take less memory.
WINDOW = 2048
# vLLM takes a seed of 64 bits with a sign.
_SEED_BITS = 63


class VLLMEngine:
    """A model folder or hub name, loaded by vLLM at the first request.

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
        """Raises InputError when there is no such model folder, MissingExtra without vLLM."""
        require_vllm()
        require("transformers", extra="train", feature="The vLLM engine")
        self.model = model
        self.seed = seed
        self.options = options or VLLMOptions()
        self._source = check_source(model)
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
        if self._running is None:
            self._running = _Running(self._source, self.options)
        running = self._running
        asked = _asked(running, requests, sampling, self.seed)
        try:
            for index, answer in running.exchange(asked):
                completion = running.completion(asked[index], answer)
                if arrived is not None:
                    arrived(index, completion)
                yield index, completion
        except StageError:
            if not running.alive:
                self.close()  # the next call starts afresh
            raise

    def reload(self, folder: str) -> None:
        """Take the weights of another folder of the same shape, in place (tokenizer and template
        stay). For a policy that is being trained. Raises StageError when vLLM can't.
        """
        self._source = check_source(folder)
        self._identity = None
        if self._running is not None:
            self._running.reload(self._source)

    def close(self) -> None:
        """End vLLM's process, which gives back all memory; a later request would load again."""
        if self._running is not None:
            self._running.close()
            self._running = None


@dataclass(frozen=True, slots=True)
class _Asked:
    prompt: list[int]
    limit: int
    stops: Stops
    sampling: dict[str, Any]


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
            "seed": row_seed(seed, prompt, request.sample) % (1 << _SEED_BITS),
        }
        asked.append(_Asked(prompt, limit, stops, settings))
    return asked


class _Running:
    """A loaded model: `longest` is the most tokens of prompt and answer together."""

    def __init__(self, source: str, options: VLLMOptions) -> None:
        self.form: ChatForm = load_chat_form(source, options.template)
        self._calls = 0
        # Answers of calls other than the one that reads (two iterators may take turns).
        self._boxes: dict[int, deque[dict[str, Any]]] = {}
        ours, theirs = os.pipe()
        self._answers: BinaryIO = os.fdopen(ours, "rb")
        environment = {**options.environment(source), "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        try:
            words = [str(theirs), json.dumps(options.settings(source))]
            self._process = VLLMProcess(
                "answer", words, environment=environment, pass_fds=(theirs,)
            )
        finally:
            os.close(theirs)
        try:
            self.longest = self._wait_until_ready(source, options.load_seconds)
        except BaseException:
            self.close()
            raise

    def _wait_until_ready(self, source: str, seconds: float) -> int:
        with Waiting(f"vLLM is loading {source}") as waiting:
            while not select.select([self._answers], [], [], 0.2)[0]:
                waiting.show()
                if waiting.seconds > seconds:
                    raise self._process.failure(
                        f"did not load the model within {seconds:g} s",
                        hint="raise options.load_seconds, or look at the whole log",
                    )
        message = self._read()
        if "ready" in message:
            return int(message["ready"])
        if message.get("user"):
            near = message.get("near")
            raise UsageError(
                f"{message['failed']}.",
                where="options.vllm",
                hint=f"did you mean '{near[0]}'?" if near else None,
            )
        raise InputError(
            "vLLM can't load this model: " + _first_lines(message["failed"]),
            where=source,
            hint="engine: transformers takes any model that transformers can load",
        )

    @property
    def alive(self) -> bool:
        return self._process.alive

    def exchange(self, asked: Sequence[_Asked]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Ask all, and yield (index, answer) as they come."""
        self._calls += 1
        call = self._calls
        box = self._boxes[call] = deque()
        waiting = deque(range(len(asked)))
        pending = 0
        try:
            while waiting or pending:
                while waiting and pending < WINDOW:
                    index = waiting.popleft()
                    if asked[index].limit <= 0:
                        yield index, {"ids": [], "logprobs": [], "reason": "length"}
                        continue
                    self._send(call, index, asked[index])
                    pending += 1
                if pending:
                    message = self._next(call, box)
                    pending -= 1
                    yield message["number"], message
        finally:
            del self._boxes[call]
            if pending and self._process.alive:
                self._process.write(json.dumps({"abort": call}).encode() + b"\n")

    def _send(self, call: int, index: int, asked: _Asked) -> None:
        message = {
            "call": call,
            "number": index,
            "prompt": asked.prompt,
            "sampling": asked.sampling,
        }
        self._process.write(json.dumps(message).encode() + b"\n")

    def _next(self, call: int, box: deque[dict[str, Any]]) -> dict[str, Any]:
        while not box:
            message = self._read()
            # What comes late for a call that was left is of no use.
            if message.get("call") in self._boxes:
                self._boxes[message["call"]].append(message)
        message = box.popleft()
        if "error" in message:
            raise StageError(f"vLLM refuses a request: {_first_lines(message['error'])}")
        return message

    def _read(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line.endswith(b"\n"):
            raise self._process.failure("ended unexpectedly")
        message: dict[str, Any] = json.loads(line)
        return message

    def completion(self, asked: _Asked, answer: Mapping[str, Any]) -> Completion:
        """Raises StageError when the model's output is not finite."""
        ids, logprobs = tuple(answer["ids"]), tuple(answer["logprobs"])
        if not all(map(math.isfinite, logprobs)):
            raise StageError(
                "The model's output is not finite (NaN or infinity), so nothing can be sampled.",
                hint="its weights are broken (training diverged?), or its dtype is too narrow: "
                "try dtype: float32",
            )
        if not ids:
            return Completion("", "length", Usage(len(asked.prompt), 0))
        reason: FinishReason = "stop" if answer["reason"] == "stop" else "length"
        return self.form.completion(ids, logprobs, reason, len(asked.prompt), asked.stops)

    def reload(self, folder: str) -> None:
        self._process.write(json.dumps({"reload": os.path.abspath(folder)}).encode() + b"\n")
        while "reloaded" not in (message := self._read()):
            if message.get("call") in self._boxes:
                self._boxes[message["call"]].append(message)

    def close(self) -> None:
        self._process.close()
        self._answers.close()


def _first_lines(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:4])[:500]
