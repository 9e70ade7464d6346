"""What is rated in which order, by whom, and how far: the part of `espalier rate` with no network.

The order of the items is drawn once for all raters, so that their ratings meet early and agreement
can be told; which answer stands first is drawn for each rater and item. Both are functions of the
seed, so that a server started again goes on where it was.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from espalier.alpha import Level, alpha, equal_share
from espalier.blind import Item
from espalier.judging import HIGHEST, LOWEST
from espalier.rating_store import Entry, Mark, RatingStore, Verdict
from espalier.rubrics import Scale

PAIRS = "pairs"
LONGEST_NAME, LONGEST_COMMENT = 60, 4000
LONGEST_SECONDS = 86_400
WORTH: Mapping[str, float] = {"A": 1.0, "tie": 0.5, "B": 0.0}
CHECKS: Mapping[str, float] = {"pass": 1.0, "fail": 0.0}


class Refused(Exception):
    """A request that can't be served, in one sentence for the person who made it."""


@dataclass(frozen=True)
class Plan:
    """What is to be rated: pairs to choose from, answers to mark by rubrics, or both.

    `raters_per_item` people rate an item (None: everybody rates everything).
    """

    pairs: Sequence[Item]
    marks: Sequence[Item]
    scales: Sequence[Scale]
    seed: int = 1
    raters_per_item: int | None = None

    def items(self, part: str) -> Sequence[Item]:
        """The items of a part; raises Refused for one that is not there."""
        if part not in self.parts:
            raise Refused("there is nothing of that kind to rate")
        return self.pairs if part == PAIRS else self.marks

    def scale(self, part: str) -> Scale:
        """The rubric that a part is."""
        return next(one for one in self.scales if one.name == part)

    @property
    def parts(self) -> list[str]:
        """The parts that have items."""
        names = [PAIRS] if self.pairs else []
        return names + ([one.name for one in self.scales] if self.marks else [])


def drawn(items: Sequence[Item], seed: int, count: int | None) -> list[Item]:
    """`count` items at most, in the order in which they are rated."""
    order = sorted(items, key=lambda one: one.name)
    random.Random(f"{seed}:rate").shuffle(order)
    return order[:count]


def turned(seed: int, rater: str, item: str) -> bool:
    """Whether this rater sees the pair's answers in the other order."""
    return bool(hashlib.sha256(f"{seed}:{rater}:{item}".encode()).digest()[0] & 1)


