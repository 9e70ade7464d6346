"""Conversations to ids: masks, BOS, truncation, and what becomes of unusable rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from espalier.encoding import (
    Encoded,
    EncodingCounts,
    encode_example,
    encode_examples,
    encode_prompt,
    truncate_prompt,
)
from espalier.errors import InputError, StageError
from espalier.formats.read import read_examples
from espalier.records import Example, Message
from espalier.templates import get_template

SPACED = get_template("espalier")


def with_bos() -> Any:
    tok = tiny.tokenizer()
    tok.add_special_tokens({"bos_token": "<s>"})
    tok.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tok.bos_token_id)]
    )
    return tok


def test_trained_tokens_decode_to_the_answer_and_its_end() -> None:
    tok = tiny.tokenizer()
    example = Example.single("count the words: 你好 12", "the answer is 12 你好")
    encoded = encode_example(tok, SPACED, example.messages)
    span = [i for i, t in zip(encoded.ids, encoded.trained, strict=True) if t]
    assert tok.decode(span) == " the answer is 12 你好<|end|>"
    assert span[-1] == tok.eos_token_id
    rest = [i for i, t in zip(encoded.ids, encoded.trained, strict=True) if not t]
    assert tok.decode(rest) == "<|user|> count the words: 你好 12<|end|><|assistant|>"


def test_a_copied_word_keeps_its_ids() -> None:
    tok = tiny.tokenizer()
    encoded = encode_example(tok, SPACED, Example.single("world hello", "hello 猫 7").messages)
    prompt = encode_prompt(tok, SPACED, Example.single("7 猫 hello").messages)
    span = [i for i, t in zip(encoded.ids, encoded.trained, strict=True) if t][:-1]
    assert set(span) <= set(prompt)


@pytest.mark.parametrize("name", ["espalier", "alpaca", "vicuna", "chatml", "qa", "model"])
def test_the_prompt_is_the_beginning_of_the_example(name: str) -> None:
    for tok in (tiny.tokenizer(), with_bos()):
        template = get_template(name, tokenizer=tok)
        example = Example.single("hello world", "the cat")
        whole = encode_example(tok, template, example.messages)
        prompt = encode_prompt(tok, template, example.messages)
        assert whole.ids[: len(prompt)] == prompt
        assert not any(whole.trained[: len(prompt)])
        assert whole.trained[len(prompt)]


def test_one_bos_and_only_where_the_tokenizer_puts_one() -> None:
    example = Example.single("hello", "world")
    tok = with_bos()
    ids = encode_example(tok, SPACED, example.messages).ids
    assert ids[0] == tok.bos_token_id
    assert ids.count(tok.bos_token_id) == 1
    # A chat template that writes the BOS itself.
    tok.chat_template = "{{ bos_token }}" + tok.chat_template
    ids = encode_example(tok, get_template("model", tokenizer=tok), example.messages).ids
    assert ids.count(tok.bos_token_id) == 1
    # A tokenizer that has a BOS and never adds it.
    tok = tiny.tokenizer()
    tok.add_special_tokens({"bos_token": "<s>"})
    assert tok.bos_token_id not in encode_example(tok, SPACED, example.messages).ids


def test_truncation_takes_from_the_prompt_first() -> None:
    ids = list(range(10))
    trained = [False] * 7 + [True] * 3
    cut = truncate_prompt(Encoded(ids, trained), 6)
    assert cut == Encoded([0, 5, 6, 7, 8, 9], [False] * 3 + [True] * 3)
    # Not enough prompt: its first and last token stay, the answer loses its end.
    cut = truncate_prompt(Encoded(ids, trained), 4)
    assert cut == Encoded([0, 6, 7, 8], [False, False, True, True])
    assert truncate_prompt(Encoded(ids, trained), 10) == Encoded(ids, trained)


def test_truncation_leaves_later_answers_whole() -> None:
    #      0  1-3 prompt   4-6 answer  7-8 prompt  9-10 answer
    trained = [False] * 4 + [True] * 3 + [False] * 2 + [True] * 2
    row = Encoded(list(range(11)), trained)
    flags = dict(enumerate(trained))
    for limit in range(1, 12):
        cut = truncate_prompt(row, limit)
        assert len(cut) == limit
        assert cut.ids[0] == 0
        lost = 11 - limit
        if limit >= 4:  # the last answer and its marker stay
            assert cut.ids == [0, *range(1 + lost, 11)]
            begun = 3 <= lost < 7  # the row begins with the first answer, or with its rest
            expected = [flags[i] and not (begun and i < 7) for i in cut.ids]
            assert cut.trained == expected
        else:
            assert cut.ids == [0, 8, 9, 10][:limit]
    assert row.trained == trained


def test_rows_that_cannot_be_used_are_counted() -> None:
    tok = tiny.tokenizer()
    long = Example.single("the cat sat on the mat " * 20, "hello")
    rows = [Example.single("hello", "world"), long, Example.make([Message("user", "no answer")])]
    counts = EncodingCounts()
    kept = encode_examples(tok, SPACED, rows, max_length=40, over_long="drop", counts=counts)
    assert {row.id for row in kept} <= {row.id for row in rows}
    assert len(kept) == 1
    figures = {"kept": 1, "truncated": 0, "too_long": 1, "untrained": 1}
    named = {"too_long": [long.id], "untrained": [rows[2].id]}
    assert counts.to_json() == {**figures, "first_ids": named}
    assert counts.dropped_ids == [long.id, rows[2].id]
    counts = EncodingCounts()
    kept = encode_examples(tok, SPACED, rows, max_length=40, counts=counts)
    assert [len(row) <= 40 for row in kept] == [True, True]
    figures = {"kept": 2, "truncated": 1, "too_long": 0, "untrained": 1}
    named = {"truncated": [long.id], "untrained": [rows[2].id]}
    assert counts.to_json() == {**figures, "first_ids": named}
    with pytest.raises(StageError, match="at most 40"):
        encode_examples(tok, SPACED, rows, max_length=40, over_long="stop")


def test_no_usable_row_is_an_error() -> None:
    rows = [Example.make([Message("user", "no answer")])]
    with pytest.raises(StageError, match="None of 1 rows"):
        encode_examples(tiny.tokenizer(), SPACED, rows)


def test_many_rows_are_encoded_as_one_by_one() -> None:
    tok = tiny.tokenizer()
    rows = [Example.single(f"count {i} 猫", f"the answer is {i}") for i in range(20)]
    together = encode_examples(tok, get_template("alpaca"), rows)
    assert together == [encode_example(tok, get_template("alpaca"), r.messages) for r in rows]


# Against plain tokenising -------------------------------------------------------------------


def sentencepiece() -> Any:
    """A tokenizer in the manner of Llama 2: a space mark before every text, bytes for the rest."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    core.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)]
    )  # fmt: skip
    special = ["<unk>", "<s>", "</s>", "<pad>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False)
    core.train_from_iterator([*tiny.TEXTS, "### Instruction: Response: USER ASSISTANT"], trainer)
    core.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        pad_token="<pad>",
    )  # fmt: skip


ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.\n\n### Instruction:\n{prompt}\n\n### Response:\n"
)
PAIRS = [
    ("count the words: one two", "two"),
    ("say 你好", "你好，世界。"),
    ("hello\nworld", "the cat\nsat on the mat"),
    ("a", " two  spaces "),
]


