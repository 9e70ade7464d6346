"""Members of a sweep: grids, variants, seeds and draws; names; what is refused, and where."""

from __future__ import annotations

import itertools
import re
import shlex
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import yaml

from espalier.cli import build_parser
from espalier.cli_sweep import laid_over, levels_of
from espalier.errors import UsageError
from espalier.recipe import Draft, draft_recipe
from espalier.sweep_config import Draw, SweepConfig
from espalier.sweep_file import VARIANT
from espalier.sweep_members import Plan, plan_sweep
from espalier.sweep_names import labels, level_name, member_name, told_apart

BASE: dict[str, Any] = {
    "name": "r",
    "seed": 3,
    "train": {
        "sft": {"model": "m", "data": ["rows.jsonl"]},
        "ppo": {"reward": "r", "prompts": "p"},
    },
}


def draft(**sweep: Any) -> Draft:
    return Draft({**BASE, **({"sweep": sweep} if sweep else {})}, None, {})


def plan(**sweep: Any) -> Plan:
    return plan_sweep(draft(**sweep))


def options(made: Plan, key: str) -> list[Any]:
    section, _, name = key.rpartition(".")
    return [getattr(member.recipe.section(section), name) for member in made.members]


# --- grids, variants, seeds ------------------------------------------------------------------


def test_a_grid_has_every_combination_and_all_of_the_first_seed_come_first() -> None:
    made = plan(over={"train.sft.epochs": [1, 2], "train.sft.max_length": [64, 128, 256]}, seeds=2)
    wanted = [
        (seed, epochs, length)
        for seed in (3, 4)
        for epochs, length in itertools.product((1, 2), (64, 128, 256))
    ]
    found = zip(
        (member.recipe.shared.seed for member in made.members),
        options(made, "train.sft.epochs"),
        options(made, "train.sft.max_length"),
        strict=True,
    )
    assert list(found) == wanted
    assert [(m.seed, *m.settings.values()) for m in made.members] == wanted
    assert [(f.key, f.label, f.levels, f.draw) for f in made.factors] == [
        ("train.sft.epochs", "epochs", [1, 2], False),
        ("train.sft.max_length", "max_length", [64, 128, 256], False),
    ]


def test_variants_are_run_with_all_combinations_and_null_takes_a_section_out() -> None:
    made = plan(
        variants={"all": {}, "no-ppo": {"train.ppo": None, "train.sft.epochs": 7}},
        over={"train.sft.max_length": [64, 128]},
    )
    assert [member.settings[VARIANT] for member in made.members] == ["all", "all", *["no-ppo"] * 2]
    assert [m.recipe.section("train.ppo") is None for m in made.members] == [False] * 2 + [True] * 2
    assert options(made, "train.sft.epochs")[2:] == [7, 7]
    assert made.factors[0].levels == ["all", "no-ppo"]
    assert [member.name for member in made.members][:3] == [
        "all_max_length-64_s3",
        "all_max_length-128_s3",
        "no-ppo_max_length-64_s3",
    ]


def test_members_are_recipes_without_a_sweep_that_share_their_name() -> None:
    titles = {"a": {"report.title": "a"}, "b": {"report.title": None, "train.sft.max_length": 64}}
    made = plan(variants=titles, over={"train.sft.epochs": [1, 2]})
    for member in made.members:
        assert member.recipe.section("sweep") is None
        assert member.recipe.shared.name == "r"
    told = [member.recipe.section("report.title") for member in made.members]
    assert told[0] == f"a: {made.members[0].name}" and told[2] == made.members[2].name
    assert plan(seeds=2).members[0].recipe.section("report") is None


def test_given_seeds_are_taken_and_reseed_says_which_keys_get_them() -> None:
    made = plan(seeds=[9, 5], reseed=["train.sft.seed", "train.ppo.seed"])
    assert [member.seed for member in made.members] == [9, 5]
    assert {member.recipe.shared.seed for member in made.members} == {3}
    assert options(made, "train.sft.seed") == options(made, "train.ppo.seed") == [9, 5]


