"""Every dataset format and container: what is read, what is written, how it is told."""

from __future__ import annotations

import csv
import gzip
import json
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from espalier.errors import InputError, MissingExtra, StageError
from espalier.formats.detect import detect
from espalier.formats.files import BadRow, Row, read_rows, write_jsonl, write_parquet
from espalier.formats.read import (
    Reject,
    kind_of,
    read_examples,
    read_pairs,
    write_examples,
    write_pairs,
)
from espalier.formats.registry import EXAMPLE_FORMATS, FORMATS, PAIR_FORMATS
from espalier.records import Example, Message, PreferencePair

SUFFIXES = [
    f"{base}{packed}"
    for base in (".jsonl", ".json", ".csv", ".tsv")
    for packed in ("", ".gz", ".zst")
] + [".parquet", ".ndjson"]
ONE_TURN = ["alpaca", "dolly", "open-orca", "prompt-completion", "seeds"]
DIALOGUES = ["espalier", "messages", "sharegpt"]


def put(path: Path, *rows: Any) -> Path:
    """Rows as JSONL, written by the standard library alone."""
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def turns(example: Example) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in example.messages]


def only(path: Path, **options: Any) -> Example:
    (example,) = read_examples(path, **options)
    return example


# --- what is read ---


ROWS: list[tuple[str, dict[str, Any], list[tuple[str, str]], dict[str, Any]]] = [
    (
        "alpaca",
        {"instruction": "翻译成英文", "input": "你好", "output": "Hello", "source": "x"},
        [("user", "翻译成英文\n\n你好"), ("assistant", "Hello")],
        {"input": "你好", "source": "x"},
    ),
    (
        "alpaca",
        {"instruction": "Say hi", "input": None, "output": "hi"},
        [("user", "Say hi"), ("assistant", "hi")],
        {},
    ),
    (
        "alpaca",
        {
            "instruction": "And now?",
            "output": "c",
            "system": "Be brief.",
            "history": [["a?", "b"]],
        },
        [
            ("system", "Be brief."),
            ("user", "a?"),
            ("assistant", "b"),
            ("user", "And now?"),
            ("assistant", "c"),
        ],
        {},
    ),
    (
        "messages",
        {
            "messages": [
                {"role": "system", "content": "S"},
                {"role": "user", "content": [{"type": "text", "text": "q"}]},
                {"role": "assistant", "content": "a"},
            ]
        },
        [("system", "S"), ("user", "q"), ("assistant", "a")],
        {},
    ),
    (
        "sharegpt",
        {
            "id": "d1",
            "conversations": [
                {"from": "human", "value": "q"},
                {"from": "gpt", "value": "a"},
                {"from": "user", "value": "r"},
                {"from": "chatbot", "value": "b"},
            ],
        },
        [("user", "q"), ("assistant", "a"), ("user", "r"), ("assistant", "b")],
        {"row_id": "d1"},
    ),
    (
        "sharegpt",
        {
            "system": "S",
            "conversations": [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": "a"},
            ],
        },
        [("system", "S"), ("user", "q"), ("assistant", "a")],
        {},
    ),
    (
        "sharegpt",
        {
            "conversations": [
                {"from": "gpt", "value": "said before"},
                {"from": "human", "value": "q"},
                {"from": "bing", "value": "a"},
                {"from": "human", "value": "never answered"},
            ]
        },
        [("user", "q"), ("assistant", "a")],
        {"dropped_leading": 1, "dropped_trailing": 1},
    ),
    (
        "dolly",
        {"instruction": "i", "context": "c", "response": "r", "category": "closed_qa"},
        [("user", "i\n\nc"), ("assistant", "r")],
        {"input": "c", "category": "closed_qa"},
    ),
    (
        "open-orca",
        {"id": "t0.1", "system_prompt": "S", "question": "q", "response": "r"},
        [("system", "S"), ("user", "q"), ("assistant", "r")],
        {"row_id": "t0.1"},
    ),
    (
        "open-orca",
        {"system_prompt": "", "question": "q", "response": "r"},
        [("user", "q"), ("assistant", "r")],
        {},
    ),
    (
        "prompt-completion",
        {"prompt": "p", "completion": " c\n", "template": "t"},
        [("user", "p"), ("assistant", " c\n")],
        {"template": "t"},
    ),
    (
        "prompt-completion",
        {"prompt": "p", "response": "c"},
        [("user", "p"), ("assistant", "c")],
        {},
    ),
    (
        "espalier",
        {"id": "k", "messages": [{"role": "user", "content": "q"}], "meta": {"round": 2}},
        [("user", "q")],
        {"round": 2},
    ),
    (
        "mt-bench",
        {"question_id": 81, "category": "writing", "turns": ["first", "second"]},
        [("user", "first")],
        {"question_id": 81, "category": "writing", "later_turns": ["second"]},
    ),
]


