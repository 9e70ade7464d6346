"""Preference pairs for a reward model: read, split by prompt, encoded, gathered into rankings."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from espalier.encoding import Encoded, truncate_prompt
from espalier.errors import StageError
from espalier.records import Message, PreferencePair, dialogue_of, messages_id
from espalier.rewarding import answer_tokens, encode_answers
from espalier.run import StageContext
from espalier.templates import Template
from espalier.together import together
from espalier.train.config_rl import PairSource, RewardConfig
from espalier.train.validation_rows import turns_name

# (place of the better answer, of the worse one, margin)
Comparison = tuple[int, int, float]
Weighted = tuple[PreferencePair, int]


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """Token ids of both conversations, up to the end of the answer.

    `chosen_tokens` and `rejected_tokens` are the lengths of the answers alone; `ranking` is the
    name of the ranking that the pair is of, `stated` whether it came with a margin.
    """

    chosen: list[int]
    rejected: list[int]
    margin: float
    kind: str
    language: str
    source: str = "other"
    id: str = ""
    prompt: str = ""
    ranking: str | None = None
    chosen_tokens: int = 0
    rejected_tokens: int = 0

    @property
    def answers(self) -> tuple[list[int], ...]:
        return self.chosen, self.rejected

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        return ((0, 1, self.margin),)


@dataclass(frozen=True, slots=True)
class EncodedRanking:
    """The distinct answers to one prompt, and which is better than which, by how much."""

    answers: tuple[list[int], ...]
    comparisons: tuple[Comparison, ...]
    id: str = ""


Row = EncodedPair | EncodedRanking


# Reading and splitting --------------------------------------------------------------------


def pair_sources(context: StageContext) -> list[PairSource]:
    """The recipe's files; by default those of curate and (where there are any) of pairs."""
    options: RewardConfig = context.options
    if options.pairs is not None:
        return [s for s in options.pairs if not s.optional or context.path(s.path).exists()]
    name = "preferences_eval.jsonl" if context.stage == "reward_eval" else "preferences.jsonl"
    sources = [PairSource.model_validate({"path": f"curate/{name}"})]
    if context.path(f"pairs/{name}").exists():
        sources.append(PairSource.model_validate({"path": f"pairs/{name}"}))
    return sources


def read_all(context: StageContext, seed: int) -> list[Weighted]:
    """All pairs with how often each is used; limits are drawn by the seed."""
    return [
        (pair, source.weight)
        for source in pair_sources(context)
        for pair in read_source(context, source, seed)
    ]


def read_source(context: StageContext, source: PairSource, seed: int) -> list[PreferencePair]:
    """The pairs of one file, `limit` of them drawn by the seed."""
    from espalier.formats.read import read_pairs

    pairs = list(read_pairs(context.path(source.path), format=source.format))
    if source.limit is not None and source.limit < len(pairs):
        chosen = random.Random(f"{seed}:{source.path}").sample(range(len(pairs)), source.limit)
        pairs = [pairs[i] for i in sorted(chosen)]
    return pairs


def prompt_name(pair: PreferencePair) -> str:
    """Equal for prompts that differ in width, case, spacing or punctuation only."""
    return turns_name(pair.prompt)


def split(
    context: StageContext, seed: int
) -> tuple[list[PreferencePair], list[PreferencePair], int]:
    """(training pairs, held-out pairs, pairs left out of training for a held-out prompt)."""
    options: RewardConfig = context.options
    pairs = read_all(context, seed)
    if options.validation is None:
        train, held_out = split_by_prompt(pairs, options, seed)
        return train, held_out, 0
    held_out = [
        pair for source in options.validation for pair in read_source(context, source, seed)
    ]
    return apart_from(pairs, held_out)


def split_by_prompt(
    pairs: Sequence[Weighted], options: RewardConfig, seed: int
) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """(training pairs, each as often as its file says; held-out pairs): no prompt is in both.

    Prompts that differ in width, case, spacing or punctuation only are one prompt, and so are the
    parts of a dialogue that was split.
    """
    groups = together((prompt_name(pair), dialogue_of(pair)) for pair, _ in pairs)
    left = list(range(len(groups)))
    random.Random(f"{seed}:held out").shuffle(left)
    left.sort(key=lambda number: not groups[number].linked)
    wanted = min(options.validation_limit, round(len(pairs) * options.validation_fraction))
    held_out: list[PreferencePair] = []
    while left and len(held_out) < max(wanted, 1):
        held_out += [pairs[place][0] for place in groups[left.pop()].places]
    kept = [pairs[place] for number in sorted(left) for place in groups[number].places]
    train = [pair for pair, weight in kept for _ in range(weight)]
    if not train:
        raise StageError(
            f"{len(pairs):,} preference pairs are too few to train on and to measure with.",
            expected="pairs on at least two prompts",
            hint="add files to train.reward.pairs, or make more pairs in curate",
        )
    return train, held_out


