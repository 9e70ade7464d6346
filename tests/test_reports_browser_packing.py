"""The packed answers in a real browser: texts left out, a damaged file, real texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Visit, browser  # noqa: F401 (a fixture)
from report_fixture import make_run

from espalier.reports.config import ReportConfig
from espalier.reports.page import build_report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "r", rows=60, stages=("evaluate",))


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:  # noqa: F811
    visits: list[Visit] = []

    def visit(path: Path) -> Any:
        visits.append(Visit(browser, path))
        return visits[-1].open()

    yield visit
    for one in visits:
        one.close()
        assert one.problems == []


@pytest.mark.slow
@pytest.mark.ci_slice
def test_texts_that_are_left_out_are_told(run: Path, opened: Any, tmp_path: Path) -> None:
    import pyarrow.parquet

    build_report(run, ReportConfig(answer_megabytes=0.008), tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text("utf-8")
    page = opened(tmp_path / "page.html")
    status = page.locator("#answers p.status").inner_text()
    assert "60" in status
    left = int(re.findall(r"\d+", status)[-1])
    assert 0 < left < 60
    rows = pyarrow.parquet.read_table(run / "evaluate/scores.parquet").to_pylist()
    prompts = {row["prompt"] for row in rows}
    body = page.locator("#answers").inner_text()
    assert any(prompt in body for prompt in prompts)
    assert len(html) < 1_000_000


def test_a_damaged_file_says_so_and_shows_the_rest(run: Path, opened: Any, tmp_path: Path) -> None:
    page_file = tmp_path / "page.html"
    build_report(run, ReportConfig(), page_file)
    html = page_file.read_text("utf-8")
    start = html.index('id="packed-texts">') + 100
    assert html[start : start + 12] != "!" * 12
    page_file.write_text(html[:start] + "!" * 12 + html[start + 12 :], encoding="utf-8")
    page = opened(page_file)
    assert "can't be unpacked" in page.locator("#answers-browser").inner_text()
    assert page.locator("#scores-table td").count() > 10


@pytest.mark.slow
def test_real_texts_come_out_as_they_went_in(
    shared_data: Path, opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 prompts of 4 models: the page holds 1.6 MB of text in a fraction of it."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    from report_corpus import MODELS, make_run, texts

    rows = list(texts(shared_data, 500))
    total = make_run(tmp_path / "run", iter(rows))
    output = tmp_path / "page.html"
    build_report(tmp_path / "run", ReportConfig(), output)
    html = output.read_text("utf-8")
    packed = re.findall(r'id="packed-(?:answers|texts)">([^<]*)<', html)
    assert len(packed) == 2
    assert sum(map(len, packed)) < total / 2
    page = opened(output)
    assert page.evaluate("document.querySelectorAll('*').length") < 3_000
    shown = page.locator("#answers").inner_text()
    assert rows[0][1].split("\n")[0] in shown
    assert all(model in shown for model in MODELS)
