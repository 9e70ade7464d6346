"""Training few parameters beside frozen weights (peft), what is frozen, and how it is saved.

LoRA with its kin (DoRA, QLoRA) and IA3 end as ordinary weights unless asked otherwise; learnt
prompts and prefixes can't, and are saved as a folder of adapters (`espalier.adapted`).
"""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from espalier import adapted, own_code
from espalier.encoding import tokenize_plain
from espalier.errors import InputError, UsageError, require
from espalier.hub import check_at_hand, place_of
from espalier.models import check_source, load_model, quiet
from espalier.train.config import SFTConfig, block_numbers
from espalier.train.config_adapters import OtherAdapter, PromptTuning
from espalier.train.new_adapters import with_adapters, with_lora
from espalier.vocabulary import fit_to_tokenizer

BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|layer)\.(\d+)\.")


# The model to start from ------------------------------------------------------------------


def load_for_tuning(source: Path | str, options: SFTConfig, tokenizer: Any) -> Any:
    """The model to train, its frozen weights in few bits where QLoRA asks for that.

    Raises InputError for a folder of adapters (they would have to be merged first).
    """
    if adapted.is_adapter(source):
        raise InputError(
            "The model to fine-tune is a folder of adapters.",
            where=str(source),
            expected="a whole model",
            hint=f"merge them first: espalier train merge {source} --output FOLDER",
        )
    if options.lora is not None and options.lora.quantise is not None:
        return load_quantised(source, options, tokenizer)
    return load_model(source)


def load_quantised(source: Path | str, options: SFTConfig, tokenizer: Any) -> Any:
    """The model with the weights of its linear layers in 4 (NF4, doubly quantised) or 8 bits.

    Dettmers et al. 2023 (QLoRA). Norms and the head stay in float32. Raises UsageError without
    a GPU, MissingExtra without bitsandbytes.
    """
    assert options.lora is not None
    bits = options.lora.quantise
    if not torch.cuda.is_available():
        raise UsageError(
            f"Weights in {bits} need a GPU, and torch sees none.",
            where=f"train.sft.lora.quantise: {bits}",
            hint="leave quantise out (plain LoRA), or train on a machine with a GPU",
        )
    require("bitsandbytes", extra="gpu", feature="train.sft.lora.quantise")
    transformers = require("transformers", extra="train", feature="Loading a model")
    peft = require("peft", extra="train", feature="train.sft.lora")
    number = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    kind: dict[str, Any] = {"load_in_8bit": True}
    if bits == "4bit":
        kind = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": number,
        }
    source = check_source(source)
    check_at_hand(source)
    with quiet():
        model = transformers.AutoModelForCausalLM.from_pretrained(
            place_of(source),
            trust_remote_code=own_code.may_run(source),
            use_safetensors=True,
            dtype=number,
            quantization_config=transformers.BitsAndBytesConfig(**kind),
            # Quantised weights can't be moved: each process puts them onto its own GPU.
            device_map={"": int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()},
        )
    fit_to_tokenizer(model, tokenizer)
    return peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)


# What is trained --------------------------------------------------------------------------


def method_of(options: SFTConfig) -> str:
    """What the recipe trains, in a word: full, lora, dora, qlora, prompt_tuning, ia3, prefix."""
    if options.lora is not None:
        name = "dora" if options.lora.dora else "lora"
        return f"q{name}" if options.lora.quantise is not None else name
    if options.prompt_tuning is not None:
        return "prompt_tuning"
    return options.adapter.kind if options.adapter is not None else "full"


def prepare(
    model: Any, tokenizer: Any, options: SFTConfig, *, seed: int, new: Sequence[int] = ()
) -> Any:
    """The model with what the recipe trains of it, everything else frozen.

    Drawn by `seed`, and leaves the global random state as it was. `new` are ids of tokens that
    the model has not learnt yet: LoRA trains their embeddings as well. Raises UsageError for
    targets that the model does not have, and for new tokens that the method can't learn.
    """
    method = method_of(options)
    if method == "full":
        freeze(model, freeze_patterns(model, options))
        return model
    if new and options.lora is None:
        names = ", ".join(tokenizer.convert_ids_to_tokens(list(new)))
        raise UsageError(
            f"The template needs tokens that are new to the model ({names}), and {method} can't "
            "learn their embeddings.",
            where="train.sft.template",
            hint="name a template without markers of its own, such as alpaca or vicuna, or use "
            "lora",
        )
    if options.lora is not None:
        return with_lora(model, options.lora, seed, new=new, where="train.sft.lora")
    chosen = _other_settings(options)
    wrapped = with_adapters(model, chosen, seed, where="train.sft.adapter")
    if options.prompt_tuning is not None and options.prompt_tuning.init_text is not None:
        _init_prompt(wrapped, tokenizer, options.prompt_tuning)
    return wrapped


