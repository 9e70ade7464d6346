"""Preference pairs: the best of several teacher answers, and a worse one.

The chosen answer is the judge's best of n samples. The rejected one is a sample that the judge
put lower, a weaker teacher's answer (`weak.py`), or a corruption of the chosen one
(`corruptions.py`). Each pair draws its own corruption; no (prompt, rejected) occurs twice, and
the pairs for the evaluation's reward model come from other prompts. Where all samples are ranked
(`rankings.py`), each ranking gives a group of pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from random import Random

from espalier.curate.config_preferences import WEAK, Expand, PreferencesConfig
from espalier.curate.corruptions import CORRUPTIONS, Setting, corrupt
from espalier.curate.decontaminate import families
from espalier.curate.filters import Rule
from espalier.curate.judged import Judged, WeakAnswer
from espalier.curate.lineage import parents_of_made
from espalier.curate.pipeline import Tally
from espalier.curate.rankings import expand
from espalier.curate.verdicts import with_judge
from espalier.records import Example, Messages, PreferencePair, messages_id
from espalier.text import language, normalise

SAMPLE = "sample"
RANKING = "ranking"
_OTHERS = 64  # other answers of a category that a corruption may draw on
_TRIES = 6
_PASSES = 4


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


Confirm = Callable[[list[PreferencePair]], list[PreferencePair]]


def make_pairs(
    judged: Sequence[Judged],
    answers: Answers,
    config: PreferencesConfig,
    count: int | None,
    seed: str,
    confirm: Confirm | None = None,
) -> Iterator[PreferencePair]:
    """Up to `count` pairs (all that `per_prompt` allows when None), prompts in turn.

    When one pass over the prompts gives too few, further passes draw further corruptions.
    `confirm` gets the corruptions of a pass and returns those to keep.
    """
    made = {
        (item.row.prompt_messages, standing.text)
        for item in judged
        if item.ranking is not None
        for standing in item.ranking.standings
    }
    total = 0
    for number in range(_PASSES if count is not None else 1):
        limit = None if count is None else count - total
        drawn: Iterable[PreferencePair] = _one_pass(
            judged, answers, config, made, limit, f"{seed}:{number}"
        )
        before, found = len(made), 0
        if confirm is not None:
            drawn = _confirmed(list(drawn), confirm)
        for pair in drawn:
            found += 1
            yield pair
        total += found
        if len(made) == before or total == count:
            return


def _one_pass(
    judged: Sequence[Judged],
    answers: Answers,
    config: PreferencesConfig,
    made: set[tuple[Messages, str]],
    limit: int | None,
    seed: str,
) -> Iterator[PreferencePair]:
    each = config.per_prompt if config.ranking is None else config.ranking.extra
    total = 0
    for item in judged:
        rng = Random(f"{seed}:{item.row.id}")
        others = answers.others(item, rng)
        for _ in range(each):
            if limit is not None and total >= limit:
                return
            pair = _pair(item, others, config.kinds, made, rng)
            if pair is not None:
                total += 1
                yield pair


def _confirmed(pairs: Sequence[PreferencePair], confirm: Confirm) -> list[PreferencePair]:
    """The pairs in their order, without the corruptions that are not confirmed."""
    corrupted = [pair for pair in pairs if pair.meta["kind"] in CORRUPTIONS]
    good = {pair.id: pair for pair in confirm(corrupted)}
    kept = [good.get(p.id) if p.meta["kind"] in CORRUPTIONS else p for p in pairs]
    return [pair for pair in kept if pair is not None]


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
        elif kind == WEAK:
            rejected = None if item.weak is None else item.weak.text
        else:
            rejected = corrupt(kind, item.chosen, setting, rng)
        if rejected is None or (prompt, rejected) in made or rejected == item.chosen:
            continue
        made.add((prompt, rejected))
        if kind == WEAK and item.weak is not None:
            return _weak_pair(item, item.weak)
        pair = PreferencePair.make(
            prompt, item.chosen, rejected, margin=margin, meta=pair_meta(item.row, kind)
        )
        return with_judge(pair, item.said.get(rejected) if kind == SAMPLE else None)
    return None


def _weak_pair(item: Judged, weak: WeakAnswer) -> PreferencePair:
    chosen, rejected = item.chosen, weak.text
    if weak.better:
        chosen, rejected = rejected, chosen
    meta = {**pair_meta(item.row, WEAK), "weak_teacher": weak.teacher}
    if weak.better:
        meta["flipped"] = True
    pair = PreferencePair.make(item.row.prompt_messages, chosen, rejected, meta=meta)
    return with_judge(pair, weak.said)


def ranking_pairs(
    judged: Iterable[Judged],
    how: Expand,
    rules: Sequence[tuple[str, Rule]],
    tally: Tally,
    count: int | None = None,
) -> Iterator[PreferencePair]:
    """Up to `count` pairs of the rankings, each prompt's together.

    The margin is the difference of the scores; the pairs of a prompt share `meta.ranking`. Pairs
    of equal rank, and those whose better answer breaks a rule, are rejects.
    """
    total = 0
    for item in judged:
        if item.ranking is None:
            continue
        group = messages_id(item.row.prompt_messages)
        for better, worse in expand(item.ranking.standings, how):
            if count is not None and total >= count:
                return
            tally.seen += 1
            pair = PreferencePair.make(
                item.row.prompt_messages,
                better.text,
                worse.text,
                margin=better.score - worse.score,
                meta={
                    **pair_meta(item.row, RANKING),
                    "ranking": group,
                    "ranks": [better.rank, worse.rank],
                },
            )
            said = item.ranking.said.get((better.text, worse.text))
            answered = item.row.with_response(better.text)
            broken = next(((n, e) for n, rule in rules if (e := rule(answered)) is not None), None)
            if better.rank == worse.rank:
                broken = "equal_rank", f"both have rank {better.rank}, score {better.score:g}"
            if broken is not None:
                tally.reject(with_judge(pair, said), *broken)
                continue
            tally.kept += 1
            total += 1
            yield with_judge(pair, said)


def pair_meta(row: Example, kind: str) -> dict[str, object]:
    """What a pair says of its prompt's row and of how its rejected answer came about."""
    kept: dict[str, object] = {
        name: row.meta[name]
        for name in ("source", "language", "category", "group", "part", "of_parts")
        if name in row.meta
    }
    kept.setdefault("language", language(row.prompt))
    return {**kept, "kind": kind, "parents": parents_of_made(row), "operator": "preferences"}


def split_by_prompt(
    pairs: Iterable[PreferencePair], eval_count: int, seed: str
) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """(training, evaluation) pairs; all pairs of one prompt or dialogue go the same way.

    Whole prompts in a seeded order go to the evaluation until it has `eval_count` pairs.
    """
    given = list(pairs)
    training: list[PreferencePair] = []
    evaluation: list[PreferencePair] = []
    for places in families(given, seed):
        side = evaluation if len(evaluation) < eval_count else training
        side.extend(given[place] for place in places)
    return training, evaluation


def split_prompts(
    judged: Sequence[Judged], count: int | None, eval_count: int, seed: str
) -> tuple[list[Judged], list[Judged]]:
    """(training, evaluation) prompts in proportion to the pairs that each side wants; all parts of
    a dialogue go the same way."""
    share = 1 if count is None else count + eval_count
    wanted = eval_count if count is None else -(-len(judged) * eval_count // share)
    training: list[Judged] = []
    evaluation: list[Judged] = []
    for places in families([item.row for item in judged], seed):
        side = evaluation if len(evaluation) < wanted else training
        side.extend(judged[place] for place in places)
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
