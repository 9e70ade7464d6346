"""Loading and saving models: safe, clear about what is wrong, pad never eos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
import torch

from espalier.errors import InputError
from espalier.models import (
    add_markers,
    ensure_pad,
    fit_to_tokenizer,
    load_model,
    load_tokenizer,
    save_model,
)
from espalier.templates import TEMPLATE_FILE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "small"
    save_model(tiny.model(), tiny.tokenizer(), "espalier", path)
    return path


def test_a_model_comes_back_as_it_was_saved(folder: Path) -> None:
    original, loaded = tiny.model(), load_model(folder, device="cpu")
    assert not loaded.training
    theirs = original.state_dict()
    assert all(torch.equal(theirs[name], value) for name, value in loaded.state_dict().items())
    assert json.loads((folder / TEMPLATE_FILE).read_text()) == {"name": "espalier"}
    assert [p.name for p in folder.glob("*.safetensors")] == ["model.safetensors"]
    assert not list(folder.glob("*.bin"))
    assert load_model(folder, dtype="bfloat16", device="cpu").dtype == torch.bfloat16


def test_saving_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "m"
    save_model(tiny.model(), tiny.tokenizer(), "espalier", path)
    save_model(tiny.model(seed=1), tiny.tokenizer(), None, path)
    assert not (path / TEMPLATE_FILE).exists()
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_failed_save_leaves_the_old_model(tmp_path: Path) -> None:
    path = tmp_path / "m"
    save_model(tiny.model(), tiny.tokenizer(), "espalier", path)
    before = (path / "model.safetensors").read_bytes()

    class Broken:
        def save_pretrained(self, folder: Path) -> None:
            (folder / "model.safetensors").write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_model(Broken(), tiny.tokenizer(), "espalier", path)
    assert (path / "model.safetensors").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_reward_head_depends_on_its_seed_alone(folder: Path) -> None:
    torch.manual_seed(1)
    first = load_model(folder, kind="reward", head_seed=3, device="cpu")
    torch.manual_seed(2)
    second = load_model(folder, kind="reward", head_seed=3, device="cpu")
    other = load_model(folder, kind="reward", head_seed=4, device="cpu")
    assert torch.equal(first.score.weight, second.score.weight)
    assert not torch.equal(first.score.weight, other.score.weight)
    # N(0, 1/(d+1)) with d = 32
    many = [load_model(folder, kind="reward", head_seed=s, device="cpu") for s in range(8)]
    spread = torch.cat([m.score.weight.detach().flatten() for m in many]).std()
    assert abs(float(spread) - 33**-0.5) < 0.03


def test_a_saved_reward_head_is_kept(tmp_path: Path) -> None:
    model = tiny.model("reward")
    save_model(model, tiny.tokenizer(), "espalier", tmp_path / "r")
    loaded = load_model(tmp_path / "r", kind="reward", head_seed=9, device="cpu")
    assert torch.equal(loaded.score.weight, model.score.weight)


def test_a_missing_folder_names_the_nearest(folder: Path) -> None:
    with pytest.raises(InputError, match="no such model folder") as caught:
        load_model(folder.parent / "smal")
    assert str(folder) in str(caught.value.hint)
    with pytest.raises(InputError, match="no such model folder"):
        load_tokenizer("./nowhere/at/all")


def test_a_folder_that_is_no_model(folder: Path) -> None:
    with pytest.raises(InputError, match="not a model") as caught:
        load_model(folder.parent)
    assert str(folder) in str(caught.value.hint)
    with pytest.raises(InputError, match="this is a file"):
        load_model(folder / "config.json")


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    tiny.model().config.save_pretrained(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="pickle") as caught:
        load_model(tmp_path)
    assert caught.value.expected == "model.safetensors"


def test_a_broken_model_is_an_input_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="can't be loaded"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(InputError, match="can't be loaded"):
        load_model(tmp_path)


def test_code_that_comes_with_a_model_is_not_run(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"}
    config["model_type"] = "evil"
    (tmp_path / "config.json").write_text(json.dumps(config))
    mark = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(mark)!r}, 'w')")
    with pytest.raises(InputError):
        load_model(tmp_path)
    assert not mark.exists()


def test_pad_is_never_eos() -> None:
    tok = tiny.tokenizer()
    assert not ensure_pad(tok)
    tok.pad_token = tok.eos_token
    assert not ensure_pad(tok)
    assert tok.pad_token == "<|pad|>"


def test_a_pad_token_is_added_with_rows_at_the_mean(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {name: i for i, name in enumerate(["</s>", "a", "b", "c"])}
    core = Tokenizer(models.WordLevel(words, unk_token="a"))
    tok = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", pad_token="</s>")
    model = tiny.model(vocabulary=4, tie_word_embeddings=False, pad_token_id=0, eos_token_id=0)
    model.save_pretrained(tmp_path)
    tok.save_pretrained(tmp_path)
    loaded, loaded_tok = load_model(tmp_path, device="cpu"), load_tokenizer(tmp_path)
    assert loaded_tok.pad_token_id == 4 != loaded_tok.eos_token_id
    assert loaded.config.pad_token_id == 4
    for before, after in (
        (model.get_input_embeddings().weight, loaded.get_input_embeddings().weight),
        (model.get_output_embeddings().weight, loaded.get_output_embeddings().weight),
    ):
        assert after.shape[0] == 5
        assert torch.equal(after[:4], before)
        torch.testing.assert_close(after[4], before.mean(0))
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(loaded(ids).logits[..., :4], model(ids).logits)


def test_an_embedding_with_spare_rows_is_not_cut() -> None:
    tok, model = tiny.tokenizer(), tiny.model(vocabulary=400)
    assert fit_to_tokenizer(model, tok) == 0
    assert model.get_input_embeddings().weight.shape[0] == 400


def test_markers_of_a_template_become_single_tokens() -> None:
    tok, model = tiny.tokenizer(), tiny.model()
    before = len(tok)
    added = add_markers(model, tok, ("<|im_start|>", "<|im_end|>", "<|end|>"))
    assert added == (before, before + 1)
    assert len(tok) == before + 2 == model.get_input_embeddings().weight.shape[0]
    assert len(tok("<|im_start|>", add_special_tokens=False)["input_ids"]) == 1
    assert tok.eos_token == "<|end|>"
    assert add_markers(model, tok, ("<|im_start|>",)) == ()
