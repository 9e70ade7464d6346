"""The recipes of published data sets: what they set, what they say, and that they run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from recipe_files import (
    FOLDER,
    ROOT,
    assert_offline,
    head_of,
    loaded,
    run_small,
    score,
    text_of,
    value_at,
)

from espalier.cli import build_parser
from espalier.formats.read import read_examples
from espalier.recipe import load_recipe
from espalier.run import Shared
from espalier.text import language

SAMPLES = FOLDER / "samples"

# What the publications say, and the recipes set. The heads of the recipes say where.
PUBLISHED: dict[str, dict[str, Any]] = {
    "alpaca": {
        "curate.self_instruct.mode": "alpaca",
        "curate.self_instruct.target": 52_000,
        "curate.self_instruct.in_context": 3,
        "curate.self_instruct.machine_in_context": 0,
        "curate.self_instruct.batch": 20,
        "curate.self_instruct.temperature": 1.0,
        "curate.self_instruct.top_p": 1.0,
        "curate.self_instruct.max_tokens": 3072,
        "curate.self_instruct.novelty": 0.7,
        "curate.self_instruct.min_words": 3,
        "curate.self_instruct.max_words": 150,
        "train.sft.model": "huggyllama/llama-7b",
        "train.sft.template": "alpaca",
        "train.sft.epochs": 3,
        "train.sft.minibatch": 128,
        "train.sft.learning_rate": 2e-5,
        "train.sft.schedule": "cosine",
        "train.sft.warmup": 0.03,
        "train.sft.weight_decay": 0.0,
        "train.sft.max_length": 512,
        "train.sft.precision": "bf16",
        "train.sft.distributed": "fsdp",
    },
    "self-instruct": {
        "curate.self_instruct.mode": "self-instruct",
        "curate.self_instruct.target": 82_000,
        "curate.self_instruct.in_context": 6 + 2,
        "curate.self_instruct.machine_in_context": 2,
        "curate.self_instruct.novelty": 0.7,
        "curate.self_instruct.temperature": 0.7,
        "curate.self_instruct.top_p": 0.5,
        "curate.self_instruct.presence_penalty": 2.0,
        "curate.self_instruct.max_tokens": 1024,
        "curate.self_instruct.classification_temperature": 0.0,
        "curate.self_instruct.classification_max_tokens": 3,
        "curate.self_instruct.instance_temperature": 0.0,
        "curate.self_instruct.instance_presence_penalty": 1.5,
        "curate.self_instruct.instance_max_tokens": 350,
        "curate.self_instruct.max_instances": 5,
        "train.sft.epochs": 2,
    },
    "wizardlm": {
        "curate.evolve.rounds": 4,
        "curate.evolve.operators": dict.fromkeys(
            [
                "constraints",
                "deepening",
                "concretising",
                "reasoning",
                "complicate_input",
                "breadth",
            ],
            1.0,
        ),
        "curate.evolve.min_added_words": 10,
        "curate.evolve.max_added_words": 20,
        "curate.evolve.temperature": 1.0,
        "curate.evolve.top_p": 0.9,
        "curate.evolve.max_tokens": 2048,
        "curate.evolve.equality_by": "teacher",
        "curate.evolve.eliminate.equal": True,
        "curate.evolve.eliminate.sorry": True,
        "curate.evolve.eliminate.sorry_below": 80,
        "curate.evolve.eliminate.stop_words": True,
        "curate.evolve.eliminate.leak": True,
        "curate.selection.target": 70_000,
        "curate.selection.score": ["random"],
        "train.sft.model": "huggyllama/llama-7b",
        "train.sft.epochs": 3,
        "train.sft.minibatch": 8 * 8,
        "train.sft.learning_rate": 2e-5,
        "train.sft.schedule": "cosine",
        "train.sft.warmup": 2,
        "train.sft.max_length": 2048,
        "evaluate.sampling.temperature": 0.0,
        "evaluate.sampling.max_tokens": 2048,
    },
    "dolly": {
        "curate.holdout.count": 200,
        "train.sft.model": "EleutherAI/pythia-12b",
        "train.sft.epochs": 2,
        "train.sft.minibatch": 6 * 8,
        "train.sft.learning_rate": 5e-6,
        "train.sft.schedule": "constant",
        "train.sft.warmup": 50,
        "train.sft.max_length": 2048,
        "train.sft.over_long": "drop",
        "train.sft.precision": "bf16",
        "train.sft.gradient_checkpointing": True,
    },
    "open-orca": {
        "curate.dedup.key": "prompt+answer",
        "train.sft.model": "huggyllama/llama-13b",
        "train.sft.template": "chatml",
        "train.sft.train_on": "all",
        "train.sft.epochs": 4,
        "train.sft.max_length": 2048,
        "train.sft.packing": "auto",
    },
    "vicuna": {
        "curate.dialogues.max_tokens": 2048,
        "curate.dialogues.html": "auto",
        "curate.dialogues.page_remnants": True,
        "train.sft.model": "huggyllama/llama-13b",
        "train.sft.template": "vicuna",
        "train.sft.train_on": "all",
        "train.sft.epochs": 3,
        "train.sft.minibatch": 128,
        "train.sft.learning_rate": 2e-5,
        "train.sft.schedule": "cosine",
        "train.sft.warmup": 0.03,
        "train.sft.weight_decay": 0.0,
        "train.sft.max_length": 2048,
        "train.sft.gradient_checkpointing": True,
    },
}
NAMES = tuple(PUBLISHED)
# What each head has to name: the publication, and figures of cost as it gives them.
SOURCES = {
    "alpaca": ["Taori et al.", "under 500 dollars", "3 hours on eight A100"],
    "self-instruct": ["arXiv:2212.10560", "600 dollars", "338 dollars"],
    "wizardlm": ["arXiv:2304.12244", "624,000 requests", "70 hours on eight V100"],
    "dolly": ["Conover et al.", "eight A100", "30 dollars"],
    "open-orca": ["arXiv:2306.02707", "160 hours", "about 400 dollars"],
    "vicuna": ["Chiang et al.", "eight A100", "about 300 dollars"],
}
LIBRARY = {"learning_rate": 1e-4, "epochs": 1.0, "max_length": 512}


@pytest.mark.parametrize("name", NAMES)
def test_both_variants_are_valid(name: str) -> None:
    full, small = (loaded(name, small=small) for small in (False, True))
    assert (full.shared.name, small.shared.name) == (name, f"{name}-small")
    base, tuned = full.section("evaluate").models
    assert (base.path, tuned.stage) == (full.section("train.sft").model, "sft")
    assert full.section("evaluate").baseline == base.name
    # The base is asked in the form that the other has learnt.
    assert base.template == full.section("train.sft").template


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_the_small_variant_is_fetched(name: str) -> None:
    small = loaded(name, small=True)
    assert (small.shared.teacher, small.shared.judge) == (Shared().teacher, Shared().judge)
    assert_offline(small)


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_those_of_the_publication(name: str) -> None:
    found = {key: value_at(loaded(name), key) for key in PUBLISHED[name]}
    assert found == PUBLISHED[name]


@pytest.mark.parametrize("name", NAMES)
def test_settings_that_matter_are_written_out(name: str) -> None:
    """Where the published value is not the default, and where it is: the file says it."""
    given = loaded(name).section("train.sft").model_fields_set
    assert {"model", "template", "epochs", "minibatch", "learning_rate", "max_length"} <= given
    sft = loaded(name).section("train.sft")
    assert any(getattr(sft, key) != value for key, value in LIBRARY.items())


@pytest.mark.parametrize("name", NAMES)
def test_the_head_says_what_comes_from_where_and_what_it_costs(name: str) -> None:
    head = head_of(name)
    flat = re.sub(r"\s+", " ", head.replace("\n#", " "))
    assert [fact for fact in SOURCES[name] if fact not in flat] == []
    assert "What comes from where" in head
    needs = head.partition("What a full run needs")[2].partition("How it differs")[0]
    assert re.search(r"\d+ GB", needs), "memory"
    assert "GPU" in needs and re.search(r"hour|day", needs), "hours"
    assert "dollar" in needs, "money"
    assert head.partition("How it differs")[2].count("\n#   - ") >= 3


@pytest.mark.parametrize("name", NAMES)
def test_the_head_names_the_data_and_prints_commands_that_parse(name: str) -> None:
    head = head_of(name)
    full = text_of(name).partition("\nsmall:")[0].removeprefix(head)
    used = set(re.findall(r"\$\{data\}/([\w./-]+)", full))
    assert used
    assert [path for path in used if Path(path).name not in head] == []
    joined = re.sub(r"\\\n#\s+", "", head)
    commands = re.findall(r"^#\s+(espalier .*)$", joined, flags=re.MULTILINE)
    assert len(commands) >= 2
    for line in commands:
        words = shlex.split(line, comments=True)
        assert words[2] == f"recipes/{name}.yaml"
        arguments = build_parser().parse_args(words[1:])
        overrides = [text for text in arguments.overrides if "PATH" not in text]
        load_recipe(ROOT / words[2], overrides, small=arguments.small)


def test_samples_are_read_and_are_in_both_languages() -> None:
    rows = {
        "dolly.jsonl": read_examples(SAMPLES / "dolly.jsonl", format="dolly"),
        "open_orca.jsonl": read_examples(SAMPLES / "open_orca.jsonl", format="open-orca"),
        "sharegpt.json": read_examples(
            SAMPLES / "sharegpt.json", format="sharegpt", on_bad_row="quarantine", rejects=[]
        ),
    }
    read = {name: list(found) for name, found in rows.items()}
    for name, found in read.items():
        texts = [" ".join(m.content for m in row.messages if m.role != "system") for row in found]
        shares = [sum(language(text) == code for text in texts) for code in ("en", "zh")]
        assert all(count >= len(texts) / 4 for count in shares), (name, shares)
    categories = [row.meta["category"] for row in read["dolly.jsonl"]]
    assert {category: categories.count(category) for category in categories} == dict.fromkeys(
        ["open_qa", "general_qa", "closed_qa", "classification", "information_extraction",
         "summarization", "creative_writing", "brainstorming"], 8,
    )  # fmt: skip
    systems = {row.messages[0].content for row in read["open_orca.jsonl"] if len(row.messages) == 3}
    assert len(systems) == 6
    assert sum(len(row.messages) == 2 for row in read["open_orca.jsonl"]) == 40


# Running --------------------------------------------------------------------------------------


def run_system(name: str, runs: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Runs the small variant to its report; its summary of the evaluation."""
    summary = run_small(name, runs, monkeypatch)
    # The tuned model answers in the form that was asked for, and the base does not.
    assert score(summary, "token_f1", "sft") > score(summary, "token_f1", "base") + 0.05
    assert score(summary, "ppl_response", "sft") < score(summary, "ppl_response", "base") / 2
    return summary


