"""The house rules: floors between trunk and stages, import roots, light command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from espalier import provenance

ROOT = Path(__file__).resolve().parents[1]
STAGE_FOLDERS = ("curate", "train", "evaluate", "reports")


def module_names() -> dict[str, Path]:
    """Every module of the package by import name, found by walking the folders."""
    package = ROOT / "espalier"
    found = {}
    for folder in (package, *(package / stage for stage in STAGE_FOLDERS)):
        for path in folder.rglob("*.py"):
            relative = path.relative_to(package.parent).with_suffix("")
            parts = [part for part in relative.parts if part != "__init__"]
            found[".".join(parts)] = path
    return found


def stage_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in STAGE_FOLDERS else None


def imports_of(module: str, path: Path, modules: dict[str, Path]) -> set[str]:
    return {name for name in provenance.imported_modules(path) if name in modules} - {module}


@pytest.fixture(scope="module")
def modules() -> dict[str, Path]:
    found = module_names()
    assert len(found) > 20
    return found


def test_stage_folders_are_links_and_hold_no_init() -> None:
    for stage in STAGE_FOLDERS:
        link = ROOT / "espalier" / stage
        assert link.is_symlink()
        assert str(link.readlink()) == f"../{stage}"
        assert not list((ROOT / stage).rglob("__init__.py"))


@pytest.mark.slow
@pytest.mark.ci_slice
def test_evaluate_is_hugging_faces_library_from_the_root() -> None:
    code = "import evaluate; print(evaluate.__spec__.origin or '')"
    for words in (["-c", code], ["-m", "timeit", "-n1", "-r1", code]):
        done = subprocess.run(
            [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert "site-packages" in done.stdout.splitlines()[0]


def test_no_stage_imports_another(modules: dict[str, Path]) -> None:
    wrong = [
        f"{module} imports {name}"
        for module, path in modules.items()
        for name in imports_of(module, path, modules)
        if stage_of(module) and stage_of(name) and stage_of(module) != stage_of(name)
    ]
    assert wrong == []


def test_the_trunk_imports_no_stage(modules: dict[str, Path]) -> None:
    wrong = [
        f"{module} imports {name}"
        for module, path in modules.items()
        for name in imports_of(module, path, modules)
        if stage_of(module) is None and stage_of(name)
    ]
    assert wrong == []


def test_no_import_cycles(modules: dict[str, Path]) -> None:
    graph = {
        module: imports_of(module, path, modules)
        - {module.rpartition(".")[0]}  # a submodule does not depend on its own package's exports
        for module, path in modules.items()
    }
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module not in done:
            for name in sorted(graph[module]):
                walk(name, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        walk(module, ())


@pytest.mark.parametrize("words", [["--help"], ["curate", "--help"], ["train", "--help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom espalier.cli import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'pandas', 'evaluate', 'transformers', 'datasets', 'numpy', 'pydantic'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_sizes_of_modules(modules: dict[str, Path]) -> None:
    lengths = {name: len(path.read_text("utf-8").splitlines()) for name, path in modules.items()}
    assert {name: size for name, size in lengths.items() if size > 600} == {}
