"""Preference pairs: the best of several teacher answers, and a worse one.

The chosen answer is the judge's best of n samples. The rejected one is a sample that the judge
put lower, or a corruption of the chosen one (`corruptions.py`). Each pair draws its own
corruption; no (prompt, rejected) occurs twice, and the pairs for the evaluation's reward model
come from other prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from espalier.curate.best import Ranked, best_of, question, rubric_score
from espalier.curate.config_preferences import PreferencesConfig
from espalier.curate.corruptions import Setting, corrupt
from espalier.curate.decontaminate import draw_order
from espalier.curate.dedup import prompt_key
from espalier.curate.filters import Rule
from espalier.curate.pipeline import Ledger, Tally
from espalier.curate.respond import batches, sample_answers
from espalier.engines.base import Engine, Sampling
from espalier.judging import Judge
from espalier.records import Example, Messages, PreferencePair
from espalier.text import language, normalise

SAMPLE = "sample"
_OTHERS = 64  # other answers of a category that a corruption may draw on
_TRIES = 6
_PASSES = 4


@dataclass(slots=True)
class Judged:
    """A prompt with its chosen answer and the samples that the judge put lower."""

    row: Example
    chosen: str
    worse: list[tuple[str, float | None]] = field(default_factory=list)

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
) -> Iterator[Judged]:
    """Sample the teacher, let the judge choose; prompts without a usable best are rejects."""
    tally = ledger.tally("best of samples")
    sampling = Sampling(temperature=config.temperature, max_tokens=config.max_tokens, seed=seed)
    for batch in batches(rows):
        tally.seen += len(batch)
        drawn = sample_answers(teacher, batch, sampling, config.samples)
        answers = [
            [c.text.strip() for c in listed if c.finish_reason == "stop"] for listed in drawn
        ]
        prompts = [row.prompt_messages for row in batch]
        ranked = best_of(judge, prompts, answers, config.choose_by)
        accepted = _accepted(judge, prompts, ranked, config)
        for row, entry, good in zip(batch, ranked, accepted, strict=True):
            if entry is None:
                tally.reject(row, "no_sample", "no sample was complete and could be judged")
                continue
            answered = row.with_response(entry.best)
            broken = next(((n, e) for n, rule in rules if (e := rule(answered)) is not None), None)
            if broken is not None:
                tally.reject(answered, *broken)
            elif not good:
                tally.reject(answered, "low_rating", f"best of {config.samples} samples")
            else:
                tally.kept += 1
                yield Judged(row, entry.best, entry.worse)


def _accepted(
    judge: Judge,
    prompts: Sequence[Messages],
    ranked: Sequence[Ranked | None],
    config: PreferencesConfig,
) -> list[bool]:
    """Whether the rubric gives each winner at least `min_rating`."""
    if config.min_rating is None:
        return [True] * len(ranked)
    items = [
        (question(prompt), "" if entry is None else entry.best)
        for prompt, entry in zip(prompts, ranked, strict=True)
    ]
    return [
        rubric is not None and rubric_score(rubric) >= config.min_rating
        for rubric in judge.rate(items)
    ]


class Answers:
    """The chosen answers by language and category, for corruptions that need another one."""

    def __init__(self, judged: Iterable[Judged]) -> None:
        self._by_category: dict[tuple[str, str | None], list[str]] = {}
        for item in judged:
            key = (item.language, item.category)
            self._by_category.setdefault(key, []).append(item.chosen)

    def others(self, item: Judged, rng: Random) -> list[str]:
        """A sample of the category's answers that differ from this one."""
        pool = self._by_category.get((item.language, item.category), [])
        picked = rng.sample(pool, min(_OTHERS, len(pool)))
        own = normalise(item.chosen)
        return [answer for answer in picked if normalise(answer) != own]


def make_pairs(
    judged: Sequence[Judged],
    answers: Answers,
    config: PreferencesConfig,
    count: int | None,
    seed: str,
) -> Iterator[PreferencePair]:
    """Up to `count` pairs (all that `per_prompt` allows when None), prompts in turn.

    When one pass over the prompts gives too few, further passes draw further corruptions.
    """
    made: set[tuple[Messages, str]] = set()
    total = 0
    for number in range(_PASSES if count is not None else 1):
        before = total
        for item in judged:
            rng = Random(f"{seed}:{number}:{item.row.id}")
            others = answers.others(item, rng)
            for _ in range(config.per_prompt):
                if count is not None and total >= count:
                    return
                pair = _pair(item, others, config.kinds, made, rng)
                if pair is not None:
                    total += 1
                    yield pair
        if total == before:
            return


