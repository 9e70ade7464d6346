"""Held-out rows and evaluation files: no training row is one, is near one, or quotes one."""

from __future__ import annotations

import io
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from espalier.curate.config_holdout import DecontaminateConfig, HoldoutConfig
from espalier.curate.contamination import EvaluationTexts, contamination_step, read_evaluation
from espalier.curate.decontaminate import HeldOut, decontaminate, draw_held_out
from espalier.curate.filters import user_text
from espalier.curate.pipeline import Ledger
from espalier.errors import InputError
from espalier.formats.read import read_examples
from espalier.records import Example, Message, PreferencePair
from espalier.text import length, normalise, shingles


def examples(count: int) -> list[Example]:
    return [Example.single(f"Question number {i} of many?", str(i)) for i in range(count)]


def test_the_draw_does_not_depend_on_the_order_of_rows() -> None:
    given = examples(200)
    shuffled = list(given)
    Random("shuffle").shuffle(shuffled)
    drawn = draw_held_out(given, 20, "seed")
    assert draw_held_out(shuffled, 20, "seed") == drawn
    assert len({row.id for row in drawn}) == 20
    assert draw_held_out(given, 20, "other seed") != drawn
    assert draw_held_out(given, 500, "seed") == sorted(given, key=draw_held_out(
        given, 200, "seed").index)  # fmt: skip


def test_a_longer_draw_begins_with_the_shorter() -> None:
    given = examples(100)
    assert draw_held_out(given, 30, "s")[:10] == draw_held_out(given, 10, "s")


def test_a_prompt_is_drawn_once() -> None:
    given = [Example.single(text, "yes") for text in ("Same thing", "same thing!", "SAME  thing")]
    assert draw_held_out(given, 3, "s") == given[:1]


def guarded(*prompts: str) -> HeldOut:
    held_out = HeldOut(HoldoutConfig())
    for prompt in prompts:
        held_out.add(Example.single(prompt, "yes"))
    return held_out


LONG = "Please write a short and friendly note to the neighbours about the party next Saturday"
LONG_ZH = "请写一段简短友好的话告诉邻居下周六晚上家里要办聚会可能会有一点吵"


@pytest.mark.parametrize(
    ("held", "prompt", "rule"),
    [
        ("Name a colour.", "name a colour!", "same_prompt_held_out"),
        ("说出一种颜色。", "说出一种颜色", "same_prompt_held_out"),
        (LONG, LONG + " evening", "near_held_out"),
        (LONG_ZH, LONG_ZH + "哦", "near_held_out"),
        (LONG, "Explain why the sky is blue in the day and red in the evening, briefly", None),
        (LONG_ZH, "解释为什么白天的天空是蓝色的而傍晚的天空是红色的，用两句话说明", None),
        ("Name a colour.", "Name a flower.", None),
        ("说出一种颜色。", "说出一种花。", None),
    ],
)
def test_rows_near_a_held_out_one(held: str, prompt: str, rule: str | None) -> None:
    verdict = guarded(held).verdict((Message("user", prompt),))
    assert (verdict[0] if verdict else None) == rule


def test_no_row_that_passes_is_near_by_brute_force() -> None:
    rng = Random("near")
    words = [f"w{i}" for i in range(30)]
    base = [" ".join(rng.choices(words, k=rng.randint(3, 20))) for _ in range(30)]
    held = base[:10]
    given = []
    for _ in range(300):
        text = rng.choice(base).split()
        for _ in range(rng.randint(0, 2)):
            text[rng.randrange(len(text))] = rng.choice(words)
        given.append(Example.single(" ".join(text), "yes"))

    def near(prompt: str) -> bool:
        mine = shingles(prompt, 5)
        return any(
            normalise(prompt) == normalise(other)
            or len(mine & shingles(other, 5)) >= 0.7 * len(mine | shingles(other, 5))
            for other in held
        )

    ledger = Ledger("test", io.StringIO())
    kept = list(ledger.through(given, [("held-out", decontaminate(guarded(*held)))]))
    assert [row.prompt for row in kept] == [r.prompt for r in given if not near(r.prompt)]
    assert 50 < len(kept) < 290


def test_the_held_out_rows_themselves_are_set_apart() -> None:
    handle = io.StringIO()
    ledger = Ledger("test", handle)
    held_out = guarded("Name a colour.")
    given = [Example.single("Name a colour.", "yes"), Example.single("Name a colour", "blue")]
    assert list(ledger.through(given, [("held-out", decontaminate(held_out))])) == []
    assert ledger.tallies[0].rejected == {"held_out": 1, "same_prompt_held_out": 1}
    assert len(handle.getvalue().splitlines()) == 1


