"""Perplexities against transformers' own loss, one text at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import rl_models

from espalier.encoding import encode_example, encode_prompt
from espalier.errors import InputError
from espalier.evaluate import perplexity as ppl
from espalier.evaluate.significance import Column
from espalier.records import Message, Messages
from espalier.templates import get_template

TEMPLATE = get_template("espalier")
ANSWERS = ["a", "the answer is 甲乙", "12 34 56", "yes, no", "丙", "one two three. four?"]


def conversation(index: int) -> Messages:
    prompt = rl_models.prompts(len(ANSWERS))[index].prompt
    return (Message("user", prompt), Message("assistant", ANSWERS[index]))


CONVERSATIONS = [conversation(index) for index in range(len(ANSWERS))]


@pytest.fixture(scope="module")
def model() -> Any:
    return rl_models.make_model(seed=3, spread=0.3)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return rl_models.make_tokenizer()


def own_loss(model: Any, ids: Sequence[int], counted: Sequence[bool]) -> tuple[float, int]:
    """Summed loss over the counted tokens by the model's own `labels`."""
    import torch

    labels = [token if keep else -100 for token, keep in zip(ids, counted, strict=True)]
    with torch.no_grad():
        loss = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
    number = sum(counted[1:])
    return float(loss) * number, number


def values(
    model: Any, tokenizer: Any, conversations: Sequence[Messages], **options: Any
) -> dict[str, float]:
    scores = ppl.score_conversations(model, tokenizer, TEMPLATE, conversations, **options)
    references = [turns[-1].content for turns in conversations]
    found = {}
    for scored in ppl.tables({"m": scores}, references, "float32"):
        value = scored.columns["m"].value()
        assert value is not None
        found[scored.metric.name] = value
    return found


def test_all_four_are_what_transformers_loss_gives(model: Any, tokenizer: Any) -> None:
    whole, answers, bits, bytes_ = [], [], 0.0, 0
    for turns in CONVERSATIONS:
        encoded = encode_example(tokenizer, TEMPLATE, turns)
        start = len(encode_prompt(tokenizer, TEMPLATE, turns))
        whole.append(own_loss(model, encoded.ids, [True] * len(encoded)))
        answers.append(own_loss(model, encoded.ids, [i >= start for i in range(len(encoded))]))
        bits += answers[-1][0] / math.log(2)
        bytes_ += len(turns[-1].content.encode())
    ours = values(model, tokenizer, CONVERSATIONS)

    def weighted(parts: list[tuple[float, int]]) -> float:
        return math.exp(sum(nll for nll, _ in parts) / sum(count for _, count in parts))

    assert ours["ppl_whole"] == pytest.approx(weighted(whole), rel=1e-5)
    assert ours["ppl_response"] == pytest.approx(weighted(answers), rel=1e-5)
    assert ours["ppl_text_mean"] == pytest.approx(
        sum(math.exp(nll / count) for nll, count in whole) / len(whole), rel=1e-5
    )
    assert ours["bits_per_byte"] == pytest.approx(bits / bytes_, rel=1e-5)
    assert len(set(ours.values())) == 4


def test_the_answer_counts_its_end_marker_and_nothing_before(model: Any, tokenizer: Any) -> None:
    scores = ppl.score_conversations(model, tokenizer, TEMPLATE, CONVERSATIONS)
    for turns, score in zip(CONVERSATIONS, scores, strict=True):
        assert score is not None
        # One token a character, the space before the answer, and the end marker.
        assert score.answer_tokens == len(turns[-1].content) + 2


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("budget", [1, 64, 100_000])
def test_padding_side_and_batch_size_do_not_matter(
    model: Any, tokenizer: Any, side: str, budget: int
) -> None:
    one_by_one = values(model, tokenizer, CONVERSATIONS, token_budget=1)
    tokenizer.padding_side = side
    ours = values(model, tokenizer, CONVERSATIONS, token_budget=budget)
    assert ours == pytest.approx(one_by_one, rel=1e-5)
    backwards = values(model, tokenizer, CONVERSATIONS[::-1], token_budget=budget)
    assert backwards == pytest.approx(one_by_one, rel=1e-5)


