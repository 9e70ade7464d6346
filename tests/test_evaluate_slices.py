"""The parts of a set, its clusters, and comparisons within the parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from espalier.errors import InputError
from espalier.evaluate import slices
from espalier.evaluate.clusters import cluster_ids, summed
from espalier.evaluate.config_compare import CompareConfig
from espalier.evaluate.evalset import EvalSet, Row
from espalier.evaluate.metric import Metric, Scored
from espalier.evaluate.significance import Analysis, Column, holm
from espalier.evaluate.slice_scores import slice_comparisons, slice_scores
from espalier.records import Message


def row(index: int, prompt: str, **meta: Any) -> Row:
    language = "zh" if not prompt.isascii() else "en"
    category = str(meta.get("category", ""))
    return Row(f"r{index}", (Message("user", prompt),), "x", language, category, meta, ())


def make_set(rows: list[Row]) -> EvalSet:
    return EvalSet("s", "s.jsonl", "0" * 64, tuple(rows))


def test_labels_of_language_category_and_meta() -> None:
    evalset = make_set(
        [
            row(0, "one", category="a", tags=["x", "b"], level=1, source="web"),
            row(1, "一二", category="b", level=2),
            row(2, "three", level=True, source=7),
        ]
    )
    assert slices.labels_of(evalset, "language") == ["en", "zh", "en"]
    assert slices.labels_of(evalset, "category") == ["a", "b", ""]
    assert slices.labels_of(evalset, "tags") == ["b, x", "", ""]
    assert slices.labels_of(evalset, "level") == ["1", "2", "True"]
    assert slices.labels_of(evalset, "source") == ["web", "", "7"]
    with pytest.raises(InputError, match="no_such") as error:
        slices.check_fields(evalset, CompareConfig(slices=["no_such"]))
    assert "level" in str(error.value)
    with pytest.raises(InputError, match="document"):
        slices.check_fields(evalset, CompareConfig(cluster="document"))


def test_length_counts_words_and_characters_alike() -> None:
    prompts = ["a b", "一二", "a b c d e", "一二三四五", "a b c d e f g h", "一二三四五六七八"]
    labels = slices.labels_of(make_set([row(i, p) for i, p in enumerate(prompts)]), "length")
    assert labels[0] == labels[1] and labels[2] == labels[3] and labels[4] == labels[5]
    assert len(set(labels)) == 3 and "2–2" in labels[0] and "8–8" in labels[5]


def test_thirds_keep_equal_values_together_and_hold_a_third_each() -> None:
    values = [float(v) for v in np.random.default_rng(1).permutation(90)]
    labels = slices.thirds(values)
    order = [labels[values.index(float(v))] for v in range(90)]
    assert order == [order[0]] * 30 + [order[30]] * 30 + [order[60]] * 30
    assert sorted(set(order)) == list(dict.fromkeys(order))  # sorted names are in order
    assert slices.thirds([3.0, 3.0, 3.0, 3.0, None]) == ["1 low: 3–3"] * 4 + [""]
    assert slices.thirds([None, None]) == ["", ""]


def test_a_rule_names_a_third_without_its_limits() -> None:
    labels = ["1 low: 3–9", "2 middle: 10–12", "high"]
    assert slices.slice_named("low", labels) == "1 low: 3–9"
    assert slices.slice_named("2 middle: 10–12", labels) == "2 middle: 10–12"
    assert slices.slice_named("high", labels) == "high"
    assert slices.slice_named("middle", labels[:1]) is None
    assert slices.slice_named("1 low", labels) is None


def test_numbers_of_many_values_are_cut_into_thirds() -> None:
    rows = [row(i, "p", score=i / 10 if i else None) for i in range(31)]
    labels = slices.labels_of(make_set(rows), "score")
    assert labels[0] == "" and [labels.count(name) for name in sorted(set(labels))] == [
        1,
        10,
        10,
        10,
    ]


def test_masks_are_the_largest_slices_and_none_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = ["b", "a", "", "b", "c", "b", "a"]
    assert {k: v.tolist() for k, v in slices.masks_of(labels).items()} == {
        name: [label == name for label in labels] for name in ("a", "b", "c")
    }
    assert slices.masks_of(["a", "a", ""]) == {}
    monkeypatch.setattr(slices, "MAX_SLICES", 2)
    assert list(slices.masks_of(labels)) == ["a", "b"]


def test_clusters_are_equal_prompts_or_a_meta_field() -> None:
    evalset = make_set(
        [
            row(0, "What is 3 + 4?", document="d1"),
            row(1, "What is 3 - 4?", document="d1"),
            row(2, " What  is 3 + 4?\n"),
            row(3, "Other"),
        ]
    )
    by_prompt = cluster_ids(slices.cluster_keys(evalset, "prompt"))
    assert by_prompt is not None and by_prompt.tolist() == [0, 1, 0, 2]
    by_document = cluster_ids(slices.cluster_keys(evalset, "document"))
    assert by_document is not None and by_document.tolist() == [0, 0, 1, 2]
    assert cluster_ids(slices.cluster_keys(evalset, None)) is None
    table = np.arange(8.0).reshape(4, 2)
    assert summed(table, by_prompt).tolist() == [[4.0, 6.0], [2.0, 3.0], [6.0, 7.0]]
    assert summed(table, None) is table


def metric_named(name: str, **options: Any) -> Metric:
    return Metric(name, name, True, "number", name, "A test.", **options)


def scored(name: str, columns: dict[str, list[float | None]], **options: Any) -> Scored:
    metric = metric_named(name, **options)
    made = {model: Column.of_means(values) for model, values in columns.items()}
    return Scored(metric, made, dict(columns))


def test_slices_are_scored_and_compared_as_sets_of_their_own() -> None:
    generator = np.random.default_rng(5)
    labels = ["en"] * 30 + ["zh"] * 20
    base = [float(v) for v in generator.normal(size=50)]
    model: list[float | None] = [v + float(generator.normal(0.4, 1)) for v in base]
    model[3] = None
    columns: dict[str, list[float | None]] = {"base": list(base), "model": model}
    metrics = [
        scored("m", columns),
        scored("plain", columns, tested=False),
        scored("whole", columns, slices=False),
        # Taken on other texts than the set's.
        Scored(metric_named("corpus"), {"base": Column.of_means([1.0, 2.0])}),
    ]
    parts = {"language": slices.masks_of(labels)}
    found = {
        (item["metric"], item["value"], item["model"]): item
        for item in slice_scores(parts, metrics)
    }
    assert {key[0] for key in found} == {"m", "plain"}
    english = found["m", "en", "model"]
    known = [v for v in model[:30] if v is not None]
    assert english["n"] == 29 and english["score"] == pytest.approx(sum(known) / 29)

    settings: dict[str, Any] = {
        "resamples": 500, "permutations": 2000, "confidence": 0.95, "seed": 3
    }  # fmt: skip
    compared = slice_comparisons(parts, metrics, "base", Analysis(**settings))
    assert [(c["metric"], c["value"], c["model"]) for c in compared] == [
        ("m", "en", "model"),
        ("m", "zh", "model"),
    ]
    alone = [
        Analysis(**settings).compare([(Column.of_means(base[s]), Column.of_means(model[s]))])[0]
        for s in (slice(0, 30), slice(30, 50))
    ]
    for item, one in zip(compared, alone, strict=True):
        assert (item["difference"], item["low"], item["n"]) == (one.difference, one.low, one.n)
        assert item["p_uncorrected"] == one.p_value
    assert [c["p_value"] for c in compared] == holm([one.p_value or 1.0 for one in alone])


def test_contradicting_options_are_refused() -> None:
    with pytest.raises(ValidationError, match="'language' twice"):
        CompareConfig(slices=["language", "length", "language"])
    assert CompareConfig(slices=[]).slices == []
    with pytest.raises(ValidationError):
        CompareConfig(power=1.0)