def test_all_user_turns_of_a_dialogue_are_compared() -> None:
    dialogue = (Message("system", "s"), Message("user", "a"), Message("assistant", "b"),
                Message("user", "c"))  # fmt: skip
    assert user_text(dialogue) == "a\nc"


# --- against evaluation files ---


def against(rows: list[Example | PreferencePair], **options: Any) -> EvaluationTexts:
    texts = EvaluationTexts(DecontaminateConfig(against=["test.jsonl"], **options))
    for number, row in enumerate(rows, 1):
        texts.add(row, "test.jsonl", number)
    return texts


def cleaned(
    texts: EvaluationTexts, rows: list[Example], **options: Any
) -> tuple[list[Example], list[dict[str, Any]], dict[str, Any], list[dict[str, Any]]]:
    """Rows kept, rejects, the funnel row, and the lines of contamination.jsonl."""
    config = DecontaminateConfig(against=["test.jsonl"], **options)
    handle = io.StringIO()
    ledger = Ledger("test", handle)
    lines: list[dict[str, Any]] = []
    step = contamination_step(config, texts, lines.append)
    kept = list(ledger.through(rows, [("evaluation files", step)]))
    rejects = [json.loads(line) for line in handle.getvalue().splitlines()]
    return kept, rejects, ledger.tallies[0].to_json(), lines


SECRET = "A farmer has seventeen sheep and all but nine of them run away in the night"
SECRET_ZH = "一个农夫有十七只羊，夜里除了九只以外都跑掉了，请问还剩下几只羊？"


@pytest.mark.parametrize(
    ("secret", "row"),
    [
        (SECRET, Example.single("Tell me a riddle.", f"Sure! {SECRET.upper()}: how many stay?")),
        (SECRET, Example.single(f"Translate into French: “{SECRET}.”", "Un fermier a …")),
        (SECRET_ZH, Example.single("讲一个谜语。", f"好的。{SECRET_ZH}答案是九只。")),
        (SECRET_ZH, Example.single(f"翻译成英文：{SECRET_ZH}", "A farmer …")),
    ],
)
def test_a_shared_run_of_words_is_shown(secret: str, row: Example) -> None:
    clean = Example.single("Name a colour.", "Blue, as the sky is on a bright day in the spring.")
    evaluation: list[Example | PreferencePair] = [
        Example.single("Something else"), Example.single(secret)
    ]  # fmt: skip
    kept, rejects, funnel, lines = cleaned(against(evaluation), [row, clean])
    assert kept == [clean]
    assert funnel["rejected"] == {"contaminated": 1}
    evidence = rejects[0]["evidence"]
    assert f"row 2 of test.jsonl ({evaluation[1].id})" in evidence
    (line,) = lines
    assert (line["id"], line["action"]) == (row.id, "remove")
    found = line["found"][0]
    turn = row.messages[found["turn"] - 1]
    assert turn.role == found["role"]
    assert turn.content[found["start"] : found["end"]] == found["text"]
    assert normalise(secret) in normalise(found["text"])
    assert found["text"] in evidence
    assert (found["file"], found["number"], found["row"]) == ("test.jsonl", 2, evaluation[1].id)
    assert found["tokens"] == found["longest"] == length(secret)
    assert found["share"] == 1.0
    json.dumps(line)


def test_flagged_rows_stay_with_what_was_found() -> None:
    row = Example.single("A riddle, please", SECRET)
    options = {"action": "flag"}
    kept, rejects, funnel, lines = cleaned(against([Example.single(SECRET)]), [row], **options)
    assert rejects == []
    assert funnel["changed"] == {"contaminated": 1}
    assert funnel["out"] == 1
    assert kept[0].id == row.id
    assert kept[0].messages == row.messages
    (found,) = kept[0].meta["contamination"]
    assert found["text"] == SECRET
    assert lines[0]["action"] == "flag"


@pytest.mark.parametrize(
    ("fields", "prompt_leaks", "answer_leaks"),
    [("prompt", True, False), ("answer", False, True), ("both", True, True)],
)
def test_which_texts_of_the_evaluation_count(
    fields: str, prompt_leaks: bool, answer_leaks: bool
) -> None:
    answer = "Nine sheep stay, for all but nine run away, as the question itself says clearly."
    answer_zh = "还剩下九只羊，因为题目说除了九只以外都跑掉了。"
    evaluation: list[Example | PreferencePair] = [
        Example.single(SECRET, meta={"reference": answer}),
        PreferencePair.make([Message("user", SECRET_ZH)], answer_zh, "八只"),
    ]  # fmt: skip
    texts = against(evaluation, fields=fields)
    for text, leaks in (
        (SECRET, prompt_leaks),
        (SECRET_ZH, prompt_leaks),
        (answer, answer_leaks),
        (answer_zh, answer_leaks),
    ):
        assert bool(texts.findings(Example.single("Well?", f"I say: {text}"))) is leaks


