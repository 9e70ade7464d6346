"""vLLM's offline interface against transformers, on a tiny model: the same prompts, ends, texts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from vllm_models import VLLM, all_gone, environment, group_of, save_tiny

from espalier.engines import open_engine
from espalier.engines.base import Completion, EngineSpec, Request, Sampling
from espalier.engines.hf import TransformersEngine
from espalier.errors import InputError, StageError, UsageError
from espalier.scoring import token_logprobs

pytestmark = VLLM
GREEDY = Sampling(temperature=0, max_tokens=40)
TEXTS = (
    "hello",
    "count the words: one two",
    "你好，世界",
    "the cat",
    "12 and 345",
    "猫坐在垫子上。",
)


def chats() -> list[Request]:
    return [Request.of(text) for text in TEXTS] + [Request.of("hello", system="the answer is 12")]


def plain(*lengths: int) -> list[Request]:
    return [Request(token_ids=tuple(5 + i * 7 % 200 for i in range(n))) for n in lengths]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("vllm") / "model")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[object]:
    spec = EngineSpec(engine="vllm", model=str(folder))
    engine = open_engine(spec, seed=1)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def other(folder: Path) -> TransformersEngine:
    return TransformersEngine(str(folder), seed=1, device="cpu")


def same(found: list[Completion], expected: list[Completion]) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.token_ids == theirs.token_ids
        assert ours.text == theirs.text
        assert ours.finish_reason == theirs.finish_reason
        assert ours.usage == theirs.usage
        np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=2e-4)


@pytest.mark.parametrize(
    "sampling",
    [GREEDY, Sampling(temperature=0, max_tokens=60, presence_penalty=1.5)],
    ids=["greedy", "presence penalty"],
)
def test_greedy_answers_are_those_of_transformers(
    engine: object, other: TransformersEngine, sampling: Sampling
) -> None:
    asked = [*chats(), *plain(1, 2, 17, 130, 500)]
    same(list(engine.generate(asked, sampling)), list(other.generate(asked, sampling)))  # type: ignore[attr-defined]


def test_stop_texts_and_end_tokens(engine: object, other: TransformersEngine) -> None:
    asked = [*chats(), *plain(3, 9)]
    free = list(other.generate(asked, GREEDY))
    # Texts that occur, each in some answer: within words and across tokens.
    texts = tuple(c.text[5:7] for c in free[:4] if c.text[5:7].strip() and c.text[5:7].isascii())
    for stop in (texts, ("<|user|>", "<|system|>"), ("nowhere",)):
        sampling = Sampling(temperature=0, max_tokens=40, stop=stop)
        found = list(engine.generate(asked, sampling))  # type: ignore[attr-defined]
        same(found, list(other.generate(asked, sampling)))
        assert not any(text in c.text for c in found for text in stop)
    sampled = Sampling(temperature=1.5, max_tokens=60)
    found = list(engine.generate([Request.of("hello", sample=i) for i in range(60)], sampled))  # type: ignore[attr-defined]
    end = other._load().form.tokenizer.eos_token_id
    assert {c.finish_reason for c in found} == {"stop", "length"}
    assert all((c.token_ids[-1] == end) == (c.finish_reason == "stop") for c in found)
    assert all(end not in c.token_ids[:-1] for c in found)


def test_a_prompt_that_leaves_no_room_gets_an_empty_answer(
    engine: object, other: TransformersEngine
) -> None:
    asked = plain(511, 512, 600)
    found = list(engine.generate(asked, GREEDY))  # type: ignore[attr-defined]
    same(found, list(other.generate(asked, GREEDY)))
    assert [len(c.token_ids) for c in found] == [1, 0, 0]


def test_samples_differ_and_come_again_in_any_order(engine: object) -> None:
    sampling = Sampling(temperature=1, top_p=0.95, max_tokens=24)
    asked = [Request.of(TEXTS[i % 3], sample=i // 3) for i in range(30)]

    def ids(requests: list[Request], sampling: Sampling = sampling) -> list[tuple[int, ...]]:
        return [c.token_ids for c in engine.generate(requests, sampling)]  # type: ignore[attr-defined]

    first = ids(asked)
    assert len(set(first)) == 30
    assert ids(asked[::-1]) == first[::-1]
    assert ids(asked[7:9]) == first[7:9]
    assert ids(asked, Sampling(temperature=1, top_p=0.95, max_tokens=24, seed=3)) != first


def test_many_long_prompts_with_seeds_at_once(engine: object) -> None:
    # More tokens than vLLM reads in one step.
    [long] = plain(490)
    asked = [Request(token_ids=(5 + n, *long.token_ids), sample=n) for n in range(60)]
    sampling = Sampling(temperature=1, max_tokens=8)
    found = [c.token_ids for c in engine.generate(asked, sampling)]  # type: ignore[attr-defined]
    assert len(found) == 60
    assert [c.token_ids for c in engine.generate(asked[50:], sampling)] == found[50:]  # type: ignore[attr-defined]


def test_log_probabilities_are_those_of_the_models_own_distribution(
    engine: object, other: TransformersEngine
) -> None:
    asked = plain(4, 30, 80)
    sampling = Sampling(temperature=0.7, top_p=0.8, presence_penalty=0.5, max_tokens=30)
    found = list(engine.generate(asked, sampling))  # type: ignore[attr-defined]
    sequences = [
        [*request.token_ids, *c.token_ids] for request, c in zip(asked, found, strict=True)
    ]
    for request, c, scores in zip(
        asked, found, token_logprobs(other._load().model, sequences), strict=True
    ):
        np.testing.assert_allclose(c.logprobs, scores[len(request.token_ids) - 1 :], atol=2e-4)


def test_scores_of_given_tokens_are_those_of_transformers(
    engine: object, other: TransformersEngine
) -> None:
    sequences = [request.token_ids for request in plain(1, 2, 17, 130, 511, 512)]
    found = list(engine.score(sequences))  # type: ignore[attr-defined]
    model = other._load().model
    for ours, theirs in zip(found, other.score(sequences), strict=True):
        assert ours.best == theirs.best
        np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=2e-4)
        np.testing.assert_allclose(ours.best_logprobs, theirs.best_logprobs, atol=2e-4)
    for ours, scores in zip(found, token_logprobs(model, sequences), strict=True):
        np.testing.assert_allclose(ours.logprobs, scores, atol=2e-4)
    # Asked among answers, whose log-probabilities they are.
    answers = list(engine.generate(plain(4, 30), GREEDY))  # type: ignore[attr-defined]
    forced = [(*r.token_ids, *c.token_ids) for r, c in zip(plain(4, 30), answers, strict=True)]
    for request, answer, scores in zip(plain(4, 30), answers, engine.score(forced), strict=True):  # type: ignore[attr-defined]
        start = len(request.token_ids) - 1
        assert scores.best[start:] == answer.token_ids
        np.testing.assert_allclose(scores.logprobs[start:], answer.logprobs, atol=2e-4)
    for lengths in ((0,), (5, 513)):
        with pytest.raises(InputError, match="to score"):
            list(engine.score([tuple(range(n)) for n in lengths]))  # type: ignore[attr-defined]


def test_leaving_early_ends_what_is_under_way(engine: object, other: TransformersEngine) -> None:
    long = Sampling(temperature=1, max_tokens=400)
    asked = [Request.of("hello", sample=i) for i in range(200)]
    stream = engine.generate_unordered(asked, long)  # type: ignore[attr-defined]
    assert len(list(islice(stream, 3))) == 3
    stream.close()
    same(list(engine.generate(chats(), GREEDY)), list(other.generate(chats(), GREEDY)))  # type: ignore[attr-defined]
    # Two calls that take turns keep their answers apart.
    one, two = (engine.generate(chats(), GREEDY) for _ in range(2))  # type: ignore[attr-defined]
    turns = list(zip(one, two, strict=True))
    assert all(first == second for first, second in turns)


def test_a_refused_request_is_named_and_the_next_one_answered(engine: object) -> None:
    with pytest.raises(StageError, match="vocabulary"):
        list(engine.generate([Request(token_ids=(99_999,))], GREEDY))  # type: ignore[attr-defined]
    assert len(list(engine.generate(chats(), GREEDY))) == len(chats())  # type: ignore[attr-defined]


def test_new_weights_in_place(
    engine: object, folder: Path, other: TransformersEngine, tmp_path: Path
) -> None:
    new = save_tiny(tmp_path / "new", seed=5)
    before = engine.identity  # type: ignore[attr-defined]
    list(engine.generate(chats(), GREEDY))  # type: ignore[attr-defined]
    engine.reload(str(new))  # type: ignore[attr-defined]
    assert engine.identity != before  # type: ignore[attr-defined]
    changed = TransformersEngine(str(new), device="cpu")
    same(list(engine.generate(chats(), GREEDY)), list(changed.generate(chats(), GREEDY)))  # type: ignore[attr-defined]
    engine.reload(str(folder))  # type: ignore[attr-defined]
    assert engine.identity == before  # type: ignore[attr-defined]
    same(list(engine.generate(chats(), GREEDY)), list(other.generate(chats(), GREEDY)))  # type: ignore[attr-defined]


def test_a_process_that_dies_is_reported_and_the_next_call_starts_another(engine: object) -> None:
    sampling = Sampling(temperature=1, max_tokens=400)
    asked = [Request.of("hello", sample=i) for i in range(100)]
    before = [c.token_ids for c in engine.generate(asked[:4], sampling)]  # type: ignore[attr-defined]
    pid = engine._running._process.pid  # type: ignore[attr-defined]
    with pytest.raises(StageError, match="ended unexpectedly") as caught:
        for number, _ in enumerate(engine.generate(asked, sampling)):  # type: ignore[attr-defined]
            if number == 2:
                os.kill(pid, signal.SIGKILL)
    Path(str(caught.value.where)).unlink()
    # Another process gives the same samples; and closing leaves none behind.
    assert [c.token_ids for c in engine.generate(asked[:4], sampling)] == before  # type: ignore[attr-defined]
    pid = engine._running._process.pid  # type: ignore[attr-defined]
    assert group_of(pid)
    engine.close()  # type: ignore[attr-defined]
    engine.close()  # type: ignore[attr-defined]
    assert not group_of(pid)


SCRIPT = """
import os, signal, sys
from espalier.engines import open_engine
from espalier.engines.base import EngineSpec, Request, Sampling
engine = open_engine(EngineSpec(engine="vllm", model=sys.argv[1]))
asked = [Request.of("hello", sample=i) for i in range(500)]
next(engine.generate(asked, Sampling(max_tokens=400)))
print(engine._running._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_script_needs_no_guard_and_a_kill_leaves_no_process(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=200,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stderr == ""  # nothing of vLLM's own talk
    assert all_gone(int(done.stdout))


def test_a_setting_that_vllm_does_not_have_is_a_usage_error(folder: Path) -> None:
    options = {"vllm": {"max_num_sequences": 4}}
    engine = open_engine(EngineSpec(engine="vllm", model=str(folder), options=options))
    with pytest.raises(UsageError, match="max_num_sequences") as caught:
        list(engine.generate(chats(), GREEDY))
    assert "max_num_seqs" in str(caught.value.hint)
