"""Rules on single rows. A rule returns what it saw when it rejects, else None."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from espalier.curate.config_filters import FilterConfig
from espalier.curate.pipeline import Step, Tally
from espalier.curate.repetition import SHORTEST, repeats
from espalier.languages import check_languages, could_be, identify
from espalier.records import Example, Messages
from espalier.refusals import disclaimer, is_refusal
from espalier.text import length, ngrams, normalise, tokens

Rule = Callable[[Example], str | None]

# A row with this in its meta is meant to be declined (safety training).
DECLINES = "declines"

# Tab, newline and carriage return are text; other controls, U+FFFD and lone surrogates are not.
_BROKEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffd\ud800-\udfff]")
_REPETITION_NGRAM = 4
# What is left of three bytes of nothing, read as GBK.
_REPLACED = "锟斤拷"
_LINK = re.compile(r"(?:https?|ftp)://[^\s<>\"'）】，。]+|\bwww\.[^\s<>\"'）】，。]+")
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,500}>|<!--.{0,2000}?-->", re.DOTALL)
# Punctuation of sentences in either language; everything else that is no letter is a symbol.
_SYMBOL = re.compile(r"[^\w\s.,;:!?'\"()\-…—–‘’“”，。；：！？、（）《》〈〉「」『』【】·]|_")


def rule_step(rules: Iterable[tuple[str, Rule]]) -> Step:
    """A step that rejects a row by the first rule that objects."""
    listed = list(rules)

    def step(rows: Iterable[Example], tally: Tally) -> Iterator[Example]:
        for row in rows:
            for name, rule in listed:
                evidence = rule(row)
                if evidence is not None:
                    tally.reject(row, name, evidence)
                    break
            else:
                yield row

    return step


def prompt_rules(config: FilterConfig) -> list[tuple[str, Rule]]:
    """The rules that need no answer."""
    rules: list[tuple[str, Rule]] = [("empty_prompt", _empty_prompt)]
    if config.turn_order:
        rules.append(("turn_order", _turn_order))
    if config.broken_text:
        rules.append(("broken_text", _broken))
    low, high = config.min_prompt_words, config.max_prompt_words
    if low:
        rules.append(("short_prompt", lambda row: _fewer(user_text(row.prompt_messages), low)))
    if high is not None:
        rules.append(("long_prompt", lambda row: _more(user_text(row.prompt_messages), high)))
    if config.mojibake:
        rules.append(("mojibake", lambda row: _mojibake(row.messages)))
    rules += _turn_rules(config)
    languages = config.languages
    if languages is not None and config.language_fields != "answer":
        check_languages(languages, "curate.filters.languages")
        rules.append(("language", lambda row: _foreign(_instruction(row), "prompt", languages)))
    return rules


def _turn_rules(config: FilterConfig) -> list[tuple[str, Rule]]:
    """Lengths of all turns and of the whole dialogue."""
    rules: list[tuple[str, Rule]] = []
    low, high, total = config.min_turn_words, config.max_turn_words, config.max_dialogue_words
    least, most = config.min_dialogue_words, config.max_turns
    if low is not None:
        rules.append(("short_turn", lambda row: _any_turn(row, lambda text: _fewer(text, low))))
    if high is not None:
        rules.append(("long_turn", lambda row: _any_turn(row, lambda text: _more(text, high))))
    if least is not None:
        rules.append(("short_dialogue", lambda row: _fewer(_all_turns(row), least)))
    if total is not None:
        rules.append(("long_dialogue", lambda row: _more(_all_turns(row), total)))
    if most is not None:
        rules.append(("many_turns", lambda row: _many_turns(row, most)))
    return rules


def answer_rules(config: FilterConfig) -> list[tuple[str, Rule]]:
    """The rules on the last assistant turn."""
    rules: list[tuple[str, Rule]] = [("no_answer", _no_answer), ("empty_answer", _empty_answer)]
    low, high = config.min_answer_words, config.max_answer_words
    if config.broken_text:
        rules.append(("broken_text", _broken))
    if config.refusals:
        rules.append(("refusal", _refusal))
    if low:
        rules.append(("short_answer", lambda row: _fewer(row.response or "", low)))
    if high is not None:
        rules.append(("long_answer", lambda row: _more(row.response or "", high)))
    if config.copies:
        rules.append(("copy", _copy))
    if config.cut_off:
        rules.append(("cut_off", _cut_off))
    share = config.repetition
    if share is not None:
        rules.append(("repetition", lambda row: _repetition(row, share)))
    return [*rules, *_further_answer_rules(config)]


def _further_answer_rules(config: FilterConfig) -> list[tuple[str, Rule]]:
    """The rules on answers that are off by default."""
    rules: list[tuple[str, Rule]] = []
    limits, languages = config.repeats, config.languages
    symbols, links, html = config.max_symbols, config.max_links, config.max_html
    if config.mojibake:
        rules.append(("mojibake", lambda row: _mojibake(row.messages[-1:])))
    if config.disclaimers:
        rules.append(("disclaimer", lambda row: disclaimer(row.response or "")))
    if limits is not None:
        rules.append(("repeats", lambda row: repeats(row.response or "", limits)))
    if symbols is not None:
        rules.append(("symbols", lambda row: _symbols(row.response or "", symbols)))
    if links is not None:
        rules.append(("links", lambda row: _covered(row.response or "", _LINK, "links", links)))
    if html is not None:
        rules.append(("html", lambda row: _covered(row.response or "", _TAG, "HTML tags", html)))
    if languages is not None and config.language_fields != "prompt":
        check_languages(languages, "curate.filters.languages")
        rules.append(("language", lambda row: _foreign(row.response or "", "answer", languages)))
    return rules


def user_text(prompt: Messages) -> str:
    """The user's turns of a prompt as one text."""
    return "\n".join(message.content for message in prompt if message.role == "user")