class Session:
    """The ratings of one plan; may be used by several threads, and beside other servers."""

    def __init__(self, plan: Plan, store: RatingStore) -> None:
        self.plan = plan
        self.store = store
        self.known = {part: {one.name: one for one in plan.items(part)} for part in plan.parts}
        self._lock = threading.Lock()
        self._last = 0
        # Of each part: by item, each rater's latest rating.
        self._given: dict[str, dict[str, dict[str, Entry]]] = {part: {} for part in plan.parts}
        store.add_items((*plan.pairs, *plan.marks))

    def about(self) -> dict[str, Any]:
        """What there is to rate, and by what."""
        pairs = [{"name": PAIRS}] if self.plan.pairs else []
        return {"parts": [*pairs, *(one.to_json() for one in self.plan.scales if self.plan.marks)]}

    def following(self, part: str, rater: str, passed: Collection[str] = ()) -> dict[str, Any]:
        """The first item that this rater has not rated, those `passed` over coming last; and how
        far the rater is. `item` is None where all is rated."""
        rater = _name(rater)
        given = self._read(part)
        waiting = [one for one in self.plan.items(part) if self._is_open(given, one.name, rater)]
        first = next((one for one in waiting if one.name not in passed), None)
        item = first or next(iter(waiting), None)
        shown = None if item is None else self._shown(part, item, rater)
        return {"item": shown, **self._far(part, given, rater, len(waiting))}

    def item(self, part: str, rater: str, name: str) -> dict[str, Any]:
        """One item again, with what this rater said of it."""
        rater = _name(rater)
        given = self._read(part)
        return {"item": self._shown(part, self._item(part, name), rater),
                **self._far(part, given, rater)}  # fmt: skip

    def save(self, part: str, rater: str, value: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a rating for good; raises Refused, naming what is wrong, where it is none."""
        rater = _name(rater)
        item = self._item(part, str(value.get("item")))
        swap = part == PAIRS and turned(self.plan.seed, rater, item.name)
        entry = Entry(
            uid=_uid(value),
            item=item.name,
            rater=rater,
            part=part,
            verdict=_verdict(value.get("verdict"), swap) if part == PAIRS else None,
            marks={} if part == PAIRS else self._marks(part, value.get("marks")),
            comment=_comment(value.get("comment")),
            turned=swap,
            seconds=_seconds(value.get("seconds")),
        )
        self.store.add(entry)
        return {"saved": entry.uid, **self._far(part, self._read(part), rater)}

    def progress(self) -> dict[str, Any]:
        """For each part: how many items there are, how far each rater is, how far they agree."""
        return {"parts": [self._progress(part) for part in self.plan.parts]}

    # --- ratings -----------------------------------------------------------------------------

    def _read(self, part: str) -> dict[str, dict[str, Entry]]:
        """The ratings of a part as they are now; another process may have written some."""
        if part not in self.known:
            self.plan.items(part)
        with self._lock:
            for entry in self.store.since(self._last):
                self._last = max(self._last, entry.number)
                if entry.item in self.known.get(entry.part, ()):
                    self._given[entry.part].setdefault(entry.item, {})[entry.rater] = entry
            return {item: dict(raters) for item, raters in self._given[part].items()}

    def _is_open(self, given: Mapping[str, Mapping[str, Entry]], item: str, rater: str) -> bool:
        raters = given.get(item, {})
        limit = self.plan.raters_per_item
        return rater not in raters and (limit is None or len(raters) < limit)

    def _item(self, part: str, name: str) -> Item:
        self.plan.items(part)
        item = self.known[part].get(name)
        if item is None:
            raise Refused("there is no such item; the server may have been started anew with other "
                          "options: load the page again")  # fmt: skip
        return item

    def _shown(self, part: str, item: Item, rater: str) -> dict[str, Any]:
        """What the rater sees: the texts, in the order drawn, and no model."""
        swap = part == PAIRS and turned(self.plan.seed, rater, item.name)
        answers = item.answers[::-1] if swap else item.answers
        mine = self._given[part].get(item.name, {}).get(rater)
        said = None
        if mine is not None:
            verdict = None if mine.verdict is None else _turn(mine.verdict, swap)
            said = {"verdict": verdict, "marks": dict(mine.marks), "comment": mine.comment}
        return {"name": item.name, "prompt": item.prompt, "answers": list(answers), "mine": said}

    def _far(
        self, part: str, given: Mapping[str, Mapping[str, Entry]], rater: str,
        left: int | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        done = [item for item, raters in given.items() if rater in raters]
        done.sort(key=lambda item: given[item][rater].number)
        if left is None:
            items = self.plan.items(part)
            left = sum(self._is_open(given, one.name, rater) for one in items)
        return {"done": len(done), "left": left, "rated": done}

    # --- how far -----------------------------------------------------------------------------

    def _progress(self, part: str) -> dict[str, Any]:
        given = self._read(part)
        counts: dict[str, int] = {}
        for raters in given.values():
            for rater in raters:
                counts[rater] = counts.get(rater, 0) + 1
        return {
            "part": part,
            "items": len(self.known[part]),
            "rated": len(given),
            "twice": sum(len(raters) > 1 for raters in given.values()),
            "raters": [{"name": name, "done": counts[name]} for name in sorted(counts)],
            "agreement": list(self._agreement(part, given)),
        }

    def _agreement(
        self, part: str, given: Mapping[str, Mapping[str, Entry]]
    ) -> Iterator[dict[str, Any]]:
        entries = [list(raters.values()) for raters in given.values()]
        if part == PAIRS:
            yield _agreed(PAIRS, "nominal", [[WORTH[e.verdict or "tie"] for e in one]
                                             for one in entries])  # fmt: skip
            return
        scale = self.plan.scale(part)
        for name in (*scale.marks, *scale.checks):
            level: Level = "nominal" if name in scale.checks else "ordinal"
            units = [[_number(e.marks[name]) for e in one if name in e.marks] for one in entries]
            yield _agreed(name, level, units)

    # --- what raters send --------------------------------------------------------------------

    def _marks(self, part: str, value: Any) -> dict[str, Mark]:
        scale = self.plan.scale(part)
        if not isinstance(value, Mapping) or not value:
            raise Refused("no mark was given")
        for name, mark in value.items():
            if name in scale.marks:
                whole = isinstance(mark, int) and not isinstance(mark, bool)
                if not whole or not LOWEST <= mark <= HIGHEST:
                    raise Refused(f"{name} is no whole number from {LOWEST} to {HIGHEST}")
            elif name not in scale.checks:
                raise Refused("the rubric has no such mark; load the page again")
            elif not isinstance(mark, str) or mark not in CHECKS:
                raise Refused(f"{name} is neither pass nor fail")
        return dict(value)


def _number(mark: Mark) -> float:
    return CHECKS[mark] if isinstance(mark, str) else float(mark)


def _agreed(what: str, level: Level, units: Sequence[Sequence[float]]) -> dict[str, Any]:
    paired = [one for one in units if len(one) > 1]
    return {
        "what": what,
        "level": level,
        "items": len(paired),
        "alpha": alpha(paired, level),
        "equal": equal_share(paired),
    }


def _name(value: Any) -> str:
    name = " ".join(value.split()) if isinstance(value, str) else ""
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise Refused(f"a rater needs a name of 1 to {LONGEST_NAME} characters")
    return name


def _uid(value: Mapping[str, Any]) -> str:
    uid = value.get("uid")
    if not isinstance(uid, str) or not 8 <= len(uid) <= 64 or not uid.isascii():
        raise Refused("a rating needs a uid of 8 to 64 characters")
    return uid


def _seconds(value: Any) -> float | None:
    """What was sent, up to a day; anything else is no time."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= LONGEST_SECONDS else None


def _verdict(value: Any, swap: bool) -> Verdict:
    if not isinstance(value, str) or value not in WORTH:
        raise Refused("the verdict is none of A, B and tie")
    return _turn(cast(Verdict, value), swap)


def _turn(verdict: Verdict, swap: bool) -> Verdict:
    if not swap or verdict == "tie":
        return verdict
    return "B" if verdict == "A" else "A"


def _comment(value: Any) -> str:
    text = value if isinstance(value, str) else ""
    # What no database takes: half of a character.
    return text[:LONGEST_COMMENT].encode("utf-8", "replace").decode("utf-8").strip()