@pytest.mark.parametrize(("name", "row", "expected", "meta"), ROWS)
def test_rows_of_each_format(
    tmp_path: Path,
    name: str,
    row: dict[str, Any],
    expected: list[tuple[str, str]],
    meta: dict[str, Any],
) -> None:
    path = put(tmp_path / "rows.jsonl", row)
    found = detect(path)
    assert found.format == name
    example = only(path)
    assert turns(example) == expected
    assert example.meta == meta
    if name != "espalier":
        assert example.id == Example.make(example.messages).id


def test_seeds_give_one_example_an_instance(tmp_path: Path) -> None:
    row = {
        "id": "seed_task_7",
        "name": "n",
        "instruction": "Classify",
        "instances": [{"input": "good", "output": "yes"}, {"input": "", "output": "no"}],
        "is_classification": True,
    }
    first, second = read_examples(put(tmp_path / "seeds.jsonl", row))
    assert turns(first) == [("user", "Classify\n\ngood"), ("assistant", "yes")]
    assert turns(second) == [("user", "Classify"), ("assistant", "no")]
    shared = {"task": "seed_task_7", "name": "n", "is_classification": True}
    assert first.meta == {**shared, "instance": 0, "input": "good"}
    assert second.meta == {**shared, "instance": 1}


DIALOGUE = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: "
PROMPT = [("user", "a"), ("assistant", "b"), ("user", "c")]
CHAT = [{"role": role, "content": text} for role, text in PROMPT]


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    ("row", "prompt", "margin"),
    [
        ({"chosen": DIALOGUE + "x\n\ny", "rejected": DIALOGUE + "z"}, PROMPT, None),
        ({"prompt": "q", "chosen": "x\n\ny", "rejected": "z", "margin": 2}, [("user", "q")], 2.0),
        ({"prompt": DIALOGUE, "chosen": "x\n\ny", "rejected": "z"}, PROMPT, None),
        ({"prompt": CHAT, "chosen": answer("x\n\ny"), "rejected": answer("z")}, PROMPT, None),
        ({"chosen": CHAT + answer("x\n\ny"), "rejected": CHAT + answer("z")}, PROMPT, None),
        (
            {
                "prompt": "a",  # as in UltraFeedback: the lists hold the whole dialogue
                "chosen": CHAT + answer("x\n\ny"),
                "rejected": CHAT + answer("z"),
                "score_chosen": 8.5,
                "score_rejected": 6,
            },
            PROMPT,
            2.5,
        ),
    ],
)
def test_preference_rows(
    tmp_path: Path, row: dict[str, Any], prompt: list[tuple[str, str]], margin: float | None
) -> None:
    path = put(tmp_path / "pairs.jsonl", row)
    assert detect(path).format == "preference"
    (pair,) = read_pairs(path)
    assert [(turn.role, turn.content) for turn in pair.prompt] == prompt
    assert (pair.chosen, pair.rejected, pair.margin) == ("x\n\ny", "z", margin)


def test_neighbouring_turns_of_one_speaker_are_joined(tmp_path: Path) -> None:
    head = "\n\nHuman: a\n\nHuman: b\n\nAssistant: "
    path = put(tmp_path / "p.jsonl", {"chosen": head + "x", "rejected": head + "y"})
    (pair,) = read_pairs(path)
    assert pair.prompt == (Message("user", "a\n\nb"),)


