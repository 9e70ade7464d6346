"""A local engine whose tokens and requests are counted, and stopped by a budget."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from espalier.engines.base import Completion, Engine, Request, Sampling, in_order
from espalier.spending import Account, most_tokens

Arrived = Callable[[int, Completion], None]


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
        with contextlib.closing(self.generate_unordered(requests, sampling)) as answers:
            yield from in_order(answers)

    def generate_unordered(
        self, requests: Sequence[Request], sampling: Sampling, arrived: Arrived | None = None
    ) -> Generator[tuple[int, Completion], None, None]:
        """Yield (index, completion) in the order of the engine; `arrived` is called first."""
        done = 0
        while done < len(requests):
            most = self._reserved(requests[done:], sampling)
            if not most:
                raise self.account.meter.reached(len(requests) - done, len(requests))
            waiting = dict(enumerate(most))

            def told(index: int, completion: Completion) -> None:
                self.account.settle(*waiting.pop(index), completion.usage)  # noqa: B023
                if arrived is not None:
                    arrived(done + index, completion)  # noqa: B023

            try:
                for index, completion in self._ask(
                    requests[done : done + len(most)], sampling, told
                ):
                    yield done + index, completion
            finally:
                for reserved in waiting.values():
                    self.account.release(*reserved)
            if waiting:
                return
            done += len(most)

    def _ask(
        self, requests: Sequence[Request], sampling: Sampling, told: Arrived
    ) -> Iterator[tuple[int, Completion]]:
        if hasattr(self.engine, "generate_unordered"):
            yield from self.engine.generate_unordered(requests, sampling, told)
            return
        for index, completion in enumerate(self.engine.generate(requests, sampling)):
            told(index, completion)
            yield index, completion

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
