"""Agreement told from files of ratings alone, without the run that they are about."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from espalier.alpha import Level
from espalier.evaluate.agreement import krippendorff
from espalier.evaluate.ratings import Rating, RatingFile
from espalier.terminal import visible

RESAMPLES = 1000


def files_agreement(files: Sequence[RatingFile]) -> str:
    """One line a mark, check, and for the verdicts on pairs: alpha at all levels, and how many.

    Ratings belong together that have the same item, or name the same prompt and models.
    """
    units: dict[str, dict[Hashable, dict[str, float]]] = {}
    replaced: set[tuple[str, Hashable]] = set()
    for file in files:
        for rating in file.ratings:
            for name, value, place in _values(rating):
                given = units.setdefault(name, {}).setdefault(place, {})
                if rating.rater in given:
                    replaced.add((rating.rater, place))
                given[rating.rater] = value
    raters = sorted({rating.rater for file in files for rating in file.ratings})
    count = sum(len(file.ratings) for file in files)
    lines = [f"{count:,} ratings by {len(raters)}: {visible(', '.join(raters))}"]
    if replaced:
        names = visible(", ".join(sorted({rater for rater, _ in replaced})))
        lines.append(
            f"{len(replaced):,} were rated again by the same person ({names}); the last rating "
            "counts. Are these two people? Then give them names in a column `rater`."
        )
    checks = frozenset[str]().union(*(file.checks for file in files))
    lines += [
        _line(name, list(places.values()), nominal=name in checks or name == "pairs")
        for name, places in units.items()
    ]
    return "\n".join(lines)


def _values(rating: Rating) -> list[tuple[str, float, Hashable]]:
    prompt = rating.names[0] if rating.names else rating.prompt
    if rating.worth is None:
        place: Hashable = rating.item or (prompt, rating.model)
        return [(name, value, place) for name, value in rating.marks.items()]
    if rating.item is not None or rating.pair is None:
        return [("pairs", rating.worth, rating.item)]
    turned = rating.pair[0] > rating.pair[1]
    worth = 1 - rating.worth if turned else rating.worth
    return [("pairs", worth, (prompt, *sorted(rating.pair)))]


def _line(name: str, places: Sequence[dict[str, float]], *, nominal: bool) -> str:
    units = [list(given.values()) for given in places]
    headline: Level = "nominal" if nominal else "ordinal"
    found = krippendorff(units, headline, resamples=RESAMPLES, seed=1)
    if found.alpha is None:
        why = "all ratings are the same" if found.units else "nothing was rated by two people"
        return f"{name}: no alpha, {why}"
    interval = "" if found.low is None else f" [{found.low:.2f}, {found.high:.2f}]"
    levels: tuple[Level, ...] = ("nominal", "ordinal", "interval")
    others = [level for level in levels if level != headline]
    rest = ", ".join(f"{level} {krippendorff(units, level).alpha:.2f}" for level in others)
    return (
        f"{name}: alpha {found.alpha:.2f}{interval} ({headline}; {rest}), equal "
        f"{100 * (found.equal or 0):.0f} %, {found.units:,} of {len(places):,} rated by two or more"
    )
