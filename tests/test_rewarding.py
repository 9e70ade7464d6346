"""Reward models of any family: the score of a sequence alone, its own tokenizer and template."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import reward_models
import rl_models

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from espalier.encoding import encode_example, through_answer  # noqa: E402
from espalier.errors import InputError, UsageError  # noqa: E402
from espalier.models import load_model, load_tokenizer  # noqa: E402
from espalier.records import Message  # noqa: E402
from espalier.reward_heads import output_layer  # noqa: E402
from espalier.rewarding import RewardScorer, encode_answers, normalisation, reward_template  # noqa: E402
from espalier.scoring import context_limit, reward_scores, separator_of  # noqa: E402
from espalier.templates import get_template  # noqa: E402

ASK = (Message("user", "count to 3"),)
LONG = (
    Message("system", "be good"),
    Message("user", "say a [SEP] b"),
    Message("assistant", "a b"),
    Message("user", "again"),
)


def tokenizer_for(kind: str) -> Any:
    if kind in reward_models.CAUSAL:
        return rl_models.make_tokenizer()
    return reward_models.encoder_tokenizer("roberta" if kind in ("roberta", "bart") else "bert")


def conversations(count: int = 8) -> list[tuple[Any, dict[str, Any]]]:
    rng = random.Random(1)
    answers = [
        "".join(rng.choice("abc 12") for _ in range(rng.randint(1, 20))) for _ in range(count)
    ]
    return [
        ((*(ASK if i % 2 else LONG), Message("assistant", a)), {}) for i, a in enumerate(answers)
    ]


@pytest.mark.parametrize("kind", [*reward_models.CAUSAL, *reward_models.ENCODERS])
def test_a_score_is_that_of_the_sequence_alone_in_transformers(kind: str) -> None:
    tokenizer = tokenizer_for(kind)
    model = reward_models.classifier(kind, tokenizer)
    name = "espalier" if kind in reward_models.CAUSAL else "text-pair"
    template = get_template(name, tokenizer=tokenizer)
    rows = [e.ids for e in encode_answers(tokenizer, template, conversations())]
    alone = []
    for ids in rows:
        inputs = {"input_ids": torch.tensor([ids])}
        if kind == "bert":
            # What BERT's own tokenizer calls the types of a pair.
            first = ids.index(tokenizer.sep_token_id)
            inputs["token_type_ids"] = torch.tensor([[int(i > first) for i in range(len(ids))]])
        with torch.no_grad():
            alone.append(float(model(**inputs).logits[0, 0]))
    assert max(alone) - min(alone) > 1e-3
    for side in ("left", "right"):
        tokenizer.padding_side = side
        for budget in (60, 8192):
            found = reward_scores(model, tokenizer, rows, token_budget=budget)
            assert found == pytest.approx(alone, abs=2e-5)


def test_text_pairs_are_encoded_as_the_tokenizer_does_it() -> None:
    for kind in ("bert", "roberta"):
        tokenizer = reward_models.encoder_tokenizer(kind)
        template = get_template("text-pair", tokenizer=tokenizer)
        ours = encode_example(tokenizer, template, (*ASK, Message("assistant", "a </s> [SEP]")))
        theirs = tokenizer(ASK[0].content, "a </s> [SEP]", split_special_tokens=True)
        assert ours.ids == theirs["input_ids"]
        if kind == "bert":
            model = reward_models.classifier("bert", tokenizer)
            first = ours.ids.index(separator_of(model, tokenizer))
            assert theirs["token_type_ids"] == [int(i > first) for i in range(len(ours.ids))]
    assert separator_of(reward_models.classifier("roberta", tokenizer), tokenizer) is None
    with pytest.raises(UsageError, match="text-pair"):
        get_template("text-pair", tokenizer=rl_models.make_tokenizer())


def test_only_the_last_answer_is_the_answer() -> None:
    tokenizer, template = rl_models.make_tokenizer(), get_template("espalier")
    turns = (*LONG, Message("assistant", "abc"))
    ours = encode_answers(tokenizer, template, [(turns, {})])[0]
    whole = through_answer(encode_example(tokenizer, template, turns))
    assert ours.ids == whole.ids
    # A space, three letters, and the end.
    assert [i for i, trained in enumerate(ours.trained) if trained] == list(
        range(len(ours) - 5, len(ours))
    )


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2"])
def test_a_foreign_reward_model_scores_with_its_own_tokenizer(kind: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_for(kind)
    if kind == "gpt2":
        tokenizer.chat_template = (
            "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}"
            "{% if m['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ ' ' }}{% endif %}"
            "{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
        )
    model = reward_models.classifier(kind, tokenizer, seed=3)
    folder = reward_models.save(model, tokenizer, tmp_path / kind)
    mean, deviation, known = normalisation(folder)
    assert (mean, deviation, known) == (0.0, 1.0, False)
    scorer = RewardScorer(folder, mean=mean, deviation=deviation, dtype="float32", token_budget=200)
    assert scorer.template.name == ("model" if kind == "gpt2" else "text-pair")
    scorer.model.to("cpu")
    found = scorer.score([ASK, ASK], ["abc", "1"], [{}, {}])
    for answer, score in zip(("abc", "1"), found, strict=True):
        text = f"user: count to 3 assistant: {answer}{tokenizer.eos_token}"
        inputs = (
            tokenizer(text, return_tensors="pt") if kind == "gpt2"
            else tokenizer(ASK[0].content, answer, return_tensors="pt")
        )  # fmt: skip
        with torch.no_grad():
            assert score == pytest.approx(float(model(**inputs).logits[0, 0]), abs=2e-5)


def test_too_long_a_prompt_is_cut_for_the_model(tmp_path: Path) -> None:
    tokenizer = reward_models.encoder_tokenizer("roberta")
    model = reward_models.classifier("roberta", tokenizer)
    # Two positions before the first belong to padding.
    assert context_limit(model) == 132 - 2
    folder = reward_models.save(model, tokenizer, tmp_path / "m")
    scorer = RewardScorer(folder, mean=0.0, deviation=1.0, dtype="float32", token_budget=999)
    long = (Message("user", "a" * 400),)
    scores = scorer.score([long, long], ["abc", "b"], [{}, {}])
    assert scores[0] != scores[1]


def test_several_labels_need_a_name(tmp_path: Path) -> None:
    tokenizer = reward_models.encoder_tokenizer()
    model = reward_models.classifier("bert", tokenizer, labels=3)
    model.config.id2label = {0: "bad", 1: "so so", 2: "good"}
    folder = reward_models.save(model, tokenizer, tmp_path / "m")
    with pytest.raises(InputError, match=r"3 outputs") as caught:
        load_model(folder, kind="reward", device="cpu")
    assert "2 (good)" in str(caught.value)
    with pytest.raises(InputError, match="no output named 'great'"):
        load_model(folder, kind="reward", device="cpu", label="great")
    ids = torch.tensor([tokenizer("abc", "b")["input_ids"]])
    with torch.no_grad():
        wanted = model(ids).logits[0]
        for label, place in (("good", 2), ("1", 1), (0, 0)):
            one = load_model(folder, kind="reward", device="cpu", label=label)
            assert one.config.num_labels == 1
            assert one(ids).logits.shape == (1, 1)
            assert float(one(ids).logits) == pytest.approx(float(wanted[place]), abs=1e-6)
    one.save_pretrained(tmp_path / "one")
    tokenizer.save_pretrained(tmp_path / "one")
    assert load_model(tmp_path / "one", kind="reward", device="cpu").config.num_labels == 1
    with pytest.raises(InputError, match="no output named 'good'"):
        load_model(rl_models.save(rl_models.make_model(), tmp_path / "c"), kind="reward",
                   device="cpu", label="good")  # fmt: skip


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2"])
def test_a_missing_head_is_drawn_by_the_seed_alone(kind: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_for(kind)
    model = reward_models.classifier(kind, tokenizer)
    reward_models.save(model.base_model, tokenizer, tmp_path / "m")
    heads = []
    for torch_seed, seed in ((1, 5), (2, 5), (1, 6)):
        torch.manual_seed(torch_seed)
        loaded = load_model(tmp_path / "m", kind="reward", head_seed=seed, device="cpu")
        name, layer = output_layer(loaded)
        state = loaded.state_dict()
        fresh = [k for k in state if not k.startswith(f"{loaded.base_model_prefix}.")]
        heads.append([state[k] for k in sorted(fresh)])
        assert name.startswith("score" if kind == "gpt2" else "classifier")
        assert layer.weight.shape == (1, 32)
        if layer.bias is not None:
            assert not layer.bias.any()
    same, other = zip(heads[0], heads[1], strict=True), zip(heads[0], heads[2], strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert not all(torch.equal(a, b) for a, b in other)


def test_nothing_says_how_to_write_for_a_plain_base(tmp_path: Path) -> None:
    tokenizer = rl_models.make_tokenizer()
    with pytest.raises(UsageError, match="Nothing says which prompt template"):
        reward_template(tmp_path, tokenizer)
    assert reward_template(tmp_path, tokenizer, "vicuna").name == "vicuna"
    encoder = reward_models.encoder_tokenizer()
    assert reward_template(tmp_path, encoder).name == "text-pair"
    (tmp_path / "template.json").write_text('{"name": "qa"}', encoding="utf-8")
    assert reward_template(tmp_path, encoder).name == "qa"


def test_a_tokenizer_without_padding_is_given_one(tmp_path: Path) -> None:
    tokenizer = rl_models.make_tokenizer()
    model = reward_models.classifier("gpt2", tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    reward_models.save(model, tokenizer, tmp_path / "m")
    loaded = load_tokenizer(tmp_path / "m")
    assert loaded.pad_token_id != loaded.eos_token_id
    rows = [[5, 6, 7, tokenizer.eos_token_id], [8, tokenizer.eos_token_id]]
    again = load_model(tmp_path / "m", kind="reward", device="cpu")
    with torch.no_grad():
        hidden = [model.transformer(torch.tensor([ids])).last_hidden_state[0, -1] for ids in rows]
        wanted = [float(model.score(h)[0]) for h in hidden]
    # transformers pools before the end token here, since padding is the end token.
    assert reward_scores(again, loaded, rows) == pytest.approx(wanted, abs=2e-5)
