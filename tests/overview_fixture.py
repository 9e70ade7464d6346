"""A run whose evaluation has all that the overview shows: judge, people, details, slice tests.

Numbers that a test asserts are set by hand, or stand in the files for it to count again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from report_fixture import make_run, write_json, write_lines

CRITERIA = ("relevance", "accuracy", "completeness")
MARKS = {
    "base": (2.0, 1.5, 2.5),
    "base-3shot": (2.5, 2.0, 3.0),
    "sft": (4.0, 3.0, 4.5),
    "ppo": (4.5, 3.5, 4.0),
}
WINNERS = ("ppo", "tie", "sft", "ppo", None)


def overview_run(folder: Path, rows: int = 60) -> Path:
    """Write the run; returns its folder."""
    run = make_run(folder, rows=rows)
    path = run / "evaluate" / "summary.json"
    summary = json.loads(path.read_text("utf-8"))
    _lengths(summary, rows)
    _slice_tests(summary)
    for comparison in summary["comparisons"]:
        comparison |= {"wins": 30, "losses": 10, "ties": rows - 40, "detectable": 0.05}
    _marks(summary, rows)
    summary["power"] = 0.8
    summary["judge"] = _judge(run, rows)
    summary["ratings"] = ratings()
    summary["details"] = details()
    write_json(path, summary)
    return run


def _lengths(summary: dict[str, Any], rows: int) -> None:
    """The English prompts of the fixture have 16 words, the Chinese ones more."""
    for name, n in (("1 low: 1–16", 40), ("3 high: 17–40", rows - 40)):
        for model in summary["models"]:
            summary["slices"].append(
                {
                    "by": "length",
                    "value": name,
                    "model": model["name"],
                    "metric": "reward",
                    "score": 0.25,
                    "n": n,
                }
            )


def _slice_tests(summary: dict[str, Any]) -> None:
    scores = {(s["by"], s["value"], s["metric"], s["model"]): s for s in summary["slices"]}
    summary["slice_comparisons"] = [
        {
            "by": by,
            "value": value,
            "metric": metric,
            "model": model,
            "baseline": "sft",
            "difference": one["score"] - base["score"],
            "low": one["score"] - base["score"] - 0.1,
            "high": one["score"] - base["score"] + 0.1,
            "p_value": 0.001,
            "n": one["n"],
            "verdict": "better" if one["score"] > base["score"] else "worse",
        }
        for (by, value, metric, model), one in scores.items()
        if by == "language" and model != "sft"
        for base in [scores[by, value, metric, "sft"]]
    ]


def _marks(summary: dict[str, Any], rows: int) -> None:
    for place, name in enumerate(CRITERIA):
        for who, label in (("judge", "Judge"), ("human", "People")):
            signature = (
                "espalier.judge|rubric:quality|task:0" if who == "judge" else "espalier.ratings"
            )
            summary["metrics"].append(
                {
                    "name": f"{who}_{name}",
                    "label": f"{label}: {name}",
                    "format": "number",
                    "higher_is_better": True,
                    "signature": signature,
                    "description": "A mark.",
                }
            )
            for model, marks in MARKS.items():
                value = marks[place] - (0.5 if who == "human" else 0)
                summary["scores"].append(
                    {
                        "model": model,
                        "metric": f"{who}_{name}",
                        "n": rows,
                        "value": value,
                        "low": value - 0.2,
                        "high": value + 0.2,
                    }
                )


def _judge(run: Path, rows: int) -> dict[str, Any]:
    winners = [WINNERS[row % len(WINNERS)] for row in range(rows)]
    write_lines(
        run / "evaluate" / "judge_pairs.jsonl",
        (
            {"id": f"{row:016x}", "model": "ppo", "baseline": "sft", "winner": winner}
            for row, winner in enumerate(winners)
        ),
    )
    counts = {name: winners.count(name) for name in ("ppo", "sft", "tie", None)}
    return {
        "engine": "openai",
        "model": "my-judge",
        "synthetic": False,
        "prompts": rows,
        "reference": None,
        "replies": 2 * rows,
        "failed": 0,
        "cut": 2,
        "shortened": 0,
        "rubrics": [
            {"rubric": "quality", "model": "ppo", "asked": rows, "read": rows - 3, "unread": 3}
        ],
        "pairs": [
            {
                "model": "ppo",
                "baseline": "sft",
                "pairs": rows,
                "wins": counts["ppo"],
                "ties": counts["tie"],
                "losses": counts["sft"],
                "unread": counts[None],
                "flip_rate": 0.25,
                "first_rate": 0.5125,
                "win_rate": 0.625,
                "low": 0.55,
                "high": 0.7,
                "p_value": 0.002,
                "verdict": "better",
                "bounds": [0.5, 0.7],
                "length_controlled": {
                    "win_rate": 0.58,
                    "low": 0.5,
                    "high": 0.66,
                    "extrapolated": True,
                },
            }
        ],
    }


def ratings() -> dict[str, Any]:
    """What people said, as the evaluation writes it."""
    alpha = {"level": "ordinal", "low": 0.2, "high": 0.6, "units": 40, "ratings": 80, "equal": 0.55}
    return {
        "files": [
            {"path": "ann.csv", "rows": 60, "unfilled": 4, "other": 0, "stale": 2, "replaced": 0}
        ],
        "raters": [
            {"name": "ann", "answers": 40, "pairs": 60},
            {"name": "bo", "answers": 40, "pairs": 0},
        ],
        "win_rates": [
            {
                "model": "ppo",
                "baseline": "sft",
                "prompts": 50,
                "votes": 100,
                "win_rate": 0.4,
                "low": 0.31,
                "high": 0.5,
                "p_value": 0.08,
                "verdict": "tie",
            }
        ],
        "agreement": [
            {"what": "accuracy", "raters": 2, "alpha": 0.41, **alpha},
            {"what": "pairs", "raters": 2, "alpha": None, **alpha, "low": None, "high": None},
        ],
        "judge": [
            {
                "what": "accuracy",
                "n": 40,
                "equal_to_judge": 0.5,
                "equal_among_people": 0.55,
                "alpha_with_judge": -0.004,
                "low": -0.2,
                "high": 0.3,
                "level": "ordinal",
                "spearman": {"value": 0.3, "low": 0.1, "high": 0.5, "n": 40},
            }
        ],
        "metrics": [
            {"metric": "bleu", "preferences": {"share": 0.5, "low": 0.4, "high": 0.6, "n": 49}},
            {
                "metric": "reward",
                "marks": {"value": 0.62, "low": 0.5, "high": 0.7, "n": 40},
                "preferences": {"share": 0.8, "low": 0.7, "high": 0.9, "n": 49},
            },
        ],
    }


def details() -> dict[str, Any]:
    """What metrics tell beyond a score, as the evaluation writes it."""
    labels = [
        {"label": "good", "precision": 0.75, "recall": 0.6, "f1": 2 / 3, "rows": 5, "told": 4},
        {"label": "bad", "precision": 0.5, "recall": 1.0, "f1": 2 / 3, "rows": 2, "told": 4},
    ]
    quantiles = {
        "0": -2.0,
        "0.05": -1.5,
        "0.25": -1.0,
        "0.5": 0.0,
        "0.75": 1.0,
        "0.95": 1.5,
        "1": 2.0,
    }
    spread = {"n": 60, "mean": 0.1, "deviation": 1.25, "quantiles": quantiles}
    return {
        "exact_match": {
            "sft": {"labels": labels, "confusion": [[3, 2], [0, 2]], "without_label": 1},
        },
        "reward": {
            "ppo": {
                "answers_cut": 3,
                "prompts_cut": 0,
                "distribution": spread,
                "histogram": {"borders": [0, 1], "counts": [60]},
                "length": {"n": 60, "pearson": 0.24, "spearman": -0.3},
                "other_models": {"bleu": {"n": 60, "pearson": 0.9, "spearman": None}},
                "margin": {**spread, "above": 0.7, "below": 0.2},
            },
        },
        "chrf": {"sft": {"checks": {"words": {"passed": 0.9, "checks": 60}}}},
        "bleu": {
            "sft": {
                "types": {
                    "PER": {"precision": 1, "recall": 0.5, "f1": 2 / 3, "spans": 8, "told": 4}
                }
            }
        },
    }
