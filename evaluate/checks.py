"""Verifiable checks of answers: does it keep to the length, keywords, form, language asked for?

The idea, and the list of instructions, are IFEval's (Zhou et al. 2023); rows written for it
(`instruction_id_list` and `kwargs`) are read as they are. Words are those of `espalier.text`, so
that `at most 100 words` is 100 characters in Chinese. An answer without text passes no check.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from espalier.errors import InputError
from espalier.evaluate import config_checks as options
from espalier.evaluate.evalset import Row
from espalier.evaluate.ifeval import ifeval_checks
from espalier.json_answer import is_json
from espalier.language_names import language_code
from espalier.languages import LANGUAGES, could_be, identify
from espalier.text import length, ngrams, token_spans


@dataclass(frozen=True)
class NamedCheck:
    """A check with its validated options."""

    name: str
    options: options.Check

    def passes(self, answer: str) -> bool:
        """Whether the answer keeps to it."""
        return bool(answer.strip()) and bool(_CHECKS[self.name](self.options, answer))

    def passes_loosely(self, answer: str) -> bool:
        """Whether it does with the first or last line, or asterisks, left out (IFEval's loose)."""
        return any(self.passes(form) for form in loose_forms(answer))


def loose_forms(answer: str) -> list[str]:
    """The answer, and the same without its first line, its last, both, and without asterisks."""
    lines = answer.split("\n")
    forms = [answer, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*forms, *(form.replace("*", "") for form in forms)]


def checks_of(row: Row, common: Sequence[NamedCheck]) -> list[NamedCheck]:
    """The checks of a row: those of its meta, and the `common` ones.

    meta `checks`: a list of {"check": name, "options": {…}} (or the options beside the name).
    Raises InputError, naming the row, for what is no check.
    """
    try:
        own = [*_own(row.meta.get("checks")), *ifeval_checks(row.meta)]
        return [*(make_check(name, values) for name, values in own), *common]
    except ValueError as error:
        raise InputError(
            f"The checks of a row can't be read: {error}",
            where=f"row {row.id} of the set, meta",
            expected='"checks": [{"check": "words", "options": {"max": 100}}, …]',
        ) from error


def _own(value: Any) -> list[tuple[str, Any]]:
    if value is None:
        return []
    if isinstance(value, str):  # as CSV and Parquet files hold it
        value = json.loads(value)
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise ValueError("`checks` is no list of objects")
    found = []
    for item in value:
        rest = {key: given for key, given in item.items() if key != "check"}
        if rest.keys() == {"options"} and isinstance(rest["options"], Mapping):
            rest = dict(rest["options"])
        found.append((str(item.get("check")), rest))
    return found


def make_check(name: str, values: Any) -> NamedCheck:
    """A check by name and options; raises ValueError for what is none."""
    checked = options.check_options(name, values)
    if isinstance(checked, options.Language):
        code = language_code(checked.language)
        if code not in LANGUAGES:
            raise ValueError(
                f"there is no language '{checked.language}' to tell; there are: "
                + ", ".join(LANGUAGES)
            )
        checked = options.Language(language=code)
    return NamedCheck(name, checked)


# The checks --------------------------------------------------------------------------------

_SENTENCE_END = re.compile(r"[.!?…]+(?=[\s\"'”’)\]]|$)|[。！？｡]+")
_BULLET = re.compile(
    r"^[ \t　]*(?:[-*–][ \t]+|[•·・‣▪][ \t]*|\d+[.)、．][ \t]*(?!\d))\S", re.MULTILINE
)
_HIGHLIGHT = re.compile(r"\*\*[^*\n]+\*\*|(?<!\*)\*[^*\n]+\*(?!\*)")
_PLACEHOLDER = re.compile(r"\[[^\[\]\n]+\]|【[^【】\n]+】")
_TITLE = re.compile(r"<<[ \t]*[^\s<>][^\n<>]*>>|《[ \t]*[^\s《》][^\n《》]*》")
_QUOTES = {'"': '"', "“": "”", "'": "'", "‘": "’", "「": "」", "『": "』", "«": "»", "„": "“"}


def _folded(text: str, ignore_case: bool) -> str:
    folded = unicodedata.normalize("NFKC", text)
    return folded.casefold() if ignore_case else folded


def _holds(answer: str, text: str, *, ignore_case: bool, whole_words: bool) -> bool:
    answer, text = _folded(answer, ignore_case), _folded(text.strip(), ignore_case)
    words = _words(text) if whole_words else ()
    if not words:  # `C++` or `→` has no word that says all of it
        return bool(text) and text in answer
    return words in ngrams(_words(answer), len(words))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text[start:end] for _, start, end in token_spans(text))


