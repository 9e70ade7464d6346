"""Rating inside the report by rubrics of one's own, in a browser and in the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from browsing import axe, browser, overflowing, until, visits
from rating_fixture import rated_run
from report_fixture import write_json

from espalier.evaluate.config_judge import TAKEN
from espalier.evaluate.judge_rubrics import read_rubric, scales_of
from espalier.evaluate.ratings import Criteria, read_ratings
from espalier.reports.config import ReportConfig
from espalier.reports.page import build_report
from espalier.reports.rating_page import rubrics
from espalier.reports.strings import ASSETS
from espalier.rubrics import Criterion, own_scale

pytestmark = pytest.mark.browser

__all__ = ["browser"]

STYLE = own_scale(
    "house_style",
    [
        Criterion("terse", "No word too many."),
        Criterion("constructor", "Says <i>how</i>."),
        Criterion("unit", "Numbers have units.", check=True),
    ],
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose judge marked by a rubric of its own."""
    folder = rated_run(tmp_path_factory.mktemp("runs") / "demo")
    path = folder / "evaluate" / "summary.json"
    summary = json.loads(path.read_text("utf-8"))
    write_json(path, summary | {"rubrics": [STYLE.to_json()]})
    build_report(folder, ReportConfig(), folder / "report.html")
    return folder


visit = visits("run", accept_downloads=True)


def begin(page: Any, name: str = "Ann") -> None:
    page.locator("input[name=rater]").fill(name)
    page.locator(".rate-welcome button").click()
    page.wait_for_selector(".rate-item h4")


def parts(page: Any) -> list[str]:
    found = page.locator("input[name=rate-part]").evaluate_all("all => all.map(one => one.value)")
    return [str(name) for name in found]


def write(page: Any, name: str, *criteria: tuple[str, str, str]) -> None:
    """Fill in the form of a rubric and press its button."""
    page.fill("input[name=rubric-name]", name)
    for place, (criterion, meaning, kind) in enumerate(criteria):
        if place >= page.locator(".rubric-line").count():
            page.click(".rubric-more")
        line = page.locator(".rubric-line").nth(place)
        line.locator("[name=criterion-name]").fill(criterion)
        line.locator("[name=criterion-meaning]").fill(meaning)
        line.locator("[name=criterion-kind]").select_option(kind)
    page.click(".rubric-editor button.primary")


def saved(page: Any, selector: str, path: Path) -> Path:
    with page.expect_download() as download:
        page.locator(selector).click()
    download.value.save_as(path)
    return path


def test_the_rubrics_of_the_evaluation_come_first() -> None:
    told = {"rubrics": [STYLE.to_json(), {"name": "x"}, 5, {**STYLE.to_json(), "name": "pairs"}]}
    assert [one["name"] for one in rubrics(told)] == ["house_style", "quality", "hhh"]
    assert [one["name"] for one in rubrics()] == ["quality", "hhh"]
    assert [one["name"] for one in rubrics({"rubrics": "none"})] == ["quality", "hhh"]


def test_the_page_refuses_the_names_that_the_evaluation_refuses() -> None:
    text = (ASSETS / "rating_rubrics.js").read_text("utf-8")
    listed = text.split("TAKEN_NAMES = new Set([")[1].split("])")[0]
    assert set(json.loads(f"[{listed.strip().rstrip(',')}]")) == TAKEN


def test_the_judge_s_own_rubric_is_there_to_rate_by(visit: Any, run: Path, tmp_path: Path) -> None:
    page = visit.open("#rating")
    begin(page)
    assert parts(page) == ["pairs", "house_style", "quality", "hhh"]
    page.locator("input[name=rate-part][value=house_style]").check(force=True)
    page.wait_for_selector(".rate-mark")
    assert page.locator(".rate-mark legend").all_inner_texts() == ["terse", "constructor", "unit"]
    assert page.locator(".rate-mark p").all_inner_texts() == list(STYLE.about.values())
    page.locator(".rate-item").focus()
    for key in ("4", "2", "1", "Enter"):
        page.keyboard.press(key)
    until(page, lambda: page.locator(".rate-far .num").inner_text().startswith("1 "))
    path = saved(page, ".rate-export", tmp_path / "mine.json")
    found = read_ratings(path, Criteria.of([STYLE])).ratings
    assert {tuple(sorted(one.marks.items())) for one in found} == {
        (("constructor", 2), ("terse", 4), ("unit", 1))
    }


