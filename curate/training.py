"""The way of the training rows: from their sources, through every step, to train.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from espalier.curate.config import ProceduralSource
from espalier.curate.config_dedup import DedupConfig
from espalier.curate.constitution_files import ROWS as CONSTITUTION
from espalier.curate.curation import CLUSTERS, CONTAMINATION, Curation
from espalier.curate.dedup import exact_dedup, exact_dedup_by_policy
from espalier.curate.filters import answer_rules, prompt_rules, rule_step
from espalier.curate.groups import group_of
from espalier.curate.keeping import WriteLine
from espalier.curate.near_dedup import near_dedup
from espalier.curate.own_rules import own_rules
from espalier.curate.parts import Parts, Work, count_lines, read_rows_of, writers
from espalier.curate.pii import pii_step
from espalier.curate.pipeline import Barrier, Step, Tally
from espalier.curate.quality import ifd_step, judge_step, reward_step
from espalier.curate.respond import respond
from espalier.curate.segments import Segment, Stop, cut, rows_of, segment_file, travel
from espalier.curate.selection import select_rows
from espalier.curate.semantic import semantic_dedup
from espalier.curate.sources import prompts_to_answer
from espalier.curate.terms import term_flags, term_rules
from espalier.errors import StageError
from espalier.formats.read import write_examples
from espalier.progress import Progress
from espalier.records import Example
from espalier.template_files import template_path

TRAIN = "train.jsonl"


def train(curation: Curation, parts: Parts, made: Sequence[str]) -> None:
    """All training rows through all stops, to JSONL, Parquet and the formats asked for.

    `made` names the files of rows that the generators wrote before.
    """
    segments = cut(stops(curation))
    for number, segment in enumerate(segments, 1):
        last = number == len(segments)
        extra = [f"train.{name}.jsonl" for name in curation.config.output_formats]
        outputs = [TRAIN, "train.parquet", *extra] if last else [segment_file(number)]
        name = "train" if last else f"rows-{number}"
        parts.run(name, outputs, partial(_travel, curation, segment, number, made, last))


def _travel(
    curation: Curation, segment: Segment, number: int, made: Sequence[str], last: bool, work: Work
) -> None:
    ledger = work.ledger("train")
    count = 0
    before = curation.folder / segment_file(number - 1)
    total = count_lines(before) if number > 1 else None
    with (
        ExitStack() as stack,
        writers(curation.folder, [TRAIN if last else segment_file(number)]) as (write,),
        Progress("curate: training rows", total) as progress,
    ):
        if number > 1:
            rows = rows_of(curation.folder, number - 1)
        else:
            rows = partial(_sources, curation, ledger.tally("read"), made)
        for row in travel(segment, rows, ledger, work, stack):
            write(row)
            count += 1
            progress.update(1, curation.meter.note())
        ledger.require_rows("rows")
        if not count:
            raise _nothing_read(curation)
    if last:
        work.counts["train"] = count
        _other_forms(curation)


def _nothing_read(curation: Curation) -> StageError:
    held = sum(1 for _ in curation.held_rows())
    if held:
        return StageError(
            f"No training row is left: all {held:,} rows of the sources were held out.",
            where="curate.holdout",
            expected="sources with more rows than curate.holdout.count and prompts together",
            hint="hold fewer rows out, or give more",
        )
    return StageError(
        "The sources gave no training row.",
        where="curate.sources",
        expected="at least one readable row",
        hint="look at the file with `espalier inspect FILE`",
    )


def _other_forms(curation: Curation) -> None:
    formats = [("train.parquet", "espalier")]
    formats += [(f"train.{name}.jsonl", name) for name in curation.config.output_formats]
    for name, form in formats:
        write_examples(curation.folder / name, read_rows_of(curation.folder / TRAIN), format=form)


def _sources(curation: Curation, tally: Tally, made: Sequence[str]) -> Iterator[Example]:
    # Of one prompt the revised answer is kept, not the first one.
    if CONSTITUTION in made:
        yield from tally.all(read_rows_of(curation.folder / CONSTITUTION))
    shares = curation.held_out_shares()
    for place, source in enumerate(curation.sources("sft")):
        if isinstance(source, ProceduralSource):
            drawn = curation.draw_training(source)[sum(shares.get(place, (0, 0))) :]
            yield from tally.all(prompts_to_answer(drawn))
        else:
            yield from source.examples(tally, str(curation.seed))
    for name in made:
        if name != CONSTITUTION:
            yield from tally.all(read_rows_of(curation.folder / name))


def stops(curation: Curation) -> list[Stop]:
    """Everything that training rows pass, in order."""
    config = curation.config
    on_answers = rule_step(answer_rules(config.filters))
    found = [
        *(Stop.of(name, step) for name, step in curation.cleaning()),
        Stop.of("prompt rules", rule_step(prompt_rules(config.filters))),
        Stop.of("answer rules", on_answered(on_answers)),
        *_terms(curation),
        *_own(curation),
        *(Stop.of(name, step) for name, step in curation.away_from_held_out()),
        *_decontamination(curation),
    ]
    scores = _quality(curation)
    if config.dedup.keep == "score" and scores:
        # The best of several duplicates is known only when all are answered and scored.
        found += [*_answering(curation, on_answers), *scores, *_duplicates(curation)]
    else:
        found += [*_duplicates(curation), *_answering(curation, on_answers), *scores]
    return [*found, *_selection(curation)]


def _answering(curation: Curation, on_answers: Step) -> list[Stop]:
    """The teacher's answers, and the rules on them."""
    if not curation.answers_wanted:
        return []
    found = [Stop("teacher's answers", partial(_answers, curation))]
    if curation.config.pii is not None:
        found.append(Stop.of("personal data in them", pii_step(curation.config.pii)))
    # A teacher may use any word, and may recite an evaluation answer.
    return [
        *found,
        Stop.of("rules on them", on_answers),
        *_terms(curation, " in them"),
        *_own(curation, " in them"),
        *_decontamination(curation, " in them"),
    ]


