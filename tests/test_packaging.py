"""Wheel and sdist hold every module and data file of the source tree."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.ci_slice]


def expected_files() -> set[str]:
    """Paths as they are imported, for all tracked files below the package and its stages."""
    done = subprocess.run(
        ["git", "ls-files", "espalier", "curate", "train", "evaluate", "reports"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    names = [name for name in done.stdout.splitlines() if not (ROOT / name).is_symlink()]
    return {name if name.startswith("espalier/") else f"espalier/{name}" for name in names}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source") / "espalier"
    ignored = shutil.ignore_patterns(
        ".git", ".venv*", "runs", "build", "dist", "*.egg-info", ".*_cache", "__pycache__"
    )
    shutil.copytree(ROOT, source, symlinks=True, ignore=ignored)
    out = source / "dist"
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)],
        check=True,
        capture_output=True,
    )
    return out


def test_wheel_and_sdist_are_complete(built: Path) -> None:
    wheel = zipfile.ZipFile(next(built.glob("*.whl"))).namelist()
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        sdist = {name.partition("/")[2] for name in archive.getnames()}
    assert expected_files() - set(wheel) == set()
    assert expected_files() - sdist == set()


def test_wheel_curates_without_torch(built: Path, tmp_path: Path) -> None:
    """An environment with the core dependencies alone curates an Alpaca-form file."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    wheel = next(built.glob("*.whl"))
    install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*install, "-c", str(ROOT / "constraints.txt"), str(wheel)], check=True)
    absent = subprocess.run([str(python), "-c", "import torch"], capture_output=True, check=False)
    assert absent.returncode == 1
    data = tmp_path / "alpaca.json"
    rows = [
        f'{{"instruction": "Name {n} things that float on water.", "input": "", '
        f'"output": "Wood, cork and {n} small boats all float."}}'
        for n in range(2, 12)
    ]
    data.write_text(f"[{', '.join([*rows, rows[0]])}]", encoding="utf-8")
    command = [str(tmp_path / "env/bin/espalier"), "curate", "--input", str(data)]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "out/train.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 10
    assert (tmp_path / "out/manifest.json").is_file()
