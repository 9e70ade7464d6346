"""The examples of docs/extending.md: run as printed, they do what the page says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_server import FakeServer

from espalier import user_code
from espalier.cli import main
from espalier.records import Example

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, flags=re.DOTALL | re.MULTILINE))
NAMED = re.compile(r"^(?:# |\{# )([\w/]+\.(?:py|yaml|jinja))")
pytestmark = pytest.mark.timeout(900)
PROMPTS = ("Name a colour.", "Say what a river is.", "说一种树。")


def blocks(section: str) -> Iterator[tuple[str, str]]:
    """(file name, or language; text) of each fenced block."""
    for language, body in re.findall(
        r"^```(\w*)\n(.*?)^```", SECTIONS[section], flags=re.DOTALL | re.MULTILINE
    ):
        name = NAMED.match(body)
        yield (name[1] if name else language), body


def commands(section: str) -> list[list[str]]:
    lines = [line for name, body in blocks(section) if not name for line in body.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("espalier ")]


def written(section: str, folder: Path) -> list[str]:
    """The files of a section; returns their names."""
    names = []
    for name, body in blocks(section):
        if "." in name:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(body, encoding="utf-8")
            names.append(name)
    return names


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    rows = [json.dumps({"prompt": text}, ensure_ascii=False) for text in PROMPTS]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


def summary(run: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(Path(f"runs/{run}/evaluate/summary.json").read_text("utf-8"))
    return read


def up_to_date(words: list[str], stage: str, capsys: pytest.CaptureFixture[str]) -> bool:
    capsys.readouterr()
    assert main(words) == 0
    found = capsys.readouterr()
    return f"{stage}: up to date" in found.out + found.err


def test_every_section_has_files_and_commands() -> None:
    assert list(SECTIONS) == [
        "A filter", "A metric", "A teacher or a judge", "A reward", "A template",
    ]  # fmt: skip
    for section in SECTIONS:
        assert commands(section), section
        assert any(name.endswith(".yaml") for name, _ in blocks(section)), section


@pytest.mark.slow
@pytest.mark.ci_slice
def test_the_filter(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert written("A filter", here) == ["filters.py", "filtered.yaml"]
    (command,) = commands("A filter")
    assert main(command) == 0
    kept = lines("runs/filtered/curate/train.jsonl")
    rejects = [r for r in lines("runs/filtered/curate/rejects.jsonl") if r["rule"] == "no_digits"]
    answers = [row["messages"][-1]["content"] for row in kept]
    assert answers
    assert not any(re.search(r"\d", text) for text in answers)
    assert rejects
    assert all("the answer has" in json.dumps(row) for row in rejects)
    assert "no_digits" in Path("runs/filtered/curate/funnel.json").read_text("utf-8")
    assert up_to_date(command, "curate", capsys)
    (here / "filters.py").write_text("def no_digits(row):\n    return None\n", encoding="utf-8")
    assert not up_to_date(command, "curate", capsys)
    assert len(lines("runs/filtered/curate/train.jsonl")) > len(kept)


@pytest.mark.slow
@pytest.mark.ci_slice
def test_the_metrics(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written("A metric", here)
    (command,) = commands("A metric")
    assert main(command) == 0
    scores = {(s["model"], s["metric"]): s["value"] for s in summary("measured")["scores"]}
    rows = lines(str(ROOT / "recipes/samples/held_out_tasks.jsonl"))
    references = [row["messages"][-1]["content"] for row in rows[:40]]
    for model in ("teacher", "careless"):
        answers = [row["answer"] for row in lines(f"runs/measured/evaluate/answers/{model}.jsonl")]
        pairs = list(zip(answers, references, strict=True))
        long = sum(abs(len(a) - len(b)) <= 2 for a, b in pairs) / 40
        first = sum(bool(a) and a[0].lower() == b[0].lower() for a, b in pairs) / 40
        assert scores[model, "same_length"] == pytest.approx(long)
        assert scores[model, "first_letter"] == pytest.approx(first)
    page = Path("runs/measured/report.html").read_text("utf-8")
    assert "says nothing of what it says" in page
    assert up_to_date(command, "evaluate", capsys)


def test_filter_and_teacher_by_themselves(here: Path) -> None:
    written("A filter", here)
    written("A teacher or a judge", here)
    rule = user_code.load_function("filters.py:no_digits", what="filter", where="here")
    assert rule(Example.single("How many?", "four")) is None
    assert rule(Example.single("How many?", "42")) == "the answer has 2 digits"
    answer = user_code.load_function("teacher.py:answer", what="engine", where="here")
    messages = [{"role": "user", "content": "Name a colour, please."}]
    assert answer(messages, 4, "!") == "You asked: Name a!"


def test_the_metric_by_itself(here: Path) -> None:
    written("A metric", here)
    function = user_code.load_function("metrics.py:same_length", what="function", where="here")
    assert function("four", "four or", {"tolerance": 2}) == 0.0
    assert function("four", "fo", {"tolerance": 2}) == 1.0


@pytest.mark.slow
def test_the_teacher_that_is_a_function(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written("A teacher or a judge", here)
    (command,) = commands("A teacher or a judge")
    assert main(command) == 0
    rows = lines("runs/taught/curate/train.jsonl")
    assert {row["messages"][-1]["content"] for row in rows} == {
        f"You asked: {text} Is that right?" for text in PROMPTS
    }
    assert up_to_date(command, "curate", capsys)
    assert all(json.loads(body) for name, body in blocks("A teacher or a judge") if name == "json")


@pytest.mark.slow
def test_the_teacher_behind_a_server(here: Path) -> None:
    written("A teacher or a judge", here)
    with FakeServer(answer=lambda body: "It is a thing that I know.") as server:
        recipe = yaml.safe_load((here / "served.yaml").read_text("utf-8"))
        recipe["teacher"]["base_url"] = server.url
        (here / "served.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        assert main(["run", "served.yaml", "--stage", "curate"]) == 0
        assert len(server.requests) == len(PROMPTS)
    rows = lines("runs/served/curate/train.jsonl")
    assert {row["messages"][-1]["content"] for row in rows} == {"It is a thing that I know."}


def test_the_reward_by_itself(here: Path) -> None:
    written("A reward", here)
    function = user_code.load_function("rewards.py:to_the_point", what="reward", where="here")
    example = Example.single("How many?", "three of them")
    assert [function(example, text) for text in ("3", "three of them", "three of them here")] == [
        1.0, 1.0, 0.5,
    ]  # fmt: skip


@pytest.mark.slow
def test_the_reward_in_ppo(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written("A reward", here)
    (command,) = commands("A reward")
    assert main(command) == 0
    curves = lines("runs/rewarded/ppo/metrics.jsonl")
    assert any("to_the_point" in key for row in curves for key in row)
    assert (here / "runs/rewarded/ppo/model/model.safetensors").is_file()
    assert up_to_date(command, "ppo", capsys)


@pytest.mark.slow
def test_the_template(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written("A template", here)
    begun, preview, whole = commands("A template")
    assert main(begun) == 0
    capsys.readouterr()
    assert main(preview) == 0
    shown = capsys.readouterr().out
    assert "Q: " in shown
    assert re.search(r"A: \[\[", shown)
    assert main(whole) == 0
    text = (here / "interview.jinja").read_text("utf-8")
    assert Path("runs/written/sft/model/chat_template.jinja").read_text("utf-8") == text
    assert Path("runs/written/report.html").is_file()


def test_nothing_else_is_needed(here: Path) -> None:
    """Every file that a recipe of the page names is on the page, or comes with the project."""
    shutil.rmtree(here / "runs", ignore_errors=True)
    known = {name for section in SECTIONS for name in written(section, here)} | {"prompts.jsonl"}
    for section in SECTIONS:
        for name, body in blocks(section):
            if name.endswith(".yaml"):
                for file in re.findall(r"[\w/]+\.(?:py|jinja|jsonl)", body):
                    own = file in known or file.startswith("curate/")  # of the run itself
                    assert own or (ROOT / file).is_file(), file
