"""`espalier inspect`: what it says of a file, against counts made by hand."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espalier.cli import main
from espalier.errors import InputError
from espalier.inspection import inspect_file, percentiles


def put(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def line(page: str, label: str) -> str:
    """The text beside a label."""
    return next(text for text in page.splitlines() if text.split(" ")[0] == label).split(None, 1)[1]


def table(page: str, name: str) -> list[str]:
    return next(text.split()[1:] for text in page.splitlines() if text.startswith(f"  {name} "))


def test_examples(tmp_path: Path) -> None:
    rows = [{"instruction": "w " * n, "output": "字" * n, "category": "a"} for n in range(1, 101)]
    rows[3]["output"] = 7  # type: ignore[assignment]
    rows[5]["output"] = ""
    rows[8]["output"] = " "
    page = inspect_file(put(tmp_path / "x.jsonl", *rows))
    assert line(page, "format") == "alpaca (examples)"
    assert line(page, "container") == "JSONL"
    assert line(page, "rows") == "97 examples, 3 bad rows"
    assert "50 of the first 50 rows have the fields instruction" in line(page, "because")
    assert line(page, "turns") == "1 turn 100.0 %"
    assert line(page, "categories") == "a 100.0 %"
    kept = [n for n in range(1, 101) if n not in (4, 6, 9)]
    for name in ("prompt", "response"):
        cells = table(page, name)
        assert (cells[0], cells[5]) == ("1", "100")
        assert cells[2] == str(statistics.median_low(kept))
        assert cells[6] == f"{statistics.mean(kept):.1f}"
    assert page.count("\nsample ") == 3
    assert "2 x The field 'output' is empty." in page
    assert "1 x The field 'output' is not text." in page
    assert "first at line 4: found the number 7" in page
    assert "on_bad_row: quarantine" in page
    assert "only lacks its answer stops no curation" in page


def test_languages_turns_and_samples_of_dialogues(tmp_path: Path) -> None:
    def chat(*texts: str) -> dict[str, Any]:
        names = ["human", "gpt"] * len(texts)
        return {
            "conversations": [{"from": a, "value": b} for a, b in zip(names, texts, strict=False)]
        }

    page = inspect_file(
        put(
            tmp_path / "x.jsonl",
            chat("What is this?", "A test."),
            chat("这是什么？", "一个测试。"),
            chat("a", "b", "c", "d"),
            chat("说\u001b[31m红\n色", "好的，没有问题。" * 100),
        )
    )
    assert line(page, "languages") == "en 50.0 %, zh 50.0 %"
    assert line(page, "turns") == "1 turn 75.0 %, 2 turns 25.0 %"
    assert "\u001b" not in page
    assert max(map(len, page.splitlines())) < 300
    numbers = [int(text.split()[1]) for text in page.splitlines() if text.startswith("sample")]
    assert numbers == sorted(numbers)
    assert numbers[0] == 1


def test_pairs(tmp_path: Path) -> None:
    rows = [
        {"prompt": "q", "chosen": "a b c", "rejected": "a", "margin": 1},
        {"prompt": "q", "chosen": "a", "rejected": "a b"},
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"prompt": "q", "chosen": "a", "rejected": "c"},
    ]
    page = inspect_file(put(tmp_path / "x.jsonl", *rows))
    assert line(page, "rows") == "4 preference pairs, 0 bad rows"
    assert line(page, "chosen") == "longer than rejected in 25.0 %"
    assert line(page, "margin") == "known for 1 pairs"
    assert table(page, "chosen")[5] == "3"
    assert "bad rows  " not in page


def test_prompts_without_answers(tmp_path: Path) -> None:
    page = inspect_file(put(tmp_path / "x.jsonl", {"prompt": "a b"}, {"prompt": "c"}))
    assert line(page, "rows") == "2 prompts without answers, 0 bad rows"


def test_the_same_page_each_time(tmp_path: Path) -> None:
    rows = [{"prompt": f"p {n}", "completion": "c"} for n in range(500)]
    path = put(tmp_path / "x.jsonl", *rows)
    assert inspect_file(path) == inspect_file(path)


def test_a_named_format(tmp_path: Path) -> None:
    path = put(tmp_path / "x.jsonl", {"prompt": "q", "chosen": "a", "rejected": "b"})
    assert "the format was named" in inspect_file(path, format="preference")
    with pytest.raises(InputError, match="no dataset format"):
        inspect_file(path, format="nonsense")


@given(st.lists(st.integers(0, 1000), min_size=1), st.integers(0, 100))
def test_percentiles_are_the_nearest_rank(values: list[int], percent: int) -> None:
    expected = np.percentile(values, percent, method="inverted_cdf")
    assert percentiles(values, [percent]) == [expected]


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(tmp_path / "x.jsonl", {"prompt": "q", "completion": "a"})
    assert main(["inspect", str(path)]) == 0
    assert "prompt-completion (examples)" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "y.jsonl")]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_real_data(shared_data: Path) -> None:
    page = inspect_file(shared_data / "hh_rlhf/harmless_test.jsonl.gz")
    assert line(page, "rows") == "2,303 preference pairs, 9 bad rows"
    page = inspect_file(shared_data / "belle_zh/zh_seed_tasks.jsonl")
    assert line(page, "rows") == "175 examples, 0 bad rows"
    assert line(page, "languages").startswith("zh 9")
