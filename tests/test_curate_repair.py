"""Damaged text is repaired, and text that only looks unusual is left as it is."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.curate.config_filters import RepairConfig
from espalier.curate.pipeline import Ledger
from espalier.curate.repair import repair_step, repaired, repaired_row
from espalier.formats.read import read_examples
from espalier.records import Example, messages_id

ALL = RepairConfig()
SENTENCES = [
    "你好，世界",
    "请写一首关于夏天的诗。",
    "人工智能（AI）是“未来”……",
    "《红楼梦》是谁写的？",
    "Hello 世界, café — “ok”",
    "It’s a naïve façade, isn’t it?",
    "Größe und Länge – “schön”",
    "Привет, мир!",
]


def damaged_by(encodings: list[str], texts: list[str]) -> list[tuple[str, str]]:
    """(what a text looks like when its UTF-8 is read in another encoding, the text)."""
    found = []
    for text in texts:
        for encoding in encodings:
            with contextlib.suppress(UnicodeDecodeError):
                found.append((text.encode("utf-8").decode(encoding), text))
    return found


@pytest.mark.parametrize(("damaged", "text"), damaged_by(["latin-1", "cp1252", "cp437"], SENTENCES))
def test_utf8_that_was_read_as_something_else(damaged: str, text: str) -> None:
    assert repaired(damaged, ALL) == (text, ["encoding"])
    line = f"Question: {damaged}\nAnswer: fine"
    assert repaired(line, ALL)[0] == f"Question: {text}\nAnswer: fine"


# Texts of an even number of bytes: GBK reads pairs.
@pytest.mark.parametrize(
    ("damaged", "text"),
    damaged_by(
        ["gbk"], ["《红楼梦》是谁写的？", "你好，世界！", "解决", "请你回答问题", "质量很重要。"]
    ),
)
def test_utf8_that_was_read_as_gbk(damaged: str, text: str) -> None:
    assert repaired(damaged, ALL) == (text, ["encoding"])
    assert repaired(f"Question: {damaged} (1)", ALL)[0] == f"Question: {text} (1)"


UNTOUCHED = [
    *SENTENCES,
    "“Curly”, ‘quotes’ … and—dashes – ﬁne ligatures ½ 10³ №",
    "全角：ＡＢＣ１２３，！？（）［］｛｝～",
    "ｶﾀｶﾅ and カタカナ",
    "cafe\u0301 in two characters",
    "windows\r\nline\rbreaks and\ttabs",
    "a no-break\u00a0space, a soft\u00adhyphen",
    "👩\u200d👩\u200d👧 family and می\u200cخواهم",
    "ไทย\u200bภาษา",
    "Portuguese has São, MÃE and NÃO",
    "Straße, smörgåsbord, Łódź, ÀÉÎÕÜ",
    "In HTML write &amp; for an ampersand.",
    "<p>Tom &amp; Jerry</p>",
    "用 &lt; 转义小于号",
    "if (a && b) return &x; // R&D",
    "锘挎槸什么意思",
]


@pytest.mark.parametrize("text", UNTOUCHED)
def test_good_text_is_left_alone(text: str) -> None:
    assert repaired(text, ALL) == (text, [])


@pytest.mark.parametrize(
    ("text", "fixed", "done"),
    [
        ("a \x1b[31mred\x1b[0m\x07 word\x00", "a red word", ["controls"]),
        ("\ud83d\ude00", "😀", ["controls"]),
        ("lone \ud83d", "lone \ufffd", ["controls"]),
        ("\ufeffHi\u2060 there", "Hi there", ["invisible"]),
        ("你\u200b好", "你好", ["invisible"]),
        ("Tom &amp;amp; Jerry said &quot;hi&quot;", 'Tom & Jerry said "hi"', ["entities"]),
        ("x&nbsp;&lt; 3 and y&#39;s", "x < 3 and y's", ["entities"]),
        ("他说&quot;你好&quot;", '他说"你好"', ["entities"]),
        ("to shoot\x97 too", "to shoot— too", ["encoding"]),
    ],
)
def test_what_else_is_repaired(text: str, fixed: str, done: list[str]) -> None:
    assert repaired(text, ALL) == (fixed, done)
    off = RepairConfig(encoding=False, controls=False, invisible=False, entities=False)
    assert repaired(text, off) == (text, [])


@given(
    st.text(max_size=60)
    | st.text(alphabet="&amp;lt#39 Ã©â€™\x80\x99好浣犲ソ\ufeff\u200b", max_size=30)
)
@settings(max_examples=300, deadline=None)
def test_repairing_twice_is_repairing_once(text: str) -> None:
    once, _ = repaired(text, ALL)
    assert repaired(once, ALL) == (once, [])


def test_rows_get_the_id_of_their_new_text() -> None:
    damaged = "Itâ€™s &quot;fine&quot;"
    row = Example.single(
        f"Fix.\n\n{damaged}", "Done.", meta={"input": damaged, "parents": ["abc"], "source": "s"}
    )
    clean = Example.single("Name a colour.", "Red")
    ledger = Ledger("test", io.StringIO())
    fixed, same = ledger.through([row, clean], [("repair", repair_step(ALL))])
    assert same is clean
    assert fixed.prompt == 'Fix.\n\nIt’s "fine"'
    assert fixed.meta["input"] == 'It’s "fine"'
    assert fixed.id == messages_id(fixed.messages) != row.id
    assert fixed.meta["original_id"] == row.id
    assert fixed.meta["repaired"] == ["encoding", "entities"]
    assert (fixed.meta["parents"], fixed.meta["source"]) == (["abc"], "s")
    assert ledger.tallies[0].changed == {"repaired_encoding": 1, "repaired_entities": 1}


def test_real_chinese_is_left_alone(shared_data: Path) -> None:
    rows = list(read_examples(shared_data / "belle_zh" / "zh_seed_tasks.jsonl"))
    assert [row for row in rows if repaired_row(row, ALL)[1]] == []


def test_real_english_changes_only_where_it_is_damaged(shared_data: Path) -> None:
    with gzip.open(shared_data / "self_instruct" / "t0_50k.jsonl.gz", "rt") as file:
        lines = [line for line in file if "â" in line or "Ã" in line]
    changed = 0
    for line in lines:
        value = json.loads(line)
        row = Example.single(value["prompt"], value["completion"])
        fixed, done = repaired_row(row, RepairConfig(entities=False, invisible=False))
        if done == ["encoding"]:
            changed += 1
            for old, new in zip(row.messages, fixed.messages, strict=True):
                gone = Counter(old.content) - Counter(new.content)
                come = Counter(new.content) - Counter(old.content)
                # Letters above ASCII were several before, and no ASCII text moves.
                assert come.total() <= gone.total()
                assert not [char for char in come if char.isascii()]
                assert not [char for char in gone if char.isascii() and char != " "]
        else:
            assert done in ([], ["controls"])
    assert 10 < changed < len(lines)
