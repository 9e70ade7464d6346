"""A local engine whose tokens and requests are counted, and stopped by a budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from espalier.engines.base import Completion, Engine, Request, Sampling
from espalier.spending import Account, most_tokens


class MeteredEngine:
    """Hands requests on in as large portions as the budget allows: all at once without one."""

    def __init__(self, engine: Engine, account: Account) -> None:
        self.engine = engine
        self.account = account
        self.model = engine.model
        self.costly = engine.costly

    def __getattr__(self, name: str) -> Any:
        # Whatever else the engine offers (an identity, a seed, `score`) is offered unchanged.
        if name.startswith("__") or name == "engine":
            raise AttributeError(name)
        return getattr(self.engine, name)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """Yield one completion a request, in request order.

        Raises BudgetReached when not one more request fits.
        """
        done = 0
        while done < len(requests):
            most = self._reserved(requests[done:], sampling)
            if not most:
                raise self.account.meter.reached(len(requests) - done, len(requests))
            portion = requests[done : done + len(most)]
            settled = 0
            try:
                answers = self.engine.generate(portion, sampling)
                for completion in islice(answers, len(portion)):
                    self.account.settle(*most[settled], completion.usage)
                    settled += 1
                    yield completion
            finally:
                for reserved in most[settled:]:
                    self.account.release(*reserved)
            if settled < len(portion):
                return
            done += len(portion)

    def _reserved(self, requests: Sequence[Request], sampling: Sampling) -> list[tuple[int, int]]:
        """What is set aside for the first requests, as many as fit."""
        most: list[tuple[int, int]] = []
        for request in requests:
            prompt = most_tokens(request.messages) + len(request.token_ids)
            if not self.account.reserve(prompt, sampling.max_tokens):
                break
            most.append((prompt, sampling.max_tokens))
        return most

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()
