"""The rows that curation will leave of a dataset file, looked at in the sample that was read.

What the recipe is to say decides it: dialogues that are longer than a row are split by curation's
own splitter, and parts that share something with the test set are removed by its own rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from espalier.data_facts import Count, DataFacts, prompt_hash, remembered
from espalier.errors import UsageError
from espalier.records import Example
from espalier.stages import load

# Curation's rules by name: the trunk depends on no stage.
_DIALOGUES = "espalier.curate.dialogues"
_COUNTER = "espalier.curate.dialogues:token_counter"
_DIALOGUE_OPTIONS = "espalier.curate.config_dialogues:DialogueConfig"
_TALLY = "espalier.curate.pipeline:Tally"
_HELD_OUT = "espalier.curate.decontaminate"
_HELD_OUT_OPTIONS = "espalier.curate.config_holdout:HoldoutConfig"
_TEST_SET = "espalier.curate.contamination:read_evaluation"
_TEST_SET_OPTIONS = "espalier.curate.config_holdout:DecontaminateConfig"


@dataclass(frozen=True)
class Left:
    """What is left of a file: `facts` of its rows as they are trained on, their prompts different.

    `dialogues` is how many different rows the file has itself, `parts` how many they are split
    into; `split` is the share of the rows that are, `overlap` the share of the parts that are
    removed since the test set has them. `too_long`: exchanges that no row can hold.
    """

    facts: DataFacts
    dialogues: int
    parts: int
    split: float = 0.0
    overlap: float = 0.0
    too_long: int = 0


def evaluation_texts(path: str) -> Any:
    """The rows of a test set, ready to be looked for; InputError where one can't be read, since
    curation would stop there as well."""
    options = load(_TEST_SET_OPTIONS)(against=[path])
    return load(_TEST_SET)(options, str)


def rows_left(
    facts: DataFacts, limit: int | None, evaluation: Any = None, options: Any = None
) -> Left:
    """What is left of a file of examples, by its sample.

    `limit` is the most tokens of a part (None: nothing is split), `options` curation's own on
    dialogues, which say what counts the tokens of a part (default: as they are without any, the
    model's tokenizer counting), `evaluation` a `evaluation_texts`.
    """
    count = facts.count if options is None else _counter(options.tokenizer)
    different = list({prompt_hash(row.prompt_messages): row for row in _examples(facts)}.values())
    counted = Counter[str]()
    parts: list[Example] = []
    for row in different:
        pieces = [row] if limit is None else list(_pieces(row, count, limit, options, counted))
        counted["split"] += len(pieces) > 1
        parts += pieces
    clean = parts if evaluation is None else [p for p in parts if not evaluation.findings(p)]
    kept = list({prompt_hash(row.prompt_messages): row for row in clean}.values())
    dialogues = max(1, facts.rows - facts.repeated)
    # Of a large file the sample stands for all rows.
    scale = dialogues / max(1, len(different))
    return Left(
        facts.of_rows(round(scale * len(kept)), kept),
        dialogues,
        round(scale * len(parts)),
        counted["split"] / max(1, len(different)),
        (len(parts) - len(clean)) / max(1, len(parts)),
        round(scale * counted["long_exchange"]),
    )


def trained_part(left: Sequence[Left], drawn: int) -> float:
    """The part of the rows left of all files that is trained on, where so many are held out.

    With them go rows that have nearly the same prompt, and other parts of their dialogues, by
    curation's own rule. Of files that were read in part only the dialogues are counted: how many
    of a large file are near each other its sample doesn't tell.
    """
    rows = _all_examples(left)
    if rows is None:
        dialogues = max(1, sum(one.dialogues for one in left))
        return max(0, dialogues - drawn) / dialogues
    if not drawn or not rows:
        return 1.0
    rules = load(_HELD_OUT)
    held = rules.HeldOut(load(_HELD_OUT_OPTIONS)())
    for row in rules.draw_held_out(rows, drawn, "new"):
        held.add(row)
    step = rules.decontaminate(held)
    return len(list(step(rows, load(_TALLY)("held out", "new", lambda reject: None)))) / len(rows)


def _all_examples(left: Sequence[Left]) -> list[Example] | None:
    """The rows that are left, file by file; None where a file's sample is not all of it."""
    if any(one.facts.rows != len(one.facts.sample) for one in left):
        return None
    return [row for one in left for row in _examples(one.facts)]


def check_left(left: Sequence[Left], names: str, limit: int, evaluation: str | None) -> None:
    """Refuse data of which nothing is left; raises UsageError that says why."""
    if any(one.facts.rows for one in left):
        return
    if evaluation is not None and any(one.overlap for one in left):
        raise UsageError(
            "The test set holds all of the data, and training rows are kept away from it.",
            where=f"--eval {evaluation}",
            expected="questions that the data do not have",
            hint="leave --eval out: rows are held out of the data then",
        )
    raise UsageError(
        "No question with its answer is short enough for a row.",
        where=names,
        expected=f"at most {limit:,} tokens, as the model or the memory allows",
        hint="a model that takes longer rows; `espalier inspect FILE` shows the lengths",
    )


def _examples(facts: DataFacts) -> list[Example]:
    return [row for row in facts.sample if isinstance(row, Example)]


def _pieces(
    row: Example, count: Count, limit: int, options: Any, counted: Counter[str]
) -> Iterator[Example]:
    """The parts of a row that curation makes of it; none where it rejects the row."""
    dialogues = load(_DIALOGUES)
    chosen = options if options is not None else load(_DIALOGUE_OPTIONS)()
    tally = load(_TALLY)("dialogues", "new", lambda reject: None)
    cleaned = dialogues.clean(row, chosen, tally)
    if cleaned is not None:
        yield from dialogues.split(cleaned, limit, chosen.turn_tokens, count, tally)
    counted.update(tally.rejected)


def _counter(tokenizer: str | None) -> Count:
    """Curation's own counter; raises InputError for a folder that holds no tokenizer."""
    if tokenizer is None:
        return _of_tokenizer(None, "", 0)
    file = Path(tokenizer).absolute() / "tokenizer.json"
    return _of_tokenizer(tokenizer, str(file), file.stat().st_mtime_ns if file.is_file() else 0)


@lru_cache(maxsize=4)
def _of_tokenizer(tokenizer: str | None, file: str, changed: int) -> Count:
    """The same counter for all members of a sweep, which ask for the same texts."""
    return remembered(load(_COUNTER)(tokenizer))
