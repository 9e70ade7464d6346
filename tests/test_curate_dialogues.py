"""Dialogues: what a page left goes, order is checked, long ones are split at turn borders."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from espalier.curate.config_dialogues import DialogueConfig
from espalier.curate.dialogue_text import disorder, without_remnants
from espalier.curate.dialogues import dialogue_step, estimate_tokens, token_counter
from espalier.curate.html_text import is_page, markdown
from espalier.curate.pipeline import Ledger, Tally
from espalier.errors import InputError
from espalier.formats.read import read_examples
from espalier.records import Example, Message, Messages

ROLE = {"s": "system", "u": "user", "a": "assistant"}


def dialogue(*turns: str, **meta: Any) -> Example:
    """A dialogue from texts such as "u:Hello"."""
    return Example.make([Message(ROLE[t[0]], t[2:]) for t in turns], meta)  # type: ignore[arg-type]


def texts(row: Example) -> list[str]:
    return [f"{turn.role[0]}:{turn.content}" for turn in row.messages]


def run(*rows: Example, **options: Any) -> tuple[list[Example], list[dict[str, Any]], Tally]:
    handle = io.StringIO()
    ledger = Ledger("train", handle)
    steps = [("dialogues", dialogue_step(DialogueConfig(**options)))]
    made = list(ledger.through(rows, steps))
    return made, [json.loads(line) for line in handle.getvalue().splitlines()], ledger.tallies[0]


def one(*turns: str, **options: Any) -> list[str]:
    (made,), rejects, _ = run(dialogue(*turns), **options)
    assert not rejects
    return texts(made)


# --- order -----------------------------------------------------------------------------------


def test_a_sound_dialogue_is_not_touched() -> None:
    for row in (
        dialogue("u:Hi ", "a: Hello\n", input="x"),
        dialogue("s:Be brief.", "u:Hi", "a:Hello", "u:Bye", "a:Bye"),
        dialogue("u:A question alone"),
    ):
        made, rejects, tally = run(row, max_tokens=100)
        assert made == [row] and made[0] is row
        assert not rejects and not tally.changed


def test_what_stands_before_the_first_question_and_after_the_last_answer_goes() -> None:
    made, _, tally = run(dialogue("s:Be kind.", "a:Welcome!", "u:Hi", "a:Hello", "u:And now?"))
    assert texts(made[0]) == ["s:Be kind.", "u:Hi", "a:Hello"]
    assert tally.changed == {"leading_answer": 1, "trailing_question": 1}


def test_repeats_and_empty_turns_go() -> None:
    row = dialogue("u:Hi", "u:Hi ", "a:Hello", "a:", "a:Hello", "u: \n", "u:Bye", "a:Bye", x=1)
    made, rejects, tally = run(row)
    assert texts(made[0]) == ["u:Hi", "a:Hello", "u:Bye", "a:Bye"]
    assert not rejects
    assert tally.changed == {"repeated_turn": 1, "empty_turn": 1}
    assert made[0].meta == {"x": 1, "parents": [row.id], "operator": "clean"}
    assert made[0].id != row.id


def test_the_same_words_later_are_no_repeat() -> None:
    turns = ("u:Hi", "a:Hi", "u:Hi", "a:Hi")
    assert one(*turns) == list(turns)


@pytest.mark.parametrize(
    ("turns", "evidence"),
    [
        (("u:a", "u:b", "a:c"), "turn 2 is user, after user"),
        (("u:a", "a:b", "a:c"), "turn 3 is assistant, after assistant"),
        (("u:a", "a:b", "s:c", "u:d", "a:e"), "turn 3 is system, after assistant"),
        (("s:a", "s:b", "u:c", "a:d"), "turn 1 is system, first"),
        (("a:b", "u:c"), "no question and answer"),
    ],
)
def test_what_does_not_alternate_is_rejected(turns: tuple[str, ...], evidence: str) -> None:
    made, rejects, tally = run(dialogue(*turns), dialogue("u:x", "a:y"))
    assert len(made) == 1
    assert [(r["rule"], r["evidence"]) for r in rejects] == [("not_alternating", evidence)]
    assert tally.seen == tally.kept + sum(tally.rejected.values())


def test_turns_of_one_role_can_be_joined() -> None:
    turns = ("s:x", "s:y", "u:a", "u:b", "a:c", "a:d")
    made, _, tally = run(dialogue(*turns), not_alternating="merge")
    assert texts(made[0]) == ["s:x\n\ny", "u:a\n\nb", "a:c\n\nd"]
    assert tally.changed == {"merged_turns": 1}
    _, rejects, _ = run(dialogue("u:a", "a:b", "s:c", "u:d", "a:e"), not_alternating="merge")
    assert rejects[0]["rule"] == "not_alternating"


# --- what a page left ------------------------------------------------------------------------

CODE = "def f():\n    return 1"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"Look:\n```pythonCopy code\n{CODE}\n```", f"Look:\n```python\n{CODE}\n```"),
        (f"Look:\n```python\nCopy code\n{CODE}\n```", f"Look:\n```python\n{CODE}\n```"),
        (f"Look:\n```python\nCopy\n{CODE}\n```", f"Look:\n```python\n{CODE}\n```"),
        (f"Look:\n```\npythonCopy code\n{CODE}\n```", f"Look:\n```python\n{CODE}\n```"),
        (f"Look:\n```\npythonCopy code{CODE}\n```", f"Look:\n```python\n{CODE}\n```"),
        (f"看：\n```python复制代码\n{CODE}\n```", f"看：\n```python\n{CODE}\n```"),
        (f"看：\n```c++\n复制代码\n{CODE}\n```", f"看：\n```c++\n{CODE}\n```"),
        ("2 / 3\n\nThe answer is 7.", "The answer is 7."),
        ("Good.\nRegenerate response\n", "Good.\n"),
        ("Good.\nCopy code\nMore.", "Good.\nMore."),
        ("Share Prompt\nCopy123 chars / 45 words\nHello", "Hello"),
        ("Model: Default\nHello", "Hello"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
    ],
)  # fmt: skip
def test_page_remnants_go(before: str, after: str) -> None:
    assert without_remnants(before) == after
    assert one("u:q", f"a:{before}") == ["u:q", f"a:{after.strip()}"]
    assert one("u:q", f"a:{before}", page_remnants=False) == ["u:q", f"a:{before}"]


@pytest.mark.parametrize(
    "text",
    [
        "The result is\n\n2 / 3",
        "2 / 3",
        "2/3 of it",
        "Press the button Copy code to copy.",
        "```\nCopy that\n```",
        "```python\nRegenerate response\n```",
        "Copy\nthat",
        f"```python\n{CODE}\n```\nand\n```\nx\n```",
        "为什么要复制代码？",
    ],
)
def test_what_only_looks_like_one_stays(text: str) -> None:
    assert without_remnants(text) == text


def test_html_becomes_markdown() -> None:
    html = (
        '<div class="markdown prose"><p>Here is <strong>the list</strong> &amp; a '
        '<a href="https://x.org/?a=1&amp;b=2">link</a>:</p><ol><li>One</li><li>Two<ul><li>deep'
        "</li></ul></li></ol><pre><div><span>python</span><button>Copy code</button></div>"
        '<code class="hljs language-python">if a &lt; b:\n    print("x")\n</code></pre>'
        "<h2>End</h2><p>Use <code>a&lt;b</code><br>or not.</p><table><tr><th>A</th><th>B</th>"
        "</tr><tr><td>1</td><td>2</td></tr></table></div>"
    )
    assert is_page(html)
    expected = (
        "Here is **the list** & a [link](https://x.org/?a=1&b=2):\n\n1. One\n2. Two\n  - deep\n\n"
        '```python\nif a < b:\n    print("x")\n```\n\n## End\n\nUse `a<b`\nor not.\n\nA | B\n1 | 2'
    )
    assert markdown(html) == expected
    (made,), _, tally = run(dialogue("u:q", f"a:{html}"))
    assert made.response == expected
    assert tally.changed == {"html": 1}


@pytest.mark.parametrize(
    "text",
    [
        "How do I close a <div> in HTML?",
        "<div> and <span> are tags; which one is a block?",
        "```html\n<p>Hello</p>\n```",
        "Use `<p>` here:\n```html\n<p>Hello</p>\n```\nDone.",
        "if a < b and c > d: pass",
        "AT&amp;T is written so in HTML.",
        "<think>Let me see.</think> It is 7.",
        "List<String> names",
        '<div id="menu"><p>Hello</p></div>',
        '<form action="/send"><p>Name</p></form>',
        "<div><input><p>Name</p></div>",
    ],
)
def test_text_about_html_stays(text: str) -> None:
    assert one("u:q", f"a:{text}") == ["u:q", f"a:{text}"]


def test_a_users_html_is_read_only_where_the_answer_is_html_too() -> None:
    assert one("u:<p>Why?</p>", "a:So it is.") == ["u:<p>Why?</p>", "a:So it is."]
    assert one("u:<p>Why?</p>", "a:<p>So it is.</p>") == ["u:Why?", "a:So it is."]


def test_fences_stay_in_a_page_and_always_and_never_are_choices() -> None:
    html = "<p>See</p>\n```html\n<p>keep &amp; me</p>\n```\n<p>done</p>"
    kept = "See\n\n```html\n<p>keep &amp; me</p>\n```\n\ndone"
    assert one("u:q", f"a:{html}") == ["u:q", f"a:{kept}"]
    assert one("u:q", f"a:{html}", html="never") == ["u:q", f"a:{html}"]
    assert one("u:q", "a:x <b>y</b> &lt;", html="always") == ["u:q", "a:x **y** <"]


def test_broken_html_is_no_error_and_no_long_wait() -> None:
    assert markdown("<p>a<![b</p><!-- c --><?d") == "a<![b\n\n<?d"
    rng = Random(3)
    pieces = ["<p>", "<![", "<!", "<!--", "-->", "<", "&", "&#x", "<pre>", "</pre>", "<a href=",
              "```", "\n", "]]>", "<?", "</ul>", "<li>", "<td", "x", "'", "</button>"]  # fmt: skip
    for _ in range(3000):
        markdown("".join(rng.choices(pieces, k=rng.randrange(1, 15))))
    for text in ("`" * 100_000, "<!--" * 50_000, "```\n" * 30_000, "<p>" * 50_000):
        markdown(text)
        is_page(text)
        without_remnants(text)


# --- splitting -------------------------------------------------------------------------------


def exchanges(rows: list[Example]) -> list[Message]:
    return [turn for row in rows for turn in row.messages if turn.role != "system"]


def cost(messages: Messages, per_turn: int = 6) -> int:
    return sum(estimate_tokens(turn.content) + per_turn for turn in messages)


def test_parts_take_as_many_exchanges_as_fit() -> None:
    # Each turn is 4 letters: one token and six for its markers, 14 an exchange.
    row = dialogue("s:abcd", *["u:abcd", "a:wxyz"] * 5, lang="en", parents=["old"])
    made, rejects, tally = run(row, max_tokens=35)
    assert not rejects
    assert [len(part.messages) for part in made] == [5, 5, 3]
    assert all(part.messages[0] == Message("system", "abcd") for part in made)
    assert exchanges(made) == list(row.messages[1:])
    assert [cost(part.messages) for part in made] == [35, 35, 21]
    assert [(part.meta["part"], part.meta["of_parts"]) for part in made] == [(1, 3), (2, 3), (3, 3)]
    assert all(part.meta["parents"] == [row.id, "old"] for part in made)
    assert all(part.meta["operator"] == "split" and part.meta["lang"] == "en" for part in made)
    assert tally.changed == {"split": 1}
    assert [len(part.messages) for part in run(row, max_tokens=34)[0]] == [3] * 5
    assert run(row, max_tokens=77)[0] == [row]
    assert run(row, max_tokens=35, turn_tokens=0)[0] == [row]


def test_an_exchange_that_is_too_long_is_a_reject_and_a_border() -> None:
    long = "word " * 100
    row = dialogue("u:a", "a:b", f"u:{long}", "a:c", "u:d", "a:e", "u:f", "a:g", source="s")
    made, rejects, tally = run(row, max_tokens=60)
    assert [texts(part) for part in made] == [["u:a", "a:b"], ["u:d", "a:e", "u:f", "a:g"]]
    (reject,) = rejects
    assert (reject["rule"], reject["id"], reject["source"]) == ("long_exchange", row.id, "s")
    assert reject["text"] == f"user: {long}\nassistant: c"
    assert tally.rejected == {"long_exchange": 1}
    made, rejects, _ = run(dialogue(f"u:{long}", "a:b"), dialogue("u:x", "a:y"), max_tokens=60)
    assert len(made) == 1 and len(rejects) == 1


def test_a_part_keeps_no_input_or_reference_of_another() -> None:
    row = dialogue("u:Sum up.\n\nThe text", "a:It", "u:b", "a:c", input="The text", reference="r")
    made, _, _ = run(row, max_tokens=30)
    assert [("input" in part.meta, "reference" in part.meta) for part in made] == [
        (True, False),
        (False, False),
    ]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_random_dialogues_are_cut_only_at_borders(language: str) -> None:
    word = "word " if language == "en" else "字"
    rng = Random(language)
    for _ in range(300):
        turns = [
            f"{'ua'[n % 2]}:{n}{word * rng.randrange(1, 30)}"
            for n in range(2 * rng.randrange(1, 9))
        ]
        head = ["s:" + word * rng.randrange(1, 10)] if rng.random() < 0.5 else []
        row, limit = dialogue(*head, *turns), rng.randrange(20, 200)
        made, rejects, _ = run(row, max_tokens=limit)
        for part in made:
            assert disorder(part.messages) is None
            assert cost(part.messages) <= limit
        lost = sum(reject["rule"] == "long_exchange" for reject in rejects)
        assert len(exchanges(made)) == len(turns) - 2 * lost
        if not lost:
            assert exchanges(made) == list(row.messages[len(head) :])
        # No part could have taken the first exchange of the next one.
        for part, after in pairwise(made):
            both = (*part.messages, *after.messages[len(head) : len(head) + 2])
            assert lost or cost(both) > limit


def test_tokens_are_estimated_by_script() -> None:
    assert [estimate_tokens(text) for text in ("", "a", "abcd", "abcde", "四个字啊", "四a")] == [
        0, 1, 1, 2, 4, 2,
    ]  # fmt: skip


def test_a_tokenizer_counts_where_one_is_given(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"[UNK]": 0, "a": 1, "b": 2}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    count = token_counter(str(tmp_path))
    assert count(["a b a", "", "something else 四个字"]) == [3, 0, 3]
    row = dialogue("u:a b", "a:" + "abcdefgh" * 50, "u:a", "a:b")
    assert run(row, max_tokens=17, tokenizer=str(tmp_path))[0][0].meta["of_parts"] == 2
    assert run(row, max_tokens=29, tokenizer=str(tmp_path))[0] == [row]


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing-here"):
        run(dialogue("u:a", "a:b"), max_tokens=5, tokenizer=str(tmp_path / "nothing-here"))
    (tmp_path / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        token_counter(str(tmp_path))


# --- real data -------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [40, 60, 90])
def test_real_dialogues_split_soundly(shared_data: Path, limit: int) -> None:
    path = shared_data / "sharegpt" / "dummy_conversation.json"
    rows = list(read_examples(path))
    cleaned, rejects, tally = run(*rows)
    assert len(cleaned) == 500 and not rejects
    made, rejects, tally = run(*rows, max_tokens=limit)
    parts: dict[str, list[Example]] = {}
    for part in made:
        parts.setdefault(part.meta.get("parents", [part.id])[0], []).append(part)
        assert disorder(part.messages) is None
        assert cost(part.messages) <= limit
    lost: dict[str, int] = {}
    for reject in rejects:
        assert reject["rule"] == "long_exchange"
        lost[reject["id"]] = lost.get(reject["id"], 0) + 1
    assert tally.changed["split"] > 100
    whole = 0
    for row in {row.id: row for row in cleaned}.values():
        copies = sum(other.id == row.id for other in cleaned)
        found = exchanges(parts.get(row.id, []))
        if row.id not in lost:
            assert found == list(row.messages) * copies
            whole += 1
        else:
            assert len(found) == len(row.messages) * copies - 2 * lost[row.id]
    assert whole > 100
