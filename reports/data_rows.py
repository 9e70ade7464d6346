"""The rows of a run's data, each with what it was made from, back to its seeds.

Large files are sampled; whatever a shown row was made from is looked up in all files and shown
with it, so that every row that is shown can be walked back as far as the files reach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from espalier.files import hash_file
from espalier.reports.data_samples import row_shown
from espalier.reports.funnel import clip
from espalier.reports.runfiles import read_lines, read_object, rounded
from espalier.spread import Reservoir

# Files whose rows are shown; the first two are those that training and evaluation read.
MAIN_FILES = ("curate/train.jsonl", "curate/eval.jsonl")
SIDE_FILES = (
    "curate/prompts.jsonl", "curate/preferences.jsonl", "curate/preferences_eval.jsonl",
    "pairs/preferences.jsonl", "pairs/preferences_eval.jsonl",
    "curate/rejects.jsonl", "pairs/rejects.jsonl",
)  # fmt: skip
# Files of steps in between: only rows that others were made from are shown of them.
STEP_FILES = (
    "curate/self_instruct.jsonl", "curate/evolved.jsonl", "curate/dialogues.jsonl",
    "curate/constitution.jsonl", "pairs/prompts.jsonl",
)  # fmt: skip
ROW_FILES = (*MAIN_FILES, *SIDE_FILES, *STEP_FILES)
# A side file may take this share of what a main file may.
_SIDE_SHARE = 16
_MOST_GENERATIONS = 20
_MOST_PARENTS = 24
_NEIGHBOURS = 3

Find = Callable[[str], Path | None]


def read_rows(
    find: Find, megabytes: float, seed: str, readers: Mapping[str, list[str]] | None = None
) -> dict[str, Any]:
    """The rows that a page shows: `{rows, files, missing, readers}`.

    `find` gives the path of a file (`curate/train.jsonl`), None where there is none. Of a main
    file about `megabytes` of text are taken, of a side file a sixteenth; larger ones are sampled.
    `files` says of each file how many rows it has and how many of them are shown; a row that is
    here as somebody's ancestor alone is not counted. `missing`: how many ancestors no file
    has. `readers`: the stages that read a file, by its name.
    """
    rows: list[dict[str, Any]] = []
    files: dict[str, dict[str, int]] = {}
    for name in (*MAIN_FILES, *SIDE_FILES):
        path = find(name)
        if path is not None:
            share = 1 if name in MAIN_FILES else _SIDE_SHARE
            found, count = sampled(path, name, 1e6 * megabytes / share, seed)
            rows += found
            files[name] = {"rows": count, "shown": len(found)}
    missing = add_ancestors(rows, find)
    return {"rows": rows, "files": files, "missing": missing, "readers": readers or {}}


def file_readers(run: Path, stages: Iterable[str]) -> dict[str, list[str]]:
    """Which of these stages read which of the files, by what their manifests say."""
    found: dict[str, list[str]] = {}
    for stage in stages:
        inputs = (read_object(run / stage / "manifest.json") or {}).get("inputs")
        for about in inputs.values() if isinstance(inputs, Mapping) else ():
            path = str(about.get("path", "")) if isinstance(about, Mapping) else ""
            name = "/".join(Path(path).parts[-2:])
            if name in ROW_FILES and stage not in found.setdefault(name, []):
                found[name].append(stage)
    return found


def sampled(path: Path, name: str, most: float, seed: str) -> tuple[list[dict[str, Any]], int]:
    """All rows of a file of at most `most` bytes, else a seeded sample of about as many; count."""
    size = path.stat().st_size
    if size <= most:
        rows = [lineage_row(row, name) for row in read_lines(path)]
        return rows, len(rows)
    with path.open("rb") as file:
        lines = sum(1 for _ in file)
    sample: Reservoir[dict[str, Any]] = Reservoir(
        max(1, int(lines * most / size)), f"{seed}:{name}"
    )
    for row in read_lines(path):
        at = sample.place()
        if at is not None:
            sample.put(at, lineage_row(row, name))
    return sample.items(), sample.seen


def lineage_row(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A row as the page shows it: texts clipped, names under which others know it, its origin.

    A reject has `step`, `rule` and `evidence`, and one text.
    """
    given = row.get("meta")
    meta: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    shown = {**row_shown(row), "file": name}
    parents = meta.get("parents")
    shown["parents"] = _names(parents)[:_MOST_PARENTS]
    if own := [alias for alias in dict.fromkeys(_aliases(meta)) if alias != shown["id"]]:
        shown["aliases"] = own
    if isinstance(meta.get("repaired"), list):
        shown["repaired"] = _names(meta["repaired"])
    near = meta.get("nearest")
    for item in near[:_NEIGHBOURS] if isinstance(near, list) else ():
        if isinstance(item, list | tuple) and len(item) == 2:
            shown.setdefault("nearest", []).append([str(item[0]), rounded(item[1], 3)])
    if "rule" in row:
        shown["turns"] = [{"role": "", "text": clip(str(row.get("text", "")))}]
        for key in ("step", "rule"):
            shown[key] = str(row.get(key, ""))
        shown["evidence"] = clip("" if row.get("evidence") is None else str(row["evidence"]))
        if isinstance(row.get("source"), str):
            shown["source"] = row["source"]
    return shown


