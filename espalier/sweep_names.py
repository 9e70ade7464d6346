"""Names of a sweep's members: what they differ in, readable, safe as folders, the same next time.

A name depends on the member's own settings, and on which keys are varied: with more levels,
variants or seeds a sweep finds its members again, with one more key all of them are new.
`no-dedup_learning_rate-1e-05_s1`: the variant, then key by key, and the seed.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from espalier.sweep_file import VARIANT

# Letters of one level, and bytes of a whole name: file systems allow 255.
LEVEL_LETTERS = 32
NAME_BYTES = 150
_UNSAFE = re.compile(r"[^\w.+-]+")


def labels(keys: Sequence[str]) -> dict[str, str]:
    """The shortest end of each dotted key that tells it from the others.

    `train.sft.seed` and `train.ppo.seed` are `sft.seed` and `ppo.seed`.
    """
    found: dict[str, str] = {}
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[-length:]) for length in range(1, len(parts) + 1)]
        found[key] = next(
            (end for end in ends if not any(_ends(other, end) for other in keys if other != key)),
            key,
        )
    return found


def _ends(key: str, end: str) -> bool:
    return key == end or key.endswith("." + end)


def member_name(settings: Mapping[str, Any], label: Mapping[str, str], seed: int) -> str:
    """The folder's name of the member with these settings (factor key: level)."""
    parts = [
        level_name(level) if key == VARIANT else f"{_safe(label[key])}-{level_name(level)}"
        for key, level in settings.items()
    ]
    name = "_".join([*parts, f"s{seed}"])
    if len(name.encode()) > NAME_BYTES:
        kept = name.encode()[: NAME_BYTES - 14].decode(errors="ignore")
        name = f"{kept}_{_digest(dict(settings))}_s{seed}"
    return name


def level_name(level: Any) -> str:
    """A level in letters that a folder's name may have; one that is cut gets a hash."""
    if isinstance(level, str):
        text = level
    elif isinstance(level, float):
        text = format(level, "g") if float(format(level, "g")) == level else repr(level)
    else:
        text = json.dumps(level, ensure_ascii=False)
    # A minus is a part of a number.
    name = text if isinstance(level, int | float) else _safe(text)
    if not name or len(name) > LEVEL_LETTERS:
        name = f"{name[: LEVEL_LETTERS - 7]}-{_digest(level)}".lstrip("-")
    return name


def _safe(text: str) -> str:
    return _UNSAFE.sub("-", unicodedata.normalize("NFC", text)).strip("-.")


def _digest(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:6]


def told_apart(names: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names, with a hash at those that are one, or that a file system takes for one (`A` and
    `a`)."""
    plain = [unicodedata.normalize("NFKC", name).casefold() for name in names]
    return [
        name if plain.count(key) == 1 else f"{name}_{_digest(dict(one))}"
        for name, key, one in zip(names, plain, settings, strict=True)
    ]
