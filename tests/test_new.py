"""`espalier new`: the recipe it writes, what it refuses, and that the recipe runs to a report."""

from __future__ import annotations

import builtins
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from own_data import bare_model, comparisons, long_talks, model_folder, share_gpt

from espalier.cli import main
from espalier.estimates import time_line
from espalier.machine import named_machine
from espalier.new_recipe import METHOD_NAMES, own_path
from espalier.recipe import load_recipe

MACHINE = ("--gpu", "80", "--yes")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    share_gpt(folder / "talks.json")
    comparisons(folder / "comparisons.jsonl")
    bare_model(folder / "model")
    return folder


@pytest.fixture(autouse=True)
def _here(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An own folder with the same material, so that nothing written stays."""
    for item in material.iterdir():
        (tmp_path / item.name).symlink_to(item)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANG", "C.UTF-8")
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)


def new(*words: str) -> int:
    return main(["new", *words])


def written(name: str = "talks.yaml") -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
    load_recipe(name)
    return loaded


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    code = new(*words)
    err = capsys.readouterr().err
    assert code == 2, err
    assert "Traceback" not in err
    return err


def test_what_it_saw_decides(capsys: pytest.CaptureFixture[str]) -> None:
    assert new("talks.json", "--model", "model", *MACHINE) == 0
    recipe = written()
    told = capsys.readouterr().out
    assert "sharegpt, 60 rows, 0 bad; en 80.0 %, zh 20.0 %" in told
    assert "next: espalier run talks.yaml" in told
    sft = recipe["train"]["sft"]
    # Several turns and no template of its own; 256 positions; 60 rows of some 30 tokens.
    assert sft["template"] == "vicuna"
    assert recipe["curate"]["dialogues"]["max_tokens"] < sft["max_length"] <= 256
    assert recipe["curate"]["holdout"] == {"count": 6}
    assert "lora" not in sft
    assert [m["name"] for m in recipe["evaluate"]["models"]] == ["base", "sft"]
    assert recipe["evaluate"]["models"][0]["template"] == "vicuna"
    assert "sweep" not in recipe


def test_every_line_of_a_choice_has_its_reason() -> None:
    assert new("talks.json", "--model", "model", *MACHINE) == 0
    text = Path("talks.yaml").read_text(encoding="utf-8")
    for key in ("max_length", "epochs", "minibatch", "learning_rate", "token_budget", "template"):
        assert re.search(rf"^ +{key}: .*  # \w", text, re.MULTILINE), key


@pytest.mark.parametrize(
    "compare",
    [
        "sft", "lora", "qlora", "prompt-tuning", "freeze", "sft,lora", "lora,sft",
        "sft,lora,qlora,prompt-tuning,freeze", "sft,ppo", "lora,ppo", "sft,lora,ppo", "ppo",
    ],
)  # fmt: skip
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_comparison_is_a_valid_recipe(compare: str, language: str) -> None:
    files = ["talks.json", *(["comparisons.jsonl"] if "ppo" in compare else [])]
    words = ["--model", "model", "--compare", compare, "--language", language]
    assert new(*files, *words, *MACHINE) == 0
    recipe = written()
    methods = [name for name in compare.split(",") if name != "ppo"] or ["sft"]
    names = [m["name"] for m in recipe["evaluate"]["models"]]
    assert names == ["base", "sft", *(["ppo"] if "ppo" in compare else [])]
    assert ("ppo" in recipe["train"]) == ("ppo" in compare)
    if len(methods) > 1:
        told = [METHOD_NAMES[name][language == "zh"] for name in methods]
        assert list(recipe["sweep"]["variants"]) == told
        assert not set(told) & set(names)
        assert recipe["sweep"]["seeds"] == 3
        # The last training of each run answers; it is what all others are made for.
        assert recipe["sweep"]["answer"]["model"] == names[-1]
        question = recipe["sweep"]["question"]
        assert all(("PPO" in text) == ("ppo" in compare) for text in question.values())
        assert all(METHOD_NAMES[name][0] in question["en"] for name in methods)
        assert all(METHOD_NAMES[name][1] in question["zh"] for name in methods)
    else:
        assert "sweep" not in recipe
    text = Path("talks.yaml").read_text(encoding="utf-8")
    assert ("模型" in text) == (language == "zh")
    assert ("百万词元" in text) == (language == "zh")
    assert ("million tokens" in text) == (language == "en")


def test_variants_undo_what_the_first_method_set() -> None:
    """Each variant laid over the recipe is that method alone."""
    compare = "lora,sft,prompt-tuning,freeze"
    assert new("talks.json", "--model", "model", "--compare", compare, *MACHINE) == 0
    recipe = written()
    rates = {}
    told = {METHOD_NAMES[name][0]: name for name in compare.split(",")}
    for variant, keys in recipe["sweep"]["variants"].items():
        name = told[variant]
        settings = [f"{key}={json.dumps(value)}" for key, value in keys.items()]
        sft = load_recipe("talks.yaml", settings).section("train.sft")
        kinds = {
            "lora": sft.lora is not None,
            "prompt-tuning": sft.prompt_tuning is not None,
            "freeze": sft.freeze_layers is not None,
        }
        assert [kind for kind, there in kinds.items() if there] == [name] * (name != "sft")
        rates[name] = sft.learning_rate
    assert rates["lora"] == pytest.approx(10 * rates["sft"])
    assert rates["freeze"] == rates["sft"]
    # 200 times the rate of a model this small would be 0.2: far above what embeddings measure.
    assert rates["prompt-tuning"] == 0.03


def test_seeds_make_a_sweep() -> None:
    assert new("talks.json", "--model", "model", "--seeds", "2", *MACHINE) == 0
    sweep = written()["sweep"]
    assert sweep["seeds"] == 2
    assert sweep["answer"]["models"] == ["base", "sft"]


def test_repeats_of_ppo_have_seeds_of_their_own() -> None:
    words = ["--model", "model", "--compare", "ppo", "--seeds", "2", *MACHINE]
    assert new("talks.json", "comparisons.jsonl", *words) == 0
    sweep = written()["sweep"]
    assert sweep["reseed"] == ["train.sft.seed", "train.ppo.seed"]
    assert sweep["answer"]["models"] == ["base", "ppo"]


def test_names_of_the_hub_are_no_paths() -> None:
    assert own_path("hf://owner/name") == "hf://owner/name"
    assert own_path("here/./name") == "here/name"


def test_a_test_set_of_ones_own() -> None:
    share_gpt(Path("test.json"), 9)
    assert new("talks.json", "--model", "model", "--eval", "test.json", *MACHINE) == 0
    recipe = written()
    assert recipe["evaluate"]["set"] == "test.json"
    assert recipe["curate"]["decontaminate"]["against"] == ["test.json"]
    assert "holdout" not in recipe["curate"]


def test_lora_where_memory_needs_it() -> None:
    """Seven billion parameters: all weights take eight GPUs of 80 GiB, adapters one of 80, in
    four bits one of 24."""
    for machine, expected in (("8x80", "full"), ("80", "lora"), ("24", "qlora")):
        words = ["--model", "owner/model-7b", "--gpu", machine, "--output", f"{machine}.yaml"]
        assert new("talks.json", *words, "--yes") == 0
        sft = written(f"{machine}.yaml")["train"]["sft"]
        kind = "full" if "lora" not in sft else "qlora" if "quantise" in sft["lora"] else "lora"
        assert kind == expected
        assert ("distributed" in sft) == (machine == "8x80")


def test_ppo_in_the_fullest_form_that_fits() -> None:
    """Of three billion parameters 40 bytes each, of seven adapters alone fit 80 GiB."""
    files = ("talks.json", "comparisons.jsonl")
    for model, expected in (("m-3b", ()), ("m-7b", ("lora", "critic"))):
        machine = "141" if model == "m-3b" else "80"
        words = ["--model", f"owner/{model}", "--compare", "lora,ppo", "--gpu", machine, "--yes"]
        assert new(*files, *words, "--output", f"{model}.yaml") == 0
        ppo = written(f"{model}.yaml")["train"]["ppo"]
        assert tuple(key for key in ("lora", "critic") if key in ppo) == expected


def test_too_large_is_said_with_figures(capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, "talks.json", "--model", "owner/model-70b", "--gpu", "24", "--yes")
    assert "too large" in told
    assert "70.0 billion parameters" in told
    assert re.search(r"at most \d+ GiB a GPU; it needs at least: sft about [\d,]+ GiB, lora", told)
    words = ["--model", "owner/model-7b", "--compare", "sft", "--gpu", "24", "--yes"]
    assert "--compare lora" in refused(capsys, "talks.json", *words)
    words = ["--model", "owner/model-7b", "--compare", "qlora,ppo", "--gpu", "24", "--yes"]
    both = ("talks.json", "comparisons.jsonl")
    assert "PPO with this model is too large" in refused(capsys, *both, *words)
    words = ["--model", "owner/model-7b", "--compare", "sft,lora", "--gpu", "8x80", "--yes"]
    told = refused(capsys, "talks.json", *words)
    assert "runs of a sweep have one GPU each" in told
    assert "--compare lora" in told
    assert not list(Path().glob("*.yaml"))


def test_money(capsys: pytest.CaptureFixture[str]) -> None:
    machine = named_machine("8xa100-80")
    told = time_line(7200, machine, 2.5)
    assert told == "time: about 2.0 h (rough), 16.0 GPU hours, $40.00 at 2.5 an hour"
    words = ["--model", "owner/model-7b", "--gpu", "8xa100-80", "--price", "2"]
    assert new("talks.json", *words, "--yes") == 0
    assert re.search(r"\$[\d.]+ at 2 an hour", capsys.readouterr().out)


def test_an_unknown_model_of_the_hub(capsys: pytest.CaptureFixture[str]) -> None:
    assert new("talks.json", "--model", "owner/model", *MACHINE) == 0
    assert written()["train"]["sft"]["model"] == "owner/model"
    assert "nothing is known of it" in capsys.readouterr().out


def test_nothing_is_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    Path("talks.yaml").write_text("mine\n", encoding="utf-8")
    told = refused(capsys, "talks.json", "--model", "model", *MACHINE)
    assert "not overwritten" in told
    assert Path("talks.yaml").read_text(encoding="utf-8") == "mine\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "No data file"),
        (["talks.json"], "No base model"),
        (["gone.json", "--model", "model"], "gone.json"),
        (["talks.json", "--model", "gone/folder/x"], "no such model folder"),
        (["talks.json", "--model", "empty"], "not a model"),
        (["nothing.jsonl", "--model", "model"], "no rows"),
        (["strange.jsonl", "--model", "model"], "format of the file is unknown"),
        (["unanswered.jsonl", "--model", "model"], "No row of the file has an answer"),
        (["comparisons.jsonl", "--model", "model"], "preference pairs alone"),
        (["talks.json", "--model", "model", "--compare", "magic"], "nothing that can be compared"),
        (["talks.json", "--model", "model", "--compare", "sft,ppo"], "no file of preference pairs"),
        (["talks.json", "comparisons.jsonl", "--model", "model", "--compare", "prompt-tuning,ppo"],
         "virtual tokens"),
        (["talks.json", "--model", "model", "--gpu", "abacus"], "no GPU that is known"),
        (["talks.json", "--model", "model", "--output", "talks.json/x.yaml"], "can't be written"),
        (["talks.json", "--model", "model", "--output", f"{'x' * 300}.yaml"], "can't be written"),
        (["talks.json", "--model", "model", "--eval", "talks.json"], "holds all of the data"),
        (["talks.json", "--model", "model", "--output", "x.txt"], "ends in .yaml"),
        (["talks.json", "--model", "model", "--eval", "comparisons.jsonl"], "test set"),
    ],
)  # fmt: skip
def test_mistakes(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    Path("empty").mkdir()
    Path("nothing.jsonl").write_text("", encoding="utf-8")
    Path("strange.jsonl").write_text('{"colour": "red"}\n', encoding="utf-8")
    Path("unanswered.jsonl").write_text('{"instruction": "Hi.", "output": ""}\n', encoding="utf-8")
    machine = [] if "--gpu" in words else ["--gpu", "80"]
    told = refused(capsys, *words, *machine, "--yes")
    assert said in told
    assert not list(Path().glob("*.yaml"))


def test_no_qlora_without_a_gpu(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    words = ["--model", "model", "--compare", "qlora", "--yes"]
    assert "needs a GPU" in refused(capsys, "talks.json", *words)


def test_hostile_names() -> None:
    """A file name is text: no part of it is read as YAML or as a terminal's command."""
    name = "it's: [a] #\n\x1b[31m 数据.json"
    share_gpt(Path(name))
    assert new(name, "--model", "model", "--output", "out.yaml", *MACHINE) == 0
    recipe = written("out.yaml")
    assert recipe["curate"]["sources"][0]["path"] == name
    assert set(recipe) == {
        "name", "description", "seed", "curate", "train", "evaluate", "report",
    }  # fmt: skip
    assert "\x1b" not in Path("out.yaml").read_text(encoding="utf-8")


def test_a_folder_called_like_a_stage() -> None:
    """`curate/x.json` in a recipe is a file of the run, so this one is written with its place."""
    Path("curate").mkdir()
    share_gpt(Path("curate/x.json"))
    assert new("curate/x.json", "--model", "model", *MACHINE) == 0
    path = written("x.yaml")["curate"]["sources"][0]["path"]
    assert Path(path).is_absolute()
    assert Path(path).is_file()


def test_bad_rows_and_languages() -> None:
    rows = json.loads(Path("talks.json").read_text(encoding="utf-8"))
    rows += [{"conversations": "none"}] * 3
    rows += [{"conversations": [{"from": "human", "value": "Привет, как дела?"},
                                {"from": "gpt", "value": "Хорошо, спасибо."}]}]  # fmt: skip
    Path("more.json").write_text(json.dumps(rows), encoding="utf-8")
    assert new("more.json", "--model", "model", *MACHINE) == 0
    text = Path("more.yaml").read_text(encoding="utf-8")
    source = written("more.yaml")["curate"]["sources"][0]
    assert source["on_bad_row"] == "quarantine"
    assert "3 rows can't be read" in text
    assert "# filters: {languages: [en, zh]}" in text


def test_what_bounds_the_longest_row() -> None:
    """Rows of 400 tokens and a model of 256 positions."""
    rows = [
        {"instruction": f"Say {n}.", "output": "one two three " * 80 + str(n)} for n in range(20)
    ]
    Path("long.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert new("long.jsonl", "--model", "model", *MACHINE) == 0
    assert written("long.yaml")["train"]["sft"]["max_length"] == 256
    assert "max_length: 256  # the model takes no more" in Path("long.yaml").read_text("utf-8")


def test_one_row_is_too_few(capsys: pytest.CaptureFixture[str]) -> None:
    share_gpt(Path("one.json"), 1)
    assert "one row" in refused(capsys, "one.json", "--model", "model", *MACHINE)
    share_gpt(Path("two.json"), 2)
    assert new("two.json", "--model", "model", *MACHINE) == 0


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Types the answers at the questions, then ends the input (or raises what is among them);
    the list fills with the questions."""

    def typed(*answers: str | type[BaseException]) -> list[str]:
        asked: list[str] = []
        left = iter(answers)

        def answer(question: str = "") -> str:
            asked.append(question)
            said = next(left, EOFError)
            if isinstance(said, str):
                return said
            raise said

        monkeypatch.setattr(builtins, "input", answer)
        for stream in ("stdin", "stdout"):
            monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True, raising=False)
        return asked

    return typed


def test_questions(terminal: Callable[..., list[str]]) -> None:
    asked = terminal("talks.json", "model", "lora", "", "asked.yaml")
    assert new("--gpu", "80", "--language", "zh") == 0
    assert len(asked) == 5
    assert "数据文件" in asked[0]
    assert written("asked.yaml")["train"]["sft"]["lora"]["r"] == 16


def test_a_wrong_answer_is_asked_for_again(
    terminal: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each question, with what is wrong beside what is right at the next try."""
    Path("taken.yaml").write_text("mine\n", encoding="utf-8")
    tries = {
        "Data file": ["", "talk.json", "comparisons.jsonl", "talks.json"],
        "Base model": ["", "./modle", "model"],
        "Compare with": ["magic", "ppo", "sft，lora"],
        "Test set": ["gone.json", "comparisons.jsonl", ""],
        "Recipe to write": ["taken.yaml", "taken.txt", ""],
    }
    asked = terminal(*(answer for answers in tries.values() for answer in answers))
    assert new("--gpu", "80") == 0
    shown = [next(name for name in tries if question.startswith(name)) for question in asked]
    assert shown == [name for name, answers in tries.items() for _ in answers]
    lines = capsys.readouterr().out.splitlines()
    wrong = sum(len(answers) - 1 for answers in tries.values())
    for line, said in zip(
        lines[:wrong],
        [
            "has to be named", "did you mean talks.json?", "preference pairs alone",
            "has to be named", "no such model folder", "'magic' is nothing", "PPO needs",
            "does not exist", "test set is a file of preference pairs", "not overwritten", ".yaml",
        ],
        strict=True,
    ):  # fmt: skip
        assert said in line
    assert lines[wrong].startswith("Data: talks.json")
    assert list(written()["sweep"]["variants"]) == ["all weights", "LoRA"]


def test_a_wrong_flag_is_told_before_the_questions_after_it(
    terminal: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = terminal()
    assert "gone.json" in refused(capsys, "gone.json")
    assert "no GPU that is known" in refused(capsys, "--gpu", "abacus")
    assert "no such model folder" in refused(capsys, "talks.json", "--model", "./gone")
    Path("taken.yaml").touch()
    assert "not overwritten" in refused(capsys, "--output", "taken.yaml")
    assert not asked


def test_the_input_ends_at_a_question(
    terminal: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal()
    assert "No data file" in refused(capsys)
    terminal("talks.json")
    assert "No base model" in refused(capsys)
    # What has a default takes it.
    terminal("talks.json", "model")
    assert new("--gpu", "80") == 0
    assert written()["name"] == "talks"


def test_an_interrupt_at_a_question_leaves_nothing(
    terminal: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal("talks.json", KeyboardInterrupt)
    assert new("--gpu", "80") == 130
    said = capsys.readouterr().err
    assert "interrupted; nothing was written" in said
    assert "goes on" not in said
    assert not list(Path().glob("*.yaml"))


@pytest.mark.parametrize("between", ["、", "，", ", ", " ", " 、 "])
def test_signs_between_the_names_of_a_list(between: str) -> None:
    compare = between.join(("lora", "sft", "prompt-tuning"))
    assert new("talks.json", "--model", "model", "--compare", compare, *MACHINE) == 0
    assert list(written()["sweep"]["variants"]) == ["LoRA", "all weights", "learnt prompt"]


@pytest.mark.parametrize("model", ["./gone", "empty", "gone/folder/x"])
def test_a_wrong_model_is_told_what_to_do(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert "what to do: " in refused(capsys, "talks.json", "--model", model, *MACHINE)


def lengths(path: Path, answers: list[int]) -> None:
    """Rows whose answers have so many words of one token."""
    rows = [
        {"instruction": f"Say {n}.", "output": " ".join(["bread"] * size)}
        for n, size in enumerate(answers)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def comment_of(key: str, name: str) -> str:
    found = re.search(rf"^ *{key}: .*?  # (.*)$", Path(name).read_text("utf-8"), re.MULTILINE)
    assert found
    return found[1]


def test_what_lengths_cover_is_told() -> None:
    """All rows and answers where that is so; else a part of them, or what the model allows."""
    lengths(Path("even.jsonl"), [20] * 40)
    assert new("even.jsonl", "--model", "model", *MACHINE) == 0
    assert comment_of("max_length", "even.yaml") == "covers all rows"
    assert "no last answer of the data is longer" in comment_of("sampling", "even.yaml")
    # One answer of 200 is far longer than the others.
    lengths(Path("odd.jsonl"), [2] * 199 + [90])
    assert new("odd.jsonl", "--model", "model", *MACHINE) == 0
    assert written("odd.yaml")["evaluate"]["sampling"]["max_tokens"] < 90
    assert comment_of("max_length", "odd.yaml").startswith("covers 99 % of the rows; longer rows")
    assert "95 % of the data's last answers are no longer" in comment_of("sampling", "odd.yaml")
    # The model takes 256 tokens: an answer may have half of them.
    lengths(Path("long.jsonl"), [150] * 40)
    assert new("long.jsonl", "--model", "model", *MACHINE) == 0
    assert written("long.yaml")["evaluate"]["sampling"]["max_tokens"] == 128
    assert "half of the positions" in comment_of("sampling", "long.yaml")


def test_explain_shows_the_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    assert new("talks.json", "--model", "model", *MACHINE) == 0
    capsys.readouterr()
    assert main(["recipe", "explain", "talks.yaml", "--gpu", "a100-80", "--price", "2"]) == 0
    plan = capsys.readouterr().out.split("# plan")[1]
    assert re.search(r"model: llama, [\d,]+ parameters, 256 positions", plan)
    assert "rows as they are before curation:" in plan
    assert re.search(r"60 rows of \d+ tokens on average, 3 epochs: \d+ steps of 4 rows", plan)
    assert re.search(r"memory of a step: about [\d.]+ GiB \(.*\) of 80", plan)
    assert "time: under a minute (rough), $" in plan
    # Steps that are given count, not epochs.
    words = ["--gpu", "a100-80", "--set", "train.sft.steps=31"]
    assert main(["recipe", "explain", "talks.yaml", *words]) == 0
    assert ": 31 steps of 4 rows" in capsys.readouterr().out.split("# plan")[1]


ROWS = r"([\d,]+) rows of ([\d,]+) tokens on average, ([\d.]+) epochs?: ([\d,]+) steps of (\d+)"


def announced(text: str) -> list[float]:
    """Rows, mean tokens, epochs, steps and rows a step, as an estimate has them."""
    found = re.search(ROWS, text)
    assert found, text
    return [float(number.replace(",", "")) for number in found.groups()]


@pytest.mark.parametrize("held", ["of the data", "a file"])
def test_split_dialogues_are_what_is_trained_on(
    held: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dialogues of six exchanges, of which a row holds one or two: what `new` announces is what
    `recipe explain` finds once curation has split them."""
    long_talks(Path("long.json"))
    share_gpt(Path("test.json"), 20)
    words = ["--eval", "test.json"] if held == "a file" else []
    assert new("long.json", "--model", "model", *words, *MACHINE) == 0
    told = capsys.readouterr().out
    text = Path("long.yaml").read_text(encoding="utf-8")
    assert main(["recipe", "explain", "long.yaml", "--gpu", "80"]) == 0
    before = announced(capsys.readouterr().out.split("# plan")[1])
    assert main(["curate", "--recipe", "long.yaml"]) == 0
    capsys.readouterr()
    assert main(["recipe", "explain", "long.yaml", "--gpu", "80"]) == 0
    after = announced(capsys.readouterr().out.split("# plan")[1])
    expected = announced(told)
    assert after[0] > 2 * 80
    assert expected == pytest.approx(after, rel=0.05)
    # Before curation nothing is held out yet.
    assert before[1] == pytest.approx(after[1], rel=0.05)
    assert before[0] == pytest.approx(after[0] / (0.9 if held == "of the data" else 1), rel=0.05)
    assert f"rows a step: {expected[3]:,.0f} steps" in text
    assert "the model takes no more; longer dialogues are split between turns" in text
    assert "100.0 % of the rows are longer than" in told


def test_rows_with_the_prompts_of_held_out_ones_are_not_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every question stands in three dialogues, after another answer: with a held-out one the two
    others go, as curation removes them as well."""
    speakers = ("human", "gpt") * 2
    rows = []
    for number in range(120):
        asked = f"Tell me about the {number // 3} towns there.", "And what do people eat?"
        said = asked[0], f"They are {number} in all.", asked[1], f"Rice, {number} kinds of it."
        turns = [{"from": a, "value": b} for a, b in zip(speakers, said, strict=True)]
        rows.append({"id": str(number), "conversations": turns})
    Path("same.json").write_text(json.dumps(rows), encoding="utf-8")
    assert new("same.json", "--model", "model", *MACHINE) == 0
    expected = announced(capsys.readouterr().out)
    assert main(["curate", "--recipe", "same.yaml"]) == 0
    capsys.readouterr()
    assert main(["recipe", "explain", "same.yaml", "--gpu", "80"]) == 0
    after = announced(capsys.readouterr().out.split("# plan")[1])
    # A tenth is held out; another draw takes other questions.
    assert after[0] < 90
    assert expected == pytest.approx(after, rel=0.1)


def test_rows_that_the_test_set_has_are_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Of 40 dialogues 30 are in the test set, where curation finds them as well."""
    rows = json.loads(long_talks(Path("long.json"), 40).read_text(encoding="utf-8"))
    Path("test.json").write_text(json.dumps(rows[:30]), encoding="utf-8")
    assert new("long.json", "--model", "model", "--eval", "test.json", *MACHINE) == 0
    told = capsys.readouterr().out
    parts = re.search(r"are split: (\d+) rows from 40", told)
    assert parts
    assert "75.0 % of the rows share questions or passages with the test set" in told
    assert main(["curate", "--recipe", "long.yaml"]) == 0
    left = Path("runs/long/curate/train.jsonl").read_text(encoding="utf-8").splitlines()
    assert announced(told)[0] == len(left) == pytest.approx(int(parts[1]) / 4, rel=0.05)


def test_a_test_set_with_a_bad_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Curation would stop there: what it can't read it can't keep rows away from."""
    rows = json.loads(Path("talks.json").read_text(encoding="utf-8"))
    Path("test.json").write_text(
        json.dumps([*rows[:3], {"conversations": "none"}]), encoding="utf-8"
    )
    told = refused(capsys, "talks.json", "--model", "model", "--eval", "test.json", *MACHINE)
    assert "test.json" in told


def test_no_exchange_fits(capsys: pytest.CaptureFixture[str]) -> None:
    long_talks(Path("long.json"), 5, words=90)
    for more in ([], ["--eval", "talks.json"]):
        words = ["--model", "model", *more, *MACHINE]
        assert "short enough" in refused(capsys, "long.json", *words)


def test_runs_do_not_share_a_name() -> None:
    """Each recipe has a run folder of its own: versions, kept letters, runs that are there, and
    the recipes that come along."""
    Path("recipes").mkdir()
    Path("recipes/demo.yaml").write_text("train: {}", encoding="utf-8")
    Path("runs/kept").mkdir(parents=True)
    words = ("--model", "model", *MACHINE)
    names = {}
    for output in ("mine.v1", "mine.v2", "demo", "kept", "a b", "a-b", "数据"):
        assert new("talks.json", *words, "--output", f"{output}.yaml") == 0
        names[output] = written(f"{output}.yaml")["name"]
    assert len(set(names.values())) == len(names)
    assert (names["mine.v1"], names["a-b"], names["数据"]) == ("mine.v1", "a-b", "数据")
    assert (names["demo"], names["kept"]) == ("demo-2", "kept-2")
    share_gpt(Path("talks.v1.json"))
    assert new("talks.v1.json", *words) == 0
    assert written("talks.v1.yaml")["name"] == "talks.v1"


def test_a_recipe_that_can_not_be_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path.open

    def full(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if mode == "x":
            raise OSError(28, "No space left on device")
        return whole(path, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", full)
    told = refused(capsys, "talks.json", "--model", "model", *MACHINE)
    assert "can't be written: No space left on device" in told
    assert "--output" in told


def test_explain_of_every_training(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", "model", "--compare", "sft,ppo", *MACHINE]
    assert new("talks.json", "comparisons.jsonl", *words) == 0
    first = re.findall(r"Estimate, (?:reward|reward_eval|ppo): (\d+ .*)", capsys.readouterr().out)
    assert main(["recipe", "explain", "talks.yaml", "--gpu", "80"]) == 0
    plan = capsys.readouterr().out.split("# plan")[1]
    assert len(first) == 3
    assert all(line in plan for line in first)
    assert plan.count("memory of a step") == 4
    assert plan.count("time:") == 4
    # 40 pairs, 8 of them for the evaluation's reward model, 5 % of each set aside.
    assert plan.count("pairs as they are before curation:") == 2
    assert re.findall(r"([\d,]+) rows of \d+ tokens on average, 1 epoch", plan) == ["30", "8"]
    assert "30 iterations of 128 episodes, learnt from 2 times" in plan
    assert "answers of 16 at most" in plan


@pytest.mark.parametrize("virtual", ["prompt_tuning={tokens: 4}", "adapter={kind: prefix}"])
def test_no_ppo_on_virtual_tokens(virtual: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", "model", "--compare", "sft,ppo", *MACHINE]
    assert new("talks.json", "comparisons.jsonl", *words) == 0
    changed = ["--set", f"train.sft.{virtual}"]
    assert main(["recipe", "validate", "talks.yaml", *changed]) == 2
    assert "virtual tokens can't be merged" in capsys.readouterr().err
    # A policy of other weights does not go on from them.
    other = ["--set", "train.ppo.model=model"]
    assert main(["recipe", "validate", "talks.yaml", *changed, *other]) == 0


@pytest.mark.parametrize(
    ("changes", "weights"),
    [
        ([], 4 * 4),  # policy, reference, critic, reward model
        (["train.ppo.lora={r: 4}"], 3 * 4),  # its own reference
        (["train.ppo.lora={r: 4}", "train.ppo.critic=shared"], 2 * 4),  # no critic either
    ],
)
def test_explain_of_ppo_counts_the_networks_that_are_held(
    changes: list[str], weights: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new("talks.json", "comparisons.jsonl", "--model", "model", "--compare", "sft,ppo") == 0
    sets = [word for change in changes for word in ("--set", change)]
    model = ["--set", "train.sft.model=someone/model-7b"]
    assert main(["recipe", "explain", "talks.yaml", "--gpu", "80", *model, *sets]) == 0
    last = re.findall(r"\(.*weights ([\d.]+).*\) of 80", capsys.readouterr().out)[-1]
    assert float(last) == pytest.approx(weights * 7e9 / 2**30, rel=0.05)


@pytest.mark.slow
def test_from_a_file_and_a_folder_to_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    model_folder(Path("whole"))
    assert new("talks.json", "--model", "whole", "--yes") == 0
    assert main(["run", "talks.yaml"]) == 0
    assert "report: runs/talks/report.html" in capsys.readouterr().out
    summary = json.loads(Path("runs/talks/evaluate/summary.json").read_text(encoding="utf-8"))
    assert summary
    counts = json.loads(Path("runs/talks/sft/manifest.json").read_text(encoding="utf-8"))["counts"]
    assert not counts["data"]["truncated"]
    # What was announced is what was trained, but for dialogues that were split or rejected.
    text = Path("talks.yaml").read_text(encoding="utf-8")
    announced = int(re.findall(r"sft: (\d+) rows", text)[0])
    assert counts["rows"] == pytest.approx(announced, abs=6)
