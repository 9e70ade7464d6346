"""Labels in answers, and their scores against scikit-learn."""

from __future__ import annotations

import random

import pytest
from evaluate_rows import made_set

from espalier.errors import InputError
from espalier.evaluate.classify import Labels, score_classification
from espalier.evaluate.config_metrics import ClassificationConfig

NAMES = ["positive", "negative", "neutral"]


def test_scores_are_scikit_learns() -> None:
    from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

    generator = random.Random(3)
    truth = generator.choices(NAMES, [6, 3, 1], k=80)
    told = [name if generator.random() < 0.6 else generator.choice([*NAMES, "?"]) for name in truth]
    config = ClassificationConfig(labels=NAMES, find="whole")
    accuracy, macro = score_classification(config, made_set(truth), {"m": told})
    assert accuracy.columns["m"].value() == pytest.approx(accuracy_score(truth, told))
    theirs = f1_score(truth, told, labels=NAMES, average="macro", zero_division=0)
    assert macro.columns["m"].value() == pytest.approx(theirs, abs=1e-12)
    table = precision_recall_fscore_support(truth, told, labels=NAMES, zero_division=0)
    for entry, name, precision, recall, f1, rows in zip(
        macro.details["m"]["labels"], NAMES, *table, strict=True
    ):
        assert entry["label"] == name and entry["rows"] == rows
        found = (entry["precision"], entry["recall"], entry["f1"])
        assert found == pytest.approx((precision, recall, f1), abs=1e-12)
    assert macro.details["m"]["without_label"] == told.count("?")
    # On a part of the rows as well: what a resample or a slice is.
    half = [index < 30 for index in range(80)]
    import numpy as np

    theirs = f1_score(truth[:30], told[:30], labels=NAMES, average="macro", zero_division=0)
    assert macro.columns["m"].value(np.array(half)) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(
    ("answer", "line", "anywhere"),
    [
        ("Positive.", 0, 0),
        ("The answer is: NEGATIVE", 1, 1),
        ("negative, not positive", 1, None),
        ("Neutral\nbecause it is not positive", 2, None),
        ("It seems rather positive to me.", None, 0),
        ("nonpositive", None, None),
        ("", None, None),
        ("both negative and neutral words", None, None),
    ],
)
def test_labels_are_found_as_asked(answer: str, line: int | None, anywhere: int | None) -> None:
    labels = Labels.make(dict.fromkeys(NAMES, ()))
    assert labels.first_line(answer) == line
    assert labels.anywhere(answer) == anywhere


def test_other_spellings_longer_labels_and_chinese() -> None:
    labels = Labels.make({"spam": ["junk"], "not spam": ["ham"], "正面": ["积极"], "负面": []})
    assert labels.anywhere("This is not spam") == 1
    assert labels.anywhere("JUNK!") == 0
    assert labels.first_line("ｓｐａｍ") == 0
    assert labels.anywhere("我觉得这是积极的评价。") == 2
    assert labels.first_line("答案：负面。") == 3
    with pytest.raises(InputError, match="written alike"):
        Labels.make({"Yes": [], "no": ["yes."]})
    with pytest.raises(InputError, match="empty"):
        Labels.make({"yes": [" "]})


def test_rows_with_labels_are_chosen_and_mistakes_told() -> None:
    rows = made_set(["yes", "a poem", "no"], categories=["c", "free", "c"])
    config = ClassificationConfig(category=["c"])
    accuracy, _ = score_classification(config, rows, {"m": ["yes", "yes", None]})
    assert accuracy.rows["m"] == [1.0, None, None]
    free = ClassificationConfig(labels=["yes", "no"])
    assert score_classification(free, rows, {"m": ["no", "no", "No!"]})[0].rows["m"] == [
        0.0,
        None,
        1,
    ]
    for wrong, told in (
        (ClassificationConfig(labels=["maybe"]), "No row"),
        (ClassificationConfig(labels=["yes"], category=["c"]), "row r2"),
        (ClassificationConfig(category=["none"]), "0 different references"),
    ):
        with pytest.raises(InputError, match=told):
            score_classification(wrong, rows, {})


def test_numbers_are_labels_too() -> None:
    config = ClassificationConfig.model_validate({"labels": [1, 2, 3.5]})
    rows = made_set(["1", "3.5", "2"])
    assert score_classification(config, rows, {"m": ["1", "Mark: 3.5", "12"]})[0].rows["m"] == [
        1.0, 1.0, 0.0,
    ]  # fmt: skip


def test_how_macro_f1_is_made_is_found_again_by_its_name() -> None:
    from espalier.evaluate import classify

    _, macro = score_classification(
        ClassificationConfig(labels=NAMES, find="whole"), made_set(NAMES), {"m": NAMES}
    )
    combine = macro.columns["m"].combine
    module, _, name = combine.name.partition(":")
    assert module == "classify" and getattr(classify, name) == combine
    assert not hasattr(classify, "MACRO_F1_x") and not hasattr(classify, "MACRO_F1_0")
