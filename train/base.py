"""The stage `base`: a byte-level BPE and a tiny Llama-architecture model, both from scratch.

It stands in for a base model where none can be had, so that the whole pipeline runs offline.
Texts are packed into blocks of equal length; attention crosses the borders between texts inside
a block, as is usual in pre-training (an end token marks each border).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from espalier.encoding import Encoded, tokenize_plain
from espalier.errors import InputError, StageError
from espalier.models import save_model
from espalier.progress import say
from espalier.run import StageContext
from espalier.templates import ASSISTANT, END, ESPALIER_JINJA, ESPALIER_TOKENS, PAD, SYSTEM, USER
from espalier.text import normalise
from espalier.train import checkpoints
from espalier.train.config import BaseConfig
from espalier.train.sources import data_files, stage_seed

# Each of these characters is a token's border: a digit or a Han character then has one id
# wherever it stands, and a model can copy it.
ISOLATED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{N}]"


def inputs(context: StageContext) -> dict[str, Path]:
    """The corpus files, and the held-out rows that the embedded corpus must avoid."""
    options: BaseConfig = context.options
    if options.corpus != "offline":
        return data_files(context, options.corpus)
    held_out = context.path("curate/eval.jsonl")
    return {"held_out": held_out} if held_out.is_file() else {}


def run(context: StageContext) -> dict[str, Any]:
    """Train tokenizer and model; writes model/ and returns counts."""
    from espalier.train.tasks import NextToken
    from espalier.train.trainer import fit

    options: BaseConfig = context.options
    seed = stage_seed(context)
    texts = corpus(context)
    tokenizer = train_tokenizer(texts[: options.tokenizer_texts], options.vocabulary)
    tokenizer.model_max_length = options.max_positions
    rows, tokens = pack(tokenizer, texts, options.block)
    if not rows:
        raise StageError(
            f"The corpus has {tokens:,} tokens, less than one block.",
            expected=f"at least {options.block} tokens",
            hint="give more text, or a smaller block",
        )
    model = new_model(tokenizer, options, seed)
    say(f"  {len(texts):,} texts, {tokens:,} tokens, vocabulary of {len(tokenizer):,}")
    counts = fit(
        model,
        rows,
        NextToken(tokenizer.pad_token_id),
        options,
        folder=context.folder,
        seed=seed,
        steps=options.steps,
    )
    save_model(model, tokenizer, "espalier", context.folder / "model")
    checkpoints.clear(context.folder / "checkpoints")
    return {**counts, "texts": len(texts), "tokens": tokens, "vocabulary": len(tokenizer)}


def corpus(context: StageContext) -> list[str]:
    """The texts to train on, in their order; raises InputError when there is none."""
    options: BaseConfig = context.options
    seed = stage_seed(context)
    if options.corpus == "offline":
        from espalier.offline.corpus import pretraining_texts

        texts = list(
            pretraining_texts(
                options.texts, seed, options.languages, exclude=held_out_prompts(context)
            )
        )
    else:
        paths = data_files(context, options.corpus).values()
        texts = [text for path in paths for text in read_texts(path, options.limit)]
    if not texts:
        raise InputError("The corpus has no text.", where=str(options.corpus))
    return texts


def held_out_prompts(context: StageContext) -> set[str]:
    """Normalised prompts of this run's evaluation set: nothing is trained on them."""
    path = context.path("curate/eval.jsonl")
    if not path.is_file():
        return set()
    from espalier.formats.read import read_examples

    return {normalise(example.prompt) for example in read_examples(path)}


def read_texts(path: Path, limit: int | None = None) -> Iterator[str]:
    """Texts of a file: paragraphs of a .txt, or the turns of each row of a dataset."""
    if path.suffix == ".txt":
        try:
            content = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(
                "A text file is not UTF-8.", where=str(path), hint="convert it: iconv -t UTF-8"
            ) from error
        paragraphs = [part.strip() for part in content.split("\n\n")]
        yield from [part for part in paragraphs if part][:limit]
        return
    from espalier.formats.read import read_examples

    for example in read_examples(path, limit=limit):
        text = "\n".join(m.content for m in example.messages if m.content.strip())
        if text:
            yield text


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """A byte-level BPE with the markers of the template "espalier" as special tokens.

    Digits and Han, kana and Thai characters are isolated before merging.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(ISOLATED), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(ESPALIER_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator((" " + text for text in texts), trainer)
    fast: Any = PreTrainedTokenizerFast
    return fast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=ESPALIER_JINJA,
        clean_up_tokenization_spaces=False,
    )


def pack(tokenizer: Any, texts: Sequence[str], block: int) -> tuple[list[Encoded], int]:
    """Texts, each closed by the end token, cut into rows of `block` tokens (a rest is left out).

    Also returns the number of tokens of the corpus.
    """
    stream: list[int] = []
    for start in range(0, len(texts), 10_000):
        part = [" " + text for text in texts[start : start + 10_000]]
        for ids in tokenize_plain(tokenizer, part):
            stream.extend(ids)
            stream.append(tokenizer.eos_token_id)
    trained = [True] * block
    rows = [
        Encoded(stream[start : start + block], trained)
        for start in range(0, len(stream) - block + 1, block)
    ]
    return rows, len(stream)


def new_model(tokenizer: Any, options: BaseConfig, seed: int) -> Any:
    """A freshly initialised Llama-architecture model with tied embeddings, float32."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=options.hidden,
        intermediate_size=options.ffn,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.heads,
        max_position_embeddings=options.max_positions,
        initializer_range=options.init,
        rope_parameters={"rope_type": "default", "rope_theta": options.rope_theta},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        architecture: Any = LlamaForCausalLM
        return architecture(config)
    finally:
        torch.random.set_rng_state(state)
