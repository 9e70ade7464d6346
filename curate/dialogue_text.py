"""Cleaning of the turns of copied dialogues: page remnants, HTML, repeats, order.

The ShareGPT dumps were copied from a chat page; what Vicuna's scripts clean out of them (HTML,
"Copy code" buttons, answer counters) is cleaned here, by rules that leave code alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from espalier.curate.config_dialogues import DialogueConfig
from espalier.curate.html_text import is_page, markdown
from espalier.records import Message

_BUTTON = r"(?:Copy code|复制代码|複製程式碼)"
_IN_FENCE = (
    # "```pythonCopy code"; "```python" and below it "Copy"; "```" and below it "pythonCopy code".
    (re.compile(rf"^(```+)[ \t]*([\w+#.-]*?)[ \t]*{_BUTTON}[ \t]*\n?", re.MULTILINE), r"\1\2\n"),
    (
        re.compile(
            rf"^(```+[ \t]*[\w+#.-]*)[ \t]*\n[ \t]*(?:{_BUTTON}|Copy|复制)[ \t]*\n", re.MULTILINE
        ),
        r"\1\n",
    ),
    (
        re.compile(rf"^(```+)[ \t]*\n[ \t]*([\w+#.-]+?)[ \t]*{_BUTTON}[ \t]*\n?", re.MULTILINE),
        r"\1\2\n",
    ),
)
_LINES = re.compile(
    rf"^[ \t]*(?:{_BUTTON}|Regenerate response|重新生成|Share Prompt|Copy\d+ chars / \d+ words|"
    r"Was this response better or worse\?.*|ChatGPT can make mistakes\..*|"
    r"Model: (?:Default|GPT-[\w. ()-]+))[ \t]*$\n?",
    re.MULTILINE,
)
# Which of the answers is shown, above its text.
_COUNTER = re.compile(r"\A\s*\d{1,2} / \d{1,2}[ \t]*\n+(?=\s*\S)")
_ZERO_WIDTH = re.compile("[\u200b\u2060\ufeff]")


def clean_turns(
    turns: Sequence[Message], config: DialogueConfig, note: Callable[[str], None]
) -> list[Message]:
    """The turns without what a page left in them, empty ones and repeats.

    `note` is told the name of each kind of change once. Order and roles are not looked at.
    """
    done: list[Message] = []
    seen: set[str] = set()

    def changed(kind: str) -> None:
        if kind not in seen:
            seen.add(kind)
            note(kind)

    pages = _pages(turns, config)
    for turn, page in zip(turns, pages, strict=True):
        text = turn.content
        if page:
            text = _told(markdown(text), text, "html", changed)
        if config.page_remnants:
            text = _told(without_remnants(text), text, "page_remnants", changed)
        if not text.strip():
            changed("empty_turn")
        elif done and done[-1].role == turn.role and done[-1].content.strip() == text.strip():
            changed("repeated_turn")
        else:
            done.append(Message(turn.role, text))
    return done


def _pages(turns: Sequence[Message], config: DialogueConfig) -> list[bool]:
    """Which turns are to be read as HTML.

    A user may ask about a piece of HTML; it is taken for a page's only where an answer is one.
    """
    if config.html != "auto":
        return [config.html == "always"] * len(turns)
    pages = [is_page(turn.content) for turn in turns]
    answered = any(p and t.role == "assistant" for p, t in zip(pages, turns, strict=True))
    return pages if answered else [False] * len(turns)


def _told(new: str, old: str, kind: str, changed: Callable[[str], None]) -> str:
    if new.strip() == old.strip():
        return old
    changed(kind)
    return new.strip()


def without_remnants(text: str) -> str:
    """The text without what a chat page puts around it: buttons, a counter ("2 / 3"), notes."""
    for pattern, kept in _IN_FENCE:
        text = pattern.sub(kept, text)
    pieces = re.split(r"(^```.*?^```[ \t]*$)", text, flags=re.DOTALL | re.MULTILINE)
    pieces[::2] = [_LINES.sub("", piece) for piece in pieces[::2]]
    return _ZERO_WIDTH.sub("", _COUNTER.sub("", "".join(pieces)))


def framed(turns: Sequence[Message], note: Callable[[str], None]) -> list[Message]:
    """System turns, then from the first question to the last answer; the rest is cut off."""
    start = next((i for i, turn in enumerate(turns) if turn.role == "user"), len(turns))
    end = next((i for i in range(len(turns), 0, -1) if turns[i - 1].role == "assistant"), 0)
    system = [turn for turn in turns[:start] if turn.role == "system"]
    if len(system) < start:
        note("leading_answer")
    if end < len(turns) and end > start:
        note("trailing_question")
    return [*system, *turns[start:end]]


def merged(turns: Sequence[Message]) -> list[Message]:
    """Turns of one role in a row as one, their texts in paragraphs."""
    done: list[Message] = []
    for turn in turns:
        if done and done[-1].role == turn.role:
            done[-1] = Message(turn.role, f"{done[-1].content}\n\n{turn.content}")
        else:
            done.append(turn)
    return done


def disorder(turns: Sequence[Message]) -> str | None:
    """What is wrong with the order of a dialogue; None where it is sound.

    Sound: at most one system turn, then user and assistant in turn, ending with the assistant.
    """
    body = turns[1:] if turns and turns[0].role == "system" else turns
    if not body:
        return "no question and answer"
    for place, turn in enumerate(body):
        if turn.role != ("user", "assistant")[place % 2]:
            before = f"after {body[place - 1].role}" if place else "first"
            return f"turn {place + 1} is {turn.role}, {before}"
    return None if len(body) % 2 == 0 else "the last question has no answer"
