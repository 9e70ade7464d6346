"""The questions of `espalier new` on a terminal: each answer is checked when it is given.

A check looks at no more than the beginning of a file and the description of a model; what only
all rows can tell is said at the end.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from espalier.errors import EspalierError, InputError, UsageError
from espalier.formats.detect import detect
from espalier.formats.read import kind_of
from espalier.machine import Machine, named_machine, this_machine
from espalier.model_facts import ModelFacts, read_model
from espalier.new_choices import listed, methods_of
from espalier.new_output import check_output, name_of
from espalier.terminal import visible

_QUESTIONS: dict[str, tuple[str, str]] = {
    "data": ("Data file", "数据文件"),
    "model": ("Base model (a folder or a hub name)", "基础模型（文件夹或 hub 名称）"),
    "compare": (
        "Compare with the base model: sft, lora, qlora, prompt-tuning, freeze, ppo "
        "(empty: the fullest that fits)",
        "与基础模型比较：sft、lora、qlora、prompt-tuning、freeze、ppo（空：机器能容纳的最全训练）",
    ),
    "eval": ("Test set (empty: rows are held out)", "测试集（空：从数据中留出）"),
    "output": ("Recipe to write", "写入的配方文件"),
}


def ask(args: argparse.Namespace, language: str) -> None:
    """Ask for what no flag has said; an empty answer takes what is in brackets.

    A wrong answer is asked for again, with the reason; a wrong flag raises its error. Where the
    input ends before the data or the model are named, nothing more is asked.
    """
    if args.gpu:
        named_machine(args.gpu)
    if args.output:
        check_output(Path(args.output))
    names = [*args.files, *args.data]
    if names:
        check_data(names)
    else:
        args.data = names = _named(_asked("data", language, lambda name: check_data(_named(name))))
    if not names:
        return
    args.model = _given_or_asked(args.model, "model", language, _check_model)
    if not args.model:
        return
    pairs = any(_kind(name) == "pairs" for name in names)

    def check_compared(text: str) -> None:
        if compare := listed(text):
            model = facts_of_model(args.model)
            methods_of(compare, pairs, model, args.model, machine_of(args))

    args.compare = _given_or_asked(args.compare, "compare", language, check_compared) or None
    args.eval = _given_or_asked(args.eval, "eval", language, _check_test_set) or None
    default = f"{name_of(names[0])}.yaml"
    if args.output is None:
        said = _asked("output", language, lambda name: check_output(Path(name or default)), default)
        args.output = said or default


def _given_or_asked(
    given: str | None, name: str, language: str, check: Callable[[str], object]
) -> str:
    if given is None:
        return _asked(name, language, check)
    check(given)
    return given


def _asked(
    name: str, language: str, check: Callable[[str], object], default: str | None = None
) -> str:
    """The answer to a question, asked until `check` takes it; empty where the input ends."""
    text = _QUESTIONS[name][language == "zh"]
    shown = f"{text} [{default}]: " if default else f"{text}: "
    while True:
        try:
            answer = input(shown).strip()
        except EOFError:
            return ""
        try:
            check(answer)
        except EspalierError as error:
            print(reason(error))
        else:
            return answer


def reason(error: EspalierError) -> str:
    """What is wrong and what would help, on one line."""
    more = error.hint or error.expected
    return visible(" ".join(f"{error.what} ({more})".split() if more else error.what.split()))


def _named(answer: str) -> list[str]:
    return [answer] if answer else []


# Checks -------------------------------------------------------------------------------------


def check_data(names: Sequence[str]) -> None:
    """Refuse files that are no data, or pairs without examples; looks at their first rows."""
    if not names:
        raise UsageError("A data file has to be named.", expected="the path of a file of examples")
    kinds = [_kind(name) for name in names]
    if "examples" not in kinds:
        raise pairs_alone(names)


def _check_model(name: str) -> None:
    if not name:
        raise UsageError("A base model has to be named.", expected="a folder or a hub name")
    facts_of_model(name)


def _check_test_set(name: str) -> None:
    if name and _kind(name) == "pairs":
        raise pairs_as_test_set(name)


def _kind(name: str) -> str:
    return kind_of(detect(name).format)


def facts_of_model(name: str) -> ModelFacts | None:
    """What is known of the base model; raises InputError with what to do for what is none."""
    try:
        return read_model(name)
    except InputError as error:
        error.hint = error.hint or (
            "name the folder of a causal language model, or one of the hub such as owner/model"
        )
        raise


def machine_of(args: argparse.Namespace) -> Machine:
    """The machine that `--gpu` names, or this one."""
    return named_machine(args.gpu) if args.gpu else this_machine()


# Refusals -----------------------------------------------------------------------------------


def pairs_alone(names: Sequence[str]) -> UsageError:
    """There is nothing for supervised training."""
    return UsageError(
        "The data are preference pairs alone.",
        where=", ".join(names),
        expected="a file of examples (instructions with answers) to learn from first",
        hint="give both files: espalier new theirs.jsonl comparisons.jsonl",
    )


def pairs_as_test_set(name: str) -> UsageError:
    """Models are asked prompts, not pairs."""
    return UsageError(
        "The test set is a file of preference pairs.",
        where=name,
        expected="prompts with reference answers",
    )
