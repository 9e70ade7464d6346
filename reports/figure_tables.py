"""Tables for papers and issues: Markdown (GitHub's tables) and LaTeX (booktabs)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from espalier.reports.figure_svg import plain

# Signs of Markdown that would do something inside a cell.
_MARKDOWN = re.compile(r"([\\`*_|~$#])")
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\char34{}",
    "`": r"\textasciigrave{}", "\u2019": "'", "\u2018": "`", "\u201c": "``", "\u201d": "''",
    "\u2212": "$-$", "\u2013": "--", "\u2014": "---", "\u2026": r"\ldots{}", "\u00b1": r"$\pm$",
    "\u00b7": r"$\cdot$", "\u2191": r"$\uparrow$", "\u2193": r"$\downarrow$",
    "\u2192": r"$\rightarrow$", "\u2248": r"$\approx$", "\u00d7": r"$\times$", "\u00a0": "~",
    "\u2265": r"$\geq$", "\u2264": r"$\leq$", "\u00b0": r"$^\circ$", "\u03c1": r"$\rho$",
    "\u03c4": r"$\tau$", "\u03c3": r"$\sigma$", "\u03ba": r"$\kappa$", "\u03bb": r"$\lambda$",
    "\u03b2": r"$\beta$", "\u03b3": r"$\gamma$", "\u03b5": r"$\varepsilon$", "\u03bc": r"$\mu$",
    "\u0394": r"$\Delta$", "\u00b5": r"$\mu$", "\u03b1": r"$\alpha$", "\u25b2": r"$\blacktriangle$",
    "\u25bc": r"$\blacktriangledown$",
}  # fmt: skip
# Signs that LaTeX would join: -- to a dash, '' and ,, to quotation marks.
_LIGATURE = re.compile(r"([-',])(?=\1)")
_LABEL = re.compile(r"[^A-Za-z0-9.:-]+")
LATEX_HEAD = (
    "% Needs \\usepackage{booktabs}; \\usepackage{amssymb} for signs; text in Chinese needs "
    "xelatex or lualatex with \\usepackage{ctex}, other scripts these with a font that has them.\n"
)


@dataclass(frozen=True)
class Cell:
    """A text of a table; `best` is set in bold."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table with a name for its files, a title, column heads and rows; `align` has a letter a
    column, as in LaTeX: l for words, r for numbers."""

    name: str
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    align: str


def cells(*texts: str) -> list[Cell]:
    """Plain cells."""
    return [Cell(text) for text in texts]


def markdown(table: Table) -> str:
    """The table with its title above it."""
    lines = [
        f"**{escape_markdown(table.title)}**",
        "",
        _markdown_row([escape_markdown(text) for text in table.head]),
        _markdown_row(["---" if letter == "l" else "---:" for letter in table.align]),
    ]
    for row in table.rows:
        texts = [escape_markdown(cell.text) for cell in row]
        pairs = zip(texts, row, strict=True)
        lines.append(_markdown_row([f"**{t}**" if c.best and t else t for t, c in pairs]))
    return "\n".join(lines) + "\n"


def _markdown_row(texts: Sequence[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def escape_markdown(text: str) -> str:
    """One line that Markdown shows as it is: no markup, no link, no HTML, no end of the cell."""
    shown = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    shown = _MARKDOWN.sub(r"\\\1", shown)
    return re.sub(r"\](?=[(\[:])", r"\\]", shown)


def latex(table: Table) -> str:
    """A `table` environment with a caption and a label, ruled by booktabs."""
    lines = [
        LATEX_HEAD + "\\begin{table}",
        "\\centering",
        f"\\caption{{{escape_latex(table.title)}}}",
        f"\\label{{tab:{_LABEL.sub('-', table.name)}}}",
        f"\\begin{{tabular}}{{{table.align}}}",
        "\\toprule",
        " & ".join(escape_latex(text) for text in table.head) + r" \\",
        "\\midrule",
    ]
    for row in table.rows:
        texts = [escape_latex(cell.text) for cell in row]
        pairs = zip(texts, row, strict=True)
        shown = [f"\\textbf{{{t}}}" if c.best and t else t for t, c in pairs]
        # A bracket after a line break would be taken for its length.
        lines.append(_guarded(" & ".join(shown)) + r" \\")
    lines += ["\\bottomrule", "\\end{tabular}", "\\end{table}", ""]
    return "\n".join(lines)


def _guarded(row: str) -> str:
    return "{}" + row if row.startswith(("[", "*")) else row


def escape_latex(text: str) -> str:
    """One line that LaTeX sets as it is: no command, no group, no comment, no ligature."""
    apart = _LIGATURE.sub(r"\1\0", plain(text))
    return "".join("{}" if sign == "\0" else _LATEX.get(sign, sign) for sign in apart)
