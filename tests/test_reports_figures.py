"""Still pictures and tables: whole XML, numbers where they belong, text that stays text."""

from __future__ import annotations

import math
import re
import struct
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from report_fixture import make_run
from runs_fixture import make_sweep, read_summary

from espalier.cli import main
from espalier.reports import (
    figure_bars,
    figure_heat,
    figure_lines,
    figure_png,
    figure_sunburst,
)
from espalier.reports.config import ReportConfig
from espalier.reports.figure_axes import log_ticks, short, tick_labels, ticks
from espalier.reports.figure_bars import bar_rows
from espalier.reports.figure_details import confusion_figures, judged_tables
from espalier.reports.figure_lines import Line, Point, Points
from espalier.reports.figure_svg import Picture, colours, fitted, plain, text_width
from espalier.reports.figure_tables import (
    Cell,
    Table,
    cells,
    escape_latex,
    escape_markdown,
    latex,
    markdown,
)
from espalier.reports.figures import unused, write_figures

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    "<script>alert(1)</script>",
    "]]></title><image href='https://example.invalid/x'/>",
    "&lt;b&gt; & \"quotes\" 'single'",
    "\u202eright to left\u2066\u200b",
    "null \x00 bell \x07 escape \x1b[31m",
    "lone \ud800 surrogate",
    "line\nbreak\tand tab",
    "回答的得分",
]


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.encode("utf-8"))


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in parsed(svg).iter(f"{SVG}text")]


# --- pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_stays_a_text_of_the_picture(text: str) -> None:
    rows = bar_rows([(text, 1.0, 0.5, 1.5, text)])
    drawn = [
        figure_bars.bars(text, text, rows),
        figure_heat.heat(text, text, [text], [text], [[(1.0, text)]]),
        figure_lines.lines(text, text, [Line(text, [1, 2], [3, 4], "#000000")] * 2, (), text),
        figure_lines.points(text, "", [text], [Points(text, [Point(0, 1, 0, 2)], "#000", True)]),
        figure_bars.histogram(text, text, [0, 1], [(text, [3])]),
    ]
    for svg in drawn:
        tags = {node.tag.removeprefix(SVG) for node in parsed(svg).iter()}
        assert tags <= {"svg", "title", "rect", "line", "path", "circle", "text"}
        names = {name for node in parsed(svg).iter() for name in node.attrib}
        assert not {name for name in names if name.startswith("on") or "href" in name}
        assert plain(text)[:12] in "".join(parsed(svg).itertext())


def test_a_picture_asks_for_nothing_and_has_a_size() -> None:
    svg = Picture(120, 40, "t").svg()
    root = parsed(svg)
    assert (root.get("width"), root.get("height"), root.get("viewBox")) == (
        "120",
        "40",
        "0 0 120 40",
    )
    assert set(re.findall(r"https?://[^\s\"']+", svg)) == {"http://www.w3.org/2000/svg"}


def test_colours_are_those_of_the_page() -> None:
    found = colours()
    assert found["s2"] == "#3a75b3" and found["ink"] == "#22252a"
    assert {f"s{i}" for i in range(10)} < found.keys()


def test_bars_are_as_long_as_their_values() -> None:
    rows = bar_rows(
        [("a", 1.0, None, None, "1"), ("b", 4.0, 3.0, 5.0, "4"), ("c", None, None, None, "–")]
    )
    root = parsed(figure_bars.bars("t", "", rows))
    widths = [
        float(node.get("width", 0))
        for node in root.iter(f"{SVG}rect")
        if node.get("fill") != "#ffffff"
    ]
    assert len(widths) == 2
    assert widths[1] / widths[0] == pytest.approx(4, rel=1e-3)


