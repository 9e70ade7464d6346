"""Any OpenAI-compatible API, chat or completions, and no secret in any message.

The `openai` client only carries the requests; retrying, pacing and spending are done by
`espalier.engines.jobs`. Answers are read here as plain JSON: the client's typed models cost more
time than all the rest of a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import json
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from espalier.engines.base import (
    Completion,
    EngineSpec,
    Request,
    Sampling,
    in_order,
)
from espalier.engines.jobs import Job, LoopThread
from espalier.engines.limits import Gate, shared_limiter
from espalier.engines.wire import (
    MAX_STOPS,
    OFFICIAL_HOST,
    ApiOptions,
    Problem,
    host_of,
    is_local,
    parse_options,
    plain_stops,
    plain_text,
    public_url,
    read_answer,
    read_key,
    request_seed,
    retry_after,
    server_message,
)
from espalier.errors import StageError, UsageError
from espalier.spending import Account, Meter
from espalier.templates import get_template

# The client's connection pool looks at every connection for every request, so that its time grows
# with the square of the concurrency. Several small pools keep it flat.
LANE = 32
# Refusals of one prompt rather than of the whole job: the others go on.
_PROMPT_CODES = {
    "context_length_exceeded",
    "content_filter",
    "content_policy_violation",
    "string_above_max_length",
}
# Servers other than the official one (vLLM) say it in words alone.
_TOO_LONG = "maximum context length"
_HINTS = {
    401: "check the key in the environment variable {env}",
    403: "check that the key in {env} may use this model",
    404: "check the model's name, and that base_url ends as the server wants it (often /v1)",
}


class OpenAIEngine:
    """Completions over HTTP, of the chat endpoint or of the one for texts.

    `model` is the name sent to the server. Each (sampling seed, sample number) is sent as its
    own `seed`, so that repeated draws differ where the server honours it.
    """

    costly = True

    def __init__(self, spec: EngineSpec, seed: int = 0, account: Account | None = None) -> None:
        """`account` is where the cost is booked (default: nowhere that anyone looks).

        Raises UsageError for unknown options or when the key is missing.
        """
        import openai

        self.model = spec.model
        self.seed = seed
        self._openai = openai
        self.account = account or Meter().account("", spec)
        self.retries = spec.retries
        self._timeout = spec.timeout
        self._key_variable = spec.api_key_env
        self.options = parse_options(spec.options)
        self._texts = self.options.endpoint == "completions"
        if self.options.template is not None:
            get_template(self.options.template)
        self.identity = self._identity()
        fixed = None if spec.concurrency == "auto" else spec.concurrency
        self.gate = Gate(fixed, spec.max_concurrency)
        self._loop: LoopThread | None = None
        base_url = (
            spec.base_url or os.environ.get("OPENAI_BASE_URL") or f"https://{OFFICIAL_HOST}/v1"
        )
        host = host_of(base_url)
        self.url = public_url(base_url)
        self._key = read_key(spec.api_key_env)
        if not self._key and not is_local(host):
            raise UsageError(
                f"The environment variable {spec.api_key_env} with the key of the API is not set.",
                where=self.url,
                hint=f"export {spec.api_key_env}=…, or name another variable in api_key_env "
                "(a server on this machine or network needs no key)",
            )
        self._limit_field = self.options.max_tokens_field or (
            "max_completion_tokens" if host == OFFICIAL_HOST and not self._texts else "max_tokens"
        )
        digest = hashlib.sha256(self._key.encode()).hexdigest()
        self.limiter = shared_limiter(urlsplit(self.url).netloc, digest, spec.model)
        self.limiter.limit(spec.requests_per_minute, spec.tokens_per_minute)
        self._base_url = base_url
        self._lanes = [_Lane(self._open_client())]
        # The HTTP library's name differs between versions of the client.
        library = type(self._lanes[0].client.base_url).__module__.partition(".")[0]
        self._response = importlib.import_module(library).Response

    def _identity(self) -> str:
        """What answers, for the journal: a text's continuation is no chat answer, and what else
        is sent can change one. Options that are not given leave no trace."""
        name = self.model
        if self._texts:
            template = self.options.template
            name += f" (completions{f' as {template}' if template else ''})"
        sent = {field: getattr(self.options, field) for field in ApiOptions.DECISIVE}
        sent["omit"] = sorted(set(self.options.omit))
        sent = {field: value for field, value in sent.items() if value}
        if not sent:
            return name
        text = json.dumps(sent, sort_keys=True, default=str)
        return f"{name} (options {hashlib.sha256(text.encode()).hexdigest()[:16]})"

    def _open_client(self) -> Any:
        return self._openai.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=self._base_url,
            timeout=self._timeout,
            max_retries=0,
        )

    @property
    def api_error(self) -> type[Exception]:
        """The base of the client's exceptions."""
        kind: type[Exception] = self._openai.OpenAIError
        return kind

    @property
    def client(self) -> Any:
        """The `openai` client, for what is no completion."""
        return self._lanes[0].client

    def __repr__(self) -> str:
        return f"OpenAIEngine(model={self.model!r}, url={self.url!r})"

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """Yield one completion a request, in request order.

        Raises StageError naming model, address and the last problem.
        """
        with contextlib.closing(self.generate_unordered(requests, sampling)) as answers:
            yield from in_order(answers)

    def generate_unordered(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        arrived: Callable[[int, Completion], None] | None = None,
    ) -> Generator[tuple[int, Completion], None, None]:
        """Yield (index, completion) as they arrive; `arrived` is called first, at once.

        When a request fails for good, no new one is started, those in flight are awaited (they
        are paid for), and then StageError is raised. Closing the generator cancels all.
        """
        if not self._texts and any(request.token_ids for request in requests):
            raise UsageError(
                "An API model is asked with messages, not with token ids.",
                where=repr(self),
                hint="for a prompt that is already templated: options: {endpoint: completions}, "
                "or a local engine",
            )
        if not requests:
            return
        if self._loop is None:
            self._loop = LoopThread()
        job = Job(self, list(requests), sampling, arrived)
        cancel = self._loop.submit(job.run(), job.ended)
        running = True
        try:
            while (item := job.results.get()) is not None:
                yield item
            running = False
        finally:
            if running:
                # The consumer left early, or Ctrl-C: no task may outlive this call.
                cancel()
                while job.results.get() is not None:
                    pass
        if job.error is not None:
            raise job.error

    def close(self) -> None:
        """Close the connections; a second call does nothing."""
        if self._loop is not None:
            self._loop.finish(self.close_connections())
            self._loop = None

    async def close_connections(self) -> None:
        """Close all lanes, from within the loop that used them."""
        for lane in self._lanes:
            await lane.client.close()

    def body(self, request: Request, sampling: Sampling) -> dict[str, Any]:
        """What is sent for one request."""
        stops = sampling.stop
        body: dict[str, Any] = {"model": self.model}
        if not self._texts:
            body["messages"] = [message.to_json() for message in request.messages]
        elif request.token_ids:
            body["prompt"] = list(request.token_ids)
        else:
            body["prompt"] = plain_text(request.messages, self.options.template)
            stops = (*stops, *plain_stops(request.messages, self.options.template))
        body |= {
            "temperature": sampling.temperature,
            self._limit_field: sampling.max_tokens,
            "seed": request_seed(self.seed, sampling.seed, request.sample),
        }
        if sampling.top_p < 1:
            body["top_p"] = sampling.top_p
        if sampling.presence_penalty:
            body["presence_penalty"] = sampling.presence_penalty
        if stops:
            body["stop"] = list(stops[:MAX_STOPS])
        for name in self.options.omit:
            body.pop(name, None)
        return body | self.options.extra_body

    async def attempt(self, request: Request, sampling: Sampling) -> Completion | Problem:
        """Ask once."""
        path = "/completions" if self._texts else "/chat/completions"
        with self._lane() as client:
            try:
                async with asyncio.timeout(self._timeout):
                    response = await client.post(
                        path, body=self.body(request, sampling), cast_to=self._response
                    )
            except (TimeoutError, self._openai.OpenAIError) as error:
                return self.problem(error)
        self.limiter.heed(response.headers)
        return read_answer(response.content, sampling, self.clean)

    @contextlib.contextmanager
    def _lane(self) -> Iterator[Any]:
        """A client with room for one more connection."""
        lane = next((lane for lane in self._lanes if lane.busy < LANE), None)
        if lane is None:
            lane = _Lane(self._open_client())
            self._lanes.append(lane)
        lane.busy += 1
        try:
            yield lane.client
        finally:
            lane.busy -= 1

    def problem(self, error: Exception) -> Problem:
        """What an exception of the client means for the request."""
        if isinstance(error, TimeoutError | self._openai.APITimeoutError):
            return Problem(f"no answer within {self._timeout:g} s", "retry", overload=True)
        if isinstance(error, self._openai.APIStatusError):
            self.limiter.heed(error.response.headers)
            return self._status_problem(error)
        if isinstance(error, self._openai.APIConnectionError):
            cause = error.__cause__
            detail = f"{type(cause).__name__}: {cause}" if cause else str(error)
            text = self.clean(f"the connection failed ({detail})")
            return Problem(text, "retry", overload=True)
        return Problem(self.clean(f"{type(error).__name__}: {error}"), "retry")

    def _status_problem(self, error: Any) -> Problem:
        status = int(error.status_code)
        wait = retry_after(error.response.headers)
        code = str(getattr(error, "code", None) or "")
        return self._refusal(status, code, server_message(error), wait)

    def batch_problem(self, status: Any, body: Any) -> Problem:
        """Why a line of a batch has no answer: the status and body of its own response."""
        error = body.get("error", body) if isinstance(body, dict) else None
        detail = error if isinstance(error, dict) else {}
        code = str(detail.get("code") or "")
        message = str(detail.get("message") or body or "no explanation")
        if not isinstance(status, int):
            return Problem(self.clean(message), "prompt" if code in _PROMPT_CODES else "retry")
        return self._refusal(status, code, message, None)

    def _refusal(self, status: int, code: str, message: str, wait: float | None) -> Problem:
        text = self.clean(f"HTTP {status}: {message}")
        if status == 429 and code != "insufficient_quota":
            return Problem(text, "rate", wait=wait)
        if status >= 500 or status in (408, 409, 425):
            return Problem(text, "retry", wait=wait, overload=status >= 500)
        if code in _PROMPT_CODES or (status == 400 and _TOO_LONG in message):
            return Problem(text, "prompt")
        hint = _HINTS.get(status, "the server refuses such a request; see its message")
        return Problem(text, "fatal", hint=hint.format(env=self._key_variable))

    def clean(self, text: str) -> str:
        """The text without the key, should the server have echoed it; one line, not too long."""
        if self._key:
            text = text.replace(self._key, "***")
        line = " ".join(text.split())
        return line if len(line) <= 500 else line[:500] + " …"

    def failure(self, problem: Problem, attempts: int = 1) -> StageError:
        """The error that ends a request for good."""
        tried = f" after {attempts} attempts" if attempts > 1 else ""
        return StageError(
            f"The model {self.model} gave no answer{tried}: {problem.text}.",
            where=self.url,
            hint=problem.hint or "run again to go on; answers that arrived are kept",
        )


@dataclass(slots=True)
class _Lane:
    """A client with a pool of connections of its own."""

    client: Any
    busy: int = 0
