"""Held-out rows of dialogues that are split: no part of such a dialogue is trained on.

What is asserted is read from the files alone: each turn of the source bears the mark of its
dialogue, so a row's dialogue is known without its lineage.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from espalier.errors import StageError
from espalier.recipe import Recipe, recipe_from
from espalier.running import run_stage

LONG, SHORT, TURNS = 24, 20, 12
COUNT, PROMPTS = 14, 7
TEXT = (
    "天空河流城市学校老师朋友音乐历史科学数学电影书籍花园森林动物海洋飞机火车早晨晚上春天冬天"
    "苹果米饭茶叶厨房窗户衣服医生健康工作假期旅行故事语言文字诗歌画家颜色声音天气雨水阳光月亮"
)
CHINESE = [TEXT[place : place + 2] for place in range(0, len(TEXT), 2)]
MARK = re.compile(r"[A-Z]{2}\d{3}")


def words(rng: Random, chinese: bool, count: int) -> str:
    if chinese:
        return "".join(rng.choices(CHINESE, k=count))
    letters = "abcdefghijklmnopqrstuvwxyz"
    return " ".join("".join(rng.choices(letters, k=6)) for _ in range(count))


def turns(mark: str, exchanges: int) -> list[dict[str, str]]:
    """A dialogue of random words, each turn with the mark; of marks with Z in Chinese."""
    rng = Random(mark)
    found = []
    for _ in range(exchanges):
        for role in ("human", "gpt"):
            end = "？" if role == "human" else "。"
            found.append({"from": role, "value": f"{mark} {words(rng, 'Z' in mark, 12)}{end}"})
    return found


@pytest.fixture(scope="module")
def sharegpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long dialogues (half of them Chinese) between short ones, in ShareGPT's form."""
    marks = [f"{'LE' if n % 2 else 'LZ'}{n:03}" for n in range(LONG)]
    marks += [f"{'SE' if n % 2 else 'SZ'}{n:03}" for n in range(SHORT)]
    Random("order").shuffle(marks)
    rows = [
        {"id": mark, "conversations": turns(mark, TURNS if mark[0] == "L" else 1)} for mark in marks
    ]
    path = tmp_path_factory.mktemp("data") / "sharegpt.json"
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


def recipe(path: Path, **curate: Any) -> Recipe:
    source = {"kind": "file", "path": str(path), "name": "shared"}
    options = {"dialogues": {"max_tokens": 110}, "holdout": {"count": COUNT, "prompts": PROMPTS}}
    return recipe_from({"name": "split", "curate": {"sources": [source], **options, **curate}})


