"""What a judge model and people said of the answers, as the page shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from espalier.reports.runfiles import number
from espalier.reports.strings import known, t
from espalier.reports.verdicts import MINUS

# Below this alpha conclusions are weak (Krippendorff 2004, "Content Analysis", section 11.3.4).
WEAK_ALPHA = 0.667


def judge_part(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """The judge's part of the summary: `facts` (label and value), `pairs`; None without one."""
    judge = summary.get("judge")
    if not isinstance(judge, Mapping):
        return None
    labels = _labels(summary)
    return {
        "facts": _facts(judge),
        "synthetic": bool(judge.get("synthetic")),
        "pairs": [_judged_pair(pair, labels) for pair in judge.get("pairs") or []],
    }


def _facts(judge: Mapping[str, Any]) -> list[tuple[str, str]]:
    asked = [one for one in judge.get("rubrics") or [] if isinstance(one, Mapping)]
    counts = {name: int(judge.get(name) or 0) for name in ("prompts", "replies")}
    counts["unread_replies"] = sum(int(one.get("unread", 0)) for one in asked)
    counts |= {name: int(judge.get(name) or 0) for name in ("failed", "cut", "shortened")}
    names = list(dict.fromkeys(str(one.get("rubric")) for one in asked))
    found = [(t("judge.model"), str(judge.get("model") or "?"))]
    if names:
        found.append((t("judge.rubrics"), t("list.comma").join(names)))
    if judge.get("reference") is not None:
        found.append((t("judge.reference"), f"{int(judge['reference']):,}"))
    # What did not happen need not be said, but for what could not be read.
    found += [
        (t(f"judge.{name}"), f"{count:,}")
        for name, count in counts.items()
        if count or name in ("prompts", "replies", "unread_replies")
    ]
    return found


