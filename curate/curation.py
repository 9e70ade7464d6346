"""What the parts of the curate stage share: sources, engines, and the held-out prompts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from functools import cached_property

from espalier.curate.config import (
    CurateConfig,
    FileSource,
    ProceduralSource,
    SafetySource,
    Source,
)
from espalier.curate.config_dedup import DedupConfig
from espalier.curate.decontaminate import HeldOut, decontaminate
from espalier.curate.dedup import exact_dedup
from espalier.curate.filters import prompt_rules, rule_step
from espalier.curate.parts import MARKERS, read_rows_of
from espalier.curate.pipeline import Ledger, Step, Tally
from espalier.curate.sources import (
    Drawing,
    OpenFile,
    OpenSafety,
    located,
    open_file,
    prompts_to_answer,
)
from espalier.engines import open_engine
from espalier.engines.base import Engine
from espalier.errors import UsageError
from espalier.formats.read import read_examples
from espalier.records import Example
from espalier.run import StageContext

EVAL = "eval.jsonl"
HELD_PROMPTS = f"{MARKERS}/held_prompts.jsonl"
AnySource = OpenFile | OpenSafety | ProceduralSource


class Curation:
    """One run of the stage: its options, its opened sources, its engines."""

    def __init__(self, context: StageContext) -> None:
        self.context = context
        self.config: CurateConfig = context.options
        self.seed = context.shared.seed
        self.folder = context.folder
        self.all_sources: list[AnySource] = [self._opened(s) for s in self.config.sources]
        self._check_names()

    def _opened(self, source: Source) -> AnySource:
        if isinstance(source, FileSource):
            path = located(source.path, self.context.path)
            return open_file(source, path, self.config.on_bad_row)
        return OpenSafety(source) if isinstance(source, SafetySource) else source

    def _check_names(self) -> None:
        names = [source.name for source in self.all_sources]
        for name in self.config.holdout.sources or ():
            if name not in names:
                raise UsageError(
                    f"There is no source '{name}' to hold rows out from.",
                    where="curate.holdout.sources",
                    expected=", ".join(names),
                )

    def sources(self, use: str) -> list[AnySource]:
        """The sources for one use, in the recipe's order."""
        return [source for source in self.all_sources if source.use == use]

    def held_out_shares(self) -> dict[int, tuple[int, int]]:
        """How many rows (evaluation, prompts for RL) each training source gives, by its place
        among them; about the same number from each."""
        config = self.config.holdout
        if not config.count and not config.prompts:
            return {}
        places = [
            place
            for place, source in enumerate(self.sources("sft"))
            if config.sources is None or source.name in config.sources
        ]
        if not places:
            raise UsageError(
                "There is no training source to hold rows out from.",
                where="curate.holdout.sources",
                expected="a source with `use: sft`",
                hint="set curate.holdout.count and curate.holdout.prompts to 0",
            )
        return {
            place: (
                _share(config.count, len(places), number),
                _share(config.prompts, len(places), number),
            )
            for number, place in enumerate(places)
        }

    def draw_training(self, source: ProceduralSource) -> list[Example]:
        """All prompts of a procedural training source; those held out are the first."""
        return Drawing(self.seed).draw(source, source.count, "sft")

    def held_rows(self) -> Iterator[Example]:
        """The rows that the part `holdout` drew."""
        for name in (EVAL, HELD_PROMPTS):
            yield from read_rows_of(self.folder / name)

    @cached_property
    def held_out(self) -> HeldOut:
        """What all other rows are kept away from (after the part `holdout`)."""
        held_out = self._evaluation()
        for row in read_rows_of(self.folder / HELD_PROMPTS):
            held_out.add(row)
        return held_out

    def _evaluation(self) -> HeldOut:
        """The rows of the evaluation and of the test sets."""
        held_out = HeldOut(self.config.holdout)
        for row in read_rows_of(self.folder / EVAL):
            held_out.add(row)
        for text in self.config.holdout.against:
            for row in read_examples(self.context.path(text), answers="optional"):
                held_out.add(row)
        return held_out

    def held_prompts(self, ledger: Ledger) -> Iterator[Example]:
        """The prompts that were held out for RL, without those near the evaluation."""
        rows = read_rows_of(self.folder / HELD_PROMPTS)
        return ledger.through(rows, [("evaluation's prompts", decontaminate(self._evaluation()))])

    def away_from_held_out(self) -> list[tuple[str, Step]]:
        """The step that keeps rows away from the held-out ones, where there are any."""
        held_out = self.held_out
        return [("held-out prompts", decontaminate(held_out))] if len(held_out) else []

    def prompt_rows(self, use: str, ledger: Ledger) -> Iterator[Example]:
        """The prompts that the sources give for `prompts` or `preferences`, through the rules."""
        return ledger.through(
            self._raw_prompts(use, ledger.tally("read")),
            [
                ("prompt rules", rule_step(prompt_rules(self.config.filters))),
                ("exact duplicates", exact_dedup(DedupConfig(key="prompt"))),
                *self.away_from_held_out(),
            ],
        )

    def _raw_prompts(self, use: str, tally: Tally) -> Iterator[Example]:
        drawing = Drawing(self.seed)
        drawing.hold(self.held_rows())
        for source in self.sources(use):
            if isinstance(source, ProceduralSource):
                yield from tally.all(prompts_to_answer(drawing.draw(source, source.count, use)))
            elif not source.holds_pairs:
                yield from source.examples(tally, str(self.seed))

    def teacher(self) -> AbstractContextManager[Engine]:
        """The teacher, closed at the end."""
        return self._engine("teacher")

    def teacher_if(self, needed: bool) -> AbstractContextManager[Engine | None]:
        """The teacher, or None where it is not needed (then no key and no model is either)."""
        return self._engine("teacher") if needed else nullcontext()

    def judge(self) -> AbstractContextManager[Engine]:
        """The judge, closed at the end."""
        return self._engine("judge")

    def _engine(self, role: str) -> AbstractContextManager[Engine]:
        spec = getattr(self.context.shared, role)
        journal = self.folder / "journal" / f"{role}.jsonl"
        return closing(open_engine(spec, seed=self.seed, journal=journal))


def _share(total: int, parts: int, number: int) -> int:
    return total // parts + (number < total % parts)
