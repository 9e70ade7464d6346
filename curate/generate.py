"""The generators of the stage: each writes its rows to a file of its own, before training rows
are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial

from espalier.curate.constitution_files import FILES as CONSTITUTION_FILES
from espalier.curate.constitution_files import ROWS as CONSTITUTION_ROWS
from espalier.curate.constitution_files import write_constitution
from espalier.curate.curation import Curation
from espalier.curate.evolve import evolve
from espalier.curate.parts import Parts, Work, writers
from espalier.curate.self_chat import self_chat
from espalier.curate.self_instruct import generator, language_of, read_seeds, seed_path
from espalier.progress import Progress
from espalier.records import Example

SELF_INSTRUCT = "self_instruct.jsonl"
EVOLVED = "evolved.jsonl"
DIALOGUES = "dialogues.jsonl"


def generate(curation: Curation, parts: Parts) -> list[str]:
    """Run the generators that the recipe has, in turn; the names of the files of their rows.

    Each may start from what those before it made.
    """
    config = curation.config
    made: list[str] = []
    if config.self_instruct is not None:
        parts.run("self_instruct", [SELF_INSTRUCT], partial(_self_instruct, curation))
        made.append(SELF_INSTRUCT)
    if config.evolve is not None:
        parts.run("evolve", [EVOLVED], partial(_evolve, curation, list(made)))
        made.append(EVOLVED)
    if config.self_chat is not None:
        parts.run("self_chat", [DIALOGUES], partial(_self_chat, curation, list(made)))
        made.append(DIALOGUES)
    if config.constitution is not None:
        work = partial(write_constitution, curation, config.constitution, list(made))
        parts.run("constitution", CONSTITUTION_FILES, work)
        if config.constitution.rows:
            made.append(CONSTITUTION_ROWS)
    return made


def _write(
    curation: Curation, name: str, label: str, rows: Iterable[Example], total: int | None
) -> None:
    with (
        writers(curation.folder, [name]) as (write,),
        Progress(f"curate: {label}", total) as progress,
    ):
        for row in rows:
            write(row)
            progress.update(1, curation.meter.note())


def _self_instruct(curation: Curation, work: Work) -> None:
    """New tasks of the teacher, one language a seed file."""
    config = curation.config.self_instruct
    if config is None:
        return
    ledger = work.ledger("self-instruct")
    with (
        curation.teacher("self-instruct") as teacher,
        writers(curation.folder, [SELF_INSTRUCT]) as (write,),
        Progress("curate: self-instruct", config.target * len(config.seeds)) as progress,
    ):
        for name in config.seeds:
            tasks = read_seeds(seed_path(name, curation.context.path))
            made = generator(teacher, config, language_of(tasks), tasks, curation.seed, ledger)
            for row in made.rows():
                write(row)
                progress.update(1, curation.meter.note())
            work.notes += made.notes


def _evolve(curation: Curation, made: Sequence[str], work: Work) -> None:
    """Instructions made harder and rarer, with the teacher's answers."""
    config = curation.config.evolve
    if config is None:
        return
    start = list(curation.start_rows(config.sources, made))
    with ExitStack() as stack:
        teacher = stack.enter_context(curation.teacher("evolve"))
        asks_judge = config.eliminate.equal and config.equality_by == "judge"
        judge = stack.enter_context(curation.judge("evolve")) if asks_judge else teacher
        ledger = work.ledger("evolve")
        answers = curation.config.answers
        rows = evolve(start, teacher, judge, config, curation.seed, ledger, answers)
        most = min(len(start), config.limit or len(start)) * config.rounds
        _write(curation, EVOLVED, "evolve", rows, config.target or most)


def _self_chat(curation: Curation, made: Sequence[str], work: Work) -> None:
    """Dialogues that begin with prompts of the training rows."""
    config = curation.config.self_chat
    if config is None:
        return
    with curation.teacher("self-chat") as teacher:
        start = curation.start_rows(config.sources, made)
        ledger = work.ledger("self-chat")
        rows = self_chat(start, teacher, config, curation.seed, ledger)
        _write(curation, DIALOGUES, "self-chat", rows, config.prompts)
