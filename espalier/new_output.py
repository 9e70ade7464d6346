"""Where a new recipe is written, and what its run is called."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from espalier.errors import UsageError

_NAME = re.compile(r"[^\w.-]+")
# Ends of file names that say what is in them, and are no part of a name.
_ENDINGS = {
    ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".txt", ".gz", ".bz2",
    ".xz", ".zst", ".yaml", ".yml",
}  # fmt: skip


def stem_of(path: str) -> str:
    """The file's name without the ends that say what is in it: `talks.v1` of talks.v1.jsonl.gz."""
    found = Path(path)
    while found.suffix.lower() in _ENDINGS:
        found = found.with_suffix("")
    return found.name


def name_of(path: str) -> str:
    return _NAME.sub("-", stem_of(path)).strip("-.") or "mine"


def run_name(output: Path, runs: Path = Path("runs"), recipes: Path = Path("recipes")) -> str:
    """A name for the run that no other run here has, nor a recipe in the folder of recipes.

    Letters that a folder should not have are replaced; a hash then keeps the name its own.
    """
    stem, name = stem_of(output.name), name_of(output.name)
    if name != stem:
        name = f"{name}-{hashlib.sha256(stem.encode(errors='surrogatepass')).hexdigest()[:4]}"
    taken = {path.stem for path in recipes.glob("*.y*ml") if path.resolve() != output.resolve()}
    found, number = name, 1
    while found in taken or (runs / found).exists():
        number += 1
        found = f"{name}-{number}"
    return found


def check_output(output: Path) -> None:
    try:
        there = output.exists()
        place = next(folder for folder in output.absolute().parents if folder.exists())
    except OSError as error:
        raise unwritable(output, error.strerror or "") from error
    if there:
        raise UsageError(
            "The recipe is there already, and is not overwritten.",
            where=str(output),
            hint="name another with --output, or move it away",
        )
    if output.suffix not in (".yaml", ".yml"):
        raise UsageError(
            f"The recipe would be called '{output.name}'.", expected="a name that ends in .yaml"
        )
    # Said before the data are read, which may take minutes.
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise unwritable(output)


def unwritable(output: Path, reason: str = "") -> UsageError:
    return UsageError(
        "The recipe can't be written" + (f": {reason}." if reason else "."),
        where=str(output),
        expected="a folder in which you may write",
        hint="name another place with --output",
    )
