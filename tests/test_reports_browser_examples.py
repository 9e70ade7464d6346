"""The examples in a real browser: every control driven, its effect held against the files."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from browsing import WIDTHS, Visit, axe, browser, overflowing, until, visits
from report_fixture import make_run, write_lines

from espalier.reports.config import ReportConfig
from espalier.reports.page import build_report

pytestmark = pytest.mark.browser

__all__ = ["browser"]

ROWS = 60
MODELS = ("base", "base-3shot", "sft", "ppo")
LONG = "The long answer goes on and on, and nobody reads to its end. "
MARKDOWN = (
    "# Title\n\nText with **strong** words, `code` and [a link](javascript:alert(1))."
    "\n\n- one\n- two"
)
UNSEEN = "turn \u202eback\u202c and \u001b[31mred"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("runs") / "demo", rows=ROWS)
    rewrite_answers(run / "evaluate")
    add_judge(run / "evaluate")
    build_report(run, ReportConfig(), run / "report.html")
    return run


def rewrite_answers(folder: Path) -> None:
    """Give some rows answers that show what a view or a difference does; one model none at all."""
    import pyarrow
    import pyarrow.parquet

    path = folder / "scores.parquet"
    rows = pyarrow.parquet.read_table(path).to_pylist()
    texts: dict[tuple[str, str], str | None] = {
        ("0" * 15 + "0", "sft"): "the red cat sat on the mat",
        ("0" * 15 + "0", "ppo"): "the blue cat sat on the mat",
        ("0" * 15 + "1", "sft"): "答案是三个词",
        ("0" * 15 + "1", "ppo"): "答案是四个词",
        ("0" * 15 + "2", "ppo"): MARKDOWN,
        ("0" * 15 + "3", "ppo"): UNSEEN,
        ("0" * 15 + "4", "ppo"): LONG * 40 + "needle",
        ("0" * 15 + "5", "ppo"): None,
        ("0" * 15 + "6", "ppo"): "   ",
    }
    for row in rows:
        row["answer"] = texts.get((row["id"], row["model"]), row["answer"])
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def add_judge(folder: Path) -> None:
    """A judge's verdicts on PPO against SFT, and its marks of PPO's answers."""
    identities = [f"{index:016x}" for index in range(ROWS)]
    pairs, marks = [], []
    for index, identity in enumerate(identities):
        first, second = (("ppo", "ppo"), ("ppo", "sft"), ("sft", "sft"), ("tie", "tie"))[index % 4]
        pairs.append(
            {
                "id": identity, "model": "ppo", "baseline": "sft",
                "winner": first if first == second else "tie",
                "model_first": first, "baseline_first": second,
                "replies": [f"Forward reply {index}", f"Backward reply {index}"],
            }
        )  # fmt: skip
        marks.append(
            {
                "id": identity, "model": "ppo", "rubric": "quality", "accuracy": index % 5 + 1,
                "safety": index % 2 == 0, "reason": f"Because of reason {index}.",
            }
        )  # fmt: skip
    write_lines(folder / "judge_pairs.jsonl", pairs)
    write_lines(folder / "judge_marks.jsonl", marks)


visit = visits("run")


@pytest.fixture(scope="module")
def table(run: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The row scores by (id, model), with what is stored beside the answers; read on their own."""
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(run / "evaluate/scores.parquet").to_pylist()
    found = {(row["id"], row["model"]): row for row in rows}
    for model in MODELS:
        for line in (run / f"evaluate/answers/{model}.jsonl").read_text("utf-8").splitlines():
            stored = json.loads(line)
            found[stored["id"], model].update(
                {key: stored[key] for key in ("tokens", "seconds", "finish_reason")}
            )
    return found


Table = dict[tuple[str, str], dict[str, Any]]


def identities(table: Table) -> list[str]:
    return list(dict.fromkeys(identity for identity, _ in table))


def shown(page: Any) -> int:
    return int(page.locator(".frame-bar .status").inner_text().split(" of ")[0].replace(",", ""))


