"""Tagged spans: precision, recall and F1 of entities, by their type and their text.

A span is right when the reference has one of the same type and text (whitespace and width
aside), each once; tagged words (`bio`) are compared by their place instead, as the CoNLL shared
task does (Tjong Kim Sang 2002). Counts are summed over the rows (micro F1).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from espalier.errors import InputError
from espalier.evaluate.classify import F1, f1_of_sums
from espalier.evaluate.config_metrics import EntityConfig
from espalier.evaluate.evalset import EvalSet
from espalier.evaluate.metric import Metric, Scored
from espalier.evaluate.significance import Column

# (type, text) or, of tagged words, (type, "first-last").
Spans = Counter[tuple[str, str]]

_TEXT_KEYS = ("text", "span", "entity", "name", "word", "mention", "value")
_TYPE_KEYS = ("type", "label", "tag", "category", "entity_type", "entity_group")
_TAG = re.compile(r"<([A-Za-z][\w.-]{0,40})>([^<>]{1,2000})</\1>")
_BRACKET = re.compile(r"\[([^\[\]\n]{1,2000})\]\s?\(([\w][\w .-]{0,40})\)")
_BIO = re.compile(r"^(\S.*?)[ \t]+((?:[BIES]-[^\s]{1,40})|O)$")


def read_spans(text: str, format: str) -> Spans | None:
    """The spans that a text tags; None where it is not of that form at all."""
    return _READERS[format](text)


def form_of(text: str) -> str | None:
    """The form that a text tags spans in; None where it tags none."""
    for name in ("json", "bio", "tags", "brackets"):
        found = _READERS[name](text)
        # An empty list tags nothing, but brackets within prose or code are no list of spans.
        empty = name == "json" and text.lstrip().startswith(("[", "{", "```"))
        if found or (found is not None and empty):
            return name
    return None


def _json(text: str) -> Spans | None:
    stripped = text.strip()
    fence = re.search(r"```[\w-]*\s*\n(.*?)\n?\s*```", stripped, re.DOTALL)
    start = min((at for at in map(stripped.find, "[{") if at >= 0), default=-1)
    for part in ([fence[1]] if fence else []) + ([stripped[start:]] if start >= 0 else []):
        try:
            value, _ = json.JSONDecoder().raw_decode(part.strip())
        except (ValueError, RecursionError):
            continue
        found = _listed(value)
        if found is not None:
            return found
    return None


def _listed(value: Any) -> Spans | None:
    """Spans of a list of objects (or one), or of an object of texts or lists of them by type."""
    spans: Spans = Counter()
    if isinstance(value, Mapping) and None not in _named(value):
        value = [value]
    if isinstance(value, Mapping):
        inner = value.get("entities", value.get("spans"))
        if isinstance(inner, list | Mapping):
            return _listed(inner)
        for kind, texts in value.items():
            for one in texts if isinstance(texts, list) else [texts]:
                if not isinstance(one, str):
                    return None
                _add(spans, str(kind), one)
        return spans
    if not isinstance(value, list):
        return None
    for item in value:
        kind, text = _named(item) if isinstance(item, Mapping) else (None, None)
        if kind is None or text is None:
            return None
        _add(spans, kind, text)
    return spans


def _named(item: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Type and text of an object; None for what it has not, or not as a text."""
    kind, text = (
        next((item[key] for key in keys if key in item), None) for keys in (_TYPE_KEYS, _TEXT_KEYS)
    )
    return kind if isinstance(kind, str) else None, text if isinstance(text, str) else None


def _add(spans: Spans, kind: str, text: str) -> None:
    key = " ".join(unicodedata.normalize("NFKC", text).split())
    if key:
        spans[kind.strip().upper(), key] += 1


def _found(pattern: re.Pattern[str], kind: int, text: int) -> Callable[[str], Spans]:
    def read(answer: str) -> Spans:
        spans: Spans = Counter()
        for match in pattern.finditer(answer):
            _add(spans, match[kind], match[text])
        return spans

    return read


def _bio(text: str) -> Spans | None:
    """Places of entities in lines `word TAG`, numbered from 0; BIOES tags are read as well.

    An `I-` without an entity of its type before it begins one (as conlleval has it).
    """
    tags = []
    for line in text.splitlines():
        match = _BIO.match(line.strip())
        if match:
            tags.append(match[2])
        elif line.strip():
            return None
    if not tags:
        return None
    spans: Spans = Counter()
    start, kind = 0, ""
    for place, tag in enumerate([*tags, "O"]):
        mark, _, name = tag.partition("-")
        if kind and (mark in "OBS" or name.upper() != kind or tags[place - 1][0] in "ES"):
            spans[kind, f"{start}-{place - 1}"] += 1
            kind = ""
        if mark != "O" and not kind:
            start, kind = place, name.upper()
    return spans


