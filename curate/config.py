"""Options of the curate and pairs stages."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Language = Literal["en", "zh"]
BadRow = Literal["stop", "quarantine"]


class Options(BaseModel):
    """Base of all option groups: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")


class FileSource(Options):
    """A dataset file in any of the formats that are read."""

    kind: Literal["file"] = Field("file", description="`file`: rows come from a dataset file.")
    path: str = Field(description="The file; `${data}/…` starts at the recipe's data root.")
    format: str = Field("auto", description="Format name, or `auto` to detect it.")
    name: str | None = Field(None, description="Name in meta.source (default: the file's stem).")
    use: Literal["auto", "sft", "preferences", "prompts"] = Field(
        "auto",
        description="What the rows are for: training (sft), preference pairs or their prompts, "
        "prompts for RL and on-policy sampling; auto: preferences for a file of pairs, else sft.",
    )
    limit: int | None = Field(None, ge=1, description="Take at most this many rows.")
    pick: Literal["first", "random"] = Field(
        "first", description="Which rows `limit` takes: the first, or a seeded random sample."
    )
    answer: bool = Field(
        False, description="Let the teacher answer rows without an answer (else: rejected)."
    )
    on_bad_row: BadRow | None = Field(
        None, description="Overrides `curate.on_bad_row` for this file."
    )
    license: str | None = Field(None, description="The data's licence, for the dataset card.")


class ProceduralSource(Options):
    """Prompts made by the embedded bilingual task generator; the teacher answers them."""

    kind: Literal["procedural"] = Field(description="`procedural`: generated task prompts.")
    count: int = Field(ge=1, description="Prompts to draw.")
    languages: list[Language] = Field(["en", "zh"], min_length=1, description="Languages.")
    families: list[str] | None = Field(None, description="Only these task families (default: all).")
    name: str = Field("procedural", description="Name in meta.source.")
    use: Literal["sft", "preferences", "prompts"] = Field(
        "sft", description="What the prompts are for (see a file source)."
    )


def _source_tag(value: Any) -> str:
    kind = value.get("kind", "file") if isinstance(value, dict) else getattr(value, "kind", "file")
    return "ProceduralSource" if kind == "procedural" else "FileSource"


Source = Annotated[
    Annotated[FileSource, Tag("FileSource")] | Annotated[ProceduralSource, Tag("ProceduralSource")],
    Discriminator(_source_tag),
]


class AnswerConfig(Options):
    """How the teacher is sampled where a row needs an answer."""

    temperature: float = Field(0.7, ge=0, description="0 is greedy.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling.")
    max_tokens: int = Field(1024, ge=1, description="Longest answer; longer ones are rejected.")


class SelfInstructConfig(Options):
    """New tasks written by the teacher after seed tasks (Wang et al. 2022)."""

    seeds: list[str] = Field(
        ["en", "zh"],
        min_length=1,
        description="Seed files: `en` and `zh` are built in; else a path (language detected).",
    )
    target: int = Field(150, ge=1, description="Finished rows wanted in each language.")
    in_context: int = Field(8, ge=1, description="Example instructions in a prompt.")
    machine_in_context: int = Field(
        2, ge=0, description="Of these, machine-made (fewer while there are few)."
    )
    temperature: float = Field(0.7, ge=0, description="Sampling of new instructions.")
    top_p: float = Field(0.5, gt=0, le=1, description="Sampling of new instructions.")
    presence_penalty: float = Field(2.0, description="Sampling of new instructions.")
    max_tokens: int = Field(1024, ge=1, description="Longest completion.")
    instance_temperature: float = Field(0.0, ge=0, description="Sampling of the examples.")
    requests_per_round: int = Field(
        16, ge=1, description="Requests that see the same frozen pool of instructions."
    )
    max_rounds: int = Field(100, ge=1, description="Give up after this many rounds a language.")
    novelty: float = Field(
        0.7,
        gt=0,
        le=1,
        description="Reject an instruction with a higher ROUGE-L F1 to any seed or kept one.",
    )
    min_words: int = Field(3, ge=0, description="Instructions need more words than this.")
    max_words: int = Field(150, ge=1, description="Instructions have at most this many words.")
    blacklist: dict[str, list[str]] = Field(
        default_factory=lambda: {
            "en": [
                "image", "images", "graph", "graphs", "picture", "pictures", "photo", "photos",
                "file", "files", "map", "maps", "draw", "plot", "go to", "video", "audio",
                "flowchart", "diagram",
            ],
            "zh": [
                "图片", "图像", "照片", "图表", "文件", "地图", "绘制", "画一", "画出", "视频",
                "音频", "流程图", "截图", "上传",
            ],
        },
        description="Words that a text model can't act on (English: whole words, any case).",
    )  # fmt: skip
    blacklist_openings: dict[str, list[str]] = Field(
        default_factory=lambda: {
            "en": ["write a program"],
            "zh": ["写一个程序", "编写一个程序", "编写程序"],
        },
        description="Openings that are rejected.",
    )
    ascii_only: bool = Field(
        True, description="Reject English instructions that start with a non-ASCII character."
    )


