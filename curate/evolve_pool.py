"""What Evol-Instruct begins with: the pool of instructions, and the rows that are fit for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from espalier.curate.config_evolve import EvolveConfig
from espalier.curate.options import Language
from espalier.curate.pipeline import Tally
from espalier.errors import StageError
from espalier.records import Example
from espalier.text import is_cjk, language, length, stable_hash

Verdict = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """An instruction of the pool: its row, the row that its line began with, steps since then."""

    row: Example
    root: Example
    depth: int = 0

    @property
    def language(self) -> Language:
        """The language to ask in: Chinese for Chinese, English for all else.

        The line's first instruction decides: later ones may hold more code than words.
        """
        return "zh" if language(self.root.prompt) == "zh" else "en"

    def language_of(self, text: str) -> str:
        """The language of a text made from this entry; a Chinese one may hold more code."""
        if self.language == "zh" and any(map(is_cjk, text)):
            return "zh"
        return language(text)


def start_pool(
    rows: Sequence[Example], config: EvolveConfig, seed: int, tally: Tally
) -> list[Entry]:
    """The rows to begin with, in their order.

    Rows that can't be evolved are rejects; with `limit` the rows are a seeded sample. Raises
    StageError when no row is left.
    """
    chosen = [
        row for row in rows if config.sources is None or row.meta.get("source") in config.sources
    ]
    order = list(range(len(chosen)))
    if config.limit is not None and config.limit < len(chosen):
        order.sort(key=lambda place: stable_hash(f"{seed}:evolve:{place}:{chosen[place].id}"))
    taken: list[int] = []
    for place in order:
        if len(taken) == config.limit:
            break
        tally.seen += 1
        verdict = _unfit(chosen[place], config)
        if verdict is None:
            tally.kept += 1
            taken.append(place)
        else:
            tally.reject(chosen[place], *verdict)
    if not taken:
        raise _nothing_to_start_with(len(rows), len(chosen), config, tally)
    return [Entry(chosen[place], chosen[place]) for place in sorted(taken)]


def _unfit(row: Example, config: EvolveConfig) -> Verdict | None:
    asked = [message for message in row.messages if message.role == "user"]
    if len(asked) != 1:
        return "not_single_turn", f"{len(asked)} user turns"
    words = length(asked[0].content)
    if words > config.max_words:
        return "long_start", f"{words} words"
    return None if asked[0].content.strip() else ("empty_prompt", "no text")


def _nothing_to_start_with(
    given: int, chosen: int, config: EvolveConfig, tally: Tally
) -> StageError:
    rules = ", ".join(f"{rule} {count:,}" for rule, count in tally.rejected.most_common())
    named = f" of the sources {', '.join(config.sources)}" if config.sources else ""
    return StageError(
        f"Evol-Instruct has no instruction to start with: of {given:,} rows {chosen:,} are"
        f"{named or ' chosen'}, and no one of them can be evolved ({rules or 'there is none'}).",
        where="curate.evolve",
        expected="rows with one user turn",
        hint="change curate.evolve.sources" if config.sources else "look at the data",
    )