def test_pairs_are_no_examples_unless_the_format_is_named(tmp_path: Path) -> None:
    path = put(tmp_path / "p.jsonl", {"prompt": "q", "chosen": "x", "rejected": "y"})
    with pytest.raises(InputError, match="holds preference pairs"):
        read_examples(path)
    assert turns(only(path, format="preference")) == [("user", "q"), ("assistant", "x")]
    examples = put(tmp_path / "e.jsonl", {"prompt": "q", "completion": "x"})
    with pytest.raises(InputError, match="holds examples \\(prompt-completion\\)"):
        read_pairs(examples)


def test_optional_answers_give_prompts(tmp_path: Path) -> None:
    path = put(
        tmp_path / "p.jsonl",
        {"instruction": "a", "output": ""},
        {"instruction": "b"},
        {"instruction": "c", "output": "d"},
    )
    found = list(read_examples(path, answers="optional"))
    assert [(example.prompt, example.response) for example in found] == [
        ("a", None),
        ("b", None),
        ("c", "d"),
    ]
    chat = put(
        tmp_path / "m.jsonl",
        {"messages": [*CHAT]},
    )
    assert turns(only(chat, answers="optional")) == PROMPT
    cut = only(chat)
    assert turns(cut) == PROMPT[:2]
    assert cut.meta == {"dropped_trailing": 1}


def test_kinds() -> None:
    assert {kind_of(name) for name in EXAMPLE_FORMATS} == {"examples"}
    assert {kind_of(name) for name in PAIR_FORMATS} == {"pairs"}


def test_limit(tmp_path: Path) -> None:
    path = put(tmp_path / "p.jsonl", *({"prompt": str(i), "completion": "x"} for i in range(200)))
    assert [example.prompt for example in read_examples(path, limit=3)] == ["0", "1", "2"]
    assert len(list(read_examples(path))) == 200


# --- containers, against the standard library and the peers ---


def sample_examples(seed: int = 0) -> list[Example]:
    draw = random.Random(seed)
    texts = [
        "plain",
        '"quoted", with commas',
        "多行\n文本\t。",
        "[1, 2]",
        '{"a": 1}',
        " space ",
        "é𠮷\r\nx",
    ]
    found = []
    for index in range(20):
        extra = draw.choice(["", *texts])
        meta = {"input": extra} if extra.strip() else {}
        instruction = f"{index} {draw.choice(texts)}"
        prompt = f"{instruction}\n\n{extra}" if extra.strip() else instruction
        found.append(Example.single(prompt, draw.choice(texts), meta=meta))
    return found


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", DIALOGUES + ONE_TURN)
def test_examples_come_back_as_they_were(tmp_path: Path, name: str, suffix: str) -> None:
    examples = sample_examples()
    path = tmp_path / f"data{suffix}"
    assert write_examples(path, examples, format=name) == len(examples)
    back = list(read_examples(path))
    assert [example.messages for example in back] == [example.messages for example in examples]
    if name in ("espalier", *ONE_TURN) and name not in ("open-orca", "prompt-completion"):
        assert [example.meta.get("input") for example in back] == [
            example.meta.get("input") for example in examples
        ]
    if name == "espalier":
        assert back == examples
    assert detect(path).format == name
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ["espalier", "preference"])
def test_pairs_come_back_as_they_were(tmp_path: Path, name: str, suffix: str) -> None:
    dialogue = [
        Message("system", "S"),
        Message("user", "你"),
        Message("assistant", "好"),
        Message("user", "q"),
    ]
    pairs = [
        PreferencePair.make(
            dialogue, 'better, "yes"', "worse\n", margin=1.5, meta={"kind": "k", "n": [1]}
        ),
        PreferencePair.make([Message("user", "q")], "[{x}]", "b"),
    ]
    path = tmp_path / f"pairs{suffix}"
    assert write_pairs(path, pairs, format=name) == 2
    back = list(read_pairs(path))
    assert [(p.prompt, p.chosen, p.rejected, p.margin) for p in back] == [
        (p.prompt, p.chosen, p.rejected, p.margin) for p in pairs
    ]
    if name == "espalier":
        assert back == pairs


