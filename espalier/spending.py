"""What generation costs: prices, a hard budget, and what was spent by step and model.

The journals of a run folder are the books: each line holds the tokens of one answer, so the
totals of earlier processes are read back from them and a budget holds for the whole run, however
often it was interrupted. Before a request is sent, the most that it can cost is reserved; a
reservation that would pass the budget is refused. A request that failed without telling its usage
counts nothing.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espalier.engines.base import EngineSpec, Usage
from espalier.errors import StageError, UsageError
from espalier.prices import MILLION, Budget, Prices, amount
from espalier.records import Messages

__all__ = [
    "Account",
    "Budget",
    "BudgetReached",
    "Estimate",
    "Meter",
    "Prices",
    "Spent",
    "amount",
    "estimate_table",
    "estimated_money",
    "journals_below",
    "likely_tokens",
    "most_tokens",
]
# The link in a sweep's member to the journals of all members.
JOURNALS = "journals"
# Engines whose answers are bought; the others run on this machine.
BOUGHT = ("openai",)
_ASCII_PER_TOKEN = 4
# Role markers and the like, which a server's chat template adds.
_TOKENS_PER_TURN = 16


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a step is expected to ask for, in whole numbers of requests and tokens."""

    step: str
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(slots=True)
class _Row:
    """Totals of one step and model; `open_…` are reserved for requests under way."""

    step: str
    model: str
    local: bool
    batch: bool
    requests: int = 0
    prompt: int = 0
    completion: int = 0
    from_journal: int = 0
    open_requests: int = 0
    open_prompt: int = 0
    open_completion: int = 0


@dataclass(frozen=True, slots=True)
class Spent:
    """Totals in the units that a budget knows."""

    money: float
    tokens: int
    requests: int


class BudgetReached(StageError):
    """Nothing more may be spent; all answers so far are in the journal."""


