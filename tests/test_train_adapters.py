"""Every way of fine-tuning: it learns, is saved, read back, merged, resumed, and stays the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file
from sft_stage import Make, stage, stop_at, untimed

from espalier import adapted
from espalier.decoding import decode
from espalier.encoding import Encoded, tokenize_plain
from espalier.errors import InputError, MissingExtra, UsageError
from espalier.models import load_model, load_tokenizer, save_model
from espalier.run import StageContext
from espalier.scoring import token_logprobs
from espalier.train import adapters, sft
from espalier.train.config import SFTConfig
from espalier.train.export import merge
from espalier.train.monitor import read_metrics
from espalier.train.tasks import NextToken

METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "frozen": {"freeze_layers": "0", "freeze_embeddings": True},
    "lora": {"lora": {"r": 4, "dropout": 0.1}},
    "lora kept": {"lora": {"r": 4, "rslora": True}, "merge": False},
    "dora": {"lora": {"r": 4, "dora": True}},
    "prompt": {"prompt_tuning": {"tokens": 6, "init_text": "say the word"}},
    "prompt drawn": {"prompt_tuning": {"tokens": 4}, "gradient_checkpointing": True},
    "ia3": {"adapter": {"kind": "ia3"}},
    "ia3 kept": {"adapter": {"kind": "ia3"}, "merge": False},
    "prefix": {"adapter": {"kind": "prefix", "tokens": 4}},
}
SMALL = {"prompt", "prompt drawn", "ia3", "ia3 kept", "prefix"}
PROMPTS = [[5, 6, 7, 8, 9], [40, 41], [100]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return stage(tmp_path, minibatch=8, epochs=4, log_every=1, checkpoint_every=3)


def trained(context: StageContext, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the stage; what it held in memory before it saved: the model's outputs and parameters."""
    held: dict[str, Any] = {}
    prepare, keeps = adapters.prepare, adapters.keeps_adapters

    def prepared(*args: Any, **kwargs: Any) -> Any:
        held["model"] = prepare(*args, **kwargs)
        held["before"] = {
            name: value.detach().clone() for name, value in held["model"].named_parameters()
        }
        return held["model"]

    def about_to_save(options: SFTConfig) -> bool:
        held["outputs"] = outputs(held["model"])
        held["after"] = {
            name: (value.detach().clone(), value.requires_grad)
            for name, value in held["model"].named_parameters()
        }
        return keeps(options)

    with monkeypatch.context() as patched:
        patched.setattr(adapters, "prepare", prepared)
        patched.setattr(adapters, "keeps_adapters", about_to_save)
        held["result"] = sft.run(context)
    return held


def outputs(model: Any) -> tuple[list[tuple[int, ...]], list[Any]]:
    """Greedy answers, and log-probabilities of fixed sequences."""
    found = decode(model, PROMPTS, max_new_tokens=8, pad_id=0, temperature=0.0)
    return [one.ids for one in found], token_logprobs(model, [[*p, 12, 13, 14] for p in PROMPTS])