@pytest.mark.parametrize("make", [tiny.tokenizer, with_bos, sentencepiece])
@pytest.mark.parametrize(("prompt", "answer"), PAIRS)
def test_alpaca_is_what_the_whole_text_gives(make: Any, prompt: str, answer: str) -> None:
    tok = make()
    head = ALPACA.format(prompt=prompt)
    # The usual way: the whole text tokenised at once, what the prompt alone gives masked.
    whole = [*tok(head + answer)["input_ids"], tok.eos_token_id]
    masked = len(tok(head)["input_ids"])
    encoded = encode_example(tok, get_template("alpaca"), Example.single(prompt, answer).messages)
    assert encoded.ids == whole
    assert encoded.trained == [i >= masked for i in range(len(whole))]
    span = [i for i, t in zip(encoded.ids, encoded.trained, strict=True) if t]
    assert tok.decode([*tok("\n", add_special_tokens=False)["input_ids"], *span]) == (
        "\n" + answer + tok.eos_token
    )


@pytest.mark.parametrize("make", [tiny.tokenizer, with_bos])
def test_vicuna_is_what_the_whole_text_gives(make: Any) -> None:
    tok = make()
    turns = (Message("user", "hello"), Message("assistant", "你好"),
             Message("user", "the cat"), Message("assistant", "sat on the mat"))  # fmt: skip
    encoded = encode_example(tok, get_template("vicuna"), turns)
    head = (
        "A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions. "
    )
    parts = [(head + "USER: hello ASSISTANT:", " 你好"),
             ("USER: the cat ASSISTANT:", " sat on the mat")]  # fmt: skip
    ids: list[int] = []
    trained: list[bool] = []
    for number, (before, answer) in enumerate(parts):
        both = tok(before + answer, add_special_tokens=number == 0)["input_ids"]
        lead = len(tok(before, add_special_tokens=number == 0)["input_ids"])
        ids += [*both, tok.eos_token_id]
        trained += [False] * lead + [True] * (len(both) - lead + 1)
    assert (encoded.ids, encoded.trained) == (ids, trained)


