"""`espalier train preview`: what a stage would learn from its rows, before anything is trained.

A few rows are drawn by the seed and painted: what is learnt, what is masked, which tokens are
special, where a long row was cut. The summary is about all rows.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from espalier.encoding import encode_prompts, encode_segments, segments_of
from espalier.fitting import Encoded, EncodingCounts, OverLong, fit_row
from espalier.models import load_tokenizer, new_markers
from espalier.recipe import Recipe
from espalier.records import Example
from espalier.run import StageContext
from espalier.running import context_of
from espalier.stages import stage_named
from espalier.templates import Template
from espalier.terminal import Brush, visible, wants_colour
from espalier.train.config import SFTConfig
from espalier.train.preview_rows import (
    last_learnt,
    length_lines,
    line,
    model_lines,
    paint_row,
    position_limit,
    special_ids,
)
from espalier.train.sources import model_source, stage_seed, template_name

PreviewStage = Literal["sft", "reward", "reward_eval"]

_CHECKED = 200  # rows whose prompt is compared with what would be asked at generation


def preview(
    recipe: Recipe, run: Path, stage: PreviewStage, *, rows: int, seed: int | None
) -> Iterator[str]:
    """Painted rows and a summary, line by line.

    Raises UsageError for a stage that the recipe lacks, InputError where the model or the data
    are not there yet.
    """
    context = context_of(stage_named(stage), recipe, run)
    brush = Brush(wants_colour(sys.stdout))
    seed = stage_seed(context) if seed is None else seed
    with context.own_code():
        if stage == "sft":
            yield from _sft(context, brush, rows, seed)
        else:
            from espalier.train.preview_pairs import preview_pairs

            yield from preview_pairs(context, brush, rows, seed)


def _sft(context: StageContext, brush: Brush, count: int, seed: int) -> Iterator[str]:
    from espalier.train.sft import choose_template, read_data

    options: SFTConfig = context.options
    source = model_source(context, options.model)
    tokenizer = load_tokenizer(source)
    template = choose_template(source, tokenizer, template_name(context, options.template))
    new = new_markers(tokenizer, (*template.special_tokens, *options.markers))
    data = read_data(context)
    examples = data.train
    looked = look(tokenizer, template, examples, options)
    chosen = random.Random(f"{seed}:preview").sample(
        range(len(examples)), min(count, len(examples))
    )
    yield brush.legend()
    for number in sorted(chosen):
        yield ""
        yield f"row {number + 1:,} ({visible(examples[number].id)}): {looked.fate(number)}"
        yield paint_row(tokenizer, looked.encoded[number], brush, looked.limit_of(number))
    yield ""
    yield from model_lines(source, tokenizer, template, new, looked.encoded)
    yield from _row_lines(looked, len(data.held_back))
    if data.shared:
        yield line("", f"{data.shared:,} left out of validation, their prompts are trained on")
    yield from length_lines({"row": looked.lengths(), "learnt": looked.learnt()})
    yield from _step_lines(options, looked.counts.kept)
    for warning in [
        *_position_warnings(source, options.max_length),
        *_looked_warnings(tokenizer, template, examples, looked),
        *_frozen_warnings(options, new),
    ]:
        yield f"warning: {warning}"


# Rows -------------------------------------------------------------------------------------


@dataclass
class Looked:
    """Rows as encoded, as they would be trained on (None: left out), and what became of them."""

    encoded: list[Encoded]
    fitted: list[Encoded | None]
    counts: EncodingCounts
    limit: int
    over_long: OverLong

    def limit_of(self, number: int) -> int | None:
        """The length that a shown row is cut to."""
        return self.limit if self.over_long == "truncate" else None

    def fate(self, number: int) -> str:
        """One line about a row."""
        whole, kept = self.encoded[number], self.fitted[number]
        about = f"{len(whole):,} tokens, {whole.targets:,} learnt"
        if kept is None:
            if len(whole) > self.limit and self.over_long != "truncate":
                return f"{about}; left out, longer than max_length {self.limit}"
            return f"{about}; left out, no token to train on"
        if len(kept) < len(whole):
            return f"{about}; cut to {len(kept):,}, {kept.targets:,} learnt"
        return about

    def lengths(self) -> list[int]:
        return [len(row) for row in self.fitted if row is not None]

    def learnt(self) -> list[int]:
        return [row.targets for row in self.fitted if row is not None]


def look(
    tokenizer: Any, template: Template, examples: Sequence[Example], options: SFTConfig
) -> Looked:
    """Encode all rows as training does, without leaving any out of the result."""
    rows = [
        segments_of(template, example, number, options.train_on)
        for number, example in enumerate(examples, 1)
    ]
    encoded = encode_segments(tokenizer, rows)
    counts = EncodingCounts()
    over_long: OverLong = "truncate" if options.over_long == "truncate" else "drop"
    fitted = [
        fit_row(row, options.max_length, over_long, example.id, counts)
        for example, row in zip(examples, encoded, strict=True)
    ]
    return Looked(encoded, fitted, counts, options.max_length, options.over_long)


# Summary ----------------------------------------------------------------------------------


def _row_lines(looked: Looked, held_back: int) -> Iterator[str]:
    counts = looked.counts
    total = len(looked.encoded)
    extra = f"; {held_back:,} more for validation" if held_back else ""
    yield line("rows", f"{total:,}: {counts.kept:,} to train on{extra}")
    for note in counts.notes(looked.limit):
        yield line("", visible(note))
    tokens, learnt = sum(looked.lengths()), sum(looked.learnt())
    share = f" ({100 * learnt / tokens:.1f} %)" if tokens else ""
    yield line("learnt", f"{learnt:,} of {tokens:,} tokens{share}")


def _step_lines(options: SFTConfig, rows: int) -> Iterator[str]:
    per_epoch = -(-rows // options.minibatch)
    passes = options.epochs if options.steps is None else options.steps / per_epoch
    total = options.steps or math.ceil(passes * per_epoch)
    epochs = "1 epoch" if passes == 1 else f"{passes:.3g} epochs"
    yield line(
        "steps",
        f"{per_epoch:,} an epoch (minibatches of {options.minibatch}), {total:,} in {epochs}",
    )


# Warnings ---------------------------------------------------------------------------------


def _position_warnings(source: Path | str, max_length: int) -> Iterator[str]:
    positions = position_limit(source)
    if positions is not None and max_length > positions:
        yield f"max_length is {max_length}, and the model takes {positions} tokens at most"


def _looked_warnings(
    tokenizer: Any, template: Template, examples: Sequence[Example], looked: Looked
) -> Iterator[str]:
    if looked.over_long == "stop" and looked.counts.too_long:
        yield f"training stops: over_long is stop, and {looked.counts.too_long:,} rows are too long"
    if not looked.counts.kept:
        yield "training stops: no row has a token to train on"
    special = special_ids(tokenizer)
    ends = [row.ids[i] for row in looked.encoded if (i := last_learnt(row)) is not None]
    endless = sum(end not in special for end in ends)
    if endless:
        yield (
            f"in {endless:,} of {len(ends):,} rows the last learnt token is no special token: the "
            "model does not learn to end such answers; the template should write an end marker"
        )
    checked = [i for i, row in enumerate(looked.encoded) if last_learnt(row) is not None][:_CHECKED]
    asked = encode_prompts(
        tokenizer, template, [(_before_last(examples[i]), examples[i].meta) for i in checked]
    )
    other = sum(
        looked.encoded[i].ids[: len(ids)] != ids for i, ids in zip(checked, asked, strict=True)
    )
    if other:
        yield (
            f"in {other:,} of {len(checked):,} rows the prompt is not what the model would be "
            "asked when it generates; look at the template's generation prompt"
        )


def _frozen_warnings(options: SFTConfig, new: Sequence[str]) -> Iterator[str]:
    if new and (options.prompt_tuning is not None or options.adapter is not None):
        yield (
            "the tokens " + ", ".join(map(visible, new)) + " are new to the model, and neither "
            "prompt_tuning nor adapter can learn their embeddings (lora can)"
        )
    if new and options.freeze_embeddings:
        yield (
            "the tokens " + ", ".join(map(visible, new)) + " are new to the model, and "
            "freeze_embeddings keeps it from learning them"
        )


def _before_last(example: Example) -> Any:
    """The turns before the last answer."""
    turns = example.messages
    last = max(i for i, turn in enumerate(turns) if turn.role == "assistant")
    return turns[: last + 1]
