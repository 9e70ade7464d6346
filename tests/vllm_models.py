"""Tiny models that vLLM can run (its attention needs heads of at least 32 dimensions)."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import time
from pathlib import Path

import pytest
import tiny

from espalier.models import save_model

VLLM = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
    pytest.mark.timeout(300),
]


def save_tiny(folder: Path, *, seed: int = 0, context: int = 512) -> Path:
    """A random Llama of two layers in float32, with its tokenizer and template."""
    model = tiny.model(
        seed=seed,
        hidden_size=64,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=96,
        max_position_embeddings=context,
    )
    save_model(model, tiny.tokenizer(), "espalier", folder)
    return folder


def children_of(parent: int) -> list[int]:
    """The processes that a process started itself and that still run, `ps` aside. (vLLM gives
    its processes names of their own, so they can't be found by their command lines.)"""
    listed = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,stat=,comm="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 3) for line in listed.splitlines()]
    return [
        int(pid)
        for pid, above, state, name in rows
        if int(above) == parent and state[0] != "Z" and name.strip() != "ps"
    ]


def group_of(leader: int) -> list[int]:
    """The processes of a group that still run."""
    listed = subprocess.run(
        ["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [int(pid) for pid, group, state in rows if int(group) == leader and state[0] != "Z"]


def all_gone(leader: int, seconds: float = 20.0) -> bool:
    """Whether a group of processes ends within that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not group_of(leader):
            return True
        time.sleep(0.1)
    return not group_of(leader)


def environment() -> dict[str, str]:
    """Ours, with the repository importable."""
    root = str(Path(__file__).resolve().parents[1])
    return {**os.environ, "PYTHONPATH": root}
