"""What a sweep says while it runs: a line a member, and on a terminal what is under way."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from espalier.progress import REDRAW_SECONDS, duration, say
from espalier.sweep_file import Member
from espalier.terminal import visible


class Board:
    """Counts finished members. The line of what is under way is for a terminal only."""

    def __init__(self, members: int) -> None:
        self.members = members
        self.ended = 0
        self.failures = 0
        self._drawn = 0.0
        self._live = sys.stderr.isatty()

    def finished(
        self, member: Member, seconds: float, ran: Sequence[str], took: Sequence[str]
    ) -> None:
        """Say that a member is done: what it ran itself, what others had made."""
        self.ended += 1
        told = f"done in {duration(seconds)}" if ran else "up to date"
        parts = [f"ran {', '.join(ran)}"] if ran else []
        parts += [f"shared {', '.join(took)}"] if ran and took else []
        self._say(member, told + (f" ({'; '.join(parts)})" if parts else ""))

    def failed(self, member: Member, log: Path) -> None:
        """Say where and why a member failed."""
        self.ended += 1
        self.failures += 1
        message = visible(member.error or "").replace("\n", "\n      ")
        self._say(member, f"failed at {member.stage}: {message}\n      output: {log}")

    def _say(self, member: Member, text: str) -> None:
        self.clear()
        width = len(str(self.members))
        say(f"[{self.ended:>{width}}/{self.members}] {member.name}: {text}")

    def draw(self, state: tuple[Sequence[str], float | None]) -> None:
        """Show what is under way, at most five times a second."""
        now = time.monotonic()
        if not self._live or now - self._drawn < REDRAW_SECONDS:
            return
        self._drawn = now
        under_way, left = state
        parts = [f"{self.ended}/{self.members} members", *under_way]
        if left is not None:
            parts.append(f"about {duration(left)} left")
        line = " · ".join(parts)[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write("\r\x1b[2K" + line)
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._live:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
