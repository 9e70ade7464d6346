"""Models that are adapters beside frozen weights (of peft): a folder that names its model.

Such a folder holds `adapter_config.json` and `adapter_model.safetensors`, a tokenizer and a
template. The model it belongs to is named by a hub name or a path; a relative path is looked up
from the folder itself, so that a run can be moved.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalier.errors import InputError, require

if TYPE_CHECKING:
    import torch

ADAPTER_FILE = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
BASE = "base_model_name_or_path"
# Of these kinds learnt vectors stand before each row.
_IN_THE_SEQUENCE = ("PROMPT_TUNING", "P_TUNING")
_IN_THE_CACHE = ("PREFIX_TUNING",)


def is_adapter(source: Path | str) -> bool:
    """Whether a folder holds adapters only, not merged into the weights they belong to."""
    folder = Path(source)
    return (folder / ADAPTER_FILE).is_file() and not (folder / "config.json").is_file()


def base_source(folder: Path | str) -> Path | str:
    """The folder or hub name of the model that a folder of adapters belongs to.

    Raises InputError where it is not named or its folder is gone.
    """
    folder = Path(folder)
    place = str(folder / ADAPTER_FILE)
    try:
        name = json.loads((folder / ADAPTER_FILE).read_text("utf-8")).get(BASE)
    except (ValueError, AttributeError) as error:
        raise InputError(
            "The description of the adapters is not a JSON object.", where=place
        ) from error
    if not isinstance(name, str) or not name:
        raise InputError(
            "The adapters do not say which model they belong to.", where=place, expected=BASE
        )
    # In a sweep the folder is reached by a link of the member, and the base lies beside that link,
    # not beside what it leads to.
    for beside in (Path(os.path.normpath(folder.absolute() / name)), (folder / name).resolve()):
        if beside.is_dir():
            return beside
    if Path(name).is_dir():
        return Path(name)
    if name.startswith((".", "~", "/")) or name.count("/") > 1:
        raise InputError(
            "The model that the adapters belong to is not there.",
            where=place,
            expected=f"the folder {name}",
            hint=f"put it back, or correct {BASE}",
        )
    return name


def name_base(folder: Path, base: Path | str, final: Path) -> None:
    """Write into the adapters in `folder`, to be moved to `final`, which model they belong to.

    A model below the folder that holds both (a run) is named by a relative path.
    """
    name = str(base)
    if Path(base).is_dir():
        here, there = final.absolute(), Path(base).absolute()
        run = here.parent.parent
        name = os.path.relpath(there, here) if there.is_relative_to(run) else str(there)
    path = folder / ADAPTER_FILE
    # The library's note about the model is an empty form.
    (folder / "README.md").unlink(missing_ok=True)
    described = {**json.loads(path.read_text("utf-8")), BASE: name}
    path.write_text(json.dumps(described, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def put_on(model: Any, folder: Path | str) -> Any:
    """The model with the adapters of the folder, all frozen."""
    peft = require("peft", extra="train", feature="Loading adapters")
    return peft.PeftModel.from_pretrained(model, str(folder)).eval()


def merged(model: Any, what: str) -> Any:
    """The plain model with its adapters added into the weights.

    Raises InputError, naming `what`, for virtual tokens, which weights can't express.
    """
    if not hasattr(model, "peft_config"):
        return model
    if model.active_peft_config.is_prompt_learning:
        raise InputError(
            "Virtual tokens (prompt or prefix tuning) can't be merged into weights.",
            where=what,
            hint="use the folder as it is: it can be evaluated and sampled from",
        )
    return model.merge_and_unload()


# Virtual tokens ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VirtualTokens:
    """Learnt vectors before each row: embeddings, or keys and values already `cached`."""

    model: Any
    count: int
    cached: bool

    @property
    def prepended(self) -> int:
        """Positions by which the hidden states are longer than the row."""
        return 0 if self.cached else self.count

    def first(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor | None
    ) -> dict[str, Any]:
        """What the inner model is called with for whole rows, padded anywhere (rows, length)."""
        torch = require("torch", extra="train", feature="Virtual tokens")
        inputs = self.later(ids, mask, positions)
        if self.cached:
            cache = self.model.get_prompt(
                batch_size=len(ids), max_cache_len=ids.shape[1] + self.count
            )
            return {**inputs, "past_key_values": cache}
        embeddings = self.model.get_input_embeddings()(ids)
        prompt = self.model.get_prompt(batch_size=len(ids)).to(embeddings.dtype)
        inputs["inputs_embeds"] = torch.cat([prompt, embeddings], dim=1)
        del inputs["input_ids"]
        if positions is not None:
            own = torch.arange(self.count, device=ids.device).expand(len(ids), -1)
            inputs["position_ids"] = torch.cat([own, inputs["position_ids"]], dim=1)
        return inputs

    def later(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor | None
    ) -> dict[str, Any]:
        """The same for tokens that follow, the virtual ones being in the cache."""
        torch = require("torch", extra="train", feature="Virtual tokens")
        own = mask.new_ones(len(mask), self.count)
        inputs = {"input_ids": ids, "attention_mask": torch.cat([own, mask], dim=1)}
        if positions is not None:
            inputs["position_ids"] = positions + self.count
        return inputs


def virtual_tokens(model: Any) -> VirtualTokens | None:
    """The virtual tokens of a model, or None where it has none."""
    # The model inside of adapters has a `peft_config` too, and no active one.
    if not hasattr(model, "active_peft_config"):
        return None
    options = model.active_peft_config
    if not options.is_prompt_learning:
        return None
    kind = str(getattr(options.peft_type, "value", options.peft_type))
    if kind not in _IN_THE_SEQUENCE + _IN_THE_CACHE:
        raise InputError(
            f"Adapters of the kind {kind} are not supported here.",
            expected="LoRA and its kin, IA3, prompt or prefix tuning",
        )
    return VirtualTokens(model, int(options.num_virtual_tokens), kind in _IN_THE_CACHE)
