"""Ratings of answers in SQLite: each is on the disk before the rater is told that it is saved.

Every rating is a row of its own and none is ever changed: a second rating of an item by the same
person stands behind the first, and the last one counts. The texts that were rated stay beside
them, so that a rating can be read without the run.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from espalier.blind import Item
from espalier.errors import InputError

SUFFIXES = (".sqlite", ".sqlite3", ".db")
# Where a run keeps the ratings of its answers.
FOLDER, FILE = "ratings", "ratings.sqlite"
Verdict = Literal["A", "B", "tie"]
Mark = int | str

# How long a writer waits for another process that writes.
_WAIT_SECONDS = 30
_TABLES = """
CREATE TABLE IF NOT EXISTS items(
    item TEXT PRIMARY KEY,
    prompt_id TEXT NOT NULL,
    texts TEXT NOT NULL  -- JSON: prompt, and answer or answer_a and answer_b
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ratings(
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    uid TEXT NOT NULL UNIQUE,
    item TEXT NOT NULL REFERENCES items(item),
    rater TEXT NOT NULL,
    part TEXT NOT NULL,  -- pairs, or the rubric
    value TEXT NOT NULL,  -- JSON: verdict, or marks and checks by name
    comment TEXT NOT NULL,
    turned INTEGER NOT NULL,  -- whether B stood first
    seconds REAL,
    at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS ratings_by_item ON ratings(item, rater, part);
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One rating, of a pair (`part` is "pairs") or by a rubric (`part` is its name).

    `verdict` is about the item's answers in the order of their texts; `marks` holds numbers from 1
    to 5, and "pass" or "fail" for checks. `uid` is chosen by who sends it: the same rating sent
    twice is kept once.
    """

    uid: str
    item: str
    rater: str
    part: str
    verdict: Verdict | None = None
    marks: Mapping[str, Mark] = field(default_factory=dict)
    comment: str = ""
    turned: bool = False
    seconds: float | None = None
    number: int = 0

    @property
    def value(self) -> dict[str, Mark]:
        """What the rating says, as a row of a file of ratings does."""
        return dict(self.marks) if self.verdict is None else {"verdict": self.verdict}


class RatingStore:
    """One database of ratings; may be used by several threads, and by several processes at once."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it. Raises InputError for a file that is no such database."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = threading.Lock()
        with _readable(path):
            self._connection = _connect(path)
            self._connection.execute("PRAGMA journal_mode = WAL")
            # A commit is on the disk when it returns, also if the machine loses its power.
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.executescript(_TABLES)

    def add_items(self, items: Iterable[Item]) -> None:
        """Keep the texts of what will be rated."""
        rows = [(one.name, one.prompt_id, _texts(one)) for one in items]
        with self._lock, _readable(self.path), self._connection:
            self._connection.executemany("INSERT OR IGNORE INTO items VALUES (?, ?, ?)", rows)

    def add(self, entry: Entry) -> bool:
        """Write a rating; when this returns it can't be lost. False: it was there already.

        Raises InputError where it can't be written, as on a full disk.
        """
        row = (
            entry.uid, entry.item, entry.rater, entry.part, json.dumps(entry.value), entry.comment,
            int(entry.turned), entry.seconds, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        )  # fmt: skip
        with self._lock, _readable(self.path), self._connection:
            done = self._connection.execute(
                "INSERT OR IGNORE INTO ratings(uid, item, rater, part, value, comment, turned, "
                "seconds, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
            return done.rowcount == 1

    def since(self, number: int) -> list[Entry]:
        """The ratings after this number, in the order in which they were written."""
        with self._lock, _readable(self.path):
            rows = self._connection.execute(
                "SELECT uid, item, rater, part, value, comment, turned, seconds, number "
                "FROM ratings WHERE number > ? ORDER BY number",
                (number,),
            ).fetchall()
        return [_entry(row) for row in rows]

    def close(self) -> None:
        """Move everything into the one file, and close it."""
        with self._lock:
            _settle(self._connection)
            self._connection.close()


def stored_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The ratings that count, each as a row of a file of ratings, with the texts.

    Raises InputError for a file that is no database of ratings.
    """
    query = """
        SELECT r.item, i.prompt_id, i.texts, r.rater, r.value, r.comment, r.turned, r.seconds, r.at
        FROM ratings r JOIN items i ON i.item = r.item
        WHERE r.number = (SELECT max(number) FROM ratings l
                          WHERE l.item = r.item AND l.rater = r.rater AND l.part = r.part)
        ORDER BY r.number"""
    with _readable(path):
        connection = _connect(path)
        try:
            rows = connection.execute(query).fetchall()
        finally:
            connection.close()
    for item, prompt_id, texts, rater, value, comment, turned, seconds, at in rows:
        yield {
            "item": item,
            "prompt_id": prompt_id,
            **json.loads(texts),
            **json.loads(value),
            "rater": rater,
            "comment": comment,
            "shown_first": "B" if turned else "A",
            "seconds": seconds,
            "rated_at": at,
        }


def settle(path: Path) -> None:
    """Move what was written last into the database file itself, so that its bytes tell all."""
    if not path.is_file():
        return
    with _readable(path):
        connection = _connect(path)
        try:
            _settle(connection)
        finally:
            connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_WAIT_SECONDS, check_same_thread=False)


def _settle(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise InputError(
            f"The database of ratings can't be used: {error}.",
            where=str(path),
            expected="a file that `espalier rate` wrote, in a folder that can be written to",
            hint="where the disk is full or the folder is read-only, copy the file elsewhere",
        ) from error


def _texts(item: Item) -> str:
    names = ("answer",) if len(item.answers) == 1 else ("answer_a", "answer_b")
    texts = {"prompt": item.prompt, **dict(zip(names, item.answers, strict=True))}
    # Escaped: SQLite takes no lone surrogate.
    return json.dumps(texts, ensure_ascii=True)


def _entry(row: tuple[Any, ...]) -> Entry:
    uid, item, rater, part, text, comment, turned, seconds, number = row
    value = json.loads(text)
    verdict = value.pop("verdict", None)
    return Entry(uid, item, rater, part, verdict, value, comment, bool(turned), seconds, number)
