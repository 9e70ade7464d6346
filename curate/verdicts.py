"""What a judge said of two answers, in short: for the meta of a pair, and for rejects."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from espalier.curate.pipeline import Tally, clip
from espalier.judging import Comparison, Judge, Verdict, parse_pairwise
from espalier.records import Example, Messages, PreferencePair

REASON_CHARACTERS = 200
_REASON_KEYS = ("reason", "explanation", "理由", "原因")

Undecided = Literal["tie", "unread_verdict"]
Said = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Meeting:
    """Two answers that the judge compared in both orders."""

    first: str
    second: str
    comparison: Comparison

    @property
    def winner(self) -> str | None:
        """The answer that both orders name; None where there is none."""
        verdict = self.comparison.verdict
        return {"A": self.first, "B": self.second}.get(verdict or "")

    @property
    def undecided(self) -> Undecided | None:
        """The rule that rejects the pair of answers: no common winner, or an unreadable reply."""
        if self.comparison.verdict is None:
            return "unread_verdict"
        return "tie" if self.comparison.verdict == "tie" else None

    @property
    def evidence(self) -> str:
        """Both orders' verdicts and reasons, in terms of A (first) and B (second)."""
        compared = self.comparison
        return "; ".join(
            f"{shown}: {verdict or 'unread'} ({reason_of(text)})"
            for shown, verdict, text in (
                ("A before B", compared.forward, compared.forward_text),
                ("B before A", compared.backward, compared.backward_text),
            )
        )

    def said(self, chosen: str) -> Said:
        """For the meta of a pair: verdict and reason with the chosen answer shown first, then
        with it shown second."""
        compared = self.comparison
        orders = [_named(compared.forward, chosen == self.first),
                  _named(compared.backward, chosen == self.first)]  # fmt: skip
        reasons = [reason_of(compared.forward_text), reason_of(compared.backward_text)]
        if chosen != self.first:
            orders, reasons = orders[::-1], reasons[::-1]
        return {"orders": orders, "reasons": reasons}


def _named(verdict: Verdict | None, chosen_is_first: bool) -> str:
    if verdict in ("A", "B"):
        return "chosen" if (verdict == "A") == chosen_is_first else "rejected"
    return verdict or "unread"


def reason_of(text: str) -> str:
    """The reason in a judge's reply: without its verdict, on one line, cut when long."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if len(lines) > 1 and parse_pairwise(lines[-1]) is not None:
        lines.pop()
    whole = " ".join(lines)
    start, end = whole.find("{"), whole.rfind("}")
    if 0 <= start < end:
        whole = _json_reason(whole[start : end + 1]) or whole
    return clip(whole, REASON_CHARACTERS)


def _json_reason(text: str) -> str | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    found = (value.get(key) for key in _REASON_KEYS) if isinstance(value, dict) else ()
    return next((reason.strip() for reason in found if isinstance(reason, str)), None)


def compare(judge: Judge, items: Sequence[tuple[str, str, str]]) -> list[Meeting]:
    """The meetings of (question, first answer, second answer)."""
    compared = judge.compare_fully(items)
    return [
        Meeting(first, second, comparison)
        for (_, first, second), comparison in zip(items, compared, strict=True)
    ]


@dataclass(slots=True)
class Doubts:
    """What a judge could not decide about the answers to one prompt, and how often it was asked.

    Each entry of `undecided` is (rule, the answers in question, evidence).
    """

    asked: int = 0
    undecided: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, meeting: Meeting) -> None:
        """Count a meeting; one without a winner is kept."""
        self.asked += 1
        if meeting.undecided is not None:
            shown = f"A: {meeting.first}\nB: {meeting.second}"
            self.undecided.append((meeting.undecided, shown, meeting.evidence))

    def count(self, rule: str) -> int:
        """How many were undecided by this rule."""
        return sum(name == rule for name, _, _ in self.undecided)

    def record(self, tally: Tally, row: Example, question: str) -> None:
        """Count them all in a funnel row, the undecided ones as rejects."""
        tally.seen += self.asked
        tally.kept += self.asked - len(self.undecided)
        for rule, shown, evidence in self.undecided:
            text = f"{question}\n{shown}"
            tally.reject_text(text, rule, evidence, id=row.id, source=row.meta.get("source"))


def question(prompt: Messages) -> str:
    """A prompt as the judge sees it: its text, or the dialogue with its speakers named."""
    turns = [message for message in prompt if message.role != "system"]
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in turns)


def confirmed(pairs: Iterable[PreferencePair], judge: Judge, tally: Tally) -> list[PreferencePair]:
    """The pairs whose chosen answer the judge puts above the rejected one in both orders.

    The others are rejects: `corruption_not_worse`, or `unread_verdict` where a reply could not be
    read. What the judge said is kept in `meta.judge`.
    """
    listed = list(pairs)
    items = [(question(pair.prompt), pair.chosen, pair.rejected) for pair in listed]
    kept = []
    for pair, meeting in zip(listed, compare(judge, items), strict=True):
        tally.seen += 1
        if meeting.winner == pair.chosen:
            tally.kept += 1
            kept.append(with_judge(pair, meeting.said(pair.chosen)))
        elif meeting.comparison.verdict is None:
            tally.reject(pair, "unread_verdict", meeting.evidence)
        else:
            tally.reject(pair, "corruption_not_worse", meeting.evidence)
    return kept


def with_judge(pair: PreferencePair, said: Said | None) -> PreferencePair:
    """The pair with what the judge said of it in `meta.judge`; as it is without any."""
    if said is None:
        return pair
    meta = {**pair.meta, "judge": said}
    return PreferencePair(pair.id, pair.prompt, pair.chosen, pair.rejected, pair.margin, meta)
