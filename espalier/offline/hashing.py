"""Random choices that depend on named parts only: the same in every process and order."""

from __future__ import annotations

import hashlib
from random import Random

_SCALE = 2.0**-64


class Draws:
    """Eight independent uniform numbers and a generator, all fixed by the parts.

    BLAKE2b of the length-prefixed parts gives 64 bytes, eight a number. Cheap enough to make
    one for every completion; the generator is only built when asked for.
    """

    __slots__ = ("_digest",)

    def __init__(self, *parts: str) -> None:
        state = hashlib.blake2b()
        for part in parts:
            data = part.encode("utf-8", errors="surrogatepass")
            state.update(len(data).to_bytes(8, "big"))
            state.update(data)
        self._digest = state.digest()

    def uniform(self, index: int) -> float:
        """The number in [0, 1) at `index` (0 to 7)."""
        return int.from_bytes(self._digest[8 * index : 8 * index + 8], "big") * _SCALE

    def random(self) -> Random:
        """A generator seeded by all the parts."""
        return Random(int.from_bytes(self._digest, "big"))
