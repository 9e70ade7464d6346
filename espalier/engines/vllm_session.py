"""A model loaded by vLLM in its child process: token ids in, token ids and log-probabilities out.

The engine of the trunk (`vllm_local`) and PPO's rollouts share it. Weights can be exchanged in
place: process, memory of the key-value cache and compiled graphs stay.
"""

from __future__ import annotations

import json
import math
import os
import select
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from espalier.engines.vllm_process import VLLMProcess, Waiting
from espalier.errors import InputError, StageError, UsageError, did_you_mean

# Requests under way at once; the rest wait here, where they take less memory.
WINDOW = 2048
# vLLM takes a seed of 64 bits with a sign.
SEED_BITS = 63


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt with vLLM's sampling settings; a `limit` of 0 tokens gets an empty answer."""

    prompt: Sequence[int]
    limit: int
    sampling: dict[str, Any]


class VLLMSession:
    """A loaded model: `longest` is the most tokens of prompt and answer together.

    `where` names, in errors, what the settings came from, and `hint` says what to do when vLLM
    ends by itself. Raises InputError for a model that vLLM can't load, UsageError for an unknown
    setting, StageError when the process ends or takes too long.
    """

    def __init__(
        self,
        source: str,
        settings: Mapping[str, Any],
        environment: Mapping[str, str | None],
        *,
        load_seconds: float,
        where: str = "options",
        hint: str | None = None,
        instead: str = "engine: transformers takes any model that transformers can load",
    ) -> None:
        self._where = where
        self._instead = instead
        self._calls = 0
        # Answers of calls other than the one that reads (two iterators may take turns).
        self._boxes: dict[int, deque[dict[str, Any]]] = {}
        ours, theirs = os.pipe()
        self._answers: BinaryIO = os.fdopen(ours, "rb")
        try:
            words = [str(theirs), json.dumps(dict(settings))]
            self._process = VLLMProcess(
                "answer",
                words,
                environment={**environment, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"},
                pass_fds=(theirs,),
                hint=hint,
            )
        finally:
            os.close(theirs)
        try:
            self.longest = self._wait_until_ready(source, load_seconds)
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
                        hint=f"raise {self._where}.load_seconds, or look at the whole log",
                    )
        message = self._read()
        if "ready" in message:
            return int(message["ready"])
        if message.get("user"):
            raise UsageError(
                f"{message['failed']}.",
                where=f"{self._where}.vllm",
                hint=did_you_mean(message.get("name", ""), message.get("known", ())),
            )
        raise InputError(
            "vLLM can't load this model: " + first_lines(message["failed"]),
            where=source,
            hint=self._instead,
        )

    @property
    def alive(self) -> bool:
        return self._process.alive

    @property
    def pid(self) -> int:
        """The number of vLLM's process; it stays when weights are exchanged."""
        return self._process.pid

    def exchange(self, asked: Sequence[Asked]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Ask all, and yield (index, answer) as they come.

        An answer has `ids`, their `logprobs` and `reason`: "stop" or "length". Leaving early
        ends the requests that are under way. Raises StageError when vLLM ends or refuses one.
        """
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

    def _send(self, call: int, index: int, asked: Asked) -> None:
        message = {
            "call": call,
            "number": index,
            "prompt": list(asked.prompt),
            "sampling": asked.sampling,
        }
        self._process.write(json.dumps(message).encode() + b"\n")

    def _next(self, call: int, box: deque[dict[str, Any]]) -> dict[str, Any]:
        while not box:
            self._sort(self._read())
        message = box.popleft()
        if "error" in message:
            raise StageError(f"vLLM refuses a request: {first_lines(message['error'])}")
        return message

    def _sort(self, message: dict[str, Any]) -> None:
        """Put an answer where its call finds it; what comes for a call that was left is late."""
        if message.get("call") in self._boxes:
            self._boxes[message["call"]].append(message)

    def _read(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line.endswith(b"\n"):
            raise self._process.failure("ended unexpectedly")
        message: dict[str, Any] = json.loads(line)
        return message

    def reload(self, folder: str) -> None:
        """Take the weights of a folder of the same shape, in place; what was cached is dropped.

        Raises StageError when vLLM can't: the weights that it holds are then undefined.
        """
        self._process.write(json.dumps({"reload": os.path.abspath(folder)}).encode() + b"\n")
        while "reloaded" not in (message := self._read()):
            self._sort(message)
        if not message["reloaded"]:
            raise self._process.failure(
                f"can't take new weights in place: {first_lines(message['reason'])}",
                hint="vLLM 0.32 or later is needed, and weights of the same shape; "
                "the whole log is kept",
            )

    def close(self) -> None:
        """End the process and all that it started; a second call does nothing."""
        self._process.close()
        self._answers.close()


def check_finite(logprobs: Sequence[float]) -> None:
    """Raise StageError when the model's output is NaN or infinite."""
    if not all(map(math.isfinite, logprobs)):
        raise StageError(
            "The model's output is not finite (NaN or infinity), so nothing can be sampled.",
            hint="its weights are broken (training diverged?), or its dtype is too narrow: "
            "try dtype: float32",
        )


def first_lines(text: str) -> str:
    """The beginning of a long message, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:4])[:500]
