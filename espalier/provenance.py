"""Where a result comes from: source hashes, package versions, git revision, hardware."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
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


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), filename=str(path))


def imported_modules(path: Path) -> set[str]:
    """Names under `espalier` that a source file imports, at any depth of its code."""
    names: set[str] = set()
    for node in ast.walk(_parse(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in names if name.split(".")[0] == "espalier"}


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


class _DropDocstrings(ast.NodeTransformer):
    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                del body[0]
        return node


@cache
def code_hash(path: Path) -> str:
    """Hash of what a source file does: comments, docstrings and layout do not count."""
    tree = _DropDocstrings().visit(ast.parse(path.read_bytes()))
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


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
        return revision + "+changes" if git("status", "--porcelain") else revision
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
