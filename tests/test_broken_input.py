"""Broken dataset files: each ends in one clear message, or in the quarantine; never a traceback."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from espalier.cli import main
from espalier.errors import EspalierError, InputError
from espalier.formats.detect import detect
from espalier.formats.read import Reject, read_examples, read_pairs, write_examples
from espalier.records import Example

GOOD = '{"instruction": "i", "input": "", "output": "o"}\n'
SIDE = "\\n\\nHuman: a\\n\\nAssistant: "
PAIR = f'{{"chosen": "{SIDE}b", "rejected": "{SIDE}c"}}\n'
CHAT = '{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}\n'
MANY = "".join(f'{{"instruction": "{i}", "output": "{i * 7919}"}}\n' for i in range(4000)).encode()


@dataclass(frozen=True)
class File:
    """A broken file: its name and bytes, and what the message has to say, where and what to do."""

    name: str
    data: bytes | str
    says: tuple[str, ...]
    where: str = ""
    hint: str = ""

    def write(self, folder: Path) -> Path:
        path = folder / self.name
        path.write_bytes(self.data if isinstance(self.data, bytes) else self.data.encode())
        return path


def read_all(path: Path, rejects: list[Reject] | None = None) -> int:
    """Read every row, as examples or pairs; returns how many there were."""
    reader = read_pairs if path.name.startswith("pair") else read_examples
    if rejects is None:
        return sum(1 for _ in reader(path))
    return sum(1 for _ in reader(path, on_bad_row="quarantine", rejects=rejects))


def complaint(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        read_all(path)
    return caught.value


def flipped(data: bytes, at: int) -> bytes:
    """The data with one bit changed."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


