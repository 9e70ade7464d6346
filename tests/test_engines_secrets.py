"""No secret of an engine's description gets into a file or a message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from espalier.engines.base import EngineSpec
from espalier.errors import UsageError
from espalier.recipe import load_recipe

SECRET = "hunter2hunter2hunter2"


def refused(tmp_path: Path, text: str, *overrides: str) -> str:
    path = tmp_path / "r.yaml"
    path.write_text(f"teacher:\n  engine: openai\n  model: m\n{text}", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_recipe(path, overrides)
    said = caught.value.render()
    assert SECRET not in said
    return said


@pytest.mark.parametrize(
    "url",
    [
        f"https://me:{SECRET}@host/v1",
        f"https://{SECRET}@host/v1",
        f"https://host/v1?key={SECRET}",
        f"https://host/v1#{SECRET}",
        f"me:{SECRET}@host/v1",
        f"http://me:{SECRET}@[::1/v1",
    ],
)
def test_addresses_with_more_than_host_and_path(tmp_path: Path, url: str) -> None:
    said = refused(tmp_path, f'  base_url: "{url}"\n')
    assert "teacher.base_url" in said
    assert "api_key_env" in said
    with pytest.raises(ValidationError) as caught:
        EngineSpec(engine="openai", base_url=url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://localhost:8000/v1", "https://host/v1/@org/model", "http://[::1]:8000/v1"]
)
def test_plain_addresses_stay(url: str) -> None:
    assert EngineSpec(base_url=url).base_url == url


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"extra_body": {"api_key": SECRET}}, "options.extra_body.api_key"),
        ({"extra_body": {"a": [{"clientSecret": SECRET}]}}, "options.extra_body.a.0.clientSecret"),
        ({"headers": {"Authorization": SECRET}}, "options.headers.Authorization"),
        ({"headers": {"X-API-Key": SECRET}}, "options.headers.X-API-Key"),
        ({"vllm": {"hf_token": SECRET}}, "options.vllm.hf_token"),
        ({"password": SECRET}, "options.password"),
        ({"token": SECRET}, "options.token"),
        ({"key": SECRET}, "options.key"),
        ({"extra_body": {"say": f"Bearer {SECRET}"}}, "options.extra_body.say"),
        ({"extra_body": {"say": f"sk-{SECRET}"}}, "options.extra_body.say"),
        ({"hook": f"https://me:{SECRET}@host"}, "options.hook"),
    ],
)
def test_secrets_in_options(options: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        EngineSpec(engine="openai", options=options)
    said = str(caught.value)
    assert f"'{place}'" in said
    assert "environment variable" in said
    assert SECRET not in said


def test_a_recipe_says_so_without_the_value(tmp_path: Path) -> None:
    said = refused(tmp_path, f"  options: {{extra_body: {{api_key: {SECRET}}}}}\n")
    assert "options.extra_body.api_key" in said
    said = refused(tmp_path, "", f"teacher.options.extra_body.api_key={SECRET}")
    assert "options.extra_body.api_key" in said
    said = refused(tmp_path, f"  api_key_env: sk-{SECRET}\n")
    assert "teacher.api_key_env" in said


def test_what_only_sounds_like_a_secret() -> None:
    options = {
        "max_tokens_field": "max_tokens",
        "extra_body": {
            "stop_token_ids": [1],
            "eos_token": "</s>",
            "prompt_cache_key": "run-1",
            "skip_special_tokens": True,
            "max_token": 5,
            "keywords": ["key", "password"],
            "api_key_env": "MY_KEY",
            "tokenizer": "x",
            "authors": "a",
            "monkey": "b",
            "use_auth_token": True,
        },
    }
    assert EngineSpec(options=options).options == options
