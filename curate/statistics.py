"""What the files of a curate folder hold, counted in one pass a file and in bounded memory.

`statistics.json` is what the card and the data page are made from. Its keys:

    files          rows, counts by language, source, …, and lengths of each data file
    groups         the five task groups (of a sample where a file is large)
    openings       most frequent opening verbs with their objects, English and Chinese
    quality        marks of the judge, IFD, reward scores
    duplicates     cluster sizes, similarities and the largest near-duplicate clusters
    contamination  rows that share text with the evaluation
    rejects        by step and rule, with examples
    funnel         rows in and out of each step
    spending       requests, tokens and money by step and model
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from espalier.curate.clusters import cluster_statistics, result_lines
from espalier.curate.groups import GROUPS, known_group, task_group
from espalier.curate.openings import opening
from espalier.curate.pipeline import clip
from espalier.files import atomic_write_json, read_json
from espalier.records import Message
from espalier.spread import Reservoir, Spread, Tops, length_edges
from espalier.text import language, length

STATISTICS = "statistics.json"
FILES = {
    "train.jsonl": "training rows",
    "eval.jsonl": "held-out rows with their references",
    "prompts.jsonl": "prompts for RL and sampling",
    "preferences.jsonl": "preference pairs",
    "preferences_eval.jsonl": "preference pairs for the evaluation's reward model",
}
COUNTED = ("language", "source", "category", "group", "operator", "teacher", "round", "kind")
SAMPLE_ROWS = 5_000
EXAMPLES = 3
TEXT_CHARACTERS = 400
_VERBS, _NOUNS = 25, 8
_OPENING_LANGUAGES = ("en", "zh")


def write_statistics(
    folder: Path, spending: Sequence[Mapping[str, Any]] = (), *, seed: int = 1
) -> dict[str, Any]:
    """Collect the statistics of a curate folder, write `statistics.json`, return them."""
    found = collect(folder, spending, seed=seed)
    atomic_write_json(folder / STATISTICS, found)
    return found


def collect(
    folder: Path, spending: Sequence[Mapping[str, Any]] = (), *, seed: int = 1
) -> dict[str, Any]:
    """The statistics of the files that exist in `folder` (module docstring for the keys).

    `spending` is a list of `{step, model, requests, prompt_tokens, completion_tokens, money,
    currency}`. Files are read line by line; samples are seeded, so the result depends on the
    files and the seed alone. Raises InputError for a line that is not a JSON object.
    """
    sampled = next((name for name in FILES if (folder / name).is_file()), None)
    sample: Reservoir[_Sampled] = Reservoir(SAMPLE_ROWS, f"{seed}:statistics")
    quality = _Quality()
    files: dict[str, Any] = {}
    for name, what in FILES.items():
        if (folder / name).is_file():
            counted = _File()
            for row in result_lines(folder / name):
                counted.add(row)
                if name == sampled:
                    _offer(sample, row)
                if name == "train.jsonl":
                    quality.add(row)
            size = (folder / name).stat().st_size
            files[name] = {"what": what, "bytes": size, **counted.to_json()}
    rows = sample.items()
    about = {"file": sampled, "rows": sample.seen, "sampled": len(rows)}
    funnel = folder / "funnel.json"
    return {
        "seed": seed,
        "files": files,
        "groups": {**about, **_groups(rows)},
        "openings": {**about, "languages": _openings(rows)},
        "quality": quality.to_json(),
        "duplicates": cluster_statistics(folder / "clusters.jsonl"),
        "contamination": _contamination(folder / "contamination.jsonl", seed),
        "rejects": _rejects(folder / "rejects.jsonl", seed),
        "funnel": read_json(funnel) if funnel.is_file() else [],
        "spending": [dict(item) for item in spending],
    }


class _File:
    """Counts and lengths of one data file, of conversations or of preference pairs."""

    def __init__(self) -> None:
        self.rows = 0
        self.with_parents = 0
        self.counts = {name: Tops() for name in COUNTED}
        self.lengths: dict[str, dict[str, Spread]] = {}

    def add(self, row: Mapping[str, Any]) -> None:
        self.rows += 1
        meta = _meta(row)
        turns = _turns(row)
        prompt = _last(turns, "user")
        tongue = meta.get("language")
        if not isinstance(tongue, str):
            tongue = language(prompt[:TEXT_CHARACTERS])
        for name, tops in self.counts.items():
            value = tongue if name == "language" else meta.get(name)
            if isinstance(value, str) or (isinstance(value, int) and name == "round"):
                tops.add(str(value))
        self.with_parents += bool(meta.get("parents"))
        self._measure(tongue, "prompt", length(prompt))
        if "chosen" in row:
            self._measure(tongue, "chosen", length(str(row["chosen"])))
            self._measure(tongue, "rejected", length(str(row.get("rejected", ""))))
        elif turns and turns[-1].role == "assistant":
            self._measure(tongue, "answer", length(turns[-1].content))
        self._measure(tongue, "turns", sum(turn.role != "system" for turn in turns))

    def _measure(self, tongue: str, what: str, value: int) -> None:
        spreads = self.lengths.setdefault(what, {})
        for name in ("all", tongue):
            # Six languages are shown apart; a file may name any number.
            if name in spreads or len(spreads) < 7:
                spreads.setdefault(name, Spread()).add(value)

    def to_json(self) -> dict[str, Any]:
        lengths = {what: _same_bins(spreads) for what, spreads in self.lengths.items()}
        counts = {f"by_{name}": tops.to_json() for name, tops in self.counts.items() if tops.counts}
        return {"rows": self.rows, "with_parents": self.with_parents, **counts, "lengths": lengths}


def _same_bins(spreads: Mapping[str, Spread]) -> dict[str, Any]:
    """The lengths of all rows and of each language, in bins that can be compared."""
    edges = length_edges(max(spreads["all"].counts))
    return {name: spread.to_json(edges) for name, spread in spreads.items()}


def _meta(row: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = row.get("meta")
    return meta if isinstance(meta, Mapping) else {}


def _turns(row: Mapping[str, Any]) -> list[Message]:
    turns = row.get("messages") or row.get("prompt")
    return [
        Message(turn.get("role", "user"), str(turn.get("content", "")))
        for turn in (turns if isinstance(turns, list) else [])
        if isinstance(turn, Mapping)
    ]


def _last(turns: Sequence[Message], role: str) -> str:
    return next((turn.content for turn in reversed(turns) if turn.role == role), "")


class _Sampled:
    """What openings and groups need of one row, texts clipped."""

    __slots__ = ("group", "instruction", "language", "turns")

    def __init__(self, row: Mapping[str, Any]) -> None:
        meta = _meta(row)
        turns = [turn for turn in _turns(row) if turn.role == "user"]
        first = turns[0].content if turns else ""
        given = meta.get("input")
        if isinstance(given, str) and given and first.endswith(given):
            first = first[: -len(given)].rstrip()
        self.instruction = first[:TEXT_CHARACTERS]
        self.language = language(self.instruction)
        self.turns = len(turns)
        self.group = known_group(meta)


def _offer(sample: Reservoir[_Sampled], row: Mapping[str, Any]) -> None:
    at = sample.place()
    if at is not None:
        sample.put(at, _Sampled(row))


def _groups(rows: Iterable[_Sampled]) -> dict[str, Any]:
    counts = dict.fromkeys(GROUPS, 0)
    guessed = 0
    for row in rows:
        if row.group is None:
            guessed += 1
        many = [Message("user", "")] * row.turns
        counts[row.group or task_group(row.instruction, many)] += 1
    return {"guessed": guessed, "counts": counts}


def _openings(rows: Iterable[_Sampled]) -> dict[str, Any]:
    """By language: how many rows, how many had an opening, and the commonest verbs."""
    found: dict[str, Any] = {}
    pairs: dict[str, Counter[tuple[str, str | None]]] = {}
    totals: Counter[str] = Counter()
    for row in rows:
        if row.language not in _OPENING_LANGUAGES:
            continue
        totals[row.language] += 1
        first = opening(row.instruction, row.language)
        if first is not None:
            pairs.setdefault(row.language, Counter())[first.verb, first.noun] += 1
    for name in _OPENING_LANGUAGES:
        if totals[name]:
            counts = pairs.get(name, Counter())
            found[name] = {
                "rows": totals[name],
                "recognised": counts.total(),
                "verbs": _verbs(counts),
            }
    return found


def _verbs(counts: Counter[tuple[str, str | None]]) -> list[dict[str, Any]]:
    verbs: Counter[str] = Counter()
    nouns: dict[str, Counter[str]] = {}
    for (verb, noun), count in counts.items():
        verbs[verb] += count
        if noun is not None:
            nouns.setdefault(verb, Counter())[noun] += count
    return [
        {"verb": verb, "count": count, "nouns": _ranked(nouns.get(verb, Counter()), _NOUNS)}
        for verb, count in _ranked(verbs, _VERBS)
    ]


def _ranked(counts: Mapping[str, int], most: int) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:most]


class _Quality:
    """The numbers in `meta.quality` of the training rows."""

    def __init__(self) -> None:
        self.rows = 0
        self.spreads: dict[str, Spread] = {}
        self.safe = {"yes": 0, "no": 0}

    def add(self, row: Mapping[str, Any]) -> None:
        quality = _meta(row).get("quality")
        if not isinstance(quality, Mapping):
            return
        self.rows += 1
        for name, value in quality.items():
            if isinstance(value, bool):
                if name == "safe":
                    self.safe["yes" if value else "no"] += 1
            elif isinstance(value, int | float) and math.isfinite(value):
                self.spreads.setdefault(str(name), Spread()).add(value)

    def to_json(self) -> dict[str, Any]:
        if not self.rows:
            return {}
        numbers = {name: self.spreads[name].to_json() for name in sorted(self.spreads)}
        safe = {"safe": self.safe} if sum(self.safe.values()) else {}
        return {"rows": self.rows, **safe, "numbers": numbers}


def _rejects(path: Path, seed: int) -> list[dict[str, Any]]:
    """Rejects by step and rule, the steps in the file's order, the largest rules first."""
    counts: dict[tuple[str, str], Reservoir[dict[str, Any]]] = {}
    for row in result_lines(path):
        step, rule = str(row.get("step", "")), str(row.get("rule", ""))
        sample = counts.get((step, rule))
        if sample is None:
            sample = counts[step, rule] = Reservoir(EXAMPLES, f"{seed}:{step}:{rule}")
        at = sample.place()
        if at is not None:
            sample.put(at, _example(row))
    steps = list(dict.fromkeys(step for step, _ in counts))
    ordered = sorted(counts.items(), key=lambda item: (steps.index(item[0][0]), -item[1].seen))
    return [
        {"step": step, "rule": rule, "count": sample.seen, "examples": sample.items()}
        for (step, rule), sample in ordered
    ]


