"""Draws distinct prompts from the task families, a fair share from each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random

from espalier.errors import UsageError, did_you_mean
from espalier.offline.families import BY_NAME, FAMILIES
from espalier.offline.family import Family
from espalier.records import Example
from espalier.text import normalise

SOURCE = "procedural"
_MISSES = 200
"""So many draws in a row without a new prompt: the family has (all but) run out."""


@dataclass(frozen=True)
class Drawn:
    """Prompts in the order drawn, and how many each family that ran out could give."""

    examples: list[Example]
    ran_out: dict[str, int]


def draw(
    count: int,
    *,
    languages: Sequence[str] = ("en", "zh"),
    families: Sequence[str] | None = None,
    seed: int = 0,
    exclude: Collection[str] = (),
) -> Drawn:
    """Draw `count` prompts, distinct after `text.normalise` and none of those in `exclude`.

    The families take turns in an order that is shuffled each round, so that counts differ by
    one at most until small families run out; from then on the others fill up. `exclude` holds
    normalised prompts. Raises UsageError for an unknown family or language, and when all
    families together have fewer prompts than asked for.
    """
    rng = Random(f"{seed}:prompts")
    chosen = _choose(languages, families)
    taken = exclude if isinstance(exclude, set | frozenset | dict) else frozenset(exclude)
    own: set[str] = set()
    made = {family.name: 0 for family in chosen}
    ran_out: dict[str, int] = {}
    examples: list[Example] = []
    while len(examples) < count:
        active = [family for family in chosen if family.name not in ran_out]
        if not active:
            raise UsageError(
                f"The task families have only {len(examples)} of the {count} prompts asked for.",
                expected=f"at most {len(examples)} with these families and exclusions",
                hint="ask for fewer, or allow more families or languages",
            )
        rng.shuffle(active)
        for family in active[: count - len(examples)]:
            example = _fresh(family, rng, taken, own)
            if example is None:
                ran_out[family.name] = made[family.name]
            else:
                made[family.name] += 1
                examples.append(example)
    return Drawn(examples, ran_out)


def draw_prompts(
    count: int,
    *,
    languages: Sequence[str] = ("en", "zh"),
    families: Sequence[str] | None = None,
    seed: int = 0,
    exclude: Collection[str] = (),
) -> list[Example]:
    """The prompts of `draw`, without the account of families that ran out."""
    return draw(count, languages=languages, families=families, seed=seed, exclude=exclude).examples


def _fresh(family: Family, rng: Random, taken: Collection[str], own: set[str]) -> Example | None:
    for _ in range(_MISSES):
        prompt, answer = family.draw(rng)
        key = normalise(prompt)
        if key not in taken and key not in own:
            own.add(key)
            return Example.single(
                prompt,
                meta={
                    "source": SOURCE,
                    "language": family.language,
                    "category": family.name,
                    "group": family.group,
                    "reference": answer,
                },
            )
    return None


def _choose(languages: Sequence[str], names: Sequence[str] | None) -> list[Family]:
    unknown = [name for name in names or () if name not in BY_NAME]
    if unknown:
        raise UsageError(
            f"There is no task family '{unknown[0]}'.",
            expected=", ".join(BY_NAME),
            hint=did_you_mean(unknown[0], BY_NAME),
        )
    chosen = [
        family
        for family in FAMILIES
        if family.language in languages and (names is None or family.name in names)
    ]
    if not chosen:
        raise UsageError(
            f"No task family is left for the languages {', '.join(languages) or '(none)'}.",
            expected="at least one of en, zh",
        )
    return chosen
