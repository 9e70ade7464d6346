"""The eliminations of Evol-Instruct (Xu et al. 2023, arXiv 2304.12244, section 3.2).

An evolved instruction fails when (1) a judge says that it equals what it came from, (2) its
answer contains "sorry" and is short, (3) its answer is only punctuation and stop words, or (4)
it repeats words of the request to rewrite. (1) is asked in `evolve`; the others are here.
"""

from __future__ import annotations

import re
import unicodedata

from espalier.curate.config_evolve import EliminationConfig
from espalier.curate.stop_words import only_stop_words
from espalier.text import length

_SPACES = re.compile(r"\s+")


def leaked(evolved: str, origin: str, config: EliminationConfig) -> tuple[str, str] | None:
    """("leak", the phrase) when the evolved text repeats words of the request; else None.

    A phrase that the instruction held before it was evolved is not copied from the request.
    """
    if not config.leak:
        return None
    text, before = _plain(evolved), _plain(origin)
    for phrase in config.leak_phrases:
        pattern = _phrase(phrase)
        if pattern.search(text) and not pattern.search(before):
            return "leak", phrase
    return None


def failed_answer(answer: str, config: EliminationConfig) -> tuple[str, str] | None:
    """(rule, evidence) when the answer shows that the evolved instruction is no good."""
    if config.sorry:
        said = answer.lower()
        found = next((word for word in config.sorry_words if word.lower() in said), None)
        words = length(answer) if found else 0
        if found and words < config.sorry_below:
            return "sorry", f"'{found}' in an answer of {words} words: {answer}"
    if config.stop_words and only_stop_words(answer):
        return "stop_words_only", answer
    return None


def _plain(text: str) -> str:
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", text)).lower()


def _phrase(phrase: str) -> re.Pattern[str]:
    """A phrase as a pattern: at word borders where it begins or ends with a Latin letter."""
    plain = _plain(phrase.strip())
    left = r"\b" if plain[:1].isascii() and plain[:1].isalnum() else ""
    right = r"\b" if plain[-1:].isascii() and plain[-1:].isalnum() else ""
    return re.compile(left + re.escape(plain) + right)
