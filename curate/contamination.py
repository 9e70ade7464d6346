"""Decontamination: what training rows share with evaluation files, shown and removed or flagged.

Three kinds, each with its evidence: `ngram`, a run of words that an evaluation text has too
(Brown et al. 2020, appendix C; see `espalier.contamination`); `same_prompt`, equal prompts after
normalisation, however short; `near_prompt`, prompts whose n-grams have a Jaccard similarity at or
above the threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from espalier.contamination import EqualTexts, NearTexts, NgramIndex, Span, Vocabulary
from espalier.curate.config_holdout import DecontaminateConfig
from espalier.curate.filters import user_text
from espalier.curate.pipeline import Step, Tally, clip
from espalier.formats.detect import detect
from espalier.formats.read import kind_of, read_examples, read_pairs
from espalier.records import Example, Message, PreferencePair

_RULES = {
    "ngram": "contaminated",
    "same_prompt": "same_prompt_evaluation",
    "near_prompt": "near_evaluation",
}
_SHOWN = 200


class EvaluationTexts:
    """All that the evaluation files hold, ready to be looked for in training rows."""

    def __init__(self, config: DecontaminateConfig) -> None:
        self._config = config
        self._rows: list[dict[str, Any]] = []
        self._words = Vocabulary()
        self._equal = EqualTexts()
        self._grams: NgramIndex | None = None
        self._near: NearTexts | None = None
        if config.ngram is not None:
            sizes = (config.ngram, config.shortest, config.max_rows)
            self._grams = NgramIndex(*sizes, vocabulary=self._words)
        if config.near_threshold is not None:
            self._near = NearTexts(config.near_threshold, config.near_ngram, self._words)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: Example | PreferencePair, file: str, number: int) -> None:
        """Take in one evaluation row, the `number`th (from 1) of a file."""
        key = str(len(self._rows))
        self._rows.append({"file": file, "number": number, "row": row.id})
        fields = self._config.fields
        if fields != "answer":
            for text in _prompts(row):
                self._add_text(key, text)
            prompt = user_text(row.prompt if isinstance(row, PreferencePair) else row.messages)
            self._add_prompt(key, prompt)
        if fields != "prompt":
            for text in _answers(row):
                self._add_text(key, text)

    def findings(self, row: Example) -> list[dict[str, Any]]:
        """What a training row shares, the most telling first; empty for a clean row.

        Each finding has `kind`, the evaluation row (`file`, `number`, `row`) and `text`, the
        row's own words; a run of words also has its place (`turn` from 1, `role`, `start` and
        `end` in characters), its `tokens`, the `longest` run in that one evaluation text, the
        `share` of that text and `others` (further evaluation rows); near prompts have `jaccard`.
        """
        found = []
        texts = [message.content for message in row.messages]
        codes = {text: self._words.encode(text) for text in texts}
        if self._grams is not None:
            for turn, message in enumerate(row.messages, 1):
                for span in self._grams.spans(message.content, codes[message.content]):
                    found.append(self._span(span, turn, message))
        prompt = self._prompt_finding(row, codes)
        if prompt is None:
            return found
        # An equal prompt says more than the words in it, a near one less.
        return [prompt, *found] if prompt["kind"] == "same_prompt" else [*found, prompt]

    def _add_text(self, key: str, text: str) -> None:
        if self._grams is not None:
            self._grams.add(key, text)

    def _add_prompt(self, key: str, text: str) -> None:
        self._equal.add(key, text)
        if self._near is not None:
            self._near.add(key, text)

    def _prompt_finding(self, row: Example, codes: dict[str, str]) -> dict[str, Any] | None:
        if self._config.fields == "answer":
            return None
        text = user_text(row.prompt_messages)
        key = self._equal.find(text)
        if key is not None:
            return {"kind": "same_prompt", **self._rows[int(key)], "text": clip(text, _SHOWN)}
        matches = self._near.matches(text, codes.get(text)) if self._near is not None else []
        if not matches:
            return None
        key, similarity = matches[0]
        shown = {"text": clip(text, _SHOWN), "jaccard": round(similarity, 4)}
        return {"kind": "near_prompt", **self._rows[int(key)], **shown}

    def _span(self, span: Span, turn: int, message: Message) -> dict[str, Any]:
        others = [self._rows[int(key)]["row"] for key in span.keys[1:]]
        return {
            "kind": "ngram",
            **self._rows[int(span.key)],
            "turn": turn,
            "role": message.role,
            "start": span.start,
            "end": span.end,
            "tokens": span.tokens,
            "longest": span.longest,
            "share": round(span.share, 4),
            "text": message.content[span.start : span.end],
            "others": others,
        }


def read_evaluation(
    config: DecontaminateConfig, resolve: Callable[[str], Path | str]
) -> EvaluationTexts:
    """The evaluation files of the options, read whole; `resolve` makes paths of their names.

    Raises InputError for a file that can't be read, or a bad row in one: evaluation texts that
    were silently left out would make the result look clean.
    """
    texts = EvaluationTexts(config)
    for name in config.against:
        for number, row in enumerate(_records(resolve(name)), 1):
            texts.add(row, Path(name).name, number)
    return texts


def _records(path: Path | str) -> Iterator[Example | PreferencePair]:
    if kind_of(detect(path).format) == "pairs":
        yield from read_pairs(path)
    else:
        yield from read_examples(path, answers="optional")


def contamination_step(
    config: DecontaminateConfig,
    texts: EvaluationTexts,
    write: Callable[[dict[str, Any]], None] | None = None,
) -> Step:
    """Reject rows that share something with the evaluation, or flag them (`meta.contamination`).

    `write` gets one line for each such row: its id and source, what was done, and all findings.
    """

    def step(rows: Iterable[Example], tally: Tally) -> Iterator[Example]:
        for row in rows:
            found = texts.findings(row) if len(texts) else []
            if not found:
                yield row
                continue
            if write is not None:
                write(_line(row, config.action, found))
            rule = _RULES[found[0]["kind"]]
            if config.action == "remove":
                tally.reject(row, rule, _evidence(found))
            else:
                tally.change(rule)
                yield row.with_meta(contamination=[_brief(item) for item in found])

    return step


def _prompts(row: Example | PreferencePair) -> list[str]:
    turns = row.prompt if isinstance(row, PreferencePair) else row.messages
    texts = [turn.content for turn in turns if turn.role == "user"]
    later = row.meta.get("later_turns")
    if isinstance(later, list):
        texts += [text for text in later if isinstance(text, str)]
    return texts


def _answers(row: Example | PreferencePair) -> list[str]:
    turns = row.prompt if isinstance(row, PreferencePair) else row.messages
    texts = [turn.content for turn in turns if turn.role == "assistant"]
    if isinstance(row, PreferencePair):
        texts += [row.chosen, row.rejected]
    reference = row.meta.get("reference")
    listed = reference if isinstance(reference, list) else [reference]
    # The same text twice would count as two places of one row.
    return list(dict.fromkeys([*texts, *(text for text in listed if isinstance(text, str))]))


def _line(row: Example, action: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": row.id, "source": row.meta.get("source"), "action": action, "found": found}


def _brief(found: dict[str, Any]) -> dict[str, Any]:
    """A finding as the row itself carries it: without other rows, long texts cut."""
    kept = {name: value for name, value in found.items() if name != "others"}
    return {**kept, "text": clip(kept["text"], _SHOWN)}


def _evidence(found: list[dict[str, Any]]) -> str:
    first = found[0]
    where = f"row {first['number']} of {first['file']} ({first['row']})"
    if first["kind"] == "same_prompt":
        return f"the prompt of evaluation {where}"
    if first["kind"] == "near_prompt":
        return f"Jaccard {first['jaccard']:.2f} of prompt n-grams with evaluation {where}"
    spans = [item for item in found if item["kind"] == "ngram"]
    longest = max(spans, key=_tokens)
    where = f"row {longest['number']} of {longest['file']} ({longest['row']})"
    more = f"; {len(spans)} such places" if len(spans) > 1 else ""
    return (
        f"{longest['tokens']} words in a row of evaluation {where}, in the {longest['role']} "
        f"turn: “{clip(longest['text'], _SHOWN)}”{more}"
    )


def _tokens(found: dict[str, Any]) -> int:
    return int(found["tokens"])
