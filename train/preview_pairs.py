"""The preview of a reward model's pairs: both answers, and the token that the score is read at."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from espalier.encoding import Encoded
from espalier.errors import StageError, UsageError
from espalier.models import load_tokenizer, new_markers
from espalier.records import Message, PreferencePair
from espalier.rewarding import encode_answers
from espalier.run import StageContext
from espalier.templates import Template
from espalier.terminal import Brush, visible
from espalier.train.config_rl import RewardConfig
from espalier.train.label_noise import swap_labels
from espalier.train.preview_rows import (
    length_lines,
    line,
    model_lines,
    paint_cut,
    position_limit,
)
from espalier.train.reward import check_rankings, reading_of, reward_seed, rows_of, start_of
from espalier.train.reward_pairs import EncodedPair, encode_pairs, split
from espalier.train.sources import model_source


def preview_pairs(context: StageContext, brush: Brush, count: int, seed: int) -> Iterator[str]:
    """Painted pairs and a summary, line by line."""
    options: RewardConfig = context.options
    source = model_source(context, start_of(context))
    known = len(load_tokenizer(source))
    tokenizer, template = reading_of(context, source)
    new = new_markers(tokenizer, template.special_tokens)
    train, held_out, leaked = split(context, reward_seed(context))
    train, swapped = swap_labels(train, options.flip, reward_seed(context))
    limit = min(options.max_length, position_limit(source) or options.max_length)
    try:
        rows, lost = encode_pairs(tokenizer, template, train, limit, options)
        stops = None
    except StageError as error:
        rows, lost, stops = [], {}, error.what
    chosen = random.Random(f"{seed}:preview").sample(range(len(train)), min(count, len(train)))
    legend = brush.legend(learnt="answer", masked="prompt")
    yield f"{legend}; {brush.note('score')}: it is read at the token before"
    for number in sorted(chosen):
        yield ""
        note = ", labels swapped" if train[number].id in swapped else ""
        yield from _pair_lines(tokenizer, template, train[number], limit, options, brush, note)
    yield ""
    sides = [((*p.prompt, Message("assistant", p.chosen)), p.meta) for p in train[:100]]
    encoded = encode_answers(tokenizer, template, sides)
    yield from model_lines(source, tokenizer, template, new, encoded)
    if len(tokenizer) > known:
        yield line("", f"{len(tokenizer) - known:,} tokens more than this model has had")
    extra = f"; {leaked:,} left out for a held-out prompt" if leaked else ""
    yield line(
        "pairs", f"{len(train):,}: {len(rows):,} to train on, {len(held_out):,} held out{extra}"
    )
    if swapped:
        used = sum(row.id in swapped for row in rows)
        yield line("", f"{used:,} with swapped labels (flip: {options.flip:g})")
    if any(lost.values()):
        yield line("", ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in lost.items()))
    lengths = {"chosen": [len(r.chosen) for r in rows], "rejected": [len(r.rejected) for r in rows]}
    yield from length_lines(lengths)
    yield from _length_lines(rows)
    per_epoch = -(-len(rows_of(rows, options)) // options.minibatch)
    yield line("steps", f"{per_epoch:,} an epoch (minibatches of {options.minibatch})")
    if stops is None:
        try:
            check_rankings(rows_of(rows, options), options)
        except UsageError as error:
            stops = f"{error.what} {str(error.hint).capitalize()}."
    if stops is not None:
        yield f"warning: training stops: {stops}"


def _pair_lines(
    tokenizer: Any,
    template: Template,
    pair: PreferencePair,
    limit: int,
    options: RewardConfig,
    brush: Brush,
    note: str,
) -> Iterator[str]:
    margin = f", margin {pair.margin:g}" if pair.margin is not None and options.margin else ""
    try:
        (row,), _ = encode_pairs(tokenizer, template, [pair], limit, options)
    except StageError:
        same = pair.chosen == pair.rejected
        yield f"pair {visible(pair.id)}: left out, {'equal answers' if same else 'too long'}"
        return
    yield f"pair {visible(pair.id)}{margin}{note}"
    sides = (("chosen", row.chosen, pair.chosen), ("rejected", row.rejected, pair.rejected))
    for name, ids, answer in sides:
        turns = (*pair.prompt, Message("assistant", answer))
        (whole,) = encode_answers(tokenizer, template, [(turns, pair.meta)])
        cut = len(whole) - len(ids)
        yield f"  {name}: {len(ids):,} tokens" + (f", {cut:,} cut off" if cut else "")
        yield _painted(tokenizer, whole, ids, brush) + brush.note("score")


def _painted(tokenizer: Any, whole: Encoded, ids: Sequence[int], brush: Brush) -> str:
    """The side as it is scored; where it was cut, the places are shown."""
    taken = next(
        k for k in range(len(whole)) if whole.ids[1 + k : k + len(ids)] == list(ids[1:])
    )  # tokens lost after the first
    return paint_cut(tokenizer, whole, brush, taken, len(whole) - taken - len(ids))


def _length_lines(rows: Sequence[EncodedPair]) -> Iterator[str]:
    if rows:
        longer = sum(len(row.chosen) > len(row.rejected) for row in rows)
        yield line("chosen", f"longer than rejected in {100 * longer / len(rows):.1f} %")
