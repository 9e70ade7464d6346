"""From the question of a sweep to the quantity, the factor and the reference that answer it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml

from espalier.reports.manifests import without_secrets
from espalier.reports.runs_effects import Effect
from espalier.reports.runs_settings import Factor, Setting, Sweep, level_text
from espalier.reports.runs_targets import ENDS, NO_INTERVAL, Target, end_of
from espalier.reports.strings import t
from espalier.reports.sweep_effects import level_effects
from espalier.reports.sweep_outcome import (
    Measured,
    Outcome,
    draw_outcome,
    level_cells,
    level_outcome,
    model_outcome,
)
from espalier.sweep_config import Answer
from espalier.sweep_file import VARIANT, SweepFile

# Signs of a value of the recipe that a label has room for.
LONGEST_LEVEL = 60


def outcome_of(
    answer: Answer,
    file: SweepFile,
    targets: Sequence[Target],
    curves: Sequence[Sequence[Mapping[str, Any]]],
    measured: Measured,
    before: Outcome | None,
) -> tuple[Outcome | None, str]:
    """The answer in numbers, or None and why there is none."""
    if answer.models:
        found = [_score(targets, model, answer.metric) for model in answer.models]
        if not all(found):
            names = [m for m, target in zip(answer.models, found, strict=True) if target is None]
            return None, _no_number(targets, answer.metric, t("list.comma").join(names))
        return model_outcome([target for target in found if target], measured), ""
    if answer.model is None:
        target = curve_target(answer.metric, curves)
    else:
        target = _score(targets, answer.model, answer.metric)
    if target is None:
        return None, _no_number(targets, answer.metric, answer.model or "")
    place = _place_of(answer.factor, file)
    if place is None:
        drawn = any(factor.draw for factor in file.factors)
        return (draw_outcome(target, measured) if drawn else _alone(target, measured)), ""
    if file.factors[place].draw:
        return draw_outcome(target, measured), ""
    reference = reference_of(answer, file, place)
    return level_outcome(target, place, reference, measured, before), ""


def also_asked(
    answer: Answer,
    file: SweepFile,
    targets: Sequence[Target],
    curves: Sequence[Sequence[Mapping[str, Any]]],
    measured: Measured,
    before: Sequence[tuple[Outcome | None, str]] = (),
) -> list[tuple[Outcome | None, str]]:
    """The same by each metric of `also`, or why there is none; p is corrected within each."""
    found = []
    for place, metric in enumerate(answer.also):
        told: dict[str, Any] = {"metric": metric, "also": []}
        if "/" in metric:
            told |= {"model": None, "models": []}
        earlier = before[place][0] if place < len(before) else None
        one = answer.model_copy(update=told)
        found.append(outcome_of(one, file, targets, curves, measured, earlier))
    return found


def other_metrics(answer: Answer, targets: Sequence[Target], measured: Measured) -> list[Outcome]:
    """Where models are compared: the same by every other metric that all of them have."""
    names = dict.fromkeys(x.metric["name"] for x in targets if x.kind == "score")
    found = []
    for name in names:
        own = [_score(targets, model, name) for model in answer.models]
        known = [target for target in own if target is not None]
        if name not in (answer.metric, *answer.also) and known and len(known) == len(own):
            found.append(model_outcome(known, measured, smallest=False))
    return found


def _score(targets: Sequence[Target], model: str, metric: str) -> Target | None:
    wanted = (model, metric, "score")
    return next((x for x in targets if (x.model, x.metric["name"], x.kind) == wanted), None)


def _no_number(targets: Sequence[Target], metric: str, model: str) -> str:
    names = [target.name for target in targets]
    known = t("list.comma").join(names[:12]) + ("…" if len(names) > 12 else "")
    wanted = f"{model}/{metric}" if model else metric
    return t("sweep.no_number", wanted=wanted, known=known or t("sweep.nothing"))


def _place_of(key: str | None, file: SweepFile) -> int | None:
    """The factor that the answer is about: the one named, the variants, else the first."""
    keys = [factor.key for factor in file.factors]
    if key is not None:
        return keys.index(key) if key in keys else None
    return keys.index(VARIANT) if VARIANT in keys else 0 if keys else None


def reference_of(answer: Answer | None, file: SweepFile, place: int) -> int:
    """The level that the others are held against: the one named, else the first."""
    factor = file.factors[place]
    if answer is None or answer.reference is None or _place_of(answer.factor, file) != place:
        return 0
    keys = [level_key(level) for level in factor.levels]
    wanted = level_key(answer.reference)
    return keys.index(wanted) if wanted in keys else 0


def _alone(target: Target, measured: Measured) -> Outcome:
    """Nothing was varied but seeds: one group."""
    one = Factor(("",), "", (("",),), (0,) * len(measured.folders), None)
    setting = Setting(tuple(range(len(measured.folders))), (0,))
    single = replace(measured, sweep=Sweep((one,), (setting,), measured.sweep.seeds))
    return level_outcome(target, 0, 0, single)


def curve_target(name: str, curves: Sequence[Sequence[Mapping[str, Any]]]) -> Target | None:
    """The end of a training curve, `STAGE/CHART:SPLIT`, in every run; None where none has it."""
    stage, _, rest = name.partition("/")
    chart, _, split = rest.partition(":")
    label = title = ""
    values: list[float | None] = []
    for run in curves:
        lines = [
            (one["label"], drawn["title"], line)
            for one in run if one["stage"] == stage
            for drawn in one["charts"] if drawn["key"] == chart
            for line in drawn["series"] if line["split"] == (split or line["split"]) and line["y"]
        ]  # fmt: skip
        values.append(end_of(lines[0][2]) if lines else None)
        if lines:
            label, title, split = lines[0][0], lines[0][1], split or lines[0][2]["split"]
    if not title:
        return None
    higher = ENDS.get((chart, split))
    end = "end_train" if split == "train" else "end_last"
    metric = {
        "name": f"{chart}:{split}",
        "label": t(f"sweep.{end}", title=title, split=t(f"split.{split}")),
        "format": "number",
        "higher_is_better": bool(higher),
        "tested": higher is not None,
        "signature": "",
        "description": t(f"runs.{end}_about"),
    }
    told = [None if value is None else {"value": value, **NO_INTERVAL} for value in values]
    return Target(f"{stage}/{chart}:{split}", "training", stage, label, metric, tuple(told))


def shown_level(key: str, value: Any, *, drawn: bool = False) -> str:
    """A value at a key of the recipe as text that may be shown: secrets are hidden."""
    name = key.rsplit(".", 1)[-1]
    text = without_secrets(f"{name}: {level_words(value, drawn=drawn)}")
    return text.removeprefix(f"{name}: ")


def setting_words(sweep: Sweep, setting: Setting) -> str:
    """`rows = 100, kl = 0.1`; a variant by its name alone."""
    return t("list.comma").join(
        level_text(factor.levels[level])
        if factor.keys == (VARIANT,)
        else t("sweep.level", factor=factor.label, level=level_text(factor.levels[level]))
        for factor, level in zip(sweep.factors, setting.levels, strict=True)
    )


def explored(target: Target, answer: Answer | None, measured: Measured) -> list[Effect]:
    """The effect of every level of every factor that was not drawn, over repeats."""
    found = []
    higher = bool(target.metric["higher_is_better"])
    for place, factor in enumerate(measured.sweep.factors):
        if measured.drawn[place] or len(factor.levels) < 2:
            continue
        reference = _named_reference(answer, factor)
        cells = level_cells(target, place, measured)
        effects = level_effects(cells, reference, higher, measured.confidence, smallest=False)
        for level, effect in enumerate(effects):
            if effect is not None:
                how = f"sweep_{effect.how}"
                found.append(Effect(place, reference, level, how, effect.mean, effect.p))
    return found


def _named_reference(answer: Answer | None, factor: Factor) -> int:
    if answer is None or answer.reference is None or answer.factor not in (None, factor.keys[0]):
        return 0
    wanted = level_words(answer.reference)
    return next((i for i, level in enumerate(factor.levels) if level == (wanted,)), 0)


def level_key(level: Any) -> str:
    """What two levels have in common if and only if they are the same value of the recipe."""
    return json.dumps(level, sort_keys=True, ensure_ascii=False, default=str)


def level_words(value: Any, *, drawn: bool = False) -> str:
    """A value of the recipe as it is shown; of drawn numbers three digits."""
    if drawn and isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, str):
        text = value
    else:
        dumped = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=100_000)
        text = repr(value) if isinstance(value, float) else dumped.removesuffix("\n...\n").strip()
    return text if len(text) <= LONGEST_LEVEL else text[: LONGEST_LEVEL - 1] + "…"