def assert_same_outputs(model: Any, expected: tuple[Any, Any], tolerance: float = 1e-5) -> None:
    ids, logprobs = outputs(model)
    assert ids == expected[0]
    for mine, theirs in zip(logprobs, expected[1], strict=True):
        torch.testing.assert_close(
            torch.tensor(mine), torch.tensor(theirs), atol=tolerance, rtol=tolerance
        )


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.ci_slice
@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_is_saved_and_answers_the_same(
    method: str, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = 0.1 if method in SMALL else 5e-3
    options = {**METHODS[method], "learning_rate": rate, "epochs": 6}
    held = trained(make(**options), monkeypatch)
    losses = [m["loss"] for m in read_metrics(tmp_path / "sft" / "metrics.jsonl")]
    assert losses[-1] < 0.9 * losses[0]
    for name, (after, learnt) in held["after"].items():
        if not learnt:
            assert torch.equal(after, held["before"][name]), name
    changed = {n for n, (v, _) in held["after"].items() if not torch.equal(v, held["before"][n])}
    assert changed
    if method.startswith("prompt"):
        assert changed == {"prompt_encoder.default.embedding.weight"}
    assert held["result"]["trained_parameters"] == sum(
        value.numel() for value, learnt in held["after"].values() if learnt
    )
    folder = tmp_path / "sft" / "model"
    alone = adapters.keeps_adapters(SFTConfig.model_validate(options))
    assert adapted.is_adapter(folder) is alone
    assert_same_outputs(load_model(folder, device="cpu"), held["outputs"])
    assert json.loads((folder / "template.json").read_text()) == {"name": "espalier"}
    assert load_tokenizer(folder).get_vocab() == tiny.tokenizer().get_vocab()
    if alone and not method.startswith("pr"):
        merge(folder, tmp_path / "merged")
        assert not adapted.is_adapter(tmp_path / "merged")
        assert_same_outputs(load_model(tmp_path / "merged", device="cpu"), held["outputs"])
    elif alone:
        with pytest.raises(InputError, match="can't be merged"):
            merge(folder, tmp_path / "merged")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_stopped_run_ends_like_an_uninterrupted_one(
    method: str, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {**METHODS[method], "validation": {"fraction": 0.25, "every": 2, "keep_best": True}}
    sft.run(make("whole", **changes))
    with monkeypatch.context() as patched:
        stop_at(8, patched)
        with pytest.raises(KeyboardInterrupt):
            sft.run(make("stopped", **changes))
    assert (tmp_path / "stopped" / "checkpoints" / "checkpoint-6").is_dir()
    sft.run(make("stopped", **changes))
    assert files_of(tmp_path / "stopped" / "model") == files_of(tmp_path / "whole" / "model")
    assert untimed(tmp_path / "stopped") == untimed(tmp_path / "whole")


def naive_loss(model: Any, rows: Sequence[Encoded]) -> torch.Tensor:
    """Row by row through the library, which shifts labels behind its virtual tokens itself."""
    total = torch.zeros(())
    for row in rows:
        ids = torch.tensor([row.ids])
        marked = [i if t else -100 for i, t in zip(row.ids, row.trained, strict=True)]
        out = model(
            input_ids=ids, attention_mask=torch.ones_like(ids), labels=torch.tensor([marked])
        )
        total = total + out.loss * row.targets
    return total


ROWS = [
    Encoded([5, 6, 7, 8, 9], [False, False, True, True, True]),
    Encoded([5, 6, 70], [False, False, True]),
    Encoded([9, 8, 7, 6, 5, 4, 3], [False, True, True, False, False, True, False]),
]


@pytest.mark.parametrize("method", ["lora", "dora", "prompt", "prefix", "ia3"])
def test_loss_and_gradient_are_those_of_the_library(method: str) -> None:
    options = SFTConfig.model_validate(METHODS[method])
    model = adapters.prepare(tiny.model(), tiny.tokenizer(), options, seed=1).double().eval()
    learnt = [p for p in model.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in learnt:
            p.add_(torch.randn(p.shape, generator=generator).double() * 0.3)
    virtual = adapted.virtual_tokens(model)
    task = NextToken(0, virtual.prepended if virtual is not None else 0)
    assert task.cost(ROWS[0]) == 5 + (6 if method == "prompt" else 0)
    loss, _ = task.loss(model, ROWS)
    expected = naive_loss(model, ROWS)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    for mine, theirs in zip(
        torch.autograd.grad(loss, learnt), torch.autograd.grad(expected, learnt), strict=True
    ):
        assert float((mine - theirs).norm()) <= 1e-5 * float(theirs.norm())


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_answers_of_a_batch_are_those_of_each_row_without_a_cache(method: str) -> None:
    options = SFTConfig.model_validate(METHODS[method])
    model = adapters.prepare(tiny.model(), tiny.tokenizer(), options, seed=3).eval()
    prompts = [[5, 6, 7, 8], [9, 10], [11]]
    answers = decode(model, prompts, max_new_tokens=6, pad_id=0, temperature=0.0)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = list(prompt)
        for _ in range(6):
            row = torch.tensor([ids])
            with torch.no_grad():
                logits = model(input_ids=row, attention_mask=torch.ones_like(row)).logits
            ids.append(int(logits[0, -1].argmax()))
        assert list(answer.ids) == ids[len(prompt) :]


@pytest.mark.parametrize("tokens", [2, 40])
def test_a_prompt_starts_as_the_embeddings_of_its_text(tokens: int) -> None:
    model, tokenizer = tiny.model(), tiny.tokenizer()
    table = model.get_input_embeddings().weight.detach().clone()
    ids = tokenize_plain(tokenizer, ["count the words"])[0]
    assert 2 < len(ids) < 40
    options = SFTConfig.model_validate(
        {"prompt_tuning": {"tokens": tokens, "init_text": "count the words"}}
    )
    state = torch.random.get_rng_state()
    wrapped = adapters.prepare(model, tokenizer, options, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    expected = torch.stack([table[ids[i % len(ids)]] for i in range(tokens)])
    assert torch.equal(wrapped.prompt_encoder["default"].embedding.weight, expected)


def test_freezing_blocks_and_embeddings() -> None:
    options = SFTConfig.model_validate({"freeze_layers": "0-1, 3", "freeze_embeddings": True})
    model = tiny.model(num_hidden_layers=4, tie_word_embeddings=False)
    adapters.freeze(model, adapters.freeze_patterns(model, options))
    left = {name for name, value in model.named_parameters() if value.requires_grad}
    assert left == {
        name
        for name, _ in model.named_parameters()
        if ".layers.2." in name or name in ("model.norm.weight", "lm_head.weight")
    }
    wrong = SFTConfig.model_validate({"freeze_layers": "2-4"})
    with pytest.raises(UsageError, match="no block 4"):
        adapters.freeze_patterns(model, wrong)


@pytest.mark.parametrize("tied", [True, False])
def test_lora_learns_the_markers_of_a_template(
    tied: bool, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.model(tie_word_embeddings=tied)
    save_model(model, tiny.tokenizer(), "espalier", tmp_path / "base" / "model")
    known = len(tiny.tokenizer())
    held = trained(make(lora={"r": 2}, merge=False, template="chatml", epochs=2), monkeypatch)
    loaded = load_model(tmp_path / "sft" / "model", device="cpu")
    assert_same_outputs(loaded, held["outputs"])
    whole = adapted.merged(loaded, "here")
    for layer in (whole.get_input_embeddings(), whole.get_output_embeddings()):
        assert len(layer.weight) == known + 2
        assert not torch.equal(layer.weight[known], layer.weight[known + 1])
    assert torch.equal(whole.get_input_embeddings().weight[:known], model.model.embed_tokens.weight)
    assert_same_outputs(whole, held["outputs"])


def test_new_markers_that_can_not_be_learnt_are_refused(make: Make) -> None:
    with pytest.raises(UsageError, match="prompt_tuning can't learn"):
        sft.run(make(prompt_tuning={"tokens": 2}, template="chatml"))


def test_virtual_tokens_count_as_positions(make: Make) -> None:
    with pytest.raises(UsageError, match="beside 8 virtual ones") as caught:
        sft.run(make(prompt_tuning={"tokens": 8}, max_length=125))
    assert "120 or less" in str(caught.value)


def test_quantised_weights_need_a_gpu_and_their_package(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make(lora={"quantise": "4bit"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="need a GPU"):
        sft.run(context)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(MissingExtra, match="bitsandbytes"):
        adapters.load_quantised("nowhere", context.options, None)


def test_adapters_of_quantised_weights_are_merged_into_the_whole_ones(
    make: Make, tmp_path: Path
) -> None:
    """Beside weights that were changed as quantisation would: those do not reach the result."""
    plain = SFTConfig.model_validate({"lora": {"r": 2}})
    quantised = SFTConfig.model_validate({"lora": {"r": 2, "quantise": "4bit"}})
    tokenizer, results = tiny.tokenizer(), []
    for options in (plain, quantised):
        model = tiny.model()
        if options is quantised:
            with torch.no_grad():
                for p in model.parameters():
                    p.copy_(p.mul(8).round() / 8)
        wrapped = adapters.prepare(model, tokenizer, options, seed=1)
        with torch.no_grad():
            for p in wrapped.parameters():
                if p.requires_grad:
                    p.add_(0.1)
        whole = adapters.whole_model(wrapped, options, tmp_path / "base" / "model", tokenizer)
        results.append(whole.state_dict())
    first, second = results
    assert set(first) == set(second)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-6, atol=1e-6)


def write_adapter(folder: Path, base: str, **changes: Any) -> None:
    folder.mkdir(parents=True)
    described: Mapping[str, Any] = {adapted.BASE: base, "peft_type": "LORA", **changes}
    (folder / adapted.ADAPTER_FILE).write_text(json.dumps(described))


def test_adapters_find_their_model_again(make: Make, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "base" / "model").mkdir(parents=True)
    write_adapter(run / "sft" / "model", "x")
    adapted.name_base(run / "sft" / "model", run / "base" / "model", run / "sft" / "model")
    name = json.loads((run / "sft/model" / adapted.ADAPTER_FILE).read_text())[adapted.BASE]
    assert name == "../../base/model"
    moved = tmp_path / "moved"
    shutil.move(run, moved)
    found = adapted.base_source(moved / "sft" / "model")
    assert found == (moved / "base" / "model").resolve()
    # A member of a sweep has links to stages that lie elsewhere, the base under another name.
    member, shared = tmp_path / "members" / "one", tmp_path / "shared"
    member.mkdir(parents=True)
    shared.mkdir()
    for one in ("base", "sft"):
        shutil.move(moved / one, shared / f"{one}-1234")
        (member / one).symlink_to(Path("..", "..", "shared", f"{one}-1234"))
    found = Path(adapted.base_source(member / "sft" / "model"))
    assert found.resolve() == (shared / "base-1234" / "model").resolve()
    shutil.rmtree(shared / "base-1234")
    with pytest.raises(InputError, match="is not there"):
        adapted.base_source(member / "sft" / "model")
    write_adapter(tmp_path / "hub", "owner/name")
    assert adapted.base_source(tmp_path / "hub") == "owner/name"
    write_adapter(tmp_path / "none", "")
    with pytest.raises(InputError, match="do not say which model"):
        adapted.base_source(tmp_path / "none")


def test_adapters_as_a_start_or_a_reward_model_are_refused(make: Make, tmp_path: Path) -> None:
    write_adapter(tmp_path / "kept", str(tmp_path / "base" / "model"))
    with pytest.raises(InputError, match="folder of adapters"):
        adapters.load_for_tuning(tmp_path / "kept", make().options, None)
    with pytest.raises(InputError, match="reward model can't start"):
        load_model(tmp_path / "kept", kind="reward")
    (tmp_path / "kept" / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match="pickle"):
        load_model(tmp_path / "kept")


def test_merged_weights_hold_no_adapter(make: Make, tmp_path: Path) -> None:
    sft.run(make(lora={"r": 2, "dora": True}, epochs=1))
    state = load_file(tmp_path / "sft" / "model" / "model.safetensors")
    assert set(state) == set(load_file(tmp_path / "base" / "model" / "model.safetensors"))
