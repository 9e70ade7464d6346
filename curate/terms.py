"""Lists of words that rows are dropped or marked for: the user's keywords, the safety list.

A term in a script with spaces is found as whole words (`art` not in `party`), one in a script
without them anywhere; width and case do not count.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from espalier.curate.config_filters import Fields, FilterConfig, KeywordConfig, SafetyConfig
from espalier.curate.filters import Rule, user_text
from espalier.curate.pipeline import Step, Tally
from espalier.errors import InputError, UsageError
from espalier.records import Example
from espalier.text import is_cjk, tokens

SAFETY = Path(__file__).resolve().parent / "terms" / "safety.yaml"
_CONTEXT = 24
_REMARK = re.compile(r"(?:^|\s)#")
Resolve = Callable[[str], Path | str]


@dataclass(frozen=True, slots=True)
class Hit:
    """A term of a list that a text holds: its group (language, topic, category), the words
    around it."""

    term: str
    group: str
    context: str


class TermList:
    """Terms by group, found in a text."""

    def __init__(self, groups: Mapping[str, Iterable[str]]) -> None:
        # By the first word of a term: most texts have none of them.
        self._by_start: dict[str, list[tuple[str, str]]] = {}
        self._signs: list[tuple[str, str]] = []
        for group, terms in groups.items():
            for term in dict.fromkeys(_fold(term) for term in terms):
                words = tokens(term)
                if words:
                    self._by_start.setdefault(words[0], []).append((term, group))
                elif term:
                    self._signs.append((term, group))

    def hits(self, text: str) -> list[Hit]:
        """The terms that a text holds, each once, in the order of the list's first words."""
        present = self._by_start.keys() & set(tokens(text))
        if not present and not self._signs:
            return []
        folded = _fold(text)
        candidates = [pair for start in sorted(present) for pair in self._by_start[start]]
        found = []
        for term, group in (*candidates, *self._signs):
            at = _find(folded, term)
            if at >= 0:
                around = folded[max(0, at - _CONTEXT) : at + len(term) + _CONTEXT]
                found.append(Hit(term, group, " ".join(around.split())))
        return found


def term_rules(config: FilterConfig, resolve: Resolve = Path) -> list[tuple[str, Rule]]:
    """The rules `keyword` and `safety_term`, for lists whose action is to drop.

    `resolve` makes paths of the names of list files. Raises InputError for a list that can't be
    read, UsageError for an unknown category.
    """
    return [
        (name, _rule(terms, fields))
        for name, terms, fields, action in _lists(config, resolve)
        if action == "drop"
    ]


def term_files(config: FilterConfig) -> list[str]:
    """The names of all list files that the options give, the built-in list not among them."""
    groups = (config.keywords, config.safety)
    return [name for group in groups if group is not None for name in group.files]


def term_flags(config: FilterConfig, resolve: Resolve = Path) -> Step:
    """A step that marks rows for lists whose action is to flag: `meta.keywords` holds the terms,
    `meta.safety` the categories."""
    listed = [item for item in _lists(config, resolve) if item[3] == "flag"]

    def step(rows: Iterable[Example], tally: Tally) -> Iterator[Example]:
        for row in rows:
            marks: dict[str, Any] = {}
            for name, terms, fields, _ in listed:
                hits = [hit for _, text in _texts(row, fields) for hit in terms.hits(text)]
                if hits:
                    tally.change(name)
                    key, values = ("safety", [hit.group for hit in hits])
                    if name == "keyword":
                        key, values = ("keywords", [hit.term for hit in hits])
                    marks[key] = list(dict.fromkeys(values))
            yield row.with_meta(**marks) if marks else row

    return step


def _lists(config: FilterConfig, resolve: Resolve) -> list[tuple[str, TermList, Fields, str]]:
    found: list[tuple[str, TermList, Fields, str]] = []
    if config.keywords is not None:
        terms = TermList(_keyword_groups(config.keywords, resolve))
        found.append(("keyword", terms, config.keywords.fields, config.keywords.action))
    if config.safety is not None:
        terms = TermList(_safety_groups(config.safety, resolve))
        found.append(("safety_term", terms, config.safety.fields, config.safety.action))
    return found


