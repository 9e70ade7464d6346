"""The page as a file: complete without some stages, closed against hostile text, no requests."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import packed
import pytest
from report_fixture import ALL_STAGES, MODELS, make_run, write_json

from espalier.errors import InputError
from espalier.reports.config import ReportConfig
from espalier.reports.page import build_report
from espalier.reports.shell import embedded

HOSTILE = [
    "<script>window.hit = 1</script>",
    "</script><script>window.hit = 1</script>",
    "</SCRIPT ><svg onload=window.hit=1>",
    "<!--<script>window.hit = 1",
    "--><img src=x onerror=window.hit=1>",
    "<img src=x onerror=window.hit=1>",
    "<svg/onload=window.hit=1>",
    "<svg><script>window.hit=1</script></svg>",
    '"><img src=x onerror=window.hit=1>',
    "'><img src=x onerror=window.hit=1>",
    '" autofocus onfocus="window.hit=1',
    "' onmouseover='window.hit=1",
    "<iframe src='javascript:parent.hit=1'></iframe>",
    '<iframe srcdoc="<script>parent.hit=1</script>"></iframe>',
    "<a href='javascript:window.hit=1'>press</a>",
    "javascript:window.hit=1",
    "<body onload=window.hit=1>",
    "<details open ontoggle=window.hit=1>",
    "<input autofocus onfocus=window.hit=1>",
    "<video><source onerror=window.hit=1>",
    "<style>*{display:none}</style>",
    "</style><script>window.hit=1</script>",
    "<link rel=stylesheet href=https://example.invalid/x.css>",
    "<meta http-equiv=refresh content='0;url=https://example.invalid/'>",
    "<base href=https://example.invalid/>",
    "<form action=https://example.invalid/><button>go</button></form>",
    "<object data=https://example.invalid/x></object>",
    "<template><script>window.hit=1</script></template>",
    "<textarea></textarea><script>window.hit=1</script>",
    "</title><script>window.hit=1</script>",
    "{{ 7 * 7 }}{% for x in y %}{{ config }}",
    "${window.hit=1}`${window.hit=1}`",
    "<![CDATA[<script>window.hit=1</script>]]>",
    "<math><mtext><img src=x onerror=window.hit=1></mtext></math>",
    "&lt;script&gt;window.hit=1&lt;/script&gt;",
    "\\u003cscript\\u003ewindow.hit=1",
    "\u202e<b>right to left</b>\u202c \u0000 \u2028 \u2029",
    "\ufeff＜script＞window.hit=1＜/script＞",
    "a" * 3000,
    "%3Cscript%3Ewindow.hit=1%3C/script%3E",
]


class Page(HTMLParser):
    """Tags with their attributes, and the text of scripts and styles.

    `text` and `attributes` leave out the other language, which is inert in a template.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[tuple[str, str]] = []
        self.text: list[str] = []
        self._open: str | None = None
        self._inert = False
        self._live: list[bool] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inert = self._inert or tag == "template"
        self._live.append(not self._inert)
        self._open = tag if tag in ("script", "style") else None

    def handle_endtag(self, tag: str) -> None:
        self._open = None
        if tag == "template":
            self._inert = False

    def handle_data(self, data: str) -> None:
        if self._open:
            self.inside.append((self._open, data))
        elif not self._inert:
            self.text.append(data)

    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(sorted(attributes))) for tag, attributes in self.tags]

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        found = zip(self.tags, self._live, strict=True)
        return [attributes for (name, attributes), live in found if live and name == tag]


def build(run: Path, **options: Any) -> str:
    output = run / "out.html"
    build_report(run, ReportConfig(**options), output)
    return output.read_text(encoding="utf-8")


def everywhere(payload: str) -> Callable[[str], str]:
    return lambda text: payload


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "demo", rows=24)


@pytest.fixture(scope="module")
def plain(plain_run: Path) -> Page:
    return Page(build(plain_run))


SUBSETS = [
    ("evaluate",),
    ("curate",),
    ("sft",),
    ("ppo",),
    ("reward", "reward_eval"),
    ("curate", "base", "sft"),
    ("sft", "evaluate"),
    ALL_STAGES,
]


@pytest.mark.parametrize("stages", SUBSETS, ids="+".join)
def test_any_stages_make_a_page(tmp_path: Path, stages: tuple[str, ...]) -> None:
    page = Page(build(make_run(tmp_path / "r", stages=stages, rows=8)))
    sections = {a["id"] for a in page.attributes("section")}
    assert sections == {"overview", "answers", "rating", "training", "data", "provenance"}
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert ("scores-table" in ids) == ("evaluate" in stages)
    assert ("packed-answers" in ids) == ("evaluate" in stages)
    training = bool({"base", "sft", "reward", "reward_eval", "ppo"} & {*stages})
    assert ("training-stages" in ids) == training


