"""What a model folder says of its model, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from espalier.errors import InputError
from espalier.machine import named_machine, this_machine
from espalier.model_facts import Shape, read_model

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 128,
}


def folder(tmp_path: Path, changes: dict[str, object] | None = None, name: str = "m") -> Path:
    made = tmp_path / name
    made.mkdir(parents=True)
    config = {k: v for k, v in {**CONFIG, **(changes or {})}.items() if v is not None}
    (made / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return made


def weights(path: Path, tensors: dict[str, list[int]]) -> None:
    """A safetensors file by hand: eight bytes of length, the header, the numbers."""
    header, place = {}, 0
    for name, shape in tensors.items():
        size = 2
        for side in shape:
            size *= side
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps({**header, "__metadata__": {"format": "pt"}}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(place))


def test_by_the_weights_where_there_are_some(tmp_path: Path) -> None:
    made = folder(tmp_path)
    weights(made / "model-1.safetensors", {"a": [10, 3], "b": [7]})
    weights(made / "model-2.safetensors", {"c": [5, 2, 2], "one": []})
    facts = read_model(str(made))
    assert facts is not None
    assert (facts.parameters, facts.source, facts.context) == (30 + 7 + 20 + 1, "weights", 128)
    assert facts.shape == Shape(32, 2, 48, 4, 32, 16, 100)
    assert facts.template is None


def test_by_its_description(tmp_path: Path) -> None:
    facts = read_model(str(folder(tmp_path)))
    assert facts is not None
    # Two layers of 2·32·(32+16) + 3·32·48 + 64, two tables of 100·32, one norm.
    assert facts.parameters == 2 * (3072 + 4608 + 64) + 6400 + 32
    assert facts.source == "config"


def test_names_of_other_families(tmp_path: Path) -> None:
    gpt2 = {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 64, "n_layer": 3,
        "n_head": 4, "vocab_size": 50, "n_positions": 256, "hidden_size": None,
        "intermediate_size": None, "num_hidden_layers": None, "num_attention_heads": None,
        "num_key_value_heads": None, "max_position_embeddings": None,
    }  # fmt: skip
    facts = read_model(str(folder(tmp_path, gpt2)))
    assert facts is not None
    assert facts.shape == Shape(64, 3, 256, 4, 64, 64, 50, tied=True, gated=False)
    assert facts.context == 256


def test_nested_descriptions(tmp_path: Path) -> None:
    inner = {key: CONFIG[key] for key in CONFIG if key not in ("architectures", "model_type")}
    changes = {**dict.fromkeys(inner, None), "text_config": {**inner, "head_dim": 16}}
    facts = read_model(str(folder(tmp_path, changes)))
    assert facts is not None
    assert (facts.shape.query, facts.shape.key_value) == (64, 32)


def test_templates(tmp_path: Path) -> None:
    made = folder(tmp_path)
    for name, text, kind in (
        ("tokenizer_config.json", '{"chat_template": null}', None),
        ("tokenizer_config.json", '{"chat_template": "{{ messages }}"}', "model"),
        ("template.json", '{"name": "alpaca"}', "own"),
    ):
        (made / name).write_text(text, encoding="utf-8")
        facts = read_model(str(made))
        assert facts is not None
        assert facts.template == kind


def test_hub_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    guessed = read_model("owner/Model-7b-chat")
    assert guessed is not None
    assert (guessed.source, guessed.parameters, guessed.shape.layers) == ("name", 7e9, 32)
    small = read_model("owner/model-160m")
    assert small is not None
    assert small.parameters == 160e6
    assert read_model("owner/model") is None
    assert read_model("owner/v2b1x") is None
    folder(tmp_path / "hub" / "models--owner--model" / "snapshots", name="abc")
    found = read_model("owner/model")
    assert found is not None
    assert (found.source, found.shape.hidden) == ("config", 32)


def test_a_stage_of_a_run(tmp_path: Path) -> None:
    folder(tmp_path / "sft", name="model")
    facts = read_model(str(tmp_path / "sft"))
    assert facts is not None
    assert facts.folder == tmp_path / "sft" / "model"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["BertForMaskedLM"]}, "does not go on writing"),
        ({"is_encoder_decoder": True}, "does not go on writing"),
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"num_hidden_layers": "two"}, "lacks num_hidden_layers"),
    ],
)
def test_what_is_no_model_to_train(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_model(str(folder(tmp_path, changes)))
    assert "config.json" in str(caught.value)


def test_broken_files(tmp_path: Path) -> None:
    made = folder(tmp_path)
    (made / "config.json").write_text("[1", encoding="utf-8")
    with pytest.raises(InputError, match="can't be read"):
        read_model(str(made))
    (made / "config.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(InputError, match="no JSON object"):
        read_model(str(made))
    cut = folder(tmp_path, name="cut")
    (cut / "model.safetensors").write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    with pytest.raises(InputError, match="file of weights"):
        read_model(str(cut))
    header = b'{"a": {"shape": ["many"]}}'
    (cut / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(InputError, match="file of weights"):
        read_model(str(cut))


def test_no_model_at_all(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="not a model"):
        read_model(str(empty))
    with pytest.raises(InputError, match="no such model folder"):
        read_model(str(tmp_path / "gone"))
    (empty / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="adapters, not a model"):
        read_model(str(empty))


def test_no_torch_is_needed(tmp_path: Path) -> None:
    made = folder(tmp_path)
    code = (
        "import sys; from espalier.model_facts import read_model; read_model(sys.argv[1]);"
        "assert not {'torch', 'transformers', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(made)], check=True)


# Machines -----------------------------------------------------------------------------------


def test_named_machines() -> None:
    one = named_machine("a100-80")
    assert (one.count, one.memory, one.device) == (1, 80 * 2**30, "gpu")
    assert named_machine("4x4090").count == 4
    assert named_machine("RTX-4090").name == "4090"
    given = named_machine("8x24")
    assert (given.count, given.memory, given.flops) == (8, 24 * 2**30, None)
    for text in ("", "0", "0x80", "k80", "4x", "a100 80"):
        with pytest.raises(Exception, match="no GPU that is known"):
            named_machine(text)


def test_the_gpus_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    rows = "NVIDIA A100-SXM4-80GB, 81920\\nNVIDIA A100-SXM4-40GB, 40960\\n"
    tool.write_text(f"#!/bin/sh\nprintf '{rows}'\n", encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    machine = this_machine()
    assert (machine.device, machine.count, machine.memory) == ("gpu", 2, 40 * 2**30)
    assert machine.flops == pytest.approx(312e12 * 0.4)
    for given, count, size in (("0", 1, 80), ("1,0", 2, 40), ("GPU-5e3f", 1, 80)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        assert (this_machine().count, this_machine().memory) == (count, size * 2**30)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert this_machine().device == "cpu"
    tool.write_text("#!/bin/sh\nexit 9\n", encoding="utf-8")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert this_machine().device == "cpu"
