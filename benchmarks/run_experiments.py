"""Runs the experiments of recipes/experiments/ and writes what they found to docs/findings.md.

    python benchmarks/run_experiments.py [NAME …] [--runs-dir DIR] [--page-only]

Each is `espalier sweep recipes/experiments/NAME.yaml`; one that is done takes no time. The page
holds every experiment whose answer is there, in the words of its own page.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import machine

from espalier.files import read_json
from espalier.progress import duration
from espalier.reports.config import ReportConfig
from espalier.reports.sweep_data import SweepData, gather_sweep
from espalier.reports.sweep_page import build_sweep_page

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "findings.md"
# In the order in which a reader asks.
NAMES = (
    "base-sft-ppo", "data-scale", "strategies", "format", "quality-quantity", "curation",
    "reward-noise", "ppo-settings",
)  # fmt: skip
# What else a reader wants to know of every level, by the name that the experiment's page uses.
BESIDE = {
    "data-scale": ("sft/token_f1", "sft/ppl_response"),
    "strategies": ("sft/token_f1", "sft/ppl_response"),
    "format": ("sft/token_f1", "sft/ppl_response"),
    "quality-quantity": ("sft/token_f1", "sft/ppl_response"),
    "curation": ("sft/exact_match", "sft/ppl_response"),
    "reward-noise": ("reward/accuracy:eval", "sft/reward", "ppo/exact_match", "ppo/kl:train"),
    "ppo-settings": ("sft/reward", "ppo/exact_match", "ppo/kl:train"),
}

# What a reader should know of a result, beside its numbers.
NOTES = {
    "base-sft-ppo": (
        "The base model is asked in another template, with solved examples. That it is worse at "
        "the tasks and better by the held-out reward may come from the habit of style in the data, "
        "which it has not learnt, SFT has and PPO may drop; no number here measures that."
    ),
    "data-scale": "Every size trains for 300 steps: 100 rows are seen 96 times, 3,200 three times.",
    "ppo-settings": (
        "All members start from one SFT model (held-out reward −1.26, without an interval), and "
        "every setting ends at about −0.05: these rewards are gained within the samples of twenty "
        "iterations, whatever the setting, and what differs is how far the policy has gone for "
        "them (the last column, not tested). Two and a half hours of the time are pauses of the "
        "first members."
    ),
    "reward-noise": (
        "All members start from one SFT model (held-out reward −1.26, without an interval), and "
        "PPO gains by every reward model, also by those right on two pairs of three. What it gains "
        "may be easy to see even through wrong labels, such as the habit of style in the data; "
        "rewards are normalised by their own spread, so that a weaker model pushes as hard against "
        "the KL penalty."
    ),
}


def main() -> int:
    """Run, then write the page; returns 1 where a sweep had members that failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--runs-dir", default="runs", help="where runs are kept (default: runs)")
    parser.add_argument("--page-only", action="store_true", help="write the page of what is there")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no experiment {unknown[0]}")
    failed = 0
    for name in () if args.page_only else args.names or NAMES:
        command = [sys.executable, "-m", "espalier.cli", "sweep"]
        recipe = ROOT / "recipes" / "experiments" / f"{name}.yaml"
        done = subprocess.run([*command, str(recipe), "--runs-dir", args.runs_dir], check=False)
        failed |= done.returncode
    PAGE.write_text("\n".join(page(Path(args.runs_dir))) + "\n", encoding="utf-8")
    return int(bool(failed))


def page(runs: Path) -> list[str]:
    """The lines of the page."""
    found = [name for name in NAMES if (runs / name / "sweep.json").is_file()]
    for name in found:
        build_sweep_page(runs / name)
    found = [name for name in found if read_json(runs / name / "answer.json")["members"]["done"]]
    lines = [
        *machine.header("What the experiments found", 0),
        "Models of 0.95 million parameters, trained for seconds on synthetic tasks in English and",
        "Chinese: this shows what the experiments can tell, not what holds for large models. Each",
        "answer is the first sentence of the experiment's own page; intervals are Student's over",
        "repeats, p-values corrected after Holm. The time adds up the members, two of which ran at",
        "once; a + after the commit: beside files that it lacks. Made by",
        "`python benchmarks/run_experiments.py`; what each experiment does is in",
        "[experiments.md](experiments.md).",
        "",
        "| experiment | answer | members | time | commit |",
        "|---|---|---|---|---|",
    ]
    missing = [name for name in NAMES if name not in found]
    answers = {name: read_json(runs / name / "answer.json") for name in found}
    for name, answer in answers.items():
        members = answer["members"]
        lines.append(
            f"| [{name}](#{name}) | {answer['sentence']['en']} | {members['done']} of "
            f"{members['total']} | {duration(seconds(runs / name))} | {revisions(runs / name)} |"
        )
    for name, answer in answers.items():
        lines += section(name, answer)
        if notes := NOTES.get(name):
            lines += ["", notes]
        lines += beside(name, runs / name)
    if missing:
        lines += ["", f"Not run here: {', '.join(missing)}."]
    return lines


