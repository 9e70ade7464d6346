"""Examples of tasks (input and output) in a teacher's text: found, checked, and told why not."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from espalier.curate.seed_tasks import Instance

_LEAD = r"^[ \t>#*_\-]*"
_MARK = r"[ \t*_]*\d*[ \t*_]*[:：][ \t*_]*"


def _label(words: str) -> re.Pattern[str]:
    return re.compile(f"{_LEAD}(?:{words}){_MARK}", re.IGNORECASE | re.MULTILINE)


# An output may hold lines such as "Answer: …": the second kind of label counts only in a text
# that has none of the first.
_OUTPUTS = (_label("output|输出|輸出"), _label("answer|response|输出结果|答案|回答"))
_CLASSES = (
    _label("class[ \t]*label|类别标签"),
    _label("label|class|category|标签|类别"),
)
_INPUT = _label("input|输入|輸入")
_EXAMPLE = re.compile(
    rf"{_LEAD}(?:example|例子|示例|例)[ \t]*(?:[0-9]+|[一二三四五六七八九十]+)[ \t*_]*"
    r"(?:[.:：)）、]|$)[ \t*_]*",
    re.IGNORECASE | re.MULTILINE,
)
# The teacher goes on with a task of its own, as in the prompt.
_NEXT_TASK = re.compile(r"\n[ \t]*\n[ \t>#*_]*(?:task|任务)[ \t]*\d*[ \t]*[:：]", re.IGNORECASE)
_OTHER_LABEL = re.compile(r"[ \t>#*_\-]*[^\n:：]{1,30}[:：][ \t*_]*\S")
_NO_INPUT = re.compile(
    r"^[\W_]*(?:none|n/?a|no[ -]?input(?: (?:is )?(?:needed|required))?|not (?:needed|applicable)|"
    r"empty|无|无需输入|无输入|没有|不需要|空)?[\W_]*$",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Found:
    """Instances in the order of the text, and what was left out: (text, rule, evidence)."""

    instances: list[Instance] = field(default_factory=list)
    dropped: list[tuple[str, str, str]] = field(default_factory=list)

    def drop(self, text: str, rule: str, evidence: str | None = None) -> None:
        self.dropped.append((text, rule, text if evidence is None else evidence))


def input_of(text: str) -> str:
    """The input, "" where the text says in some way that there is none."""
    return "" if _NO_INPUT.match(text) else text.strip()


def unfenced(text: str) -> str:
    """The text without a code fence around the whole of it; fences inside stay."""
    body = text.strip()
    lines = body.split("\n")
    marks = [number for number, line in enumerate(lines) if line.lstrip().startswith("```")]
    if marks == [0, len(lines) - 1] and len(lines) > 1:
        return "\n".join(lines[1:-1]).strip()
    return body


def parse_input_first(text: str, *, cut: bool) -> Found:
    """Instances of the form "Example 1 / Input: … / Output: …", or one "Output: …" alone.

    Text before the first example is chatter unless it has an output of its own. With `cut`
    (the completion ran into its limit) what comes last is dropped: its end is missing.
    """
    body, rest = _own_part(text, _OUTPUTS)
    found = _read(body, _used(_OUTPUTS, body), "no_output_label", cut=cut and not rest)
    return _with_rest(found, rest)


def parse_output_first(text: str, *, cut: bool) -> Found:
    """Instances of the form "Class label: … / Input: …"; the input may be missing.

    Text before the first label is chatter. `cut` as in `parse_input_first`. A teacher that
    answers in the other order, or with "Output: …", is understood.
    """
    body, rest = _own_part(text, (*_CLASSES, *_OUTPUTS))
    cut = cut and not rest
    label = _used(_CLASSES, body)
    marks = list(label.finditer(body)) if label is not None else []
    if not marks or _INPUT.search(body[: marks[0].start()]):
        found = _read(body, label or _used(_OUTPUTS, body), "no_class_label", cut=cut)
        return _with_rest(found, rest)
    found = Found()
    ends = [*(mark.start() for mark in marks[1:]), len(body)]
    for mark, end in zip(marks, ends, strict=True):
        head, _, given = _EXAMPLE.sub("", body[mark.end() : end]).strip().partition("\n")
        border = _INPUT.search(given)
        given = given[border.end() :] if border else given
        found.instances.append(Instance(input_of(given), _bare(head)))
    return _with_rest(_without_last(found) if cut else found, rest)


def _read(body: str, label: re.Pattern[str] | None, rule: str, *, cut: bool) -> Found:
    """Instances whose output follows `label`, example by example; `rule` takes what has none."""
    found = Found()
    marks = list(_EXAMPLE.finditer(body))
    ends = [*(mark.start() for mark in marks), len(body)]
    left = ""
    for number, end in enumerate(ends):
        piece = body[marks[number - 1].end() if number else 0 : end].strip()
        instances, left = _pairs(piece, label, in_example=number > 0)
        found.instances += instances
        if left and end < len(body) and (number or instances):
            found.drop(left, rule)
    if cut and left:
        found.drop(left, "truncated", left[-120:])
    elif left:
        found.drop(left, rule)
    elif cut and piece:
        found = _without_last(found)
    return found


def _pairs(
    piece: str, label: re.Pattern[str] | None, *, in_example: bool
) -> tuple[list[Instance], str]:
    """The instances of one piece, and the text at its end that has no output."""
    if label is None:
        return [], piece
    marks = [(mark, False) for mark in _INPUT.finditer(piece)]
    marks += [(mark, True) for mark in label.finditer(piece)]
    marks.sort(key=lambda item: item[0].start())
    if not marks:
        return [], piece
    ends = [*(mark.start() for mark, _ in marks[1:]), len(piece)]
    instances: list[Instance] = []
    given = piece[: marks[0][0].start()]
    # Another label ("Sentence: …") tells what the input is and stays; "Sure!" is no input.
    if not in_example and not _OTHER_LABEL.match(given):
        given = ""
    labelled = False
    for (mark, is_output), end in zip(marks, ends, strict=True):
        text = piece[mark.end() : end]
        if is_output:
            instances.append(Instance(input_of(given), text.strip()))
            given, labelled = "", False
        else:
            # Before one output there may be several inputs: "Input 1: …", "Input 2: …".
            given, labelled = (given + piece[mark.start() : end] if labelled else text), True
    return instances, given.strip()


def _bare(line: str) -> str:
    return line.strip().strip("*_").strip()


def _own_part(text: str, labels: Iterable[re.Pattern[str]]) -> tuple[str, str]:
    """The part of a completion that is about the task asked, and what follows of another task.

    What is followed by another task is not cut off.
    """
    body = unfenced(text)
    following = _NEXT_TASK.search(body)
    # A completion may open by repeating the task that it was asked for.
    if following is None or _used(labels, body[: following.start()]) is None:
        return body, ""
    return body[: following.start()].strip(), body[following.start() :].strip()


def _with_rest(found: Found, rest: str) -> Found:
    if rest:
        found.drop(rest, "further_task")
    return found


def _used(labels: Iterable[re.Pattern[str]], text: str) -> re.Pattern[str] | None:
    return next((label for label in labels if label.search(text)), None)


def _without_last(found: Found) -> Found:
    if found.instances:
        last = found.instances.pop()
        found.drop(_shown(last), "truncated", last.output[-120:])
    return found


def usable(found: Found, most: int) -> Found:
    """The instances that the rules of Self-Instruct keep, at most `most`, and why not the others.

    Dropped are: an empty output, an output that equals its input, an input or output that ends
    in a colon (something is missing), all instances of a task that has two outputs for one input
    that is not empty, and repeats.
    """
    kept = Found(dropped=list(found.dropped))
    for instance in found.instances:
        problem = _problem(instance)
        if problem is None:
            kept.instances.append(instance)
        else:
            kept.drop(_shown(instance), *problem)
    conflict = _conflict(kept.instances)
    if conflict is not None:
        for instance in kept.instances:
            kept.drop(_shown(instance), "differing_outputs", conflict)
        kept.instances = []
    unique = list(dict.fromkeys(kept.instances))
    seen: set[Instance] = set()
    for instance in kept.instances:
        if instance in seen:
            kept.drop(_shown(instance), "repeated_instance")
        seen.add(instance)
    for instance in unique[most:]:
        kept.drop(_shown(instance), "too_many_instances", f"{len(unique)} instances")
    kept.instances = unique[:most]
    return kept


def _shown(instance: Instance) -> str:
    return f"{instance.input}\n{instance.output}".strip()


def _problem(instance: Instance) -> tuple[str, str] | None:
    if not instance.output:
        return "empty_answer", instance.input
    if instance.input == instance.output:
        return "copy", instance.output
    for text in (instance.input, instance.output):
        if text.endswith((":", "：")):
            return "cut_off", text[-120:]
    return None


def _conflict(instances: Iterable[Instance]) -> str | None:
    """The two outputs of the first input that has two; None where no input has."""
    outputs: dict[str, str] = {}
    for instance in instances:
        if not instance.input:
            continue
        first = outputs.setdefault(instance.input, instance.output)
        if first != instance.output:
            return f"{instance.input!r}: {first!r}, {instance.output!r}"
    return None
