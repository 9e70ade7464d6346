"""An OpenAI-like server on 127.0.0.1 that fails as it is told: real sockets, no package.

Chat completions, completions, files and batches.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
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

    def __init__(
        self,
        plan: Plan = lambda number, body: OK,
        answer: Callable[[dict[str, Any]], str] | None = None,
    ) -> None:
        self.plan = plan
        self.answer = answer or answer_to
        self.batches = Batches(self)
        self.usage: dict[str, int] | None = {"prompt_tokens": 7, "completion_tokens": 5}
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
                data = self.rfile.read(int(self.headers["Content-Length"]))
                path = self.path.removeprefix("/v1")
                if path.endswith("completions"):
                    fake._handle(self, json.loads(data))
                else:
                    fake.batches.post(self, path, data)

            def do_GET(self) -> None:
                fake.batches.get(self, self.path.removeprefix("/v1"))

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

    def arrive(self, body: dict[str, Any], headers: Mapping[str, str]) -> Reply:
        """Note a request; returns what the plan says about it."""
        with self._lock:
            number = len(self.requests)
            self.requests.append(body)
            self.headers.append({k.lower(): v for k, v in headers.items()})
            self.times.append(time.monotonic())
            self.asked[prompt_of(body)] += 1
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            return self.plan(number, body)

    def leave(self, body: dict[str, Any], reply: Reply) -> None:
        with self._lock:
            self._now -= 1
            if reply.status == 200 and reply.cut is None and reply.body is None:
                self.answered[prompt_of(body)] += 1

    def _handle(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        reply = self.arrive(body, dict(handler.headers.items()))
        try:
            time.sleep(reply.delay)
            self._send(handler, body, reply)
        except OSError:
            reply = Reply(cut=0)
            raise
        finally:
            self.leave(body, reply)

    def _send(self, handler: BaseHTTPRequestHandler, body: dict[str, Any], reply: Reply) -> None:
        data = self.completion(body, reply) if reply.body is None else reply.body
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

    def completion(self, body: dict[str, Any], reply: Reply) -> bytes:
        """The body of a normal answer."""
        text = self.answer(body)
        choice: dict[str, Any] = {"index": 0, "finish_reason": reply.finish_reason}
        if "messages" in body:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        value = {"id": "x", "object": "x", "created": 0, "model": body["model"]}
        value |= {"choices": [choice]}
        if self.usage is not None:
            value["usage"] = self.usage
        return json.dumps(value, ensure_ascii=False).encode()


class Batches:
    """Files and batches. A batch is done when it was looked at `polls` times.

    `lost`: so many `create` calls make their batch and then cut the connection. `ended` is the
    status that a batch ends with; `part` of its lines are answered then.
    """

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.files: dict[str, bytes] = {}
        self.made: dict[str, dict[str, Any]] = {}
        self.polls = 2
        self.lost = 0
        self.ended = "completed"
        self.part = 1.0
        self._lock = threading.Lock()

    def post(self, handler: BaseHTTPRequestHandler, path: str, data: bytes) -> None:
        with self._lock:
            if path == "/files":
                boundary = handler.headers["Content-Type"].split("boundary=")[1].encode()
                parts = [p for p in data.split(b"--" + boundary) if b"filename=" in p]
                value = {"id": self._store(parts[0].split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n"))}
                _send_json(handler, value)
                return
            body = json.loads(data)
            identity = f"batch-{len(self.made)}"
            self.made[identity] = {
                "id": identity,
                "object": "batch",
                "status": "in_progress",
                "looked": 0,
                **body,
            }
            if self.lost:
                self.lost -= 1
                handler.close_connection = True
                return
            _send_json(handler, self.made[identity])

    def get(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        with self._lock:
            parts = path.partition("?")[0].strip("/").split("/")
            if parts[0] == "files":
                _send(handler, 200, self.files[parts[1]])
            elif len(parts) == 1:
                _send_json(handler, {"object": "list", "data": list(self.made.values())})
            elif parts[1] not in self.made:
                _send(handler, 404, error_body("no such batch"))
            else:
                batch = self.made[parts[1]]
                batch["looked"] += 1
                if batch["looked"] >= self.polls and batch["status"] == "in_progress":
                    self._finish(batch)
                _send_json(handler, batch)

    def _store(self, content: bytes) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return name

    def _finish(self, batch: dict[str, Any]) -> None:
        lines = self.files[batch["input_file_id"]].splitlines()
        good, bad = b"", b""
        for line in lines[: math.ceil(len(lines) * self.part)]:
            value = json.loads(line)
            reply = self.server.arrive(value["body"], {})
            content = self.server.completion(value["body"], reply)
            self.server.leave(value["body"], reply)
            answer = {
                "custom_id": value["custom_id"],
                "response": {
                    "status_code": reply.status,
                    "body": json.loads(content if reply.body is None else reply.body),
                },
                "error": None,
            }
            # A batch's results come in no order.
            text = json.dumps(answer).encode() + b"\n"
            good, bad = (text + good, bad) if reply.status == 200 else (good, text + bad)
        batch |= {"status": self.ended, "output_file_id": self._store(good) if good else None}
        batch["error_file_id"] = self._store(bad) if bad else None


def _send(handler: BaseHTTPRequestHandler, status: int, data: bytes) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def _send_json(handler: BaseHTTPRequestHandler, value: Any) -> None:
    _send(handler, 200, json.dumps(value).encode())


def prompt_of(body: dict[str, Any]) -> str:
    """The last message, or the text to continue."""
    if "messages" in body:
        return str(body["messages"][-1]["content"])
    return str(body["prompt"])


def answer_to(body: dict[str, Any]) -> str:
    """The text of a normal completion: a function of the prompt and the seed."""
    return f"answer to «{prompt_of(body)}» with seed {body.get('seed')}"