WHOLE_FILES = {
    "empty": File("x.jsonl", b"", ("holds no rows",), "x.jsonl"),
    "empty JSON": File("x.json", b"", ("holds no rows",), "x.json"),
    "empty array": File("x.json", b"[]", ("holds no rows",), "x.json"),
    "empty table": File("x.csv", b"", ("holds no rows",), "x.csv"),
    "header alone": File("x.csv", b"instruction,output\n", ("holds no rows",), "x.csv"),
    "blank": File("x.jsonl", b" \n\t\n  \r\n", ("holds no rows",), "x.jsonl"),
    "blank JSON": File("x.json", b" \n\n", ("holds no rows",), "x.json"),
    "blank table": File("x.csv", b"\n\n", ("holds no rows",), "x.csv"),
    "UTF-16 with a mark": File(
        "x.jsonl", GOOD.encode("utf-16"), ("UTF-16 text", "UTF-8"), "x.jsonl", "iconv -f UTF-16"
    ),
    "UTF-16 without a mark": File(
        "x.jsonl", GOOD.encode("utf-16-le"), ("UTF-16 text",), "x.jsonl", "iconv -f UTF-16LE"
    ),
    "UTF-16 JSON": File(
        "x.json", f"[{GOOD}]".encode("utf-16-be"), ("UTF-16 text",), "x.json", "iconv"
    ),
    "UTF-16 table": File(
        "x.csv", "a,b\n1,2\n".encode("utf-16"), ("UTF-16 text",), "x.csv", "iconv"
    ),
    "cut gzip": File(
        "x.jsonl.gz", gzip.compress(MANY)[:-1000], ("gzip data ends in the middle", "whole gzip")
    ),
    "cut gzip header": File("x.jsonl.gz", gzip.compress(MANY)[:6], ("ends in the middle",)),
    "damaged gzip": File(
        "x.jsonl.gz",
        flipped(gzip.compress(MANY), -8),
        ("gzip data of the file is damaged", "whole gzip file"),
        "x.jsonl.gz",
        "download it again",
    ),
    "garbage in gzip": File(
        "x.jsonl.gz", gzip.compress(b"")[:10] + b"\xff" * 50, ("gzip data of the file is damaged",)
    ),
    "no gzip at all": File(
        "x.jsonl.gz", GOOD, ("holds other bytes", "gzip data"), "x.jsonl.gz", "remove the .gz"
    ),
    "gzip without its suffix": File(
        "x.jsonl", gzip.compress(MANY), ("holds gzip data",), "x.jsonl", "add .gz"
    ),
    "zstd named gzip": File(
        "x.jsonl.gz", zstandard.compress(MANY), ("holds zstd data",), "x.jsonl.gz"
    ),
    "cut zstd": File(
        "x.jsonl.zst", zstandard.compress(MANY)[:-100], ("zstd data ends in the middle",)
    ),
    "damaged zstd": File(
        "x.jsonl.zst",
        flipped(zstandard.ZstdCompressor(write_checksum=True).compress(MANY), -1),
        ("zstd data of the file is damaged",),
    ),
    "garbage in zstd": File(
        "x.jsonl.zst", b"\x28\xb5\x2f\xfd" + b"\xff" * 50, ("zstd data of the file is damaged",)
    ),
    "no zstd at all": File("x.jsonl.zst", GOOD, ("holds other bytes", "zstd data")),
    "no Parquet": File(
        "x.parquet", GOOD, ("Parquet file can't be read", "whole Parquet file"), "x.parquet"
    ),
    "Parquet without its suffix": File(
        "x.jsonl", b"PAR1" + b"\x00" * 100, ("holds Parquet data",), "x.jsonl", "name it .parquet"
    ),
    "a spreadsheet": File(
        "x.csv", b"PK\x03\x04" + b"\x00" * 100, ("ZIP archive",), "x.csv", "save it as CSV"
    ),
    "one object": File(
        "x.json",
        GOOD,
        ("not an array of rows", "an object with 'instruction', 'input', 'output'"),
        "x.json",
        "square brackets",
    ),
    "one value": File("x.json", b'"text"', ("not an array of rows", 'the text "text"')),
    "two lists": File(
        "x.json", b'{"data": [{"a": 1}], "rows": [{"a": 1}]}', ("not an array of rows",)
    ),
    "cut JSON": File(
        "x.json", f"[{GOOD.strip()},\n{GOOD[:20]}", ("the last line is cut off",), "x.json"
    ),
    "wrong JSON": File(
        "x.json", '[\n{"a": 1},\n{"a": nope}\n]', ("not valid JSON", "line 3 column 7"), "x.json"
    ),
    "not UTF-8 JSON": File(
        "x.json", b'[\n{"a": "\xff"}\n]', ("not UTF-8 (line 2)", "0xff"), "x.json"
    ),
    "unknown format": File(
        "x.jsonl",
        '{"frage": "q", "antwort": "a"}\n',
        ("format of the file is unknown", "'frage', 'antwort'", "alpaca: instruction, input"),
        "x.jsonl, line 1",
        "rename the fields",
    ),
    "no fields": File("x.jsonl", "{}\n", ("its rows have no fields",), "x.jsonl, line 1"),
    "mixed formats": File(
        "x.jsonl",
        GOOD * 2 + CHAT + GOOD,
        ("mixes formats: line 1 is alpaca, line 3 is sharegpt", "'conversations'"),
        "x.jsonl, line 3",
        "format: alpaca",
    ),
    "unknown suffix": File("x.dat", GOOD, ("suffix '.dat' says nothing", ".jsonl"), "x.dat"),
    "no suffix": File("data", GOOD, ("no suffix",), "data", "rename"),
    "no line is JSON": File(
        "x.jsonl",
        "instruction: a\noutput: b\n",
        ("None of the first 2 rows can be read", "not valid JSON"),
        "x.jsonl, line 1",
    ),
    "table without a header": File(
        "x.csv", "\ni,o\n", ("no usable header", "an empty first line"), "x.csv, line 1"
    ),
    "table with a name twice": File(
        "x.csv", "output,output\ni,o\n", ("the name 'output' twice",), "x.csv, line 1"
    ),
    "binary table": File("x.csv", bytes(range(128, 256)) * 4, ("header",)),
    "table with a missing column": File(
        "x.csv",
        "instruction,input\ni,x\n",
        ("The field 'output' is missing", "'instruction', 'input'"),
        "x.csv, line 2, field 'output'",
    ),
}


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_files_that_are_broken_as_a_whole(name: str, tmp_path: Path) -> None:
    file = WHOLE_FILES[name]
    path = file.write(tmp_path)
    error = complaint(path)
    for part in file.says:
        assert part in str(error)
    assert error.where is not None
    assert str(path) in error.where
    assert file.where in error.where
    assert error.expected
    assert file.hint in (error.hint or "")
    assert "\n" not in error.what


