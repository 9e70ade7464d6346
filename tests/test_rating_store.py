"""The database of ratings: what is written stays, through kills and several writers."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from espalier.blind import Item, Shown, mark_items, pair_items
from espalier.errors import InputError
from espalier.rating_store import Entry, RatingStore, settle, stored_rows

SHOWN = [
    Shown("p1", "one?", "m", "b"), Shown("p1", "one?", "n", "a"), Shown("p1", "one?", "o", "a"),
    Shown("p2", "二？", "m", "同\ud800"), Shown("p2", "二？", "n", "同\ud800 "),
]  # fmt: skip


def entry(uid: str, item: str, rater: str = "ann", verdict: str = "A") -> Entry:
    return Entry(uid, item, rater, "pairs", verdict)  # type: ignore[arg-type]


@pytest.fixture
def item() -> Item:
    [found] = pair_items(SHOWN)
    return found


def test_items_are_texts_with_all_models_that_gave_them(item: Item) -> None:
    assert item.answers == ("a", "b") and item.models == (("n", "o"), ("m",))
    assert item.name.endswith("-1") and item.prompt_id == "p1"
    marks = mark_items(SHOWN)
    assert [(one.answers, one.models) for one in marks] == [
        (("b",), (("m",),)), (("a",), (("n", "o"),)),
        (("同\ud800",), (("m",),)), (("同\ud800 ",), (("n",),)),
    ]  # fmt: skip


def test_the_last_rating_of_a_person_counts_and_all_stay(tmp_path: Path, item: Item) -> None:
    path = tmp_path / "deep" / "ratings.sqlite"
    store = RatingStore(path)
    store.add_items([item, *mark_items(SHOWN)])
    store.add_items([item])
    assert store.add(entry("u1", item.name)) and store.add(entry("u2", item.name, verdict="B"))
    assert not store.add(entry("u2", item.name, verdict="tie"))
    assert store.add(entry("u3", item.name, "bo", "tie"))
    mark = mark_items(SHOWN)[2]
    marks = {"accuracy": 5, "safety": "fail"}
    store.add(Entry("u4", mark.name, "ann", "quality", marks=marks, comment="'; DROP TABLE"))
    store.add(Entry("u5", mark.name, "ann", "hhh", marks={"honest": 2}))
    entries = store.since(1)
    assert [(e.uid, e.verdict) for e in entries] == [
        ("u2", "B"), ("u3", "tie"), ("u4", None), ("u5", None)
    ]  # fmt: skip
    assert [e.number for e in entries] == sorted({e.number for e in entries})
    store.close()
    rows = list(stored_rows(path))
    assert [(r["rater"], r.get("verdict")) for r in rows] == [
        ("ann", "B"), ("bo", "tie"), ("ann", None), ("ann", None)
    ]  # fmt: skip
    assert rows[0]["answer_a"] == "a" and rows[0]["answer_b"] == "b" and rows[0]["prompt"] == "one?"
    assert rows[2]["answer"] == "同\ud800" and rows[2]["safety"] == "fail"
    assert rows[3]["honest"] == 2 and "accuracy" not in rows[3]


def test_settled_bytes_tell_whether_anything_was_rated(tmp_path: Path, item: Item) -> None:
    path = tmp_path / "r.sqlite"
    store = RatingStore(path)
    store.add_items([item])
    store.add(entry("u1", item.name))
    settle(path)
    before = path.read_bytes()
    settle(path)
    assert path.read_bytes() == before
    store.add(entry("u2", item.name, "bo"))
    settle(path)
    assert path.read_bytes() != before
    store.close()
    settle(tmp_path / "none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()


def test_what_is_no_database_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    path.write_text("not a database, but long enough to be taken for one by its name\n" * 20)
    for act in (RatingStore, settle, lambda where: list(stored_rows(where))):
        with pytest.raises(InputError, match="can't be used"):
            act(path)
    other = tmp_path / "other.sqlite"
    with contextlib.closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE things(x)")
        connection.commit()
    with pytest.raises(InputError, match="ratings"):
        list(stored_rows(other))


WRITER = """
import sys
from pathlib import Path
from espalier.rating_store import Entry, RatingStore
store = RatingStore(Path(sys.argv[1]))
for number in range(100_000):
    store.add(Entry(f"{sys.argv[2]}-{number:06}", sys.argv[3], sys.argv[2], "pairs", "A"))
    print(f"{sys.argv[2]}-{number:06}", flush=True)
"""


@pytest.mark.slow
@pytest.mark.ci_slice
def test_two_writers_killed_lose_nothing_that_they_said_was_saved(
    tmp_path: Path, item: Item
) -> None:
    path = tmp_path / "r.sqlite"
    store = RatingStore(path)
    store.add_items([item])
    store.close()
    said: list[str] = []
    for turn in range(3):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(path), f"w{turn}{name}", item.name],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            for name in "ab"
        ]
        for writer in writers:
            assert writer.stdout is not None
            said += [writer.stdout.readline().strip() for _ in range(30)]
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            assert writer.stdout is not None
            # The last line may have been cut by the kill.
            said += [line.strip() for line in writer.stdout if len(line) == 11]
            writer.stdout.close()
            writer.wait(60)
    store = RatingStore(path)
    kept = [one.uid for one in store.since(0)]
    store.close()
    assert len(kept) == len(set(kept))
    assert set(said) <= set(kept) and len(said) >= 180
    # Beyond what was said each killed writer has at most the one rating it was about to tell.
    assert len(set(kept) - set(said)) <= 6
