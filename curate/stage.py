"""The stage `curate`: sources and Self-Instruct to train, eval, prompt and preference files.

The held-out rows are drawn first; everything else is kept away from them. Each part below writes
its files atomically and is found done after a kill (`parts.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from espalier.curate.card import write_card
from espalier.curate.checks import check_before_start
from espalier.curate.config import CurateConfig, FileSource, ProceduralSource, SafetySource
from espalier.curate.curation import (
    CLUSTERS,
    CONTAMINATION,
    EVAL,
    HELD_PROMPTS,
    RANKINGS,
    AnySource,
    Curation,
    model_of,
)
from espalier.curate.decontaminate import draw_held_out
from espalier.curate.estimate import buys, estimate_lines
from espalier.curate.filters import answer_rules, prompt_rules, rule_step
from espalier.curate.generate import generate
from espalier.curate.groups import WORDS as GROUP_WORDS
from espalier.curate.own_rules import code_files
from espalier.curate.parts import REJECTS, Parts, Work, table, writers
from espalier.curate.pipeline import Ledger
from espalier.curate.preference_files import write_preferences
from espalier.curate.principles import constitution_path
from espalier.curate.prompting import PROMPTS
from espalier.curate.safety import LANGUAGES, safety_path
from espalier.curate.self_instruct import seed_path
from espalier.curate.sources import located
from espalier.curate.statistics import write_statistics
from espalier.curate.terms import SAFETY, term_files
from espalier.curate.training import train
from espalier.engines.base import EngineSpec
from espalier.engines.function import code_inputs
from espalier.errors import EspalierError
from espalier.files import atomic_write_json
from espalier.progress import say
from espalier.records import Example
from espalier.run import StageContext
from espalier.template_files import engine_template, template_inputs

# Engines whose model may be a folder.
LOCAL_MODELS = ("transformers", "vllm", "vllm-server")


def inputs(context: StageContext) -> Mapping[str, Path]:
    """The files that the result depends on."""
    config: CurateConfig = context.options
    found: dict[str, Path] = {}
    for number, source in enumerate(config.sources):
        if isinstance(source, FileSource):
            path = located(source.path, context.path)
            if isinstance(path, Path):
                found[f"source {number}: {source.name or path.name}"] = path
        elif isinstance(source, SafetySource):
            for language in source.languages:
                found[f"safety: {language}"] = safety_path(language)
    if config.self_instruct or config.evolve or config.self_chat or config.constitution:
        found["prompts"] = PROMPTS
    if config.constitution is not None:
        for name in config.constitution.principles:
            found[f"principles: {name}"] = constitution_path(name, context.path)
        if config.constitution.safety:
            found |= {f"safety: {language}": safety_path(language) for language in LANGUAGES}
    if config.selection is not None:
        found["task groups"] = GROUP_WORDS
    if config.self_instruct is not None:
        for name in config.self_instruct.seeds:
            found[f"seeds: {name}"] = seed_path(name, context.path)
    if config.dialogues is not None and config.dialogues.tokenizer is not None:
        tokenizer = context.path(config.dialogues.tokenizer)
        if tokenizer.exists():
            found["tokenizer of dialogues"] = tokenizer
    found |= template_inputs(context, _templates(config, context))
    found |= code_inputs(_engines(config, context))
    return found | _named_files(config, context) | _models(config, context)


def _templates(config: CurateConfig, context: StageContext) -> dict[str, str | None]:
    """All templates that the recipe names, by option."""
    named = {
        f"template of the {role}": engine_template(spec)
        for role, spec in _engines(config, context).items()
    }
    if config.quality is not None and config.quality.ifd is not None:
        named["quality.ifd.template"] = config.quality.ifd.template
    return named


def _engines(config: CurateConfig, context: StageContext) -> dict[str, EngineSpec]:
    engines = {"teacher": context.shared.teacher, "judge": context.shared.judge}
    if config.preferences.weak is not None:
        engines["weak teacher"] = config.preferences.weak
    return engines


def _models(config: CurateConfig, context: StageContext) -> dict[str, Path]:
    """The folders of local models that score, embed or answer; a hub name is no path."""
    named: dict[str, Path | str] = {}
    if config.quality is not None and config.quality.ifd is not None:
        named["ifd model"] = model_of(context, config.quality.ifd.model)
    if config.quality is not None and config.quality.reward is not None:
        named["reward model"] = model_of(context, config.quality.reward.model)
    if config.dedup.semantic is not None:
        named["semantic model"] = Path(config.dedup.semantic.model).expanduser()
    if config.selection is not None and config.selection.diversity == "semantic":
        named["embedding of selection"] = Path(config.selection.embedding).expanduser()
    for role, spec in _engines(config, context).items():
        if spec.engine in LOCAL_MODELS:
            named[f"{role}'s model"] = Path(spec.model)
    return {
        label: path for label, path in named.items() if isinstance(path, Path) and path.is_dir()
    }


def _named_files(config: CurateConfig, context: StageContext) -> dict[str, Path]:
    """Files of evaluation texts, word lists and the user's functions."""
    against = list(config.holdout.against)
    if config.decontaminate is not None:
        against += config.decontaminate.against
    words = term_files(config.filters)
    files = {f"against {n}: {Path(name).name}": name for n, name in enumerate(against)}
    files |= {f"words {n}: {Path(name).name}": name for n, name in enumerate(words)}
    code = code_files(config.filters.functions)
    files |= {f"filter {n}: {Path(name).name}": name for n, name in enumerate(code)}
    found = {label: context.path(name) for label, name in files.items()}
    if config.filters.safety is not None:
        found["safety words"] = SAFETY
    return found