ROWS = {
    "invalid JSON": File(
        "x.jsonl", "{'a': 1}\n", ("not valid JSON", "column 2", "\"'a': 1}\""), "line 2"
    ),
    "cut last line": File(
        "cut.jsonl", GOOD[:30], ("ends in the middle: the last line is cut off",), "line 2"
    ),
    "cut string at the end": File("cut.jsonl", '{"instruction": "x', ("is cut off",), "line 2"),
    "invalid UTF-8": File(
        "x.jsonl", b'{"instruction": "\xe4\xbd", "output": "x"}\n', ("not UTF-8", "0xe4"), "line 2"
    ),
    "NUL bytes": File(
        "x.jsonl", b'{"instruction": "a\x00b", "output": "x"}\n', ("NUL byte",), "line 2"
    ),
    "lone surrogate": File(
        "x.jsonl", '{"instruction": "\\ud83d", "output": "x"}\n', ("lone surrogate",), "line 2"
    ),
    "deep": File(
        "x.jsonl",
        '{"output":' + "[" * 500 + "]" * 500 + "}\n",
        ("nested too deep",),
        "line 2",
    ),
    "bottomless": File(
        "x.jsonl", '{"output":' + "[" * 100_000 + "\n", ("nested too deep",), "line 2"
    ),
    "a number that is none": File(
        "x.jsonl", '{"instruction": "a", "output": NaN}\n', ("A number", "NaN"), "line 2"
    ),
    "a number beyond all": File(
        "x.jsonl", '{"instruction": "a", "n": 1e999}\n', ("A number", "1e999"), "line 2"
    ),
    "a number without end": File(
        "x.jsonl", '{"instruction": "a", "n": ' + "9" * 5000 + "}\n", ("A number",), "line 2"
    ),
    "an array": File("x.jsonl", "[1, 2]\n", ("not a JSON object", "a list of 2 items"), "line 2"),
    "missing field": File(
        "x.jsonl",
        '{"instruction": "a", "input": ""}\n',
        ("The field 'output' is missing", "the fields 'instruction', 'input'"),
        "line 2, field 'output'",
    ),
    "null": File(
        "x.jsonl",
        '{"instruction": "a", "output": null}\n',
        ("The field 'output' is not text", "null"),
        "line 2, field 'output'",
    ),
    "a number for text": File(
        "x.jsonl",
        '{"instruction": "a", "output": 42}\n',
        ("The field 'output' is not text", "the number 42"),
        "line 2, field 'output'",
    ),
    "a truth for text": File(
        "x.jsonl", '{"instruction": "a", "output": true}\n', ("not text", "true"), "line 2"
    ),
    "a list for text": File(
        "x.jsonl",
        '{"instruction": ["a", "b"], "output": "x"}\n',
        ("The field 'instruction' is not text", "a list of 2 items"),
        "line 2, field 'instruction'",
    ),
    "an object for text": File(
        "x.jsonl",
        '{"instruction": "a", "input": {"k": 1}, "output": "x"}\n',
        ("The field 'input' is not text", "an object with 'k'"),
        "line 2, field 'input'",
    ),
    "empty instruction": File(
        "x.jsonl",
        '{"instruction": " \\n", "output": "x"}\n',
        ("The field 'instruction' is empty",),
        "line 2, field 'instruction'",
    ),
    "empty output": File(
        "x.jsonl",
        '{"instruction": "a", "output": ""}\n',
        ("The field 'output' is empty", "an empty text"),
        "line 2, field 'output'",
    ),
    "unknown role": File(
        "chat.jsonl",
        '{"conversations": [{"from": "human", "value": "a"}, {"from": "oracle", "value": "b"}]}\n',
        ("Turn 2 has an unknown role", '"oracle"', "system, user (human) or assistant (gpt)"),
        "line 2, field 'conversations[1].from'",
    ),
    "no role": File(
        "chat.jsonl",
        '{"conversations": [{"text": "a"}]}\n',
        ("Turn 1 has an unknown role", "'text'"),
        "line 2, field 'conversations[0].from'",
    ),
    "no assistant": File(
        "chat.jsonl",
        '{"conversations": [{"from": "human", "value": "a"}]}\n',
        ("no assistant turn",),
        "line 2, field 'conversations'",
    ),
    "no user": File(
        "chat.jsonl",
        '{"conversations": [{"from": "gpt", "value": "a"}]}\n',
        ("no user turn",),
        "line 2",
    ),
    "an empty turn": File(
        "chat.jsonl",
        '{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": " "}]}\n',
        ("Turn 2 (assistant) is empty",),
        "line 2",
    ),
    "a turn without text": File(
        "chat.jsonl",
        '{"conversations": [{"from": "human", "value": null}, {"from": "gpt", "value": "a"}]}\n',
        ("Turn 1 holds no text", "null"),
        "line 2, field 'conversations[0].value'",
    ),
    "no turns": File(
        "chat.jsonl", '{"conversations": []}\n', ("not a list of turns", "an empty list"), "line 2"
    ),
    "turns in a text": File(
        "chat.jsonl", '{"conversations": "hello"}\n', ("not a list of turns", '"hello"'), "line 2"
    ),
    "a late system turn": File(
        "chat.jsonl",
        '{"conversations": [{"from": "human", "value": "a"}, {"from": "system", "value": "s"},'
        ' {"from": "gpt", "value": "b"}]}\n',
        ("A system turn stands inside",),
        "line 2",
    ),
    "prompts that differ": File(
        "pair.jsonl",
        PAIR.replace("Human: a", "Human: z", 1),
        ("not answers to one prompt", "differ from turn 1 on"),
        "line 2, field 'rejected'",
    ),
    "an empty answer": File(
        "pair.jsonl",
        PAIR.replace("Assistant: c", "Assistant: "),
        ("The rejected answer is empty",),
        "line 2, field 'rejected'",
    ),
    "equal answers": File(
        "pair.jsonl",
        PAIR.replace("Assistant: c", "Assistant: b"),
        ("two answers are the same",),
        "line 2, field 'rejected'",
    ),
    "no dialogue": File(
        "pair.jsonl",
        '{"chosen": "yes", "rejected": "no"}\n',
        ("neither a dialogue nor an answer", '"yes"'),
        "line 2, field 'chosen'",
    ),
    "a dialogue that ends with a question": File(
        "pair.jsonl",
        '{"chosen": "\\n\\nHuman: a", "rejected": "\\n\\nHuman: b"}\n',
        ("does not end in an assistant's answer",),
        "line 2, field 'chosen'",
    ),
    "a margin in words": File(
        "pair.jsonl",
        '{"prompt": "q", "chosen": "a", "rejected": "b", "margin": "big"}\n',
        ("The field 'margin' is not a number", '"big"'),
        "line 2, field 'margin'",
    ),
    "a short row": File(
        "x.csv", "only one\n", ("another number of cells", "1 cells", "3 cells"), "line 3"
    ),
    "a long row": File("x.csv", "a,b,c,d\n", ("another number of cells", "4 cells"), "line 3"),
    "a quote in a quote": File("x.csv", '"a"b,,c\n', ("not valid CSV",), "line 3"),
    "a cell that is not UTF-8": File(
        "x.csv", b"a,\xff,b\n", ("The cell 'input' is not UTF-8",), "line 3"
    ),
    "an empty cell": File("x.csv", "a,b,\n", ("The field 'output' is empty",), "line 3"),
    "an element that is no row": File(
        "x.json", '"text"', ("The element is not an object", '"text"'), "row 2"
    ),
    "a null in a JSON array": File("x.json", "null", ("not an object", "null"), "row 2"),
}