def listed(page: Any, count: int = 3) -> list[str]:
    """The ids of the first examples in view."""
    found = page.locator("article.example").evaluate_all("all => all.map(one => one.dataset.id)")
    return [str(identity) for identity in found][:count]


def mode(page: Any, name: str) -> None:
    page.check(f"input[name=mode][value={name}]", force=True)


def expect(page: Any, table: Table, fits: Callable[[str], bool]) -> None:
    expected = [identity for identity in identities(table) if fits(identity)]
    assert shown(page) == len(expected)
    assert listed(page) == expected[:3]


# --- which examples ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.ci_slice
def test_modes_show_what_they_say(visit: Visit, table: Table) -> None:
    page = visit.open()
    assert shown(page) == ROWS
    mode(page, "different")
    expect(
        page, table, lambda i: len({(table[i, m]["answer"] or "\0").strip() for m in MODELS}) > 1
    )
    for metric, sign in (("exact_match", 1), ("perplexity", -1)):
        page.select_option("select[name=metric]", metric)
        for name, factor in (("a", -1), ("b", 1)):
            mode(page, name)
            expect(
                page,
                table,
                lambda i, m=metric, f=sign * factor: (
                    f * (table[i, "ppo"][m] - table[i, "sft"][m]) > 0
                ),
            )
    page.select_option("select[name=b]", "base")
    assert "Base better" in page.locator(".segments.modes").inner_text()
    page.select_option("select[name=b]", "ppo")
    mode(page, "failures")

    def failed(identity: str) -> bool:
        rows = [table[identity, model] for model in MODELS]
        return any(
            not (row["answer"] or "").strip() or row["finish_reason"] == "length" for row in rows
        )

    expect(page, table, failed)
    page.select_option("select[name=metric]", "exact_match")
    expect(
        page,
        table,
        lambda i: failed(i) or any(table[i, model]["exact_match"] == 0 for model in MODELS),
    )


@pytest.mark.slow
@pytest.mark.ci_slice
def test_where_judges_disagree(visit: Visit, table: Table) -> None:
    page = visit.open()
    page.select_option("select[name=metric]", "reward")
    mode(page, "judges")

    def disagree(identity: str) -> bool:
        index = int(identity, 16)
        said = ("ppo", "torn", "sft", "tie")[index % 4]
        better = (
            "ppo" if table[identity, "ppo"]["reward"] > table[identity, "sft"]["reward"] else "sft"
        )
        return said == "torn" or (said != "tie" and said != better)

    expect(page, table, disagree)
    page.locator("article.example [data-action=open]").first.click()
    notes = page.locator("article.example.open .verdict-notes")
    index = int(listed(page)[0], 16)
    notes.locator("summary").click()
    assert f"Backward reply {index}" in notes.inner_text()
    marks = page.locator("article.example.open [data-model=ppo] .judge-note").inner_text()
    assert f"accuracy {index % 5 + 1}" in marks and f"Because of reason {index}." in marks


@pytest.mark.slow
def test_search_with_highlight_and_plain_fallback(visit: Visit, table: Table) -> None:
    page = visit.open()
    prompts = {identity: row["prompt"] for (identity, _), row in table.items()}
    search = page.locator("input[name=q]")
    query = "^how.*item 00[0-4]|下面.*item 01"
    search.fill(query)
    matching = sum(bool(re.search(query, prompt, re.IGNORECASE)) for prompt in prompts.values())
    assert 0 < matching < ROWS
    until(page, lambda: shown(page) == matching)
    marks = page.locator("article.example .prompt mark")
    assert marks.count() == page.locator("article.example").count()
    assert marks.first.inner_text().lower().startswith(("how", "下面"))
    search.fill("ITEM 02")
    expected = sum("item 02" in prompt.lower() for prompt in prompts.values())
    until(page, lambda: shown(page) == expected)
    search.fill("list. (")
    until(page, lambda: shown(page) == 0)
    assert "plain text" in page.locator("#search-hint").inner_text()
    assert page.locator(".examples-frame > .empty").is_visible()
    # What was found far behind the fold is in view.
    search.fill("needle")
    until(page, lambda: shown(page) == 1)
    assert page.locator("[data-model=ppo] mark").inner_text() == "needle"
    page.click("button.reset")
    assert search.input_value() == "" and shown(page) == ROWS
    assert page.locator("mark").count() == 0


