"""The journal: nothing that was paid for is lost or asked for twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from espalier.engines.base import Completion, Engine, Request, Sampling, Usage
from espalier.errors import InputError, StageError
from espalier.journal import Journal, JournaledEngine, completion_key
from espalier.records import Message


class CountingEngine:
    """Answers with the prompt and a running number; fails at the prompt "bad"."""

    model = "counting"
    costly = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.closed = False

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        for request in requests:
            self.asked.append(request.prompt)
            if request.prompt == "bad":
                raise StageError("the engine broke")
            reason: Any = "error" if request.prompt == "refused" else "stop"
            yield Completion(f"{request.prompt}-{len(self.asked)}", reason)

    def close(self) -> None:
        self.closed = True


def texts(engine: Engine, prompts: Sequence[str], **sampling: Any) -> list[str]:
    asked = [Request.of(prompt) for prompt in prompts]
    return [c.text for c in engine.generate(asked, Sampling(**sampling))]


def test_a_completion_survives_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.jsonl"
    full = Completion("文字 \ud800 \u2028\n", "length", Usage(3, 4), (5, 6), (-0.1, -1e-300))
    with Journal(path) as journal:
        journal.put("a", full, model="m", messages=[{"role": "user", "content": "你好"}])
        journal.put("b", Completion(""))
        assert journal.get("a") == full
    with Journal(path) as journal:
        assert len(journal) == 2
        assert journal.get("a") == full
        assert journal.get("b") == Completion("")
        assert journal.get("c") is None


def test_a_record_is_readable_by_a_human(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    engine = JournaledEngine(CountingEngine(), Journal(path))
    texts(engine, ["你好"], temperature=0.5)
    engine.close()
    line = path.read_text(encoding="utf-8")
    assert "你好-1" in line
    record = json.loads(line)
    assert record["messages"] == [{"role": "user", "content": "你好"}]
    assert record["model"] == "counting"
    assert record["sampling"] == {"temperature": 0.5}
    assert record["time"].endswith("+00:00")


def test_a_torn_last_line_is_skipped_and_the_next_append_starts_afresh(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.put("a", Completion("first"))
        journal.put("b", Completion("second"))
    whole = path.read_bytes()
    start_of_second = whole.index(b"\n") + 1
    for cut in (*range(start_of_second, len(whole), 7), len(whole) - 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with Journal(path) as journal:
            # Without its newline alone the second record is complete, and counts.
            complete = cut == len(whole) - 1
            assert (journal.get("b") is not None) == complete
            assert journal.get("a") == Completion("first")
            assert journal.damaged == (start_of_second < cut < len(whole) - 1)
            journal.put("c", Completion("third"))
            assert journal.get("c") == Completion("third")
        with Journal(path) as journal:
            assert journal.get("c") == Completion("third")
            assert journal.get("a") == Completion("first")
        assert path.read_bytes().startswith(whole[:cut])


def test_zeros_left_by_a_power_cut_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.put("a", Completion("first"))
    with path.open("ab") as handle:
        handle.write(bytes(100))
    for _ in range(2):
        with Journal(path) as journal:
            assert journal.get("a") == Completion("first")
            journal.put("b", Completion("second"))
            assert journal.get("b") == Completion("second")


def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"a": 1}\n{"instruction": "x"}\n')
    with pytest.raises(InputError, match="line 1"):
        Journal(path)
    assert path.read_text() == '{"a": 1}\n{"instruction": "x"}\n'


def test_two_processes_never_share_one(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    code = (
        "import sys; from pathlib import Path; from espalier.journal import Journal\n"
        "from espalier.errors import StageError\n"
        "try: Journal(Path(sys.argv[1]))\n"
        "except StageError as error: print(error); sys.exit(7)\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    with Journal(path):
        with pytest.raises(StageError, match="in use by another process"):
            Journal(path)
        other = subprocess.run(command, capture_output=True, text=True, check=False)
        assert other.returncode == 7, other.stderr
        assert str(path) in other.stdout
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_record_is_there_as_soon_as_put_returns(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from espalier.engines.base import Completion; from espalier.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for i in range(100): journal.put(str(i), Completion(f'text {i}'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    with Journal(path) as journal:
        assert [journal.get(str(i)) for i in range(100)] == [
            Completion(f"text {i}") for i in range(100)
        ]


def test_many_threads_write_whole_lines_and_fsync_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.jsonl"
    synced: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(path.stat().st_size)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with Journal(path) as journal:

        def work(name: int) -> None:
            for i in range(100):
                journal.put(f"{name}:{i}", Completion(f"{name} " + "x" * i))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 800
    # The last one covers everything, and there were far fewer than there were records.
    assert synced[-1] == path.stat().st_size
    assert len(synced) < 200


def test_256_writers_at_once_share_a_few_fsyncs_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.jsonl"
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(path.stat().st_size))
    start = threading.Barrier(256)
    with Journal(path) as journal:

        def work(name: int) -> None:
            start.wait()
            for i in range(8):
                # Half of the keys are written by two threads: the first one counts.
                journal.put(f"{name // 2}:{i}" if i % 2 else f"{name}:{i}", Completion(f"{name}"))
                if name % 16 == 0:
                    journal.put_spent(Usage(1, 2), model="m", step="s")

        threads = [threading.Thread(target=work, args=(n,)) for n in range(256)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        first = {key: journal.get(key) for key in journal._index}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    keys = [line["key"] for line in lines if "key" in line]
    assert len(keys) == len(set(keys)) == 256 * 4 + 128 * 4
    assert sum(line.get("spent", False) for line in lines) == 16 * 8
    assert synced[-1] == path.stat().st_size
    assert len(synced) < 256
    with Journal(path) as journal:
        assert journal.damaged == 0
        assert {key: journal.get(key) for key in journal._index} == first


def test_the_file_is_only_ever_appended_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    flags: list[int] = []
    real = os.open

    def opened(name: Any, how: int, *rest: Any, **more: Any) -> int:
        if str(name) == str(path):
            flags.append(how)
        return real(name, how, *rest, **more)

    monkeypatch.setattr(os, "open", opened)
    sizes = []
    for i in range(5):
        with Journal(path) as journal:
            before = path.read_bytes()
            journal.put(str(i), Completion("text"))
            assert path.read_bytes().startswith(before)
            sizes.append(path.stat().st_size)
    assert sizes == sorted(sizes)
    assert len(flags) == 5
    assert all(how & os.O_APPEND and not how & os.O_TRUNC for how in flags)


def test_step_and_engine_are_written_along_and_lines_without_them_are_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.jsonl"
    plain = JournaledEngine(CountingEngine(), Journal(path))
    texts(plain, ["a"])
    plain.close()
    engine = JournaledEngine(
        CountingEngine(), Journal(path), known={"engine": "openai", "step": "judge"}
    )
    assert texts(engine, ["a", "b"]) == ["a-1", "b-1"]
    engine.close()
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert "step" not in first
    assert (second["step"], second["engine"]) == ("judge", "openai")


def test_a_full_disk_is_a_clear_error_and_the_half_line_is_harmless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.jsonl"
    real = os.write
    with Journal(path) as journal:
        journal.put("a", Completion("first"))

        def half(descriptor: int, data: bytes) -> int:
            if len(data) < 40:
                raise OSError(28, "No space left on device")
            return real(descriptor, data[: len(data) // 2])

        monkeypatch.setattr(os, "write", half)
        with pytest.raises(StageError, match="No space left on device") as caught:
            journal.put("b", Completion("second"))
        assert str(path) in str(caught.value)
        assert journal.get("b") is None
        monkeypatch.setattr(os, "write", real)
        journal.put("b", Completion("second"))
        assert journal.get("b") == Completion("second")
    with Journal(path) as journal:
        assert len(journal) == 2
        assert journal.damaged == 1


def test_a_closed_journal_says_so(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.close()
    journal.close()
    with pytest.raises(StageError, match="closed"):
        journal.put("a", Completion(""))


def test_the_key_names_everything_that_decides_an_answer() -> None:
    request, sampling = Request.of("hello"), Sampling()
    variants = [
        completion_key("m", request, sampling),
        completion_key("n", request, sampling),
        completion_key("m", Request.of("hello", system="x"), sampling),
        completion_key("m", Request.of("hello", sample=1), sampling),
        completion_key("m", Request((Message("assistant", "hello"),)), sampling),
        completion_key("m", Request(token_ids=(1, 23)), sampling),
        completion_key("m", Request(token_ids=(12, 3)), sampling),
        completion_key("m", request, Sampling(temperature=0.5)),
        completion_key("m", request, Sampling(top_p=0.5)),
        completion_key("m", request, Sampling(max_tokens=5)),
        completion_key("m", request, Sampling(stop=("x",))),
        completion_key("m", request, Sampling(presence_penalty=1)),
        completion_key("m", request, Sampling(seed=1)),
    ]
    assert len(set(variants)) == len(variants)
    assert completion_key("m", Request.of("hello"), Sampling()) == variants[0]


def test_equal_requests_are_asked_once_and_order_is_kept(tmp_path: Path) -> None:
    inner = CountingEngine()
    engine = JournaledEngine(inner, Journal(tmp_path / "j"))
    assert texts(engine, ["a", "b", "a", "c", "b"]) == ["a-1", "b-2", "a-1", "c-3", "b-2"]
    assert inner.asked == ["a", "b", "c"]
    assert texts(engine, ["c", "d", "a"]) == ["c-3", "d-4", "a-1"]
    assert inner.asked == ["a", "b", "c", "d"]
    # Another sample of the same prompt is another completion.
    [again] = engine.generate([Request.of("a", sample=1)], Sampling())
    assert again.text == "a-5"
    assert isinstance(engine, Engine)
    engine.close()
    assert inner.closed


def test_what_arrived_before_a_failure_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "j"
    engine = JournaledEngine(CountingEngine(), Journal(path))
    with pytest.raises(StageError, match="broke"):
        texts(engine, ["a", "b", "bad", "c"])
    engine.close()
    inner = CountingEngine()
    engine = JournaledEngine(inner, Journal(path))
    assert texts(engine, ["a", "b", "c"]) == ["a-1", "b-2", "c-1"]
    assert inner.asked == ["c"]
    engine.close()


def test_a_refused_prompt_is_handed_on_but_not_kept(tmp_path: Path) -> None:
    inner = CountingEngine()
    engine = JournaledEngine(inner, Journal(tmp_path / "j"))
    assert texts(engine, ["refused", "a", "refused"]) == ["refused-1", "a-2", "refused-1"]
    assert len(engine.journal) == 1
    assert texts(engine, ["refused"]) == ["refused-3"]
    engine.close()


def test_an_engine_that_stops_short_is_an_error(tmp_path: Path) -> None:
    class Short(CountingEngine):
        def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
            return super().generate(requests[:-1], sampling)

    engine = JournaledEngine(Short(), Journal(tmp_path / "j"))
    with pytest.raises(StageError, match="fewer answers"):
        texts(engine, ["a", "b"])
    engine.close()


def test_identity_and_seed_of_the_engine_enter_the_key(tmp_path: Path) -> None:
    path = tmp_path / "j"

    def answer(identity: str, engine_seed: int, **sampling: Any) -> str:
        inner = CountingEngine()
        inner.identity, inner.seed = identity, engine_seed  # type: ignore[attr-defined]
        inner.asked = [""] * next(numbers)
        engine = JournaledEngine(inner, Journal(path))
        [text] = texts(engine, ["a"], **sampling)
        engine.close()
        return text

    numbers = iter(range(100))
    first = answer("weights 1", 1)
    assert answer("weights 1", 1) == first
    assert answer("weights 2", 1) != first
    assert answer("weights 1", 2) != first
    assert answer("weights 1", 1, seed=9) != first
    # A greedy answer knows no seed.
    greedy = answer("weights 1", 1, temperature=0.0)
    assert answer("weights 1", 2, temperature=0.0, seed=9) == greedy
