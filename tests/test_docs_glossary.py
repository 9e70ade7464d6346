"""The glossary: one meaning a term, and the report's own words in Chinese."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
STRINGS = ROOT / "reports" / "assets" / "strings"
# Words of the page that mean something else there.
ELSEWHERE = {
    "rating.en: rating.criterion_kind",  # how a criterion is answered
    "sweep.en: section.answer",  # to the question of the sweep
}
HAN = re.compile(r"[\u4e00-\u9fff]")


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "English"]


def said() -> dict[str, dict[str, str]]:
    """English words of the report, in lower case: key -> its Chinese."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(STRINGS.glob("*.en.yaml")):
        english = yaml.safe_load(path.read_text(encoding="utf-8"))
        chinese = yaml.safe_load(
            path.with_name(path.name.replace(".en.", ".zh.")).read_text("utf-8")
        )
        for key, text in english.items():
            found.setdefault(str(text).lower(), {})[f"{path.stem}: {key}"] = str(chinese[key])
    return found


def test_every_term_has_both_names_and_both_meanings() -> None:
    assert len(rows()) > 50
    for row in rows():
        assert len(row) == 4, row
        english, chinese, meaning, same = row
        assert english and not HAN.search(english), row
        assert HAN.search(chinese) and HAN.search(same), row
        assert meaning.endswith(".") and same.endswith("。"), row
    names = [row[0].lower() for row in rows()]
    assert len(names) == len(set(names))


def test_the_report_uses_the_same_chinese() -> None:
    words = said()
    both = 0
    other = {}
    for english, chinese, _, _ in rows():
        allowed = chinese.split("；")
        for key, text in words.get(english.lower(), {}).items():
            both += 1
            if text not in allowed and key not in ELSEWHERE:
                other[key] = f"{english}: {text}, here {chinese}"
    assert both > 25
    assert other == {}


@pytest.mark.parametrize("page", ["docs/glossary.md", "README.zh-CN.md"])
def test_chinese_text_has_chinese_punctuation(page: str) -> None:
    """No half-width comma, semicolon or colon between two Chinese characters."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert re.findall(r"[\u4e00-\u9fff][,;:?!][\u4e00-\u9fff]", text) == []