@pytest.mark.slow
@pytest.mark.ci_slice
def test_a_rubric_is_written_rated_by_saved_and_read_again(visit: Any, tmp_path: Path) -> None:
    page = visit.open("#rating")
    page.locator(".rubric-editor summary").click()
    editor = page.locator(".rubric-editor")
    # What is wrong is said, and what was written stays.
    for name, criteria, said in (
        ("1st", [("a1", "x", "mark")], "1st"),
        ("quality", [("a1", "x", "mark")], "already"),
        ("mine", [("answer", "x", "mark")], "column"),
        ("mine", [("a1", "", "mark")], "a1 means"),
        ("mine", [("a1", "x", "mark"), ("A1", "y", "check")], "Two criteria"),
    ):
        write(page, name, *criteria)
        assert said in editor.locator(".rate-status").inner_text()
        assert page.locator("input[name=rubric-name]").input_value() == name
    write(page, "口吻", ("礼貌", "语气得体 <b>吗</b>", "mark"), ("简短", "不啰嗦", "check"))
    assert "口吻" in editor.locator(".rate-status").inner_text()
    assert editor.locator(".rubric-own bdi").all_inner_texts() == ["口吻"]
    # The name that was typed last is what is begun with.
    begin(page)
    assert page.locator("input[name=rate-part]:checked").input_value() == "口吻"
    assert page.locator(".rate-mark legend").all_inner_texts() == ["礼貌", "简短"]
    page.locator(".rate-item").focus()
    for key in ("5", "2", "Enter"):
        page.keyboard.press(key)
    until(page, lambda: page.locator(".rate-far .num").inner_text().startswith("1 "))
    ratings = saved(page, ".rate-export", tmp_path / "ratings.json")
    rubric = saved(page, ".rubric-save", tmp_path / "own.json")
    # The commands read both files.
    scales = scales_of([str(rubric)], Path)
    assert [list(scales[0].marks), list(scales[0].checks)] == [["礼貌"], ["简短"]]
    assert read_rubric(rubric).name == "口吻"
    found = read_ratings(ratings, Criteria.of(scales)).ratings
    assert all(dict(one.marks) == {"礼貌": 5, "简短": 0} for one in found) and found
    # It is there again after a reload and in the other language, is gone when removed, and its
    # ratings are back with it.
    page.select_option("#language", "zh")
    until(page, lambda: page.locator("html").get_attribute("data-ready") is not None)
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert "口吻" in parts(page)
    assert page.locator(".rate-far .num").inner_text().startswith("已评 1")
    page.locator(".rubric-editor summary").click()
    page.click(".rubric-remove")
    until(page, lambda: "口吻" not in parts(page))
    page.set_input_files("input[name=rubric-file]", rubric)
    until(page, lambda: "口吻" in parts(page))
    until(page, lambda: page.locator(".rate-far .num").inner_text().startswith("已评 1"))


@pytest.mark.slow
def test_odd_files_and_odd_contents_of_the_browser(visit: Any, tmp_path: Path) -> None:
    page = visit.open("#rating")
    page.evaluate("""() => {
      const odd = { 'espalier-rubric/x': 'null', 'espalier-rubric/y': '{"name":"z","criteria":[]}',
        'espalier-rubric/hhh': '{"name":"hhh","criteria":[{"name":"q","description":"d"}]}',
        'espalier-rubric/w': '{"name":"w","criteria":[{"name":"answer","description":"d"}]}' };
      for (const [key, value] of Object.entries(odd)) localStorage.setItem(key, value);
    }""")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    page.locator(".rubric-editor summary").click()
    assert page.locator(".rubric-own li").count() == 0
    for text in ("", "[]", '{"name": 1}', '{"name": "a", "criteria": [{"name": "b"}]}'):
        (tmp_path / "odd.json").write_text(text, encoding="utf-8")
        page.set_input_files("input[name=rubric-file]", tmp_path / "odd.json")
        status = page.locator(".rubric-editor .rate-status")
        until(page, lambda s=status: "no rubric" in s.inner_text())
        page.evaluate("document.querySelector('.rubric-editor .rate-status').textContent = ''")


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_the_form_fits_and_can_be_used_by_all(visit: Any, width: int) -> None:
    page = visit.page
    page.set_viewport_size({"width": width, "height": 900})
    visit.open("#rating")
    page.locator(".rubric-editor summary").click()
    write(page, "x" * 60, ("y" * 60, "long " * 90, "mark"))
    page.locator(".rubric-change").click()
    page.click(".rubric-more")
    assert page.evaluate("document.activeElement.name") == "criterion-name"
    begin(page)
    assert overflowing(page) == 0
    assert axe(page, "#rating") == []
    small = page.locator(".rubric-editor button:visible").evaluate_all(
        "nodes => nodes.filter(n => n.offsetHeight < 24).map(n => n.outerHTML)"
    )
    assert small == []
