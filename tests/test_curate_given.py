"""Columns of a user's file that bear the names of our own metadata."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from espalier.curate.config import FileSource
from espalier.curate.config_dialogues import DialogueConfig
from espalier.curate.config_filters import PiiConfig, RepairConfig
from espalier.curate.config_select import JudgeQuality
from espalier.curate.dialogues import dialogue_step
from espalier.curate.given import sound_meta
from espalier.curate.pii import pii_step
from espalier.curate.pipeline import Ledger, Tally
from espalier.curate.quality import judge_step, number_of, with_quality
from espalier.curate.repair import repair_step
from espalier.curate.sources import open_file
from espalier.engines.offline import OfflineEngine
from espalier.records import Example

DAMAGE = "Caf\u00c3\u00a9 &amp; bar"
HTML = '<div class="markdown prose"><p>Rhine and Po.</p></div>'
ODD: list[Any] = [4.5, 7, True, "abc", ["x", 3], {"a": {"b": 1}}, {"safe": "yes"}, [None], [[1]]]
NAMES = (
    "quality", "repaired", "parents", "contamination", "pii", "keywords", "safety", "nearest",
    "nearest_mean", "group", "language", "category", "teacher", "operator", "round",
    "reference", "input", "kind", "declines", "to_answer", "later_turns", "original_id", "given",
    "judge", "ranking", "part", "trimmed", "principles", "is_classification",
)  # fmt: skip


def read(tmp_path: Path, *columns: dict[str, Any]) -> list[Example]:
    path = tmp_path / "mine.jsonl"
    lines = [
        json.dumps({"instruction": f"Name {n} rivers.", "output": HTML, **more})
        for n, more in enumerate(columns)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    source = open_file(FileSource(path=str(path), format="alpaca"), path, "stop")
    return list(source.examples(Ledger("sft", None).tally("read"), "seed"))


def through_everything(rows: list[Example]) -> list[Example]:
    engine = OfflineEngine("espalier-offline", 0, {})
    steps = [
        ("dialogues", dialogue_step(DialogueConfig())),
        ("repair", repair_step(RepairConfig())),
        ("pii", pii_step(PiiConfig())),
        ("judge", judge_step(JudgeQuality(unread="keep", min_mean=None, safe=False), engine)),
    ]
    handle = io.StringIO()
    kept = list(Ledger("sft", handle).through(rows, steps))
    assert not handle.getvalue()
    return kept


@pytest.mark.parametrize("name", NAMES)
def test_no_column_breaks_a_step_and_none_is_lost(tmp_path: Path, name: str) -> None:
    values = [*ODD, DAMAGE]
    text = f"{DAMAGE}. Write to me@example.org."
    rows = [Example.single(f"{n} {text}", f"{text} {n}", meta={name: v, "source": "mine"})
            for n, v in enumerate(values)]  # fmt: skip
    sound = [Example(r.id, r.messages, {"source": "mine", **sound_meta(r.meta)}) for r in rows]
    made = through_everything(sound)
    assert len(made) == len(values)
    for row in made:
        number_of(row, "score")
    for row, value in zip(sound, values, strict=True):
        # (A text may be a category, but `x` of `given: {...}` stays where it was.)
        places = [row.meta.get(name), row.meta.get("given", {}).get(name), row.meta.get("given")]
        assert any(place == value and type(place) is type(value) for place in places)


def test_sources_do_it(tmp_path: Path) -> None:
    rows = read(tmp_path, {"quality": 4.5, "repaired": True, "parents": 7, "to_answer": True})
    (row,) = rows
    assert row.meta["quality"] == {"score": 4.5}
    assert number_of(row, "score") == 4.5
    given = {"quality": 4.5, "repaired": True, "parents": 7, "to_answer": True}
    assert row.meta["given"] == given
    assert {"repaired", "parents", "to_answer"}.isdisjoint(row.meta)
    assert row.meta["language"] == "en"
    (made,) = through_everything(rows)
    assert made.response is not None
    assert "<p>" not in made.response
    assert len(made.meta["parents"]) == 1
    assert made.meta["given"] == given
    assert made.meta["quality"]["score"] == made.meta["quality"]["judge"]


def test_languages(tmp_path: Path) -> None:
    written = ["English", "zh-CN", "en_US", "python", 5, None]
    rows = read(tmp_path, *({"language": word} for word in written))
    assert [row.meta["language"] for row in rows] == ["en", "zh", "en", "en", "en", "en"]
    found = [row.meta.get("given") for row in rows]
    assert found == [None, None, None, {"language": "python"}, {"language": 5}, None]


def test_our_own_rows_stay_as_they_are() -> None:
    meta = {
        "source": "evolved", "language": "zh", "category": "c", "group": "reasoning",
        "parents": ["a"], "operator": "deepen", "teacher": "t", "round": 2, "part": 1,
        "quality": {"judge": 4.2, "safe": True, "score": 4.2}, "repaired": ["controls"],
        "pii": {"email": 2}, "contamination": [{"kind": "ngram", "text": "x"}],
        "keywords": ["k"], "safety": ["s"], "nearest": [["a", 0.5]], "nearest_mean": 0.25,
        "declines": True, "reference": "r", "input": "i", "my own": [1, {"x": None}],
    }  # fmt: skip
    assert sound_meta(meta) == meta


def test_a_group_that_is_none_makes_room_for_ours() -> None:
    assert sound_meta({"group": "control"}) == {"given": {"group": "control"}}
    assert sound_meta({"group": " Reasoning"}) == {"group": "reasoning"}
    assert sound_meta({"given": {"a": 1}, "round": "3"}) == {"given": {"a": 1, "round": "3"}}


def test_the_score_is_the_first_of_judge_reward_and_ifd() -> None:
    row = Example.single("q", "a", meta={"quality": {"score": 9.0}})
    assert number_of(with_quality(row, safe=True), "score") == 9.0
    row = with_quality(row, ifd=0.4)
    assert number_of(row, "score") == 0.4
    assert number_of(with_quality(row, reward=1.5), "score") == 1.5
    assert number_of(with_quality(row, reward=1.5, judge=3.0), "score") == 3.0


def test_pairs(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    row = {"prompt": "q?", "chosen": "a", "rejected": "b", "kind": ["x"], "language": "English"}
    path.write_text(json.dumps(row), encoding="utf-8")
    tally: Tally = Ledger("preferences", None).tally("read")
    (pair,) = open_file(FileSource(path=str(path)), path, "stop").pairs(tally)
    assert (pair.meta["kind"], pair.meta["language"]) == ("given", "en")
    assert pair.meta["given"] == {"kind": ["x"]}
