"""Held-out rows: how they are drawn, and that no training row is one or near one."""

from __future__ import annotations

import io
from random import Random

import pytest

from espalier.curate.config_holdout import HoldoutConfig
from espalier.curate.decontaminate import HeldOut, decontaminate, draw_held_out
from espalier.curate.filters import user_text
from espalier.curate.pipeline import Ledger
from espalier.records import Example, Message
from espalier.text import normalise, shingles


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
