"""Options of the evaluation: the set, the models, the metrics, and how sure to be."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from espalier.engines.base import EngineSpec
from espalier.evaluate.config_compare import CompareConfig
from espalier.evaluate.config_contamination import ContaminationConfig
from espalier.evaluate.config_engine import (
    PERPLEXITY_ENGINE,
    EngineConfig,
    PerplexityEngine,
)
from espalier.evaluate.config_judge import JudgeConfig, RatingsConfig
from espalier.evaluate.config_metrics import MetricFields

MetricName = Literal[
    "exact_match",
    "token_f1",
    "rouge1",
    "rouge2",
    "rougeL",
    "bleu",
    "chrf",
    "perplexity",
    "reward",
    # From here on by name only; "default" stands for those that need none.
    "default",
    "rougeLsum",
    "ter",
    "classification",
    "entities",
    "checks",
    "length",
    "refusals",
    "distinct",
    "self_bleu",
    "forgetting",
    "ppl_response",
    "ppl_whole",
    "ppl_text_mean",
    "bits_per_byte",
    "ppl_corpus",
    "ppl_corpus_mean",
    "bpb_corpus",
]
ModelKind = Literal["stage", "path", "api", "predictions"]
KINDS: tuple[ModelKind, ...] = ("stage", "path", "api", "predictions")


class ModelConfig(BaseModel):
    """One model to evaluate: exactly one of stage, path, api and predictions says where it is."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Short name, used for files and in tables (letters, digits, . _ -).",
    )
    label: str | None = Field(None, description="Name shown in the report (default: the name).")
    stage: str | None = Field(
        None, description="A training stage of this run whose model answers: base, sft or ppo."
    )
    path: str | None = Field(None, description="A model folder or hub name, run locally.")
    api: EngineSpec | None = Field(None, description="An engine that answers, e.g. an API model.")
    predictions: str | None = Field(
        None, description="A file of answers made elsewhere (JSONL, JSON, CSV, Parquet)."
    )
    match: Literal["auto", "id", "prompt", "order"] = Field(
        "auto",
        description="How the rows of a predictions file find their prompts: by id, by prompt, or "
        "by row order (only when named, or when the instructions agree row by row).",
    )
    field: str | None = Field(
        None,
        description="Field of a predictions file that holds the answer (default: the first of "
        "response, prediction, output, completion, answer, text).",
    )
    template: str | None = Field(
        None, description="Prompt template, where it is not the one saved beside the model."
    )
    engine: EngineConfig | None = Field(
        None, description="Engine of this local model alone (default: `evaluate.engine`)."
    )
    few_shot: int = Field(
        0,
        ge=0,
        le=32,
        description="Solved examples shown before each prompt (for base models); taken from "
        "`few_shot_from`, never from the set.",
    )
    notes: list[str] = Field(
        default_factory=list, description="Sentences that the report shows with this model."
    )

    @model_validator(mode="after")
    def _one_source(self) -> ModelConfig:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none of them"
            raise ValueError(
                f"a model needs exactly one of {', '.join(KINDS)}; '{self.name}' has {found}"
            )
        if self.few_shot and self.predictions is not None:
            raise ValueError(
                f"few_shot has no effect on a predictions file; remove it from '{self.name}'"
            )
        if self.engine is not None and (self.api is not None or self.predictions is not None):
            raise ValueError(
                f"engine is for a local model (stage or path), and '{self.name}' has "
                f"{given[0]}; remove engine"
            )
        return self

    @property
    def kind(self) -> ModelKind:
        return next(kind for kind in KINDS if getattr(self, kind) is not None)


class EvalSampling(BaseModel):
    """How the models answer."""

    model_config = ConfigDict(extra="forbid")

    temperature: float = Field(0.0, ge=0, description="0 is greedy: the same answer every time.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling, where temperature > 0.")
    max_tokens: int = Field(256, ge=1, description="Longest answer, in tokens of the model.")


