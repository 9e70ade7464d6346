"""The command line as a user meets it: exit codes, messages, examples that parse."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from espalier.cli import build_parser, main

ROOT = Path(__file__).resolve().parents[1]
VERBS = [
    "run", "curate", "train", "evaluate", "report", "inspect", "recipe", "doctor", "serve", "chat",
]  # fmt: skip


def help_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main([*words, "--help"])
    assert caught.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_that_parses(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = help_of([verb], capsys)
    example = said.partition("example:\n")[2].replace("\\\n", " ")
    commands = [line.strip() for line in example.splitlines() if line.strip()]
    assert commands
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "espalier"
        build_parser().parse_args(words[1:])


def test_unknown_verb_and_option_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["curat"], ["run"], ["run", "x.yaml", "--nope"], ["train", "dpo"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith("espalier: ") and "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["runn", "x.yaml"], ["does not know 'runn'", "did you mean 'run'?"]),
        (
            ["new", "x.json", "--modle", "m"],
            ["espalier new has no option --modle", "mean '--model'?"],
        ),
        (
            ["run", "x.yaml", "--dry-rnu"],
            ["espalier run has no option", "did you mean '--dry-run'?"],
        ),
        # An abbreviation would be another option: a seed is not how many there are.
        (["sweep", "x.yaml", "--seed", "2"], ["has no option --seed", "did you mean '--seeds'?"]),
        (["train", "push", "m", "--repo", "r", "--privat"], ["espalier train push has no option"]),
        (["run", "x.yaml", "y.yaml"], ["takes no further argument", "'y.yaml'"]),
        (["run", "x.yaml", "--stage", "sfft"], ["does not know 'sfft'", "did you mean 'sft'?"]),
        (["run"], ["required: RECIPE", "espalier run --help"]),
        (["curate", "--near", "high"], ["--near: 'high' is no number from 0 to 1"]),
        (["curate", "--near", "nan"], ["--near: 'nan' is no number from 0 to 1"]),
        (["ratings", "preferences", "--min-gap", "0"], ["'0' is no number above 0 and at most 4"]),
    ],
)
def test_a_misspelt_word_is_told_with_what_was_meant(
    words: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    said = capsys.readouterr().err
    assert caught.value.code == 2 and said.startswith("espalier: ")
    assert all(part in said for part in parts), said


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["run", "absent.yaml"], ["can't be opened", "absent.yaml"]),
        (["run", "recipes/demo.yaml", "--set", "train.sft.epoch=1"], ["did you mean 'epochs'?"]),
        (["recipe", "validate", "recipes/demo.yaml", "--set", "sed=1"], ["'seed'"]),
        (["inspect", "absent.jsonl"], ["does not exist", "absent.jsonl"]),
        (["curate"], ["espalier:"]),
        (["train", "sft"], ["No recipe was given"]),
    ],
)
def test_mistakes_exit_2_with_one_message(
    words: list[str],
    parts: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(words) == 2
    said = capsys.readouterr().err
    for part in parts:
        assert part in said
    assert "Traceback" not in said


def test_every_recipe_is_valid_and_can_be_explained(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    recipes = sorted(Path("recipes").rglob("*.yaml"))
    assert len(recipes) > 20
    for path in recipes:
        assert main(["recipe", "validate", str(path)]) == 0
        stages = capsys.readouterr().out.partition("valid; stages: ")[2].strip().split(", ")
        assert {"curate", "sft"} & {*stages}
        if path.name not in ("curation.yaml", "demo.yaml", "instructgpt.yaml", "lora.yaml"):
            continue
        assert main(["recipe", "explain", str(path)]) == 0
        said = capsys.readouterr().out
        assert "# plan" in said
        # Each option stands with its meaning.
        assert re.search(r"(near_threshold|learning_rate): \S+  # ", said)


def test_interrupt_exits_130(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a stage ends in one line and exit code 130."""
    # Tests that a shell started in the background would hand down that interrupts are ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [sys.executable, "-m", "espalier.cli", "run", "recipes/demo.yaml"]
    process = subprocess.Popen(
        [*command, "--stage", "curate", "--runs-dir", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    for line in process.stdout:
        if "running" in line:
            break
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "interrupted; the same command goes on" in error
    assert "Traceback" not in error


def test_an_interrupt_within_an_import_exits_130_as_well(tmp_path: Path) -> None:
    """What CPython remembers of it must not end the process by the signal instead."""
    code = """
import argparse
import espalier.cli as cli
class Parser:
    def parse_args(self, argv):
        return argparse.Namespace(handler=lambda args: exec("raise KeyboardInterrupt"))
cli.build_parser = Parser
cli.entry()
"""
    (tmp_path / "interrupted.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 130
    assert "interrupted; the same command goes on" in done.stderr


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{shlex.quote(sys.executable)} -m espalier.cli recipe explain recipes/demo.yaml"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -n 1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
