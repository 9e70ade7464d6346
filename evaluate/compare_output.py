"""A comparison as text for a terminal, Markdown, CSV, and JUnit XML for a build server.

What comes from data (models, slices, metrics of others) is escaped for the format it goes into.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from espalier.evaluate.table import MARKS, number
from espalier.terminal import columns

COLUMNS = (
    "a", "b", "metric", "by", "value", "format", "higher_is_better", "score_a", "score_b",
    "difference", "low", "high", "p_value", "p_uncorrected", "verdict", "effect", "detectable",
    "detectable_corrected", "wins", "losses", "ties", "n", "n_a", "n_b", "signature",
)  # fmt: skip
_HEAD = (
    "metric",
    "A",
    "B",
    "B - A",
    "p",
    "verdict",
    "effect",
    "detectable",
    "wins/ties/losses",
    "n",
)
_SLICE = 1  # where a slice's name is put in


def signed(value: float | None, format: str) -> str:
    """A difference as shown: with its sign, in points where scores are in per cent."""
    if value is None:
        return "–"
    text = number(value, format)
    return text if text.startswith("-") else f"+{text}"


def p_text(value: float | None) -> str:
    return "–" if value is None else "< .0001" if value < 1e-4 else f"{value:.4f}".lstrip("0")


def _cells(entry: Mapping[str, Any]) -> list[str]:
    style = entry["format"]
    unit = " %" if style == "percent" else ""
    arrow = "" if entry["higher_is_better"] or entry["verdict"] is None else " ↓"
    cells = [f"{entry['label']}{unit}{arrow}", number(entry["a"], style), number(entry["b"], style)]
    if entry["verdict"] is None:
        return [*cells, "–", "–", "not tested", "–", "–", "–", f"{entry['n']:,}"]
    effect = "–" if entry["effect"] is None else f"{entry['effect']:+.2f}"
    counts = "–"
    if "wins" in entry:
        counts = f"{entry['wins']:,}/{entry['ties']:,}/{entry['losses']:,}"
    difference = signed(entry["difference"], style)
    if entry["low"] is not None:
        difference += f" [{signed(entry['low'], style)}, {signed(entry['high'], style)}]"
    detectable = number(entry["detectable"], style)
    return [
        *cells,
        difference,
        p_text(entry["p_value"]),
        f"{MARKS[entry['verdict']]} {entry['verdict']}",
        effect,
        detectable,
        counts,
        f"{entry['n']:,}",
    ]


def _notes(pair: Mapping[str, Any]) -> Iterator[str]:
    """What a reader of the table has to know: rows and metrics that were left out."""
    rows = pair["rows"]
    for key, text in (
        ("only_a", "only A has"),
        ("only_b", "only B has"),
        ("differing", "have another reference in B"),
    ):
        if rows[key]:
            yield f"left out: {rows[key]:,} rows that {text}; {rows['shared']:,} are shared."
    for entry in pair["metrics"]:
        if entry["n_a"] != entry["n"] or entry["n_b"] != entry["n"]:
            yield (
                f"{entry['label']}: compared on {entry['n']:,} rows that both have; A has "
                f"{entry['n_a']:,}, B {entry['n_b']:,}."
            )
    yield from pair["notes"]
    for left in pair["left_out"]:
        yield f"{left['metric']} is not compared: {left['reason']}."


def rule_line(outcome: Mapping[str, Any]) -> str:
    """One sentence on a rule: what was found, at which level, and whether it is kept."""
    unit = f" {outcome['unit']}" if outcome["unit"] else ""
    found = "no value"
    if outcome["value"] is not None:
        style = "+.4g" if outcome["of"] == "difference" else ".4g"
        found = f"found {outcome['value']:{style}}{unit}"
        if outcome["low"] is not None:
            level = f"{100 * outcome['level']:g} %"
            found += f" [{outcome['low']:{style}}, {outcome['high']:{style}}] at {level}"
        elif outcome["outcome"] == "undecided":
            found += ", no interval: too few rows"
    return f'{outcome["outcome"]}: {outcome["kind"]} "{outcome["rule"]}": {found}'


def legend(result: Mapping[str, Any]) -> str:
    """What the columns mean, in two sentences."""
    level = f"{100 * result['confidence']:g} %"
    test = "exchange test" if result["test"] == "permutation" else "paired bootstrap"
    return (
        f"[low, high]: {level} interval of B - A; p: {test}, corrected after Holm over the table; "
        "effect: difference in standard deviations of the row differences; detectable: the "
        f"smallest true difference found {100 * result['power']:g} % of the time by one test."
    )


# --- text ------------------------------------------------------------------------------------


def text(result: Mapping[str, Any]) -> str:
    """The comparison for a terminal."""
    lines: list[str] = []
    for pair in result["pairs"]:
        lines.append(f"A: {pair['a']['name']}")
        lines.append(f"B: {pair['b']['name']}   ({pair['rows']['shared']:,} shared rows)")
        lines += _aligned([list(_HEAD), *(_cells(entry) for entry in pair["metrics"])])
        if pair["slices"]:
            table = [_with_slice(list(_HEAD), "slice")]
            table += [_with_slice(_cells(e), f"{e['by']}={e['value']}") for e in pair["slices"]]
            lines += ["", *_aligned(table)]
        lines += [f"note: {note}" for note in _notes(pair)]
        lines.append("")
    lines.append(legend(result))
    for outcome in result["rules"]:
        lines.append(f"{rule_line(outcome)} ({outcome['a']} → {outcome['b']})")
    return "\n".join(_plain(line) for line in lines)


def _with_slice(cells: list[str], name: str) -> list[str]:
    return [*cells[:_SLICE], name, *cells[_SLICE:]]


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    return columns([[_plain(cell) for cell in row] for row in table])


# Also what turns the direction of the text round, and what XML can't hold.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def _plain(text: str) -> str:
    """Without control characters: a name from data must not steer the terminal."""
    return _CONTROL.sub(" ", text)


# --- Markdown --------------------------------------------------------------------------------


def markdown(result: Mapping[str, Any]) -> str:
    """The comparison for a pull request or a job summary."""
    lines: list[str] = []
    if result["rules"]:
        lines += [f"**Gate: {'passed' if result['passed'] else 'failed'}**", ""]
        for one in result["rules"]:
            lines.append(
                f"- {_escaped(rule_line(one))} ({_escaped(one['a'])} → {_escaped(one['b'])})"
            )
        lines.append("")
    for pair in result["pairs"]:
        a, b = _escaped(pair["a"]["name"]), _escaped(pair["b"]["name"])
        lines += [f"### A: {a} · B: {b}", ""]
        lines += _table([list(_HEAD), *(_cells(entry) for entry in pair["metrics"])])
        if pair["slices"]:
            table = [_with_slice(list(_HEAD), "slice")]
            table += [_with_slice(_cells(e), f"{e['by']}={e['value']}") for e in pair["slices"]]
            lines += ["", *_table(table)]
        lines.append("")
        lines += [f"- {_escaped(note)}" for note in _notes(pair)]
        lines.append("")
    return "\n".join([*lines, _escaped(legend(result)), ""])


def _table(table: Sequence[Sequence[str]]) -> list[str]:
    rows = ["| " + " | ".join(_escaped(cell) for cell in row) + " |" for row in table]
    return [rows[0], "|" + "---|" * len(table[0]), *rows[1:]]


def _escaped(text: str) -> str:
    text = _plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|#!~@])", r"\\\1", text)


# --- CSV -------------------------------------------------------------------------------------


def csv_text(result: Mapping[str, Any]) -> str:
    """One line a metric (and slice) of each pair; scores as stored (shares in 0..1)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for pair in result["pairs"]:
        for entry in [*pair["metrics"], *pair["slices"]]:
            row = {
                **entry,
                "score_a": entry["a"],
                "score_b": entry["b"],
                "a": pair["a"]["name"],
                "b": pair["b"]["name"],
            }
            writer.writerow([_csv_cell(row.get(name)) for name in COLUMNS])
    return out.getvalue()


def _csv_cell(value: Any) -> Any:
    # A text that begins like a formula would be run by a spreadsheet.
    if isinstance(value, str):
        value = _plain(value)
        return f"'{value}" if value[:1] in ("=", "+", "-", "@") else value
    return "" if value is None else value


# --- JUnit -----------------------------------------------------------------------------------


def junit(result: Mapping[str, Any]) -> str:
    """One test case a rule and pair: a broken rule is a failure, an undecided one an error."""
    rules = result["rules"]
    failed = sum(one["outcome"] == "failed" for one in rules)
    errors = sum(one["outcome"] == "undecided" for one in rules)
    counts = {"tests": str(len(rules)), "failures": str(failed), "errors": str(errors)}
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": "espalier compare", **counts})
    for one in rules:
        names = {
            "classname": _plain(f"{one['a']} → {one['b']}"),
            "name": _plain(f"{one['kind']} {one['rule']}"),
        }
        case = ElementTree.SubElement(suite, "testcase", names)
        line = _plain(rule_line(one))
        if one["outcome"] == "passed":
            ElementTree.SubElement(case, "system-out").text = line
        else:
            kind = "failure" if one["outcome"] == "failed" else "error"
            ElementTree.SubElement(case, kind, {"message": line}).text = line
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
