"""The longest run of words that two texts share, as it stands in the text."""

from __future__ import annotations

import re

# Words as they stand between spaces; characters of scripts without spaces singly.
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\ua4cf\uf900-\ufaff\uff00-\uffef"
_PIECE = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_MOST_PIECES = 500


def shared_span(one: str, other: str) -> str:
    """The longest run of words (characters, in CJK) that both texts hold, as `other` has it.

    Only the first 500 words of each are looked at. Empty when they share no word.
    """
    import numpy as np

    from espalier.common_run import common_run

    ids: dict[str, int] = {}
    left = [ids.setdefault(match.group(), len(ids)) for match in _pieces(one)]
    right = _pieces(other)
    codes = [ids.setdefault(match.group(), len(ids)) for match in right]
    stop, length = common_run(np.array(left, dtype=np.int32), np.array(codes, dtype=np.int32))
    if not length:
        return ""
    return other[right[stop - length].start() : right[stop - 1].end()]


def _pieces(text: str) -> list[re.Match[str]]:
    found = []
    for match in _PIECE.finditer(text):
        found.append(match)
        if len(found) == _MOST_PIECES:
            break
    return found