def _rule(terms: TermList, fields: Fields) -> Rule:
    def rule(row: Example) -> str | None:
        for where, text in _texts(row, fields):
            for hit in terms.hits(text):
                return f"“{hit.term}” ({hit.group}) in the {where}: …{hit.context}…"
        return None

    return rule


def _texts(row: Example, fields: Fields) -> list[tuple[str, str]]:
    texts = []
    if fields != "answer":
        texts.append(("prompt", user_text(row.messages)))
    if fields != "prompt":
        answers = [turn.content for turn in row.messages if turn.role == "assistant"]
        texts.append(("answer", "\n".join(answers)))
    return texts


def _keyword_groups(config: KeywordConfig, resolve: Resolve) -> dict[str, list[str]]:
    groups = {name: list(terms) for name, terms in config.terms.items()}
    for name in config.files:
        for group, terms in read_terms(Path(resolve(name))).items():
            groups.setdefault(group, []).extend(terms)
    return groups


def _safety_groups(config: SafetyConfig, resolve: Resolve) -> dict[str, list[str]]:
    groups = {name: list(terms) for name, terms in _builtin().items()} if config.builtin else {}
    for name in config.files:
        for group, terms in read_terms(Path(resolve(name))).items():
            groups.setdefault(group, []).extend(terms)
    for category in config.categories or ():
        if category not in groups:
            raise UsageError(
                f"The safety lists have no category '{category}'.",
                where="curate.filters.safety.categories",
                expected=", ".join(groups) or "a list (builtin, files)",
            )
    if config.categories is None:
        return groups
    return {name: groups[name] for name in config.categories}


@cache
def _builtin() -> dict[str, list[str]]:
    return read_terms(SAFETY)


def read_terms(path: Path) -> dict[str, list[str]]:
    """Terms by group out of a file: YAML of lists (or of lists by language), else one a line.

    In the latter a remark begins with `#` at the start of a line or after white space, so that
    `C#` is a term.
    Raises InputError for a file that can't be read or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The list of terms can't be read: {error}.",
            where=str(path),
            expected="a UTF-8 text file of one term a line, or a YAML file of lists",
        ) from error
    if path.suffix not in (".yaml", ".yml"):
        lines = [_REMARK.split(line, maxsplit=1)[0].strip() for line in text.splitlines()]
        return {path.stem: [line for line in lines if line]}
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(
            "The list of terms is not valid YAML.", where=str(path), expected=str(error)
        ) from error
    if isinstance(value, list):
        value = {path.stem: value}
    if not isinstance(value, dict):
        raise _wrong(path, "the file")
    return {str(name): _flat(item, path, str(name)) for name, item in value.items()}


def _flat(value: Any, path: Path, name: str) -> list[str]:
    if isinstance(value, dict):
        return [term for item in value.values() for term in _flat(item, path, name)]
    if not isinstance(value, list) or not all(isinstance(term, str) for term in value):
        raise _wrong(path, f"the group '{name}'")
    return value


def _wrong(path: Path, what: str) -> InputError:
    return InputError(
        f"In a list of terms {what} is not a list of texts.",
        where=str(path),
        expected="`group: [term, term]` (put quotation marks around yes, no and numbers)",
    )


def _fold(text: str) -> str:
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", text).casefold()


def _find(text: str, term: str) -> int:
    """Where a term stands in a text (both folded), by whole words; −1 when it does not."""
    at = text.find(term)
    while at >= 0:
        end = at + len(term)
        before = at > 0 and _joined(text[at - 1], term[0])
        after = end < len(text) and _joined(text[end], term[-1])
        if not before and not after:
            return at
        at = text.find(term, at + 1)
    return -1


def _joined(neighbour: str, own: str) -> bool:
    """Whether two characters side by side belong to one word of a script with spaces."""
    return all(char.isalnum() and not is_cjk(char) for char in (neighbour, own))
