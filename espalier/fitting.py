"""Encoded rows and how they are made to fit: what is cut, what is left out, all counted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from espalier.errors import StageError

OverLong = Literal["truncate", "drop", "stop"]
_NAMED = 5  # rows of each kind that counts name


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids and, for each, whether the loss is taken on predicting it.

    `id` is that of the row they come from, so that an error can name it.
    """

    ids: list[int]
    trained: list[bool]
    id: str = field(default="", compare=False)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def targets(self) -> int:
        """How many tokens the loss is taken over (the first token is never predicted)."""
        return sum(self.trained[1:])


@dataclass
class EncodingCounts:
    """What became of the rows: `kept` + `too_long` + `untrained` is all that came in.

    `truncated` counts those of the kept that lost tokens, `answers_cut` those of them that lost
    tokens of their answers, `endless` the rows whose last answer ends in no special token.
    `first_ids` names the first rows of each kind but the kept.
    """

    kept: int = 0
    truncated: int = 0
    answers_cut: int = 0
    too_long: int = 0
    untrained: int = 0
    endless: int = 0
    dropped_ids: list[str] = field(default_factory=list)
    first_ids: dict[str, list[str]] = field(default_factory=dict)

    def name(self, kind: str, identity: str) -> None:
        """Note the id of a row, if it is one of the first of its kind."""
        ids = self.first_ids.setdefault(kind, [])
        if len(ids) < _NAMED:
            ids.append(identity)

    def to_json(self) -> dict[str, Any]:
        counts: dict[str, Any] = {
            "kept": self.kept,
            "truncated": self.truncated,
            "too_long": self.too_long,
            "untrained": self.untrained,
        }
        for name in ("answers_cut", "endless"):
            if getattr(self, name):
                counts[name] = getattr(self, name)
        if self.first_ids:
            counts["first_ids"] = self.first_ids
        return counts

    def notes(self, limit: int | None) -> list[str]:
        """One line for each kind of row that is not trained on as it is."""
        found = [
            ("truncated", self.truncated, f"truncated to {limit} tokens"),
            ("answers_cut", self.answers_cut, "with answers cut off"),
            ("too_long", self.too_long, f"left out, longer than {limit} tokens"),
            ("untrained", self.untrained, "left out, without a token to train on"),
            ("endless", self.endless, "without an end marker: the model does not learn to stop"),
        ]
        return [
            f"{count:,} {'row' if count == 1 else 'rows'} {what} (such as "
            + ", ".join(self.first_ids.get(kind, [])[:3])
            + ")"
            for kind, count, what in found
            if count
        ]


def fit_row(
    encoded: Encoded,
    limit: int | None,
    over_long: OverLong,
    identity: str,
    counts: EncodingCounts,
) -> Encoded | None:
    """A row as it is trained on, or None where it is left out; what became of it is counted."""
    fitted: Encoded | None = encoded
    if limit is not None and len(encoded) > limit:
        if over_long == "stop":
            raise StageError(
                f"A row has {len(encoded):,} tokens.",
                where=f"row {identity}",
                expected=f"at most {limit:,} (max_length)",
                hint="raise max_length, or set over_long to truncate or drop",
            )
        fitted = None if over_long == "drop" else truncate_prompt(encoded, limit)
    if fitted is None or not fitted.targets:
        kind = "too_long" if fitted is None else "untrained"
        counts.too_long += kind == "too_long"
        counts.untrained += kind == "untrained"
        counts.name(kind, identity)
        counts.dropped_ids.append(identity)
        return None
    counts.kept += 1
    if fitted is not encoded:
        counts.truncated += 1
        counts.name("truncated", identity)
        if fitted.targets < encoded.targets:
            counts.answers_cut += 1
            counts.name("answers_cut", identity)
    return replace(fitted, id=identity)


def truncate_prompt(encoded: Encoded, limit: int) -> Encoded:
    """Cut to `limit` tokens: first the oldest before the last answer, then the end.

    The first token stays (it is the BOS or the marker that opens the conversation). An earlier
    answer that the row then begins with is no longer trained: it answers nothing.
    """
    if len(encoded) <= limit:
        return encoded
    cut, _ = cuts(encoded, limit)
    trained = list(encoded.trained)
    at = 1 + cut
    while cut and at < len(trained) and trained[at]:
        trained[at] = False
        at += 1
    ids = encoded.ids[:1] + encoded.ids[1 + cut :]
    trained = trained[:1] + trained[1 + cut :]
    return Encoded(ids[:limit], trained[:limit])


def cuts(encoded: Encoded, limit: int | None) -> tuple[int, int]:
    """How many tokens a row loses to `limit`: after its first token, and from its end."""
    excess = len(encoded) - limit if limit is not None else 0
    if excess <= 0:
        return 0, 0
    # Two tokens before it always stay: the opening token and the marker of the answer.
    cut = max(0, min(excess, _last_answer(encoded) - 2))
    return cut, excess - cut


def _last_answer(encoded: Encoded) -> int:
    """Where the last trained piece begins; the end of the row, where nothing is trained."""
    at = max((i for i, trained in enumerate(encoded.trained) if trained), default=len(encoded))
    while 0 < at < len(encoded) and encoded.trained[at - 1]:
        at -= 1
    return at
