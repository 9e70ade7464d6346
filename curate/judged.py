"""Prompts with their chosen answers: the judge's best of the teacher's samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from espalier.curate.best import best_of, rubric_score
from espalier.curate.config_preferences import PreferencesConfig
from espalier.curate.filters import Rule
from espalier.curate.pipeline import Ledger, Tally
from espalier.curate.rankings import Ranking, rank_answers
from espalier.curate.respond import batches, sample_answers
from espalier.curate.verdicts import Doubts, Said, question
from espalier.engines.base import Completion, Engine, Sampling
from espalier.judging import Judge
from espalier.records import Example, Messages
from espalier.text import language


@dataclass(frozen=True, slots=True)
class WeakAnswer:
    """A weaker teacher's answer. `better`: the judge prefers it; `said`: what the judge said."""

    text: str
    teacher: str
    better: bool = False
    said: Said | None = None


@dataclass(slots=True)
class Judged:
    """A prompt with its chosen answer and the samples that the judge put lower.

    `said` is what the judge said of such a sample; with a `ranking`, that says it all.
    """

    row: Example
    chosen: str
    worse: list[tuple[str, float | None]] = field(default_factory=list)
    said: dict[str, Said] = field(default_factory=dict)
    ranking: Ranking | None = None
    weak: WeakAnswer | None = None

    @property
    def language(self) -> str:
        return str(self.row.meta.get("language") or language(self.row.prompt))

    @property
    def category(self) -> str | None:
        value = self.row.meta.get("category")
        return value if isinstance(value, str) else None


def judged_answers(
    rows: Iterable[Example],
    teacher: Engine,
    judge: Judge,
    config: PreferencesConfig,
    rules: Sequence[tuple[str, Rule]],
    ledger: Ledger,
    seed: int,
    comparisons: Tally | None = None,
) -> Iterator[Judged]:
    """Sample the teacher, let the judge choose; prompts without a usable best are rejects.

    `comparisons` counts the judge's comparisons (or ratings), the undecided ones as rejects.
    """
    tally = ledger.tally("best of samples")
    sampling = Sampling(temperature=config.temperature, max_tokens=config.max_tokens, seed=seed)
    for batch in batches(rows):
        tally.seen += len(batch)
        drawn = sample_answers(teacher, batch, sampling, config.samples)
        answers = [
            [c.text.strip() for c in listed if c.finish_reason == "stop"] for listed in drawn
        ]
        chosen = _choose(judge, batch, answers, config)
        accepted = _accepted(judge, batch, chosen, config)
        for row, samples, entry, good in zip(batch, drawn, chosen, accepted, strict=True):
            if entry is None:
                tally.reject(row, "no_sample", _unusable(samples))
                continue
            item, doubts = entry
            if comparisons is not None:
                doubts.record(comparisons, row, question(row.prompt_messages))
            answered = row.with_response(item.chosen)
            broken = next(((n, e) for n, rule in rules if (e := rule(answered)) is not None), None)
            if broken is not None:
                tally.reject(answered, *broken)
            elif not good:
                tally.reject(answered, "low_rating", f"best of {config.samples} samples")
            else:
                tally.kept += 1
                yield item


def _unusable(samples: Sequence[Completion]) -> str:
    """Why there is nothing to choose from."""
    reasons = Counter(sample.finish_reason for sample in samples)
    if reasons["stop"]:
        return f"the marks of {reasons['stop']} complete samples could not be read"
    counts = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    return f"no sample is complete ({counts}); the first ends in: {samples[0].text[-120:]}"


def _choose(
    judge: Judge,
    rows: Sequence[Example],
    answers: Sequence[Sequence[str]],
    config: PreferencesConfig,
) -> list[tuple[Judged, Doubts] | None]:
    """Each prompt with its best answer, and what the judge could not decide about it."""
    prompts: list[Messages] = [row.prompt_messages for row in rows]
    if config.ranking is None:
        best = best_of(judge, prompts, answers, config.choose_by)
        return [
            None
            if r is None
            else (Judged(row, r.best, r.worse, r.said if config.reasons else {}), r.doubts)
            for row, r in zip(rows, best, strict=True)
        ]
    ranked = rank_answers(judge, prompts, answers, config.ranking.by)
    return [
        None if r is None else (Judged(row, r.standings[0].text, ranking=r), r.doubts)
        for row, r in zip(rows, ranked, strict=True)
    ]


def _accepted(
    judge: Judge,
    rows: Sequence[Example],
    chosen: Sequence[tuple[Judged, Doubts] | None],
    config: PreferencesConfig,
) -> list[bool]:
    """Whether the rubric gives each winner at least `min_rating`."""
    if config.min_rating is None:
        return [True] * len(chosen)
    items = [
        (question(row.prompt_messages), "" if entry is None else entry[0].chosen)
        for row, entry in zip(rows, chosen, strict=True)
    ]
    return [
        rubric is not None and rubric_score(rubric) >= config.min_rating
        for rubric in judge.rate(items)
    ]
