"""What a page holds packed, unpacked by its description alone: no code of the reports is used."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

LETTERS = [chr(code) for code in range(33, 127) if chr(code) not in "<&\\"]


def octets(text: str) -> bytes:
    """Pairs of characters as 13 bits each, then a mark whether the last byte is only filling."""
    assert len(LETTERS) == 91
    places = {letter: place for place, letter in enumerate(LETTERS)}
    bits = "".join(
        f"{places[text[i]] * 91 + places[text[i + 1]]:013b}" for i in range(0, len(text) - 1, 2)
    )
    found = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits) - 7, 8))
    return found[:-1] if text[-1] == "1" else found


def value(text: str) -> Any:
    """A packed JSON value."""
    return json.loads(zlib.decompress(octets(text)))


def passages(text: str) -> bytes:
    """Packed texts: literals with passages that came before."""
    data = zlib.decompress(octets(text))
    count, *sizes = struct.unpack("<4I", data[:16])
    ends = [16 + sum(sizes[: i + 1]) for i in range(3)]
    starts = [16, *ends]
    runs, lengths, distances = (numbers(data[a:b]) for a, b in zip(starts[:-1], ends, strict=True))
    assert len(runs) == len(lengths) == len(distances) == count
    literals, out = data[ends[-1] :], bytearray()
    for run, length, distance in zip(runs, lengths, distances, strict=True):
        out += literals[:run]
        literals = literals[run:]
        source = len(out) - distance
        out += out[source : source + length + 24]
    return bytes(out + literals)


def numbers(data: bytes) -> list[int]:
    """Varints: seven bits a byte, the lowest first."""
    found, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            found.append(value)
            value, shift = 0, 0
    return found


def answers(head_text: str, texts: str) -> dict[str, Any]:
    """The answers of a page as columns: rows, models with answers, metrics with values."""
    head, data = value(head_text), passages(texts)
    rows: list[list[Any]] = []
    for size in head["blocks"]:
        rows += json.loads(data[:size])
        data = data[size:]
    assert not data
    places = range(len(head["ids"])) if head["texts"] is None else head["texts"]
    by_row = dict(zip(places, rows, strict=True))

    def column(field: int) -> list[Any]:
        texts = (by_row.get(row, []) for row in range(len(head["ids"])))
        return [text[field] if field < len(text) else None for text in texts]

    names = [model["name"] for model in head["models"]]
    none = [None] * len(head["ids"])
    labels = {name: head["labels"].get(name, none) for name in ("category", "language", "source")}
    return {
        "head": head,
        "rows": {"id": head["ids"], "prompt": column(0), "reference": column(1), **labels},
        "models": [{**model, "answers": column(2 + i)} for i, model in enumerate(head["models"])],
        "metrics": [
            {**metric, "values": dict(zip(names, metric["values"], strict=True))}
            for metric in head["metrics"]
        ],
        "notes": column(2 + len(names)),
    }
