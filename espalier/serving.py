"""A model behind an OpenAI-compatible address of our own: transformers, or a safety filter.

Chat requests are read strictly: what would be ignored is refused by name. Answers to requests that
arrive together are made together. With a filter an answer is checked whole before any of it is
sent, so a stream is one piece.
"""

from __future__ import annotations

import hmac
import json
import queue
import secrets
import socket
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from espalier.engines.base import Completion, Engine, Request, Sampling
from espalier.errors import EspalierError, UsageError
from espalier.records import Message, Messages
from espalier.safety import SafetyFilter

MOST_BYTES = 16 * 2**20
# Answers of one pass of a local engine.
MOST_TOGETHER = 64


class _Turn(BaseModel):
    model_config = ConfigDict(extra="ignore")

    role: str = Field(pattern="^(system|developer|user|assistant)$")
    content: str | list[dict[str, Any]]

    def message(self) -> Message:
        role = "system" if self.role == "developer" else self.role
        if isinstance(self.content, str):
            return Message(role, self.content)  # type: ignore[arg-type]
        if any(part.get("type") != "text" for part in self.content):
            raise ValueError("only parts of type text can be read")
        text = "".join(str(part.get("text", "")) for part in self.content)
        return Message(role, text)  # type: ignore[arg-type]


class ChatRequest(BaseModel):
    """What a chat request may hold; anything else is refused by name."""

    model_config = ConfigDict(extra="forbid")

    # What changes no answer.
    IGNORED: ClassVar[frozenset[str]] = frozenset(
        (
            "model", "user", "metadata", "store", "service_tier", "stream_options",
            "safety_identifier", "prompt_cache_key", "parallel_tool_calls",
        )
    )  # fmt: skip
    # Settings that are not known here, with the value under which they do nothing.
    NEUTRAL: ClassVar[dict[str, Any]] = {
        "response_format": {"type": "text"},
        "tool_choice": "none",
        "modalities": ["text"],
        "repetition_penalty": 1,
        "top_k": -1,
    }

    messages: list[_Turn] = Field(min_length=1)
    temperature: float = Field(1.0, ge=0, le=10)
    top_p: float = Field(1.0, gt=0, le=1)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    stop: str | list[str] | None = None
    seed: int | None = None
    n: int = Field(1, ge=1, le=1)
    stream: bool = False

    def sampling(self, most: int) -> Sampling:
        """How to answer, with `most` tokens where the request does not say how many."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        # Without a seed every request draws anew.
        seed = secrets.randbits(31) if self.seed is None else self.seed
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_completion_tokens or self.max_tokens or most,
            stop=tuple(text for text in stop if text),
            presence_penalty=self.presence_penalty,
            seed=seed if self.temperature > 0 else 0,
        )


class Answering(Protocol):
    """What makes answers, for many threads at once."""

    def answer(self, request: Request, sampling: Sampling) -> Completion: ...

    def close(self) -> None: ...


class Together:
    """A local engine behind a queue: one thread asks it for all that is waiting with equal
    sampling settings."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(1)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def answer(self, request: Request, sampling: Sampling) -> Completion:
        """Raises what the engine raises."""
        made: Future[Completion] = Future()
        self._waiting.put((request, sampling, made))
        return made.result()

    def close(self) -> None:
        """Finish what is under way and give the engine's memory back."""
        self._waiting.put(None)
        self._thread.join()
        self._pool.shutdown()
        self.engine.close()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            taken = [first]
            while len(taken) < MOST_TOGETHER and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    self._waiting.put(None)
                    break
                taken.append(following)
            groups: dict[Sampling, list[_Waiting]] = {}
            for one in taken:
                groups.setdefault(one[1], []).append(one)
            for sampling, group in groups.items():
                self._answer(sampling, group)

    def _answer(self, sampling: Sampling, group: list[_Waiting]) -> None:
        # Whatever goes wrong belongs to those who wait; this thread has to live on.
        job = self._pool.submit(
            lambda: list(self.engine.generate([r for r, _, _ in group], sampling))
        )
        error = job.exception()
        for number, (_, _, made) in enumerate(group):
            if error is not None:
                made.set_exception(error)
            else:
                made.set_result(job.result()[number])


_Waiting = tuple[Request, Sampling, "Future[Completion]"]