def test_a_section_that_a_variant_takes_out_is_not_put_back_by_its_seed() -> None:
    made = plan(
        variants={"sft": {"train.ppo": None}, "ppo": {}},
        reseed=["train.sft.seed", "train.ppo.seed"],
    )
    assert made.members[0].recipe.section("train.ppo") is None
    assert options(made, "train.sft.seed") == [3, 3]
    with pytest.raises(UsageError, match="none of the sections that get a repeat's seed"):
        plan(variants={"a": {"train.ppo": None}, "b": {}}, reseed=["train.ppo.seed"])


def test_numbers_that_yaml_takes_for_text_are_numbers() -> None:
    made = plan(over={"train.sft.learning_rate": ["1e-5", "2e-4"]})
    assert made.factors[0].levels == [1e-5, 2e-4]
    assert options(made, "train.sft.learning_rate") == [1e-5, 2e-4]


# --- draws -----------------------------------------------------------------------------------


def drawn(count: int, **over: Any) -> list[dict[str, Any]]:
    return [member.settings for member in plan(over=over, draws=count).members]


def test_draws_stay_the_same_when_there_are_more() -> None:
    rate = {"train.sft.learning_rate": {"low": 1e-6, "high": 1e-3, "log": True}}
    few, many = drawn(5, **rate), drawn(40, **rate)
    assert many[:5] == few
    values = [next(iter(point.values())) for point in many]
    assert len(set(values)) == 40
    assert all(1e-6 <= value <= 1e-3 for value in values)
    # Half of a logarithmic range lies below its geometric mean; binomial(40, .5) within 5 sigma.
    assert 4 < sum(value < 3.16e-5 for value in values) < 36


def test_draws_of_a_small_space_have_no_repeats_and_end() -> None:
    points = drawn(
        50, **{"train.sft.epochs": [1, 2], "train.sft.max_length": {"low": 64, "high": 66,
                                                                     "whole": True}}
    )  # fmt: skip
    told = [tuple(point.values()) for point in points]
    assert sorted(told) == sorted(itertools.product((1, 2), (64, 65, 66)))


def test_each_drawn_point_is_run_with_each_seed() -> None:
    made = plan(over={"train.sft.learning_rate": {"low": 1e-5, "high": 1e-4}}, draws=3, seeds=2)
    assert [m.seed for m in made.members] == [3, 3, 3, 4, 4, 4]
    assert [m.settings for m in made.members[:3]] == [m.settings for m in made.members[3:]]
    levels = made.factors[0].levels
    assert made.factors[0].draw and levels == sorted(levels) and len(levels) == 3


# --- names -----------------------------------------------------------------------------------


def test_labels_are_the_shortest_ends_that_differ() -> None:
    keys = ["train.sft.seed", "train.ppo.seed", "train.sft.epochs", "seed", "variant"]
    assert labels(keys) == {
        "train.sft.seed": "sft.seed",
        "train.ppo.seed": "ppo.seed",
        "train.sft.epochs": "epochs",
        "seed": "seed",
        "variant": "variant",
    }


def test_an_extended_sweep_keeps_its_names() -> None:
    first = plan(over={"train.sft.epochs": [1, 2]})
    later = plan(over={"train.sft.epochs": [4, 2, 1]}, seeds=3)
    assert {m.name for m in first.members} < {m.name for m in later.members}


LEVELS = [
    None, True, False, 0, 1, 64, -3, 1.0, 1e-5, 0.1 + 0.2, float("inf"), "", " ", ".", "..", "-x",
    "1", "1.0", "null", "True", "true", "a/b", "a-b", "a\\b", "A-B", "../../etc", "~", "x\ny",
    "\x1b[31m", "去重", "資料", "한국어", "ก", "e\u0301", "\u00e9", "\u202eabc",
    "x" * 300, "x" * 301, [1], [1, 2], {"a": 1},
]  # fmt: skip


def test_names_are_safe_and_differ_where_levels_do() -> None:
    settings = [{"a.b": level} for level in LEVELS]
    names = told_apart([member_name(one, {"a.b": "b"}, 1) for one in settings], settings)
    assert len({unicodedata.normalize("NFC", name).casefold() for name in names}) == len(LEVELS)
    for name in names:
        assert Path(name).name == name and name not in (".", "..") and len(name.encode()) < 200
        assert not name.startswith((".", "-")) and name.isprintable() and " " not in name


