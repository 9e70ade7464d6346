"""Every command that README.md and docs/ print, run in a folder that has what it names.

A new command is run without being added anywhere. What can't be run here stands in `PARSED`, and
what takes too long is made smaller by `SMALLER`, each with its reason.
"""

from __future__ import annotations

import glob
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import docs_folder
import pytest

from espalier.cli import build_parser, main

ROOT = docs_folder.ROOT
README = ROOT / "README.md"
# README.zh-CN.md prints the same commands (tests/test_docs.py); docs/extending.md has its own test.
PAGES = sorted([README, ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")])
ELSEWHERE = {"extending.md": "tests/test_docs_extending.py writes its files and runs its commands"}
PROGRAMS = ("espalier", "make", "python", "pip")
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```", flags=re.DOTALL | re.MULTILINE)

# Beginnings of commands that are parsed and not run, with the reason.
PARSED = {
    "make demo": "five minutes; every stage of it has tests of its own",
    "make test": "the tests themselves",
    "make test-all": "the tests themselves",
    "make check": "ruff and mypy over everything",
    "make setup": "installs packages",
    "make setup-vllm": "installs packages",
    "pip install": "installs packages; the extras that it names have to exist",
    "python benchmarks/": "hours; the script has to answer --help",
    "espalier evaluate parity": "needs vLLM; tests/test_evaluate_parity.py",
    "espalier serve": "a server; tests/test_serving.py",
    "espalier rate ": "a server; tests/test_reports_rating_server.py",
    "espalier train push": "needs the hub; tests/test_train_export.py",
}
# Beginnings of commands that are run with further words, with the reason.
PLAN = (["--dry-run"], "minutes; the recipe itself is run by tests/test_recipes_*.py")
TINY = [
    word
    for setting in (
        "curate.sources=[{kind: procedural, name: tasks, count: 80, families: [count_en]}]",
        "curate.self_instruct=null", "curate.holdout={count: 20}",
        "curate.preferences.count=1", "curate.preferences.eval_count=0",
        "curate.pairs=null", "train.base={corpus: offline, texts: 4000, steps: 5}",
        "train.sft.minibatch=64", "train.sft.sample_every=0", "train.reward=null",
        "train.reward_eval=null", "train.ppo=null", "evaluate.reward_model=null",
        "evaluate.models=[{name: sft, stage: sft}]", "evaluate.resamples=200",
        "evaluate.permutations=200", "evaluate.sampling.max_tokens=8", "report=null",
        "train.base.vocabulary=400", "train.base.tokenizer_texts=500",
    )
    for word in ("--set", setting)
]  # fmt: skip
SMALLER = {
    "espalier run recipes/": PLAN,
    "make all RECIPE=recipes/": PLAN,
    "make sweep RECIPE=recipes/": PLAN,
    "espalier sweep recipes/safety": PLAN,
    "espalier sweep recipes/experiments/": PLAN,
    "espalier sweep recipes/demo.yaml": (
        [*TINY, "--seeds", "1", "--draws", "2"],
        "hours; two members of the same sweep, with 80 rows and 5 steps of the base model",
    ),
}
# Exit codes that are an answer as well: rules of a gate that are broken or can't be decided.
OTHERWISE = {"espalier compare": (0, 1)}


def printed(page: Path) -> list[str]:
    """The commands of a page in order, without their comments."""
    found = []
    for language, body in FENCED.findall(page.read_text(encoding="utf-8")):
        if language not in ("", "sh", "bash"):
            continue
        for line in body.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True) if program(line) else []
            if words:
                found.append(shlex.join(words))
    return found


def program(line: str) -> str | None:
    """The program that a line calls, behind variables such as `NPROC=2`."""
    bare = re.sub(r"^\s*(?:\$ )?(?:[A-Z_]+=\S+ )*", "", line)
    name = bare.split(" ")[0]
    return name if name in PROGRAMS else None


def split(command: str) -> tuple[dict[str, str], list[str]]:
    """Variables before the program, and the words from the program on."""
    words = shlex.split(command)
    names = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        names[name] = value
    return names, words


def listed(command: str, table: Sequence[str]) -> str | None:
    """The longest entry of a table that the command begins with, whole words or not."""
    plain = shlex.join(split(command)[1]).replace("'", "")
    fitting = [entry for entry in table if plain == entry or plain.startswith(entry)]
    return max(fitting, key=len, default=None)


def recipes_of_make(words: Sequence[str], names: dict[str, str]) -> list[list[str]]:
    """The espalier commands behind a target, as `make -n` prints them."""
    made = subprocess.run(
        ["make", "-n", "--no-print-directory", *words],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **names},
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    lines = [line for line in made.stdout.splitlines() if "bin/espalier " in line]
    return [shlex.split(line)[1:] for line in lines]


def expanded(words: Sequence[str]) -> list[str]:
    """Names with a star as the shell expands them."""
    return [name for word in words
            for name in (sorted(glob.glob(word)) if "*" in word else [word])]  # fmt: skip


def further(command: str) -> list[str]:
    """The words that make a command smaller."""
    entry = listed(command, list(SMALLER))
    words = SMALLER[entry][0] if entry and "--dry-run" not in command else []
    return words if "--draws" in command else [w for w in words if w not in ("--draws", "2")]


def run(command: str) -> list[tuple[list[str], int]]:
    """Run a command in this folder: its espalier commands with their exit codes."""
    names, words = split(command)
    if words[0] == "make":
        calls = recipes_of_make(words[1:], names)
        assert calls, f"{command}: calls no espalier"
    else:
        calls = [expanded(words[1:])]
    done = []
    for call in calls:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", io.StringIO("/exit\n"))
            for name, value in names.items():
                patch.setenv(name, value)
            done.append((call, main([*call, *further(command)])))
    return done


def parsed(command: str, entry: str) -> None:
    """What a command that is not run has to be."""
    _, words = split(command)
    if words[0] == "espalier":
        build_parser().parse_args(words[1:])
    elif words[0] == "make":
        text = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert words[1] in re.findall(r"^([a-z-]+):", text, flags=re.MULTILINE), command
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file(), command
    else:
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        extras = re.findall(r"\[([a-z0-9,-]+)\]", command)
        for extra in (name for group in extras for name in group.split(",")):
            assert re.search(rf"^{extra} = \[", text, flags=re.MULTILINE), f"{command}: {extra}"


def every() -> list[tuple[Path, str]]:
    return [(page, command) for page in PAGES for command in printed(page)]


def test_commands_are_found() -> None:
    commands = {command for _, command in every()}
    assert len(commands) > 60
    assert "make demo" in commands
    assert any(command.startswith("NPROC=2 make sft") for command in commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_one_that_there_is(page: Path) -> None:
    """Options, verbs, targets, files of scripts; of every command, run or not."""
    for command in printed(page):
        parsed(command, "")


def named_in_text(page: Path) -> list[str]:
    """`espalier …` within sentences, up to its first option."""
    prose = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    return [code.split(" -")[0] for code in re.findall(r"`(espalier [a-z][^`\n]*)`", prose)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_within_the_text_are_verbs(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in named_in_text(page):
        with pytest.raises(SystemExit) as ended:
            main([*command.replace("…", "").split()[1:], "--help"])
        assert ended.value.code == 0, command


def test_no_list_has_more_than_is_printed() -> None:
    commands = [command for _, command in every()]
    for table in (PARSED, SMALLER, OTHERWISE):
        unused = [entry for entry in table if not any(listed(c, [entry]) for c in commands)]
        assert unused == [] or set(unused) <= {"python benchmarks/"}, unused
    assert all(reason for reason in PARSED.values())
    assert set(ELSEWHERE) <= {page.name for page in PAGES}


def quick(command: str) -> bool:
    """Commands of a moment that need nothing but the files: they are run in the fast suite."""
    return split(command)[1][:2] == ["espalier", "inspect"]


QUICK = sorted({command for _, command in every() if quick(command)})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    docs_folder.data_files(folder)
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that the pages name; each page gets a copy."""
    folder = tmp_path_factory.mktemp("prepared")
    docs_folder.data_files(folder)
    block = re.search(r"^```yaml\n(name: mine\n.*?)^```", README.read_text(encoding="utf-8"),
                      flags=re.DOTALL | re.MULTILINE)  # fmt: skip
    assert block is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        docs_folder.models_and_runs(folder, docs_folder.readme_recipe(block[1]), main)
        docs_folder.ratings(folder, main)
    return folder


@pytest.mark.parametrize("command", QUICK)
def test_quick_commands_run(command: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    assert [code for _, code in run(command)] == [0]


WHOLE = [page for page in PAGES if page.name not in ELSEWHERE and printed(page)]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", WHOLE, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_run_one_after_another(
    page: Path,
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "here"
    shutil.copytree(prepared, folder, symlinks=True)
    monkeypatch.chdir(folder)
    commands = printed(page)
    for command in commands:  # what a page makes is not there yet: `new` never overwrites
        for name in re.findall(r"new .*--output (\S+)\.yaml|sweep .*--run (\S+)", command):
            Path(f"{name[0]}.yaml").unlink(missing_ok=True)
            shutil.rmtree(f"runs/{name[0] or name[1]}", ignore_errors=True)
    failed = []
    for command in commands:
        if listed(command, list(PARSED)):
            continue
        right = OTHERWISE.get(listed(command, list(OTHERWISE)) or "", (0,))
        for call, code in run(command):
            if code not in right:
                failed.append(f"{shlex.join(call)}: {code}\n{capsys.readouterr().err[-1500:]}")
        capsys.readouterr()
    assert failed == [], "\n".join(failed)