def test_points_stand_at_their_values_and_whiskers_at_their_ends() -> None:
    series = [Points("m", [Point(0, 1.0, 0.0, 2.0), Point(1, 3.0, None, None)], "#123456", False)]
    root = parsed(figure_lines.points("t", "", ["x", "y"], series))
    dots = [float(node.get("cy", 0)) for node in root.iter(f"{SVG}circle")]
    (whisker,) = [node for node in root.iter(f"{SVG}line") if node.get("stroke") == "#123456"]
    ends = sorted(float(whisker.get(name, 0)) for name in ("y1", "y2"))
    unit = (dots[0] - dots[1]) / 2
    assert ends[1] - dots[0] == pytest.approx(unit, abs=0.05)
    assert dots[0] - ends[0] == pytest.approx(unit, abs=0.05)


def test_numbers_of_a_sweep_stand_by_their_logarithms() -> None:
    series = [Points("m", [Point(i, 1.0, None, None) for i in range(3)], "#123456", True)]
    root = parsed(
        figure_lines.points("t", "", ["a", "b", "c"], series, "number", [1e-5, 1e-4, 1e-2])
    )
    xs = [float(node.get("cx", 0)) for node in root.iter(f"{SVG}circle")]
    assert (xs[2] - xs[1]) / (xs[1] - xs[0]) == pytest.approx(2, rel=1e-2)


def test_a_line_goes_through_its_points_and_an_alarm_stands_at_its_step() -> None:
    line = Line("m", [0, 50, 100], [1, 2, 3], "#123456")
    svg = figure_lines.lines("t", "", [line], [(50, 50)], "step")
    (drawn,) = [n for n in parsed(svg).iter(f"{SVG}path") if n.get("stroke") == "#123456"]
    xs, ys = zip(
        *(map(float, pair.split()) for pair in drawn.get("d", "")[1:].split("L")), strict=True
    )
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.11)
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.11)
    (alarm,) = [n for n in parsed(svg).iter(f"{SVG}line") if n.get("stroke-dasharray")]
    assert float(alarm.get("x1", 0)) == pytest.approx(xs[1], abs=0.11)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3, 7), (1e-6, 5e-6), (0, 123_456), (99.5, 100.5), (2, 2)]
)
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high, 5)
    assert 1 <= len(found) <= 11
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in found)
    steps = {round(b - a, 12) for a, b in pairwise(found)}
    assert len(steps) <= 1
    for step in steps:
        head = step / 10 ** math.floor(math.log10(step) + 1e-9)
        assert min(abs(head - wanted) for wanted in (1, 2, 2.5, 5, 10)) < 1e-6
    labels = tick_labels(found)
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(("low", "high"), [(1.5, 420_000), (0.02, 0.9), (3, 80), (2.1, 2.4)])
def test_ticks_of_a_logarithmic_axis(low: float, high: float) -> None:
    found = log_ticks(low, high, 6)
    assert 2 <= len(found) <= 8
    assert found == sorted(found) and all(low <= value <= high for value in found)


def test_perplexities_have_bins_of_equal_ratio() -> None:
    edges = [1.0, 10.0, 100.0, 1000.0]
    root = parsed(figure_bars.histogram("t", "", edges, [("m", [1, 2, 4])], "number", True))
    bins = [n for n in root.iter(f"{SVG}rect") if n.get("fill") != "#ffffff"]
    assert len({n.get("width") for n in bins}) == 1
    heights = [float(n.get("height", 0)) for n in bins]
    assert heights[2] == pytest.approx(4 * heights[0], rel=1e-2)


def test_labels_of_axes_and_short_numbers() -> None:
    assert tick_labels([0, 0.25, 0.5], "percent") == ["0 %", "25 %", "50 %"]
    assert tick_labels([-1.0, -0.5]) == ["−1.0", "−0.5"]
    assert tick_labels([0, 20_000]) == ["0k", "20k"]
    assert [short(v) for v in (0, 0.5, 12345.0, 3e-5, -2e6)] == [
        "0",
        "0.5",
        "12,345",
        "3e−5",
        "−2e6",
    ]


def test_a_long_text_is_cut_to_its_width() -> None:
    for text in ("W" * 100, "字" * 100, "a b " * 50):
        cut = fitted(text, 120)
        assert cut.endswith("…") and text_width(cut) <= 120
    assert fitted("short", 120) == "short"