@pytest.mark.slow
@pytest.mark.ci_slice
def test_filters_are_chips_that_can_be_removed(visit: Visit, table: Table) -> None:
    page = visit.open()
    page.click("summary[data-menu=filters]")
    page.get_by_role("group", name="Language").get_by_label("zh").check()
    expect(page, table, lambda i: table[i, "sft"]["language"] == "zh")
    categories = page.get_by_role("group", name="Category")
    categories.get_by_label("plural").check()
    categories.get_by_label("antonym").check()
    expect(
        page,
        table,
        lambda i: (
            table[i, "sft"]["language"] == "zh"
            and table[i, "sft"]["category"] in ("plural", "antonym")
        ),
    )
    page.get_by_role("group", name="Ended by").get_by_label("SFT: length").check()
    expect(
        page,
        table,
        lambda i: (
            table[i, "sft"]["language"] == "zh"
            and table[i, "sft"]["category"] in ("plural", "antonym")
            and table[i, "sft"]["finish_reason"] == "length"
        ),
    )
    page.keyboard.press("Escape")
    assert page.locator(".menu-panel").first.is_hidden()
    chips = page.locator(".chip bdi")
    assert chips.all_inner_texts() == [
        "Language: zh", "Category: plural, antonym", "SFT ended by: length",
    ]  # fmt: skip
    page.get_by_role("button", name="Remove the filter SFT ended by: length").click()
    page.get_by_role("button", name="Remove the filter Language: zh").click()
    expect(page, table, lambda i: table[i, "sft"]["category"] in ("plural", "antonym"))
    assert page.evaluate("document.activeElement.ariaLabel") == (
        "Remove the filter Category: plural, antonym"
    )
    page.keyboard.press("Enter")
    assert shown(page) == ROWS and page.locator(".chip").count() == 0


@pytest.mark.slow
def test_a_range_of_scores(visit: Visit, table: Table) -> None:
    page = visit.open()
    page.click("summary[data-menu=filters]")
    page.select_option("select[name=range-metric]", "rougeL")
    page.select_option("select[name=range-model]", "sft")
    # Shares are typed as they are shown, in per cent.
    page.fill("input[name=range-low]", "20")
    page.fill("input[name=range-high]", "55.5")
    page.click("[data-action=range]")
    expect(page, table, lambda i: 0.2 <= table[i, "sft"]["rougeL"] < 0.555)
    assert page.locator(".chip bdi").inner_text() == "SFT · ROUGE-L: 20.0 % to 55.5 %"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sort", "key"),
    [
        ("gap", lambda a, b: abs(b["reward"] - a["reward"])),
        ("a", lambda a, b: a["reward"] - b["reward"]),
        ("b", lambda a, b: b["reward"] - a["reward"]),
        ("low", lambda a, b: -b["reward"]),
        ("high", lambda a, b: b["reward"]),
        ("slow", lambda a, b: b["seconds"]),
    ],
)
def test_order(visit: Visit, table: Table, sort: str, key: Callable[[Any, Any], float]) -> None:
    page = visit.open()
    page.select_option("select[name=metric]", "reward")
    page.select_option("select[name=sort]", sort)
    order = sorted(identities(table), key=lambda i: -key(table[i, "sft"], table[i, "ppo"]))
    assert listed(page) == order[:3]
    assert shown(page) == ROWS


