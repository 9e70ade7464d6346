"""Fixtures that all tests share."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

# For this process and those that tests start: no hub, whatever the machine can reach.
os.environ["HF_HUB_OFFLINE"] = "1"

ROOT = Path(__file__).resolve().parents[1]


def _no_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: only this machine can be reached from the tests' own process."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if name and name not in ("localhost", "::1") and not name.startswith("127."):
        raise OSError(f"tests have no network: {name}")


sys.addaudithook(_no_network)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadfile`, but tests of whole recipes need not run in one process.

    The other modules share what is dear to build: a trained model, a browser.
    """
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return nodeid if Path(path).name.startswith("test_recipes_") else path

    return ByFile(config, log)


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