def test_levels_are_readable_in_names() -> None:
    assert level_name(1e-5) == "1e-05"
    assert level_name(True) == "true" and level_name(None) == "null" and level_name(64) == "64"
    assert level_name("去重") == "去重"
    assert level_name("no filters, no judge") == "no-filters-no-judge"
    assert level_name(-3) == "-3" and level_name(-1e-5) == "-1e-05"
    settings = [{VARIANT: "a/b"}, {VARIANT: "a-b"}, {VARIANT: "c"}]
    names = told_apart([member_name(one, {}, 1) for one in settings], settings)
    assert len(set(names)) == 3 and names[2] == "c_s1"


# --- the recipes -----------------------------------------------------------------------------


def test_the_sweeps_of_all_recipes_can_be_planned() -> None:
    root = Path(__file__).parents[1] / "recipes"
    for path in sorted(root.rglob("*.yaml")):
        for small in (False, True):
            text = path.read_text(encoding="utf-8")
            if "\nsweep:" in text and (not small or "\nsmall:" in text):
                assert plan_sweep(draft_recipe(path, ["data=x"], small=small)).members


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({}, "nothing to vary"),
        ({"question": "x", "seeds": 1}, "nothing to vary"),
        ({"over": {"train.sft.epoch": [1]}}, "did you mean 'epochs'"),
        ({"over": {"train.sft.epochs": ["many"]}}, "valid number"),
        ({"over": {"train.sft.epochs": []}}, "has no value"),
        ({"over": {"evaluate.models.0.few_shot": [1]}}, "'evaluate.models': Input should be"),
        ({"variants": {"a": {}, "b": {"trian.sft.epochs": 1}}}, "did you mean 'train'"),
        ({"over": {"train.sft.data.4": ["x"]}}, "no element of a list of 1"),
        ({"over": {"name": ["a", "b"]}}, "'name' changes no stage of a run"),
        ({"over": {"report.title": ["a", "b"]}}, "'report.title' changes no stage of a run"),
        ({"over": {"sweep.seeds": [1, 2]}}, "'sweep.seeds' changes no stage of a run"),
        ({"variants": {"a": {}, "b": {"name": "b"}}}, "'name' changes no stage of a run"),
        (
            {"over": {"train.sft.epochs": [2, 1, 1.0]}},
            r"same run: .* \(train.sft.epochs: 1 and 1\.0",
        ),
        ({"variants": {"a": {}, "b": {"train.ppo.seed": None}}}, r"the same run: a_s3 and b_s3"),
        # The page alone: a section `report` that only one of them has changes no stage.
        ({"variants": {"a": {}, "b": {"report.title": "x"}}}, r"the same run: a_s3 and b_s3"),
        ({"variants": {"a": {}, "b": {"report": {}}}}, r"the same run: a_s3 and b_s3"),
        (
            {"over": {"train.sft.epochs": [1, 2], "train.sft.lora": [None, "null"]}},
            "'train.sft.lora'",
        ),
    ],
)
def test_wrong_sweeps_are_refused(sweep: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan(**sweep)


def test_a_mistake_is_told_with_the_line_that_it_stands_in(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    text = yaml.safe_dump(BASE) + (
        "sweep:\n  over:\n    train.sft.epochs:\n      - 1\n      - many\n"
        "  variants:\n    plain: {}\n    odd:\n      train.sft.epok: 3\n"
    )
    recipe.write_text(text)
    lines = text.splitlines()
    with pytest.raises(UsageError) as told:
        plan_sweep(draft_recipe(recipe))
    assert f"line {lines.index('      - many') + 1}" in str(told.value)
    assert "plain_epochs-many" in str(told.value)
    recipe.write_text(text.replace("many", "2"))
    with pytest.raises(UsageError) as told:
        plan_sweep(draft_recipe(recipe))
    assert f"line {lines.index('      train.sft.epok: 3') + 1}" in str(told.value)


def test_a_value_that_is_a_secret_is_in_no_message() -> None:
    with pytest.raises(UsageError) as told:
        plan(over={"teacher.base_url": ["http://me:opensesame@localhost/v1"]})
    assert "A member of the sweep has a mistake" in str(told.value)
    assert "opensesame" not in str(told.value)


# --- the command line ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("1,2,3", [1, 2, 3]),
        ("1e-5,2e-4", [1e-5, 2e-4]),
        ("true,null,x y", [True, None, "x y"]),
        ("[a.jsonl],[a.jsonl,b.jsonl]", [["a.jsonl"], ["a.jsonl", "b.jsonl"]]),
        ("'1'", ["1"]),
        ("", []),
        ("1e-6..1e-4:log", {"low": 1e-6, "high": 1e-4, "log": True, "whole": False}),
        ("8..64", {"low": 8, "high": 64, "log": False, "whole": True}),
        ("8..64:log", {"low": 8, "high": 64, "log": True, "whole": True}),
        ("0.5..2", {"low": 0.5, "high": 2, "log": False, "whole": False}),
        ("2.0..8:whole:log", {"low": 2, "high": 8, "log": True, "whole": True}),
        ("'1..2:foo'", ["1..2:foo"]),
    ],
)
def test_levels_of_the_command_line(text: str, levels: Any) -> None:
    found = levels_of(text, "key")
    assert found == levels
    if isinstance(levels, list):
        assert [type(one) for one in found] == [type(one) for one in levels]