def test_few_shot_examples_are_context_and_not_text(model: Any, tokenizer: Any) -> None:
    shots = (Message("user", "say b"), Message("assistant", "b"))
    turns = (*shots, *CONVERSATIONS[1])
    [score] = ppl.score_conversations(model, tokenizer, TEMPLATE, [turns], skipped=[2])
    assert score is not None
    encoded = encode_example(tokenizer, TEMPLATE, turns)
    first = len(encode_example(tokenizer, TEMPLATE, shots))
    start = len(encode_prompt(tokenizer, TEMPLATE, turns))
    text = own_loss(model, encoded.ids, [i >= first for i in range(len(encoded))])
    answer = own_loss(model, encoded.ids, [i >= start for i in range(len(encoded))])
    assert (score.nll, score.tokens) == (pytest.approx(text[0], rel=1e-5), text[1])
    assert (score.answer_nll, score.answer_tokens) == (
        pytest.approx(answer[0], rel=1e-5),
        answer[1],
    )


def test_a_text_longer_than_the_context_has_no_score(model: Any, tokenizer: Any) -> None:
    scores = ppl.score_conversations(model, tokenizer, TEMPLATE, CONVERSATIONS, limit=20)
    lengths = [len(encode_example(tokenizer, TEMPLATE, turns)) for turns in CONVERSATIONS]
    assert [score is None for score in scores] == [length > 20 for length in lengths]
    assert any(length > 20 for length in lengths) and any(length <= 20 for length in lengths)


def test_running_text_is_scored_in_pieces_of_the_context(model: Any, tokenizer: Any) -> None:
    text = "a count to 3 and then say what is 1 2"
    ids = tokenizer(text)["input_ids"]
    expected, tokens = 0.0, 0
    for start in range(0, len(ids), 16):
        piece = ids[start : start + 16]
        if len(piece) > 1:
            loss, count = own_loss(model, piece, [True] * len(piece))
            expected, tokens = expected + loss, tokens + count
    [score] = ppl.score_texts(model, tokenizer, [text], limit=16)
    assert score is not None
    assert (score.nll, score.tokens) == (pytest.approx(expected, rel=1e-5), tokens)
    assert ppl.score_texts(model, tokenizer, ["", "a"]) == [None, None]


def rolled(model: Any, ids: list[int], start: int, limit: int) -> tuple[float, int]:
    """Every token predicted once, from windows of `limit` inputs of which the last is full."""
    whole, total = [start, *ids], 0.0
    for done in range(0, len(ids), limit):
        end = min(done + limit, len(ids))
        window = whole[max(0, end - limit) : end + 1]
        counted = [False] * (len(window) - (end - done)) + [True] * (end - done)
        loss, count = own_loss(model, window, counted)
        total += loss
        assert count == end - done
    return total, len(ids)


@pytest.mark.parametrize("limit", [5, 16, 100, None])
def test_rolling_windows_predict_every_token_once(
    model: Any, tokenizer: Any, limit: int | None
) -> None:
    texts = ["a count to 3 and then say what is 1 2", "b", ""]
    scores = ppl.score_texts(model, tokenizer, texts, limit=limit, windows="rolling")
    assert scores[2] is None
    for text, score in zip(texts[:2], scores, strict=False):
        ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        nll, count = rolled(model, ids, tokenizer.eos_token_id, limit or len(ids))
        assert score is not None
        assert (score.nll, score.tokens) == (pytest.approx(nll, rel=1e-5), count)


