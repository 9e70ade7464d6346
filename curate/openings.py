"""What an instruction asks for first: its opening verb and that verb's object noun.

The figure of Self-Instruct (Wang et al. 2023, fig. 3) comes from a dependency parser. Here two
heuristics stand in for one, so that no model has to be downloaded. They look at the first
sentence that has such a verb, and would rather say nothing than guess:

English: polite and framing openings are skipped ("please", "can you", "your task is to",
"given the text,"). The verb is the first word when it is one of the listed imperatives, or the
word after the subject of a question ("how do I clean …" is clean). The object is the head noun,
singular, of the phrase behind the verb: the last word before a preposition, a conjunction, a
clause or punctuation. Other questions count under their question word ("what is" + noun).

Chinese: words and their classes are jieba's. The verb is the first verb of the first clause that
is a request or a question, auxiliaries left out; the object is the noun behind it (behind the last
的 of the phrase; of several nouns in a row the last), or the noun between 把 or 将 and the verb.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from espalier.curate.opening_words import (
    ADJECTIVE_ENDINGS,
    AUXILIARIES,
    BREAKS_ZH,
    DETERMINERS,
    NO_PLURAL,
    NO_VERBS_ZH,
    PARTICLES,
    PHRASE_ENDS,
    PRONOUNS,
    RECIPIENTS,
    SKIPPED,
    VERBS,
    VERBS_ZH,
    WH_WORDS,
    WH_WORDS_ZH,
)

LOOKED_AT = 400
LOOKED_AT_ZH = 60


class Opening(NamedTuple):
    """The verb in its base form, and its object noun where one was found."""

    verb: str
    noun: str | None


_SENTENCE = re.compile(r"[^.!?\n:]+[.!?:]?")
_WORD = re.compile(r"[A-Za-z]+(?:['\u2019-][A-Za-z]+)*|\d+(?:[.,]\d+)*|[^\sA-Za-z\d]")
_FRAMES = re.compile(
    r"(?ix)^\W*(?:\d+[.)]\s*|[-*•]\s*)?(?:(?:"
    r"please|kindly|now|then|next|first(?:ly)?|finally|also|simply|just|and|so|ok|okay|hi|hello|hey"
    r"|(?:can|could|would|will)\s+you(?:\s+please)?|would\s+you\s+mind"
    r"|(?:i|we)(?:\s+would|'d|\u2019d)?\s+(?:want|need|like|ask)\s+you\s+to"
    r"|your\s+(?:task|job|goal|role|mission|aim)\s+is\s+to|the\s+(?:task|goal)\s+is\s+to"
    r"|you(?:\s+are|'re|\u2019re|\s+will\s+be)\s+(?:asked|required|expected|supposed|going)\s+to"
    r"|you\s+(?:will|should|must|have\s+to|need\s+to)(?!\s+be\b)"
    r"|(?:i|we)\s+(?:want|need|wish|have|would\s+like)\s+to|i(?:'d|\u2019d)\s+like\s+to"
    r"|help\s+(?:me|us|them)(?:\s+to)?|let(?:'s|\u2019s|\s+us)|try\s+to|make\s+sure\s+to"
    r"|go\s+ahead\s+and|be\s+sure\s+to|it\s+is\s+your\s+job\s+to"
    r")\b[\s,]*)*"
)
# A clause that frames the instruction: it ends with the first comma.
_LEAD_IN = re.compile(
    r"(?i)^(?:given|in|based|using|for|if|without|with|as|from|at|on|when|after|before|by|to"
    r"|according|imagine|suppose|assuming|considering|speaking|following|taking|while|under)\b"
    r"[^,:]{0,160}[,:]\s*"
)

_FRAMES_ZH = re.compile(
    r"^[\s\d.、)）]*(?:(?:请问|请你|请您|麻烦你?|帮我|帮忙|能否|你能|您能|我想|我需要|我要)\s*)*"
    r"(?:请?以.{1,20}?为(?:题|主题|背景|开头|例|标题)[，,]?)?(?:请|你来)?"
)
_QUOTED_ZH = re.compile(r"“[^”]{0,40}”|《[^》]{0,40}》|‘[^’]{0,40}’")
_CLAUSE_ZH = re.compile(r"[，。！？；：,!?;:\n]+")


def opening(text: str, language: str) -> Opening | None:
    """The opening of an instruction, None where none was recognised.

    `language` is `zh` for the Chinese heuristic; any other name means the English one.
    """
    return _chinese(text) if language == "zh" else english_opening(text)


def english_opening(text: str) -> Opening | None:
    """The opening of an English instruction (no word lists are loaded for it)."""
    text = text[:LOOKED_AT]
    for sentence in _sentences(text):
        words = [word.lower().replace("\u2019", "'") for word in _WORD.findall(sentence)]
        found = _imperative(words) or _question(words)
        if found is not None:
            return found
    return None


def _sentences(text: str) -> Iterator[str]:
    """The first sentences without what frames them; one with a lead-in both ways."""
    for match in list(_SENTENCE.finditer(text))[:4]:
        sentence = _unframed(match.group())
        yield sentence
        behind = _LEAD_IN.sub("", sentence, count=1)
        if behind != sentence:
            yield _unframed(behind)


def _unframed(sentence: str) -> str:
    return _FRAMES.sub("", sentence, count=1)


def _imperative(words: Sequence[str]) -> Opening | None:
    start = 0
    while start < len(words) and (words[start].endswith("ly") or words[start] in SKIPPED):
        if words[start] in VERBS:
            break
        start += 1
    if start >= len(words) or words[start] not in VERBS:
        return None
    return Opening(words[start], _object(words[start + 1 :]))


def _question(words: Sequence[str]) -> Opening | None:
    """A verb behind the subject pronoun of a question, else its question word."""
    if not words or (words[0] not in WH_WORDS and words[0] not in AUXILIARIES):
        return None
    for place, word in enumerate(words[:8]):
        if word in PRONOUNS and place and words[place - 1] in AUXILIARIES:
            rest = words[place + 1 : place + 3]
            for offset, verb in enumerate(rest):
                if verb in VERBS:
                    return Opening(verb, _object(words[place + 2 + offset :]))
            break
    if words[0] in AUXILIARIES:
        return Opening(words[0], None)
    if len(words) > 1 and words[1] in AUXILIARIES:
        return Opening(f"{words[0]} {words[1]}", _object(words[2:]))
    asks_for_subject = words[0] in ("what", "who") and len(words) > 1
    if asks_for_subject and _singular(words[1]) in VERBS:  # "What describes …"
        return Opening(words[0], None)
    # The noun of a question stands in front of its verb: "which words describe …".
    end = next((i for i, word in enumerate(words[2:], 2) if _singular(word) in VERBS), len(words))
    return Opening(words[0], _object(words[1:end]))


def _object(words: Sequence[str]) -> str | None:
    """The head noun of the phrase that `words` begin with, singular."""
    start = 0
    while start < len(words) and words[start] in PARTICLES:
        start += 1
    if start < len(words) and words[start] in RECIPIENTS:
        start += 1
    head: str | None = None
    for place, word in enumerate(words[start:]):
        if word in DETERMINERS or word[0].isdigit():
            if head is not None:
                break
            continue
        if word in PHRASE_ENDS or not word[0].isalpha():
            # "a short, funny story": a comma between adjectives does not end the phrase.
            if word == "," and head is not None and _adjective(head) and place < 6:
                continue
            break
        if head is not None and (word.endswith("ly") or _participle(word, words, start + place)):
            break
        head = word
    return _singular(head) if head is not None and not head.endswith("ly") else None


def _adjective(word: str) -> bool:
    return word.endswith(ADJECTIVE_ENDINGS) or word in SKIPPED


def _participle(word: str, words: Sequence[str], place: int) -> bool:
    """Whether a word begins a clause behind the noun: "the text *describing* …"."""
    behind = words[place + 1] if place + 1 < len(words) else ""
    return word.endswith(("ing", "ed")) and behind in (PHRASE_ENDS | DETERMINERS)


def _singular(word: str) -> str:
    word = word.removesuffix("'s")
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word in NO_PLURAL:
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes", "zes")):
        return word[:-2]
    return word[:-1]


def _chinese(text: str) -> Opening | None:
    plain = _FRAMES_ZH.sub("", _QUOTED_ZH.sub("它", text[:LOOKED_AT_ZH]), count=1)
    for clause in _CLAUSE_ZH.split(plain)[:4]:
        words = [(word, flag) for word, flag in _words_zh(clause) if not word.isspace()]
        start = next((i + 1 for i, (word, _) in enumerate(words) if word == "请"), 0)
        found = _clause_zh(words[start:])
        if found is not None:
            return found
    return None


def _clause_zh(words: Sequence[tuple[str, str]]) -> Opening | None:
    """The verb of a clause that is a request or a question; None for a statement."""
    asked = next((word for word, _ in words if word in WH_WORDS_ZH), None)
    begins = next((flag for word, flag in words if word not in NO_VERBS_ZH), "")
    statement = begins[:1] in ("n", "r", "t", "m") and words[0][1] != "p" and asked is None
    moved: int | None = None  # the place of 把 or 将: the object stands before the verb
    for place, (word, flag) in enumerate(words):
        if word in ("把", "将"):
            moved = place
        elif _verb_zh(word, flag, place == 0) and not _modifies(words, place):
            if statement and moved is None and words[0][0] not in NO_VERBS_ZH:
                return None
            if moved is not None:
                return Opening(word, _noun_zh(words[moved + 1 : place]))
            return Opening(word, _noun_zh(words[place + 1 :]))
    if asked is None:
        return None
    return Opening(asked, _noun_zh(words[[word for word, _ in words].index(asked) + 1 :]))


def _verb_zh(word: str, flag: str, first: bool) -> bool:
    if word in NO_VERBS_ZH or word[0] in "请所":
        return False
    return word in VERBS_ZH or flag in ("v", "vi", "vg") or (first and flag == "vn")


def _modifies(words: Sequence[tuple[str, str]], place: int) -> bool:
    """Whether the verb belongs to a noun behind 的 or 者 ("所给的词语")."""
    return place + 1 < len(words) and words[place + 1][0] in ("的", "者")


def _noun_zh(words: Sequence[tuple[str, str]]) -> str | None:
    """The head noun of a phrase: behind its last 的, of several nouns in a row the last."""
    end = next((i for i, (word, _) in enumerate(words) if word in BREAKS_ZH), len(words))
    if not end and words:  # "转换为繁体字"
        return _noun_zh(words[1:])
    phrase = words[:end]
    behind = max((i + 1 for i, (word, _) in enumerate(phrase) if word == "的"), default=0)
    for part in (phrase[behind:], phrase[:behind]):
        found: str | None = None
        for place, (word, flag) in enumerate(part):
            last = place == len(part) - 1
            if flag[:1] == "n" or flag == "vn" or (flag == "eng" and len(word) > 1):
                found = word
            elif last and len(word) > 1 and (found or place) and flag in ("v", "i", "l", "j"):
                found = word  # "商品介绍": a verb that ends the phrase is a noun there
            elif found is not None:
                break
        if found is not None:
            return found
    return None


def _words_zh(text: str) -> Iterator[tuple[str, str]]:
    """Words with their classes; of "翻译成" and the like the verb alone."""
    for pair in _tagger().cut(text):
        base = pair.word.removesuffix("成").removesuffix("为")
        if base != pair.word and base in VERBS_ZH:
            yield base, "v"
        else:
            yield pair.word, pair.flag


@cache
def _tagger() -> Any:
    """jieba's tagger with its own dictionary, quiet; loading it takes about a second."""
    import jieba
    import jieba.posseg

    jieba.setLogLevel(logging.WARNING)
    return jieba.posseg.POSTokenizer(jieba.Tokenizer())
