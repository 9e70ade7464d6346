"""Alpaca mode of Self-Instruct (Taori et al. 2023): whole tasks, in batches, in one step.

A prompt shows three seed tasks with input and output and asks for a list of twenty. Of the
published version's traps, none is here: no stop string cuts a text that happens to hold "20.",
nothing is rewritten, and an instruction keeps its capitals.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from espalier.curate.config_instruct import AlpacaConfig
from espalier.curate.instances import input_of, unfenced
from espalier.curate.instruction_rounds import Read, Rounds
from espalier.curate.pipeline import Tally
from espalier.curate.prompting import alpaca_prompt, one_line
from espalier.curate.seed_tasks import Instance, Task
from espalier.engines.base import Sampling
from espalier.errors import InputError

_NUMBER = r"(?P<number>\d{1,4})?[ \t]*[.．、:：)）]?[ \t*_]*"
_LABEL = re.compile(
    rf"^[ \t>#*_\-（(]*{_NUMBER}"
    r"(?:(?P<instruction>instruction|指令)|(?P<input>input|输入|輸入)|"
    r"(?P<output>output|输出|輸出))"
    r"[ \t*_]*\d*[ \t*_]*[:：][ \t*_]*",
    re.IGNORECASE | re.MULTILINE,
)
# "###" alone on a line, or before the number of a task; "### Heading" is text.
_BORDER = re.compile(
    r"^[ \t>*_]*#{3,}[ \t*_]*(?:$|(?=(?:task|任务)?[ \t]*\d{1,4}[ \t]*[.．、:：)）]))",
    re.IGNORECASE | re.MULTILINE,
)
_TASK_HEAD = re.compile(r"\n[ \t>#*_]*(?:task|任务)[ \t]*\d*[ \t*_.:：]*\Z", re.IGNORECASE)
_TITLES = ("instruction", "input", "output")


@dataclass(slots=True)
class Alpaca(Rounds[AlpacaConfig]):
    """One language's run of the one step."""

    @property
    def source(self) -> str:
        return "alpaca"

    @property
    def per_request(self) -> float:
        return float(self.config.batch - self.config.in_context)

    @property
    def sampling(self) -> Sampling:
        return Sampling(
            temperature=self.config.temperature,
            top_p=self.config.top_p,
            max_tokens=self.config.max_tokens,
            presence_penalty=self.config.presence_penalty,
            seed=self.seed,
        )

    def usable_seeds(self) -> Sequence[Task]:
        """Seeds with an example; raises InputError when none has one."""
        shown = [task for task in self.seeds if task.instances and task.instances[0].output]
        if not shown:
            raise InputError(
                f"No seed task ({self.language}) has an example, and Alpaca mode shows each with "
                "its output.",
                where="curate.self_instruct.seeds",
                expected='seed tasks with "instances": [{"input": "…", "output": "…"}]',
                hint="add examples to the seed file, or use `mode: self-instruct`",
            )
        if len(shown) < len(self.seeds):
            self.notes.append(
                f"Alpaca mode ({self.language}) shows {len(shown)} of {len(self.seeds)} seed "
                "tasks: the others have no example"
            )
        return shown

    def prompt(self, context: Sequence[Task]) -> str:
        return alpaca_prompt(context, self.language, self.config.batch)

    def read(self, text: str, shown: int, *, cut: bool) -> Read:
        return parse_batch(text, cut=cut)

    def finished(self, tasks: Sequence[Task], tally: Tally) -> Iterator[tuple[Task, int, Instance]]:
        for task in tasks:
            tally.seen += 1
            yield task, 1, task.instances[0]


def parse_batch(text: str, *, cut: bool) -> Read:
    """The tasks in a completion of `alpaca_prompt`, which ends in the label "Instruction:".

    The list is split at "###" and at each "Instruction:"; a piece must hold an instruction and
    an output, each once, and may hold an input. With `cut` (the completion ran into its limit)
    only the last piece is dropped. Labels count where they open a line; in a piece with numbered
    ones only those do, so that an output may hold lines such as "Input: …".
    """
    pieces = _pieces(unfenced(text))
    tasks: list[tuple[str, tuple[Instance, ...]]] = []
    dropped: list[tuple[str, str, str]] = []
    if cut and pieces:
        last = pieces.pop()
        dropped.append((last, "truncated", last[-120:]))
    for piece in pieces:
        fields = _fields(piece)
        if fields is None:
            dropped.append((piece, "odd_fields", piece))
        elif not fields[1].output:
            dropped.append((piece, "empty_answer", piece))
        else:
            tasks.append((fields[0], (fields[1],)))
    return Read(tasks, dropped)


def _pieces(body: str) -> list[str]:
    """One text a task, each beginning with a label; chatter before the first is left out."""
    pieces: list[str] = []
    for part in _BORDER.split(body):
        starts = [mark.start() for mark in _LABEL.finditer(part) if mark["instruction"]]
        borders = [0, *starts, len(part)]
        for start, end in pairwise(borders):
            piece = _TASK_HEAD.sub("", f"\n{part[start:end].rstrip()}").strip()
            if piece:
                pieces.append(piece)
    if pieces and not _begins_with_label(pieces[0]):
        first = _LABEL.search(pieces[0])
        if first is not None or len(pieces) == 1:
            # The prompt ended with the label of this one.
            number = f"{first['number']}. " if first is not None and first["number"] else ""
            pieces[0] = f"{number}Instruction: {pieces[0]}"
        else:
            pieces.pop(0)
    return pieces


def _begins_with_label(piece: str) -> bool:
    return _LABEL.match(piece) is not None


def _fields(piece: str) -> tuple[str, Instance] | None:
    """Instruction and example of one piece; None where a field is missing or there twice."""
    marks = list(_LABEL.finditer(piece))
    if not marks or not marks[0]["instruction"]:
        return None
    numbered = [mark for mark in marks if mark["number"]]
    if any(mark["output"] for mark in numbered):
        marks = numbered
    names = [next(title for title in _TITLES if mark[title]) for mark in marks]
    if names not in (["instruction", "input", "output"], ["instruction", "output"]):
        return None
    ends = [*(mark.start() for mark in marks[1:]), len(piece)]
    found = {
        name: piece[mark.end() : end].strip()
        for name, mark, end in zip(names, marks, ends, strict=True)
    }
    instruction = one_line(found["instruction"].strip("*_"))
    if not instruction:
        return None
    return instruction, Instance(input_of(found.get("input", "")), found["output"])
