"""What the page holds packed: every byte comes back, in Python and in the page's own script."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import packed
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from espalier.reports import packing
from espalier.reports.long_matches import WINDOW, long_matches, table, varints
from espalier.reports.packing import ALPHABET, deflated, dense, pack, pack_text

HERE = Path(__file__).parent
JAVASCRIPT = """
const fs = require("node:fs");
const { load } = require(process.argv[1]);
const { unpack, unpackText } = load(["unpack.js"], ["unpack", "unpackText"]);
(async () => {
  for (const { text, size } of JSON.parse(fs.readFileSync(0, "utf-8"))) {
    const bytes = size === null
      ? Buffer.from(JSON.stringify(await unpack(text)))
      : Buffer.from(await unpackText(text, size));
    console.log(bytes.toString("base64"));
  }
})();
"""


def bytes_of(text: str) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer(text.encode(), np.uint8)


def repeating(seed: int, size: int = 4000) -> str:
    """Words of which long stretches come again, near and far, some of them touching."""
    rng = random.Random(seed)
    parts: list[str] = []
    while sum(map(len, parts)) < size:
        if parts and rng.random() < 0.5:
            text = "".join(parts)
            start = rng.randrange(len(text))
            parts.append(text[start : start + rng.randint(5, 300)])
        else:
            parts.append("".join(rng.choices("abcdefghij 答案", k=rng.randint(3, 60))))
    return "".join(parts)


@pytest.fixture
def with_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LONG_MATCHES_FROM", 0)


# --- characters -------------------------------------------------------------------------------


def test_the_characters_mean_nothing_to_html_and_stay_one_byte() -> None:
    assert len(set(ALPHABET)) == 91
    assert not set(ALPHABET) & set("<&\\")
    assert all(33 <= ord(character) < 127 for character in ALPHABET)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=90))
@example(b"")
@example(b"\xff" * 13)
def test_every_byte_comes_back(data: bytes) -> None:
    assert packed.octets("".join(dense([data]))) == data


def test_pieces_of_any_size_give_the_same_text() -> None:
    data = random.Random(1).randbytes(300_000)
    whole = "".join(dense([data]))
    cuts = [data[i : i + 977] for i in range(0, len(data), 977)]
    assert "".join(dense(cuts)) == whole
    assert packed.octets(whole) == data
    # 13 bits in two characters.
    assert len(whole) == 2 * -(-8 * len(data) // 13) + 1


# --- passages that come again -----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_matches_are_equal_passages_before_their_place(seed: int) -> None:
    data = bytes_of(repeating(seed))
    end = 0
    found = long_matches(data).tolist()
    assert found
    for start, length, source in found:
        assert start >= end
        assert length >= WINDOW
        assert source + length <= start
        assert bytes(data[source : source + length]) == bytes(data[start : start + length])
        end = start + length
    assert end <= data.size


def test_a_passage_is_found_however_far_away() -> None:
    rng = random.Random(3)
    passage, between = rng.randbytes(5_000), rng.randbytes(300_000)
    data = np.frombuffer(passage + between + b"?" + passage, np.uint8)
    assert long_matches(data).tolist() == [[305_001, 5_000, 0]]
    size = sum(map(len, pack_text(data)))
    assert size < 1.24 * 305_100


@pytest.mark.parametrize("text", ["", "a", "ab" * 11, "a" * 3000, "x" * 23 + "y" + "x" * 23])
def test_short_and_monotonous_texts(text: str, with_matches: None) -> None:
    assert packed.passages("".join(pack_text(bytes_of(text)))) == text.encode()


@pytest.mark.parametrize("size", [0, 1, 30_000, packing.LONG_MATCHES_FROM + 5])
def test_texts_of_any_size_come_back(size: int) -> None:
    data = bytes_of(repeating(size, size) if size else "")
    assert packed.passages("".join(pack_text(data))) == data.tobytes()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2**35 - 1), max_size=40))
@example([0, 127, 128, 16383, 16384, 2**31, 2**35 - 1])
def test_numbers_of_the_table(numbers: list[int]) -> None:
    assert packed.numbers(varints(np.array(numbers, np.int64))) == numbers


def test_no_matches_no_table() -> None:
    assert table(np.zeros((0, 3), np.int64)) == (b"", b"", b"")


def test_values_of_json() -> None:
    value = {"text": "</script>\u2028\ud800 答案 \x00", "numbers": [1, -0.5, None, True]}
    assert packed.value(pack(value)) == value
    assert pack(value) == pack(json.loads(json.dumps(value)))
    with pytest.raises(ValueError, match="JSON"):
        pack({"not a number": float("nan")})


# --- in the page's script ---------------------------------------------------------------------


def by_script(items: list[dict[str, object]]) -> list[bytes]:
    import base64

    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    result = subprocess.run(
        [node, "-e", JAVASCRIPT, str(HERE / "js" / "load.js")],
        input=json.dumps(items),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return [base64.b64decode(line) for line in result.stdout.splitlines()]


def test_the_script_unpacks_the_same(with_matches: None) -> None:
    texts = ["", "答", "a" * 5000, *(repeating(seed) for seed in range(5))]
    items: list[dict[str, object]] = [
        {"text": "".join(pack_text(bytes_of(text))), "size": len(text.encode())} for text in texts
    ]
    value = {"rows": [["答案", None, 1.5], [""]], "more": "é" * 300}
    items.append({"text": pack(value), "size": None})
    *found, json_found = by_script(items)
    assert found == [text.encode() for text in texts]
    assert json.loads(json_found) == value


def test_the_stream_carries_a_checksum() -> None:
    import zlib

    stream = bytearray(b"".join(deflated([b"some text " * 50])))
    stream[-1] ^= 1
    with pytest.raises(zlib.error):
        zlib.decompress(stream)
