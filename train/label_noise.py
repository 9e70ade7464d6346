"""Labels swapped on purpose: how much a reward model bears, and what PPO does with it.

A set share of the training pairs changes sides. Raters disagree in about a quarter of all
comparisons (Ouyang et al. 2022, section 3.4), so that a model of preferences always learns from
labels that are wrong in part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from espalier.records import PreferencePair


def swap_labels(
    pairs: Sequence[PreferencePair], share: float, seed: int
) -> tuple[list[PreferencePair], set[str]]:
    """(the pairs in order, round(share × distinct pairs) of them swapped; the ids of those).

    A pair that is there several times has one label. Which ones are swapped depends on the seed
    and on the pairs alone, not on their order, and those of a smaller share are among those of a
    larger one: two shares of one seed differ in nothing else. Margins stay.
    """
    names = {pair.id for pair in pairs}
    drawn = sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    swapped = set(drawn[: round(share * len(names))])
    return [_swapped(pair) if pair.id in swapped else pair for pair in pairs], swapped


def _swapped(pair: PreferencePair) -> PreferencePair:
    """The other answer preferred, under the same id."""
    return replace(pair, chosen=pair.rejected, rejected=pair.chosen)
