"""Where rows come from: dataset files and the procedural task generator."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from espalier.curate.config import FileSource, ProceduralSource, SafetySource
from espalier.curate.decontaminate import draw_order
from espalier.curate.given import sound_meta
from espalier.curate.options import BadRow
from espalier.curate.pipeline import Tally, clip
from espalier.curate.safety import safety_rows
from espalier.errors import UsageError
from espalier.formats.detect import Detection, detect
from espalier.formats.files import container_of
from espalier.formats.read import Reject, kind_of, read_examples, read_pairs
from espalier.offline.source import draw_prompts
from espalier.progress import say
from espalier.records import Example, PreferencePair
from espalier.text import language, normalise, stable_hash


@dataclass(slots=True)
class OpenFile:
    """A file source with its path resolved and its format settled."""

    source: FileSource
    path: Path | str
    detection: Detection
    on_bad_row: BadRow

    @property
    def name(self) -> str:
        return self.source.name or Path(self.path).name.split(".")[0]

    @property
    def holds_pairs(self) -> bool:
        return kind_of(self.detection.format) == "pairs"

    @property
    def use(self) -> str:
        if self.source.use != "auto":
            return self.source.use
        return "preferences" if self.holds_pairs else "sft"

    def examples(self, tally: Tally, seed: str) -> Iterator[Example]:
        """Its rows, named, with their language; bad rows are counted as rejects of `tally`."""
        bad: list[Reject] = []
        sample = self.source.pick == "random" and self.source.limit is not None
        rows: Iterable[Example] = read_examples(
            self.path,
            format=self.detection.format,
            on_bad_row=self.on_bad_row,
            rejects=bad,
            limit=None if sample else self.source.limit,
            # A row without an answer is no broken row: a rule rejects it, or the teacher answers.
            answers="optional",
        )
        if sample and self.source.limit is not None:
            rows = _random_rows(rows, self.source.limit, f"{seed}:{self.name}")
        for row in rows:
            _count_bad(bad, tally, self.name)
            tally.seen += 1
            tally.kept += 1
            yield self._named(row)
        _count_bad(bad, tally, self.name)

    def pairs(self, tally: Tally) -> Iterator[PreferencePair]:
        """Its preference pairs, named, with their language."""
        bad: list[Reject] = []
        for pair in read_pairs(
            self.path,
            format=self.detection.format,
            on_bad_row=self.on_bad_row,
            rejects=bad,
            limit=self.source.limit,
        ):
            _count_bad(bad, tally, self.name)
            tally.seen += 1
            tally.kept += 1
            text = " ".join(message.content for message in pair.prompt)
            meta = {**sound_meta(pair.meta), "source": self.name}
            meta.setdefault("language", language(text))
            meta.setdefault("kind", "given")
            yield PreferencePair(
                pair.id, pair.prompt, pair.chosen, pair.rejected, pair.margin, meta
            )
        _count_bad(bad, tally, self.name)

    def _named(self, row: Example) -> Example:
        messages = row.messages
        meta = {**sound_meta(row.meta), "source": self.name}
        if row.response is None and any(m.role == "assistant" for m in messages):
            # A dialogue that ends with a question still teaches up to its last answer.
            while messages and messages[-1].role != "assistant":
                messages = messages[:-1]
            meta["trimmed"] = True
            row = Example.make(messages, meta)
        if "language" not in meta:
            meta["language"] = language(" ".join(m.content[:400] for m in messages[-2:]))
        if row.response is None and self.source.answer:
            meta["to_answer"] = True
        return Example(row.id, messages, meta)


@dataclass(frozen=True, slots=True)
class OpenSafety:
    """The built-in safety set as a source."""

    source: SafetySource
    holds_pairs = False

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def use(self) -> str:
        return self.source.use

    def examples(self, tally: Tally, seed: str) -> Iterator[Example]:
        """Its rows; without their answers where the teacher is to answer."""
        del seed
        rows = safety_rows(self.source.languages, self.source.include, self.source.name)
        for row in tally.all(rows):
            if self.source.answer:
                row = Example.make(row.prompt_messages, {**row.meta, "to_answer": True})
            yield row


def located(text: str, resolve: Callable[[str], Path]) -> Path | str:
    """A file as a path, the name of a dataset of the hub as it is.

    Raises InputError, with the nearest name, for a file that does not exist.
    """
    path = text if text.startswith("hf:") else resolve(text)
    return text if container_of(path).kind == "hub" else path


def open_file(source: FileSource, path: Path | str, on_bad_row: BadRow) -> OpenFile:
    """Settle the format of a file source and say which it is and why."""
    detection = detect(path, format=source.format)
    name = Path(path).name
    say(f"{name}: {detection.format} in {detection.container} ({detection.reason})")
    opened = OpenFile(source, path, detection, source.on_bad_row or on_bad_row)
    if opened.holds_pairs and opened.use != "preferences":
        raise UsageError(
            f"{name} holds preference pairs, but its source has `use: {source.use}`.",
            where=str(path),
            expected="`use: preferences` (or auto) for a file of pairs",
        )
    return opened


def _random_rows(rows: Iterable[Example], limit: int, seed: str) -> list[Example]:
    """A seeded sample of `limit` rows in their own order, in memory of `limit` rows."""
    heap: list[tuple[int, int, Example]] = []
    for index, row in enumerate(rows):
        place = -int.from_bytes(draw_order(f"{index}:{row.id}".encode(), seed), "big")
        if len(heap) < limit:
            heapq.heappush(heap, (place, index, row))
        elif place > heap[0][0]:
            heapq.heapreplace(heap, (place, index, row))
    return [row for _, _, row in sorted(heap, key=lambda item: item[1])]


def _count_bad(bad: list[Reject], tally: Tally, name: str) -> None:
    for item in bad:
        tally.seen += 1
        tally.reject_text(
            item.raw,
            "unreadable",
            f"{item.reason}; found {clip(item.found, 80)}; expected {item.expected}",
            source=name,
            meta={"path": Path(item.path).name, "line": item.line, "field": item.field},
        )
    bad.clear()


@dataclass(slots=True)
class Drawing:
    """Draws the prompts of procedural sources; those drawn for evaluation stay taken."""

    seed: int
    taken: set[str] = field(default_factory=set)

    def draw(self, source: ProceduralSource, count: int, purpose: str) -> list[Example]:
        """`count` distinct prompts of a source, none of them held out; with their answers in
        `meta.reference`."""
        rows = draw_prompts(
            count,
            languages=source.languages,
            families=source.families,
            seed=stable_hash(f"{self.seed}:{source.name}:{purpose}") % 2**31,
            exclude=self.taken,
        )
        return [row.with_meta(source=source.name) for row in rows]

    def hold(self, rows: Iterable[Example]) -> None:
        """Never draw these prompts again."""
        self.taken.update(normalise(row.prompt) for row in rows)


def prompts_to_answer(rows: Iterable[Example]) -> Iterator[Example]:
    """Drawn prompts without their truth, which no model may see, marked for the teacher."""
    for row in rows:
        meta = {key: value for key, value in row.meta.items() if key != "reference"}
        yield Example(row.id, row.messages, {**meta, "to_answer": True})
