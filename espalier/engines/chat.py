"""What the engines of local models share: prompts as token ids, what ends an answer, its text.

Transformers and vLLM are handed the same ids and their answers are read by the same rules, so
that there is one template and one BOS, and the engines can be compared token by token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalier import own_code
from espalier.adapted import base_source, is_adapter
from espalier.engines.base import Completion, FinishReason, Request, Usage
from espalier.errors import InputError
from espalier.files import hash_file
from espalier.hub import place_of
from espalier.models import load_config, load_tokenizer
from espalier.records import Messages
from espalier.templates import TEMPLATE_FILE, Template, get_template, template_of

if TYPE_CHECKING:
    from transformers import GenerationConfig

_MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")


@dataclass(frozen=True, slots=True)
class ChatForm:
    """How a model is asked and where its answers end.

    `ends` are the ids of the end-of-sequence tokens that tokenizer and generation settings name.
    """

    tokenizer: Any
    template: Template
    ends: frozenset[int]

    def prompts(self, requests: Sequence[Request]) -> list[list[int]]:
        """Token ids of each request: its own, or its messages written with the template."""
        from espalier.encoding import encode_prompts

        pairs: list[tuple[Messages, dict[str, Any]]] = [
            (request.messages, {}) for request in requests if not request.token_ids
        ]
        written = iter(encode_prompts(self.tokenizer, self.template, pairs))
        return [
            list(request.token_ids) if request.token_ids else next(written) for request in requests
        ]

    def stops(self, texts: Sequence[str]) -> Stops:
        """Split stop texts into special tokens (found by id) and strings (found in the text).

        A special token leaves no trace in decoded text, so it must be found by its id.
        """
        special = {str(token): i for i, token in self.tokenizer.added_tokens_decoder.items()}
        ids = {special[text] for text in texts if text in special}
        strings = tuple(dict.fromkeys(text for text in texts if text and text not in special))
        return Stops(self.ends | ids, strings)

    def completion(
        self,
        ids: tuple[int, ...],
        logprobs: tuple[float, ...],
        reason: FinishReason,
        prompt_tokens: int,
        stops: Stops,
    ) -> Completion:
        """The answer as callers see it: text without special tokens, up to the first stop."""
        shown = ids[:-1] if ids and ids[-1] in stops.ids else ids
        text = self.tokenizer.decode(
            list(shown), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        found = [at for stop in stops.strings if (at := text.find(stop)) >= 0]
        text = text[: min(found)] if found else text
        return Completion(
            text=text.strip(),
            finish_reason=reason,
            usage=Usage(prompt_tokens, len(ids)),
            token_ids=ids,
            logprobs=logprobs,
        )


@dataclass(frozen=True, slots=True)
class Stops:
    """What ends an answer: token ids and strings."""

    ids: frozenset[int]
    strings: tuple[str, ...]


def chat_form(
    source: str, tokenizer: Any, generation: GenerationConfig | None, template: str | None
) -> ChatForm:
    """The form of a model folder or hub name.

    `template` names one; else the folder says it, or the tokenizer, or it is alpaca.
    """
    ends = {tokenizer.eos_token_id}
    configured = getattr(generation, "eos_token_id", None)
    ends |= set(configured if isinstance(configured, list) else [configured])
    known = (Path(source) / TEMPLATE_FILE).is_file()
    if template or known or getattr(tokenizer, "chat_template", None):
        chosen = template_of(source, tokenizer=tokenizer, name=template)
    else:
        chosen = get_template("alpaca")
    return ChatForm(tokenizer, chosen, frozenset(end for end in ends if end is not None))


def load_chat_form(source: str, template: str | None) -> ChatForm:
    """`chat_form` without loading the weights; raises InputError where there is no tokenizer."""
    return chat_form(source, load_tokenizer(source), _generation_config(source), template)


def _generation_config(source: str) -> GenerationConfig | None:
    """The folder's generation settings, else those that its configuration implies."""
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(place_of(source))
    except OSError:
        pass  # many folders have none
    try:
        return GenerationConfig.from_model_config(load_config(source))
    except InputError:
        return None


def weights_identity(source: str) -> str:
    """The hash of a model folder's weights, tokenizer and templates; a hub name stays a name."""
    folder = Path(source)
    if not folder.is_dir():
        return source
    digest = hashlib.sha256()
    kinds = (*_MODEL_FILES, "*.py") if own_code.may_run(source) else _MODEL_FILES
    for path in sorted({p for glob in kinds for p in folder.glob(glob)}):
        digest.update(f"{path.name}\0{hash_file(path)}\n".encode())
    if is_adapter(folder):
        digest.update(weights_identity(str(base_source(folder))).encode())
    return digest.hexdigest()[:32]