# --- tables ------------------------------------------------------------------------------------


def unescaped(row: str) -> list[str]:
    """The cells of a Markdown row, read as GitHub does: a bar behind a backslash is no border."""
    return [part.strip() for part in re.split(r"(?<!\\)\|", row.strip())[1:-1]]


@pytest.mark.parametrize("text", [*HOSTILE, "a|b\\|c", "[x](javascript:1)", "`code` *b* $x$ ~~s~~"])
def test_markdown_shows_what_was_written(text: str) -> None:
    table = Table("t", "t", ["h", "n"], [cells(text, "1")], "lr")
    lines = markdown(table).splitlines()
    assert len(lines) == 5 and lines[3] == "| --- | ---: |"
    (first, second) = unescaped(lines[4])
    assert second == "1"
    shown = first.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert re.sub(r"\\(.)", r"\1", shown) == plain(text)
    assert "<" not in first and not re.search(r"(?<!\\)\]\(", first)
    assert not re.search(r"(?<!\\)[`*$]", first)


def test_markdown_and_latex_mark_the_best() -> None:
    table = Table("best", "T", ["m", "x"], [[Cell("a"), Cell("1", best=True)]], "lr")
    assert "| a | **1** |" in markdown(table)
    assert "a & \\textbf{1} \\\\" in latex(table)


def test_latex_is_a_table_of_booktabs() -> None:
    text = latex(Table("scores", "A & B", ["m", "x ↑"], [cells("50 %", "−1.0 [−2, 0]")], "lr"))
    for part in (
        "\\begin{table}", "\\caption{A \\& B}", "\\label{tab:scores}", "\\begin{tabular}{lr}",
        "\\toprule", "\\midrule", "\\bottomrule", "50 \\% & $-$1.0 [$-$2, 0] \\\\",
        "x $\\uparrow$", "\\end{tabular}", "\\end{table}",
    ):  # fmt: skip
        assert part in text
    assert "\\usepackage{booktabs}" in text.splitlines()[0]


@pytest.mark.parametrize("text", [*HOSTILE, "\\input{/etc/passwd}", "% comment", "{_^~#$&}", '"q"'])
def test_latex_has_no_sign_that_does_something(text: str) -> None:
    shown = escape_latex(text)
    bare = re.sub(r"\\(?:[{}$&#%_]|text[a-z]+\{\}|ldots\{\}|char34\{\})", "", shown)
    assert not re.search(r"[\\{}$&#%_^~<>|\"]", bare)
    assert "\n" not in shown


KNOWN = re.compile(
    r"\\(?:begin\{(?:table|tabular)\}(?:\{[lr]+\})?|end\{(?:table|tabular)\}|centering|(?:top|mid|bottom)"
    r"rule|caption|label|textbf|text(?:backslash|asciitilde|asciicircum|asciigrave|less|greater|bar)\{\}"
    r"|char34\{\}|ldots\{\}|[{}$&#%_])"
)
MATHS = re.compile(
    r"\$(?:-|\\(?:pm|cdot|uparrow|downarrow|rightarrow|approx|times|geq|leq|rho|tau|sigma|kappa|lambda"
    r"|beta|gamma|varepsilon|mu|Delta|alpha|blacktriangle|blacktriangledown)|\^\\circ)\$"
)


