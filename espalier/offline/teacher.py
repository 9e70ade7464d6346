"""The embedded teacher: answers the text of a prompt, with deliberate faults at known rates."""

from __future__ import annotations

from collections.abc import Callable

from espalier.offline import chatting, evolving, lists, revising
from espalier.offline.answering import Reply, answer_task
from espalier.offline.hashing import Draws
from espalier.offline.style import OfflineOptions

# Each knows the prompts of one method by their fixed texts and passes on any other.
_METHODS: tuple[Callable[[str, Draws, OfflineOptions], Reply | None], ...] = (
    lists.reply,
    evolving.reply,
    chatting.reply,
    revising.reply,
)


def answer(prompt: str, draws: Draws, options: OfflineOptions) -> Reply:
    """Answer a prompt by what its text is: a method's prompt, else a task to solve.

    Every random choice comes from `draws`.
    """
    for method in _METHODS:
        reply = method(prompt, draws, options)
        if reply is not None:
            return reply
    return answer_task(prompt, "", draws, options)
