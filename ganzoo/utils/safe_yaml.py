"""YAML from strangers: plain values, and never more of them than the text has room for."""

from __future__ import annotations

from typing import Any

import yaml

MAX_YAML_CHARACTERS = 1 << 16


class _Loader(yaml.SafeLoader):
    """No tags that build objects, and no aliases: nine lines of those stand for a billion values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not allowed; write the value out", mark)
        return super().compose_node(parent, index)


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
