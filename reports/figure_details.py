"""Confusion tables as pictures; what judge and people said, and how far they agree, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from espalier.reports.figure_heat import heat
from espalier.reports.figure_tables import Cell, Table, cells
from espalier.reports.figure_text import Figure
from espalier.reports.judged import judge_part, people_part
from espalier.reports.metric_details import SHADES, metric_details
from espalier.reports.strings import t

# With more labels than this no count would be legible: the table has them.
MOST_LABELS = 12


def confusion_figures(summary: Mapping[str, Any]) -> Iterator[Figure]:
    """For each metric with labels, and each model: right labels down, told labels across; the
    darker a cell, the larger its share of the row."""
    for metric in metric_details(summary):
        place = 0
        for table in metric["tables"]:
            if "shades" not in table:
                continue
            place += 1
            names = [str(name) for name in table["head"][1:]]
            if len(names) > MOST_LABELS:
                continue
            counts = [
                [(shade / SHADES, str(text)) for shade, text in zip(shades, row[1:], strict=True)]
                for shades, row in zip(table["shades"], table["rows"], strict=True)
            ]
            title = f"{metric['label']} · {table['title']}"
            note = " · ".join(text for text in (table["head"][0], table["note"]) if text)
            rows = [str(row[0]) for row in table["rows"]]
            svg = heat(title, note, rows, names, counts)
            yield Figure(f"confusion-{metric['name']}-{place}", svg)


def judged_tables(summary: Mapping[str, Any]) -> Iterator[Table]:
    """The judge pair by pair; preferences of people; agreement among people, of the judge with
    people, and of every score with people."""
    judge, people = judge_part(summary), people_part(summary)
    if judge and judge["pairs"]:
        yield _judge_pairs(judge["pairs"])
    if not people:
        return
    if people["pairs"]:
        head = [t("judge.pair"), t("judge.win_rate"), "p", t("people.votes")]
        rows = [
            cells(_pair(one), _with(one["rate"], one["interval"]), _p(one), f"{one['votes']:,}")
            for one in people["pairs"]
        ]
        yield Table("people-pairs", t("figures.preferences"), head, rows, "lrrr")
    if people["agreement"]:
        head = [t("people.what"), t("people.alpha"), t("people.equal"), t("people.units")]
        rows = [
            cells(one["what"], _with(one["alpha"], one["interval"]), one["equal"],
                  f"{one['units']:,}")
            for one in people["agreement"]
        ]  # fmt: skip
        yield Table("people-agreement", t("figures.agreement"), head, rows, "lrrr")
    if people["judge"]:
        head = [t("people.what"), t("people.with_judge"), t("people.among"),
                t("people.alpha_judge"), "n"]  # fmt: skip
        rows = [
            cells(one["what"], one["judge"], one["people"], _with(one["alpha"], one["interval"]),
                  f"{one['n']:,}")
            for one in people["judge"]
        ]  # fmt: skip
        yield Table("people-judge", t("figures.judge_people"), head, rows, "lrrrr")
    if people["metrics"]:
        head = [t("overview.slice_metric"), t("people.share"), t("people.rank")]
        rows = [
            cells(one["label"], _with(one["share"], one["share_interval"]),
                  _with(one["rank"], one["rank_interval"]))
            for one in people["metrics"]
        ]  # fmt: skip
        yield Table("people-metrics", t("figures.scores_people"), head, rows, "lrr")


def _judge_pairs(pairs: list[dict[str, Any]]) -> Table:
    kinds = ("wins", "ties", "losses", "unread")
    rows: list[list[Cell]] = []
    for one in pairs:
        counts = {part["kind"]: part["count"] for part in one["parts"]}
        rows.append(cells(
            _pair(one), _with(one["rate"], one["interval"]), _p(one),
            *(f"{counts.get(kind, 0):,}" for kind in kinds),
            _with(one["controlled"], one["controlled_interval"]), one["flips"], one["first"],
        ))  # fmt: skip
    head = [t("judge.pair"), t("judge.win_rate"), "p", *(t(f"judge.{kind}") for kind in kinds),
            t("judge.controlled"), t("judge.flips"), t("judge.first")]  # fmt: skip
    return Table("judge-pairs", t("judge.pairs"), head, rows, "l" + "r" * (len(head) - 1))


def _pair(one: Mapping[str, Any]) -> str:
    return t("rating.against", model=one["model"], other=one["baseline"])


def _p(one: Mapping[str, Any]) -> str:
    """`0.012` or `< 0.001`: the column's head says the rest."""
    return str(one["p"]).removeprefix("p ").removeprefix("= ")


def _with(value: str, between: str) -> str:
    return f"{value} {between}".strip()