def test_questions_come_back_as_they_were(tmp_path: Path) -> None:
    row = {"question_id": 81, "category": "writing", "turns": ["first", "second"]}
    path = put(tmp_path / "q.jsonl", row)
    for name in ("out.jsonl", "out.csv", "out.parquet"):
        write_examples(tmp_path / name, read_examples(path), format="mt-bench")
        example = only(tmp_path / name)
        assert example.prompt == "first"
        assert example.meta["later_turns"] == ["second"]


def test_instances_of_one_task_are_written_as_one_row(tmp_path: Path) -> None:
    row = {
        "id": "s",
        "instruction": "i",
        "instances": [{"input": "1", "output": "a"}, {"input": "2", "output": "b"}],
        "is_classification": True,
    }
    path = put(tmp_path / "in.jsonl", row, {**row, "id": "t"})
    write_examples(tmp_path / "out.jsonl", read_examples(path), format="seeds")
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [row, {**row, "id": "t"}]


def test_written_files_open_in_other_programs(tmp_path: Path) -> None:
    examples = [Example.single("q,\n你", 'a "b"')]
    for suffix in (".jsonl.gz", ".json.zst", ".csv", ".parquet"):
        write_examples(tmp_path / f"x{suffix}", examples, format="prompt-completion")
    row = {"prompt": "q,\n你", "completion": 'a "b"'}
    with gzip.open(tmp_path / "x.jsonl.gz", "rt", encoding="utf-8") as handle:
        assert [json.loads(line) for line in handle] == [row]
    packed = (tmp_path / "x.json.zst").read_bytes()
    with zstandard.ZstdDecompressor().stream_reader(packed) as reader:
        assert json.loads(reader.read()) == [row]
    with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as text:
        assert list(csv.DictReader(text)) == [row]
    assert pq.read_table(tmp_path / "x.parquet").to_pylist() == [row]


def test_compressed_files_are_equal_byte_for_byte(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz", "a.jsonl.zst", "b.jsonl.zst"):
        write_examples(tmp_path / name, sample_examples())
    for packed in ("gz", "zst"):
        first, second = (tmp_path / f"{name}.jsonl.{packed}" for name in "ab")
        assert first.read_bytes() == second.read_bytes()


def test_files_written_elsewhere_are_read(tmp_path: Path) -> None:
    row = {"instruction": "i", "input": "", "output": "o"}
    (tmp_path / "pretty.json").write_text(json.dumps([row], indent=2))
    (tmp_path / "wrapped.json").write_text(json.dumps({"version": 1, "data": [row]}))
    (tmp_path / "lines.json").write_text(f"{json.dumps(row)}\n{json.dumps(row)}\n")
    (tmp_path / "array.jsonl").write_text(json.dumps([row]))
    (tmp_path / "pretty.jsonl").write_text(json.dumps([row], indent=2))
    (tmp_path / "windows.jsonl").write_bytes(
        b"\xef\xbb\xbf" + json.dumps(row).encode() + b"\r\n\r\n"
    )
    (tmp_path / "excel.csv").write_bytes(b"\xef\xbb\xbf" + b"instruction;input;output\r\ni;;o\r\n")
    frames = zstandard.ZstdCompressor()
    (tmp_path / "frames.jsonl.zst").write_bytes(
        b"".join(frames.compress(f"{json.dumps(row)}\n".encode()) for _ in range(3))
    )
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "arrow.parquet")
    for path in sorted(tmp_path.iterdir()):
        found = list(read_examples(path))
        assert {tuple(turns(example)) for example in found} == {
            (("user", "i"), ("assistant", "o"))
        }, path.name
    assert len(list(read_examples(tmp_path / "frames.jsonl.zst"))) == 3
    assert "though it is named .json" in detect(tmp_path / "lines.json").reason


