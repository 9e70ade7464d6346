"""Which prompt of the set a row of a predictions file answers: by id, by prompt, or by order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from espalier.errors import InputError
from espalier.evaluate.evalset import EvalSet, Row
from espalier.text import normalise

PROMPT_FIELDS = ("prompt", "question", "query", "instruction")
LONG_ANSWER = 100_000
# Templated prompts are found by searching every prompt of the set in them; beyond this many
# searches the work would be felt.
_SEARCHES = 20_000_000

Match = Literal["auto", "id", "prompt", "order"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row of a predictions file, with what it can be matched by."""

    where: str
    answer: str
    ids: tuple[str, ...]
    prompts: tuple[str, ...]  # normalised, the most specific first
    instruction: str | None


@dataclass
class Matched:
    """Which answer belongs to which row of the set, and what did not fit."""

    answers: dict[str, str] = field(default_factory=dict)
    how: str = ""
    missing: int = 0
    extra: int = 0
    duplicate: int = 0
    conflicting: int = 0
    empty: int = 0
    long: int = 0
    contradicting: int = 0  # rows that give another prompt than the one they were matched to
    kept: bool = False  # and they count all the same

    def warnings(self, model: str) -> list[str]:
        """One sentence for each thing that a reader of the scores has to know."""
        found = []
        if self.missing:
            found.append(
                f"{model}: {self.missing:,} of {self.missing + len(self.answers):,} prompts have "
                "no answer in its file; it is scored on the rest, and compared on shared rows."
            )
        if self.contradicting:
            found.append(
                f"{model}: {self.contradicting:,} rows give another prompt than the one that they "
                f"were matched to; {'they count all the same' if self.kept else 'left out'}."
            )
        if self.extra:
            found.append(f"{model}: {self.extra:,} rows answer no prompt of the set; left out.")
        if self.duplicate:
            tail = f", {self.conflicting:,} of them differently" if self.conflicting else ""
            found.append(
                f"{model}: {self.duplicate:,} rows answer a prompt again{tail}; "
                "the first answer counts."
            )
        if self.empty:
            found.append(f"{model}: {self.empty:,} answers are empty; they count as answers.")
        if self.long:
            found.append(
                f"{model}: {self.long:,} answers are longer than {LONG_ANSWER:,} characters."
            )
        if self.how == "order":
            found.append(f"{model}: its rows were matched to the prompts by their order alone.")
        return found


Pairs = list[tuple[Prediction, Row]]


def match_rows(
    predictions: Sequence[Prediction], evalset: EvalSet, match: Match, path: Path
) -> tuple[Pairs, str, int]:
    """Rows of the file with the rows of the set that they answer, how they were matched, and how
    many of them give another prompt than that.

    Such rows are left out where ids are only one way of matching, and kept where the recipe says
    that ids or order decide. Raises InputError, naming the file at `path`, where none is matched,
    and where rows said to be in the order of the set are not.
    """
    if match in ("auto", "id"):
        pairs = _by_id(predictions, evalset)
        wrong = {id(p) for p, row in pairs if _contradicts(p, row)}
        if pairs and match == "id":
            return pairs, "id", len(wrong)
        # Ids that most prompts contradict are mere row numbers.
        if pairs and 2 * len(wrong) <= sum(bool(p.prompts) for p, _ in pairs):
            pairs = [pair for pair in pairs if id(pair[0]) not in wrong]
            return pairs + _left_by_prompt(predictions, pairs, wrong, evalset), "id", len(wrong)
    in_order = _instructions_agree(predictions, evalset)
    if match in ("auto", "prompt"):
        pairs = _by_prompt(predictions, evalset)
        # Rows that give the instruction without its input match only in part.
        if pairs and not (match == "auto" and in_order and len(pairs) < len(predictions)):
            return pairs, "prompt", 0
    if match == "order" or (match == "auto" and in_order):
        pairs = _by_order(predictions, evalset, path)
        return pairs, "order", sum(_contradicts(p, row) for p, row in pairs)
    raise _other_prompts(predictions, evalset, match, path)


def _left_by_prompt(
    predictions: Sequence[Prediction], pairs: Pairs, wrong: set[int], evalset: EvalSet
) -> Pairs:
    """Rows whose id names no prompt, or several, with the unanswered prompt that they give."""
    done = {id(p) for p, _ in pairs} | wrong
    answered = {row.id for _, row in pairs}
    free = {row.key: row for row in reversed(evalset.rows) if row.id not in answered}
    return [
        (prediction, free.pop(key))
        for prediction in predictions
        if id(prediction) not in done
        and (key := next((text for text in prediction.prompts if text in free), None)) is not None
    ]


def _by_order(predictions: Sequence[Prediction], evalset: EvalSet, path: Path) -> Pairs:
    if len(predictions) != len(evalset):
        raise InputError(
            f"The predictions file has {len(predictions):,} rows and the set "
            f"{len(evalset):,}, so row order can't match them.",
            where=str(path),
            expected="as many rows as the set has, in its order",
            hint="give each row the prompt or the id that it answers",
        )
    pairs = list(zip(predictions, evalset.rows, strict=True))
    keys = {row.key for row in evalset.rows}
    for prediction, row in pairs:
        if _contradicts(prediction, row) and any(text in keys for text in prediction.prompts):
            raise InputError(
                "The rows of the predictions file are not in the order of the set: this one "
                f"answers “{_short(prediction.prompts[0])}”.",
                where=prediction.where,
                expected=f"an answer to “{_short(row.key)}”",
                hint="match by prompt instead (match: prompt), or sort the file",
            )
    return pairs