def among_good_rows(file: File, folder: Path) -> Path:
    """The broken row after a good one and, but for cut files, before another."""
    bad = file.data if isinstance(file.data, bytes) else file.data.encode()
    if file.name.endswith(".csv"):
        data = b"instruction,input,output\ni,,o\n" + bad + b"j,,p\n"
    elif file.name.endswith(".json"):
        data = b"[" + GOOD.encode() + b"," + bad + b"," + GOOD.encode() + b"]"
    else:
        good = {"chat": CHAT, "pair": PAIR}.get(file.name.split(".")[0], GOOD).encode()
        data = good + bad + (b"" if file.name.startswith("cut") else good)
    path = folder / file.name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ROWS)
def test_a_bad_row_stops_the_run_with_its_place(name: str, tmp_path: Path) -> None:
    file = ROWS[name]
    path = among_good_rows(file, tmp_path)
    error = complaint(path)
    for part in file.says:
        assert part in str(error)
    assert error.where is not None
    assert error.where.startswith(f"{path}, {file.where}")
    assert error.expected
    assert "on_bad_row: quarantine" in (error.hint or "")
    assert "\n" not in error.what
    assert len(str(error)) < 1200


@pytest.mark.parametrize("name", ROWS)
def test_a_bad_row_is_put_aside_and_the_rest_is_read(name: str, tmp_path: Path) -> None:
    file = ROWS[name]
    path = among_good_rows(file, tmp_path)
    rejects: list[Reject] = []
    assert read_all(path, rejects) == (1 if file.name.startswith("cut") else 2)
    (reject,) = rejects
    assert reject.path == str(path)
    assert f"{reject.unit} {reject.line}" == file.where.split(",")[0]
    assert reject.reason.endswith(".")
    assert reject.found
    assert reject.expected
    assert reject.raw
    assert len(reject.raw) < 20_000
    assert reject.field is None or reject.field in file.where or "field" not in file.where