def _judged_pair(pair: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    """One pair: names, how many were won, tied, lost and not read, and what else is known."""
    model, baseline = str(pair["model"]), str(pair["baseline"])
    counts = {name: int(pair.get(name) or 0) for name in ("wins", "ties", "losses", "unread")}
    winners = {"wins": model, "ties": "tie", "losses": baseline, "unread": None}
    controlled = pair.get("length_controlled") or {}
    bounds = pair.get("bounds") or []
    return {
        "model": labels.get(model, model),
        "baseline": labels.get(baseline, baseline),
        "verdict": pair.get("verdict", "tie"),
        "rate": percent(pair.get("win_rate")),
        "interval": interval(pair.get("low"), pair.get("high")),
        "p": p_value(pair.get("p_value")),
        "pairs": int(pair.get("pairs") or 0),
        "parts": _stacked(
            counts,
            {
                name: {"a": baseline, "b": model, "where": [_said(model, baseline, winner)]}
                for name, winner in winners.items()
            },
        ),
        "controlled": percent(controlled.get("win_rate")),
        "controlled_interval": interval(controlled.get("low"), controlled.get("high")),
        "extrapolated": bool(controlled.get("extrapolated")),
        "flips": percent(pair.get("flip_rate"), 0),
        "first": percent(pair.get("first_rate"), 0),
        "bounds": interval(*bounds) if counts["unread"] and len(bounds) == 2 else "",
    }


def _stacked(
    counts: Mapping[str, int], opens: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Parts of one bar: `from` and `width` in per cent of it, the count, what a click opens."""
    total = max(1, sum(counts.values()))
    parts, place = [], 0
    for name, count in counts.items():
        if count:
            width = {"from": f"{100 * place / total:.3f}", "width": f"{100 * count / total:.3f}"}
            parts.append({"kind": name, "count": count, "opens": opens[name], **width})
        place += count
    return parts


def _said(model: str, baseline: str, winner: str | None) -> dict[str, Any]:
    return {"kind": "verdict", "model": model, "baseline": baseline, "winner": winner}


# --- people ------------------------------------------------------------------------------------


def people_part(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """The ratings' part of the summary: raters, pairs, agreement, the judge and every score
    beside people; None without one."""
    ratings = summary.get("ratings")
    if not isinstance(ratings, Mapping) or not ratings:
        return None
    labels = _labels(summary)
    metrics = {str(m["name"]): str(m.get("label") or m["name"]) for m in summary["metrics"]}
    beside = [_beside(one, metrics) for one in ratings.get("metrics") or []]
    return {
        "raters": [
            (str(one.get("name")), int(one.get("answers") or 0), int(one.get("pairs") or 0))
            for one in ratings.get("raters") or []
        ],
        "left_out": _left_out(ratings.get("files") or []),
        "pairs": [_rated_pair(one, labels) for one in ratings.get("win_rates") or []],
        "agreement": [_agreement(one) for one in ratings.get("agreement") or []],
        "judge": [_with_judge(one) for one in ratings.get("judge") or []],
        "metrics": sorted(beside, key=lambda one: -(one["order"] or -1)),
    }


def _left_out(files: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    reasons = ("unfilled", "other", "stale", "replaced")
    found = []
    for file in files:
        said = [
            t(f"people.{name}", count=f"{int(file[name]):,}") for name in reasons if file.get(name)
        ]
        rows = t("people.rows", count=f"{int(file.get('rows') or 0):,}")
        found.append((str(file.get("path")), t("list.comma").join([rows, *said])))
    return found


def _rated_pair(one: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    model, baseline = str(one["model"]), str(one["baseline"])
    return {
        "model": labels.get(model, model),
        "baseline": labels.get(baseline, baseline),
        "verdict": one.get("verdict", "tie"),
        "rate": percent(one.get("win_rate")),
        "interval": interval(one.get("low"), one.get("high")),
        "share": number(one.get("win_rate")),
        "p": p_value(one.get("p_value")),
        "prompts": int(one.get("prompts") or 0),
        "votes": int(one.get("votes") or 0),
    }


def _agreement(one: Mapping[str, Any]) -> dict[str, Any]:
    alpha = number(one.get("alpha"))
    return {
        "what": what(one),
        "alpha": signed(alpha),
        "interval": between(one.get("low"), one.get("high")),
        "weak": alpha is not None and alpha < WEAK_ALPHA,
        "equal": percent(one.get("equal"), 0),
        "units": int(one.get("units") or 0),
        "raters": int(one.get("raters") or 0),
    }


def _with_judge(one: Mapping[str, Any]) -> dict[str, Any]:
    rank = one.get("spearman") or {}
    return {
        "what": what(one),
        "n": int(one.get("n") or 0),
        "judge": percent(one.get("equal_to_judge"), 0),
        "people": percent(one.get("equal_among_people"), 0),
        "alpha": signed(one.get("alpha_with_judge")),
        "interval": between(one.get("low"), one.get("high")),
        "rank": signed(rank.get("value")),
        "rank_interval": between(rank.get("low"), rank.get("high")),
    }


def _beside(one: Mapping[str, Any], metrics: Mapping[str, str]) -> dict[str, Any]:
    marks, ranked = one.get("marks") or {}, one.get("preferences") or {}
    name = str(one.get("metric"))
    share = number(ranked.get("share"))
    return {
        "label": metrics.get(name, name),
        "order": share,
        "share": percent(share, 0),
        "share_interval": interval(ranked.get("low"), ranked.get("high"), 0),
        "bar": share,
        "pairs": int(ranked.get("n") or 0),
        "rank": signed(marks.get("value")),
        "rank_interval": between(marks.get("low"), marks.get("high")),
    }


def what(one: Mapping[str, Any]) -> str:
    """What was rated: a criterion, or pairs of answers."""
    name = str(one.get("what"))
    if name == "pairs":
        return t("people.pairs")
    return known(f"criterion.{name}", name.replace("_", " "))


# --- numbers -----------------------------------------------------------------------------------


def _labels(summary: Mapping[str, Any]) -> dict[str, str]:
    return {str(m["name"]): str(m.get("label") or m["name"]) for m in summary["models"]}


def percent(share: Any, decimals: int = 1) -> str:
    """A share as per cent; a dash where there is none."""
    found = number(share)
    return "–" if found is None else f"{100 * found:.{decimals}f} %"


def interval(low: Any, high: Any, decimals: int = 1) -> str:
    """`[59.6, 65.5]` of two shares, in per cent; empty where one is missing."""
    ends = (number(low), number(high))
    if None in ends:
        return ""
    return "[" + ", ".join(f"{100 * end:.{decimals}f}" for end in ends if end is not None) + "]"


def between(low: Any, high: Any) -> str:
    """`[0.71, 0.93]` of two numbers; empty where one is missing."""
    ends = (number(low), number(high))
    return "" if None in ends else f"[{signed(ends[0])}, {signed(ends[1])}]"


def signed(value: Any) -> str:
    """A number with two decimals and a real minus; a dash where there is none."""
    found = number(value)
    if found is None:
        return "–"
    return f"{found:.2f}".replace("-0.00", "0.00").replace("-", MINUS)


def p_value(value: Any) -> str:
    """`p = 0.012`, or `p < 0.001`; empty where there is none."""
    found = number(value)
    if found is None:
        return ""
    return "p < 0.001" if found < 0.001 else f"p = {found:.3f}"
