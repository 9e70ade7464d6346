"""The teacher's part in Self-Instruct and Alpaca mode.

It goes on with lists of instructions, says which tasks are classifications, writes examples of a
task, and writes lists of whole tasks, each in the form that the prompt shows and with deliberate
faults at the rates of `OfflineOptions`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from espalier.offline.answering import Reply, answer_task, open_task
from espalier.offline.family import Language
from espalier.offline.hashing import Draws
from espalier.offline.instructions import OpenTask, compose_list
from espalier.offline.style import OfflineOptions

NEW_TASKS = 8
"""How many instructions the teacher adds to a list."""
_MOST_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class _Forms:
    """How the prompts of one language open, and the labels of their parts."""

    language: Language
    list_opening: str
    list_line: str
    numbered: re.Pattern[str]
    question_opening: str
    question_end: str
    yes: str
    no: str
    unclear: str
    input_first_opening: str
    output_first_opening: str
    task: str
    example: str
    input: str
    output: str
    label: str
    batch_opening: re.Pattern[str]
    instruction: str
    no_input: str


_FORMS = (
    _Forms(
        language="en",
        list_opening="Come up with a series of tasks.",
        list_line="Task {number}: {text}",
        numbered=re.compile(r"^Task (\d+):[ \t]*(.*)$", re.MULTILINE),
        question_opening="Is the task a classification task",
        question_end="\nIs it classification?",
        yes="Yes",
        no="No",
        unclear="It depends.",
        input_first_opening="Write examples for the last of the tasks below",
        output_first_opening="Each task below is a classification task.",
        task="\n\nTask: ",
        example="Example {number}",
        input="Input: ",
        output="Output: ",
        label="Class label: ",
        batch_opening=re.compile(r"Come up with a set of (\d+) different tasks"),
        instruction="Instruction: ",
        no_input="<noinput>",
    ),
    _Forms(
        language="zh",
        list_opening="请想出一系列任务。",
        list_line="任务{number}：{text}",
        numbered=re.compile(r"^任务(\d+)：[ \t]*(.*)$", re.MULTILINE),
        question_opening="下面的任务是不是分类任务",
        question_end="\n是分类任务吗？",
        yes="是",
        no="否",
        unclear="看情况。",
        input_first_opening="请为下面的最后一个任务写例子",
        output_first_opening="下面都是分类任务。",
        task="\n\n任务：",
        example="例子{number}",
        input="输入：",
        output="输出：",
        label="类别标签：",
        batch_opening=re.compile(r"请想出(\d+)个各不相同的任务"),
        instruction="指令：",
        no_input="<无输入>",
    ),
)

# Without a frame, a task is taken for a classification by its wording.
_CLASSIFYING = re.compile(
    r"\b(?:classif|categori[sz]e|label|sentiment|true or false|yes or no|positive or negative|"
    r"spam|which category|decide whether)|"
    r"分类|类别|归入|判断|属于|情感|真假|还是.*[？?]|之一|二选一",
    re.IGNORECASE,
)


def reply(prompt: str, draws: Draws, options: OfflineOptions) -> Reply | None:
    """The reply to a prompt of Self-Instruct or Alpaca mode; None for any other text."""
    for forms in _FORMS:
        if prompt.startswith(forms.list_opening):
            return _continue_list(prompt, forms, draws, options)
        batch = forms.batch_opening.match(prompt)
        if batch is not None:
            return _continue_batch(prompt, forms, int(batch[1]), draws, options)
        if forms.task not in prompt:
            continue
        task = prompt.rsplit(forms.task, maxsplit=1)[1].strip()
        if prompt.startswith(forms.question_opening):
            return _classify(task.removesuffix(forms.question_end), forms, draws, options)
        for opening, labelled in (
            (forms.input_first_opening, False),
            (forms.output_first_opening, True),
        ):
            if prompt.startswith(opening):
                return _write_examples(task, forms, draws, options, labelled=labelled)
    return None


# --- lists of instructions -------------------------------------------------------------------


def _continue_list(prompt: str, forms: _Forms, draws: Draws, options: OfflineOptions) -> Reply:
    listed = forms.numbered.findall(prompt)
    shown = [text.strip() for _, text in listed if text.strip()]
    number = int(listed[-1][0]) if listed and not listed[-1][1].strip() else len(shown) + 1
    made = compose_list(forms.language, NEW_TASKS, shown, draws.random(), options)
    if draws.uniform(4) < options.odd_format_rate:
        text = _odd_list(made, number, forms, draws)
    else:
        lines = [
            forms.list_line.format(number=number + index, text=text)
            for index, text in enumerate(made)
        ]
        head = forms.list_line.format(number=number, text="")
        text = "\n".join(lines).removeprefix(head).lstrip()
    if draws.uniform(1) < options.list_truncation_rate:
        return Reply(text[: len(text) - (len(made[-1]) + 1) // 2], cut=True)
    return Reply(text)


_ODD_LINES = {
    "en": ("**Task {n}:** {t}", "{n}. {t}", "{n}) {t}", "- {t}", "({n}) {t}"),
    "zh": ("**任务{n}：**{t}", "{n}、{t}", "（{n}）{t}", "- {t}", "{n}．{t}"),
}


def _odd_list(made: Sequence[str], number: int, forms: _Forms, draws: Draws) -> str:
    """The list as other models write it: marked up, from one on, with bullets."""
    forms_of_lines = _ODD_LINES[forms.language]
    line = forms_of_lines[int(draws.uniform(5) * len(forms_of_lines))]
    first = number if draws.uniform(6) < 0.5 else 1
    return "\n".join(line.format(n=first + index, t=text) for index, text in enumerate(made))


# --- is it a classification? -----------------------------------------------------------------


def _classify(task: str, forms: _Forms, draws: Draws, options: OfflineOptions) -> Reply:
    if draws.uniform(4) < options.odd_format_rate:
        return Reply(forms.unclear)
    known = open_task(task.strip())
    is_one = known.frame.labelled if known is not None else _CLASSIFYING.search(task) is not None
    return Reply(forms.yes if is_one else forms.no)


# --- examples of a task ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Example:
    given: str
    output: str
    cut: bool = False


def _write_examples(
    task: str, forms: _Forms, draws: Draws, options: OfflineOptions, *, labelled: bool
) -> Reply:
    rng = draws.random()
    examples = [
        _solved(task, given, draws, options) for given in _inputs(task, rng, labelled=labelled)
    ]
    cut = next((number for number, one in enumerate(examples) if one.cut), None)
    if cut is not None:
        examples = examples[: cut + 1]
    fault = rng.choice(_FAULTS) if draws.uniform(5) < options.example_fault_rate else ""
    text = _as_text(_faulty(examples, fault, rng, labelled=labelled), forms, labelled=labelled)
    if fault == "no label":
        text = re.sub(rf"(?m)^{forms.label if labelled else forms.output}", "", text)
    elif fault == "cut":
        return Reply(text[: max(1, len(text) * 2 // 3)], cut=True)
    if draws.uniform(4) < options.odd_format_rate:
        text = _marked_up(text, forms, rng)
    return Reply(text.rstrip(), cut is not None)


_FAULTS = ("two outputs", "repeat", "copy", "colon", "no label", "cut")


def _inputs(task: str, rng: Random, *, labelled: bool) -> list[str]:
    """Up to three inputs of the task, for a classification one of each label; [""] for none."""
    known = open_task(task)
    if known is None or not known.frame.inputs:
        return [""]
    entries = rng.sample(known.frame.inputs, len(known.frame.inputs))
    if labelled:
        entries = list({_right(known, entry["input"]): entry for entry in entries}.values())
    return [entry["input"] for entry in entries[: rng.randint(1, _MOST_EXAMPLES)]]


def _right(known: OpenTask, given: str) -> str:
    return known.frame.reply(dict(known.slots), known.entry_for(given))


def _solved(task: str, given: str, draws: Draws, options: OfflineOptions) -> _Example:
    """One example, its faults drawn for itself."""
    own = Draws(repr(draws.uniform(7)), task, given)
    reply = answer_task(task, given, own, options)
    return _Example(given, reply.text, reply.cut)


def _faulty(examples: list[_Example], fault: str, rng: Random, *, labelled: bool) -> list[_Example]:
    first = examples[0]
    match fault:
        case "two outputs" if first.given:
            other = "?" if labelled else first.given.swapcase()
            return [*examples, _Example(first.given, f"{first.output} {other}".strip())]
        case "copy" if first.given:
            return [_Example(first.given, first.given), *examples[1:]]
        case "colon":
            return [*examples[:-1], _Example(examples[-1].given, f"{examples[-1].output}:")]
        case "two outputs" | "copy" | "repeat":
            return [*examples, rng.choice(examples)]
    return examples


def _as_text(examples: Sequence[_Example], forms: _Forms, *, labelled: bool) -> str:
    if labelled:
        return "\n".join(
            f"{forms.label}{one.output}" + (f"\n{forms.input}{one.given}" if one.given else "")
            for one in examples
        )
    if len(examples) == 1 and not examples[0].given:
        return f"{forms.output}{examples[0].output}"
    return "\n".join(
        f"{forms.example.format(number=number)}\n"
        + (f"{forms.input}{one.given}\n" if one.given else "")
        + f"{forms.output}{one.output}"
        for number, one in enumerate(examples, 1)
    )


def _marked_up(text: str, forms: _Forms, rng: Random) -> str:
    """The same with bold labels, in a code fence, or with the other kind of colon."""
    labels = (forms.input, forms.output, forms.label)
    match rng.randrange(3):
        case 0:
            for label in labels:
                text = re.sub(rf"(?m)^{label}", f"**{label.strip()}** ", text)
            return text
        case 1:
            return f"```\n{text}\n```"
        case _:
            for label in labels:
                bare = label.strip().rstrip(":：")
                text = re.sub(rf"(?m)^{label}", f"{bare} ：" if ":" in label else f"{bare}: ", text)
            return text


# --- lists of whole tasks --------------------------------------------------------------------


def _continue_batch(
    prompt: str, forms: _Forms, size: int, draws: Draws, options: OfflineOptions
) -> Reply:
    marks = re.findall(rf"(?m)^(\d+)\. {forms.instruction.strip()}[ \t]*(.*)$", prompt)
    shown = [text.strip() for _, text in marks if text.strip()]
    first = len(shown) + 1
    rng = draws.random()
    made = compose_list(forms.language, max(1, size - len(shown)), shown, rng, options)
    odd = draws.uniform(4) < options.odd_format_rate
    pieces = [
        _whole_task(number, task, forms, draws, options, rng, odd=odd)
        for number, task in enumerate(made, first)
    ]
    text = "\n###\n".join(pieces)
    if odd:
        text = f"###\n{text}"
    else:
        text = text.removeprefix(f"{first}. {forms.instruction.strip()}").lstrip()
    if draws.uniform(1) < options.list_truncation_rate:
        return Reply(text[: len(text) - max(1, len(pieces[-1]) // 2)], cut=True)
    return Reply(text)


def _whole_task(
    number: int,
    task: str,
    forms: _Forms,
    draws: Draws,
    options: OfflineOptions,
    rng: Random,
    *,
    odd: bool,
) -> str:
    given = _inputs(task, rng, labelled=False)[0]
    one = _solved(task, given, draws, options)
    mark = "**" if odd else ""
    labels = [
        f"{mark}{number}. {label.strip()}{mark}"
        for label in (forms.instruction, forms.input, forms.output)
    ]
    space = " " if forms.language == "en" else ""
    lines = [f"{labels[0]}{space}{task}", labels[1], given or forms.no_input]
    if rng.random() < options.example_fault_rate:
        # The output is missing, or only its label is there.
        return "\n".join([*lines, labels[2]] if rng.random() < 0.5 else lines)
    return "\n".join([*lines, labels[2], one.output])
