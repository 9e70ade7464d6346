"""Loading and saving models and tokenizers: safetensors only, no remote code, pad never eos.

Importing this module is light; torch and transformers are imported where they are used.
"""

from __future__ import annotations

import difflib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR
from pathlib import Path
from typing import Any, Literal

from espalier.errors import InputError, require
from espalier.reward_heads import init_missing, keep_label, reward_label
from espalier.templates import save_template

Kind = Literal["causal", "reward"]
DTYPES = ("float32", "bfloat16", "float16", "auto")
# Tokens that models are given for padding, best first; "<unk>" is never trained on either.
_PAD_LIKE = (
    "<|pad|>",
    "<pad>",
    "[PAD]",
    "<|finetune_right_pad_id|>",
    "<|endoftext|>",
    "<unk>",
    "[UNK]",
)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def load_tokenizer(path: Path | str) -> Any:
    """The tokenizer of a model folder or hub name, with a pad token that is not its eos.

    Raises InputError where there is none.
    """
    transformers = _transformers()
    source = check_source(path)
    with _loading("tokenizer", source):
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    ensure_pad(tokenizer)
    return tokenizer


def load_model(
    path: Path | str,
    *,
    kind: Kind = "causal",
    dtype: str = "float32",
    device: Any = None,
    head_seed: int = 0,
    label: str | int | None = None,
) -> Any:
    """A model in eval mode: "causal" (next token) or "reward" (a sequence to one number).

    The embedding is made large enough for the tokenizer beside it, its pad token set. A reward
    model loaded from a causal one gets a new head drawn from N(0, 1/(d+1)) with `head_seed`;
    of a classifier with several labels, `label` (name or number) is the one kept as the reward.
    `device` None means: a GPU where there is one, else the CPU. Raises InputError for a folder
    that is missing, is no model, or holds pickled weights only.
    """
    torch = require("torch", extra="train", feature="Loading a model")
    transformers = _transformers()
    source = check_source(path)
    if dtype not in DTYPES:
        raise InputError(f"The dtype is {dtype!r}.", expected="one of " + ", ".join(DTYPES))
    number: Any = dtype if dtype == "auto" else getattr(torch, dtype)
    options: dict[str, Any] = {"trust_remote_code": False, "use_safetensors": True, "dtype": number}
    with _loading("model", source):
        if kind == "reward":
            auto = transformers.AutoModelForSequenceClassification
            kept = reward_label(source, label)
            labels = {} if kept is not None else {"num_labels": 1}
            model, info = auto.from_pretrained(
                source, output_loading_info=True, **labels, **options
            )
            init_missing(model, info["missing_keys"], head_seed)
            if kept is not None:
                keep_label(model, kept)
        else:
            model = transformers.AutoModelForCausalLM.from_pretrained(source, **options)
    if _has_tokenizer(source):
        fit_to_tokenizer(model, load_tokenizer(source))
    model.eval()
    return model.to(device or default_device())


def default_device() -> str:
    """ "cuda" where torch sees a GPU, else "cpu"."""
    torch = require("torch", extra="train", feature="Running a model")
    return "cuda" if torch.cuda.is_available() else "cpu"


def ensure_pad(tokenizer: Any) -> bool:
    """Give the tokenizer a pad token that is not eos; True if a new token had to be added.

    With pad = eos the end token drops out of the loss and of the score position, and a model
    trained so never stops.
    """
    eos = tokenizer.eos_token_id
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != eos:
        return False
    vocabulary = tokenizer.get_vocab()
    for name in _PAD_LIKE:
        identity = vocabulary.get(name)
        if identity is not None and identity not in (eos, tokenizer.bos_token_id):
            tokenizer.pad_token = name
            return False
    tokenizer.add_special_tokens({"pad_token": _PAD_LIKE[0]})
    return True


def fit_to_tokenizer(model: Any, tokenizer: Any) -> int:
    """Set the model's pad token, and grow its embedding to the tokenizer; returns new rows.

    New rows start as the mean of the old ones, so that a new token is neither likely nor
    unlikely at first. Rows beyond the tokenizer (vocabularies padded to a round size) stay.
    """
    torch = require("torch", extra="train", feature="Loading a model")
    embedding = model.get_input_embeddings()
    old = int(embedding.weight.shape[0])
    new = len(tokenizer) - old
    if new > 0:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        with torch.no_grad():
            for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
                weight = getattr(layer, "weight", None)
                if weight is not None and weight.shape[0] == len(tokenizer):
                    weight[old:] = weight[:old].mean(dim=0, keepdim=True)
    model.config.pad_token_id = tokenizer.pad_token_id
    generation = getattr(model, "generation_config", None)
    if generation is not None:
        generation.pad_token_id = tokenizer.pad_token_id
        if tokenizer.eos_token_id is not None and generation.eos_token_id is None:
            generation.eos_token_id = tokenizer.eos_token_id
    return max(new, 0)


