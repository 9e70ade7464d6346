"""The cost of the client: 256 requests at once against a server that answers each after a second.

The server is a process of its own on raw sockets, so that it is not what limits. Every answer goes
through the journal, fsynced as always. The goal is 90 % of what a client that costs nothing could
reach (256 requests a second); the ceiling is measured against a server that answers at once.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import openai  # noqa: F401  (its import takes a second, once a process)
from machine import RESULTS, header, write

from espalier.engines import open_engine
from espalier.engines.base import EngineSpec, Request, Sampling

AT_ONCE = 256
KEY = "ESPALIER_BENCH_KEY"
# About what a request for new instructions and its answer hold.
PROMPT = "Come up with a series of new tasks like these ones. " * 40
ANSWER = "A task of some words, and then another one of about that length. " * 20


class Answering(asyncio.Protocol):
    """Answers each request on a connection after a delay, with the same body."""

    def __init__(self, delay: float, response: bytes) -> None:
        self.delay = delay
        self.response = response
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.index(b"content-length:") + len(b"content-length:")
            size = int(head[at:].split(b"\r\n", 1)[0])
            if len(self.buffer) < end + 4 + size:
                return
            self.buffer = self.buffer[end + 4 + size :]
            loop = asyncio.get_running_loop()
            if self.delay:
                loop.call_later(self.delay, self.transport.write, self.response)
            else:
                self.transport.write(self.response)


async def serve(delay: float) -> None:
    message = {"role": "assistant", "content": ANSWER}
    value = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 400, "completion_tokens": 260, "total_tokens": 660},
    }
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    response = head.encode() + b"\r\n" + body
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answering(delay, response), "127.0.0.1", backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Server:
    """The server in a process of its own."""

    def __init__(self, delay: float) -> None:
        command = [sys.executable, __file__, "--serve", str(delay)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}/v1"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        self.process.communicate()


def ask(url: str, count: int, concurrency: int | str, *, journal: bool = True) -> dict[str, Any]:
    """Ask `count` different requests; the figures of the run."""
    spec = EngineSpec.model_validate(
        {
            "engine": "openai",
            "model": "m",
            "base_url": url,
            "api_key_env": KEY,
            "concurrency": concurrency,
            "max_concurrency": AT_ONCE,
        }
    )
    requests = [Request.of(f"{number}: {PROMPT}") for number in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl" if journal else None
        started, cpu = time.perf_counter(), time.process_time()
        ends: list[float] = []
        with closing(open_engine(spec, journal=path)) as engine:
            for _ in engine.generate(requests, Sampling(temperature=0.7, max_tokens=1024)):
                ends.append(time.perf_counter() - started)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    # Without the first and the last second or two, when not all places are taken.
    late = [end for end in ends if 2.0 <= end <= seconds - 1.5]
    steady = (len(late) - 1) / (late[-1] - late[0]) if len(late) > AT_ONCE else None
    return {
        "requests": count,
        "concurrency": concurrency,
        "journal": journal,
        "seconds": seconds,
        "per_second": count / seconds,
        "steady_per_second": steady,
        "cpu_ms_per_request": 1000 * cpu / count,
    }


def profile(url: str, count: int) -> list[tuple[str, float]]:
    """Seconds of own time by part of the code, over one run in this thread's event loop."""
    import threading

    profiles: list[cProfile.Profile] = []
    original = threading.Thread.run

    def run(thread: threading.Thread) -> None:
        if thread.name != "api":
            original(thread)
            return
        found = cProfile.Profile()
        profiles.append(found)
        found.runcall(original, thread)

    threading.Thread.run = run  # type: ignore[method-assign]
    try:
        ask(url, count, AT_ONCE)
    finally:
        threading.Thread.run = original  # type: ignore[method-assign]
    totals: dict[str, float] = {}
    stats: Any = pstats.Stats(profiles[0])
    for (file, _, name), (_, _, own, _, _) in stats.stats.items():
        if "epoll" not in name:
            part = part_of(file, name)
            totals[part] = totals.get(part, 0.0) + own
    return sorted(totals.items(), key=lambda pair: -pair[1])


def part_of(file: str, name: str) -> str:
    for package in ("openai", "httpx2", "httpcore2", "httpx", "httpcore", "h11", "anyio", "json"):
        if f"/{package}/" in file:
            return package
    if "/espalier/" in file:
        return f"espalier.{Path(file).stem}"
    if "/asyncio/" in file:
        return "asyncio"
    if "socket" in name or "posix" in name:
        return "sockets and files"
    return "built-in functions" if file == "~" else "other"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", type=float, metavar="SECONDS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        asyncio.run(serve(options.serve))
        return
    os.environ[KEY] = "none"
    load = os.getloadavg()[0]
    with Server(1.0) as server:
        fixed = [ask(server.url, 24 * AT_ONCE, AT_ONCE) for _ in range(2)]
        auto = ask(server.url, 24 * AT_ONCE, "auto")
    with Server(0.0) as server:
        ceiling = [ask(server.url, 6000, AT_ONCE, journal=kept) for kept in (True, False)]
        parts = profile(server.url, 3000)
    report(fixed, auto, ceiling, parts, load)


def report(
    fixed: list[dict[str, Any]],
    auto: dict[str, Any],
    ceiling: list[dict[str, Any]],
    parts: list[tuple[str, float]],
    load: float,
) -> None:
    rows = [("256 at once, answers after 1 s", run) for run in fixed]
    rows += [("concurrency: auto up to 256, answers after 1 s", auto)]
    rows += [("256 at once, answers at once", ceiling[0])]
    rows += [("the same without the journal", ceiling[1])]
    head = header("The client's own cost")
    lines = [line.replace(". Medians of 5 interleaved runs.", ".") for line in head]
    lines += [
        "`python benchmarks/bench_client.py`. Server in another process; "
        "each request has a prompt of 2 KB, each answer 1.3 KB; the journal is fsynced. Load "
        f"average of the machine before the start: {load:.1f} (other work takes its part).",
        "",
        "| run | requests | requests/s | of 256/s | steady requests/s | CPU ms a request |",
        "|---|---|---|---|---|---|",
    ]
    for name, run in rows:
        share = f"{run['per_second'] / AT_ONCE:.1%}" if "after" in name else "–"
        steady = run["steady_per_second"]
        lines.append(
            f"| {name} | {run['requests']:,} | {run['per_second']:.0f} | {share} | "
            f"{'–' if steady is None else f'{steady:.0f}'} | {run['cpu_ms_per_request']:.2f} |"
        )
    total = sum(seconds for _, seconds in parts)
    lines += [
        "",
        "Where the time of the event loop goes (own time under cProfile, which makes everything "
        "slower and small functions most): "
        + ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in parts[:10])
        + ".",
    ]
    write("client.md", lines)
    value = {"fixed": fixed, "auto": auto, "ceiling": ceiling, "profile": dict(parts), "load": load}
    (RESULTS / "client.json").write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
