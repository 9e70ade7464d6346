"""The stage `sft`: supervised fine-tuning, the loss taken over the assistant's turns only."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from espalier.encoding import Encoded, EncodingCounts, encode_examples, encode_prompt
from espalier.errors import StageError, UsageError
from espalier.models import add_markers, frozen_tokens, load_tokenizer, save_model
from espalier.progress import say
from espalier.records import Example
from espalier.run import StageContext
from espalier.scoring import context_limit
from espalier.templates import TEMPLATE_FILE, Template, get_template, template_of
from espalier.train import checkpoints
from espalier.train.batching import Order
from espalier.train.config import SFTConfig
from espalier.train.config_adapters import OtherAdapter
from espalier.train.mixture import EasyToHard, Mixture, difficulty, kept
from espalier.train.sources import (
    data_files,
    data_sources,
    model_input,
    model_source,
    read_rows,
    read_sources,
    stage_seed,
    template_input,
    template_name,
)
from espalier.train.validation_rows import apart_from, set_aside


def inputs(context: StageContext) -> dict[str, Path]:
    """The model folder and the data files."""
    options: SFTConfig = context.options
    names = [source.path for source in data_sources(options.data)]
    if options.validation.data:
        names.append(options.validation.data)
    return {
        **model_input(context, options.model),
        **template_input(context, options.template),
        **data_files(context, names),
    }


def run(context: StageContext) -> dict[str, Any]:
    """Fine-tune; writes model/ and returns counts."""
    from espalier.adapted import virtual_tokens
    from espalier.train import adapters
    from espalier.train.tasks import NextToken
    from espalier.train.trainer import fit

    options: SFTConfig = context.options
    seed = stage_seed(context)
    source = model_source(context, options.model)
    tokenizer = load_tokenizer(source)
    template = choose_template(source, tokenizer, template_name(context, options.template))
    model = adapters.load_for_tuning(source, options, tokenizer)
    new = add_markers(model, tokenizer, (*template.special_tokens, *options.markers))
    train, held_back, counts, order, shared = load_rows(context, tokenizer, template, model)
    say(
        f"  {len(train):,} rows, {sum(r.targets for r in train):,} trained of "
        f"{sum(map(len, train)):,} tokens, template {template.name}"
    )
    wrapped = adapters.prepare(model, tokenizer, options, seed=seed, new=new)
    for warning in (template.warning, frozen_tokens(wrapped, tokenizer, new)):
        if warning:
            say(f"  warning: {warning}")
    prompts = sample_prompts(context, options, seed) if options.sample_every else []
    virtual = virtual_tokens(wrapped)
    trained = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    result = fit(
        wrapped,
        train,
        NextToken(tokenizer.pad_token_id, virtual.prepended if virtual is not None else 0),
        options,
        folder=context.folder,
        seed=seed,
        validation=options.validation,
        validation_rows=held_back,
        sampler=Samples(tokenizer, template, prompts, options.sample_tokens) if prompts else None,
        sample_every=options.sample_every,
        packing=options.packing,
        order=order,
        steps=options.steps,
    )
    folder = context.folder / "model"
    if adapters.keeps_adapters(options):
        save_model(wrapped, tokenizer, template.name, folder, base=source)
    else:
        whole = adapters.whole_model(wrapped, options, source, tokenizer)
        save_model(whole, tokenizer, template.name, folder)
    checkpoints.clear(context.folder / "checkpoints")
    method = {"method": adapters.method_of(options), "trained_parameters": trained}
    left_out = {"validation_left_out": shared} if shared else {}
    return {
        **result,
        **method,
        **left_out,
        "data": counts.to_json(),
        "template": template.name,
    }


def choose_template(source: Path | str, tokenizer: Any, name: str | None) -> Template:
    """The named template, else the model's own, else "espalier"."""
    own = (Path(source) / TEMPLATE_FILE).is_file() or getattr(tokenizer, "chat_template", None)
    if name is None and not own:
        return get_template("espalier")
    return template_of(source, tokenizer=tokenizer, name=name)


