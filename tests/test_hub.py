"""A model's name that is no folder: asked of the hub once, and before anything else is done."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny

from espalier import hub
from espalier.cli import main
from espalier.errors import InputError
from espalier.models import save_model
from espalier.recipe import load_recipe
from espalier.running import check_models

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
VARIABLES = (
    "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT", "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME",
)  # fmt: skip
RECIPE = """
name: mine
curate:
  sources: [{kind: procedural, name: tasks, count: 40, use: sft}]
train:
  sft: {model: some-owner/some-model, epochs: 1}
"""


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in (*PROXIES, *map(str.upper, PROXIES), *VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    hub.reachable.cache_clear()
    yield
    hub.reachable.cache_clear()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, False),  # the tests have no network
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, True),
        ({"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}, False),
        ({"HTTPS_PROXY": "http://proxy.invalid:3128"}, True),  # which knows more names
        ({"HTTP_PROXY": "http://proxy.invalid:3128"}, False),  # is not asked for https
        ({"HTTP_PROXY": "http://proxy.invalid:3128", "HF_ENDPOINT": "http://mirror.invalid"}, True),
        ({"HF_ENDPOINT": "http://127.0.0.1:9", "TRANSFORMERS_OFFLINE": "1"}, False),
        ({"HF_ENDPOINT": "https://.x"}, False),
    ],
)
def test_who_answers(
    settings: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert hub.reachable() is expected


def test_folders_and_earlier_downloads_are_at_hand(tmp_path: Path) -> None:
    hub.check_at_hand(str(tmp_path))
    with pytest.raises(InputError, match="no folder 'owner/name' here, and no network"):
        hub.check_at_hand("owner/name")
    folder = tmp_path / "cache" / "hub" / "models--owner--name" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    hub.check_at_hand("owner/name")


def download(cache: Path, revision: str, file: str = "config.json") -> Path:
    folder = cache / "models--owner--name" / "snapshots" / revision
    folder.mkdir(parents=True)
    (folder / file).write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("variable", "below"),
    [
        ("HF_HUB_CACHE", "."),
        ("HUGGINGFACE_HUB_CACHE", "."),
        ("HF_HOME", "hub"),
        ("XDG_CACHE_HOME", "huggingface/hub"),
    ],
)
def test_downloads_are_where_the_client_keeps_them(
    variable: str, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    monkeypatch.setenv(variable, "$SCRATCH/mine")
    found = download(tmp_path / "mine" / below, "abc")
    assert hub.snapshot("owner/name") == found
    assert hub.place_of("owner/name") == str(found)


def test_of_several_downloads_the_main_one_is_taken(tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "hub"
    main, later = download(cache, "abc"), download(cache, "def", "adapter_config.json")
    assert hub.snapshot("owner/name") in (main, later)
    (cache / "models--owner--name" / "refs").mkdir()
    (cache / "models--owner--name" / "refs" / "main").write_text("abc")
    assert hub.snapshot("owner/name") == main
    (cache / "models--owner--name" / "refs" / "main").write_text("gone")
    assert hub.snapshot("owner/name") in (main, later)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("some-owner/some-model", ["no folder 'some-owner/some-model'", "where: train.sft.model"]),
        ("./modell", ["no such model folder", "did you mean model?"]),
        ("./model", ["This folder is not a model"]),
    ],
)
def test_a_model_that_can_not_be_had_ends_a_run_before_its_first_stage(
    model: str,
    said: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(RECIPE)
    Path("model").mkdir()
    assert main(["run", "mine.yaml", "--set", f"train.sft.model={model}"]) == 2
    told = capsys.readouterr().err
    assert all(part in told for part in said), told
    assert not Path("runs").exists()


def test_what_was_trained_needs_its_model_no_more(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    recipe = load_recipe(path)
    with pytest.raises(InputError, match="no network"):
        check_models(recipe, tmp_path / "run", ["curate", "sft"])
    manifest = tmp_path / "run" / "sft" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    check_models(recipe, tmp_path / "run", ["curate", "sft"])


def test_a_plan_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(RECIPE)
    assert main(["run", "mine.yaml", "--dry-run"]) == 0
    assert "sft" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.ci_slice
def test_what_was_loaded_once_is_found_without_a_network(tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "hub" / "models--owner--small"
    save_model(tiny.model(), tiny.tokenizer(), "espalier", cache / "snapshots" / "abc")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    code = (
        # Nobody knows the name of the hub, whatever network the tests run in.
        "import socket\n"
        "def unknown(*_, **__): raise socket.gaierror(-2, 'Name or service not known')\n"
        "socket.getaddrinfo = unknown\n"
        "from espalier.models import load_model, load_tokenizer\n"
        "model = load_model('owner/small', device='cpu')\n"
        "print(type(model).__name__, model.config.name_or_path)\n"
        "print(len(load_tokenizer('owner/small')))\n"
        "load_model('owner/other')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [
        type(tiny.model()).__name__, "owner/small", str(len(tiny.tokenizer()))
    ]  # fmt: skip
    assert "no folder 'owner/other' here" in done.stderr and "Retrying" not in done.stderr
