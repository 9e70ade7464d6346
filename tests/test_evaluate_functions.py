"""The user's own functions: how they are called, and what is said when they fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluate_rows import made_set

from espalier.errors import StageError, UsageError
from espalier.evaluate.config_metrics import FunctionConfig
from espalier.evaluate.functions import code_of, load_function, score_function
from espalier.evaluate.metric import Scored

SOURCE = '''
def short(answer):
    """Whether it is short; says nothing of its worth."""
    return len(answer) < 5

def close(answer, reference, options, meta, prompt):
    assert prompt.startswith("prompt") and meta == {}
    return None if reference is None else options["scale"] * (answer == reference)

def together(answers, references):
    return [len(a) for a in answers]

def changes(answers):
    found = [float(len(answers.pop(0)))] + [1.0]
    return found

def few(answers):
    return [1.0]

def text(answer):
    return "1"

def large(answer):
    return 10**400

def fails(answer):
    raise KeyError("gone")
'''
ROWS = made_set(["abc", None, "x"])
ANSWERS = {"m": ["abc", "a long one", None]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def scored(file: Path, function_name: str, **options: object) -> Scored:
    config = FunctionConfig.model_validate({"function": f"{file}:{function_name}", **options})
    function = load_function(config.function)
    return score_function(config, function, ROWS, ANSWERS, code=code_of(config.function))


def test_a_function_is_a_column_with_what_it_asks_for(file: Path) -> None:
    short = scored(file, "short")
    assert short.rows["m"] == [1.0, 0.0, None]
    assert short.metric.name == "short" and "its worth" in short.metric.description
    assert "code:" in short.metric.signature
    close = scored(file, "close", options={"scale": 3}, name="near", higher_is_better=None)
    assert close.rows["m"] == [3.0, None, None]
    assert close.metric.name == "near" and not close.metric.tested
    assert "scale:3" in close.metric.signature
    assert scored(file, "together").rows["m"] == [3.0, 10.0, None]
    assert scored(file, "changes").rows["m"] == [3.0, 1.0, None]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("few", "1 values for 2"),
        ("text", "gives '1'"),
        ("fails", "KeyError: 'gone'"),
        ("large", "too large"),
    ],
)
def test_what_goes_wrong_is_said_with_its_place(file: Path, name: str, told: str) -> None:
    with pytest.raises(StageError, match=told) as caught:
        scored(file, name)
    assert "mine.py" in str(caught.value) or "gives" in str(caught.value)
    assert "stored answers" in str(caught.value)


@pytest.mark.parametrize("name", ["json:nothing", "no_such_module:f", "/none.py:f", "json:__doc__"])
def test_a_function_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(UsageError, match="function"):
        load_function(name)


def test_a_function_of_a_package_is_called(file: Path) -> None:
    config = FunctionConfig(function="builtins:len")
    assert score_function(config, load_function("builtins:len"), ROWS, ANSWERS).rows["m"] == [
        3.0, 10.0, None,
    ]  # fmt: skip