def test_line_numbers_are_those_of_an_editor(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n\n  \n{"a": 2}\n')
    assert [row.line for row in read_rows(path)] == [1, 4]
    table = tmp_path / "x.csv"
    table.write_text('prompt,completion\n"two\nlines",a\nb,c\n')
    assert [row.line for row in read_rows(table)] == [2, 4]


def test_parquet_types_become_json(tmp_path: Path) -> None:
    import datetime
    from decimal import Decimal

    row = {
        "prompt": "p",
        "completion": "c",
        "when": datetime.datetime(2024, 1, 2),
        "price": Decimal("1.5"),
        "score": float("nan"),
        "raw": b"bytes",
        "scores": [1.0, 2.0],
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "x.parquet")
    meta = only(tmp_path / "x.parquet").meta
    assert meta == {
        "when": "2024-01-02T00:00:00",
        "price": 1.5,
        "raw": "bytes",
        "scores": [1.0, 2.0],
    }
    json.dumps(meta, allow_nan=False)


def test_parquet_keeps_meta_of_any_shape(tmp_path: Path) -> None:
    examples = [
        Example.single("a", "b", meta={"n": 1, "deep": {"x": [1, {"y": None}]}}),
        Example.single("c", "d", meta={"n": "text"}),
        Example.single("e", "f"),
    ]
    write_examples(tmp_path / "x.parquet", examples)
    assert list(read_examples(tmp_path / "x.parquet")) == examples


def test_plain_rows(tmp_path: Path) -> None:
    rows = [{"b": 1, "a": "é"}, {"c": [1, "x"]}]
    assert write_jsonl(tmp_path / "x.jsonl", iter(rows)) == 2
    assert [row.value for row in read_rows(tmp_path / "x.jsonl") if isinstance(row, Row)] == rows
    assert write_parquet(tmp_path / "x.parquet", rows) == 2
    assert pq.read_table(tmp_path / "x.parquet").num_rows == 2
    assert write_jsonl(tmp_path / "none.jsonl", []) == 0


# --- datasets of Hugging Face ---


def test_dataset_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"instruction": f"{i}", "input": "", "output": "o"} for i in range(2500)]
    data = datasets.Dataset.from_list(rows)
    data.save_to_disk(str(tmp_path / "one"), num_shards=2)
    data.filter(lambda row: int(row["instruction"]) % 2 == 0).save_to_disk(str(tmp_path / "even"))
    splits = datasets.DatasetDict({"train": data.select(range(3)), "test": data.select([7])})
    splits.save_to_disk(str(tmp_path / "splits"))
    assert [e.prompt for e in read_examples(tmp_path / "one")] == [r["instruction"] for r in rows]
    assert len(list(read_examples(tmp_path / "even"))) == 1250
    assert [e.prompt for e in read_examples(tmp_path / "splits")] == ["0", "1", "2"]
    assert [e.prompt for e in read_examples(tmp_path / "splits" / "test")] == ["7"]
    assert "read is the split train, not test" in detect(tmp_path / "splits").reason


class FakeHub:
    """Stands for the package `datasets`: what is asked for, and rows to stream."""

    def __init__(self, rows: list[dict[str, Any]] | Exception) -> None:
        self.rows = rows
        self.asked: tuple[Any, ...] = ()

    def load_dataset(self, *args: Any, **options: Any) -> Iterator[dict[str, Any]]:
        self.asked = (*args, options)
        if isinstance(self.rows, Exception):
            raise self.rows
        return iter(self.rows)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("someone/data", ("someone/data", None, "train")),
        ("hf:someone/data:main@test", ("someone/data", "main", "test")),
        ("hf://someone/data@test", ("someone/data", None, "test")),
    ],
)
def test_hub_names(monkeypatch: pytest.MonkeyPatch, name: str, asked: tuple[Any, ...]) -> None:
    hub = FakeHub([{"prompt": "p", "completion": "c"}] * 60)
    monkeypatch.setitem(__import__("sys").modules, "datasets", hub)
    assert len(list(read_examples(name))) == 60
    *words, options = hub.asked
    assert (*words, options["split"]) == asked
    assert options["streaming"]
    assert "trust_remote_code" not in options


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", FakeHub(ConnectionError("no route")))
    with pytest.raises(InputError, match="'someone/data' can't be read from the hub: no route"):
        list(read_examples("someone/data"))
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'espalier\[datasets\]'"):
        list(read_examples("someone/data"))


