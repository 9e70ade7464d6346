"""What a model folder says of its model, without loading it and without torch.

Shapes are read from `config.json`, the number of parameters from the headers of the safetensors
files. A name of the hub is looked up in the local cache; where it is not there, the size in the
name ("7b") gives shapes of that class.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from espalier.data_facts import template_tokens
from espalier.errors import InputError
from espalier.hub import snapshot
from espalier.models import model_location
from espalier.templates import FIXED_NAMES

# Models whose feed-forward layers are two matrices; those of the others are three (gated).
_TWO_MATRICES = {
    "gpt2", "gpt_neo", "gpt_neox", "gptj", "opt", "bloom", "falcon", "phi", "codegen", "mpt",
    "starcoder2", "xglm", "biogpt",
}  # fmt: skip
# What classes of size look like: parameters, hidden, layers, ffn, heads, heads of keys, vocabulary.
_CLASSES = (
    (0.135e9, 576, 30, 1536, 9, 3, 49152),
    (0.5e9, 896, 24, 4864, 14, 2, 151936),
    (1.1e9, 2048, 22, 5632, 32, 4, 32000),
    (1.5e9, 1536, 28, 8960, 12, 2, 151936),
    (3.1e9, 2048, 36, 11008, 16, 2, 151936),
    (6.7e9, 4096, 32, 11008, 32, 32, 32000),
    (8.0e9, 4096, 32, 14336, 32, 8, 128256),
    (13.0e9, 5120, 40, 13824, 40, 40, 32000),
    (32.5e9, 6656, 60, 17920, 52, 52, 32000),
    (70e9, 8192, 80, 28672, 64, 8, 128256),
)
_SIZE = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([bBmM])(?![A-Za-z0-9])")
_DRAFTS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_LONGEST_HEADER = 100 << 20
# What a chat template of the model's own adds to a row at most, as far as is known here: a system
# text that it writes by itself.
_CHAT_PREAMBLE = 32


@dataclass(frozen=True, slots=True)
class Shape:
    """Widths of a decoder: `query` and `key_value` are heads × width of a head."""

    hidden: int
    layers: int
    ffn: int
    heads: int
    query: int
    key_value: int
    vocabulary: int
    tied: bool = False
    gated: bool = True

    @property
    def embedding(self) -> int:
        """Parameters of the table of embeddings."""
        return self.vocabulary * self.hidden

    @property
    def linear(self) -> int:
        """Parameters of the matrices inside the layers."""
        attention = 2 * self.hidden * (self.query + self.key_value)
        return self.layers * (attention + (3 if self.gated else 2) * self.hidden * self.ffn)

    @property
    def parameters(self) -> int:
        """All parameters, biases aside."""
        tables = self.embedding * (1 if self.tied else 2)
        return self.linear + tables + (2 * self.layers + 1) * self.hidden


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model as far as it is known: `template` is "own" (a template file of ours beside it),
    "model" (its tokenizer's chat template) or None; `folder` None for a name of the hub."""

    name: str
    kind: str
    shape: Shape
    parameters: int
    source: Literal["weights", "config", "name"]
    context: int | None = None
    template: Literal["own", "model"] | None = None
    folder: Path | None = None


def read_model(name: str) -> ModelFacts | None:
    """The facts of a model folder, a stage's folder (RUN/sft) or a hub name; None for a hub name
    that neither the local cache nor its own spelling tells anything of.

    Raises InputError for a folder that is no causal language model, or whose files are broken.
    """
    location = model_location(name)
    folder = Path(location)
    if not folder.is_dir():
        cached = snapshot(location)
        if cached is None:
            return _from_name(location)
        folder = cached
    return _from_folder(name, folder)


def _from_folder(name: str, folder: Path) -> ModelFacts:
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(
            "The folder holds adapters, not a model.",
            where=str(folder),
            expected="config.json and model.safetensors",
            hint=f"merge them first: espalier train merge {folder} --output FOLDER",
        )
    whole = _object(path)
    _check_kind(whole, path)
    config = whole.get("text_config")
    config = {**whole, **config} if isinstance(config, Mapping) else whole
    shape = _shape(config, path)
    counted = _count_weights(folder)
    return ModelFacts(
        name=name,
        kind=str(config.get("model_type", "unknown")),
        shape=shape,
        parameters=counted or shape.parameters,
        source="weights" if counted else "config",
        context=_number(config, "max_position_embeddings", "n_positions", "n_ctx"),
        template=_template(folder),
        folder=folder,
    )


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            "The description of a model can't be read.",
            where=str(path),
            expected="a JSON object, as transformers writes it",
        ) from error
    if not isinstance(value, dict):
        raise InputError(
            "The description of a model is no JSON object.",
            where=str(path),
            expected="a JSON object, as transformers writes it",
        )
    return value


