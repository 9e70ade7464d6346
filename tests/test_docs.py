"""What the READMEs print is true: their recipe, their commands, their equality."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from espalier.cli import main

ROOT = Path(__file__).resolve().parents[1]
READMES = ("README.md", "README.zh-CN.md")


def blocks(name: str, language: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    return [body for label, body in fenced if label == language]


def commands(name: str) -> list[str]:
    lines = [line for block in blocks(name, "") for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith(("espalier ", "make ", "pip "))]


def test_both_readmes_print_the_same_recipes_and_commands() -> None:
    recipes = [[yaml.safe_load(block) for block in blocks(name, "yaml")] for name in READMES]
    assert recipes[0] == recipes[1]
    printed = [[shlex.split(line, comments=True) for line in commands(name)] for name in READMES]
    assert printed[0] == printed[1]
    assert len(printed[0]) > 10


def shape(name: str) -> list[tuple[int, int, int, list[str]]]:
    """A page, section by section: level, rows of tables, items of lists, where links lead."""
    text = (ROOT / name).read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    parts = re.split(r"^(#+) .*$", prose, flags=re.MULTILINE)[1:]
    return [
        (
            len(level),
            len(re.findall(r"^\|", body, flags=re.MULTILINE)),
            len(re.findall(r"^- ", body, flags=re.MULTILINE)),
            [link for link in re.findall(r"\]\(([^)]+)\)", body) if not link.startswith("README")],
        )
        for level, body in zip(parts[::2], parts[1::2], strict=True)
    ]


def test_both_readmes_have_the_same_sections() -> None:
    english, chinese = map(shape, READMES)
    assert len(english) > 8
    assert english == chinese


def test_both_readmes_print_the_same_figures() -> None:
    """Digits of tables, and names in code, apart from comments in another language."""
    found = []
    for name in READMES:
        text = (ROOT / name).read_text(encoding="utf-8")
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        rows = [line for line in prose.splitlines() if re.match(r"\| \d", line)]
        # Words of the page are quoted in both; Chinese needs no code for file names of a tree.
        found.append((rows, set(re.findall(r"`([^`\n]+)`", prose))))
    assert found[0][0] == found[1][0] and len(found[0][0]) == 5
    assert found[0][1] == found[1][1]


def test_the_printed_recipe_curates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recipe of the README, on files of the kind it names, with smaller counts."""
    recipe = yaml.safe_load(blocks("README.md", "yaml")[0])
    recipe["curate"]["holdout"] = {"count": 10, "prompts": 20}
    recipe["curate"]["preferences"] = {"eval_count": 5}
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    topics = ["rivers", "bread", "clocks", "maples", "kites", "salt", "owls", "ferries"]
    prompts = [f"Say in {n} words why {topic} matter." for n in range(2, 12) for topic in topics]
    rows = [{"instruction": p, "input": "", "output": f"They matter: {p[7:20]}"} for p in prompts]
    Path("theirs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    pairs = [
        {"prompt": f"Compare {a} and {b}.", "chosen": f"{a} first.", "rejected": "No."}
        for a in topics
        for b in topics
        if a != b
    ]
    Path("comparisons.jsonl").write_text("\n".join(map(json.dumps, pairs)), encoding="utf-8")
    assert main(["recipe", "validate", "mine.yaml"]) == 0
    stages = "curate, data_report, sft, reward, reward_eval, ppo, evaluate, report"
    assert stages in capsys.readouterr().out
    assert main(["run", "mine.yaml", "--stage", "curate"]) == 0
    made = Path("runs/mine/curate")
    counts = {
        path.stem: len(path.read_text("utf-8").split("\n")) - 1 for path in made.glob("*.jsonl")
    }
    assert counts["eval"] == 10
    assert counts["preferences"] > 0
    assert counts["preferences_eval"] == 5
    assert counts["prompts"] > 0
    assert counts["train"] > 0
    assert main(["recipe", "explain", "mine.yaml"]) == 0
