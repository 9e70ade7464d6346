"""The question of a sweep, held against its members before anything runs.

What the answer names has to be there: the factor and its reference, the models, the metric. A word
that is written wrong would else be found after the last training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from espalier.errors import UsageError, did_you_mean
from espalier.recipe import Draft, Recipe, numbers_in
from espalier.rubrics import SCALES
from espalier.stages import STAGES
from espalier.sweep_config import Answer, SweepConfig
from espalier.sweep_file import VARIANT, Factor

# What `evaluate.metrics` may name, where its numbers have other names.
FAMILIES = {
    "perplexity": ("ppl_response", "ppl_whole", "ppl_text_mean", "bits_per_byte", "ppl_corpus"),
    "classification": ("accuracy", "macro_f1"),
    "entities": ("entity_f1",),
    "checks": ("checks_prompt", "checks_each", "checks_prompt_loose", "checks_each_loose"),
    "length": ("length_words", "length_characters"),
    "refusals": ("refusal_rate", "harmful_declined", "over_refusal"),
    "distinct": ("distinct1", "distinct2"),
}
DEFAULT = (
    "exact_match", "token_f1", "rouge1", "rouge2", "rougeL", "bleu", "chrf", "reward", "perplexity",
)  # fmt: skip
# Those that are named singly, by the name that their numbers have.
SINGLE = (
    "rougeLsum", "ter", "self_bleu", "forgetting", "ppl_response", "ppl_whole", "ppl_text_mean",
    "bits_per_byte", "ppl_corpus", "ppl_corpus_mean", "bpb_corpus",
)  # fmt: skip
# Those of the texts of `perplexity_corpus`.
CORPUS = ("ppl_corpus", "ppl_corpus_mean", "bpb_corpus", "forgetting")
# What the points of a training curve are measured on.
SPLITS = ("train", "eval", "held_out")


def answer_of(
    draft: Draft, config: SweepConfig, factors: Sequence[Factor], recipes: Sequence[Recipe]
) -> dict[str, Any] | None:
    """The section `answer` with its reference as the level that it names; `recipes` are the
    members'.

    Raises UsageError for a factor that is not varied or not named where several are, for a
    reference that is no level, and for models and metrics that no member has.
    """
    answer = config.answer
    if answer is None:
        return None
    found = answer.model_dump(mode="json")
    if not answer.models:
        factor = _factor(draft, config, answer, factors)
        if factor is not None:
            found |= _reference(draft, answer, factor)
            # Without the name the page takes the first of several.
            found["factor"] = answer.factor if len(factors) == 1 else factor.key
    _check_numbers(draft, answer, recipes)
    return found


# --- what is compared ------------------------------------------------------------------------


def _factor(
    draft: Draft, config: SweepConfig, answer: Answer, factors: Sequence[Factor]
) -> Factor | None:
    """The factor that the answer is about: the one named, the variants, else the only one."""
    known = {factor.key: factor for factor in factors}
    if answer.factor is not None and answer.factor not in known:
        raise UsageError(
            f"The question is about '{answer.factor}', which this sweep does not vary.",
            where=draft.place(("sweep", "answer", "factor")),
            expected=", ".join(known) or "a key of `over`, or `variant`",
            hint=did_you_mean(answer.factor, known),
        )
    if answer.factor is not None or VARIANT in known:
        return known[answer.factor or VARIANT]
    varied = [factor for factor in factors if len(factor.levels) > 1] or list(factors[:1])
    # A random search is about all that it draws.
    if len(varied) > 1 and config.draws is None:
        raise UsageError(
            f"The sweep varies {len(varied)} keys, and `answer` does not say which of them the "
            "question is about.",
            where=draft.place(("sweep", "answer")),
            expected="`factor`: " + ", ".join(factor.key for factor in varied),
            hint=f"for example --set sweep.answer.factor={varied[0].key}",
        )
    return varied[0] if varied else None


def _reference(draft: Draft, answer: Answer, factor: Factor) -> dict[str, Any]:
    """`reference` as the level that it names; nothing where none is named, or it was drawn."""
    if answer.reference is None:
        return {}
    wanted = numbers_in(answer.reference)
    levels = [
        level
        for level in factor.levels
        if level == wanted and isinstance(level, bool) == isinstance(wanted, bool)
    ]
    if not levels and not factor.draw:
        raise UsageError(
            f"The reference {wanted!r:.60} is no level of '{factor.key}'.",
            where=draft.place(("sweep", "answer", "reference")),
            expected=", ".join(f"{level!r:.60}" for level in factor.levels[:8]),
        )
    return {"reference": levels[0]} if levels else {}


# --- what is measured ------------------------------------------------------------------------


def _check_numbers(draft: Draft, answer: Answer, recipes: Sequence[Recipe]) -> None:
    """Raise UsageError for a model or a metric that no member has."""
    evaluations = [one for recipe in recipes if (one := recipe.section("evaluate")) is not None]
    for key, name in (("metric", answer.metric), *(("also", name) for name in answer.also)):
        where = draft.place(("sweep", "answer", key))
        if "/" in name:
            _check_curve(name, recipes, where)
        elif not evaluations:
            raise UsageError(
                f"The question is about the metric '{name}', and the recipe evaluates nothing.",
                where=where,
                expected="a section `evaluate`, or STAGE/CHART:SPLIT, the end of a training curve",
            )
        else:
            _check_metric(name, evaluations, where)
    models = {model.name: model for options in evaluations for model in options.models}
    named = [("model", answer.model), *(("models", name) for name in answer.models)]
    for key, model in named:
        if model is not None and model not in models:
            raise UsageError(
                f"The question is about the model '{model}', which is not evaluated.",
                where=draft.place(("sweep", "answer", key)),
                expected=f"a name in evaluate.models: {', '.join(models)}",
                hint=did_you_mean(model, models),
            )


def _check_curve(name: str, recipes: Sequence[Recipe], where: str) -> None:
    stage, _, rest = name.partition("/")
    chart, colon, split = rest.partition(":")
    trained = [
        one.name
        for one in STAGES
        if one.section.startswith("train.")
        and any(recipe.section(one.section) is not None for recipe in recipes)
    ]
    if stage not in trained:
        raise UsageError(
            f"The question is about the training curve '{name}', and no member trains '{stage}'.",
            where=where,
            expected=", ".join(trained) or "a stage of the section `train`",
            hint=did_you_mean(stage, trained),
        )
    if not chart or (colon and split not in SPLITS):
        raise UsageError(
            f"'{name}' is no training curve.",
            where=where,
            expected=f"STAGE/CHART, or STAGE/CHART:SPLIT with SPLIT one of {', '.join(SPLITS)}",
            hint=did_you_mean(split, SPLITS),
        )


def _check_metric(name: str, evaluations: Sequence[Any], where: str) -> None:
    known = list(dict.fromkeys(one for options in evaluations for one in metric_names(options)))
    if name in known or any(_may_give(options, name, known) for options in evaluations):
        return
    asked = next((one for one, names in FAMILIES.items() if name in names), name)
    if name in FAMILIES:
        hint: str | None = _family_hint(name, evaluations, known)
    elif name == "reward":
        hint = "name the `reward_model` of the evaluation"
    elif name in CORPUS and all(one.perplexity_corpus is None for one in evaluations):
        hint = "name the `perplexity_corpus` of the evaluation, its texts"
    elif asked in FAMILIES or asked in (*DEFAULT, *SINGLE):
        hint = f"add '{asked}' to evaluate.metrics"
    else:
        hint = did_you_mean(name, known)
    raise UsageError(
        f"The evaluation gives no metric '{name}'.",
        where=where,
        expected=", ".join(known),
        hint=hint,
    )


def _family_hint(name: str, evaluations: Sequence[Any], known: Sequence[str]) -> str:
    """Of the numbers of a metric those that come out, so that none that is named is refused."""
    there = [one for one in FAMILIES[name] if one in known]
    if there:
        return f"`{name}` gives {', '.join(there)}: name one of these"
    given = {one for options in evaluations for one in _possible(options, FAMILIES[name])}
    told = ", ".join(one for one in FAMILIES[name] if one in given)
    return f"add '{name}' to evaluate.metrics; it gives {told}: name one of these"


def _possible(options: Any, names: Iterable[str]) -> list[str]:
    """The names without those whose model or texts the evaluation does not have."""
    lacking = {"reward"} if options.reward_model is None else set()
    lacking |= {*CORPUS} if options.perplexity_corpus is None else set()
    return [name for name in names if name not in lacking]


def metric_names(options: Any) -> list[str]:
    """The names of an evaluation's metrics, as far as its options tell; what the set or the models
    lack is left out only when it runs."""
    asked = list(options.metrics if options.metrics is not None else ("default",))
    asked += DEFAULT if "default" in asked else ()
    asked += ["classification"] if options.classification is not None else []
    asked += ["checks"] if options.checks else []
    found = [name for one in asked if one != "default" for name in FAMILIES.get(one, (one,))]
    found = _possible(options, found)
    found += [f"reward_{one.name}" for one in options.reward_models]
    found += [one.column for one in options.functions]
    found += [one.name for one in options.hub_metrics if one.name is not None]
    found += _judged(options.judge) if options.judge is not None else []
    return list(dict.fromkeys(found))


def _judged(judge: Any) -> list[str]:
    """The columns of a judge; those of rubrics in files are not known yet."""
    found = ["win_rate"] if judge.pairs != "none" else []
    for one in judge.rubrics:
        if not isinstance(one, str):
            found += [criterion.name for criterion in one.criteria]
            found += [one.name] if any(not criterion.check for criterion in one.criteria) else []
        elif one in SCALES:
            found += [*SCALES[one].marks, *SCALES[one].checks, one]
    return [f"judge_{name}" for name in found]


def _may_give(options: Any, name: str, known: Sequence[str]) -> bool:
    """Whether the metric may be one whose name is known only when the evaluation runs: of a module,
    of a rubric in a file, of people's ratings, or one whose name was taken (`bleu_2`)."""
    judge, ratings = options.judge, options.ratings
    files = judge is not None and any(isinstance(x, str) and x not in SCALES for x in judge.rubrics)
    first, _, number = name.rpartition("_")
    return (
        any(one.name is None for one in options.hub_metrics)
        or (files and name.startswith("judge_"))
        or (ratings is not None and ratings.columns and name.startswith("human_"))
        or (first in known and number.isdecimal())
    )
