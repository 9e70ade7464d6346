"""Fixtures that all tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; tests that use it skip without it."""
    folder = Path(os.environ.get("ESPALIER_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real data here (set ESPALIER_DATA)")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """Let the programs that tests start be interrupted.

    A shell that runs the tests in the background ignores Ctrl-C, and children inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
