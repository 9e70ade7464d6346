"""Conversations to ids: masks, BOS, truncation, and what becomes of unusable rows."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
from tokenizers.processors import TemplateProcessing

from espalier.encoding import (
    Encoded,
    EncodingCounts,
    encode_example,
    encode_examples,
    encode_prompt,
    truncate_prompt,
)
from espalier.errors import StageError
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


def test_rows_that_cannot_be_used_are_counted() -> None:
    tok = tiny.tokenizer()
    long = Example.single("the cat sat on the mat " * 20, "hello")
    rows = [Example.single("hello", "world"), long, Example.make([Message("user", "no answer")])]
    counts = EncodingCounts()
    kept = encode_examples(tok, SPACED, rows, max_length=40, over_long="drop", counts=counts)
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