@pytest.mark.slow
def test_columns(visit: Visit) -> None:
    page = visit.open()
    page.click("summary[data-menu=columns]")
    page.uncheck("input[name=column][value=base]")
    first = page.locator("article.example").first
    names = first.locator(".answer").evaluate_all("all => all.map(one => one.dataset.model)")
    assert names == ["base-3shot", "sft", "ppo"]
    assert page.locator(".example-heads .example-column").count() == 3
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.locator("article.example").first.locator(".answer").count() == 3


@pytest.mark.slow
def test_heads_tell_the_mean_of_what_is_listed(visit: Visit, table: Table) -> None:
    page = visit.open("#metric=exact_match&where=is~language~zh")
    zh = [i for i in identities(table) if table[i, "sft"]["language"] == "zh"]
    mean = 100 * sum(table[i, "ppo"]["exact_match"] for i in zh) / len(zh)
    assert f"Exact match {mean:.1f} %" in page.locator(".example-column").last.inner_text()


# --- one example ------------------------------------------------------------------------------


def cell(page: Any, row: int, model: str = "ppo") -> Any:
    return page.locator(f'article[data-id="{row:016x}"] [data-model={model}]')


def scroll_to(page: Any, row: int) -> None:
    def there() -> bool:
        page.evaluate("document.querySelector('.examples-box').scrollBy(0, 150)")
        return bool(cell(page, row).count() == 1)

    until(page, there)


@pytest.mark.slow
def test_changes_are_marked_by_word_and_by_character(visit: Visit) -> None:
    page = visit.open()
    page.select_option("select[name=diff]", "a")
    assert cell(page, 0).locator("del").all_inner_texts() == ["red"]
    assert cell(page, 0).locator("ins").all_inner_texts() == ["blue"]
    assert cell(page, 1).locator("del").all_inner_texts() == ["三"]
    assert cell(page, 1).locator("ins").all_inner_texts() == ["四"]
    assert cell(page, 0, "sft").locator("ins, del").count() == 0
    page.select_option("select[name=diff]", "reference")
    # The reference is "2" there: nothing is in common.
    assert cell(page, 1, "sft").locator("del").all_inner_texts() == ["2"]
    assert cell(page, 1, "sft").locator("ins").inner_text() == "答案是三个词"
    page.select_option("select[name=diff]", "off")
    assert page.locator(".example ins, .example del").count() == 0


@pytest.mark.slow
def test_views(visit: Visit) -> None:
    page = visit.open(f"#row={2:016x}")
    text = cell(page, 2).locator(".text").first
    assert text.inner_text() == MARKDOWN
    page.check("input[name=view][value=markdown]", force=True)
    page.locator("article.example").nth(2).wait_for()
    rendered = cell(page, 2)
    assert rendered.locator(".md-h1").inner_text() == "Title"
    assert rendered.locator("strong").inner_text() == "strong"
    assert rendered.locator("ul li").all_inner_texts() == ["one", "two"]
    assert rendered.locator("a").count() == 0
    assert "(javascript:alert(1)" in rendered.locator(".md-link").inner_text()
    page.check("input[name=view][value=raw]", force=True)
    raw = cell(page, 3).locator(".view-raw")
    assert raw.inner_text() == "turn U+202EbackU+202C and U+001B[31mred"
    assert raw.evaluate("node => getComputedStyle(node).whiteSpace") == "pre"


@pytest.mark.slow
def test_a_long_answer_is_folded_and_missing_ones_are_told(visit: Visit, table: Table) -> None:
    page = visit.open()
    whole = table[f"{4:016x}", "ppo"]["answer"]
    scroll_to(page, 4)
    assert len(cell(page, 4).locator(".text").inner_text()) < 600
    cell(page, 4).get_by_role("button", name=f"Show all {len(whole):,} characters").click()
    assert cell(page, 4).locator(".text").first.inner_text() == whole
    assert f"row={4:016x}" in page.url
    page.locator("article.open [data-action=open]").click()
    scroll_to(page, 5)
    assert "no answer" in cell(page, 5).inner_text()
    scroll_to(page, 6)
    assert "empty answer" in cell(page, 6).inner_text()


