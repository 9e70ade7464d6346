"""Which of the five task groups a row belongs to, by a heuristic in English and Chinese.

    generation      a new text, plan, list or program; a summary; a translation
    understanding   reading: classification, extraction, judging what a text says or means
    reasoning       calculation, logic, proofs, puzzles, ordering, prediction
    dialogue        talk: role-play, advice, replies, questions of general knowledge; many turns
    transformation  the same content in another form: rewriting, conversion, correction

Rows that name their group (`meta.group`), or a category that published datasets use, need no
guess. For all others, patterns are tried in order on the instruction (its first lines), then the
opening verb decides, then the form of the sentence. The order goes from what hardly misleads
("in the passive voice") to what often does ("explain").
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from espalier.curate.group_words import CATEGORIES, PATTERNS, STRONG_VERBS, VERB_GROUPS
from espalier.curate.openings import english_opening
from espalier.records import Example, Message
from espalier.text import language

GROUPS = ("generation", "understanding", "reasoning", "dialogue", "transformation")
LOOKED_AT = 600


def group_of(row: Example) -> str:
    """The group of a row: `meta.group`, else what `meta.category` stands for, else a guess."""
    return known_group(row.meta) or task_group(row.prompt, row.prompt_messages)


def known_group(meta: Mapping[str, object]) -> str | None:
    """The group that a row's metadata state, None when they state none."""
    group = meta.get("group")
    if isinstance(group, str) and group.strip().lower() in GROUPS:
        return group.strip().lower()
    category = meta.get("category")
    if isinstance(category, str):
        name = re.sub(r"[\s-]+", "_", category.strip().lower())
        return name if name in GROUPS else CATEGORIES.get(name)
    return None


def task_group(prompt: str, messages: Sequence[Message] = ()) -> str:
    """The group of a task, from its prompt and the turns before it (system turn included).

    A conversation of two user turns or more is dialogue. Always one of `GROUPS`; where nothing
    speaks for any, dialogue (a plain question or remark).
    """
    if sum(message.role == "user" for message in messages) > 1:
        return "dialogue"
    text = prompt[:LOOKED_AT].strip()
    head, rest = _instruction(text)
    for part in (head, rest):
        if part:
            found = _of_patterns(part)
            if found is not None:
                return found
    return "understanding" if rest and len(rest) > 2 * len(head) else "dialogue"


def _instruction(text: str) -> tuple[str, str]:
    """The first paragraph, and what follows it (often the input)."""
    head, _, rest = text.partition("\n")
    return head.strip(), rest.strip()


def _of_patterns(text: str) -> str | None:
    """Role-play first; then the verbs that hardly mislead, the patterns, the other verbs."""
    if language(text) in ("zh", "ja"):
        return _first(PATTERNS["zh"], text)
    opening = english_opening(text)
    verb = opening.verb if opening is not None else ""
    return (
        _first(PATTERNS["en role"], text)
        or (STRONG_VERBS.get(verb) if not _first(PATTERNS["en exception"], text) else None)
        or _first(PATTERNS["en"], text)
        or VERB_GROUPS.get(verb)
    )


def _first(patterns: Sequence[tuple[str, re.Pattern[str]]], text: str) -> str | None:
    return next((group for group, pattern in patterns if pattern.search(text)), None)
