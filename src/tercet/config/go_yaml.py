"""YAML as etcd's parser reads it: the first document of a file, with Go's rules for plain scalars.

    8e9, 1e3, 0128     numbers (PyYAML: text)
    1:30, 2001-01-01   text (PyYAML: a sexagesimal number, a date)
    y, n               booleans (PyYAML: text)

Source: sigs.k8s.io/yaml/goyaml.v2 (resolve.go).
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from tercet.errors import ConfigError
from tercet.gotext.strconv import GoSyntaxError, parse_int

_BOOLS = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_NOT_FINITE = {
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), "+Inf"),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), "-Inf"),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), "NaN"),
}
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0]:
            return _TAG + _type_of(value)
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]


def _type_of(text: str) -> str:
    if text in _BOOLS:
        return "bool"
    if text in _NULLS:
        return "null"
    if text == "<<":
        return "merge"
    if text in _NOT_FINITE or isinstance(go_number(text), float):
        return "float"
    return "str" if go_number(text) is None else "int"


def go_number(text: str) -> int | float | None:
    """The number that a plain scalar stands for; None if it is text."""
    if not text or text[0] not in "0123456789+-.":
        return None
    plain = text if text[0] == "." else text.replace("_", "")
    for signed in (True, False):
        try:
            return parse_int(plain, 0, signed=signed)
        except GoSyntaxError:
            continue
    if _FLOAT.fullmatch(plain):
        number = float(plain)
        return number if math.isfinite(number) else None
    return None


def _construct_number(loader: _Loader, node: yaml.ScalarNode) -> int | float:
    text = loader.construct_scalar(node)
    if text in _NOT_FINITE:
        raise ConfigError(f"error converting YAML to JSON: json: unsupported value: {_NOT_FINITE[text]}")
    number = go_number(text)
    if number is None:
        raise ConfigError(f"error converting YAML to JSON: yaml: cannot decode !!str `{text}` as a {node.tag}")
    return number


def _construct_bool(loader: _Loader, node: yaml.ScalarNode) -> bool:
    return _BOOLS.get(_construct_text(loader, node), False)


def _construct_text(loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


_Loader.add_constructor(_TAG + "int", _construct_number)
_Loader.add_constructor(_TAG + "float", _construct_number)
_Loader.add_constructor(_TAG + "bool", _construct_bool)
_Loader.add_constructor(_TAG + "merge", _construct_text)  # << as a value


def load(content: bytes) -> Any:
    """The first document, None for an empty one; later ones are not read. Raises ConfigError with etcd's text."""
    try:
        loader = _Loader(content)
        return loader.get_data() if loader.check_data() else None  # type: ignore[no-untyped-call]
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(f"error converting YAML to JSON: yaml: {line}{error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split()) or "nested too deeply"
        raise ConfigError(f"error converting YAML to JSON: yaml: {reason}") from error