def _example(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": str(row.get("id", "")),
        "text": clip(str(row.get("text", "")), TEXT_CHARACTERS),
        "evidence": clip(str(row.get("evidence", ""))),
        "source": row.get("source"),
    }


def _contamination(path: Path, seed: int) -> dict[str, Any]:
    """Rows by action, kind and evaluation file, with examples of what they share."""
    actions, kinds, files = Tops(), Tops(), Tops()
    sample: Reservoir[dict[str, Any]] = Reservoir(EXAMPLES, f"{seed}:contamination")
    for row in result_lines(path):
        found = [item for item in row.get("found") or [] if isinstance(item, Mapping)]
        actions.add(str(row.get("action", "")))
        for name, tops in (("kind", kinds), ("file", files)):
            for value in dict.fromkeys(str(item.get(name, "")) for item in found):
                tops.add(value)
        sample.add({"id": row.get("id"), "source": row.get("source"),
                    "found": [_finding(item) for item in found[:EXAMPLES]]})  # fmt: skip
    if not sample.seen:
        return {}
    return {
        "rows": sample.seen,
        "by_action": actions.to_json(),
        "by_kind": kinds.to_json(),
        "by_file": files.to_json(),
        "examples": sample.items(),
    }


def _finding(item: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("kind", "file", "number", "row", "role", "tokens", "jaccard")
    shown = {name: item[name] for name in kept if name in item}
    return {**shown, "text": clip(str(item.get("text", "")), TEXT_CHARACTERS)}