def test_a_piece_inside_of_a_row_gets_no_space() -> None:
    tok = sentencepiece()
    encoded = encode_example(tok, get_template("chatml"), Example.single("hello", "world").messages)
    assert tok.decode(encoded.ids[1:]) == (
        "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nworld<|im_end|>\n"
    )


# One BOS ------------------------------------------------------------------------------------


def test_a_row_begins_with_one_bos_whoever_writes_it() -> None:
    example = Example.single("hello", "world")
    for adds in (True, False):
        for written in (0, 1, 2):
            tok = with_bos()
            if not adds:
                tok.backend_tokenizer.post_processor = (
                    tiny.tokenizer().backend_tokenizer.post_processor
                )
            plain = tok.chat_template
            tok.chat_template = "{{ bos_token }}" * written + plain
            encoded = encode_example(tok, get_template("model", tokenizer=tok), example.messages)
            count = encoded.ids.count(tok.bos_token_id)
            assert count == (1 if adds or written else 0)
            assert encoded.ids[:count] == [tok.bos_token_id] * count
            assert len(encoded.ids) == len(encoded.trained)
            prompt = encode_prompt(tok, get_template("model", tokenizer=tok), example.messages)
            assert encoded.ids[: len(prompt)] == prompt


def test_a_bos_that_someone_typed_is_text() -> None:
    tok = with_bos()
    rows = [Example.single("<s> hello", "world"), Example.single("hello", "<s>")]
    for template in (SPACED, get_template("model", tokenizer=tok), get_template("alpaca")):
        for row in encode_examples(tok, template, rows):
            assert row.ids.count(tok.bos_token_id) == 1


# What is learnt -----------------------------------------------------------------------------

TALK = (
    Message("system", "Be short."),
    Message("user", "hello"),
    Message("assistant", "world"),
    Message("user", "你好"),
    Message("assistant", "世界"),
)


@pytest.mark.parametrize("name", ["espalier", "chatml", "alpaca", "vicuna", "qa", "model"])
def test_the_last_answer_alone_or_all(name: str) -> None:
    tok = tiny.tokenizer()
    template = get_template(name, tokenizer=tok)
    rows = [Example.make(TALK)]
    (every,) = encode_examples(tok, template, rows, train_on="all")
    (last,) = encode_examples(tok, template, rows, train_on="last")
    assert every.ids == last.ids
    prompt = encode_prompt(tok, template, TALK)
    assert every.ids[: len(prompt)] == prompt
    assert last.trained == [False] * len(prompt) + every.trained[len(prompt) :]
    first = [i for i, t in zip(every.ids[: len(prompt)], every.trained, strict=False) if t]
    assert "world" in tok.decode(first)
    assert "hello" not in tok.decode(first)


# What each template learns of an answer, written down once more.
LEARNT = {
    "espalier": " {}<|end|>",
    "chatml": "{}<|im_end|>",
    "alpaca": "{}<|end|>",
    "alpaca-short": "{}<|end|>",
    "vicuna": " {}<|end|>",
    "qa": " {}\n\n",
    "model": " {}<|end|>",
}
said = st.text(st.sampled_from("hello <|end|> 你好，猫\n#:éß🙂"), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def both_tokenizers() -> list[Any]:
    return [tiny.tokenizer(), with_bos()]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pairs=st.lists(st.tuples(said, said), min_size=1, max_size=3), system=st.booleans())
