"""Steps on rows, used on preference pairs: both answers are looked at, repaired, masked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from espalier.curate.pipeline import Step, Tally
from espalier.records import Example, Message, PreferencePair

PairStep = Callable[[Iterable[PreferencePair], Tally], Iterator[PreferencePair]]


def on_pairs(step: Step) -> PairStep:
    """The step for pairs: a pair goes through it as a row that ends in both answers.

    For steps that look at each row alone (repair, PII, word lists, contamination). Counts what
    comes in and goes out. A changed pair gets the id of its new texts.
    """

    def pair_step(pairs: Iterable[PreferencePair], tally: Tally) -> Iterator[PreferencePair]:
        for pair in pairs:
            tally.seen += 1
            for row in step([_row(pair)], tally):
                tally.kept += 1
                yield _pair(pair, row)

    return pair_step


def _row(pair: PreferencePair) -> Example:
    answers = (Message("assistant", pair.chosen), Message("assistant", pair.rejected))
    return Example(pair.id, (*pair.prompt, *answers), pair.meta)


def _pair(pair: PreferencePair, row: Example) -> PreferencePair:
    prompt, chosen, rejected = row.messages[:-2], row.messages[-2].content, row.messages[-1].content
    if (prompt, chosen, rejected) == (pair.prompt, pair.chosen, pair.rejected):
        return PreferencePair(pair.id, prompt, chosen, rejected, pair.margin, row.meta)
    return PreferencePair.make(prompt, chosen, rejected, margin=pair.margin, meta=row.meta)
