"""The teacher's part in self-chat."""

from __future__ import annotations

from espalier.offline.answering import Reply
from espalier.offline.hashing import Draws
from espalier.offline.style import OfflineOptions


def reply(prompt: str, draws: Draws, options: OfflineOptions) -> Reply | None:
    """The reply to a prompt of this method; None for any other text."""
    return None
