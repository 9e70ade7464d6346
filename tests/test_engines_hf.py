"""The transformers engine and its decoding loop, against `model.generate` and closed forms."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from espalier.decoding import choose, decode, decode_stream, row_seed  # noqa: E402
from espalier.engines import open_engine  # noqa: E402
from espalier.engines.base import EngineSpec, Request, Sampling  # noqa: E402
from espalier.engines.hf import TransformersEngine  # noqa: E402
from espalier.errors import InputError, StageError, UsageError  # noqa: E402

PAD, EOS = 0, 1
WORDS = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<unk>"]
WORDS += [f"w{i}" for i in range(58)]


def tiny(kind: str = "llama", vocabulary: int = 64, seed: int = 0, **more: Any) -> Any:
    torch.manual_seed(seed)
    if kind == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=2, n_positions=64, **more
        )
        model = transformers.GPT2LMHeadModel(config)
    else:
        shape = {
            "vocab_size": vocabulary,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 128,
            "pad_token_id": PAD,
            "bos_token_id": None,
            "eos_token_id": EOS,
            **more,
        }
        if kind == "mistral":
            config = transformers.MistralConfig(**shape, sliding_window=6)
            model = transformers.MistralForCausalLM(config)
        else:
            model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)  # far from uniform, so that greedy paths differ
    return model.eval()


def ragged(count: int, seed: int = 0, longest: int = 20) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(6, 64, rng.integers(1, longest)).tolist() for _ in range(count)]


def generate(
    model: Any, prompts: Sequence[Sequence[int]], steps: int, eos: int = EOS
) -> list[list[int]]:
    """The new tokens of greedy `model.generate`, up to and with the end token."""
    width = max(len(p) for p in prompts)
    ids = torch.full((len(prompts), width), PAD)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    out = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=steps,
        do_sample=False,
        eos_token_id=eos,
        pad_token_id=PAD,
    )
    new = [row[width:] for row in out.tolist()]
    return [row[: row.index(eos) + 1] if eos in row else row for row in new]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral"])
def test_greedy_equals_generate_token_for_token(kind: str) -> None:
    model = tiny(kind)
    prompts = ragged(24)
    # An end token that some rows reach and some do not.
    free = generate(model, prompts, 24, eos=-1)
    eos = Counter(token for row in free for token in set(row)).most_common(1)[0][0]
    ours = decode(
        model, prompts, max_new_tokens=24, pad_id=PAD, temperature=0, stop_ids=[eos], max_rows=9
    )
    # In one padded batch, and each prompt alone without any padding.
    assert [list(d.ids) for d in ours] == generate(model, prompts, 24, eos)
    assert [list(d.ids) for d in ours] == [generate(model, [p], 24, eos)[0] for p in prompts]
    ended = [d.ids[-1] == eos for d in ours]
    assert [d.finish_reason == "stop" for d in ours] == ended
    assert all(eos not in d.ids[:-1] for d in ours)
    assert any(ended)
    assert not all(ended)


def test_logprobs_are_those_of_one_plain_forward_pass() -> None:
    model = tiny()
    prompts = ragged(8)
    for temperature in (0.0, 1.0, 1.7):
        settings: dict[str, Any] = {"temperature": temperature, "top_p": 0.9, "stop_ids": [EOS]}
        found = decode(model, prompts, max_new_tokens=8, pad_id=PAD, **settings)
        scaled = decode(
            model, prompts, max_new_tokens=8, pad_id=PAD, logprob_temperature=1.7, **settings
        )
        for prompt, decoded, other in zip(prompts, found, scaled, strict=True):
            ids = torch.tensor([[*prompt, *decoded.ids]])
            with torch.no_grad():
                logits = model(ids).logits[0, len(prompt) - 1 : -1].double()
            chosen = torch.tensor(decoded.ids)[:, None]
            for scale, logprobs in ((1.0, decoded.logprobs), (1.7, other.logprobs)):
                expected = torch.log_softmax(logits / scale, -1).gather(1, chosen)[:, 0]
                np.testing.assert_allclose(logprobs, expected.numpy(), atol=2e-5)


def test_an_answer_does_not_depend_on_what_shares_its_batch() -> None:
    model = tiny()
    prompts = ragged(30, seed=1)
    seeds = [row_seed(7, prompt) for prompt in prompts]

    def ids(order: Sequence[int], **more: Any) -> dict[int, tuple[int, ...]]:
        found = decode(
            model,
            [prompts[i] for i in order],
            max_new_tokens=12,
            pad_id=PAD,
            stop_ids=[EOS],
            seeds=[seeds[i] for i in order],
            **more,
        )
        return dict(zip(order, (d.ids for d in found), strict=True))

    reference = ids(range(30))
    assert ids(range(29, -1, -1)) == reference
    assert ids(range(30), max_rows=1) == reference
    assert ids(range(30), token_budget=70) == reference
    assert ids([3, 17, 4]).items() <= reference.items()
    assert ids(range(30), top_p=0.8) != reference


def test_a_longer_limit_only_continues_an_answer() -> None:
    model, prompts = tiny(), ragged(10)
    short = decode(model, prompts, max_new_tokens=5, pad_id=PAD, stop_ids=[EOS])
    long = decode(model, prompts, max_new_tokens=15, pad_id=PAD, stop_ids=[EOS])
    assert [d.ids for d in short] == [d.ids[:5] for d in long]


class FixedLogits(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    """A "model" whose next-token logits are always the same."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor(logits))

    def forward(self, input_ids: Any, attention_mask: Any, past_key_values: Any, use_cache: bool):  # type: ignore[no-untyped-def]
        rows, width = input_ids.shape

        class Cache:
            def reorder_cache(self, index: Any) -> None:
                pass

        logits = self.logits.expand(rows, width, -1)
        return transformers.modeling_outputs.CausalLMOutputWithPast(
            logits=logits, past_key_values=Cache()
        )