def _keywords(o: options.Keywords, answer: str) -> bool:
    def there(text: str) -> bool:
        return _holds(answer, text, ignore_case=o.ignore_case, whole_words=o.whole_words)

    wanted = [there(text) for text in o.include]
    return (any(wanted) if o.any and wanted else all(wanted)) and not any(map(there, o.exclude))


def _frequency(o: options.Frequency, answer: str) -> bool:
    answer, text = _folded(answer, o.ignore_case), _folded(o.text.strip(), o.ignore_case)
    words = () if o.characters else _words(text)
    if not words:
        return o.holds(answer.count(text or o.text))
    return o.holds(ngrams(_words(answer), len(words)).count(words))


def _sentences(text: str) -> int:
    parts = _SENTENCE_END.split(text)
    return sum(length(part) > 0 for part in parts)


def _paragraphs(text: str, separator: str) -> list[str]:
    parts = text.split(separator) if separator else re.split(r"\n\s*\n", text)
    return [part.strip() for part in parts if part.strip()]


def _first_word(o: options.FirstWord, answer: str) -> bool:
    parts = _paragraphs(answer, o.separator)
    if len(parts) < o.paragraph or o.paragraphs not in (None, len(parts)):
        return False
    wanted = _words(_folded(o.word, True))
    return bool(wanted) and _words(_folded(parts[o.paragraph - 1], True))[: len(wanted)] == wanted


def _json(o: options.Json, answer: str) -> bool:
    return is_json(answer, kind=o.kind, keys=o.keys, fenced=o.fenced)


def _capital_words(answer: str) -> int:
    return sum(word.isupper() for word in re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", answer))


def _sections(o: options.Sections, answer: str) -> bool:
    marker = re.escape(o.marker.strip())
    return o.holds(len(re.findall(rf"{marker}\s*\d+", answer)))


def _quoted(_: options.Check, answer: str) -> bool:
    text = answer.strip()
    return len(text) > 1 and _QUOTES.get(text[0]) == text[-1]


def _case(o: options.Case, answer: str) -> bool:
    return answer.isupper() if o.case == "upper" else answer.islower()


def _two_answers(_: options.Check, answer: str) -> bool:
    parts = [part.strip() for part in answer.split("******")]
    parts = parts[1:] if not parts[0] else parts
    parts = parts[:-1] if parts and not parts[-1] else parts
    return len(parts) == 2 and all(parts) and parts[0] != parts[1]


def _starts(o: options.Text, answer: str) -> bool:
    return _folded(answer.strip(), True).startswith(_folded(o.text.strip(), True))


def _ends(o: options.Text, answer: str) -> bool:
    text = _folded(answer.strip().strip('"“”'), True)
    return text.endswith(_folded(o.text.strip(), True))


def _postscript(o: options.Text, answer: str) -> bool:
    marker = _folded(o.text.strip(), True).replace(" ", "")
    lines = [_folded(line, True).replace(" ", "") for line in answer.split("\n")]
    return any(line.startswith(marker) and line != marker for line in lines) or any(
        marker in line and not line.endswith(marker) for line in lines
    )


def _one_of(o: options.OneOf, answer: str) -> bool:
    return sum(_folded(text, False) in _folded(answer, False) for text in o.options) == 1


def _regex(o: options.Pattern, answer: str) -> bool:
    pattern = re.compile(o.pattern, re.IGNORECASE if o.ignore_case else 0)
    return (pattern.fullmatch(answer) if o.whole else pattern.search(answer)) is not None


def _bounded(count: Callable[[str], int]) -> Callable[[Any, str], bool]:
    return lambda o, answer: o.holds(count(answer))


_CHECKS: dict[str, Callable[[Any, str], bool]] = {
    "words": _bounded(length),
    "characters": _bounded(lambda answer: len(answer.strip())),
    "sentences": _bounded(_sentences),
    "lines": _bounded(lambda answer: sum(bool(line.strip()) for line in answer.split("\n"))),
    "paragraphs": lambda o, answer: o.holds(len(_paragraphs(answer, o.separator))),
    "first_word": _first_word,
    "keywords": _keywords,
    "frequency": _frequency,
    "language": lambda o, answer: could_be(identify(answer), [o.language]),
    "json": _json,
    "bullets": _bounded(lambda answer: len(_BULLET.findall(answer))),
    "highlights": _bounded(lambda answer: len(_HIGHLIGHT.findall(answer))),
    "placeholders": _bounded(lambda answer: len(_PLACEHOLDER.findall(answer))),
    "capital_words": _bounded(_capital_words),
    "sections": _sections,
    "title": lambda _, answer: _TITLE.search(answer) is not None,
    "quoted": _quoted,
    "no_commas": lambda _, answer: not re.search(r"[,，、،]", answer),
    "two_answers": _two_answers,
    "case": _case,
    "starts_with": _starts,
    "ends_with": _ends,
    "postscript": _postscript,
    "one_of": _one_of,
    "regex": _regex,
}
