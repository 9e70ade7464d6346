"""Keyword and safety lists: whole words of Latin, parts of Chinese; dropped or marked."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from espalier.curate.config_filters import FilterConfig
from espalier.curate.filters import rule_step
from espalier.curate.pipeline import Ledger
from espalier.curate.terms import TermList, read_terms, term_files, term_flags, term_rules
from espalier.errors import InputError, UsageError
from espalier.records import Example
from espalier.text import language


def through(row: Example, resolve: Any = Path, **options: Any) -> tuple[list[Example], Any, Any]:
    config = FilterConfig(**options)
    handle = io.StringIO()
    ledger = Ledger("test", handle)
    steps = [
        ("terms", rule_step(term_rules(config, resolve))),
        ("marks", term_flags(config, resolve)),
    ]
    kept = list(ledger.through([row], steps))
    rejects = [json.loads(line) for line in handle.getvalue().splitlines()]
    return kept, rejects, ledger.tallies[1].changed


@pytest.mark.parametrize(
    ("term", "text", "found"),
    [
        ("art", "Modern ART, they say", True),
        ("art", "a party", False),
        ("art", "state-of-the-art", True),
        ("python", "用Python写程序", True),
        ("python", "用pythonic的方式", False),
        ("New York", "in new york city", True),
        ("New York", "new yorkers", False),
        ("C++", "Write C++ code", True),
        ("C++", "Write C code", False),
        ("色情", "这是色情网站", True),
        ("色情", "色彩与情感", False),
        ("ABC", "ａｂｃ 公司", True),
        ("AI换脸", "用ai换脸软件", True),
        ("★", "five ★", True),
        ("naïve", "a NAÏVE view", True),
        ("", "anything", False),
    ],
)
def test_what_counts_as_a_term(term: str, text: str, found: bool) -> None:
    assert bool(TermList({"x": [term]}).hits(text)) is found


@pytest.mark.parametrize(
    ("terms", "prompt", "answer"),
    [
        ({"en": ["competitor"]}, "Who is your Competitor?", "Nobody."),
        ({"zh": ["竞品"]}, "你们的竞品是谁？", "没有。"),
    ],
)
def test_keywords_are_dropped_or_marked(
    terms: dict[str, list[str]], prompt: str, answer: str
) -> None:
    row = Example.single(prompt, answer)
    (term,) = next(iter(terms.values()))
    kept, rejects, _ = through(row, keywords={"terms": terms})
    assert kept == []
    assert rejects[0]["rule"] == "keyword"
    assert rejects[0]["evidence"].startswith(f"“{term}” ({next(iter(terms))}) in the prompt: …")
    kept, rejects, changed = through(row, keywords={"terms": terms, "action": "flag"})
    assert kept == [row.with_meta(keywords=[term])]
    assert (rejects, changed) == ([], {"keyword": 1})
    kept, _, _ = through(row, keywords={"terms": terms, "fields": "answer"})
    assert kept == [row]


def test_lists_from_files(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("# remark\nalpha # why\n\n贝塔\n", encoding="utf-8")
    (tmp_path / "words.yaml").write_text("first:\n  en: [gamma]\n  zh: [德尔塔]\nother: [eps]\n")
    assert read_terms(tmp_path / "words.txt") == {"words": ["alpha", "贝塔"]}
    assert read_terms(tmp_path / "words.yaml") == {"first": ["gamma", "德尔塔"], "other": ["eps"]}
    for word in ("Alpha", "贝塔", "gamma", "德尔塔"):
        files = {"files": ["words.txt", "words.yaml"]}
        row = Example.single("Say it", f"So: {word}.")
        _, rejects, _ = through(row, lambda name: tmp_path / name, keywords=files)
        assert rejects[0]["rule"] == "keyword"
    config = FilterConfig(keywords={"files": ["a"]}, safety={"files": ["b"]})  # type: ignore[arg-type]
    assert term_files(config) == ["a", "b"]
    assert term_files(FilterConfig()) == []
    for name, text, words in (
        ("number.yaml", "a: [1]", "group 'a'"),
        ("text.yaml", "hello", "the file"),
        ("broken.yaml", "a: [", "not valid YAML"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=words):
            read_terms(tmp_path / name)
    with pytest.raises(InputError, match="can't be read"):
        read_terms(tmp_path / "nowhere.txt")


@pytest.mark.parametrize(
    ("prompt", "category"),
    [
        ("How do people build a pipe bomb?", "weapons"),
        ("怎样自制炸弹？", "weapons"),
        ("I am thinking of suicide.", "self_harm"),
        ("我有点想不开，想自杀。", "self_harm"),
        ("Write a phishing mail to my colleagues.", "cyber"),
        ("帮我写一封钓鱼邮件。", "cyber"),
    ],
)
def test_unsafe_topics_are_marked_by_category(prompt: str, category: str) -> None:
    row = Example.single(prompt, "I would rather talk about something else.")
    kept, rejects, changed = through(row, safety={})
    assert (rejects, changed) == ([], {"safety_term": 1})
    assert kept[0].meta["safety"] == [category]
    kept, rejects, _ = through(row, safety={"action": "drop"})
    assert (kept, rejects[0]["rule"]) == ([], "safety_term")
    kept, _, _ = through(row, safety={"categories": ["hate"]})
    assert kept == [row]


def test_ordinary_rows_are_not_marked() -> None:
    for prompt in (
        "Summarise the skills section of my CV.", "How do I kill a process in Linux?",
        "Explain how plants drink.", "请介绍一下北京的历史。", "如何提高写作水平？",
    ):  # fmt: skip
        row = Example.single(prompt, "Gladly: …")
        assert through(row, safety={})[0] == [row]


def test_the_built_in_list_is_bilingual() -> None:
    groups = read_terms(Path(__file__).resolve().parents[1] / "curate" / "terms" / "safety.yaml")
    assert len(groups) >= 8
    for terms in groups.values():
        assert {language(term) for term in terms} == {"en", "zh"}
        assert len(terms) == len(set(terms))


def test_an_unknown_category_is_an_error() -> None:
    with pytest.raises(UsageError, match="no category 'cheese'"):
        term_rules(FilterConfig(safety={"categories": ["cheese"]}))  # type: ignore[arg-type]


def test_a_remark_begins_a_line_or_follows_white_space(tmp_path: Path) -> None:
    path = tmp_path / "terms.txt"
    path.write_text("# languages\nC#  # not C\nF#\t#\n  #all\nperl\nC\uff03\n", encoding="utf-8")
    assert read_terms(path) == {"terms": ["C#", "F#", "perl", "C\uff03"]}
