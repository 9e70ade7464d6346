"""The document around a page: the languages in it, and the pieces that it is written in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_reports_page import Page, script

from espalier.reports.shell import difference, document, spoken
from espalier.reports.strings import LANGUAGES, speaking, t, words

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xy", max_size=2), inner),
    max_leaves=12,
)


def applied(value: Any, change: Any) -> Any:
    """What the page's script does with a difference, written a second time."""
    if change is None:
        return value
    if "to" in change:
        return change["to"]
    if isinstance(value, list):
        return [applied(one, change["at"].get(str(i))) for i, one in enumerate(value)]
    return {key: applied(one, change["at"].get(key)) for key, one in value.items()}


@settings(max_examples=300, deadline=None)
@given(VALUES, VALUES)
def test_a_difference_turns_one_into_the_other(one: Any, other: Any) -> None:
    change = json.loads(json.dumps(difference(one, other)))
    assert json.dumps(applied(one, change)) == json.dumps(other) or applied(one, change) == other
    assert difference(one, one) is None


def test_only_what_differs_is_written() -> None:
    one = {"strings": {"a": "x", "b": "y"}, "numbers": list(range(1000))}
    other = {"strings": {"a": "x", "b": "z"}, "numbers": list(range(1000))}
    assert difference(one, other) == {"at": {"strings": {"at": {"b": {"to": "z"}}}}}
    # A truth value is no number, though Python calls them equal.
    assert difference({"a": 1}, {"a": True}) == {"at": {"a": {"to": True}}}


@pytest.mark.parametrize("first", [None, "en", "zh"])
def test_the_first_language_is_the_one_of_the_document(first: Any) -> None:
    order = spoken(first)
    assert sorted(order) == sorted(LANGUAGES) and order[0] == (first or "en")
    contents, cores = {}, {}
    for language in order:
        with speaking(language):
            contents[language] = f"<main>{t('section.answers')}</main>"
        cores[language] = {"strings": words(language)}
    pieces = document(
        title="A <title>", contents=contents, cores=cores, packed=[("packed-x", iter(["ab", "c"]))],
        scripts=("dom.js",), styles=("page.css",), fixed=first is not None,
    )  # fmt: skip
    page = Page("".join(pieces))
    html = page.attributes("html")[0]
    assert html["lang"] == order[0] and ("data-fixed-language" in html) == (first is not None)
    assert words(order[0])["section.answers"] in "".join(page.text)
    assert words(order[1])["section.answers"] not in "".join(page.text)
    assert script(page, "packed-x") == "abc"
    told = json.loads(script(page, f"core-{order[1]}"))["difference"]
    assert applied(cores[order[0]], told) == cores[order[1]]


def test_characters_that_turn_the_direction_stay_out_of_sentences() -> None:
    said = t("verdict.better", model="\u202eevil\u2069", baseline="b")
    assert said == "evil beats b"
