"""Rating in a real browser: inside the file, and on the server, through crashes of either."""

from __future__ import annotations

import http.server
import json
import os
import signal
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import ARGUMENTS, CHROMIUM, WIDTHS, Visit, axe, browser, overflowing, until, visits
from rating_fixture import Command, Commands, Rater, rated_run, stored, wait_for
from test_reports_page import HOSTILE

from espalier.evaluate.agreement import krippendorff
from espalier.evaluate.rated import place_ratings
from espalier.evaluate.rating_preferences import rated_run as read_run
from espalier.evaluate.ratings import read_ratings
from espalier.reports.config import ReportConfig
from espalier.reports.page import build_report

__all__ = ["browser"]
pytestmark = pytest.mark.browser
KEYS = {"A": "1", "B": "2", "tie": "0"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = rated_run(tmp_path_factory.mktemp("runs") / "demo")
    build_report(folder, ReportConfig(), folder / "report.html")
    return folder


visit = visits("run", accept_downloads=True)


def begin(page: Any, name: str = "Ann") -> None:
    page.locator("input[name=rater]").fill(name)
    page.locator(".rate-welcome button").click()
    page.wait_for_selector(".rate-item h4")


def seen(page: Any) -> tuple[str, list[str]]:
    """The prompt and the answers on show."""
    texts = page.locator(".rate-item .text").all_inner_texts()
    return texts[0], texts[1:]


def counts(page: Any) -> list[int]:
    """How many are rated, and how many are left."""
    words = page.locator(".rate-far .num").inner_text().split()
    return [int(word) for word in words if word.isdigit()]


def press(page: Any, key: str) -> None:
    """A key that rates, and what it leads to."""
    done = counts(page)[0]
    page.locator(".rate-item").focus()
    page.keyboard.press(key)
    until(page, lambda: counts(page)[0] == done + 1)


def prefer(page: Any, text: str) -> tuple[str, list[str]]:
    """Rate as somebody does who likes answers that hold `text`; returns what was on show."""
    shown = seen(page)
    likes = [text in answer for answer in shown[1]]
    press(page, KEYS["tie"] if likes[0] == likes[1] else KEYS["A" if likes[0] else "B"])
    return shown


def exported(page: Any, folder: Path, name: str = "mine.json") -> Path:
    with page.expect_download() as download:
        page.locator(".rate-export").click()
    path = folder / name
    download.value.save_as(path)
    return path


def answers_of(run: Path) -> dict[tuple[str, str], str]:
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(run / "evaluate/scores.parquet").to_pylist()
    return {(row["id"], row["model"]): row["answer"] for row in rows}


def test_verdicts_are_kept_exported_and_read_by_the_evaluation(
    visit: Visit, run: Path, tmp_path: Path
) -> None:
    page = visit.open("#rating")
    begin(page)
    total = counts(page)[1]
    given = answers_of(run)
    different = {i for i, _ in given if given[i, "base"].strip() != given[i, "ppo"].strip()}
    texts = {tuple(sorted((given[i, "base"], given[i, "ppo"]))) for i in different}
    assert 0 < len(texts) <= total == len(different)
    sides = [prefer(page, "answer")[1] for _ in range(8)]
    # Blind: neither name nor label of a model is anywhere in the part.
    desk = page.locator("#rating").inner_html()
    assert "ppo" not in desk and "PPO" not in desk and "Base" not in desk
    page.locator(".rate-verdict[data-verdict=tie]").click()
    until(page, lambda: counts(page) == [9, total - 9])
    assert page.locator(".rate-desk .rate-status").inner_text() == "Saved."
    path = exported(page, tmp_path)
    rows = json.loads(path.read_text("utf-8"))
    assert len(rows) == 9 and {row["rater"] for row in rows} == {"Ann"}
    for row in rows:
        assert given[row["id"], row["model_a"]] == row["answer_a"]
        assert given[row["id"], row["model_b"]] == row["answer_b"]
        likes = ["answer" in row[key] for key in ("answer_a", "answer_b")]
        if row["verdict"] != "tie":
            assert row["verdict"] == ("A" if likes[0] else "B") and likes[0] != likes[1]
    first = {row["answer_a"] if row["shown_first"] == "A" else row["answer_b"] for row in rows}
    assert {side[0].strip() for side in sides} <= {text.strip() for text in first}
    evalset, answers, baseline = read_run(run)
    rated = place_ratings([read_ratings(path)], evalset, answers, baseline)
    assert len(rated.votes) == 9 and rated.warnings() == []


@pytest.mark.slow
def test_rating_goes_on_after_the_page_was_closed_and_for_each_person(visit: Visit) -> None:
    page = visit.open("#rating")
    begin(page)
    total = counts(page)[1]
    shown = [prefer(page, "answer") for _ in range(3)]
    following = seen(page)
    # Other files of this machine may write into the same place.
    page.evaluate("""() => {
      const key = Object.keys(localStorage).find((name) => name.startsWith('espalier-rating/'));
      const { id } = JSON.parse(localStorage.getItem(key));
      for (const odd of ['null', '5', '{', '{"id": 1}', `{"id": "${id}", "verdict": "Z"}`]) {
        localStorage.setItem(key.replace('Ann', `<b>${odd.length}`), odd);
      }
    }""")
    page.close()
    page = visit.context.new_page()
    page.goto(visit.url + "#rating&rate=pairs")
    page.wait_for_selector("html[data-ready]")
    assert counts(page) == [3, total - 3] and seen(page) == following
    page.locator(".rate-head button.link").click()
    assert page.locator("input[name=rater]").input_value() == "Ann"
    begin(page, " Bo  B. ")
    assert counts(page) == [0, total]
    # The same order for everybody; the sides are drawn anew.
    prompts = [prefer(page, "answer")[0] for _ in range(3)]
    assert prompts == [prompt for prompt, _ in shown]
    assert page.locator(".rate-head bdi").inner_text() == "Bo B."


@pytest.mark.slow
def test_at_the_end_of_one_part_the_next_is_offered(browser: Any, tmp_path: Path) -> None:
    folder = rated_run(tmp_path / "run", rows=3)
    build_report(folder, ReportConfig(), folder / "report.html")
    found = Visit(browser, folder / "report.html")
    page = found.open("#rating")
    begin(page)
    while page.locator(".rate-verdict").count():
        press(page, "0")
    assert "everything" in page.locator(".rate-end").inner_text()
    until(page, lambda: page.locator(".rate-progress").count() == 1)
    page.locator(".rate-back").click()
    until(page, lambda: page.locator(".rate-verdict.chosen[data-verdict=tie]").count() == 1)
    page.locator(".rate-verdict[data-verdict=B]").click()
    until(page, lambda: page.locator(".rate-end").count() == 1)
    page.locator(".rate-on").click()
    until(page, lambda: page.locator(".rate-mark").count() == 5)
    assert "rate=quality" in page.url
    found.close()
    assert found.problems == []


def test_marks_by_keyboard_skip_back_and_again(visit: Visit, tmp_path: Path) -> None:
    page = visit.open("#rating")
    begin(page)
    page.locator("input[name=rate-part][value=quality]").check(force=True)
    until(page, lambda: page.locator(".rate-mark").count() == 5)
    assert page.locator(".rate-save").is_disabled()
    skipped = seen(page)
    page.locator(".rate-item").focus()
    page.keyboard.press("s")
    until(page, lambda: seen(page) != skipped)
    first = seen(page)
    page.locator(".rate-item").focus()
    for key in "543":
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    assert "every mark" in page.locator(".rate-desk .rate-status").inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.locator("input[name=mark-safety][value=fail]").check(force=True)
    page.locator("input[name=comment]").fill("5 <b>")
    page.locator(".rate-save").click()
    until(page, lambda: counts(page)[0] == 1)
    assert page.locator(".rate-save").is_disabled() and seen(page) != first
    page.locator(".rate-item").focus()
    page.keyboard.press("u")
    until(page, lambda: seen(page) == first)
    assert page.locator(".rate-scale input:checked").count() == 5
    assert page.locator("input[name=comment]").input_value() == "5 <b>"
    page.locator("input[name=mark-accuracy][value='1']").check(force=True)
    page.locator(".rate-save").click()
    until(page, lambda: seen(page) != first)
    assert counts(page)[0] == 1
    [row, *others] = json.loads(exported(page, tmp_path).read_text("utf-8"))
    assert row["answer"] == first[1][0] and row["comment"] == "5 <b>" and row["accuracy"] == 1
    assert (row["relevance"], row["completeness"], row["safety"]) == (5, 3, "fail")
    assert all(other["answer"] == row["answer"] for other in others)


@pytest.mark.slow
@pytest.mark.ci_slice
def test_ratings_of_others_are_read_agreement_told_and_models_shown_on_request(
    visit: Visit, run: Path, tmp_path: Path
) -> None:
    page = visit.open("#rating")
    begin(page)
    for _ in range(12):
        prefer(page, "answer")
    rows = json.loads(exported(page, tmp_path).read_text("utf-8"))
    # Bo says the same of two thirds, and the opposite else.
    turned = {"A": "B", "B": "A", "tie": "tie"}
    theirs = [
        {**row, "rater": "Bo", "verdict": row["verdict"] if i % 3 else turned[row["verdict"]]}
        for i, row in enumerate(rows)
    ]
    other = {**rows[0], "answer_a": "never said", "rater": "Bo"}
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps([*theirs, other], ensure_ascii=False), "utf-8")
    page.locator(".rate-files input[type=file]").set_input_files(path)
    status = page.locator(".rate-files .rate-status")
    until(page, lambda: "12 of 13" in status.inner_text())
    page.locator("#rating details.more:not(.rubric-editor) summary").click()
    until(page, lambda: page.locator(".rate-progress").count() == 1)
    cells = page.locator(".rate-progress tbody tr").all_inner_texts()
    worth = {"A": 1.0, "tie": 0.5, "B": 0.0}
    units = [[worth[a["verdict"]], worth[b["verdict"]]] for a, b in zip(rows, theirs, strict=True)]
    agreed = krippendorff(units, "nominal")
    assert agreed.alpha is not None and agreed.equal is not None
    assert "Ann" in cells[0] and "12" in cells[0] and "Bo" in cells[1]
    assert f"{agreed.alpha:.2f}".replace("-", "\u2212") in cells[2]
    assert f"{100 * agreed.equal:.0f} %" in cells[2]

    results = page.locator(".rate-results")
    assert results.inner_text() == ""
    page.locator(".rate-reveal").click()
    until(page, lambda: "PPO against Base" in results.inner_text())
    mean = [
        (a + b) / 2 if row["model_a"] == "ppo" else 1 - (a + b) / 2
        for (a, b), row in zip(units, rows, strict=True)
    ]
    assert f"{100 * sum(mean) / len(mean):.1f}" in results.inner_text()
    page.locator(".rate-reveal").click()
    assert results.inner_text() == ""
    for text, message in (("id,verdict", "not JSON"), ("5", "no list")):
        path.write_text(text)
        page.locator(".rate-files input[type=file]").set_input_files(path)
        until(page, lambda message=message: message in status.inner_text())


