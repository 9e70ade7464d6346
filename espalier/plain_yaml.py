"""YAML in which only `true` and `false` are truth values, as YAML 1.2 has it.

With the rules of YAML 1.1 a key `on` would be the value true, and the language code `no` false.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_BOOL = "tag:yaml.org,2002:bool"


class Loader(yaml.SafeLoader):
    """A safe loader without `yes`, `no`, `on`, `off`."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    _BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def load(text: str) -> Any:
    """The value of one YAML document; raises yaml.YAMLError."""
    return yaml.load(text, Loader=Loader)
