"""The text of the dataset card, from the statistics of the files.

A card is Markdown for a dataset hub, with a YAML head. Rows and rejects are hostile text: what
is quoted from them is cut, put on one line, and closed against Markdown and HTML.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from espalier.curate.pipeline import clip

_SIZES = (
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"),
)  # fmt: skip
# Subsets of the dataset: the columns of each file.
_TURNS = {"list": [{"name": "role", "dtype": "string"}, {"name": "content", "dtype": "string"}]}
_ROW = [
    {"name": "id", "dtype": "string"}, {"name": "messages", **_TURNS},
    {"name": "meta", "dtype": "json"},
]  # fmt: skip
_PAIR = [
    {"name": "id", "dtype": "string"}, {"name": "prompt", **_TURNS},
    {"name": "chosen", "dtype": "string"}, {"name": "rejected", "dtype": "string"},
    {"name": "margin", "dtype": "float64"}, {"name": "meta", "dtype": "json"},
]  # fmt: skip
_SUBSETS = {
    "train": _ROW, "eval": _ROW, "prompts": _ROW, "preferences": _PAIR, "preferences_eval": _PAIR,
}  # fmt: skip
_EXAMPLE = 160
_BAR = 24
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#~$!])")


@dataclass(frozen=True)
class CardFacts:
    """What the statistics don't say: names, licence, sources, settings (ready sentences)."""

    name: str
    made_by: str
    license: str
    synthetic: bool
    teacher_note: str = ""
    sources: Sequence[str] = ()
    settings: Sequence[str] = ()
    notes: Sequence[str] = ()


