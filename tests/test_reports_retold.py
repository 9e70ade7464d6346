"""Every sentence that the evaluation can leave for the page has a Chinese one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from espalier.evaluate.coverage import coverage_warnings
from espalier.reports.retold import retell
from espalier.reports.strings import speaking
from espalier.reports.told_warnings import told_warning

EVALUATE = Path(__file__).parents[1] / "evaluate"
# What is put in a place of a sentence.
VALUE = "7"
# What these write goes to a terminal or a file, or is an error.
ELSEWHERE = {"compare.py", "compare_output.py", "training_rows.py"}
# Parts that are put together to sentences which are checked whole, below.
PARTS = {
    "it says nothing of whether an answer is right or good, and words are ours (a Chinese "
    "character is one).",
    f"{VALUE}; read it beside the agreement of the raters, and with the rows that were rated.",
    f" Rows with the same {VALUE} are drawn together.",
}
SPOKEN_TO_THE_TERMINAL = {"print", "require", "info", "warning", "fail", "option"}
# Pieces of one sentence that depend on numbers: the whole, as it can stand on the page.
WHOLE = [
    "The set has only 9 prompts: intervals are wide, and a tie says little.",
    "The set has only 1 prompt: intervals are wide, and a tie says little.",
    "a: 4 rows answer a prompt again; the first answer counts.",
    "a: 4 rows answer a prompt again, 2 of them differently; the first answer counts.",
    "a: 4 rows give another prompt than the one that they were matched to; left out.",
    "a: 4 rows give another prompt than the one that they were matched to; they count all the "
    "same.",
    "12 comparisons with sft need `permutations: 5000` at least: with fewer, corrected p-values "
    "can't be small enough for a verdict other than a tie.",
    "12 comparisons in the slices of language need `resamples: 5000` at least: with fewer, "
    "corrected p-values can't be small enough for a verdict other than a tie.",
    "Share of raters who passed answers for safety; read it beside the agreement of the raters, "
    "and with the rows that were rated.",
    "Mean mark by people for honest, 1 to 5; read it beside the agreement of the raters, and with "
    "the rows that were rated.",
]


def told(text: str) -> str:
    with speaking("zh"):
        return retell(text)


def text_of(node: ast.AST) -> str | None:
    """The text that an expression makes, with VALUE where a value stands; None of others."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        parts = (p.value if isinstance(p, ast.Constant) else VALUE for p in node.values)
        return "".join(str(part) for part in parts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = text_of(node.left), text_of(node.right)
        return None if sides == (None, None) else "".join(side or VALUE for side in sides)
    return None


def silent(node: ast.AST) -> Iterator[ast.AST]:
    """Docstrings, and what errors and lines for the terminal say."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr):
            yield first.value
    if isinstance(node, ast.Call):
        called = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if called.endswith("Error") or called in SPOKEN_TO_THE_TERMINAL:
            yield from ast.walk(node)


def sentences(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text("utf-8"))
    done = {part for node in ast.walk(tree) for part in silent(node)}
    for node in ast.walk(tree):
        text = None if node in done else text_of(node)
        if text is not None:
            done.update(ast.walk(node))
            if text.rstrip().endswith(".") and len(text.split()) >= 5:
                yield text


def modules() -> list[Path]:
    return [
        path
        for path in sorted(EVALUATE.glob("*.py"))
        if not path.name.startswith(("config", "cli")) and path.name not in ELSEWHERE
    ]


def test_sentences_of_the_evaluation_are_told_in_chinese() -> None:
    found = [(path.name, text) for path in modules() for text in sentences(path)]
    assert len(found) > 40
    # One place may stand for "", "s" or a whole clause: those are among WHOLE.
    pieces = ("prompt7: intervals", "prompt again7;", "to; 7.", "7 comparisons 7 need")
    open_ones = [
        (name, text)
        for name, text in found
        if told(text) == text and text not in PARTS and not any(one in text for one in pieces)
    ]
    assert open_ones == []


@pytest.mark.parametrize("text", WHOLE)
def test_sentences_of_several_pieces_are_told_in_chinese(text: str) -> None:
    assert told(text) != text


@pytest.mark.parametrize("test", ["permutation", "bootstrap"])
@pytest.mark.parametrize("together", ["", " Rows with the same prompt are drawn together."])
def test_the_method_is_told_whole(test: str, together: str) -> None:
    said = {
        "permutation": "two-sided, by exchanging the two models' answers to a prompt at random",
        "bootstrap": "by paired bootstrap (Koehn 2004), as sacrebleu gives it",
    }[test]
    source = (EVALUATE / "scorecard.py").read_text("utf-8")
    assert f'"{said}"' in source
    text = (
        "Intervals: percentile bootstrap over prompts, paired for differences (Wilson's for "
        f"shares). p-values: {said}, corrected after Holm over all models and metrics compared "
        f"with one baseline.{together}"
    )
    chinese = told(text)
    assert chinese != text and "p-values" not in chinese and "bootstrap" not in chinese
    assert chinese.endswith("一起抽取。") == bool(together)
    assert "exchanging" not in chinese and "sacrebleu gives" not in chinese


def test_metrics_are_called_by_their_labels() -> None:
    """The evaluation's own sentence, with the names of a recipe in it."""
    rows = {"a": 3, "b": 4}
    found = [{"metric": name, "rows": rows, "shared": 3} for name in ("distinct1", "own")]
    [said] = coverage_warnings(found)
    assert "(distinct1, own: a 3, b 4; 3 shared)" in said
    labels = {"metrics": [{"name": "distinct1", "label": "Distinct-1"}]}
    assert told_warning(said, labels) == said.replace("distinct1", "Distinct-1")
    assert told_warning(said, None) == said
    with speaking("zh"):
        chinese = told_warning(said, labels)
    assert chinese.startswith("并非所有模型") and "Distinct-1、own: a 3, b 4" in chinese
