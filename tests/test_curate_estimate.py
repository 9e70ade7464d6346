"""What generation is expected to ask for, against counts by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from espalier.curate.curation import Curation
from espalier.curate.estimate import buys, estimate, estimate_lines
from espalier.recipe import recipe_from
from espalier.running import context_of
from espalier.stages import stage_named

TASKS = {"kind": "procedural", "name": "tasks", "count": 20}
PAIRS = {"kind": "procedural", "name": "pairs", "count": 10, "use": "preferences"}
TEACHER: dict[str, Any] = {"engine": "openai", "model": "t", "base_url": "http://localhost:9/v1"}
JUDGE: dict[str, Any] = {**TEACHER, "model": "j"}
PRICES = {"prompt": 1, "completion": 1}


def curation(folder: Path, shared: dict[str, Any] | None = None, **curate: Any) -> Curation:
    shared = {"teacher": TEACHER, "judge": JUDGE, **(shared or {})}
    recipe = recipe_from({"name": "e", **shared, "curate": {"sources": [TASKS], **curate}})
    return Curation(context_of(stage_named("curate"), recipe, folder))


def requests(folder: Path, **curate: Any) -> dict[tuple[str, str], int]:
    found = estimate(curation(folder, **curate))
    assert all(item.prompt_tokens > 0 and item.completion_tokens > 0 for item in found)
    return {(item.step, item.model): item.requests for item in found}


def test_a_constitution_asks_for_an_answer_and_two_more_a_round(tmp_path: Path) -> None:
    found = requests(tmp_path, constitution={"revisions": 3})
    assert found["constitution", "t"] == 20 * (1 + 2 * 3)
    assert ("constitution", "j") not in found
    found = requests(tmp_path, constitution={"limit": 8, "judge": True})
    assert found["constitution", "t"] == 8 * 5
    assert found["constitution", "j"] == 8 * 2
    safety = Path(__file__).resolve().parents[1] / "curate" / "safety"
    harmful = sum(
        path.read_text(encoding="utf-8").count('"kind": "harmful"')
        for path in safety.glob("*.jsonl")
    )
    options = {"sources": [], "safety": ["harmful"], "revisions": 1}
    assert requests(tmp_path, constitution=options)["constitution", "t"] == 3 * harmful
    assert harmful > 20


def test_a_judge_marks_what_generators_made(tmp_path: Path) -> None:
    quality: dict[str, Any] = {"quality": {"judge": {}}}
    assert requests(tmp_path, **quality)["quality", "j"] == 20
    si = {"self_instruct": {"target": 7}}
    assert requests(tmp_path, **quality, **si)["quality", "j"] == 20 + 2 * 7
    evolve = {"evolve": {"limit": 5, "rounds": 3}}
    assert requests(tmp_path, **quality, **evolve)["quality", "j"] == 20 + 15
    chat = {"self_chat": {"prompts": 6}}
    assert requests(tmp_path, **quality, **chat)["quality", "j"] == 20 + 6
    # Revised rows take the place of those that they began as, unless prompts may be equal.
    revised: dict[str, Any] = {"constitution": {"limit": 9}}
    assert requests(tmp_path, **quality, **revised)["quality", "j"] == 20
    equal = {"dedup": {"key": "prompt+answer"}}
    assert requests(tmp_path, **quality, **revised, **equal)["quality", "j"] == 29


def test_a_generator_starts_from_what_those_before_it_made(tmp_path: Path) -> None:
    evolve: dict[str, Any] = {"sources": ["self-instruct"], "rounds": 1}
    options: dict[str, Any] = {"self_instruct": {"target": 7}, "evolve": evolve}
    # Each is evolved and then answered.
    assert requests(tmp_path, **options)["evolve", "t"] == 2 * 14
    assert requests(tmp_path, **options)["evolve", "j"] == 14
    options["evolve"] = {**evolve, "eliminate": {"equal": False}}
    assert ("evolve", "j") not in requests(tmp_path, **options)


def test_checks_of_weak_answers_and_of_corruptions(tmp_path: Path) -> None:
    sources = {"sources": [PAIRS]}
    weak = {**TEACHER, "model": "w"}
    base: dict[str, Any] = {"samples": 2}
    compared = requests(tmp_path, **sources, preferences=base)["preferences", "j"]
    assert compared == 10 * 2
    options: dict[str, Any] = {**base, "weak": weak}
    found = requests(tmp_path, **sources, preferences=options)
    assert found["preferences", "w"] == 10
    assert found["preferences", "j"] == compared
    options["verify_weak"] = "drop"
    assert requests(tmp_path, **sources, preferences=options)["preferences", "j"] == compared + 20
    options = {**base, "verify_corruptions": True, "per_prompt": 3,
               "kinds": {"number": 1, "sample": 2}}  # fmt: skip
    # A third of 30 pairs is spoiled.
    assert requests(tmp_path, **sources, preferences=options)["preferences", "j"] == compared + 20
    options |= {"count": 6, "eval_count": 3}
    assert requests(tmp_path, **sources, preferences=options)["preferences", "j"] == compared + 6


def test_the_weak_teacher_is_paid_for_as_well(tmp_path: Path) -> None:
    offline = {"teacher": {"engine": "offline"}, "judge": {"engine": "offline"}}
    assert not buys(curation(tmp_path, offline))
    weak = {**TEACHER, "model": "w", "prices": PRICES}
    bought = curation(tmp_path, offline, sources=[PAIRS], preferences={"weak": weak})
    assert buys(bought)
    table = {line.split()[1]: line.split()[-1] for line in estimate_lines(bought)[2:]}
    assert table["w"].startswith("$0.00")
    assert table["w"] != "$0.00"
    # What runs on this machine costs nothing, which is known.
    assert table["espalier-offline"] == "$0.00"


@pytest.mark.parametrize(
    ("teacher", "judge", "total"), [(0, 0, " -"), (1, 0, " + unpriced"), (1, 1, None)]
)
def test_models_without_prices_are_not_free(
    tmp_path: Path, teacher: int, judge: int, total: str | None
) -> None:
    shared = {
        "teacher": {**TEACHER, "prices": PRICES if teacher else None},
        "judge": {**JUDGE, "prices": PRICES if judge else None},
    }
    last = estimate_lines(curation(tmp_path, shared, quality={"judge": {}}))[-1]
    if total is None:
        assert "unpriced" not in last
        assert last.split()[-1].startswith("$")
    else:
        assert last.endswith(total)
        assert "$0.00" not in last.replace("$0.00 ", "") or teacher