def test_a_stage_without_manifest_is_shown_and_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", stages=("curate", "sft"))
    (run / "sft/manifest.json").unlink()
    text = " ".join(Page(build(run)).text)
    assert "Not finished, so shown in part: SFT." in text


def test_answers_without_scores_are_shown(tmp_path: Path) -> None:
    """An evaluation that has not finished has answer files only."""
    run = make_run(tmp_path / "r", stages=("evaluate",), rows=6)
    for name in ("summary.json", "scores.parquet", "manifest.json"):
        (run / "evaluate" / name).unlink()
    found = unpacked(Page(build(run)))
    assert {model["name"] for model in found["models"]} == {name for name, *_ in MODELS}
    assert len(found["rows"]["id"]) == 6


HOSTILE_STAGES = ("curate", "sft", "ppo", "evaluate")


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("harmless") / "h"
    run = make_run(folder, rows=2, stages=HOSTILE_STAGES, change=everywhere("plain"))
    return Page(build(run, title="plain", notes=["plain"]))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_changes_no_markup(tmp_path: Path, harmless: Page, text: str) -> None:
    """The page of hostile texts has exactly the elements and attributes of the plain page."""
    run = make_run(tmp_path / "h", rows=2, stages=HOSTILE_STAGES, change=everywhere(text))
    hostile = Page(build(run, title=text, notes=[text]))
    assert hostile.shape() == harmless.shape()
    for (_, one), (_, other) in zip(hostile.tags, harmless.tags, strict=True):
        for name in ("href", "src", "id", "class", "content"):
            assert one.get(name) == other.get(name)
    assert hostile.inside[0] == harmless.inside[0]
    core = json.loads(script(hostile, "core"))
    assert core["summary"]["models"][0]["label"] == text
    assert unpacked(hostile)["models"][0]["answers"][0] == text


@pytest.mark.parametrize("text", HOSTILE)
def test_embedded_json_has_no_character_of_markup(text: str) -> None:
    found = embedded({text: [text]})
    assert not set("<>&") & set(found)
    assert json.loads(found) == {text: [text]}


def test_hostile_names_of_models_and_run(tmp_path: Path) -> None:
    names = ["<img src=x onerror=window.hit=1>", '"><script>window.hit=1', "..", "__proto__"]
    models = [(name, name, "predictions", 0, 0.5) for name in names]
    html = build(make_run(tmp_path / "<img src=x onerror=hit=1>", rows=4, models=models))
    page = Page(html)
    assert not page.attributes("img")
    assert [model["name"] for model in unpacked(page)["models"]] == names


def script(page: Page, name: str) -> str:
    """The text of the script element with this id, by order of the script elements."""
    place = [a.get("id") for a in page.attributes("script")].index(name)
    return [text for kind, text in page.inside if kind == "script"][place]


def unpacked(page: Page) -> Any:
    return packed.answers(script(page, "packed-answers"), script(page, "packed-texts"))


def test_policy_allows_exactly_the_inline_script_and_style(plain: Page) -> None:
    policy = next(
        a["content"]
        for a in plain.attributes("meta")
        if a.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(part.strip().split(" ", 1) for part in str(policy).split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in str(policy)

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    running = [a for a in plain.attributes("script") if "type" not in a]
    assert len(running) == 1
    code = next(text for kind, text in plain.inside if kind == "script")
    style = next(text for kind, text in plain.inside if kind == "style")
    assert rules["script-src"] == digest(code)
    assert rules["style-src"] == digest(style)


def test_nothing_on_the_page_can_ask_for_anything(plain: Page) -> None:
    for tag, attributes in plain.tags:
        assert tag not in ("img", "iframe", "object", "embed", "video", "audio", "form", "base")
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href", "action", "data", "srcset", "poster", "formaction"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/svg+xml,"))
    code = "\n".join(text for kind, text in plain.inside if kind == "script")
    style = "\n".join(text for kind, text in plain.inside if kind == "style")
    assert not re.search(r"url\(|@import|expression\(", style)
    addresses = set(re.findall(r"https?://[^\s\"'`)]+", code + style))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    forbidden = (
        r"\bfetch\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon|import\(|importScripts"
        r"|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
        r"|DOMParser|createContextualFragment|setHTML|srcdoc"
    )
    assert not re.search(forbidden, code)