@pytest.mark.parametrize(
    ("held", "prompt", "kind"),
    [
        ("Name a colour.", "name a colour!", "same_prompt"),
        ("说出一种颜色。", "说出一种颜色", "same_prompt"),
        (LONG, LONG.replace("friendly", "polite"), "near_prompt"),
        (LONG_ZH, LONG_ZH.replace("聚会", "宴会"), "near_prompt"),
        ("Name a colour.", "Name a flower.", None),
        ("说出一种颜色。", "说出一种花。", None),
    ],
)
def test_near_prompts(held: str, prompt: str, kind: str | None) -> None:
    texts = against([Example.single(held)], ngram=None, near_threshold=0.35)
    found = texts.findings(Example.single(prompt, "yes"))
    assert [item["kind"] for item in found] == ([kind] if kind else [])
    if kind == "near_prompt":
        mine, other = shingles(prompt, 5), shingles(held, 5)
        assert found[0]["jaccard"] == round(len(mine & other) / len(mine | other), 4)


def test_all_turns_of_dialogues_on_both_sides() -> None:
    held = Example.single("First question", meta={"later_turns": [SECRET]})
    row = Example.make([Message("user", "Hi"), Message("assistant", "Hello"),
                        Message("user", f"{SECRET}?"), Message("assistant", "Nine")])  # fmt: skip
    (found,) = against([held]).findings(row)
    assert (found["turn"], found["role"]) == (3, "user")


def test_evaluation_files_of_any_format(tmp_path: Path) -> None:
    (tmp_path / "alpaca.jsonl").write_text(
        json.dumps({"instruction": SECRET, "output": "Nine."}) + "\n", encoding="utf-8"
    )
    (tmp_path / "bench.jsonl").write_text(
        json.dumps({"question_id": 1, "category": "x", "turns": ["One", SECRET_ZH]}) + "\n",
        encoding="utf-8",
    )
    side = "\n\nHuman: {}\n\nAssistant: {}"
    pair = {"chosen": side.format(LONG, "Yes."), "rejected": side.format(LONG, "No.")}
    (tmp_path / "pairs.json").write_text(json.dumps([pair]), encoding="utf-8")
    config = DecontaminateConfig(against=["alpaca.jsonl", "bench.jsonl", "pairs.json"])
    texts = read_evaluation(config, lambda name: tmp_path / name)
    assert len(texts) == 3
    for text, file in ((SECRET, "alpaca"), (SECRET_ZH, "bench"), (LONG, "pairs")):
        (found,) = texts.findings(Example.single("Say it", text))
        assert found["file"].startswith(file)
    with pytest.raises(InputError, match="does not exist"):
        read_evaluation(DecontaminateConfig(against=["no.jsonl"]), lambda name: tmp_path / name)
    (tmp_path / "bad.jsonl").write_text('{"instruction": "a"}\n{"instruction": 5, "output": ""}\n')
    with pytest.raises(InputError):
        read_evaluation(DecontaminateConfig(against=["bad.jsonl"]), lambda name: tmp_path / name)


def test_options_that_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="above `ngram`"):
        DecontaminateConfig(against=["x"], ngram=5)
    with pytest.raises(ValueError, match="at least 1 item"):
        DecontaminateConfig(against=[])


def test_planted_rows_of_real_evaluation_sets_are_found(shared_data: Path) -> None:
    names = ["self_instruct/user_oriented_instructions.jsonl", "sharegpt/mt_bench_questions.jsonl"]
    config = DecontaminateConfig(against=names)
    texts = read_evaluation(config, lambda name: shared_data / name)
    assert len(texts) == 252 + 80
    held = [row for name in names for row in read_examples(shared_data / name, answers="optional")]
    planted = [
        Example.single(f"Rewrite this in your own words. {row.prompt} Thank you.", "Done.")
        for row in held
        if length(row.prompt) >= 8
    ]
    train = read_examples(shared_data / "self_instruct" / "t0_50k.jsonl.gz", limit=3000)
    ledger = Ledger("test", io.StringIO())
    kept = list(ledger.through([*planted, *train], [("e", contamination_step(config, texts))]))
    assert len(planted) > 250
    assert len(kept) == 3000
