"""What a training needs to know of a dataset file: rows, languages, turns, lengths in tokens.

The whole file is read once; lengths are those of a sample drawn from all rows, in tokens of the
model's tokenizer where its `tokenizer.json` and the package tokenizers are there, else estimated.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from espalier.errors import InputError
from espalier.formats.base import Answers
from espalier.formats.detect import detect
from espalier.formats.files import BadRow, container_of
from espalier.formats.read import kind_of, read_examples, read_pairs
from espalier.inspection import HUB_ROWS, percentiles
from espalier.records import Example, Message, Messages, PreferencePair
from espalier.templates import get_template
from espalier.text import language, normalise, stable_hash

SAMPLE = 4000
# Markers, roles and line ends that a template writes around a turn.
TURN_TOKENS = 6
_ASCII_PER_TOKEN = 4
Count = Callable[[Sequence[str]], list[int]]
Record = Example | PreferencePair


@dataclass(frozen=True, slots=True)
class RowLength:
    """Tokens of one sampled row: all of it, its answers, and its last prompt alone."""

    whole: int
    learnt: int
    answer: int


@dataclass(frozen=True)
class DataFacts:
    """A dataset file as a training sees it; `lengths` are those of a `sample` of its rows.

    `repeated`: rows whose prompt came before. `several_turns`, `system`: rows with more than one
    question, and with a system text. `counted`: by the model's tokenizer, not estimated; `count`
    is what counted, and knows the sample's texts.
    """

    path: str
    format: str
    kind: Literal["examples", "pairs"]
    rows: int
    bad: int
    repeated: int
    unanswered: int
    several_turns: int
    system: int
    languages: dict[str, int]
    lengths: list[RowLength] = field(repr=False)
    counted: bool
    sample: Sequence[Record] = field(repr=False)
    count: Count = field(repr=False, compare=False)

    def quantile(self, percent: int, of: Literal["whole", "learnt", "answer"] = "whole") -> int:
        """The length that so many percent of the rows do not exceed."""
        return percentiles([getattr(row, of) for row in self.lengths], [percent])[0]

    def mean_tokens(self, limit: int, extra: int = 0) -> float:
        """Mean tokens of a row with `extra` ones around it, cut at `limit`."""
        sizes = [min(row.whole + extra, limit) for row in self.lengths]
        return sum(sizes) / max(1, len(sizes))

    def mean_prompt(self, limit: int, extra: int = 0) -> float:
        """Mean tokens of what stands before a row's last answer, cut at `limit`."""
        sizes = [min(row.whole - row.answer + extra, limit) for row in self.lengths]
        return sum(sizes) / max(1, len(sizes))

    def of_rows(self, rows: int, sample: Sequence[Record]) -> DataFacts:
        """The file as so many rows that look like those of another sample."""
        return replace(self, rows=rows, lengths=_lengths(sample, self.count), sample=sample)

    @property
    def learnt_part(self) -> float:
        """The part of the tokens that the loss is taken over."""
        whole = sum(row.whole for row in self.lengths)
        return sum(row.learnt for row in self.lengths) / max(1, whole)

    def language_shares(self) -> list[tuple[str, float]]:
        """Languages with their part of the rows, the most frequent first."""
        return [
            (name, count / max(1, self.rows))
            for name, count in Counter(self.languages).most_common()
        ]


def estimate_tokens(text: str) -> int:
    """Roughly the tokens of a text: four ASCII characters or one other character each."""
    plain = len(text.encode("ascii", errors="ignore"))
    return -(-plain // _ASCII_PER_TOKEN) + len(text) - plain


def token_counter(folder: Path | None) -> Count | None:
    """Counts the tokens of texts as the model in `folder` does, or None where it can't be known.

    Raises InputError for a tokenizer file that is broken.
    """
    path = folder / "tokenizer.json" if folder is not None else None
    if path is None or not path.is_file():
        return None
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None
    try:
        tokenizer: Any = Tokenizer.from_file(str(path))
    except Exception as error:
        # The package raises nothing more specific than this class itself.
        if type(error) is not Exception:
            raise
        raise InputError(
            "The tokenizer of the model can't be read.",
            where=str(path),
            expected="a tokenizer.json that the package tokenizers reads",
        ) from error

    def count(texts: Sequence[str]) -> list[int]:
        encoded = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(one) for one in encoded]

    return count


def template_tokens(name: str, folder: Path | None) -> int:
    """Tokens that a named template writes into each row besides what its turns are counted with:
    a preamble, above all; in tokens of the model in `folder` where they can be counted."""
    turns = (Message("user", "?"), Message("assistant", "!"))
    text = "".join(piece.text for piece in get_template(name).segments(turns, {}))
    count = token_counter(folder)
    size = count([text])[0] if count is not None else estimate_tokens(text)
    return max(0, size - 2 * TURN_TOKENS)


