"""The Hugging Face hub: whether a model that a recipe names can be had from it.

Its own client tries five times for each file, a minute in all, before it says that there is no
network; here the question is asked once and first.
"""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from espalier.errors import InputError

_URL = "https://huggingface.co"
_YES = ("1", "ON", "YES", "TRUE")  # as the hub's client reads its variables
_CLIENTS = ("HF_HUB", "TRANSFORMERS")
_CACHES = (
    ("HF_HUB_CACHE", ""),
    ("HUGGINGFACE_HUB_CACHE", ""),
    ("HF_HOME", "hub"),
    ("XDG_CACHE_HOME", "huggingface/hub"),
)
_DESCRIPTIONS = ("config.json", "adapter_config.json")


@lru_cache(maxsize=1)
def reachable() -> bool:
    """Whether the hub may answer: its name is known here, or a proxy is asked for it."""
    if any(os.environ.get(f"{name}_OFFLINE", "").upper() in _YES for name in _CLIENTS):
        return False
    try:
        place = urlsplit(os.environ.get("HF_ENDPOINT") or _URL)
        if {place.scheme, "all"} & getproxies().keys():
            return True
        return bool(socket.getaddrinfo(place.hostname, place.port or 443))
    except (OSError, ValueError):
        return False


def snapshot(name: str) -> Path | None:
    """The download of a hub name in the local cache: the one of `main`, else the newest."""
    folder = _cache() / f"models--{name.replace('/', '--')}"
    found = {path.parent for file in _DESCRIPTIONS for path in folder.glob(f"snapshots/*/{file}")}
    if not found:
        return None
    main = folder / "refs" / "main"
    named = folder / "snapshots" / main.read_text("utf-8").strip() if main.is_file() else None
    return named if named in found else max(found, key=lambda one: one.lstat().st_mtime)


def _cache() -> Path:
    """Where the hub's client keeps downloads, by the variables that it reads."""
    for variable, below in _CACHES:
        if value := os.environ.get(variable):
            return Path(os.path.expandvars(value)).expanduser() / below
    return Path("~/.cache/huggingface/hub").expanduser()


def check_at_hand(source: str, where: str = "") -> None:
    """Raises InputError for a name that is no folder here and can't come from the hub either."""
    if Path(source).exists() or snapshot(source) or reachable():
        return
    raise InputError(
        f"There is no folder '{source}' here, and no network to the Hugging Face hub for a model "
        "of that name.",
        where=where or source,
        expected="a folder with config.json, model.safetensors and a tokenizer, or a name on the "
        "hub that can be reached",
        hint="give a folder; a model that was loaded once is found without a network",
    )


def place_of(source: str) -> str:
    """Where to load it from: without a network the earlier download of a hub name, by its folder,
    so that nobody is asked for it."""
    found = None if Path(source).exists() or reachable() else snapshot(source)
    return str(found) if found is not None else source
