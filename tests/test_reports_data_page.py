"""The page about curated data: its numbers recounted, closed against hostile text, no requests."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from curate_fixture import make_folder, read_lines, spending, write_lines
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import value as unpacked
from test_reports_page import HOSTILE, Page, script

from espalier.cli import main
from espalier.curate.statistics import write_statistics
from espalier.errors import InputError
from espalier.reports.data_charts import histogram
from espalier.reports.data_page import build_data_page
from espalier.reports.data_samples import shared_spans
from espalier.reports.data_sunburst import SIZE, sunburst
from espalier.run import Shared, StageContext

ROOT = Path(__file__).resolve().parents[1]


def make(folder: Path, *, rows: int = 60, text: str = "") -> Path:
    made = make_folder(folder, rows, text=text)
    write_statistics(made, spending(text))
    return made


def build(folder: Path) -> str:
    page = folder / "out.html"
    build_data_page(folder, page)
    return page.read_text(encoding="utf-8")


def packed(page: Page) -> Any:
    return unpacked(script(page, "packed-data"))


def packed_rows(page: Page) -> Any:
    return unpacked(script(page, "packed-rows"))


def rows_of(page: Page, name: str) -> list[dict[str, Any]]:
    rows = packed_rows(page)["rows"]
    return [row for row in rows if row["file"] == name and not row.get("ancestor")]


def words(page: Page) -> str:
    return " ".join(" ".join(page.text).split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("page") / "clean")


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page(build(folder))


def test_totals_and_counts_are_those_of_the_files(folder: Path, page: Page) -> None:
    text = words(page)
    train = read_lines(folder / "train.jsonl")
    assert "60 Training rows train.jsonl" in text
    assert "7 Held-out rows eval.jsonl" in text
    assert "9 Preference pairs preferences.jsonl" in text
    assert f"{len(read_lines(folder / 'rejects.jsonl'))} Rejects by 3 rules" in text
    for label, title, names in (
        ("language", "Languages", {"en": "English", "zh": "Chinese"}),
        ("source", "Sources", {}),
        ("category", "Categories", {}),
    ):
        counts = Counter(row["meta"][label] for row in train)
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        assert f"{title} " + " ".join(f"{names.get(n, n)} {c}" for n, c in ordered) in text
    written = sum("teacher" in row["meta"] for row in train)
    assert f"in {written} of 60 rows a model or program wrote text (t)" in text


def test_the_funnel_with_its_rules(folder: Path, page: Page) -> None:
    text = words(page)
    assert "Step 0 81 → 67 kept 82.7 % Too close to an earlier instruction −7 Refusal −7" in text
    assert "Wrongly decoded text ~3" in text
    rejects = packed(page)["rejects"]
    for link in page.attributes("a"):
        if "data-rule" in link:
            assert rejects[int(str(link["data-rule"]))]["rule"] in (
                "refusal",
                "not_novel",
                "short_answer",
            )
    assert sum("data-rule" in link for link in page.attributes("a")) == 3


def test_rejects_are_a_sample_of_each_rule(folder: Path, page: Page) -> None:
    rows = {row["id"]: row for row in read_lines(folder / "rejects.jsonl")}
    counts = Counter((row["step"], row["rule"]) for row in rows.values())
    rules = packed(page)["rejects"]
    assert {(rule["step"], rule["rule"]): rule["count"] for rule in rules} == counts
    for rule in rules:
        assert len(rule["examples"]) == min(15, rule["count"])
        for example in rule["examples"]:
            row = rows[example["id"]]
            assert (row["step"], row["rule"]) == (rule["step"], rule["rule"])
            assert (row["text"], row["evidence"]) == (example["text"], example["evidence"])


def test_rows_with_their_lineage(folder: Path, page: Page) -> None:
    by_id = {row["id"]: row for row in read_lines(folder / "train.jsonl")}
    assert packed_rows(page)["files"]["curate/train.jsonl"] == {"rows": 60, "shown": 60}
    shown = rows_of(page, "curate/train.jsonl")
    assert [row["id"] for row in shown] == list(by_id)
    for row in shown:
        meta = by_id[row["id"]]["meta"]
        assert [turn["text"] for turn in row["turns"]] == [
            turn["content"] for turn in by_id[row["id"]]["messages"]
        ]
        assert row["parents"] == meta.get("parents", [])
        assert row.get("operator") == meta.get("operator")
        assert set(row["quality"]) == set(meta.get("quality", {}))


def test_a_large_file_is_sampled_and_clipped(tmp_path: Path) -> None:
    rows = [
        {"id": str(n), "messages": [{"role": "user", "content": "字" * 5000}], "meta": {}}
        for n in range(1200)
    ]
    write_lines(tmp_path / "train.jsonl", rows)
    page = Page(build(tmp_path))
    shown = rows_of(page, "curate/train.jsonl")
    size = (tmp_path / "train.jsonl").stat().st_size
    assert len(shown) == int(1200 * 8e6 / size) < 600
    numbers = [int(row["id"]) for row in shown]
    assert numbers == sorted(set(numbers))
    assert max(numbers) > 900
    assert {len(row["turns"][0]["text"]) for row in shown} == {2000}
    assert (tmp_path / "out.html").stat().st_size < 400_000
    assert f"train.jsonl ({len(shown)} of 1,200)" in words(page)


def test_near_duplicates_and_shared_texts(folder: Path, page: Page) -> None:
    data = packed(page)
    lines = read_lines(folder / "clusters.jsonl")
    assert [pair["removed"]["id"] for pair in data["pairs"]] == [line["removed"] for line in lines]
    assert [cluster["size"] for cluster in data["clusters"]] == [5, 3, 2, 2, 2]
    one = data["contamination"][0]["found"][0]
    row = read_lines(folder / "train.jsonl")[2]
    whole = "\n".join(turn["content"] for turn in row["messages"])
    at = whole.index(one["text"])
    assert one["before"] == whole[:at]
    assert one["after"].removesuffix("…") == whole[at + len(one["text"]) :][:160]
    removed = data["contamination"][1]["found"][0]
    assert (removed["before"], removed["text"]) == ("user: ", "rejected 1 ")


def test_cost(page: Page) -> None:
    text = words(page)
    assert "self-instruct m 10 2,500 700 1.25 USD" in text
    assert "answers local 5 50 60 –" in text
    assert "All steps 45 11,550 1,060 1.75 USD" in text


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page(build(make(tmp_path_factory.mktemp("harmless") / "h", rows=12, text="plain")))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_makes_no_markup(tmp_path: Path, harmless: Page, text: str) -> None:
    """In every field of every file; the page has no element and no attribute of its making."""
    hostile = Page(build(make(tmp_path / "h", rows=12, text=text)))
    known = {tag for tag, _ in harmless.tags}
    assert {tag for tag, _ in hostile.tags} <= known
    allowed = {name for _, attributes in harmless.tags for name in attributes}
    for tag, attributes in hostile.tags:
        assert set(attributes) <= allowed | {"transform"}
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        if tag != "meta":
            assert (attributes.get("href") or "#").startswith(("#", "data:image/svg+xml,"))
    assert hostile.inside[0] == harmless.inside[0]
    assert [kind for kind, _ in hostile.inside] == [kind for kind, _ in harmless.inside]
    assert (
        text.strip() in packed(hostile)["rejects"][0]["examples"][0]["evidence"] or len(text) > 500
    )


def test_hostile_names_of_folder_and_steps(tmp_path: Path) -> None:
    page = Page(build(make(tmp_path / "<img src=x onerror=hit=1>", rows=8)))
    assert not page.attributes("img")
    assert "<img src=x onerror=hit=1>" in words(page)


def test_the_page_asks_for_nothing(page: Page) -> None:
    policy = next(a["content"] for a in page.attributes("meta") if "http-equiv" in a)
    assert "default-src 'none'" in str(policy)
    assert "unsafe" not in str(policy)
    for tag, attributes in page.tags:
        assert tag not in ("img", "iframe", "object", "embed", "video", "audio", "form", "base")
        for name in ("src", "href", "action", "data", "srcset"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/svg+xml,"))
    code = "\n".join(text for kind, text in page.inside if kind in ("script", "style"))
    assert set(re.findall(r"https?://[^\s\"'`)]+", code)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|outerHTML|\bfetch\(|XMLHttpRequest|\beval\(|url\(", code)


def test_without_statistics_it_says_so_and_shows_the_rest(tmp_path: Path) -> None:
    made = make_folder(tmp_path / "old")
    page = Page(build(made))
    text = words(page)
    assert "statistics.json is missing" in text
    assert "By language en" in text
    assert len(rows_of(page, "curate/train.jsonl")) == 60
    assert not page.attributes("figure")


@pytest.mark.parametrize("name", ["train.jsonl", "funnel.json", "preferences.jsonl"])
def test_any_file_alone_makes_a_page(tmp_path: Path, name: str) -> None:
    full = make_folder(tmp_path / "full")
    alone = tmp_path / "alone"
    alone.mkdir()
    (full / name).rename(alone / name)
    write_statistics(alone)
    assert "sections" not in words(Page(build(alone)))


def test_wrong_folders_end_in_one_message(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no curated data"):
        build_data_page(tmp_path, tmp_path / "x.html")
    made = make(tmp_path / "m", rows=8)
    for name, text in (("funnel.json", "{}"), ("funnel.json", "[1]"), ("statistics.json", "[]")):
        (made / name).write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match="does not hold what it should"):
            build(made)
        (made / "funnel.json").write_text("[]", encoding="utf-8")


def test_the_same_folder_gives_the_same_bytes(folder: Path) -> None:
    assert build(folder) == build(folder)


def test_the_verb(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert main(["report", "--data", str(folder), "--output", str(out)]) == 0
    said = capsys.readouterr()
    assert str(out) in said.err + said.out
    assert out.read_text(encoding="utf-8") == build(folder)


@pytest.mark.parametrize(
    ("words_", "message"),
    [
        (["report"], "only one of them"),
        (["report", "run", "--data", "x"], "only one of them"),
        (["report", "--data", "nowhere"], "no such folder"),
        (["report", "--data", ".", "--set", "a=b"], "go with --recipe"),
        (["report", "--data", "tests"], "no curated data"),
        (["report", "--data", "tests", "--output", "tests"], "names a folder"),
    ],
)
def test_wrong_use_of_the_verb(
    words_: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(words_) == 2
    assert message in capsys.readouterr().err


def test_the_stage(tmp_path: Path) -> None:
    from espalier.reports import data_stage

    make(tmp_path / "curate")
    context = StageContext("data", tmp_path, tmp_path / "data", None, Shared.model_validate({}))
    found = data_stage.inputs(context)
    names = {f"curate/{name}" for name in ("train.jsonl", "statistics.json", "rejects.jsonl")}
    assert names | {"templates"} <= set(found)
    result = data_stage.run(context)
    assert result["outputs"] == [tmp_path / "data.html"]
    assert result["bytes"] == (tmp_path / "data.html").stat().st_size
    assert f"<title>{tmp_path.name}: the data</title>" in (tmp_path / "data.html").read_text(
        "utf-8"
    )


def test_no_model_and_no_other_stage_is_loaded(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from espalier.reports.data_page import build_data_page;"
        f"build_data_page(Path({str(folder)!r}), Path({str(folder / 'again.html')!r}));"
        "print([n for n in sys.modules if n.split('.')[0] in ('torch', 'transformers', 'jieba',"
        " 'pandas') or n.startswith(('espalier.curate', 'espalier.train', 'espalier.evaluate'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# --- charts --------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.text("ab c一二", max_size=40), st.text("ab c一二", max_size=40))
def test_shared_spans_are_equal_texts_in_order(left: str, right: str) -> None:
    one, other = shared_spans(left, right)
    assert [left[a:b] for a, b in one] == [right[a:b] for a, b in other]
    for spans in (one, other):
        flat = [place for span in spans for place in span]
        assert flat == sorted(flat)
    assert all(len(left[a:b].replace(" ", "")) >= 3 for a, b in one)


def test_what_two_texts_share_is_found() -> None:
    left = "Write a short poem about the sea."
    right = "Please write a short poem about a mountain."
    one = shared_spans(left, right)[0]
    assert [left[a:b].strip() for a, b in one] == ["a short poem about"]
    assert shared_spans("写一首关于春天的诗", "写一首关于秋天的诗")[0] == [[0, 5], [6, 9]]
    assert shared_spans("", "x") == ([], [])


def test_bars_are_as_high_as_their_counts() -> None:
    drawn = histogram({"histogram": [[0, 1, 0], [1, 2, 5], [2, 3, 0], [3, 5, 20], [5, 7, 0]]})
    assert [float(bar["height"]) for bar in drawn["bars"]] == [25, 0, 100]
    assert [bar["title"] for bar in drawn["bars"]] == ["1: 5", "2: 0", "3–4: 20"]
    assert histogram({"count": 0}) == {"bars": [], "labels": [], "top": 0}


def angles(path: str) -> tuple[float, float, float, float]:
    """(start, end) in degrees from the top, inner and outer radius of an arc's path."""
    numbers = [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", path)]
    x1, y1, x2, y2 = numbers[0:4]
    last = numbers[9:11]

    def degrees(x: float, y: float) -> float:
        return math.degrees(math.atan2(x, -y)) % 360

    return degrees(x1, y1), degrees(*last), math.hypot(x1, y1), math.hypot(x2, y2)


def test_the_rings_are_shares_of_rows() -> None:
    rng = Random(1)
    verbs: list[dict[str, Any]] = [
        {"verb": f"v{n}", "count": 60 - 3 * n, "nouns": [["a", 20 - n], ["b", rng.randrange(1, 9)]]}
        for n in range(10)
    ]
    arcs = sunburst(verbs)
    total = sum(verb["count"] for verb in verbs)
    inner = [arc for arc in arcs if arc["ring"] == 0]
    assert len(inner) == 10
    at = 0.0
    for verb, arc in zip(verbs, inner, strict=True):
        start, end, low, high = angles(arc["path"])
        assert start == pytest.approx(at, abs=0.05)
        at += 360 * verb["count"] / total
        assert end == pytest.approx(at % 360, abs=0.05) or at == pytest.approx(360)
        assert low < high < SIZE / 2
    outer = [arc for arc in arcs if arc["ring"] == 1]
    assert len(outer) == 20
    for place, arc in enumerate(outer):
        verb, (_, count) = verbs[place // 2], verbs[place // 2]["nouns"][place % 2]
        start, end, _, high = angles(arc["path"])
        assert (end - start) % 360 == pytest.approx(360 * count / total, abs=0.05)
        assert high < SIZE / 2
        assert arc["title"].startswith(f"{verb['verb']} ")
    assert sunburst([{"verb": "only", "count": 3, "nouns": []}])[0]["label"] == "only"
    assert sunburst([]) == []
