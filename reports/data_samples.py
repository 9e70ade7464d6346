"""Seeded samples of a curate folder's rejects, near duplicates and shared texts; rows as shown.

Each file is read once, line by line; what is shown is clipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from itertools import chain
from pathlib import Path
from typing import Any

from espalier.reports.funnel import clip
from espalier.reports.runfiles import number, read_lines, rounded
from espalier.reports.strings import pretty
from espalier.spread import Reservoir

REJECTS_A_RULE = 15
PAIRS = 120
EQUAL_PAIRS = 30
SHARED_TEXTS = 40
TURN_CHARACTERS = 2_000
REJECT_CHARACTERS = 900
_AROUND = 160
# Words, characters of scripts without spaces, and whatever is between them.
_PIECES = re.compile(r"[\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w+|\s+|[^\w\s]")
_SHORTEST_MATCH = 3
_LINEAGE = ("operator", "teacher", "round", "kind")


def find_texts(path: Path, texts: dict[str, str]) -> None:
    """Fill in the text of the rows of a data file whose ids are keys of `texts`."""
    if not texts:
        return
    for row in read_lines(path):
        if str(row.get("id")) in texts:
            texts[str(row["id"])] = "\n".join(turn["text"] for turn in _turns(row, None))


def row_shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a data file as it is shown: id, turns, parents, marks, and what its `meta` says."""
    given = row.get("meta")
    meta: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    quality, parents = meta.get("quality"), meta.get("parents")
    shown: dict[str, Any] = {
        "id": str(row.get("id", "")),
        "turns": _turns(row, TURN_CHARACTERS),
        "parents": [str(item) for item in parents[:12]] if isinstance(parents, list) else [],
        "quality": _numbers(quality) if isinstance(quality, Mapping) else {},
    }
    for name in ("language", "source", "category", "group", *_LINEAGE):
        value = meta.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool):
            shown[name] = clip(str(value))
    return shown


