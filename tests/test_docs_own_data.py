"""The page on one's own data: every command that it prints is run, in an empty folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from own_data import comparisons, model_folder, share_gpt

from espalier.cli import build_parser, main

PAGE = Path(__file__).resolve().parents[1] / "docs" / "own-data.md"


def commands() -> list[list[str]]:
    text = PAGE.read_text(encoding="utf-8")
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for label, block in fenced if not label for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("espalier ")]


def test_every_command_parses() -> None:
    assert len(commands()) >= 12
    for words in commands():
        build_parser().parse_args(words[1:])


@pytest.mark.slow
def test_the_walk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a ShareGPT file and a model folder to a report, as someone would who has only these."""
    monkeypatch.chdir(tmp_path)
    share_gpt(Path("theirs.json"))
    comparisons(Path("comparisons.jsonl"))
    model_folder(Path("path/to/model"))
    for words in commands():
        asks = ["--yes"] if words[1] == "new" else []
        code = main([*words[1:], *asks])
        told = capsys.readouterr()
        assert code == 0, f"{' '.join(words)}\n{told.err}"
    page = Path("runs/mine/report.html").read_text(encoding="utf-8")
    assert len(page) > 100_000
    assert Path("runs/mine/data.html").is_file()
    made = {path.name for path in Path().glob("*.yaml")}
    assert made == {"mine.yaml", "compared.yaml", "ppo.yaml"}