@pytest.mark.slow
def test_an_open_example_tells_everything(visit: Visit, table: Table) -> None:
    page = visit.open()
    identity = identities(table)[7]
    page.goto(visit.url + f"#answers&row={identity}&metric=reward")
    page.wait_for_selector("article.example.open")
    example = page.locator("article.example.open")
    assert example.get_attribute("data-id") == identity
    assert example.locator(".score-table tbody tr").count() == 7 + 3
    lines = dict(
        zip(
            example.locator(".score-table tbody th").all_inner_texts(),
            example.locator(".score-table tbody tr td:last-child").all_inner_texts(),
            strict=True,
        )
    )
    row = table[identity, "ppo"]
    assert lines["Ended by"] == row["finish_reason"] and lines["Tokens"] == str(row["tokens"])
    assert float(lines["BLEU"]) == pytest.approx(row["bleu"], rel=0.01, abs=0.05)
    assert ("✓" in lines["Exact match"]) == (row["exact_match"] == 1)
    facts = example.locator("[data-model=ppo] .answer-facts").inner_text()
    assert f"{row['tokens']} tokens" in facts and "ms" in facts
    assert ("cut off" in facts) == (row["finish_reason"] == "length")


@pytest.mark.slow
@pytest.mark.ci_slice
def test_next_and_previous(visit: Visit, table: Table) -> None:
    page = visit.open()
    order = identities(table)

    def current() -> Any:
        return page.evaluate("document.activeElement.closest('article.example')?.dataset.id")

    page.locator("article.example").first.focus()
    page.keyboard.press("j")
    page.keyboard.press("PageDown")
    assert current() == order[2]
    page.keyboard.press("k")
    assert current() == order[1]
    page.keyboard.press("End")
    assert current() == order[-1]
    assert page.locator(".frame-steps .num").inner_text() == "60 / 60"
    assert page.locator("[data-step=next]").is_disabled()
    page.keyboard.press("Home")
    assert current() == order[0]
    page.keyboard.press("Enter")
    assert page.locator("article.open").get_attribute("data-id") == order[0]
    # With one open, the next one opens in its place.
    page.keyboard.press("PageDown")
    assert page.locator("article.open").get_attribute("data-id") == order[1]
    assert f"row={order[1]}" in page.url
    page.click("[data-step=next]")
    assert page.locator("article.open").get_attribute("data-id") == order[2]
    page.locator("article.open").focus()
    page.keyboard.press("Escape")
    assert page.locator("article.open").count() == 0 and "row=" not in page.url
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "q"
    page.keyboard.type("j")
    assert page.locator("input[name=q]").input_value() == "j"


@pytest.mark.slow
def test_what_was_chosen_is_restored_from_the_address(visit: Visit, table: Table) -> None:
    page = visit.open()
    mode(page, "b")
    page.select_option("select[name=metric]", "perplexity")
    page.select_option("select[name=sort]", "gap")
    page.select_option("select[name=diff]", "a")
    page.check("input[name=view][value=raw]", force=True)
    page.click("summary[data-menu=filters]")
    page.get_by_role("group", name="Language").get_by_label("en").check()
    page.locator("input[name=q]").fill("item|の&=#")
    until(page, lambda: "q=" in page.url)
    page.locator("article.example [data-action=open]").nth(1).click()
    before = (page.locator(".frame-bar .status").inner_text(), listed(page, 1))
    opened = page.locator("article.open").get_attribute("data-id")
    url = page.url
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.url == url
    assert page.locator("input[name=mode][value=b]").is_checked()
    assert page.locator("select[name=metric]").input_value() == "perplexity"
    assert page.locator("select[name=sort]").input_value() == "gap"
    assert page.locator("select[name=diff]").input_value() == "a"
    assert page.locator("input[name=view][value=raw]").is_checked()
    assert page.locator("input[name=q]").input_value() == "item|の&=#"
    assert page.locator(".chip bdi").all_inner_texts() == [
        "PPO better",
        "“item|の&=#”",
        "Language: en",
    ]
    assert page.locator(".frame-bar .status").inner_text() == before[0]
    assert page.locator("article.open").get_attribute("data-id") == opened
    # The open one is in view, wherever in the list it stands.
    wanted = identities(table)[50]
    page.goto(visit.url + f"#answers&row={wanted}")
    found = page.locator(f'article.open[data-id="{wanted}"]')
    found.wait_for()
    until(page, lambda: 0 < (found.bounding_box() or {"y": -1})["y"] < 900)


