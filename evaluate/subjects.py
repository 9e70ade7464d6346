"""The models of an evaluation: what they are and where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from espalier.adapted import is_adapter
from espalier.engines.base import EngineSpec
from espalier.errors import InputError
from espalier.evaluate.config import ModelConfig
from espalier.models import check_source
from espalier.run import StageContext
from espalier.stages import NAMES as STAGE_NAMES
from espalier.template_files import template_path

Kind = Literal["stage", "folder", "hub", "api", "predictions"]


@dataclass(frozen=True)
class Subject:
    """A model to evaluate, with its options resolved: where it is and what it is called."""

    config: ModelConfig
    kind: Kind
    source: str  # as shown
    location: str  # folder or hub name of a local model, file of predictions; else ""
    spec: EngineSpec | None = None  # what answers for a local model, and why that
    reason: str = ""
    scored_by: str = ""  # engine and version that compute its perplexities, if not transformers

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def local(self) -> bool:
        return self.kind in ("stage", "folder", "hub")


def subject_of(model: ModelConfig, context: StageContext) -> Subject:
    """Where a model of the recipe is: a stage's folder, a folder, a hub name, an API or a file."""
    model = model.model_copy(update={"template": template_path(context, model.template)})
    if model.stage is not None:
        if model.stage not in STAGE_NAMES:
            raise InputError(
                f"'{model.stage}' is no stage that trains a model.",
                where=f"evaluate.models, the model '{model.name}'",
                expected="base, sft or ppo",
            )
        folder = context.stage_folder(model.stage) / "model"
        return Subject(model, "stage", f"{model.stage}/model", str(folder))
    if model.path is not None:
        path = context.path(model.path)
        if _holds_model(path / "model") and not _holds_model(path):
            path = path / "model"
        kind: Kind = "folder" if path.exists() else "hub"
        return Subject(model, kind, model.path, str(path) if kind == "folder" else model.path)
    if model.predictions is not None:
        path = context.path(model.predictions)
        return Subject(model, "predictions", model.predictions, str(path))
    spec = model.api
    source = f"{spec.engine}: {spec.model}" if spec is not None else ""
    return Subject(model, "api", source, "")


def _holds_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() or is_adapter(folder)


def check_sources(subjects: Sequence[Subject]) -> None:
    """Raise InputError for a local model that is no model, before anything is computed."""
    for subject in subjects:
        if subject.local:
            check_source(subject.location)
