"""The worker processes of a sweep: started when first needed, given one task after another.

They hold the sweep's lock together with the command, end when it ends, and one that dies is
told of and replaced.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, Protocol

from espalier.errors import UsageError

# How long a worker may take to end when it is told to (engines of its own have to end first).
END_SECONDS = 10.0


@dataclass(frozen=True)
class Reply:
    """What a worker said; `died` is the exit code (negative: a signal) of one that is gone."""

    slot: int
    said: Mapping[str, Any]
    died: int | None = None


class Workers(Protocol):
    """Something that does tasks, one at a time in each of `count` slots."""

    count: int

    def send(self, slot: int, task: Mapping[str, Any]) -> None:
        """Begin a task in a slot that has none."""
        ...

    def wait(self, seconds: float) -> list[Reply]:
        """What was said meanwhile; at most so many seconds are waited for it."""
        ...

    def stop(self) -> None:
        """End all workers, and what they do."""
        ...


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    tasks: IO[bytes]
    replies: IO[bytes]
    rest: bytes = b""
    fatal: bool = False


class Pool:
    """`count` slots for processes of this machine; one a GPU where there are several of both."""

    def __init__(self, count: int, lock: int) -> None:
        """`lock`: a descriptor that the workers keep open.

        Raises UsageError for more processes than GPUs.
        """
        self.count = count
        self._lock = lock
        self._workers: dict[int, _Worker] = {}
        self._gpus = visible_gpus() if count > 1 else []
        if self._gpus and count > len(self._gpus):
            raise UsageError(
                f"{count} processes need {count} GPUs, and there are {len(self._gpus)}.",
                hint=f"--processes {len(self._gpus)}, or hide the GPUs: CUDA_VISIBLE_DEVICES=",
            )

    def send(self, slot: int, task: Mapping[str, Any]) -> None:
        """Begin a task in a slot; its process is started where there is none."""
        worker = self._workers.get(slot)
        if worker is not None and worker.fatal:
            # It has said its last word; what it is given now would be lost without a word.
            _end(worker, END_SECONDS)
            worker = None
        if worker is None or worker.process.poll() is not None:
            worker = self._workers[slot] = self._start(slot)
        try:
            worker.tasks.write((json.dumps(task) + "\n").encode())
            worker.tasks.flush()
        except BrokenPipeError:
            # It has just died; `wait` tells of it.
            return

    def _start(self, slot: int) -> _Worker:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        environment = dict(os.environ)
        if self.count > 1:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (cores or 1) // self.count)))
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot]
        environment.pop("NPROC", None)
        process = subprocess.Popen(
            [sys.executable, "-m", "espalier.sweep_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            pass_fds=(self._lock,),
        )
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a process was started without its pipes")
        os.set_blocking(process.stdout.fileno(), False)
        return _Worker(process, process.stdin, process.stdout)

    def wait(self, seconds: float) -> list[Reply]:
        """What workers said, and which of them died."""
        with selectors.DefaultSelector() as selector:
            for worker in self._workers.values():
                selector.register(worker.replies, selectors.EVENT_READ)
            selector.select(seconds)
        replies: list[Reply] = []
        for slot, worker in list(self._workers.items()):
            # Asked before the pipe is read: what it said last is then in it. A process that it
            # left behind may keep the pipe open, so its end alone does not tell.
            ended = worker.process.poll() is not None
            said, closed = _read(worker)
            replies += [Reply(slot, one) for one in said]
            worker.fatal = worker.fatal or any(one.get("fatal") for one in said)
            if closed or ended:
                del self._workers[slot]
                code = _end(worker, END_SECONDS)
                if not worker.fatal:
                    replies.append(Reply(slot, {}, died=code))
        return replies

    def stop(self) -> None:
        """Tell all workers to end, and wait for them; a deaf one is killed."""
        for worker in self._workers.values():
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + END_SECONDS
        for worker in self._workers.values():
            _end(worker, max(0.0, deadline - time.monotonic()))
        self._workers.clear()


def _read(worker: _Worker) -> tuple[list[Mapping[str, Any]], bool]:
    """The whole lines that have come, and whether the pipe is closed."""
    while True:
        try:
            data = os.read(worker.replies.fileno(), 1 << 16)
        except BlockingIOError:
            closed = False
            break
        worker.rest += data
        if not data:
            closed = True
            break
    *lines, worker.rest = worker.rest.split(b"\n")
    return [json.loads(line) for line in lines], closed


def _end(worker: _Worker, seconds: float) -> int:
    """Wait for the process, at most so long, then kill it; returns its exit code."""
    try:
        code = worker.process.wait(seconds)
    except subprocess.TimeoutExpired:
        worker.process.kill()
        code = worker.process.wait()
    worker.tasks.close()
    worker.replies.close()
    return code


def visible_gpus() -> list[str]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, else those that the NVIDIA driver tells of."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    asked = subprocess.run(
        ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.split() if asked.returncode == 0 else []