class FilterConfig(Options):
    """Rules on single rows; a limit of null switches a rule off. Empty answers always go."""

    min_prompt_words: int | None = Field(1, description="Script-aware words in the prompt.")
    max_prompt_words: int | None = Field(4000, description="Script-aware words in the prompt.")
    min_answer_words: int | None = Field(
        None, description="Script-aware words in the answer; marks such as ★★★ are none."
    )
    max_answer_words: int | None = Field(4000, description="Script-aware words in the answer.")
    refusals: bool = Field(True, description="Reject answers that decline the task.")
    copies: bool = Field(True, description="Reject answers that repeat the prompt or its input.")
    cut_off: bool = Field(True, description="Reject answers that end in a colon.")
    broken_text: bool = Field(True, description="Reject replacement and control characters.")
    repetition: float | None = Field(
        0.6,
        gt=0,
        le=1,
        description="Reject answers of 30 words or more in which a larger share of the 4-grams "
        "are repeats.",
    )
    turn_order: bool = Field(True, description="Reject dialogues whose turns do not alternate.")


class DedupConfig(Options):
    """Exact duplicates after normalising case, width, spaces and punctuation."""

    key: Literal["prompt", "prompt+answer", "none"] = Field(
        "prompt", description="What has to be equal; the first row of equals is kept."
    )


class HoldoutConfig(Options):
    """Rows held out for evaluation (drawn first) and kept away from training."""

    count: int = Field(0, ge=0, description="Rows for eval.jsonl; 0: none are held out.")
    prompts: int = Field(
        0, ge=0, description="Further held-out rows whose prompts go to prompts.jsonl (for RL)."
    )
    sources: list[str] | None = Field(
        None, description="Names of the training sources to draw from (default: all)."
    )
    against: list[str] = Field(
        default_factory=list,
        description="Further files whose prompts must not be trained on (test sets).",
    )
    near_threshold: float = Field(
        0.7, gt=0, le=1, description="Jaccard of prompt n-grams from which a row is too near."
    )
    ngram: int = Field(5, ge=1, description="Length of these n-grams, in script-aware words.")


DEFAULT_KINDS: dict[str, float] = {
    "sample": 2.0,
    "other_answer": 2.0,
    "prompt_fragment": 1.0,
    "number": 1.0,
    "item_dropped": 1.0,
    "item_doubled": 1.0,
    "item_swapped": 1.0,
    "item_replaced": 1.0,
    "case": 1.0,
    "extra_word": 1.0,
    "full_stop": 1.0,
    "truncation": 1.0,
    "padding": 2.0,
    "empty": 0.3,
}


