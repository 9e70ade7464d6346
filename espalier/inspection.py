"""What `espalier inspect FILE` says of a dataset file."""

from __future__ import annotations

import random
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from espalier.formats.base import Answers
from espalier.formats.detect import Detection, detect
from espalier.formats.files import BadRow, container_of
from espalier.formats.read import kind_of, read_examples, read_pairs
from espalier.records import Example, Message, Messages, PreferencePair
from espalier.text import language, length

# Rows of a hub dataset come over the network: enough of them to judge it.
HUB_ROWS = 10_000
_SAMPLES = 3
_SHOWN = 240
_BAD_SHOWN = 5
_NUMBER = re.compile(r"\d+")
_PERCENTILES = (0, 10, 50, 90, 99, 100)


@dataclass
class _BadRows:
    """Rows that are bad for one reason: the first of them, and how many."""

    first: BadRow
    count: int = 0


@dataclass
class _Counts:
    """What is gathered in one pass over the rows."""

    rows: int = 0
    turns: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    meta: Counter[str] = field(default_factory=Counter)
    categories: Counter[str] = field(default_factory=Counter)
    lengths: dict[str, array[int]] = field(default_factory=dict)
    longer_chosen: int = 0
    margins: int = 0
    samples: list[tuple[int, Example | PreferencePair]] = field(default_factory=list)
    bad: dict[str, _BadRows] = field(default_factory=dict)

    def add(self, record: Example | PreferencePair, draw: random.Random) -> None:
        """Count one record; the samples are the first one and two drawn from the others."""
        self.rows += 1
        texts = _texts(record)
        self.languages[language(" ".join(texts.values()))] += 1
        for name, text in texts.items():
            self.lengths.setdefault(name, array("q")).append(length(text))
        self.meta.update(record.meta.keys())
        category = record.meta.get("category")
        if isinstance(category, str):
            self.categories[category] += 1
        if isinstance(record, PreferencePair):
            self.longer_chosen += self.lengths["chosen"][-1] > self.lengths["rejected"][-1]
            self.margins += record.margin is not None
        self.turns[_turns(record)] += 1
        self._sample(record, draw)

    def put_aside(self, rows: list[BadRow]) -> None:
        """Count bad rows by reason, and let go of their text."""
        for row in rows:
            # Columns and numbers of turns differ from row to row.
            key = _NUMBER.sub("N", row.reason)
            self.bad.setdefault(key, _BadRows(row)).count += 1
        rows.clear()

    @property
    def bad_rows(self) -> int:
        return sum(group.count for group in self.bad.values())

    def _sample(self, record: Example | PreferencePair, draw: random.Random) -> None:
        if len(self.samples) < _SAMPLES:
            self.samples.append((self.rows, record))
            return
        place = draw.randrange(self.rows - 1)
        if place < _SAMPLES - 1:
            self.samples[place + 1] = (self.rows, record)


def inspect_file(path: Path | str, *, format: str = "auto") -> str:
    """A page of text on a dataset file: format and why, counts, lengths, languages, samples, and
    the rows that could not be used.

    The whole file is read, in one pass. Raises InputError when the file can't be read or its
    format is unknown.
    """
    detection = detect(path, format=format)
    limit = HUB_ROWS if container_of(path).kind == "hub" else None
    counts = _count(path, detection, limit, "required")
    unanswered = False
    if not counts.rows and kind_of(detection.format) == "examples":
        prompts = _count(path, detection, limit, "optional")
        if prompts.rows:
            counts, unanswered = prompts, True
    return "\n".join(_page(path, detection, counts, unanswered, limit))


def _count(path: Path | str, detection: Detection, limit: int | None, answers: Answers) -> _Counts:
    counts, bad = _Counts(), list[BadRow]()
    draw = random.Random("0:inspect")
    mode: Literal["quarantine"] = "quarantine"
    records: Iterator[Example] | Iterator[PreferencePair]
    if kind_of(detection.format) == "pairs":
        records = read_pairs(
            path, format=detection.format, on_bad_row=mode, rejects=bad, limit=limit
        )
    else:
        records = read_examples(
            path,
            format=detection.format,
            on_bad_row=mode,
            rejects=bad,
            limit=limit,
            answers=answers,
        )
    for record in records:
        counts.add(record, draw)
        counts.put_aside(bad)
    counts.put_aside(bad)
    return counts


def _texts(record: Example | PreferencePair) -> dict[str, str]:
    if isinstance(record, PreferencePair):
        prompt = "\n".join(turn.content for turn in record.prompt)
        return {"prompt": prompt, "chosen": record.chosen, "rejected": record.rejected}
    texts = {"prompt": "\n".join(turn.content for turn in record.prompt_messages)}
    if record.response is not None:
        texts["response"] = record.response
    return texts


def _turns(record: Example | PreferencePair) -> str:
    messages = record.prompt if isinstance(record, PreferencePair) else record.messages
    users = sum(turn.role == "user" for turn in messages)
    system = " with system" if any(turn.role == "system" for turn in messages) else ""
    return f"{users if users < 5 else '5 or more'} turn{'s' if users != 1 else ''}{system}"


