"""What the page holds packed: deflated, and written in characters that HTML leaves alone.

Base64 puts 6 bits into a character. Here two characters carry 13 bits, as in basE91 (Henke 2006):
91 printable ASCII characters without `<`, `&` and backslash, so that no parser of HTML, mail
program or terminal finds anything in them, 23 % above the bytes instead of 33 %.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

ALPHABET = "".join(chr(code) for code in range(33, 127) if chr(code) not in "<&\\")
# Texts below this many bytes mostly lie within deflate's own window.
LONG_MATCHES_FROM = 1 << 18
# 13 bytes are 8 pairs of characters; the encoder works on this many groups at once.
GROUPS = 1 << 13


class Deflater(Protocol):
    """A zlib compressor."""

    def compress(self, data: Any, /) -> bytes:
        """Take data in."""

    def flush(self) -> bytes:
        """What is left."""


def pack(value: Any) -> str:
    """A JSON value, packed; the result depends on the value alone.

    A lone surrogate is written as its JSON escape.
    """
    return "".join(dense(deflated([json_bytes(value)])))


def json_bytes(value: Any) -> bytes:
    """Compact JSON as UTF-8, lone surrogates as their escapes; raises ValueError for NaN."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def pack_text(data: NDArray[np.uint8]) -> Iterator[str]:
    """Many bytes of text, packed, in pieces: passages that come again taken out, then deflated.

    Deflated is: the count of matches and the sizes of their three runs of varints, as uint32 of
    little end, the runs (see `long_matches.table`), then the literals.
    """
    if data.size < LONG_MATCHES_FROM:
        return dense(deflated([np.zeros(4, "<u4").tobytes(), data.data]))
    # The kernel takes a moment to load, which small pages need not wait for.
    from espalier.reports.long_matches import literals, long_matches, table

    matches = long_matches(data)
    runs = table(matches)
    head = np.array([len(matches), *map(len, runs)], "<u4").tobytes()
    return dense(
        deflated(part for parts in ([head, *runs], literals(data, matches)) for part in parts)
    )


def deflated(parts: Iterable[Any]) -> Iterator[bytes]:
    """The parts as one zlib stream (RFC 1950, with its checksum)."""
    packer: Deflater = zlib.compressobj(9, zlib.DEFLATED, 15, 9)
    for part in parts:
        if done := packer.compress(part):
            yield done
    yield packer.flush()


def dense(parts: Iterable[bytes]) -> Iterator[str]:
    """Bytes as pairs of characters of 13 bits, the highest first.

    Zeros fill the last pair; a final `1` says that they make a byte that was not there, else `0`.
    """
    size = 13 * GROUPS
    held = bytearray()
    for part in parts:
        held += part
        while len(held) >= size:
            yield _pairs(bytes(held[:size]))
            del held[:size]
    last = _pairs(bytes(held))
    yield last + ("1" if 13 * len(last) // 16 > len(held) else "0")


def _pairs(data: bytes) -> str:
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    whole = np.pad(bits, (0, -len(bits) % 13)).reshape(-1, 13)
    numbers = whole @ (1 << np.arange(12, -1, -1))
    letters = np.frombuffer(ALPHABET.encode("ascii"), np.uint8)
    return str(letters[np.stack(np.divmod(numbers, 91), axis=1)].tobytes(), "ascii")
