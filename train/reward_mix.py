"""The score of an answer: any mix of reward models, Python functions and verifiable rules.

    a term's score -> standardised (models) -> held within ± clip -> times its weight
    -> summed over the terms -> held within ± score_clip -> the rule for answers without an end

Terms are summed in the order of the recipe (of the short form: rules, then the reward model).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from espalier import user_code
from espalier.errors import InputError, StageError, UsageError
from espalier.files import hash_file
from espalier.models import load_model, load_tokenizer
from espalier.records import Example
from espalier.rewarding import check_reward_folder, normalisation, reward_template
from espalier.run import StageContext
from espalier.scoring import context_limit, pools_by_position
from espalier.template_files import template_path
from espalier.train.actors import Episode
from espalier.train.config_rewards import RewardTerm
from espalier.train.config_rl import PPOConfig
from espalier.train.rollout import Prompt, RewardModel, Rule, load_rule, same_tokens
from espalier.train.sources import model_source
from espalier.train.verifiers import check_references, make_verifier

WHERE = "train.ppo.rewards"


@dataclass(frozen=True)
class Answers:
    """What the terms score: N prompts, the policy's answers as ids and as text."""

    prompts: Sequence[Prompt]
    episodes: Sequence[Episode]
    texts: Sequence[str]
    token_budget: int


@dataclass(frozen=True)
class Term:
    """One term: `score` gives a (standardised) number an answer; `model` where it is learnt."""

    name: str
    score: Callable[[Answers], Sequence[Any]]
    weight: float = 1.0
    clip: float | None = None
    model: RewardModel | None = None


@dataclass(frozen=True)
class Mixed:
    """Scores of N answers: `totals`, and by term its own scores and what it adds to the total."""

    totals: list[float]
    scores: Mapping[str, list[float]]
    added: Mapping[str, list[float]]


def mix(terms: Sequence[Term], answers: Answers) -> Mixed:
    """Score every answer with every term; raises InputError for what is no finite number."""
    totals = [0.0] * len(answers.texts)
    scores: dict[str, list[float]] = {}
    added: dict[str, list[float]] = {}
    for term in terms:
        own = checked(term.name, term.score(answers), answers)
        limit = term.clip
        held = own if limit is None else [max(-limit, min(limit, value)) for value in own]
        scores[term.name] = own
        added[term.name] = [term.weight * value for value in held]
        totals = [a + b for a, b in zip(totals, added[term.name], strict=True)]
    return Mixed(totals, scores, added)


def by_term(found: Mixed) -> dict[str, torch.Tensor]:
    """Metrics of the terms [N]: reward/NAME, what it adds to the total; term/NAME, its score."""
    tables = {f"reward/{name}": values for name, values in found.added.items()}
    tables |= {f"term/{name}": values for name, values in found.scores.items()}
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in tables.items()}


def checked(name: str, values: Any, answers: Answers) -> list[float]:
    """The values as one finite number an answer; InputError names the term and the prompt."""
    count = len(answers.texts)
    if not isinstance(values, Sequence) and not hasattr(values, "tolist"):
        values = [values]
    values = list(values.tolist() if hasattr(values, "tolist") else values)
    if len(values) != count:
        raise InputError(
            f"The reward '{name}' returned {len(values)} numbers for {count} answers.",
            where=WHERE,
            expected="a list of one number an answer, in their order",
        )
    for value, prompt, text in zip(values, answers.prompts, answers.texts, strict=True):
        if not isinstance(value, Real) or not math.isfinite(value):
            raise InputError(
                f"The reward '{name}' returned {value!r}.",
                where=_place(prompt, text),
                expected="a finite number",
                hint="the last checkpoint is kept",
            )
    return [float(value) for value in values]


def _place(prompt: Prompt, text: str) -> str:
    return f"prompt {prompt.example.id}, answer {text[:60]!r}"


# Terms -------------------------------------------------------------------------------------


def model_term(name: str, model: RewardModel, weight: float, clip: float | None = None) -> Term:
    """A reward model as a term."""

    def score(answers: Answers) -> list[float]:
        return model(answers.prompts, answers.episodes, answers.texts, answers.token_budget)

    return Term(name, score, weight, clip, model)


def function_term(name: str, function: Rule, weight: float, clip: float | None = None) -> Term:
    """A Python function as a term: called for each answer, or once if it takes `examples`.

    Whatever it raises becomes a StageError with the function, the prompt and the reason.
    """
    if _takes_lists(function):
        return Term(name, _batched(name, function), weight, clip)

    def score(answers: Answers) -> list[Any]:
        found: list[Any] = []
        for prompt, text in zip(answers.prompts, answers.texts, strict=True):
            try:
                found.append(function(prompt.example, text))
            except Exception as error:  # the user's code may raise anything
                raise _failed(name, error, _place(prompt, text)) from error
        return found

    return Term(name, score, weight, clip)


def _batched(name: str, function: Callable[..., Any]) -> Callable[[Answers], Any]:
    def score(answers: Answers) -> Any:
        examples = [prompt.example for prompt in answers.prompts]
        try:
            return function(examples, list(answers.texts))
        except Exception as error:  # the user's code may raise anything
            where = f"{len(examples)} prompts, {examples[0].id} to {examples[-1].id}"
            raise _failed(name, error, where) from error

    return score


