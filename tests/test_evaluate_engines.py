"""Which engine answers for the models of an evaluation, and which adapters vLLM is handed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import save_file

from espalier.engines import auto
from espalier.engines.vllm_lora import lora_refusal, weights_for_vllm
from espalier.errors import InputError, MissingExtra, UsageError
from espalier.evaluate import engines
from espalier.evaluate.config import EvaluateConfig, ModelConfig
from espalier.evaluate.engines import engine_facts, with_engines
from espalier.evaluate.subjects import Subject


def model_folder(folder: Path, size: int = 1000) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"vocab_size": 50}), encoding="utf-8")
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(size)
    return folder


def adapter_folder(
    folder: Path, base: Path, layers: Any = ("q_proj", "v_proj"), **more: Any
) -> Path:
    folder.mkdir()
    described = {"peft_type": "LORA", "r": 9, "lora_alpha": 4, "bias": "none"}
    described |= {"base_model_name_or_path": str(base), "target_modules": list(layers)}
    (folder / "adapter_config.json").write_text(json.dumps(described | more), encoding="utf-8")
    start = "base_model.model.model.layers.0.self_attn"
    names = [f"{start}.{layer}.lora_{side}.weight" for layer in layers for side in "AB"]
    save_file(
        {name: np.zeros(1, dtype=np.float32) for name in names},
        folder / "adapter_model.safetensors",
    )
    return folder


def subjects(options: EvaluateConfig, *folders: Path) -> list[Subject]:
    found = [
        Subject(config, "folder", str(folder), str(folder))
        for config, folder in zip(options.models, folders, strict=False)
    ]
    rest = options.models[len(folders) :]
    return found + [Subject(config, "predictions", "p", "p.jsonl") for config in rest]


def configured(*folders: Path, **more: Any) -> EvaluateConfig:
    models = [{"name": f"m{i}", "path": str(folder)} for i, folder in enumerate(folders)]
    return EvaluateConfig.model_validate(
        {"models": [*models, {"name": "p", "predictions": "p"}], **more}
    )


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if vLLM were there."""
    monkeypatch.setattr(auto, "has_vllm", lambda: True)
    monkeypatch.setattr(engines, "require_vllm", lambda *_: None)


def test_lora_adapters_go_to_vllm_with_their_model(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    adapters = adapter_folder(tmp_path / "adapters", base)
    found = weights_for_vllm(str(adapters))
    assert (found.model, found.adapter, found.rank) == (str(base), str(adapters), 9)
    assert found.settings() == {
        "enable_lora": True,
        "max_lora_rank": 16,
        "lora_target_modules": ["q_proj", "v_proj"],
    }
    assert weights_for_vllm(str(base)).settings() == {}


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "PROMPT_TUNING"),
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "as a whole"),
        ({"trainable_token_indices": [3]}, "token embeddings"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"r": 1000}, "over 512"),
        ({"rank_pattern": {"q_proj": 600}}, "over 512"),
        ({"layers": ("embed_tokens",)}, "embeddings"),
    ],
)
def test_adapters_that_vllm_would_serve_wrongly(
    more: dict[str, Any], part: str, tmp_path: Path
) -> None:
    base = model_folder(tmp_path / "base")
    folder = adapter_folder(tmp_path / "adapters", base, **more)
    assert part in str(lora_refusal(folder))
    with pytest.raises(InputError, match="can't serve these adapters") as caught:
        weights_for_vllm(str(folder))
    assert "espalier train merge" in str(caught.value.hint)


def test_a_tokenizer_with_more_tokens_than_the_model(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    folder = adapter_folder(tmp_path / "adapters", base)
    for last, refused in ((49, False), (50, True)):
        value = {"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": last, "content": "x"}]}
        (folder / "tokenizer.json").write_text(json.dumps(value), encoding="utf-8")
        assert (lora_refusal(folder) is not None) == refused


