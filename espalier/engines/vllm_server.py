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
import tempfile
import time
import urllib.request
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from espalier.adapted import refuse_adapter
from espalier.engines.api import OpenAIEngine
from espalier.engines.base import (
    Completion,
    EngineSpec,
    Request,
    Sampling,
    Usage,
    in_order,
)
from espalier.engines.chat import load_chat_form, weights_identity
from espalier.engines.jinja_forms import jinja_of
from espalier.engines.vllm_options import VLLMOptions
from espalier.engines.vllm_process import VLLMProcess, Waiting, require_vllm
from espalier.errors import StageError, require
from espalier.models import check_source

_LOOK_SECONDS = 0.3
_KEY_VARIABLE = "ESPALIER_VLLM_SERVER_KEY"


class ServerOptions(VLLMOptions):
    """What `options` of a `vllm-server` engine may hold: those of `vllm`, and a log."""

    log: str | None = Field(None, description="File for the server's log (default: none is kept).")


class ServerEngine:
    """A model folder or hub name behind a server that starts at the first request.

    `url` is where it listens while it runs, `key` what it asks for. Prompts, ends of answers and
    texts are those of `TransformersEngine`; answers carry no token ids and no log-probabilities.
    A prompt that leaves no room gets an empty answer with finish reason "length".
    """

    costly = True

    def __init__(self, spec: EngineSpec, seed: int = 0) -> None:
        """Raises InputError for a missing folder, MissingExtra without vLLM,
        UsageError for an option that is not right."""
        require_vllm()
        require("transformers", extra="train", feature="The vLLM server")
        self.model = spec.model
        self.seed = seed
        self.spec = spec
        self.options = ServerOptions.parse(spec.options, "vllm-server")
        self._source = check_source(spec.model)
        refuse_adapter(self._source, "vLLM")
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
        if self._server is None:
            self._server = _Server(self.spec, self.options, self._source, self.seed)
        server = self._server
        try:
            yield from server.ask(requests, sampling, arrived)
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
        self._template: Path | None = None
        self._client: OpenAIEngine | None = None
        self.form = load_chat_form(source, options.template)
        port = _free_port()
        self.key = secrets.token_hex(16)
        self.url = f"http://127.0.0.1:{port}/v1"
        words = [source, "--host", "127.0.0.1", "--port", str(port)]
        words += ["--served-model-name", spec.model, "--disable-uvicorn-access-log"]
        words += _flags(options.settings(source)) + self._template_flags()
        self.process = VLLMProcess(
            "serve",
            words,
            environment={**options.environment(source), "VLLM_API_KEY": self.key},
            log=None if options.log is None else Path(options.log),
        )
        try:
            self.longest = self._wait_until_ready(source, options.load_seconds)
            self._remove_template()  # the server has read it
            self._client = _client(spec, self.url, self.key, seed, self.form.ends)
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
            shared = replace(sampling, max_tokens=limit, stop=self.form.stops(texts).strings)
            for position, completion in self._group(asked, shared):
                index = indices[position]
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

    def _template_flags(self) -> list[str]:
        from espalier.encoding import adds_bos

        text = jinja_of(self.form.template, bos=adds_bos(self.form.tokenizer))
        if text is None:
            return []
        descriptor, name = tempfile.mkstemp(prefix="espalier-vllm-", suffix=".jinja")
        self._template = Path(name)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        return ["--chat-template", name]

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
        # A proxy of the environment has no business between two processes of one machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(
            f"{self.url}/models", headers={"Authorization": f"Bearer {self.key}"}
        )
        with opener.open(request, timeout=5) as response:
            return int(json.load(response)["data"][0]["max_model_len"])

    def close(self) -> None:
        try:
            if self._client is not None:
                self._client.close()
        finally:
            self.process.close()
            self._remove_template()

    def _remove_template(self) -> None:
        if self._template is not None:
            self._template.unlink(missing_ok=True)


def _client(spec: EngineSpec, url: str, key: str, seed: int, ends: frozenset[int]) -> OpenAIEngine:
    options = {
        "endpoint": "completions",
        "max_tokens_field": "max_tokens",
        "extra_body": {"stop_token_ids": sorted(ends), "ignore_eos": True},
    }
    changes = {
        "engine": "openai",
        "base_url": url,
        "api_key_env": _KEY_VARIABLE,
        "options": options,
    }
    # The client reads its key from the environment; it is there for this moment only.
    os.environ[_KEY_VARIABLE] = key
    try:
        return OpenAIEngine(spec.model_copy(update=changes), seed)
    finally:
        del os.environ[_KEY_VARIABLE]


def _flags(settings: dict[str, Any]) -> list[str]:
    """Settings as words of the command line."""
    words = []
    for name, value in settings.items():
        flag = name.replace("_", "-")
        if name == "model":
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            text = json.dumps(value) if isinstance(value, dict | list) else str(value)
            words += [f"--{flag}", text]
    return words


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
