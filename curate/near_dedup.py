"""Near duplicates: MinHash with exact verification, or ROUGE-L against all kept rows.

MinHash: every pair with a Jaccard similarity of n-grams at or above the threshold is found (about
1 in 1,000 is missed), then rows are kept greedily in the order of preference. ROUGE-L: rows come
in the order of preference, and one that is too near a kept one goes (the novelty rule of
Self-Instruct, Wang et al. 2022). Neither depends on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator

from espalier.curate.config_dedup import DedupConfig, NearConfig
from espalier.curate.keeping import (
    Policy,
    Removals,
    Spool,
    WriteLine,
    compared_text,
    keep_preferred,
    remove,
    shown,
)
from espalier.curate.pipeline import Barrier, Rows, Tally
from espalier.records import Example

NEAR_RULE = "near_duplicate"
# Rows that share a band key with more others are compared with leaders only: pairs, and so memory,
# stay linear in the rows, and of 26,000 real rows that stay one or two are others than else.
_CROWD = 64


def near_dedup(
    config: DedupConfig, write: WriteLine | None = None, *, threads: int | None = None
) -> Barrier:
    """Remove near duplicates as `config.near` and `config.keep` say; nothing without `near`.

    Reads the rows up to three times; holds hashes (method minhash: about 4 bytes a word and 4 a
    band, `espalier.minhash`; method rouge_l: the words of kept rows).
    """
    near = config.near
    if near is None:
        return lambda rows, tally: iter(rows())
    measure = f"Jaccard of {near.ngram}-grams" if near.method == "minhash" else "ROUGE-L"

    def barrier(rows: Rows, tally: Tally) -> Iterator[Example]:
        if near.method == "minhash":
            removals = _by_minhash(rows, config, near, threads)
        else:
            removals = _by_rouge_l(rows, config, near)
        return remove(
            rows,
            tally,
            removals,
            rule=NEAR_RULE,
            method=near.method,
            text=lambda row: compared_text(row, near.on),
            evidence=lambda keeper, similarity, shared: (
                f"{measure} {similarity:.2f} with row {keeper}{shown(shared)}"
            ),
            write=write,
        )

    return barrier


def _by_minhash(rows: Rows, config: DedupConfig, near: NearConfig, threads: int | None) -> Removals:
    import numpy as np

    from espalier.minhash import NearSearch

    policy = Policy(config)

    def texts() -> Iterator[str]:
        for row in rows():
            policy.add(row)
            yield compared_text(row, near.on)

    with NearSearch(
        threshold=near.threshold,
        ngram=near.ngram,
        ngram_cjk=near.ngram_cjk,
        threads=threads,
        crowd=_CROWD,
    ) as search:
        search.add(texts())
        ranks = policy.ranks()
        found = search.pairs(ranks)
    # Rows of one set go by the best of them, which stands for all in the pairs.
    count = len(ranks)
    best = np.full(count, count, dtype=np.int64)
    np.minimum.at(best, found.same_as, ranks)
    row_of = np.empty(count, dtype=np.int64)
    row_of[ranks] = np.arange(count)
    head = row_of[best[found.same_as]] if count else best
    chosen = keep_preferred(head[found.first], head[found.second], found.similarity, ranks)
    # A row whose head stays has it as its keeper; if that went, the two share their keeper.
    keeper, similarity = chosen.keeper[head], chosen.similarity[head]
    twins = (head != np.arange(count)) & (keeper < 0)
    keeper[twins], similarity[twins] = head[twins], 1.0
    return Removals(keeper, similarity)


def _by_rouge_l(rows: Rows, config: DedupConfig, near: NearConfig) -> Removals:
    import numpy as np

    from espalier.overlap import NoveltyIndex
    from espalier.text import tokens

    policy = Policy(config)
    offsets = []
    with Spool() as spool:
        for row in rows():
            policy.add(row)
            offsets.append(spool.put(compared_text(row, near.on)))
        ranks = policy.ranks()
        keeper = np.full(len(ranks), -1, dtype=np.int64)
        similarity = np.zeros(len(ranks), dtype=np.float64)
        index = NoveltyIndex(near.threshold)
        kept: list[int] = []
        for place in np.argsort(ranks).tolist():
            words = tokens(spool.get(offsets[place]))
            member, f1 = index.nearest(words)
            if member is None:
                index.add(words)
                kept.append(place)
            else:
                keeper[place], similarity[place] = kept[member], f1
    return Removals(keeper, similarity)