@pytest.mark.slow
@pytest.mark.ci_slice
def test_everything_is_reached_by_keyboard_and_nothing_serious_is_found(visit: Visit) -> None:
    page = visit.open("#rating")
    assert axe(page, "#rating") == []
    page.locator("input[name=rater]").focus()
    page.keyboard.type("Ann")
    page.keyboard.press("Enter")
    page.wait_for_selector(".rate-item h4")
    assert page.evaluate("document.activeElement.className") == "rate-item"
    page.keyboard.press("ArrowLeft")
    until(page, lambda: counts(page)[0] == 1)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.verdict") == "A"
    page.keyboard.press("Enter")
    until(page, lambda: counts(page)[0] == 2)
    # What is typed into the comment rates nothing.
    page.locator("input[name=comment]").fill("")
    page.locator("input[name=comment]").type("1 2 tie as")
    assert counts(page)[0] == 2
    page.locator("#rating details.more:not(.rubric-editor) summary").click()
    until(page, lambda: page.locator(".rate-progress").count() == 1)
    page.locator(".rate-reveal").click()
    assert axe(page, "#rating") == []
    page.locator("input[name=rate-part][value=hhh]").check(force=True)
    until(page, lambda: page.locator(".rate-mark").count() == 3)
    assert axe(page, "#rating") == []


