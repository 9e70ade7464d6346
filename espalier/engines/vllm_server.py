"""A local model served by `vllm serve`, started for as long as the engine is open.

The server listens on this machine alone, on a free port, with a random key; requests go through
`OpenAIEngine`, so all that holds for any API (concurrency that finds its level, patience,
journal) holds here. They carry token ids to the endpoint for completions, so that the prompt is
the one that the other engines of local models make. The server's chat endpoint is given the same
template, for other clients. A server that runs elsewhere is an `openai` engine with `base_url`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import time
import urllib.request
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from espalier.engines.api import OpenAIEngine
from espalier.engines.base import (
    Completion,
    EngineSpec,
    Request,
    Sampling,
    TokenScores,
    Usage,
    in_order,
)
from espalier.engines.chat import ChatForm, load_chat_form, weights_identity
from espalier.engines.vllm_local import check_lengths
from espalier.engines.vllm_lora import weights_for_vllm
from espalier.engines.vllm_options import VLLMOptions
from espalier.engines.vllm_process import VLLMProcess, Waiting, require_vllm
from espalier.engines.vllm_serve import ServeFiles, serve_words
from espalier.engines.vllm_session import check_finite
from espalier.errors import StageError, require
from espalier.models import check_source

_LOOK_SECONDS = 0.3
_SCORED_AT_ONCE = 64
_KEY_VARIABLE = "ESPALIER_VLLM_SERVER_KEY"


class ServerOptions(VLLMOptions):
    """What `options` of a `vllm-server` engine may hold: those of `vllm`, and a log."""

    log: str | None = Field(None, description="File for the server's log (default: none is kept).")


class ServerEngine:
    """A model folder, adapters or hub name behind a server that starts at the first request.

    `url` is where it listens while it runs, `key` what it asks for. Prompts, ends of answers,
    texts and token ids are those of `TransformersEngine`; answers carry no log-probabilities.
    A prompt that leaves no room gets an empty answer with finish reason "length".
    """

    costly = True

    def __init__(self, spec: EngineSpec, seed: int = 0) -> None:
        """Raises InputError for a missing folder or adapters that vLLM can't serve,
        MissingExtra without vLLM, UsageError for an option that is not right."""
        require_vllm()
        require("transformers", extra="train", feature="The vLLM server")
        self.model = spec.model
        self.seed = seed
        self.spec = spec
        self.options = ServerOptions.parse(spec.options, "vllm-server")
        self._source = check_source(spec.model)
        weights_for_vllm(self._source)
        self._identity: str | None = None
        self._server: _Server | None = None

    def __repr__(self) -> str:
        return f"ServerEngine(model={self.model!r}, url={self.url!r})"

    @property
    def url(self) -> str | None:
        return None if self._server is None else self._server.url

    @property
    def key(self) -> str | None:
        return None if self._server is None else self._server.key

    @property
    def identity(self) -> str:
        """What answers, for the journal: weights, tokenizer and template by hash, and options."""
        if self._identity is None:
            weights = weights_identity(self._source)
            self._identity = f"vllm-server:{weights}:{self.options.identity()}"
        return self._identity

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """Yield one completion a request, in request order."""
        with contextlib.closing(self.generate_unordered(requests, sampling)) as answers:
            yield from in_order(answers)

    def generate_unordered(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        arrived: Callable[[int, Completion], None] | None = None,
    ) -> Generator[tuple[int, Completion], None, None]:
        """Yield (index, completion) as they arrive; `arrived` is called first, at once.

        Raises StageError with the end of the log when the server has ended.
        """
        if not requests:
            return
        server = self._started()
        with self._failures(server):
            yield from server.ask(requests, sampling, arrived)

    def score(self, sequences: Sequence[Sequence[int]]) -> Iterator[TokenScores]:
        """Yield the scores of each sequence of token ids, in their order.

        Raises InputError for an empty sequence, or one that is longer than the model can read.
        """
        if not sequences:
            return
        server = self._started()
        check_lengths(sequences, server.longest)
        with self._failures(server):
            yield from server.score(sequences)

    def longest(self) -> int:
        """The most tokens of prompt and answer together; starts the server."""
        return self._started().longest

    def _started(self) -> _Server:
        if self._server is None:
            self._server = _Server(self.spec, self.options, self._source, self.seed)
        return self._server

    @contextlib.contextmanager
    def _failures(self, server: _Server) -> Iterator[None]:
        try:
            yield
        except StageError as error:
            if server.process.alive:
                raise
            failure = server.process.failure("server ended")
            self.close()
            raise failure from error

    def close(self) -> None:
        """End the server and all its processes; a later request would start it again."""
        if self._server is not None:
            self._server.close()
            self._server = None


class _Server:
    """A running server and its client; `longest` bounds prompt and answer together, in tokens."""

    def __init__(self, spec: EngineSpec, options: ServerOptions, source: str, seed: int) -> None:
        self._client: TokenClient | None = None
        self._model = spec.model
        self.form = load_chat_form(source, options.template)
        weights = weights_for_vllm(source)
        port = free_port()
        self.key = secrets.token_hex(16)
        self.url = f"http://127.0.0.1:{port}/v1"
        self._files = ServeFiles(self.form)
        words = serve_words(
            weights, options, self._files, name=spec.model, host="127.0.0.1", port=port
        )
        try:
            self.process = VLLMProcess(
                "serve",
                words,
                environment={
                    **options.environment(weights.model),
                    "VLLM_API_KEY": self.key,
                    "ESPALIER_VLLM_TEMPORARY_FOLDER": str(self._files.folder),
                },
                log=None if options.log is None else Path(options.log),
            )
        except BaseException:
            self._files.remove()
            raise
        try:
            self.longest = self._wait_until_ready(source, options.load_seconds)
            self._files.remove()  # the server has read them
            self._client = client_of(spec, self.url, self.key, seed, self.form)
        except BaseException:
            self.close()
            raise

    def ask(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        arrived: Callable[[int, Completion], None] | None,
    ) -> Iterator[tuple[int, Completion]]:
        """Yield (index, completion) as they arrive."""
        prompts = self.form.prompts(requests)
        groups: dict[tuple[int, bool], list[int]] = {}
        for index, (prompt, request) in enumerate(zip(prompts, requests, strict=True)):
            limit = max(min(sampling.max_tokens, self.longest - len(prompt)), 0)
            groups.setdefault((limit, not request.token_ids), []).append(index)
        for (limit, chat), indices in groups.items():
            texts = (*(self.form.template.stop if chat else ()), *sampling.stop)
            asked = [
                Request(token_ids=tuple(prompts[i]), sample=requests[i].sample) for i in indices
            ]
            stops = self.form.stops(texts)
            shared = replace(sampling, max_tokens=limit, stop=texts)
            for position, completion in self._group(asked, shared):
                index = indices[position]
                if completion.token_ids:
                    # A server keeps back what is no whole character yet; the tokens say it all.
                    completion = self.form.completion(
                        completion.token_ids,
                        (),
                        completion.finish_reason,
                        len(prompts[index]),
                        stops,
                    )
                completion = replace(completion, text=completion.text.strip())
                if arrived is not None:
                    arrived(index, completion)
                yield index, completion

    def _group(
        self, requests: list[Request], sampling: Sampling
    ) -> Iterator[tuple[int, Completion]]:
        if sampling.max_tokens <= 0:
            for index, request in enumerate(requests):
                yield index, Completion("", "length", Usage(len(request.token_ids), 0))
            return
        assert self._client is not None  # it is open as long as the server is
        with contextlib.closing(self._client.generate_unordered(requests, sampling)) as answers:
            yield from answers

    def score(self, sequences: Sequence[Sequence[int]]) -> Iterator[TokenScores]:
        with ThreadPoolExecutor(_SCORED_AT_ONCE) as pool:
            yield from pool.map(self._scores, sequences)

    def _scores(self, sequence: Sequence[int]) -> TokenScores:
        """As the engine `vllm` does: the last token is all that the model may answer."""
        if len(sequence) < 2:
            return TokenScores((), (), ())
        body = {"model": self._model, "prompt": list(sequence[:-1]), "max_tokens": 1}
        body |= {"temperature": 0, "prompt_logprobs": 1, "logprobs": 1, "ignore_eos": True}
        body |= {"allowed_token_ids": [sequence[-1]], "return_tokens_as_token_ids": True}
        try:
            value = self._ask_server("completions", body)
        except OSError as error:
            raise StageError(f"vLLM's server did not score a text: {error}") from error
        [choice] = value["choices"]
        prompt, [last] = choice["prompt_logprobs"][1:], choice["logprobs"]["top_logprobs"]
        steps = [
            *({int(i): one["logprob"] for i, one in s.items()} for s in prompt),
            {int(name.removeprefix("token_id:")): logprob for name, logprob in last.items()},
        ]
        given = [step[i] for step, i in zip(steps, sequence[1:], strict=True)]
        check_finite(given)
        best = [max(step, key=lambda i: step[i]) for step in steps]
        best_scores = [step[i] for step, i in zip(steps, best, strict=True)]
        return TokenScores(tuple(given), tuple(best), tuple(best_scores))

    def _wait_until_ready(self, source: str, seconds: float) -> int:
        """The longest that the server takes, once it answers."""
        with Waiting(f"vLLM's server is loading {source}") as waiting:
            while True:
                with contextlib.suppress(OSError):
                    return self._longest()
                waiting.show()
                if not self.process.alive:
                    raise self.process.failure("server did not start")
                if waiting.seconds > seconds:
                    raise self.process.failure(
                        f"server was not ready within {seconds:g} s",
                        hint="raise options.load_seconds, or look at the whole log",
                    )
                time.sleep(_LOOK_SECONDS)

    def _longest(self) -> int:
        """Raises OSError (HTTPError and URLError are) while the server is not ready."""
        models = self._ask_server("models", None, timeout=5)["data"]
        if not models:
            raise ConnectionError("the server answers and lists no model yet")
        return int(models[0]["max_model_len"])

    def _ask_server(self, path: str, body: Any, timeout: float = 600) -> Any:
        # A proxy of the environment has no business between two processes of one machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(
            f"{self.url}/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        with opener.open(request, timeout=timeout) as response:
            return json.load(response)

    def close(self) -> None:
        try:
            if self._client is not None:
                self._client.close()
        finally:
            self.process.close()
            self._files.remove()


class TokenClient(OpenAIEngine):
    """The client of a server of ours: what ends an answer is said as it is to other engines,
    special tokens by their ids, since they leave no trace in a text."""

    def __init__(self, spec: EngineSpec, seed: int, form: ChatForm) -> None:
        super().__init__(spec, seed)
        self.form = form

    def body(self, request: Request, sampling: Sampling) -> dict[str, Any]:
        """What is sent for one request; vLLM takes any number of stop strings."""
        stops = self.form.stops(sampling.stop)
        body = super().body(request, replace(sampling, stop=()))
        return body | {"stop": list(stops.strings), "stop_token_ids": sorted(stops.ids)}


def client_of(spec: EngineSpec, url: str, key: str, seed: int, form: ChatForm) -> TokenClient:
    """A client of the server at `url`, which is asked with token ids."""
    changes = {
        "engine": "openai",
        "base_url": url,
        "api_key_env": _KEY_VARIABLE,
        "options": {
            "endpoint": "completions",
            "max_tokens_field": "max_tokens",
            "extra_body": {"ignore_eos": True, "return_token_ids": True},
        },
    }
    # The client reads its key from the environment; it is there for this moment only.
    os.environ[_KEY_VARIABLE] = key
    try:
        return TokenClient(spec.model_copy(update=changes), seed, form)
    finally:
        del os.environ[_KEY_VARIABLE]


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
