"""The longest common run of two sequences, in machine code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from espalier.compiled import compiled

Codes = NDArray[np.int32]


@compiled
def common_run(one: Codes, other: Codes) -> tuple[int, int]:
    """Where the longest run of `other` that is also in `one` stops, and how long it is.

    Of several the first in `one`, of these the first in `other`. Dynamic programming over both:
    time of the product of the lengths, memory of one row.
    """
    lengths = np.zeros(len(other) + 1, dtype=np.int32)
    stop, best = 0, 0
    for left in one:
        before = np.int32(0)
        for place in range(len(other)):
            above = lengths[place + 1]
            lengths[place + 1] = before + 1 if other[place] == left else 0
            before = above
            if lengths[place + 1] > best:
                best = lengths[place + 1]
                stop = place + 1
    return stop, best