def card_text(facts: CardFacts, statistics: Mapping[str, Any]) -> str:
    """The whole card; sections without content are left out.

    `statistics` is what `collect` returns.
    """
    sections = [
        head(facts, statistics),
        f"# {escaped(facts.name)}\n\n{facts.made_by}",
        _synthetic(facts, statistics),
        _section("How to load it", _loading(statistics)),
        _section("Files", _files(statistics)),
        _section("Sources", "\n".join(facts.sources)),
        _section("How it was made", "\n".join(facts.settings)),
        _section("Funnel", funnel_table(statistics.get("funnel") or [])),
        _section("What was taken out", _rejects(statistics.get("rejects") or [])),
        _section("Lengths", _lengths(statistics)),
        _section("Languages and tasks", _tasks(statistics)),
        _section("How instructions begin", _openings(statistics.get("openings") or {})),
        _section("Duplicates", _duplicates(statistics.get("duplicates") or {})),
        _section("Text shared with evaluations", _contamination(statistics)),
        _section("Quality scores", _quality(statistics.get("quality") or {})),
        _section("Cost", _cost(statistics.get("spending") or [])),
        _section("Notes", "\n".join(f"- {escaped(note)}" for note in facts.notes)),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def head(facts: CardFacts, statistics: Mapping[str, Any]) -> str:
    """The YAML head that dataset hubs read."""
    files: Mapping[str, Any] = statistics.get("files") or {}
    languages = Counter[str]()
    for file in files.values():
        languages.update(file.get("by_language") or {})
    rows = sum(int(file["rows"]) for file in files.values())
    synthetic = facts.synthetic or any(file.get("by_teacher") for file in files.values())
    tags = ["instruction-tuning", *(["synthetic"] if synthetic else [])]
    if any(name.startswith("preferences") for name in files):
        tags.insert(1, "preference")
    value: dict[str, Any] = {
        "license": facts.license.lower(),
        "language": sorted(name for name in languages if re.fullmatch(r"[a-z]{2,3}", name)),
        "size_categories": [next((name for limit, name in _SIZES if rows < limit), "n>1T")],
        "task_categories": ["text-generation"],
        "tags": tags,
    }
    names = subsets(statistics)
    if names:
        value["configs"] = [
            {"config_name": name, "data_files": [{"split": "train", "path": f"{name}.jsonl"}]}
            for name in names
        ]
        value["configs"][0]["default"] = True
        # Without them the types of `meta`, whose keys differ from row to row, would be guessed.
        value["dataset_info"] = [
            {"config_name": name, "features": copy.deepcopy(_SUBSETS[name])} for name in names
        ]
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---"


def subsets(statistics: Mapping[str, Any]) -> list[str]:
    """The subsets that can be loaded; files without rows have none."""
    files = statistics.get("files") or {}
    return [name for name in _SUBSETS if (files.get(f"{name}.jsonl") or {}).get("rows")]


def escaped(text: str, characters: int = 0) -> str:
    """One line of text that Markdown and HTML show as it is; cut when `characters` is given."""
    line = " ".join(str(text).split())
    if characters:
        line = clip(line, characters)
    # Control and direction marks could reorder what stands around the quote.
    line = re.sub(r"[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]", "", line)
    return _MARKDOWN.sub(r"\\\1", line.replace("&", "&amp;"))


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A Markdown table; `numbers` are the places of the columns that align to the right."""
    rule = ["---:" if place in numbers else "---" for place in range(len(header))]
    lines = [header, rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def counts_text(counts: Mapping[str, int], most: int = 6) -> str:
    """`name count, name count, 3 more`, the largest first."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = ", ".join(f"{escaped(name, 60)} {count:,}" for name, count in ordered[:most])
    return shown + (f", {len(ordered) - most} more" if len(ordered) > most else "")


def _synthetic(facts: CardFacts, statistics: Mapping[str, Any]) -> str:
    """Which rows a model wrote, by what the rows themselves say."""
    lines = []
    for name, file in (statistics.get("files") or {}).items():
        written = sum((file.get("by_teacher") or {}).values())
        if written:
            teachers = counts_text(file["by_teacher"])
            lines.append(f"- `{name}`: {written:,} of {file['rows']:,} rows ({teachers})")
    if not facts.synthetic and not lines:
        return ""
    text = f"**Contains synthetic text.** {facts.teacher_note}".rstrip()
    if lines:
        text += "\n\nRows with text that a model or program wrote:\n\n" + "\n".join(lines)
    return text


def _loading(statistics: Mapping[str, Any]) -> str:
    names = subsets(statistics)
    if not names:
        return ""
    return (
        "```python\nfrom datasets import load_dataset\n\n"
        f'rows = load_dataset("path/to/this/folder", "{names[0]}", split="train")\n```\n\n'
        f"Subsets: {', '.join(f'`{name}`' for name in names)}; each has the one split `train`. "
        "`meta` has the type `json`, for which `datasets` 4.7 or newer is needed. For a "
        "folder on a disk, this card has to be there as `README.md`. The files are JSONL and "
        "read without any of this, one JSON object a line."
    )


def _files(statistics: Mapping[str, Any]) -> str:
    rows = []
    for name, file in (statistics.get("files") or {}).items():
        words = _mean(file, "answer") or _mean(file, "chosen") or ""
        rows.append((
            f"`{name}`", str(file["what"]), f"{file['rows']:,}", _mean(file, "prompt"), words,
            counts_text(file.get("by_language") or {}), counts_text(file.get("by_source") or {}),
        ))  # fmt: skip
    if not rows:
        return ""
    header = ("file", "what", "rows", "words a prompt", "words an answer", "languages", "sources")
    text = table(header, rows, (2, 3, 4))
    kinds = (statistics.get("files") or {}).get("preferences.jsonl", {}).get("by_kind") or {}
    return text + (f"\n\nKinds of preference pairs: {counts_text(kinds, 20)}." if kinds else "")


def _mean(file: Mapping[str, Any], what: str) -> str:
    spread = (file.get("lengths") or {}).get(what, {}).get("all", {})
    return f"{spread['mean']:.1f}" if spread.get("count") else ""


def funnel_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The funnel as a Markdown table: rows in and out, taken out and changed by rule."""
    lines = [
        (
            escaped(row["stream"]), escaped(row["step"]), f"{row['in']:,}", f"{row['out']:,}",
            counts_text(row.get("rejected") or {}, 20), counts_text(row.get("changed") or {}, 20),
        )
        for row in rows
    ]  # fmt: skip
    header = ("stream", "step", "in", "out", "rejected", "changed or flagged")
    return table(header, lines, (2, 3)) if lines else ""


def _rejects(rejects: Sequence[Mapping[str, Any]]) -> str:
    if not rejects:
        return ""
    parts = ["Every rejected row is in `rejects.jsonl` with its step, rule and evidence."]
    for item in rejects:
        lines = [f"**{escaped(item['rule'])}** ({escaped(item['step'])}): {item['count']:,}"]
        for example in item.get("examples") or []:
            evidence = escaped(example.get("evidence") or "", _EXAMPLE)
            why = f" ({evidence})" if evidence else ""
            lines.append(f"- {escaped(example['text'], _EXAMPLE)}{why}")
        parts.append("\n".join([lines[0], "", *lines[1:]]))
    return "\n\n".join(parts)


def _lengths(statistics: Mapping[str, Any]) -> str:
    rows = []
    for name, file in (statistics.get("files") or {}).items():
        for what, spreads in (file.get("lengths") or {}).items():
            for tongue, spread in spreads.items():
                # One language alone is all of them.
                shown = tongue == "all" if what == "turns" else tongue != "all" or len(spreads) > 2
                if spread.get("count") and shown:
                    numbers = [f"{spread['mean']:.1f}"]
                    numbers += [
                        f"{spread[key]:,}" for key in ("min", "p05", "median", "p95", "max")
                    ]
                    rows.append((f"`{name}`", what, escaped(tongue), *numbers))
    if not rows:
        return ""
    header = ("file", "of", "language", "mean", "least", "5 %", "median", "95 %", "most")
    text = "Words; for scripts without spaces, characters. Turns count without the system turn."
    return text + "\n\n" + table(header, rows, range(3, 9))


def _tasks(statistics: Mapping[str, Any]) -> str:
    files: Mapping[str, Any] = statistics.get("files") or {}
    lines = []
    for name, file in files.items():
        for key, label in (("by_category", "categories"), ("by_operator", "operators")):
            if file.get(key):
                lines.append(f"- `{name}`, {label}: {counts_text(file[key], 12)}")
        if file.get("with_parents"):
            lines.append(
                f"- `{name}`: {file['with_parents']:,} rows were made from others (`meta.parents`)"
            )
    groups = statistics.get("groups") or {}
    text = ""
    if groups.get("sampled"):
        rows = [
            (name, f"{count:,}", f"{100 * count / groups['sampled']:.1f} %")
            for name, count in groups["counts"].items()
        ]
        text = table(("task group", "rows", "share"), rows, (1, 2)) + f"\n\n{_sampled(groups)}"
        if groups.get("guessed"):
            text += (
                f" {groups['guessed']:,} rows state no group; theirs is guessed from their words."
            )
    return "\n\n".join(part for part in (text, "\n".join(lines)) if part)


def _sampled(about: Mapping[str, Any]) -> str:
    if about["sampled"] == about["rows"]:
        return f"Counted over the {about['rows']:,} rows of `{about['file']}`."
    return (
        f"Counted over a random sample of {about['sampled']:,} of the {about['rows']:,} rows of "
        f"`{about['file']}`."
    )


def _openings(openings: Mapping[str, Any]) -> str:
    parts = []
    for name, found in (openings.get("languages") or {}).items():
        rows = [
            (escaped(verb["verb"], 40), f"{verb['count']:,}", counts_text(dict(verb["nouns"])))
            for verb in found["verbs"][:15]
        ]
        if rows:
            share = f"{found['recognised']:,} of {found['rows']:,} instructions"
            parts.append(f"Language `{name}` (recognised in {share}):")
            parts.append(table(("verb", "rows", "its objects"), rows, (1,)))
    if not parts:
        return ""
    intro = "The first verb of an instruction and its object, by a heuristic. "
    return "\n\n".join([intro + _sampled(openings), *parts])


def _duplicates(duplicates: Mapping[str, Any]) -> str:
    methods: Mapping[str, Any] = duplicates.get("methods") or {}
    rows = [
        (escaped(name), f"{m['clusters']:,}", f"{m['removed']:,}", counts_text(_sizes(m), 6))
        for name, m in methods.items()
    ]
    if not rows:
        return ""
    parts = [table(("method", "clusters", "rows removed", "sizes"), rows, (1, 2))]
    for cluster in (duplicates.get("largest") or [])[:3]:
        lines = [f"A cluster of {cluster['size']:,} ({escaped(cluster['method'])}):", ""]
        lines.append(f"- kept: {escaped(cluster['keeper_text'], _EXAMPLE)}")
        for member in cluster["members"][:2]:
            similarity = member.get("similarity")
            score = f", similarity {similarity:.2f}" if isinstance(similarity, int | float) else ""
            lines.append(f"- removed{score}: {escaped(member['removed_text'], _EXAMPLE)}")
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, "All pairs are in `clusters.jsonl`."])


def _sizes(method: Mapping[str, Any]) -> dict[str, int]:
    return {f"of {size}:": count for size, count in (method.get("sizes") or {}).items()}


def _contamination(statistics: Mapping[str, Any]) -> str:
    found = statistics.get("contamination") or {}
    if not found.get("rows"):
        return ""
    lines = [
        f"{found['rows']:,} rows ({counts_text(found['by_action'])}); kinds: "
        f"{counts_text(found['by_kind'])}; evaluation files: {counts_text(found['by_file'])}.",
        "",
    ]
    lines += [
        f"- {escaped(item.get('file', ''), 60)}, row {escaped(str(item.get('number', '')))}: "
        f"{escaped(item['text'], _EXAMPLE)}"
        for example in found["examples"]
        for item in example["found"][:1]
    ]
    return "\n".join(lines)


def _quality(quality: Mapping[str, Any]) -> str:
    if not quality.get("rows"):
        return ""
    parts = [f"{quality['rows']:,} training rows have scores (`meta.quality`)."]
    if safe := quality.get("safe"):
        parts[0] += f" Called safe by the judge: {safe['yes']:,}; unsafe: {safe['no']:,}."
    for name, spread in (quality.get("numbers") or {}).items():
        if spread.get("count"):
            title = f"`{escaped(name)}`: mean {spread['mean']:g}, median {spread['median']:g}"
            parts.append(f"{title}\n\n```text\n{text_histogram(spread['histogram'])}\n```")
    return "\n\n".join(parts)


def text_histogram(bins: Sequence[Sequence[float]]) -> str:
    """Bars of `█` behind the lower edge of each bin and its count."""
    top = max((count for _, _, count in bins), default=0) or 1
    edges = [f"{low:g}" for low, _, _ in bins]
    counts = [f"{int(count):,}" for _, _, count in bins]
    width, wide = (max((len(text) for text in texts), default=0) for texts in (edges, counts))
    lines = []
    for edge, shown, (_, _, count) in zip(edges, counts, bins, strict=True):
        bar = "█" * max(1 if count else 0, round(_BAR * count / top))
        lines.append(f"{edge:>{width}}  {shown:>{wide}}  {bar}".rstrip())
    return "\n".join(lines)


def _cost(spending: Sequence[Mapping[str, Any]]) -> str:
    if not spending:
        return ""
    rows = [
        (
            escaped(str(item.get("step", ""))), escaped(str(item.get("model", ""))),
            *(f"{int(item.get(key) or 0):,}" for key in
              ("requests", "prompt_tokens", "completion_tokens")),
            money(item.get("money"), item.get("currency")),
        )
        for item in spending
    ]  # fmt: skip
    totals = Counter[str]()
    for item in spending:
        if item.get("money") is not None:
            totals[str(item.get("currency") or "")] += item["money"]
    header = ("step", "model", "requests", "prompt tokens", "completion tokens", "cost")
    text = table(header, rows, (2, 3, 4, 5))
    if totals:
        text += "\n\nAll steps: " + ", ".join(money(v, k) for k, v in totals.items()) + "."
    return text


def money(value: Any, currency: Any) -> str:
    """An amount with its currency; empty where no price is known."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return ""
    digits = 2 if value >= 1 or value == 0 else 4
    return f"{value:,.{digits}f} {escaped(str(currency or ''))}".rstrip()
