"""Prompt templates: a conversation to pieces of text, with the pieces that the loss is taken over.

A template says where each turn begins and ends. The loss is taken over every assistant turn and
its end marker, so that a trained model learns to stop. Contents are never searched for markers:
each piece says of itself whether special tokens in it count as such, so that a user who types
`<|end|>` does not end a turn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espalier import text_pair
from espalier.chat_templates import chat_template
from espalier.errors import InputError, UsageError, did_you_mean
from espalier.files import hash_file
from espalier.records import Message, Messages, content_id
from espalier.segments import NO_META, Render, Segment, Template, TrainOn

__all__ = [
    "ASSISTANT",
    "END",
    "ESPALIER_JINJA",
    "ESPALIER_TOKENS",
    "FIXED_NAMES",
    "NO_META",
    "PAD",
    "SYSTEM",
    "TEMPLATE_FILE",
    "TEMPLATE_NAMES",
    "USER",
    "Segment",
    "Template",
    "TrainOn",
    "get_template",
    "is_template_file",
    "save_template",
    "split_input",
    "template_identity",
    "template_of",
]

TEMPLATE_FILE = "template.json"
_FILE_ENDINGS = (".jinja", ".jinja2", ".j2")
# Before the hash of its text: the name of a template that came from a file.
_FROM_FILE = "jinja-"
PAD, SYSTEM, USER, ASSISTANT, END = (
    "<|pad|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
)
ESPALIER_TOKENS = (PAD, SYSTEM, USER, ASSISTANT, END)

# The template of the tiny model once more, in the form that other tools read
# (`tokenizer.apply_chat_template`).
ESPALIER_JINJA = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|> ' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def _espalier(messages: Messages, meta: Mapping[str, Any], generate: bool) -> list[Segment]:
    # One space before each content: a word copied from the middle of the prompt to the start
    # of the answer then keeps its token id.
    pieces = []
    for message in messages:
        trained = message.role == "assistant"
        pieces.append(Segment(f"<|{message.role}|>", False, "marker"))
        pieces.append(Segment(" " + message.content, trained))
        pieces.append(Segment(END, trained, "marker"))
    if generate:
        pieces.append(Segment(ASSISTANT, False, "marker"))
    return pieces


def _chatml(messages: Messages, meta: Mapping[str, Any], generate: bool) -> list[Segment]:
    pieces = []
    for message in messages:
        trained = message.role == "assistant"
        pieces.append(Segment(f"<|im_start|>{message.role}\n", False, "marker"))
        pieces.append(Segment(message.content, trained))
        pieces.append(Segment("<|im_end|>", trained, "marker"))
        pieces.append(Segment("\n", False))
    if generate:
        pieces.append(Segment("<|im_start|>assistant\n", False, "marker"))
    return pieces


_ALPACA_HEAD = "Below is an instruction that describes a task"
_ALPACA_TAIL = "Write a response that appropriately completes the request.\n\n"
_ALPACA_INPUT = f"{_ALPACA_HEAD}, paired with an input that provides further context. "


def split_input(message: Message, meta: Mapping[str, Any]) -> tuple[str, str]:
    """Instruction and input of a user turn: `meta["input"]` is cut from its end if it is there."""
    text = meta.get("input")
    if isinstance(text, str) and text.strip():
        tail = "\n\n" + text
        if message.content.endswith(tail):
            return message.content[: -len(tail)], text
    return message.content, ""


def _system(messages: Messages) -> str:
    """The system texts of a conversation in one, for forms that have one place for them."""
    return "\n\n".join(m.content for m in messages if m.role == "system")


def _alpaca_form(preamble: bool) -> Render:
    def render(messages: Messages, meta: Mapping[str, Any], generate: bool) -> list[Segment]:
        system = _system(messages)
        pieces = [Segment(system + "\n\n", False)] if system else []
        first = True
        for message in messages:
            if message.role == "user":
                instruction, extra = split_input(message, meta if first else NO_META)
                if first and preamble and not system:
                    head = _ALPACA_INPUT if extra else _ALPACA_HEAD + ". "
                    pieces.append(Segment(head + _ALPACA_TAIL, False))
                text = f"### Instruction:\n{instruction}\n\n"
                text += f"### Input:\n{extra}\n\n" if extra else ""
                pieces.append(Segment(text if first else "\n\n" + text, False))
                first = False
            elif message.role == "assistant":
                pieces.append(Segment("### Response:\n", False))
                pieces.append(Segment(message.content, True))
                pieces.append(Segment("", True, "eos"))
        if generate:
            pieces.append(Segment("### Response:\n", False))
        return pieces

    return render


_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant "
    "gives helpful, detailed, and polite answers to the user's questions."
)


def _vicuna(messages: Messages, meta: Mapping[str, Any], generate: bool) -> list[Segment]:
    pieces = [Segment((_system(messages) or _VICUNA_SYSTEM) + " ", False)]
    for message in messages:
        if message.role == "user":
            pieces.append(Segment(f"USER: {message.content} ", False))
        elif message.role == "assistant":
            pieces.append(Segment("ASSISTANT:", False))
            pieces.append(Segment(" " + message.content, True))
            pieces.append(Segment("", True, "eos"))
    if generate:
        pieces.append(Segment("ASSISTANT:", False))
    return pieces


def _qa(messages: Messages, meta: Mapping[str, Any], generate: bool) -> list[Segment]:
    pieces = []
    for message in messages:
        if message.role == "system":
            pieces.append(Segment(message.content + "\n\n", False))
        elif message.role == "user":
            pieces.append(Segment(f"Question: {message.content}\n", False))
        else:
            pieces.append(Segment("Answer:", False))
            pieces.append(Segment(" " + message.content, True))
            pieces.append(Segment("\n\n", True))
    if generate:
        pieces.append(Segment("Answer:", False))
    return pieces


_FIXED: dict[str, Template] = {
    template.name: template
    for template in (
        Template("espalier", (END,), ESPALIER_TOKENS, _espalier),
        Template("chatml", ("<|im_end|>",), ("<|im_start|>", "<|im_end|>"), _chatml),
        Template("alpaca", ("### Instruction:",), (), _alpaca_form(preamble=True)),
        Template("alpaca-short", ("### Instruction:",), (), _alpaca_form(preamble=False)),
        Template("vicuna", ("USER:",), (), _vicuna),
        Template("qa", ("\n",), (), _qa),
    )
}
FIXED_NAMES = tuple(_FIXED)
TEMPLATE_NAMES = (*_FIXED, "model")


def get_template(name: str, *, tokenizer: Any = None) -> Template:
    """The template of that name; "model" is the tokenizer's own chat template.

    The name may be a Jinja file (`.jinja`, `.j2`): the tokenizer then takes its text over as its
    chat template, so that it is saved with the model, and the template is called `jinja-` and a
    hash of the text. Raises UsageError for an unknown name (with the nearest known one), for
    "model" with a tokenizer that has none and for a file without a tokenizer; InputError for a
    file that can't be read, or where `jinja-…` is not the template that the tokenizer has.
    """
    if name in _FIXED:
        return _FIXED[name]
    if name == "model":
        return chat_template(tokenizer, _own_text(tokenizer), name)
    if name == text_pair.NAME:
        return text_pair.text_pair(tokenizer)
    if is_template_file(name):
        return _from_file(Path(name).expanduser(), tokenizer)
    if name.startswith(_FROM_FILE):
        return _saved_file(name, tokenizer)
    raise UsageError(
        f"There is no template '{name}'.",
        expected="a Jinja file (.jinja, .j2), or one of " + ", ".join(TEMPLATE_NAMES),
        hint=did_you_mean(name, TEMPLATE_NAMES),
    )


def is_template_file(name: str) -> bool:
    """Whether a template is named by its file."""
    return name.endswith(_FILE_ENDINGS)


def template_identity(name: str | None) -> str:
    """What decides the text that a named template writes: its name, of a file its content.

    "" for None; a file that is not there is its name.
    """
    if name and is_template_file(name):
        path = Path(name).expanduser()
        if path.is_file():
            return _FROM_FILE + hash_file(path)[:16]
    return name or ""


def _own_text(tokenizer: Any) -> str:
    text = getattr(tokenizer, "chat_template", None)
    if not text:
        raise UsageError(
            "The template 'model' needs a tokenizer with a chat template, and this one has none.",
            hint="choose another template: " + ", ".join(_FIXED),
        )
    if isinstance(text, dict):
        if "default" not in text:
            raise UsageError(
                "This tokenizer has several chat templates and none of them is the default.",
                expected="a template 'default' beside " + ", ".join(sorted(text)),
                hint="save the one to use as a file and name that: template: FILE.jinja",
            )
        text = text["default"]
    return str(text)


def _from_file(path: Path, tokenizer: Any) -> Template:
    if tokenizer is None:
        raise UsageError(
            f"The template '{path}' is a file, and no tokenizer is at hand to write with it.",
            hint="name a template here: " + ", ".join(_FIXED),
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "The file of a prompt template can't be read.",
            where=str(path),
            expected="a chat template in Jinja, UTF-8",
            hint="paths count from where the command is run",
        ) from error
    made = chat_template(tokenizer, text, _FROM_FILE + content_id(text))
    tokenizer.chat_template = text
    return made


def _saved_file(name: str, tokenizer: Any) -> Template:
    text = _own_text(tokenizer)
    if _FROM_FILE + content_id(text) != name:
        raise InputError(
            "The chat template of a model is not the one that it was trained with.",
            where=str(getattr(tokenizer, "name_or_path", "the tokenizer")),
            expected=f"the text of '{name}' in chat_template.jinja",
            hint="put it back, or name the template to use: template: model",
        )
    return chat_template(tokenizer, text, name)


def save_template(folder: Path, name: str) -> None:
    """Write `template.json` beside a model: which template it was trained with."""
    (folder / TEMPLATE_FILE).write_text(json.dumps({"name": name}) + "\n", encoding="utf-8")


def template_of(model: Path | str, *, tokenizer: Any = None, name: str | None = None) -> Template:
    """The template to use with a model: `name` if given, else what its folder says.

    A folder says it in `template.json`; else its tokenizer's chat template is taken. Raises
    UsageError where neither is there, InputError where `template.json` is broken.
    """
    if name:
        return get_template(name, tokenizer=tokenizer)
    path = Path(model) / TEMPLATE_FILE
    if path.is_file():
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))["name"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                "The template file of a model can't be read.",
                where=str(path),
                expected='{"name": "<template>"}',
            ) from error
        return get_template(str(saved), tokenizer=tokenizer)
    if getattr(tokenizer, "chat_template", None):
        return get_template("model", tokenizer=tokenizer)
    raise UsageError(
        f"Nothing says which prompt template '{model}' uses.",
        expected=f"a {TEMPLATE_FILE} beside the model or a chat template in its tokenizer",
        hint="name one in the recipe: " + ", ".join(n for n in _FIXED),
    )