def question_of(row: dict[str, Any]) -> str:
    return str(next(turn["content"] for turn in row["messages"] if turn["role"] == "user"))


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["alpaca", "self-instruct"])
def test_a_teacher_writes_tasks_after_seeds(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_system(name, tmp_path, monkeypatch)
    folder = tmp_path / f"{name}-small" / "curate"
    made = [row for row in rows_of(folder / "train.jsonl") if row["meta"]["source"] != "tasks"]
    assert len(made) > 500
    assert {row["meta"]["language"] for row in made} == {"en", "zh"}
    # Both forms of the prompt come to use: with an input, and without.
    inputs = sum(bool(row["meta"].get("input")) for row in made)
    assert 20 < inputs < len(made) - 20
    rules = {row["rule"] for row in rows_of(folder / "rejects.jsonl")}
    assert {"not_novel", "blacklisted", "truncated"} <= rules


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_instructions_are_evolved_and_failures_eliminated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_system("wizardlm", tmp_path, monkeypatch)
    folder = tmp_path / "wizardlm-small" / "curate"
    operators = {str(row["meta"].get("operator")) for row in rows_of(folder / "train.jsonl")}
    assert {f"evolve:{name}" for name in PUBLISHED["wizardlm"]["curate.evolve.operators"]} <= (
        operators
    )
    rules = {row["rule"] for row in rows_of(folder / "rejects.jsonl")}
    assert {"equal", "sorry", "stop_words_only", "leak", "not_selected"} <= rules


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.ci_slice
def test_rows_by_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_system("dolly", tmp_path, monkeypatch)
    folder = tmp_path / "dolly-small" / "curate"
    written = [r for r in rows_of(folder / "train.jsonl") if r["meta"]["source"] == "dolly"]
    assert len(written) >= 60
    assert len({row["meta"]["category"] for row in written}) == 8


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_system_prompts_are_learnt_with_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = run_system("open-orca", tmp_path, monkeypatch)
    folder = tmp_path / "open-orca-small" / "curate"
    held_out = rows_of(folder / "eval.jsonl")
    trained = rows_of(folder / "train.jsonl")
    assert not {question_of(row) for row in held_out} & {question_of(row) for row in trained}
    assert any(row["messages"][0]["role"] == "system" for row in trained)
    parts = {s["value"] for s in summary["slices"] if s["by"] == "category"}
    assert parts == {"open-orca", "tasks"}
    # The form that a system prompt asks for is learnt, for questions that were never seen.
    asked_why = {"with a reason": "why in one", "no reason": "one word"}
    shares = {
        kind: share_with_reason(tmp_path / "open-orca-small", held_out, words)
        for kind, words in asked_why.items()
    }
    assert shares["with a reason"] > shares["no reason"] + 0.5, shares


def share_with_reason(run: Path, held_out: list[dict[str, Any]], system: str) -> float:
    """The share of answers under such a system prompt, or its Chinese one, that say why."""
    chinese = {"why in one": "说明理由", "one word": "一个词"}[system]
    answers = {row["id"]: row["answer"] for row in rows_of(run / "evaluate/answers/sft.jsonl")}
    found = [
        answers[row["id"]]
        for row in held_out
        if row["messages"][0]["role"] == "system"
        and re.search(f"{system}|{chinese}", row["messages"][0]["content"])
    ]
    return sum("because" in text or "因为" in text for text in found) / len(found)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_dialogues_are_cleaned_split_and_learnt_turn_by_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_system("vicuna", tmp_path, monkeypatch)
    folder = tmp_path / "vicuna-small" / "curate"
    rows = rows_of(folder / "train.jsonl")
    shared = [row for row in rows if row["meta"]["source"] == "sharegpt"]
    text = "\n".join(turn["content"] for row in shared for turn in row["messages"])
    assert not re.search(r"</?(?:div|p|code|li)>|Copy code|复制代码|2 / 3", text)
    assert "```" in text
    # Two of 24 answers and their questions each are longer than a part may be.
    assert (
        sum("day" in str(row["messages"]) and "walked" in str(row["messages"]) for row in shared)
        > 1
    )
    rules = {row["rule"] for row in rows_of(folder / "rejects.jsonl")}
    assert {"not_alternating", "language", "refusal", "duplicate_row", "unreadable"} <= rules
    assert sum(len(row["messages"]) > 2 for row in rows) > 200