class PreferencesConfig(Options):
    """Preference pairs from judged teacher samples and from corrupted answers."""

    count: int | None = Field(None, ge=1, description="Pairs for training (default: all).")
    eval_count: int = Field(
        0, ge=0, description="Pairs, from other prompts, for the reward model of the evaluation."
    )
    samples: int = Field(2, ge=1, description="Teacher samples a prompt; the best is chosen.")
    choose_by: Literal["pairwise", "rubric"] = Field(
        "pairwise", description="Judge samples against each other (both orders) or by rubric."
    )
    min_rating: float | None = Field(
        None,
        description="The chosen answer needs at least this mean rubric mark (1 to 5) as well.",
    )
    temperature: float = Field(1.0, ge=0, description="Sampling of the teacher.")
    max_tokens: int = Field(256, ge=1, description="Longest sample.")
    per_prompt: int = Field(1, ge=1, description="Pairs aimed at for each prompt.")
    kinds: dict[str, float] = Field(
        default_factory=lambda: dict(DEFAULT_KINDS),
        description="Weight of each way to make the rejected answer; `sample` is a sample that "
        "the judge put lower, all others are corruptions of the chosen one.",
    )

    @model_validator(mode="after")
    def _known_kinds(self) -> PreferencesConfig:
        unknown = sorted(set(self.kinds) - set(DEFAULT_KINDS))
        if unknown:
            raise ValueError(f"unknown kinds {unknown}; known: {', '.join(DEFAULT_KINDS)}")
        if any(weight < 0 for weight in self.kinds.values()) or not any(self.kinds.values()):
            raise ValueError("weights are zero or more, and at least one is above zero")
        return self


class PairsConfig(Options):
    """Preference pairs from the SFT model's own samples, judged (the stage `pairs`)."""

    prompts: int = Field(1000, ge=1, description="Prompts sampled for training pairs.")
    eval_prompts: int = Field(300, ge=0, description="Other prompts, for the evaluation's pairs.")
    samples: int = Field(2, ge=1, description="Samples of the model for each prompt.")
    references: int = Field(
        2, ge=0, description="Teacher samples a prompt; the best is compared. 0: none."
    )
    among_samples: bool = Field(True, description="Also compare the model's samples to each other.")
    temperature: float = Field(1.0, ge=0, description="Sampling of the model and the teacher.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling of the model.")
    max_tokens: int = Field(64, ge=1, description="Longest sample.")
    model: str = Field("sft", description="A model stage of this run, or a folder.")


class CurateConfig(Options):
    """Stage 1: seeds or raw data to a clean, deduplicated, decontaminated dataset."""

    sources: list[Source] = Field(default_factory=list, description="Where rows come from.")
    self_instruct: SelfInstructConfig | None = Field(
        None, description="Let the teacher write new tasks after seed tasks."
    )
    answers: AnswerConfig = Field(default_factory=AnswerConfig, description="Teacher's answers.")
    filters: FilterConfig = Field(default_factory=FilterConfig, description="Rules on rows.")
    dedup: DedupConfig = Field(default_factory=DedupConfig, description="Exact duplicates.")
    holdout: HoldoutConfig = Field(default_factory=HoldoutConfig, description="Held-out rows.")
    preferences: PreferencesConfig = Field(
        default_factory=PreferencesConfig, description="Preference pairs."
    )
    pairs: PairsConfig | None = Field(None, description="The stage `pairs`; null: none.")
    on_bad_row: BadRow = Field(
        "stop", description="A row that can't be read: stop, or quarantine it in rejects.jsonl."
    )
    output_formats: list[str] = Field(
        default_factory=list,
        description="Write the training rows in these formats too (train.<format>.jsonl).",
    )
    license: str | None = Field(None, description="Licence of the result, for the card.")

    @model_validator(mode="after")
    def _something_to_do(self) -> CurateConfig:
        if not self.sources and self.self_instruct is None:
            raise ValueError("nothing to curate: give `sources` or `self_instruct`")
        return self