def _other_settings(options: SFTConfig) -> Any:
    peft = require("peft", extra="train", feature=f"train.sft: {method_of(options)}")
    if options.prompt_tuning is not None:
        return peft.PromptTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=options.prompt_tuning.tokens,
            prompt_tuning_init="SAMPLE_VOCAB",
        )
    other: OtherAdapter | None = options.adapter
    assert other is not None
    if other.kind == "prefix":
        return peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=other.tokens)
    return peft.IA3Config(
        task_type="CAUSAL_LM",
        target_modules=other.targets,
        feedforward_modules=other.feedforward,
    )


def _init_prompt(model: Any, tokenizer: Any, options: PromptTuning) -> None:
    """Set the virtual tokens to the embeddings of a text, repeated or cut to their number."""
    assert options.init_text is not None
    ids = tokenize_plain(tokenizer, [options.init_text])[0]
    ids = (ids * math.ceil(options.tokens / max(len(ids), 1)))[: options.tokens]
    embeddings = model.get_input_embeddings()
    weight = model.prompt_encoder[model.active_adapter].embedding.weight
    with torch.no_grad():
        weight.copy_(embeddings(torch.tensor(ids, device=embeddings.weight.device)))


# Freezing ---------------------------------------------------------------------------------


def freeze_patterns(model: Any, options: SFTConfig) -> list[str]:
    """All of the recipe's freezing as regular expressions on parameter names.

    Raises UsageError for a block that the model does not have.
    """
    patterns = list(options.freeze)
    if options.freeze_layers is not None:
        wanted = block_numbers(options.freeze_layers)
        found = {
            int(match[1]) for name, _ in model.named_parameters() if (match := BLOCK.search(name))
        }
        if missing := sorted(wanted - found):
            raise UsageError(
                f"The model has no block {missing[0]}.",
                where=f"train.sft.freeze_layers: {options.freeze_layers}",
                expected=f"numbers from 0 to {max(found)}" if found else "a model with blocks",
            )
        names = "|".join(map(str, sorted(wanted)))
        patterns.append(rf"(?:^|\.)(?:layers|h|blocks|block|layer)\.(?:{names})\.")
    if options.freeze_embeddings:
        table = model.get_input_embeddings().weight
        patterns += [
            f"^{re.escape(name)}$" for name, value in model.named_parameters() if value is table
        ]
    return patterns


def freeze(model: Any, patterns: Sequence[str]) -> None:
    """Do not train parameters whose name matches one of the regular expressions.

    Raises UsageError for a pattern that is no expression, that matches nothing, and when
    nothing is left to train.
    """
    names = dict(model.named_parameters())
    for pattern in patterns:
        try:
            expression = re.compile(pattern)
        except re.error as error:
            raise UsageError(
                f"'{pattern}' is not a regular expression: {error}.", where="freeze"
            ) from error
        matched = [name for name in names if expression.search(name)]
        if not matched:
            raise UsageError(
                f"No parameter is called like '{pattern}'.",
                where="freeze",
                expected=f"a part of a name such as {next(iter(names))}",
            )
        for name in matched:
            names[name].requires_grad_(False)
    if not any(p.requires_grad for p in names.values()):
        raise UsageError("All parameters are frozen; nothing is left to train.", where="freeze")


# Saving -----------------------------------------------------------------------------------


def keeps_adapters(options: SFTConfig) -> bool:
    """Whether the recipe ends with a folder of adapters rather than with a whole model."""
    if method_of(options) in ("prompt_tuning", "prefix"):
        return True
    return options.merge is False


def whole_model(model: Any, options: SFTConfig, source: Path | str, tokenizer: Any) -> Any:
    """The trained model as ordinary weights.

    Adapters trained beside weights of few bits are merged into the weights as they were before
    quantisation, so that nothing is rounded a second time.
    """
    if method_of(options) == "full":
        return model
    if options.lora is None or options.lora.quantise is None:
        return adapted.merged(model, "train.sft.merge")
    with tempfile.TemporaryDirectory(prefix="espalier-adapters-") as temporary:
        folder = Path(temporary)
        with quiet():
            model.save_pretrained(folder, save_embedding_layers=False)
        plain = load_model(source)
        fit_to_tokenizer(plain, tokenizer)
        return adapted.merged(adapted.put_on(plain, folder), "train.sft.merge")
