"""Contamination: which prompts of the set share text with the training data, shown by row.

Four kinds, each with its evidence: `same_prompt`, equal prompts after normalisation, however
short; `same_turn`, the last question of a prompt with its reference for an answer, equal to a
question and its answer in a training dialogue that went otherwise before; `ngram`, a run of words
of a prompt or a reference that a training row has too (Brown et al. 2020, "Language Models are
Few-Shot Learners", appendix C: 13 words; see `espalier.contamination`); `near_prompt`, prompts
whose word n-grams have a Jaccard similarity at or above the threshold.

The set is held in memory and the training rows are read past it once, so that memory grows with
the set alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from espalier.contamination import EqualTexts, NearTexts, NgramIndex, Vocabulary
from espalier.errors import InputError
from espalier.evaluate.config_contamination import ContaminationConfig
from espalier.evaluate.evalset import EvalSet, Row
from espalier.evaluate.rows import row_error
from espalier.evaluate.training_rows import training_rows
from espalier.files import atomic_write_text, hash_path, read_json
from espalier.formats.read import Reject
from espalier.progress import Progress
from espalier.records import Example, Message, PreferencePair, dump_line
from espalier.run import MANIFEST, StageContext

FILE = "contamination.jsonl"
KINDS = ("same_prompt", "same_turn", "ngram", "near_prompt")
# Stages whose training data a model of this run has seen, directly or as rewards. The reward
# model of the evaluation is not among them, since it answers nothing, and a pretraining corpus
# has to be named: it may be far larger than all else, and be read in part only.
_TRAINING = ("sft", "reward", "ppo")
_DATA = "curate/train.jsonl"
_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt", ".gz", ".zst", ".arrow")
_SHOWN = 300


@dataclass
class Found:
    """What training rows share with one row of the set: evidence by kind, the most telling one.

    `training_rows` counts the training rows that share anything with it, `whole_reference` says
    that one of them has all of the reference.
    """

    evidence: dict[str, dict[str, Any]] = field(default_factory=dict)
    training_rows: int = 0
    whole_reference: bool = False

    @property
    def kinds(self) -> list[str]:
        """In the order of `KINDS`; who has the whole prompt needs not be told of its last turn."""
        hidden = "same_turn" if "same_prompt" in self.evidence else ""
        return [kind for kind in KINDS if kind in self.evidence and kind != hidden]


@dataclass(frozen=True)
class Contamination:
    """By place in the set what was found there, and which files were read (rows by name)."""

    found: Mapping[int, Found]
    files: Mapping[str, int]
    size: int
    unread: Mapping[str, str] = field(default_factory=dict)  # of a file: what could not be read

    def labels(self) -> list[str]:
        """One label a row of the set: its kinds, joined by +; empty for a clean row."""
        return ["+".join(self.found[i].kinds) if i in self.found else "" for i in range(self.size)]

    def counts(self) -> dict[str, int]:
        """Contaminated rows, rows of each kind (a row may be of several), and those whose
        reference stands whole in the training data."""
        found = self.found.values()
        by_kind = {kind: sum(kind in one.kinds for one in found) for kind in KINDS}
        whole = sum(one.whole_reference for one in found)
        return {"rows": len(found), **by_kind, "whole_reference": whole}


# --- which files ------------------------------------------------------------------------------


def training_files(
    context: StageContext, options: ContaminationConfig | None, evaluation_set: Path
) -> dict[str, Path]:
    """{name as shown: path} of the training files to compare with; empty where there are none.

    Those that the recipe names, else those that the manifests of the run's training stages name
    (but for the set itself), else the curated training rows. Raises InputError for a file that
    the recipe names and that is not there.
    """
    if options is None:
        return {}
    if options.against:
        found = {name: context.path(name) for name in options.against}
        for name, path in found.items():
            if not path.exists():
                raise InputError(
                    "A training file of the contamination check is not there.",
                    where=str(path),
                    expected=f"the file '{name}' of evaluate.contamination.against",
                )
        return found
    found = {}
    for stage in _TRAINING:
        found |= _inputs_of(context, stage)
    if not found and context.path(_DATA).is_file():
        found[_DATA] = context.path(_DATA)
    same = {evaluation_set.resolve()}
    return {name: path for name, path in found.items() if path.resolve() not in same}


def _inputs_of(context: StageContext, stage: str) -> dict[str, Path]:
    """The data files that a stage was trained on, as far as they are still there."""
    manifest = context.stage_folder(stage) / MANIFEST
    value = read_json(manifest) if manifest.is_file() else {}
    inputs = value.get("inputs", {}) if isinstance(value, dict) else {}
    found = {}
    for name, item in inputs.items():
        # An input is called as the recipe wrote it; its path counts from where it was run.
        places = [context.path(name), Path(str(item.get("path", "")))]
        path = next((one for one in places if one.is_file()), None)
        if name != "held_out" and path is not None and path.suffix in _SUFFIXES:
            found[name] = path
    return found


# --- looking -----------------------------------------------------------------------------------


class _Looking:
    """The texts of the set, ready to be looked for in training rows."""

    def __init__(self, evalset: EvalSet, options: ContaminationConfig) -> None:
        self.options = options
        self.words = Vocabulary()
        self.equal = EqualTexts()
        self.same: dict[str, list[int]] = {}
        self.equal_turns = EqualTexts()
        self.same_turn: dict[str, list[int]] = {}
        self.found: dict[int, Found] = {}
        limit = options.max_rows if options.max_rows is not None else 2 * len(evalset)
        self.grams: NgramIndex | None = None
        if options.ngram is not None:
            self.grams = NgramIndex(options.ngram, options.shortest, limit, self.words)
        self.near: NearTexts | None = None
        if options.near_threshold is not None:
            self.near = NearTexts(options.near_threshold, options.near_ngram, self.words)
        for index, row in enumerate(evalset.rows):
            self._add(index, row)

    def _add(self, index: int, row: Row) -> None:
        if self.options.fields != "reference":
            prompt = _user_text(row.messages)
            for turn in row.messages:
                if self.grams is not None and turn.role == "user":
                    self.grams.add(f"{index} prompt", turn.content)
            _group(self.equal, self.same, index, prompt)
            if self.near is not None:
                self.near.add(str(index), prompt)
        if self.options.fields != "prompt" and self.grams is not None and row.reference:
            self.grams.add(f"{index} reference", row.reference)
        last = row.messages[-1] if row.messages else None
        if self.options.fields == "both" and row.reference and last and last.role == "user":
            (text,) = _turns([last, Message("assistant", row.reference)])
            _group(self.equal_turns, self.same_turn, index, text)

    def look(self, row: Example | PreferencePair, file: str, number: int) -> None:
        """Take note of all that a training row shares with the set."""
        place = {"file": file, "number": number, "row": row.id}
        hits: set[int] = set()
        codes = {text: self.words.encode(text) for text in _texts(row)}
        for text, encoded in codes.items():
            hits |= self._shared_words(text, encoded, place)
        if self.options.fields != "reference":
            prompt = _user_text(_prompt(row))
            hits |= self._prompts(prompt, codes.get(prompt), place)
        if self.same_turn:
            hits |= self._last_turns(row, place)
        for index in hits:
            self.found[index].training_rows += 1

    def _shared_words(self, text: str, codes: str, place: dict[str, Any]) -> set[int]:
        hits = set()
        for span in self.grams.spans(text, codes) if self.grams is not None else []:
            shown = text[span.start : span.end]
            for key, share in zip(span.keys, span.shares, strict=True):
                if share < self.options.min_share:
                    continue
                index, part = key.split(" ")
                evidence = {"kind": "ngram", "part": part, "share": round(share, 4), **place}
                self._note(int(index), {**evidence, "text": shown[:_SHOWN]}, share)
                hits.add(int(index))
                if part == "reference" and share > 1 - 1e-9:
                    self.found[int(index)].whole_reference = True
        return hits

    def _last_turns(self, row: Example | PreferencePair, place: dict[str, Any]) -> set[int]:
        hits: set[int] = set()
        for text in _turns(_dialogue(row)):
            key = self.equal_turns.find(text)
            for index in self.same_turn.get(key, []) if key is not None else []:
                self._note(index, {"kind": "same_turn", **place, "text": text[:_SHOWN]}, 1.0)
                self.found[index].whole_reference = True
                hits.add(index)
        return hits

    def _prompts(self, prompt: str, codes: str | None, place: dict[str, Any]) -> set[int]:
        hits = set()
        key = self.equal.find(prompt)
        for index in self.same.get(key, []) if key is not None else []:
            self._note(index, {"kind": "same_prompt", **place, "text": prompt[:_SHOWN]}, 1.0)
            hits.add(index)
        for key, jaccard in self.near.matches(prompt, codes) if self.near is not None else []:
            evidence = {"kind": "near_prompt", "jaccard": round(jaccard, 4), **place}
            self._note(int(key), {**evidence, "text": prompt[:_SHOWN]}, jaccard)
            hits.add(int(key))
        return hits

    def _note(self, index: int, evidence: dict[str, Any], weight: float) -> None:
        """Keep the most telling evidence of each kind, the first of equals."""
        found = self.found.setdefault(index, Found())
        before = found.evidence.get(evidence["kind"])
        if before is None or weight > before.get("share", before.get("jaccard", 1.0)) + 1e-4:
            found.evidence[evidence["kind"]] = evidence


def find_contamination(
    evalset: EvalSet, files: Mapping[str, Path], options: ContaminationConfig
) -> Contamination:
    """Read the training files past the set.

    Raises InputError for a file that the recipe names and that can't be read, or a bad row in
    one: rows that were silently left out would make the set look clean. Of the run's own files
    such rows are counted in `unread`, since they were trained on as they are.
    """
    looking = _Looking(evalset, options)
    counts: dict[str, int] = {}
    unread: dict[str, str] = {}
    with Progress("evaluate: contamination", None, unit="rows") as progress:
        for name, path in files.items():
            counts[name] = 0
            rejects: list[Reject] = []
            try:
                for number, row in enumerate(training_rows(path, rejects), 1):
                    looking.look(row, name, number)
                    counts[name] = number
                    progress.update()
                    if rejects and options.against:
                        break
                if rejects and options.against:
                    raise row_error(rejects[0])
            except InputError as error:
                if options.against:
                    raise
                unread[name] = error.what
            if rejects:
                unread[name] = f"{len(rejects):,} rows can't be read"
    return Contamination(dict(sorted(looking.found.items())), counts, len(evalset), unread)


def write_findings(found: Contamination, evalset: EvalSet, path: Path) -> None:
    """One line a contaminated row: its id, its kinds, how many training rows, the evidence."""
    lines = [
        dump_line(
            {
                "id": evalset.rows[index].id,
                "kinds": one.kinds,
                "training_rows": one.training_rows,
                "found": [one.evidence[kind] for kind in one.kinds],
            }
        )
        for index, one in found.found.items()
    ]
    atomic_write_text(path, "".join(line + "\n" for line in lines))


def file_facts(found: Contamination, files: Mapping[str, Path]) -> list[dict[str, Any]]:
    """What was compared with, for the summary."""
    return [
        {"file": name, "rows": found.files[name], "sha256": hash_path(path)}
        for name, path in files.items()
    ]


def _prompt(row: Example | PreferencePair) -> Sequence[Message]:
    return row.prompt if isinstance(row, PreferencePair) else row.messages


def _dialogue(row: Example | PreferencePair) -> Sequence[Message]:
    if isinstance(row, Example):
        return row.messages
    return [*row.prompt, Message("assistant", row.chosen)]


def _turns(dialogue: Sequence[Message]) -> list[str]:
    """Each question with the answer that follows it."""
    return [
        f"{asked.content}\n{answer.content}"
        for asked, answer in pairwise(dialogue)
        if asked.role == "user" and answer.role == "assistant"
    ]


def _group(texts: EqualTexts, places: dict[str, list[int]], index: int, text: str) -> None:
    """Rows with one text share a key, and are found together."""
    key = texts.find(text) or str(index)
    texts.add(key, text)
    places.setdefault(key, []).append(index)


def _user_text(turns: Sequence[Message]) -> str:
    return "\n".join(turn.content for turn in turns if turn.role == "user")


def _texts(row: Example | PreferencePair) -> list[str]:
    texts = [turn.content for turn in _prompt(row)]
    return [*texts, row.chosen, row.rejected] if isinstance(row, PreferencePair) else texts
