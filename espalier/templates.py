"""Prompt templates: a conversation to pieces of text, with the pieces that the loss is taken over.

A template says where each turn begins and ends. The loss is taken over every assistant turn and
its end marker, so that a trained model learns to stop. Contents are never searched for markers:
each piece says of itself whether special tokens in it count as such, so that a user who types
`<|end|>` does not end a turn.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from espalier.errors import InputError, UsageError
from espalier.records import Message, Messages

TEMPLATE_FILE = "template.json"
NO_META: Mapping[str, Any] = {}

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


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a rendered conversation.

    `trained`: the loss is taken over its tokens. `kind`: "text" is content (special tokens
    written in it stay plain text), "marker" may hold special tokens, "eos" is the tokenizer's
    own end-of-sequence token (its `text` is empty).
    """

    text: str
    trained: bool
    kind: Literal["text", "marker", "eos"] = "text"


Render = Callable[[Messages, Mapping[str, Any], bool], list[Segment]]


@dataclass(frozen=True)
class Template:
    """A named way to write a conversation.

    `stop`: texts that end an answer (besides the end-of-sequence token).
    `special_tokens`: markers that must be single tokens of the tokenizer.
    """

    name: str
    stop: tuple[str, ...]
    special_tokens: tuple[str, ...]
    render: Render

    def segments(self, messages: Messages, meta: Mapping[str, Any] = NO_META) -> list[Segment]:
        """The whole conversation; assistant texts and their end markers are the trained pieces.

        Raises InputError for a conversation without turns.
        """
        _check(messages, self.name)
        return self.render(messages, meta, False)

    def prompt_segments(
        self, messages: Messages, meta: Mapping[str, Any] = NO_META
    ) -> list[Segment]:
        """Everything up to where the next assistant turn begins; nothing in it is trained.

        A final assistant turn, if there is one, is left out: it is what would be generated.
        """
        _check(messages, self.name)
        turns = messages[:-1] if messages[-1].role == "assistant" else messages
        return [Segment(s.text, False, s.kind) for s in self.render(turns, meta, True)]

    def prompt(self, messages: Messages, meta: Mapping[str, Any] = NO_META) -> str:
        """`prompt_segments` as one text (end-of-sequence tokens of earlier turns left out)."""
        return "".join(segment.text for segment in self.prompt_segments(messages, meta))


def _check(messages: Messages, name: str) -> None:
    if not messages or all(m.role == "system" for m in messages):
        raise InputError(
            "A conversation has no user or assistant turn.",
            expected=f"at least one turn to write with the template '{name}'",
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


def _alpaca_form(preamble: bool) -> Render:
    def render(messages: Messages, meta: Mapping[str, Any], generate: bool) -> list[Segment]:
        system = next((m.content for m in messages if m.role == "system"), "")
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
    system = next((m.content for m in messages if m.role == "system"), _VICUNA_SYSTEM)
    pieces = [Segment(system + " ", False)]
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
TEMPLATE_NAMES = (*_FIXED, "model")


def get_template(name: str, *, tokenizer: Any = None) -> Template:
    """The template of that name; "model" is the tokenizer's own chat template.

    Raises UsageError for an unknown name (with the nearest known one) and for "model" with a
    tokenizer that has none.
    """
    if name in _FIXED:
        return _FIXED[name]
    if name == "model":
        return _model_template(tokenizer)
    near = difflib.get_close_matches(name, TEMPLATE_NAMES, n=1)
    raise UsageError(
        f"There is no template '{name}'.",
        expected="one of " + ", ".join(TEMPLATE_NAMES),
        hint=f"did you mean '{near[0]}'?" if near else None,
    )


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


def _model_template(tokenizer: Any) -> Template:
    """The tokenizer's chat template as a Template; loss spans by rendering prefixes.

    A turn is what its rendering adds to the rendering of the turns before it. Where an
    assistant turn begins is where the rendering with a generation prompt ends.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError(
            "The template 'model' needs a tokenizer with a chat template, and this one has none.",
            hint="choose another template: " + ", ".join(_FIXED),
        )

    def text_of(messages: Messages, generate: bool) -> str:
        turns = [m.to_json() for m in messages]
        return str(
            tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generate)
        )

    def render(messages: Messages, meta: Mapping[str, Any], generate: bool) -> list[Segment]:
        pieces: list[Segment] = []
        done = ""
        for index, message in enumerate(messages):
            if message.role != "assistant":
                continue
            before = text_of(messages[:index], True)
            after = text_of(messages[: index + 1], False)
            if not before.startswith(done) or not after.startswith(before):
                raise _broken(tokenizer, done, before, after)
            pieces.append(Segment(before[len(done) :], False, "marker"))
            pieces.append(Segment(after[len(before) :], True, "marker"))
            done = after
        whole = text_of(messages, generate)
        if not whole.startswith(done):
            raise _broken(tokenizer, done, whole, whole)
        if len(whole) > len(done):
            pieces.append(Segment(whole[len(done) :], False, "marker"))
        return pieces

    return Template("model", (), (), render)


def _broken(tokenizer: Any, done: str, before: str, after: str) -> InputError:
    shown = next(
        (tail for head, tail in ((done, before), (before, after)) if not tail.startswith(head)),
        after,
    )
    return InputError(
        "The chat template of this tokenizer rewrites earlier turns when a turn is added, so the "
        "answers in a conversation can't be told from the rest.",
        where=f"{getattr(tokenizer, 'name_or_path', 'tokenizer')}: …{shown[-80:]!r}",
        expected="each turn to be written after the ones before it, unchanged",
        hint="use single-turn data, or name another template: " + ", ".join(_FIXED),
    )
