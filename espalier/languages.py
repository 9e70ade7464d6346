"""Which language is a text in? By script where that settles it, else by a bundled model.

Chinese, Japanese, Korean and Thai follow from their characters (`espalier.text.language`). For
Latin and the other scripts py3langid decides (naive Bayes over byte n-grams; Lui and Baldwin
2012), among the languages of that script alone. Texts too short to tell are said to be so.
"""

from __future__ import annotations

import copy
import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from espalier.errors import UsageError
from espalier.text import language

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

# Whose letters are Latin and that instruction data is published in; rarer ones would win over
# these on names, code and typing errors.
LATIN = (
    "af", "ca", "cs", "da", "de", "en", "es", "et", "eu", "fi", "fr", "ga", "gl", "hr", "hu", "id",
    "is", "it", "lt", "lv", "ms", "nl", "no", "pl", "pt", "ro", "sk", "sl", "sq", "sv", "sw", "tl",
    "tr", "vi",
)  # fmt: skip
OTHER_SCRIPTS = (
    "am", "ar", "be", "bg", "bn", "el", "fa", "gu", "he", "hi", "hy", "ka", "kk", "km", "kn", "lo",
    "mk", "ml", "mn", "mr", "my", "ne", "pa", "ps", "ru", "si", "sr", "ta", "te", "uk", "ur",
)  # fmt: skip
BY_SCRIPT = ("zh", "ja", "ko", "th")
LANGUAGES = tuple(sorted((*LATIN, *OTHER_SCRIPTS, *BY_SCRIPT)))

# A few words settle it, and the model's time grows with the text.
_READ = 200
_SHORTEST = 20
_CERTAIN = 0.6
# Words of English and of no other language of the list; so many of them need no model.
_ENGLISH = frozenset(
    (
        "the", "and", "of", "that", "this", "with", "what", "which", "you", "from", "are", "your",
        "how", "should", "would", "their", "they", "there", "following", "between", "because",
        "about", "each", "these", "those", "when", "where", "who", "why",
    )
)  # fmt: skip
_ENGLISH_SHARE = 0.15
_LETTERS = re.compile(r"[^\W\d_]+")
# Code, links and markup are in no language.
_MARKS = re.compile(r"[`<@_#{}=\\/]")
_NOISE = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|<[^<>\n]{1,200}>|(?<!\S)[^\s@_#{}=\\/]*[@_#{}=\\/]\S*", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Identified:
    """A language code (ISO 639-1) and its probability.

    Uncertain (`certain` false): too short, mixed, or no language at all, such as a formula or a
    list of names; then `code` is what the script suggests: `en` for Latin, `other` for any but
    Latin and those of Chinese, Japanese, Korean and Thai, `none` without letters.
    """

    code: str
    probability: float
    certain: bool


def identify(text: str) -> Identified:
    """The language of a text, from its beginning; the same on every machine."""
    sample = text[: 3 * _READ]
    if _MARKS.search(sample):
        sample = _NOISE.sub(" ", sample)
    sample = sample[:_READ]
    script = language(sample)
    if script in BY_SCRIPT:
        return Identified(script, 1.0, True)
    letters = _LETTERS.findall(sample)
    if not letters:
        return Identified("none", 0.0, False)
    if sum(map(len, letters)) < _SHORTEST:
        return Identified(script, 0.0, False)
    # Names and shouting look like other languages in capitals.
    words = [word.lower() for word in letters]
    if script == "en" and sum(word in _ENGLISH for word in words) > _ENGLISH_SHARE * len(words) + 1:
        return Identified("en", 1.0, True)
    code, probability = _model(LATIN if script == "en" else OTHER_SCRIPTS).classify(
        unicodedata.normalize("NFC", " ".join(words))
    )
    if probability < _CERTAIN:
        return Identified(script, float(probability), False)
    return Identified(str(code), float(probability), True)


def could_be(found: Identified, languages: list[str]) -> bool:
    """Whether a text may be in one of these languages: an uncertain one needs only the script."""
    if found.certain:
        return found.code in languages
    if found.code == "none":
        return True
    return any(name in (LATIN if found.code == "en" else OTHER_SCRIPTS) for name in languages)


def check_languages(languages: list[str], where: str) -> None:
    """Raise UsageError for a code that is never told."""
    for name in languages:
        if name not in LANGUAGES:
            raise UsageError(
                f"There is no language '{name}' to tell.",
                where=where,
                expected=", ".join(LANGUAGES),
            )


@cache
def _model(candidates: tuple[str, ...]) -> LanguageIdentifier:
    model = copy.copy(_whole_model())
    model.set_languages(candidates)
    return model


@cache
def _whole_model() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