def test_the_learnt_tokens_are_the_answers_and_their_ends(
    both_tokenizers: list[Any], pairs: list[Any], system: bool
) -> None:
    head = [Message("system", "Be short.")] if system else []
    turns = [m for q, a in pairs for m in (Message("user", q), Message("assistant", a))]
    example = Example.make([*head, *turns])
    for tok in both_tokenizers:
        for name, form in LEARNT.items():
            template = get_template(name, tokenizer=tok)
            for train_on, answers in (("all", pairs), ("last", pairs[-1:])):
                (row,) = encode_examples(tok, template, [example], train_on=train_on)  # type: ignore[arg-type]
                span = [i for i, t in zip(row.ids, row.trained, strict=True) if t]
                assert tok.decode(span) == "".join(form.format(a) for _, a in answers)
                rest = [i for i, t in zip(row.ids, row.trained, strict=True) if not t]
                text = tok.decode(rest)
                assert all(q in text for q, _ in pairs)


def test_cut_answers_are_counted_with_their_rows() -> None:
    tok = tiny.tokenizer()
    rows = [Example.single("hello", "the cat sat on the mat " * i) for i in range(1, 9)]
    counts = EncodingCounts()
    whole = encode_examples(tok, SPACED, rows)
    kept = encode_examples(tok, SPACED, rows, max_length=40, counts=counts)
    shorter = [r.id for r, a, b in zip(rows, whole, kept, strict=True) if a.targets > b.targets]
    assert counts.truncated > counts.answers_cut == len(shorter) > 0
    assert counts.first_ids["answers_cut"] == shorter[:5]
    first = counts.first_ids["truncated"][0]
    notes = counts.notes(40)
    assert notes[0].startswith(f"{counts.truncated} rows truncated to 40 tokens (such as {first}")
    assert notes[1].startswith(f"{len(shorter)} rows with answers cut off")


def test_rows_that_are_all_lost_are_counted_and_named() -> None:
    tok = tiny.tokenizer()
    long = Example.single("the cat sat on the mat " * 20, "hello")
    rows = [long, Example.make([Message("user", "no answer")])]
    with pytest.raises(StageError, match="None of 2 rows") as caught:
        encode_examples(tok, SPACED, rows, max_length=40, over_long="drop")
    assert f"1 row left out, longer than 40 tokens (such as {long.id})" in str(caught.value)
    assert f"without a token to train on (such as {rows[1].id})" in str(caught.value)


def test_answers_without_an_end_marker_are_counted() -> None:
    rows = [Example.single("hello", "world")]
    for name, endless in (("espalier", 0), ("alpaca", 0), ("vicuna", 0), ("qa", 1), ("chatml", 1)):
        counts = EncodingCounts()
        encode_examples(tiny.tokenizer(), get_template(name), rows, counts=counts)
        assert counts.endless == endless  # the tokenizer has no token <|im_end|>
        assert counts.to_json().get("endless", 0) == endless
    assert "does not learn to stop" in counts.notes(None)[0]


@pytest.mark.parametrize("name", ["espalier", "chatml", "alpaca", "vicuna", "qa", "model"])
def test_answers_of_weight_0_are_context_only(name: str, tmp_path: Path) -> None:
    lines = []
    for weights in ((None, None), (0, 1), (1, 0), (0, 0)):
        turns = [{"role": m.role, "content": m.content} for m in TALK]
        for turn, weight in zip([turns[2], turns[4]], weights, strict=True):
            if weight is not None:
                turn["weight"] = weight  # type: ignore[assignment]
        lines.append(json.dumps({"messages": turns}))
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    examples = list(read_examples(file))
    assert [e.meta.get("untrained_answers") for e in examples] == [None, [0], [1], [0, 1]]
    tok = tiny.tokenizer()
    template = get_template(name, tokenizer=tok)
    both, second, first = encode_examples(tok, template, examples)
    counts = EncodingCounts()
    encode_examples(tok, template, examples, counts=counts)
    assert counts.untrained == 1
    assert both.ids == second.ids == first.ids
    half = len(encode_prompt(tok, template, TALK))
    assert second.trained == [False] * half + both.trained[half:]
    assert first.trained == both.trained[:half] + [False] * (len(both) - half)
    (last,) = encode_examples(tok, template, examples[1:3], train_on="last")
    assert last.trained == second.trained


def test_a_weight_that_is_no_weight(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0.5}]
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"messages": turns}), encoding="utf-8")
    with pytest.raises(InputError, match="The weight of turn 2 is neither 0 nor 1"):
        list(read_examples(file))
