"""Held-out rows and evaluation files: no training row is one, is near one, or quotes one."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from espalier.curate.config_holdout import DecontaminateConfig, HoldoutConfig
from espalier.curate.contamination import EvaluationTexts, contamination_step, read_evaluation
from espalier.curate.decontaminate import HeldOut, decontaminate, draw_held_out
from espalier.curate.dedup import prompt_key
from espalier.curate.filters import user_text
from espalier.curate.judged import Judged
from espalier.curate.pipeline import Ledger
from espalier.curate.preferences import pair_meta, split_by_prompt, split_prompts
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


# --- rows that go back to one ---


def parts_of(name: str, count: int) -> list[Example]:
    """What splitting makes of a dialogue: rows that name it and their place."""
    meta = {"parents": [f"dialogue-{name}"], "operator": "split", "of_parts": count}
    return [
        Example.single(
            f"Of {name}, what is {number}?", f"{name} {number}", meta={**meta, "part": n}
        )
        for n, number in enumerate(["first", "second", "third", "fourth", "fifth"][:count], 1)
    ]


def test_without_splits_the_draw_is_the_hash_order_of_the_prompts() -> None:
    given = examples(60)
    # Other lineage makes no dialogue: cleaned rows, and tasks that were written after others.
    given += [row.with_meta(parents=["a", "b"], operator="clean") for row in examples(90)[60:]]
    given += [row.with_meta(parents=["a"], root="a", operator="evolve:breadth")
              for row in examples(120)[90:]]  # fmt: skip
    places = {
        row.id: hashlib.blake2b(
            prompt_key(row.prompt_messages), digest_size=8, key=b"7:held-out"
        ).digest()
        for row in given
    }
    expected = sorted(given, key=lambda row: places[row.id])
    for count in (1, 25, 120):
        assert draw_held_out(given, count, "7:held-out") == expected[:count]


def test_of_a_split_dialogue_one_part_is_drawn_the_first() -> None:
    dialogues = [parts_of(f"d{i}", 5) for i in range(30)]
    given = [part for dialogue in dialogues for part in dialogue] + examples(30)
    drawn = draw_held_out(given, 20, "s")
    assert len(drawn) == 20
    split = [row for row in drawn if "part" in row.meta]
    assert 0 < len(split) < 20
    assert all(row.meta["part"] == 1 for row in split)
    # A dialogue counts once, however many parts it has, and wherever it stands.
    firsts = [dialogue[0] for dialogue in dialogues] + examples(30)
    assert draw_held_out(firsts, 20, "s") == drawn
    Random("order").shuffle(dialogues)
    moved = examples(30) + [part for dialogue in dialogues for part in dialogue]
    assert draw_held_out(moved, 20, "s") == drawn
    assert len(draw_held_out(given, 150, "s")) == 60
    # Where the rules took the first part, the next one that is left stands for the dialogue.
    left = [row for row in given if row.meta.get("part") != 1]
    assert {row.meta.get("part", 2) for row in draw_held_out(left, 150, "s")} == {2}


def kept_and_counts(held: list[Example], given: list[Example]) -> tuple[list[Example], Any]:
    held_out = HeldOut(HoldoutConfig())
    for row in held:
        held_out.add(Example(row.id, row.prompt_messages, row.meta))
    ledger = Ledger("test", io.StringIO())
    kept = list(ledger.through(given, [("held-out", decontaminate(held_out))]))
    return kept, ledger.tallies[0].rejected


def test_no_other_part_of_a_held_out_dialogue_is_kept() -> None:
    mine, other = parts_of("music", 4), parts_of("水墨画", 3)
    kept, counts = kept_and_counts([mine[1]], [*mine, *other])
    assert kept == other
    assert counts == {"held_out": 1, "same_root_held_out": 3}
    # A part of a part, and a part that was cleaned later, still name their dialogue.
    derived = [
        Example.single("Quite new?", "Yes", meta={**mine[3].meta, "parents": [
            mine[3].id, *mine[3].meta["parents"]]}),
        Example.single("全新的问题？", "对", meta={**other[2].meta, "parents": [
            "x", other[2].id, *other[2].meta["parents"]]}),
    ]  # fmt: skip
    assert kept_and_counts([mine[0]], derived)[0] == derived[1:]
    assert kept_and_counts([other[0]], derived)[0] == derived[:1]


def test_a_dialogue_that_was_shared_twice_is_held_out_in_both_lengths() -> None:
    short, long = parts_of("tea", 2), parts_of("tea", 4)
    again = [row.with_meta(parents=["dialogue-tea-longer"]) for row in long]
    kept, counts = kept_and_counts([short[0]], [*again, *short, *parts_of("茶", 2)])
    assert [row.meta["parents"] for row in kept] == [["dialogue-茶"]] * 2
    assert counts == {"held_out": 2, "same_root_held_out": 4}


def with_exchange(name: str, place: int, prompt: str, answer: str) -> list[Example]:
    """A split dialogue of three parts, of which the one at `place` is this exchange."""
    parts = parts_of(name, 3)
    parts[place] = Example.single(prompt, answer, meta=parts[place].meta)
    return parts


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    ("held", "answer", "rule"),
    [
        ("What is green tea?", "A drink.", "held_out"),
        ("What is green tea?", "Leaves.", "same_prompt_held_out"),
        ("什么是绿茶？", "一种饮料。", "held_out"),
        ("什么是绿茶？", "叶子。", "same_prompt_held_out"),
    ],
)
@pytest.mark.parametrize("held_is_part", [True, False])
def test_one_held_out_exchange_takes_all_parts_of_a_dialogue_wherever_it_stands(
    place: int, held: str, answer: str, rule: str, held_is_part: bool
) -> None:
    drawn = with_exchange("first", 0, held, "A drink." if held[0] == "W" else "一种饮料。")
    whole = Example(drawn[0].id, drawn[0].messages, {})
    dialogue = with_exchange("second", place, held, answer)
    before, after = parts_of("before", 2), [*parts_of("after", 2), *examples(3)]
    chosen = drawn[0] if held_is_part else whole
    kept, counts = kept_and_counts([chosen], [*before, *dialogue, *after])
    assert kept == [*before, *after]
    assert counts == {rule: 1, "same_root_held_out": 2}


def test_the_evidence_names_the_part_that_has_the_prompt_of_a_held_out_row() -> None:
    held_out = guarded("What is green tea?")
    parts = with_exchange("tea", 2, "what is GREEN tea", "Leaves.")
    handle = io.StringIO()
    ledger = Ledger("test", handle)
    assert list(ledger.through(parts, [("held-out", decontaminate(held_out))])) == []
    rejects = [json.loads(line) for line in handle.getvalue().splitlines()]
    assert [reject["id"] for reject in rejects] == [part.id for part in parts]
    (held,) = held_out.ids
    for reject in rejects[:2]:
        assert all(name in reject["evidence"] for name in ("dialogue-tea", parts[2].id, held))


def test_a_part_that_is_only_near_a_held_out_row_goes_alone() -> None:
    parts = with_exchange("party", 1, LONG + " evening", "Dear neighbours!")
    kept, counts = kept_and_counts([Example.single(LONG, "Dear all!")], parts)
    assert kept == [parts[0], parts[2]]
    assert counts == {"near_held_out": 1}


def test_of_parts_that_stand_apart_those_after_the_held_out_prompt_go() -> None:
    held = Example.single("What is green tea?", "A drink.")
    one, two, three = with_exchange("tea", 1, "What is green tea?", "Leaves.")
    other = examples(2)
    kept, counts = kept_and_counts([held], [one, other[0], two, other[1], three])
    assert kept == [one, *other]
    assert counts == {"same_prompt_held_out": 1, "same_root_held_out": 1}
    # The dialogue of the held-out row itself is known from the start.
    assert kept_and_counts([two], [one, other[0], two, other[1], three])[0] == other


def test_whole_rows_flow_one_by_one_and_parts_by_dialogue() -> None:
    read: list[Example] = []

    def rows() -> Any:
        for row in [*examples(2), *parts_of("tea", 3), *parts_of("茶", 2)]:
            read.append(row)
            yield row

    held_out = guarded("What is green tea?")
    stream = Ledger("test", io.StringIO()).through(rows(), [("h", decontaminate(held_out))])
    seen = []
    for _ in stream:
        seen.append(len(read))
    # A dialogue is complete when the row after it was read.
    assert seen == [1, 2, 6, 6, 6, 7, 7]


def test_a_whole_row_with_a_held_out_prompt_takes_nothing_that_was_evolved_with_it() -> None:
    evolved = {"operator": "evolve:deepen", "root": "seed", "parents": ["seed"]}
    given = [Example.single(text, "Other.", meta=evolved) for text in ("Name it?", "Why so?")]
    kept, counts = kept_and_counts([Example.single("Name it?", "Tea.")], given)
    assert kept == given[1:]
    assert counts == {"same_prompt_held_out": 1}


def test_what_was_evolved_from_a_held_out_row_goes_and_what_only_followed_it_stays() -> None:
    seed = Example.single("Name a colour.", "Blue")
    lineage = {"operator": "evolve:deepen", "root": seed.id}
    first = Example.single("Name a colour and its wave length.", "Blue",
                           meta={**lineage, "parents": [seed.id]})  # fmt: skip
    second = Example.single("Which three pigments reflect short waves?", "…",
                            meta={**lineage, "parents": [first.id]})  # fmt: skip
    after = Example.single("List five fish.", "…", meta={
        "operator": "self-instruct", "parents": [seed.id, first.id]})  # fmt: skip
    given = [seed, first, second, after]
    assert kept_and_counts([seed], given)[0] == [after]
    assert kept_and_counts([second], given)[0] == [after]
    assert kept_and_counts([after], given)[0] == [seed, first, second]


def test_dialogues_are_drawn_whole_for_both_sides_of_pairs() -> None:
    rows = [part for i in range(20) for part in parts_of(f"d{i}", 5)]
    judged = [Judged(row, "good") for row in rows]
    sides = split_prompts(judged, 60, 40, "seed")
    assert len(sides[0]) + len(sides[1]) == 100
    assert len(sides[1]) == 40
    roots = [{str(item.row.meta["parents"]) for item in side} for side in sides]
    assert not roots[0] & roots[1]
    # The pairs made of them name the dialogue too, so a later split of their file can.
    pairs = [PreferencePair.make(row.prompt_messages, "good", "bad", meta=pair_meta(row, "empty"))
             for row in rows]  # fmt: skip
    training, evaluation = split_by_prompt(pairs, 12, "seed")
    assert (len(training), len(evaluation)) == (85, 15)
    names = [{pair.meta["parents"][-1] for pair in side} for side in (training, evaluation)]
    assert not names[0] & names[1]


def test_a_pair_of_another_part_of_a_held_out_dialogue_is_named() -> None:
    first, second, *_ = parts_of("d", 3)
    held_out = HeldOut(HoldoutConfig())
    held_out.add(first)

    def pair(row: Example) -> PreferencePair:
        turns = row.prompt_messages
        return PreferencePair.make(turns, "good", "bad", meta=pair_meta(row, "sampled"))

    verdict = held_out.sibling(pair(second))
    assert verdict is not None and verdict[0] == "same_root_held_out" and first.id in verdict[1]
    assert held_out.sibling(pair(parts_of("e", 3)[1])) is None
    assert held_out.sibling(pair(Example.single("Whole?", "yes"))) is None