class HubMetricConfig(BaseModel):
    """A Hugging Face `evaluate` module as one more column."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(description="Local folder or script of the module (or a hub name).")
    key: str | None = Field(
        None, description="Key of the module's result to take (default: its only number)."
    )
    name: str | None = Field(None, description="Name of the column (default: that of the module).")
    higher_is_better: bool = Field(True, description="Whether more is better.")
    description: str | None = Field(
        None,
        description="What it says and when it misleads (default: the module's own first sentence).",
    )
    options: dict[str, str | int | float | bool | None] = Field(
        default_factory=dict, description="Keyword arguments for the module's `compute`."
    )
    over: Literal["rows", "list", "corpus"] = Field(
        "rows",
        description="rows: computed on each row, the mean of these; list: on all rows at once, "
        "`key` holding a value for each; corpus: on all rows at once, one number, which has no "
        "interval and is not tested.",
    )
    given: Literal["text", "number", "label"] = Field(
        "text",
        description="What answers and references are handed over as: number: the number that the "
        "text is; label: its place in `labels` (-1: none of them). Rows whose reference is no such "
        "thing are left out.",
    )
    labels: list[str] = Field(default_factory=list, description="Labels, for `given: label`.")
    references: Literal["one", "list", "none"] = Field(
        "one",
        description="one: a reference a row; list: a list of one; none: the module takes "
        "predictions alone.",
    )

    @model_validator(mode="after")
    def _labelled(self) -> HubMetricConfig:
        if (self.given == "label") != bool(self.labels):
            raise ValueError("given: label and labels belong together; name both or neither")
        if self.over == "list" and self.key is None:
            raise ValueError("over: list needs `key`, the name of the list in the module's result")
        return self


class EvaluateConfig(MetricFields):
    """Answers and scores of every model on a held-out set."""

    set: str = Field(
        "curate/eval.jsonl", description="The held-out set: a file in any dataset format."
    )
    name: str | None = Field(None, description="Name of the set in the report (default: its file).")
    format: str = Field("auto", description="Dataset format of the set, where detection errs.")
    limit: int | None = Field(None, ge=1, description="Only the first rows of the set.")
    category: str = Field(
        "category", description="Meta field of the set that its rows are grouped by in the slices."
    )
    models: list[ModelConfig] = Field(
        min_length=1, description="The models to compare, in the order of the report."
    )
    baseline: str | None = Field(
        None, description="Model that the others are compared with (default: the first)."
    )
    metrics: list[MetricName] | None = Field(
        None,
        description="Which metrics (default: exact_match, token_f1, rouge1, rouge2, rougeL, bleu, "
        "chrf, reward and perplexity, as far as they apply to the set and the models). `default` "
        "in the list stands for these.",
    )
    hub_metrics: list[HubMetricConfig] = Field(
        default_factory=list, description="Hugging Face `evaluate` modules as further columns."
    )
    reward_model: str | None = Field(
        None,
        description="Reward model that scores the answers: a stage of this run (reward_eval) or "
        "a folder. Never the one that PPO was trained against.",
    )
    reward_label: str | int | None = Field(
        None,
        description="Where the reward model is a classifier of several labels: the one whose logit "
        "is the score, by name or number.",
    )
    reward_template: str | None = Field(
        None,
        description="Prompt template of the reward model. Default: what its folder says; an "
        "encoder such as BERT reads prompt and answer as two texts (text-pair).",
    )
    allow_training_reward: bool = Field(
        False, description="Score with PPO's own reward model all the same (labelled as such)."
    )
    perplexity_corpus: str | None = Field(
        None, description="Texts for one more perplexity column: .txt, or rows with a text field."
    )
    few_shot_from: str = Field(
        "curate/train.jsonl", description="Where the examples for `few_shot` come from."
    )
    sampling: EvalSampling = Field(
        default_factory=EvalSampling, description="How the models answer."
    )
    engine: EngineConfig = Field(
        default_factory=EngineConfig,
        description="What local models answer through: auto, transformers, vllm or vllm-server.",
    )
    perplexity_engine: PerplexityEngine = Field("auto", description=PERPLEXITY_ENGINE)
    batch: int = Field(
        64,
        ge=1,
        description="Prompts in a batch of the transformers engine. Answers are stored as they "
        "arrive, so a kill loses at most what is in the works.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Number type of local models; auto takes the type they were saved in."
    )
    token_budget: int | None = Field(
        None,
        ge=64,
        description="Tokens a forward pass when scoring (default: 2,048 on a CPU, else 8,192).",
    )
    resamples: int = Field(2000, ge=100, description="Bootstrap resamples for the intervals.")
    permutations: int = Field(
        10000, ge=100, description="Random exchanges for the p-value of a difference."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Level of the intervals.")
    compare: CompareConfig = Field(
        default_factory=CompareConfig, description="How the models are compared, and in what parts."
    )
    judge: JudgeConfig | None = Field(
        None, description="A judge model marks the answers and compares them in pairs."
    )
    ratings: RatingsConfig | None = Field(
        None, description="Ratings of the answers by people, from files."
    )
    contamination: ContaminationConfig | None = Field(
        default_factory=ContaminationConfig,
        description="Which prompts share text with the training data, where there is any; null: "
        "don't look.",
    )
    seed: int | None = Field(None, description="Seed of the evaluation (default: the run's).")

    @model_validator(mode="after")
    def _names(self) -> EvaluateConfig:
        names = [model.name for model in self.models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two models are called '{twice[0]}'; each needs a name of its own")
        if self.baseline is not None and self.baseline not in names:
            raise ValueError(
                f"the baseline '{self.baseline}' is none of the models ({', '.join(names)})"
            )
        return self

    @model_validator(mode="after")
    def _reward_needs(self) -> EvaluateConfig:
        given = {
            "reward_label": self.reward_label is not None,
            "reward_template": self.reward_template is not None,
            "allow_training_reward": self.allow_training_reward,
        }
        if self.reward_model is None and any(given.values()):
            name = next(name for name, there in given.items() if there)
            raise ValueError(f"{name} has no effect without `reward_model`; name it, or remove it")
        return self

    @model_validator(mode="after")
    def _metric_needs(self) -> EvaluateConfig:
        if self.names("classification") and self.classification is None:
            raise ValueError(
                "metrics has classification, which needs `classification` (its labels)"
            )
        if self.names("forgetting") and self.perplexity_corpus is None:
            raise ValueError("metrics has forgetting, which needs `perplexity_corpus` (its texts)")
        for name in ("ppl_corpus", "ppl_corpus_mean", "bpb_corpus"):
            if self.names(name) and self.perplexity_corpus is None:
                raise ValueError(f"metrics has {name}, which needs `perplexity_corpus`")
        if self.corpus_windows != "pieces" and self.perplexity_corpus is None:
            raise ValueError("corpus_windows has no effect without `perplexity_corpus`")
        if self.general_before is not None:
            if not self.names("forgetting"):
                raise ValueError("general_before has no effect without `forgetting` in metrics")
            if self.general_before not in [model.name for model in self.models]:
                raise ValueError(f"general_before: '{self.general_before}' is none of the models")
        return self

    @model_validator(mode="after")
    def _scoring_engine(self) -> EvaluateConfig:
        if self.perplexity_engine == "vllm" and self.corpus_windows == "rolling":
            raise ValueError(
                "perplexity_engine: vllm and corpus_windows: rolling don't go together, since "
                "vLLM can't read a window as long as the context and predict the token after it"
            )
        return self

    def names(self, metric: str) -> bool:
        """Whether the recipe names this metric."""
        return metric in (self.metrics or ())

    def asks(self, metric: str, *, default: bool = True) -> bool:
        """Whether it names the metric, or the metric is a default one and these are wanted."""
        return self.names(metric) or (default and (self.metrics is None or self.names("default")))