def test_options_are_laid_over_the_recipe() -> None:
    given = draft(over={"train.sft.epochs": [1], "train.sft.max_length": [64]}, seeds=2)
    made = plan_sweep(laid_over(given, ["train.sft.epochs=5,6"], "7,", None))
    assert [m.settings for m in made.members] == [
        {"train.sft.epochs": 5, "train.sft.max_length": 64},
        {"train.sft.epochs": 6, "train.sft.max_length": 64},
    ]
    assert [m.seed for m in made.members] == [7, 7]


@pytest.mark.parametrize(
    ("over", "seeds", "message"),
    [
        (["train.sft.epochs"], None, "names no values"),
        (["=1,2"], None, "names no values"),
        (["a=1", "a=2"], None, "twice"),
        (["a=[1"], None, "not valid YAML"),
        ([], "many", "no number of repeats"),
        ([], "", "no number of repeats"),
        ([], "²", "no number of repeats"),
        ([], "--3", "no number of repeats"),
        ([], "1,,5", "no number of repeats"),
        ([], "9" * 5000, "no number of repeats"),
        (["k=1e-3..1e-1:foo"], None, "no flag 'foo'"),
        (["k=1..9:log:"], None, "no flag ''"),
    ],
)
def test_options_that_can_not_be_read(over: list[str], seeds: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        laid_over(draft(), over, seeds, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("abc", "'abc' is no number above 0"),
        ("0", "'0' is no number above 0"),
        ("nan", "'nan' is no number above 0"),
        ("inf", "'inf' is no number above 0"),
    ],
)
def test_hours_that_are_none(text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["sweep", "r.yaml", "--hours", text])
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("text", ["abc", "0", "-1", "1.5", ""])
def test_draws_that_are_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["sweep", "r.yaml", f"--draws={text}"])
    told = capsys.readouterr().err
    assert f"Argument --draws: '{text}' is no whole number above 0" in told


@pytest.mark.parametrize("section", ["words", [1], {"over": "words"}])
def test_options_over_a_section_that_is_none(section: Any) -> None:
    given = Draft({**BASE, "sweep": section}, None, {})
    with pytest.raises(UsageError, match="'sweep"):
        plan_sweep(laid_over(given, ["train.sft.epochs=5,6"], None, None))


# --- the documentation -----------------------------------------------------------------------


def test_the_page_on_sweeps_prints_commands_that_parse_and_names_every_key() -> None:
    root = Path(__file__).parents[1]
    page = (root / "docs/sweeps.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    plain = [block for language, block in blocks if not language]
    lines = [line for block in plain for line in block.replace("\\\n", " ").splitlines()]
    printed = [line for line in lines if line.startswith(("espalier ", "make "))]
    commands = [shlex.split(line, comments=True) for line in printed]
    assert len(commands) >= 5
    for words in commands:
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (root / "Makefile").read_text(), re.MULTILINE)
            continue
        args = build_parser().parse_args(words[1:])
        if args.verb == "sweep":
            assert (root / args.recipe).is_file()
            plan_sweep(
                laid_over(draft_recipe(root / args.recipe), args.over, args.seeds, args.draws)
            )
    for key in [*SweepConfig.model_fields, *Draw.model_fields]:
        assert re.search(rf"\b{key}\b", page), key