# --- writing ---


def test_a_format_that_can_not_hold_an_example_says_so(tmp_path: Path) -> None:
    dialogue = Example.make([Message(role, text) for role, text in [*PROMPT, ("assistant", "d")]])  # type: ignore[arg-type]
    system = Example.single("q", "a", system="S")
    prompt = Example.single("q")
    for name in ONE_TURN:
        for example in (dialogue, prompt):
            with pytest.raises(InputError, match=f"The format {name} holds one question"):
                write_examples(tmp_path / "x.jsonl", [example], format=name)
    for name in ("dolly", "prompt-completion", "seeds"):
        with pytest.raises(InputError, match="no place for a system turn"):
            write_examples(tmp_path / "x.jsonl", [system], format=name)
    for name in ("alpaca", "open-orca", *DIALOGUES):
        write_examples(tmp_path / "y.jsonl", [system], format=name)
        assert only(tmp_path / "y.jsonl").messages == system.messages
    assert not (tmp_path / "x.jsonl").exists()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write_examples(path, [Example.single("q", "a")])
    before = path.read_bytes()

    def failing() -> Iterator[Example]:
        yield Example.single("r", "b")
        raise RuntimeError("the source broke")

    for name in ("x.jsonl", "x.jsonl.gz", "x.json.zst", "x.csv", "x.parquet"):
        with pytest.raises(RuntimeError, match="the source broke"):
            write_examples(tmp_path / name, failing())
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["x.jsonl"]


def test_wrong_targets(tmp_path: Path) -> None:
    example = Example.single("q", "a")
    with pytest.raises(InputError, match="does not say how to write it"):
        write_examples(tmp_path / "x.txt", [example])
    with pytest.raises(InputError, match="does not hold examples"):
        write_examples(tmp_path / "x.jsonl", [example], format="preference")
    with pytest.raises(InputError, match="did you mean 'alpaca'"):
        write_examples(tmp_path / "x.jsonl", [example], format="alpacca")


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    from espalier.formats.streams import write_bytes

    with (
        pytest.raises(StageError, match="can't be written: No space left"),
        write_bytes(Path("/dev/full"), tmp_path / "x.jsonl") as stream,
    ):
        stream.write(b"x" * 100_000)


