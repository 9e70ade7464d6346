"""What a page shows of curated data, gathered from one curate folder, or from a run with pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from espalier.errors import InputError
from espalier.files import read_json
from espalier.progress import duration
from espalier.reports.data_rows import ROW_FILES, read_rows
from espalier.reports.data_samples import (
    REJECTS_A_RULE,
    find_texts,
    in_context,
    pair,
    sample_pairs,
    sample_rejects,
    sample_shared_texts,
)
from espalier.reports.funnel import composition, count_tables, kept_share
from espalier.reports.notice import Notice, own_code_notice
from espalier.reports.runfiles import counts_of, number, read_object
from espalier.reports.strings import known, pretty, t

READ_FILES = tuple(
    dict.fromkeys(
        (
            *("curate/" + name for name in (
                "statistics.json", "funnel.json", "clusters.jsonl", "contamination.jsonl",
                "manifest.json",
            )),
            "pairs/funnel.json", "pairs/manifest.json", *ROW_FILES,
        )
    )
)  # fmt: skip
# With any of these there is something to show.
_DATA = ("statistics.json", "funnel.json", "train.jsonl", "preferences.jsonl", "prompts.jsonl")
# Text of rows in the page, before it is packed to a third or less.
ROW_MEGABYTES = 8.0
_SEED = "data page"
_COUNTED = ("language", "source", "category", "group", "operator", "teacher", "round", "kind")
_SAMPLED = {"file": "", "rows": 0, "sampled": 0}


@dataclass(frozen=True)
class DataPage:
    """One curate folder as the page shows it; what has no file is empty."""

    name: str
    facts: list[str]
    tiles: list[dict[str, str]]
    notices: list[Notice]
    statistics: dict[str, Any]
    funnel: list[dict[str, Any]]
    rejects: list[dict[str, Any]]
    clusters: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    contamination: list[dict[str, Any]]
    lineage: dict[str, Any]
    tables: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Sources:
    """Where the files are: a curate folder, and the folder `pairs` of the same run, or None."""

    curate: Path
    pairs: Path | None = None

    def find(self, name: str) -> Path | None:
        """The path of `curate/…` or `pairs/…` where there is such a file."""
        stage, _, rest = name.partition("/")
        folder = {"curate": self.curate, "pairs": self.pairs}.get(stage)
        path = None if folder is None else folder / rest
        return path if path is not None and path.is_file() else None

    def all(self, name: str) -> list[Path]:
        """The files of this name in both folders."""
        found = [self.find(f"{stage}/{name}") for stage in ("curate", "pairs")]
        return [path for path in found if path is not None]


def data_files(sources: Sources) -> dict[str, Path]:
    """The files that the page is made from and that exist, by `stage/file`."""
    found = {name: sources.find(name) for name in READ_FILES}
    return {name: path for name, path in found.items() if path is not None}


def has_data(sources: Sources) -> bool:
    """Whether there is anything to show."""
    return any(sources.find(f"curate/{name}") for name in _DATA)


def gather_data(
    sources: Sources,
    *,
    rejects_per_rule: int = REJECTS_A_RULE,
    megabytes: float = ROW_MEGABYTES,
    readers: Mapping[str, list[str]] | None = None,
) -> DataPage:
    """Read a curate folder; raises InputError when it is none. For the options see `read_rows`."""
    folder = sources.curate
    if not has_data(sources):
        raise InputError(
            "There is nothing to report: this folder has no curated data.",
            where=str(folder),
            expected="train.jsonl, funnel.json, … as `espalier curate` writes them",
            hint="espalier curate --input theirs.jsonl --output FOLDER",
        )
    statistics = filled(read_object(folder / "statistics.json"))
    statistics["spending"] += _pairs_spending(sources)
    shared = sample_shared_texts(folder / "contamination.jsonl", _SEED)
    texts = {item["id"]: "" for item in shared}
    for name in ("train.jsonl", "preferences.jsonl", "prompts.jsonl"):
        find_texts(folder / name, texts)
    rejects = sample_rejects(sources.all("rejects.jsonl"), _SEED, texts, rejects_per_rule)
    for item in shared:
        text = texts.get(item["id"], "")
        item["found"] = [in_context(finding, text) for finding in item["found"]]
    page = DataPage(
        name=_name(folder),
        facts=[],
        tiles=[],
        notices=[],
        statistics=statistics,
        funnel=[],
        rejects=rejects,
        clusters=_clusters(statistics),
        pairs=sample_pairs(folder / "clusters.jsonl", _SEED),
        contamination=shared,
        lineage=read_rows(sources.find, megabytes, _SEED, readers),
    )
    return retold(page, sources)


def retold(data: DataPage, sources: Sources) -> DataPage:
    """The same page with its labels and sentences in the language that speaks."""
    manifest = read_object(sources.curate / "manifest.json") or {}
    counted = bool(data.statistics["files"])
    return replace(
        data,
        facts=_facts(manifest),
        tiles=tiles(data.statistics, data.rejects),
        notices=_notices(data.statistics, manifest),
        funnel=read_steps(sources.all("funnel.json"), data.rejects),
        tables=[]
        if counted
        else count_tables(manifest) or composition(sources.curate / "train.jsonl"),
    )


def _pairs_spending(sources: Sources) -> list[dict[str, Any]]:
    """What the pairs of the policy's own samples cost, as the stage's manifest says."""
    path = sources.find("pairs/manifest.json")
    spent = (read_object(path) or {}).get("spending") if path is not None else None
    items = spent if isinstance(spent, list) else []
    return [_spent(item) for item in items if isinstance(item, Mapping)]


def filled(statistics: Mapping[str, Any] | None) -> dict[str, Any]:
    """The statistics with every key that the page reads."""
    given = dict(statistics or {})
    counts: dict[str, Any] = {f"by_{name}": {} for name in _COUNTED}
    files = {
        str(name): {"rows": 0, "with_parents": 0, "lengths": {}, **counts, **file}
        for name, file in (given.get("files") or {}).items()
    }
    quality = {"rows": 0, "safe": None, "numbers": {}, **(given.get("quality") or {})}
    return {
        "files": files,
        "groups": {**_SAMPLED, "guessed": 0, "counts": {}, **(given.get("groups") or {})},
        "openings": _openings(given.get("openings") or {}),
        "quality": quality,
        "duplicates": {"methods": {}, "largest": [], **(given.get("duplicates") or {})},
        "contamination": {"rows": 0, **(given.get("contamination") or {})},
        "spending": [_spent(item) for item in given.get("spending") or []],
    }


def _openings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Opening verbs by language, those with a count; objects are pairs of a word and a count."""
    languages = {}
    for name, found in (given.get("languages") or {}).items():
        verbs = [
            {"verb": str(one.get("verb", "")), "nouns": one.get("nouns") or [], "count": count}
            for one in found.get("verbs") or []
            if (count := int(number(one.get("count")) or 0)) > 0
        ]
        languages[str(name)] = {"rows": 0, "recognised": 0, **found, "verbs": verbs}
    return {**_SAMPLED, **given, "languages": languages}