def _takes_lists(function: Callable[..., Any]) -> bool:
    try:
        parameters = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # some built-in functions have no signature
        return False
    return parameters[:1] == ["examples"]


def _failed(name: str, error: Exception, where: str) -> StageError:
    line = user_code.line_of(error)
    return StageError(
        f"The reward function '{name}' failed: {user_code.in_words(error)}",
        where=where + (f", {line}" if line else ""),
        expected="a number for every answer, an empty or wrong one too",
        hint="correct the function and run the stage again; the last checkpoint is kept "
        "(a changed file counts as another reward: the stage begins anew, and the work so far "
        "goes to superseded/)",
    )


def rule_term(
    name: str, rule: str, values: dict[str, Any], weight: float, clip: float | None
) -> Term:
    """A verifiable rule as a term."""
    verify = make_verifier(rule, values)

    def score(answers: Answers) -> list[float]:
        pairs = zip(answers.prompts, answers.texts, strict=True)
        return [verify(prompt.example, text) for prompt, text in pairs]

    return Term(name, score, weight, clip)


def short_form(
    rules: Sequence[tuple[str, Rule, float]], reward: RewardModel | None
) -> tuple[Term, ...]:
    """The terms that `rules` and `reward` stand for."""
    terms = [function_term(name, function, weight) for name, function, weight in rules]
    if reward is not None:
        terms.append(model_term("reward", reward, 1.0))
    return tuple(terms)


# Loading -----------------------------------------------------------------------------------


def load_terms(
    context: StageContext, tokenizer: Any, template_name: str, examples: Sequence[Example]
) -> tuple[Term, ...]:
    """The terms of the recipe's `rewards`, each reward model loaded once.

    `tokenizer` and `template_name` (its identity) are the policy's; `examples` the prompts, so
    that a rule that needs a reference answer is refused before the first answer is sampled.
    """
    options: PPOConfig = context.options
    terms = []
    for item in options.rewards:
        if item.rule is not None:
            check_references(item.rule, item.options, examples)
            terms.append(rule_term(item.name, item.rule, item.options, item.weight, item.clip))
        elif item.function is not None:
            function = load_function(context, item.function)
            terms.append(function_term(item.name, function, item.weight, item.clip))
        else:
            model = load_scorer(
                context,
                item,
                tokenizer,
                template_name,
                standardise=_standardised(item, options),
                option=f"standardise: false in the term '{item.name}'",
            )
            terms.append(model_term(item.name, model, item.weight, item.clip))
    return tuple(terms)


def _standardised(item: RewardTerm, options: PPOConfig) -> bool:
    return options.normalise_scores if item.standardise is None else item.standardise


def load_function(context: StageContext, text: str) -> Rule:
    """`load_rule` with the path of a file as recipes write it (`${data}/…`)."""
    return load_rule(text, context.path)


def load_scorer(
    context: StageContext,
    term: RewardTerm,
    tokenizer: Any,
    template_name: str,
    *,
    standardise: bool,
    option: str,
) -> RewardModel:
    """The reward model of a term, with its own tokenizer and template.

    Raises InputError where it is none, or says nothing of the mean and deviation to standardise
    by; `option` is what would do without.
    """
    text = str(term.model)
    source = model_source(context, text)
    folder = Path(source)
    if folder.is_dir():
        check_reward_folder(folder, text, WHERE)
    own = load_tokenizer(source)
    template = reward_template(source, own, template_path(context, term.template))
    mean, deviation, known = normalisation(folder) if standardise else (0.0, 1.0, True)
    if not known:
        raise InputError(
            "The reward model does not say how it scores reference answers.",
            where=str(folder / "reward.json"),
            expected='{"mean": number, "deviation": number}',
            hint=f"set {option} to take its scores as they are",
        )
    model = load_model(source, kind="reward", label=term.label)
    alike = same_tokens(tokenizer, own) and template.identity == template_name
    return RewardModel(
        model=model,
        tokenizer=own,
        template=template,
        same_tokens=alike and pools_by_position(model),
        mean=mean,
        deviation=max(deviation, 1e-6),
        limit=context_limit(model),
        source=str(source),
        label=term.label,
    )


def first_model(terms: Sequence[Term]) -> RewardModel | None:
    """The reward model that a critic may begin as: the first that reads the policy's tokens.

    Its deviation is that of what it adds to the score: divided by the term's weight.
    """
    for term in terms:
        if term.model is not None and term.model.same_tokens and term.weight > 0:
            return replace(term.model, deviation=term.model.deviation / term.weight)
    return next((term.model for term in terms if term.model is not None), None)


# Which reward models are one ---------------------------------------------------------------


def refuse_trained_against(held_out: Path | str, trained: Mapping[str, Path | str]) -> None:
    """Raise UsageError when the held-out reward model is one that the policy learns from.

    `trained` are folders or hub names by the names of their terms. Folders are the same when
    they hold the same weights.
    """
    mine = _identity(held_out)
    for name, source in trained.items():
        if _identity(source) == mine:
            raise UsageError(
                f"The held-out reward model is the one that the policy is trained against "
                f"('{name}'), so it can't tell over-optimisation.",
                where="train.ppo.held_out.reward",
                expected="a reward model trained on other pairs, such as reward_eval",
            )


def _identity(source: Path | str) -> Any:
    folder = Path(source)
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    return [hash_file(path) for path in files] if files else str(source)
