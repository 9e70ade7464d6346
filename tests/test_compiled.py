"""Kernels: kept on disk where that is possible, compiled anew where not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from espalier.compiled import compiled


def test_a_function_that_no_file_holds_is_compiled_without_a_cache() -> None:
    names: dict[str, Any] = {}
    exec(compile("def double(x):\n    return x * 2\n", "<nowhere>", "exec"), names)
    double = compiled(names["double"])
    assert double(21) == 42 and double(0.5) == 1.0


@pytest.mark.slow
def test_the_second_process_finds_the_machine_code_on_disk(tmp_path: Path) -> None:
    program = (
        "from espalier.common_run import common_run\n"
        "import numpy as np\n"
        "codes = np.arange(3, dtype=np.int32)\n"
        "print(common_run(codes, codes), len(common_run.stats.cache_hits))\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    seen = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for _ in range(2)
    ]
    assert seen == ["(3, 3) 0", "(3, 3) 1"]