def load_rows(
    context: StageContext, tokenizer: Any, template: Template, model: Any
) -> tuple[list[Encoded], list[Encoded], EncodingCounts, Order | None, int]:
    """Encoded training rows, validation rows, what became of the rows, their order, and how many
    validation rows were left out for a prompt that is trained on."""
    options: SFTConfig = context.options
    limit = options.max_length
    _check_length(context, model)
    data = read_data(context)
    examples, origins, held_back = data.train, data.origins, data.held_back
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
    if data.shared:
        say(f"  validation: {data.shared:,} rows left out, their prompts are trained on")
    places = kept(examples, counts.dropped_ids)
    order = order_of(context, [examples[i] for i in places], [origins[i] for i in places], rows)
    return rows, others, counts, order, data.shared


def _check_length(context: StageContext, model: Any) -> None:
    options: SFTConfig = context.options
    positions = context_limit(model)
    virtual = options.prompt_tuning or options.adapter
    extra = virtual.tokens if virtual is not None else 0
    if isinstance(virtual, OtherAdapter) and virtual.kind != "prefix":
        extra = 0
    if positions is not None and options.max_length + extra > positions:
        beside = f" beside {extra} virtual ones" if extra else ""
        raise UsageError(
            f"max_length is {options.max_length}{beside}, and the model takes {positions} tokens "
            "at most.",
            where=f"train.{context.stage}.max_length",
            hint=f"set it to {positions - extra} or less",
        )


def order_of(
    context: StageContext,
    examples: Sequence[Example],
    origins: Sequence[int],
    rows: Sequence[Encoded],
) -> Order | None:
    """The order that the recipe asks for; None for all rows, shuffled.

    `examples` and `origins` (number of the source) are those of the rows. Raises StageError for
    a weighted source of which no row is left.
    """
    options: SFTConfig = context.options
    seed = stage_seed(context)
    if options.curriculum is not None:
        scores = difficulty(options.curriculum, examples, rows)
        return EasyToHard(scores, seed, options.curriculum.epochs)
    sources = data_sources(options.data)
    weights = [source.weight for source in sources if source.weight is not None]
    if not weights:
        return None
    members = [[i for i, n in enumerate(origins) if n == number] for number in range(len(sources))]
    for source, mine in zip(sources, members, strict=True):
        if not mine:
            raise StageError(
                "A source with a weight has no row to train on.",
                where=f"train.{context.stage}.data: {source.path}",
                hint="leave it out, or look at it with `espalier inspect`",
            )
    mixture = Mixture(members, weights, seed)
    for source, mine, share in zip(sources, members, mixture.shares, strict=True):
        say(f"  {source.path}: {share:,} rows an epoch, of {len(mine):,}")
    return mixture


@dataclass(frozen=True)
class Data:
    """Rows as they are in the files: training rows, for each the number of its source, validation
    rows, and how many more of these have a prompt that is trained on."""

    train: list[Example]
    origins: list[int]
    held_back: list[Example]
    shared: int = 0


def read_data(context: StageContext) -> Data:
    """The rows of the recipe; raises StageError where no validation row has a prompt of its own."""
    options: SFTConfig = context.options
    validation = options.validation
    sources = data_sources(options.data)
    train, origins = read_sources(
        context, sources, format=options.format, limit=options.limit, pick=options.pick
    )
    name = "data"
    if validation.data:
        files = data_files(context, [validation.data])
        held_back = read_rows(list(files.values()), format=validation.format or options.format)
    elif validation.fraction:
        name = "fraction"
        pairs = list(zip(train, origins, strict=True))
        left, aside = set_aside(
            pairs, validation.fraction, stage_seed(context), example=lambda pair: pair[0]
        )
        train, origins = [e for e, _ in left], [n for _, n in left]
        held_back = [e for e, _ in aside]
    else:
        return Data(train, origins, [])
    where = f"train.{context.stage}.validation.{name}"
    kept = apart_from(held_back, train, options.train_on, where=where)
    return Data(train, origins, kept, len(held_back) - len(kept))


def sample_prompts(context: StageContext, options: SFTConfig, seed: int) -> list[Example]:
    """The prompts to sample for: of the run's prompt file if there is one, else of the data."""
    path, form = context.path("curate/prompts.jsonl"), "auto"
    if not path.is_file():
        first = data_sources(options.data)[0]
        path, form = context.path(first.path), first.format or options.format
    examples = read_rows([path], format=form, limit=1000)
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
