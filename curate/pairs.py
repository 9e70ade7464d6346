"""The stage `pairs`: samples of the SFT model, judged, as preference pairs.

A reward model has to see the policy's own mistakes: corruptions of good answers are not what a
policy writes. Each sample is compared with a reference answer (the judge's best of several of
the teacher's) and, if asked, with another sample of the same prompt, in both orders; where the
orders disagree the pair is a tie and is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from espalier.curate.best import best_of
from espalier.curate.config import CurateConfig
from espalier.curate.config_preferences import PairsConfig
from espalier.curate.decontaminate import draw_order, families
from espalier.curate.dedup import prompt_key
from espalier.curate.parts import REJECTS, Parts, Work, read_rows_of, table, writers
from espalier.curate.pipeline import Tally
from espalier.curate.preferences import pair_meta
from espalier.curate.respond import batches, sample_answers
from espalier.curate.verdicts import Meeting, compare, question, with_judge
from espalier.engines import open_engine
from espalier.engines.base import Completion, Engine, EngineSpec, Sampling
from espalier.engines.function import code_inputs
from espalier.errors import StageError, UsageError
from espalier.files import atomic_write_json
from espalier.judging import Judge
from espalier.progress import Progress, say
from espalier.records import Example, PreferencePair
from espalier.run import StageContext
from espalier.spending import Meter
from espalier.template_files import engine_template, template_inputs

PROMPTS = "prompts.jsonl"
SAMPLES = "samples.jsonl"
REFERENCES = "references.jsonl"
FILES = ["preferences.jsonl", "preferences_eval.jsonl"]
POLICY = "policy"


def inputs(context: StageContext) -> Mapping[str, Path]:
    """The prompts and the model."""
    return {
        "prompts": context.stage_folder("curate") / PROMPTS,
        "model": _model_folder(context),
        **code_inputs({"teacher": context.shared.teacher, "judge": context.shared.judge}),
        **template_inputs(
            context,
            {
                f"template of the {role}": engine_template(spec)
                for role, spec in (
                    ("teacher", context.shared.teacher),
                    ("judge", context.shared.judge),
                )
            },
        ),
    }


def _options(context: StageContext) -> PairsConfig:
    options = context.options
    if isinstance(options, CurateConfig):
        options = options.pairs
    if not isinstance(options, PairsConfig):
        raise UsageError("The recipe has no section 'curate.pairs'.", expected="curate.pairs: {}")
    return options


def _model_folder(context: StageContext) -> Path:
    name = _options(context).model
    stage = context.stage_folder(name) / "model"
    return stage if name.isidentifier() and stage.parent.is_dir() else context.path(name)


def run(context: StageContext) -> Mapping[str, Any]:
    """Sample the model, sample and judge the teacher, judge the pairs; returns counts."""
    parts = Parts(context.folder)
    parts.run("prompts", [PROMPTS], partial(_choose_prompts, context))
    parts.run("samples", [SAMPLES], partial(_sample_policy, context))
    parts.run("references", [REFERENCES], partial(_references, context))
    parts.run("pairs", FILES, partial(_judge_pairs, context))
    counts: dict[str, Any] = {}
    for done in parts.done.values():
        counts.update(done.counts)
    parts.join(REJECTS, context.folder / "rejects.jsonl")
    atomic_write_json(context.folder / "funnel.json", parts.funnel)
    say(table(parts.funnel))
    for note in parts.notes:
        say(f"  note: {note}")
    counts["spending"] = _meter(context).summary()
    return counts


def _choose_prompts(context: StageContext, work: Work) -> None:
    """A seeded sample of the prompts, distinct, each marked as training or evaluation.

    All parts of a dialogue are on one side.
    """
    options = _options(context)
    rows: dict[bytes, Example] = {}
    for row in read_rows_of(context.stage_folder("curate") / PROMPTS):
        rows.setdefault(prompt_key(row.prompt_messages), row)
    seed = f"{context.shared.seed}:on-policy"
    order = sorted(rows, key=lambda key: draw_order(key, seed))
    wanted = options.prompts + options.eval_prompts
    # With too few prompts both sides shrink alike.
    evaluation = options.eval_prompts
    if len(order) < wanted:
        evaluation = len(order) * options.eval_prompts // wanted
        work.notes.append(f"prompts.jsonl has {len(order)} of the {wanted} prompts asked for")
    chosen = [rows[key] for key in order[:wanted]]
    marked: set[int] = set()
    for places in families(chosen, seed):
        if len(marked) < evaluation:
            marked.update(places)
    with writers(context.folder, [PROMPTS]) as (write,):
        for number, row in enumerate(chosen):
            write(row.with_meta(evaluation=number in marked))


def _sample_policy(context: StageContext, work: Work) -> None:
    options = _options(context)
    spec = EngineSpec(engine="transformers", model=str(_model_folder(context)))
    sampling = Sampling(
        temperature=options.temperature,
        top_p=options.top_p,
        max_tokens=options.max_tokens,
        seed=context.shared.seed,
    )
    _write_answers(context, spec, sampling, options.samples, SAMPLES, "pairs: model's samples")


def _references(context: StageContext, work: Work) -> None:
    """The judge's best of the teacher's samples, for each prompt."""
    options, shared = _options(context), context.shared
    rows = list(read_rows_of(context.folder / PROMPTS))
    sampling = Sampling(
        temperature=options.temperature, max_tokens=options.max_tokens, seed=shared.seed
    )
    with writers(context.folder, [REFERENCES]) as (write,):
        if not options.references:
            return
        with (
            closing(_engine(context, "teacher")) as teacher,
            closing(_engine(context, "judge")) as judge,
        ):
            for batch in batches(rows):
                drawn = sample_answers(teacher, batch, sampling, options.references)
                answers = [[c.text.strip() for c in listed if _usable(c)] for listed in drawn]
                prompts = [row.prompt_messages for row in batch]
                ranked = best_of(Judge(judge), prompts, answers, "pairwise")
                for row, entry in zip(batch, ranked, strict=True):
                    if entry is not None:
                        write(_Answers(row, [entry.best]))


def _write_answers(
    context: StageContext,
    spec: EngineSpec,
    sampling: Sampling,
    samples: int,
    name: str,
    label: str,
) -> None:
    rows = list(read_rows_of(context.folder / PROMPTS))
    with (
        closing(_open(context, spec, "policy")) as engine,
        writers(context.folder, [name]) as (write,),
        Progress(label, len(rows), unit="prompts") as progress,
    ):
        for batch in batches(rows):
            for row, listed in zip(
                batch, sample_answers(engine, batch, sampling, samples), strict=True
            ):
                write(_Answers(row, [c.text.strip() for c in listed if c.finish_reason != "error"]))
                progress.update(1)


class _Answers:
    """A prompt's answers as a line: the row's own form with `meta.answers`."""

    def __init__(self, row: Example, answers: Sequence[str]) -> None:
        self._value = {**row.to_json(), "meta": {**row.meta, "answers": list(answers)}}

    def to_json(self) -> dict[str, Any]:
        return self._value


def _usable(completion: Completion) -> bool:
    return completion.finish_reason == "stop" and bool(completion.text.strip())


def _judge_pairs(context: StageContext, work: Work) -> None:
    options = _options(context)
    tally = work.ledger("on-policy pairs").tally("judged")
    references = {
        row.id: row.meta["answers"][0] for row in read_rows_of(context.folder / REFERENCES)
    }
    candidates = [
        (row, pair)
        for row in read_rows_of(context.folder / SAMPLES)
        for pair in _meetings(row.meta["answers"], references.get(row.id), options.among_samples)
    ]
    training: list[PreferencePair] = []
    evaluation: list[PreferencePair] = []
    with closing(_engine(context, "judge")) as judge:
        items = [(question(row.prompt_messages), *pair) for row, pair in candidates]
        meetings = compare(Judge(judge), items)
    for (row, _), meeting in zip(candidates, meetings, strict=True):
        made = _pair(row, meeting, tally)
        if made is not None:
            (evaluation if row.meta["evaluation"] else training).append(made)
    if not training:
        raise StageError(
            "No on-policy pair is left: "
            + ", ".join(f"{k} {v}" for k, v in tally.rejected.items()),
            where="curate.pairs",
            expected="samples that the judge tells from the reference",
            hint="more prompts or samples, a higher temperature, or another judge",
        )
    with writers(context.folder, FILES) as (write_training, write_evaluation):
        for pair_made in training:
            write_training(pair_made)
        for pair_made in evaluation:
            write_evaluation(pair_made)
    work.counts.update({"preferences": len(training), "preferences_eval": len(evaluation)})


def _meetings(
    samples: Sequence[str], reference: str | None, among: bool
) -> Iterator[tuple[str, str]]:
    """The distinct answers of one prompt that are compared."""
    distinct = [s for s in dict.fromkeys(samples) if s != reference]
    if reference is not None:
        yield from ((reference, sample) for sample in distinct)
    if among:
        yield from combinations(distinct, 2)


def _pair(row: Example, meeting: Meeting, tally: Tally) -> PreferencePair | None:
    tally.seen += 1
    chosen = meeting.winner
    if meeting.undecided is not None or chosen is None:
        shown = f"{question(row.prompt_messages)}\nA: {meeting.first}\nB: {meeting.second}"
        rule = meeting.undecided or "tie"
        source = row.meta.get("source")
        tally.reject_text(shown, rule, meeting.evidence, id=row.id, source=source)
        return None
    tally.kept += 1
    rejected = meeting.second if chosen == meeting.first else meeting.first
    pair = PreferencePair.make(row.prompt_messages, chosen, rejected, meta=pair_meta(row, POLICY))
    return with_judge(pair, meeting.said(chosen))


def _engine(context: StageContext, role: str) -> Engine:
    return _open(context, getattr(context.shared, role), role)


def _open(context: StageContext, spec: EngineSpec, role: str) -> Engine:
    journal = context.folder / "journal" / f"{role}.jsonl"
    return open_engine(
        spec, seed=context.shared.seed, journal=journal, meter=_meter(context), step="pairs"
    )


def _meter(context: StageContext) -> Meter:
    shared = context.shared
    return Meter.of_run(context.run, shared.budget, [shared.teacher, shared.judge])
