"""Rubrics of one's own: options, files, prompts, replies, ratings by people, the stage."""

from __future__ import annotations

import csv
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_evaluate_judge import Scripted, answer_of, asker, evaluated, the_set, write

import espalier.engines
from espalier.cli import main
from espalier.errors import EspalierError, InputError, UsageError
from espalier.evaluate import predictions, ratings
from espalier.evaluate.config_judge import TAKEN, JudgeConfig, RubricConfig
from espalier.evaluate.judge import mark_answers
from espalier.evaluate.judge_rubrics import check_columns, scales_of
from espalier.evaluate.ratings import Criteria, read_ratings
from espalier.recipe import recipe_from
from espalier.rubrics import QUALITY, Criterion, own_scale

TONE = {
    "name": "house",
    "criteria": [
        {"name": "tone", "description": "Friendly, never servile.", "words": ["语气"]},
        {"name": "cites_source", "description": "Names where it knows it from.", "check": True},
        {"name": "简洁", "description": "没有一句多余的话。"},
    ],
}
HOUSE = own_scale(
    "house",
    [
        Criterion("tone", "Friendly, never servile.", words=("语气",)),
        Criterion("cites_source", "Names where it knows it from.", check=True),
        Criterion("简洁", "没有一句多余的话。"),
    ],
)


def test_the_judge_is_told_every_criterion_in_either_language() -> None:
    for language, first in (("en", "Judge one answer"), ("zh", "请按下列标准")):
        prompt = HOUSE.prompt("q", "a", language)
        assert prompt.startswith(first)
        for text in ("tone", "Friendly, never servile.", "cites_source", "简洁", "没有一句"):
            assert text in prompt.partition("q\n")[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"reason": "r", "tone": 4, "cites_source": "fail", "简洁": 2}', (4, 2, False)),
        ('{"理由": "r", "语气": 4, "cites_source": "不通过", "简洁": "２"}', (4, 2, False)),
        ("Tone: 4/5\n**cites_source**: fail\n简洁：2分", (4, 2, False)),
        ("Tone: 4, cites source: pass, 简洁: 2", (4, 2, True)),
        # A word that only holds the name is not the name.
        ("Overtones: 1\nTone: 4\nSemitone: 2\ncites_source: yes\n简洁: 2", (4, 2, True)),
        ('{"tone": 4, "cites_source": "fail"}', None),
        ('{"tone": 7, "cites_source": "fail", "简洁": 2}', None),
    ],
)
def test_replies_by_ones_own_rubric_are_read(text: str, expected: Any) -> None:
    found = HOUSE.parse(text)
    given = None if found is None else (*found.marks.values(), found.checks["cites_source"])
    assert given == expected


def test_words_are_no_patterns() -> None:
    scale = own_scale("x", [Criterion("c", "d", words=("c++ (a|b)",))])
    found = scale.parse("C++ (a|b): 3")
    assert found is not None and found.marks == {"c": 3}


@pytest.mark.parametrize(
    ("rubric", "expected"),
    [
        ({"name": "hhh", "criteria": TONE["criteria"]}, ["hhh", "built-in"]),
        ({"name": "x", "criteria": []}, ["criteria"]),
        ({"name": "x", "criteria": [{"name": "y"}]}, ["description"]),
        ({"name": "x", "criteria": [{"name": "model", "description": "d"}]}, ["'model'"]),
        ({"name": "x", "criteria": [{"name": "a b", "description": "d"}]}, ["name"]),
        ({"name": "x", "criteria": [{"name": "y", "descripton": "d"}]}, ["did you mean"]),
        ({"name": "x", "criteria": [{"name": "y", "description": "d"},
                                    {"name": "z", "description": "d", "words": ["Y"]}]},
         ["'y'", "'z'"]),
        ("qualty", ["quality, hhh", "'qualty'"]),
        (7, ["rubrics"]),
    ],
)  # fmt: skip
def test_what_is_no_rubric_is_refused(rubric: Any, expected: list[str]) -> None:
    options = {"models": [{"name": "m", "path": "m"}], "judge": {"rubrics": [rubric]}}
    with pytest.raises(UsageError) as caught:
        recipe_from({"name": "t", "evaluate": options})
    assert all(part in str(caught.value) for part in expected), str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("name: x", ["criteria", "required"]),
        ("name: [", ["can't be read"]),
        ("- a", ["no rubric"]),
        (json.dumps({"name": "x", "criteria": [{"name": "y", "description": ""}]}),
         ["criteria.0.description"]),
        (None, ["does not exist"]),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_rubric(
    tmp_path: Path, content: str | None, expected: list[str]
) -> None:
    file = tmp_path / "mine.yaml"
    if content is not None:
        file.write_text(content, "utf-8")
    with pytest.raises(InputError) as caught:
        scales_of(["mine.yaml"], tmp_path.joinpath)
    assert all(part in str(caught.value) for part in ("mine.yaml", *expected))


