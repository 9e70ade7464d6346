"""Progress of long work with a rate and an ETA, on a terminal only; plain status lines."""

from __future__ import annotations

import sys
import time
from types import TracebackType

REDRAW_SECONDS = 0.2


def say(text: str) -> None:
    """Print one status line to standard output at once."""
    print(text, flush=True)


def duration(seconds: float) -> str:
    """`8.3 s`, `4 min 05 s` or `2 h 07 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


class Progress:
    """A line on standard error: label, done/total, rate, ETA and a note.

    Nothing is written when standard error is not a terminal. `done` counts from work found
    finished at the start (`initial`), which does not enter the rate.
    """

    def __init__(
        self, label: str, total: int | None = None, *, unit: str = "rows", initial: int = 0
    ) -> None:
        self.label = label
        self.total = total
        self.unit = unit
        self.done = initial
        self.note = ""
        self._initial = initial
        self._start = time.monotonic()
        self._drawn = 0.0
        self._live = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()

    def update(self, count: int = 1, note: str | None = None) -> None:
        """Count work done; redraws at most five times a second."""
        self.done += count
        if note is not None:
            self.note = note
        now = time.monotonic()
        if self._live and now - self._drawn >= REDRAW_SECONDS:
            self._drawn = now
            sys.stderr.write("\r\x1b[2K" + self.line(now))
            sys.stderr.flush()

    def line(self, now: float) -> str:
        """The text of the line at the monotonic time `now` (seconds)."""
        elapsed = max(now - self._start, 1e-9)
        rate = (self.done - self._initial) / elapsed
        parts = [f"{self.label}: {self.done:,}"]
        if self.total:
            parts[0] += f"/{self.total:,}"
        parts[0] += f" {self.unit}"
        if rate > 0:
            parts.append(f"{rate:,.1f} {self.unit}/s")
            if self.total and self.done < self.total:
                parts.append(f"{duration((self.total - self.done) / rate)} left")
        if self.note:
            parts.append(self.note)
        return " · ".join(parts)
