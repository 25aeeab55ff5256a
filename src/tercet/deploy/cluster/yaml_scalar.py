"""Format a value as YAML on one line, so that it parses to the same value."""

from __future__ import annotations

import re
from typing import Any

import yaml


def scalar(value: Any, *, is_text: bool = True) -> str:
    """is_text: quote text that YAML would parse as another type, such as "0" or "on"."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {scalar(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(scalar(part) for part in value) + "]"
    text = str(value)
    if isinstance(value, int | float) or not is_text:
        return text
    if re.fullmatch(r"[A-Za-z0-9/~][A-Za-z0-9._/@+~:-]*", text) and not text.endswith(":") and _is_text(text):
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"


def _is_text(text: str) -> bool:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str" and node.value == text
