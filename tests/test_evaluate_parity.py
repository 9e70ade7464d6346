"""The comparison of two engines: what is counted, what is a tie, what the verb says."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import tiny

from espalier.cli import main
from espalier.engines.base import Completion, Request, Sampling, TokenScores, Usage
from espalier.errors import StageError
from espalier.evaluate.cli_parity import describe
from espalier.evaluate.parity import compare_engines, first_difference
from espalier.models import save_model

VOCABULARY = 7


class Bigram:
    """A model of seven tokens whose next token depends on the last one alone."""

    def __init__(self, name: str, changes: dict[int, tuple[float, ...]] | None = None) -> None:
        self.model = name
        self.costly = False
        self.closed = 0
        # After token i, token i + 1 is likeliest; 6 ends an answer.
        self.rows = {
            i: tuple(3.0 if j == min(i + 1, 6) else 0.0 for j in range(VOCABULARY))
            for i in range(VOCABULARY)
        } | (changes or {})

    def logprobs(self, token: int) -> list[float]:
        row = self.rows[token]
        total = math.log(sum(map(math.exp, row)))
        return [value - total for value in row]

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        assert sampling.temperature == 0
        for request in requests:
            made: list[int] = []
            last = request.token_ids[-1]
            while len(made) < sampling.max_tokens and (not made or made[-1] != 6):
                row = self.logprobs(last)
                last = row.index(max(row))
                made.append(last)
            usage = Usage(len(request.token_ids), len(made))
            yield Completion("", "stop", usage, tuple(made), (0.0,) * len(made))

    def score(self, sequences: Sequence[Sequence[int]]) -> Iterator[TokenScores]:
        for sequence in sequences:
            rows = [self.logprobs(token) for token in sequence[:-1]]
            given = [row[token] for row, token in zip(rows, sequence[1:], strict=True)]
            yield TokenScores(
                tuple(given),
                tuple(row.index(max(row)) for row in rows),
                tuple(max(row) for row in rows),
            )

    def close(self) -> None:
        self.closed += 1


ASKED = [Request(token_ids=(0, 0)), Request(token_ids=(4,))]


def test_equal_engines_are_the_same() -> None:
    one, other = Bigram("a"), Bigram("b")
    found = compare_engines(one, other, ASKED, max_tokens=10)
    assert found.verdict == "same"
    # 0 -> 1 2 3 4 5 6 and 4 -> 5 6
    assert [prompt.tokens for prompt in found.prompts] == [6, 2]
    assert found.agreement == 1 and found.equal_answers == 2
    assert not found.differences.any() and found.differences.shape == (8,)
    # Each is closed before the other works, so that one model is in memory at a time.
    assert one.closed >= 1 and other.closed == 1


def test_a_choice_that_turns_by_little_is_a_tie_and_by_much_is_not() -> None:
    near = [0.0] * VOCABULARY
    near[3], near[5] = 3.0, 2.9999
    turned = [*near]
    turned[3], turned[5] = 2.9999, 3.0
    a = Bigram("a", {2: tuple(near)})
    b = Bigram("b", {2: tuple(turned)})
    found = compare_engines(a, b, ASKED, max_tokens=10, tie=1e-3, least=0.8)
    # A: 1 2 3 4 5 6; B: 1 2 5 6. Shown A's tokens, B differs in the third alone.
    assert [(p.tokens, p.agreed, p.first) for p in found.prompts] == [(6, 5, 2), (2, 2, None)]
    [one] = found.divergences
    assert (one.prompt, one.position, one.a, one.b, one.tie) == (0, 2, 3, 5, True)
    # Both sides prefer their own choice by 0.0001.
    assert one.gap == pytest.approx(0.0002, abs=1e-9)
    assert found.agreement == 7 / 8 and found.verdict == "same but for ties"
    assert compare_engines(a, b, ASKED, max_tokens=10, tie=1e-3).verdict == "different"
    assert compare_engines(a, b, ASKED, max_tokens=10, tie=1e-4, least=0).verdict == "different"
    said = describe(found, "a", "b")
    assert "87.50% of 8" in said and "prompt 1, token 3: a 3, b 5" in said and "(a tie)" in said


def test_log_probabilities_are_compared_where_the_choice_is_the_same() -> None:
    other = tuple(2.0 if j == 1 else 0.0 for j in range(VOCABULARY))
    a, b = Bigram("a"), Bigram("b", {0: other})
    found = compare_engines(a, b, ASKED, max_tokens=10)
    expected = abs(a.logprobs(0)[1] - b.logprobs(0)[1])
    assert found.verdict == "same"
    assert found.differences.max() == pytest.approx(expected)
    assert found.prompts[0].largest == pytest.approx(expected)
    assert found.prompts[1].largest == 0


def test_an_engine_that_hides_its_tokens_is_refused() -> None:
    class Silent(Bigram):
        def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
            yield from (Completion("x", usage=Usage(1, 4)) for _ in requests)

    with pytest.raises(StageError, match="0 token ids for an answer of 4"):
        compare_engines(Bigram("a"), Silent("b"), ASKED, max_tokens=3)


@pytest.mark.parametrize(
    ("one", "other", "place"),
    [((), (), None), ((1, 2), (1, 2), None), ((1, 2), (1,), 1), ((1,), (2,), 0), ((), (5,), 0)],
)
def test_first_difference(one: tuple[int, ...], other: tuple[int, ...], place: int | None) -> None:
    assert first_difference(one, other) == place


def test_the_verb_on_one_engine_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run" / "sft" / "model"
    save_model(tiny.model(), tiny.tokenizer(), "espalier", folder)
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"instruction": text, "output": "x"} for text in (*tiny.TEXTS, "long " * 200)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = ["evaluate", "parity", str(folder.parent), "--set", str(prompts)]
    words += ["--engines", "transformers", "transformers", "--max-tokens", "12"]
    assert main([*words, "--json", str(tmp_path / "parity.json")]) == 0
    assert "transformers and transformers: same\n" in capsys.readouterr().out
    written = json.loads((tmp_path / "parity.json").read_text(encoding="utf-8"))
    assert written["verdict"] == "same" and written["prompts"] == 5
    assert written["agreement"] == 1 and written["tie"] == 1e-3
    assert written["tokens"] == sum(prompt["tokens"] for prompt in written["by_prompt"]) > 0
    assert main([*words[:2], str(tmp_path / "nothing"), *words[3:]]) == 2
    assert main([*words, "--limit", "0"]) == 2
    for wrong in (["--least", "99"], ["--tie", "nan"], ["--json", str(tmp_path / "no" / "x.json")]):
        assert main([*words, *wrong]) == 2
    assert main([*words[:2], str(tmp_path), *words[3:]]) == 2
    assert "Traceback" not in capsys.readouterr().err
