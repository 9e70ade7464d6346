"""Options of Self-Instruct."""

from __future__ import annotations

from pydantic import Field

from espalier.curate.options import Options


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
