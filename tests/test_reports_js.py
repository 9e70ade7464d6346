"""Unit tests of the page's scripts: `tests/js/*.test.js`, run by node."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "js"


@pytest.mark.parametrize("path", sorted(HERE.glob("*.test.js")), ids=lambda path: path.name)
def test_javascript(path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        reason = "node is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, and continuous integration has to have it")
        pytest.skip(reason)
    result = subprocess.run(
        [node, "--test", "--test-reporter=tap", str(path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    failed = [line for line in result.stdout.splitlines() if "not ok" in line]
    assert result.returncode == 0, "\n".join([*failed, result.stdout, result.stderr])
