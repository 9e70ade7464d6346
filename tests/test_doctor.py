"""`espalier doctor` tells what is there and what is missing, without network or secrets."""

from __future__ import annotations

import importlib.metadata
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from espalier import doctor
from espalier.doctor import parse_requirement, report

ROOT = Path(__file__).resolve().parents[1]


def test_report_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-0123456789")
    text = report(tmp_path / "no" / "runs")
    assert f"numpy {importlib.metadata.version('numpy')}" in text
    assert f"Python {sys.version.split()[0]}" in text
    assert "GiB free for" in text
    assert "OPENAI_API_KEY: set" in text
    assert "sk-secret" not in text
    for extra in ("train", "evaluate", "dev"):
        assert f"\n  {extra:<9} " in text


def test_a_bare_installation_is_told_what_each_extra_would_bring() -> None:
    bare = {"numpy", "pydantic", "pyyaml", "rapidfuzz", "pyarrow", "zstandard", "openai", "jinja2"}
    text = report(installed=lambda name: "99.0" if name in bare else None)
    train = text[text.index("  train ") : text.index("  evaluate ")]
    assert "missing" in train
    assert "would bring: the tiny base model, SFT, reward models, PPO" in train
    for name in ("torch", "transformers", "accelerate", "peft", "safetensors"):
        assert name in train
    assert "'.[train]'" in train or "'espalier[train]'" in train
    assert "torch is not installed: curation works" in text


def test_too_old_a_package_is_named_with_what_is_needed() -> None:
    versions = {"torch": "2.1.0+cpu", "transformers": "5.0.1"}
    text = report(installed=lambda name: versions.get(name, "99.0"))
    assert "torch 2.1.0+cpu (needs >=2" in text
    assert "lacks: transformers" not in text


def test_versions_agree_with_packaging() -> None:
    specifiers = pytest.importorskip("packaging.specifiers")
    versions = ["1", "1.0", "1.9", "1.10", "2.0", "2.13.0+cpu", "5.19.0", "5.20", "10.1"]
    bounds = [">=1.10", "<5.20", ">=5.0,<5.20", "==2.13.0", ">1.9", "<=2", "!=2.0"]
    for bound in bounds:
        requirement = parse_requirement(f"thing{bound}")
        for version in versions:
            ours = requirement.problem(lambda name, v=version: v) is None  # type: ignore[misc]
            assert ours == (version in specifiers.SpecifierSet(bound)), (version, bound)


def test_requirement_lines_are_read() -> None:
    line = 'transformers<5.20,>=5.0; python_version >= "3.11" and extra == "train"'
    assert parse_requirement(line) == doctor.Requirement(
        "transformers", (("<", "5.20"), (">=", "5.0")), "train"
    )
    assert parse_requirement("rouge-score>=0.1.2").extra is None
    assert parse_requirement('espalier[train,evaluate]; extra == "all"').name == "espalier"


def test_a_checkout_that_is_not_installed_reads_pyproject(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", absent)
    lines = doctor.requirements()
    assert {(r.name, r.extra) for r in map(parse_requirement, lines)} >= {("torch", "train")}


@pytest.mark.parametrize("with_init", [True, False])
def test_a_folder_that_hides_the_evaluate_library_is_found(tmp_path: Path, with_init: bool) -> None:
    if importlib.util.find_spec("evaluate") is None:
        pytest.skip("the evaluate library is not installed")
    (tmp_path / "evaluate").mkdir()
    if with_init:
        (tmp_path / "evaluate" / "__init__.py").touch()
    code = (
        f"import sys; sys.path[1:1] = [{str(ROOT)!r}]\n"
        "from espalier.doctor import _shadow, installed_version\n"
        "print(list(_shadow(installed_version))[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    # A plain folder loses against the installed package; one with __init__.py hides it.
    assert ("HIDDEN" in done.stdout) == with_init
    assert (str(tmp_path) in done.stdout) == with_init


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from espalier.doctor import installed_version, report\n"
        "report(installed=lambda name: None if name == 'torch' else installed_version(name))\n"
        "heavy = {'torch', 'transformers', 'pandas', 'evaluate', 'datasets', 'openai'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