def _pair(
    item: Judged,
    others: Sequence[str],
    kinds: Mapping[str, float],
    made: set[tuple[Messages, str]],
    rng: Random,
) -> PreferencePair | None:
    """One pair of a kind drawn by weight, of those that apply and were not made before."""
    names = [name for name, weight in kinds.items() if weight > 0]
    weights = [kinds[name] for name in names]
    setting = Setting(item.row.prompt, item.language, others)
    prompt = item.row.prompt_messages
    for kind in rng.choices(names, weights, k=_TRIES):
        margin: float | None = None
        if kind == SAMPLE:
            fresh = [pair for pair in item.worse if (prompt, pair[0]) not in made]
            rejected, margin = rng.choice(fresh) if fresh else (None, None)
        else:
            rejected = corrupt(kind, item.chosen, setting, rng)
        if rejected is None or (prompt, rejected) in made or rejected == item.chosen:
            continue
        made.add((prompt, rejected))
        return PreferencePair.make(
            prompt, item.chosen, rejected, margin=margin, meta=pair_meta(item.row, kind)
        )
    return None


def pair_meta(row: Example, kind: str) -> dict[str, object]:
    """What a pair says of its prompt's row and of how its rejected answer came about."""
    kept: dict[str, object] = {
        name: row.meta[name]
        for name in ("source", "language", "category", "group")
        if name in row.meta
    }
    kept.setdefault("language", language(row.prompt))
    return {**kept, "kind": kind, "parents": [row.id], "operator": "preferences"}


def split_by_prompt(
    pairs: Iterable[PreferencePair], eval_count: int, seed: str
) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """(training, evaluation) pairs; all pairs of one prompt go the same way.

    Whole prompts in a seeded order go to the evaluation until it has `eval_count` pairs.
    """
    groups: dict[bytes, list[PreferencePair]] = {}
    for pair in pairs:
        groups.setdefault(prompt_key(pair.prompt), []).append(pair)
    training: list[PreferencePair] = []
    evaluation: list[PreferencePair] = []
    for key in sorted(groups, key=lambda key: draw_order(key, seed)):
        (evaluation if len(evaluation) < eval_count else training).extend(groups[key])
    return training, evaluation


def split_prompts(
    judged: Sequence[Judged], count: int | None, eval_count: int, seed: str
) -> tuple[list[Judged], list[Judged]]:
    """(training, evaluation) prompts in proportion to the pairs that each side wants."""
    groups: dict[bytes, list[Judged]] = {}
    for item in judged:
        groups.setdefault(prompt_key(item.row.prompt_messages), []).append(item)
    order = sorted(groups, key=lambda key: draw_order(key, seed))
    share = 1 if count is None else count + eval_count
    wanted = eval_count if count is None else -(-len(judged) * eval_count // share)
    training: list[Judged] = []
    evaluation: list[Judged] = []
    for key in order:
        (evaluation if len(evaluation) < wanted else training).extend(groups[key])
    return training, evaluation


def check_pairs(
    pairs: Iterable[PreferencePair], rules: Sequence[tuple[str, Rule]], tally: Tally
) -> Iterator[PreferencePair]:
    """Keep pairs that can teach something: two different answers to one good prompt, once."""
    seen: set[str] = set()
    for pair in pairs:
        tally.seen += 1
        row = Example.make(pair.prompt, pair.meta)
        broken = next(((n, e) for n, rule in rules if (e := rule(row)) is not None), None)
        if broken is not None:
            tally.reject(pair, *broken)
        elif pair.chosen.strip() == pair.rejected.strip():
            tally.reject(pair, "same_answers", "chosen and rejected are equal")
        elif not pair.chosen.strip():
            tally.reject(pair, "empty_answer", "the chosen answer is empty")
        elif pair.id in seen:
            tally.reject(pair, "duplicate_pair", "prompt, chosen and rejected were seen before")
        else:
            seen.add(pair.id)
            tally.kept += 1
            yield pair
