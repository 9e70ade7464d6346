"""Options of the engine that local models answer through."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

PerplexityEngine = Literal["auto", "transformers", "vllm"]
PERPLEXITY_ENGINE = (
    "What computes perplexities of local models. vllm: the engine that answers, while it is open, "
    "so that a model is loaded once. auto: that, where vLLM answers for all local models and "
    "corpus_windows are pieces; else transformers."
)


class EngineConfig(BaseModel):
    """What runs local models: a name alone (`engine: vllm`), or a name with options."""

    model_config = ConfigDict(extra="forbid")

    use: Literal["auto", "transformers", "vllm", "vllm-server"] = Field(
        "auto",
        description="auto takes vLLM for all local models, or transformers for all, and says why: "
        "vLLM where it is installed, can serve every one, and its start is paid back.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Options of the engine that `use` names, e.g. {max_model_len: 4096}.",
    )

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"use": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _no_contradiction(self) -> EngineConfig:
        if self.options and self.use == "auto":
            raise ValueError(
                "`options` belong to one engine, and `use: auto` leaves open to which; "
                "name the engine in `use`, or take `options` out"
            )
        for name, place in (("dtype", "evaluate.dtype"), ("template", "models.template")):
            if name in self.options:
                raise ValueError(
                    f"`options.{name}` has a place of its own in an evaluation: put it into "
                    f"{place}, so that it holds for every engine and for scoring"
                )
        return self