class Meter:
    """Counts what is spent against a budget. Thread-safe."""

    def __init__(
        self, budget: Budget | None = None, prices: Mapping[str, Prices] | None = None
    ) -> None:
        """`prices` by model, for what earlier processes spent; engines bring their own."""
        self.budget = budget or Budget()
        self._prices = dict(prices or {})
        self._rows: dict[tuple[str, str, bool, bool], _Row] = {}
        self._lock = threading.Lock()

    @classmethod
    def of_run(
        cls, run: Path, budget: Budget | None = None, specs: Iterable[EngineSpec] = ()
    ) -> Meter:
        """A meter that knows what the journals below `run` say was spent before.

        `specs` are the engines of the recipe: their prices hold for the journals' lines.
        """
        prices = {spec.model: spec.prices for spec in specs if spec.prices is not None}
        meter = cls(budget, prices)
        for path in journals_below(run):
            meter.read(path)
        return meter

    def read(self, journal: Path) -> None:
        """Add what one journal's lines say was spent."""
        for line in _records(journal):
            row = self._row(
                str(line.get("step") or ""),
                str(line.get("model") or ""),
                line.get("engine", BOUGHT[0]) not in BOUGHT,
                bool(line.get("batch")),
            )
            prompt, completion = _tokens_of(line)
            row.requests += 1
            row.from_journal += 1
            row.prompt += prompt
            row.completion += completion

    def account(self, step: str, spec: EngineSpec, *, batch: bool = False) -> Account:
        """Where an engine books what it sends.

        Raises UsageError when there is a budget in money and the engine has no prices, or prices
        in another currency than those of other engines.
        """
        local = spec.engine not in BOUGHT
        if spec.prices is not None:
            self._same_currency(spec.model, spec.prices)
            self._prices[spec.model] = spec.prices
        elif self.budget.money is not None and not local:
            raise UsageError(
                f"There is a budget in money, but the model {spec.model} has no prices.",
                where="prices",
                expected="prices: {prompt: 0.15, completion: 0.60} (for a million tokens) "
                "beside the engine's model",
                hint="add the prices (0 for a server of your own), or set budget.tokens",
            )
        with self._lock:
            return Account(self, self._row(step, spec.model, local, batch))

    def _same_currency(self, model: str, prices: Prices) -> None:
        for other, known in self._prices.items():
            if known.currency != prices.currency:
                raise UsageError(
                    f"The prices of {model} are in {prices.currency}, "
                    f"those of {other} in {known.currency}.",
                    where="prices.currency",
                    expected="one currency in a recipe",
                )

    def _row(self, step: str, model: str, local: bool, batch: bool) -> _Row:
        key = (step, model, local, batch)
        if key not in self._rows:
            self._rows[key] = _Row(step, model, local, batch)
        return self._rows[key]

    # --- the limit ---------------------------------------------------------------------------

    @property
    def spent(self) -> Spent:
        """What the answers of the run have cost so far, earlier processes included."""
        with self._lock:
            return self._total(reserved=False)

    @property
    def waiting(self) -> bool:
        """Whether requests are under way whose cost is not known yet."""
        with self._lock:
            return any(row.open_requests for row in self._rows.values())

    def _total(self, *, reserved: bool) -> Spent:
        money, tokens, requests = 0.0, 0, 0
        for row in self._rows.values():
            prompt = row.prompt + reserved * row.open_prompt
            completion = row.completion + reserved * row.open_completion
            money += self._money(row, prompt, completion) or 0.0
            if not row.local or self.budget.local:
                tokens += prompt + completion
                requests += row.requests + reserved * row.open_requests
        return Spent(money, tokens, requests)

    def _money(self, row: _Row, prompt: int, completion: int) -> float | None:
        prices = self._prices.get(row.model)
        if row.local:
            return 0.0
        return None if prices is None else prices.money(prompt, completion, batch=row.batch)

    def _within(self) -> bool:
        total = self._total(reserved=True)
        budget = self.budget
        return (
            # Rounding of a sum of floats is no reason to refuse.
            (budget.money is None or total.money <= budget.money * (1 + 1e-9))
            and (budget.tokens is None or total.tokens <= budget.tokens)
            and (budget.requests is None or total.requests <= budget.requests)
        )

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        budget = self.budget
        return not (budget.money is None and budget.tokens is None and budget.requests is None)

    def reached(self, left: int, asked: int) -> BudgetReached:
        """The error that ends a step: `left` of its `asked` requests have no answer."""
        rows = [row for row in self.summary() if row["requests"]]
        lines = [
            f"{row['step'] or 'no step'} with {row['model']}: {row['requests']:,} requests, "
            f"{_count(row['prompt_tokens'] + row['completion_tokens'])} tokens"
            + (f", {amount(row['money'], row['currency'])}" if row["money"] else "")
            for row in rows
        ]
        names = [n for n in ("money", "tokens", "requests") if getattr(self.budget, n) is not None]
        return BudgetReached(
            f"The budget is reached: {self.note()} spent, and the next request could pass it.",
            where="; ".join(lines) or "nothing was sent",
            expected=f"{left:,} of the {asked:,} requests that are under way here have no answer",
            hint=f"raise {' or '.join(f'budget.{name}' for name in names)} and run again: answers "
            "that arrived are in the journal, none is lost or paid for twice",
        )

    # --- telling -----------------------------------------------------------------------------

    @property
    def currency(self) -> str:
        """The currency of the prices ("USD" while there are none)."""
        return next((prices.currency for prices in self._prices.values()), "USD")

    def note(self) -> str:
        """`$0.42 of $5.00, 1.2 M tokens`; empty while nothing was spent and nothing is limited."""
        spent, budget, parts = self.spent, self.budget, []
        if budget.money is not None:
            limit = amount(budget.money, self.currency)
            parts.append(f"{amount(spent.money, self.currency)} of {limit}")
        elif spent.money:
            parts.append(amount(spent.money, self.currency))
        if spent.tokens or budget.tokens is not None:
            of = "" if budget.tokens is None else f" of {_count(budget.tokens)}"
            parts.append(f"{_count(spent.tokens)}{of} tokens")
        if budget.requests is not None:
            parts.append(f"{spent.requests:,} of {budget.requests:,} requests")
        return ", ".join(parts)

    def summary(self) -> list[dict[str, Any]]:
        """Totals of the run, one dict a step and model, in the order of their names.

        `requests` are those answered; `from_journal` of them were paid for by earlier processes.
        `money` is None for a model without prices.
        """
        found: list[dict[str, Any]] = []
        with self._lock:
            for row in sorted(self._rows.values(), key=lambda r: (r.step, r.model, r.batch)):
                if not row.requests:
                    continue
                found.append(
                    {
                        "step": row.step,
                        "model": row.model + (" (batch)" if row.batch else ""),
                        "requests": row.requests,
                        "prompt_tokens": row.prompt,
                        "completion_tokens": row.completion,
                        "money": self._money(row, row.prompt, row.completion),
                        "currency": self.currency,
                        "from_journal": row.from_journal,
                    }
                )
        return found


