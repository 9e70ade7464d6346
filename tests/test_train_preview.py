"""`espalier train preview`: what is shown is what training does with the rows."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml

from espalier.cli import build_parser, main
from espalier.encoding import EncodingCounts, encode_examples
from espalier.models import load_tokenizer, save_model
from espalier.records import Example, Message, PreferencePair
from espalier.templates import get_template
from espalier.terminal import Brush
from espalier.train.preview_rows import paint_row

Show = Callable[..., tuple[int, str, str]]
LONG = "the cat sat on the mat " * 8


def rows() -> list[Example]:
    talk = ["hello", "world", "你好", "世界"]
    turns = [Message("user" if i % 2 == 0 else "assistant", t) for i, t in enumerate(talk)]
    return [
        Example.single("say hello", "hello \x1b[31m <|end|>"),
        Example.single(LONG, "mat"),
        Example.make(turns),
        Example.make([Message("user", "no answer")]),
        *(Example.single(f"count {i}", f"the answer is {i}") for i in range(8)),
    ]


def pairs() -> list[PreferencePair]:
    return [
        PreferencePair.make([Message("user", f"say {i} \x9b2J")], f"hello {i}", "no", margin=0.5)
        for i in range(10)
    ] + [PreferencePair.make([Message("user", "same")], "a", "a")]


@pytest.fixture
def show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Show:
    monkeypatch.chdir(tmp_path)
    save_model(tiny.model(), tiny.tokenizer(), "espalier", tmp_path / "model")
    for name, found in (("rows", rows()), ("pairs", pairs())):
        lines = [json.dumps(row.to_json()) for row in found]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    sft = {"model": "model", "data": ["rows.jsonl"], "max_length": 40, "minibatch": 4, "epochs": 3}
    reward = {"model": "model", "pairs": ["pairs.jsonl"], "max_length": 40}
    text = yaml.safe_dump({"name": "t", "train": {"sft": sft, "reward": reward}})
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["train", "preview", "--recipe", "recipe.yaml", *words])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


def test_marks_on_a_pipe_are_the_loss_mask(show: Show) -> None:
    code, out, _ = show("--rows", "99")
    assert code == 0
    assert "\x1b" not in out
    tok = load_tokenizer("model")
    for example in rows():
        if not example.response or len(example.prompt) > 40:
            continue
        (row,) = encode_examples(tok, get_template("espalier"), [example])
        shown = paint_row(tok, row, Brush(colour=False))
        assert shown in out
        # Without the marks it is the row, and what stands in brackets is what is learnt.
        spans = re.findall(r"(?<!\\)\[\[(.*?)(?<!\\)\]\]", shown, re.DOTALL)
        learnt = [i for i, t in zip(row.ids, row.trained, strict=True) if t]
        plain = [re.sub(r"\{\{|\}\}", "", s).replace("\\x1b", "\x1b") for s in spans]
        assert "".join(plain) == tok.decode(learnt)
    assert r"[[ hello \x1b[31m <|end|>{{<|end|>}}]]" in out


def test_the_summary_counts_what_training_counts(show: Show) -> None:
    _, out, _ = show("--rows", "0")
    tok = load_tokenizer("model")
    counts = EncodingCounts()
    kept = encode_examples(tok, get_template("espalier"), rows(), max_length=40, counts=counts)
    tokens, learnt = sum(map(len, kept)), sum(row.targets for row in kept)
    assert f"rows       12: {counts.kept} to train on" in out
    assert f"1 row truncated to 40 tokens (such as {rows()[1].id})" in out
    assert f"1 row left out, without a token to train on (such as {rows()[3].id})" in out
    assert f"learnt     {learnt} of {tokens} tokens ({100 * learnt / tokens:.1f} %)" in out
    assert "steps      3 an epoch (minibatches of 4), 9 in 3 epochs" in out
    assert f"eos <|end|> ({tok.eos_token_id}), pad <|pad|> ({tok.pad_token_id})" in out
    longest = max(map(len, kept))
    assert re.search(rf"row .* {longest}\n", out)
    assert "warning" not in out


def test_a_cut_is_shown_where_it_is(show: Show) -> None:
    _, out, _ = show("--rows", "99")
    tok = load_tokenizer("model")
    (whole,) = encode_examples(tok, get_template("espalier"), [rows()[1]])
    lost = len(whole) - 40
    assert f"row 2 ({rows()[1].id}): {len(whole)} tokens, {whole.targets} learnt; cut to 40" in out
    assert f"{{{{<|user|>}}}}<<{lost} tokens cut off>>" in out
    code, out, _ = show("--rows", "99", "--set", "train.sft.over_long=drop")
    assert code == 0
    assert "left out, longer than max_length 40" in out
    _, out, _ = show("--rows", "0", "--set", "train.sft.over_long=stop")
    assert "warning: training stops: over_long is stop, and 1 rows are too long" in out


def test_a_whole_row_is_not_called_cut(show: Show) -> None:
    _, out, _ = show("--rows", "99")
    told = [line for line in out.splitlines() if line.startswith("row ") and " learnt" in line]
    assert [line.partition(" ")[2][:2] for line in told if "cut to" in line] == ["2 "]
    assert len(told) == len(rows())


def test_data_that_are_not_there_yet_name_the_command(show: Show) -> None:
    """The command is that of this recipe and run, to be copied; a path of `${data}` has none."""
    words = ("--set", "train.sft.data=[curate/train.jsonl]", "--run", "my run")
    code, _, err = show(*words)
    assert code == 2
    command = re.search(r"what to do: run it first: (espalier curate .*)", err)
    assert command and "${data}" not in err
    args = build_parser().parse_args(shlex.split(command[1])[1:])
    assert (args.verb, args.recipe, args.run) == ("curate", "recipe.yaml", "my run")
    assert args.overrides == ["train.sft.data=[curate/train.jsonl]"]
    code, _, err = show("--set", "data=x", "--set", "train.sft.data=['${data}/gone.jsonl']")
    assert code == 2
    assert "--set data=FOLDER" in err and "espalier curate" not in err


def test_the_seed_draws_the_rows(show: Show) -> None:
    assert show("--rows", "2", "--seed", "5") == show("--rows", "2", "--seed", "5")
    drawn = {show("--rows", "1", "--seed", str(seed))[1].split("row ")[1][:3] for seed in range(8)}
    assert len(drawn) > 1


def test_the_last_answer_alone(show: Show) -> None:
    _, out, _ = show("--rows", "99", "--set", "train.sft.train_on=last")
    assert "[[ world" not in out
    assert "[[ 世界{{<|end|>}}]]" in out


def test_colours_on_a_terminal(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("espalier.train.preview.wants_colour", lambda stream: True)
    _, out, _ = show("--rows", "99")
    assert "\x1b[32m 世界\x1b[0m\x1b[1;32m<|end|>\x1b[0m" in out
    assert "\x1b[31m" not in out  # the data's own
    assert "[[" not in out


def test_pairs_and_the_token_that_is_scored(show: Show) -> None:
    code, out, _ = show("--stage", "reward", "--rows", "99")
    assert code == 0
    assert r"say 3 \x9b2J{{<|end|>}}{{<|assistant|>}}[[ hello 3{{<|end|>}}]]<<score>>" in out
    assert "[[ no{{<|end|>}}]]<<score>>" in out
    assert ", margin 0.5" in out
    assert "\x9b" not in out
    assert re.search(r"pairs +\d+: \d+ to train on, 1 held out", out)


def test_warnings_before_they_cost_a_run(show: Show, tmp_path: Path) -> None:
    (tmp_path / "endless.jinja").write_text(
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: sure, ' }}{% endif %}"
    )
    _, out, _ = show("--rows", "0", "--set", "train.sft.template=endless.jinja")
    assert "in 11 of 11 rows the prompt is not what the model would be asked" in out
    (tmp_path / "endless.jinja").write_text(
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    code, out, _ = show("--rows", "0", "--set", "train.sft.template=endless.jinja")
    assert code == 0
    assert "in 11 of 11 rows the last learnt token is no special token" in out
    _, out, _ = show("--rows", "0", "--set", "train.sft.max_length=500")
    assert "warning: max_length is 500, and the model takes 128 tokens at most" in out
    _, out, _ = show("--rows", "0", "--set", "train.sft.template=chatml")
    assert "new in this model: <|im_start|>, <|im_end|>" in out


def test_a_generation_prompt_that_rows_do_not_have_is_warned_of(show: Show, tmp_path: Path) -> None:
    (tmp_path / "other.jinja").write_text(
        "{% for m in messages %}{{ '<|' + m.role + '|>' }}{% if m.role == 'assistant' %}"
        "{% generation %}{{ m.content + '<|end|>' }}{% endgeneration %}{% else %}"
        "{{ m.content + '<|end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>think ' }}{% endif %}"
    )
    _, out, _ = show("--rows", "0", "--set", "train.sft.template=other.jinja")
    assert "in 11 of 11 rows the prompt is not what the model would be asked" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "train.sft.model=base"), "The stage 'base' of this run has no model yet"),
        (("--set", "train.sft.model=nowhere/at/all"), "no such model folder"),
        (("--set", "train.sft.data=[gone.jsonl]"), "A data file of the recipe is not there"),
        (("--set", "train.sft.template=gone.jinja"), "can't be read"),
        (("--stage", "reward_eval"), "has no section 'train.reward_eval'"),
        (("--set", "train.sft.template=alpacca"), "did you mean 'alpaca'"),
    ],
)
def test_what_is_missing_is_said(show: Show, words: Any, message: str) -> None:
    code, out, err = show(*words)
    assert code == 2
    assert message in err
    assert "Traceback" not in err + out
    if "base" in message:
        assert "espalier train base" in err


def test_rankings_that_are_not_there_are_warned_of(show: Show) -> None:
    words = ("--stage", "reward", "--rows", "0")
    said = "warning: training stops: No two of"
    assert said not in show(*words)[1]
    assert said in show(*words, "--set", "train.reward.group_rankings=true")[1]


def test_validation_rows_with_a_trained_prompt_are_counted(show: Show) -> None:
    held = [Example.single("SAY hello", "x"), Example.single("say nothing", "x")]
    lines = "\n".join(json.dumps(row.to_json()) for row in held)
    Path("held.jsonl").write_text(lines, encoding="utf-8")
    out = show("--rows", "0", "--set", "train.sft.validation.data=held.jsonl")[1]
    assert "; 1 more for validation" in out
    assert "1 left out of validation, their prompts are trained on" in out
