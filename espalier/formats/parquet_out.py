"""Parquet files from rows of any shape, in memory of one batch of rows.

A table has one type a column, and which that is shows only when all rows were seen. So batches wait
in a temporary folder, each with the types that it has by itself, and are brought to common ones
when they are written.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalier.records import dump_line

if TYPE_CHECKING:
    import pyarrow

BATCH = 16_384


def write_table(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows to a Parquet file (zstd); returns their number.

    Objects become JSON text, as do the values of a column that mixes types: the entries of
    `meta` differ from row to row.
    """
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=path.parent) as name:
        waiting = _Waiting(Path(name))
        for batch in _batches(rows):
            waiting.add(batch)
        waiting.write(path)
        return waiting.rows


def _batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, BATCH)):
        yield batch


@dataclass(slots=True)
class _Waiting:
    """Batches on disk, and what is known of each column so far."""

    folder: Path
    rows: int = 0
    sizes: list[int] = field(default_factory=list)
    # The common type of each column, in order of appearance; None: JSON text.
    types: dict[str, pyarrow.DataType | None] = field(default_factory=dict)

    def add(self, batch: list[Mapping[str, Any]]) -> None:
        import pyarrow
        import pyarrow.feather

        arrays: dict[str, pyarrow.Array] = {}
        texts: list[str] = []
        for name in dict.fromkeys(key for row in batch for key in row):
            values = [row.get(name) for row in batch]
            array = _array(values)
            if array is None:
                texts.append(name)
                array = pyarrow.array([_text(value) for value in values], pyarrow.string())
            arrays[name] = array
            self._learn(name, None if name in texts else array.type)
        table = pyarrow.table(arrays).replace_schema_metadata({"texts": json.dumps(texts)})
        pyarrow.feather.write_feather(table, self._file(len(self.sizes)), compression="lz4")
        self.sizes.append(len(batch))
        self.rows += len(batch)

    def _file(self, number: int) -> str:
        return str(self.folder / f"{number}.feather")

    def _learn(self, name: str, kind: pyarrow.DataType | None) -> None:
        known = self.types.setdefault(name, kind)
        if known is not None and known != kind:
            self.types[name] = None if kind is None else _common(known, kind)

    def write(self, path: Path) -> None:
        import pyarrow
        import pyarrow.feather
        import pyarrow.parquet

        schema = pyarrow.schema(
            [(name, pyarrow.string() if t is None else t) for name, t in self.types.items()]
        )
        with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
            for number, size in enumerate(self.sizes):
                table = pyarrow.feather.read_table(self._file(number), memory_map=False)
                texts = json.loads((table.schema.metadata or {}).get(b"texts", b"[]"))
                columns = [self._column(table, name, texts, size) for name in self.types]
                writer.write_table(pyarrow.table(columns, schema=schema))

    def _column(self, table: pyarrow.Table, name: str, texts: list[str], size: int) -> Any:
        import pyarrow

        kind = self.types[name]
        if name not in table.column_names:
            return pyarrow.nulls(size, pyarrow.string() if kind is None else kind)
        column = table.column(name)
        if kind is not None:
            return column if column.type == kind else column.cast(kind)
        if name in texts:
            return column
        return pyarrow.array([_text(value) for value in column.to_pylist()], pyarrow.string())


def _array(values: list[Any]) -> pyarrow.Array | None:
    """The values as a column of one type; None where they have to become text."""
    import pyarrow

    if any(isinstance(value, Mapping) for value in values):
        return None
    try:
        return pyarrow.array(values)
    except (pyarrow.ArrowException, OverflowError):
        return None


def _common(a: pyarrow.DataType, b: pyarrow.DataType) -> pyarrow.DataType | None:
    """The type that holds values of both, None where there is none."""
    import pyarrow

    one, other = pyarrow.schema([("x", a)]), pyarrow.schema([("x", b)])
    try:
        merged = pyarrow.unify_schemas([one, other], promote_options="permissive")
    except (pyarrow.ArrowException, TypeError):
        return None
    found: pyarrow.DataType = merged.field("x").type
    return found


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return dump_line(value)
    return json.dumps(value, ensure_ascii=False)
