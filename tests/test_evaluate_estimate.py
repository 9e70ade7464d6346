"""The estimate of what is asked of a judge, against what is then really asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from test_evaluate_judge import Scripted, write

import espalier.engines
from espalier.engines.base import Completion, Usage
from espalier.evaluate import stage
from espalier.evaluate.config_judge import JudgeConfig
from espalier.explain import dry_run
from espalier.recipe import Recipe, recipe_from
from espalier.running import context_of, run_stages
from espalier.spending import likely_tokens
from espalier.stages import stage_named

JUDGE = {"engine": "openai", "model": "judge-1", "api_key_env": "ESTIMATE_KEY",
         "prices": {"prompt": 1000.0, "completion": 2000.0}}  # fmt: skip
OWN = {"name": "house", "criteria": [{"name": "tone", "description": "Friendly."}]}


def recipe_of(tmp_path: Path, judge: Mapping[str, Any], **shared: Any) -> Recipe:
    prompts = [f"Name {n} colours." for n in range(8)] + ["请说出两种颜色。"]
    rows = [{"id": f"q{i}", "prompt": p, "completion": "red"} for i, p in enumerate(prompts)]
    models = []
    for name in ("old", "new", "third"):
        given = [{"prompt": p, "response": f"{name} {i}" if i > 1 else "the same"}
                 for i, p in enumerate(prompts)]  # fmt: skip
        # One model lacks an answer.
        given = given[:-1] if name == "new" else given
        models.append({"name": name, "predictions": write(tmp_path / f"{name}.jsonl", given)})
    options = {"set": write(tmp_path / "set.jsonl", rows), "models": models, "metrics": ["length"],
               "resamples": 100, "permutations": 200, "judge": dict(judge)}  # fmt: skip
    return recipe_from({"name": "t", "evaluate": options, **shared})


def plan_of(recipe: Recipe, tmp_path: Path) -> list[str]:
    return stage.plan(context_of(stage_named("evaluate"), recipe, tmp_path / "run"))


def table(lines: list[str]) -> dict[str, list[str]]:
    """The cells behind each step of the printed estimate."""
    found = {}
    for line in lines[2:]:
        cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
        if len(cells) > 2:
            found[cells[0]] = cells[-3:]
    return found


@pytest.mark.parametrize(
    "judge",
    [
        {"engine": JUDGE},
        {"engine": JUDGE, "rubrics": ["hhh", OWN], "pairs": "all", "reference": True},
        {"engine": JUDGE, "rubrics": [], "prompts": 5},
    ],
)
def test_the_estimate_is_what_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judge: dict[str, Any]
) -> None:
    monkeypatch.setenv("ESTIMATE_KEY", "k")
    recipe = recipe_of(tmp_path, judge)
    lines = plan_of(recipe, tmp_path)
    engine = Scripted(lambda _: Completion("Verdict: A", usage=Usage(1, 1)))
    monkeypatch.setattr(espalier.engines, "_open", lambda *args: engine)
    run_stages(recipe, tmp_path / "run", ["evaluate"])
    steps = table(lines)
    requests = {step: int(cells[0]) for step, cells in steps.items()}
    assert requests["all"] == len(engine.prompts) == sum(requests.values()) - requests["all"]
    # 26 answers; of the pairs of the first two prompts the answers are equal.
    if "rubrics" not in judge:
        assert requests["judge: quality"] == 26 and requests["judge: pairs"] == 2 * (6 + 7)
    tokens = int(steps["all"][1].replace(",", ""))
    reply = {"judge: quality": 40 + 5 * 8, "judge: hhh": 40 + 3 * 8, "judge: house": 48,
             "judge: pairs": 40}  # fmt: skip
    replies = sum(reply[step] * count for step, count in requests.items() if step != "all")
    prompts = sum(map(likely_tokens, engine.prompts))
    # Parts of a prompt are rounded up one by one.
    assert 0 <= tokens - replies - prompts <= 2 * len(engine.prompts)
    money = (1000 * (tokens - replies) + 2000 * replies) / 1e6
    assert steps["all"][2] == f"${money:,.2f}"


def test_dry_run_tells_it_and_what_would_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ESTIMATE_KEY", raising=False)
    recipe = recipe_of(tmp_path, {"engine": JUDGE}, budget={"money": 0.001})
    said = dry_run(recipe, tmp_path / "run", None)
    assert "judge: pairs" in said and "judge-1" in said and "below the estimate" in said
    assert "it would stop at the start" in said and "ESTIMATE_KEY" in said
    assert not (tmp_path / "run").exists()
    # What runs on this machine costs nothing; what has no price is not taken to cost nothing.
    assert "$0.00" in "".join(plan_of(recipe_of(tmp_path, {}), tmp_path))
    free = {name: value for name, value in JUDGE.items() if name != "prices"}
    assert table(plan_of(recipe_of(tmp_path, {"engine": free}), tmp_path))["all"][2] == "-"


def test_without_a_judge_or_an_api_there_is_nothing_to_tell(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, {})
    plain = recipe.values.evaluate.model_copy(update={"judge": None})  # type: ignore[attr-defined]
    context = context_of(stage_named("evaluate"), recipe, tmp_path / "run")
    object.__setattr__(context, "options", plain)
    assert stage.plan(context) == []
    gone = plain.model_copy(update={"set": "none.jsonl", "judge": JudgeConfig()})
    object.__setattr__(context, "options", gone)
    assert stage.plan(context)[0].startswith("no estimate yet: The evaluation set does not exist")