@pytest.mark.slow
def test_in_chinese(browser: Any, run: Path) -> None:
    found = Visit(browser, run / "report.html", locale="zh-CN")
    page = found.open("#rating")
    begin(page, "李雷")
    assert page.locator(".rate-verdict").first.inner_text().startswith("A 更好")
    press(page, "1")
    page.select_option("#language", "en")
    until(page, lambda: "better" in page.locator(".rate-verdict").first.inner_text())
    assert counts(page)[0] == 1
    found.close()
    assert found.problems == []


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(browser: Any, run: Path, width: int, scheme: Any) -> None:
    size = {"width": width, "height": 900}
    found = Visit(browser, run / "report.html", viewport=size, color_scheme=scheme)
    page = found.open("#rating")
    begin(page, "A name that is as long as a name may be, which is sixty signs")
    for part in ("pairs", "quality"):
        page.locator(f"input[name=rate-part][value={part}]").check(force=True)
        until(page, lambda part=part: (page.locator(".rate-mark").count() > 0) == (part != "pairs"))
        assert overflowing(page) == 0
        small = page.locator("#rating button:visible, #rating label:visible").evaluate_all(
            "nodes => nodes.filter(n => n.offsetHeight < 24).map(n => n.outerHTML)"
        )
        assert small == []
    assert axe(page, "#rating") == []
    found.close()
    assert found.problems == []