# --- streaming ---


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".csv"])
def test_lines_are_read_one_at_a_time(tmp_path: Path, suffix: str) -> None:
    """All rows of a file pass through a small part of its size in memory."""
    path = tmp_path / f"x{suffix}"
    draw = random.Random(0)
    texts = (draw.randbytes(1500).hex() for _ in range(1200))
    examples = (Example.single(text, "c") for text in texts)
    write_examples(path, examples, format="prompt-completion")
    tracemalloc.start()
    total = sum(len(example.prompt) for example in read_examples(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 3000 * 1200
    assert peak < total / 4


# --- real data ---


@pytest.mark.parametrize(
    ("name", "format", "rows"),
    [
        ("self_instruct/seed_tasks.jsonl", "seeds", 175),
        ("belle_zh/zh_seed_tasks.jsonl", "seeds", 175),
        ("self_instruct/user_oriented_instructions.jsonl", "seeds", 252),
        ("sharegpt/mt_bench_questions.jsonl", "mt-bench", 80),
        ("sharegpt/dummy_conversation.json", "sharegpt", 500),
    ],
)
def test_real_examples(shared_data: Path, name: str, format: str, rows: int) -> None:
    path = shared_data / name
    assert detect(path).format == format
    found = list(read_examples(path))
    source = [row.value for row in read_rows(path) if isinstance(row, Row)]
    assert len(source) == rows
    assert len(found) == sum(len(row.get("instances", [0])) for row in source)
    if format == "seeds":
        answers = [i["output"] for row in source for i in row["instances"]]
        assert [example.response for example in found] == answers
    if format == "sharegpt":
        assert sum(len(example.messages) for example in found) == 2000


def test_real_preferences(shared_data: Path) -> None:
    """Split at the last answer, as the authors' own code does; the rest is put aside."""
    path = shared_data / "hh_rlhf/harmless_test.jsonl.gz"
    rejects: list[Reject] = []
    pairs = iter(list(read_pairs(path, on_bad_row="quarantine", rejects=rejects)))
    put_aside = {bad.line for bad in rejects}
    marker = "\n\nAssistant:"
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        for number, line in enumerate(handle, 1):
            row = json.loads(line)
            (head, better), (other, worse) = (
                row[name].rsplit(marker, 1) for name in ("chosen", "rejected")
            )
            if number in put_aside:
                assert head != other or not better.strip() or not worse.strip()
                continue
            pair = next(pairs)
            assert head == other
            assert (pair.chosen, pair.rejected) == (better.strip(), worse.strip())
            assert head.endswith(pair.prompt[-1].content.rsplit("\n\n", 1)[-1])
    assert next(pairs, None) is None
    assert number == 2312
    assert Counter(bad.reason for bad in rejects) == {
        "The chosen and the rejected dialogue are not answers to one prompt.": 5,
        "The chosen answer is empty.": 4,
    }


@pytest.mark.slow
def test_real_prompts_and_completions(shared_data: Path) -> None:
    path = shared_data / "self_instruct/t0_50k.jsonl.gz"
    rejects: list[Reject] = []
    examples = iter(read_examples(path, on_bad_row="quarantine", rejects=rejects))
    kept = empty = 0
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        for line in handle:
            row = json.loads(line)
            if not row["completion"].strip():
                empty += 1
                continue
            example = next(examples)
            assert (example.prompt, example.response) == (row["prompt"], row["completion"])
            kept += 1
    assert next(examples, None) is None
    assert (kept + empty, len(rejects)) == (55_185, empty)
    assert {bad.reason for bad in rejects} == {"The field 'completion' is empty."}


def test_bad_rows_of_plain_reading(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\nnope\n[1]\n')
    first, second, third = read_rows(path)
    assert isinstance(first, Row)
    assert isinstance(second, BadRow)
    assert isinstance(third, BadRow)
    assert (second.line, second.raw, third.raw) == (2, "nope", "[1]")
    assert set(FORMATS) >= {"alpaca", "preference"}


def test_a_parquet_file_in_batches_equals_one_in_a_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns that appear late, change type or hold objects only in some batches."""
    from espalier.formats import parquet_out

    rows: list[dict[str, Any]] = [
        {"id": "a", "n": 1, "mixed": "x", "turns": [{"role": "user", "content": "一"}]},
        {"id": "b", "n": 2.5, "mixed": {"k": 1}, "turns": []},
        {"id": "c", "n": None, "mixed": 3, "late": True, "turns": None},
        {"id": "d", "n": 4, "mixed": None, "late": None, "odd": [1, 2]},
        {"id": "e", "mixed": "y", "late": False, "odd": "text"},
    ]
    whole = tmp_path / "whole.parquet"
    assert parquet_out.write_table(whole, rows) == 5
    monkeypatch.setattr(parquet_out, "BATCH", 2)
    parts = tmp_path / "parts.parquet"
    assert parquet_out.write_table(parts, rows) == 5
    import pyarrow.parquet

    first, second = pyarrow.parquet.read_table(whole), pyarrow.parquet.read_table(parts)
    assert first.schema.equals(second.schema)
    assert first.to_pylist() == second.to_pylist()
    assert first.column("n").to_pylist() == [1.0, 2.5, None, 4.0, None]
    assert first.column("mixed").to_pylist() == ['"x"', '{"k":1}', "3", None, '"y"']
    assert not list(tmp_path.glob(".tmp-*"))
    assert parquet_out.write_table(tmp_path / "none.parquet", []) == 0