def _check_kind(config: Mapping[str, Any], path: Path) -> None:
    names = config.get("architectures")
    known = [n for n in names if isinstance(n, str)] if isinstance(names, list) else []
    causal = not known or any(n.endswith(_DRAFTS) for n in known)
    if causal and not config.get("is_encoder_decoder"):
        return
    raise InputError(
        f"This model ({', '.join(known) or 'an encoder with a decoder'}) does not go on writing "
        "a text.",
        where=str(path),
        expected="a causal language model (…ForCausalLM)",
        hint="classifiers can be reward models: train.reward.model of a recipe",
    )


def _number(config: Mapping[str, Any], *names: str) -> int | None:
    found = (config.get(name) for name in names)
    return next((v for v in found if isinstance(v, int) and v > 0 and v is not True), None)


def _shape(config: Mapping[str, Any], path: Path) -> Shape:
    hidden = _number(config, "hidden_size", "n_embd", "d_model", "dim")
    layers = _number(config, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    heads = _number(config, "num_attention_heads", "n_head", "n_heads")
    vocabulary = _number(config, "vocab_size")
    named = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": vocabulary,
    }
    missing = [name for name, value in named.items() if value is None]
    if hidden is None or layers is None or heads is None or vocabulary is None:
        raise InputError(
            f"The description of the model lacks {', '.join(missing)}.",
            where=str(path),
            expected="the widths of a transformer, as transformers writes them",
        )
    width = _number(config, "head_dim") or max(1, hidden // heads)
    kind = str(config.get("model_type", ""))
    return Shape(
        hidden=hidden,
        layers=layers,
        ffn=_number(config, "intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
        or 4 * hidden,
        heads=heads,
        query=heads * width,
        key_value=(_number(config, "num_key_value_heads") or heads) * width,
        vocabulary=vocabulary,
        tied=bool(config.get("tie_word_embeddings", kind in _TWO_MATRICES)),
        gated=kind not in _TWO_MATRICES,
    )


def _count_weights(folder: Path) -> int | None:
    """Elements of all tensors in the folder's safetensors files, from their headers alone."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return None
    return sum(
        _elements(tensor.get("shape", ()), file)
        for file in files
        for name, tensor in _header(file).items()
        if name != "__metadata__" and isinstance(tensor, dict)
    )


def _elements(shape: Any, file: Path) -> int:
    if not isinstance(shape, list | tuple) or not all(isinstance(n, int) for n in shape):
        raise _unreadable(file)
    return math.prod(shape)


def _unreadable(file: Path) -> InputError:
    return InputError(
        "A file of weights can't be read.",
        where=str(file),
        expected="a complete safetensors file",
        hint="fetch or copy it again; it may have been cut off",
    )


def _header(file: Path) -> dict[str, Any]:
    """The header of a safetensors file: eight bytes of length, then so many of JSON."""
    try:
        with file.open("rb") as handle:
            size = int.from_bytes(handle.read(8), "little")
            if not 0 < size <= min(_LONGEST_HEADER, file.stat().st_size - 8):
                raise ValueError("no header")
            value = json.loads(handle.read(size))
        if not isinstance(value, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise _unreadable(file) from error
    return value


def _template(folder: Path) -> Literal["own", "model"] | None:
    if (folder / "template.json").is_file():
        return "own"
    if (folder / "chat_template.jinja").is_file():
        return "model"
    path = folder / "tokenizer_config.json"
    return "model" if path.is_file() and _object(path).get("chat_template") else None


def own_template(folder: Path) -> str:
    """The name of the template that a folder of ours says it was trained with."""
    return str(_object(folder / "template.json").get("name", ""))


def preamble_tokens(template: str | None, model: ModelFacts | None) -> int:
    """Tokens that the template writes into each row besides the markers of its turns; with no
    `template` named it is the model's own."""
    folder = model.folder if model is not None else None
    if template is None and model is not None and model.template == "own" and folder is not None:
        template = own_template(folder)
    return template_tokens(template, folder) if template in FIXED_NAMES else _CHAT_PREAMBLE


def _from_name(name: str) -> ModelFacts | None:
    """Shapes of the class that a size in the name ("7b", "0.5B", "160m") belongs to."""
    found = _SIZE.findall(name.rsplit("/", maxsplit=1)[-1].replace("_", "-"))
    if not found:
        return None
    number, unit = found[0]
    size = float(number) * (1e9 if unit in "bB" else 1e6)
    if size < 1e6:
        return None
    near = min(_CLASSES, key=lambda row: abs(math.log(row[0] / size)))
    _, hidden, layers, ffn, heads, kv_heads, vocabulary = near
    width = hidden // heads
    shape = Shape(hidden, layers, ffn, heads, heads * width, kv_heads * width, vocabulary)
    return ModelFacts(name, "unknown", shape, int(size), "name")
