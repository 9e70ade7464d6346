"""The stage `curate`: sources and Self-Instruct to train, eval, prompt and preference files.

The held-out rows are drawn first; everything else is kept away from them. Each part below writes
its files atomically and is found done after a kill (`parts.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from espalier.curate.card import write_card
from espalier.curate.config import CurateConfig, FileSource, ProceduralSource
from espalier.curate.curation import EVAL, HELD_PROMPTS, AnySource, Curation
from espalier.curate.decontaminate import draw_held_out
from espalier.curate.dedup import exact_dedup
from espalier.curate.filters import answer_rules, prompt_rules, rule_step
from espalier.curate.parts import REJECTS, Parts, Work, read_rows_of, table, writers
from espalier.curate.pipeline import Ledger, Step, Tally
from espalier.curate.preference_files import write_preferences
from espalier.curate.prompting import PROMPTS
from espalier.curate.respond import respond
from espalier.curate.self_instruct import SelfInstruct, language_of, read_seeds, seed_path
from espalier.curate.sources import OpenFile, located, prompts_to_answer
from espalier.engines.base import Engine
from espalier.errors import StageError
from espalier.files import atomic_write_json
from espalier.formats.read import write_examples
from espalier.progress import Progress, say
from espalier.records import Example
from espalier.run import StageContext

SELF_INSTRUCT = "self_instruct.jsonl"


def inputs(context: StageContext) -> Mapping[str, Path]:
    """The files that the result depends on."""
    config: CurateConfig = context.options
    found: dict[str, Path] = {}
    for number, source in enumerate(config.sources):
        if isinstance(source, FileSource):
            path = located(source.path, context.path)
            if isinstance(path, Path):
                found[f"source {number}: {source.name or path.name}"] = path
    if config.self_instruct is not None:
        found["prompts"] = PROMPTS
        for name in config.self_instruct.seeds:
            found[f"seeds: {name}"] = seed_path(name, context.path)
    for number, name in enumerate(config.holdout.against):
        found[f"against {number}: {Path(name).name}"] = context.path(name)
    return found


def run(context: StageContext) -> Mapping[str, Any]:
    """Do what is not done yet; returns the rows of each file."""
    curation = Curation(context)
    config = curation.config
    parts = Parts(context.folder)
    held = [EVAL, HELD_PROMPTS] if config.holdout.count else [HELD_PROMPTS]
    parts.run("holdout", held, partial(hold_out, curation))
    if config.self_instruct is not None:
        parts.run("self_instruct", [SELF_INSTRUCT], partial(self_instruct, curation))
    if curation.sources("sft") or config.self_instruct is not None:
        extra = [f"train.{name}.jsonl" for name in config.output_formats]
        parts.run("train", ["train.jsonl", "train.parquet", *extra], partial(train, curation))
    if curation.sources("prompts") or config.holdout.prompts:
        parts.run("prompts", ["prompts.jsonl"], partial(prompts, curation))
    if curation.sources("preferences"):
        names = ["preferences.jsonl", "preferences_eval.jsonl"]
        parts.run("preferences", names, partial(write_preferences, curation))
    return _finish(curation, parts)


def hold_out(curation: Curation, work: Work) -> None:
    """Draw eval.jsonl (with references) and the held-out prompts, before all else."""
    held: list[Example] = []
    further: list[Example] = []
    sources = curation.sources("sft")
    for place, (count, prompt_count) in curation.held_out_shares().items():
        drawn = _draw_held_out(curation, sources[place], count + prompt_count)
        held += drawn[:count]
        further += drawn[count:]
    wanted = curation.config.holdout.count + curation.config.holdout.prompts
    if len(held) + len(further) < wanted:
        work.notes.append(f"only {len(held) + len(further)} of {wanted} rows could be held out")
    names = [EVAL, HELD_PROMPTS] if curation.config.holdout.count else [HELD_PROMPTS]
    with writers(curation.folder, names) as write:
        for row in further:
            write[-1](_prompt_only(row))
        for row in held:
            write[0](_with_reference(row))
    if held:
        work.counts["eval"] = len(held)


def _draw_held_out(curation: Curation, source: AnySource, count: int) -> list[Example]:
    if isinstance(source, ProceduralSource):
        # The families take turns, so the first prompts are a fair share of each.
        return curation.draw_training(source)[:count]
    filters = curation.config.filters
    rules = [*prompt_rules(filters), *answer_rules(filters)]
    # The same rows come again in the part `train`, which counts and stores the bad ones.
    unseen = Tally("read", "held out", lambda reject: None)
    rows = source.examples(unseen, str(curation.seed))
    good = (row for row in rows if all(rule(row) is None for _, rule in rules))
    return draw_held_out(good, count, f"{curation.seed}:held-out")


def _with_reference(row: Example) -> Example:
    """A held-out row: its prompt, and the known right answer in `meta.reference`."""
    return Example(row.id, row.prompt_messages, {**row.meta, "reference": row.reference})


def _prompt_only(row: Example) -> Example:
    hidden = ("reference", "to_answer")
    meta = {key: value for key, value in row.meta.items() if key not in hidden}
    return Example(row.id, row.prompt_messages, meta)


def self_instruct(curation: Curation, work: Work) -> None:
    """New tasks of the teacher, one language a seed file."""
    config = curation.config.self_instruct
    if config is None:
        return
    ledger = work.ledger("self-instruct")
    with (
        curation.teacher() as teacher,
        writers(curation.folder, [SELF_INSTRUCT]) as (write,),
        Progress("curate: self-instruct") as progress,
    ):
        for name in config.seeds:
            tasks = read_seeds(seed_path(name, curation.context.path))
            made = SelfInstruct(teacher, config, language_of(tasks), tasks, curation.seed, ledger)
            for row in made.rows():
                write(row)
                progress.update(1)
            work.notes += made.notes


def train(curation: Curation, work: Work) -> None:
    """All training rows through all steps, to JSONL, Parquet and the formats asked for."""
    ledger = work.ledger("train")
    count = 0
    with (
        curation.teacher_if(_teacher_needed(curation)) as teacher,
        writers(curation.folder, ["train.jsonl"]) as (write,),
        Progress("curate: training rows") as progress,
    ):
        steps = _training_steps(curation, teacher)
        read = ledger.tally("read")
        for row in ledger.through(_training_rows(curation, read), steps):
            write(row)
            count += 1
            progress.update(1)
        ledger.require_rows("rows")
        if not count:
            raise StageError(
                "The sources gave no training row.",
                where="curate.sources",
                expected="at least one readable row",
                hint="look at the file with `espalier inspect FILE`",
            )
    work.counts["train"] = count
    path = curation.folder / "train.jsonl"
    formats = [("train.parquet", "espalier")]
    formats += [(f"train.{name}.jsonl", name) for name in curation.config.output_formats]
    for name, form in formats:
        write_examples(curation.folder / name, read_rows_of(path), format=form)


def _teacher_needed(curation: Curation) -> bool:
    return any(
        isinstance(source, ProceduralSource) or source.source.answer
        for source in curation.sources("sft")
    )


def _training_rows(curation: Curation, tally: Tally) -> Iterator[Example]:
    shares = curation.held_out_shares()
    for place, source in enumerate(curation.sources("sft")):
        if not isinstance(source, ProceduralSource):
            yield from source.examples(tally, str(curation.seed))
        else:
            drawn = curation.draw_training(source)[sum(shares.get(place, (0, 0))) :]
            yield from tally.all(prompts_to_answer(drawn))
    if curation.config.self_instruct is not None:
        yield from tally.all(read_rows_of(curation.folder / SELF_INSTRUCT))


def _training_steps(curation: Curation, teacher: Engine | None) -> list[tuple[str, Step]]:
    config = curation.config
    on_answers = rule_step(answer_rules(config.filters))
    steps = [
        ("prompt rules", rule_step(prompt_rules(config.filters))),
        ("answer rules", _on_answered(on_answers)),
    ]
    if config.dedup.key != "none":
        steps.append(("exact duplicates", exact_dedup(config.dedup)))
    steps += curation.away_from_held_out()
    if teacher is not None:
        steps.append(("teacher's answers", respond(teacher, config.answers, curation.seed)))
        steps.append(("rules on them", on_answers))
    return steps


def _on_answered(step: Step) -> Step:
    """The step on rows that do not wait for the teacher; the others pass, in their place."""

    def passing(rows: Iterable[Example], tally: Tally) -> Iterator[Example]:
        for row in rows:
            if row.meta.get("to_answer"):
                yield row
            else:
                yield from step([row], tally)

    return passing


def prompts(curation: Curation, work: Work) -> None:
    """Prompts for RL and on-policy sampling, none of them of the evaluation."""
    streams: list[tuple[Ledger, Iterator[Example]]] = []
    if curation.config.holdout.prompts:
        ledger = work.ledger("held-out prompts")
        streams.append((ledger, curation.held_prompts(ledger)))
    if curation.sources("prompts"):
        ledger = work.ledger("prompts")
        streams.append((ledger, curation.prompt_rows("prompts", ledger)))
    count = 0
    with writers(curation.folder, ["prompts.jsonl"]) as (write,):
        for ledger, rows in streams:
            for row in rows:
                write(_prompt_only(row))
                count += 1
            ledger.require_rows("prompts")
    work.counts["prompts"] = count


def _finish(curation: Curation, parts: Parts) -> Mapping[str, Any]:
    """Funnel, rejects and card of all parts; returns the counts for the manifest."""
    counts: dict[str, Any] = {}
    for done in parts.done.values():
        counts.update(done.counts)
    counts["rejects"] = parts.join(REJECTS, curation.folder / "rejects.jsonl")
    atomic_write_json(curation.folder / "funnel.json", parts.funnel)
    write_card(curation, parts)
    say(table(parts.funnel))
    for note in parts.notes:
        say(f"  note: {note}")
    return counts
