"""The verb `espalier new`: a commented recipe for one's own data and model."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from espalier.errors import UsageError
from espalier.new_output import check_output, name_of, run_name, unwritable
from espalier.verbs import add_machine_options, add_verb, positive

if TYPE_CHECKING:
    from espalier.data_facts import DataFacts
    from espalier.new_choices import Wishes


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `new`."""
    new = add_verb(
        subparsers,
        "new",
        _new,
        summary="write a commented recipe for your own data and model",
        example="espalier new theirs.jsonl --model path/to/model --compare sft,lora",
        writes=False,
    )
    new.add_argument(
        "files", metavar="FILE", nargs="*", help="dataset files: examples, and preference pairs"
    )
    new.add_argument(
        "--data",
        metavar="FILE",
        action="append",
        default=[],
        help="a dataset file, as FILE (repeatable)",
    )
    new.add_argument("--model", metavar="MODEL", help="the base model: a folder, or a hub name")
    new.add_argument(
        "--compare",
        metavar="A,B",
        help="what is compared with the base model: sft, lora, qlora, prompt-tuning, freeze, ppo "
        "(default: the fullest training that the machine can hold)",
    )
    new.add_argument("--eval", metavar="FILE", help="a test set (default: rows are held out)")
    new.add_argument(
        "--output", metavar="RECIPE", help="the recipe to write (default: after the first file)"
    )
    new.add_argument(
        "--language", choices=("en", "zh"), help="of the comments and questions (default: $LANG)"
    )
    new.add_argument("--seeds", metavar="N", type=positive, help="repeats (3 where runs differ)")
    add_machine_options(new)
    new.add_argument("--yes", action="store_true", help="ask nothing: flags and defaults decide")


def _new(args: argparse.Namespace) -> int:
    asks = not args.yes and sys.stdin.isatty() and sys.stdout.isatty()
    language: Literal["en", "zh"] = args.language or _language()
    if asks:
        from espalier.new_questions import ask

        ask(args, language)
    names = [*args.files, *args.data]
    if not names:
        raise UsageError(
            "No data file was given.",
            expected="espalier new FILE --model MODEL",
            hint="on a terminal `espalier new` asks for what is missing",
        )
    if not args.model:
        raise UsageError(
            "No base model was given.",
            expected="--model with a folder or a hub name",
            hint=f"espalier new {shlex.quote(names[0])} --model path/to/model",
        )
    output = Path(args.output or f"{name_of(names[0])}.yaml")
    check_output(output)
    wishes = _wishes(args, names)
    text = _written(output, wishes, language, args.price)
    _tell(output, text, language, wishes.machine.count)
    return 0


def _wishes(args: argparse.Namespace, names: Sequence[str]) -> Wishes:
    from espalier.data_facts import read_data
    from espalier.new_choices import Wishes, listed
    from espalier.new_questions import facts_of_model, machine_of, pairs_alone
    from espalier.new_rows import evaluation_texts

    machine = machine_of(args)
    model = facts_of_model(args.model)
    tokenizer = model.folder if model is not None else None
    files = [read_data(name, tokenizer=tokenizer) for name in dict.fromkeys(names)]
    examples = [facts for facts in files if facts.kind == "examples"]
    if not examples:
        raise pairs_alone(names)
    evaluation = _evaluation(args.eval, tokenizer) if args.eval else None
    return Wishes(
        examples=examples,
        pairs=[facts for facts in files if facts.kind == "pairs"],
        model=model,
        model_name=_folder_or_name(args.model),
        compare=listed(args.compare or ""),
        evaluation=evaluation,
        machine=machine,
        seeds=args.seeds,
        evaluation_texts=evaluation_texts(args.eval) if args.eval else None,
    )


def _evaluation(path: str, tokenizer: Path | None) -> DataFacts:
    from espalier.data_facts import read_data
    from espalier.new_questions import pairs_as_test_set

    facts = read_data(path, tokenizer=tokenizer)
    if facts.kind == "pairs":
        raise pairs_as_test_set(path)
    return facts


def _folder_or_name(text: str) -> str:
    from espalier.models import model_location

    return model_location(text)


def _written(
    output: Path, wishes: Wishes, language: Literal["en", "zh"], price: float | None
) -> str:
    """Write the recipe where it is valid, and nothing else is there; returns its text."""
    import yaml

    from espalier.new_choices import choose
    from espalier.new_recipe import recipe_text
    from espalier.recipe import recipe_from

    text = recipe_text(run_name(output), wishes, choose(wishes), language, price)
    recipe_from(yaml.safe_load(text))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise unwritable(output, error.strerror or "") from error
    return text


def _tell(output: Path, text: str, language: str, gpus: int) -> None:
    for line in text.split("\n\n", maxsplit=1)[0].splitlines()[2:]:
        print(line.removeprefix("# "))
    verb = "sweep" if "\nsweep:" in text else "run"
    print(f"{'已写入' if language == 'zh' else 'written'}: {output}")
    told = "下一步" if language == "zh" else "next"
    several = f" --processes {gpus}" if gpus > 1 else ""
    print(f"{told}: espalier {verb} {shlex.quote(str(output))}{several}")


def _language() -> Literal["en", "zh"]:
    named = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG")
    return "zh" if (named or "").startswith("zh") else "en"