def _page(
    path: Path | str,
    detection: Detection,
    counts: _Counts,
    unanswered: bool,
    limit: int | None,
) -> Iterator[str]:
    kind = kind_of(detection.format)
    yield _line("file", f"{path}{_size(path)}")
    yield _line("container", detection.container)
    yield _line("format", f"{detection.format} ({kind})")
    yield _line("because", detection.reason)
    noun = "preference pairs" if kind == "pairs" else "examples"
    noun = "prompts without answers" if unanswered else noun
    # One row can give several examples, so the two are counted apart.
    yield _line("rows", f"{counts.rows:,} {noun}, {counts.bad_rows:,} bad rows")
    if limit is not None and counts.rows == limit:
        yield _line("", f"(only the first {limit:,} were read)")
    if counts.rows:
        yield from _figures(counts)
    yield from _bad_rows(counts, kind)
    for number, record in sorted(counts.samples, key=lambda sample: sample[0]):
        yield ""
        yield f"sample {number:,}"
        yield from _sample_lines(record)


def _line(label: str, text: str) -> str:
    return f"{label:<11} {text}".rstrip()


def _size(path: Path | str) -> str:
    file = Path(path)
    if not file.is_file():
        return ""
    size = float(file.stat().st_size)
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1024 or unit == "GB":
            return f" ({size:.0f} {unit})" if unit == "bytes" else f" ({size:.1f} {unit})"
        size /= 1024
    return ""


def _figures(counts: _Counts) -> Iterator[str]:
    yield _line("turns", _shares(counts.turns, counts.rows))
    yield _line("languages", _shares(counts.languages, counts.rows))
    if counts.categories:
        yield _line("categories", _shares(counts.categories, counts.rows))
    if counts.meta:
        yield _line("meta", _shares(counts.meta, counts.rows))
    if "chosen" in counts.lengths:
        share = 100 * counts.longer_chosen / counts.rows
        yield _line("chosen", f"longer than rejected in {share:.1f} %")
        if counts.margins:
            yield _line("margin", f"known for {counts.margins:,} pairs")
    yield _line("lengths", "in words; each Chinese character counts as one")
    head = "".join(f"{_percentile_name(p):>9}" for p in _PERCENTILES)
    yield f"  {'':<9}{head}{'mean':>9}"
    for name, values in counts.lengths.items():
        cells = "".join(f"{value:>9,}" for value in percentiles(values, _PERCENTILES))
        yield f"  {name:<9}{cells}{sum(values) / len(values):>9.1f}"


def percentiles(values: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """Percentiles by the nearest-rank rule: the smallest value with p % of the values up to it."""
    ordered = sorted(values)
    return [ordered[max(0, -(-p * len(ordered) // 100) - 1)] for p in wanted]


def _percentile_name(percent: int) -> str:
    return {0: "min", 50: "median", 100: "max"}.get(percent, f"{percent} %")


def _shares(counter: Counter[str], total: int, limit: int = 8) -> str:
    parts = [f"{name} {_percent(n, total)}" for name, n in counter.most_common(limit)]
    more = len(counter) - limit
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")


def _percent(part: int, total: int) -> str:
    """A share that is not nothing is not shown as 0.0 %."""
    share = 100 * part / total
    return "<0.1 %" if part and share < 0.05 else f"{share:.1f} %"


def _bad_rows(counts: _Counts, kind: str) -> Iterator[str]:
    if not counts.bad:
        return
    yield ""
    yield _line("bad rows", f"{counts.bad_rows:,}; a run stops at the first, or puts them aside")
    yield _line("", "with `on_bad_row: quarantine`")
    if kind == "examples":
        yield _line("", "(a row that only lacks its answer stops no curation: a rule rejects it)")
    groups = sorted(counts.bad.values(), key=lambda group: (-group.count, group.first.line))
    for group in groups[:_BAD_SHOWN]:
        first = group.first
        yield f"  {group.count:>7,} x {first.reason}"
        yield _line("", f"first at {first.unit} {first.line}: found {_shown(first.found)}")
        yield _line("", f"expected {first.expected}")
    if len(groups) > _BAD_SHOWN:
        yield _line("", f"and {len(groups) - _BAD_SHOWN} other reasons")


def _sample_lines(record: Example | PreferencePair) -> Iterator[str]:
    if isinstance(record, PreferencePair):
        yield from _turn_lines(record.prompt)
        yield f"  chosen     {_shown(record.chosen)}"
        yield f"  rejected   {_shown(record.rejected)}"
    else:
        yield from _turn_lines(record.messages)


def _turn_lines(messages: Messages) -> Iterator[str]:
    shown: Sequence[Message] = messages
    if len(messages) > 6:
        shown = messages[:6]
    for turn in shown:
        yield f"  {turn.role:<10} {_shown(turn.content)}"
    if len(messages) > len(shown):
        yield f"  and {len(messages) - len(shown)} more turns"


def _shown(text: str) -> str:
    """A text on one line, cut, without signs that would steer a terminal."""
    flat = " ".join(text.split())
    flat = "".join(char if char.isprintable() else "�" for char in flat)
    return flat if len(flat) <= _SHOWN else flat[: _SHOWN - 1] + "…"
