"""Where a result comes from: source hashes, package versions, git revision, hardware."""

from __future__ import annotations

import hashlib
import importlib.metadata
import opcode
import os
import platform
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

PACKAGE = Path(__file__).resolve().parent
RECORDED_PACKAGES = (
    "torch", "transformers", "accelerate", "peft", "tokenizers", "datasets", "evaluate",
    "sacrebleu", "rouge-score", "pandas", "openai", "numpy", "pyarrow", "rapidfuzz", "pydantic",
    "vllm",
)  # fmt: skip


def module_file(name: str) -> Path | None:
    """The source file of an `espalier…` module, without importing it; None if there is none."""
    base = PACKAGE.joinpath(*name.split(".")[1:])
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


# As they stand in formatted source; parsing every file would take as long as a small stage.
_IMPORT = re.compile(
    r"^[ \t]*(?:import (?P<plain>espalier[\w.]*)"
    r"|from (?P<module>espalier[\w.]*) import (?P<names>\([^)]*\)|[^\n]*))",
    re.MULTILINE,
)
_NOP = opcode.opmap["NOP"]
_NAME = re.compile(r"(?:^|[(,])\s*(\w+)")


def imported_modules(path: Path) -> set[str]:
    """Names under `espalier` that a source file imports, at any depth of its code.

    What is imported from a module is among them, whether it is a module or not.
    """
    names: set[str] = set()
    for found in _IMPORT.finditer(path.read_text(encoding="utf-8")):
        if found["plain"]:
            names.add(found["plain"])
        else:
            names.add(found["module"])
            bare = re.sub(r"#[^\n]*", "", found["names"])
            names.update(f"{found['module']}.{name}" for name in _NAME.findall(bare))
    return names


def source_closure(module: str) -> dict[str, Path]:
    """The module and every `espalier` module it imports, directly or through others."""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = module_file(name)
        if path is None or name in found:
            continue
        found[name] = path
        waiting.extend(imported_modules(path))
    return found


@cache
def code_hash(path: Path) -> str:
    """Hash of what a source file does: comments, docstrings and layout do not count."""
    # Level 2 leaves docstrings out, as it does `assert`, on which nothing may rest.
    code = compile(path.read_bytes(), path.name, "exec", dont_inherit=True, optimize=2)
    digest = hashlib.sha256()
    _add_code(digest, code)
    return digest.hexdigest()[:16]


def _add_code(digest: Any, code: CodeType) -> None:
    """Everything of a code object but its name, its file and its line numbers."""
    parts = (
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_flags,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        getattr(code, "co_exceptiontable", b""),
    )
    digest.update(f"{parts!r}".encode())
    words = zip(code.co_code[::2], code.co_code[1::2], strict=True)
    # A docstring that is left out of a module leaves an instruction that does nothing.
    digest.update(bytes(byte for word in words if word[0] != _NOP for byte in word))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _add_code(digest, constant)
        else:
            digest.update(f"{_stable(constant)};".encode(errors="surrogatepass"))


def _stable(constant: Any) -> str:
    """A constant as text; the order of a set is that of its members' texts."""
    if isinstance(constant, frozenset):
        return f"{{{','.join(sorted(map(_stable, constant)))}}}"
    if isinstance(constant, tuple):
        return f"({','.join(map(_stable, constant))})"
    return repr(constant)


def source_hashes(module: str) -> dict[str, str]:
    """`code_hash` of each file in the closure of `module`, by module name, sorted."""
    closure = source_closure(module)
    return {name: code_hash(closure[name]) for name in sorted(closure)}


def package_versions() -> dict[str, str]:
    """Versions of the packages that can change a result, as installed."""
    versions = {"python": platform.python_version()}
    for name in RECORDED_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def git_revision() -> str | None:
    """Commit of the source tree (with `+changes` when it differs), None outside a checkout."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE), *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != PACKAGE.parent:
            return None
        revision = git("rev-parse", "HEAD")
        # Recipes and data that lie beside the code are not a change of it.
        changed = git("status", "--porcelain", "--untracked-files=no")
        added = git("ls-files", "--others", "--exclude-standard", "--", ":/*.py")
        return revision + "+changes" if changed or added else revision
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def hardware() -> dict[str, Any]:
    """Processor, cores, memory in GiB, and CUDA devices if torch is loaded already."""
    facts: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "platform": platform.platform(),
    }
    if hasattr(os, "sysconf"):
        facts["memory_gib"] = round(
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1
        )
    torch = sys.modules.get("torch")
    if torch is not None:
        facts["torch_threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            count = torch.cuda.device_count()
            facts["cuda"] = [torch.cuda.get_device_name(index) for index in range(count)]
    return facts