@pytest.mark.slow
def test_a_broken_address_does_no_harm(visit: Visit) -> None:
    page = visit.open(
        "#answers&mode=nonsense&a=%E0%A4%A&metric=__proto__&row=-7&hide=a,b,%25&view=x&diff=y"
        "&where=is~x~y;score;~;%25E0%25A4;ids&sort=q&b=nobody&q=%5B"
    )
    until(page, lambda: page.locator("#search-hint").inner_text() != "")
    page.click("button.reset")
    assert shown(page) == ROWS


# --- out of the page --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.ci_slice
def test_what_is_listed_is_saved(visit: Visit, table: Table) -> None:
    page = visit.open("#where=is~language~zh&hide=base,base-3shot")
    zh = [i for i in identities(table) if table[i, "sft"]["language"] == "zh"]
    with page.expect_download() as waiting:
        page.click("[data-save=csv]")
    assert waiting.value.suggested_filename == "demo-examples.csv"
    text = Path(waiting.value.path()).read_text("utf-8")
    assert text.startswith("\ufeff")
    rows = list(csv.DictReader(io.StringIO(text[1:], newline="")))
    assert [row["id"] for row in rows] == zh
    for row in rows:
        stored = table[row["id"], "ppo"]
        assert row["ppo: answer"] == (stored["answer"] or "")
        assert float(row["ppo: reward"]) == pytest.approx(stored["reward"], rel=1e-3)
        assert row["ppo: finish_reason"] == stored["finish_reason"]
        assert "base: answer" not in row
    with page.expect_download() as waiting:
        page.click("[data-save=jsonl]")
    lines = [json.loads(x) for x in Path(waiting.value.path()).read_text("utf-8").splitlines()]
    assert [line["id"] for line in lines] == zh
    assert [one["model"] for one in lines[0]["answers"]] == ["sft", "ppo"]
    first = table[zh[0], "ppo"]
    assert lines[0]["answers"][1]["answer"] == first["answer"]
    assert lines[0]["answers"][1]["judge"][0]["reason"].startswith("Because")
    assert lines[0]["verdicts"][0]["baseline"] == "sft"
    visit.problems = [one for one in visit.problems if "request: blob:" not in one]


@pytest.mark.slow
def test_copies(browser: Any, run: Path) -> None:
    found = Visit(browser, run / "report.html", permissions=["clipboard-read", "clipboard-write"])
    page = found.open("#where=is~language~en")
    identity = listed(page)[0]
    cell(page, int(identity, 16)).locator("[data-action=copy]").click()
    until(page, lambda: page.locator(".said-now").inner_text() == "Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == "the blue cat sat on the mat"
    page.locator("article.example [data-action=link]").nth(1).click()
    until(page, lambda: "row=" in page.evaluate("navigator.clipboard.readText()"))
    link = page.evaluate("navigator.clipboard.readText()")
    assert "row=" not in page.url and "where=is~language~en" in unquote(link)
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_selector("article.open")
    assert f"row={page.locator('article.open').get_attribute('data-id')}" in link
    found.close()
    assert found.problems == []


# --- the list ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.ci_slice
def test_only_what_is_in_view_is_drawn(visit: Visit, table: Table) -> None:
    page = visit.open("#view=markdown&diff=reference&q=e")
    searched = [(model, key) for model in MODELS for key in ("prompt", "answer")]
    order = [
        identity
        for identity in identities(table)
        if any("e" in (table[identity, model][key] or "").lower() for model, key in searched)
    ]
    seen: list[str] = []
    box = "document.querySelector('.examples-box')"
    nodes = "document.querySelectorAll('#answers *').length"
    bottom = "getBoundingClientRect().bottom"
    filled = f"[...{box}.querySelectorAll('article')].at(-1)?.{bottom} >= {box}.{bottom}"
    while True:
        assert page.evaluate(nodes) < 2500
        now = listed(page, 100)
        start = order.index(now[0])
        assert now == order[start : start + len(now)]
        seen += [identity for identity in now if identity not in seen]
        before = page.evaluate(f"{box}.scrollTop")
        page.evaluate(f"{box}.scrollBy(0, 400)")
        until(page, lambda: page.evaluate(filled) or listed(page, 100)[-1] == order[-1])
        if page.evaluate(f"{box}.scrollTop") == before:
            break
    assert seen == order
    # No gap, no overlap between neighbours.
    edges = page.locator("article.example").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect()).map(box => [box.top, box.bottom])"
    )
    for (_, bottom), (top, _) in pairwise(edges):
        assert top == pytest.approx(bottom, abs=1)


