"""Options of the curate and pairs stages."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from espalier.curate.config_constitution import ConstitutionConfig
from espalier.curate.config_dedup import DedupConfig
from espalier.curate.config_dialogues import DialogueConfig, SelfChatConfig
from espalier.curate.config_evolve import EvolveConfig
from espalier.curate.config_filters import FilterConfig, PiiConfig, RepairConfig
from espalier.curate.config_holdout import DecontaminateConfig, HoldoutConfig
from espalier.curate.config_instruct import InstructConfig
from espalier.curate.config_preferences import PairsConfig, PreferencesConfig
from espalier.curate.config_select import QualityConfig, SelectionConfig
from espalier.curate.options import BadRow, Language, Options, SafetyKind


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


class SafetySource(Options):
    """The built-in safety set: requests to decline, and harmless ones that sound alike."""

    kind: Literal["safety"] = Field(description="`safety`: the built-in safety set.")
    languages: list[Language] = Field(["en", "zh"], min_length=1, description="Languages.")
    include: list[SafetyKind] = Field(
        ["harmful", "borderline"],
        min_length=1,
        description="harmful: requests with a kind refusal; borderline: harmless ones with a "
        "helpful answer.",
    )
    name: str = Field("safety", description="Name in meta.source.")
    use: Literal["sft", "preferences", "prompts"] = Field(
        "sft", description="What the rows are for (see a file source)."
    )
    answer: bool = Field(
        False, description="Let the teacher answer the prompts instead of the written answers."
    )


_TAGS = {"procedural": "ProceduralSource", "safety": "SafetySource"}


def _source_tag(value: Any) -> str:
    kind = value.get("kind", "file") if isinstance(value, dict) else getattr(value, "kind", "file")
    return _TAGS.get(kind, "FileSource")


Source = Annotated[
    Annotated[FileSource, Tag("FileSource")]
    | Annotated[ProceduralSource, Tag("ProceduralSource")]
    | Annotated[SafetySource, Tag("SafetySource")],
    Discriminator(_source_tag),
]


class AnswerConfig(Options):
    """How the teacher is sampled where a row needs an answer."""

    temperature: float = Field(0.7, ge=0, description="0 is greedy.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling.")
    max_tokens: int = Field(1024, ge=1, description="Longest answer; longer ones are rejected.")


class CurateConfig(Options):
    """Stage 1: seeds or raw data to a clean, deduplicated, decontaminated dataset."""

    sources: list[Source] = Field(default_factory=list, description="Where rows come from.")
    self_instruct: InstructConfig | None = Field(
        None, description="Let the teacher write new tasks after seed tasks."
    )
    evolve: EvolveConfig | None = Field(
        None, description="Let the teacher make instructions harder and rarer (Evol-Instruct)."
    )
    self_chat: SelfChatConfig | None = Field(
        None, description="Let the teacher play both sides of dialogues that begin with prompts."
    )
    constitution: ConstitutionConfig | None = Field(
        None, description="Let the teacher revise its own answers by written principles."
    )
    answers: AnswerConfig = Field(default_factory=AnswerConfig, description="Teacher's answers.")
    repair: RepairConfig | None = Field(None, description="Repair of damaged text; null: off.")
    dialogues: DialogueConfig | None = Field(
        None, description="Cleaning and splitting of dialogues; null: off."
    )
    filters: FilterConfig = Field(default_factory=FilterConfig, description="Rules on rows.")
    pii: PiiConfig | None = Field(None, description="Personal data; null: left as it is.")
    dedup: DedupConfig = Field(default_factory=DedupConfig, description="Duplicates.")
    decontaminate: DecontaminateConfig | None = Field(
        None, description="Away from evaluation files; null: off."
    )
    holdout: HoldoutConfig = Field(default_factory=HoldoutConfig, description="Held-out rows.")
    quality: QualityConfig | None = Field(None, description="Scores of rows; null: none.")
    selection: SelectionConfig | None = Field(
        None, description="The best and most different rows; null: all."
    )
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
        constitution = self.constitution is not None and bool(self.constitution.safety)
        if not self.sources and self.self_instruct is None and not constitution:
            raise ValueError("nothing to curate: give `sources` or `self_instruct`")
        return self