def read_data(path: str, *, format: str = "auto", tokenizer: Path | None = None) -> DataFacts:
    """Read a dataset file once; `tokenizer` is the folder of the model that will learn from it.

    Raises InputError where the file can't be read, its format is unknown, or no row can be used.
    """
    detection = detect(path, format=format)
    limit = HUB_ROWS if container_of(path).kind == "hub" else None
    gathered = _gather(path, detection.format, limit, "required")
    unanswered = 0
    if not gathered.rows and kind_of(detection.format) == "examples":
        unanswered = _gather(path, detection.format, limit, "optional").rows
    if not gathered.rows:
        what = "has an answer" if unanswered else "can be used"
        raise InputError(
            f"No row of the file {what}.",
            where=str(path),
            expected="rows with an answer to learn from",
            hint=f"`espalier inspect {path}` says what is wrong with them"
            + ("; a teacher can answer prompts (curate.sources: answer)" if unanswered else ""),
        )
    exact = token_counter(tokenizer)
    count = remembered(exact or (lambda texts: [estimate_tokens(text) for text in texts]))
    return DataFacts(
        path=str(path),
        format=detection.format,
        kind=kind_of(detection.format),
        rows=gathered.rows,
        bad=gathered.bad,
        repeated=gathered.repeated,
        unanswered=unanswered,
        several_turns=gathered.several,
        system=gathered.system,
        languages=dict(gathered.languages),
        lengths=_lengths(gathered.sample, count),
        counted=exact is not None,
        sample=gathered.sample,
        count=count,
    )


def remembered(count: Count) -> Count:
    """Counts each text once: rows that are cut between their turns are made of the same texts."""
    known: dict[str, int] = {}

    def sizes(texts: Sequence[str]) -> list[int]:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known.update(zip(new, count(new), strict=True))
        return [known[text] for text in texts]

    return sizes


class _Gathered:
    """Counts of one pass over the rows, and a sample of them (reservoir)."""

    def __init__(self) -> None:
        self.rows = self.bad = self.repeated = self.several = self.system = 0
        self.languages: Counter[str] = Counter()
        self.sample: list[Record] = []
        self._seen: set[int] = set()
        self._draw = random.Random("0:data facts")

    def add(self, record: Record) -> None:
        self.rows += 1
        messages = _prompt(record)
        self.languages[language(" ".join(m.content for m in record_messages(record)))] += 1
        users = [m.content for m in messages if m.role == "user"]
        self.several += len(users) > 1
        self.system += any(m.role == "system" for m in messages)
        key = prompt_hash(messages)
        self.repeated += key in self._seen
        self._seen.add(key)
        if len(self.sample) < SAMPLE:
            self.sample.append(record)
        elif (place := self._draw.randrange(self.rows)) < SAMPLE:
            self.sample[place] = record

    def put_aside(self, bad: list[BadRow]) -> None:
        """Count bad rows, and let go of their text."""
        self.bad += len(bad)
        bad.clear()


def _gather(path: str, format: str, limit: int | None, answers: Answers) -> _Gathered:
    gathered = _Gathered()
    bad: list[BadRow] = []
    if kind_of(format) == "pairs":
        for pair in read_pairs(
            path, format=format, on_bad_row="quarantine", rejects=bad, limit=limit
        ):
            gathered.add(pair)
            gathered.put_aside(bad)
    else:
        for example in read_examples(
            path,
            format=format,
            on_bad_row="quarantine",
            rejects=bad,
            limit=limit,
            answers=answers,
        ):
            gathered.add(example)
            gathered.put_aside(bad)
    gathered.put_aside(bad)
    return gathered


def prompt_hash(messages: Messages) -> int:
    """Equal for equal prompts, as curation's `dedup: {key: prompt}` has it: all turns before the
    last answer."""
    return stable_hash("\x1f".join(f"{m.role}:{normalise(m.content)}" for m in messages))


def record_messages(record: Record) -> Messages:
    """All turns; of a pair those of the prompt."""
    return record.prompt if isinstance(record, PreferencePair) else record.messages


def _prompt(record: Record) -> Messages:
    return record.prompt if isinstance(record, PreferencePair) else record.prompt_messages


def _lengths(sample: Sequence[Record], count: Count) -> list[RowLength]:
    turns: list[tuple[int, bool, str]] = []
    for number, record in enumerate(sample):
        turns += [(number, m.role == "assistant", m.content) for m in record_messages(record)]
        if isinstance(record, PreferencePair):
            longer = max(record.chosen, record.rejected, key=len)
            turns.append((number, True, longer))
    sizes = count([text for _, _, text in turns])
    whole, learnt, answer = ([0] * len(sample) for _ in range(3))
    for (number, is_answer, _), size in zip(turns, sizes, strict=True):
        whole[number] += size + TURN_TOKENS
        if is_answer:
            learnt[number] += size + 1
            answer[number] = size + 1
    return [RowLength(*row) for row in zip(whole, learnt, answer, strict=True)]
