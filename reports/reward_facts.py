"""What accuracy.json of a reward model says beside its accuracy: calibration, length, margins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from espalier.reports.retold import retell
from espalier.reports.runfiles import number
from espalier.reports.strings import t

Facts = Mapping[str, Any]


def calibration(value: Facts | None) -> dict[str, Any] | None:
    """`{points: [{x, y, low, high, n, label}], note}`: x the mean probability of a bin, y the
    share right; None where the file says nothing of it."""
    part = _part(value, "calibration")
    points = []
    for entry in _rows(part.get("bins")):
        x, y, n = (number(entry.get(key)) for key in ("predicted", "right", "n"))
        if x is None or y is None or n is None:
            continue
        if not 0 <= x <= 1 or not 0 <= y <= 1:
            continue
        points.append(
            {
                "x": x,
                "y": y,
                "low": number(entry.get("low")),
                "high": number(entry.get("high")),
                "n": int(n),
                "label": t("calibration.point", x=_percent(x), y=_percent(y), n=f"{int(n):,}"),
            }
        )
    if not points:
        return None
    said = [
        t(f"calibration.{key}", value=_percent(found) if key == "ece" else f"{found:.3f}")
        for key in ("ece", "log_loss")
        if (found := number(part.get(key))) is not None
    ]
    return {"points": points, "note": " · ".join(said)}


def facts(value: Facts | None) -> list[dict[str, str]]:
    """Rows `{label, value}` of a table: score against length, subsets by length, margins."""
    length, margins = _part(value, "length"), _part(value, "margins")
    rows: list[tuple[str, str | None]] = [
        ("length.correlation", _signed_pair(length.get("pearson"), length.get("spearman"))),
        (
            "length.gap_correlation",
            _signed_pair(length.get("gap_pearson"), length.get("gap_spearman")),
        ),
        ("length.longer_chosen", _share(length.get("longer_chosen"))),
        ("length.longer_preferred", _share(length.get("longer_preferred"))),
        *(
            (f"length.{key}", _interval(_part(length, key)))
            for key in ("accuracy_near", "accuracy_longer", "accuracy_shorter")
        ),
        ("margins.mean", _with_deviation(margins)),
        ("accuracy.ties", _count((value or {}).get("ties"))),
    ]
    return [{"label": t(key), "value": text} for key, text in rows if text is not None]


def statement(value: Facts | None) -> list[str]:
    """The sentences of the reliability statement."""
    said = (value or {}).get("reliability")
    rows = said if isinstance(said, list) else []
    return [retell(text) for text in rows if isinstance(text, str)]


def _part(value: Any, key: str) -> Facts:
    part = value.get(key) if isinstance(value, Mapping) else None
    return part if isinstance(part, Mapping) else {}


def _rows(value: Any) -> Sequence[Facts]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _share(raw: Any) -> str | None:
    value = number(raw)
    return None if value is None else _percent(value)


def _count(raw: Any) -> str | None:
    value = number(raw)
    return None if not value else f"{int(value):,}"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def _signed_pair(first: Any, second: Any) -> str | None:
    a, b = number(first), number(second)
    return None if a is None or b is None else f"{_signed(a)} / {_signed(b)}"


def _with_deviation(part: Facts) -> str | None:
    mean, deviation = number(part.get("mean")), number(part.get("deviation"))
    return None if mean is None or deviation is None else f"{_signed(mean)} ± {deviation:.2f}"


def _interval(part: Facts) -> str | None:
    share, low, high = (number(part.get(key)) for key in ("accuracy", "low", "high"))
    if share is None or low is None or high is None:
        return None
    n = number(part.get("n")) or 0
    return f"{_percent(share)} [{100 * low:.1f},\u00a0{100 * high:.1f}] ({int(n):,})"