def run(context: StageContext) -> Mapping[str, Any]:
    """Do what is not done yet; returns the rows of each file."""
    curation = Curation(context)
    config = curation.config
    # What is wrong is said before the first request.
    for note in check_before_start(curation):
        say(f"  note: {note}")
    parts = Parts(context.folder)
    if buys(curation):
        for line in estimate_lines(curation):
            say(line)
    held = [EVAL, HELD_PROMPTS] if config.holdout.count else [HELD_PROMPTS]
    parts.run("holdout", held, partial(hold_out, curation))
    made = generate(curation, parts)
    if curation.sources("sft") or made:
        train(curation, parts, made)
    if curation.sources("prompts") or config.holdout.prompts:
        parts.run("prompts", ["prompts.jsonl"], partial(prompts, curation))
    revised = config.constitution is not None and config.constitution.pairs
    if curation.sources("preferences") or revised:
        names = ["preferences.jsonl", "preferences_eval.jsonl"]
        parts.run("preferences", names, partial(write_preferences, curation, revised=revised))
    return _finish(curation, parts)


def plan(context: StageContext) -> list[str]:
    """What the stage will generate, for `espalier recipe explain`."""
    try:
        curation = Curation(context)
        estimated = estimate_lines(curation)
    except EspalierError as error:
        return [f"no estimate: {error.what}"]
    try:
        notes = [f"note: {note}" for note in check_before_start(curation, planning=True)]
    except EspalierError as error:
        first, *further = error.render().splitlines()
        notes = [f"it would stop at the start: {first}", *further]
    return [*estimated, *notes]


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
        dialogues = curation.config.dialogues
        split = dialogues is not None and dialogues.max_tokens is not None
        work.notes.append(
            f"only {len(held) + len(further)} of {wanted} rows could be held out"
            + (", one of each split dialogue" if split else "")
        )
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
    # The same rows come again in the part `train`, which counts and stores the bad ones. They are
    # cleaned there before they are compared with held-out rows, so these have to be cleaned too.
    unseen = Ledger("held out", None)
    rows = source.examples(unseen.tally("read"), str(curation.seed))
    good = unseen.through(rows, [*curation.cleaning(), ("rules", rule_step(rules))])
    return draw_held_out(good, count, f"{curation.seed}:held-out")


def _with_reference(row: Example) -> Example:
    """A held-out row: its prompt, and the known right answer in `meta.reference`."""
    return Example(row.id, row.prompt_messages, {**row.meta, "reference": row.reference})


def _prompt_only(row: Example) -> Example:
    hidden = ("reference", "to_answer")
    meta = {key: value for key, value in row.meta.items() if key not in hidden}
    return Example(row.id, row.prompt_messages, meta)


def prompts(curation: Curation, work: Work) -> None:
    """Prompts for RL and on-policy sampling, none of them of the evaluation."""
    streams: list[tuple[Ledger, Iterator[Example]]] = []
    if curation.config.holdout.prompts:
        ledger = work.ledger("held-out prompts")
        streams.append((ledger, curation.held_prompts(ledger)))
    if curation.sources("prompts"):
        ledger = work.ledger("prompts")
        streams.append((ledger, curation.prompt_rows("prompts", work, ledger)))
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
    folder = curation.folder
    counts["rejects"] = parts.join(REJECTS, folder / "rejects.jsonl")
    for side in (CLUSTERS, CONTAMINATION, RANKINGS):
        if parts.has(side):
            parts.join(side, folder / f"{side}.jsonl")
    atomic_write_json(folder / "funnel.json", parts.funnel)
    spending = curation.meter.summary()
    # Which process paid is no fact about the data.
    costs = [{k: v for k, v in row.items() if k != "from_journal"} for row in spending]
    write_card(curation, parts, write_statistics(folder, costs, seed=curation.seed))
    say(table(parts.funnel))
    for note in parts.notes:
        say(f"  note: {note}")
    if any(row["money"] for row in spending):
        say(f"  spent: {curation.meter.note()}")
    return {**counts, "spending": spending}