def _empty_prompt(row: Example) -> str | None:
    return None if row.prompt.strip() else "the last user turn is empty"


def _turn_order(row: Example) -> str | None:
    expected = "user"
    for number, message in enumerate(row.messages, 1):
        if message.role == "system" and number == 1:
            continue
        if message.role != expected:
            return f"turn {number} is {message.role}, expected {expected}"
        expected = "assistant" if expected == "user" else "user"
    return None


def _broken(row: Example) -> str | None:
    for message in row.messages:
        found = _BROKEN.search(message.content)
        if found:
            return f"character U+{ord(found.group()):04X} in the {message.role} turn"
    return None


def _fewer(text: str, limit: int) -> str | None:
    # The beginning settles it for nearly all texts.
    if length(text[: 32 * limit]) >= limit:
        return None
    words = length(text)
    return f"{words} words, at least {limit} wanted" if words < limit else None


def _more(text: str, limit: int) -> str | None:
    if len(text) <= limit:
        return None
    words = length(text)
    return f"{words} words, at most {limit} wanted" if words > limit else None


def _no_answer(row: Example) -> str | None:
    if row.response is not None:
        return None
    return "no answer, or an empty one (the teacher answers those of a source with `answer: true`)"


def _empty_answer(row: Example) -> str | None:
    return None if (row.response or "").strip() else "the answer is empty"


def _refusal(row: Example) -> str | None:
    answer = row.response or ""
    if row.meta.get(DECLINES):
        return None
    return answer if is_refusal(answer) else None


def _copy(row: Example) -> str | None:
    answer = (row.response or "").strip()
    # Normalised equality needs about equal lengths; that spares nearly all rows the work.
    candidates = [row.prompt]
    extra = row.meta.get("input")
    if isinstance(extra, str) and extra:
        candidates.append(row.prompt.removesuffix(extra).strip())
    for text in candidates:
        if abs(len(text) - len(answer)) <= 16 + len(text) // 4:
            key = normalise(text)
            if key and normalise(answer) == key:
                return answer
    return None


def _cut_off(row: Example) -> str | None:
    answer = (row.response or "").rstrip()
    return answer[-60:] if answer.endswith((":", "：")) else None


def _repetition(row: Example, limit: float) -> str | None:
    words = tokens(row.response or "")
    if len(words) < SHORTEST:
        return None
    grams = ngrams(words, _REPETITION_NGRAM)
    share = 1 - len(set(grams)) / len(grams)
    return f"{share:.0%} of the 4-grams are repeats" if share > limit else None


def _mojibake(messages: Messages) -> str | None:
    from ftfy.badness import is_bad

    for message in messages:
        if message.content.isascii():
            continue
        for line in message.content.split("\n"):
            if not line.isascii() and (_REPLACED in line or is_bad(line)):
                return f"the {message.role} turn was read in a wrong encoding: {line[:80]}"
    return None


def _any_turn(row: Example, rule: Callable[[str], str | None]) -> str | None:
    for number, message in enumerate(row.messages, 1):
        evidence = None if message.role == "system" else rule(message.content)
        if evidence is not None:
            return f"turn {number} ({message.role}): {evidence}"
    return None


def _all_turns(row: Example) -> str:
    return "\n".join(m.content for m in row.messages if m.role != "system")


def _many_turns(row: Example, limit: int) -> str | None:
    turns = sum(message.role != "system" for message in row.messages)
    return f"{turns} turns, at most {limit} wanted" if turns > limit else None


def _instruction(row: Example) -> str:
    """The user's words without the separate input, which may be in the language to translate."""
    text = user_text(row.prompt_messages)
    extra = row.meta.get("input")
    if isinstance(extra, str) and extra:
        text = text.removesuffix(extra).strip() or text
    return text


def _foreign(text: str, what: str, languages: list[str]) -> str | None:
    found = identify(text)
    if could_be(found, languages):
        return None
    sure = f" ({found.probability:.2f})" if found.certain else ", by its script"
    shown = " ".join(text[:120].split())
    return f"the {what} is in '{found.code}'{sure}, wanted {', '.join(languages)}: {shown}"


def _symbols(text: str, limit: float) -> str | None:
    letters = sum(map(len, text.split()))
    found = _SYMBOL.findall(text)
    if not text.isascii():
        # Marks belong to the letters of their script.
        found = [char for char in found if unicodedata.category(char)[0] != "M"]
    share = len(found) / (letters or 1)
    if share <= limit:
        return None
    return f"{share:.0%} of the characters are symbols, at most {limit:.0%} wanted"


def _covered(text: str, pattern: re.Pattern[str], what: str, limit: float) -> str | None:
    share = sum(len(m.group()) for m in pattern.finditer(text)) / (len(text) or 1)
    if share <= limit:
        return None
    return f"{share:.0%} of the characters are in {what}, at most {limit:.0%} wanted"
