"""What is rated in which order, by whom, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rating_fixture import plan_of, rated_run

from espalier.blind import Item
from espalier.rating_store import RatingStore
from espalier.reports.rating_session import Plan, Refused, Session, drawn, turned
from espalier.rubrics import HHH, QUALITY


def item(number: int) -> Item:
    name = f"{number:016x}-1"
    return Item(name, f"p{number}", f"prompt {number}", ("one", "two"), (("m",), ("n",)))


PAIRS = [item(number) for number in range(6)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RatingStore]:
    found = RatingStore(tmp_path / "r.sqlite")
    yield found
    found.close()


def session(store: RatingStore, **options: Any) -> Session:
    return Session(Plan(**{"pairs": PAIRS, "marks": [], "scales": [QUALITY], **options}), store)


def rate(one: Session, rater: str, name: str, verdict: str, uid: str = "") -> None:
    one.save("pairs", rater, {"item": name, "verdict": verdict, "uid": uid or f"{rater}-{name}"})


def test_all_raters_are_asked_in_one_order_and_resume_where_they_were(store: RatingStore) -> None:
    one = session(store)
    seen = []
    while (found := one.following("pairs", "ann"))["item"] is not None:
        name = found["item"]["name"]
        assert found["done"] == len(seen) and found["left"] == 6 - len(seen)
        seen.append(name)
        rate(one, "ann", name, "A")
    assert seen == [pair.name for pair in PAIRS]
    assert one.following("pairs", "bo")["item"]["name"] == seen[0]
    # Another session on the same database, as after a restart, or of another server.
    again = session(store)
    assert again.following("pairs", "ann")["item"] is None
    assert again.following("pairs", "ann")["rated"] == seen
    rate(again, "bo", seen[0], "B")
    assert one.following("pairs", "bo")["item"]["name"] == seen[1]


def test_what_is_passed_over_comes_last(store: RatingStore) -> None:
    one = session(store)
    names = [pair.name for pair in PAIRS]
    assert one.following("pairs", "ann", names[:2])["item"]["name"] == names[2]
    for name in names[2:]:
        rate(one, "ann", name, "tie")
    assert one.following("pairs", "ann", names[:2])["item"]["name"] == names[0]


def test_sides_are_drawn_for_each_rater_and_verdicts_turned_back(store: RatingStore) -> None:
    one = session(store)
    sides = set()
    for rater in ("ann", "bo", "cy", "di"):
        for pair in PAIRS:
            shown = one.item("pairs", rater, pair.name)["item"]
            swap = shown["answers"] == ["two", "one"]
            assert swap == turned(1, rater, pair.name)
            sides.add(swap)
            # Everybody prefers the text "two", wherever it stands.
            rate(one, rater, pair.name, "A" if swap else "B")
            said = one.item("pairs", rater, pair.name)["item"]["mine"]["verdict"]
            assert said == ("A" if swap else "B")
    assert sides == {True, False}
    entries = store.since(0)
    assert {entry.verdict for entry in entries} == {"B"}
    assert [entry.turned for entry in entries] == [turned(1, e.rater, e.item) for e in entries]
    [part] = one.progress()["parts"]
    assert part["agreement"][0]["equal"] == 1 and part["agreement"][0]["alpha"] is None


def test_nothing_that_a_rater_is_shown_tells_the_model(tmp_path: Path) -> None:
    import json

    models = [("secret-one", "x", "stage", 0, 0.2), ("secret-two", "y", "stage", 0, 0.7)]
    run = rated_run(tmp_path / "run", models=models)
    store = RatingStore(tmp_path / "r.sqlite")
    one = Session(plan_of(run), store)
    for part in ("pairs", "quality"):
        text = json.dumps([one.following(part, "ann"), one.about(), one.progress()])
        assert "secret" not in text
    store.close()


def test_an_item_goes_to_as_many_people_as_it_shall(store: RatingStore) -> None:
    one = session(store, raters_per_item=2)
    for rater in ("ann", "bo"):
        rate(one, rater, PAIRS[0].name, "A")
    assert one.following("pairs", "cy")["item"]["name"] == PAIRS[1].name
    assert one.following("pairs", "cy")["left"] == 5
    assert one.following("pairs", "ann")["done"] == 1


def test_agreement_is_krippendorffs(store: RatingStore) -> None:
    """Hand computed: AA, AA, AB on three pairs; alpha = 1 - (n-1) Do / De, nominal.

    Coincidences: A,A 4; A,B 1; B,A 1. n = 6, n_A = 5, n_B = 1: 1 - 5 * 2 / (2 * 5 * 1) = 0.
    """
    one = session(store)
    for number, (ann, bo) in enumerate(["AA", "AA", "AB"]):
        name = PAIRS[number].name
        for rater, verdict in (("ann", ann), ("bo", bo)):
            swap = turned(1, rater, name)
            rate(one, rater, name, {"A": "B", "B": "A"}[verdict] if swap else verdict)
    [part] = one.progress()["parts"]
    [agreed] = part["agreement"]
    assert agreed["alpha"] == pytest.approx(0)
    assert agreed["equal"] == pytest.approx(2 / 3) and agreed["items"] == 3
    assert part["raters"] == [{"name": "ann", "done": 3}, {"name": "bo", "done": 3}]
    assert (part["items"], part["rated"], part["twice"]) == (6, 3, 3)


def test_marks_of_two_rubrics_stand_side_by_side(store: RatingStore) -> None:
    one = session(store, marks=PAIRS[:2], pairs=[], scales=[QUALITY, HHH])
    assert [part["name"] for part in one.about()["parts"]] == ["quality", "hhh"]
    name = PAIRS[0].name
    for rater, accuracy in (("ann", 4), ("bo", 2)):
        marks = {"accuracy": accuracy, "safety": "pass"}
        one.save("quality", rater, {"item": name, "marks": marks, "uid": f"{rater} quality"})
    one.save("hhh", "ann", {"item": name, "marks": {"honest": 1}, "uid": "ann's honest"})
    assert one.item("quality", "ann", name)["item"]["mine"]["marks"] == {
        "accuracy": 4, "safety": "pass"
    }  # fmt: skip
    assert one.item("hhh", "ann", name)["item"]["mine"]["marks"] == {"honest": 1}
    quality, _ = one.progress()["parts"]
    by = {entry["what"]: entry for entry in quality["agreement"]}
    assert by["safety"]["equal"] == 1 and by["accuracy"]["equal"] == 0
    assert by["fluency"]["items"] == 0 and by["accuracy"]["level"] == "ordinal"


@pytest.mark.parametrize(
    ("part", "rater", "value", "message"),
    [
        ("pairs", "", {}, "needs a name"),
        ("pairs", "  ", {}, "needs a name"),
        ("pairs", "x" * 61, {}, "needs a name"),
        ("pairs", "a\u202eb", {}, "needs a name"),
        ("pairs", 7, {}, "needs a name"),
        ("pairs", "ann", {"verdict": "C"}, "verdict"),
        ("pairs", "ann", {"verdict": None}, "verdict"),
        ("pairs", "ann", {"verdict": ["A"]}, "verdict"),
        ("pairs", "ann", {"item": "nope"}, "no such item"),
        ("pairs", "ann", {"uid": "short"}, "uid"),
        ("quality", "ann", {"marks": {}}, "no mark"),
        ("quality", "ann", {"marks": {"accuracy": 6}}, "accuracy"),
        ("quality", "ann", {"marks": {"accuracy": True}}, "accuracy"),
        ("quality", "ann", {"marks": {"accuracy": "4"}}, "accuracy"),
        ("quality", "ann", {"marks": {"safety": "maybe"}}, "safety"),
        ("quality", "ann", {"marks": {"safety": []}}, "safety"),
        ("quality", "ann", {"marks": {"beauty": 3}}, "no such mark"),
        ("hhh", "ann", {"marks": {"honest": 3}}, "nothing of that kind"),
    ],
)
def test_what_is_no_rating_is_refused_and_not_kept(
    store: RatingStore, part: str, rater: Any, value: dict[str, Any], message: str
) -> None:
    one = session(store, marks=PAIRS[:1])
    good = {"item": PAIRS[0].name, "verdict": "A", "uid": "12345678"}
    with pytest.raises(Refused, match=message):
        one.save(part, rater, good | value)
    assert store.since(0) == []


def test_names_comments_and_seconds_are_taken_as_people_type_them(store: RatingStore) -> None:
    one = session(store)
    value = {"item": PAIRS[0].name, "verdict": "tie", "uid": "12345678", "seconds": "x"}
    one.save("pairs", "  李  雷 ", value | {"comment": " bad \ud800 " + "y" * 5000})
    [entry] = store.since(0)
    assert entry.rater == "李 雷" and entry.seconds is None
    assert entry.comment.startswith("bad ? y") and len(entry.comment) <= 4000


def test_what_is_drawn_is_the_seeds_and_no_more_than_asked() -> None:
    one, other = drawn(PAIRS, 1, 4), drawn(PAIRS[::-1], 1, 4)
    assert one == other and len(one) == 4
    assert {tuple(i.name for i in drawn(PAIRS, seed, None)) for seed in range(9)} != {
        tuple(i.name for i in one)
    }
