"""One worker of a sweep (see `espalier.sweep_pool`): not called by hand.

Tasks come as JSON lines on standard input, replies go back on what was standard output; what a
stage prints goes to the member's `output.log`. At the end of the input the worker ends at once.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import signal
import sys
import threading
import traceback
from functools import cache
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from espalier import plain_yaml, provenance
from espalier.errors import EXIT_FAILED, EXIT_INTERRUPTED, EspalierError
from espalier.recipe import Recipe, recipe_from
from espalier.stages import stage_named
from espalier.sweep_file import MEMBERS
from espalier.sweep_stage import bring

LOG = "output.log"


class Channel:
    """Where replies go: what standard output was when the process started."""

    def __init__(self) -> None:
        self._file = os.dup(1)

    def send(self, reply: dict[str, Any]) -> None:
        """Write one reply at once."""
        os.write(self._file, (json.dumps(reply) + "\n").encode())


def main() -> int:
    """Do tasks until the input ends; returns the exit code after an interruption."""
    # Ctrl-C reaches the command that started this process, and it ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    channel = Channel()
    _write_to(Path(os.devnull))
    sys.excepthook = _teller(channel)
    tasks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(tasks,), daemon=True).start()
    try:
        while True:
            _do(tasks.get(), channel)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _do(task: dict[str, Any], channel: Channel) -> None:
    sweep = Path(task["sweep"])
    member = sweep / MEMBERS / task["member"]
    _write_to(member / LOG)
    stage = stage_named(task["stage"])
    try:
        brought = bring(
            sweep,
            member,
            stage,
            _recipe(task["recipe"]),
            store=task["store"],
            failed=task["failed"],
            source=_source(stage.runner),
            tell=lambda folder: channel.send({"at": folder}),
        )
    except EspalierError as error:
        print(error.render(), flush=True)
        channel.send({"error": error.render()})
    except OSError as error:
        traceback.print_exc()
        place = f" ({error.filename})" if error.filename else ""
        reason = error.strerror or str(error)
        channel.send({"error": f"The system refused a file operation: {reason}{place}."})
    else:
        channel.send(
            {"result": brought.result, "folder": brought.folder, "seconds": brought.seconds}
        )
    finally:
        sys.stdout.flush()
        _free()


@cache
def _recipe(text: str) -> Recipe:
    return recipe_from(plain_yaml.load(text))


@cache
def _source(runner: str) -> dict[str, str]:
    return provenance.source_hashes(runner)


def _free() -> None:
    """Give back the memory of a stage's models before the next stage asks for its own."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _write_to(path: Path) -> None:
    """Standard output and standard error go to the end of this file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def _read(tasks: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin.buffer:
        tasks.put(json.loads(line))
    # The command has ended, in whatever way.
    os._exit(EXIT_FAILED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _teller(channel: Channel) -> Any:
    """For an error that nothing foresaw: it is told, and the worker with whatever state it is in
    ends."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        traceback.print_exception(kind, error, trace)
        text = "".join(traceback.format_exception_only(kind, error)).strip()
        channel.send({"error": text, "fatal": True})

    return hook


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