def _numbers(quality: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in quality.items():
        if isinstance(value, bool):
            found[str(name)] = value
        elif (short := rounded(value, 4)) is not None:
            found[str(name)] = short
    return found


def _turns(row: Mapping[str, Any], characters: int | None) -> list[dict[str, str]]:
    """The turns of a row; of a preference pair also `chosen` and `rejected`."""
    turns = row.get("messages") or row.get("prompt")
    found = [
        (str(turn.get("role", "")), str(turn.get("content", "")))
        for turn in (turns if isinstance(turns, list) else [])
        if isinstance(turn, Mapping)
    ]
    found += [(side, str(row[side])) for side in ("chosen", "rejected") if side in row]
    return [{"role": role, "text": _cut(text, characters)} for role, text in found]


def _cut(text: str, characters: int | None) -> str:
    if characters is None or len(text) <= characters:
        return text
    return text[: characters - 1] + "…"


def sample_rejects(
    paths: Iterable[Path], seed: str, texts: dict[str, str], most: int = REJECTS_A_RULE
) -> list[dict[str, Any]]:
    """Rejects by step and rule: the count and a sample, in the files' order of steps and rules.

    `texts` gets the texts of its ids that have none yet; `most` examples a rule.
    """
    found: dict[tuple[str, str], Reservoir[dict[str, Any]]] = {}
    for row in chain.from_iterable(map(read_lines, paths)):
        key = str(row.get("step", "")), str(row.get("rule", ""))
        identity = str(row.get("id", ""))
        if texts.get(identity) == "":
            texts[identity] = str(row.get("text", ""))
        sample = found.get(key)
        if sample is None:
            sample = found[key] = Reservoir(max(1, most), f"{seed}:{key[0]}:{key[1]}")
        at = sample.place()
        if at is not None:
            sample.put(at, _reject(row))
    return [
        {
            "step": step, "rule": rule, "count": sample.seen,
            "step_label": pretty(step),
            "rule_label": pretty(rule),
            "examples": sample.items() if most else [],
        }
        for (step, rule), sample in found.items()
    ]  # fmt: skip


def _reject(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": str(row.get("id", "")),
        "text": _cut(str(row.get("text", "")), REJECT_CHARACTERS),
        "evidence": clip("" if row.get("evidence") is None else str(row["evidence"])),
        "source": "" if row.get("source") is None else str(row["source"]),
    }


def sample_pairs(path: Path, seed: str) -> list[dict[str, Any]]:
    """A sample of removed rows beside their keepers, with the places of the text they share.

    Of equal texts there is less to see: they only fill up what near ones leave.
    """
    near: Reservoir[Mapping[str, Any]] = Reservoir(PAIRS, f"{seed}:pairs")
    equal: Reservoir[Mapping[str, Any]] = Reservoir(EQUAL_PAIRS, f"{seed}:equal pairs")
    for row in read_lines(path):
        (equal if row.get("method") == "exact" else near).add(row)
    return [pair(row) for row in [*near.items(), *equal.items()][:PAIRS]]


def pair(row: Mapping[str, Any]) -> dict[str, Any]:
    """A line of `clusters.jsonl` as it is shown."""
    kept = clip(str(row.get("keeper_text", "")))
    removed = clip(str(row.get("removed_text", "")))
    spans = shared_spans(kept, removed)
    similarity = number(row.get("similarity"))
    return {
        "method": str(row.get("method", "")),
        "similarity": None if similarity is None else round(similarity, 4),
        "keeper": {"id": str(row.get("keeper", "")), "text": kept, "spans": spans[0]},
        "removed": {"id": str(row.get("removed", "")), "text": removed, "spans": spans[1]},
    }


def shared_spans(left: str, right: str) -> tuple[list[list[int]], list[list[int]]]:
    """Runs of the same words in both texts, as `[start, end]` in characters, in order.

    Runs of fewer than three words are left out: any two texts share those.
    """
    one, other = (list(_PIECES.finditer(text)) for text in (left, right))
    matcher = SequenceMatcher(
        None, [piece.group() for piece in one], [piece.group() for piece in other], autojunk=False
    )
    spans: tuple[list[list[int]], list[list[int]]] = ([], [])
    for block in matcher.get_matching_blocks():
        pieces = one[block.a : block.a + block.size]
        if sum(not piece.group().isspace() for piece in pieces) >= _SHORTEST_MATCH:
            for side, found, start in ((0, one, block.a), (1, other, block.b)):
                spans[side].append([found[start].start(), found[start + block.size - 1].end()])
    return spans


def sample_shared_texts(path: Path, seed: str) -> list[dict[str, Any]]:
    """A sample of `contamination.jsonl`: what each row shares with which evaluation row."""
    sample: Reservoir[Mapping[str, Any]] = Reservoir(SHARED_TEXTS, f"{seed}:contamination")
    for row in read_lines(path):
        sample.add(row)
    return [
        {
            "id": str(row.get("id", "")),
            "source": "" if row.get("source") is None else str(row["source"]),
            "action": str(row.get("action", "")),
            "found": [
                _finding(item) for item in (row.get("found") or [])[:6] if isinstance(item, Mapping)
            ],
        }
        for row in sample.items()
    ]


def _finding(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": str(item.get("kind", "")),
        "file": str(item.get("file", "")),
        "number": rounded(item.get("number")),
        "tokens": rounded(item.get("tokens")),
        "jaccard": rounded(item.get("jaccard"), 3),
        "text": str(item.get("text", "")),
    }


def in_context(finding: Mapping[str, Any], text: str) -> dict[str, Any]:
    """A finding with what stands around it in its row: `before`, `text`, `after`."""
    shared = str(finding["text"])
    at = text.find(shared) if shared else -1
    before = text[max(0, at - _AROUND) : at] if at > 0 else ""
    after = text[at + len(shared) :][:_AROUND] if at >= 0 else ""
    return {
        **finding,
        "text": clip(shared),
        "before": ("…" if at > _AROUND else "") + before,
        "after": after + ("…" if at >= 0 and at + len(shared) + _AROUND < len(text) else ""),
    }
