"""A bad row in every format and every kind of file: its message, or its place in the quarantine."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from test_broken_input import ROWS, WHOLE_FILES

from espalier.cli import main
from espalier.errors import InputError
from espalier.formats.read import Reject, kind_of, read_examples, read_pairs
from espalier.formats.registry import FORMATS

TURN = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
ASK = TURN[:1]

# Of each format: a good row, and rows that are broken in one way each, with what is said.
CASES: dict[str, tuple[dict[str, Any], list[tuple[dict[str, Any], str]]]] = {
    "espalier": (
        {"id": "x", "messages": TURN, "meta": {}},
        [
            ({"messages": [{"role": "user"}]}, "holds no text"),
            ({"messages": {"role": "user", "content": "q"}}, "not a list of turns"),
            ({"messages": [{"role": "poet", "content": "q"}]}, "unknown role"),
            ({"messages": None}, "not a list of turns"),
            ({"meta": ["a"]}, "'meta' is not an object"),
        ],
    ),
    "messages": (
        {"messages": TURN},
        [
            ({"messages": [{"content": "q"}]}, "unknown role"),
            ({"messages": ["q", "a"]}, "Turn 1"),
            ({"messages": [*ASK, {"role": "assistant", "content": 7}]}, "Turn 2 holds no text"),
            ({"messages": 5}, "not a list of turns"),
            ({"messages": TURN[1:]}, "no user turn"),
        ],
    ),
    "sharegpt": (
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        [
            ({"conversations": [{"from": "human", "value": "q"}]}, "no assistant turn"),
            ({"conversations": [{"from": 3, "value": "q"}]}, "unknown role"),
            ({"conversations": [[1]]}, "Turn 1"),
        ],
    ),
    "seeds": (
        {"instruction": "i", "instances": [{"input": "", "output": "o"}]},
        [
            ({"instances": []}, "not a list of instances"),
            ({"instances": "none"}, "not a list of instances"),
            ({"instances": ["o"]}, "Instance 1 is not an object"),
            ({"instances": [{"input": "x"}]}, "The field 'output' is missing"),
            ({"instances": [{"input": 4, "output": "o"}]}, "The field 'input' is not text"),
            ({"instruction": "  "}, "The field 'instruction' is empty"),
        ],
    ),
    "alpaca": (
        {"instruction": "i", "input": "", "output": "o"},
        [
            ({"instruction": None}, "The field 'instruction' is not text"),
            ({"output": {"text": "o"}}, "The field 'output' is not text"),
            ({"output": "\n"}, "The field 'output' is empty"),
        ],
    ),
    "dolly": (
        {"instruction": "i", "context": "", "response": "r", "category": "c"},
        [
            ({"instruction": ""}, "The field 'instruction' is empty"),
            ({"context": ["c"]}, "The field 'context' is not text"),
            ({"response": 1.5}, "The field 'response' is not text"),
            ({"response": " "}, "The field 'response' is empty"),
        ],
    ),
    "open-orca": (
        {"system_prompt": "", "question": "q", "response": "r"},
        [
            ({"question": None}, "The field 'question' is not text"),
            ({"question": "\t"}, "The field 'question' is empty"),
            ({"system_prompt": {"a": 1}}, "The field 'system_prompt' is not text"),
            ({"response": ""}, "The field 'response' is empty"),
        ],
    ),
    "prompt-completion": (
        {"prompt": "p", "completion": "c"},
        [
            ({"prompt": ""}, "The field 'prompt' is empty"),
            ({"completion": []}, "The field 'completion' is not text"),
            ({"completion": ""}, "The field 'completion' is empty"),
        ],
    ),
    "mt-bench": (
        {"question_id": 1, "category": "c", "turns": ["q", "r"]},
        [
            ({"turns": []}, "not a list of questions"),
            ({"turns": "q"}, "not a list of questions"),
            ({"turns": ["q", 2]}, "Question 2 is not a text"),
            ({"turns": [" "]}, "Question 1 is not a text"),
        ],
    ),
    "espalier-pairs": (
        {"id": "x", "prompt": ASK, "chosen": "a", "rejected": "b", "margin": None, "meta": {}},
        [
            ({"prompt": []}, "not a list of turns"),
            ({"chosen": None}, "The field 'chosen' is not text"),
            ({"margin": "far"}, "margin"),
            ({"meta": [1]}, "'meta' is not an object"),
        ],
    ),
    "ranking": (
        {"prompt": "q", "answers": ["a", "b"], "ranks": [1, 2]},
        [
            ({"ranks": [1, 1]}, "No answer stands above another"),
            ({"ranks": [1]}, "ranks"),
            ({"prompt": " "}, "The field 'prompt' is empty"),
            ({"answers": ["a", 5]}, "answers"),
        ],
    ),
    "preference": (
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        [
            ({"rejected": "a"}, "two answers are the same"),
            ({"chosen": ""}, "The chosen answer is empty"),
            ({"rejected": None}, "'rejected'"),
        ],
    ),
}  # fmt: skip
SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".jsonl.zst", ".json.zst")
BAD = [
    (name, number, SUFFIXES[(place + number) % len(SUFFIXES)])
    for place, (name, (_, rows)) in enumerate(CASES.items())
    for number in range(len(rows))
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as JSON or JSON lines, compressed by the suffix."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = "\n".join(lines) + "\n" if ".jsonl" in path.name else f"[{', '.join(lines)}]"
    pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
    path.write_bytes(pack(text.encode()))
    return path


def read(path: Path, name: str, rejects: list[Reject] | None = None) -> int:
    options: dict[str, Any] = {"format": name}
    if rejects is not None:
        options |= {"on_bad_row": "quarantine", "rejects": rejects}
    if kind_of(name) == "pairs":
        return sum(1 for _ in read_pairs(path, **options))
    answers = "optional" if name == "mt-bench" else "required"
    return sum(1 for _ in read_examples(path, answers=answers, **options))


def rows_of(name: str, number: int) -> tuple[list[dict[str, Any]], str]:
    good, broken = CASES[name]
    changes, said = broken[number]
    return [good, {**good, **changes}, good], said


def test_there_are_far_more_than_fifty_of_every_format() -> None:
    assert set(CASES) == set(FORMATS), "a new format wants its broken rows here"
    contents = {json.dumps(rows_of(name, number)[0]) for name, number, _ in BAD}
    assert len(contents) == len(BAD)
    assert len(BAD) + len(ROWS) + len(WHOLE_FILES) >= 100


@pytest.mark.parametrize(("name", "number", "suffix"), BAD)
def test_a_bad_row_has_its_message_or_its_place(
    name: str, number: int, suffix: str, tmp_path: Path
) -> None:
    rows, said = rows_of(name, number)
    path = write(tmp_path / f"data{suffix}", rows)
    with pytest.raises(InputError) as caught:
        read(path, name)
    assert said in str(caught.value)
    unit = "line" if ".jsonl" in suffix else "row"
    assert (caught.value.where or "").startswith(f"{path}, {unit} 2")
    assert caught.value.expected
    rejects: list[Reject] = []
    assert read(path, name, rejects) == 2
    (reject,) = rejects
    assert (reject.unit, reject.line) == (unit, 2)
    assert said in f"{reject.reason} {reject.found} {reject.field}"
    assert reject.raw


@pytest.mark.parametrize("name", CASES)
def test_tables_have_messages_too(name: str, tmp_path: Path) -> None:
    """The same rows in Parquet, lists and objects kept as JSON text."""
    good, broken = CASES[name]

    def cells(row: dict[str, Any]) -> dict[str, str | None]:
        return {
            key: value if isinstance(value, str) or value is None else json.dumps(value)
            for key, value in row.items()
        }

    refused = 0
    for changes, _ in broken:
        rows = [cells(good), cells({**good, **changes}), cells(good)]
        path = tmp_path / "data.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
        rejects: list[Reject] = []
        # A number or a list in a column of texts is a text.
        count = read(path, name, rejects)
        assert count + len(rejects) == 3
        refused += len(rejects)
        for reject in rejects:
            assert (reject.unit, reject.line) == ("row", 2)
            assert reject.reason.endswith(".")
    assert refused


@pytest.mark.slow
@pytest.mark.ci_slice
def test_curation_ends_with_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, (name, file) in enumerate(WHOLE_FILES.items()):
        if name == "table with a missing column":
            continue  # its rows are bad one by one
        path = file.write(tmp_path)
        output = tmp_path / f"out{number}"
        assert main(["curate", "--input", str(path), "--output", str(output)]) == 2, name
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err + printed.out
        assert file.says[0].split(" (")[0] in printed.err, name
        path.unlink()


def test_curation_puts_bad_rows_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = []
    bad = [file for file in ROWS.values() if file.name == "x.jsonl"]
    for number, file in enumerate(bad):
        row = {"instruction": f"Write down the number {number}.", "input": "", "output": "o"}
        lines.append(json.dumps(row).encode() + b"\n")
        lines.append(file.data if isinstance(file.data, bytes) else file.data.encode())
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"".join(lines))
    output = tmp_path / "out"
    options = ["--output", str(output), "--on-bad-row", "quarantine"]
    assert main(["curate", "--input", str(path), *options]) == 0
    assert "Traceback" not in capsys.readouterr().err
    rejects = [json.loads(line) for line in (output / "rejects.jsonl").read_text().splitlines()]
    # Curation takes a row with an empty output for a prompt that has no answer yet.
    rules = Counter(reject["rule"] for reject in rejects)
    assert rules["unreadable"] + rules["no_answer"] == len(bad)
    assert rules["unreadable"] >= 10
    lines_of = [reject["meta"]["line"] for reject in rejects if reject["rule"] == "unreadable"]
    assert all(line % 2 == 0 for line in lines_of)