def test_columns_of_one_name_are_refused() -> None:
    accuracy = own_scale("mine", [Criterion("accuracy", "d")])
    check_columns([QUALITY, HOUSE])
    for scales in ([QUALITY, accuracy], [own_scale("tone", [Criterion("tone", "d")])]):
        with pytest.raises(UsageError, match="Two columns would be called judge_"):
            check_columns(scales)
    check_columns([own_scale("tone", [Criterion("tone", "d", check=True)])])


def test_a_criterion_cant_be_called_like_a_field_of_ratings() -> None:
    fields = {*predictions.ID_FIELDS, *ratings.RATER_FIELDS, *ratings.VERDICT_FIELDS,
              *ratings.FIRST_FIELDS, *ratings.SECOND_FIELDS, *ratings.PROMPT_FIELDS}  # fmt: skip
    assert fields <= TAKEN


# --- the reference ---------------------------------------------------------------------------


def test_the_judge_sees_the_reference_only_when_asked_to() -> None:
    def with_reference(text: str | None) -> Any:
        evalset = the_set(["the question"])
        row = evalset.rows[0]
        fields = {name: getattr(row, name) for name in row.__dataclass_fields__}
        return type(evalset)("s", "s", "0", (type(row)(**fields | {"reference": text}),))

    def prompt_of(text: str | None, **options: Any) -> str:
        judge, engine = asker(lambda _: "{}", **options)
        mark_answers(QUALITY, judge, with_reference(text), {"a": ["the answer"]}, [0])
        return engine.prompts[0]

    assert "42" not in prompt_of("42")
    plain = prompt_of("42")
    assert prompt_of(None, reference=True) == plain == QUALITY.prompt("the question", "the answer",
                                                                      "en")  # fmt: skip
    shown = prompt_of("42\n[Answer]\nx", reference=True)
    places = [shown.index(part) for part in ("[Question]\nthe question", "[Reference]\n42\n| [Ans",
                                             "\n[Answer]\nthe answer")]  # fmt: skip
    assert places == sorted(places) and "reference answer is shown" in shown[: places[0]]
    assert "reference:shown" in asker(str, reference=True)[0].signature
    assert "reference" not in asker(str)[0].signature


def test_a_set_with_few_references_is_told_of(tmp_path: Path) -> None:
    options = options_of(tmp_path)
    rows = [json.loads(line) for line in Path(options["set"]).read_text("utf-8").splitlines()]
    write(Path(options["set"]), [{"id": r["id"], "prompt": r["prompt"]} if i else r
                                 for i, r in enumerate(rows)])  # fmt: skip
    summary = evaluated(tmp_path, options | {"judge": {"reference": True, "pairs": "none"}})
    assert summary["judge"]["reference"] == 1
    assert any("saw a reference on 1 of 6 prompts" in text for text in summary["warnings"])
    assert "reference:shown" in summary["metrics"][-1]["signature"]


def test_the_rubric_of_the_documentation_is_one() -> None:
    page = (Path(__file__).parents[1] / "docs/evaluation.md").read_text("utf-8")
    block = page[page.index("  name: house ") :].partition("```")[0]
    scale = scales_of([RubricConfig.model_validate(yaml.safe_load(textwrap.dedent(block)))], Path)[
        0
    ]
    assert list(scale.marks) == ["tone"] and list(scale.checks) == ["cites_source"]


# --- people ----------------------------------------------------------------------------------


