"""Loading and saving models and tokenizers: safetensors only, no code that comes with a model
unless the recipe names it (`espalier.own_code`), pad never eos.

Importing this module is light; torch and transformers are imported where they are used.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR
from pathlib import Path
from typing import Any, Literal

from espalier import hub, own_code
from espalier.adapted import base_source, is_adapter, name_base, put_on
from espalier.errors import InputError, did_you_mean, require
from espalier.reward_heads import init_missing, keep_label, reward_label
from espalier.templates import Template, get_template, save_template
from espalier.vocabulary import (
    add_markers,
    ensure_pad,
    fit_to_tokenizer,
    frozen_tokens,
    new_markers,
)

__all__ = [
    "DTYPES",
    "Kind",
    "add_markers",
    "check_source",
    "default_device",
    "ensure_pad",
    "fit_to_tokenizer",
    "frozen_tokens",
    "load_config",
    "load_model",
    "load_tokenizer",
    "model_location",
    "new_markers",
    "quiet",
    "replace_folder",
    "save_model",
]

Kind = Literal["causal", "reward"]
DTYPES = ("float32", "bfloat16", "float16", "auto")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def load_tokenizer(path: Path | str) -> Any:
    """The tokenizer of a model folder or hub name, with a pad token that is not its eos.

    Raises InputError where there is none.
    """
    transformers = _transformers()
    source = check_source(path)
    with _loading("tokenizer", source):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            hub.place_of(source), trust_remote_code=own_code.may_run(source)
        )
    ensure_pad(tokenizer)
    return tokenizer


def load_config(path: Path | str) -> Any:
    """The configuration of a model folder or hub name; raises InputError where there is none."""
    transformers = _transformers()
    source = check_source(path)
    with _loading("configuration", source):
        config = transformers.AutoConfig.from_pretrained(
            hub.place_of(source), trust_remote_code=own_code.may_run(source)
        )
    # An earlier download is still the model of that name, whose own code may be allowed.
    config.name_or_path = source
    return config


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
    A folder of adapters (see `espalier.adapted`) gives the model that it names, with these put on.
    `device` None means: a GPU where there is one, else the CPU. Raises InputError for a folder
    that is missing, is no model, or holds pickled weights only.
    """
    torch = require("torch", extra="train", feature="Loading a model")
    transformers = _transformers()
    source = check_source(path)
    if dtype not in DTYPES:
        raise InputError(f"The dtype is {dtype!r}.", expected="one of " + ", ".join(DTYPES))
    if is_adapter(source):
        return _load_adapted(source, kind, dtype, device)
    number: Any = dtype if dtype == "auto" else getattr(torch, dtype)
    options: dict[str, Any] = {
        "trust_remote_code": own_code.may_run(source),
        "use_safetensors": True,
        "dtype": number,
    }
    place = hub.place_of(source)
    with _loading("model", source):
        if kind == "reward":
            auto = transformers.AutoModelForSequenceClassification
            kept = reward_label(load_config(source), source, label)
            labels = {} if kept is not None else {"num_labels": 1}
            model, info = auto.from_pretrained(place, output_loading_info=True, **labels, **options)
            init_missing(model, info["missing_keys"], head_seed)
            if kept is not None:
                keep_label(model, kept)
        else:
            model = transformers.AutoModelForCausalLM.from_pretrained(place, **options)
    model.name_or_path = model.config.name_or_path = source
    if _has_tokenizer(source):
        fit_to_tokenizer(model, load_tokenizer(source))
    model.eval()
    return model.to(device or default_device())


def _load_adapted(source: str, kind: Kind, dtype: str, device: Any) -> Any:
    if kind != "causal":
        raise InputError(
            "A reward model can't start from the adapters of a language model alone.",
            where=source,
            hint=f"merge them first: espalier train merge {source} --output FOLDER",
        )
    model = load_base(source, dtype=dtype, device="cpu")
    with _loading("adapter", source):
        model = put_on(model, source)
    return model.to(device or default_device())


