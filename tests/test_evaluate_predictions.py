"""Files of answers made elsewhere: how rows find their prompts, and what is said when not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from espalier.errors import InputError
from espalier.evaluate.evalset import EvalSet, read_set
from espalier.evaluate.matching import Match, Matched
from espalier.evaluate.predictions import read_predictions
from espalier.templates import get_template

TASKS = [
    ("Translate into French.", "Good morning", "Bonjour"),
    ("Translate into French.", "Good night", "Bonne nuit"),
    ("Name a colour.", "", "red"),
    ("把下面的句子改成被动句。", "他打破了杯子。", "杯子被他打破了。"),
    ("Add the numbers: 3 + 4", "", "7"),
]


def write(path: Path, rows: Sequence[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def evalset(tmp_path: Path) -> EvalSet:
    rows = [
        {
            "id": f"task_{index}",
            "instruction": instruction,
            "instances": [{"input": extra, "output": output}],
        }
        for index, (instruction, extra, output) in enumerate(TASKS)
    ]
    return read_set(write(tmp_path / "set.jsonl", rows))


def full(**extra: Any) -> list[dict[str, Any]]:
    return [
        {"instruction": instruction, "input": text, "response": f"answer {index}", **extra}
        for index, (instruction, text, _) in enumerate(TASKS)
    ]


def read(tmp_path: Path, evalset: EvalSet, rows: Sequence[Any], **options: Any) -> Matched:
    return read_predictions(write(tmp_path / "p.jsonl", rows), evalset, **options)


def in_order(matched: Matched, evalset: EvalSet) -> list[str | None]:
    return [matched.answers.get(row.id) for row in evalset.rows]


EXPECTED = [f"answer {index}" for index in range(len(TASKS))]


def test_rows_match_by_instruction_and_input_in_any_order(tmp_path: Path, evalset: EvalSet) -> None:
    matched = read(tmp_path, evalset, list(reversed(full())))
    assert in_order(matched, evalset) == EXPECTED
    assert (matched.how, matched.missing, matched.extra) == ("prompt", 0, 0)
    assert matched.warnings("m") == []


@pytest.mark.parametrize("name", ["prediction", "output", "completion", "answer", "text"])
def test_each_answer_field_is_known(tmp_path: Path, evalset: EvalSet, name: str) -> None:
    rows = [{name if k == "response" else k: v for k, v in row.items()} for row in full()]
    assert in_order(read(tmp_path, evalset, rows), evalset) == EXPECTED


def test_the_answer_comes_before_the_target_and_can_be_named(
    tmp_path: Path, evalset: EvalSet
) -> None:
    rows = full(output="the target", mine="own")
    assert in_order(read(tmp_path, evalset, rows), evalset) == EXPECTED
    named = read(tmp_path, evalset, rows, answer_field="mine")
    assert set(named.answers.values()) == {"own"}


def test_ids_match_first_even_where_prompts_repeat(tmp_path: Path, evalset: EvalSet) -> None:
    rows = [{"id": f"task_{i}", "text": f"answer {i}"} for i in (3, 1, 0, 2, 4)]
    matched = read(tmp_path, evalset, rows)
    assert in_order(matched, evalset) == EXPECTED
    assert matched.how == "id"


def test_ids_that_prompts_contradict_do_not_count(tmp_path: Path, evalset: EvalSet) -> None:
    rows = [{**row, "id": f"task_{(i + 1) % 5}"} for i, row in enumerate(full())]
    matched = read(tmp_path, evalset, rows)
    assert matched.how == "prompt"
    assert in_order(matched, evalset) == EXPECTED


@pytest.mark.parametrize("template", ["alpaca", "alpaca-short", "chatml", "vicuna", "qa"])
def test_templated_prompts_are_found(tmp_path: Path, evalset: EvalSet, template: str) -> None:
    rows = [
        {"prompt": get_template(template).prompt(row.messages, row.meta), "text": f"answer {i}"}
        for i, row in enumerate(evalset.rows)
    ]
    matched = read(tmp_path, evalset, list(reversed(rows)))
    assert in_order(matched, evalset) == EXPECTED


def test_spacing_and_punctuation_of_prompts_do_not_matter(tmp_path: Path, evalset: EvalSet) -> None:
    rows = [
        {"prompt": f"{i.rstrip('.')}  {x}".strip() + " ", "text": f"answer {n}"}
        for n, (i, x, _) in enumerate(TASKS)
    ]
    assert in_order(read(tmp_path, evalset, rows), evalset) == EXPECTED


def test_missing_extra_and_duplicate_rows_are_counted_and_told(
    tmp_path: Path, evalset: EvalSet
) -> None:
    rows = full()[:3]
    rows += [{**rows[0]}, {**rows[1], "response": "another"}]
    rows += [{"instruction": "Sing.", "input": "", "response": "la"}]
    matched = read(tmp_path, evalset, rows)
    assert in_order(matched, evalset) == [*EXPECTED[:3], None, None]
    assert (matched.missing, matched.extra) == (2, 1)
    assert (matched.duplicate, matched.conflicting) == (2, 1)
    told = " ".join(matched.warnings("mine"))
    assert "2 of 5 prompts have no answer" in told and "compared on shared rows" in told
    assert "1 rows answer no prompt of the set" in told
    assert "2 rows answer a prompt again, 1 of them differently; the first answer counts" in told


def test_a_prompt_twice_in_the_set_takes_the_answers_in_turn(tmp_path: Path) -> None:
    rows = [{"prompt": "Say hi.", "completion": text} for text in ("hi", "hello")]
    evalset = read_set(write(tmp_path / "set.jsonl", rows))
    matched = read(tmp_path, evalset, [{"prompt": "Say hi.", "text": t} for t in ("one", "two")])
    assert in_order(matched, evalset) == ["one", "two"]


def test_empty_null_and_very_long_answers_are_answers(tmp_path: Path, evalset: EvalSet) -> None:
    rows = full()
    rows[0]["response"] = ""
    rows[1]["response"] = None
    rows[2]["response"] = "x" * 100_001
    rows[3]["response"] = 12
    rows[4]["response"] = ["first", "second"]
    matched = read(tmp_path, evalset, rows)
    assert in_order(matched, evalset) == ["", "", "x" * 100_001, "12", "first"]
    assert (matched.empty, matched.long, matched.missing) == (2, 1, 0)
    assert "2 answers are empty; they count as answers" in " ".join(matched.warnings("m"))


def test_half_a_character_is_named_with_its_line(tmp_path: Path, evalset: EvalSet) -> None:
    rows = [json.dumps(row) for row in full()]
    rows[1] = rows[1].replace("answer 1", "bad \\ud83d end")
    with pytest.raises(InputError, match=r"surrogate[\s\S]*line 2"):
        read(tmp_path, evalset, rows)


def test_row_order_needs_agreeing_instructions_or_a_word(tmp_path: Path, evalset: EvalSet) -> None:
    partly = [{"instruction": row["instruction"], "text": row["response"]} for row in full()]
    matched = read(tmp_path, evalset, partly)
    assert (matched.how, in_order(matched, evalset)) == ("order", EXPECTED)
    assert "by their order alone" in " ".join(matched.warnings("m"))
    bare = [{"text": row["response"]} for row in full()]
    with pytest.raises(InputError) as caught:
        read(tmp_path, evalset, bare)
    assert "say neither which prompt nor which id" in str(caught.value)
    assert "match: order" in str(caught.value)
    assert in_order(read(tmp_path, evalset, bare, match="order"), evalset) == EXPECTED
    with pytest.raises(InputError, match="4 rows and the set 5"):
        read(tmp_path, evalset, bare[:4], match="order")


def test_other_prompts_are_refused_with_both_first_prompts(
    tmp_path: Path, evalset: EvalSet
) -> None:
    rows = [{"prompt": f"Sing the song number {n} loudly", "text": "la"} for n in range(5)]
    with pytest.raises(InputError) as caught:
        read(tmp_path, evalset, rows)
    message = str(caught.value)
    assert "No row of the predictions file answers a prompt of the set" in message
    assert "translate into french good morning" in message
    assert "sing the song number 0 loudly" in message
    with pytest.raises(InputError, match="give no id"):
        read(tmp_path, evalset, rows, match="id")


@pytest.mark.parametrize("match", ["auto", "id"])
def test_ids_that_the_set_does_not_have_are_shown_beside_its_own(
    tmp_path: Path, evalset: EvalSet, match: Match
) -> None:
    rows = [{"id": number, "text": "la"} for number in range(5)]
    with pytest.raises(InputError, match="No id of the predictions file") as caught:
        read(tmp_path, evalset, rows, match=match)
    message = str(caught.value)
    assert "the first being “task_0”" in message and "the first id is “0”" in message
    assert "match: order" in message
    with pytest.raises(InputError, match="give no prompt"):
        read(tmp_path, evalset, rows, match="prompt")


def test_a_folder_of_predictions_is_read(tmp_path: Path, evalset: EvalSet) -> None:
    from datasets.arrow_dataset import Dataset

    Dataset.from_list(full()).save_to_disk(str(tmp_path / "saved"))
    assert in_order(read_predictions(tmp_path / "saved", evalset), evalset) == EXPECTED


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "empty"),
        ('{"instruction": "Name a colour.", "input": ""}', "has no answer"),
        ('{"prompt": "Name a colour.", "text": {"a": 1}}', "is dict, not text"),
        ('{"prompt": "Name a colour.", "text": "red"\n', "line 1"),
    ],
)
def test_broken_files_are_named_with_their_place(
    tmp_path: Path, evalset: EvalSet, content: str, told: str
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_predictions(path, evalset)
    assert told in str(caught.value)
    assert "p.jsonl" in str(caught.value)


def test_an_absent_file_is_named(tmp_path: Path, evalset: EvalSet) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_predictions(tmp_path / "none.jsonl", evalset)


def test_csv_and_parquet_are_read(tmp_path: Path, evalset: EvalSet) -> None:
    import csv

    with (tmp_path / "p.csv").open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, ["instruction", "input", "response"])
        writer.writeheader()
        writer.writerows(full())
    assert in_order(read_predictions(tmp_path / "p.csv", evalset), evalset) == EXPECTED
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(full()), tmp_path / "p.parquet")
    assert in_order(read_predictions(tmp_path / "p.parquet", evalset), evalset) == EXPECTED


def test_published_files_match_all_their_prompts(shared_data: Path) -> None:
    folder = shared_data / "self_instruct"
    evalset = read_set(folder / "user_oriented_instructions.jsonl", category="motivation_app")
    assert len(evalset) == 252 and evalset.rows[0].category == "Grammarly"
    for path in sorted((folder / "predictions").glob("*.jsonl")):
        records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        matched = read_predictions(path, evalset)
        assert (matched.how, matched.missing, matched.extra) == ("prompt", 0, 0), path.name
        by_target = dict(zip((row.id for row in evalset.rows), records, strict=True))
        for row in evalset.rows:
            assert matched.answers[row.id] == by_target[row.id]["response"]
            assert row.reference == by_target[row.id]["target"]
