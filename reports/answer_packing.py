"""The answers as the page holds them: scores of all rows, texts of as many as it may hold.

Two packed texts. The head is one JSON object: ids, labels, models with their facts, metrics with
their values by model, `texts` (the rows whose texts follow; null for all) and `blocks` (bytes of
each block). The texts are blocks of JSON, each an array of rows, a row being the array that
`AnswerTable.texts` gives: what belongs to one prompt stands together, where deflate sees it.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np

from espalier.reports.answer_table import AnswerTable, Integers
from espalier.reports.packing import pack, pack_text
from espalier.reports.runfiles import rounded

BLOCK = 1 << 20
# Of each metric and pair of models, rows whose texts come first where not all fit.
EXTREMES = 20
DIGITS = 4


def pack_answers(
    table: AnswerTable, megabytes: float
) -> Iterator[tuple[str, Iterator[str] | Sequence[str]]]:
    """The packed texts by their names, in pieces; texts of at most about `megabytes`."""
    rows = rows_with_text(table, int(megabytes * 1e6))
    with tempfile.TemporaryFile() as file:
        blocks = []
        for block in text_blocks(table, rows):
            file.write(block)
            blocks.append(len(block))
        file.flush()
        yield "packed-answers", [pack(head(table, rows, blocks))]
        data = np.memmap(file, np.uint8, "r") if sum(blocks) else np.zeros(0, np.uint8)
        yield "packed-texts", pack_text(np.asarray(data))


def rows_with_text(table: AnswerTable, most: int) -> list[int]:
    """The rows whose texts fit into `most` bytes: all of them, or a choice, in order.

    The choice has the rows where models differ most, and beside them an even part of the set.
    """
    sizes = table.sizes()
    if sizes.sum() <= most:
        return list(range(table.count))
    share = most / sizes.sum()
    even = np.unique((np.arange(math.ceil(table.count * share)) / share).astype(np.int64))
    order = list(dict.fromkeys([*extremes(table), *even[even < table.count].tolist()]))
    fitting = int(np.searchsorted(np.cumsum(sizes[order]), most, "right"))
    return sorted(order[:fitting])


def extremes(table: AnswerTable) -> list[int]:
    """Rows with the largest differences of two models, of every metric with a direction."""
    found: list[int] = []
    for metric in table.metrics:
        if not metric["tested"]:
            continue
        for one, other in permutations(table.values[metric["name"]], 2):
            gaps = np.nan_to_num(one - other, nan=-np.inf)
            best: Integers = np.argsort(-gaps, kind="stable")[:EXTREMES]
            found += best[gaps[best] > 0].tolist()
    return found


def text_blocks(table: AnswerTable, rows: Sequence[int]) -> Iterator[bytes]:
    """JSON arrays of rows, each about `BLOCK` bytes or one long row."""
    held: list[bytes] = []
    size = 0
    for row in rows:
        held.append(table.texts(row))
        size += len(held[-1])
        if size >= BLOCK:
            yield b"[" + b",".join(held) + b"]"
            held, size = [], 0
    if held:
        yield b"[" + b",".join(held) + b"]"


def head(table: AnswerTable, rows: Sequence[int], blocks: Sequence[int]) -> dict[str, Any]:
    """All but the texts, as JSON values."""
    return {
        "ids": list(table.rows),
        "lengths": table.lengths.tolist(),
        "labels": {name: table.labels[name] for name in known_labels(table)},
        "models": [{"name": name, "facts": table.facts.get(name, {})} for name in table.models],
        "metrics": [_metric(metric, table) for metric in table.metrics],
        "texts": None if len(rows) == table.count else list(rows),
        "blocks": list(blocks),
    }


def known_labels(table: AnswerTable) -> list[str]:
    """The fields of which some prompt has a label."""
    return [name for name, values in table.labels.items() if any(values)]


def _metric(metric: Mapping[str, Any], table: AnswerTable) -> dict[str, Any]:
    values = table.values[metric["name"]].tolist()
    return {**metric, "values": [[rounded(x, DIGITS) for x in column] for column in values]}