def test_all_rows_are_accounted_for(tmp_path: Path) -> None:
    bad = [file for file in ROWS.values() if file.name == "x.jsonl"]
    lines = [GOOD.encode()]
    for file in bad:
        lines.append(file.data if isinstance(file.data, bytes) else file.data.encode())
        lines.append(GOOD.encode())
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"".join(lines))
    rejects: list[Reject] = []
    assert read_all(path, rejects) == len(bad) + 1
    assert [reject.line for reject in rejects] == list(range(2, 2 * len(bad) + 1, 2))


def test_a_text_of_a_table_that_is_not_utf8(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"b\xff", b"fine"], pa.binary())
    texts = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    table = pa.table({"prompt": texts, "completion": ["x", "y", "z"]})
    pq.write_table(table, tmp_path / "x.parquet")
    rejects: list[Reject] = []
    assert read_all(tmp_path / "x.parquet", rejects) == 2
    assert [(bad.line, bad.unit) for bad in rejects] == [(2, "row")]
    assert "not UTF-8" in str(complaint(tmp_path / "x.parquet"))


# --- what looks broken and is not ---


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("bom.jsonl", b"\xef\xbb\xbf" + GOOD.encode()),
        ("bom.json", b"\xef\xbb\xbf[" + GOOD.encode() + b"]"),
        ("crlf.jsonl", GOOD.replace("\n", "\r\n\r\n").encode()),
        ("no_end.jsonl", GOOD.strip().encode()),
        ("twice.jsonl", b'{"instruction": "x", "instruction": "i", "output": "o"}\n'),
        ("null_input.jsonl", b'{"instruction": "i", "input": null, "output": "o"}\n'),
        ("separator.jsonl", '{"instruction": "i", "output": "o", "x": "a\u2028b"}\n'.encode()),
        ("emoji.jsonl", b'{"instruction": "i", "output": "o", "x": "\\ud83d\\ude00"}\n'),
        ("wrapped.json", b'{"data": [' + GOOD.encode() + b'], "license": "x"}'),
    ],
)
def test_odd_but_right(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    (example,) = read_examples(path)
    assert (example.prompt, example.response) == ("i", "o")


def test_a_line_of_five_megabytes(tmp_path: Path) -> None:
    text = "文" * 1_700_000
    for name in ("x.jsonl", "x.csv", "x.json"):
        write_examples(tmp_path / name, [Example.single("q", text)], format="alpaca")
        (example,) = read_examples(tmp_path / name)
        assert example.response == text


def test_the_raw_text_of_a_long_bad_row_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(GOOD + '{"instruction": "' + "x" * 1_000_000 + '"}\n')
    rejects: list[Reject] = []
    assert read_all(path, rejects) == 1
    assert len(rejects[0].raw) < 20_000
    assert len(str(complaint(path))) < 1000


# --- rows that fit another format ---


def test_a_named_format_overrides_the_verdict(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(GOOD + CHAT + GOOD)
    rejects: list[Reject] = []
    options = {"on_bad_row": "quarantine", "rejects": rejects}
    assert len(list(read_examples(path, format="alpaca", **options))) == 2  # type: ignore[arg-type]
    (reject,) = rejects
    assert reject.line == 2
    assert reject.reason == "The row is of the format sharegpt, not alpaca."


def test_another_format_late_in_the_file_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(GOOD * 60 + CHAT)
    error = complaint(path)
    assert "The row is of the format sharegpt, not alpaca." in str(error)
    assert error.where == f"{path}, line 61, field 'instruction'"


def test_an_unknown_format_name(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(GOOD)
    with pytest.raises(InputError, match="no dataset format 'sharegtp'") as caught:
        read_examples(path, format="sharegtp")
    assert caught.value.hint == "did you mean 'sharegpt'?"
    assert "open-orca" in (caught.value.expected or "")


def test_quarantine_needs_somewhere_to_put_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(GOOD)
    with pytest.raises(ValueError, match="no row may vanish"):
        list(read_examples(path, on_bad_row="quarantine"))


# --- paths ---


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(GOOD)
    error = complaint(tmp_path / "trian.jsonl")
    assert "does not exist" in error.what
    assert error.hint == f"did you mean {tmp_path / 'train.jsonl'}?"
    far = complaint(tmp_path / "nowhere" / "deep" / "x.jsonl")
    assert f"{tmp_path / 'nowhere' / 'deep'} does not exist either" in (far.hint or "")


def test_a_missing_file_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.jsonl").write_text(GOOD)
    for name in ("trein.jsonl", "train.json"):
        assert "did you mean train.jsonl?" in str(complaint(Path(name)))


def test_a_folder_that_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(GOOD)
    error = complaint(tmp_path)
    assert "The folder is no dataset" in error.what
    assert "save_to_disk" in (error.expected or "")
    assert error.hint == "give one of its files: a.jsonl"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "it holds nothing" in str(complaint(empty))


@pytest.mark.parametrize("beside", ["tokenizer.json", "model-00001-of-00002.safetensors"])
def test_a_model_is_no_dataset(tmp_path: Path, beside: str) -> None:
    folder = tmp_path / "my model"
    folder.mkdir()
    for name in ("config.json", beside):
        (folder / name).write_text("{}")
    error = complaint(folder)
    assert "is a model, not a dataset" in error.what
    assert (error.hint or "").endswith(f"espalier new FILE --model '{folder}'")
    # Files of data beside a `config.json` make no model.
    (folder / beside).rename(folder / "rows.jsonl")
    assert "The folder is no dataset" in complaint(folder).what


def damaged_state(folder: Path) -> None:
    (folder / "state.json").write_text("{")


def damaged_rows(folder: Path) -> None:
    (arrow,) = folder.glob("*.arrow")
    arrow.write_bytes(b"not arrow")


def missing_rows(folder: Path) -> None:
    (arrow,) = folder.glob("*.arrow")
    arrow.unlink()


def cut_rows(folder: Path) -> None:
    (arrow,) = folder.glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:-200])


def stray_rows(folder: Path) -> None:
    state = json.loads((folder / "state.json").read_text())
    state["_data_files"] = [{"filename": "../../secret.arrow"}]
    (folder / "state.json").write_text(json.dumps(state))


@pytest.mark.parametrize(
    "damage", [damaged_state, damaged_rows, missing_rows, cut_rows, stray_rows]
)
def test_a_damaged_dataset_folder(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    table = pa.table({"prompt": ["p"] * 500, "completion": ["c"] * 500})
    with (
        pa.OSFile(str(folder / "data-0.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as writer,
    ):
        writer.write_table(table)
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data-0.arrow"}]}')
    assert read_all(folder) == 500
    damage(folder)
    error = complaint(folder)
    assert "The dataset folder is damaged" in error.what
    assert str(folder) in (error.where or "")


def test_splits_without_train(tmp_path: Path) -> None:
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["a", "b"]}')
    error = complaint(tmp_path)
    assert "several splits: a, b" in error.what
    assert str(tmp_path / "a") in (error.hint or "")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable for root")
def test_an_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(GOOD)
    path.chmod(0)
    error = complaint(path)
    assert "can't be read: Permission denied" in error.what
    assert "permissions" in (error.hint or "")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable for root")
def test_an_unreadable_folder(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0)
    for path in (folder, folder / "x.jsonl"):
        assert "can't be read: Permission denied" in complaint(path).what
    folder.chmod(0o700)


def test_a_name_that_no_system_takes(tmp_path: Path) -> None:
    assert "can't be read: File name too long" in str(complaint(tmp_path / f"{'x' * 999}.jsonl"))


def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(GOOD)

    def failing(*args: object, **options: object) -> object:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", failing)
    assert "can't be read: Input/output error" in str(complaint(path))


# --- anything at all ---


def seed_files(folder: Path) -> list[Path]:
    rows = [Example.single(f"问题 {i}", f'"answer", {i}', meta={"n": i}) for i in range(5)]
    paths = []
    for suffix in (".jsonl", ".json", ".csv", ".jsonl.gz", ".json.zst", ".parquet"):
        for name in ("espalier", "alpaca", "sharegpt"):
            paths.append(folder / f"{name}{suffix}")
            write_examples(paths[-1], rows, format=name)
    return paths


def test_random_damage_never_ends_in_a_traceback(tmp_path: Path) -> None:
    """Whatever is cut or overwritten: rows are read or put aside, or one error says why."""
    draw = random.Random(7)
    paths = seed_files(tmp_path)
    sources = [path.read_bytes() for path in paths]
    target = tmp_path / "damaged"
    target.mkdir()
    outcomes = {"read": 0, "refused": 0}
    for round_ in range(40):
        for path, source in zip(paths, sources, strict=True):
            data = bytearray(source)
            for _ in range(draw.randint(1, 3)):
                at = draw.randrange(len(data))
                action = draw.choice(["cut", "byte", "insert", "drop", "quote"])
                if action == "cut" and at > 0:
                    del data[at:]
                elif action == "byte":
                    data[at] = draw.randrange(256)
                elif action == "insert":
                    data[at:at] = draw.randbytes(draw.randint(1, 4))
                elif action == "drop":
                    del data[at : at + 8]
                else:
                    data[at] = draw.choice(b'"{}[],\\\n\x00')
                if not data:
                    data = bytearray(b"\x00")
            broken = target / path.name
            broken.write_bytes(bytes(data))
            rejects: list[Reject] = []
            try:
                read_all(broken, rejects)
                outcomes["read"] += 1
            except EspalierError as error:
                assert str(broken) in str(error), (round_, path.name)
                outcomes["refused"] += 1
    assert min(outcomes.values()) > 50


def test_the_command_line_prints_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, file in WHOLE_FILES.items():
        if name == "table with a missing column":
            continue  # its rows are bad, which inspection reports without failing
        path = file.write(tmp_path)
        assert main(["inspect", str(path)]) == 2, name
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err + printed.out
        assert file.says[0].split(" (")[0] in printed.err
        path.unlink()


def test_detection_alone_complains_too(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(GOOD + CHAT)
    with pytest.raises(InputError, match="mixes formats"):
        detect(path)
    table = pa.table({"prompt": ["p"], "completion": ["c"]})
    pq.write_table(table, tmp_path / "x.parquet")
    cut = (tmp_path / "x.parquet").read_bytes()[:-10]
    (tmp_path / "x.parquet").write_bytes(cut)
    with pytest.raises(InputError, match="Parquet file can't be read"):
        detect(tmp_path / "x.parquet")