def add_markers(model: Any, tokenizer: Any, markers: tuple[str, ...]) -> int:
    """Make each marker of a template a special token of its own; returns how many were new."""
    vocabulary = tokenizer.get_vocab()
    missing = [marker for marker in markers if marker not in vocabulary]
    if missing:
        tokenizer.add_special_tokens(
            {"additional_special_tokens": missing}, replace_extra_special_tokens=False
        )
        fit_to_tokenizer(model, tokenizer)
    return len(missing)


def save_model(model: Any, tokenizer: Any, template_name: str | None, folder: Path) -> None:
    """Write weights (safetensors), configuration, tokenizer and template.json, all or nothing.

    Everything goes to a temporary folder beside it, which is then renamed; an older folder of
    that name is replaced.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with quiet():
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
        if template_name:
            save_template(temporary, template_name)
        temporary.chmod(0o755)
        replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`, removing what was there."""
    if folder.exists():
        old = folder.with_name(f".{folder.name}.old.{os.getpid()}")
        folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old)
    else:
        new.rename(folder)


def check_source(path: Path | str) -> str:
    """The path or hub name as transformers takes it; raises InputError if it can't be a model."""
    text = str(path)
    folder = Path(text)
    if folder.is_dir():
        _check_folder(folder)
        return text
    if folder.is_file():
        raise InputError(
            "A model is a folder, and this is a file.",
            where=text,
            expected="the folder that holds config.json and model.safetensors",
            hint=f"give {folder.parent}",
        )
    if not _is_hub_name(text):
        raise InputError(
            "There is no such model folder.",
            where=text,
            expected="a folder with config.json and model.safetensors, or a hub name",
            hint=_nearest(folder),
        )
    return text


def _is_hub_name(text: str) -> bool:
    """Whether `text` has the form `name` or `owner/name` and its first part is no folder here."""
    parts = text.split("/")
    plain = len(parts) <= 2 and all(parts) and not text.startswith((".", "~", "/"))
    return plain and not (len(parts) == 2 and Path(parts[0]).is_dir())


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        inner = sorted(p.parent.name for p in folder.glob("*/config.json"))
        raise InputError(
            "This folder is not a model.",
            where=str(folder),
            expected="config.json and model.safetensors",
            hint=f"did you mean {folder / inner[0]}?" if inner else None,
        )
    if any(folder.glob("*.safetensors")) or not any(
        path for pattern in _PICKLES for path in folder.glob(pattern)
    ):
        return
    raise InputError(
        "The weights of this model are pickle files, which can run any code when they are read.",
        where=str(folder),
        expected="model.safetensors",
        hint="convert them once, where you trust them: load with transformers and "
        "save_pretrained(folder) writes safetensors",
    )


def _nearest(folder: Path) -> str | None:
    parent = folder.parent
    while not parent.is_dir() and parent != parent.parent:
        folder, parent = parent, parent.parent
    names = [p.name for p in parent.iterdir() if p.is_dir()] if parent.is_dir() else []
    near = difflib.get_close_matches(folder.name, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean {parent / near[0]}?"
    return f"{parent} is there, {folder.name} is not in it" if parent != Path() else None


def _has_tokenizer(source: str) -> bool:
    folder = Path(source)
    if not folder.is_dir():
        return True
    names = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
    return any((folder / name).is_file() for name in names)


def _transformers() -> Any:
    return require("transformers", extra="train", feature="Loading a model")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' warnings and bars off the terminal; ours say what matters."""
    from transformers.utils import logging

    settings: Any = logging
    level = settings.get_verbosity()
    settings.set_verbosity(ERROR)
    settings.disable_progress_bar()
    try:
        yield
    finally:
        settings.set_verbosity(level)


@contextmanager
def _loading(what: str, source: str) -> Iterator[None]:
    """Turn what transformers raises for a bad source into an InputError."""
    from safetensors import SafetensorError

    try:
        with quiet():
            yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        local = Path(source).is_dir()
        raise InputError(
            f"The {what} can't be loaded: {reason}",
            where=source,
            expected="a folder with config.json, model.safetensors and a tokenizer"
            if local
            else "a folder, or a name on the Hugging Face hub that can be reached",
            hint=None if local else "without a network, give a folder",
        ) from error