def chi_square(found: Counter[int], expected: np.ndarray[Any, Any], total: int) -> float:
    counts = np.array([found[i] for i in range(len(expected))])
    assert counts[expected == 0].sum() == 0
    kept = expected > 0
    return float((((counts - total * expected) ** 2)[kept] / (total * expected[kept])).sum())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_tempered_distribution(temperature: float) -> None:
    logits = [0.0, 1.0, -1.0, 2.0, 0.5, -3.0]
    rows, steps = 200, 50
    found = decode(
        FixedLogits(logits),
        [[1]] * rows,
        max_new_tokens=steps,
        pad_id=0,
        temperature=temperature,
        seeds=[row_seed(1, [1], sample) for sample in range(rows)],
        max_rows=64,
    )
    counts = Counter(token for d in found for token in d.ids)
    weights = np.exp(np.array(logits) / temperature)
    # 5 degrees of freedom: 20.5 is passed once in a thousand; the seeds are fixed.
    assert chi_square(counts, weights / weights.sum(), rows * steps) < 20.5
    # Neighbouring draws are independent: pairs follow the product of the distributions.
    pairs = Counter(a * 6 + b for d in found for a, b in zip(d.ids[::2], d.ids[1::2], strict=True))
    p = weights / weights.sum()
    assert chi_square(pairs, np.outer(p, p).ravel(), rows * steps // 2) < 67  # 35 d.o.f.


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    p = np.array([0.1, 0.4, 0.05, 0.25, 0.2])
    logits = torch.tensor(np.log(p)).float()
    draws = torch.linspace(0, 1 - 1e-9, 20001, dtype=torch.float64)
    for top_p, kept in (
        (0.39, {1}),
        (0.41, {1, 3}),
        (0.64, {1, 3}),
        (0.66, {1, 3, 4}),
        (1e-9, {1}),
    ):
        counts = Counter(choose(logits.expand(20001, -1), draws, 1.0, top_p).tolist())
        assert set(counts) == kept
        total = sum(p[i] for i in kept)
        for token in kept:
            assert counts[token] / 20001 == pytest.approx(p[token] / total, abs=2e-3)


def test_a_draw_at_either_end_never_picks_an_impossible_token() -> None:
    logits = torch.tensor([[-1e4, 0.0, 1.0, -1e4]]).expand(2, -1)
    draws = torch.tensor([0.0, 1 - 1e-12], dtype=torch.float64)
    assert choose(logits, draws, 1.0, 1.0).tolist() == [1, 2]


def test_presence_penalty_is_taken_once_from_what_was_said() -> None:
    model = FixedLogits([0.0, 1.0, 0.9, 0.8, -9.0])
    plain = decode(model, [[1]], max_new_tokens=4, pad_id=0, temperature=0)
    penalised = decode(
        model, [[1]], max_new_tokens=4, pad_id=0, temperature=0, presence_penalty=0.15
    )
    assert plain[0].ids == (1, 1, 1, 1)
    # 1 falls to .85, then 2 to .75, then 1 (.85) leads again over .8 and .75.
    assert penalised[0].ids == (1, 2, 1, 1)
    assert penalised[0].logprobs[0] == plain[0].logprobs[0]


def test_the_model_keeps_its_modes_and_gets_no_gradient() -> None:
    model = tiny(attention_dropout=0.5)
    model.train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    prompts = ragged(4)
    first = decode(model, prompts, max_new_tokens=6, pad_id=PAD)
    assert first == decode(model, prompts, max_new_tokens=6, pad_id=PAD)
    assert [module.training for module in model.modules()] == modes
    # Still usable inside an autocast region of a training step.
    with torch.autocast("cpu", torch.bfloat16):
        decode(model, prompts, max_new_tokens=3, pad_id=PAD, autocast=torch.bfloat16)
        loss = model(torch.tensor([prompts[0]])).logits.float().logsumexp(-1).sum()
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_bounds_and_odd_input() -> None:
    model = tiny()
    found = decode(model, [[6] * 10, [6] * 3], max_new_tokens=9, pad_id=PAD, max_length=10)
    assert [(len(d.ids), d.finish_reason) for d in found] == [(0, "length"), (7, "length")]
    assert decode(model, [], max_new_tokens=3, pad_id=PAD) == []
    with pytest.raises(ValueError, match="no tokens"):
        decode(model, [[]], max_new_tokens=3, pad_id=PAD)
    with pytest.raises(ValueError, match="2 seeds"):
        decode(model, [[6]], max_new_tokens=3, pad_id=PAD, seeds=[1, 2])
    with pytest.raises(StageError, match="not finite"):
        decode(FixedLogits([float("nan"), 0.0]), [[1]], max_new_tokens=2, pad_id=0)


def test_a_batch_too_large_for_the_memory_is_halved() -> None:
    class Small(FixedLogits):
        most = 3

        def forward(self, input_ids: Any, **more: Any) -> Any:  # type: ignore[override]
            if input_ids.shape[0] > self.most:
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(input_ids, **more)

    model = Small([0.0, 1.0, 2.0])
    prompts = [[1] * (i + 1) for i in range(10)]
    stream = decode_stream(model, prompts, max_new_tokens=4, pad_id=0)
    reference = decode(FixedLogits([0.0, 1.0, 2.0]), prompts, max_new_tokens=4, pad_id=0)
    assert dict(stream) == dict(enumerate(reference))
    model.most = 0
    with pytest.raises(StageError, match="too little memory"):
        decode(model, prompts, max_new_tokens=4, pad_id=0)


def save_tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    inner = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = WhitespaceSplit()
    inner.add_special_tokens(WORDS[:5])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<|pad|>", eos_token="<|end|>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tiny(seed=3).save_pretrained(path)
    save_tokenizer(path)
    (path / "template.json").write_text(json.dumps({"name": "espalier"}))
    return path


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[TransformersEngine]:
    engine = TransformersEngine(str(folder), device="cpu")
    yield engine
    engine.close()


def test_messages_go_through_the_folders_template(engine: TransformersEngine) -> None:
    sampling = Sampling(temperature=0, max_tokens=16)
    [chat] = engine.generate([Request.of("w1 w2")], sampling)
    by_hand = (3, WORDS.index("w1"), WORDS.index("w2"), EOS, 4)  # <|user|> w1 w2 <|end|> …
    [plain] = engine.generate([Request(token_ids=by_hand)], sampling)
    assert chat == plain
    assert chat.usage.prompt_tokens == 5
    assert chat.usage.completion_tokens == len(chat.token_ids) == len(chat.logprobs)


def test_order_samples_and_seeds(folder: Path) -> None:
    asked = [
        Request.of(" ".join(f"w{j}" for j in range(i % 7 + 1)), sample=i // 7) for i in range(21)
    ]
    sampling = Sampling(max_tokens=10)
    engine = TransformersEngine(str(folder), seed=1, device="cpu", max_rows=4)
    answers = list(engine.generate(asked, sampling))
    assert len({a.token_ids for a in answers}) == 21
    again = [a.token_ids for a in engine.generate(asked[::-1], sampling)]
    assert again == [a.token_ids for a in answers[::-1]]
    for other in (
        TransformersEngine(str(folder), seed=2, device="cpu").generate(asked, sampling),
        engine.generate(asked, Sampling(max_tokens=10, seed=1)),
    ):
        assert [a.token_ids for a in other] != [a.token_ids for a in answers]


def test_end_tokens_and_lengths(engine: TransformersEngine) -> None:
    asked = [Request.of(f"w{i}") for i in range(40)]
    answers = list(engine.generate(asked, Sampling(max_tokens=12)))
    reasons = Counter(a.finish_reason for a in answers)
    assert reasons["stop"]
    assert reasons["length"]
    for answer in answers:
        assert (answer.token_ids[-1] == EOS) == (answer.finish_reason == "stop")
        assert "<|end|>" not in answer.text
        assert len(answer.token_ids) <= 12
        if answer.finish_reason == "length":
            assert len(answer.token_ids) == 12


def test_stop_strings_cut_the_text_and_end_the_row(engine: TransformersEngine) -> None:
    asked = [Request.of(f"w{i}") for i in range(20)]
    free = list(engine.generate(asked, Sampling(temperature=0, max_tokens=20)))
    word = Counter(w for a in free for w in a.text.split()[1:]).most_common(1)[0][0]
    stopped = list(
        engine.generate(asked, Sampling(temperature=0, max_tokens=20, stop=(word + " ", "none")))
    )
    hits = 0
    for before, after in zip(free, stopped, strict=True):
        at = before.text.find(word + " ")
        if at < 0:
            assert after.text == before.text
            continue
        hits += 1
        assert after.text == before.text[:at].strip()
        assert after.finish_reason == "stop"
        assert len(after.token_ids) <= len(before.token_ids)
        assert after.token_ids == before.token_ids[: len(after.token_ids)]
    assert hits


def test_a_special_token_as_stop_string_is_found_by_its_id(engine: TransformersEngine) -> None:
    asked = [Request.of(f"w{i}") for i in range(40)]
    free = list(engine.generate(asked, Sampling(max_tokens=12)))
    stopped = list(engine.generate(asked, Sampling(max_tokens=12, stop=("<|user|>",))))
    hits = [i for i, a in enumerate(free) if 3 in a.token_ids]
    assert hits
    for i in hits:
        expected = free[i].token_ids[: free[i].token_ids.index(3) + 1]
        assert stopped[i].token_ids == expected
        assert stopped[i].finish_reason == "stop"
        assert "<|user|>" not in stopped[i].text


def test_a_prompt_longer_than_the_context_gets_an_empty_answer(engine: TransformersEngine) -> None:
    long, short = Request(token_ids=(7,) * 200), Request(token_ids=(7,) * 120)
    first, second = engine.generate([long, short], Sampling(max_tokens=50))
    assert (first.text, first.finish_reason, first.token_ids) == ("", "length", ())
    assert len(second.token_ids) <= 8


def test_templates_fall_back_to_the_tokenizers_and_then_to_alpaca(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path)
    tokenizer = save_tokenizer(tmp_path)
    engine = TransformersEngine(str(tmp_path), device="cpu")
    assert engine._load().template.name == "alpaca"
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %} w5"
    tokenizer.save_pretrained(tmp_path)
    engine = TransformersEngine(str(tmp_path), device="cpu")
    assert engine._load().template.name == "model"
    assert TransformersEngine(str(tmp_path), template="qa")._load().template.name == "qa"


def test_opened_from_a_recipe_with_a_journal(folder: Path, tmp_path: Path) -> None:
    spec = EngineSpec(
        engine="transformers", model=str(folder), options={"dtype": "float32", "device": "cpu"}
    )
    asked = [Request.of(f"w{i}") for i in range(6)]
    first = open_engine(spec, seed=4, journal=tmp_path / "j")
    answers = list(first.generate(asked, Sampling(max_tokens=5)))
    first.close()
    second = open_engine(spec, seed=4, journal=tmp_path / "j")
    assert list(second.generate(asked, Sampling(max_tokens=5))) == answers
    # The journal had everything, so the model was never loaded.
    assert second.engine._loaded is None  # type: ignore[attr-defined]
    second.close()


def test_other_weights_under_the_same_path_are_another_model(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    tiny(seed=1).save_pretrained(tmp_path)
    one = TransformersEngine(str(tmp_path)).identity
    assert TransformersEngine(str(tmp_path)).identity == one
    assert TransformersEngine(str(tmp_path), dtype="bfloat16").identity != one
    tiny(seed=2).save_pretrained(tmp_path)
    assert TransformersEngine(str(tmp_path)).identity != one


def test_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such model folder"):
        TransformersEngine(str(tmp_path / "absent"))
    with pytest.raises(UsageError, match="'batchsize'"):
        TransformersEngine.from_options(str(tmp_path), 0, {"batchsize": 4})
