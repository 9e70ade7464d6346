"""Tagged spans: each form of writing them, and F1 worked by hand."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from evaluate_rows import made_set

from espalier.errors import InputError
from espalier.evaluate.config_metrics import EntityConfig
from espalier.evaluate.entities import form_of, read_spans, score_entities

SPANS = Counter({("PER", "Ada Lovelace"): 1, ("LOC", "London"): 2})
WRITTEN = {
    "json": json.dumps(
        [
            {"text": "Ada Lovelace", "type": "PER"},
            {"entity": "London", "label": "LOC"},
            {"text": "London ", "type": "loc"},
        ]
    ),
    "tags": "<PER>Ada  Lovelace</PER> was in <LOC>London</LOC>, yes, <LOC>London</LOC>.",
    "brackets": "[Ada Lovelace](PER) was in [London](LOC), yes, [London](loc).",
}


@pytest.mark.parametrize("form", WRITTEN)
def test_every_form_reads_the_same_spans(form: str) -> None:
    assert read_spans(WRITTEN[form], form) == SPANS
    assert form_of(WRITTEN[form]) == form
    fenced = f"Here they are:\n```json\n{WRITTEN['json']}\n```\nDone."
    assert read_spans(fenced, "json") == SPANS
    by_type = {"PER": ["Ada Lovelace"], "LOC": ["London", "London"]}
    assert read_spans(json.dumps({"entities": by_type}), "json") == SPANS


def test_what_is_no_list_of_spans_is_not_taken_for_one() -> None:
    assert read_spans('{"text": "Ada", "type": "PER"}', "json") == Counter({("PER", "Ada"): 1})
    # Texts by type, though their types are called like fields.
    assert read_spans('{"name": ["Ada"], "value": "7"}', "json") == Counter(
        {("NAME", "Ada"): 1, ("VALUE", "7"): 1}
    )
    assert form_of("[]") == "json" and form_of("```json\n[]\n```") == "json"
    assert form_of("def f(x):\n    return [] if x else {}") is None
    rows = made_set(['[{"text": "a", "type": "X"}]', "x = []"])
    assert score_entities(EntityConfig(), rows, {"m": ["[]", "[]"]}).rows["m"] == [0.0, None]


def test_tagged_words_are_places_as_in_conlleval() -> None:
    text = "EU B-ORG\nrejects O\nGerman B-MISC\ncall I-MISC\nNew I-LOC\nYork I-LOC\nParis B-LOC"
    expected = {("ORG", "0-0"): 1, ("MISC", "2-3"): 1, ("LOC", "4-5"): 1, ("LOC", "6-6"): 1}
    assert read_spans(text, "bio") == expected
    assert form_of(text) == "bio"
    assert read_spans("李 S-PER\n去 O\n北 B-LOC\n京 E-LOC\n东 I-LOC", "bio") == {
        ("PER", "0-0"): 1,
        ("LOC", "2-3"): 1,
        ("LOC", "4-4"): 1,
    }
    assert read_spans("no tags here", "bio") is None


def test_f1_is_worked_by_hand() -> None:
    references = [WRITTEN["tags"], "<PER>张三</PER>去<LOC>北京</LOC>", "no entity", None]
    answers = [
        "<PER>Ada Lovelace</PER> <LOC>London</LOC> <LOC>Paris</LOC>",  # 2 of 3 right, of 3
        "<PER>张三</PER>",  # 1 right, of 2
        "<PER>nobody</PER>",  # its row has no tags, so it is not one of them
        "x",
    ]
    scored = score_entities(EntityConfig(), made_set(references), {"m": answers})
    assert scored.rows["m"] == [pytest.approx(2 / 3), pytest.approx(2 / 3), None, None]
    precision, recall = 3 / 4, 3 / 5
    details = scored.details["m"]
    assert (details["precision"], details["recall"]) == (precision, recall)
    f1 = 2 * precision * recall / (precision + recall)
    assert scored.columns["m"].value() == pytest.approx(f1) and details["f1"] == pytest.approx(f1)
    assert details["types"]["LOC"]["recall"] == pytest.approx(1 / 3)
    only = score_entities(EntityConfig(types=["per"]), made_set(references), {"m": answers})
    assert only.columns["m"].value() == 1.0


def test_unreadable_answers_are_counted_and_mistakes_told() -> None:
    rows = made_set(['[{"text": "a", "type": "X"}]', "[]"])
    scored = score_entities(EntityConfig(), rows, {"m": ["I don't know", "[]"]})
    assert scored.rows["m"] == [0.0, 1.0]
    assert scored.details["m"]["unreadable_answers"] == 1
    with pytest.raises(InputError, match="No reference"):
        score_entities(EntityConfig(), made_set(["plain", "text"]), {})
    tagged = made_set(["[]", "no JSON"], categories=["ner", "ner"])
    with pytest.raises(InputError, match="row r1"):
        score_entities(EntityConfig(format="json", category=["ner"]), tagged, {})
