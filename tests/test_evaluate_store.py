"""The append-only store of the evaluation: what outlives a kill, and what is made again."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from espalier.errors import InputError, StageError
from espalier.evaluate import store as module
from espalier.evaluate.store import Store, kept, key_of


def test_values_come_back_from_another_opening(tmp_path: Path) -> None:
    values: list[Any] = [
        None,
        1.5,
        {"answer": "好 \ud83d".encode("utf-8", "replace").decode()},
        [],
        "two",
    ]
    with Store(tmp_path / "s.jsonl") as store:
        for number, value in enumerate(values):
            store.put(f"k{number}", value, model="m")
        assert [store.get(f"k{n}") for n in range(5)] == values
    with Store(tmp_path / "s.jsonl") as store:
        assert len(store) == 5 and "k4" in store and "k5" not in store
        assert [store.get(f"k{n}") for n in range(5)] == values
        with pytest.raises(KeyError):
            store.get("k5")
    lines = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text("utf-8").splitlines()]
    assert lines[4] == {"key": "k4", "model": "m", "value": "two"}


def test_the_first_value_stays_and_the_file_only_grows(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    with Store(path) as store:
        store.put("a", 1)
        before = path.read_bytes()
        store.put("a", 2)
        assert path.read_bytes() == before
        store.put("b", 2)
        assert path.read_bytes().startswith(before) and store.get("a") == 1


@pytest.mark.parametrize("cut", range(1, 22))
def test_a_torn_line_costs_itself_alone(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "s.jsonl"
    with Store(path) as store:
        store.put("a", 1)
        store.put("b", "甲乙")
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut] + b"\0\0")
    with Store(path) as store:
        assert store.damaged == 1 and store.get("a") == 1 and "b" not in store
        store.put("b", "again")
        store.put("c", 3)
    with Store(path) as store:
        assert [store.get(key) for key in "abc"] == [1, "again", 3]


def test_a_file_of_another_kind_is_refused_and_left(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text('{"prompt": "hello"}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"no store[\s\S]*line 1"):
        Store(path)
    assert path.read_text("utf-8") == '{"prompt": "hello"}\n'


def test_two_holders_are_refused(tmp_path: Path) -> None:
    with (
        Store(tmp_path / "s.jsonl"),
        pytest.raises(StageError, match="in use by another process"),
    ):
        Store(tmp_path / "s.jsonl")
    Store(tmp_path / "s.jsonl").close()


def test_numbers_that_json_does_not_have_are_refused(tmp_path: Path) -> None:
    with Store(tmp_path / "s.jsonl") as store, pytest.raises(ValueError, match="JSON"):
        store.put("a", float("nan"))


def test_a_killed_process_loses_the_batch_in_the_works(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    child = os.fork()
    if child == 0:  # pragma: no cover
        store = Store(path)

        def dying(places: list[int]) -> list[int]:
            if 8 in places:
                os.kill(os.getpid(), signal.SIGKILL)
            return places

        kept(store, [f"k{n}" for n in range(20)], dying, size=4)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    asked: list[list[int]] = []

    def make(places: list[int]) -> list[int]:
        asked.append(places)
        return [10 * place for place in places]

    with Store(path) as store:
        assert len(store) == 8
        found = kept(store, [f"k{n}" for n in range(20)], make, size=4)
    assert asked == [[8, 9, 10, 11], [12, 13, 14, 15], [16, 17, 18, 19]]
    assert found == [*range(8), *(10 * n for n in range(8, 20))]


def test_equal_keys_are_made_once(tmp_path: Path) -> None:
    made: list[int] = []

    def make(places: list[int]) -> list[str]:
        made.extend(places)
        return ["ab"[place % 2] for place in places]

    with Store(tmp_path / "s.jsonl") as store:
        assert kept(store, ["x", "y", "x", "y", "x"], make) == ["a", "b", "a", "b", "a"]
        assert len(made) == 2
        assert kept(store, [], make) == []


def test_a_key_is_its_parts_its_kind_and_its_code() -> None:
    code = ("espalier.scoring",)
    plain = key_of("reward", code, "ab", "c")
    assert plain == key_of("reward", code, "ab", "c")
    others = {
        key_of("reward", code, "a", "bc"),
        key_of("perplexity", code, "ab", "c"),
        key_of("reward", (), "ab", "c"),
        key_of("reward", ("espalier.encoding",), "ab", "c"),
    }
    assert len(others) == 4 and plain not in others


def test_other_versions_of_the_libraries_make_a_result_again_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[int] = []

    def make(places: list[int]) -> list[int]:
        made.extend(places)
        return places

    def run(torch: str, count: int = 3) -> str:
        """What is said, once `count` results are there."""
        monkeypatch.setattr(importlib.metadata, "version", lambda name: torch)
        module.made_with.cache_clear()
        keys = [key_of("x", (), str(n), libraries=("torch",)) for n in range(count)]
        made.clear()
        with Store(tmp_path / "s.jsonl") as store:
            kept(store, keys, make)
        return capsys.readouterr().out

    assert run("2.12.0+cu129") == "" and made == [0, 1, 2]
    # Another build of the same version finds everything, and nothing is said of what is new.
    assert run("2.12.0+cpu", 4) == "" and made == [3]
    assert (
        "4 results in s.jsonl were made with torch 2.12.0; they are made again with torch 2.13.0"
        in (run("2.13.0", 5))
    )
    assert made == [0, 1, 2, 3, 4]
    assert run("2.13.0", 5) == "" and made == []
    # Back again: what was made then is still there.
    assert "1 results" in run("2.12.0", 5) and made == [4]


def test_lines_that_name_no_versions_are_not_taken_for_new_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store(tmp_path / "s.jsonl") as store:
        store.put(key_of("x", ()), 1)
        kept(store, [key_of("x", (), libraries=("pytest",))], lambda places: [2])
        assert len(store) == 2
    assert "made with versions that it does not name; they are made again with pytest" in (
        capsys.readouterr().out
    )


def test_absent_libraries_are_left_out() -> None:
    assert module.made_with(("pytest", "no-such-library")) == f"pytest {pytest.__version__}"
    module.made_with.cache_clear()
