"""The teacher's part in self-chat: it plays the user, and answers what that user goes on to ask.

The next question is another task of the family of the last one behind an opening such as
"Thanks! One more:", so that its right answer is known.
"""

from __future__ import annotations

import re

from espalier.offline import evolving
from espalier.offline.answering import Reply, answer_task
from espalier.offline.families import solve
from espalier.offline.family import Language
from espalier.offline.hashing import Draws
from espalier.offline.instructions import compose
from espalier.offline.style import OfflineOptions

_SIMULATOR: dict[Language, tuple[str, re.Pattern[str]]] = {
    "en": ("Play the user in the dialogue below", re.compile(r"^\[User]\n", re.MULTILINE)),
    "zh": ("请扮演下面对话中的用户", re.compile(r"^【用户】\n", re.MULTILINE)),
}
_ASSISTANT = re.compile(r"^(?:\[Assistant]|【助手】)\n", re.MULTILINE)
_FOLLOW: dict[Language, tuple[str, ...]] = {
    "en": ("Thanks! One more: ", "Good. My next question: ", "Fine. And now this: "),
    "zh": ("谢谢！再来一个：", "好的，下一个问题：", "不错，那么这个呢："),
}
_LABELS: dict[Language, str] = {"en": "User: ", "zh": "用户："}
_END: dict[Language, str] = {"en": "[END]", "zh": "【结束】"}


def reply(prompt: str, draws: Draws, options: OfflineOptions) -> Reply | None:
    """The reply to a prompt of this method or a question that it led to; None for any other."""
    for language, (opening, turn) in _SIMULATOR.items():
        if prompt.startswith(opening) and turn.search(prompt):
            return _next_turn(prompt, language, turn, draws, options)
        task = _bare(prompt, language)
        if task != prompt:
            return evolving.reply(task, draws, options) or answer_task(task, "", draws, options)
    return None


def _next_turn(
    prompt: str, language: Language, turn: re.Pattern[str], draws: Draws, options: OfflineOptions
) -> Reply:
    if draws.uniform(0) < options.chat_end_rate:
        return Reply(_END[language])
    last = _ASSISTANT.split(turn.split(prompt)[-1], maxsplit=1)[0].strip()
    rng = draws.random()
    opening = rng.choice(_FOLLOW[language])
    task = _bare(last, language)
    evolved = evolving.read_evolved(task)
    solution = solve(evolved.task if evolved else task)
    following = solution.family.draw(rng)[0] if solution else compose(language, rng)
    label = _LABELS[language] if draws.uniform(1) < options.chat_label_rate else ""
    return Reply(label + opening + following)


def _bare(text: str, language: Language) -> str:
    """A follow-up question without its opening."""
    for opening in _FOLLOW[language]:
        text = text.removeprefix(opening)
    return text