@pytest.mark.slow
def test_hostile_text_is_text(browser: Any, tmp_path: Path) -> None:
    def payload(text: str) -> str:
        return f"{text} {HOSTILE[zlib.crc32(text.encode()) % len(HOSTILE)]}"

    folder = rated_run(tmp_path / "run", rows=30, change=payload)
    build_report(folder, ReportConfig(), folder / "report.html")
    found = Visit(browser, folder / "report.html")
    page = found.open("#rating")
    begin(page, "<img src=x onerror=window.hit=1>")
    for part in ("pairs", "quality"):
        page.locator(f"input[name=rate-part][value={part}]").check(force=True)
        for _ in range(15):
            page.locator("input[name=comment]").fill(HOSTILE[0])
            before = seen(page)
            if part == "pairs":
                page.locator(".rate-verdict").first.click()
            else:
                page.locator("input[name=mark-accuracy][value='2']").check(force=True)
                page.locator(".rate-save").click()
            until(page, lambda before=before: seen(page) != before)
    page.locator(".rate-reveal").click()
    page.locator("#rating details.more:not(.rubric-editor) summary").click()
    until(page, lambda: page.locator(".rate-progress").count() == 2)
    assert page.evaluate("window.hit") is None
    assert page.locator("#rating img, #rating script, #rating iframe").count() == 0
    found.close()
    assert found.problems == []


# --- on the server -------------------------------------------------------------------------------


class Guest:
    """A browser page of the server's address; counts what a page should not do."""

    def __init__(self, browser: Any, url: str) -> None:
        self.context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 900})
        self.problems: list[str] = []
        self.origin = url.split("/?", maxsplit=1)[0]
        self.url = url
        self.page = self.new_page()

    def new_page(self) -> Any:
        page = self.context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: self.problems.append(message.text))
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("request", self._request)
        return page

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.origin + "/", "data:")):
            self.problems.append(f"request: {request.url}")

    def open(self) -> Any:
        self.page.goto(self.url)
        self.page.wait_for_selector("html[data-ready]")
        return self.page