def check_latex(text: str) -> None:
    """What would stop a compiler: unknown commands, open groups, rows of another length, signs that
    no font of pdflatex has (Chinese is what the comment speaks of)."""
    head, *lines = text.rstrip("\n").split("\n")
    assert head.startswith("% Needs")
    body = "\n".join(lines)
    (align,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", body)
    order = ["\\begin{table}", "\\begin{tabular}", "\\toprule", "\\midrule", "\\bottomrule",
             "\\end{tabular}", "\\end{table}"]  # fmt: skip
    places = [body.index(part) for part in order]
    assert places == sorted(places) and all(body.count(part) == 1 for part in order)
    rows = [line for line in lines if re.search(r"(?<!\\)&", line)]
    between = [line for line in lines if line.endswith("\\\\")]
    assert rows == between and len(rows) >= 2
    for row in rows:
        assert len(re.findall(r"(?<!\\)&", row)) == len(align) - 1
    bare = KNOWN.sub("", MATHS.sub("", body))
    assert "\\" not in bare.replace("\\\\\n", "\n") and not re.search(r"[$#%_^\"`]", bare)
    depth = 0
    for sign in bare:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0
    odd = {sign for sign in bare if ord(sign) > 0x17F and not 0x2E80 <= ord(sign) <= 0xFFEF}
    assert not odd, odd


@pytest.mark.parametrize(
    "text",
    [*HOSTILE[:5], *HOSTILE[6:], "\\input{x} %_^~#$&{}", "a -- b '' c ,, \"d\" `e`", "ρ ≥ 5 °"],
)
def test_latex_of_any_text_is_whole(text: str) -> None:
    rows = [[Cell(text, best=True), Cell(text)], cells("[x]", text)]
    check_latex(latex(Table(f"t_{text}", text, [text, "n"], rows, "lr")))


def test_latex_joins_no_signs() -> None:
    assert escape_latex("a -- b ''c'' ,,d") == "a -{}- b '{}'c'{}' ,{},d"


def test_a_row_that_begins_with_a_bracket_is_no_length() -> None:
    text = latex(Table("t", "t", ["a", "b"], [cells("x", "y"), cells("[1, 2]", "z")], "ll"))
    assert "{}[1, 2] & z" in text


def test_escaping_is_done_once() -> None:
    assert escape_markdown("a < b & c") == "a &lt; b &amp; c"
    assert escape_latex("\\textbf{x}") == "\\textbackslash{}textbf\\{x\\}"


# --- files -------------------------------------------------------------------------------------


def test_names_of_files_are_plain_and_apart() -> None:
    names: set[str] = set()
    found = [unused(n, names) for n in ("a/../b", "A-..-B", "中文", "x" * 300, "..", "con fig")]
    assert found == ["a-..-b", "A-..-B-2", "figure", "x" * 80, "figure-2", "con-fig"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("figures")
    run = make_run(folder / "demo", rows=20, stages=("curate", "sft", "reward", "ppo", "evaluate"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure_png, "way", lambda: None)
        files = write_figures([run], ReportConfig(), folder / "out")
    return run, {path.name: path.read_text("utf-8") for path in files}


def test_every_chart_and_table_of_a_run_is_written(written: tuple[Path, dict[str, str]]) -> None:
    run, files = written
    names = [name for name in files if name.endswith(".svg")]
    metrics = [metric["name"] for metric in read_summary(run)["metrics"]]
    wanted = {
        *(f"{kind}-{m}.svg" for m in metrics for kind in ("scores", "difference", "histogram")),
        *(f"slices-{by}-{m}.svg" for m in metrics for by in ("language", "category")),
        "curve-sft-loss.svg", "curve-ppo-kl.svg", "curve-ppo-entropy.svg", "accuracy-reward.svg",
        "calibration-reward.svg",
    }  # fmt: skip
    assert wanted <= set(names)
    assert any(name.startswith("funnel-") for name in names)
    tables = {"scores", "differences", "slices-language", "training", "funnel"}
    assert {f"table-{t}{s}" for t in tables for s in (".md", ".tex")} <= files.keys()
    for name in names:
        parsed(files[name])
    for name, text in files.items():
        if name.endswith(".tex"):
            check_latex(text)


def judged_summary() -> dict[str, Any]:
    """A judge, two raters, and labels with a confusion table."""
    pair = {"model": "ppo", "baseline": "sft", "win_rate": 0.625, "low": 0.5, "high": 0.75,
            "p_value": 0.0004, "verdict": "better"}  # fmt: skip
    labels = [{"label": name, "f1": 0.5, "rows": 4} for name in ("yes", "no_&_%")]
    return {
        "models": [{"name": "sft", "label": "SFT"}, {"name": "ppo", "label": "PPO"}],
        "metrics": [{"name": "macro_f1", "label": "Macro F1", "format": "percent"}],
        "details": {"macro_f1": {"ppo": {"labels": labels, "confusion": [[3, 1], [0, 4]]}}},
        "judge": {"pairs": [{**pair, "wins": 1200, "ties": 3, "losses": 5, "unread": 2}]},
        "ratings": {
            "win_rates": [{**pair, "votes": 18, "prompts": 9}],
            "agreement": [{"what": "pairs", "alpha": 0.62, "low": 0.4, "high": 0.7, "equal": 0.74,
                           "units": 70, "raters": 2}],
            "judge": [{"what": "pairs", "n": 60, "equal_to_judge": 0.5, "equal_among_people": 0.6,
                       "alpha_with_judge": 0.1}],
            "metrics": [{"metric": "macro_f1", "preferences": {"share": 0.8, "n": 12}}],
        },
    }  # fmt: skip


def test_confusion_tables_are_drawn_with_their_counts() -> None:
    (figure,) = confusion_figures(judged_summary())
    assert figure.name == "confusion-macro_f1-1"
    shown = texts(figure.svg)
    assert shown.count("yes") == 2 and shown.count("no_&_%") == 2
    assert [text for text in shown if text.isdigit()] == ["3", "1", "0", "4"]
    fills = [
        float(node.get("fill-opacity", 0))
        for node in parsed(figure.svg).iter(f"{SVG}rect")
        if node.get("fill") == colours()["s2"]
    ]
    # The more of its row, the darker: 3/4, 1/4, 0, 1.
    assert fills[2] < fills[1] < fills[0] < fills[3]


def test_what_judge_and_people_said_becomes_tables() -> None:
    found = {table.name: table for table in judged_tables(judged_summary())}
    assert list(found) == [
        "judge-pairs", "people-pairs", "people-agreement", "people-judge", "people-metrics",
    ]  # fmt: skip
    rows = {name: [cell.text for cell in table.rows[0]] for name, table in found.items()}
    assert rows["judge-pairs"][:7] == [
        "PPO against SFT", "62.5 % [50.0, 75.0]", "< 0.001", "1,200", "3", "5", "2",
    ]  # fmt: skip
    assert rows["people-pairs"][-1] == "18"
    assert rows["people-agreement"] == ["pairs of answers", "0.62 [0.40, 0.70]", "74 %", "70"]
    assert rows["people-judge"][1:3] == ["50 %", "60 %"]
    assert rows["people-metrics"][:2] == ["Macro F1", "80 %"]
    for table in found.values():
        assert all(len(row) == len(table.head) == len(table.align) for row in table.rows)
        check_latex(latex(table))
        assert len(markdown(table).splitlines()) == 4 + len(table.rows)


def test_a_ring_has_an_arc_for_every_verb_and_object() -> None:
    verbs = [
        {"verb": "write", "count": 60, "nouns": [["poem", 30], ["<b>", 20]]},
        {"verb": "名", "count": 40, "nouns": [["城市", 40]]},
    ]
    svg = figure_sunburst.ring("How", "note", verbs)
    paths = list(parsed(svg).iter(f"{SVG}path"))
    assert len(paths) == 5
    moved = {node.get("transform") for node in paths}
    assert len(moved) == 1 and "translate(320.00" in str(moved)
    shown = texts(svg)
    assert {"write", "poem", "<b>", "名", "城市"} <= set(shown)
    # Objects take the share of the circle that their rows are of all rows: 40 of 100 is 144°.
    (start, end) = re.findall(r"A252 252 0 \d 1 ([-\d. ]+)|M([-\d. ]+)L", paths[4].get("d", ""))
    angle = [math.degrees(math.atan2(float(x), -float(y))) % 360 for x, y in (
        (start[1] or start[0]).split(), (end[1] or end[0]).split()
    )]  # fmt: skip
    assert (angle[1] - angle[0]) % 360 == pytest.approx(144, abs=0.5)


def test_pictures_say_the_scores_of_the_summary(written: tuple[Path, dict[str, str]]) -> None:
    run, files = written
    summary = read_summary(run)
    shown = texts(files["scores-exact_match.svg"])
    for score in summary["scores"]:
        if score["metric"] == "exact_match":
            assert any(text.startswith(f"{100 * score['value']:.1f} %") for text in shown)
    table = files["table-scores.md"]
    rows = [unescaped(line) for line in table.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[2:]] == [model["label"] for model in summary["models"]]


def test_runs_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure_png, "way", lambda: None)
    runs = make_sweep(tmp_path / "sweep", rows=8, seeds=(1, 2))
    files = write_figures(runs, ReportConfig(), tmp_path / "out")
    names = {path.name for path in files}
    assert {
        "runs-exact_match.svg", "sweep-ppo-reward-by-learning_rate.svg", "table-effects.tex",
        "table-settings.md", "table-changes.md", "table-runs.tex",
    } <= names  # fmt: skip
    assert any(name.startswith("mean-ppo-score") for name in names)
    effects = (tmp_path / "out/table-effects.md").read_text("utf-8")
    assert "learning\\_rate" in effects
    for path in files:
        if path.suffix == ".svg":
            parsed(path.read_text("utf-8"))
        if path.suffix == ".tex":
            check_latex(path.read_text("utf-8"))


def test_pictures_speak_the_language_of_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figure_png, "way", lambda: None)
    run = make_run(tmp_path / "r", rows=6, stages=("evaluate",))
    write_figures([run], ReportConfig(language="zh"), tmp_path / "out")
    assert "区间" in (tmp_path / "out/scores-reward.svg").read_text("utf-8")


def test_without_a_way_to_png_a_line_says_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(figure_png, "way", lambda: None)
    run = make_run(tmp_path / "r", rows=4, stages=("evaluate",))
    page, out = tmp_path / "page.html", tmp_path / "out"
    assert main(["report", str(run), "--output", str(page), "--figures", str(out)]) == 0
    said = capsys.readouterr()
    assert "espalier[figures]" in said.out + said.err
    assert page.is_file() and not list(out.glob("*.png"))


def size_of(path: Path) -> tuple[int, int]:
    """Width and height from the header of a PNG file."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR"
    width, height = struct.unpack(">II", data[16:24])
    return int(width), int(height)


@pytest.mark.parametrize(
    "how",
    ["resvg", pytest.param("chromium", marks=[pytest.mark.slow, pytest.mark.ci_slice])],
)
def test_png_files_are_as_large_as_the_drawing(tmp_path: Path, how: str) -> None:
    missing = {
        "resvg": figure_png.importlib.util.find_spec("resvg_py") is None,
        "chromium": figure_png.importlib.util.find_spec("playwright") is None
        or figure_png.chromium() is None,
    }
    if missing[how]:
        pytest.skip(f"{how} is not installed")
    svg = figure_bars.bars("Exact match 精确匹配", "", bar_rows([("a", 1.0, 0.5, 1.5, "1.0")]))
    path = tmp_path / "x.png"
    figure_png.write_pngs([(svg, path)], how)
    root = parsed(svg)
    wanted = tuple(figure_png.ZOOM * float(root.get(name, 0)) for name in ("width", "height"))
    assert size_of(path) == wanted
    assert path.stat().st_size > 2000


WRONG = [
    (["--data", "{run}", "--figures", "{out}"], "--figures goes with runs"),
    (["{run}", "--figures", "{file}"], "--figures names a file"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[m for _, m in WRONG])
def test_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    places = {"run": make_run(tmp_path / "r", rows=2, stages=("evaluate",)),
              "out": tmp_path / "out", "file": tmp_path / "file"}  # fmt: skip
    places["file"].write_text("x", encoding="utf-8")
    page = ["--output", str(tmp_path / "page.html")]
    assert main(["report", *(a.format(**places) for a in arguments), *page]) == 2
    assert message in capsys.readouterr().err
