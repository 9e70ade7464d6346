"""Options of preference pairs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from espalier.curate.options import Options
from espalier.engines.base import EngineSpec

Expand = Literal["best_worst", "all", "adjacent"]
RankBy = Literal["copeland", "bradley_terry", "rubric"]

WEAK = "weak"
WEAK_WEIGHT = 2.0
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


class RankingConfig(Options):
    """All samples of a prompt in order, and the pairs of them."""

    by: RankBy = Field(
        "copeland",
        description="The score: wins minus losses of all pairwise comparisons (copeland), "
        "log-strengths from them (bradley_terry), or the mean rubric mark (rubric).",
    )
    expand: Expand = Field(
        "all",
        description="Pairs of a ranking: all of different ranks, neighbours only, or the best "
        "and the worst only.",
    )
    extra: int = Field(
        0, ge=0, description="Further pairs for each prompt, of the other `kinds` than `sample`."
    )


class PreferencesConfig(Options):
    """Preference pairs: judged teacher samples, a weaker teacher, corrupted answers."""

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
        "the judge put lower, `weak` an answer of the weak teacher (2 when there is one), all "
        "others are corruptions of the chosen one.",
    )
    ranking: RankingConfig | None = Field(
        None,
        description="Rank all samples instead of finding the best (rankings.jsonl) and take the "
        "pairs of each ranking, a group; null: no rankings.",
    )
    weak: EngineSpec | None = Field(
        None, description="A weaker teacher, whose answer is the rejected one; null: none."
    )
    verify_weak: Literal["no", "drop", "flip"] = Field(
        "no",
        description="Let the judge compare the weak answer with the chosen one: where it prefers "
        "the weak one in both orders, drop the pair or flip it; where it can't decide, drop it.",
    )
    verify_corruptions: bool = Field(
        False, description="Keep only corruptions that the judge puts lower in both orders."
    )
    reasons: bool = Field(
        False,
        description="Keep the judge's verdicts and reasons in meta.judge of pairs of kind "
        "`sample` (pairs of other judged kinds always have them).",
    )

    @model_validator(mode="after")
    def _known_kinds(self) -> PreferencesConfig:
        known = [*DEFAULT_KINDS, WEAK]
        unknown = sorted(set(self.kinds) - set(known))
        if unknown:
            raise ValueError(f"unknown kinds {unknown}; known: {', '.join(known)}")
        if self.weak is not None:
            self.kinds = {**self.kinds, WEAK: self.kinds.get(WEAK, WEAK_WEIGHT)}
        elif self.kinds.get(WEAK):
            raise ValueError("the kind `weak` needs a weak teacher: set `weak` to an engine")
        if self.verify_weak != "no" and self.weak is None:
            raise ValueError("`verify_weak` needs a weak teacher: set `weak` to an engine")
        if self.ranking is not None and self.samples < 2:
            raise ValueError("a ranking needs `samples` of 2 or more")
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