@pytest.fixture(scope="module")
def folder(sharegpt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    run_stage("curate", recipe(sharegpt), run)
    return run / "curate"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def mark_of(row: dict[str, Any]) -> str:
    """The one dialogue that all turns of a row are of."""
    (mark,) = {found for turn in row["messages"] for found in MARK.findall(turn["content"])}
    return str(mark)


def held_marks(folder: Path) -> list[str]:
    return [mark_of(row) for name in ("eval", "prompts") for row in lines(folder / f"{name}.jsonl")]


def questions(marks: set[str]) -> set[str]:
    """All questions of the source that are of these dialogues."""
    found = (turns(mark, TURNS if mark[0] == "L" else 1) for mark in marks)
    return {turn["value"] for listed in found for turn in listed if turn["from"] == "human"}


def test_the_count_is_kept_and_held_out_rows_are_of_different_dialogues(folder: Path) -> None:
    assert len(lines(folder / "eval.jsonl")) == COUNT
    assert len(lines(folder / "prompts.jsonl")) == PROMPTS
    marks = held_marks(folder)
    assert len(set(marks)) == COUNT + PROMPTS
    kinds = Counter(mark[:2] for mark in marks)
    assert min(kinds[kind] for kind in ("LE", "LZ", "SE", "SZ")) > 0


def test_no_dialogue_is_both_held_out_and_trained_on(folder: Path) -> None:
    training = lines(folder / "train.jsonl")
    held = set(held_marks(folder))
    trained = {mark_of(row) for row in training}
    assert not held & trained
    assert len(held) + len(trained) == LONG + SHORT
    # All else is there: every question of the other dialogues.
    asked = {
        turn["content"] for row in training for turn in row["messages"] if turn["role"] == "user"
    }
    assert asked == questions(trained)
    assert len(training) > 3 * len(trained & {mark for mark in trained if mark[0] == "L"})


def test_a_held_out_part_is_the_beginning_of_its_dialogue(folder: Path) -> None:
    for row in lines(folder / "eval.jsonl"):
        first = turns(mark_of(row), TURNS)
        texts = [turn["content"] for turn in row["messages"]]
        assert texts == [turn["value"] for turn in first[: len(texts)]]
        assert row["meta"]["reference"] == first[len(texts)]["value"]


def test_what_was_removed_is_counted_and_stored(folder: Path) -> None:
    funnel = json.loads((folder / "funnel.json").read_text(encoding="utf-8"))
    step = next(r for r in funnel if (r["stream"], r["step"]) == ("train", "held-out prompts"))
    rejects = [row for row in lines(folder / "rejects.jsonl") if row["step"] == step["step"]]
    assert step["rejected"] == {"held_out": COUNT + PROMPTS, "same_root_held_out": len(rejects)}
    assert step["in"] - step["out"] == COUNT + PROMPTS + len(rejects)
    held = set(held_marks(folder))
    stored = Counter(MARK.findall(row["text"])[0] for row in rejects)
    assert set(stored) == {mark for mark in held if mark[0] == "L"}
    assert {row["rule"] for row in rejects} == {"same_root_held_out"}
    # Held-out rows and rejects together are the held-out dialogues, turn for turn.
    apart = [*lines(folder / "eval.jsonl"), *lines(folder / "prompts.jsonl")]
    texts = [turn["content"] for row in apart for turn in row["messages"]]
    together = "\n".join([*texts, *(row["text"] for row in rejects)])
    assert all(question in together for question in questions(held))
    card = (folder / "card.md").read_text(encoding="utf-8")
    assert "none of its other parts is kept" in card


def test_the_same_seed_draws_the_same_also_after_a_kill(
    folder: Path, sharegpt: Path, tmp_path: Path
) -> None:
    run_stage("curate", recipe(sharegpt), tmp_path)
    mine = tmp_path / "curate"
    names = ("eval.jsonl", "prompts.jsonl", "train.jsonl", "rejects.jsonl", "funnel.json")
    before = {name: (folder / name).read_bytes() for name in names}
    assert {name: (mine / name).read_bytes() for name in names} == before
    manifest = json.loads((mine / "manifest.json").read_text(encoding="utf-8"))
    (mine / "manifest.json").unlink()
    state = {"stage": "curate", "fingerprint": manifest["fingerprint"]}
    (mine / "state.json").write_text(json.dumps(state), encoding="utf-8")
    for marker in (mine / ".steps").glob("*.json"):
        if marker.stem != "holdout":
            marker.unlink()
    assert run_stage("curate", recipe(sharegpt), tmp_path) == "done"
    assert {name: (mine / name).read_bytes() for name in names} == before


def test_a_row_that_is_not_split_is_drawn_as_without_dialogues(
    sharegpt: Path, tmp_path: Path
) -> None:
    """Where nothing is split, the option changes no row of any file."""
    for name, options in (("plain", {"dialogues": None}), ("whole", {"dialogues": {"max_tokens":
                          9000}})):  # fmt: skip
        run_stage("curate", recipe(sharegpt, **options), tmp_path / name)
    for name in ("eval.jsonl", "prompts.jsonl", "train.jsonl", "rejects.jsonl"):
        plain, whole = (tmp_path / run / "curate" / name for run in ("plain", "whole"))
        assert plain.read_bytes() == whole.read_bytes()


def test_too_few_dialogues_are_told_with_what_to_change(sharegpt: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.json"
    rows = [{"conversations": turns(f"LE{n:03}", TURNS)} for n in range(4)]
    few.write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(StageError) as caught:
        run_stage("curate", recipe(few, holdout={"count": 10}), tmp_path / "run")
    text = caught.value.render()
    assert "same_root_held_out" in text
    assert "hold fewer rows out (curate.holdout)" in text


def test_parts_of_an_earlier_run_are_held_out_by_dialogue(
    sharegpt: Path, folder: Path, tmp_path: Path
) -> None:
    """train.jsonl of one curation as the source of another, which does not split."""
    run_stage(
        "curate",
        recipe(folder / "train.jsonl", dialogues=None, holdout={"count": 9}),
        tmp_path / "again",
    )
    again = tmp_path / "again" / "curate"
    held = [mark_of(row) for row in lines(again / "eval.jsonl")]
    assert len(set(held)) == len(held) == 9
    assert not set(held) & {mark_of(row) for row in lines(again / "train.jsonl")}
    # A held-out file that is named as a test set keeps whole dialogues out as well.
    run_stage(
        "curate",
        recipe(sharegpt, holdout={"against": [str(folder / "eval.jsonl")]}),
        tmp_path / "against",
    )
    kept = {mark_of(row) for row in lines(tmp_path / "against" / "curate" / "train.jsonl")}
    apart = {mark_of(row) for row in lines(folder / "eval.jsonl")}
    assert not kept & apart
    assert len(kept) == LONG + SHORT - COUNT


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("same_answer", [True, False])
def test_a_dialogue_that_holds_an_exchange_of_a_test_set_is_left_out_whole(
    tmp_path: Path, place: int, same_answer: bool
) -> None:
    """Each exchange becomes a part, and the one of the test set stands at any place."""
    shared, mine = turns("LE900", 1), turns("LE901", 3)
    if not same_answer:
        mine[2 * place + 1]["value"] = "LE901 Another answer to it."
        mine[2 * place]["value"] = shared[0]["value"]
    else:
        mine[2 * place : 2 * place + 2] = shared
    rows = [{"conversations": found} for found in (turns("LE902", 3), mine, turns("LZ903", 3))]
    (tmp_path / "shared.json").write_text(json.dumps(rows), encoding="utf-8")
    test_set = {"messages": [{"role": role, "content": turn["value"]} for role, turn in
                             zip(("user", "assistant"), shared, strict=True)]}  # fmt: skip
    (tmp_path / "test.jsonl").write_text(json.dumps(test_set) + "\n", encoding="utf-8")
    given = recipe(
        tmp_path / "shared.json",
        dialogues={"max_tokens": 80},
        holdout={"against": [str(tmp_path / "test.jsonl")]},
    )
    run_stage("curate", given, tmp_path / "run")
    folder = tmp_path / "run" / "curate"
    trained = [mark_of(row) for row in lines(folder / "train.jsonl")]
    assert set(trained) == {"LE902", "LZ903"}
    funnel = json.loads((folder / "funnel.json").read_text(encoding="utf-8"))
    step = next(r for r in funnel if (r["stream"], r["step"]) == ("train", "held-out prompts"))
    found = "held_out" if same_answer else "same_prompt_held_out"
    assert step["rejected"] == {found: 1, "same_root_held_out": 2}


def test_prompts_are_kept_away_before_repeats_of_them_are_removed(tmp_path: Path) -> None:
    """A part that asks what a row before it asks tells of its dialogue all the same."""
    known = turns("SE901", 1)
    mine = turns("LE901", 3)
    mine[2:4] = known
    rows = [{"conversations": found} for found in (known, mine, turns("LZ903", 3))]
    (tmp_path / "shared.json").write_text(json.dumps(rows), encoding="utf-8")
    test_set = {"instruction": known[0]["value"], "output": known[1]["value"]}
    (tmp_path / "test.jsonl").write_text(json.dumps(test_set) + "\n", encoding="utf-8")
    prompts = {"kind": "file", "path": str(tmp_path / "shared.json"), "use": "prompts"}
    training = {"kind": "procedural", "count": 20}
    given = recipe(
        tmp_path / "shared.json",
        sources=[prompts, training],
        dialogues={"max_tokens": 80},
        holdout={"against": [str(tmp_path / "test.jsonl")]},
    )
    run_stage("curate", given, tmp_path / "run")
    found = lines(tmp_path / "run" / "curate" / "prompts.jsonl")
    assert {mark_of(row) for row in found} == {"LZ903"}