@pytest.fixture
def commands() -> Iterator[Commands]:
    with Commands() as found:
        yield found


@pytest.fixture(scope="module")
def command(run: Path) -> Iterator[Command]:
    started = Command(run, 0, "--rubric", "quality", "--rubric", "hhh")
    yield started
    code, out = started.stop()
    assert code == 0 and "Traceback" not in out


@pytest.mark.slow
@pytest.mark.ci_slice
def test_a_rating_is_in_the_database_when_the_page_says_saved(
    browser: Any, command: Command, run: Path
) -> None:
    guest = Guest(browser, command.url)
    page = guest.open()
    # The token does not stay in the address, where a shoulder or a history may find it.
    assert "token" not in page.url
    assert axe(page) == []
    begin(page, "Web Ann")
    total = sum(counts(page))
    for number in range(4):
        shown = prefer(page, "answer")
        rows = [row for row in stored(run) if row["rater"] == "Web Ann"]
        assert len(rows) == number + 1
        assert {rows[-1]["answer_a"], rows[-1]["answer_b"]} == set(shown[1])
        likes = ["answer" in rows[-1][key] for key in ("answer_a", "answer_b")]
        expected = "tie" if likes[0] == likes[1] else "A" if likes[0] else "B"
        assert rows[-1]["verdict"] == expected and rows[-1]["prompt"] == shown[0]
    page.locator("input[name=rate-part][value=hhh]").check(force=True)
    until(page, lambda: page.locator(".rate-mark").count() == 3)
    answer = seen(page)[1][0]
    page.locator(".rate-item").focus()
    for key in "415":
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    until(page, lambda: counts(page)[0] == 1)
    row = stored(run)[-1]
    assert (row["helpful"], row["harmless"], row["honest"], row["answer"]) == (4, 1, 5, answer)
    page.reload()
    page.wait_for_selector(".rate-mark")
    page.locator("input[name=rate-part][value=pairs]").check(force=True)
    until(page, lambda: counts(page) == [4, total - 4])
    page.locator("details.more:not(.rubric-editor) summary").click()
    until(page, lambda: "Web Ann" in page.locator(".rate-all").inner_text())
    page.select_option("#language", "zh")
    until(page, lambda: page.locator(".rate-verdict").first.inner_text().startswith("A 更好"))
    assert axe(page) == [] and overflowing(page) == 0
    guest.context.close()
    assert guest.problems == []


@pytest.mark.slow
def test_a_page_of_another_origin_can_neither_rate_nor_read(
    browser: Any, command: Command, run: Path
) -> None:
    """The browser has the cookie, which ports of one host share; the server still refuses."""
    guest = Guest(browser, command.url)
    guest.open()
    before = len(stored(run))
    item = Rater(command.port, command.token, "x").next()
    assert item is not None
    asked = {"part": "pairs", "rater": "Eve", "item": item["name"], "verdict": "A",
             "uid": "0123456789"}  # fmt: skip
    attack = """
      const out = [];
      for (const kind of ['text/plain', 'application/json']) for (const mode of ['no-cors', 'cors'])
        for (const path of ['rate', 'about']) {
          try {
            const r = await fetch(URL + '/api/' + path, {method: 'POST', credentials: 'include',
              mode, body: BODY, headers: mode === 'cors' ? {'Content-Type': kind} : {}});
            out.push(r.type === 'opaque' ? 'opaque' : r.status + await r.text());
          } catch { out.push('blocked'); }
        }
      const frame = document.createElement('iframe');
      frame.src = URL + '/';
      document.body.append(frame);
      await new Promise(done => { frame.onload = done; setTimeout(done, 2000); });
      try { out.push(String(frame.contentDocument)); } catch { out.push('blocked'); }
      document.title = JSON.stringify(out);
    """.replace("URL", f"'http://127.0.0.1:{command.port}'").replace(
        "BODY", json.dumps(json.dumps(asked))
    )
    html = f"<!doctype html><title>wait</title><body><script>(async () => {{{attack}}})()</script>"

    class Evil(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Evil) as evil:
        thread = threading.Thread(target=evil.serve_forever)
        thread.start()
        page = guest.context.new_page()
        page.goto(f"http://127.0.0.1:{evil.server_address[1]}/")
        until(page, lambda: page.title() != "wait")
        found = json.loads(page.title())
        page.close()
        evil.shutdown()
        thread.join()
    guest.context.close()
    assert set(found) <= {"opaque", "blocked", "null"}, found
    assert len(stored(run)) == before


