"""Options of Self-Instruct and of its Alpaca mode."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from espalier.curate.options import Options

# What a text model can't act on: the published lists, and for Chinese their counterparts.
_BLACKLIST = {
    "en": [
        "image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map",
        "maps", "draw", "plot", "go to",
    ],
    "zh": [
        "图片", "图像", "照片", "截图", "图表", "曲线图", "文件", "地图", "绘制", "绘图", "作图",
        "画一张", "画一幅", "画出", "打开网页", "访问网站",
    ],
}  # fmt: skip
_ALPACA_BLACKLIST = {
    "en": [*_BLACKLIST["en"], "video", "audio", "music", "flowchart", "diagram"],
    "zh": [*_BLACKLIST["zh"], "视频", "音频", "音乐", "流程图", "示意图"],
}


def _listed(words: dict[str, list[str]]) -> dict[str, list[str]]:
    return {language: list(items) for language, items in words.items()}


class _InstructConfig(Options):
    """What both modes share."""

    seeds: list[str] = Field(
        ["en", "zh"],
        min_length=1,
        description="Seed files: `en` and `zh` are built in; else a path (language detected).",
    )
    target: int = Field(150, ge=1, description="Finished rows wanted in each language.")
    requests_per_round: int = Field(
        16,
        ge=1,
        description="At most so many requests see the same frozen pool of instructions and run "
        "at once; a round asks no more than the target seems to need.",
    )
    max_rounds: int = Field(100, ge=1, description="Give up after this many rounds a language.")
    novelty: float = Field(
        0.7,
        gt=0,
        le=1,
        description="Reject an instruction with a higher ROUGE-L F1 to any seed or kept one.",
    )
    nearest: int = Field(
        10,
        ge=0,
        description="Keep so many nearest tasks (and the mean ROUGE-L F1) in a row's meta; 0: off.",
    )
    min_words: int = Field(
        3, ge=0, description="Instructions need more words (Chinese: characters) than this."
    )
    max_words: int = Field(
        150, ge=1, description="Instructions have at most this many words (Chinese: characters)."
    )
    blacklist_openings: dict[str, list[str]] = Field(
        default_factory=lambda: {
            "en": ["write a program"],
            "zh": ["写一个程序", "写个程序", "编写一个程序", "编写程序"],
        },
        description="Openings that are rejected, in any case.",
    )
    punctuation_opening: bool = Field(
        False,
        description="Keep instructions that open with punctuation (Chinese quotation and title "
        "marks may always open one).",
    )
    ascii_only: bool = Field(
        True,
        description="Reject English instructions that start with a non-ASCII character "
        "(never applied to Chinese).",
    )


class SelfInstructConfig(_InstructConfig):
    """New tasks written by the teacher after seed tasks (Wang et al. 2022), in three steps."""

    mode: Literal["self-instruct"] = Field(
        "self-instruct",
        description="self-instruct: instructions, then their kind, then examples of each; "
        "alpaca: tasks with input and output in one request.",
    )
    in_context: int = Field(8, ge=1, description="Example instructions in a prompt.")
    machine_in_context: int = Field(
        2, ge=0, description="Of these, machine-made (fewer while there are few)."
    )
    temperature: float = Field(0.7, ge=0, description="Sampling of new instructions.")
    top_p: float = Field(0.5, gt=0, le=1, description="Sampling of new instructions.")
    presence_penalty: float = Field(2.0, description="Sampling of new instructions.")
    max_tokens: int = Field(1024, ge=1, description="Longest list of new instructions.")
    blacklist: dict[str, list[str]] = Field(
        default_factory=lambda: _listed(_BLACKLIST),
        description="Words that a text model can't act on (English: whole words, any case).",
    )
    classification_temperature: float = Field(
        0.0, ge=0, description="Sampling of the answer to: is this task a classification?"
    )
    classification_max_tokens: int = Field(3, ge=1, description="Longest answer to that question.")
    instance_temperature: float = Field(0.0, ge=0, description="Sampling of the examples.")
    instance_presence_penalty: float = Field(1.5, description="Sampling of the examples.")
    instance_max_tokens: int = Field(1024, ge=1, description="Longest list of a task's examples.")
    max_instances: int = Field(
        5, ge=1, description="Examples of a task that are asked for and kept, each a row."
    )


class AlpacaConfig(_InstructConfig):
    """New tasks with input and output in one step, in batches (Taori et al. 2023)."""

    mode: Literal["alpaca"] = Field(
        description="alpaca: tasks with input and output in one request; self-instruct: in "
        "three steps.",
    )
    in_context: int = Field(3, ge=1, description="Example tasks in a prompt, with their output.")
    machine_in_context: int = Field(0, ge=0, description="Of these, machine-made.")
    batch: int = Field(20, ge=2, description="Tasks in a list, those of the prompt included.")
    temperature: float = Field(1.0, ge=0, description="Sampling of new tasks.")
    top_p: float = Field(1.0, gt=0, le=1, description="Sampling of new tasks.")
    presence_penalty: float = Field(0.0, description="Sampling of new tasks.")
    max_tokens: int = Field(3072, ge=1, description="Longest list of new tasks.")
    blacklist: dict[str, list[str]] = Field(
        default_factory=lambda: _listed(_ALPACA_BLACKLIST),
        description="Words that a text model can't act on (English: whole words, any case).",
    )

    @model_validator(mode="after")
    def _room_for_new_ones(self) -> AlpacaConfig:
        if self.batch <= self.in_context:
            raise ValueError("`batch` must be more than `in_context`: the list holds the examples")
        return self


def _mode_tag(value: Any) -> str:
    mode = value.get("mode") if isinstance(value, dict) else getattr(value, "mode", None)
    return "AlpacaConfig" if mode == "alpaca" else "SelfInstructConfig"


# The recipe's section `curate.self_instruct`: its `mode` says which options there are.
InstructConfig = Annotated[
    Annotated[SelfInstructConfig, Tag("SelfInstructConfig")]
    | Annotated[AlpacaConfig, Tag("AlpacaConfig")],
    Discriminator(_mode_tag),
]