class Account:
    """One engine's entries in a meter. Thread-safe."""

    def __init__(self, meter: Meter, row: _Row) -> None:
        self.meter = meter
        self._row = row
        # Where tokens of requests that gave no usable answer are written down.
        self.write: Callable[..., None] | None = None

    def reserve(self, prompt_tokens: int, completion_tokens: int) -> bool:
        """Set aside the most that a request can cost; False when that would pass the budget."""
        with self.meter._lock:
            self._open(1, prompt_tokens, completion_tokens)
            if not self.meter.limited or self.meter._within():
                return True
            self._open(-1, -prompt_tokens, -completion_tokens)
            return False

    def release(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Free a reservation whose request cost nothing (refused, never answered)."""
        with self.meter._lock:
            self._open(-1, -prompt_tokens, -completion_tokens)

    def settle(
        self, prompt_tokens: int, completion_tokens: int, usage: Usage, *, kept: bool = True
    ) -> None:
        """Put what a request did cost in the place of its reservation.

        `kept`: its answer goes to the journal, and its tokens with it. Otherwise they are
        written down here.
        """
        self.release(prompt_tokens, completion_tokens)
        self.charge(usage, kept=kept)

    def charge(self, usage: Usage, *, kept: bool = True) -> None:
        """Count a request that nothing was reserved for."""
        row = self._row
        with self.meter._lock:
            row.requests += 1
            row.prompt += usage.prompt_tokens
            row.completion += usage.completion_tokens
        if not kept and self.write is not None:
            self.write(usage)

    def _open(self, requests: int, prompt: int, completion: int) -> None:
        self._row.open_requests += requests
        self._row.open_prompt += prompt
        self._row.open_completion += completion


# --- tokens ----------------------------------------------------------------------------------


def likely_tokens(text: str) -> int:
    """Roughly the tokens of a text: four ASCII characters or one other character each."""
    ascii_characters = len(text.encode("ascii", errors="ignore"))
    return -(-ascii_characters // _ASCII_PER_TOKEN) + len(text) - ascii_characters


def most_tokens(messages: Messages) -> int:
    """An upper bound on a prompt's tokens: no token of a byte-level vocabulary is under a byte."""
    return sum(
        len(message.content.encode(errors="replace")) + _TOKENS_PER_TURN for message in messages
    )


# --- journals --------------------------------------------------------------------------------


def journals_below(run: Path) -> Iterator[Path]:
    """The journals in a run folder, by their names, in a fixed order.

    A member of a sweep has a link to those that all members write to: what it may spend is what
    all of them leave.
    """
    shared = run / JOURNALS
    found = sorted(run.rglob("*.jsonl")) if run.is_dir() else []
    found += sorted(shared.resolve().rglob("*.jsonl")) if shared.is_symlink() else []
    for path in found:
        if path.parent.name == "journal" or path.name.endswith(".journal.jsonl"):
            yield path


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """The usable lines of a journal; each key counts once, as the journal itself has it."""
    seen: set[str] = set()
    with path.open("rb") as lines:
        for line in lines:
            try:
                value = json.loads(line.strip(b"\0"))
            except ValueError:
                continue
            if not isinstance(value, dict) or not isinstance(value.get("model"), str):
                continue
            key = value.get("key")
            if key is None:
                if value.get("spent"):
                    yield value
            elif key not in seen:
                seen.add(key)
                yield value


def _tokens_of(line: Mapping[str, Any]) -> tuple[int, int]:
    usage = line.get("usage") or {}
    prompt, completion = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    if prompt or completion:
        return prompt, completion
    # A server that tells no usage: the same rough count as when the answer arrived.
    said = "".join(str(turn.get("content") or "") for turn in line.get("messages") or ())
    return likely_tokens(said), likely_tokens(str(line.get("text") or ""))


# --- before the start ------------------------------------------------------------------------


def estimated_money(estimates: Iterable[Estimate], prices: Mapping[str, Prices]) -> float:
    """The price of all that is estimated; models without prices count nothing."""
    return sum(
        prices[item.model].money(item.prompt_tokens, item.completion_tokens)
        for item in estimates
        if item.model in prices
    )


def prices_of(engines: Sequence[EngineSpec]) -> dict[str, Prices]:
    """What each model costs: nothing where it runs on this machine; models without prices are
    left out."""
    given = {spec.model: spec.prices for spec in engines if spec.prices is not None}
    currency = next((prices.currency for prices in given.values()), "USD")
    nothing = Prices(prompt=0, completion=0, currency=currency)
    bought = {spec.model for spec in engines if spec.engine in BOUGHT}
    return given | {spec.model: nothing for spec in engines if spec.model not in bought}


def budget_lines(
    estimates: Iterable[Estimate], prices: Mapping[str, Prices], budget: Budget | None
) -> list[str]:
    """What to say of a budget in money that is below the estimates; nothing where it is not."""
    if budget is None or budget.money is None or estimated_money(estimates, prices) <= budget.money:
        return []
    return [
        f"  the budget ({budget.money:g}) is below the estimate: the run stops at it, and goes on "
        "from there when it is raised"
    ]


def estimate_table(estimates: Sequence[Estimate], prices: Mapping[str, Prices]) -> str:
    """The estimates as a small table for a terminal, with a last line for the sum.

    Models without prices are not taken to cost nothing: the sum says that it lacks them.
    """
    currency = next((known.currency for known in prices.values()), "USD")
    cells = [("step", "model", "requests", "tokens", "cost")]
    for item in estimates:
        known = item.model in prices
        cost = amount(estimated_money([item], prices), currency) if known else "-"
        tokens = _count(item.prompt_tokens + item.completion_tokens)
        cells.append((item.step, item.model, f"{item.requests:,}", tokens, cost))
    requests = sum(item.requests for item in estimates)
    total = _count(sum(item.prompt_tokens + item.completion_tokens for item in estimates))
    cells.append(("all", "", f"{requests:,}", total, _sum(estimates, prices, currency)))
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    return "\n".join(
        "  ".join(["", f"{a:<{widths[0]}}", f"{b:<{widths[1]}}", *_right(numbers, widths[2:])])
        for a, b, *numbers in cells
    )


def _sum(estimates: Sequence[Estimate], prices: Mapping[str, Prices], currency: str) -> str:
    known = [item for item in estimates if item.model in prices]
    if estimates and not known:
        return "-"
    cost = amount(estimated_money(known, prices), currency)
    return cost if len(known) == len(estimates) else f"{cost} + unpriced"


def _right(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)]


def _count(number: int) -> str:
    if number >= MILLION:
        return f"{number / MILLION:.1f} M"
    return f"{number:,}"
