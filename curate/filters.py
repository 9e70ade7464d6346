"""Rules on single rows. A rule returns what it saw when it rejects, else None."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from espalier.curate.config_filters import FilterConfig
from espalier.curate.pipeline import Step, Tally
from espalier.records import Example, Messages
from espalier.refusals import is_refusal
from espalier.text import length, ngrams, normalise, tokens

Rule = Callable[[Example], str | None]

# Tab, newline and carriage return are text; other controls, U+FFFD and lone surrogates are not.
_BROKEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffd\ud800-\udfff]")
_REPETITION_WORDS = 30
_REPETITION_NGRAM = 4


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
    if len(words) < _REPETITION_WORDS:
        return None
    grams = ngrams(words, _REPETITION_NGRAM)
    share = 1 - len(set(grams)) / len(grams)
    return f"{share:.0%} of the 4-grams are repeats" if share > limit else None