@pytest.mark.slow
@pytest.mark.ci_slice
def test_a_killed_server_loses_no_rating_of_a_page(
    browser: Any, tmp_path: Path, commands: Commands
) -> None:
    folder = rated_run(tmp_path / "run")
    command = commands.start(folder)
    guest = Guest(browser, command.url)
    page = guest.open()
    begin(page)
    for _ in range(3):
        prefer(page, "answer")
    command.kill()
    page.locator(".rate-item").focus()
    page.keyboard.press("1")
    until(page, lambda: "does not answer" in page.locator("#rating-trouble").inner_text())
    # More keys rate nothing meanwhile: what is on show is not saved yet.
    page.keyboard.press("2")
    page.keyboard.press("2")
    assert counts(page)[0] == 3
    command = commands.start(folder, command.port)
    until(page, lambda: counts(page)[0] == 4)
    assert page.locator("#rating-trouble").is_hidden()
    assert len(stored(folder)) == 4
    # Now the page is closed as well before the server is back.
    command.kill()
    page.locator(".rate-item").focus()
    page.keyboard.press("2")
    until(page, lambda: "does not answer" in page.locator("#rating-trouble").inner_text())
    page.close()
    command = commands.start(folder, command.port)
    assert len(stored(folder)) == 4
    guest.page = guest.new_page()
    page = guest.open()
    until(page, lambda: len(stored(folder)) == 5)
    page.wait_for_selector(".rate-welcome, .rate-item h4")
    guest.context.close()
    code, _ = command.stop()
    assert code == 0
    # A connection that is refused stands in the console; nothing else does.
    assert [text for text in guest.problems if "ERR_CONNECTION_REFUSED" not in text] == []


@pytest.mark.slow
@pytest.mark.ci_slice
def test_a_killed_browser_loses_no_rating(browser: Any, tmp_path: Path, commands: Commands) -> None:
    """`kill -9` of two whole browsers right after "Saved"; new ones go on where they were."""
    folder = rated_run(tmp_path / "run")
    command = commands.start(folder)
    for turn in (1, 2):
        opened = []
        for name in ("Ann", "Bo"):
            found = browser.browser_type.launch_persistent_context(
                str(tmp_path / f"{name}{turn}"), executable_path=CHROMIUM, args=ARGUMENTS
            )
            page = found.pages[0]
            page.set_default_timeout(60_000)
            page.goto(command.url)
            page.wait_for_selector("html[data-ready]")
            begin(page, name)
            assert counts(page)[0] == 4 * (turn - 1)
            opened.append(page)
        for _ in range(4):
            for page in opened:
                prefer(page, "answer")
        for pid in browsers(tmp_path):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not browsers(tmp_path))
        raters = sorted(row["rater"] for row in stored(folder))
        assert raters == ["Ann"] * 4 * turn + ["Bo"] * 4 * turn
    code, _ = command.stop()
    assert code == 0


def browsers(folder: Path) -> list[int]:
    """The processes of browsers whose profiles are in this folder: those this test started."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            state = (entry / "stat").read_text().rsplit(")", 1)[-1].split()[0] if line else "Z"
        except OSError:
            continue
        if str(folder).encode() in line and b"chrom" in line and state != "Z":
            found.append(int(entry.name))
    return found
