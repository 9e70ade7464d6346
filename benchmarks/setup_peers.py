"""Installs the peers into environments of their own: `python setup_peers.py [FOLDER ...]`, or
`make setup-peers`.

`.venv-trl` has the version of TRL whose SFT and reward trainers ours are compared with,
`.venv-trl-ppo` the last one that still had a PPO, `.venv-lm-eval` the perplexity of lm-eval. All
take the versions of constraints.txt, so that torch and transformers are the same as ours. Runs
before anything is installed, so it needs the standard library alone. A second run with the same
constraints does nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
# What a worker of this folder needs beside TRL and what TRL requires.
COMMON = ("torch", "transformers", "tokenizers", "safetensors", "numpy")
PEERS = {
    ".venv-trl": ("trl==1.16.*",),
    ".venv-trl-ppo": ("trl==1.12.*", "peft"),
    ".venv-lm-eval": ("lm-eval[hf]==0.4.13", "evaluate"),
}
ERROR_LINES = 15


def main() -> int:
    parser = argparse.ArgumentParser(description="Install the peers of the benchmarks.")
    parser.add_argument("folders", nargs="*", choices=[*PEERS, []], help="all by default")
    for folder in parser.parse_args().folders or PEERS:
        if error := set_up(ROOT / folder, PEERS[folder]):
            print(f"setup-peers: {folder}: {error}", file=sys.stderr)
            return 1
    return 0


def set_up(folder: Path, peers: tuple[str, ...]) -> str | None:
    """Install into `folder`, made where it is missing; what went wrong, or None."""
    stamp = folder / f".installed-{fingerprint()}"
    if stamp.is_file():
        return None
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    print(f"installing {peers[0]} into {folder} (once; some minutes)", flush=True)
    words = ["install", "--quiet", "--disable-pip-version-check", "-c", str(CONSTRAINTS)]
    done = subprocess.run(
        [str(python), "-m", "pip", *words, *COMMON, *peers],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if not line.startswith("WARNING")]
        return "pip failed:\n  " + "\n  ".join(lines[-ERROR_LINES:])
    for old in folder.glob(".installed-*"):
        old.unlink()
    stamp.touch()
    return None


def fingerprint() -> str:
    """Changes with the constraints and this file."""
    digest = hashlib.sha256()
    for path in (CONSTRAINTS, Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    raise SystemExit(main())
