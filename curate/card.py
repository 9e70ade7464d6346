"""The dataset card: what is in the files, where it came from, what was taken out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import espalier
from espalier.curate.config import ProceduralSource
from espalier.curate.curation import AnySource, Curation
from espalier.curate.parts import Parts
from espalier.files import atomic_write_text
from espalier.formats.files import read_rows
from espalier.text import length

_FILES = {
    "train.jsonl": "training rows",
    "eval.jsonl": "held-out rows with their references",
    "prompts.jsonl": "prompts for RL and sampling",
    "preferences.jsonl": "preference pairs",
    "preferences_eval.jsonl": "preference pairs for the evaluation's reward model",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write_card(curation: Curation, parts: Parts) -> None:
    """Write card.md (Markdown with the YAML head that dataset hubs read)."""
    summaries = {
        name: _summary(curation.folder / name)
        for name in _FILES
        if (curation.folder / name).is_file()
    }
    sections = [
        _head(curation, summaries),
        f"# {curation.context.shared.name}\n\nMade by espalier {espalier.__version__}, "
        f"seed {curation.seed}.",
        _synthetic(curation),
        "## Files\n\n" + _file_table(summaries),
        "## Sources\n\n" + "\n".join(_source_line(s) for s in curation.all_sources)
        + _self_instruct_line(curation),
        "## How it was made\n\n" + _steps(curation),
        "## Funnel\n\n" + funnel_table(parts.funnel),
    ]  # fmt: skip
    if parts.notes:
        sections.append("## Notes\n\n" + "\n".join(f"- {note}" for note in parts.notes))
    text = "\n\n".join(section for section in sections if section)
    atomic_write_text(curation.folder / "card.md", text + "\n")


class _Summary:
    def __init__(self) -> None:
        self.rows = 0
        self.words = 0
        self.counts: dict[str, Counter[str]] = {
            name: Counter() for name in ("language", "source", "category", "kind")
        }


def _summary(path: Path) -> _Summary:
    found = _Summary()
    if not path.stat().st_size:
        return found
    for row in read_rows(path):
        value: dict[str, Any] = getattr(row, "value", {})
        found.rows += 1
        for name, counts in found.counts.items():
            label = value.get("meta", {}).get(name)
            if isinstance(label, str):
                counts[label] += 1
        messages = value.get("messages") or value.get("prompt") or []
        found.words += length(str(messages[-1].get("content", ""))) if messages else 0
    return found


def _head(curation: Curation, summaries: dict[str, _Summary]) -> str:
    languages = Counter[str]()
    for summary in summaries.values():
        languages += summary.counts["language"]
    known = sorted(name for name in languages if name != "other")
    rows = sum(summary.rows for summary in summaries.values())
    size = next((label for limit, label in _SIZES if rows < limit), "n>1M")
    licence = curation.config.license or _common_licence(curation.all_sources) or "unknown"
    lines = ["---", f"license: {licence.lower()}", "language:"]
    lines += [f"- {name}" for name in known]
    lines += ["size_categories:", f"- {size}", "task_categories:", "- text-generation"]
    if _is_synthetic(curation):
        lines += ["tags:", "- synthetic"]
    return "\n".join([*lines, "---"])


def _common_licence(sources: Sequence[AnySource]) -> str | None:
    licences = {
        "Apache-2.0" if isinstance(source, ProceduralSource) else source.source.license
        for source in sources
    }
    return licences.pop() if len(licences) == 1 else None


def _is_synthetic(curation: Curation) -> bool:
    return curation.config.self_instruct is not None or any(
        isinstance(source, ProceduralSource) or source.source.answer
        for source in curation.all_sources
    )


def _synthetic(curation: Curation) -> str:
    if not _is_synthetic(curation):
        return ""
    teacher = curation.context.shared.teacher
    text = f"**Contains synthetic text**, written by `{teacher.model}` ({teacher.engine})."
    if teacher.engine == "offline":
        text += (
            " The offline teacher is a procedural program, not a language model; its answers "
            "have deliberate faults at known rates."
        )
    return text


def _file_table(summaries: dict[str, _Summary]) -> str:
    lines = [
        "| file | what | rows | words a last turn | languages | sources |",
        "|---|---|---:|---:|---|---|",
    ]
    for name, summary in summaries.items():
        mean = summary.words / summary.rows if summary.rows else 0.0
        shown = [_counts(summary.counts[key]) for key in ("language", "source")]
        lines.append(
            f"| `{name}` | {_FILES[name]} | {summary.rows:,} | {mean:.1f} | {shown[0]} "
            f"| {shown[1]} |"
        )
    kinds = _counts(summaries["preferences.jsonl"].counts["kind"], 20) if (
        "preferences.jsonl" in summaries
    ) else ""  # fmt: skip
    return "\n".join(lines) + (f"\n\nKinds of preference pairs: {kinds}." if kinds else "")


def _counts(counts: Counter[str], most: int = 6) -> str:
    common = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = ", ".join(f"{_cell(name)} {count:,}" for name, count in common[:most])
    return shown + (f", {len(common) - most} more" if len(common) > most else "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _source_line(source: AnySource) -> str:
    if isinstance(source, ProceduralSource):
        return (
            f"- `{source.name}` ({source.use}): {source.count:,} prompts of the procedural task "
            f"generator, languages {', '.join(source.languages)}; licence Apache-2.0"
        )
    licence = source.source.license or "not stated"
    return (
        f"- `{source.name}` ({source.use}): `{Path(source.path).name}`, {source.detection.format} "
        f"({source.detection.reason}); licence {licence}"
    )


def _self_instruct_line(curation: Curation) -> str:
    config = curation.config.self_instruct
    if config is None:
        return ""
    return (
        f"\n- `self-instruct` (sft): tasks written by the teacher after the seed tasks "
        f"{', '.join(f'`{Path(name).name}`' for name in config.seeds)}"
    )


def _steps(curation: Curation) -> str:
    config = curation.config
    lines = [
        "Rows pass rules on prompts and answers (length in script-aware words, refusals, copies, "
        "cut-off and broken text, repetition), then exact deduplication "
        f"(key: {config.dedup.key}, normalised)."
    ]
    if config.holdout.count or config.holdout.prompts or config.holdout.against:
        lines.append(
            "The held-out rows were drawn first. No row is kept whose normalised prompt equals a "
            f"held-out one, or whose prompt has a {config.holdout.ngram}-gram Jaccard similarity "
            f"of {config.holdout.near_threshold} or more with one."
        )
    if config.self_instruct is not None:
        lines.append(
            f"New instructions are novel: no ROUGE-L F1 above {config.self_instruct.novelty} to a "
            "seed or to one another."
        )
    lines.append("Every rejected row is in `rejects.jsonl` with its step, rule and evidence.")
    return "\n".join(lines)


def funnel_table(rows: Sequence[dict[str, Any]]) -> str:
    """The funnel as a Markdown table."""
    lines = ["| stream | step | in | out | rejected |", "|---|---|---:|---:|---|"]
    for row in rows:
        rejected = _counts(Counter(row["rejected"]), 20)
        lines.append(
            f"| {row['stream']} | {row['step']} | {row['in']:,} | {row['out']:,} | {rejected} |"
        )
    return "\n".join(lines)