def _other_prompts(
    predictions: Sequence[Prediction], evalset: EvalSet, match: Match, path: Path
) -> InputError:
    ids, prompts = any(p.ids for p in predictions), any(p.prompts for p in predictions)
    fields = {"id": ("id",), "prompt": PROMPT_FIELDS}.get(match, ("id", *PROMPT_FIELDS))
    if not (prompts if match == "prompt" else ids if match == "id" else ids or prompts):
        return InputError(
            "The rows of the predictions file say neither which prompt nor which id they answer."
            if match == "auto"
            else f"The rows of the predictions file give no {match}.",
            where=str(path),
            expected="a field " + ", ".join(fields),
            hint="if the rows are in the order of the set, say so with `match: order`",
        )
    if match == "id" or not prompts:
        found, wanted = next(p.ids[0] for p in predictions if p.ids), evalset.rows[0].names[-1]
        return InputError(
            "No id of the predictions file is that of one row of the set.",
            where=str(path),
            expected=f"ids of {evalset.path}, the first being “{_short(wanted)}”",
            hint=f"the first id is “{_short(found)}”; if the rows are in the order of the set, say "
            "so with `match: order`",
        )
    found = next((p.prompts[0] for p in predictions if p.prompts), "no prompt")
    wanted = evalset.rows[0].key
    return InputError(
        "No row of the predictions file answers a prompt of the set.",
        where=str(path),
        expected=f"prompts of {evalset.path}, the first being “{_short(wanted)}”",
        hint=f"the first row answers “{_short(found)}”; check that file and set belong together",
    )


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "…"


def _by_id(predictions: Sequence[Prediction], evalset: EvalSet) -> Pairs:
    counts = Counter(name for row in evalset.rows for name in row.names)
    # A name that several rows share (a task with several inputs) names none of them.
    rows = {name: row for row in evalset.rows for name in row.names if counts[name] == 1}
    return [
        (prediction, rows[name])
        for prediction in predictions
        if (name := next((i for i in prediction.ids if i in rows), None)) is not None
    ]


def _contradicts(prediction: Prediction, row: Row) -> bool:
    """Whether a row gives a prompt, and it is not that of the set's row."""
    return bool(prediction.prompts) and not any(
        _contains(f" {text} ", _parts(row)) or row.key.startswith(text)
        for text in prediction.prompts
    )


def _by_prompt(predictions: Sequence[Prediction], evalset: EvalSet) -> Pairs:
    rows: dict[str, list[Row]] = {}
    for row in evalset.rows:
        rows.setdefault(row.key, []).append(row)
        if len(row.messages) > 1:  # may be given as all its turns in one text
            rows.setdefault(normalise(row.prompt), []).append(row)
    pairs: Pairs = []
    used: dict[str, int] = {}
    waiting = []
    for prediction in predictions:
        key = next((text for text in prediction.prompts if text in rows), None)
        if key is None:
            waiting.append(prediction)
            continue
        # The n-th answer to a prompt that the set holds several times goes to its n-th row.
        count = used.get(key, 0)
        used[key] = count + 1
        pairs.append((prediction, rows[key][min(count, len(rows[key]) - 1)]))
    return pairs + _by_containment(waiting, evalset, {row.id for _, row in pairs})


def _by_containment(waiting: Sequence[Prediction], evalset: EvalSet, taken: set[str]) -> Pairs:
    """Templated prompts: the longest prompt of the set whose parts occur in the text, in order."""
    waiting = [prediction for prediction in waiting if prediction.prompts]
    if not waiting or len(waiting) * len(evalset) > _SEARCHES:
        return []
    parts = sorted(
        ((_parts(row), row) for row in evalset.rows), key=lambda item: -sum(map(len, item[0]))
    )
    pairs: Pairs = []
    for prediction in waiting:
        text = f" {prediction.prompts[-1]} "
        hits = [(sum(map(len, part)), row) for part, row in parts if _contains(text, part)]
        if not hits:
            continue
        best = [row for size, row in hits if size == hits[0][0]]
        free = [row for row in best if row.id not in taken]
        row = (free or best)[0]
        taken.add(row.id)
        pairs.append((prediction, row))
    return pairs


def _parts(row: Row) -> tuple[str, ...]:
    extra = row.meta.get("input")
    question = row.question
    if isinstance(extra, str) and extra.strip() and question.endswith("\n\n" + extra):
        return normalise(question[: -len(extra)]), normalise(extra)
    return (row.key,)


def _contains(text: str, parts: Iterable[str]) -> bool:
    start = 0
    for part in parts:
        at = text.find(f" {part} ", start) if part.isascii() else text.find(part, start)
        if at < 0:
            return False
        start = at + len(part)
    return True


def _instructions_agree(predictions: Sequence[Prediction], evalset: EvalSet) -> bool:
    """Same number of rows, and in each the instruction is how the prompt of the set begins."""
    return len(predictions) == len(evalset) and all(
        prediction.instruction is not None and row.key.startswith(prediction.instruction)
        for prediction, row in zip(predictions, evalset.rows, strict=True)
    )


def collect(pairs: Pairs, how: str, total: int, evalset: EvalSet) -> Matched:
    """One answer a row of the set, the first of several, and the counts of what did not fit."""
    result = Matched(how=how, extra=total - len(pairs))
    for prediction, row in pairs:
        first = result.answers.get(row.id)
        if first is None:
            result.answers[row.id] = prediction.answer
            continue
        result.duplicate += 1
        result.conflicting += first != prediction.answer
    result.missing = len(evalset) - len(result.answers)
    result.empty = sum(not answer.strip() for answer in result.answers.values())
    result.long = sum(len(answer) > LONG_ANSWER for answer in result.answers.values())
    return result