def load_base(source: str, *, dtype: str = "float32", device: Any = None) -> Any:
    """The model that a folder of adapters belongs to, made large enough for their tokenizer."""
    model = load_model(base_source(source), dtype=dtype, device=device)
    if _has_tokenizer(source):
        fit_to_tokenizer(model, load_tokenizer(source))
    return model


def default_device() -> str:
    """ "cuda" where torch sees a GPU, else "cpu"."""
    torch = require("torch", extra="train", feature="Running a model")
    return "cuda" if torch.cuda.is_available() else "cpu"


def save_model(
    model: Any,
    tokenizer: Any,
    template_name: str | None,
    folder: Path,
    *,
    base: Path | str | None = None,
) -> None:
    """Write weights (safetensors), configuration, tokenizer and template.json, all or nothing.

    With `base` the weights are those of the adapters alone, and `base` is the model that they
    belong to (see `espalier.adapted`).

    With a template, its end markers go into the generation settings and its Jinja form into the
    tokenizer, so that other tools ask the model, and end its answers, as it was trained.
    Everything goes to a temporary folder beside it, which is then renamed; an older folder of
    that name is replaced.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    own_form = getattr(tokenizer, "chat_template", None)
    try:
        if template_name:
            _hand_over(model, tokenizer, get_template(template_name, tokenizer=tokenizer))
        with quiet():
            if base is None:
                model.save_pretrained(temporary)
            else:
                model.save_pretrained(temporary, save_embedding_layers=False)
                name_base(temporary, base, folder)
            tokenizer.save_pretrained(temporary)
        if template_name:
            save_template(temporary, template_name)
        temporary.chmod(0o755)
        replace_folder(temporary, folder)
    finally:
        tokenizer.chat_template = own_form
        shutil.rmtree(temporary, ignore_errors=True)


def _hand_over(model: Any, tokenizer: Any, template: Template) -> None:
    """Note the template where other tools look for it."""
    from espalier.encoding import adds_bos
    from espalier.engines.jinja_forms import jinja_of

    form = jinja_of(template, bos=adds_bos(tokenizer))
    if form is not None:
        tokenizer.chat_template = form
    generation = getattr(model, "generation_config", None)
    special = {str(token): i for i, token in tokenizer.added_tokens_decoder.items()}
    ends = [special[text] for text in template.stop if text in special]
    if generation is None or not ends:
        return
    known = generation.eos_token_id
    ids = known if isinstance(known, list) else [] if known is None else [known]
    if not set(ends) <= set(ids):
        generation.eos_token_id = list(dict.fromkeys([*ids, *ends]))


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
    """The path or hub name as transformers takes it; raises InputError if it can't be a model.

    A folder of adapters alone (see `espalier.adapted`) is one.
    """
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


def model_location(text: str) -> str:
    """A model as a person names it: its folder, the folder of a stage (RUN/ppo), or a hub name.

    Raises InputError for what can't be a model.
    """
    folder = Path(text).expanduser()
    inner = folder / "model"
    own = (folder / "config.json").is_file() or is_adapter(folder)
    if not own and ((inner / "config.json").is_file() or is_adapter(inner)):
        return str(inner)
    return check_source(str(folder) if folder.exists() else text)


def _is_hub_name(text: str) -> bool:
    """Whether `text` has the form `name` or `owner/name` and its first part is no folder here."""
    parts = text.split("/")
    plain = len(parts) <= 2 and all(parts) and not text.startswith((".", "~", "/"))
    return plain and not (len(parts) == 2 and Path(parts[0]).is_dir())


def _check_folder(folder: Path) -> None:
    if not is_adapter(folder) and not (folder / "config.json").is_file():
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
    there = f"{parent} is there, {folder.name} is not in it" if parent != Path() else None
    return did_you_mean(folder.name, names, parent) or there


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

    hub.check_at_hand(source)
    try:
        with quiet():
            yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if own_code.OPTION in str(error):
            raise own_code.refusal(what, source) from error
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
