"""What is wrong with a recipe or its files is said before the first request is paid for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from espalier.curate.checks import check_before_start, check_names, engines_asked
from espalier.curate.curation import Curation
from espalier.curate.stage import inputs, plan
from espalier.errors import EspalierError, InputError, StageError, UsageError
from espalier.recipe import recipe_from
from espalier.run import StageContext
from espalier.running import context_of, run_stage
from espalier.stages import stage_named

TASKS = {"kind": "procedural", "name": "tasks", "count": 12}
API = {"engine": "openai", "model": "m", "base_url": "https://api.example.org/v1",
       "api_key_env": "NO_SUCH_KEY"}  # fmt: skip


def context(folder: Path, shared: Mapping[str, Any] | None = None, **curate: Any) -> StageContext:
    curate.setdefault("sources", [TASKS])
    recipe = recipe_from({"name": "checked", **(shared or {}), "curate": curate})
    return context_of(stage_named("curate"), recipe, folder)


def check(folder: Path, shared: Mapping[str, Any] | None = None, **curate: Any) -> list[str]:
    return check_before_start(Curation(context(folder, shared, **curate)))


def write(path: Path, *rows: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "curate"),
    [
        ("holdout.sources", {"holdout": {"count": 1, "sources": ["taskz"]}}),
        ("evolve.sources", {"evolve": {"sources": ["tasks", "taskz"]}}),
        ("self_chat.sources", {"self_chat": {"sources": ["tasks", "taskz"]}}),
        ("constitution.sources", {"constitution": {"sources": ["tasks", "taskz"]}}),
        ("selection.always", {"selection": {"target": 5, "score": ["length"],
                                            "always": ["tasks", "taskz"]}}),
        ("dedup.source_order", {"dedup": {"keep": "source", "source_order": ["taskz"]}}),
    ],
)  # fmt: skip
def test_an_unknown_source_is_named_with_the_nearest(
    tmp_path: Path, option: str, curate: dict[str, Any]
) -> None:
    with pytest.raises(UsageError) as caught:
        check(tmp_path, **curate)
    said = caught.value.render()
    assert "'taskz'" in said
    assert f"curate.{option}" in said
    assert "did you mean 'tasks'" in said
    assert caught.value.exit_code == 2


def test_generators_may_start_from_those_before_them_only(tmp_path: Path) -> None:
    generators: dict[str, Any] = {
        "self_instruct": {"target": 4, "mode": "alpaca"},
        "evolve": {"sources": ["alpaca", "tasks"]},
        "self_chat": {"sources": ["alpaca", "evol-instruct"]},
        "constitution": {"sources": ["self-chat", "evol-instruct"], "safety": ["harmful"]},
        "selection": {"target": 5, "score": ["length"],
                      "always": ["alpaca", "evol-instruct", "self-chat", "safety"]},
    }  # fmt: skip
    check_names(Curation(context(tmp_path, **generators)))
    for later in ("self-instruct", "self-chat"):
        wrong = generators | {"evolve": {"sources": [later]}}
        with pytest.raises(UsageError, match="no source"):
            check_names(Curation(context(tmp_path, **wrong)))


def test_a_source_that_is_not_for_training_is_said_to_be_none(tmp_path: Path) -> None:
    rl = {"kind": "procedural", "name": "rl", "count": 5, "use": "prompts"}
    with pytest.raises(UsageError) as caught:
        check(tmp_path, sources=[TASKS, rl], evolve={"sources": ["rl"]})
    assert "not for training" in caught.value.render()


def test_the_names_are_those_that_rows_really_have(tmp_path: Path) -> None:
    curate: dict[str, Any] = {
        "sources": [TASKS],
        "self_instruct": {"target": 2, "seeds": ["en"]},
        "evolve": {"sources": ["self-instruct", "tasks"], "rounds": 1, "limit": 6},
        "self_chat": {"sources": ["evol-instruct"], "prompts": 2, "turns": 2},
    }
    recipe = recipe_from({"name": "names", "curate": curate})
    run_stage("curate", recipe, tmp_path)
    text = (tmp_path / "curate" / "train.jsonl").read_text(encoding="utf-8")
    found = {json.loads(line)["meta"]["source"] for line in text.split("\n") if line}
    assert found == {"tasks", "self-instruct", "evol-instruct", "self-chat"}


def test_weights_of_values_that_no_row_has_are_noted(tmp_path: Path) -> None:
    options = {"target": 5, "score": ["length"], "shares": {"reasonning": 2, "tasks": 2}}
    notes = check(tmp_path, selection={**options, "balance": ["group", "source"]})
    assert len(notes) == 1
    assert "'reasonning'" in notes[0]
    assert check(tmp_path, selection={**options, "balance": ["language"]}) == []


# --- options and files -----------------------------------------------------------------------


def test_an_unknown_output_format(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'alpacca'") as caught:
        check(tmp_path, output_formats=["sharegpt", "alpacca"])
    assert "did you mean 'alpaca'" in caught.value.render()
    with pytest.raises(UsageError, match="can't be written"):
        check(tmp_path, output_formats=["preference"])


def test_scores_that_no_row_can_have(tmp_path: Path) -> None:
    for score in ("judge", "ifd", "reward"):
        with pytest.raises(UsageError) as caught:
            check(tmp_path, selection={"target": 5, "score": ["length", score]})
        assert f"meta.quality.{score}" in caught.value.render()
        assert f"quality: {{{score}:" in caught.value.render()
    with pytest.raises(UsageError, match=r"meta\.quality"):
        check(tmp_path, dedup={"keep": "score"})
    judged: dict[str, Any] = {"quality": {"judge": {}}}
    assert check(tmp_path, **judged, dedup={"keep": "score"}) == []
    assert check(tmp_path, **judged, dedup={"keep": "score", "score_field": "quality.safe"}) == []
    assert check(tmp_path, **judged, selection={"target": 5}) == []
    with pytest.raises(UsageError, match=r"meta\.quality\.ifd"):
        check(tmp_path, **judged, dedup={"keep": "score", "score_field": "quality.ifd"})


def test_rows_of_a_file_may_bring_their_scores(tmp_path: Path) -> None:
    def row(**meta: Any) -> dict[str, Any]:
        turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
        return {"id": "a", "messages": turns, "meta": meta}

    scored = {
        "path": str(write(tmp_path / "scored.jsonl", row(quality={"judge": 4.5, "score": 4})))
    }
    plain = {"path": str(write(tmp_path / "plain.jsonl", row()))}
    by_judge = {"target": 5}
    assert check(tmp_path, sources=[scored], selection=by_judge) == []
    assert check(tmp_path, sources=[scored], dedup={"keep": "score"}) == []
    for options in ({"selection": by_judge}, {"dedup": {"keep": "score"}}):
        notes = check(tmp_path, sources=[plain], **options)
        assert len(notes) == 1
        assert "plain" in notes[0]


def test_files_that_are_wrong_are_named_before_anything_else(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("a: [1, 2]\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"bad\.yaml"):
        check(tmp_path, filters={"keywords": {"files": [str(tmp_path / "bad.yaml")]}})
    with pytest.raises(InputError, match=r"bad\.yaml"):
        check(tmp_path, constitution={"principles": [str(tmp_path / "bad.yaml")]})
    with pytest.raises(InputError, match="seed task"):
        path = write(tmp_path / "seeds.jsonl", {"task": "no instruction"})
        check(tmp_path, self_instruct={"seeds": [str(path)]})
    for section, options in (("holdout", {}), ("decontaminate", {})):
        with pytest.raises(InputError) as caught:
            check(tmp_path, **{section: {"against": [str(tmp_path / "none.jsonl")], **options}})
        assert "none.jsonl" in caught.value.render()


def test_a_bad_row_of_an_evaluation_file_stops_before_the_teacher_is_asked(tmp_path: Path) -> None:
    good = {"prompt": "How many?", "completion": "Three."}
    path = write(tmp_path / "test.jsonl", *[good] * 30, {"prompt": 7})
    for section in ("holdout", "decontaminate"):
        with pytest.raises(InputError, match="line 31"):
            check(tmp_path, **{section: {"against": [str(path)]}})


# --- models ----------------------------------------------------------------------------------


def test_model_folders_that_hold_no_model(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sentence_transformers")
    nowhere = str(tmp_path / "nowhere")
    options: list[tuple[str, dict[str, Any]]] = [
        ("quality.ifd.model", {"quality": {"ifd": {"model": nowhere}}}),
        ("quality.ifd.model", {"quality": {"ifd": {"model": "sft"}}}),
        ("quality.ifd.model", {"quality": {"ifd": {"model": "sft/model"}}}),
        ("quality.reward.model", {"quality": {"reward": {"model": nowhere}}}),
        ("dedup.semantic.model", {"dedup": {"semantic": {"model": nowhere}}}),
        ("selection.embedding", {"selection": {"target": 3, "score": ["length"],
                                               "diversity": "semantic", "embedding": nowhere}}),
    ]  # fmt: skip
    for option, curate in options:
        with pytest.raises(InputError) as caught:
            check(tmp_path, **curate)
        assert f"curate.{option}" in caught.value.render()


def test_a_local_model_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    judge = {"engine": "transformers", "model": str(tmp_path / "nowhere")}
    with pytest.raises(InputError, match="judge"):
        check(tmp_path, {"judge": judge}, quality={"judge": {}})
    assert check(tmp_path, {"judge": judge}) == []


# --- engines ---------------------------------------------------------------------------------


def test_a_missing_key_is_said_for_engines_that_will_be_asked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="NO_SUCH_KEY") as caught:
        check(tmp_path, {"judge": API}, quality={"judge": {}})
    assert str(caught.value.where).startswith("judge")
    # Nobody asks this one.
    assert check(tmp_path, {"judge": API}) == []
    given = {"kind": "procedural", "name": "pairs", "count": 5, "use": "preferences"}
    with pytest.raises(UsageError, match="NO_SUCH_KEY") as caught:
        check(tmp_path, sources=[TASKS, given], preferences={"weak": API})
    assert str(caught.value.where).startswith("curate.preferences.weak")


def test_missing_prices_under_a_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_SUCH_KEY", "k")
    prices = {"prompt": 1, "completion": 2}
    shared: dict[str, Any] = {"budget": {"money": 1}, "judge": API}
    with pytest.raises(UsageError, match="no prices"):
        check(tmp_path, shared, quality={"judge": {}})
    assert (
        check(tmp_path, shared | {"judge": API | {"prices": prices}}, quality={"judge": {}}) == []
    )
    teacher = {**API, "model": "t", "prices": {**prices, "currency": "EUR"}}
    two = shared | {"judge": API | {"prices": prices}, "teacher": teacher}
    with pytest.raises(UsageError, match="are in USD"):
        check(tmp_path, two, quality={"judge": {}})


def test_which_engines_are_asked(tmp_path: Path) -> None:
    def roles(**curate: Any) -> set[str]:
        return set(engines_asked(Curation(context(tmp_path, **curate))))

    file = {"path": str(write(tmp_path / "f.jsonl", {"prompt": "A?", "completion": "B."}))}
    assert roles(sources=[file]) == set()
    assert roles(sources=[{**file, "answer": True}]) == {"teacher"}
    assert roles(sources=[file], quality={"judge": {}}) == {"judge"}
    assert roles(sources=[file], evolve={}) == {"teacher", "judge"}
    assert roles(sources=[file], evolve={"equality_by": "teacher"}) == {"teacher"}
    assert roles(sources=[file], constitution={"judge": True}) == {"teacher", "judge"}
    pairs = {"path": str(write(tmp_path / "p.jsonl",
             {"prompt": "A?", "chosen": "B.", "rejected": "C."}))}  # fmt: skip
    assert roles(sources=[pairs]) == set()
    # A part that is done asks nobody.
    marker = tmp_path / "curate" / ".steps" / "evolve.json"
    marker.parent.mkdir(parents=True)
    marker.write_text("{}", encoding="utf-8")
    assert roles(sources=[file], evolve={}) == set()


def test_the_stage_stops_before_it_writes_a_row(tmp_path: Path) -> None:
    curate = {"sources": [TASKS], "self_instruct": {"target": 2}, "quality": {"judge": {}}}
    recipe = recipe_from({"name": "early", "judge": API, "curate": curate})
    with pytest.raises(UsageError, match="NO_SUCH_KEY"):
        run_stage("curate", recipe, tmp_path)
    assert not (tmp_path / "curate" / "self_instruct.jsonl").exists()


def test_the_plan_tells_what_would_stop_it(tmp_path: Path) -> None:
    lines = plan(context(tmp_path, {"judge": API}, quality={"judge": {}}))
    assert any("would stop" in line and "NO_SUCH_KEY" in line for line in lines)
    lines = plan(context(tmp_path, evolve={"sources": ["taskz"]}))
    assert any("taskz" in line for line in lines)


# --- what the result depends on --------------------------------------------------------------


def test_local_models_are_inputs_and_hub_names_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ifd", "reward", "embed", "teacher", "judge", "weak"):
        (tmp_path / "models" / name).mkdir(parents=True)

    def named(prefix: str) -> dict[str, Path]:
        shared = {
            "teacher": {"engine": "transformers", "model": f"{prefix}/teacher"},
            "judge": {"engine": "vllm", "model": f"{prefix}/judge"},
        }
        return dict(inputs(context(
            tmp_path / "run",
            shared,
            quality={"ifd": {"model": f"{prefix}/ifd"}, "reward": {"model": f"{prefix}/reward"}},
            dedup={"semantic": {"model": f"{prefix}/embed"}},
            selection={"target": 3, "diversity": "semantic", "embedding": f"{prefix}/embed"},
            preferences={"weak": {"engine": "vllm-server", "model": f"{prefix}/weak"}},
        )))  # fmt: skip

    found = named("models")
    folders = {path.name for path in found.values() if path.is_dir()}
    assert folders == {"ifd", "reward", "embed", "teacher", "judge", "weak"}
    assert found["task groups"].name == "task_groups.yaml"
    assert not any(path.is_dir() for path in named("owner").values())


def test_a_stage_of_the_run_is_an_input_by_its_model(tmp_path: Path) -> None:
    (tmp_path / "reward" / "model").mkdir(parents=True)
    found = inputs(context(tmp_path, quality={"reward": {"model": "reward"}}))
    assert found["reward model"] == tmp_path / "reward" / "model"


def test_the_safety_prompts_of_a_constitution_are_inputs(tmp_path: Path) -> None:
    found = inputs(context(tmp_path, constitution={"safety": ["harmful"]}))
    assert {"safety: en", "safety: zh"} <= set(found)
    assert "safety: en" not in inputs(context(tmp_path, constitution={}))


# --- what is left over -----------------------------------------------------------------------


def test_given_pairs_over_the_count_are_counted(tmp_path: Path) -> None:
    rows = [{"prompt": f"Question {i}?", "chosen": f"Good {i}.", "rejected": f"Bad {i}."}
            for i in range(40)]  # fmt: skip
    path = write(tmp_path / "pairs.jsonl", *rows)
    options = {"count": 12, "eval_count": 8}
    curate = {"sources": [{"path": str(path)}], "preferences": options}
    run_stage("curate", recipe_from({"name": "over", "curate": curate}), tmp_path / "run")
    folder = tmp_path / "run" / "curate"
    funnel = json.loads((folder / "funnel.json").read_text(encoding="utf-8"))
    last = funnel[-1]
    assert (last["in"], last["out"]) == (32, 12)
    assert last["rejected"] == {"over_count": 20}
    assert "20 of 32 given pairs" in (folder / "card.md").read_text(encoding="utf-8")
    assert (folder / "rejects.jsonl").read_text(encoding="utf-8") == ""


def test_a_holdout_that_takes_every_row_is_named(tmp_path: Path) -> None:
    curate = {"sources": [TASKS], "holdout": {"count": 9, "prompts": 3}}
    with pytest.raises(StageError) as caught:
        run_stage("curate", recipe_from({"name": "all", "curate": curate}), tmp_path)
    said = caught.value.render()
    assert "12 rows" in said
    assert "curate.holdout" in said
    path = write(tmp_path / "few.jsonl", *(
        {"prompt": f"Which star is number {i}?", "completion": f"It is star {i}."}
        for i in range(4)
    ))  # fmt: skip
    curate = {"sources": [{"path": str(path)}], "holdout": {"count": 4}}
    with pytest.raises(EspalierError) as error:
        run_stage("curate", recipe_from({"name": "all", "curate": curate}), tmp_path / "two")
    assert "curate.holdout" in error.value.render()
    assert "4" in error.value.what
