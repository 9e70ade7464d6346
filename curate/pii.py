"""Personal data and secrets in rows: found by form, then checked; masked, flagged or dropped.

A number with a checksum counts only when that is right (Luhn, ISO 7064 mod 97-10 and mod 11-2),
and only in its issuer's form, so that ordinary numbers are left alone. What is found never
appears in evidence or rejects.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from espalier.curate.config_filters import PiiConfig
from espalier.curate.pii_kinds import FINDERS, MANY_DIGITS, NUMBERS, Found
from espalier.curate.pipeline import Step, Tally
from espalier.records import Example, Message

# Of overlapping findings the earlier kind wins: a card number holds what could be a phone's.
KINDS = ("api_key", "resident_id", "iban", "card", "ssn", "email", "ip", "phone")
# Meta that the pipeline writes itself; everything else came with the row.
_OWN_META = frozenset(
    {"source", "language", "category", "group", "kind", "teacher", "operator", "round", "parents",
     "original_id", "repaired", "contamination", "pii"}
)  # fmt: skip
_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_WIDE_SIGN = re.compile("[\uff01-\uff5e]")


def pii_step(config: PiiConfig) -> Step:
    """A step that does with each kind what the options say.

    A masked row is another text: it gets the id of that text, and no id or evidence derived from
    the original stays, from which a number could be guessed and checked. `meta.pii` counts what
    was found by kind. A dropped row is stored masked.
    """
    actions: dict[str, str] = {kind: getattr(config, kind) for kind in KINDS}
    wanted = [kind for kind in KINDS if actions[kind] != "off"]

    def step(rows: Iterable[Example], tally: Tally) -> Iterator[Example]:
        for row in rows:
            found = _findings(row, wanted, config)
            if not found:
                yield row
                continue
            counts = Counter(item.kind for item in found)
            dropped = [kind for kind in counts if actions[kind] == "drop"]
            if dropped:
                masked = mask_row(row, wanted, config)
                tally.reject(masked, f"pii_{dropped[0]}", _evidence(counts, found))
                continue
            for kind in sorted(counts):
                tally.change(f"pii_{kind}")
            masked_kinds = [kind for kind in wanted if actions[kind] == "mask" and counts[kind]]
            if masked_kinds:
                row = mask_row(row, wanted, config, only=masked_kinds)
            yield row.with_meta(pii=_summed(row.meta.get("pii"), counts, actions))

    return step


def find_pii(
    text: str, config: PiiConfig, *, language: str = "*", kinds: Iterable[str] = KINDS
) -> list[Found]:
    """What a text holds, apart and in order; phone numbers by the countries of `language`."""
    # Full-width signs take one place each, as the others do, so that places stay.
    plain = text.translate(_WIDE) if not text.isascii() and _WIDE_SIGN.search(text) else text
    by_language = config.phone_regions
    regions = by_language.get(language, by_language.get("*", []))
    skipped = NUMBERS if not MANY_DIGITS.search(plain) else frozenset()
    taken: list[Found] = []
    for kind in KINDS:
        if kind in kinds and kind not in skipped:
            for found in FINDERS[kind](plain, regions):
                if all(found.end <= other.start or found.start >= other.end for other in taken):
                    taken.append(found)
    return sorted(taken, key=lambda found: found.start)


def masked(text: str, found: Iterable[Found]) -> str:
    """The text with each finding replaced by its kind: `<EMAIL>`, `<PHONE>`, …"""
    parts = []
    at = 0
    for item in found:
        parts += [text[at : item.start], f"<{item.kind.upper()}>"]
        at = item.end
    return "".join([*parts, text[at:]])


def mask_row(
    row: Example, kinds: list[str], config: PiiConfig, *, only: Iterable[str] | None = None
) -> Example:
    """The row with what was found masked (of `kinds`, those in `only`), under a new id."""
    language = str(row.meta.get("language", "*"))
    chosen = set(kinds if only is None else only)

    def clean(text: str) -> str:
        found = find_pii(text, config, language=language, kinds=kinds)
        return masked(text, [item for item in found if item.kind in chosen])

    turns = [Message(message.role, clean(message.content)) for message in row.messages]
    meta: dict[str, Any] = {
        name: value if name in _OWN_META else _clean_meta(value, clean)
        for name, value in row.meta.items()
        if name != "original_id"
    }
    return Example.make(turns, meta)


def _clean_meta(value: Any, clean: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_clean_meta(item, clean) for item in value]
    if isinstance(value, dict):
        return {name: _clean_meta(item, clean) for name, item in value.items()}
    return value


def _meta_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _meta_texts(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _meta_texts(item)


def _findings(row: Example, kinds: list[str], config: PiiConfig) -> list[Found]:
    """What a row holds: the turns, and meta other than the input, which is part of a turn."""
    language = str(row.meta.get("language", "*"))
    texts = [message.content for message in row.messages]
    for name, value in row.meta.items():
        if name not in _OWN_META and name != "input":
            texts += _meta_texts(value)
    return [
        found for text in texts for found in find_pii(text, config, language=language, kinds=kinds)
    ]


def _summed(before: Any, counts: Counter[str], actions: dict[str, str]) -> dict[str, int]:
    """The counts with those of an earlier pass; what was masked then is not found again."""
    found = dict(before) if isinstance(before, dict) else {}
    for kind, count in counts.items():
        found[kind] = count + (found.get(kind, 0) if actions[kind] == "mask" else 0)
    return dict(sorted(found.items()))


def _evidence(counts: Counter[str], found: list[Found]) -> str:
    listed = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
    return f"{listed} (first: {found[0].kind}, {found[0].end - found[0].start} characters)"