def _terms(curation: Curation, where: str = "") -> list[Stop]:
    filters = curation.config.filters
    if filters.keywords is None and filters.safety is None:
        return []
    rules = term_rules(filters, curation.context.path)
    flags = term_flags(filters, curation.context.path)
    return [
        Stop.of(f"word lists{where}", rule_step(rules)),
        Stop.of(f"marked words{where}", flags),
    ]


def _own(curation: Curation, where: str = "") -> list[Stop]:
    """The user's functions, on rows that have an answer."""
    rules = own_rules(curation.config.filters.functions, curation.context.path)
    return [Stop.of(f"own filters{where}", on_answered(rule_step(rules)))] if rules else []


def _duplicates(curation: Curation) -> list[Stop]:
    """Equal rows, near ones in words, near ones in meaning: from cheap to costly."""
    config = curation.config.dedup
    found: list[Stop] = []
    if config.key != "none" and config.keep == "first":
        found.append(
            Stop(
                "exact duplicates",
                lambda work, stack: exact_dedup(config, work.writer(CLUSTERS)),
            )
        )
    elif config.key != "none":
        found.append(_barrier("exact duplicates", exact_dedup_by_policy, config))
    if config.near is not None:
        found.append(_barrier("near duplicates", near_dedup, config))
    if config.semantic is not None:
        model = str(curation.model(config.semantic.model))
        options = config.semantic.model_copy(update={"model": model})
        found.append(_barrier("same meaning", partial(semantic_dedup, options), config))
    return found


def _barrier(
    name: str, make: Callable[[DedupConfig, WriteLine], Barrier], config: DedupConfig
) -> Stop:
    return Stop(name, make_barrier=lambda work, stack: make(config, work.writer(CLUSTERS)))


def _decontamination(curation: Curation, where: str = "") -> list[Stop]:
    def make(work: Work, stack: ExitStack) -> Step:
        [(_, step)] = curation.decontamination(work.writer(CONTAMINATION))
        return step

    if curation.config.decontaminate is None:
        return []
    return [Stop(f"evaluation files{where}", make)]


def _answers(curation: Curation, work: Work, stack: ExitStack) -> Step:
    teacher = stack.enter_context(curation.teacher("answers"))
    return respond(teacher, curation.config.answers, curation.seed)


def _quality(curation: Curation) -> list[Stop]:
    """Scores by local models, then by the judge: only what the models let pass costs a call."""
    config = curation.config.quality
    found: list[Stop] = []
    if config is None:
        return found
    if config.ifd is not None:
        model = curation.model(config.ifd.model)
        named = template_path(curation.context, config.ifd.template)
        resolved = config.ifd.model_copy(update={"template": named})
        found.append(Stop.of("difficulty", ifd_step(resolved, model)))
    if config.reward is not None:
        folder = Path(curation.model(config.reward.model))
        found.append(Stop.of("reward", reward_step(config.reward, folder)))
    if config.judge is not None:
        options = config.judge

        def judged(work: Work, stack: ExitStack) -> Step:
            return judge_step(options, stack.enter_context(curation.judge("quality")))

        found.append(Stop("judge's marks", judged))
    return found


def _selection(curation: Curation) -> list[Stop]:
    given = curation.config.selection
    if given is None:
        return []
    config = given.model_copy(update={"embedding": str(curation.model(given.embedding))})
    return [
        Stop.of("task groups", _grouped),
        Stop("selection", make_barrier=lambda work, stack: select_rows(config, curation.seed)),
    ]


def on_answered(step: Step) -> Step:
    """The step on rows that do not wait for the teacher; the others pass, in their place."""

    def passing(rows: Iterable[Example], tally: Tally) -> Iterator[Example]:
        for row in rows:
            if row.meta.get("to_answer"):
                yield row
            else:
                yield from step([row], tally)

    return passing


def _grouped(rows: Iterable[Example], tally: Tally) -> Iterator[Example]:
    """Name the task group of rows that have none, so that everything later can go by it."""
    for row in rows:
        yield row if "group" in row.meta else row.with_meta(group=group_of(row))