_READERS: dict[str, Callable[[str], Spans | None]] = {
    "json": _json,
    "tags": _found(_TAG, 1, 2),
    "brackets": _found(_BRACKET, 2, 1),
    "bio": _bio,
}


def score_entities(
    config: EntityConfig, evalset: EvalSet, answers: Mapping[str, Sequence[str | None]]
) -> Scored:
    """Micro F1 of entities for all models; precision, recall and each type as details.

    An answer that can't be read tags nothing. Raises InputError where no reference tags spans.
    """
    truth, forms = _truth(config, evalset)
    wanted = {name.upper() for name in config.types}
    used = "+".join(sorted(set(forms.values())))
    signature = (
        f"espalier.entity-f1|format:{used}|match:type+{'place' if used == 'bio' else 'text'}"
    )
    scored = Scored(
        Metric(
            "entity_f1",
            "Entity F1",
            True,
            "percent",
            f"{signature}|mean:micro" + (f"|types:{'+'.join(sorted(wanted))}" if wanted else ""),
            "F1 of tagged spans, counted over all rows; a span whose border is off by a word is "
            "as wrong as one that is missing"
            + (
                ", and of tagged words (bio) all that follow a word too many or too few are wrong."
                if "bio" in used
                else "."
            ),
        )
    )
    for model, texts in answers.items():
        statistics = np.zeros((len(texts), 3))
        valid = np.zeros(len(texts), dtype=bool)
        by_type: dict[str, list[int]] = {}
        unread = 0
        for row, reference in truth.items():
            if (text := texts[row]) is None:
                continue
            told = read_spans(text, forms[row])
            unread += told is None
            given = _kept(told or Counter(), wanted)
            _count(by_type, given, reference)
            hits = (given & reference).total()
            statistics[row] = (hits, given.total(), reference.total())
            valid[row] = True
        scored.columns[model] = Column(statistics, valid, F1)
        rows = f1_of_sums(statistics)
        # Where neither has a span there is nothing to find, and nothing was found.
        rows = np.where(statistics[:, 1:].sum(axis=1) == 0, 1.0, rows)
        scored.rows[model] = [
            float(value) if ok else None for value, ok in zip(rows, valid, strict=True)
        ]
        scored.details[model] = _details(by_type, statistics.sum(axis=0), unread)
    return scored


def _kept(spans: Spans, wanted: set[str]) -> Spans:
    return Counter({key: n for key, n in spans.items() if not wanted or key[0] in wanted})


def _truth(config: EntityConfig, evalset: EvalSet) -> tuple[dict[int, Spans], dict[int, str]]:
    truth: dict[int, Spans] = {}
    forms: dict[int, str] = {}
    wanted = {name.upper() for name in config.types}
    for index, row in enumerate(evalset.rows):
        if not row.reference or (config.category and row.category not in config.category):
            continue
        form = form_of(row.reference) if config.format == "auto" else config.format
        spans = None if form is None else read_spans(row.reference, form)
        if spans is None or form is None or not (spans or config.category or form == "json"):
            if config.category:
                raise InputError(
                    "The reference of a row that should tag spans can't be read.",
                    where=f"row {row.id}: {row.reference!r:.80}",
                    expected=f"the form `{config.format}` (see evaluate.entities.format)",
                )
            continue
        truth[index], forms[index] = _kept(spans, wanted), form
    if not truth:
        raise InputError(
            "No reference of the set tags spans.",
            where="evaluate.entities",
            expected="references such as <PER>Ada</PER>, [Ada](PER), a JSON list of {text, type}, "
            "or a line a word with its tag (bio)",
            hint="name the form with `entities.format`, or leave `entities` out of the metrics",
        )
    return truth, forms


def _count(by_type: dict[str, list[int]], given: Spans, reference: Spans) -> None:
    for place, spans in enumerate((given & reference, given, reference)):
        for (kind, _), count in spans.items():
            by_type.setdefault(kind, [0, 0, 0])[place] += count


def _details(by_type: Mapping[str, Sequence[int]], sums: Any, unread: int) -> dict[str, Any]:
    def rates(hits: float, given: float, true: float) -> dict[str, Any]:
        return {
            "precision": hits / given if given else 0.0,
            "recall": hits / true if true else 0.0,
            "f1": 2 * hits / (given + true) if given + true else 0.0,
            "spans": int(true),
            "told": int(given),
        }

    return {
        **rates(*(float(value) for value in sums)),
        "types": {kind: rates(*counts) for kind, counts in sorted(by_type.items())},
        "unreadable_answers": unread,
    }