def apart_from(
    pairs: Sequence[Weighted], held_out: Sequence[PreferencePair]
) -> tuple[list[PreferencePair], list[PreferencePair], int]:
    """Training pairs, each as often as its file says, without those on a held-out prompt or of
    the same dialogue; the held-out pairs; and how many were left out."""
    names = {prompt_name(pair) for pair in held_out}
    dialogues = {dialogue_of(pair) for pair in held_out} - {None}
    kept = [
        (pair, weight)
        for pair, weight in pairs
        if prompt_name(pair) not in names and dialogue_of(pair) not in dialogues
    ]
    train = [pair for pair, weight in kept for _ in range(weight)]
    for found, what in ((train, "train on"), (held_out, "validate with")):
        if not found:
            raise StageError(
                f"There is no preference pair to {what}.",
                expected="training pairs on other prompts than those of `validation`",
                hint="correct train.reward.pairs or train.reward.validation",
            )
    return train, list(held_out), len(pairs) - len(kept)


# Encoding ---------------------------------------------------------------------------------


def encode_pairs(
    tokenizer: Any,
    template: Template,
    pairs: Sequence[PreferencePair],
    limit: int,
    options: RewardConfig,
) -> tuple[list[EncodedPair], dict[str, int]]:
    """Encode both sides of each pair; counts pairs lost as too long or with equal sides.

    A pair that is cut to `limit` tokens loses the same tokens of the prompt on both sides.
    Raises StageError when none is left, or for a long one where the recipe says "stop".
    """
    sides = [
        encode_answers(
            tokenizer,
            template,
            [((*p.prompt, Message("assistant", answer)), p.meta) for p, answer in answers],
        )
        for answers in ([(p, p.chosen) for p in pairs], [(p, p.rejected) for p in pairs])
    ]
    rows, lost = [], {"too_long": 0, "equal": 0}
    for pair, *both in zip(pairs, *sides, strict=True):
        fitted = _fit(both, limit, pair, options)
        if fitted is None:
            lost["too_long"] += 1
        elif fitted[0].ids == fitted[1].ids:
            lost["equal"] += 1
        else:
            rows.append(_row(pair, *fitted, margin=options.margin))
    if not rows:
        raise StageError(
            f"None of {len(pairs):,} preference pairs can be used.",
            expected=f"two different answers that fit in {limit} tokens with their prompt",
            hint="look at the files with `espalier inspect FILE`",
        )
    return rows, lost


def _row(pair: PreferencePair, chosen: Encoded, rejected: Encoded, *, margin: bool) -> EncodedPair:
    meta: Mapping[str, Any] = pair.meta
    kind, language, source = (str(meta.get(k, "other")) for k in ("kind", "language", "source"))
    name = prompt_name(pair)
    ranking = meta.get("ranking")
    return EncodedPair(
        chosen.ids,
        rejected.ids,
        pair.margin if margin and pair.margin is not None else 0.0,
        kind,
        language,
        source,
        pair.id,
        name,
        # The same file may rank one prompt's answers in several places.
        None if ranking is None else f"{ranking}:{messages_id(pair.prompt)}",
        answer_tokens(chosen),
        answer_tokens(rejected),
    )


def _fit(
    sides: Sequence[Encoded], limit: int, pair: PreferencePair, options: RewardConfig
) -> list[Encoded] | None:
    longest = max(map(len, sides))
    if longest <= limit:
        return list(sides)
    if options.over_long == "stop":
        raise StageError(
            f"A preference pair has {longest:,} tokens.",
            where=f"pair {pair.id}",
            expected=f"at most {limit:,} (max_length)",
            hint="raise max_length, or set over_long to truncate or drop",
        )
    if options.over_long == "drop":
        return None
    # Both answers are judged in the same context: the opening token and the marker of the answer
    # stay, as `truncate_prompt` keeps them.
    excess = longest - limit
    shared = [
        truncate_prompt(side, len(side) - max(0, min(excess, len(side) - answer_tokens(side) - 2)))
        for side in sides
    ]
    return [truncate_prompt(side, limit) for side in shared]


# Rankings ---------------------------------------------------------------------------------


def group_rankings(rows: Sequence[EncodedPair]) -> list[Row]:
    """Rows in order; the pairs of one ranking become one row.

    A pair that is there again (its file counts several times) opens the next row of its ranking.
    A ranking with a single pair stays a pair.
    """
    members: dict[tuple[str, int], list[EncodedPair]] = {}
    order: list[EncodedPair | tuple[str, int]] = []
    seen: dict[tuple[str, str], int] = {}
    for row in rows:
        if row.ranking is None:
            order.append(row)
            continue
        turn = seen[row.ranking, row.id] = seen.get((row.ranking, row.id), -1) + 1
        key = (row.ranking, turn)
        if key not in members:
            order.append(key)
        members.setdefault(key, []).append(row)
    return [item if isinstance(item, EncodedPair) else _ranking(members[item]) for item in order]


def _ranking(pairs: Sequence[EncodedPair]) -> Row:
    if len(pairs) == 1:
        return pairs[0]
    places: dict[tuple[int, ...], int] = {}
    for ids in (ids for pair in pairs for ids in pair.answers):
        places.setdefault(tuple(ids), len(places))
    comparisons = tuple(
        (places[tuple(p.chosen)], places[tuple(p.rejected)], p.margin) for p in pairs
    )
    return EncodedRanking(tuple(list(ids) for ids in places), comparisons, pairs[0].id)