def seconds(folder: Path) -> float:
    """What the members took, all stages that they ran themselves."""
    return float(sum(member["seconds"] for member in read_json(folder / "sweep.json")["members"]))


def revisions(folder: Path) -> str:
    """The commits whose code made the results; `+` where files lay beside it that it lacks."""
    stages = {
        stage
        for member in read_json(folder / "sweep.json")["members"]
        for stage in member["stages"].values()
    }
    found = set()
    for stage in stages:
        git = str(read_json(folder / stage / "manifest.json").get("git") or "")
        found.add(git[:7] + ("+" if "+" in git else ""))
    return ", ".join(sorted(found - {""}))


def section(name: str, answer: Mapping[str, Any]) -> list[str]:
    """Question, all sentences, and the table of levels."""
    lines = ["", f"## {name}", "", f"**{answer['question']['en']}**", ""]
    lines += [f"- {sentence}" for sentence in answer["sentences"]["en"]]
    if answer["levels"]:
        lines += ["", *levels(answer)]
    return lines


def levels(answer: Mapping[str, Any]) -> list[str]:
    """A row a level: its mean, and its difference from the reference."""
    share = answer["format"] == "percent"
    head = answer["factor"] or "model"
    rows = [
        f"| {head} | {answer['metric']} | difference | p | verdict |",
        "|---|---|---|---|---|",
    ]
    for level in answer["levels"]:
        mean, other = level["mean"] or {}, level["difference"] or {}
        within = ends([mean[key] for key in ("low", "high")], share) if "low" in mean else ""
        rows.append(
            f"| {level['level']} | {number(mean.get('value'), share)}{within} | "
            f"{number(other.get('effect'), share, signed=True)}"
            f"{ends(other.get('interval'), share, signed=True)} | {p_value(other.get('p'))} | "
            f"{other.get('verdict') or ''} |"
        )
    return rows


def beside(name: str, folder: Path) -> list[str]:
    """Other means of every level over the repeats; nothing where only models are compared."""
    data = gather_sweep(folder, ReportConfig())
    targets = [target for target in data.data.targets if target.name in BESIDE.get(name, ())]
    settings = data.data.sweep.settings
    if not targets or len(settings) < 2:
        return []
    (factor,) = data.data.sweep.factors
    labels = [
        f"{target.metric['label']} of {target.model_label}"
        if target.kind == "score"
        else f"{target.model_label}: {target.metric['label']}"
        for target in targets
    ]
    lines = ["", f"| {factor.label} | {' | '.join(labels)} |", "|---" * (1 + len(labels)) + "|"]
    for place, setting in enumerate(settings):
        level = ", ".join(name or "" for name in factor.levels[setting.levels[0]])
        cells = [cell(data, target.name, target.metric["format"], place) for target in targets]
        lines.append(f"| {level} | {' | '.join(cells)} |")
    return lines


def cell(data: SweepData, target: str, form: str, setting: int) -> str:
    """A mean over the repeats, with its interval where they differ."""
    mean = data.data.means[target][setting]
    if mean is None:
        return ""
    share = form == "percent"
    within = None if mean.low == mean.high else (mean.low, mean.high)
    return number(mean.value, share) + ends(within, share)


def number(value: float | None, share: bool, *, signed: bool = False) -> str:
    """`46.0`, per cent for shares; nothing where there is none."""
    if value is None:
        return ""
    return f"{100 * value if share else value:{'+' if signed else ''}.{1 if share else 2}f}"


def ends(interval: Sequence[float | None] | None, share: bool, *, signed: bool = False) -> str:
    """` [low, high]`."""
    if interval is None or None in interval:
        return ""
    return f" [{', '.join(number(value, share, signed=signed) for value in interval)}]"


def p_value(value: float | None) -> str:
    """Three digits, or `< .001`."""
    if value is None:
        return ""
    return "< .001" if value < 0.001 else f"{value:.3f}".lstrip("0") if value < 1 else "1"


if __name__ == "__main__":
    sys.exit(main())
