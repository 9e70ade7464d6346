"""The stage `sft`: supervised fine-tuning, the loss taken over the assistant's turns only."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from espalier.encoding import Encoded, EncodingCounts, encode_examples, encode_prompt
from espalier.errors import StageError, UsageError, require
from espalier.models import add_markers, frozen_tokens, load_model, load_tokenizer, save_model
from espalier.progress import say
from espalier.records import Example
from espalier.run import StageContext
from espalier.templates import TEMPLATE_FILE, Template, get_template, template_of
from espalier.train import checkpoints
from espalier.train.config import SFTConfig
from espalier.train.config_parts import LoraConfig
from espalier.train.sources import (
    data_files,
    model_input,
    model_source,
    read_rows,
    stage_seed,
    template_input,
    template_name,
)


def inputs(context: StageContext) -> dict[str, Path]:
    """The model folder and the data files."""
    options: SFTConfig = context.options
    names = list(options.data)
    if options.validation.data:
        names.append(options.validation.data)
    return {
        **model_input(context, options.model),
        **template_input(context, options.template),
        **data_files(context, names),
    }


def run(context: StageContext) -> dict[str, Any]:
    """Fine-tune; writes model/ and returns counts."""
    from espalier.train.tasks import NextToken
    from espalier.train.trainer import fit

    options: SFTConfig = context.options
    seed = stage_seed(context)
    source = model_source(context, options.model)
    tokenizer = load_tokenizer(source)
    template = choose_template(source, tokenizer, template_name(context, options.template))
    model = load_model(source)
    new = add_markers(model, tokenizer, (*template.special_tokens, *options.markers))
    train, held_back, counts = load_rows(context, tokenizer, template, model)
    say(
        f"  {len(train):,} rows, {sum(r.targets for r in train):,} trained of "
        f"{sum(map(len, train)):,} tokens, template {template.name}"
    )
    freeze(model, options.freeze)
    wrapped = add_adapters(model, options.lora, seed) if options.lora else model
    if warning := frozen_tokens(wrapped, tokenizer, new):
        say(f"  warning: {warning}")
    prompts = sample_prompts(context, options, seed) if options.sample_every else []
    result = fit(
        wrapped,
        train,
        NextToken(tokenizer.pad_token_id),
        options,
        folder=context.folder,
        seed=seed,
        validation=options.validation,
        validation_rows=held_back,
        sampler=Samples(tokenizer, template, prompts, options.sample_tokens) if prompts else None,
        sample_every=options.sample_every,
        packing=options.packing,
    )
    if options.lora:
        model = wrapped.merge_and_unload()
    save_model(model, tokenizer, template.name, context.folder / "model")
    checkpoints.clear(context.folder / "checkpoints")
    return {**result, "data": counts.to_json(), "template": template.name}


def choose_template(source: Path | str, tokenizer: Any, name: str | None) -> Template:
    """The named template, else the model's own, else "espalier"."""
    own = (Path(source) / TEMPLATE_FILE).is_file() or getattr(tokenizer, "chat_template", None)
    if name is None and not own:
        return get_template("espalier")
    return template_of(source, tokenizer=tokenizer, name=name)


def load_rows(
    context: StageContext, tokenizer: Any, template: Template, model: Any
) -> tuple[list[Encoded], list[Encoded], EncodingCounts]:
    """Encoded training rows, validation rows, and what became of the rows."""
    options: SFTConfig = context.options
    limit = options.max_length
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and limit > positions:
        raise UsageError(
            f"max_length is {limit}, and the model takes {positions} tokens at most.",
            where=f"train.{context.stage}.max_length",
            hint=f"set it to {positions} or less",
        )
    examples, held_back = read_data(context)
    counts, others_counts = EncodingCounts(), EncodingCounts()
    encode = partial(
        encode_examples,
        tokenizer,
        template,
        max_length=limit,
        over_long=options.over_long,
        train_on=options.train_on,
    )
    rows = encode(examples, counts=counts)
    others = encode(held_back, counts=others_counts) if held_back else []
    for note in counts.notes(limit):
        say(f"  {note}")
    for note in others_counts.notes(limit):
        say(f"  validation: {note}")
    return rows, others, counts


def read_data(context: StageContext) -> tuple[list[Example], list[Example]]:
    """Training rows and validation rows, as they are in the files."""
    options: SFTConfig = context.options
    paths = list(data_files(context, options.data).values())
    examples = read_rows(paths, format=options.format, limit=options.limit)
    if options.validation.data:
        return examples, read_rows(list(data_files(context, [options.validation.data]).values()))
    if options.validation.fraction:
        return set_aside(examples, options.validation.fraction, stage_seed(context))
    return examples, []


def set_aside(
    examples: Sequence[Example], fraction: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """(training rows, validation rows), the latter drawn by the seed; both keep their order."""
    count = round(len(examples) * fraction)
    if not 0 < count < len(examples):
        raise StageError(
            f"A validation fraction of {fraction} of {len(examples):,} rows is {count} rows.",
            hint="choose another fraction",
        )
    chosen = set(random.Random(f"{seed}:validation").sample(range(len(examples)), count))
    train = [example for i, example in enumerate(examples) if i not in chosen]
    return train, [examples[i] for i in sorted(chosen)]


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


def add_adapters(model: Any, lora: LoraConfig, seed: int) -> Any:
    """The model with trainable low-rank adapters (peft), everything else frozen."""
    peft = require("peft", extra="train", feature="train.sft.lora")
    torch = require("torch", extra="train", feature="train.sft.lora")
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        return peft.get_peft_model(
            model,
            peft.LoraConfig(
                r=lora.r,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
                target_modules=lora.targets,
                task_type="CAUSAL_LM",
            ),
        )
    except ValueError as error:
        raise UsageError(
            f"The adapters can't be put into this model: {error}", where="train.sft.lora.targets"
        ) from error
    finally:
        torch.random.set_rng_state(state)


def sample_prompts(context: StageContext, options: SFTConfig, seed: int) -> list[Example]:
    """The prompts to sample for: of the run's prompt file if there is one, else of the data."""
    path = context.path("curate/prompts.jsonl")
    if not path.is_file():
        path = context.path(options.data[0])
    examples = read_rows([path], limit=1000)
    count = min(options.samples, len(examples))
    return random.Random(f"{seed}:samples").sample(examples, count)


class Samples:
    """Answers the same few prompts greedily, to watch a model learn."""

    def __init__(
        self, tokenizer: Any, template: Template, prompts: Sequence[Example], max_tokens: int
    ) -> None:
        self._tokenizer = tokenizer
        self._prompts = prompts
        self._max_tokens = max_tokens
        self._ids = [encode_prompt(tokenizer, template, e.messages, e.meta) for e in prompts]

    def __call__(self, model: Any, step: int) -> list[Mapping[str, Any]]:
        from espalier.decoding import decode

        decoded = decode(
            model,
            self._ids,
            max_new_tokens=self._max_tokens,
            pad_id=self._tokenizer.pad_token_id,
            temperature=0.0,
            stop_ids=[self._tokenizer.eos_token_id],
        )
        return [
            {
                "id": example.id,
                "prompt": example.prompt,
                "text": self._tokenizer.decode(answer.ids, skip_special_tokens=True).strip(),
                "finish_reason": answer.finish_reason,
            }
            for example, answer in zip(self._prompts, decoded, strict=True)
        ]