def _aliases(meta: Mapping[str, Any]) -> list[str]:
    """Names beside its id under which other rows know a row."""
    return [meta[key] for key in ("task", "original_id") if isinstance(meta.get(key), str)]


def _names(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def add_ancestors(rows: list[dict[str, Any]], find: Find) -> int:
    """Add what the rows were made from, and so on, wherever a file has it; how many none has.

    A name that two files know is taken from the first in the order of ROW_FILES.
    """
    known = {name for row in rows for name in (row["id"], *row.get("aliases", ()))}
    wanted = {parent for row in rows for parent in row["parents"]} - known
    for item in seed_rows(find, wanted):
        rows.append(item)
        wanted.discard(item["id"])
        known.add(item["id"])
    for _ in range(_MOST_GENERATIONS):
        found = list(_looked_up(find, wanted, known))
        if not found:
            break
        rows += found
        parents = {parent for row in found for parent in row["parents"]} - known - wanted
        more = list(seed_rows(find, parents))
        rows += more
        known.update(item["id"] for item in more)
        wanted = (wanted | parents) - known
    return len(wanted)


def _looked_up(find: Find, wanted: set[str], known: set[str]) -> Iterator[dict[str, Any]]:
    """The rows of these names; `known` gets every name that is found, `wanted` loses it."""
    for name in ROW_FILES:
        path = find(name)
        if path is None or not wanted:
            continue
        for line in read_lines(path):
            given = line.get("meta")
            meta: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
            names = {str(line.get("id")), *_aliases(meta)}
            if names & wanted:
                row = lineage_row(line, name)
                mine = {row["id"], *row.get("aliases", ())}
                known |= mine
                wanted -= mine
                yield {**row, "ancestor": True}


def seed_rows(find: Find, wanted: set[str]) -> Iterator[dict[str, Any]]:
    """Seed tasks of these ids, from the seed files that curation read and that have not changed.

    Where they are, and their hashes, stand in its manifest.
    """
    manifest = find("curate/manifest.json")
    inputs = (read_object(manifest) or {}).get("inputs") if manifest is not None else None
    for name, about in inputs.items() if isinstance(inputs, Mapping) and wanted else ():
        if not str(name).startswith("seeds: ") or not isinstance(about, Mapping):
            continue
        path = Path(str(about.get("path", "")))
        if not path.is_file() or hash_file(path) != about.get("sha256"):
            continue
        for line in read_lines(path):
            if str(line.get("id")) in wanted:
                yield seed_row(line, str(name).removeprefix("seeds: "))


def seed_row(line: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A seed task as the page shows it: its instruction, and its first example."""
    turns = [{"role": "user", "text": clip(str(line.get("instruction", "")))}]
    instances = line.get("instances")
    first = instances[0] if isinstance(instances, list) and instances else None
    if isinstance(first, Mapping):
        if first.get("input"):
            turns[0]["text"] = clip(f"{turns[0]['text']}\n\n{first['input']}")
        turns.append({"role": "assistant", "text": clip(str(first.get("output", "")))})
    return {
        "id": str(line.get("id")), "file": f"seeds: {name}", "turns": turns, "parents": [],
        "quality": {}, "ancestor": True,
    }  # fmt: skip
