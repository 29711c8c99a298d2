"""YAML from strangers: plain values, and never more of them than the text has room for.

What a bare word stands for is what it looks like, by the rules of YAML 1.2 and not of 1.1, in which 010 is 8, 1:30 is 90,
`on` is true, 2024-01-01 a date and 1e-4 a text: `true` and `false`, `null` (or nothing), and decimal numbers, with or without
an exponent. All the rest is text.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

MAX_YAML_CHARACTERS = 1 << 16

# Tag -> what it looks like, and the characters that it may begin with.
_PLAIN = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}


class _Loader(yaml.SafeLoader):
    """No tags that build objects, and no aliases: nine lines of those stand for a billion values."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not allowed; write the value out", mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Quotes text that this file's rules or those of YAML 1.1 would read as something else."""


for _tag, (_pattern, _first) in _PLAIN.items():
    for _kind in (_Loader, _Dumper):
        _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first)


def load_yaml(text: str) -> Any:
    """Reads one YAML document.

    Raises:
        ValueError: It is not valid YAML, has aliases or tags, or is longer than 65,536 characters; says where.
    """
    if len(text) > MAX_YAML_CHARACTERS:
        raise ValueError(f"it is longer than {MAX_YAML_CHARACTERS:,} characters")
    try:
        return _Loader(text).get_single_data()
    except Exception as error:
        # Not YAMLError alone: PyYAML lets errors of its constructors through (`!!bool x` is a KeyError, a date with a
        # thirteenth month a ValueError, deep nesting a RecursionError).
        raise ValueError(" ".join(str(error).split())) from None


def dump_yaml(value: Any) -> str:
    """Writes plain values so that `load_yaml`, and readers of YAML 1.1, read them back as they are."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