def test_the_same_run_gives_the_same_bytes(plain_run: Path) -> None:
    assert build(plain_run) == build(plain_run)


def test_sizes(plain_run: Path) -> None:
    """The page's own parts are small beside data: people mail it."""
    page = Page(build(plain_run))
    code = next(text for kind, text in page.inside if kind == "script")
    style = next(text for kind, text in page.inside if kind == "style")
    assert len(code) + len(style) < 400_000
    words = json.dumps(json.loads(script(page, "core"))["strings"])
    assert len(words) + len(script(page, "core-zh")) < 200_000


def test_answers_are_those_of_the_score_table(plain_run: Path, plain: Page) -> None:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(plain_run / "evaluate/scores.parquet").to_pylist()
    found = unpacked(plain)
    place = {identity: row for row, identity in enumerate(found["rows"]["id"])}
    models = {model["name"]: model for model in found["models"]}
    metrics = {metric["name"]: metric for metric in found["metrics"]}
    assert len(table) == len(place) * len(models)
    for line in table:
        row = place[line["id"]]
        assert models[line["model"]]["answers"][row] == line["answer"]
        for key in ("prompt", "reference", "category", "language"):
            assert found["rows"][key][row] == line[key]
        for name, metric in metrics.items():
            shown = metric["values"][line["model"]][row]
            assert shown == pytest.approx(line[name], rel=1e-3)


def test_numbers_that_are_none_and_broken_characters(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", rows=4, stages=("evaluate", "sft"))
    path = run / "evaluate/summary.json"
    summary = json.loads(path.read_text("utf-8"))
    summary["scores"][0].update(value=math.nan, low=-math.inf, high=math.inf)
    summary["comparisons"][0]["difference"] = None
    summary["models"][0]["label"] = "lone \ud800 surrogate"
    path.write_text(json.dumps(summary), encoding="utf-8")
    line = json.dumps({"step": 900, "split": "train", "loss": math.nan})
    with (run / "sft/metrics.jsonl").open("a", encoding="utf-8") as handle:
        handle.write(line + "\n")
    core = json.loads(script(Page(build(run)), "core"))
    scores = core["summary"]["scores"]
    assert dict(zip(scores["keys"], scores["rows"][0], strict=True))["value"] is None
    loss = core["curves"][0]["charts"][0]["series"][0]
    assert 900 not in loss["x"]


def test_notes_warnings_and_synthetic_label_stand_at_the_top(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", rows=10, stages=("curate", "evaluate"))
    summary = json.loads((run / "evaluate/summary.json").read_text("utf-8"))
    summary["notes"] = ["from the summary"]
    write_json(run / "evaluate/summary.json", summary)
    manifest = json.loads((run / "curate/manifest.json").read_text("utf-8"))
    manifest["counts"]["notes"] = ["from a manifest"]
    write_json(run / "curate/manifest.json", manifest)
    html = build(run, notes=["from the recipe"])
    top = html[: html.index('id="scores"')]
    for text in ("from the recipe", "from the summary", "from a manifest", "Synthetic data"):
        assert text in top
    assert "fewer than 100 rows" in top


def test_first_rows_only(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", rows=9, stages=("evaluate",))
    assert len(unpacked(Page(build(run, answer_rows=4)))["rows"]["id"]) == 4


BROKEN = [
    ("evaluate/summary.json", b"{", "JSON file can't be read"),
    ("evaluate/summary.json", b"[]", "does not hold what it should"),
    ("evaluate/summary.json", b'{"models": []}', "at 'metrics'"),
    ("evaluate/scores.parquet", b"PAR1 no", "can't be read"),
    ("sft/metrics.jsonl", b'{"step": 1\n{"step": 2}\n', "not JSON"),
    ("curate/manifest.json", b"{\n\n,}", "JSON file can't be read"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    run = make_run(tmp_path / "r", rows=4, stages=("curate", "sft", "evaluate"))
    (run / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        build(run)
    assert message in str(caught.value)
    assert str(run / name) in str(caught.value)


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", stages=("sft",))
    with (run / "sft/metrics.jsonl").open("a", encoding="utf-8") as handle:
        handle.write('{"step": 99999, "split": "tr')
    core = json.loads(script(Page(build(run)), "core"))
    assert core["curves"][0]["charts"][0]["series"][0]["x"][-1] == 875


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to report") as caught:
        build_report(tmp_path, ReportConfig(), tmp_path / "x.html")
    assert "espalier run" in str(caught.value)
    assert not (tmp_path / "x.html").exists()