def test_people_rate_by_the_same_rubric(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rubric = tmp_path / "house.yaml"
    rubric.write_text(json.dumps(TONE), "utf-8")
    rows = [{"id": f"q{i}", "model": "m", "Tone": 1 + i, "Cites_Source": "pass", "简洁": 3}
            for i in range(4)]  # fmt: skip
    names = [write(tmp_path / f"{rater}.jsonl", rows) for rater in ("ann", "bo")]
    (scale,) = scales_of(["house.yaml"], tmp_path.joinpath)
    found = read_ratings(Path(names[0]), Criteria.of([scale]))
    assert dict(found.ratings[3].marks) == {"tone": 4, "简洁": 3, "cites_source": 1}
    assert "cites_source" in found.checks and "tone" not in found.checks
    # Without the rubric nothing of this is a rating.
    assert main(["ratings", "agreement", *names]) == 2
    capsys.readouterr()
    assert main(["ratings", "agreement", *names, "--rubric", str(rubric)]) == 0
    said = capsys.readouterr().out
    assert "tone: alpha 1.00" in said and "(ordinal;" in said and "cites_source: no alpha" in said
    assert main(["ratings", "agreement", *names, "--rubric", "house"]) == 2
    assert "no rubric 'house'" in capsys.readouterr().err


def test_a_word_of_ones_own_rubric_goes_before_the_built_in_one(tmp_path: Path) -> None:
    own = own_scale("x", [Criterion("right", "d", words=("correctness",))])
    row = {"id": "q", "model": "m", "correctness": 2, "accuracy": 3}
    path = Path(write(tmp_path / "r.jsonl", [row]))
    assert dict(read_ratings(path, Criteria.of([own])).ratings[0].marks) == {
        "right": 2, "accuracy": 3
    }  # fmt: skip
    check = own_scale("x", [Criterion("accuracy", "d", check=True)])
    row = {"id": "q", "model": "m", "accuracy": "fail", "correctness": 3}
    found = read_ratings(Path(write(tmp_path / "r.jsonl", [row])), Criteria.of([check]))
    assert dict(found.ratings[0].marks) == {"accuracy": 0}


# --- the stage -------------------------------------------------------------------------------


def options_of(tmp_path: Path) -> dict[str, Any]:
    prompts = [f"Name {n} colours." for n in range(6)]
    rows = [{"id": f"q{i}", "prompt": p, "completion": "red"} for i, p in enumerate(prompts)]
    models = []
    for name, word in (("old", "red"), ("new", "green")):
        given = [{"prompt": prompt, "response": f"{word} {i}"} for i, prompt in enumerate(prompts)]
        models.append({"name": name, "predictions": write(tmp_path / f"{name}.jsonl", given)})
    return {"set": write(tmp_path / "set.jsonl", rows), "models": models, "metrics": ["length"],
            "resamples": 100, "permutations": 200}  # fmt: skip


@pytest.mark.slow
@pytest.mark.ci_slice
def test_an_own_rubric_from_file_to_columns_and_ratings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(prompt: str) -> str:
        mark = 4 if answer_of(prompt).startswith("green") else 2
        return json.dumps({"reason": "r", "tone": mark, "cites_source": "pass", "简洁": 3})

    engine = Scripted(say)
    monkeypatch.setattr(espalier.engines, "_open", lambda *args: engine)
    file = tmp_path / "house.yaml"
    file.write_text(json.dumps(TONE), "utf-8")
    judge = {"rubrics": [str(file)], "pairs": "none", "engine": {"model": "x", "engine": "openai"}}
    options = options_of(tmp_path) | {"judge": judge}
    sheet = tmp_path / "ann.csv"
    summary = evaluated(tmp_path, options)
    values = {(one["model"], one["metric"]): one["value"] for one in summary["scores"]}
    assert values["new", "judge_tone"] == 4 and values["old", "judge_tone"] == 2
    assert values["new", "judge_house"] == 3.5 and values["new", "judge_简洁"] == 3
    assert values["new", "judge_cites_source"] == 1
    described = {one["name"]: one["description"] for one in summary["metrics"]}
    assert "Friendly, never servile" in described["judge_tone"]
    # A sheet by the same rubric, filled in, comes back as columns.
    words = ["ratings", "sheet", str(tmp_path / "run"), "--kind", "marks"]
    capsys.readouterr()
    assert main([*words, "--rubric", str(file), "--output", str(sheet)]) == 0
    said = capsys.readouterr().out
    assert "1 to 5 in tone, 简洁; pass or fail in cites_source" in said
    assert "tone: Friendly, never servile." in said
    with sheet.open(encoding="utf-8-sig", newline="") as handle:
        filled = [row | {"tone": "5", "简洁": "1"} for row in csv.DictReader(handle)]
    with sheet.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(filled[0]))
        writer.writeheader()
        writer.writerows(filled)
    count = len(engine.prompts)
    more = options | {"ratings": {"files": [str(sheet)], "rubrics": [str(file)]}}
    summary = evaluated(tmp_path, more)
    assert {"human_tone", "human_简洁"} <= {one["name"] for one in summary["metrics"]}
    assert "tone" in {one["what"] for one in summary["ratings"]["judge"]}
    # Another description is another task for the judge.
    file.write_text(json.dumps(TONE).replace("Friendly", "Kind"), "utf-8")
    evaluated(tmp_path, more)
    assert "Kind" in engine.prompts[-1] and len(engine.prompts) == 2 * count + count


@pytest.mark.parametrize("judge", [{"rubrics": [TONE]}, {"rubrics": ["quality", "none.yaml"]}])
def test_a_rubric_that_cant_be_used_stops_before_the_first_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judge: dict[str, Any]
) -> None:
    monkeypatch.setattr("espalier.evaluate.stage.answer_all", None)
    with pytest.raises(EspalierError, match=r"embedded judge can't|none\.yaml"):
        evaluated(tmp_path, options_of(tmp_path) | {"judge": judge})


def test_an_own_rubric_is_shown_by_explain() -> None:
    from espalier.explain import explain

    options = {"models": [{"name": "m", "path": "m"}], "judge": {"rubrics": ["hhh", TONE]}}
    said = explain(recipe_from({"name": "t", "evaluate": options}), Path("nowhere"))
    assert "- hhh" in said and "name: house" in said and "Friendly, never servile." in said
    assert RubricConfig.model_validate(TONE) in JudgeConfig(rubrics=[TONE]).rubrics
