"""Axes of still pictures: round steps, their labels, frames with a grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from espalier.reports.figure_svg import Picture, colours, text_width
from espalier.reports.verdicts import MINUS

SMALL = 10.5


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` at pixels from `start` to `end`; `log`: by their logarithms."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = (value - low) / (high - low)
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round values between the ends, about `count` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{place * step:.12g}") for place in range(first, last + 1)]


def log_ticks(low: float, high: float, count: int) -> list[float]:
    """Powers of ten between two positive values, or 1, 2 and 5 times them where those are few;
    round steps where even these are."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    heads = (1,) if len(powers) > count - 2 else (1, 2, 5)
    found = [head * 10.0**power for power in powers for head in heads]
    inside = [value for value in found if low <= value <= high]
    return inside if len(inside) > 1 else ticks(low, high, count)


def tick_labels(values: Sequence[float], style: str = "number") -> list[str]:
    """Labels with the same decimals; `style` "percent" and "points" stand for shares."""
    scaled = [value if style == "number" else 100 * value for value in values]
    top = max(map(abs, scaled), default=0.0)
    unit, suffix = (1e6, "M") if top >= 1e7 else (1e3, "k") if top >= 1e4 else (1.0, "")
    if 0 < top < 1e-3:
        return [f"{value:.0e}".replace("e-0", "e-").replace("-", MINUS) for value in scaled]
    step = abs(scaled[1] - scaled[0]) / unit if len(scaled) > 1 else top / unit
    digits = next((n for n in range(6) if abs(round(step, n) - step) < 1e-6 * step), 5)
    suffix += " %" if style == "percent" else ""
    return [f"{value / unit:,.{digits}f}{suffix}".replace("-", MINUS) for value in scaled]


def short(value: float) -> str:
    """A number with three digits, or whole where it has more."""
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        head, power = f"{value:.1e}".split("e")
        return f"{head.removesuffix('.0')}e{int(power)}".replace("-", MINUS)
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", MINUS)


def padded(values: Sequence[float], share: float = 0.06) -> tuple[float, float]:
    """The ends of an axis: a quantity that is never negative keeps its zero when it is near."""
    low, high = min(values), max(values)
    # What differs by rounding alone is one value.
    spread = high - low if high - low > 1e-9 * abs(high) else 0.0
    pad = (spread or abs(low) or 1.0) * share
    return (0.0 if 0 <= low < 0.35 * high else low - pad), high + pad


def value_frame(
    picture: Picture, scale: Scale, marks: Sequence[float], labels: Sequence[str], right: float,
    left: float,
) -> None:  # fmt: skip
    """Horizontal grid lines from `left` to `right` with their values before them."""
    for value, label in zip(marks, labels, strict=True):
        y = scale.at(value)
        picture.line(left, y, right, y, colours()["line"])
        picture.text(left - 6, y + 3.5, label, anchor="end", size=SMALL, colour=colours()["quiet"])


def widest(labels: Sequence[str], size: float = SMALL) -> float:
    """The width of the widest label."""
    return max((text_width(label, size) for label in labels), default=0.0)
