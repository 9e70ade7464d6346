"""The scripts of a page share one scope: a name that two files define would be one of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import pytest

from espalier.reports import data_page, page, runs_page, sweep_page
from espalier.reports.strings import ASSETS

DEFINED = re.compile(r"^(?:async )?(?:function\*? |class |const |let )(\w+)", re.MULTILINE)


@pytest.mark.parametrize(
    "scripts",
    [page.SCRIPTS, data_page.SCRIPTS, runs_page.SCRIPTS, sweep_page.SCRIPTS],
    ids=["run", "data", "runs", "sweep"],
)
def test_no_name_is_defined_twice(scripts: Sequence[str]) -> None:
    names = [
        name
        for script in scripts
        for name in DEFINED.findall((ASSETS / script).read_text(encoding="utf-8"))
    ]
    assert len(names) > 50
    assert [name for name, count in Counter(names).items() if count > 1] == []
