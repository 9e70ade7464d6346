"""Selection: the best rows that differ from one another, in balance, up to a target size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from espalier.curate.config_select import Cell, SelectionConfig
from espalier.curate.filters import user_text
from espalier.curate.groups import group_of
from espalier.curate.pipeline import Barrier, Rows, Tally
from espalier.curate.quality import number_of
from espalier.curate.semantic import Embedder
from espalier.errors import StageError
from espalier.near import JaccardIndex
from espalier.records import Example
from espalier.text import language, shingles, stable_hash


@dataclass(frozen=True, slots=True)
class _Candidate:
    place: int
    id: str
    cell: tuple[str, ...]
    scores: tuple[float | None, ...]
    always: bool = False


class _Apart(Protocol):
    """What is selected so far, searchable for the nearest."""

    def nearest(self, place: int) -> tuple[str, float] | None:
        """(id, similarity) of a selected row at or above the limit."""
        ...

    def add(self, place: int, key: str) -> None: ...


def select_rows(config: SelectionConfig, seed: int = 0) -> Barrier:
    """The barrier; rules `too_similar` (to a better row) and `not_selected` (beyond the target).

    The first pass keeps a few numbers and the n-grams of each row, the second yields the selected
    rows in their own order. A row without a score comes after all that have one. Raises
    StageError when no row has one.
    """

    def barrier(rows: Rows, tally: Tally) -> Iterator[Example]:
        candidates: list[_Candidate] = []
        texts = _Texts(config)
        for place, row in enumerate(rows()):
            scores = tuple(_score(row, name, seed) for name in config.score)
            always = row.meta.get("source") in config.always
            candidates.append(_Candidate(place, row.id, cell_of(row, config), scores, always))
            texts.add(user_text(row.messages))
        _check_scores(candidates, config)
        chosen, near = choose(candidates, config, texts.apart())
        left = f"{len(chosen):,} rows were selected before it"
        for place, row in enumerate(rows()):
            if place in chosen:
                yield row
            elif place in near:
                key, similarity = near[place]
                tally.reject(row, "too_similar", f"{similarity:.2f} to the selected row {key}")
            else:
                tally.reject(row, "not_selected", left)

    return barrier


def _score(row: Example, name: str, seed: int) -> float | None:
    # By the row alone, so that more rows or another order leave the others' draws as they are.
    return float(stable_hash(f"{seed}:{row.id}")) if name == "random" else number_of(row, name)


def cell_of(row: Example, config: SelectionConfig) -> tuple[str, ...]:
    """The values that the selection keeps in balance."""
    return tuple(_value_of(row, name) for name in config.balance)


def _value_of(row: Example, name: Cell) -> str:
    if name == "language":
        return str(row.meta.get("language") or language(row.prompt))
    return group_of(row) if name == "group" else str(row.meta.get("source") or "")


def _check_scores(candidates: Sequence[_Candidate], config: SelectionConfig) -> None:
    for number, name in enumerate(config.score):
        if candidates and all(item.scores[number] is None for item in candidates):
            raise StageError(
                f"No row has the score '{name}' to be selected by.",
                where="curate.selection.score",
                expected=f"rows with meta.quality.{name}",
                hint=f"add `quality: {{{name}: …}}` to the recipe, or select by `length`",
            )


def ranked(candidates: Sequence[_Candidate], scores: int) -> list[_Candidate]:
    """Candidates, best first: by the product of their ranks' shares over the scores.

    A rank's share is (rank + 1) / rows, equal scores having equal ranks; so two scores of
    different scales count alike. Ties go by place.
    """
    product = np.ones(len(candidates))
    for number in range(scores):
        values = np.array(
            [-np.inf if (v := item.scores[number]) is None else v for item in candidates]
        )
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        product *= (np.cumsum(counts)[inverse]) / max(len(candidates), 1)
    order = np.lexsort((np.arange(len(candidates)), -product))
    return [candidates[index] for index in order]


def choose(
    candidates: Sequence[_Candidate], config: SelectionConfig, apart: _Apart
) -> tuple[set[int], dict[int, tuple[str, float]]]:
    """(selected places, place -> the selected row that it is too similar to).

    Always the cell that is furthest behind its share gives its best row that is left, so a cell
    with too few rows leaves its share to the others.
    """
    queues: dict[tuple[str, ...], list[_Candidate]] = defaultdict(list)
    chosen: set[int] = set()
    near: dict[int, tuple[str, float]] = {}
    taken: dict[tuple[str, ...], int] = defaultdict(int)
    for item in ranked(candidates, len(config.score)):
        if item.always:
            apart.add(item.place, item.id)
            chosen.add(item.place)
            taken[item.cell] += 1
        else:
            queues[item.cell].append(item)
    weights = {cell: _weight(cell, config) for cell in queues}
    following = dict.fromkeys(queues, 0)
    while queues and len(chosen) < config.target:
        cell = min(queues, key=lambda name: ((taken[name] + 1) / weights[name], name))
        item = queues[cell][following[cell]]
        following[cell] += 1
        found = apart.nearest(item.place)
        if found is None:
            apart.add(item.place, item.id)
            chosen.add(item.place)
            taken[cell] += 1
        else:
            near[item.place] = found
        if following[cell] == len(queues[cell]):
            del queues[cell]
    return chosen, near


def _weight(cell: tuple[str, ...], config: SelectionConfig) -> float:
    weight = 1.0
    for value in cell:
        weight *= config.shares.get(value, 1.0)
    return weight


class _Texts:
    """What the diversity criterion compares, gathered in the first pass."""

    def __init__(self, config: SelectionConfig) -> None:
        self._config = config
        self._sets: list[np.ndarray[Any, np.dtype[np.uint64]]] = []
        self._vectors: list[np.ndarray[Any, np.dtype[np.float32]]] = []
        self._embedder = Embedder(config.embedding) if config.diversity == "semantic" else None
        self._waiting: list[str] = []

    def add(self, text: str) -> None:
        if self._config.diversity == "jaccard":
            grams = shingles(text, self._config.ngram)
            self._sets.append(np.fromiter(grams, dtype=np.uint64, count=len(grams)))
        elif self._embedder is not None:
            self._waiting.append(text)
            if len(self._waiting) == self._embedder.batch:
                self._embed()

    def _embed(self) -> None:
        if self._waiting and self._embedder is not None:
            self._vectors.append(self._embedder.embed(self._waiting))
            self._waiting.clear()

    def apart(self) -> _Apart:
        self._embed()
        limit = self._config.max_similarity
        if self._config.diversity == "jaccard":
            return _JaccardApart(self._sets, limit)
        if self._config.diversity == "semantic":
            empty = np.zeros((0, 1), dtype=np.float32)
            return _CosineApart(np.concatenate(self._vectors or [empty]), limit)
        return _Anything()


class _Anything:
    def nearest(self, place: int) -> None:
        return None

    def add(self, place: int, key: str) -> None:
        pass


class _JaccardApart:
    def __init__(self, sets: Sequence[np.ndarray[Any, np.dtype[np.uint64]]], limit: float) -> None:
        self._sets = sets
        self._index = JaccardIndex(limit)

    def nearest(self, place: int) -> tuple[str, float] | None:
        matches = self._index.matches(self._set(place))
        return matches[0] if matches else None

    def add(self, place: int, key: str) -> None:
        self._index.add(key, self._set(place))

    def _set(self, place: int) -> frozenset[int]:
        return frozenset(self._sets[place].tolist())


class _CosineApart:
    def __init__(self, vectors: np.ndarray[Any, np.dtype[Any]], limit: float) -> None:
        self._vectors = vectors
        self._limit = limit
        self._keys: list[str] = []
        self._held = np.zeros((0, vectors.shape[1]), dtype=np.float32)

    def nearest(self, place: int) -> tuple[str, float] | None:
        if not self._keys:
            return None
        similarities = self._held[: len(self._keys)] @ self._vectors[place]
        best = int(similarities.argmax())
        value = float(similarities[best])
        return (self._keys[best], value) if value >= self._limit else None

    def add(self, place: int, key: str) -> None:
        if len(self._keys) == len(self._held):
            more = np.zeros((max(1024, len(self._held)), self._vectors.shape[1]), np.float32)
            self._held = np.concatenate([self._held, more])
        self._held[len(self._keys)] = self._vectors[place]
        self._keys.append(key)