def test_weights_that_are_no_safetensors_are_one_message(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    folder = adapter_folder(tmp_path / "adapters", base)
    (folder / "adapter_model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0no json.")
    with pytest.raises(InputError, match="can't be read"):
        weights_for_vllm(str(folder))


@pytest.mark.usefixtures("installed")
def test_auto_takes_one_engine_for_all_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = model_folder(tmp_path / "large", 300_000_000)
    small = model_folder(tmp_path / "small", 1_000_000)
    dora = adapter_folder(tmp_path / "dora", small, use_dora=True)
    lora = adapter_folder(tmp_path / "lora", small)

    def chosen(*folders: Path, prompts: int = 100, **more: Any) -> list[str | None]:
        options = configured(*folders, **more)
        found = with_engines(subjects(options, *folders), prompts, options)
        return [None if s.spec is None else s.spec.engine for s in found]

    # 100 prompts × 301 MB are over 2 × 12 GB: the small one goes along.
    assert chosen(large, small) == ["vllm", "vllm", None]
    assert "vllm answers for all local models: 100 prompts" in capsys.readouterr().out
    assert chosen(small, small) == ["transformers", "transformers", None]
    assert chosen(large, lora) == ["vllm", "vllm", None]
    assert chosen(large, dora) == ["transformers", "transformers", None]
    assert "DoRA" in capsys.readouterr().out
    assert chosen(large, prompts=15) == ["transformers", None]
    assert chosen(large, small, engine="transformers") == ["transformers", "transformers", None]
    assert capsys.readouterr().out.count("\n") == 1  # nothing is said where nothing is decided
    assert chosen(large, small, engine={"use": "vllm"}) == ["vllm", "vllm", None]


@pytest.mark.usefixtures("installed")
def test_what_answers_for_all_computes_perplexities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "version_of", lambda engine: "0.32.0")
    folder = model_folder(tmp_path / "m")

    def scored(**more: Any) -> list[str]:
        options = configured(folder, folder, **more)
        return [s.scored_by for s in with_engines(subjects(options, folder, folder), 9, options)]

    assert scored(engine="vllm") == ["vllm-0.32.0", "vllm-0.32.0", ""]
    assert scored(engine="vllm-server", perplexity_engine="vllm")[0] == "vllm-server-0.32.0"
    assert scored(engine="vllm", perplexity_engine="transformers") == ["", "", ""]
    corpus = {"perplexity_corpus": "c.txt", "corpus_windows": "rolling"}
    assert scored(engine="vllm", **corpus) == ["", "", ""]
    assert scored() == ["", "", ""]
    # Models are compared with each other, so one kind of engine scores all or none.
    models = [
        {"name": "a", "path": str(folder), "engine": "vllm"},
        {"name": "b", "path": str(folder), "engine": "transformers"},
    ]
    mixed = EvaluateConfig.model_validate({"models": models})
    found = with_engines(subjects(mixed, folder, folder), 9, mixed)
    assert [subject.scored_by for subject in found] == ["", ""]
    mixed = mixed.model_copy(update={"perplexity_engine": "vllm"})
    with pytest.raises(UsageError, match="'b' that is transformers"):
        with_engines(subjects(mixed, folder, folder), 9, mixed)
    with pytest.raises(ValidationError, match=r"perplexity_engine.*corpus_windows"):
        configured(folder, perplexity_engine="vllm", **corpus)


def test_without_vllm_transformers_answers_and_the_table_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "has_vllm", lambda: False)
    folder = model_folder(tmp_path / "m", 10**9)
    options = configured(folder, dtype="bfloat16")
    [subject, predictions] = with_engines(subjects(options, folder), 10**6, options)
    facts = engine_facts(subject)
    assert facts is not None and facts["name"] == "transformers"
    assert "not installed" in facts["reason"] and facts["dtype"] == "bfloat16"
    assert facts["version"].startswith("5.")
    assert engine_facts(predictions) is None


@pytest.mark.usefixtures("installed")
def test_what_is_wrong_with_an_engine_is_said_first(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    prompt = adapter_folder(tmp_path / "a", folder, peft_type="P_TUNING")
    for model, engine, error in (
        (folder, {"use": "vllm", "options": {"max_modl_len": 3}}, UsageError),
        (folder, {"use": "transformers", "options": {"kv_cache_gib": 3}}, UsageError),
        (prompt, "vllm", InputError),
    ):
        options = configured(model, engine=engine)
        with pytest.raises(error):
            with_engines(subjects(options, model), 10, options)


def test_vllm_by_name_where_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("espalier.engines.vllm_process.has_vllm", lambda: False)
    folder = model_folder(tmp_path / "m")
    options = configured(folder, engine="vllm")
    with pytest.raises(MissingExtra, match="vllm"):
        with_engines(subjects(options, folder), 10, options)


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ({"options": {"max_model_len": 9}}, ("options", "use")),
        ({"use": "vllm", "options": {"dtype": "float32"}}, ("options.dtype", "evaluate.dtype")),
        ({"use": "sglang"}, ("use",)),
        ({"used": "vllm"}, ("used",)),
    ],
)
def test_options_that_contradict(value: Any, parts: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        configured(Path("x"), engine=value)
    assert all(part in str(caught.value) for part in parts)
    with pytest.raises(ValidationError, match="engine is for a local model"):
        ModelConfig.model_validate({"name": "a", "predictions": "p", "engine": "vllm"})
