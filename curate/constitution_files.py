"""The part `constitution`: prompts to revised answers, as training rows and preference pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from espalier.curate.config_constitution import ConstitutionConfig
from espalier.curate.config_dedup import DedupConfig
from espalier.curate.constitution import Revised, revise
from espalier.curate.curation import Curation
from espalier.curate.dedup import exact_dedup
from espalier.curate.filters import Rule, answer_rules
from espalier.curate.parts import MARKERS, Work, writers
from espalier.curate.pipeline import Ledger, Tally
from espalier.curate.principles import constitution_path, read_principles
from espalier.curate.safety import safety_rows
from espalier.errors import StageError
from espalier.formats.read import read_pairs
from espalier.progress import Progress
from espalier.records import Example, PreferencePair

ROWS = "constitution.jsonl"
TRACES = "revisions.jsonl"
PAIRS = f"{MARKERS}/constitution_pairs.jsonl"
FILES = [ROWS, TRACES, PAIRS]


def write_constitution(
    curation: Curation, config: ConstitutionConfig, made: Sequence[str], work: Work
) -> None:
    """constitution.jsonl (rows), revisions.jsonl (all critiques and revisions) and the pairs.

    `made` names the files of the generators before. Raises StageError when nothing came through,
    InputError for a wrong file of principles.
    """
    paths = [constitution_path(name, curation.context.path) for name in config.principles]
    principles = read_principles(paths)
    ledger = work.ledger("constitution")
    rows = _prompts(curation, config, made, ledger)
    with (
        ExitStack() as stack,
        writers(curation.folder, FILES) as (write_row, write_trace, write_pair),
        Progress("curate: constitution") as progress,
    ):
        teacher = stack.enter_context(curation.teacher("constitution"))
        judge = stack.enter_context(curation.judge("constitution")) if config.judge else None
        revised = revise(rows, teacher, judge, principles, config, curation.seed, ledger)
        for item in _by_rules(revised, answer_rules(curation.config.filters), ledger):
            write_trace(_Trace(item))
            example, pair = item.example(), item.pair()
            if config.rows and example is not None:
                write_row(example)
            if config.pairs and pair is not None:
                write_pair(pair)
            progress.update(1, curation.meter.note())
    if not ledger.tallies[0].seen:
        names = dict.fromkeys(source.name for source in curation.sources("sft"))
        raise StageError(
            "There is no prompt to revise an answer to.",
            where="curate.constitution",
            expected="sources with prompts: " + (", ".join(names) or "none has `use: sft`"),
            hint="change curate.constitution.sources, or set curate.constitution.safety",
        )
    ledger.require_rows("prompts")


def _by_rules(
    items: Iterable[Revised], rules: Sequence[tuple[str, Rule]], ledger: Ledger
) -> Iterator[Revised]:
    """Those whose last revision breaks no rule on answers."""
    tally: Tally | None = None
    for item in items:
        # Made here, behind the steps that come before in the funnel.
        tally = tally or ledger.tally("rules on them")
        tally.seen += 1
        row = item.example()
        if row is None:
            tally.reject(item.row, "unchanged", "nothing was revised")
            continue
        broken = next(((n, e) for n, rule in rules if (e := rule(row)) is not None), None)
        if broken is not None:
            tally.reject(row, *broken)
        else:
            tally.kept += 1
            yield item


def revised_pairs(folder: Path) -> Iterator[PreferencePair]:
    """The pairs that the part wrote."""
    path = folder / PAIRS
    if path.is_file() and path.stat().st_size:
        yield from read_pairs(path, format="espalier-pairs")


def _prompts(
    curation: Curation, config: ConstitutionConfig, made: Sequence[str], ledger: Ledger
) -> Iterator[Example]:
    safe = safety_rows(["en", "zh"], config.safety) if config.safety else ()
    tally = ledger.tally("read")
    rows = tally.all(chain(curation.start_rows(config.sources, made), safe))
    return ledger.through(
        rows,
        [
            *curation.away_from_held_out(),
            ("exact duplicates", exact_dedup(DedupConfig(key="prompt"))),
        ],
    )


class _Trace:
    def __init__(self, item: Revised) -> None:
        self._item = item

    def to_json(self) -> dict[str, object]:
        return self._item.trace()
