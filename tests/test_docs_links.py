"""Every link in the documentation leads somewhere: to a file, a folder, a heading."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("README*.md"), ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")])


def prose(page: Path) -> str:
    """A page without its code."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    return re.sub(r"`[^`\n]*`", lambda m: m[0] if "](" in m[0] else "code", text)


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them; a second equal one gets -1."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?)\s*$", text, flags=re.M):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading.replace("`", ""))
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = next(n for n in range(99) if (f"{slug}-{n}" if n else slug) not in found)
        found.add(f"{slug}-{number}" if number else slug)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            wrong.append(f"{link}: no such file")
        elif anchor and anchor not in anchors(target):
            wrong.append(f"{link}: no such heading")
    assert wrong == []


def test_links_and_anchors_are_found() -> None:
    assert sum(len(links(page)) for page in PAGES) > 60
    assert any("#" in link for page in PAGES for link in links(page))
    assert "how-sure-a-difference-is" in anchors(ROOT / "docs" / "evaluation.md")


def test_every_page_is_in_the_index_and_in_both_readmes() -> None:
    pages = {path.name for path in ROOT.glob("docs/*.md")} - {"README.md"}
    for index in ("docs/README.md", "README.md", "README.zh-CN.md"):
        named = {Path(link.partition("#")[0]).name for link in links(ROOT / index)}
        assert pages <= named, index
