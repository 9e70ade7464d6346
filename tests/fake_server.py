"""A chat-completions server on 127.0.0.1 that fails as it is told: real sockets, no package."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """How to answer one request.

    `cut`: close the connection after that many bytes of the body. `body` replaces the JSON of a
    normal completion. `delay` is in seconds.
    """

    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: int | None = None
    finish_reason: str = "stop"


OK = Reply()
Plan = Callable[[int, dict[str, Any]], Reply]


def error_body(message: str, code: str | None = None) -> bytes:
    return json.dumps({"error": {"message": message, "type": "error", "code": code}}).encode()


def script(replies: Iterable[Reply]) -> Plan:
    """These replies in the order of arrival, then normal ones."""
    rest = iter(list(replies))
    return lambda number, body: next(rest, OK)


class FakeServer:
    """Use as a context manager; `url` is the base_url to give to an engine.

    `requests` are the bodies that arrived, `answered` counts the prompts of completions that
    were sent whole, `asked` those of all that arrived, `most_at_once` is the highest number
    of requests in progress.
    """

    def __init__(self, plan: Plan = lambda number, body: OK) -> None:
        self.plan = plan
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                fake._handle(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128

            def handle_error(self, request: Any, address: Any) -> None:
                pass  # a client that was killed

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> FakeServer:
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        with self._lock:
            number = len(self.requests)
            self.requests.append(body)
            self.headers.append({k.lower(): v for k, v in handler.headers.items()})
            self.times.append(time.monotonic())
            self.asked[prompt] += 1
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            reply = self.plan(number, body)
        try:
            time.sleep(reply.delay)
            self._send(handler, body, reply)
        finally:
            with self._lock:
                self._now -= 1
        if reply.status == 200 and reply.cut is None and reply.body is None:
            with self._lock:
                self.answered[prompt] += 1

    def _send(self, handler: BaseHTTPRequestHandler, body: dict[str, Any], reply: Reply) -> None:
        data = completion_body(body, reply.finish_reason) if reply.body is None else reply.body
        handler.send_response(reply.status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if reply.cut is not None:
            handler.wfile.write(data[: reply.cut])
            handler.close_connection = True
            return
        handler.wfile.write(data)


def answer_to(body: dict[str, Any]) -> str:
    """The text of a normal completion: a function of the prompt and the seed."""
    return f"answer to «{body['messages'][-1]['content']}» with seed {body.get('seed')}"


def completion_body(body: dict[str, Any], finish_reason: str) -> bytes:
    message = {"role": "assistant", "content": answer_to(body)}
    value = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
    }
    return json.dumps(value, ensure_ascii=False).encode()