@pytest.mark.slow
def test_the_row_at_the_top_stays_when_others_change(visit: Visit) -> None:
    page = visit.open()
    page.evaluate("document.querySelector('.examples-box').scrollTop = 6000")
    page.wait_for_timeout(100)
    example = page.locator("article.example").nth(2)
    identity = example.get_attribute("data-id")
    before = example.bounding_box()["y"]
    page.set_viewport_size({"width": 1280, "height": 800})
    page.wait_for_timeout(100)
    after = page.locator(f'article[data-id="{identity}"]').bounding_box()["y"]
    assert after == pytest.approx(before, abs=3)


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_and_widths(browser: Any, run: Path, width: int, scheme: str) -> None:
    found = Visit(
        browser, run / "report.html", viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    page = found.open(f"#answers&diff=a&q=the&row={0:016x}&where=is~language~en")
    page.click("summary[data-menu=filters]")
    assert axe(page, "#answers") == []
    assert overflowing(page) == 0
    page.keyboard.press("Escape")
    page.check("input[name=view][value=raw]", force=True)
    assert axe(page, "#answers") == []
    small = page.locator("#answers button:visible, #answers summary:visible").evaluate_all(
        "all => all.filter(one => { const box = one.getBoundingClientRect();"
        " return box.height < 23.5 || box.width < 23.5; }).map(one => one.textContent)"
    )
    assert small == []
    cells = page.locator("article.example").first.locator(".answer")
    tops = cells.evaluate_all("all => all.map(one => one.getBoundingClientRect().top)")
    assert len(set(tops)) == (4 if width == 390 else 1)
    found.close()
    assert found.problems == []


@pytest.mark.slow
@pytest.mark.ci_slice
def test_chinese(visit: Visit) -> None:
    page = visit.open("#where=is~language~zh&mode=b")
    page.select_option("#language", "zh")
    page.wait_for_selector("html[lang=zh][data-ready]")
    assert page.locator(".chip bdi").all_inner_texts() == ["PPO 更好", "语言：zh"]
    page.get_by_role("button", name="展开", exact=True).first.click()
    assert page.locator("article.open").count() == 1
    page.keyboard.press("j")
    assert page.locator("article.open").count() == 1


@pytest.mark.slow
def test_charts_lead_to_examples(visit: Visit, table: Table) -> None:
    """The door for the charts of the page, called as they call it."""
    page = visit.open("#answers&q=item&mode=a&view=raw")
    page.select_option("#slice-by", "category")
    page.get_by_role("button", name="plural").first.click()
    until(page, lambda: page.locator(".chip").count() >= 1)
    assert "Category: plural" in page.locator(".chip bdi").all_inner_texts()
    assert "“item”" not in page.locator(".chip bdi").all_inner_texts()
    assert page.locator("input[name=view][value=raw]").is_checked()
    expect(page, table, lambda i: table[i, "sft"]["category"] == "plural")
