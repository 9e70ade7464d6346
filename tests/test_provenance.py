"""Hashes of source code: what it does counts, how it is written down does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from espalier import provenance

CODE = '''
"""About."""

NAMES = {"a", "b"}


def f(x: int, names: object = None) -> bool:
    """Doc."""
    return x in {"one", "two", "three", "four"}
'''


def hash_of(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return provenance.code_hash(path)


def test_comments_docstrings_and_layout_do_not_count(tmp_path: Path) -> None:
    first = hash_of(tmp_path, "a.py", CODE)
    other = CODE.replace('"""Doc."""', '"""Other words."""').replace('"""About."""', "# gone")
    other = other.replace("return x in", "# why\n    return x in").replace("\n\n\n", "\n\n")
    assert hash_of(tmp_path, "b.py", other) == first


def test_what_the_code_does_counts(tmp_path: Path) -> None:
    seen = {hash_of(tmp_path, "a.py", CODE)}
    for old, new in (
        ("x in", "x not in"), ('"two"', '"zwei"'), ("def f", "def g"), ("x: int,", "y: int,"),
        ("= None", "= 1"),
    ):  # fmt: skip
        changed = CODE.replace(old, new)
        if old == "x: int,":
            changed = changed.replace("return x", "return y")
        seen.add(hash_of(tmp_path, f"{len(seen)}.py", changed))
    assert len(seen) == 6


def test_a_hash_is_the_same_in_every_process(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(CODE, encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from espalier import provenance; "
        "print(provenance.code_hash(Path(sys.argv[1])))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code, str(path)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).resolve().parents[1],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1


def test_imports_are_found_at_any_depth(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        "import espalier.text\nfrom espalier.curate import (\n    card,  # why\n"
        "    quality as q,\n)\n"
        "def f():\n    from espalier.near import JaccardIndex\n    import json\n",
        encoding="utf-8",
    )
    assert provenance.imported_modules(path) == {
        "espalier.text", "espalier.curate", "espalier.curate.card", "espalier.curate.quality",
        "espalier.near", "espalier.near.JaccardIndex",
    }  # fmt: skip


def test_only_code_changes_the_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> None:
        who = ("-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    package = tmp_path / "espalier"
    package.mkdir()
    (package / "code.py").write_text("x = 1\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr(provenance, "PACKAGE", package)
    clean = provenance.git_revision()
    assert clean is not None and len(clean) == 40
    # A recipe and data of the user's beside the code.
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    (package / "rows.jsonl").write_text("{}\n")
    assert provenance.git_revision() == clean
    (tmp_path / "train").mkdir()
    added = tmp_path / "train" / "more.py"
    added.write_text("y = 2\n")
    assert provenance.git_revision() == f"{clean}+changes"
    added.unlink()
    (package / "code.py").write_text("x = 2\n")
    assert provenance.git_revision() == f"{clean}+changes"
