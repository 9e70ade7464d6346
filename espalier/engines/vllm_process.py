"""Starting and ending the process that vLLM runs in; waiting for it; what its log says.

The process gets a session of its own (so that Ctrl-C at the terminal reaches only Espalier, which
then ends it), an environment of its own, and its output goes to a file.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from espalier.errors import MissingExtra, StageError
from espalier.progress import duration

CHILD = Path(__file__).with_name("vllm_child.py")
# Set to anything, vLLM's log is full and kept, and its place is said.
DEBUG = "ESPALIER_DEBUG"
END_SECONDS = 10.0
LOG_LINES = 12


def require_vllm(instead: str = "engine: transformers") -> None:
    """Raises MissingExtra where vLLM is not installed; `instead` is what does without it."""
    if not has_vllm():
        raise MissingExtra(
            "The vLLM engine needs the package 'vllm', which is not installed here.",
            where=sys.executable,
            hint=f"make setup-vllm, then use .venv-vllm/bin/espalier; or {instead}",
        )


def has_vllm() -> bool:
    """Whether vLLM is installed (it is not imported)."""
    return importlib.util.find_spec("vllm") is not None


def has_gpu() -> bool:
    """Whether a GPU can be expected to work, without importing torch."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    return shutil.which("nvidia-smi") is not None and Path("/dev/nvidiactl").exists()


class VLLMProcess:
    """One process of `vllm_child.py`.

    `hint` is what `failure` advises. `alive` while it runs. `close` ends it and all that it
    started; a second call does nothing.
    """

    def __init__(
        self,
        mode: str,
        words: Sequence[str],
        *,
        environment: Mapping[str, str | None],
        pass_fds: Sequence[int] = (),
        log: Path | None = None,
        hint: str | None = None,
    ) -> None:
        require_vllm()
        self._hint = hint or (
            "too little memory? lower options.kv_cache_gib or max_model_len; "
            "the whole log is kept; answers that arrived are kept too"
        )
        self.log = log or _log_file()
        self._keep_log = log is not None or bool(os.environ.get(DEBUG))
        self._over = False
        temporary = None if self._keep_log else str(self.log)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(CHILD), str(os.getpid()), mode, *words],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment({**environment, "ESPALIER_VLLM_TEMPORARY_LOG": temporary}),
                pass_fds=pass_fds,
                start_new_session=True,
            )
        if os.environ.get(DEBUG):
            print(f"vLLM's log: {self.log}", file=sys.stderr)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return not self._over and self._process.poll() is None

    def write(self, data: bytes) -> None:
        """Send to its standard input; raises StageError when it has ended."""
        assert self._process.stdin is not None  # it was opened as a pipe
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise self.failure("ended") from error

    def failure(self, what: str, *, hint: str | None = None) -> StageError:
        """The error that says that vLLM `what`, with the end of its log; the log is kept.

        The process counts as ended from then on.
        """
        self._keep_log = self._over = True
        tail = "\n".join(self._last_lines())
        return StageError(
            f"vLLM {what}."
            + (f" The end of its log:\n{tail}\n" if tail else " Its log is empty.\n"),
            where=str(self.log),
            hint=hint or self._hint,
        )

    def _last_lines(self) -> list[str]:
        text = self.log.read_text(encoding="utf-8", errors="replace")
        lines = [line.rstrip() for line in text.splitlines() if line.strip()]
        return ["    " + line[:300] for line in lines[-LOG_LINES:]]

    def close(self) -> None:
        """End it and what it started, and remove its log unless it is wanted."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(OSError):  # it may have ended already
                self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        # Whatever is left of its group, also after it has ended by itself.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if not self._keep_log:
            self.log.unlink(missing_ok=True)


class Waiting:
    """A line on a terminal that says how long something takes already."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._start = time.monotonic()
        self._live = sys.stderr.isatty()

    def __enter__(self) -> Waiting:
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def show(self) -> None:
        if self._live:
            sys.stderr.write(f"\r\x1b[2K{self.label}: {duration(self.seconds)}")
            sys.stderr.flush()


def _log_file() -> Path:
    descriptor, name = tempfile.mkstemp(prefix="espalier-vllm-", suffix=".log")
    os.close(descriptor)
    return Path(name)


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """Ours, quiet, without reports to anyone, then `changes` (None takes a variable away)."""
    values: dict[str, str | None] = {
        "VLLM_LOGGING_LEVEL": "INFO" if os.environ.get(DEBUG) else "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        **os.environ,
        **changes,
    }
    return {name: value for name, value in values.items() if value is not None}