def test_a_rolling_window_needs_no_position_beyond_the_models(tokenizer: Any) -> None:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=8, n_embd=16, n_layer=1, n_head=2)
    gpt = GPT2LMHeadModel(config).eval()
    text = "a count to 3 and 12"
    [score] = ppl.score_texts(gpt, tokenizer, [text], limit=8, windows="rolling")
    expected = 0.0
    ids = [tokenizer.eos_token_id, *tokenizer(text)["input_ids"]]
    for place in range(1, len(ids)):
        # The window of the token: the last one begins where it has eight inputs.
        done = (place - 1) // 8 * 8
        end = min(done + 8, len(ids) - 1)
        with torch.no_grad():
            logits = gpt(input_ids=torch.tensor([ids[max(0, end - 8) : place]])).logits[0, -1]
        expected -= float(logits.log_softmax(-1)[ids[place]])
    assert score is not None
    assert (score.nll, score.tokens) == (pytest.approx(expected, rel=1e-5), len(ids) - 1)


def test_a_tokenizer_without_bos_and_eos_has_no_rolling_windows(model: Any) -> None:
    tokenizer = rl_models.make_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="neither a BOS nor an EOS"):
        ppl.score_texts(model, tokenizer, ["a"], windows="rolling")


def test_corpus_forms_and_forgetting_are_ratios_of_sums() -> None:
    def score(nll: float, tokens: int) -> ppl.TextScore:
        return ppl.TextScore(nll, tokens, 0.0, 0)

    texts = ["four", "甲乙"]
    base = [score(4.0, 4), score(2.0, 1)]
    tuned: list[ppl.TextScore | None] = [score(8.0, 4), None]
    found = ppl.tables({"m": base}, texts, "float32", ppl.ON_A_CORPUS)
    values = {one.metric.name: one.columns["m"].value() for one in found}
    assert values["ppl_corpus"] == pytest.approx(math.exp(6 / 5))
    assert values["ppl_corpus_mean"] == pytest.approx((math.exp(1) + math.exp(2)) / 2)
    assert values["bpb_corpus"] == pytest.approx(6 / math.log(2) / (4 + 6))
    lost = ppl.forgetting({"base": base, "sft": tuned}, "base", "float32")
    assert lost.columns["base"].value() == 1.0
    # Shared texts only: exp(8/4) / exp(4/4).
    assert lost.columns["sft"].value() == pytest.approx(math.e)
    details = lost.details["sft"]
    assert (details["perplexity"], details["before"]) == pytest.approx((math.e**2, math.e))
    assert "before:base" in lost.metric.signature


def test_models_that_part_the_texts_otherwise_are_named() -> None:
    def scores(*tokens: int) -> list[ppl.TextScore | None]:
        return [ppl.TextScore(1.0, count + 9, 1.0, count) for count in tokens]

    # A template with one token more is the same tokenizer; a token at one border is, too.
    by_model = {
        "base": [*scores(100, 200, 300, 40), None],
        "sft": [None, *scores(201, 301, 41, 7)],
        "border": scores(100, 201, 300, 40, 9),
        "other": scores(80, 150, 260, 33, 9),
    }
    found = ppl.tables(by_model, ["a"] * 5, "float32")
    assert found[0].details["base"] == {"tokens": 640, "tokens_as_first": True}
    [told] = ppl.token_warnings(found)
    assert told.startswith("Perplexities of other and base can't be compared")
    assert not ppl.token_warnings([one for one in found if one.metric.name == "bits_per_byte"])


def test_a_text_of_no_token_has_no_mean_perplexity() -> None:
    score = ppl.TextScore(0.0, 0, 0.0, 0)
    assert ppl.column_of("ppl_text_mean", [score], ["a"])[0].n == 0


def test_a_row_without_score_has_no_value_and_the_bytes_are_utf8() -> None:
    score = ppl.TextScore(nll=8.0, tokens=4, answer_nll=math.log(2) * 6, answer_tokens=3)
    column, rows = ppl.column_of("bits_per_byte", [score, None], ["甲乙", None])
    assert rows == [pytest.approx(1.0), None]
    assert column.n == 1 and isinstance(column, Column)
    assert np.isclose(column.value() or 0.0, 1.0)
