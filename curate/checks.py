"""What can be known to be wrong before the first request is paid for.

Everything here is cheap: names are compared, small files are read, engines are opened and closed
without a request.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

from espalier.curate.curation import Curation
from espalier.curate.evolve import SOURCE as EVOLVE
from espalier.curate.groups import GROUPS
from espalier.curate.own_rules import own_rules
from espalier.curate.parts import MARKERS
from espalier.curate.pipeline import Tally
from espalier.curate.principles import constitution_path, read_principles
from espalier.curate.seed_tasks import read_seeds, seed_path
from espalier.curate.self_chat import SOURCE as SELF_CHAT
from espalier.curate.semantic import PACKAGED, locate_model
from espalier.curate.sources import OpenFile, located
from espalier.curate.terms import term_rules
from espalier.engines import open_engine
from espalier.engines.base import EngineSpec
from espalier.errors import EspalierError, InputError, UsageError, did_you_mean, require
from espalier.formats.detect import detect
from espalier.formats.read import read_examples
from espalier.formats.registry import EXAMPLE_FORMATS
from espalier.records import Example
from espalier.spending import Meter
from espalier.stages import NAMES as STAGES

# Rows of a file that are looked at for a score of their own.
_SAMPLE = 200
# Engines that are opened without loading a large library.
_LIGHT = ("openai", "offline")


def check_before_start(curation: Curation, *, planning: bool = False) -> list[str]:
    """Raise the error that the run would end in later; returns notes on what may be a mistake.

    With `planning` nothing large is loaded or read: engines of local models are not opened,
    evaluation files not read to their end. Raises UsageError (names, options, keys, prices),
    InputError (files, models) or MissingExtra.
    """
    check_names(curation)
    own_rules(curation.config.filters.functions, curation.context.path)
    _check_formats(curation)
    _check_texts(curation)
    _check_models(curation)
    engines = engines_asked(curation)
    _check_evaluation(curation, whole=bool(engines) and not planning)
    _check_engines(curation, engines, _LIGHT if planning else None)
    return [*_check_scores(curation), *_odd_shares(curation)]


# --- names of sources ------------------------------------------------------------------------


def check_names(curation: Curation) -> None:
    """Raise UsageError for a source that an option names and that is none.

    A generator may start from the sources of training rows and from the generators before it.
    """
    config = curation.config
    given = [source.name for source in curation.sources("sft")]
    _known(config.holdout.sources, given, "holdout.sources", curation)
    known = list(given)
    if config.self_instruct is not None:
        known.append(config.self_instruct.mode)
    if config.evolve is not None:
        _known(config.evolve.sources, known, "evolve.sources", curation)
        known.append(EVOLVE)
    if config.self_chat is not None:
        _known(config.self_chat.sources, known, "self_chat.sources", curation)
        known.append(SELF_CHAT)
    if config.constitution is not None:
        _known(config.constitution.sources, known, "constitution.sources", curation)
    known = training_names(curation)
    _known(config.dedup.source_order, known, "dedup.source_order", curation)
    if config.selection is not None:
        _known(config.selection.always, known, "selection.always", curation)


def training_names(curation: Curation) -> list[str]:
    """What `meta.source` of training rows can be."""
    config = curation.config
    names = [source.name for source in curation.sources("sft")]
    if config.self_instruct is not None:
        names.append(config.self_instruct.mode)
    names += [EVOLVE] if config.evolve is not None else []
    names += [SELF_CHAT] if config.self_chat is not None else []
    if config.constitution is not None and config.constitution.safety:
        names.append("safety")
    return list(dict.fromkeys(names))


def _known(
    names: Iterable[str] | None, known: Sequence[str], option: str, curation: Curation
) -> None:
    for name in names or ():
        if name in known:
            continue
        hint = did_you_mean(name, known)
        if any(source.name == name for source in curation.all_sources):
            hint = f"the source '{name}' is there, but not for training: its `use` is another"
        raise UsageError(
            f"There is no source '{name}' of training rows here.",
            where=f"curate.{option}",
            expected=", ".join(dict.fromkeys(known)) or "a source with `use: sft`",
            hint=hint,
        )


def _odd_shares(curation: Curation) -> list[str]:
    """Notes on weights that no row can have."""
    config = curation.config.selection
    if config is None or "language" in config.balance:
        # Any code may be some row's language.
        return []
    known = [*GROUPS] if "group" in config.balance else []
    known += training_names(curation) if "source" in config.balance else []
    return [
        f"curate.selection.shares: '{name}' is none of {', '.join(known) or 'the balanced values'}"
        for name in config.shares
        if name not in known
    ]


# --- files and options -----------------------------------------------------------------------


def _check_formats(curation: Curation) -> None:
    for name in curation.config.output_formats:
        if name not in EXAMPLE_FORMATS:
            raise UsageError(
                f"Training rows can't be written in the format '{name}'.",
                where="curate.output_formats",
                expected=", ".join(EXAMPLE_FORMATS),
                hint=did_you_mean(name, EXAMPLE_FORMATS),
            )


def _check_texts(curation: Curation) -> None:
    """Read the small files: seeds, principles, word lists; settle the options of cleaning."""
    config, resolve = curation.config, curation.context.path
    if config.self_instruct is not None:
        for name in config.self_instruct.seeds:
            read_seeds(seed_path(name, resolve))
    if config.constitution is not None:
        read_principles([constitution_path(n, resolve) for n in config.constitution.principles])
    term_rules(config.filters, resolve)
    curation.cleaning()


def _check_evaluation(curation: Curation, *, whole: bool) -> None:
    """The files that rows are kept away from: they are there and, if `whole`, can be read."""
    config = curation.config
    with _named("curate.holdout.against"):
        for name in config.holdout.against:
            path = curation.context.path(name)
            detect(path)
            if whole:
                for _ in read_examples(path, answers="optional"):
                    pass
    if config.decontaminate is None:
        return
    with _named("curate.decontaminate.against"):
        for name in config.decontaminate.against:
            found = located(name, curation.context.path)
            if isinstance(found, Path):
                detect(found)
        if whole:
            # Kept for the steps that need it.
            _ = curation.evaluation_texts


@contextmanager
def _named(option: str) -> Iterator[None]:
    """Say in an error which option of the recipe it is about."""
    try:
        yield
    except EspalierError as error:
        where = option if error.where is None else f"{option}: {error.where}"
        if error.where is not None and option in error.where:
            raise
        raise type(error)(
            error.what, where=where, expected=error.expected, hint=error.hint
        ) from error


# --- models ----------------------------------------------------------------------------------


def _check_models(curation: Curation) -> None:
    """Scoring and embedding models: folders hold a model, libraries are installed."""
    config = curation.config
    if config.quality is not None and config.quality.ifd is not None:
        with _named("curate.quality.ifd.model"):
            _installed("torch", "train", "Scoring rows by a model")
            _check_model(curation, config.quality.ifd.model)
    if config.quality is not None and config.quality.reward is not None:
        from espalier.rewarding import check_reward_folder

        _installed("torch", "train", "Scoring rows by a model")
        name = config.quality.reward.model
        option = "curate.quality.reward.model"
        with _named(option):
            check_reward_folder(Path(curation.model(name)), name, option)
    if config.dedup.semantic is not None:
        _check_embedding(config.dedup.semantic.model, "curate.dedup.semantic.model")
    if config.selection is not None and config.selection.diversity == "semantic":
        _check_embedding(config.selection.embedding, "curate.selection.embedding")


def _check_model(curation: Curation, name: str) -> None:
    from espalier.models import check_source

    found = curation.model(name)
    if isinstance(found, str) and name in STAGES:
        raise InputError(
            f"The stage '{name}' of this run has no model yet.",
            where=str(curation.context.stage_folder(name) / "model"),
            expected="a model that is there before the data is curated",
            hint="name the folder of another run's model",
        )
    first = name.partition("/")[0]
    if isinstance(found, str) and ("${data}" in name or first in STAGES):
        found = curation.context.path(name)
    check_source(found)


def _check_embedding(name: str, option: str) -> None:
    from espalier.models import check_source

    with _named(option):
        _installed("sentence_transformers", "semantic", "Comparing rows by meaning")
        found = locate_model(name)
        if name not in PACKAGED and not Path(found).is_dir():
            check_source(found)


def _installed(module: str, extra: str, feature: str) -> None:
    """Raise MissingExtra for an absent package, without importing one that is there."""
    if importlib.util.find_spec(module) is None:
        require(module, extra=extra, feature=feature)


# --- engines ---------------------------------------------------------------------------------


def engines_asked(curation: Curation) -> dict[str, EngineSpec]:
    """The engines that the parts which are not done yet will ask, by their role."""
    config, shared = curation.config, curation.context.shared
    found: dict[str, EngineSpec] = {}

    def ask(part: str, *, teacher: bool, judge: bool) -> None:
        if (curation.folder / MARKERS / f"{part}.json").is_file():
            return
        if teacher:
            found["teacher"] = shared.teacher
        if judge:
            found["judge"] = shared.judge

    if config.self_instruct is not None:
        ask("self_instruct", teacher=True, judge=False)
    if config.evolve is not None:
        options = config.evolve
        judged = options.eliminate.equal and options.equality_by == "judge"
        ask("evolve", teacher=True, judge=judged)
    if config.self_chat is not None:
        ask("self_chat", teacher=True, judge=False)
    if config.constitution is not None:
        ask("constitution", teacher=True, judge=config.constitution.judge)
    marks = config.quality is not None and config.quality.judge is not None
    ask("train", teacher=curation.answers_wanted, judge=marks)
    makes_pairs = any(
        not (isinstance(source, OpenFile) and source.holds_pairs)
        for source in curation.sources("preferences")
    )
    if makes_pairs:
        ask("preferences", teacher=True, judge=True)
        done = (curation.folder / MARKERS / "preferences.json").is_file()
        if config.preferences.weak is not None and not done:
            found["preferences.weak"] = config.preferences.weak
    return found


def _check_engines(
    curation: Curation, engines: dict[str, EngineSpec], kinds: Sequence[str] | None
) -> None:
    """Open and close each engine: its options, key, prices, model folder, libraries."""
    # One for all of them: their prices have to be in one currency.
    meter = Meter(curation.context.shared.budget)
    for role, spec in engines.items():
        if kinds is None or spec.engine in kinds:
            with (
                _named(f"curate.{role}" if "." in role else role),
                closing(open_engine(spec, seed=curation.seed, meter=meter, step=role)),
            ):
                pass


# --- scores ----------------------------------------------------------------------------------


def _check_scores(curation: Curation) -> list[str]:
    """Raise UsageError where no row can have a score that is selected by.

    Rows of a file may bring scores of their own; where its first rows have none, a note says so.
    """
    config, notes = curation.config, []
    quality = config.quality
    made = [n for n in ("judge", "ifd", "reward") if quality and getattr(quality, n) is not None]
    wanted: list[tuple[str, str, str]] = []
    if config.selection is not None:
        wanted += [
            ("curate.selection.score", f"quality.{score}", score)
            for score in config.selection.score
            if score not in ("length", "random") and score not in made
        ]
    dedup = config.dedup
    compares = dedup.key != "none" or dedup.near is not None or dedup.semantic is not None
    if dedup.keep == "score" and compares:
        root, _, name = dedup.score_field.partition(".")
        there = bool(made) if name in ("", "score") else name in made
        # The judge's marks have names of their own.
        there = there or (name not in ("ifd", "reward") and "judge" in made)
        if root != "quality" or not there:
            wanted.append(("curate.dedup.keep: score", dedup.score_field, name or "judge"))
    for where, field, score in wanted:
        notes += _of_files(curation, where, field, score)
    return notes


def _of_files(curation: Curation, where: str, field: str, score: str) -> list[str]:
    """A note where rows of files could have the number `meta.<field>` and the first do not."""
    files = [source for source in curation.sources("sft") if isinstance(source, OpenFile)]
    section = score if score in ("judge", "ifd", "reward") else "judge"
    makes = field.partition(".")[0] == "quality"
    hint = f"add `quality: {{{section}: …}}` to the section `curate`" if makes else None
    if not files and makes:
        raise UsageError(
            f"No row will have the score meta.{field}.",
            where=where,
            expected="a section `curate.quality` that makes it, or a file whose rows have it",
            hint=hint,
        )
    silent = Tally("read", "checks", lambda reject: None)
    for source in files:
        rows = islice(source.examples(silent, str(curation.seed)), _SAMPLE)
        if any(_has(row, field) for row in rows):
            return []
    if not files:
        return []
    names = ", ".join(source.name for source in files)
    return [
        f"{where}: none of the first rows of {names} has meta.{field}; rows without it come last"
        + (f" ({hint})" if hint else "")
    ]


def _has(row: Example, field: str) -> bool:
    value: object = row.meta
    for part in field.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, dict):
        value = value.get("score")
    return isinstance(value, int | float)