class AtOnce:
    """An engine that takes many calls at once, as one that asks a server does."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def answer(self, request: Request, sampling: Sampling) -> Completion:
        """Raises what the engine raises."""
        [completion] = self.engine.generate([request], sampling)
        return completion

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()


class Guarded:
    """Answers behind a safety filter, or without one."""

    def __init__(self, answering: Answering, safety: SafetyFilter | None) -> None:
        self.answering = answering
        self.safety = safety

    def answer(self, messages: Messages, sampling: Sampling) -> tuple[Completion, str | None]:
        """The completion, and why the filter stopped question or answer (None: it did not)."""
        if self.safety is not None:
            reason = self.safety.stops_input(messages)
            if reason is not None:
                return Completion(self.safety.reply), f"input: {reason}"
        completion = self.answering.answer(Request(messages=messages), sampling)
        if self.safety is not None and completion.finish_reason != "error":
            reason = self.safety.stops_output(messages, completion.text)
            if reason is not None:
                return Completion(self.safety.reply, usage=completion.usage), f"output: {reason}"
        return completion, None


class ModelServer(ThreadingHTTPServer):
    """`/v1/models`, `/v1/chat/completions` and `/health`; `key` is asked for where it is set."""

    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        guarded: Guarded,
        *,
        name: str,
        key: str = "",
        most_tokens: int = 512,
    ) -> None:
        """Listens at once; raises OSError where the address is taken."""
        self.guarded = guarded
        self.name = name
        self.key = key
        self.most_tokens = most_tokens
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One line for what a request came to grief by: a client that left, memory that ran out."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            print(f"espalier: a request failed: {type(error).__name__}: {error}", file=sys.stderr)


def check_address(host: str, port: int) -> None:
    """Raise UsageError for an address that can't be listened on, or where somebody does."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            # Of a server that has just ended, connections may linger.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        raise UsageError(
            f"Port {port} of {host} can't be listened on: {error.strerror}.",
            expected="--host with an address of this machine, and a free --port (0 takes one)",
        ) from error


def url_of(host: str, port: int) -> str:
    """The base address that clients are given."""
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


class _Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class _Handler(BaseHTTPRequestHandler):
    server: ModelServer
    protocol_version = "HTTP/1.1"
    timeout = 600

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are nobody's business."""

    def do_GET(self) -> None:
        """Models and health."""
        try:
            if self.path == "/health":
                self._send(200, {"status": "ok"})
                return
            self._authorise()
            if self.path != "/v1/models":
                raise _Refusal(404, "there are /v1/models, /v1/chat/completions and /health")
            model = {"id": self.server.name, "object": "model", "owned_by": "espalier"}
            self._send(200, {"object": "list", "data": [model]})
        except _Refusal as refusal:
            self._refuse(refusal.status, str(refusal))

    def do_POST(self) -> None:
        """Chat."""
        try:
            body = self._body()
            self._authorise()
            if self.path != "/v1/chat/completions":
                raise _Refusal(404, "there is /v1/chat/completions")
            request, messages = self._chat(body)
            completion, stopped = self.server.guarded.answer(
                messages, request.sampling(self.server.most_tokens)
            )
        except _Refusal as refusal:
            self._refuse(refusal.status, str(refusal))
            return
        except EspalierError as error:
            self._refuse(500, error.what)
            return
        if completion.finish_reason == "error":
            self._refuse(500, completion.text)
        elif request.stream:
            self._stream(completion, stopped)
        else:
            self._send(200, _answer(self.server.name, completion, stopped))

    def _authorise(self) -> None:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.server.key and not hmac.compare_digest(given.encode(), self.server.key.encode()):
            raise _Refusal(401, "the key is missing or wrong")

    def _body(self) -> Any:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            self.close_connection = True
            raise _Refusal(413, f"a request needs a Content-Length of at most {MOST_BYTES} bytes")
        try:
            return json.loads(self.rfile.read(int(length)))
        except ValueError as error:
            raise _Refusal(400, "the request is not valid JSON") from error

    def _chat(self, body: Any) -> tuple[ChatRequest, Messages]:
        if isinstance(body, dict):
            named = body.get("model")
            if named is not None and named != self.server.name:
                raise _Refusal(404, f"the model here is '{self.server.name}'")
            body = {name: value for name, value in body.items() if _counts(name, value)}
        try:
            request = ChatRequest.model_validate(body)
            return request, tuple(turn.message() for turn in request.messages)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                raise _Refusal(400, f"'{where}' is not supported here") from error
            raise _Refusal(400, f"{where}: {first['msg']}") from error
        except ValueError as error:
            raise _Refusal(400, str(error)) from error

    def _stream(self, completion: Completion, stopped: str | None) -> None:
        whole = _answer(self.server.name, completion, stopped)
        [choice] = whole["choices"]
        piece = {"index": 0, "delta": choice["message"], "finish_reason": None}
        last = {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}
        events = [
            json.dumps({**whole, "object": "chat.completion.chunk", "choices": [one]})
            for one in (piece, last)
        ]
        text = "".join(f"data: {event}\n\n" for event in (*events, "[DONE]"))
        self._write(200, text.encode(), "text/event-stream")

    def _refuse(self, status: int, message: str) -> None:
        self._send(status, {"error": {"message": message, "type": "invalid_request_error"}})

    def _send(self, status: int, value: Any) -> None:
        self._write(status, json.dumps(value).encode(), "application/json")

    def _write(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _counts(name: str, value: Any) -> bool:
    """Whether a field of a request can change the answer."""
    if name in ChatRequest.IGNORED or value is None:
        return False
    known = name in ChatRequest.model_fields
    return known or not (value in (False, 0, [], {}) or value == ChatRequest.NEUTRAL.get(name))


def _answer(name: str, completion: Completion, stopped: str | None) -> dict[str, Any]:
    reason = "content_filter" if stopped else completion.finish_reason
    usage = completion.usage
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": name,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": completion.text},
                "finish_reason": reason,
            }
        ],
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        },
    }