def _spent(item: Mapping[str, Any]) -> dict[str, Any]:
    tokens = {
        key: int(number(item.get(key)) or 0)
        for key in ("requests", "prompt_tokens", "completion_tokens")
    }
    names = {key: str(item.get(key) or "") for key in ("step", "model", "currency")}
    return {**names, **tokens, "money": number(item.get("money"))}


def _name(folder: Path) -> str:
    whole = folder.resolve()
    return whole.parent.name if whole.name == "curate" else whole.name


def _facts(manifest: Mapping[str, Any]) -> list[str]:
    seconds = number(manifest.get("wall_seconds"))
    facts = [
        str(manifest.get("finished", ""))[:10],
        duration(seconds) if seconds is not None else "",
        f"espalier {manifest['espalier']}" if manifest.get("espalier") else "",
        t("dp.seed", seed=manifest["seed"]) if manifest.get("seed") is not None else "",
    ]
    return [fact for fact in facts if fact]


def tiles(statistics: Mapping[str, Any], rejects: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The totals at the top: rows of each file, rejects, near duplicates, cost."""
    found = []
    for name, file in statistics["files"].items():
        label = known(f"dp.file.{name}", pretty(name.removesuffix(".jsonl")))
        found.append({"value": f"{int(file['rows']):,}", "label": label, "note": name})
    count = sum(int(item["count"]) for item in rejects)
    rules = len({item["rule"] for item in rejects})
    found.append({
        "value": f"{count:,}", "label": t("dp.tile_rejects"),
        "note": t("dp.tile_rules", count=rules),
    })  # fmt: skip
    for amount in totals(statistics["spending"]):
        found.append({"value": amount, "label": t("dp.tile_cost"), "note": ""})
    return found


def totals(spending: list[dict[str, Any]]) -> list[str]:
    """What was spent, one amount a currency."""
    sums: dict[str, float] = {}
    for item in spending:
        if (amount := number(item.get("money"))) is not None:
            name = str(item.get("currency") or "")
            sums[name] = sums.get(name, 0.0) + amount
    return [money(amount, name) for name, amount in sums.items()]


def money(amount: Any, currency: Any) -> str:
    """An amount with its currency; a dash where no price is known."""
    value = number(amount)
    if value is None:
        return "–"
    return f"{value:,.{2 if value >= 1 or value == 0 else 4}f} {currency or ''}".strip()


def _notices(statistics: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[Notice]:
    found = []
    if not statistics["files"]:
        found.append(Notice("warning", t("dp.no_statistics")))
    for name, file in statistics["files"].items():
        teachers = file.get("by_teacher") or {}
        written = sum(teachers.values())
        if written:
            text = t(
                "dp.synthetic", file=name, written=f"{written:,}", rows=f"{int(file['rows']):,}",
                teachers=", ".join(str(teacher) for teacher in list(teachers)[:4]),
            )  # fmt: skip
            found.append(Notice("synthetic", text))
    for holder in (manifest, manifest.get("counts")):
        notes = holder.get("notes") if isinstance(holder, Mapping) else None
        found += [Notice("note", str(note)) for note in notes or [] if isinstance(notes, list)]
    return found + own_code_notice(manifest.get("own_code") or [], Path())


def read_steps(paths: Sequence[Path], rejects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The streams of `funnel.json`: steps with rows in and out, rules that rejected or changed.

    A rule knows whether there are examples of it to show (`key`, else empty).
    """
    shown = {
        (item["step"], item["rule"]): place
        for place, item in enumerate(rejects)
        if item["examples"]
    }
    streams: dict[str, dict[str, Any]] = {}
    for item in chain.from_iterable(map(_read_items, paths)):
        name = str(item.get("stream") or "rows")
        label = known(f"stream.{name}", pretty(name))
        stream = streams.setdefault(name, {"stream": name, "label": label, "steps": []})
        stream["steps"].append(_step(item, shown))
    for stream in streams.values():
        # Reading is written down when it ends; it comes first all the same.
        stream["steps"].sort(key=lambda step: step["step"] != "read")
        stream["top"] = max([1, *(max(step["in"], step["out"]) for step in stream["steps"])])
    return list(streams.values())


def _read_items(path: Path) -> list[Mapping[str, Any]]:
    """The objects of a JSON list; raises InputError for anything else."""
    value = read_json(path)
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise InputError(
            "A result file does not hold what it should.",
            where=str(path),
            expected="a list of JSON objects, one a step",
            hint="run the stage again that wrote it",
        )
    return value


def _step(item: Mapping[str, Any], shown: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    name = str(item.get("step", ""))
    rows_in, rows_out = (int(number(item.get(key)) or 0) for key in ("in", "out"))
    return {
        "step": name,
        "label": known(f"step.{name}", pretty(name)),
        "in": rows_in,
        "out": rows_out,
        "kept": kept_share(rows_in, rows_out),
        "rejected": _rules(item.get("rejected"), name, shown),
        "changed": _rules(item.get("changed"), name, {}),
    }


def _rules(counts: Any, step: str, shown: Mapping[tuple[str, str], int]) -> list[dict[str, Any]]:
    ordered = sorted((counts_of(counts) or {}).items(), key=lambda pair: (-pair[1], pair[0]))
    return [
        {
            "label": known(f"rule.{rule}", pretty(rule)), "count": count,
            "key": str(shown.get((step, rule), "")),
        }
        for rule, count in ordered if count
    ]  # fmt: skip


def _clusters(statistics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The largest clusters, each removed row beside its keeper."""
    found = []
    for cluster in statistics["duplicates"]["largest"]:
        members = [pair({**cluster, **member}) for member in cluster["members"]]
        found.append({"method": str(cluster["method"]), "size": cluster["size"], "pairs": members})
    return found
