"""What is said of a dataset file: against counts by hand, curation, and the model's tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from espalier.curate import dialogues
from espalier.data_facts import SAMPLE, TURN_TOKENS, estimate_tokens, read_data, template_tokens
from espalier.errors import InputError


def write(path: Path, rows: list[Any]) -> str:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def talk(*turns: str) -> dict[str, Any]:
    names = ("human", "gpt")
    return {"conversations": [{"from": names[i % 2], "value": t} for i, t in enumerate(turns)]}


def test_counts_by_hand(tmp_path: Path) -> None:
    path = write(
        tmp_path / "talks.jsonl",
        [
            talk("Name a river.", "The Rhine."),
            talk("name a RIVER", "The Loire."),  # the same prompt, normalised
            talk("Hi.", "Hello.", "Name a river.", "The Rhine."),  # several turns
            talk("说出一条河。", "长江。"),
            {"conversations": [{"from": "human", "value": 3}]},  # bad
            {"conversations": "none"},  # bad
        ],
    )
    facts = read_data(path)
    assert (facts.rows, facts.bad, facts.repeated, facts.several_turns) == (4, 2, 1, 1)
    assert facts.languages == {"en": 3, "zh": 1}
    assert (facts.format, facts.kind, facts.counted) == ("sharegpt", "examples", False)
    # "Name a river." 13 ASCII characters: 4 tokens; "The Rhine." 10: 3 tokens.
    assert facts.lengths[0].whole == 4 + 3 + 2 * TURN_TOKENS
    assert (facts.lengths[0].learnt, facts.lengths[0].answer) == (4, 4)
    # Both answers of the dialogue are learnt; 长江。 is three tokens, 说出一条河。 six.
    assert (facts.lengths[2].learnt, facts.lengths[2].answer) == (3 + 4, 4)
    assert facts.lengths[3].whole == 6 + 3 + 2 * TURN_TOKENS
    wholes = sorted(row.whole for row in facts.lengths)
    assert facts.quantile(50) == wholes[1]
    assert facts.quantile(100) == wholes[-1]
    assert facts.mean_tokens(20) == sum(min(20, n) for n in wholes) / 4
    learnt = sum(row.learnt for row in facts.lengths)
    assert facts.learnt_part == learnt / sum(wholes)


def test_the_estimate_is_that_of_curation() -> None:
    for text in ("", "a", "four", "fives", "长江", "mixed 长江 text", "naïve"):
        assert estimate_tokens(text) == dialogues.estimate_tokens(text)


def test_by_the_models_tokenizer(tmp_path: Path) -> None:
    import tiny

    path = write(tmp_path / "d.jsonl", [talk("count the words", "one two 你好"), talk("a", "b")])
    facts = read_data(path, tokenizer=tiny.tokenizer_folder())
    tokenizer = tiny.tokenizer()
    sizes = [len(tokenizer(t)["input_ids"]) for t in ("count the words", "one two 你好")]
    assert facts.counted
    assert facts.lengths[0].whole == sum(sizes) + 2 * TURN_TOKENS
    assert facts.lengths[0].answer == sizes[1] + 1


def test_pairs(tmp_path: Path) -> None:
    rows = [{"prompt": "Say hi.", "chosen": "Hello there.", "rejected": "No."}]
    facts = read_data(write(tmp_path / "p.jsonl", rows))
    assert (facts.kind, facts.rows) == ("pairs", 1)
    assert facts.lengths[0].answer == 3 + 1


def test_a_sample_of_many_rows(tmp_path: Path) -> None:
    rows = [talk(f"Question {i}", "a" * (4 * (i % 100))) for i in range(1, 2 * SAMPLE)]
    rows = [row for row in rows if row["conversations"][1]["value"]]
    facts = read_data(write(tmp_path / "many.jsonl", rows))
    assert facts.rows == len(rows)
    assert len(facts.lengths) == SAMPLE
    # The answers have 1 to 99 tokens, evenly.
    assert facts.quantile(50, "answer") == pytest.approx(51, abs=4)


def test_files_of_no_use(tmp_path: Path) -> None:
    unanswered = write(tmp_path / "u.jsonl", [{"instruction": "Say hi.", "output": ""}] * 3)
    with pytest.raises(InputError, match="No row of the file has an answer"):
        read_data(unanswered)
    with pytest.raises(InputError, match="no rows"):
        read_data(write(tmp_path / "e.jsonl", []))
    with pytest.raises(InputError, match="unknown"):
        read_data(write(tmp_path / "x.jsonl", [{"colour": "red"}]))
    with pytest.raises(InputError):
        read_data(str(tmp_path / "gone.jsonl"))


def test_a_broken_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    path = write(tmp_path / "d.jsonl", [talk("a", "b")])
    with pytest.raises(InputError, match="tokenizer of the model"):
        read_data(path, tokenizer=tmp_path)


@pytest.mark.parametrize("name", ["vicuna", "alpaca", "alpaca-short", "qa", "chatml"])
def test_a_rows_tokens_with_its_template(tmp_path: Path, name: str) -> None:
    """The estimated length of a row of one turn: no less than what is trained on, little more."""
    import tiny

    from espalier.encoding import encode_example
    from espalier.records import Example
    from espalier.templates import get_template

    folder = tiny.tokenizer_folder()
    path = write(tmp_path / "d.jsonl", [talk("count the words", "one two 你好")])
    row = read_data(path, tokenizer=folder).lengths[0]
    example = Example.single("count the words", "one two 你好")
    whole = encode_example(tiny.tokenizer(), get_template(name), example.messages, {})
    estimated = row.whole + template_tokens(name, folder)
    # chatml's markers are single tokens where they are trained; here they are spelt out.
    assert len(whole) - 4 <= estimated <= len(whole) + (16 if name != "chatml" else 60)
