"""Engines: text generation behind one protocol (`espalier.engines.base`)."""

from __future__ import annotations

from pathlib import Path

from espalier.engines.base import Engine, EngineSpec
from espalier.errors import UsageError

__all__ = ["open_engine"]


def open_engine(spec: EngineSpec, *, seed: int = 0, journal: Path | None = None) -> Engine:
    """The engine that `spec` names, its package imported only now.

    With a `journal` path the answers of an engine that is worth it (`costly`) are kept there.
    Raises MissingExtra, UsageError (options, a missing key) or InputError (a model folder).
    """
    engine = _open(spec, seed)
    if journal is None or not engine.costly:
        return engine
    from espalier.journal import Journal, JournaledEngine

    try:
        return JournaledEngine(engine, Journal(journal))
    except BaseException:
        engine.close()
        raise


def _open(spec: EngineSpec, seed: int) -> Engine:
    if spec.engine == "offline":
        from espalier.engines.offline import OfflineEngine

        return OfflineEngine(spec.model, seed, spec.options)
    if spec.engine == "openai":
        from espalier.engines.api import OpenAIEngine

        return OpenAIEngine(spec, seed)
    if spec.engine == "transformers":
        from espalier.engines.hf import TransformersEngine

        return TransformersEngine.from_options(spec.model, seed, spec.options)
    raise UsageError(
        f"There is no engine '{spec.engine}'.",
        expected="offline, transformers or openai",
    )
