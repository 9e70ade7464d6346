"""What the parts of the curate stage share: sources, engines, and the held-out prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from functools import cached_property
from pathlib import Path
from typing import Any

from espalier.curate.config import (
    CurateConfig,
    FileSource,
    ProceduralSource,
    SafetySource,
    Source,
)
from espalier.curate.config_dedup import DedupConfig
from espalier.curate.config_dialogues import DialogueConfig
from espalier.curate.contamination import (
    EvaluationTexts,
    contamination_step,
    read_evaluation,
)
from espalier.curate.decontaminate import HeldOut, decontaminate
from espalier.curate.dedup import exact_dedup
from espalier.curate.dialogues import dialogue_step
from espalier.curate.filters import prompt_rules, rule_step
from espalier.curate.parts import MARKERS, Work, read_rows_of
from espalier.curate.pii import pii_step
from espalier.curate.pipeline import Ledger, Step, Tally
from espalier.curate.repair import repair_step
from espalier.curate.sources import (
    Drawing,
    OpenFile,
    OpenSafety,
    located,
    open_file,
    prompts_to_answer,
)
from espalier.curate.terms import term_flags, term_rules
from espalier.engines import open_engine
from espalier.engines.base import Engine, EngineSpec
from espalier.errors import UsageError
from espalier.formats.read import read_examples
from espalier.records import Example
from espalier.run import StageContext
from espalier.spending import Meter, journals_below

EVAL = "eval.jsonl"
HELD_PROMPTS = f"{MARKERS}/held_prompts.jsonl"
# Kinds of lines that parts write beside their rows.
CONTAMINATION = "contamination"
CLUSTERS = "clusters"
RANKINGS = "rankings"
AnySource = OpenFile | OpenSafety | ProceduralSource


class Curation:
    """One run of the stage: its options, its opened sources, its engines."""

    def __init__(self, context: StageContext) -> None:
        self.context = context
        self.config: CurateConfig = context.options
        self.seed = context.shared.seed
        self.folder = context.folder
        self.all_sources: list[AnySource] = [self._opened(s) for s in self.config.sources]

    def _opened(self, source: Source) -> AnySource:
        if isinstance(source, FileSource):
            path = located(source.path, self.context.path)
            return open_file(source, path, self.config.on_bad_row)
        return OpenSafety(source) if isinstance(source, SafetySource) else source

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

    @cached_property
    def evaluation_texts(self) -> EvaluationTexts | None:
        """What `decontaminate` keeps rows away from; None where it is off."""
        config = self.config.decontaminate
        if config is None:
            return None
        return read_evaluation(config, lambda name: located(name, self.context.path))

    def decontamination(self, write: Callable[[dict[str, Any]], None]) -> list[tuple[str, Step]]:
        """The step against the evaluation files, where there are any."""
        config, texts = self.config.decontaminate, self.evaluation_texts
        if config is None or texts is None:
            return []
        return [("evaluation files", contamination_step(config, texts, write))]

    def away_from_held_out(self) -> list[tuple[str, Step]]:
        """The step that keeps rows away from the held-out ones, where there are any."""
        held_out = self.held_out
        return [("held-out prompts", decontaminate(held_out))] if len(held_out) else []

    def prompt_rows(self, use: str, work: Work, ledger: Ledger) -> Iterator[Example]:
        """The prompts that the sources give for `prompts` or `preferences`, through the rules."""
        return ledger.through(
            self._raw_prompts(use, ledger.tally("read")),
            [
                *self.cleaning(),
                ("prompt rules", rule_step(prompt_rules(self.config.filters))),
                *self.away_from_held_out(),
                ("exact duplicates", exact_dedup(DedupConfig(key="prompt"))),
                *self.decontamination(work.writer(CONTAMINATION)),
            ],
        )

    def cleaning(self) -> list[tuple[str, Step]]:
        """What alters rows: repair of text, cleaning of dialogues, personal data."""
        config = self.config
        steps: list[tuple[str, Step]] = []
        if config.repair is not None:
            steps.append(("repair", repair_step(config.repair)))
        if config.dialogues is not None:
            steps.append(("dialogues", dialogue_step(self._located(config.dialogues))))
        if config.pii is not None:
            steps.append(("personal data", pii_step(config.pii)))
        return steps

    def text_steps(self, write: Callable[[dict[str, Any]], None]) -> list[tuple[str, Step]]:
        """What looks at each row alone and holds for preference pairs as well."""
        config = self.config
        steps: list[tuple[str, Step]] = []
        if config.repair is not None:
            steps.append(("repair", repair_step(config.repair)))
        if config.pii is not None:
            steps.append(("personal data", pii_step(config.pii)))
        if config.filters.keywords is not None or config.filters.safety is not None:
            resolve = self.context.path
            steps.append(("word lists", rule_step(term_rules(config.filters, resolve))))
            steps.append(("marked words", term_flags(config.filters, resolve)))
        return [*steps, *self.decontamination(write)]

    def _located(self, config: DialogueConfig) -> DialogueConfig:
        if config.tokenizer is None:
            return config
        return config.model_copy(update={"tokenizer": str(self.model(config.tokenizer))})

    def start_rows(self, names: Sequence[str] | None, made: Sequence[str]) -> Iterator[Example]:
        """Training rows that a generator may start from, through the rules on prompts.

        `names` are sources (None: all), `made` the files that earlier generators wrote. What is
        dropped here is dropped again, counted and stored, on the way of the training rows.
        """
        ledger = Ledger("start", None)
        return ledger.through(
            self._training_sources(names, made),
            [
                *self.cleaning(),
                ("prompt rules", rule_step(prompt_rules(self.config.filters))),
                *self.away_from_held_out(),
                ("exact duplicates", exact_dedup(DedupConfig(key="prompt"))),
                *self.decontamination(lambda line: None),
            ],
        )

    def _training_sources(
        self, names: Sequence[str] | None, made: Sequence[str]
    ) -> Iterator[Example]:
        silent = Tally("read", "start", lambda reject: None)
        shares = self.held_out_shares()
        for place, source in enumerate(self.sources("sft")):
            if names is not None and source.name not in names:
                continue
            if isinstance(source, ProceduralSource):
                drawn = self.draw_training(source)[sum(shares.get(place, (0, 0))) :]
                yield from prompts_to_answer(drawn)
            else:
                yield from source.examples(silent, str(self.seed))
        for file in made:
            for row in read_rows_of(self.folder / file):
                if names is None or row.meta.get("source") in names:
                    yield row

    def _raw_prompts(self, use: str, tally: Tally) -> Iterator[Example]:
        drawing = Drawing(self.seed)
        drawing.hold(self.held_rows())
        for source in self.sources(use):
            if isinstance(source, ProceduralSource):
                yield from tally.all(prompts_to_answer(drawing.draw(source, source.count, use)))
            elif not source.holds_pairs:
                yield from source.examples(tally, str(self.seed))

    @cached_property
    def meter(self) -> Meter:
        """What the run has spent, this stage's earlier processes included, and its budget."""
        shared = self.context.shared
        specs = [shared.teacher, shared.judge]
        if self.config.preferences.weak is not None:
            specs.append(self.config.preferences.weak)
        meter = Meter.of_run(self.context.run, shared.budget, specs)
        if not self.folder.is_relative_to(self.context.run):
            for path in journals_below(self.folder):
                meter.read(path)
        return meter

    @property
    def answers_wanted(self) -> bool:
        """Whether the teacher answers rows of training sources."""
        return any(
            isinstance(source, ProceduralSource) or source.source.answer
            for source in self.sources("sft")
        )

    def teacher(self, step: str) -> AbstractContextManager[Engine]:
        """The teacher, closed at the end; what it costs counts for `step`."""
        return self.engine("teacher", step, self.context.shared.teacher)

    def judge(self, step: str) -> AbstractContextManager[Engine]:
        """The judge, closed at the end; what it costs counts for `step`."""
        return self.engine("judge", step, self.context.shared.judge)

    def engine(self, role: str, step: str, spec: EngineSpec) -> AbstractContextManager[Engine]:
        """An engine with a journal of its own, named by its role."""
        journal = self.folder / "journal" / f"{role}.jsonl"
        return closing(
            open_engine(spec, seed=self.seed, journal=journal, meter=self.meter, step=step)
        )

    def model(self, text: str) -> Path | str:
        """A local model as a recipe names it: a stage of this run, a folder, or a hub name."""
        return model_of(self.context, text)


def model_of(context: StageContext, text: str) -> Path | str:
    """The folder of a stage's model or one as written in the recipe, else the text (a hub name)."""
    stage = context.run / text / "model"
    if text.isidentifier() and stage.is_dir():
        return stage
    path = context.path(text)
    if (path / "model").is_dir():
        return path / "model"
    return path if path.is_dir() else text


def _share(total: int, parts: int, number: int) -> int:
    return total // parts + (number < total % parts)
