"""A function of one's own as an engine, and a filter of one's own, from recipe to result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from espalier.cli import main
from espalier.engines import open_engine
from espalier.engines.base import EngineSpec, Request, Sampling
from espalier.errors import StageError, UsageError

TEACHER = """
def answer(messages, max_tokens, shout=False):
    with open({log!r}, "a") as log:
        log.write("asked\\n")
    text = f"You said: {{messages[-1]['content']}}"
    return text.upper() if shout else text

def silent(messages):
    return None

def broken(messages):
    raise ValueError("no luck")

def greedy(messages, budget):
    return ""
"""
FILTER = """
def no_questions(row):
    return "asks for a colour" if "colour" in row.prompt else None

def wrong(row):
    return True
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(TEACHER.format(log=str(tmp_path / "log")), encoding="utf-8")
    (tmp_path / "filters.py").write_text(FILTER, encoding="utf-8")
    return path


def engine(code: Path, name: str = "answer", **options: Any) -> Any:
    return open_engine(EngineSpec(engine="function", model=f"{code}:{name}", options=options))


def test_the_function_answers_with_what_it_asks_for(code: Path) -> None:
    requests = [Request.of("one"), Request.of("two")]
    texts = [c.text for c in engine(code).generate(requests, Sampling())]
    assert texts == ["You said: one", "You said: two"]
    loud = next(engine(code, shout=True).generate(requests, Sampling(stop=("SAID",))))
    assert loud.text == "YOU "


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("absent", {}, "can't be loaded"),
        ("greedy", {}, "asks for 'budget'"),
        ("answer", {"shuot": True}, "takes no option 'shuot'"),
    ],
)
def test_what_does_not_fit_is_said_at_once(
    code: Path, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        engine(code, name, **options)


@pytest.mark.parametrize(("name", "message"), [("silent", "gives None"), ("broken", "no luck")])
def test_a_function_that_fails_is_named(code: Path, name: str, message: str) -> None:
    with pytest.raises(StageError, match=message):
        next(engine(code, name).generate([Request.of("x")], Sampling()))


def test_answers_are_kept_by_all_that_decides_them(tmp_path: Path) -> None:
    path = tmp_path / "drawn.py"
    path.write_text(
        "def draw(messages, seed, rate=0):\n    return f'{rate} {seed}'\n"
        "def say(messages, rate=0):\n    return f'{rate}'\n"
    )

    def answer(name: str, seed: int, **options: Any) -> tuple[str, int]:
        spec = EngineSpec(engine="function", model=f"{path}:{name}", options=options)
        engine = open_engine(spec, seed=seed, journal=tmp_path / "journal.jsonl")
        (completion,) = engine.generate([Request.of("x")], Sampling(temperature=0))
        engine.close()
        return completion.text, len((tmp_path / "journal.jsonl").read_text().splitlines())

    # One journal for all, as the members of a sweep have it.
    assert answer("draw", 1) == ("0 1", 1)
    assert answer("draw", 2) == ("0 2", 2)
    assert answer("draw", 2, rate=0.5) == ("0.5 2", 3)
    assert answer("draw", 1) == ("0 1", 3)
    # Where the function does not ask for the seed, it decides nothing.
    assert answer("say", 1, rate=3) == ("3", 4)
    assert answer("say", 2, rate=3) == ("3", 4)


def test_a_changed_function_is_asked_anew(tmp_path: Path, code: Path) -> None:
    command = recipe(tmp_path, code)
    assert main(command) == 0
    code.write_text(code.read_text().replace("You said", "You wrote"))
    assert main(command) == 0
    rows = lines(tmp_path / "runs" / "mine" / "curate" / "train.jsonl")
    assert {row["messages"][1]["content"].partition(":")[0] for row in rows} == {"You wrote"}


def recipe(tmp_path: Path, code: Path, **filters: Any) -> list[str]:
    rows = [{"instruction": text} for text in ("Name a colour.", "Name a river.", "Name a tree.")]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    path = tmp_path / "mine.yaml"
    value = {
        "teacher": {"engine": "function", "model": f"{code}:answer"},
        "curate": {
            "sources": [{"kind": "file", "path": str(data), "answer": True}],
            "filters": {"copies": False, **filters},
        },
    }
    path.write_text(json.dumps(value), encoding="utf-8")
    return ["run", str(path), "--runs-dir", str(tmp_path / "runs"), "--stage", "curate"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_function_teaches_and_a_function_filters(tmp_path: Path, code: Path) -> None:
    filters = tmp_path / "filters.py"
    command = recipe(tmp_path, code, functions=[f"{filters}:no_questions"])
    assert main(command) == 0
    folder = tmp_path / "runs" / "mine" / "curate"
    answers = {row["messages"][0]["content"]: row["messages"][1]["content"]
               for row in lines(folder / "train.jsonl")}  # fmt: skip
    assert answers == {
        "Name a river.": "You said: Name a river.",
        "Name a tree.": "You said: Name a tree.",
    }
    rejects = {row["rule"]: row for row in lines(folder / "rejects.jsonl")}
    assert "asks for a colour" in json.dumps(rejects["no_questions"])
    asked = (tmp_path / "log").read_text().count("asked")
    # Answers are journaled: a changed filter asks the teacher only what is new to it.
    filters.write_text(FILTER.replace("colour", "river"), encoding="utf-8")
    assert main(command) == 0
    kept = {row["messages"][0]["content"] for row in lines(folder / "train.jsonl")}
    assert kept == {"Name a colour.", "Name a tree."}
    assert (tmp_path / "log").read_text().count("asked") == asked == 3


def test_a_filter_that_gives_no_reason_is_an_error(
    tmp_path: Path, code: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(recipe(tmp_path, code, functions=[f"{tmp_path}/filters.py:wrong"])) == 1
    error = capsys.readouterr().err
    assert "gives True" in error
    assert "None to keep the row" in error
    assert main(recipe(tmp_path, code, functions=[f"{tmp_path}/filters.py:absent"])) == 2
    assert "can't be loaded" in capsys.readouterr().err
