"""Engines: text generation behind one protocol (`espalier.engines.base`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from espalier.engines.base import Engine, EngineSpec
from espalier.errors import UsageError
from espalier.spending import Account, Meter

__all__ = ["open_engine"]


def open_engine(
    spec: EngineSpec,
    *,
    seed: int = 0,
    journal: Path | None = None,
    meter: Meter | None = None,
    step: str = "",
) -> Engine:
    """The engine that `spec` names, its package imported only now.

    With a `journal` path the answers of an engine that is worth it (`costly`) are kept there.
    With a `meter`, what is really sent is counted for `step`, and its budget holds.
    Raises MissingExtra, UsageError (options, a missing key, missing prices) or InputError (a model
    folder).
    """
    batch = spec.options.get("endpoint") == "batch"
    account = None if meter is None else meter.account(step, spec, batch=batch)
    engine = _open(spec, seed, account, journal)
    if journal is None or not engine.costly:
        return engine
    from espalier.journal import Journal, JournaledEngine

    try:
        kept = Journal(journal)
    except BaseException:
        engine.close()
        raise
    known: dict[str, Any] = {"engine": spec.engine} | ({"step": step} if step else {})
    if batch:
        known["batch"] = True
    if account is not None:
        account.write = lambda usage: kept.put_spent(usage, model=spec.model, **known)
    return JournaledEngine(engine, kept, known=known)


def _open(spec: EngineSpec, seed: int, account: Account | None, journal: Path | None) -> Engine:
    if spec.engine == "openai":
        from espalier.engines.api import OpenAIEngine

        engine = OpenAIEngine(spec, seed, account)
        if engine.options.endpoint != "batch":
            return engine
        from espalier.engines.batch_api import BatchEngine

        state = None if journal is None else journal.with_suffix(".batches")
        return BatchEngine(engine, state)
    local = _open_local(spec, seed)
    # What is not journaled can't be counted over several processes, and costs nothing.
    if account is None or not (local.costly or account.meter.budget.local):
        return local
    from espalier.engines.metered import MeteredEngine

    return MeteredEngine(local, account)


def _open_local(spec: EngineSpec, seed: int) -> Engine:
    if spec.engine == "offline":
        from espalier.engines.offline import OfflineEngine

        return OfflineEngine(spec.model, seed, spec.options)
    if spec.engine == "transformers":
        from espalier.engines.hf import TransformersEngine

        return TransformersEngine.from_options(spec.model, seed, spec.options)
    if spec.engine == "vllm":
        from espalier.engines.vllm_local import VLLMEngine

        return VLLMEngine.from_options(spec.model, seed, spec.options)
    if spec.engine == "vllm-server":
        from espalier.engines.vllm_server import ServerEngine

        return ServerEngine(spec, seed)
    if spec.engine == "function":
        from espalier.engines.function import FunctionEngine

        return FunctionEngine(spec.model, seed, spec.options)
    raise UsageError(
        f"There is no engine '{spec.engine}'.",
        expected="offline, transformers, openai, vllm, vllm-server or function",
    )
